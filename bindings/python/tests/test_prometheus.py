"""What monitoring makes of the metrics: parsers, and a Prometheus of the tests' own with all of docs/monitoring."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

import skillcache
from skillcache import Library

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "docs" / "monitoring"
ALERTS = MONITORING / "alerts.yml"
EXAMPLE = ROOT / "examples" / "metrics_server.py"
WAIT_S = 60

BUSY_OPTIONS: dict[str, Any] = {
    "cache.execution.max_entries": 1,
    "monitor.event_capacity": 1,
    "monitor.slow_run_ms": 1,
    "store.results.enabled": "on",
}
"""Under which little work is enough for numbers of every kind."""

QUIET_ALERTS = {
    "SkillcacheTargetAbsent": "the target is there",
    "SkillcacheHitRateLow": "the same runs come again and again",
    "SkillcachePoolExhausted": "a connection is free for every call",
    "SkillcachePoolOverflow": "the connections that are kept are enough",
    "SkillcachePoolLeak": "connections come back",
    "SkillcacheMemoryHigh": "a test needs little memory",
    "SkillcacheRunsSlow": "no run takes five seconds",
    "SkillcacheUsageUnwritten": "nobody keeps the database locked",
    "SkillcacheWriterRefusals": "nobody keeps the database locked",
    "SkillcacheResultsDamaged": "nobody damages the database",
}
"""Alerts that the work of these tests does not raise, and why not. The others it does."""

Series = tuple[str, frozenset[tuple[str, str]]]
Answer = TypeVar("Answer")


def tool(name: str) -> str:
    """Where a program of the Debian package prometheus is."""
    found = shutil.which(name)
    assert found is not None, f"{name} is missing: run .ci/tools, which installs the Debian package prometheus"
    return found


def promtool(*arguments: str, text: str = "") -> None:
    command = [tool("promtool"), *arguments]
    run = subprocess.run(command, input=text, capture_output=True, text=True, timeout=WAIT_S, cwd=MONITORING)
    assert run.returncode == 0, f"{command}:\n{run.stdout}{run.stderr}"


def fetch(url: str) -> tuple[str, str]:
    """A text, be it one that says what is wrong, and its type. No proxy knows the ports of this machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = opener.open(url, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.read().decode(), answer.headers["Content-Type"]


@contextlib.contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that is ended whatever happens; what it says of itself goes into the file ``log`` of the folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bindings" / "python")}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder, env=environment
        ) as process,
    ):
        watchdog = threading.Timer(3 * WAIT_S, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            watchdog.cancel()
            watchdog.join()


def eventually(ask: Callable[..., Answer], *arguments: object, between: Callable[[], None] | None = None) -> Answer:
    """Asks until there is something in the answer; the last answer, if that takes too long."""
    deadline = time.monotonic() + WAIT_S
    while not (answer := ask(*arguments)) and time.monotonic() < deadline:
        if between is not None:
            between()
        time.sleep(0.1)
    return answer


def work(lib: Library) -> None:
    """Something for every number."""
    lib.put("mean", "result = sum(inputs['x']) / len(inputs['x'])", cache="yes", embedding=[1, 0])
    for id, code in [("error", "1 / 0"), ("denied", "raise PermissionError(1, 'no')")]:
        lib.put(id, code)
        lib.run(id)
    for x in (1, 1, 2):
        assert lib.run("mean", {"x": [x]}).outcome == "success"
    with lib.submit("mean", {"x": [1]}) as task:
        assert task.wait().outcome == "success"
    lib.set_state("error", "quarantined")
    assert lib.search(embedding=[1, 0])


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A library in which something of every kind happened."""
    with skillcache.open(tmp_path_factory.mktemp("busy") / "skills.db", BUSY_OPTIONS) as library:
        work(library)
        yield library


# The text and the document


def described() -> Iterable[tuple[str, str, list[str], list[str]]]:
    """Of each metric that docs/STATISTICS.md describes, the name, the type, the labels and the paths."""
    page = (ROOT / "docs" / "STATISTICS.md").read_text()
    for row in page.split("\n# Metrics\n")[1].splitlines():
        if row.startswith("| `"):
            name, kind, labels, paths = (cell.strip() for cell in row.strip("|").split("|"))
            yield name.strip("`"), kind, re.findall("`(.*?)`", labels), re.findall("`(.*?)`", paths)


def at(document: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        document = document[name]
    return document


def in_base_units(path: str, number: float) -> float:
    """What the documents say of units, by the names in the statistics."""
    if path.endswith("_mb"):
        return number * (1 << 20)
    if path.endswith("_ms"):
        return number / 1000
    if path.startswith("latency_us"):
        return number / 1_000_000
    return number / 100 if path.endswith("percent") else number


def samples_of(row: tuple[str, str, list[str], list[str]], stats: Any) -> Iterator[tuple[Series, float]]:
    """What the page makes one expect. Not the runs, which the document does not divide."""
    name, kind, labels, paths = row
    if kind == "info":
        told = {label: at(stats, path) for label, path in zip(labels, paths)}
        yield (f"{name}_info", frozenset((label, text) for label, text in told.items() if text is not None)), 1
        return
    path, _, below = paths[0].partition(".*")
    members = at(stats, path).items() if labels else [("", at(stats, path))]
    if labels == ["cached"]:
        members = [("false", at(stats, f"{path}.executed")), ("true", at(stats, f"{path}.cached"))]
    for member, value in members:
        pairs = frozenset((label, member) for label in labels)
        number = at(value, below)
        if kind == "histogram":
            yield (f"{name}_count", pairs), number["count"]
            yield (f"{name}_sum", pairs), in_base_units(path, number["sum"])
            buckets = [(str(bucket["le"] / 1_000_000), bucket["count"]) for bucket in number["buckets"]]
            for le, count in [*buckets, ("inf", number["count"])]:
                yield (f"{name}_bucket", pairs | {("le", le)}), count
        else:
            yield (f"{name}_total" if kind == "counter" else name, pairs), in_base_units(paths[0], number)


def expected(stats: Any) -> dict[Series, float]:
    rows = (row for row in described() if row[0] != "skillcache_runs")
    return dict(sample for row in rows for sample in samples_of(row, stats))


families_of: Callable[[str], Iterable[Metric]] = text_string_to_metric_families


def read(text: str) -> dict[Series, float]:
    samples = (sample for family in families_of(text) for sample in family.samples)

    def label(name: str, value: str) -> tuple[str, str]:
        return (name, str(float(value))) if name == "le" else (name, value)

    return {(s.name, frozenset(label(*pair) for pair in s.labels.items())): s.value for s in samples}


def test_a_strict_parser_finds_the_numbers_of_the_statistics(busy: Library) -> None:
    before = busy.stats()
    text = busy.metrics()
    after = busy.stats()
    found, low, high = read(text), expected(before), expected(after)
    runs = {labels: count for (name, labels), count in found.items() if name == "skillcache_runs_total"}
    assert set(found) - {("skillcache_runs_total", labels) for labels in runs} == set(low) == set(high)
    for series, number in low.items():
        lowest, highest = sorted([number, high[series]])
        # Memory comes and goes.
        slack = 0.5 if series[0].startswith("skillcache_memory_") else 0
        assert lowest * (1 - slack) <= found[series] <= highest * (1 + slack), series
    for outcome, count in after["runs"]["by_outcome"].items():
        assert sum(n for labels, n in runs.items() if ("outcome", outcome) in labels) == count, outcome
    assert sum(count for labels, count in runs.items() if ("cached", "true") in labels) == after["runs"]["cached"] > 0


def test_families_are_of_their_types_and_units(busy: Library) -> None:
    families = {family.name: family for family in families_of(busy.metrics())}
    assert {name: family.type for name, family in families.items()} == {name: kind for name, kind, *_ in described()}
    for name, family in families.items():
        unit = next((unit for unit in ("seconds", "bytes", "ratio") if name.endswith(f"_{unit}")), "")
        assert (family.unit, bool(family.documentation)) == (unit, True), name


class Translated(Collector):
    """The families of an OpenMetrics text for those who write the older format, which is what promtool reads."""

    def __init__(self, text: str) -> None:
        self._families = list(families_of(text))

    def collect(self) -> Iterable[Metric]:
        return self._families


def test_promtool_has_nothing_to_say_of_the_names(busy: Library) -> None:
    registry = CollectorRegistry()
    registry.register(Translated(busy.metrics()))
    promtool("check", "metrics", text=generate_latest(registry).decode())


# The alerts and the dashboard by themselves


def test_promtool_takes_the_alerts_and_their_tests() -> None:
    promtool("check", "rules", ALERTS.name)
    promtool("test", "rules", "alerts_test.yml")


def test_every_alert_is_explained_and_tested_with_series_that_raise_it_and_series_that_do_not() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    assert len(set(alerts)) == len(alerts) > 0
    tests = (MONITORING / "alerts_test.yml").read_text()
    tried = re.findall(r"alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:( \[\])?", tests)
    assert (
        {name for name, nothing in tried if nothing} == {name for name, nothing in tried if not nothing} == set(alerts)
    )
    page = (MONITORING / "README.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == alerts
    for rule in re.split(r"- alert: ", ALERTS.read_text())[1:]:
        assert re.search(r"severity: (info|warning|critical)\n", rule), rule
        for annotation in ("summary", "description", "runbook"):
            assert f" {annotation}: " in rule, rule


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def test_the_dashboard_can_be_imported_anywhere() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    variables = dashboard["templating"]["list"]
    assert [(v["name"], v["type"]) for v in variables] == [("datasource", "datasource"), ("instance", "query")]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == source, panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == source, panel["title"]
            assert "{{" in target["legendFormat"], panel["title"]
            assert 'instance=~"$instance"' in target["expr"], panel["title"]


# The example


def test_the_example_serves_what_the_page_shows(tmp_path: Path) -> None:
    page = (MONITORING / "README.md").read_text()
    assert f"```python\n{EXAMPLE.read_text()}```\n" in page
    command = [sys.executable, str(EXAMPLE), str(tmp_path / "skills.db"), "0"]
    with running(command, tmp_path) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, (tmp_path / "log").read_text()
        text, kind = fetch(address)
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert read(text)["skillcache_build_info", frozenset({("version", skillcache.__version__)})] == 1


# A Prometheus of the tests' own


CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{alerts}]
scrape_configs:
  - job_name: skillcache
    static_configs:
      - targets: ['{target}']
"""


@contextlib.contextmanager
def served(lib: Library) -> Iterator[str]:
    """Has the example serve a library of this process; says where."""
    spec = importlib.util.spec_from_file_location("metrics_server", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with example.server(lib, 0) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


def state(url: str, process: subprocess.Popen[str]) -> str:
    """``ready`` or ``ended``; nothing before."""
    if process.poll() is not None:
        return "ended"
    try:
        return "ready" if "is Ready" in fetch(f"{url}/-/ready")[0] else ""
    except OSError:
        return ""


@contextlib.contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A Prometheus that reads the target and nothing else; says where it answers."""
    (folder / "prometheus.yml").write_text(CONFIGURATION.format(alerts=ALERTS, target=target))
    command = [tool("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    # Somebody else may take the port before Prometheus does.
    for _ in range(5):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = "{}:{}".format(*free.getsockname())
        with running([*command, f"--web.listen-address={address}"], folder) as process:
            url = f"http://{address}"
            if eventually(state, url, process) == "ready":
                yield url
                return
    pytest.fail((folder / "log").read_text())


def asked(url: str, what: str, **parameters: str) -> Any:
    text, _ = fetch(f"{url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}")
    answer = json.loads(text)
    assert answer["status"] == "success", f"{parameters}: {text}"
    return answer["data"]


def queried(url: str, expression: str) -> list[Any]:
    found: list[Any] = asked(url, "query", query=expression)["result"]
    return found


@pytest.fixture(scope="module")
def scraped(busy: Library, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a Prometheus answers that has read the metrics of the busy library."""
    with served(busy) as target, prometheus(tmp_path_factory.mktemp("prometheus"), target) as url:
        assert eventually(queried, url, 'up{job="skillcache"} == 1'), asked(url, "targets")
        yield url


def test_prometheus_has_the_numbers_and_knows_what_they_are(busy: Library, scraped: str) -> None:
    def total() -> bool:
        found = queried(scraped, "sum(skillcache_runs_total)")
        return bool(found) and float(found[0]["value"][1]) == busy.stats()["runs"]["total"]

    assert eventually(total)
    metadata = asked(scraped, "metadata")
    for name, kind, *_ in described():
        assert metadata[name][0]["type"] == kind, name
    # Which the older format does not have.
    assert metadata["skillcache_uptime_seconds"][0]["unit"] == "seconds"


def test_every_expression_of_the_dashboard_has_an_answer(busy: Library, scraped: str) -> None:
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            assert "$" not in expression, panel["title"]
            found = eventually(queried, scraped, expression, between=lambda: work(busy))
            assert found, f"{panel['title']}: {expression}"
            shown = re.findall(r"{{(\w+)}}", target["legendFormat"])
            assert all(label in series["metric"] for series in found for label in shown), panel["title"]


def test_every_alert_is_evaluated_and_those_are_raised_that_should_be(busy: Library, scraped: str) -> None:
    def evaluated() -> list[Any]:
        rules = [rule for group in asked(scraped, "rules")["groups"] for rule in group["rules"]]
        return rules if all(rule["health"] == "ok" for rule in rules) else []

    rules = eventually(evaluated)
    assert [rule["name"] for rule in rules] == re.findall(r"- alert: (\w+)", ALERTS.read_text()), asked(
        scraped, "rules"
    )
    assert set(QUIET_ALERTS) < {rule["name"] for rule in rules}
    for rule in rules:
        for metric in re.findall(r"skillcache_\w+", rule["query"]):
            assert eventually(queried, scraped, metric), f"{rule['name']}: {metric}"
        if rule["name"] in QUIET_ALERTS:
            queried(scraped, rule["query"])
        else:
            raised = eventually(queried, scraped, rule["query"], between=lambda: work(busy))
            assert raised, rule["query"]
