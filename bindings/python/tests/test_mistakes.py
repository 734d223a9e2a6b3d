"""Wrong ways to use it: each is refused by name, says what would be right, and leaves the library working."""

from __future__ import annotations

import contextlib
import ctypes
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skillcache
from skillcache import Library
from skillcache._bindings import C


@contextlib.contextmanager
def refused(
    lib: Library, kind: type[skillcache.Error], *words: str
) -> Iterator[pytest.ExceptionInfo[skillcache.Error]]:
    """Expects an error whose message has all the words, and a library that works afterwards."""
    with pytest.raises(kind) as caught:
        yield caught
    for word in words:
        assert word in str(caught.value)
    assert caught.value.code == kind.code
    assert caught.value.details["message"] == str(caught.value)
    lib.put("fine", "result = 'fine'")
    assert lib.run("fine").value == "fine"


def test_no_such_skill(lib: Library) -> None:
    with refused(lib, skillcache.SkillNotFoundError, "nope"):
        lib.run("nope")
    with refused(lib, skillcache.SkillNotFoundError, "nope"):
        lib.get("nope")
    with refused(lib, skillcache.SkillNotFoundError, "nope"):
        lib.remove("nope")
    with refused(lib, skillcache.SkillNotFoundError, "7"):
        lib.get("fine", 7)


@pytest.mark.parametrize("id", ["", "a b", "a/b", "../x", "x" * 129, "\N{GREEK SMALL LETTER ALPHA}", "a\n"])
def test_an_id_that_is_none(lib: Library, id: str) -> None:
    with refused(lib, skillcache.InvalidArgumentError, "letters"):
        lib.put(id, "result = 1")
    with refused(lib, skillcache.InvalidArgumentError, "letters"):
        lib.run(id)


def test_code_that_does_not_parse(lib: Library) -> None:
    with refused(lib, skillcache.SkillSyntaxError) as caught:
        lib.put("s", "x = 1\ny = (2 +\n")
    assert caught.value.line is not None
    assert caught.value.column is not None
    with refused(lib, skillcache.SkillSyntaxError) as caught:
        lib.put("s", "x = 1\nresult = 1 +* 2\n")
    assert (caught.value.line, caught.value.column) == (2, 13)
    with pytest.raises(skillcache.SkillNotFoundError):
        lib.get("s")


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("x = 1\nreturn x", 2),
        ("break", 1),
        ("def f(a, a): pass", 1),
        ("result = 1\nfrom __future__ import annotations", 2),
        ("def f():\n    x = 1\n    global x", 3),
        ("result = await f()", 1),
        ("def f():\n    nonlocal y", 2),
        ("None = 1", 1),
    ],
)
def test_code_that_parses_but_does_not_compile(lib: Library, code: str, line: int) -> None:
    with refused(lib, skillcache.SkillSyntaxError) as caught:
        lib.put("s", code)
    assert caught.value.line == line
    assert caught.value.column is not None


@pytest.mark.parametrize("inputs", [[1, 2], "text", 3, True])
def test_inputs_that_are_not_an_object(lib: Library, inputs: Any) -> None:
    lib.put("s", "result = inputs")
    with refused(lib, skillcache.InvalidArgumentError, "$.inputs", "object"):
        lib.run("s", inputs)
    with refused(lib, skillcache.InvalidArgumentError, "$.context", "object"):
        lib.run("s", {}, context=inputs)


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({"a": {1, 2}}, "$.inputs.a"),
        ({"a": [b"bytes"]}, "$.inputs.a[0]"),
        ({"a": {1: 2}}, "$.inputs.a"),
        ({"a": [0, float("nan")]}, "$.inputs.a[1]"),
        ({"a": float("-inf")}, "$.inputs.a"),
        ({"a": "\ud800"}, "$.inputs.a"),
        ({"a b": object()}, '$.inputs["a b"]'),
    ],
)
def test_data_that_json_cannot_say(lib: Library, inputs: Any, path: str) -> None:
    lib.put("s", "result = inputs")
    with refused(lib, skillcache.InvalidArgumentError, path) as caught:
        lib.run("s", inputs)
    assert caught.value.details["path"] == path


def test_data_that_contains_itself_or_is_too_deep(lib: Library) -> None:
    lib.put("s", "result = inputs")
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with refused(lib, skillcache.InvalidArgumentError, "contains itself"):
        lib.run("s", endless)
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with refused(lib, skillcache.InvalidArgumentError, "deep"):
        lib.run("s", {"a": deep})


