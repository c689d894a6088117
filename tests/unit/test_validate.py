"""Feeding labelled data, comparing, and finding the first operator that differs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luciole
from luciole.cli.main import run_command
from luciole.cli.validate import Cause, describe
from luciole.difference import arrays_agree, elements_differ, find_first_difference
from luciole.errors import CompileError
from luciole.graph.core import Graph, Value
from luciole.graph.extract import graph_up_to
from luciole.graph.interpret import run_graph
from luciole.graph.rewrite import RuleCounter
from luciole.graph.text import print_graph
from luciole.graph.verify import verify_graph
from luciole.ir.quant import Quant
from luciole.ir.target import find_target
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.core import Expr
from luciole.lower.lower import lower
from luciole.ops.elementwise import Add, Sub
from luciole.passes.manager import GraphPass
from luciole.program.core import Program
from luciole.validate import Scaling, feed, predict, validate
from support.small_models import CLASSES, IMAGE, save_small, small_float, small_int8

PLAIN = Scaling()


def value(dtype: DType, scale: float | None = None, zero: int = 0) -> Value:
    return Value("x", TensorType(dtype, (1, 4), None if scale is None else Quant.per_tensor(scale, zero)))


# Feeding


@pytest.mark.parametrize(
    ("sample", "into", "scaling", "expected"),
    [
        # As they are, in any shape.
        (np.array([[-5, 0], [1, 127]], np.int8), value(DType.I8, 0.5, 3), PLAIN, [-5, 0, 1, 127]),
        (np.array([1.5, -2, 0, 1], np.float32), value(DType.F32), PLAIN, [1.5, -2, 0, 1]),
        # Pixels into int8.
        (np.array([0, 1, 128, 255], np.uint8), value(DType.I8, 1.0, -128), PLAIN, [-128, -127, 0, 127]),
        # Reals into int8: rounded, clamped.
        (np.array([0.0, 1.0, -1.26, 99.0]), value(DType.I8, 0.5, 3), PLAIN, [3, 5, 0, 127]),
        # Scaled integers.
        (np.array([83, 84, 82, -128], np.int8), value(DType.F32), Scaling(0.5, 83), [0, 0.5, -0.5, -105.5]),
        (np.array([0, 1, 128, 255], np.uint8), value(DType.F32), PLAIN, [0, 1, 128, 255]),
        (np.array([0, 51, 255, 255], np.uint8), value(DType.F32), Scaling(1 / 255), [0, np.float32(0.2), 1, 1]),
        (
            np.array([0, 51, 255, 255], np.uint8),
            value(DType.I8, 1 / 255, -128),
            Scaling(1 / 255),
            [-128, -77, 127, 127],
        ),
        # Integers of another width into the same reals.
        (np.array([0, 1000, 2000, -9], np.int16), value(DType.I8, 1.0, 0), Scaling(0.01), [0, 10, 20, 0]),
        (np.array([True, False, True, True]), value(DType.F32), PLAIN, [1, 0, 1, 1]),
    ],
)
def test_feeding(sample: Array, into: Value, scaling: Scaling, expected: list[float]) -> None:
    fed = feed(sample, into, scaling)
    assert fed.dtype == into.type.dtype.numpy and fed.shape == (1, 4)
    assert fed.reshape(-1).tolist() == np.array(expected, fed.dtype).tolist()


@pytest.mark.parametrize(
    ("sample", "into", "message"),
    [
        (np.zeros(5, np.int8), value(DType.I8, 1.0), r"a sample has shape \[5\], the input \"x\" is \[1, 4\]"),
        (np.zeros(4, np.int16), value(DType.I8, 1.0), "samples of int16 do not fit"),
        (np.zeros(4, np.int8), value(DType.I32), "samples of int8 do not fit"),
        (np.array(["a"] * 4), value(DType.F32), "are no numbers"),
    ],
)
def test_what_cannot_be_fed(sample: Array, into: Value, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        feed(sample, into, PLAIN)


# Comparing


def test_integers_agree_in_every_bit_and_floats_within_the_promise() -> None:
    assert elements_differ(np.array([1, 2, 3]), np.array([1, 0, 3])).tolist() == [False, True, False]
    expected = np.array([100.0, 1e-9, 0.0, np.nan, np.inf], np.float32)
    assert arrays_agree(expected, expected)
    assert arrays_agree(expected + np.float32(9e-4), expected)
    found = expected.copy()
    found[1] = 2e-3
    assert elements_differ(found, expected).tolist() == [False, True, False, False, False]
    for wrong in (np.nan, np.inf, -np.inf):
        found = expected.copy()
        found[2] = wrong
        assert elements_differ(found, expected).tolist() == [False, False, True, False, False]
    assert not arrays_agree(np.array([np.nan, 1e-9, 0, 0, np.inf], np.float32), expected)


def test_predictions() -> None:
    assert predict(np.array([[1, 7, 7]], np.int8), TensorType(DType.I8, (1, 3))) == 1
    one = TensorType(DType.I8, (1, 1), Quant.per_tensor(1 / 256, -128))
    assert [predict(np.array([[n]], np.int8), one) for n in (-128, 0, 1, 127)] == [0, 0, 1, 1]
    assert predict(np.array([0.7], np.float32), TensorType(DType.F32, (1,))) == 1


class Odd:
    """An engine that is wrong on every third sample."""

    def __init__(self, session: luciole.Session) -> None:
        self.program = session.program
        self._count = 0

    def run_many(self, samples: list[dict[str, Array]]) -> list[dict[str, Array]]:
        found = [run_graph(self.program.graph, inputs) for inputs in samples]
        for outputs in found:
            self._count += 1
            if self._count % 3 == 0:
                outputs["classes"] = np.roll(outputs["classes"], 1)
        return found


def test_mismatches_are_counted(tmp_path: Path) -> None:
    session = luciole.load(save_small(tmp_path), stage="graph")
    samples = np.random.default_rng(0).integers(-128, 128, (40, *IMAGE[1:])).astype(np.int8)
    labels = np.array([int(session.run({0: s[None]})["classes"].argmax()) for s in samples])
    done: list[int] = []
    result = validate(Odd(session), session.program.graph, samples, labels, PLAIN, done.append)  # type: ignore[arg-type]
    assert (result.samples, result.mismatches, result.first_mismatch) == (40, 13, 2)
    assert (result.correct, result.reference_correct, result.agreeing_predictions) == (27, 40, 27)
    assert result.accuracy == 27 / 40 and result.largest_error > 0 and sum(done) == 40 and len(done) == 2
    assert sum(result.confusion[label][label] for label in range(CLASSES)) == 27


# Parts of graphs


@pytest.mark.parametrize("graph", [small_int8(), small_float()], ids=["int8", "float"])
def test_a_part_of_a_graph_computes_the_same(graph: Graph) -> None:
    x = {"image": np.random.default_rng(1).integers(-9, 9, IMAGE).astype(graph.inputs[0].type.dtype.numpy)}
    seen: dict[str, Array] = {}
    run_graph(graph, x, lambda value, array: seen.update({value.name: array}))
    values = [value for op in graph.operators for value in graph.results(op)]
    before = print_graph(graph)
    for chosen in ([values[0]], [values[2], values[1]], values):
        part = graph_up_to(graph, chosen)
        verify_graph(part)
        assert [name for name, _ in part.outputs] == [value.name for value in chosen]
        outputs = run_graph(part, x)
        assert all(np.array_equal(outputs[value.name], seen[value.name]) for value in chosen)
        assert [v.type for v in part.values()] == [v.type for v in graph.values() if v.name in names(part)]
    assert print_graph(graph) == before
    assert len(graph_up_to(graph, [values[0]]).operators) == 1


def names(graph: Graph) -> set[str]:
    return {value.name for value in graph.values()}


# The first difference


def wrong_addition(op: Add, v: object, *operands: Expr) -> Expr:
    """A kernel that subtracts."""
    (a, b) = operands
    return Sub(op.a, op.b, quant=op.quant, activation=op.activation).element(v, a, b)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "where"),
    [
        (("--generic-kernels",), "native"),
        (("--target", "cortex-m4", "--generic-kernels"), "cortex-m4"),
        (("--bundle-api", "glow", "--generic-kernels"), "native"),
    ],
    ids=["native", "emulated", "glow"],
)
def test_a_wrong_kernel_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    where: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Add, "element", wrong_addition)
    save_small(tmp_path)
    np.savez("data.npz", x=np.random.default_rng(0).integers(-128, 128, (3, *IMAGE[1:])).astype(np.int8))
    assert run_command(["validate", "small.graph", "--data", "data.npz", *more]) == 4
    shown = capsys.readouterr().out
    assert re.search(rf"^compared on +{where}$", shown, flags=re.MULTILINE)
    assert "first operator that differs: add (value %joined)\n  kernel add_i8_" in shown
    assert " of 144 elements differ, the first at [0, " in shown and "it is right when" not in shown
    assert run_command(["validate", "small.graph", "--data", "data.npz", "--json", *more]) == 4
    assert '"operator": "add"' in capsys.readouterr().out


def test_a_wrong_float_kernel_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Add, "element", wrong_addition)
    save_small(tmp_path, small_float())
    np.savez("data.npz", x=np.random.default_rng(0).normal(size=(2, *IMAGE[1:])))
    assert run_command(["validate", "small_float.graph", "--data", "data.npz"]) == 4
    assert "first operator that differs: add (value %joined)" in capsys.readouterr().out


def test_a_pass_that_changes_the_meaning_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def subtract(graph: Graph, counter: RuleCounter) -> int:
        (op,) = (op for op in graph.operators if isinstance(op, Add))
        graph.replace(op, Sub(op.a, op.b, quant=op.quant, activation=op.activation))
        return 1

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("luciole.driver.OPTIMIZE", (GraphPass("subtract", "", subtract),))
    save_small(tmp_path)
    np.savez("data.npz", x=np.random.default_rng(0).integers(-128, 128, (2, *IMAGE[1:])).astype(np.int8))
    assert run_command(["validate", "small.graph", "--data", "data.npz", "--generic-kernels"]) == 4
    shown = capsys.readouterr().out
    assert "the optimized graph differs from the imported one" in shown and "first operator" not in shown


class Broken:
    """Compiles and runs by the meaning, wrongly where `is_wrong` says so of the value and the graph's outputs."""

    def __init__(self, wrong: Mapping[str, str], needs_sharing: bool) -> None:
        self._wrong = wrong
        self._needs_sharing = needs_sharing
        self.runs = 0

    def __call__(self, graph: Graph) -> tuple[Program, Mapping[str, Array]]:
        self.runs += 1
        found = run_graph(graph, X)
        is_shared = len(graph.outputs) == 1
        for name in found:
            if (is_shared or not self._needs_sharing) and any(wrong in names(graph) for wrong in self._wrong[name]):
                found[name] = found[name] + 1
        return lower(graph, find_target("native")), found


