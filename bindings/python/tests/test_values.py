"""Values arrive equal and of the same type, and come back so."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest

import skillcache
from skillcache import Library

ECHO = "result = [inputs['v'], type(inputs['v']).__name__, repr(inputs['v'])]"
EDGES: list[Any] = [
    None, True, False, 0, -1, 1 << 53, (1 << 53) + 1, -(1 << 63), 1 << 64, 10**300, -(10**300),
    0.0, -0.0, 1.0, 0.1, 5e-324, 1.7976931348623157e308, -1e-7, 1e22, 123456789.123456789,
    "", "a", "'\"\\", "\n\r\t\b\f\0\x1b\x7f\x85", "\u2028\u2029\ufeff", "\U0001f600\U0010ffff",
    "{inputs} %s {{}} $x \\u0041", "__import__('os').system('true')", "'''\"\"\"",
    [], {}, [[]], {"": ""}, {"b": 1, "a": 2}, {"__class__": 1, "inputs": {"inputs": 2}}, [1, 1.0, "1", True, None],
]  # fmt: skip


def same(left: Any, right: Any, *, ordered: bool = True) -> bool:
    """Equal, of the same types all the way down, 0.0 apart from -0.0; members in the same order if `ordered`."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        has_same_keys = list(left) == list(right) if ordered else left.keys() == right.keys()
        return has_same_keys and all(same(left[key], right[key], ordered=ordered) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(same(*pair, ordered=ordered) for pair in zip(left, right))
    return repr(left) == repr(right)


@pytest.mark.parametrize("value", EDGES, ids=lambda value: ascii(value)[:40])
def test_an_edge_arrives_and_returns(lib: Library, value: Any) -> None:
    lib.put("echo", ECHO)
    back, kind, shown = lib.run("echo", {"v": value}).value
    assert same(back, value)
    assert (kind, shown) == (type(value).__name__, repr(value))


def random_value(random: random.Random, depth: int) -> Any:
    kind = random.randrange(9 if depth else 7)
    if kind == 0:
        return random.choice([None, True, False])
    if kind in (1, 2):
        return random.randrange(-(10 ** random.randrange(1, 60)), 10 ** random.randrange(1, 60))
    if kind in (3, 4):
        return random.choice([1, -1]) * random.random() * 10 ** random.randrange(-300, 300)
    if kind in (5, 6):
        return random_text(random)
    count = random.randrange(5)
    if kind == 7:
        return [random_value(random, depth - 1) for _ in range(count)]
    return {random_text(random): random_value(random, depth - 1) for _ in range(count)}


def random_text(random: random.Random) -> str:
    points = [random.randrange(sys.maxunicode + 1) >> random.randrange(14) for _ in range(random.randrange(12))]
    return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)


def test_random_values_arrive_and_return_by_both_ways(lib: Library) -> None:
    """By reference into a run, and as literals through `inject`."""
    seed = random.Random(20261124)
    values = [random_value(seed, 4) for _ in range(300)]
    lib.put("echo", "result = inputs['v']", cache="no")
    for value, result in zip(values, lib.run_many("echo", [{"v": value} for value in values])):
        assert same(result.value, value)
        names: dict[str, Any] = {}
        exec(lib.inject("result = inputs['v']", {"v": value}), names)
        assert same(names["result"], value)


def test_member_order_is_part_of_the_value(lib: Library) -> None:
    lib.put("keys", "result = list(inputs)")
    assert lib.run("keys", {"b": 1, "a": 2}).value == ["b", "a"]
    assert lib.run("keys", {"a": 2, "b": 1}).value == ["a", "b"]
    lib.put("sorted", "result = list(inputs)", key_order="ignore")
    assert lib.run("sorted", {"b": 1, "a": 2}).value == ["a", "b"]
    assert lib.run("sorted", {"a": 2, "b": 1}).cached


def test_megabytes_arrive(lib: Library) -> None:
    lib.put("echo", "result = inputs['v']")
    text = "x\N{EURO SIGN}\n" * 500_000
    assert lib.run("echo", {"v": text}).value == text
    numbers = list(range(200_000))
    assert lib.run("echo", {"v": numbers}).value == numbers


def test_nesting_up_to_the_bound(lib: Library) -> None:
    lib.put("echo", "result = inputs['v']")
    deep: Any = 1
    for _ in range(90):
        deep = {"d": [deep]} if isinstance(deep, int) else [deep]
    assert lib.run("echo", {"v": deep}).value == deep


def test_integers_beyond_what_the_interpreter_converts(lib: Library) -> None:
    lib.put("big", "result = 10 ** 5000")
    result = lib.run("big")
    assert result.value_json == "1" + "0" * 5000
    if hasattr(sys, "get_int_max_str_digits") and 0 < sys.get_int_max_str_digits() < 5000:
        with pytest.raises(skillcache.UnsupportedError, match="value_json"):
            _ = result.value


def test_a_hit_hands_out_an_independent_value(lib: Library) -> None:
    lib.put("list", "result = {'items': [1, 2]}")
    first = lib.run("list")
    first.value["items"].append(3)
    second = lib.run("list")
    assert second.cached
    assert second.value == {"items": [1, 2]}
