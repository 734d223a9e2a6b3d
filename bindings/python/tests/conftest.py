"""A library in memory for every test that asks for one, and one whose runs the test holds up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Union

import pytest

import skillcache


@pytest.fixture
def lib() -> Iterator[skillcache.Library]:
    # A busy machine may take its time for the health report.
    with skillcache.open(":memory:", {"monitor.health_timeout_ms": 120_000}) as library:
        yield library


class Gate:
    """Holds runs up until it opens: they look for a file in the folder of packages, all they can see of the host."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "open"
        self.options: dict[str, Union[str, int]] = {
            "policy.mode": "off",
            "python.site_packages": str(folder),
            "sandbox.timeout_ms": 300_000,
        }
        self.code = (
            "import os, time\nprint('begun', flush=True)\n"
            f"while inputs.get('waits', True) and not os.path.exists({str(self._file)!r}): time.sleep(0.01)\n"
            "result = inputs.get('v', 'awake')"
        )

    def open(self) -> None:
        self._file.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    folder = tmp_path / "packages"
    folder.mkdir()
    return Gate(folder)


@pytest.fixture
def held(gate: Gate) -> Iterator[skillcache.Library]:
    """A library with a skill that waits at the gate unless its inputs say otherwise, and is kept all the same."""
    with skillcache.open(":memory:", gate.options) as library:
        library.put("s", gate.code, cache="yes")
        yield library
