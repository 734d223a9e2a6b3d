"""Arguments on their way into C: checked, and turned into the text that the library takes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from . import _json
from ._bindings import E_INVALID
from ._errors import from_status

Data = Optional[Mapping[str, Any]]
"""Inputs or context: names and JSON values."""

CacheMode = Union[bool, str, None]
"""``None`` (the skill's own choice), ``True`` or ``"yes"``, ``False`` or ``"no"``, ``"auto"``, ``"refresh"``,
``"required"``."""

OptionValue = Union[str, int, float, bool, Sequence[str]]
"""The value of an option of the library; a list stands for its items separated by commas."""


def text(value: str, what: str, *, nul_ends: bool = True) -> bytes:
    """Text for C. A lone surrogate becomes bytes that are not UTF-8, which the library refuses."""
    if not isinstance(value, str):
        raise from_status(E_INVALID, f"{what} must be a str, not {type(value).__name__}", path=what)
    encoded = value.encode("utf-8", "surrogatepass")
    return no_nul(encoded, what) if nul_ends else encoded


def no_nul(encoded: bytes, what: str) -> bytes:
    """In C the text would silently end at the NUL."""
    if b"\0" in encoded:
        raise from_status(E_INVALID, f"{what} must not contain NUL", path=what)
    return encoded


def option(key: str, value: OptionValue) -> bytes:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    if not isinstance(value, (str, int, float)):
        kind = type(value).__name__
        message = f"option {key} must be a str, a number, a bool or a list of str, not {kind}"
        raise from_status(E_INVALID, message, path=key)
    return text(_word(value), key)


def field(name: str, value: object) -> bytes:
    if name == "cache" and isinstance(value, bool):
        return _cache_word(value).encode()
    if isinstance(value, (str, int, float)):
        return text(_word(value), name)
    return _json.encode(value, f"$.{name}").encode()


def _word(value: Union[str, int, float, bool]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def _cache_word(cache: Union[bool, str]) -> str:
    return cache if isinstance(cache, str) else "yes" if cache else "no"


def version(version: int) -> int:
    """ctypes would cut a number that does not fit down to one that does."""
    if not isinstance(version, int) or not 0 <= version < 1 << 32:
        raise from_status(
            E_INVALID, f"version must be an int from 0 to {(1 << 32) - 1}, not {version!r}", path="version"
        )
    return version


def number(value: float, what: str) -> float:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    except OverflowError:
        pass
    raise from_status(E_INVALID, f"{what} must be a number that a float can hold, not {value!r:.50}", path=what)


def given(members: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}


def data(inputs: Data, context: Data) -> bytes:
    members = []
    if inputs is not None:
        members.append(f'"inputs":{_json.encode(inputs, "$.inputs")}')
    if context is not None:
        members.append(f'"context":{_json.encode(context, "$.context")}')
    return f"{{{','.join(members)}}}".encode()


def item(inputs: Data, path: str, bound: str) -> str:
    return f'{{"inputs":{"{}" if inputs is None else _json.encode(inputs, path)}{bound}}}'


def run_options(cache: CacheMode, *, version: int, **members: object) -> Optional[bytes]:
    modes = {"version": version or None, "cache": None if cache is None else _cache_word(cache)}
    options = given({**modes, **members})
    return _json.encode(options, "$").encode() if options else None