X = {"image": np.random.default_rng(1).integers(-128, 100, IMAGE).astype(np.int8)}


def influence(graph: Graph, wrong: str) -> dict[str, Any]:
    """For each value, whether an error in `wrong` shows in it."""
    shows = {value.name: [wrong] for op in graph.operators for value in graph.results(op)}
    reached = {wrong}
    for op in graph.operators:
        for result in graph.results(op):
            if any(operand.name in reached for operand in op.operands):
                reached.add(result.name)
    return {name: wrongs if name in reached else [] for name, wrongs in shows.items()}


@pytest.mark.parametrize("wrong", ["stem", "middle", "body", "joined", "flat", "scores", "classes"])
@pytest.mark.parametrize("needs_sharing", [False, True])
def test_every_operator_is_found(wrong: str, needs_sharing: bool) -> None:
    graph = small_int8()
    broken = Broken(influence(graph, wrong), needs_sharing)
    difference = find_first_difference(graph, X, broken)
    assert difference is not None and difference.value.name == wrong
    assert difference.needs_sharing is needs_sharing
    assert len(difference.differing) == difference.expected.size and set(difference.first_index) == {0}
    assert bool(difference.kernel) is (wrong != "flat")
    assert broken.runs == 1 or needs_sharing
    assert ("it is right when no memory is shared" in describe(Cause(difference, True))) is needs_sharing


