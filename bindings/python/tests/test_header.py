"""What ctypes is told is what ``skillcache.h`` says."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import skillcache
from skillcache import _bindings as bindings

HEADER = Path(__file__).resolve().parents[3] / "include" / "skillcache.h"
SCALARS: dict[str, Any] = {
    "void": None,
    "bool": ctypes.c_bool,
    "double": ctypes.c_double,
    "int": ctypes.c_int,
    "size_t": ctypes.c_size_t,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "skc_status": ctypes.c_int32,
    "skc_str": bindings.Str,
    "skc_event_fn": bindings.EVENT,
    "skc_drop_fn": bindings.DROP,
    "skc_progress_fn": bindings.PROGRESS,
}


def header() -> str:
    """Without comments and directives, white space collapsed."""
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", HEADER.read_text(), flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"(?m)^#.*$", "", code).replace('extern "C" {', ""))


def ctype(spelling: str) -> Any:
    """The type ctypes must use for a C parameter or result, its name left out."""
    spelling = spelling.replace("const ", "").strip()
    base, stars = spelling.rstrip("* ").strip(), spelling.count("*")
    if stars == 0:
        return SCALARS[base]
    if base == "char":
        return ctypes.c_char_p
    if base == "skc_view":
        return ctypes.POINTER(bindings.View)
    if base in ("uint32_t", "uint64_t"):
        return ctypes.POINTER(SCALARS[base])
    return ctypes.c_void_p if stars == 1 else ctypes.POINTER(ctypes.c_void_p)


def prototypes() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    found = {}
    for result, name, parameters in re.findall(r"([\w ]+[ *]+)(skc_\w+)\(([^()]*)\);", header()):
        types = [re.sub(r"\w+$", "", parameter.strip()) for parameter in parameters.split(",")]
        arguments = () if parameters.strip() == "void" else tuple(ctype(spelling) for spelling in types)
        found[name] = (ctype(result), arguments)
    return found


def test_every_prototype_is_the_headers() -> None:
    theirs = prototypes()
    assert len(theirs) == 75, sorted(theirs)
    assert set(bindings.PROTOTYPES) == set(theirs)
    for name, prototype in theirs.items():
        assert bindings.PROTOTYPES[name] == prototype, name


def struct(name: str) -> list[tuple[str, Any]]:
    body = re.search(r"typedef struct \{([^}]*)\} " + name, header())
    assert body
    fields = [field.strip().rpartition(" ") for field in body[1].split(";") if field.strip()]
    return [(field, ctype(spelling)) for spelling, _, field in fields]


def test_the_view_has_the_headers_fields_in_its_order() -> None:
    assert list(bindings.View._fields_) == struct("skc_view")


def test_status_and_outcome_numbers_are_the_headers() -> None:
    numbers = {name: int(number) for name, number in re.findall(r"#define SKC_(\w+) (\d+)\b", HEADER.read_text())}
    statuses = {kind.code for kind in skillcache.Error.__subclasses__()}
    assert statuses == {number for name, number in numbers.items() if name.startswith("E_")}
    outcomes = {name[8:].lower(): number for name, number in numbers.items() if name.startswith("OUTCOME_")}
    assert outcomes == {name: number for number, name in enumerate(bindings.OUTCOME_NAMES)}
    assert numbers["ABI"] == bindings.ABI
