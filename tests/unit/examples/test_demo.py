"""What `make demo` runs and shows: the demo itself, and the C file that calls its bundle."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import luciole
from support.native_c import WARNINGS, compiler

ROOT = Path(__file__).resolve().parents[3]
DIGITS = ROOT / "examples" / "digits"
EXPECTED_CORRECT = 350


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The integer model, as the demo makes it."""
    path = tmp_path_factory.mktemp("digits") / "digits.graph"
    luciole.quantize_model(DIGITS / "digits.onnx", DIGITS / "digits_calibration.npz").save(path)
    return path


def build(command: list[str], *arguments: object) -> None:
    result = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_the_caller_reads_the_digits_with_the_c_bundle(model: Path, tmp_path: Path, name: str) -> None:
    luciole.compile(model, emit="c").save(tmp_path)
    sources = (tmp_path / "digits.c", DIGITS / "classify.c")
    build(
        [*compiler(name), "-std=c99", "-O2", *WARNINGS, "-shared", "-fPIC", "-I", str(tmp_path)],
        *sources,
        "-o",
        tmp_path / "digits.so",
    )
    classify = ctypes.CDLL(str(tmp_path / "digits.so")).classify
    with np.load(DIGITS / "digits_samples.npz") as samples:
        images, labels = samples["x"], samples["y"]
    pixels = (images.astype(np.int16) - 128).astype(np.int8)
    digits = [classify(np.ascontiguousarray(image).ctypes.data_as(ctypes.c_void_p)) for image in pixels]
    assert sum(digit == label for digit, label in zip(digits, labels, strict=True)) == EXPECTED_CORRECT


@pytest.mark.cross
def test_the_caller_links_with_the_object_for_the_cortex_m7(model: Path, tmp_path: Path) -> None:
    luciole.compile(model, target="cortex-m7").save(tmp_path)
    flags = ["-mcpu=cortex-m7", "-mthumb", "-std=c99", "-O2", *WARNINGS, "-nostdlib", "-Wl,-e,classify"]
    build(
        ["arm-none-eabi-gcc", *flags, "-I", str(tmp_path)],
        DIGITS / "classify.c",
        tmp_path / "digits.o",
        "-o",
        tmp_path / "digits.elf",
    )


@pytest.mark.slow
def test_the_demo_shows_accuracy_memory_instructions_and_the_caller() -> None:
    result = subprocess.run([sys.executable, DIGITS / "demo.py"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "digits.onnx reads 352 of 360" in result.stdout
    assert f"accuracy              {EXPECTED_CORRECT} of 360" in result.stdout
    told = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "the float model reads 352 of them, the bundle 350, in an arena of 1,384 bytes" in told
    assert "RAM: arena            1,384 bytes" in result.stdout
    for fact in ("RAM: stack", "flash", "instructions", "digits_run(&model)"):
        assert fact in result.stdout
