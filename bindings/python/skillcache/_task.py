"""A run that goes on in the background."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ctypes import byref, c_void_p
from types import TracebackType
from typing import TYPE_CHECKING, Optional

from ._bindings import E_FORKED, OK, PENDING, C
from ._errors import TimeoutError, from_status
from ._handle import TaskHandle
from ._result import Result

if TYPE_CHECKING:
    from ._library import Library

_SLICE_MS = 100
"""How long a wait stays inside the library before Python gets to see its signals, Ctrl-C for one."""


class Task:
    """A run that `Library.submit` started. Any thread may use it; close it, or use it in a with-statement.

    It outlives the library: waiting for it then raises CancelledError.
    """

    def __init__(self, handle: int, library: Library) -> None:
        self._handle = TaskHandle("task", handle)
        # A task of a library that nobody else keeps would be cancelled by its finaliser.
        self._library = library

    def poll(self) -> bool:
        """Whether the run is finished."""
        status = self._handle.get(C.skc_task_poll)
        if status not in (OK, PENDING):
            raise from_status(status)
        return bool(status == OK)

    def wait(self, timeout_ms: int = -1) -> Result:
        """The result, as soon as the run is finished; a new copy at each call. A negative time waits for ever.

        Raises TimeoutError when the time ran out (the run goes on), CancelledError when the library was closed. A
        cancelled run has the outcome ``"cancelled"``. Ctrl-C interrupts the wait, not the run.
        """
        result = c_void_p()
        for slice_ms, is_last in wait_slices(timeout_ms):
            try:
                self._handle.call(C.skc_task_wait, slice_ms, byref(result))
            except TimeoutError:
                if is_last:
                    raise
            else:
                break
        return Result.take(result.value)

    def cancel(self) -> None:
        """Ends the run: a waiting one at once, a running one when its child is gone; a finished one stays as it is."""
        status = self._handle.get(C.skc_task_cancel)
        if status != OK:
            raise from_status(status)

    @property
    def fd(self) -> int:
        """A descriptor that becomes readable when the run is finished, for select and asyncio; the task owns it."""
        descriptor = int(self._handle.get(C.skc_task_fd))
        if descriptor < 0:
            raise from_status(E_FORKED)
        return descriptor

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._handle.closed

    def close(self) -> None:
        """Lets go of the task; a run that is not finished goes on without it. May be called again."""
        self._handle.close()

    def __enter__(self) -> Task:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle is not None and not handle.closed:
            handle.close()

    def __repr__(self) -> str:
        return f"<Task {'closed' if self.closed else 'finished' if self.poll() else 'running'}>"


def wait_slices(timeout_ms: int) -> Iterator[tuple[int, bool]]:
    """Cuts a wait into short ones: pairs of milliseconds and whether it is the last. Negative waits for ever."""
    if timeout_ms < 0:
        while True:
            yield _SLICE_MS, False
    deadline = time.monotonic() + timeout_ms / 1000
    while True:
        left_ms = max(0, round((deadline - time.monotonic()) * 1000))
        yield min(left_ms, _SLICE_MS), left_ms <= _SLICE_MS
