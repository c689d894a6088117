"""What all tests share: paths, skips with a reason where a tool is missing, and `--update` for the golden cases."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

#: Marker -> the commands it needs, all of them.
TOOLS_OF_MARKER = {
    "qemu": ("qemu-system-arm", "qemu-system-riscv32"),
    "cross": ("arm-none-eabi-gcc",),
}

# The same examples on every machine and run; a failure found elsewhere is added as an explicit example.
settings.register_profile("luciole", derandomize=True, deadline=None)
settings.load_profile("luciole")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite the expected text of .case files that differ")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, commands in TOOLS_OF_MARKER.items():
        missing = [command for command in commands if shutil.which(command) is None]
        if not missing:
            continue
        skip = pytest.mark.skip(reason=f"not installed: {', '.join(missing)}")
        for item in items:
            if item.get_closest_marker(marker) is not None:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of models and labelled data beside the repository; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no models and data at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def shared_model(shared: Path) -> object:
    """A function from a model's name, such as `kws_dscnn`, to its TFLite file."""

    def find(name: str) -> Path:
        path = shared / "models" / "tflite" / f"{name}.tflite"
        if not path.is_file():
            pytest.skip(f"no model at {path}")
        return path

    return find


@pytest.fixture(scope="session")
def update_cases(pytestconfig: pytest.Config) -> bool:
    """Whether `--update` was given: rewrite what a golden case expects instead of failing."""
    return bool(pytestconfig.getoption("--update"))
