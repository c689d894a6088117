"""Damaged and hostile model files: each is refused with an error of ours or compiles; none crashes or hangs.

Every file is compiled, as far as the plan of memory, in a child process of 1 GiB, so that neither a crash nor an
allocation of a claimed size can hide.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.tflite_writer import ModelSpec, OperatorSpec, SubgraphSpec, TensorSpec, write_model

MEMORY_BYTES = 1 << 30
#: A hang, not a measurement: a child does a few hundred files of milliseconds each.
HANG_SECONDS = 300

Mutation = list[list[object]]

#: Values of 32-bit fields at which comparisons and sums go wrong.
WORDS = ("00000000", "01000000", "ffffffff", "ffffff7f", "00000080", "fcffffff", "00000040", "ffff0000", "0000ffff")


def small_model() -> bytes:
    """A file with a convolution, a pool, a reshape, a dense layer and a softmax."""
    random_weights = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return random_weights.integers(-127, 128, shape).astype(np.int8)

    tensors = [
        TensorSpec("image", (1, 6, 6, 2), "i8", (0.5,), (3,)),
        TensorSpec("conv/w", (4, 3, 3, 2), "i8", (0.1, 0.2, 0.1, 0.3), data=weights(4, 3, 3, 2)),
        TensorSpec("conv/b", (4,), "i32", (0.05, 0.1, 0.05, 0.15), data=np.arange(4, dtype=np.int32)),
        TensorSpec("conv", (1, 6, 6, 4), "i8", (0.7,), (-128,)),
        TensorSpec("pool", (1, 3, 3, 4), "i8", (0.7,), (-128,)),
        TensorSpec("flat/shape", (2,), "i32", data=np.array([1, 36], np.int32)),
        TensorSpec("flat", (1, 36), "i8", (0.7,), (-128,)),
        TensorSpec("dense/w", (5, 36), "i8", (0.1,), data=weights(5, 36)),
        TensorSpec("dense", (1, 5), "i8", (0.9,), (1,)),
        TensorSpec("classes", (1, 5), "i8", (1 / 256,), (-128,)),
    ]
    window = {"stride_w": 2, "stride_h": 2, "filter_width": 2, "filter_height": 2, "padding": "VALID"}
    convolution = {"stride_w": 1, "stride_h": 1, "padding": "SAME", "fused_activation_function": "relu"}
    operators = [
        OperatorSpec("CONV_2D", ["image", "conv/w", "conv/b"], ["conv"], convolution),
        OperatorSpec("AVERAGE_POOL_2D", ["conv"], ["pool"], window),
        OperatorSpec("RESHAPE", ["pool", "flat/shape"], ["flat"], {"new_shape": [1, 36]}),
        OperatorSpec("FULLY_CONNECTED", ["flat", "dense/w", -1], ["dense"]),
        OperatorSpec("SOFTMAX", ["dense"], ["classes"], {"beta": 1.0}),
    ]
    return write_model(ModelSpec([SubgraphSpec(tensors, operators, ["image"], ["classes"])]))


def truncations(size: int) -> list[Mutation]:
    """Every length of the first 128 bytes, and some lengths beyond, odd and even."""
    return [[["cut", length]] for length in [*range(128), *range(128, size, 13), size - 1]]


def bit_flips(size: int, count: int) -> list[Mutation]:
    """Bits flipped alone, at pseudo-random places."""
    generator = random.Random(7)
    return [[["flip", generator.randrange(size), generator.randrange(8)]] for _ in range(count)]


def words(size: int, step: int) -> list[Mutation]:
    """Dangerous 32-bit values at every `step`-th aligned place."""
    generator = random.Random(8)
    return [[["write", offset, generator.choice(WORDS)]] for offset in range(0, size - 4, step)]


def resolve(data: bytes, mutations: list[Mutation]) -> list[Mutation]:
    """Flips as writes of the whole byte."""
    return [
        [
            ["write", edit[1], bytes([data[int(str(edit[1]))] ^ 1 << int(str(edit[2]))]).hex()]
            if edit[0] == "flip"
            else edit
            for edit in edits
        ]
        for edits in mutations
    ]


def outcomes(data: bytes, mutations: list[Mutation], folder: Path, root: Path) -> list[str]:
    """What becomes of each mutation, in a child process."""
    base, list_file = folder / "base.bin", folder / "mutations.json"
    base.write_bytes(data)
    list_file.write_text(json.dumps(resolve(data, mutations)))
    command = [sys.executable, str(root / "tests/hostile/try_files.py"), str(base), str(list_file), str(MEMORY_BYTES)]
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "OPENBLAS_NUM_THREADS": "1"}
    child = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, env=environment, check=False)
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    results = [line["outcome"] for line in lines if "outcome" in line]
    last = mutations[lines[-1]["trying"]] if lines and "trying" in lines[-1] else None
    assert child.returncode == 0, f"the child died with {child.returncode} at {last}: {child.stderr[-2000:]}"
    assert len(results) == len(mutations)
    for mutation, result in zip(mutations, results, strict=True):
        assert result == "compiled" or result.startswith("refused: "), f"{mutation}: {result}"
        assert "unreadable-file" not in result, f"{mutation}: {result}"
    return results


def test_truncated_files(tmp_path: Path, root: Path) -> None:
    data = small_model()
    assert set(outcomes(data, truncations(len(data)), tmp_path, root)) <= {
        "refused: malformed-file",
        "refused: not-a-model",
    }


def test_flipped_bits(tmp_path: Path, root: Path) -> None:
    data = small_model()
    results = outcomes(data, bit_flips(len(data), 600), tmp_path, root)
    assert "compiled" in results
    assert "refused: malformed-file" in results


def test_dangerous_words_everywhere(tmp_path: Path, root: Path) -> None:
    data = small_model()
    results = outcomes(data, words(len(data), 4), tmp_path, root)
    assert "refused: malformed-file" in results


@pytest.mark.parametrize("name", ["hello_world_int8", "trained_lstm_int8", "micro_speech_quantized"])
def test_damaged_shared_models(name: str, shared_model: Callable[[str], Path], tmp_path: Path, root: Path) -> None:
    data = shared_model(name).read_bytes()
    generator = random.Random(name)
    # The tables stand at the end or at the beginning of a file, the weights fill the middle.
    places = [*range(0, 256), *range(len(data) - 1500, len(data) - 4)]
    mutations: list[Mutation] = [[["write", generator.choice(places), generator.choice(WORDS)]] for _ in range(150)]
    mutations += [[["flip", generator.choice(places), generator.randrange(8)]] for _ in range(150)]
    mutations += [[["cut", generator.randrange(len(data))]] for _ in range(50)]
    outcomes(data, mutations, tmp_path, root)


def test_thousands_of_references_to_one_long_name(tmp_path: Path, root: Path) -> None:
    """In a file of 1 MB, 100,000 tensors share one table with a name of 500 KB: 50 GB of names."""
    data = bytearray(write_model(ModelSpec([SubgraphSpec([TensorSpec("x", (1,), "f32")], [], [0], [0])])))
    # The vector of tensors is written anew at the end, with 100,000 offsets to one table behind it.
    field = _tensor_vector(bytes(data))
    count = 100_000
    data += bytes(-len(data) % 4)
    start = len(data)
    data[field : field + 4] = (start - field).to_bytes(4, "little")
    data += count.to_bytes(4, "little")
    for index in range(count):
        data += (4 * (count - index)).to_bytes(4, "little")
    vtable = b"\x0c\x00\x08\x00" + b"\x00\x00\x00\x00\x00\x00\x04\x00"  # only slot 3, the name
    data += (-8 & 0xFFFFFFFF).to_bytes(4, "little") + (4 + len(vtable)).to_bytes(4, "little") + vtable
    data += (500_000).to_bytes(4, "little") + b"n" * 500_000 + b"\0"
    (result,) = outcomes(bytes(data), [[]], tmp_path, root)
    assert result == "refused: malformed-file"


def _tensor_vector(data: bytes) -> int:
    """Position of the field that refers to the vector of tensors."""

    def u32(at: int) -> int:
        return int.from_bytes(data[at : at + 4], "little")

    def field(table: int, slot: int) -> int:
        vtable = table - int.from_bytes(data[table : table + 4], "little", signed=True)
        return table + int.from_bytes(data[vtable + 4 + 2 * slot : vtable + 6 + 2 * slot], "little")

    root = u32(0)
    subgraphs = field(root, 2)
    vector = subgraphs + u32(subgraphs)
    graph = vector + 4 + u32(vector + 4)
    return field(graph, 0)


def test_what_is_not_a_file(tmp_path: Path) -> None:
    from luciole.errors import CompileError
    from luciole.importers import load_model

    os.mkfifo(tmp_path / "pipe.tflite")
    (tmp_path / "folder.tflite").mkdir()
    (tmp_path / "text.tflite").write_text("this is a text, and not a model\n" * 10)
    (tmp_path / "empty.tflite").write_bytes(b"")
    with (tmp_path / "huge.tflite").open("wb") as huge:
        huge.truncate((1 << 31) + 1)  # sparse: no disk is used
    for name, text in {
        "pipe": "is not a regular file",
        "folder": "is a directory",
        "missing": "does not exist",
        "text": "not a model",
        "empty": "not a model",
        "huge": "has 2147483649 bytes; the limit is 2147483648",
    }.items():
        with pytest.raises(CompileError, match=text):
            load_model(tmp_path / f"{name}.tflite")
