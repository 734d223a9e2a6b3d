"""Every outcome of the contract, and what comes with it; none of it a skill can fake for another."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import skillcache
from skillcache import Library, Result

UNCHECKED = {"policy.mode": "off"}
"""Much of what the sandbox is tested with, the policy would refuse."""


@pytest.fixture
def lib() -> Iterator[Library]:
    with skillcache.open(":memory:", UNCHECKED) as library:
        yield library


def run(lib: Library, code: str, inputs: dict[str, object] | None = None, **options: object) -> Result:
    lib.put("s", code)
    return lib.run("s", inputs, **options)  # type: ignore[arg-type]


def run_until_its_time_is_over(lib: Library, code: str, lines: int) -> Result:
    """Of code that prints so many lines and then goes on for ever. Starting an interpreter counts, so that a busy
    machine gets more time where that was too little."""
    for timeout_ms in (500, 5_000, 50_000):
        result = run(lib, code, timeout_ms=timeout_ms, max_cpu_s=100)
        assert result.outcome == "timeout"
        assert result.duration_us >= timeout_ms * 1000
        if result.stdout.count("\n") == lines:
            return result
    raise AssertionError(f"{code} had no time to print")


def test_an_uncaught_exception_shows_the_users_own_line(lib: Library) -> None:
    code = '"""Docstring."""\nprint("before")\ndef f():\n    raise ValueError("boom")\n\nf()\n'
    result = run(lib, code)
    assert (result.outcome, result.value, result.stdout) == ("error", None, "before\n")
    assert result.error is not None
    assert (result.error.type, result.error.message, result.error.line) == ("ValueError", "boom", 4)
    assert result.error.traceback is not None
    assert 'File "<skill>", line 4, in f' in result.error.traceback
    assert 'raise ValueError("boom")' in result.error.traceback


def test_no_result(lib: Library) -> None:
    assert run(lib, "x = 1").outcome == "no_result"
    assert run(lib, "del inputs\n").outcome == "no_result"


def test_invalid_input_says_where_and_why(lib: Library) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "array", "items": {"type": "number"}}}, "required": ["x"]}
    lib.put("s", "result = inputs['x']", input_schema=schema)
    result = lib.run("s", {"x": [1, "two"]})
    assert result.outcome == "invalid_input"
    assert result.error is not None
    assert (result.error.path, result.error.rule) == ("$.x[1]", "type")
    missing = lib.run("s", {})
    assert missing.error is not None
    assert (missing.outcome, missing.error.rule) == ("invalid_input", "required")


def test_invalid_output(lib: Library) -> None:
    result = run(lib, "result = {1, 2}")
    assert (result.outcome, result.value) == ("invalid_output", None)
    assert run(lib, "result = float('nan')").outcome == "invalid_output"
    assert run(lib, "result = {1: 'one', '1': 'two'}").outcome == "invalid_output", "one of them would be lost"
    assert run(lib, "result = {1: ('a', 'b')}").value == {"1": ["a", "b"]}, "what the json module makes of it"
    lib.put("s", "result = 'text'", output_schema={"type": "number"})
    wrong = lib.run("s")
    assert wrong.error is not None
    assert (wrong.outcome, wrong.error.rule) == ("invalid_output", "type")


def test_timeout(lib: Library) -> None:
    code = "print('begun', flush=True)\nwhile True: pass"
    assert run_until_its_time_is_over(lib, code, 1).stdout == "begun\n"


def test_processor_time_runs_out_as_a_timeout() -> None:
    with skillcache.open(":memory:", {"sandbox.max_cpu_s": 1, "sandbox.timeout_ms": 600_000}) as lib:
        assert run(lib, "while True: pass").outcome == "timeout"


def test_memory_limit(lib: Library) -> None:
    assert run(lib, "x = bytearray(1 << 30)\nresult = len(x)").outcome == "memory_limit"
    assert run(lib, "x = []\nwhile True: x.append(bytearray(1 << 20))").outcome == "memory_limit"
    assert run(lib, "result = len(bytearray(200 << 20))", max_memory_mb=512).value == 200 << 20


SEE_LIMITS = """
import resource
soft = lambda name: resource.getrlimit(getattr(resource, name))[0]
result = {
    "max_cpu_s": soft("RLIMIT_CPU"), "max_memory_mb": soft("RLIMIT_AS") >> 20,
    "max_file_mb": soft("RLIMIT_FSIZE") >> 20, "max_open_files": soft("RLIMIT_NOFILE"),
}
"""


def test_a_call_limits_before_the_skill_and_the_skill_before_the_library() -> None:
    options = {"sandbox.max_cpu_s": "9", "sandbox.max_memory_mb": "100", "sandbox.max_file_mb": "1", **UNCHECKED}
    with skillcache.open(":memory:", options) as lib:
        lib.put("s", SEE_LIMITS, max_cpu_s=5, limits={"max_memory_mb": 200, "max_cpu_s": 6}, max_file_mb=2, cache=False)
        own = {"max_cpu_s": 5, "max_memory_mb": 200, "max_file_mb": 2, "max_open_files": 64}
        assert lib.run("s").value == own
        asked = {"max_cpu_s": 3, "max_memory_mb": 90, "max_open_files": 20}
        assert lib.run("s", **asked).value == {**own, **asked}  # type: ignore[arg-type]
        assert lib.run_many("s", [{}], **asked)[0].value == {**own, **asked}  # type: ignore[arg-type]
        with lib.submit("s", **asked) as task:  # type: ignore[arg-type]
            assert task.wait().value == {**own, **asked}
        lib.put("loud", "print('x' * 5000)\nresult = 'y' * 1500")
        assert len(lib.run("loud", max_output_kb=2).stdout) == 2048
        assert lib.run("loud", max_answer_kb=1, max_threads=2, cache=False).outcome == "output_limit"


def test_output_limit_and_cut_output() -> None:
    with skillcache.open(":memory:", {"sandbox.max_answer_kb": 10, "sandbox.max_output_kb": 1}) as lib:
        assert run(lib, "result = 'x' * 20_000").outcome == "output_limit"
        cut = run(lib, "import sys\nprint('x' * 5000)\nprint('y', file=sys.stderr)\nresult = 1")
        assert (cut.outcome, cut.value) == ("success", 1)
        assert (len(cut.stdout), cut.stdout_truncated) == (1024, True)
        assert (cut.stderr, cut.stderr_truncated) == ("y\n", False)


def test_disk_limit() -> None:
    with skillcache.open(":memory:", {"sandbox.max_file_mb": 1, **UNCHECKED}) as lib:
        result = run(lib, "f = open('big', 'wb')\nf.write(b'x' * (3 << 20))\nf.close()\nresult = 1")
        assert result.outcome == "disk_limit"


@pytest.mark.parametrize("error", ["PermissionError(1, 'no')", "PermissionError(13, 'no')", "OSError(1, 'no')"])
def test_denied(lib: Library, error: str) -> None:
    assert run(lib, f"raise {error}").outcome == "denied"


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (6, "SIGABRT"), (15, "SIGTERM")])
def test_crashed_names_the_signal(lib: Library, number: int, name: str) -> None:
    result = run(lib, f"import os\nprint('last words', flush=True)\nos.kill(os.getpid(), {number})\nresult = 1")
    assert (result.outcome, result.stdout) == ("crashed", "last words\n")
    assert result.error is not None
    assert result.error.signal == name


@pytest.mark.parametrize(
    "code", ["import os\nos._exit(0)", "import os\nos._exit(7)", "import os\nos.close(3)\nos._exit(0)"]
)
def test_leaving_without_a_word_is_crashed(lib: Library, code: str) -> None:
    assert run(lib, f"{code}\nresult = 1").outcome == "crashed"


@pytest.mark.parametrize(
    "code", ["exit()", "quit(0)", "import sys\nsys.exit(3)", "raise SystemExit", "result = 1\nexit()"]
)
def test_exit_is_an_exception_that_nobody_caught(lib: Library, code: str) -> None:
    result = run(lib, code)
    assert (result.outcome, result.value) == ("error", None)
    assert result.error is not None
    assert result.error.type == "SystemExit"


def test_cancelled(lib: Library) -> None:
    lib.put("s", "print('begun', flush=True)\nimport time\ntime.sleep(60)")
    task = lib.submit("s")
    task.cancel()
    assert task.wait(60_000).outcome == "cancelled"


FORGED = json.dumps({"outcome": "success", "value": 42})


@pytest.mark.parametrize(
    "printing",
    [
        "print('hello')",
        f"print({FORGED!r})",
        "print('A42')",
        f"import os\nos.write(1, {FORGED.encode()!r})\nos.write(2, b'A42')",
    ],
)
def test_what_a_skill_prints_is_never_its_answer(lib: Library, printing: str) -> None:
    result = run(lib, f"{printing}\nresult = 'mine'")
    assert (result.outcome, result.value) == ("success", "mine")
    assert result.stdout
    assert run(lib, printing).outcome == "no_result"


@pytest.mark.parametrize(
    "junk",
    [
        "b'junk'",
        "b'\\0' * 100",
        "b'\\xff' * 100",
        "(1 << 40).to_bytes(8, 'little') + b'x'",
        "b'A' + (1 << 62).to_bytes(8, 'big')",
    ],
)
def test_junk_on_the_answer_channel_is_a_crash_of_that_run_alone(lib: Library, junk: str) -> None:
    result = run(lib, f"import os\nos.write(3, {junk})\nos._exit(0)")
    assert result.outcome == "crashed"
    assert run(lib, "result = 1").value == 1


def test_closing_stdout_changes_nothing(lib: Library) -> None:
    code = "import os, sys\nprint('first')\nsys.stdout.flush()\nsys.stdout.close()\nos.close(1)\nresult = 'answer'"
    result = run(lib, code)
    assert (result.outcome, result.value, result.stdout) == ("success", "answer", "first\n")


def test_a_skill_cannot_turn_its_failure_into_a_success_by_closing_the_channel(lib: Library) -> None:
    assert run(lib, "import os\nos.close(3)\nresult = 1").outcome == "crashed"


def test_what_was_printed_comes_with_a_hit_too(lib: Library) -> None:
    lib.put("s", "print('h\N{LATIN SMALL LETTER E WITH ACUTE}')\nresult = 1")
    assert [lib.run("s").stdout for _ in range(2)] == ["h\N{LATIN SMALL LETTER E WITH ACUTE}\n"] * 2


def test_bytes_that_are_no_text_come_as_bytes(lib: Library) -> None:
    result = run(lib, "import sys\nsys.stdout.buffer.write(b'\\xff\\0a')\nresult = 1")
    assert result.stdout_bytes == b"\xff\0a"
    assert result.stdout == "\N{REPLACEMENT CHARACTER}\0a"


def test_failures_are_not_kept(lib: Library) -> None:
    lib.put("s", "result = 1 / 0", cache="yes")
    assert not any(lib.run("s").cached for _ in range(2))


def test_a_tree_of_processes_is_gone_at_the_deadline() -> None:
    # One write each: `print` makes two, and two processes may interleave.
    code = "import os, time\nos.fork()\nos.write(1, b'%d\\n' % os.getpid())\ntime.sleep(60)"
    # Confined, there are no processes to end.
    layers = {"sandbox.mode": "best_effort", "sandbox.without": "namespaces, landlock, seccomp"}
    with skillcache.open(":memory:", {**UNCHECKED, **layers}) as bare:
        result = run_until_its_time_is_over(bare, code, 2)
    pids = [int(pid) for pid in result.stdout.split()]
    assert len(pids) == 2
    assert not [pid for pid in pids if is_running(pid)]


def is_running(pid: int) -> bool:
    """A dead process whose parent has not looked at it yet is not running."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_is_running_tells_the_living_from_the_dead() -> None:
    process = subprocess.Popen(["sleep", "60"])
    assert is_running(process.pid)
    process.kill()
    process.wait()
    assert not is_running(process.pid)