def raw_run(lib: Library, data: bytes) -> skillcache.Error:
    """Through the C door, because no Python value has these faults."""
    from skillcache._errors import take

    result, error = ctypes.c_void_p(), ctypes.c_void_p()
    status = C.skc_library_run(
        lib._handle._handle, b"fine", data, len(data), None, ctypes.byref(result), ctypes.byref(error)
    )
    assert result.value is None
    assert status != 0
    return take(status, error.value)


@pytest.mark.parametrize(
    ("data", "word", "path"),
    [
        (b'{"inputs": {"a": 1, "a": 2}}', "duplicate key", "$.inputs.a"),
        (b'{"inputs": {"a": {"b": 1, "\\u0062": 2}}}', "duplicate key", "$.inputs.a.b"),
        (b"not json", "JSON", None),
        (b'{"inputs": {}', "JSON", None),
        (b'{"inputs": {"a": 01}}', "JSON", None),
        (b'{"input": {}}', "inputs", "$.input"),
        (b"[]", "array", None),
        (b'{"inputs": {"a": "\xff"}}', "UTF-8", None),
        (b'{"inputs": {"a": 1e999}}', "float", "$.inputs.a"),
        (b'{"inputs": {"a": "\\ud800"}}', "", None),
    ],
)
def test_data_that_is_not_json(lib: Library, data: bytes, word: str, path: str | None) -> None:
    lib.put("fine", "result = 'fine'")
    error = raw_run(lib, data)
    assert isinstance(error, skillcache.InvalidArgumentError)
    assert word in str(error)
    if path:
        assert error.details["path"] == path
    assert lib.run("fine").value == "fine"


def test_a_database_path_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(skillcache.DatabaseConnectionError) as caught:
        skillcache.open(tmp_path / "missing" / "skills.db")
    assert "missing" in str(caught.value)
    assert not (tmp_path / "missing").exists()


def test_a_file_that_is_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes. " * 100)
    before = path.read_bytes()
    with pytest.raises(skillcache.CorruptDatabaseError):
        skillcache.open(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmarks(url)")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(skillcache.Error):
        skillcache.open(path)
    assert path.read_bytes() == before


def test_a_database_from_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / "skills.db"
    skillcache.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 999")
        other.commit()
    with pytest.raises(skillcache.NewerDatabaseError) as caught:
        skillcache.open(path)
    assert "999" in str(caught.value)


def test_an_unknown_option(lib: Library) -> None:
    with refused(lib, skillcache.InvalidArgumentError, "sandbox.timeout_ms") as caught:
        skillcache.open(":memory:", {"sandbox.timout_ms": 5})
    assert caught.value.details["suggestion"] == "sandbox.timeout_ms"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("pool.size", 0, ("1", "1000")),
        ("pool.size", "many", ("whole number",)),
        ("cache.alert_threshold", 1.5, ("0", "1")),
        ("memory.enabled", "maybe", ("true", "false")),
        ("sandbox.mode", "lenient", ("strict", "best_effort")),
    ],
)
def test_an_option_out_of_range(lib: Library, key: str, value: Any, words: tuple[str, ...]) -> None:
    with refused(lib, skillcache.InvalidArgumentError, key, *words):
        skillcache.open(":memory:", {key: value})


def test_the_references_option_names_are_understood() -> None:
    with skillcache.open(":memory:", {"max_execution_cache_size": 7, "execution_timeout": 2}) as lib:
        assert lib.stats()["caches"]["execution"]["max_size"] == 7


def test_strict_names_what_is_missing(lib: Library) -> None:
    bare = skillcache.open(":memory:", {"sandbox.without": "namespaces, landlock, seccomp"})
    with refused(lib, skillcache.SandboxError, "strict", "best_effort") as caught, bare:
        bare.put("s", "result = 1")
    assert {"files", "network", "processes"} <= set(caught.value.details["missing"])


