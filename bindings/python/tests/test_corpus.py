"""966 calls of 316 functions people were asked to write: right value and type, executed and from memory.

The corpus (sanitized MBPP) does not belong to this repository: it is looked for in the folder SKILLCACHE_CORPORA names,
else in ``shared/corpora`` beside the checkout.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_values import same

import skillcache


def cases() -> list[dict[str, Any]]:
    given = os.environ.get("SKILLCACHE_CORPORA")
    folder = Path(given) if given else Path(__file__).resolve().parents[4] / "shared" / "corpora"
    file = folder / "mbpp-cases.jsonl"
    if not file.exists():
        pytest.skip(f"there is no {file}; SKILLCACHE_CORPORA names the folder of the corpora")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_case_is_right_the_first_and_the_second_time() -> None:
    wrong: list[str] = []
    skills: dict[str, list[dict[str, Any]]] = {}
    for case in cases():
        skills.setdefault(case["code"], []).append(case)
    count = deterministic = 0
    with skillcache.open(":memory:", {"cache.execution.max_entries": 2000}) as lib:
        for code, calls in skills.items():
            id = calls[0]["id"].rsplit("-", 1)[0]
            lib.put(id, code, description=calls[0]["description"])
            is_deterministic = lib.validate(code).deterministic
            inputs = [call["inputs"] for call in calls]
            for turn in ("first", "second"):
                for call, result in zip(calls, lib.run_many(id, inputs)):
                    count += 1
                    deterministic += turn == "second" and is_deterministic
                    is_right = result.outcome == "success" and same(result.value, call["expected"], ordered=False)
                    # A case may come twice in the corpus, so the first time may be a hit as well.
                    if not is_right or (turn == "second" and result.cached != is_deterministic):
                        wrong.append(f"{call['id']}, {turn} time: {result!r}, expected {call['expected']!r}")
        stats = lib.stats()
    assert wrong == []
    assert count == 2 * 966
    assert deterministic > 800, "most of these functions are deterministic, and the analysis sees it"
    assert stats["runs"]["total"] == count
    assert stats["runs"]["by_outcome"]["success"] == count
