"""The C door as ctypes sees it: every prototype of ``skillcache.h``, its types, and where the library is found.

A function exists for this package only as a row of `PROTOTYPES`; the tests compare the rows with the header.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_double,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Any

ABI = 0
"""The ABI number these prototypes were written for: ``skc_abi()`` must return it."""

OLDEST_VERSION = 0x0000_0100
"""The oldest library that has all of them, as ``skc_version_number()`` counts: 0xMMmmpp00."""

OK = 0
PENDING = 1
E_INVALID = 10
E_TIMEOUT = 13
E_FORKED = 18
E_CLOSED = 28

OUTCOMES = 13
"""How many outcomes there are, numbered from 0."""


class Str(Structure):
    """``skc_str``: a borrowed view of bytes."""

    _fields_ = (("ptr", c_void_p), ("len", c_size_t))

    ptr: int
    len: int

    def copy(self) -> bytes:
        """The bytes, owned by Python."""
        return ctypes.string_at(self.ptr, self.len) if self.len else b""

    def text(self) -> str:
        """The same as text. The library promises UTF-8 everywhere but in what a skill printed."""
        return self.copy().decode("utf-8")


class View(Structure):
    """``skc_view``: everything a result holds, borrowed from it."""

    _fields_ = (
        ("value", Str),
        ("captured_stdout", Str),
        ("captured_stderr", Str),
        ("error", Str),
        ("error_json", Str),
        ("level", Str),
        ("duration_us", c_uint64),
        ("cpu_us", c_uint64),
        ("peak_memory_bytes", c_uint64),
        ("outcome", c_int32),
        ("skill_version", c_uint32),
        ("cached", c_bool),
        ("stdout_truncated", c_bool),
        ("stderr_truncated", c_bool),
        ("stdout_written_bytes", c_uint64),
        ("stderr_written_bytes", c_uint64),
        ("answer_bytes", c_uint64),
        ("folder_bytes", c_uint64),
        ("sandbox_json", Str),
        ("trace_id", Str),
    )

    value: Str
    captured_stdout: Str
    captured_stderr: Str
    error: Str
    error_json: Str
    level: Str
    duration_us: int
    cpu_us: int
    peak_memory_bytes: int
    outcome: int
    skill_version: int
    cached: bool
    stdout_truncated: bool
    stderr_truncated: bool
    stdout_written_bytes: int
    stderr_written_bytes: int
    answer_bytes: int
    folder_bytes: int
    sandbox_json: Str
    trace_id: Str


EVENT = CFUNCTYPE(None, c_void_p, c_void_p, c_size_t)
"""``skc_event_fn``: user_data, JSON text (an event, or a log line), its length. Called on a thread of the library."""

DROP = CFUNCTYPE(None, c_void_p)
"""Called once with user_data when the library will not call the function beside it any more."""

PROGRESS = CFUNCTYPE(c_bool, c_void_p, c_uint64, c_uint64)
"""user_data, how many are done, of how many; false cancels the rest."""

# Handles are opaque, so one Python type serves for all of them; a handle passed as the wrong one is caught by the
# header test, which knows the C type of every argument.
_HANDLE = c_void_p
_OUT = POINTER(c_void_p)
_STATUS = c_int32

PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "skc_version_number": (c_uint32, ()),
    "skc_version_string": (c_char_p, ()),
    "skc_abi": (c_uint32, ()),
    "skc_status_name": (c_char_p, (_STATUS,)),
    "skc_outcome_name": (c_char_p, (c_int32,)),
    "skc_config_new": (_HANDLE, ()),
    "skc_config_free": (None, (_HANDLE,)),
    "skc_config_set": (_STATUS, (_HANDLE, c_char_p, c_char_p, _OUT)),
    "skc_config_on_event": (_STATUS, (_HANDLE, EVENT, c_void_p, DROP, _OUT)),
    "skc_config_on_log": (_STATUS, (_HANDLE, EVENT, c_void_p, DROP, _OUT)),
    "skc_library_open": (_STATUS, (c_char_p, _HANDLE, _OUT, _OUT)),
    "skc_library_shut_down": (_STATUS, (_HANDLE,)),
    "skc_library_close": (_STATUS, (_HANDLE,)),
    "skc_library_put": (_STATUS, (_HANDLE, _HANDLE, POINTER(c_uint32), _OUT)),
    "skc_library_get": (_STATUS, (_HANDLE, c_char_p, c_uint32, _OUT, _OUT)),
    "skc_library_remove": (_STATUS, (_HANDLE, c_char_p, _OUT)),
    "skc_library_list": (_STATUS, (_HANDLE, c_char_p, _OUT, _OUT)),
    "skc_library_search": (_STATUS, (_HANDLE, c_char_p, _OUT, _OUT)),
    "skc_library_import": (_STATUS, (_HANDLE, c_char_p, c_char_p, _OUT, _OUT)),
    "skc_library_export": (_STATUS, (_HANDLE, c_char_p, c_char_p, _OUT, _OUT)),
    "skc_library_validate": (_STATUS, (_HANDLE, c_char_p, c_size_t, _OUT, _OUT)),
    "skc_library_inject": (_STATUS, (_HANDLE, c_char_p, c_size_t, c_char_p, c_size_t, _OUT, _OUT)),
    "skc_library_run": (_STATUS, (_HANDLE, c_char_p, c_char_p, c_size_t, c_char_p, _OUT, _OUT)),
    "skc_library_run_many": (
        _STATUS,
        (_HANDLE, c_char_p, c_char_p, c_size_t, c_char_p, PROGRESS, c_void_p, _OUT, _OUT),
    ),
    "skc_library_submit": (_STATUS, (_HANDLE, c_char_p, c_char_p, c_size_t, c_char_p, _OUT, _OUT)),
    "skc_library_stats": (_STATUS, (_HANDLE, _OUT, _OUT)),
    "skc_library_recommendations": (_STATUS, (_HANDLE, _OUT, _OUT)),
    "skc_library_history": (_STATUS, (_HANDLE, _OUT, _OUT)),
    "skc_library_outcomes": (_STATUS, (_HANDLE, c_char_p, _OUT, _OUT)),
    "skc_library_report_memory": (_STATUS, (_HANDLE, _OUT, _OUT)),
    "skc_library_metrics": (_STATUS, (_HANDLE, _OUT, _OUT)),
    "skc_library_health": (_STATUS, (_HANDLE, _OUT, _OUT)),
    "skc_library_next_event": (_STATUS, (_HANDLE, c_int64, _OUT, _OUT)),
    "skc_library_event_fd": (c_int, (_HANDLE,)),
    "skc_library_check_caches": (_STATUS, (_HANDLE, c_double, _OUT, _OUT)),
    "skc_library_check": (_STATUS, (_HANDLE, c_char_p, _OUT, _OUT)),
    "skc_library_backup": (_STATUS, (_HANDLE, c_char_p, _OUT)),
    "skc_library_clear": (_STATUS, (_HANDLE, c_char_p, _OUT)),
    "skc_library_evict_expired": (_STATUS, (_HANDLE, POINTER(c_uint64), _OUT)),
    "skc_library_set_state": (_STATUS, (_HANDLE, c_char_p, c_char_p, _OUT)),
    "skc_library_rebuild_index": (_STATUS, (_HANDLE, POINTER(c_uint64), _OUT)),
    "skc_skill_new": (_HANDLE, (c_char_p, c_char_p, c_size_t)),
    "skc_skill_set": (_STATUS, (_HANDLE, c_char_p, c_char_p, _OUT)),
    "skc_skill_id": (Str, (_HANDLE,)),
    "skc_skill_code": (Str, (_HANDLE,)),
    "skc_skill_version": (c_uint32, (_HANDLE,)),
    "skc_skill_json": (Str, (_HANDLE,)),
    "skc_skill_free": (None, (_HANDLE,)),
    "skc_task_poll": (_STATUS, (_HANDLE,)),
    "skc_task_fd": (c_int, (_HANDLE,)),
    "skc_task_wait": (_STATUS, (_HANDLE, c_int64, _OUT, _OUT)),
    "skc_task_cancel": (_STATUS, (_HANDLE,)),
    "skc_task_free": (None, (_HANDLE,)),
    "skc_result_outcome": (c_int32, (_HANDLE,)),
    "skc_result_value": (Str, (_HANDLE,)),
    "skc_result_stdout": (Str, (_HANDLE,)),
    "skc_result_stderr": (Str, (_HANDLE,)),
    "skc_result_error": (Str, (_HANDLE,)),
    "skc_result_is_cached": (c_bool, (_HANDLE,)),
    "skc_result_duration_us": (c_uint64, (_HANDLE,)),
    "skc_result_trace_id": (Str, (_HANDLE,)),
    "skc_result_level": (Str, (_HANDLE,)),
    "skc_result_view": (None, (_HANDLE, POINTER(View), c_size_t)),
    "skc_result_json": (Str, (_HANDLE,)),
    "skc_result_free": (None, (_HANDLE,)),
    "skc_results_len": (c_size_t, (_HANDLE,)),
    "skc_results_at": (_HANDLE, (_HANDLE, c_size_t)),
    "skc_results_free": (None, (_HANDLE,)),
    "skc_blob_method": (Str, (_HANDLE,)),
    "skc_blob_str": (Str, (_HANDLE,)),
    "skc_blob_free": (None, (_HANDLE,)),
    "skc_error_code": (_STATUS, (_HANDLE,)),
    "skc_error_message": (Str, (_HANDLE,)),
    "skc_error_json": (Str, (_HANDLE,)),
    "skc_error_free": (None, (_HANDLE,)),
}


def load() -> ctypes.CDLL:
    """Finds the library, declares every prototype, and checks that it is the one they were written for.

    Raises ImportError: not found, not loadable, or another ABI.
    """
    library, place = _find()
    for name, (result, arguments) in PROTOTYPES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError(f"skillcache: {place} has no function {name}: it is not the library, or older") from None
        function.restype = result
        function.argtypes = arguments
    if library.skc_abi() != ABI or library.skc_version_number() < OLDEST_VERSION:
        raise ImportError(
            f"skillcache: {place} is version {library.skc_version_string().decode()} with ABI {library.skc_abi()}; "
            f"this package needs ABI {ABI} and a version from {_spelled(OLDEST_VERSION)}"
        )
    return library


def _find() -> tuple[ctypes.CDLL, str]:
    """The library from the first place that has one. A place that has a broken one ends the search."""
    chosen = os.environ.get("SKILLCACHE_LIBRARY")
    package = Path(__file__).resolve().parent
    beside = [folder / "libskillcache.so" for folder in (package, package.parent)]
    # The soname first: a plain libskillcache.so of another ABI may be installed beside it.
    names = [f"libskillcache.so.{ABI}", "libskillcache.so"]
    if chosen:
        # Absolute, because a name without a slash would send the loader to its own search path.
        candidates = [str(Path(chosen).absolute())]
    else:
        candidates = [str(file) for file in beside if file.exists()][:1] or names
    failures = []
    for candidate in candidates:
        try:
            return ctypes.CDLL(candidate), candidate
        except OSError as error:
            failures.append(str(error))
    raise ImportError(
        f"skillcache: the library could not be loaded: {'; '.join(failures)}. It is looked for in three places: "
        f"(1) the file that the environment variable SKILLCACHE_LIBRARY names ({chosen or 'not set'}), "
        f"and when it is set nowhere else; (2) beside the package: {beside[0]}, then {beside[1]}; "
        f"(3) the system's loader, as {names[0]}, then {names[1]}. "
        "`cargo build --release` makes target/release/libskillcache.so."
    )


def _spelled(version: int) -> str:
    return f"{version >> 24}.{version >> 16 & 0xFF}.{version >> 8 & 0xFF}"


C = load()
"""The loaded library."""

OUTCOME_NAMES: tuple[str, ...] = tuple(C.skc_outcome_name(number).decode() for number in range(OUTCOMES))
"""``"success"``, ``"error"``, ... in the order of their numbers."""


def version() -> str:
    """The version of the loaded library, as in ``"0.1.0"``."""
    return str(C.skc_version_string().decode())
