"""Threads share a library, forks do not, and closing is safe whenever it happens."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Gate

import skillcache
from skillcache import Library

SLEEP = "import time\nprint('begun', flush=True)\ntime.sleep(inputs.get('s', 60))\nresult = 'awake'"


def in_threads(count: int, work: Callable[[int], None]) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert not failures, failures
    assert not any(thread.is_alive() for thread in threads)


def test_threads_share_one_library(lib: Library) -> None:
    lib.put("add", "result = inputs['a'] + inputs['b']")

    def work(number: int) -> None:
        lib.put(f"own{number}", f"result = {number}")
        for step in range(20):
            assert lib.run("add", {"a": step % 4, "b": 1}).value == step % 4 + 1
        assert lib.run(f"own{number}").value == number

    in_threads(8, work)
    assert lib.stats()["runs"]["total"] == 8 * 21
    assert len(lib.list()) == 9


def test_two_libraries_do_not_know_each_other(lib: Library) -> None:
    with skillcache.open(":memory:") as other:
        lib.put("s", "result = 1")
        other.put("s", "result = 2")
        assert (lib.run("s").value, other.run("s").value) == (1, 2)


def test_close_cancels_what_runs_and_refuses_what_comes(lib: Library) -> None:
    lib.put("sleep", SLEEP)
    ended: list[object] = []

    def sleep() -> None:
        try:
            ended.append(lib.run("sleep").outcome)
        except (skillcache.CancelledError, skillcache.ClosedError) as error:
            ended.append(type(error))

    threads = [threading.Thread(target=sleep) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    begin = time.monotonic()
    lib.close()
    for thread in threads:
        thread.join(20)
    assert time.monotonic() - begin < 20, "nobody waited for the sleepers to wake up"
    assert len(ended) == 4
    with pytest.raises(skillcache.ClosedError):
        lib.run("sleep")


def test_close_while_threads_keep_calling() -> None:
    for _ in range(10):
        lib = skillcache.open(":memory:")
        lib.put("one", "result = 1")
        lib.run("one")
        started = threading.Barrier(5)

        def work(number: int, lib: Library = lib, started: threading.Barrier = started) -> None:
            started.wait()
            try:
                while True:
                    lib.run("one")
            except (skillcache.ClosedError, skillcache.CancelledError):
                pass

        closer = threading.Thread(target=lambda lib=lib, started=started: (started.wait(), lib.close()))
        closer.start()
        in_threads(4, work)
        closer.join(60)


def test_close_from_a_callback() -> None:
    closed = threading.Event()

    def on_event(event: dict[str, object]) -> None:
        if event["kind"] == "skill_put":
            lib.close()
            closed.set()

    lib = skillcache.open(":memory:", on_event=on_event)
    lib.put("one", "result = 1")
    assert closed.wait(60)
    with pytest.raises(skillcache.ClosedError):
        lib.stats()
    lib.close()


@pytest.fixture
def occupied() -> Iterator[tuple[Library, skillcache.Task, skillcache.Task]]:
    """A library whose one worker and whose one place in the queue are taken, and both tasks."""
    with skillcache.open(":memory:", {"task.workers": 1, "task.queue": 1}) as lib:
        lib.put("sleep", SLEEP)

        def submit() -> skillcache.Task:
            while True:
                # Busy means that the worker has not taken the first one yet.
                with contextlib.suppress(skillcache.BusyError):
                    return lib.submit("sleep")
                time.sleep(0.005)

        yield lib, submit(), submit()


def test_a_waiting_task_is_cancelled_at_once_and_its_place_is_free(
    occupied: tuple[Library, skillcache.Task, skillcache.Task],
) -> None:
    lib, running, waiting = occupied
    with pytest.raises(skillcache.BusyError, match=r"task\.queue"):
        lib.submit("sleep")
    assert select.select([waiting.fd], [], [], 0)[0] == []
    assert not waiting.poll()
    waiting.cancel()
    assert waiting.poll()
    assert select.select([waiting.fd], [], [], 0)[0] == [waiting.fd]
    assert waiting.wait(0).outcome == "cancelled"
    assert not running.poll()
    inputs = {"s": 0}
    following = lib.submit("sleep", inputs)
    inputs["s"] = 60  # What was submitted was copied.
    running.cancel()
    assert (following.wait().value, running.wait().outcome) == ("awake", "cancelled")


def test_close_ends_a_running_and_a_waiting_task(occupied: tuple[Library, skillcache.Task, skillcache.Task]) -> None:
    lib, running, waiting = occupied
    lib.close()
    for task in (running, waiting):
        assert task.poll()
        with pytest.raises(skillcache.CancelledError):
            task.wait()


def in_child(work: Callable[[], None]) -> None:
    """Runs `work` in a child of fork(); an exception there fails the test here."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_forked_child_is_refused_and_the_parent_works_on(tmp_path: Path) -> None:
    path = tmp_path / "skills.db"
    with skillcache.open(path) as lib:
        lib.put("one", "result = 1")
        result, skill, task = lib.run("one"), lib.get("one"), lib.submit("one")

        def child() -> None:
            with pytest.raises(skillcache.ForkedError):
                _ = lib.event_fd
            with pytest.raises(skillcache.ForkedError):
                _ = task.fd
            for call in (lib.stats, lib.list, lambda: lib.run("one"), lambda: lib.put("two", "result = 2"), task.wait):
                with pytest.raises(skillcache.ForkedError):
                    call()
            assert (result.value, skill.code) == (1, "result = 1")
            task.close()
            lib.close()

        in_child(child)
        assert lib.run("one").cached
        assert task.wait(60_000).value == 1
        assert lib.put("two", "result = 2") == 1
    with skillcache.open(path) as lib:
        assert [skill.id for skill in lib.list()] == ["one", "two"]


