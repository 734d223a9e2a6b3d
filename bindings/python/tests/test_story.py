"""The road from put to kept result, and everything that can be asked on the way."""

from __future__ import annotations

import select
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Gate

import skillcache
from skillcache import Library

MEAN = "inputs = {'x': [0]}\nresult = sum(inputs['x']) / len(inputs['x'])\n"


def test_a_skill_answers_and_the_second_call_comes_from_memory(lib: Library) -> None:
    assert lib.put("mean", MEAN) == 1
    first = lib.run("mean", {"x": [1, 2, 6]})
    assert (first.outcome, first.value, first.cached, first.error) == ("success", 3.0, False, None)
    assert (first.level, first.version) == ("strict", 1)
    assert first.duration_us > 0
    assert first.cpu_us > 0
    assert first.peak_memory_bytes > 1 << 20
    second = lib.run("mean", {"x": [1, 2, 6]})
    assert (second.outcome, second.value, second.cached) == ("success", 3.0, True)
    assert not lib.run("mean", {"x": [1, 2, 6.0]}).cached, "6 and 6.0 are different values"


def test_context_and_parameters_reach_the_skill(lib: Library) -> None:
    code = "result = [inputs['a'], context['b'], parameters['c']]"
    lib.put("all", code, parameters={"c": 3})
    assert lib.run("all", {"a": 1}, context={"b": 2}).value == [1, 2, 3]


def test_versions_stay_readable_and_runnable(lib: Library) -> None:
    assert lib.put("v", "result = 1") == 1
    assert lib.put("v", "result = 2") == 2
    assert lib.put("v", "result = 2", description="only a description") == 2
    assert [lib.run("v", version=version).value for version in (0, 1, 2)] == [2, 1, 2]
    assert [lib.get("v", version).code for version in (0, 1)] == ["result = 2", "result = 1"]
    with pytest.raises(skillcache.ConflictError):
        lib.put("v", "result = 3", expected_version=1)
    lib.remove("v")
    with pytest.raises(skillcache.SkillNotFoundError):
        lib.get("v")
    assert lib.put("v", "result = 3") == 3, "the numbering goes on"


def get_counted(lib: Library, id: str, count: int) -> skillcache.Skill:
    """The skill once so many calls are counted: whoever asks waits only a moment for that to be written."""
    give_up = time.monotonic() + 60
    while lib.get(id).usage_count < count:
        assert time.monotonic() < give_up, f"{lib.get(id).usage_count} of {count} are counted"
    return lib.get(id)


def test_a_record_comes_back_as_it_was_put(lib: Library) -> None:
    fields: dict[str, Any] = {
        "name": "Mean",
        "description": "arithmetic \N{EM DASH} mean",
        "category": "math",
        "complexity": "basic",
        "input_schema": {"type": "object", "required": ["x"]},
        "output_schema": {"type": "number"},
        "parameters": {"digits": 2},
        "performance_metrics": {"mae": 0.5},
        "tags": ["ta", "math"],
        "examples": [{"x": [1]}],
        "created_by": "a test",
        "cache": "yes",
        "ttl_s": 60,
        "key_order": "ignore",
        "timeout_ms": 50_000,
        "max_cpu_s": 20,
        "max_memory_mb": 256,
        "max_file_mb": 0,
        "max_open_files": 32,
        "max_threads": 4,
        "max_output_kb": 1,
        "max_answer_kb": 1,
    }
    lib.put("mean", MEAN, **fields)
    lib.run("mean", {"x": [1]})
    skill = get_counted(lib, "mean", 1)
    assert (skill.id, skill.version, skill.code, skill.language) == ("mean", 1, MEAN, "python")
    assert {name: skill[name] for name in fields} == fields
    assert (skill.usage_count, skill.success_count, skill.is_active) == (1, 1, True)
    assert skill.created_at.endswith("Z")
    assert skill.last_used is not None


