"""What one run came to."""

from __future__ import annotations

import json
from ctypes import byref, sizeof
from dataclasses import dataclass
from typing import Any, Optional

from . import _json
from ._bindings import OUTCOME_NAMES, C, View

_VIEW_SIZE = sizeof(View)
_UNREAD = object()


@dataclass(frozen=True)
class Failure:
    """Why a run did not succeed. What does not apply is None."""

    type: Optional[str] = None
    """The exception's class, as in ``"ValueError"``."""
    message: Optional[str] = None
    line: Optional[int] = None
    """The line of the skill's own code, from 1."""
    traceback: Optional[str] = None
    path: Optional[str] = None
    """Where in the inputs or the answer, as in ``$.inputs.prices[3]``."""
    rule: Optional[str] = None
    """The rule that refused it: a JSON Schema keyword, a policy rule."""
    signal: Optional[str] = None
    """The signal that ended the run, as in ``"SIGKILL"``."""

    @classmethod
    def from_json(cls, text: str) -> Failure:
        """From the library's ``error`` object."""
        members = json.loads(text)
        return cls(**{name: members[name] for name in cls.__dataclass_fields__ if name in members})


class Result:
    """What one run came to: its outcome, its answer, what it printed and what it cost.

    It is a copy that needs no closing and outlives the library. It does not change, so any thread may read it; what
    `value` gives out is the caller's own and changing it changes no later hit.
    """

    outcome: str
    """``"success"``, ``"error"``, ``"no_result"``, ``"invalid_input"``, ``"invalid_output"``, ``"rejected"``,
    ``"denied"``, ``"timeout"``, ``"memory_limit"``, ``"output_limit"``, ``"disk_limit"``, ``"crashed"`` or
    ``"cancelled"``."""
    cached: bool
    """Whether the answer came from the cache."""
    version: int
    """The version of the skill that ran."""
    value_json: Optional[str]
    """The answer as JSON text; None without success."""
    error: Optional[Failure]
    """Why it failed; None on success."""
    stdout_bytes: bytes
    """What the skill printed, as it came."""
    stderr_bytes: bytes
    stdout_truncated: bool
    """Whether it printed more than is kept."""
    stderr_truncated: bool
    duration_us: int
    """Wall-clock time of this call, in microseconds."""
    cpu_us: int
    """Processor time of the run, in microseconds."""
    peak_memory_bytes: int
    """The largest resident size of the run, interpreter included; 0 if it could not be read."""
    stdout_written_bytes: int
    """How much it wrote to stdout, kept or not."""
    stderr_written_bytes: int
    answer_bytes: int
    """The size of its answer as it was sent."""
    folder_bytes: int
    """What its private folder held at the end."""
    level: str
    """How well the run was confined."""
    sandbox: Optional[dict[str, Any]]
    """What confined it, layer by layer: level, layers, guarantees, missing. None if nothing ran."""
    trace_id: str
    """By which events and log lines name the run: 32 hexadecimal digits, those of the call's `trace` if that is a W3C
    traceparent, or else the run's own."""

    __slots__ = (
        "_value",
        "answer_bytes",
        "cached",
        "cpu_us",
        "duration_us",
        "error",
        "folder_bytes",
        "level",
        "outcome",
        "peak_memory_bytes",
        "sandbox",
        "stderr_bytes",
        "stderr_truncated",
        "stderr_written_bytes",
        "stdout_bytes",
        "stdout_truncated",
        "stdout_written_bytes",
        "trace_id",
        "value_json",
        "version",
    )

    def __init__(self, handle: int) -> None:
        """Copies everything out of a C result, which stays the caller's to free."""
        view = View()
        C.skc_result_view(handle, byref(view), _VIEW_SIZE)
        self.outcome = OUTCOME_NAMES[view.outcome] if 0 <= view.outcome < len(OUTCOME_NAMES) else "unknown"
        self.cached = view.cached
        self.version = view.skill_version
        self.value_json = view.value.text() if self.outcome == "success" else None
        failure = view.error_json.text()
        self.error = Failure.from_json(failure) if failure else None
        self.stdout_bytes = view.captured_stdout.copy()
        self.stderr_bytes = view.captured_stderr.copy()
        self.stdout_truncated = view.stdout_truncated
        self.stderr_truncated = view.stderr_truncated
        self.duration_us = view.duration_us
        self.cpu_us = view.cpu_us
        self.peak_memory_bytes = view.peak_memory_bytes
        self.stdout_written_bytes = view.stdout_written_bytes
        self.stderr_written_bytes = view.stderr_written_bytes
        self.answer_bytes = view.answer_bytes
        self.folder_bytes = view.folder_bytes
        self.level = view.level.text()
        sandbox = view.sandbox_json.text()
        self.sandbox = _json.decode(sandbox) if sandbox else None
        self.trace_id = view.trace_id.text()
        self._value: Any = _UNREAD

    @classmethod
    def take(cls, handle: Optional[int]) -> Result:
        """From a C result that is freed."""
        assert handle, "the library reported success without a result"
        try:
            return cls(handle)
        finally:
            C.skc_result_free(handle)

    @property
    def value(self) -> Any:
        """The answer; None without success. Read from JSON at the first look, then the same object again.

        Raises UnsupportedError if it has an integer of more digits than this interpreter converts; see `value_json`.
        """
        if self._value is _UNREAD:
            self._value = None if self.value_json is None else _json.decode(self.value_json)
        return self._value

    @property
    def stdout(self) -> str:
        """What the skill printed; bytes that are not UTF-8 are replaced by U+FFFD."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """What the skill wrote to stderr; bytes that are not UTF-8 are replaced by U+FFFD."""
        return self.stderr_bytes.decode("utf-8", "replace")

    def __repr__(self) -> str:
        cached = " cached" if self.cached else ""
        detail = f" {self.error.type or ''}: {self.error.message or ''}" if self.error else f" {self._preview()}"
        return f"<Result {self.outcome}{cached}{detail}>"

    def _preview(self) -> str:
        text = self.value_json or ""
        return text if len(text) <= 60 else f"{text[:57]}..."