def test_forked_children_share_no_trace_ids(lib: Library) -> None:
    lib.put("one", "result = 1")
    seen = {lib.run("one").trace_id}
    for _ in range(2):
        reader, writer = os.pipe()

        def child() -> None:
            with skillcache.open(":memory:") as own:
                own.put("one", "result = 1")
                os.write(writer, own.run("one").trace_id.encode())  # noqa: B023

        in_child(child)
        seen.add(os.read(reader, 64).decode())
        os.close(reader)
        os.close(writer)
    assert len({trace_id[:16] for trace_id in seen}) == 3


def test_a_child_forked_while_no_call_is_under_way_may_open_its_own(lib: Library) -> None:
    lib.put("one", "result = 1")
    assert lib.run("one").value == 1

    def child() -> None:
        with skillcache.open(":memory:") as own:
            own.put("two", "result = 2")
            assert own.run("two").value == 2

    in_child(child)


def test_ctrl_c_interrupts_a_wait_and_not_the_run(held: Library, gate: Gate) -> None:
    task = held.submit("s")

    def wait() -> None:
        # Not before somebody expects it.
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        task.wait()

    with pytest.raises(KeyboardInterrupt):
        wait()
    gate.open()
    assert task.wait(60_000).value == "awake"


def test_a_forgotten_library_is_closed_with_a_warning() -> None:
    lib = skillcache.open(":memory:")
    lib.put("one", "result = 1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del lib
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert "unclosed <Library ':memory:'>" in str(caught[0].message)


IN_THE_BACKGROUND = "threading.Thread(target=lambda: lib.run('sleep'), daemon=True).start(); time.sleep(0.3)"


@pytest.mark.parametrize("ending", ["", "lib.close()", "task = lib.submit('sleep')", IN_THE_BACKGROUND])
def test_a_program_ends_with_an_open_library(ending: str) -> None:
    """Nothing hangs or crashes, whatever is under way."""
    program = f"""
import skillcache, threading, time
lib = skillcache.open(":memory:", on_event=lambda event: None)
lib.put("sleep", "import time; time.sleep(60)")
{ending}
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
