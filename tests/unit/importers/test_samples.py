"""Samples of data by every way they can be given, as a model's inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from luciole.errors import CompileError
from luciole.graph.core import Value
from luciole.importers.samples import SampleSource, Scaling, fed_samples, feed
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, TensorType

IMAGE = Value("image", TensorType(DType.F32, (1, 2, 2)))
STORED = Scaling()
OTHER = Value("other", TensorType(DType.F32, (3,)))


def collect(source: SampleSource, *inputs: Value, scaling: Scaling = STORED) -> list[dict[str, Array]]:
    return list(fed_samples(source, inputs, scaling))


def test_the_first_axis_of_an_array_numbers_the_samples(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    np.savez(tmp_path / "x.npz", x=pixels)
    np.savez(tmp_path / "named.npz", image=pixels, x=np.zeros(7))
    np.save(tmp_path / "x.npy", pixels)
    for name in ("x.npz", "named.npz", "x.npy"):
        found = collect(str(tmp_path / name), IMAGE, scaling=Scaling(0.5, 1))
        assert [sample["image"].dtype for sample in found] == [np.float32] * 3
        assert np.array_equal(np.concatenate([s["image"] for s in found]), (pixels - 1.0) * 0.5)


def test_several_inputs_by_name(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, image=np.ones((2, 4), np.float32), other=np.zeros((2, 3), np.float32))
    found = collect(path, IMAGE, OTHER)
    assert [(s["image"].shape, s["other"].shape) for s in found] == [((1, 2, 2), (3,))] * 2


def test_a_folder_of_samples_and_of_batches(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.full((2, 2, 2), 2, np.float32))
    np.save(tmp_path / "a.npy", np.full((2, 2), 1, np.float32))
    assert [float(sample["image"][0, 0, 0]) for sample in collect(tmp_path, IMAGE)] == [1, 2, 2]
    (tmp_path / "empty").mkdir()
    assert collect(tmp_path / "empty", IMAGE) == []


def test_an_iterable_is_read_as_it_comes() -> None:
    taken: list[int] = []

    def source() -> object:
        for number in range(5):
            taken.append(number)
            yield {"image": np.full(4, number, np.float32)} if number % 2 else np.full(4, number, np.float32)

    samples = fed_samples(source(), [IMAGE])  # type: ignore[arg-type]
    assert [float(next(samples)["image"][0, 0, 0]) for _ in range(3)] == [0, 1, 2]
    assert taken == [0, 1, 2]


def test_reals_for_an_integer_input_are_quantized() -> None:
    value = Value("x", TensorType(DType.I8, (2,), Quant.per_tensor(0.5, -100)))
    pixels = np.array([1, 20], np.uint8)
    assert feed(pixels, value, Scaling()).tolist() == [-127, -108]
    assert feed(pixels, value, Scaling(are_reals=True)).tolist() == [-98, -60]


@pytest.mark.parametrize(
    ("arrays", "inputs", "message"),
    [
        ({"y": np.zeros(3)}, [IMAGE], "has no array for the input image; its arrays are y"),
        ({"x": np.zeros((2, 4))}, [IMAGE, OTHER], "has no array for the input image, other; its arrays are x"),
        ({"x": np.float32(3)}, [IMAGE], "has a single number, no samples"),
        ({"x": np.zeros((2, 5))}, [IMAGE], r"a sample has shape \[5\], the input \"image\" is \[1, 2, 2\]"),
        ({"x": np.array([["a"] * 4])}, [IMAGE], "samples of <U1 are no numbers"),
        (
            {"image": np.zeros((2, 4)), "other": np.zeros((3, 3))},
            [IMAGE, OTHER],
            r"the inputs have different numbers of samples \(image: 2, other: 3\)",
        ),
    ],
)
def test_what_does_not_fit(tmp_path: Path, arrays: dict[str, Array], inputs: list[Value], message: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(CompileError, match=message):
        collect(tmp_path / "data.npz", *inputs)


def test_a_folder_or_a_plain_array_feeds_one_input(tmp_path: Path) -> None:
    for source in (tmp_path, [np.zeros(4)]):
        with pytest.raises(CompileError, match="the model has 2 inputs, image, other; a sample is one array"):
            collect(source, IMAGE, OTHER)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"nowhere\.npz"):
        collect(tmp_path / "nowhere.npz", IMAGE)