def test_no_difference() -> None:
    graph = small_int8()
    assert find_first_difference(graph, X, Broken(dict.fromkeys(names(graph), ""), False)) is None  # type: ignore[arg-type]
    assert "every operator is right" in describe(Cause(None, True))


# The official figures


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "more", "correct"),
    [
        ("kws_dscnn_int8", "kws_mfcc_500", (), 449),
        ("ic_resnet8_int8", "cifar10_250", (), 223),
        ("vww_mbv1_int8", "vww_300", (), 259),
        ("kws_dscnn_f32", "kws_mfcc_500", ("--data-scale", "0.58470290899276733", "--data-zero", "83"), 457),
        ("ic_resnet8_f32", "cifar10_250", (), 222),
        ("vww_mbv1_f32", "vww_300", ("--data-scale", "0.00392156862745098"), 258),
    ],
)
def test_right_answers_on_the_labelled_samples(
    shared: Path,
    shared_model: Any,
    capsys: pytest.CaptureFixture[str],
    model: str,
    data: str,
    more: tuple[str, ...],
    correct: int,
) -> None:
    path = shared / "data" / f"{data}.npz"
    if not path.is_file():
        pytest.skip(f"no data at {path}")
    assert run_command(["validate", str(shared_model(model)), "--data", str(path), *more]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"^right answers +{correct} of ", shown, flags=re.MULTILINE)
    assert re.search(rf"^its reference .* {correct} of ", shown, flags=re.MULTILINE)