def test_list_and_search_find_skills(lib: Library) -> None:
    lib.put("rsi", "result = 1", description="relative strength index", tags=["ta", "fast"], category="trading")
    lib.put("sma", "result = 2", description="simple moving average", tags=["ta"], category="trading")
    lib.put("greet", "result = 3", description="says hello", is_active=False)
    assert [skill.id for skill in lib.list()] == ["greet", "rsi", "sma"]
    assert [skill.id for skill in lib.list(tags=["ta", "fast"])] == ["rsi"]
    assert [skill.id for skill in lib.list(category="trading", limit=1, offset=1)] == ["sma"]
    assert [skill.id for skill in lib.list(active=False)] == ["greet"]
    assert "code" not in lib.list()[0]
    hits = lib.search("moving average")
    assert hits[0].id == "sma"
    assert hits[0].score > 0
    assert [hit.id for hit in lib.search("index", tags="fast")] == ["rsi"]
    assert lib.search("nothing like it") == []


def test_search_by_embedding_and_by_both(lib: Library) -> None:
    for id, text, vector in [("east", "the sun rises", [1, 0]), ("north", "a star", [0, 1]), ("bare", "sun", None)]:
        lib.put(id, "result = 1", description=text, embedding=vector)
    hits = lib.search(embedding=[0.1, 1])
    assert [hit.id for hit in hits] == ["north", "east"]
    assert hits[0].score == pytest.approx(1 / 1.01**0.5, abs=1e-6)
    mixed = lib.search("sun", embedding=[0, 1], vector_weight=0.9)
    assert [hit.id for hit in mixed] == ["north", "bare", "east"]
    assert (mixed[0].text_score, mixed[1].vector_score) == (None, None)
    assert [hit.id for hit in lib.search("sun", embedding=[0, 1], min_score=0.5)] == ["north", "bare"]
    with pytest.raises(skillcache.InvalidArgumentError, match="2 numbers; this one has 3"):
        lib.search(embedding=[1, 2, 3])
    assert lib.rebuild_index() == 3


def test_a_skill_can_be_set_aside(lib: Library) -> None:
    lib.put("a", "result = 1", author="ann", parent="b@2")
    lib.run("a")
    lib.set_state("a", "quarantined")
    assert lib.run("a").outcome == "rejected"
    error = lib.run("a").error
    assert error is not None
    assert "quarantined" in str(error.message)
    skill = get_counted(lib, "a", 3)
    assert (skill.state, skill.is_active, skill.author, skill.parent) == ("quarantined", False, "ann", "b@2")
    assert skill.outcomes == {"success": 1, "rejected": 2}
    assert lib.search("a") == []
    assert [hit.id for hit in lib.search("a", state="quarantined")] == ["a"]
    lib.set_state("a", "active")
    assert lib.run("a").outcome == "success"
    with pytest.raises(skillcache.InvalidArgumentError, match="active, quarantined, retired"):
        lib.set_state("a", "gone")


def test_validate_says_what_there_is_to_say(lib: Library) -> None:
    good = lib.validate(MEAN)
    assert (good.valid, good.findings, good.deterministic, good.slots) == (True, [], True, {"inputs": 1})
    clock = lib.validate("import time\nresult = time.time()")
    assert (clock.valid, clock.deterministic) == (True, False)
    assert "time" in clock.reasons[0]
    broken = lib.validate("x = 1\nresult = = 2")
    assert not broken.valid
    assert (broken.findings[0].rule, broken.findings[0].severity, broken.findings[0].line) == ("syntax", "error", 2)
    shadowed = lib.validate("inputs = {}\ninputs = {'a': 1}\nresult = inputs")
    assert [(finding.rule, finding.line) for finding in shadowed.findings] == [("input-shadowed", 2)]


def test_inject_gives_a_script_that_stands_alone(lib: Library) -> None:
    script = lib.inject(MEAN, {"x": [1, 2, 6], "s": "'\"\\\n"}, {"who": "me"})
    names: dict[str, Any] = {}
    exec(compile(script, "script", "exec"), names)
    assert names["inputs"] == {"x": [1, 2, 6], "s": "'\"\\\n"}
    assert names["context"] == {"who": "me"}
    assert names["result"] == 3.0


def test_cache_modes(lib: Library) -> None:
    lib.put("clock", "import time\nresult = time.time()")
    assert not lib.run("clock").cached
    assert not lib.run("clock").cached, "a clock is not deterministic"
    kept = lib.run("clock", cache=True)
    assert lib.run("clock", cache="yes").value == kept.value
    refreshed = lib.run("clock", cache="refresh")
    assert not refreshed.cached
    assert lib.run("clock", cache=True).value == refreshed.value
    assert not lib.run("clock", cache=False).cached
    lib.put("one", "result = 1", cache="no")
    assert not any(lib.run("one").cached for _ in range(2))
    assert [lib.run("one", cache="required").cached for _ in range(2)] == [False, True]


