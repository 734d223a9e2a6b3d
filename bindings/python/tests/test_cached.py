"""Never the same thing twice: which runs are the same, what is kept and for how long, and who waits for whom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Union

import pytest
from conftest import Gate

import skillcache
from skillcache import Library, Result


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def results(lib: Library) -> dict[str, Any]:
    cache: dict[str, Any] = lib.stats()["caches"]["execution"]
    return cache


def until_misses(lib: Library, count: int) -> None:
    """Returns when so many calls have looked for a result in vain, and had time to find each other."""
    give_up = time.monotonic() + 60
    while results(lib)["misses"] < count:
        assert time.monotonic() < give_up, f"{count} misses did not come"
        time.sleep(0.002)
    time.sleep(0.2)


def test_equal_data_are_one_run_and_different_data_are_not(lib: Library) -> None:
    lib.put("s", "result = [inputs, context]")
    different: list[dict[str, Any]] = [
        {"a": 1.5, "b": [1, "x"]},
        {"a": 1},
        {"a": 1.0},
        {"a": True},
        {"a": "1"},
        {"a": None},
        {"a": 0.0},
        {"a": -0.0},
        {"a": 2**64},
        {"a": float(2**64)},
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
        {"a": "e\N{COMBINING ACUTE ACCENT}"},
        {"a": "\N{LATIN SMALL LETTER E WITH ACUTE}"},
    ]
    for inputs in different:
        assert [lib.run("s", inputs).cached for _ in range(2)] == [False, True], inputs
        assert not lib.run("s", inputs, context={"c": 1}).cached
        assert lib.run("s", dict(inputs), context={"c": 1}).cached
        assert lib.submit("s", inputs, context={"c": 1}).wait().cached, "a task has the same keys"
    assert all(result.cached for result in lib.run_many("s", different))
    assert [lib.run("s").cached, lib.run("s", {}, context={}).cached] == [False, True], "nothing is an empty dict"


def test_the_order_of_members_may_be_nothing(lib: Library) -> None:
    lib.put("s", "result = list(inputs)", key_order="ignore")
    assert lib.run("s", {"b": 1, "a": 2}).value == ["a", "b"]
    assert lib.run("s", {"a": 2, "b": 1}).cached


@pytest.mark.parametrize(
    ("steps", "answers"),
    [
        ([None, "auto", False, "no"], [False] * 4),
        ([True, "yes", "required", "auto", False], [False, True, True, False, False]),
        (["yes", "refresh", "yes", "required"], [False, False, True, True]),
        (["refresh", "required"], [False, True]),
    ],
)
def test_each_mode_reads_and_keeps_what_it_says(
    lib: Library, steps: list[Union[bool, str, None]], answers: list[bool]
) -> None:
    lib.put("s", "import time\nresult = time.time_ns()")
    assert [lib.run("s", cache=mode).cached for mode in steps] == answers


def test_required_says_why_a_result_cannot_be_kept() -> None:
    with skillcache.open(":memory:", {"cache.execution.max_mb": 1}) as lib:
        lib.put("s", "result = 'x' * 300_000")
        with pytest.raises(skillcache.CacheOverflowError, match="time to live"):
            lib.run("s", cache="required", ttl_s=0)
        assert lib.stats()["runs"]["total"] == 0, "what cannot be kept is not begun"
        with pytest.raises(skillcache.CacheOverflowError, match=r"cache\.execution\.max_mb"):
            lib.run("s", cache="required")
        assert [lib.run("s", cache="yes").cached for _ in range(2)] == [False, False]
        assert (results(lib)["refusals"], results(lib)["size"], results(lib)["max_bytes"]) == (3, 0, 1 << 20)


def test_a_result_expires(lib: Library) -> None:
    lib.put("s", "result = 1")
    assert not lib.run("s", ttl_s=0.05).cached
    time.sleep(1)  # The kernel turns its coarse clock at ticks, which a virtual machine may have to wait for.
    assert [lib.run("s").cached for _ in range(2)] == [False, True]
    assert results(lib)["expirations"] == 1


def test_what_a_hit_gave_is_the_callers(lib: Library) -> None:
    lib.put("s", "result = {'list': [1, 2]}")
    lib.run("s")
    for _ in range(3):
        hit = lib.run("s")
        assert hit.cached
        assert hit.value == {"list": [1, 2]}
        hit.value["list"].append(3)
        hit.value["more"] = 4


@pytest.mark.parametrize("policy", ["lru", "2q"])
def test_the_policy_and_the_shards_can_be_chosen(policy: str) -> None:
    options: dict[str, Union[str, int]] = {
        "cache.execution.policy": policy,
        "cache.execution.shards": 2,
        "cache.execution.max_entries": 4,
    }
    with skillcache.open(":memory:", options) as lib:
        lib.put("s", "result = inputs['x']")
        for x in range(12):
            assert [lib.run("s", {"x": x}).cached for _ in range(2)] == [False, True]
        assert (results(lib)["policy"], results(lib)["size"], results(lib)["evictions"]) == (policy, 4, 8)


def test_of_many_who_ask_at_once_one_runs(held: Library, gate: Gate, pool: ThreadPoolExecutor) -> None:
    asked = [pool.submit(held.run, "s", {"v": [1.5]}) for _ in range(16)]
    until_misses(held, 16)
    gate.open()
    answers = [call.result() for call in asked]
    assert [answer.value for answer in answers] == [[1.5]] * 16
    assert [answer.cached for answer in answers].count(False) == 1
    answers[0].value.append(2)
    assert answers[1].value == [1.5], "each has a value of its own"
    runs = held.stats()["runs"]
    assert (runs["executed"], runs["cached"], results(held)["coalesced"]) == (1, 15, 15)


def test_a_new_version_is_what_those_who_wait_get(held: Library, gate: Gate, pool: ThreadPoolExecutor) -> None:
    leader = pool.submit(held.run, "s")
    until_misses(held, 1)
    waiters = [pool.submit(held.run, "s") for _ in range(3)]
    until_misses(held, 4)
    assert held.put("s", "import time\ntime.sleep(0.2)\nresult = 'new'", cache="yes") == 2
    answers = [waiter.result() for waiter in waiters]
    assert [(answer.value, answer.version) for answer in answers] == [("new", 2)] * 3
    assert [answer.cached for answer in answers].count(False) == 1
    gate.open()
    assert (leader.result().value, leader.result().version) == ("awake", 1)
    assert not held.run("s", version=1).cached, "what was made of the old version is not kept"


def test_what_was_begun_before_the_cache_was_emptied_is_not_kept(
    held: Library, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    leader = pool.submit(held.run, "s")
    until_misses(held, 1)
    held.clear("execution")
    gate.open()
    assert leader.result().value == "awake"
    assert results(held)["size"] == 0


def test_who_waits_for_a_run_that_fails_runs(held: Library, gate: Gate, pool: ThreadPoolExecutor) -> None:
    leader = pool.submit(held.run, "s", timeout_ms=700)
    until_misses(held, 1)
    waiter = pool.submit(held.run, "s")
    until_misses(held, 2)
    assert leader.result().outcome == "timeout"
    gate.open()
    assert (waiter.result().value, waiter.result().cached) == ("awake", False)


def test_who_waits_can_be_cancelled_and_has_a_time_of_its_own(
    held: Library, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    leader: Future[Result] = pool.submit(held.run, "s")
    until_misses(held, 1)
    with held.submit("s") as task:
        until_misses(held, 2)
        task.cancel()
        assert task.wait(60_000).outcome == "cancelled"
    late = held.run("s", timeout_ms=100)
    assert late.outcome == "timeout"
    assert late.error is not None
    assert "waited" in (late.error.message or "")
    assert not leader.done()
    gate.open()
    assert (leader.result().value, leader.result().cached) == ("awake", False)
    assert held.run("s").cached


def test_close_ends_who_runs_and_who_waits(held: Library, pool: ThreadPoolExecutor) -> None:
    begin = time.monotonic()
    runs = [pool.submit(held.run, "s") for _ in range(3)]
    until_misses(held, 3)
    held.close()
    assert [run.result().outcome for run in runs] == ["cancelled"] * 3
    assert time.monotonic() < begin + 200, "nobody waited for the gate to be opened"
