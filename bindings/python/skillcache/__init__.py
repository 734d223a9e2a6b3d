"""skillcache: the skill library that agents embed.

    import skillcache

    with skillcache.open("skills.db", {"sandbox.timeout_ms": 2000}) as lib:
        lib.put("mean", "result = sum(inputs['xs']) / len(inputs['xs'])", tags=["math"])
        answer = lib.run("mean", {"xs": [1, 2, 6]})
        print(answer.outcome, answer.value, answer.cached)

The compiled library is found through the environment variable SKILLCACHE_LIBRARY, else beside this package, else by the
system's loader; importing raises ImportError when it is in none of these places or not the right one.
"""

from __future__ import annotations

from ._bindings import version
from ._errors import (
    BusyError,
    CacheOverflowError,
    CancelledError,
    ClosedError,
    ConflictError,
    CorruptDatabaseError,
    DatabaseConnectionError,
    Error,
    ForkedError,
    InternalError,
    InvalidArgumentError,
    NewerDatabaseError,
    PoolExhaustedError,
    SandboxError,
    SecurityValidationError,
    SkillNotFoundError,
    SkillSyntaxError,
    SkillValidationError,
    TimeoutError,
    UnsupportedError,
)
from ._library import Library, open
from ._result import Failure, Result
from ._script import Script
from ._skill import Record, Skill
from ._task import Task

__version__ = "0.1.0"

__all__ = [
    "BusyError",
    "CacheOverflowError",
    "CancelledError",
    "ClosedError",
    "ConflictError",
    "CorruptDatabaseError",
    "DatabaseConnectionError",
    "Error",
    "Failure",
    "ForkedError",
    "InternalError",
    "InvalidArgumentError",
    "Library",
    "NewerDatabaseError",
    "PoolExhaustedError",
    "Record",
    "Result",
    "SandboxError",
    "Script",
    "SecurityValidationError",
    "Skill",
    "SkillNotFoundError",
    "SkillSyntaxError",
    "SkillValidationError",
    "Task",
    "TimeoutError",
    "UnsupportedError",
    "open",
    "version",
]