def test_clear_and_evict_expired(lib: Library) -> None:
    lib.put("one", "result = 1")
    lib.run("one")
    lib.clear("execution")
    assert not lib.run("one").cached
    lib.run("one", cache="refresh", ttl_s=0.001)
    # The kernel turns its coarse clock at ticks, which a virtual machine may have to wait for.
    give_up = time.monotonic() + 60
    while lib.evict_expired() == 0:
        assert time.monotonic() < give_up
    assert lib.evict_expired() == 0
    assert not lib.run("one").cached


def test_a_full_cache_is_said() -> None:
    with skillcache.open(":memory:", {"cache.execution.max_entries": 1, "cache.prepared.max_entries": 9}) as lib:
        lib.put("one", "result = 1")
        assert lib.check_caches() == []
        lib.run("one")
        message = "Cache utilization alert: 100.0% exceeds threshold of 85.0% (1/1)"
        full = {"cache": "execution", "bound": "entries", "size": 1, "max_size": 1, "threshold": 0.85}
        assert lib.check_caches() == [{**full, "message": message}]
        bounds = [(alert["cache"], alert["bound"]) for alert in lib.check_caches(0)]
        assert bounds == [(c, b) for c in ("execution", "prepared", "metadata") for b in ("entries", "bytes")]
        event = next(event for event in lib.events() if event["kind"] == "cache_utilization")
        assert event["fields"] == full, "asking raised no event of its own"
        assert not any(event["kind"] == "cache_utilization" for event in lib.events())
    with pytest.raises(skillcache.ClosedError):
        lib.check_caches()


