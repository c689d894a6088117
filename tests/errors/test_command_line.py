"""What users meet when arguments or files are wrong: the exact text, the exit code, and nothing written."""

from __future__ import annotations

import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from luciole.cli.main import run_command
from luciole.errors import EXIT_BUDGET, EXIT_UNSUPPORTED, EXIT_USER
from luciole.ir.target import load_targets
from support.small_models import IMAGE, save_small, small_float

Refused = Callable[..., str]

#: The header of an array of 2**40 elements, which are not there.
HUGE_ARRAY = (
    b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '|i1', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117)
    + b"\n"
)
ARRAYS_HELP = "help: give an .npz (numpy.savez) with arrays by name, or an .npy (numpy.save) for a single one"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the model `small.graph` and an input that fits it."""
    monkeypatch.chdir(tmp_path)
    save_small(tmp_path)
    np.savez("in.npz", image=np.zeros(IMAGE, np.int8))
    return tmp_path


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command that must fail with a code; its error, less the count at the end. Nothing may be written."""

    def run(code: int, *arguments: object) -> str:
        before = sorted(folder.rglob("*"))
        assert run_command([str(argument) for argument in arguments]) == code
        captured = capsys.readouterr()
        assert captured.out == "" and sorted(folder.rglob("*")) == before
        return captured.err.removesuffix("1 error; nothing was written\n").rstrip("\n")

    return run


def usage(command: str, problem: str) -> str:
    """What is said of arguments that cannot be understood."""
    *words, last = command.split("|")
    return f"Usage: {' '.join(words)} {last}\nTry '{words[0]} --help' for help.\n\nError: {problem}"


def test_arguments(refused: Refused) -> None:
    assert refused(EXIT_USER, "fly") == usage("luciole|[OPTIONS] VERB ...", "No such command 'fly'.")
    compile_usage = "luciole compile|[OPTIONS] MODEL"
    assert refused(EXIT_USER, "compile") == usage(compile_usage, "Missing argument 'MODEL'.")
    assert refused(EXIT_USER, "compile", "small.graph", "--emit", "pdf") == usage(
        compile_usage, "Invalid value for '--emit': 'pdf' is not one of 'object', 'archive', 'c'."
    )
    assert refused(EXIT_USER, "compile", "small.graph", "--max-ram", "lots") == usage(
        compile_usage, "Invalid value for '--max-ram': \"lots\" is no size; write bytes, or 64K, or 1M"
    )
    assert "Missing option '--data'" in refused(EXIT_USER, "validate", "small.graph")
    assert "Missing option '--input'" in refused(EXIT_USER, "run", "small.graph")


def test_an_unknown_target_lists_those_there_are(refused: Refused) -> None:
    assert refused(EXIT_USER, "compile", "small.graph", "--target", "cortex-m9") == (
        f'error[unknown-target]: there is no target "cortex-m9"\n  help: targets are {", ".join(load_targets())}'
    )


@pytest.mark.parametrize("verb", ["check", "compile", "inspect", "profile"])
def test_a_model_that_is_no_file(refused: Refused, folder: Path, verb: str) -> None:
    (folder / "folder.tflite").mkdir()
    os.mkfifo(folder / "pipe.tflite")
    for name, problem in (
        ("none.tflite", "does not exist"),
        ("folder.tflite", "is a directory"),
        ("pipe.tflite", "is not a regular file"),
        ("two\nlines", "does not exist"),
    ):
        shown = name.replace("\n", "\\n")
        assert refused(EXIT_USER, verb, name) == f'error[unreadable-file]: "{shown}" {problem}'


@pytest.mark.parametrize("content", [b"", b"import tensorflow as tf\n" * 50], ids=["empty", "text"])
def test_a_model_that_is_none(refused: Refused, folder: Path, content: bytes) -> None:
    (folder / "text.tflite").write_bytes(content)
    assert refused(EXIT_USER, "compile", "text.tflite").startswith("error[not-a-model]: not a model: bytes 4 to 8")


