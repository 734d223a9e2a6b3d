"""The picture of a library, in a real browser: a library with hostile texts in it is used and its statistics are saved,
as a host would; the page made of both must show everything, load nothing and run nothing. SKC_REPORT is the program."""

from __future__ import annotations

import contextlib
import html.parser
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import skillcache

REPORT = os.environ["SKC_REPORT"]
assert shutil.which("chromium"), "chromium is missing (Debian's package chromium)"
PATIENCE_S = 120
SECTIONS = ["headline", "advice", "outcomes", "skills", "latency", "caches", "load", "memory", "sandbox", "events"]
HOSTILE = [
    "<script>document.title='owned'</script>",
    '"><img src="http://leak.invalid/a.png" onerror="document.title=\'owned\'">',
    "' autofocus onfocus='document.title=1' x='",
    "]]></title></style></svg><svg onload=\"document.title='owned'\">",
    "\u202egnp.exe\u2066",
    "--><iframe src='http://leak.invalid/frame'></iframe><!--",
    "n" * 10_000,
]
POLICY = '<meta http-equiv="Content-Security-Policy"'
# Without its policy and with a script of ours, a copy of the page in a frame says how its drawings came out.
MEASURE = """<script>
const drawings = [...document.querySelectorAll('svg')].map(svg => {
    const box = svg.getBoundingClientRect();
    const line = svg.querySelector('polyline');
    return {title: svg.querySelector('title').textContent, width: box.width, height: box.height,
        shapes: svg.querySelectorAll('rect, polyline, polygon').length, length: line ? line.getTotalLength() : 0};
});
const bar = document.querySelector('svg rect[fill]');
const measured = {drawings, title: document.title, width: innerWidth, needed: document.documentElement.scrollWidth,
    scripts: document.scripts.length, odd: document.querySelectorAll('img, iframe, link, a, [onload]').length,
    paper: getComputedStyle(document.documentElement).backgroundColor, bar: getComputedStyle(bar).fill};
const out = document.createElement('pre');
out.id = 'measured';
out.textContent = JSON.stringify(measured);
parent.document.body.append(out);
</script>"""
SWITCHES = """headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking
    disable-component-update disable-sync disable-dev-shm-usage hide-scrollbars enable-logging=stderr"""
# What the browser asks for by itself.
OF_THE_BROWSER = (".google.com", ".googleapis.com")


class Trap:
    """The one proxy that the browser knows: it remembers who was asked for, and answers nobody."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            with connection:
                connection.settimeout(5)
                try:
                    line = connection.recv(4096).decode(errors="replace").split("\r\n")[0]
                except OSError:
                    continue
            if line == "END":
                return
            self.asked.append(line)

    def end(self) -> None:
        with socket.create_connection(self.socket.getsockname()) as connection:
            connection.sendall(b"END\r\n")
        self.thread.join(PATIENCE_S)
        self.socket.close()

    def of_the_page(self) -> list[str]:
        def host(line: str) -> str:
            return line.split(" ")[1].removeprefix("http://").split("/")[0].split(":")[0] if " " in line else line

        return [line for line in self.asked if not host(line).endswith(OF_THE_BROWSER)]


class Visit:
    """What came of opening a page: its document at the end, what the console said, what was asked of the network."""

    def __init__(self, page: Path, *arguments: str) -> None:
        trap, profile = Trap(), tempfile.mkdtemp()
        try:
            output, log = browse(page, profile, trap.address, arguments)
        finally:
            trap.end()
            shutil.rmtree(profile, ignore_errors=True)
        self.dom = output
        self.console = [line for line in log.splitlines() if ":CONSOLE:" in line]
        self.asked = trap.of_the_page()


def browse(page: Path, profile: str, proxy: str, arguments: tuple[str, ...]) -> tuple[str, str]:
    command = ["chromium", *(f"--{switch}" for switch in SWITCHES.split())]
    command += [f"--user-data-dir={profile}", f"--proxy-server={proxy}"]
    command += [*arguments, page.as_uri()]
    # In a session of its own, so that all of it is ended with it.
    browser = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        output, log = browser.communicate(timeout=PATIENCE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(browser.pid, signal.SIGKILL)
        browser.wait(PATIENCE_S)
    assert browser.returncode == 0, log
    return output, log


def dump(page: Path, *arguments: str) -> Visit:
    return Visit(page, "--dump-dom", *arguments)


class Elements(html.parser.HTMLParser):
    """The names of the elements, the ids of the sections, and the attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: set[str] = set()
        self.sections: list[str] = []
        self.title = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag == "section":
            self.sections.append(dict(attrs)["id"] or "")

    def handle_data(self, data: str) -> None:
        if self.names and self.names[-1] == "title" and not self.title:
            self.title = data


