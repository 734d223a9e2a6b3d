"""Four years of Seattle weather, asked seven questions by seven skills; then one that fails and one that never ends.

python weather.py [DATABASE]: without one, a database that is removed at the end.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

import skillcache

HERE = Path(__file__).parent
SKILLS = [
    "degree_days",
    "rain_streaks",
    "anomaly_days",
    "trend",
    "monthly_table",
    "text_summary",
    "persistence",
]
TEXT_COLUMNS = ("date", "weather")
TIMEOUT_MS = 300


def read_columns() -> dict[str, list[Any]]:
    with (HERE / "data" / "seattle-weather.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        name: [row[name] if name in TEXT_COLUMNS else float(row[name]) for row in rows]
        for name in ("date", "precipitation", "temp_max", "temp_min", "wind", "weather")
    }


def put(library: skillcache.Library, name: str) -> int:
    code = (HERE / "skills" / f"{name}.py").read_text()
    description = code.split('"""')[1].splitlines()[0]
    return library.put(name, code, description=description, category="climate", tags=["weather"])


def show_progress(step: int, name: str, doing: str) -> None:
    line = f"[{step}/{len(SKILLS)}] {name}: {doing}"
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr)


def human(microseconds: int) -> str:
    return f"{microseconds} us" if microseconds < 1000 else f"{microseconds / 1000:.1f} ms"


def expect(held: bool, what: str) -> None:
    if not held:
        sys.exit(f"not as expected: {what}")


def run_all(library: skillcache.Library, columns: dict[str, list[Any]]) -> None:
    rows = []
    for step, name in enumerate(SKILLS, start=1):
        show_progress(step, name, f"version {put(library, name)}, running")
        first = library.run(name, columns)
        expect(first.outcome == "success", f"{name} ended as {first.outcome}")
        repeat = library.run(name, columns)
        expect(repeat.cached and repeat.value == first.value, f"{name} was not answered from memory")
        rows.append((name, first, repeat))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(f"{'skill':<14}{'outcome':<9}{'answer':<52}{'first run':>10}{'repeat':>10}")
    for name, first, repeat in rows:
        times = f"{human(first.duration_us):>10}{human(repeat.duration_us):>10}"
        print(f"{name:<14}{first.outcome:<9}{first.value['headline']:<52}{times}")


def fail(library: skillcache.Library, columns: dict[str, list[Any]]) -> None:
    put(library, "broken")
    run = library.run("broken", columns)
    expect(run.outcome == "error" and run.error is not None, f"broken ended as {run.outcome}")
    line = library.get("broken").code.splitlines()[run.error.line - 1]
    print(f"\nbroken fails at its line {run.error.line}, {run.error.type}: {run.error.message}\n{line}")


def time_out(library: skillcache.Library, columns: dict[str, list[Any]]) -> None:
    put(library, "endless")
    run = library.run("endless", columns, timeout_ms=TIMEOUT_MS)
    expect(run.outcome == "timeout", f"endless ended as {run.outcome}")
    print(f"\nendless never ends; it was stopped after {human(run.duration_us)}, outcome {run.outcome}")


def show_statistics(library: skillcache.Library) -> None:
    stats = library.stats()
    outcomes = ", ".join(f"{count} {name}" for name, count in stats["runs"]["by_outcome"].items() if count)
    results, latency = stats["caches"]["execution"], stats["latency_us"]
    print("\nstatistics")
    print(f"  runs      {stats['runs']['total']}: {outcomes}")
    print(f"  memory    {results['hits']} hits, {results['misses']} misses, hit rate {results['hit_rate']:.0%}")
    print(f"  median    executed {human(latency['executed']['p50'])}, from memory {human(latency['cached']['p50'])}")
    print(f"  confined  {stats['sandbox']['mode']}, {stats['sandbox']['level']}")


def main() -> None:
    columns = read_columns()
    days = columns["date"]
    print(f"Seattle, {len(days)} days from {days[0]} to {days[-1]}, asked from Python\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = sys.argv[1] if len(sys.argv) > 1 else str(Path(folder) / "skills.db")
        with skillcache.open(path) as library:
            run_all(library, columns)
            fail(library, columns)
            time_out(library, columns)
            show_statistics(library)


if __name__ == "__main__":
    try:
        main()
    except (OSError, skillcache.Error) as error:
        sys.exit(f"weather: {error}")
