"""A library in memory for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import skillcache


@pytest.fixture
def lib() -> Iterator[skillcache.Library]:
    # A busy machine may take its time for the health report.
    with skillcache.open(":memory:", {"monitor.health_timeout_ms": 120_000}) as library:
        yield library
