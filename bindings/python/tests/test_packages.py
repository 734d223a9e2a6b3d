"""NumPy in a skill, as hosts have it: from a virtual environment, confined, in the memory that the documents state."""

from __future__ import annotations

import importlib.util
import sys
import venv
from pathlib import Path

import pytest

import skillcache
from skillcache import Library, Result

FIGURE_MB = 256
"""What docs/SECURITY.md says to give NumPy."""


@pytest.fixture(scope="session")
def packages() -> Path:
    """Where NumPy lies: in the environment of these tests, put there by ``.ci/tools``."""
    found = importlib.util.find_spec("numpy")
    assert found is not None, "numpy is missing in this environment: run .ci/tools, which installs it"
    assert found.origin is not None
    return Path(found.origin).parents[1]


@pytest.fixture(params=["on", "path"])
def options(request: pytest.FixtureRequest, packages: Path) -> dict[str, str]:
    """The virtual environment's own interpreter, or the one it was made with and the folder of the packages."""
    # Memory is what is tested, not time.
    time = {"sandbox.timeout_ms": "300000", "sandbox.max_cpu_s": "300"}
    if request.param == "on":
        return {"python.executable": sys.executable, "python.site_packages": "on", **time}
    return {"python.executable": str(Path(sys.executable).resolve()), "python.site_packages": str(packages), **time}


def run(lib: Library, code: str, max_memory_mb: int | None = None) -> Result:
    lib.put("s", code)
    result = lib.run("s", max_memory_mb=max_memory_mb, cache=False)
    assert result.outcome == "success", (result.error, result.stderr)
    return result


COMPUTE = """
import numpy as np
matrix = np.array([[4.0, 7.0], [2.0, 6.0]])
random = np.random.default_rng(42)
big = random.random((200, 200))
result = {
    "product": (np.array([[1, 2], [3, 4]]) @ np.array([[5, 6], [7, 8]])).tolist(),
    "inverse": np.linalg.inv(matrix).round(12).tolist(),
    "eigenvalues": sorted(np.linalg.eigvalsh([[2.0, 1.0], [1.0, 2.0]]).round(12).tolist()),
    "spectrum": np.fft.fft(np.arange(8)).real.round(12).tolist(),
    "random": [float(np.random.default_rng(42).random()), np.random.default_rng(42).integers(0, 10, 5).tolist()],
    "is_inverse": bool(np.allclose(big @ np.linalg.inv(big), np.eye(200))),
    "is_back": bool(np.allclose(np.fft.ifft2(np.fft.fft2(big)).real, big)),
    "mean": float(np.arange(1_000_000).mean()),
}
"""

COMPUTED = {
    "product": [[19, 22], [43, 50]],
    "inverse": [[0.6, -0.7], [-0.2, 0.4]],
    "eigenvalues": [1.0, 3.0],
    "spectrum": [28.0, -4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -4.0],
    "random": [0.7739560485559633, [0, 7, 6, 4, 4]],
    "is_inverse": True,
    "is_back": True,
    "mean": 499999.5,
}


def test_numpy_computes_in_the_memory_that_is_documented(options: dict[str, str]) -> None:
    with skillcache.open(":memory:", options) as lib:
        result = run(lib, COMPUTE, FIGURE_MB)
        assert result.value == COMPUTED
        assert result.level == "strict"


def test_a_skill_may_bring_the_memory_that_it_needs(options: dict[str, str]) -> None:
    with skillcache.open(":memory:", options) as lib:
        lib.put("s", COMPUTE, max_memory_mb=FIGURE_MB, dependencies=["numpy"])
        assert lib.run("s").value == COMPUTED


def test_numpy_is_imported_within_the_defaults(options: dict[str, str]) -> None:
    with skillcache.open(":memory:", options) as lib:
        code = "import numpy as np\nresult = [int(np.arange(10).sum()), float(np.sqrt(2.25))]"
        assert run(lib, code).value == [45, 1.5]


def test_libraries_below_numpy_are_told_to_use_one_thread(options: dict[str, str]) -> None:
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"]
    with skillcache.open(":memory:", {**options, "policy.mode": "off"}) as lib:
        assert run(lib, f"import os\nresult = [os.environ.get(name) for name in {names}]").value == ["1"] * len(names)


def test_a_skill_cannot_change_the_packages(options: dict[str, str], packages: Path) -> None:
    code = """
import os, numpy
folder = os.path.dirname(numpy.__file__)
result = []
for attempt in (lambda: open(folder + "/planted.py", "w"), lambda: os.remove(folder + "/version.py")):
    try:
        attempt()
    except OSError as error:
        result.append(type(error).__name__)
"""
    with skillcache.open(":memory:", {**options, "policy.mode": "off"}) as lib:
        refusals = run(lib, code).value
    assert len(refusals) == 2
    assert not (packages / "numpy" / "planted.py").exists()
    assert (packages / "numpy" / "version.py").exists()


def test_without_site_packages_there_is_no_numpy() -> None:
    with skillcache.open(":memory:", {"python.executable": sys.executable}) as lib:
        lib.put("s", "import numpy\nresult = 1")
        result = lib.run("s")
        assert result.error is not None
        assert (result.outcome, result.error.type) == ("error", "ModuleNotFoundError")
        with pytest.raises(skillcache.SkillValidationError, match=r"python\.site_packages is off") as caught:
            lib.put("needy", "result = 1", dependencies=["numpy"])
        assert caught.value.details["missing"] == ["numpy"]


@pytest.mark.parametrize("site_packages", ["on", "off"])
def test_a_virtual_environment_without_packages_works(tmp_path: Path, site_packages: str) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    executable = str(tmp_path / "bare" / "bin" / "python")
    with skillcache.open(":memory:", {"python.executable": executable, "python.site_packages": site_packages}) as lib:
        assert run(lib, "import json, math\nresult = json.loads('[1]') + [math.floor(2.5)]").value == [1, 2]
        lib.put("s", "import numpy")
        result = lib.run("s")
        assert result.error is not None
        assert result.error.type == "ModuleNotFoundError", "the packages of other environments are not there"


@pytest.mark.parametrize("site_packages", ["/no/such/folder", "relative/folder"])
def test_a_folder_of_packages_that_is_none(site_packages: str) -> None:
    with (
        skillcache.open(":memory:", {"python.site_packages": site_packages}) as lib,
        pytest.raises(skillcache.InvalidArgumentError, match=site_packages),
    ):
        lib.put("s", "result = 1")
