"""One exception class per status of the library."""

from __future__ import annotations

import json
from typing import Any, Optional

from ._bindings import C


class Error(Exception):
    """A call that could not be carried out. A run that fails *inside* the skill is no error but a `Result`.

    Also the class of a status this package does not know, from a newer library.
    """

    code: int = 0
    """The status: the number of the ``SKC_E_...`` constant."""

    line: Optional[int]
    """Line in the code or JSON text, from 1, where one applies."""

    column: Optional[int]
    """Column in that line, from 1, where one applies."""

    details: dict[str, Any]
    """Everything the library said: ``name``, ``message``, ``retriable``, and what applies of ``line``, ``column``,
    ``path``, ``rule``, ``missing``, ``suggestion``, ``findings``."""

    def __init__(self, message: str = "", *, code: Optional[int] = None, details: Optional[dict[str, Any]] = None):
        super().__init__(message)
        if code is not None:
            self.code = code
        self.details = {"code": self.code, "message": message} if details is None else details
        self.line = self.details.get("line")
        self.column = self.details.get("column")


class InvalidArgumentError(Error):
    """An argument is wrong: an unknown option, a bad id, data that is not JSON, a value out of range."""

    code = 10


class SkillNotFoundError(Error):
    """No skill of that id, or no such version of it."""

    code = 11


class ConflictError(Error):
    """``expected_version`` is not the newest version."""

    code = 12


class TimeoutError(Error):
    """The time given to the call ran out; the call may be repeated. (A run out of time is an outcome instead.)"""

    code = 13


class CancelledError(Error):
    """The call was cancelled, or the library closed while it waited."""

    code = 14


class SandboxError(Error):
    """The confinement asked for cannot be had on this machine; ``details["missing"]`` says what is missing."""

    code = 15


class DatabaseConnectionError(Error):
    """The database cannot be opened, read or written."""

    code = 16


class BusyError(Error):
    """A queue is full, or another process holds the write lock; the call may be repeated."""

    code = 17


class ForkedError(Error):
    """The call was made in a child of ``fork()``; only the process that opened the library may use it."""

    code = 18


class InternalError(Error):
    """A bug in the library."""

    code = 19


class UnsupportedError(Error):
    """What was asked for is not supported: a language, an interpreter, a platform."""

    code = 20


class SkillSyntaxError(Error):
    """The code is not Python that the interpreter accepts; see ``line`` and ``column``."""

    code = 21


class SecurityValidationError(Error):
    """The policy refuses the code."""

    code = 22


class CacheOverflowError(Error):
    """``cache="required"`` was asked for and the answer does not fit or must not be cached."""

    code = 23


class PoolExhaustedError(Error):
    """No database connection became free in time; the call may be repeated."""

    code = 24


class CorruptDatabaseError(Error):
    """The file is not a database, or a damaged one."""

    code = 25


class NewerDatabaseError(Error):
    """The database was written by a newer version of the library."""

    code = 26


class SkillValidationError(Error):
    """The record is refused: a bad schema, a missing package or required skill."""

    code = 27


class ClosedError(Error):
    """The library, or the task, is closed."""

    code = 28


_CLASS_OF: dict[int, type[Error]] = {kind.code: kind for kind in Error.__subclasses__()}


def from_status(status: int, message: Optional[str] = None, **details: Any) -> Error:
    """The error of a status for which the library gave no words of its own, or that is found before it is asked."""
    name = C.skc_status_name(status).decode()
    text = message or name
    return _CLASS_OF.get(status, Error)(
        text, code=status, details={"code": status, "name": name, "message": text, **details}
    )


def take(status: int, handle: Optional[int]) -> Error:
    """The error that a call left in its ``err``, which is freed; or that of the bare status where it left none."""
    if not handle:
        return from_status(status)
    try:
        details = json.loads(C.skc_error_json(handle).text())
    finally:
        C.skc_error_free(handle)
    return _CLASS_OF.get(status, Error)(details.get("message", ""), code=status, details=details)
