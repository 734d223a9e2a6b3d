"""What the library says of itself: memory, curves, days, lines, and which run is meant."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union

import pytest

import skillcache
from skillcache import Library

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def eventually(holds: Callable[[], object]) -> None:
    given_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < given_up, "it never came"
        time.sleep(0.01)


def test_memory_is_reported_on_demand(lib: Library) -> None:
    report = lib.report_memory()
    assert report["status"] == "ok"
    assert report["rss_mb"] > 1
    assert report["limit_source"] in ("container", "host")
    assert 0 < report["percent"] < 100
    assert set(report["caches_mb"]) == {"execution", "prepared", "metadata"}
    (event,) = [event for event in lib.events() if event["kind"] == "memory_report"]
    assert event["severity"] == "info"
    assert event["fields"]["reports"] == 1
    assert lib.stats()["memory"]["reports"] == 1


def test_memory_can_be_left_alone() -> None:
    with skillcache.open(":memory:", {"memory.enabled": False}) as lib:
        assert lib.report_memory() == {"status": "off"}
        assert lib.stats()["memory"] == {"status": "off"}
        assert not list(lib.events())


def test_too_much_memory_is_said_once_and_the_caches_let_go() -> None:
    options = {"memory.alert_threshold": 0, "memory.shrink_caches": True, "memory.check_interval_ms": 60_000}
    with skillcache.open(":memory:", options) as lib:
        lib.put("echo", "result = inputs['n']")
        for n in range(4):
            lib.run("echo", {"n": n})
        lib.report_memory()
        lib.report_memory()
        told = [event for event in lib.events() if event["kind"].startswith("memory_")]
        kinds = [event["kind"] for event in told]
        assert kinds == ["memory_report", "memory_high", "memory_shrunk", "memory_report"]
        assert told[1]["message"].startswith("High memory usage detected: ")
        assert told[2]["fields"]["caches"]["execution"]["freed_entries"] == 2
        assert lib.stats()["caches"]["execution"]["size"] == 2
        assert lib.run("echo", {"n": 3}).cached
        assert not lib.run("echo", {"n": 0}).cached


def test_recommendations_have_a_rule_and_a_remedy(lib: Library) -> None:
    assert lib.recommendations() == []
    lib.put("bad", "result = 1 / 0")
    lib.set_state("bad", "quarantined")
    (found,) = lib.recommendations()
    assert (found["rule"], found["severity"], found["sample"]) == ("quarantine", "warning", 1)
    assert found["remedy"]
    assert found["evidence"] == {"quarantined": 1, "skills": 1}


def test_curves_are_kept() -> None:
    with skillcache.open(":memory:", {"monitor.history_interval_s": 1}) as lib:
        lib.put("one", "result = 1")
        lib.run("one")
        eventually(lambda: [s for s in lib.history()["samples"] if s["runs"] == 1])
        assert lib.history()["interval_s"] == 1
    with skillcache.open(":memory:", {"monitor.history_interval_s": 0}) as lib:
        assert lib.history() == {"interval_s": 0, "samples": []}


def test_outcomes_by_day_outlive_the_library(tmp_path: Path) -> None:
    with skillcache.open(tmp_path / "skills.db") as lib:
        lib.put("one", "result = 1")
        lib.put("bad", "result = 1 / 0")
        for _ in range(3):
            lib.run("one")
        lib.run("bad")
    with skillcache.open(tmp_path / "skills.db") as lib:
        rows = [(row["skill"], row["version"], row["outcome"], row["count"]) for row in lib.outcomes()]
        # Unless midnight went by.
        assert {row[:3] for row in rows} == {("one", 1, "success"), ("bad", 1, "error")}
        assert sum(row[3] for row in rows) == 4
        assert {row["skill"] for row in lib.outcomes("bad")} == {"bad"}
        with pytest.raises(skillcache.SkillNotFoundError, match="no skill `nobody`"):
            lib.outcomes("nobody")
        with pytest.raises(skillcache.InvalidArgumentError, match="must be a str"):
            lib.outcomes(7)  # type: ignore[arg-type]
        with pytest.raises(skillcache.InvalidArgumentError):
            lib.outcomes("a\0b")


def test_lines_come_to_a_callback_as_far_as_asked(capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[dict[str, Any]] = []
    with skillcache.open(":memory:", {"monitor.log_level": "trace"}, on_log=lines.append) as lib:
        lib.put("one", "result = 1")
        lib.put("bad", "raise ValueError('the password=hunter2 is wrong')")
        lib.run("one", trace=TRACEPARENT)
        hit = lib.run("one")
        lib.run("bad")
        # Events still go to whoever polls.
        told = list(lib.events())
        assert "run_failed" in [event["kind"] for event in told]
        assert "hunter2" not in str(told)
    assert [line["level"] for line in lines if line["message"] == "the library is closed"] == ["info"]
    by_trace = {line["fields"]["trace_id"]: line for line in lines if "trace_id" in line["fields"]}
    assert by_trace[TRACE]["level"] == "debug"
    assert by_trace[hit.trace_id]["level"] == "trace"
    assert by_trace[hit.trace_id]["fields"]["cached"] is True
    assert "hunter2" not in str(lines)
    assert "password=[masked]" in str(lines)
    assert capfd.readouterr() == ("", "")
    with skillcache.open(":memory:", {"monitor.log_level": "off"}, on_log=lines.append) as lib:
        before = len(lines)
        lib.put("one", "result = 1")
    assert len(lines) == before


def test_a_slow_callback_holds_up_nobody() -> None:
    held = threading.Event()

    def on_log(line: dict[str, Any]) -> None:
        held.wait(60)

    with skillcache.open(":memory:", {"monitor.event_capacity": 4}, on_log=on_log) as lib:
        lib.put("one", "result = 1")
        for n in range(20):
            lib.put(f"skill{n}", "result = 1")
        assert lib.run("one").outcome == "success"
        logs = lib.stats()["logs"]
        assert logs["dropped"] >= 10
        assert logs["waiting"] == 4
        held.set()


def test_a_run_belongs_to_the_callers_trace_or_to_its_own(lib: Library) -> None:
    lib.put("bad", "result = 1 / 0")
    assert lib.run("bad", trace=TRACEPARENT).trace_id == TRACE
    own = [lib.run("bad", trace=trace).trace_id for trace in (None, "order-17")]
    assert len({TRACE, *own}) == 3
    assert all(len(trace) == 32 and int(trace, 16) for trace in own)
    (failed,) = [event for event in lib.events() if event["kind"] == "run_failed"]
    assert (failed["fields"]["trace"], failed["fields"]["trace_id"]) == (TRACEPARENT, TRACE)


def test_what_fails_over_and_over_is_told_once(lib: Library) -> None:
    lib.put("bad", "result = 1 / 0")
    for _ in range(5):
        lib.run("bad")
    assert [event["kind"] for event in lib.events()].count("run_failed") == 1
    assert lib.stats()["runs"]["by_outcome"]["error"] == 5


def test_wrong_options_say_what_is_right() -> None:
    wrong: list[tuple[str, Union[str, int], str]] = [
        ("monitor.log_level", "loud", "off, error, warn, info, debug, trace"),
        ("memory.alert_threshold", 80, "from 0 to 1"),
        ("memory.check_interval_ms", 0, "from 10 to"),
    ]
    for option, value, words in wrong:
        with pytest.raises(skillcache.InvalidArgumentError, match=words):
            skillcache.open(":memory:", {option: value})
    for wrong_listener in (5, 0, ""):
        with pytest.raises(skillcache.InvalidArgumentError, match="on_log must be callable"):
            skillcache.open(":memory:", on_log=wrong_listener)  # type: ignore[arg-type]
    with pytest.raises(skillcache.InvalidArgumentError, match=r"memory\.report_interval_s"):
        skillcache.open(":memory:", {"memory.report_interval": 1})


HOLDER = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


def test_counts_that_are_lost_at_closing_are_said(tmp_path: Path) -> None:
    path, events = tmp_path / "skills.db", list[dict[str, Any]]()
    with skillcache.open(path, {"pool.timeout_ms": 3000}, on_event=events.append) as lib:
        lib.put("one", "result = 1")
        lib.run("one")
        eventually(lambda: lib.stats()["store"]["usage_unwritten"] == 0)
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout
        holder.stdout.readline()
        for _ in range(5):
            lib.run("one")
        lib.close()
        holder.communicate()
    lost = [event["fields"]["calls"] for event in events if event["kind"] == "usage_unwritten"]
    assert lost == [5]
