"""JSON for the library: what Python's json module would quietly change is refused instead.

`json.dumps` merges the keys ``1`` and ``"1"``, and `json.loads` gives up on long integers with advice about the whole
process. NaN, Infinity and lone surrogates pass: the library refuses them itself and names the path.
"""

from __future__ import annotations

import json
import re
from typing import Any, Optional

from ._bindings import E_INVALID
from ._errors import Error, UnsupportedError, from_status

_SCALARS = (str, int, float, type(None))
_SCALAR_TYPES = frozenset({str, int, float, bool, type(None)})
_PLAIN_NAME = re.compile(r"\w+")


def encode(value: object, path: str) -> str:
    """The JSON text of a value; `path` is where the value will stand, as in ``$.inputs``.

    Raises InvalidArgumentError with the path of a key that is not a str, or of a value that JSON has no form for.
    """
    try:
        text = json.dumps(value, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise _find_fault(value, path, []) or _refusal(path, f"has no JSON form: {error}") from None
    # json.dumps has refused cycles and endless nesting by now, so this walk ends.
    if not _has_only_text_keys(value):
        raise _find_fault(value, path, []) or _refusal(path, "has a key that is not a str")
    return text


def decode(text: str) -> Any:
    """The value of a JSON text that the library wrote.

    Raises UnsupportedError for an integer of more digits than this interpreter converts.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise from_status(
            UnsupportedError.code,
            "the answer has an integer of more digits than this interpreter converts from text; read `.value_json`, "
            f"or raise the limit with sys.set_int_max_str_digits() or PYTHONINTMAXSTRDIGITS ({error})",
        ) from None


def _has_only_text_keys(value: object) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            for key in item:
                if not isinstance(key, str):
                    return False
            children: Any = item.values()
        elif isinstance(item, (list, tuple)):
            children = item
        else:
            continue
        # Most of a large input is numbers in a list: they are passed over without touching the stack.
        pending.extend([child for child in children if type(child) not in _SCALAR_TYPES])
    return True


def _find_fault(value: object, path: str, above: list[int]) -> Optional[Error]:
    """The first thing in `value` that JSON cannot say, in the order of the text. `above` are the ids of its parents."""
    if isinstance(value, (dict, list, tuple)):
        return _find_fault_within(value, path, above)
    if isinstance(value, int):
        return _find_long_integer(value, path)
    if not isinstance(value, _SCALARS):
        return _refusal(path, f"is a {type(value).__name__}, which JSON has no form for")
    return None


def _find_fault_within(value: Any, path: str, above: list[int]) -> Optional[Error]:
    if id(value) in above:
        return _refusal(path, "contains itself")
    if len(above) == _DEEPEST:
        return _refusal(path, "is nested too deeply")
    above.append(id(value))
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in members:
        if isinstance(value, dict) and not isinstance(key, str):
            return _refusal(path, f"has the key {_shown(key)} ({type(key).__name__}); the keys of an object are str")
        fault = _find_fault(child, _below(path, key), above)
        if fault:
            return fault
    above.pop()
    return None


# Beyond what the library takes, so that whatever is merely too deep for it is refused in its words.
_DEEPEST = 200


def _find_long_integer(value: int, path: str) -> Optional[Error]:
    try:
        int.__repr__(value)
    except ValueError as error:
        return _refusal(
            path,
            "is an integer of more digits than this interpreter converts to text; raise the limit with "
            f"sys.set_int_max_str_digits() or PYTHONINTMAXSTRDIGITS ({error})",
        )
    return None


def _below(path: str, key: object) -> str:
    if isinstance(key, str):
        return f"{path}.{key}" if _PLAIN_NAME.fullmatch(key) else f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}[{key}]"


def _shown(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refusal(path: str, fault: str) -> Error:
    return from_status(E_INVALID, f"{path} {fault}", path=path, retriable=False)