def test_budgets(refused: Refused, folder: Path) -> None:
    assert refused(EXIT_BUDGET, "compile", "small.graph", "--generic-kernels", "--max-ram", "100") == (
        "error[does-not-fit]: the arena needs 192 B, --max-ram allows 100 B\n"
        "  --> largest at the peak (instruction 2): %joined 144 B, %middle 144 B, %body 24 B\n"
        "  --> this is the smallest arena found, with layers row by row where that helps\n"
        "  help: a smaller input; `luciole inspect` draws the memory over time"
    )
    save_small(folder, small_float())
    assert "a smaller input, or int8 instead of floats;" in refused(
        EXIT_BUDGET, "run", "small_float.graph", "-i", "in.npz", "--max-ram", "200"
    )
    flash = refused(EXIT_BUDGET, "compile", "small.graph", "--max-flash", "1K", "--target", "cortex-m4")
    assert flash.startswith("error[does-not-fit]: the bundle needs ")
    assert " B of flash, --max-flash allows 1,024 B\n  --> weights " in flash
    assert refused(EXIT_BUDGET, "check", "small.graph", "--max-flash", "1K", "--target", "cortex-m4") == flash


def test_a_folder_that_cannot_be_written(refused: Refused, folder: Path) -> None:
    (folder / "file").write_text("in the way")
    assert refused(EXIT_USER, "compile", "small.graph", "-o", "file/below") == (
        "error[cannot-write]: the bundle cannot be written to file/below: Not a directory\n"
        "  help: choose another folder with --output, or make room"
    )
    assert refused(EXIT_USER, "compile", "small.graph", "--dump", "file") == (
        "error: cannot make the folder file: File exists"
    )
    (folder / "taken.npz").mkdir()
    for name, reason in (("none/y.npz", "No such file or directory"), ("taken.npz", "is a directory")):
        assert refused(EXIT_USER, "run", "small.graph", "-i", "in.npz", "-o", name) == (
            f'error[cannot-write]: cannot write "{name}": {reason}'
        )


def array_files() -> Iterator[tuple[str, dict[str, np.ndarray], str]]:
    """Arrays that do not fit the model, and what is said."""
    image = np.zeros(IMAGE, np.int8)
    yield "name", {"pic": image}, "the model has no input 'pic'\n  help: its inputs are \"image\" int8[1, 6, 6, 3]"
    yield "shape", {"image": image[0]}, 'input "image" int8[1, 6, 6, 3] is given int8[6, 6, 3]'
    yield "type", {"image": image.astype(float)}, 'input "image" int8[1, 6, 6, 3] is given float64[1, 6, 6, 3]'
    yield "position", {"1": image}, "the model has no input '1'\n  help: its inputs are \"image\" int8[1, 6, 6, 3]"
    yield (
        "twice",
        {"image": image, "0": image},
        "input \"image\" int8[1, 6, 6, 3] is given twice, the second time as '0'",
    )
    yield "none", {}, 'no data for input "image" int8[1, 6, 6, 3]'


def test_inputs_that_do_not_fit(refused: Refused) -> None:
    for name, arrays, message in array_files():
        np.savez("given.npz", **arrays)
        said = refused(EXIT_USER, "run", "small.graph", "-i", "given.npz", "-o", "y.npz")
        assert said == f"error[bad-input]: {message}", name


def test_files_that_hold_no_arrays(refused: Refused, folder: Path) -> None:
    whole = (folder / "in.npz").read_bytes()
    np.savez("objects.npz", image=np.array([{"a": 1}], object))
    (folder / "pickle.npy").write_bytes(pickle.dumps({"image": 1}))
    (folder / "short.npz").write_bytes(whole[:100])
    with zipfile.ZipFile("lies.npz", "w") as archive:
        archive.writestr("image.npy", HUGE_ARRAY)
    os.mkfifo("pipe.npz")
    for name, problem in (
        ("objects.npz", "an array holds pickled Python objects, which are never loaded"),
        ("pickle.npy", "File is not a zip file"),
        ("short.npz", "File is not a zip file"),
        ("lies.npz", "an array of shape [1099511627776] and type int8 has 0 bytes"),
        ("small.graph", "File is not a zip file"),
    ):
        for verb, option in (("run", "--input"), ("validate", "--data"), ("profile", "--input")):
            assert refused(EXIT_USER, verb, "small.graph", option, name) == (
                f'error[bad-data]: "{name}" holds no arrays: {problem}\n  {ARRAYS_HELP}'
            )
    assert refused(EXIT_USER, "run", "small.graph", "-i", "pipe.npz") == (
        'error[unreadable-file]: "pipe.npz" is not a regular file'
    )


