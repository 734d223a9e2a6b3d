"""A library in memory for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import skillcache


@pytest.fixture
def lib() -> Iterator[skillcache.Library]:
    with skillcache.open(":memory:") as library:
        yield library