def report(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([REPORT, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_S)


def use(library: skillcache.Library) -> None:
    """Some seconds of runs, of which some fail, by skills whose names and descriptions mean harm."""
    for number, text in enumerate(HOSTILE):
        about: dict[str, Any] = {
            "name": text,
            "description": text,
            "category": text[:60],
            "tags": [text[:100], "plain"],
        }
        library.put(f"skill.{number}", f"result = sum(inputs['x']) + {number}", **about)
    library.put("broken", "result = 1 / inputs['x'][0]", description=HOSTILE[0])
    library.put("endless", "while True:\n    pass", description=HOSTILE[1])
    end = time.monotonic() + 4
    turn = 0
    while time.monotonic() < end:
        for number in range(len(HOSTILE)):
            assert library.run(f"skill.{number}", {"x": [turn, turn % 3]}).outcome == "success"
            assert library.run(f"skill.{number}", {"x": [turn, turn % 3]}).cached
        assert library.run("broken", {"x": [0]}).outcome == "error"
        turn += 1
    assert library.run("endless", {}, timeout_ms=200).outcome == "timeout"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with skillcache.open(str(folder / "skills.db"), {"monitor.history_interval_s": 1}) as library:
            use(library)
            saved = {"stats": library.stats(), "history": library.history(), "health": library.health()}
            saved["recommendations"] = library.recommendations()
            saved["events"] = list(library.events())
        saved["health"]["components"]["pool"]["message"] = HOSTILE[3]
        advice = {
            "rule": "x",
            "severity": "warning",
            "message": HOSTILE[0],
            "remedy": HOSTILE[1],
            "evidence": {HOSTILE[3]: 1},
        }
        saved["recommendations"].append(advice)
        (folder / "stats.json").write_text(json.dumps(saved))
        (folder / "bare.json").write_text(json.dumps(saved["stats"]))
        yield folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    page = folder / "report.html"
    before = (folder / "skills.db").read_bytes()
    run = report(folder / "skills.db", "--stats", folder / "stats.json", "--out", page)
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{page}\n"
    assert (folder / "skills.db").read_bytes() == before, "the library was written to"
    return page


def measure(page: Path, width: int, *arguments: str) -> dict[str, Any]:
    text = page.read_text()
    assert text.count(POLICY) == 1
    text = text.replace(POLICY, "<meta name=off").replace("</body>", MEASURE + "</body>")
    frame = page.with_name("frame.html")
    frame.write_text(f'<!DOCTYPE html><iframe width="{width}" height="900" srcdoc="{html.escape(text)}"></iframe>')
    visit = dump(frame, "--window-size=1400,1000", *arguments)
    assert not visit.asked
    text = visit.dom.split('<pre id="measured">')[1].split("</pre>")[0]
    measured: dict[str, Any] = json.loads(html.unescape(text))
    return measured


def test_everything_is_there_and_nothing_else_happens(page: Path) -> None:
    visit = dump(page)
    assert not visit.console
    assert not visit.asked
    elements = Elements(visit.dom)
    assert elements.sections == SECTIONS
    assert elements.title == "skills.db · skillcache"
    assert not {"script", "img", "iframe", "link", "object", "a", "form", "input"} & set(elements.names)
    assert not {name for name in elements.attributes if name.startswith("on") or name in ("src", "href", "autofocus")}
    assert "Nothing yet" not in visit.dom
    for text in ("skill.6", "broken", "endless", "timeout <b>1</b>", "‹U+202E›gnp.exe‹U+2066›"):
        assert text in visit.dom, text
    assert "n" * 200 not in visit.dom


def test_what_would_be_an_escape_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "escape.html"
    escape = (
        "<!DOCTYPE html><title>t</title><img src='http://leak.invalid/a.png'><script>document.title = 'owned'</script>"
    )
    page.write_text(escape)
    visit = dump(page)
    assert any("http://leak.invalid/a.png" in line for line in visit.asked)
    assert Elements(visit.dom).title == "owned"
    page.write_text(escape.replace("<title>", POLICY + " content=\"default-src 'none'\"><title>"))
    visit = dump(page)
    assert not visit.asked
    assert len(visit.console) == 2
    assert Elements(visit.dom).title == "t"


def test_drawings_have_their_size_and_hostile_text_stays_text_without_the_policy(page: Path) -> None:
    measured = measure(page, 1200)
    assert (measured["title"], measured["scripts"], measured["odd"]) == ("skills.db · skillcache", 1, 0)
    shown = [drawing for drawing in measured["drawings"] if drawing["width"]]
    titles = [drawing["title"] for drawing in shown]
    assert len(set(titles)) == len(titles) == 8, titles
    for drawing in shown:
        assert drawing["width"] > 250 and drawing["height"] > 120 and drawing["shapes"] > 0, drawing
    curves = [drawing for drawing in shown if drawing["title"].endswith("over time")]
    assert len(curves) == 6 and all(drawing["length"] > 500 for drawing in curves), curves


@pytest.mark.parametrize(("width", "paper"), [(340, "light"), (1200, "dark"), (800, "dark")])
def test_it_fits_the_screen_in_both_schemes(page: Path, width: int, paper: str) -> None:
    scheme = "--blink-settings=preferredColorScheme=" + ("0" if paper == "dark" else "1")
    measured = measure(page, width, scheme)
    assert measured["needed"] <= measured["width"] == width
    colours = {"light": ("rgb(252, 252, 250)", "rgb(76, 134, 181)"), "dark": ("rgb(21, 24, 27)", "rgb(90, 151, 204)")}
    assert (measured["paper"], measured["bar"]) == colours[paper]


def picture(png: bytes) -> tuple[int, int, int]:
    """Width, height, and how many different bytes there are in a picture: few in an empty one."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    place, pixels = 8, b""
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        if kind == b"IDAT":
            pixels += png[place + 8 : place + 8 + length]
        place += length + 12
    return width, height, len(set(zlib.decompress(pixels)))


def test_a_picture_can_be_taken(page: Path, tmp_path: Path) -> None:
    Visit(page, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,3000")
    width, height, bytes_used = picture((tmp_path / "page.png").read_bytes())
    assert (width, height) == (1200, 3000)
    assert bytes_used > 100
    empty = tmp_path / "empty.html"
    empty.write_text("<!DOCTYPE html><title>t</title>")
    Visit(empty, f"--screenshot={tmp_path / 'empty.png'}", "--window-size=1200,3000")
    assert picture((tmp_path / "empty.png").read_bytes())[2] < 10


def test_a_library_alone_and_bare_statistics_are_enough(folder: Path, tmp_path: Path) -> None:
    for arguments in ([], ["--stats", folder / "bare.json"]):
        out = tmp_path / "alone.html"
        run = report(folder / "skills.db", *arguments, "--out", out)
        assert run.returncode == 0, run.stderr
        visit = dump(out)
        assert not visit.console and not visit.asked
        assert Elements(visit.dom).sections == SECTIONS
        assert "Nothing yet" in visit.dom and "Runs by outcome and day" in visit.dom


def test_a_sample_is_made_where_there_is_no_library(tmp_path: Path) -> None:
    out = tmp_path / "sample.html"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    run = subprocess.run(
        [REPORT, "--out", str(out)], capture_output=True, text=True, timeout=PATIENCE_S, env=environment
    )
    assert run.returncode == 0, run.stderr
    assert os.listdir(tmp_path) == ["sample.html"]
    visit = dump(out)
    assert not visit.console and not visit.asked
    assert "Nothing yet" not in visit.dom
    for outcome in ("error", "timeout", "memory limit", "no result", "output limit", "invalid input", "cancelled"):
        assert f"{outcome} <b>" in visit.dom, outcome


def test_what_cannot_be_read_is_one_line_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, and was never one\n" * 100)
    (tmp_path / "empty.db").write_bytes(b"")
    damaged = bytearray((folder / "skills.db").read_bytes())
    damaged[100:] = os.urandom(len(damaged) - 100)
    (tmp_path / "damaged.db").write_bytes(damaged)
    (tmp_path / "half.json").write_text('{"stats": {"runs": ')
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "other.json").write_text('{"unrelated": 1}')
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{}")
    library, before = folder / "skills.db", sorted(os.listdir(tmp_path))
    wrong: list[list[str | Path]] = [
        [tmp_path / name] for name in ("", "missing.db", "text.db", "empty.db", "damaged.db")
    ]
    wrong += [
        [library, "--stats", tmp_path / name] for name in ("", "missing.json", *(n for n in before if "json" in n))
    ]
    for arguments in wrong:
        run = report(*arguments, "--out", tmp_path / "out.html")
        assert run.returncode == 2, (arguments, run)
        assert run.stderr.startswith("report: ") and run.stderr.count("\n") == 1 and not run.stdout, run
        # SQLite's own files beside a library are not ours.
        left = [name for name in os.listdir(tmp_path) if not name.endswith(("-shm", "-wal"))]
        assert sorted(left) == before, arguments
    for out in (tmp_path, tmp_path / "no" / "out.html", library):
        run = report(library, "--out", out)
        assert run.returncode == 2 and run.stderr.count("\n") == 1, (out, run)
    assert library.read_bytes().startswith(b"SQLite format 3\0")
