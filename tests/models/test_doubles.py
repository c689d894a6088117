"""Models of float64: equal numbers on this machine, in C and on cores with a double-precision unit; others refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import luciole
from luciole.errors import CompileError
from luciole.graph.builder import GraphBuilder
from luciole.graph.text import render_graph
from luciole.ir.types import Array, DType
from luciole.ops.activation import Relu
from luciole.ops.cast import Cast
from luciole.ops.conv import Conv2d
from luciole.ops.functions import Log, Sqrt
from luciole.ops.matmul import FullyConnected
from luciole.ops.reduce import Mean
from luciole.ops.softmax import Softmax


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution, a mean, a dense layer and a softmax in f64, with a second result in f32."""
    random, g = np.random.default_rng(5), GraphBuilder("doubles")
    x = g.input("x", DType.F64, (1, 6, 5, 3))
    w, b = g.constant(random.normal(size=(4, 3, 3, 3)), name="w"), g.constant(random.normal(size=4), name="b")
    y = g.add(Conv2d(x, w, b, pads=(1, 1, 1, 1)))
    y = g.add(Mean(g.add(Relu(y)), (1, 2)))
    y = g.add(FullyConnected(g.add(Sqrt(y)), g.constant(random.normal(size=(5, 4)), name="dense")))
    y = g.add(Log(g.add(Softmax(y))))
    g.output("y", y)
    g.output("short", g.add(Cast(y, "f32")))
    folder = tmp_path_factory.mktemp("doubles")
    rendered = render_graph(g.graph)
    (folder / "doubles.graph").write_text(rendered.text)
    np.savez(folder / "doubles.npz", **rendered.arrays)
    return folder / "doubles.graph"


@pytest.fixture(scope="module")
def sample() -> Array:
    return np.random.default_rng(6).normal(size=(1, 6, 5, 3))


@pytest.mark.parametrize(("target", "emit"), [("native", "object"), ("native", "c"), ("cortex-m55", "object")])
def test_doubles_are_computed_as_doubles(model: Path, sample: Array, target: str, emit: str) -> None:
    if target != "native":
        pytest.importorskip("unicorn", reason="unicorn is not installed")
    expected = luciole.load(model, stage="graph").run({"x": sample})
    found = luciole.load(model, target, emit=emit).run({"x": sample})
    assert (found["y"].dtype, found["short"].dtype) == (np.float64, np.float32)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-13)
    assert np.array_equal(found["short"], found["y"].astype(np.float32))


def test_no_routine_of_a_compiler_is_needed(model: Path) -> None:
    report = luciole.compile(model, "cortex-m55").report
    assert "__aeabi" not in report.to_json()


def test_the_header_and_the_test_program_have_doubles(model: Path) -> None:
    files = luciole.compile(model, emit="c", name="doubles").files
    assert b"double *doubles_" in files["doubles.h"] and b"static const double input_0[90]" in files["doubles_test.c"]


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "rv32imafc"])
def test_cores_without_doubles_refuse_them(model: Path, target: str) -> None:
    with pytest.raises(CompileError) as refused:
        luciole.compile(model, target)
    first, *others = refused.value.diagnostics
    assert first.message == f"conv2d: numbers are f64, and {target} has no double-precision unit"
    assert first.help.startswith("make the model float32, or compile for one of cortex-a53, cortex-a72, cortex-m55,")
    assert [other.message.partition(":")[0] for other in others] == [
        "mean",
        "sqrt",
        "fully_connected",
        "softmax",
        "log",
        "cast",
    ]