def test_a_library_is_checked_and_copied(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with skillcache.open(tmp_path / "skills.db") as lib:
        lib.put("one", "result = 1")
        report = lib.check("full")
        assert report == {"ok": True, "findings": [], "took_ms": report["took_ms"]}
        assert lib.check()["ok"]
        with pytest.raises(skillcache.InvalidArgumentError):
            lib.check("slow")
        lib.backup(copy)
        with pytest.raises(skillcache.InvalidArgumentError):
            lib.backup(copy)
        lib.put("two", "result = 2")
    with skillcache.open(copy, {"store.access": "read_only"}) as lib:
        assert [skill.id for skill in lib.list()] == ["one"]
        with pytest.raises(skillcache.UnsupportedError):
            lib.put("two", "result = 2")


@pytest.mark.parametrize("format", ["bundle", "markdown", "reference"])
def test_skills_go_out_and_come_in(lib: Library, tmp_path: Path, format: str) -> None:
    lib.put("one", "result = 1", tags=["a"], description="It's: one.")
    lib.put("two", "result = 2", required_skills=["one"])
    assert lib.export_skills(tmp_path / "out", format=format).exported == 2
    with pytest.raises(skillcache.InvalidArgumentError, match="overwrite"):
        lib.export_skills(tmp_path / "out", format=format)
    assert lib.export_skills(tmp_path / "out", format=format, tags=["a"], overwrite=True).exported == 1
    with skillcache.open(":memory:") as other:
        tried = other.import_skills(tmp_path / "out", dry_run=True)
        assert [skill.version for skill in tried.imported] == [None] * len(tried.imported)
        report = other.import_skills(tmp_path / "out")
        assert (report.format, report.rejected) == (format, [])
        assert report.imported[0].id == "one"
        one = other.get("one")
        assert (one.code, one.tags, one.description) == ("result = 1", ["a"], "It's: one.")
        assert other.import_skills(tmp_path / "out", on_conflict="skip").imported == []


def test_what_cannot_be_imported_is_listed(lib: Library, tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text('{"code": "result = 1"}')
    (tmp_path / "evil.json").write_text('{"code": "import os"}')
    (tmp_path / "cut.json").write_text('{"code": ')
    report = lib.import_skills(tmp_path)
    assert [skill.id for skill in report.imported] == ["good"]
    assert [(bad.source, bad.id) for bad in report.rejected] == [("cut.json", None), ("evil.json", "evil")]
    assert "import-forbidden" in report.rejected[1].reason


def test_run_many_keeps_the_order_and_reports_progress(lib: Library) -> None:
    lib.put("square", "result = inputs['x'] ** 2")
    seen: list[tuple[int, int]] = []
    results = lib.run_many("square", [{"x": x} for x in range(6)], progress=lambda *step: seen.append(step))
    assert [result.value for result in results] == [0, 1, 4, 9, 16, 25]
    assert seen == [(done, 6) for done in range(1, 7)]


def test_run_many_is_cancelled_by_false_and_by_an_exception(lib: Library) -> None:
    lib.put("square", "result = inputs['x'] ** 2")
    items = [{"x": x} for x in range(20)]
    results = lib.run_many("square", items, progress=lambda done, total: done < 2, concurrency=1)
    assert len(results) == 20
    assert results[-1].outcome == "cancelled"

    def fail(done: int, total: int) -> None:
        raise LookupError("from the callback")

    with pytest.raises(LookupError, match="from the callback"):
        lib.run_many("square", items, progress=fail)


def test_a_task_runs_in_the_background(held: Library, gate: Gate) -> None:
    with held.submit("s", {"v": "done"}) as task:
        assert not task.poll()
        with pytest.raises(skillcache.TimeoutError):
            task.wait(1)
        gate.open()
        assert select.select([task.fd], [], [], 60)[0]
        assert task.poll()
        assert [task.wait().value for _ in range(2)] == ["done", "done"]
    held.put("slow", "import time\ntime.sleep(300)")
    endless = held.submit("slow")
    endless.cancel()
    assert endless.wait(60_000).outcome == "cancelled"


def test_a_task_that_outlives_its_library_says_so() -> None:
    lib = skillcache.open(":memory:")
    lib.put("slow", "import time\ntime.sleep(60)")
    task = lib.submit("slow")
    lib.close()
    with pytest.raises(skillcache.CancelledError):
        task.wait()
    task.close()


def test_statistics_metrics_and_health_agree(lib: Library) -> None:
    lib.put("one", "result = 1")
    for _ in range(3):
        lib.run("one")
    stats = lib.stats()
    assert (stats["runs"]["total"], stats["runs"]["cached"], stats["runs"]["executed"]) == (3, 2, 1)
    assert sum(stats["runs"]["by_outcome"].values()) == 3
    results = stats["caches"]["execution"]
    assert (results["size"], results["hits"], results["misses"]) == (1, 2, 1)
    assert stats["latency_us"]["cached"]["count"] == 2
    metrics = lib.metrics()
    assert 'skillcache_runs_total{outcome="success",cached="true"} 2\n' in metrics
    assert metrics.endswith("# EOF\n")
    health = lib.health()
    assert health["status"] == "healthy"
    assert set(health["components"]) == {"store", "pool", "cache", "sandbox", "interpreter", "policy"}
    assert [component["remedy"] for component in health["components"].values()] == [None] * 6


def test_events_are_read_in_order_and_once(lib: Library) -> None:
    lib.put("bad", "result = 1 / 0")
    lib.run("bad", trace="my-trace")
    assert select.select([lib.event_fd], [], [], 0)[0]
    events = list(lib.events())
    assert [event["kind"] for event in events] == ["sandbox_level", "skill_put", "run_failed"]
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert events[2]["fields"]["trace"] == "my-trace"
    assert list(lib.events()) == []
    assert not select.select([lib.event_fd], [], [], 0)[0]


def test_events_come_to_a_callback() -> None:
    kinds: list[str] = []
    arrived = threading.Event()

    def on_event(event: dict[str, Any]) -> None:
        kinds.append(event["kind"])
        if event["kind"] == "skill_removed":
            arrived.set()

    with skillcache.open(":memory:", on_event=on_event) as lib:
        lib.put("one", "result = 1")
        lib.remove("one")
        assert arrived.wait(60)
        with pytest.raises(skillcache.InvalidArgumentError):
            next(lib.events())
    assert kinds == ["sandbox_level", "skill_put", "skill_removed"]


def test_a_file_keeps_the_skills(tmp_path: Path) -> None:
    path = tmp_path / "skills.db"
    with skillcache.open(path) as lib:
        lib.put("mean", MEAN, tags=["math"])
        lib.run("mean", {"x": [1]})
    with skillcache.open(path, {"pool.size": 2}) as lib:
        skill = lib.get("mean")
        assert (skill.code, skill.tags, skill.usage_count) == (MEAN, ["math"], 1)
        assert lib.run("mean", {"x": [4]}).value == 4.0