def test_data_that_cannot_be_fed(refused: Refused) -> None:
    images = np.zeros((2, *IMAGE[1:]), np.int8)

    def error(**arrays: np.ndarray) -> str:
        np.savez("data.npz", **arrays)
        return refused(EXIT_USER, "validate", "small.graph", "--data", "data.npz").removeprefix("error[bad-data]: ")

    assert error(y=np.zeros(3, int)) == (
        '"data.npz" has no array `x`; its arrays are y\n'
        "  help: labelled data is an .npz with samples `x` and labels `y`"
    )
    assert error(x=images[:0]) == '"data.npz" holds no samples'
    assert error(x=np.int8(3)) == '"data.npz" holds no samples'
    assert error(x=images, y=np.zeros(3, np.int64)) == "labels `y` are one integer a sample, 2; they are int64[3]"
    assert error(x=images, y=np.eye(2)) == "labels `y` are one integer a sample, 2; they are float64[2, 2]"
    assert error(x=images, y=np.array([0, 99])) == (
        "sample 1 has the label 99, the model has the classes 0 to 4\n"
        "  help: labels number the elements of the first output, from 0"
    )
    assert error(x=images, y=np.array([-1, 0])).startswith("sample 0 has the label -1, the model has the classes")
    holes = images.astype(np.float32)
    holes[1, 2, 3, 0] = np.nan
    assert error(x=holes) == 'sample 1 of "data.npz" has infinite numbers or NaN'
    assert error(x=images[:, :5]) == (
        'a sample has shape [5, 6, 3], the input "image" is [1, 6, 6, 3]\n'
        "  help: the first axis of an array of samples numbers them; each has as many elements as the input"
    )
    assert error(x=images.astype(np.complex64)) == "samples of complex64 are no numbers"
    assert error(x=images.astype(np.int16)) == (
        "samples of int16 do not fit the input i8[1,6,6,3]:affine(scale=0.003921569, zero=-128)\n"
        "  help: --data-scale and --data-zero say which reals they stand for: (x - zero) * scale"
    )


def test_targets_that_do_not_run_here(refused: Refused) -> None:
    run = ("run", "small.graph", "-i", "in.npz")
    assert refused(EXIT_UNSUPPORTED, *run, "--target", "x86-64-v3") == (
        "error[not-runnable]: code for x86-64-v3 cannot be run here\n"
        "  help: run with --target native, or with a core that is emulated (see `luciole targets`)"
    )
    assert refused(EXIT_UNSUPPORTED, "profile", "small.graph") == (
        "error[not-runnable]: instructions are counted on emulated cores; native is none\n"
        "  help: name one with --target, such as cortex-m4; see `luciole targets`"
    )
    assert refused(EXIT_UNSUPPORTED, *run, "--target", "cortex-m4", "--bundle-api", "glow") == (
        "error[not-runnable]: bundles with the interface of glow are run on this machine only\n"
        "  help: leave --bundle-api away, or run with --target native"
    )
    assert refused(EXIT_UNSUPPORTED, *run, "--target", "cortex-m55", "--emulator", "unicorn") == (
        "error[not-runnable]: unicorn has no cortex-m55\n  help: leave --emulator away to use QEMU"
    )


def test_missing_tools_say_how_to_get_them(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    run = ("run", "small.graph", "-i", "in.npz", "--target")
    assert refused(EXIT_USER, *run, "cortex-m55") == (
        "error: emulating cortex-m55 needs qemu-system-arm; on Debian: apt-get install qemu-system-arm"
    )
    assert refused(EXIT_USER, *run, "cortex-m4", "--emit", "c") == (
        "error: compiling C for cortex-m4 needs arm-none-eabi-gcc; on Debian: apt-get install gcc-arm-none-eabi"
    )
    monkeypatch.setitem(sys.modules, "unicorn", None)
    assert refused(EXIT_USER, *run, "cortex-m4") == (
        "error: emulation needs the package unicorn: pip install luciole[emulate]"
    )


def test_check_tells_programs_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", "none.tflite", "--json"]) == EXIT_USER
    captured = capsys.readouterr()
    assert captured.err == ""
    facts = json.loads(captured.out)
    assert (facts["compiles"], facts["errors"][0]["code"]) == (False, "unreadable-file")
