"""What the policy refuses, what it only says, and what a host changes about it."""

from __future__ import annotations

from pathlib import Path

import pytest

import skillcache
from skillcache import Library


def test_a_refused_skill_says_where_why_and_what_instead(lib: Library) -> None:
    with pytest.raises(skillcache.SecurityValidationError) as refused:
        lib.put("s", "import time\nimport os\nresult = os.sep")
    error = refused.value
    assert (error.line, error.column, error.details["rule"]) == (2, 8, "import-forbidden")
    assert "`import os`" in str(error)
    assert "policy.allow_imports" in str(error)
    findings = error.details["findings"]
    assert [(finding["severity"], finding["line"], finding["text"]) for finding in findings] == [
        ("warning", 1, "import time"),
        ("error", 2, "import os"),
    ]
    with pytest.raises(skillcache.SkillNotFoundError):
        lib.get("s")


def test_a_stored_skill_that_the_rules_refuse_is_rejected(tmp_path: Path) -> None:
    with skillcache.open(tmp_path / "skills.db", {"policy.mode": "warn"}) as lib:
        lib.put("s", "import os\nresult = os.sep")
        assert lib.run("s").value == "/"
        kinds = [event["kind"] for event in lib.events()]
        assert "policy_findings" in kinds
    with skillcache.open(tmp_path / "skills.db") as lib:
        result = lib.run("s")
        assert result.outcome == "rejected"
        assert result.error is not None
        assert (result.error.type, result.error.line) == ("SecurityValidationError", 1)
    with skillcache.open(tmp_path / "skills.db", {"policy.allow_imports": ["os", "json"]}) as lib:
        assert lib.run("s").value == "/"


def test_a_host_denies_modules() -> None:
    with skillcache.open(":memory:", {"policy.deny_imports": "*", "policy.allow_imports": "math"}) as lib:
        lib.put("fine", "import math\nresult = math.sqrt(4)")
        with pytest.raises(skillcache.SecurityValidationError, match="the host denies it"):
            lib.put("s", "import json\nresult = 1")
    with pytest.raises(skillcache.InvalidArgumentError, match="names of modules"):
        skillcache.open(":memory:", {"policy.deny_imports": "os; sys"})
    with pytest.raises(skillcache.InvalidArgumentError, match="enforce, warn, off"):
        skillcache.open(":memory:", {"policy.mode": "lax"})


def test_validate_lists_findings_symbols_and_reads(lib: Library) -> None:
    code = '"""Mean."""\nimport os\ndef mean(xs: list) -> float:\n    return sum(xs)\nresult = mean(inputs["xs"])'
    report = lib.validate(code)
    assert (report.valid, report.policy, report.rules_version) == (False, "enforce", 1)
    assert [(finding.rule, finding.line, finding.text) for finding in report.findings] == [
        ("import-forbidden", 2, "import os")
    ]
    assert report.findings[0].advice.startswith("Pass what it needs as inputs")
    assert report.symbols["functions"][0]["signature"] == "mean(xs: list) -> float"
    assert report.symbols["reads"]["inputs"] == [{"name": "xs", "required": True}]
    broken = lib.validate("x = 1\n  y = (")
    assert (broken.findings[0].rule, broken.findings[0].text) == ("syntax", "y = (")


def test_a_skill_is_found_and_described_by_its_code(lib: Library) -> None:
    lib.put("s", "def crossover(fast, slow):\n    '''Where they cross.'''\nresult = 1")
    lib.put("other", "result = 2")
    assert [hit.id for hit in lib.search("crossover")] == ["s"]
    assert lib.get("s").symbols["functions"][0]["summary"] == "Where they cross."


def test_a_source_that_does_not_parse_is_filled_only_on_request(lib: Library) -> None:
    code = "inputs = {}\nprint inputs\n"
    with pytest.raises(skillcache.SkillSyntaxError, match="in `print inputs`"):
        lib.inject(code, {"a": 1})
    assert lib.inject("result = inputs", {"a": 1}).method == "ast"
    with skillcache.open(":memory:", {"inject.fallback": "lexical"}) as lax:
        script = lax.inject(code, {"a": 1})
        assert (script, script.method) == ('inputs = {"a": 1}\nprint inputs\n', "lexical")
        with pytest.raises(skillcache.SkillSyntaxError, match="no complete top-level statement"):
            lax.inject("print inputs\n", {"a": 1})