# Against the float original


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The integer model of the demo, in a folder with links to its float original and its samples."""
    folder = tmp_path_factory.mktemp("digits")
    for name in ("digits.onnx", "digits_samples.npz", "digits_calibration.npz"):
        (folder / name).symlink_to(Path(__file__).resolve().parents[2] / "examples" / "digits" / name)
    luciole.quantize_model(folder / "digits.onnx", folder / "digits_calibration.npz").save(folder / "digits.graph")
    return folder


def validated(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    capsys.readouterr()
    assert run_command(["validate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("target", ["native", "cortex-m4"])
def test_an_integer_model_beside_its_float_original(
    digits: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    original, data = digits / "digits.onnx", digits / "digits_samples.npz"
    more = ("--data", data, "--limit", "60", "--target", target)
    facts = validated(capsys, digits / "digits.graph", "--original", original, *more)
    quantizing = ("--quantize", "int8", "--calibration", digits / "digits_calibration.npz")
    assert validated(capsys, original, *quantizing, *more) == facts | {"model": str(original)}
    near = facts["original"]
    assert facts["mismatches"] == 0 and facts["reference"]["signal_to_noise_db"] == 200
    assert facts["reference"]["cosine"] == pytest.approx(1) and facts["reference"]["largest_error"] == 0
    assert 15 < near["signal_to_noise_db"] < 60 and 0.99 < near["cosine"] < 1
    assert 0 < near["root_mean_square_error"] < near["largest_error"] < 0.5
    outputs = [luciole.load(path).run_many(inputs) for path, inputs in inputs_of(digits)]
    answers, reals = (np.array([o["probabilities"].reshape(-1) for o in out], np.float64) for out in outputs)
    errors = (answers + 128) / 256 - reals
    assert near["largest_error"] == pytest.approx(np.abs(errors).max(), rel=1e-5)
    assert near["root_mean_square_error"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-5)
    labels = np.load(data)["y"][:60]
    assert near["correct"] == (reals.argmax(axis=1) == labels).sum()
    assert near["agreeing_predictions"] == (reals.argmax(axis=1) == answers.argmax(axis=1)).sum()
    assert np.trace(facts["confusion"]) == facts["correct"] and np.sum(facts["confusion"]) == 60


def inputs_of(digits: Path) -> list[tuple[Path, list[dict[int, Array]]]]:
    """Both models, and the first samples as each takes them."""
    pixels = np.load(digits / "digits_samples.npz")["x"][:60].reshape(-1, 1, 1, 8, 8)
    integers = (pixels.astype(np.int16) - 128).astype(np.int8)
    return [
        (digits / "digits.graph", [{0: x} for x in integers]),
        (digits / "digits.onnx", [{0: x} for x in pixels.astype(np.float32)]),
    ]


def test_the_tables_name_both_and_show_confusion(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(digits / "digits_samples.npz")
    original = str(digits / "digits.onnx")
    assert run_command(["validate", str(digits / "digits.graph"), "--original", original, "--data", data]) == 0
    shown = capsys.readouterr().out
    for fact in (
        "its reference",
        "float original",
        "SQNR dB",
        "cosine",
        "confusion: a row for each label",
        "350 of 360",
    ):
        assert fact in shown


def test_an_original_of_other_outputs_is_refused(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_small(tmp_path, small_float())
    arguments = ["validate", str(digits / "digits.graph"), "--original", str(other)]
    assert run_command([*arguments, "--data", str(digits / "digits_samples.npz")]) == 1
    assert "error[bad-option]: the original's first output is f32" in capsys.readouterr().err
