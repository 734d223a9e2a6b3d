"""compare.py WEATHER_C WEATHER_RUST QUICKSTART_C: the three tellings agree but for times and language, also when they
find their skills in a database, and fail when a skill does; the quickstarts print what they should and README shows
them as they are; every skill stands alone as a script."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SKILLS = 8
SHOWN = {"C": "3.0 executed\n3.0 from memory\n", "Python": "success 3.0 executed\nsuccess 3.0 from memory\n"}
FAILING = {"broken": "KeyError: 'humidity'"}
ENDLESS = {"endless"}
BAD_SKILLS = {
    "result = {'headline': str(1 / 0)}": "degree_days ended as error: Traceback",
    "import time\nresult = {'headline': 'not seen to be deterministic'}": "degree_days was not answered from memory",
}
Story = tuple[str, str]


def commands(weather_c: str, weather_rust: str, folder: Path) -> dict[str, list[str]]:
    return {
        "C": [weather_c, str(folder)],
        "Python": [sys.executable, str(folder / "weather.py")],
        "Rust": [weather_rust, str(folder)],
    }


def tell(command: list[str]) -> Story:
    """What it prints and what progress it shows, both without times and language. It leaves nothing behind."""
    with tempfile.TemporaryDirectory() as temporary:
        environment = os.environ | {"TMPDIR": temporary}
        run = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert run.returncode == 0, f"{command}: {run.stderr}"
        assert not os.listdir(temporary), f"{command} leaves {os.listdir(temporary)} behind"
    table = run.stdout.splitlines()[2 : 3 + SKILLS]
    assert len({len(row) for row in table}) == 1, f"{command}: the table is not aligned:\n{run.stdout}"
    story = re.sub(r" *\b[0-9.]+ (us|ms)\b", " TIME", run.stdout)
    return re.sub(r"asked from \w+", "asked from LANGUAGE", story), run.stderr


def progress_on_terminal(command: list[str]) -> str:
    ours, theirs = pty.openpty()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, check=True, timeout=300)
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:
        pass  # How Linux says that nobody writes to a terminal any more.
    os.close(ours)
    return shown.decode()


def check_stories(told: dict[str, Story], what: str) -> None:
    expected, _ = told["C"]
    assert expected.count(" success ") == SKILLS, f"{what}: a row is missing:\n{expected}"
    assert expected.endswith("strict, strict\n"), f"{what}: it stops early:\n{expected}"
    for language, (story, progress) in told.items():
        assert story == expected, f"{what}: {language} and C tell different stories:\n{story}\n{expected}"
        lines = progress.splitlines()
        assert len(lines) == SKILLS and all("version 1" in line for line in lines), f"{what}, {language}:\n{progress}"
        assert progress == told["C"][1], f"{what}: {language} and C show different progress:\n{progress}"


def check_weather(weather_c: str, weather_rust: str) -> None:
    tellers = commands(weather_c, weather_rust, HERE)
    check_stories({language: tell(command) for language, command in tellers.items()}, "fresh")
    with tempfile.TemporaryDirectory() as folder:
        database = str(Path(folder) / "skills.db")
        check_stories({language: tell([*command, database]) for language, command in tellers.items()}, "one database")
    live = {language: progress_on_terminal(command) for language, command in tellers.items()}
    for language, shown in live.items():
        assert shown == live["C"] and shown.endswith("\r\x1b[K") and "\n" not in shown, f"{language}: {shown!r}"


def check_failures(weather_c: str, weather_rust: str) -> None:
    for code, message in BAD_SKILLS.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "examples"
            shutil.copytree(HERE, copy)
            (copy / "skills" / "degree_days.py").write_text(f'"""A bad one."""\n{code}\n')
            for language, command in commands(weather_c, weather_rust, copy).items():
                run = subprocess.run(command, capture_output=True, text=True, timeout=300)
                assert run.returncode == 1, f"{language} says {run.returncode} to a bad skill"
                assert f"weather: {message}" in run.stderr, f"{language}: {run.stderr}"


def check_quickstarts(quickstart_c: str) -> None:
    starts = {"C": [quickstart_c], "Python": [sys.executable, str(HERE / "quickstart.py")]}
    for language, command in starts.items():
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
        assert shown == SHOWN[language], f"the quickstart in {language} prints {shown!r}"
    readme = (HERE.parent / "README.md").read_text()
    for name in ("quickstart.c", "quickstart.py"):
        assert (HERE / name).read_text() in readme, f"README.md does not show examples/{name} as it is"


def check_alone(skill: Path) -> None:
    command = [sys.executable, "-I", str(skill)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=2 if skill.stem in ENDLESS else 300)
    except subprocess.TimeoutExpired:
        assert skill.stem in ENDLESS, f"{skill.name} does not end"
        return
    assert skill.stem not in ENDLESS, f"{skill.name} ends"
    if skill.stem in FAILING:
        assert run.returncode == 1 and FAILING[skill.stem] in run.stderr, f"{skill.name}: {run.stderr}"
    else:
        assert run.returncode == 0 and run.stdout.strip(), f"{skill.name}: {run.stderr or 'prints nothing'}"


def main() -> None:
    weather_c, weather_rust, quickstart_c = sys.argv[1:]
    check_weather(weather_c, weather_rust)
    check_failures(weather_c, weather_rust)
    skills = sorted((HERE / "skills").glob("*.py"))
    assert len(skills) == SKILLS + len(FAILING) + len(ENDLESS), f"{len(skills)} skills"
    for skill in skills:
        check_alone(skill)
    check_quickstarts(quickstart_c)
    print(f"examples: the story is the same in three languages, {len(skills)} skills stand alone, the quickstarts work")


if __name__ == "__main__":
    main()
