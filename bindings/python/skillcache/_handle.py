"""C handles that any thread may use while another one closes them.

After the free a handle must never be used again, but between the moment when a thread looks at it and the moment when
it is inside the C function lies a gap in which the thread may be suspended. So every call is recorded before it goes:

* A task is freed by whoever leaves it last.
* A library is closed while calls are still running, because closing is what cancels them. The library itself waits for
  the calls inside it; those still in the gap are recognised by their `err`: the library sets it to NULL on entry, so
  as long as it holds the mark that Python put there, the call has not arrived.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator
from ctypes import byref, c_void_p
from typing import Any, Callable, ClassVar, Optional

from ._bindings import E_CLOSED, E_FORKED, OK, C
from ._errors import Error, from_status, take

_NOT_ARRIVED = 1
"""No pointer, and not NULL."""

_GAP_POLL_S = 0.0005


class _Call:
    """One call on its way into, through or out of the library."""

    __slots__ = ("error", "thread")

    def __init__(self) -> None:
        self.error = c_void_p(_NOT_ARRIVED)
        self.thread = threading.get_ident()

    def has_arrived(self) -> bool:
        return self.error.value != _NOT_ARRIVED


class Handle:
    """A C handle, the calls that use it, and whether it is closed. Any thread may use every method."""

    _live: ClassVar[weakref.WeakSet[Handle]] = weakref.WeakSet()

    def __init__(self, name: str, handle: int) -> None:
        self._name = name
        self._handle: Optional[int] = handle
        self._closing = False
        self._calls: set[_Call] = set()
        # Re-entrant: a signal handler or a finaliser may run in the middle of the few lines that hold it.
        self._lock = threading.RLock()
        Handle._live.add(self)

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        return self._closing

    def call(self, function: Callable[..., int], *arguments: object) -> None:
        """Calls ``function(handle, *arguments, err)`` and raises what it reports. No lock is held meanwhile."""
        call = _Call()
        try:
            with self._lock:
                handle = self._checked()
                self._calls.add(call)
            status = function(handle, *arguments, byref(call.error))
        finally:
            with self._lock:
                self._calls.discard(call)
                self._left()
        if status != OK:
            raise take(status, call.error.value)

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
        self._calls = set()
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
    """Closed while calls are running, which cancels them."""

    def __init__(self, handle: int, callbacks: CallbackThreads) -> None:
        super().__init__("library", handle)
        self._callbacks = callbacks
        self._done = threading.Event()

    def close(self) -> None:
        """Refuses new calls, cancels the running ones and returns when the library is closed.

        From a callback of this library, which it would wait for, it returns at once and a thread does the waiting.
        """
        inside = self._callbacks.has_current() or self._is_calling()
        with self._lock:
            first, self._closing = not self._closing, True
        if not first:
            if not inside:
                self._done.wait()
        elif inside:
            threading.Thread(target=self._close, name="skillcache-close").start()
        else:
            self._close()

    def _is_calling(self) -> bool:
        """Whether this very thread is in a call: a progress callback, or a signal handler in the gap."""
        this = threading.get_ident()
        with self._lock:
            return any(call.thread == this for call in self._calls)

    def _close(self) -> None:
        try:
            while not self._all_have_arrived():
                time.sleep(_GAP_POLL_S)
        except BaseException:
            # Interrupted before anything was closed: as if close had not been called.
            self._closing = False
            raise
        handle, self._handle = self._handle, None
        try:
            status = C.skc_library_close(handle)
        finally:
            self._done.set()
        # In a forked child the library lets go of the handle and says that the database was left alone.
        if status not in (OK, E_FORKED):
            raise from_status(status)

    def _all_have_arrived(self) -> bool:
        with self._lock:
            return all(call.has_arrived() for call in self._calls)

    def _forked(self) -> None:
        super()._forked()
        self._done = threading.Event()
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
