"""Four years of Seattle weather, asked eight questions by eight skills; then one that fails and one that never ends.

python weather.py [DATABASE]: without one, a database that is removed at the end.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

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
    "frost_season",
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


def give_up(why: object) -> NoReturn:
    sys.exit(f"weather: {why}")


def run(
    library: skillcache.Library, name: str, columns: dict[str, list[Any]], outcome: str, timeout_ms: int | None = None
) -> skillcache.Result:
    result = library.run(name, columns, timeout_ms=timeout_ms)
    if result.outcome != outcome:
        why = result.error and (result.error.traceback or result.error.message)
        give_up(f"{name} ended as {result.outcome}: {why or ''}")
    return result


def run_all(library: skillcache.Library, columns: dict[str, list[Any]]) -> None:
    rows = []
    for step, name in enumerate(SKILLS, start=1):
        show_progress(step, name, f"version {put(library, name)}, running")
        first = run(library, name, columns, "success")
        repeat = run(library, name, columns, "success")
        if not repeat.cached or repeat.value != first.value:
            give_up(f"{name} was not answered from memory")
        rows.append((name, first, repeat))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    width = max(len(first.value["headline"]) for _, first, _ in rows) + 2
    print(f"\n{'skill':<14}{'outcome':<9}{'answer':<{width}}{'first run':>10}{'repeat':>10}")
    for name, first, repeat in rows:
        times = f"{human(first.duration_us):>10}{human(repeat.duration_us):>10}"
        print(f"{name:<14}{first.outcome:<9}{first.value['headline']:<{width}}{times}")


def fail(library: skillcache.Library, columns: dict[str, list[Any]]) -> None:
    put(library, "broken")
    error = run(library, "broken", columns, "error").error
    line = library.get("broken").code.splitlines()[error.line - 1]
    print(f"\nbroken fails at its line {error.line}, {error.type}: {error.message}\n{line}")


def time_out(library: skillcache.Library, columns: dict[str, list[Any]]) -> None:
    put(library, "endless")
    result = run(library, "endless", columns, "timeout", timeout_ms=TIMEOUT_MS)
    print(f"\nendless never ends; it was stopped after {human(result.duration_us)}, outcome {result.outcome}")


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
    print(f"Seattle, {len(days)} days from {days[0]} to {days[-1]}, asked from Python", flush=True)
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
        give_up(error)
