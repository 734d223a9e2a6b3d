"""C handles that any thread may use while another one closes them.

After the free a handle must never be used again, but between the moment when a thread looks at it and the moment when
it is inside the C function lies a gap in which the thread may be suspended. So every call is recorded before it goes,
and the handle is freed when the last one is back: a task's when it is closed, a library's after
`skc_library_shut_down`, which makes its calls end.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from ctypes import byref, c_void_p
from typing import Any, Callable, ClassVar, Optional

from ._bindings import E_CLOSED, E_FORKED, OK, C
from ._errors import Error, from_status, take


class Handle:
    """A C handle, the calls that use it, and whether it is closed. Any thread may use every method."""

    _live: ClassVar[weakref.WeakSet[Handle]] = weakref.WeakSet()

    def __init__(self, name: str, handle: int) -> None:
        self._name = name
        self._handle: Optional[int] = handle
        self._closing = False
        # The calls on their way, and their threads.
        self._calls: dict[object, int] = {}
        # Re-entrant: a signal handler or a finaliser may run in the middle of the few lines that hold it.
        self._lock = threading.RLock()
        Handle._live.add(self)

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        return self._closing

    def call(self, function: Callable[..., int], *arguments: object) -> None:
        """Calls ``function(handle, *arguments, err)`` and raises what it reports. No lock is held meanwhile."""
        error, call = c_void_p(), object()
        try:
            with self._lock:
                handle = self._checked()
                self._calls[call] = threading.get_ident()
            status = function(handle, *arguments, byref(error))
        finally:
            with self._lock:
                self._calls.pop(call, None)
                self._left()
        if status != OK:
            raise take(status, error.value)

    def get(self, function: Callable[[int], Any]) -> Any:
        """Calls ``function(handle)``, which must be one that never blocks."""
        with self._lock:
            return function(self._checked())

    def _checked(self) -> int:
        if self._closing or self._handle is None:
            raise self.closed_error()
        return self._handle

    def closed_error(self) -> Error:
        """What a call gets that comes too late."""
        return from_status(E_CLOSED, f"the {self._name} is closed")

    def _left(self) -> None:
        """A call has left; the lock is held."""

    def _forked(self) -> None:
        """Only the thread that called fork() lives on in the child: the others' locks and calls are gone."""
        self._lock = threading.RLock()
        self._calls = {}
        self._closing = self._handle is None

    @classmethod
    def forked_all(cls) -> None:
        """Runs in the child of a fork()."""
        for handle in list(cls._live):
            handle._forked()


class TaskHandle(Handle):
    """Freed by whoever leaves it last: nothing waits."""

    def close(self) -> None:
        """Refuses new calls and frees the handle as soon as none is inside."""
        with self._lock:
            self._closing = True
            self._left()

    def _left(self) -> None:
        if self._closing and not self._calls and self._handle is not None:
            handle, self._handle = self._handle, None
            C.skc_task_free(handle)


class LibraryHandle(Handle):
    """Shut down while calls are running, which ends them, and freed when the last one has left."""

    def __init__(self, handle: int, callbacks: CallbackThreads) -> None:
        super().__init__("library", handle)
        self._callbacks = callbacks
        self._idle = threading.Event()
        self._done = threading.Event()

    def close(self) -> None:
        """Refuses new calls, cancels the running ones and returns when the library is closed.

        From a callback of this library, which it would wait for, it returns at once and a thread does the waiting.
        """
        with self._lock:
            inside = self._callbacks.has_current() or threading.get_ident() in self._calls.values()
            first, self._closing = not self._closing, True
            self._idle.clear()
            self._left()
        if not first:
            if not inside:
                self._done.wait()
        elif inside:
            threading.Thread(target=self._close, name="skillcache-close").start()
        else:
            self._close()

    def _left(self) -> None:
        if self._closing and not self._calls:
            self._idle.set()

    def _close(self) -> None:
        handle = self._handle
        try:
            C.skc_library_shut_down(handle)
            self._idle.wait()
        except BaseException:
            # Interrupted before it was closed: close may be called again.
            self._closing = False
            raise
        self._handle = None
        try:
            status = C.skc_library_close(handle)
        finally:
            self._done.set()
        # In a forked child the library lets go of the handle and says that the database was left alone.
        if status not in (OK, E_FORKED):
            raise from_status(status)

    def _forked(self) -> None:
        super()._forked()
        self._idle, self._done = threading.Event(), threading.Event()
        if self._closing:
            self._done.set()


class CallbackThreads:
    """Which threads are inside a callback of one library."""

    def __init__(self) -> None:
        self._depth = threading.local()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Marks the current thread for as long as the callback runs; callbacks may nest."""
        self._depth.value = getattr(self._depth, "value", 0) + 1
        try:
            yield
        finally:
            self._depth.value -= 1

    def has_current(self) -> bool:
        """Whether the current thread is inside one."""
        return bool(getattr(self._depth, "value", 0))


def _close_all() -> None:
    """Before the interpreter is taken down: a library thread must not call into one that is gone."""
    for handle in list(Handle._live):
        if isinstance(handle, LibraryHandle):
            with contextlib.suppress(Error):
                handle.close()


os.register_at_fork(after_in_child=Handle.forked_all)
atexit.register(_close_all)