def test_an_interpreter_that_is_none(tmp_path: Path) -> None:
    with skillcache.open(":memory:", {"python.executable": str(tmp_path / "python9")}) as lib:
        with pytest.raises(skillcache.UnsupportedError, match="python9"):
            lib.put("s", "result = 1")
        assert lib.list() == []


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"cache": "sometimes"}, "refresh"),
        ({"timeout_ms": 0}, "timeout_ms"),
        ({"timeout_ms": -5}, "timeout_ms"),
        ({"timeout_ms": "soon"}, "timeout_ms"),
        ({"version": -1}, "version"),
        ({"version": 1 << 32}, "version"),
        ({"version": 9}, "9"),
        ({"max_memory_mb": 1}, "`max_memory_mb` cannot be 1: it takes a whole number from 32 to 1048576 (MiB)"),
        ({"max_cpu_s": 0}, "from 1 to 86400"),
        ({"max_file_mb": -1}, "max_file_mb"),
        ({"max_open_files": 15}, "from 16"),
        ({"max_threads": 0.5}, "max_threads"),
        ({"max_output_kb": "1"}, "max_output_kb"),
        ({"max_answer_kb": 0}, "max_answer_kb"),
    ],
)
def test_a_run_option_that_is_wrong(lib: Library, options: dict[str, Any], word: str) -> None:
    lib.put("s", "result = 1")
    with pytest.raises(skillcache.Error) as caught:
        lib.run("s", **options)
    assert word in str(caught.value)
    assert lib.run("s").value == 1


def test_an_unknown_run_option_and_an_unknown_field(lib: Library) -> None:
    with refused(lib, skillcache.InvalidArgumentError, "description") as caught:
        lib.put("s", "result = 1", descripton="x")
    assert caught.value.details["suggestion"] == "description"
    with pytest.raises(TypeError):
        lib.run("fine", timeout=3)  # type: ignore[call-arg]
    with refused(lib, skillcache.InvalidArgumentError, "max_cpu_s") as caught:
        lib.put("s", "result = 1", limits={"max_cpu": 3})
    assert caught.value.details["path"] == "limits.max_cpu"
    with refused(lib, skillcache.InvalidArgumentError, "`limits.max_cpu_s` cannot be 0", "from 1 to 86400"):
        lib.put("s", "result = 1", limits={"max_cpu_s": 0})
    with refused(lib, skillcache.InvalidArgumentError, "execution"):
        lib.clear("executions")


@pytest.mark.parametrize("threshold", [-0.01, 1.01, 85, float("nan"), float("inf"), 10**400, "0.85", None, True])
def test_a_threshold_that_is_none(lib: Library, threshold: Any) -> None:
    with refused(lib, skillcache.InvalidArgumentError, "threshold") as caught:
        lib.check_caches(threshold)
    assert caught.value.details["path"] == "threshold"


def test_a_skill_that_cannot_be_run_here(lib: Library) -> None:
    with refused(lib, skillcache.UnsupportedError, "javascript"):
        lib.put("s", "result = 1", language="javascript")
    with refused(lib, skillcache.SkillValidationError, "no_such_package") as caught:
        lib.put("s", "result = 1", dependencies=["json", "no_such_package"])
    assert caught.value.details["missing"] == ["no_such_package"]
    with refused(lib, skillcache.SkillValidationError, "no-such-skill") as caught:
        lib.put("s", "result = 1", required_skills=["no-such-skill"])
    assert caught.value.details["missing"] == ["no-such-skill"]
    with refused(lib, skillcache.SkillValidationError, "nothing"):
        lib.put("s", "result = 1", input_schema={"type": "nothing"})


def test_nul_and_wrong_types(lib: Library) -> None:
    with refused(lib, skillcache.InvalidArgumentError, "NUL"):
        lib.run("a\0b")
    with refused(lib, skillcache.InvalidArgumentError, "NUL"):
        skillcache.open(":memory:", {"python.executable": "a\0b"})
    with refused(lib, skillcache.InvalidArgumentError, "str"):
        lib.run(7)  # type: ignore[arg-type]
    with refused(lib, skillcache.InvalidArgumentError, "str"):
        lib.put("s", b"result = 1")  # type: ignore[arg-type]
    with refused(lib, skillcache.SkillSyntaxError):
        lib.put("s", "result = 'a\0b'")


def test_a_closed_library_says_so(lib: Library) -> None:
    lib.close()
    lib.close()
    for call in (lib.stats, lib.list, lambda: lib.run("x"), lambda: lib.put("x", "result = 1"), lib.events):
        with pytest.raises(skillcache.ClosedError):
            call()


def test_every_error_class_has_its_status() -> None:
    classes = skillcache.Error.__subclasses__()
    assert sorted(kind.code for kind in classes) == list(range(10, 29))
    assert all(getattr(skillcache, kind.__name__) is kind for kind in classes)