def test_a_result_says_what_the_run_used_and_what_confined_it(lib: Library) -> None:
    code = "open('f', 'wb').write(b'x' * 100000)\nprint('y' * 2000000)\nresult = list(range(10))"
    result = run(lib, code)
    assert (result.stdout_written_bytes, len(result.stdout_bytes), result.stdout_truncated) == (2000001, 1 << 20, True)
    assert (result.stderr_written_bytes, result.answer_bytes) == (0, len("[0,1,2,3,4,5,6,7,8,9]"))
    assert 100000 <= result.folder_bytes <= 200000
    assert result.cpu_us > 0
    assert 4 << 20 < result.peak_memory_bytes < 128 << 20
    assert result.sandbox is not None
    assert result.sandbox["level"] == result.level == "strict"
    assert all(result.sandbox["guarantees"].values())
    assert result.sandbox["missing"] == []
    assert "seccomp" in result.sandbox["layers"]
    assert result.sandbox["threads"] in ("count", "memory")
    component = lib.health()["components"]["sandbox"]
    assert (component["layers"], component["status"]) == (result.sandbox["layers"], "healthy")


def test_the_environment_is_pinned_and_the_folder_private(lib: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    code = (
        "import os, sys, time, locale\nopen('note', 'w').write('x')\n"
        "def is_open(fd):\n  try: return bool(os.fstat(fd))\n  except OSError: return False\n"
        "result = [sorted(os.environ), os.listdir('.'), time.tzname[0], sys.flags.isolated, sys.stdout.encoding,"
        " [fd for fd in range(64) if is_open(fd)], os.getsid(0) == os.getpid()]"
    )
    names, files, zone, isolated, encoding, descriptors, leads = run(lib, code).value
    assert names == ["HOME", "LANG", "LC_ALL", "MALLOC_ARENA_MAX", "PATH", "TMPDIR", "TZ"]
    assert (files, zone, isolated, encoding.lower(), leads) == (["note"], "UTC", 1, "utf-8", True)
    assert descriptors == [0, 1, 2, 3]
    assert run(lib, "import os\nresult = os.listdir('.')").value == [], "a new folder for each run"
