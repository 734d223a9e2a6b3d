"""compare.py FOLDER: the three tellings agree but for times and language, the quickstarts print what README says,
README shows them as they are, and every skill stands alone as a script."""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SHOWN = {"quickstart-c.txt": "3.0 executed\n3.0 from memory\n"}
SHOWN["quickstart-python.txt"] = "success 3.0 executed\nsuccess 3.0 from memory\n"
FAILING = {"broken": "KeyError: 'humidity'"}
ENDLESS = {"endless"}


def told(path: Path) -> str:
    story = re.sub(r" *\b[0-9.]+ (us|ms)\b", " TIME", path.read_text())
    return re.sub(r"asked from \w+", "asked from LANGUAGE", story)


def stands_alone(skill: Path) -> None:
    run = subprocess.run([sys.executable, "-I", str(skill)], capture_output=True, text=True, timeout=60)
    expected = FAILING.get(skill.stem)
    if expected is None:
        assert run.returncode == 0, f"{skill.name}: {run.stderr}"
        assert run.stdout.strip(), f"{skill.name} prints nothing"
    else:
        assert run.returncode == 1 and expected in run.stderr, f"{skill.name}: {run.stderr}"


def main() -> None:
    folder = Path(sys.argv[1])
    stories = {language: told(folder / f"{language}.txt") for language in ("c", "python", "rust")}
    for language, story in stories.items():
        assert story == stories["c"], f"{language} and C tell different stories:\n{story}\n{stories['c']}"
        assert story.count(" success ") >= 7 and story.endswith("process-only\n"), f"{language} stops early:\n{story}"
    for name, text in SHOWN.items():
        assert (folder / name).read_text() == text, f"{name}: {(folder / name).read_text()!r}"
    readme = (HERE.parent / "README.md").read_text()
    for name in ("quickstart.c", "quickstart.py"):
        assert (HERE / name).read_text() in readme, f"README.md does not show examples/{name} as it is"
    skills = [skill for skill in sorted((HERE / "skills").glob("*.py")) if skill.stem not in ENDLESS]
    for skill in skills:
        stands_alone(skill)
    print(f"the story is the same in {len(stories)} languages; {len(skills)} skills stand alone")


if __name__ == "__main__":
    main()
