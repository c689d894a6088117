"""`luciole quantize`, and `--quantize int8` wherever a model is compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luciole as api
from luciole.ir.quant import Quant
from luciole.ops.activation import Clamp
from luciole.ops.matmul import FullyConnected
from luciole.ops.powers import Power
from luciole.ops.quantization import Dequantize, Quantize
from luciole.ops.reshape import Reshape
from support.float_nets import Net, images, residual
from support.onnx_models import Net as OnnxNet
from support.small_models import save_small

Run = Callable[..., Any]

#: Each stored sample is 10 times the real, plus 3.
SCALING = ("--data-scale", "0.1", "--data-zero", "3")


@pytest.fixture
def folder(tmp_path: Path, luciole: Run) -> Path:
    """The folder of the test, with a float model and its data."""
    here = Path.cwd()
    save_small(here, residual(5))
    x = np.concatenate([sample["image"] for sample in images(24)]) * 10 + 3
    np.savez(here / "data.npz", x=x.astype(np.float32), y=np.arange(24) % 5)
    return here


CALIBRATED = ("--calibration", "data.npz", *SCALING)


def test_a_model_is_quantized_and_compiles(luciole: Run, folder: Path) -> None:
    done = luciole("quantize", "net.graph", *CALIBRATED, "-o", "int8.graph", "--data", "data.npz", "--skip", "4")
    assert done.code == 0, done.err
    assert "ranges by minmax over 24 samples; no operator stays in float" in done.out
    assert " of 20 (" in done.out and "written:\n  int8.graph\n  int8.npz" in done.out
    session = api.load("int8.graph")
    assert {tensor.dtype for tensor in (*session.inputs, *session.outputs)} == {"int8"}


def test_the_facts_of_each_layer(luciole: Run, folder: Path) -> None:
    facts = luciole("quantize", "net.graph", *CALIBRATED, "--calibration-samples", "6", "--json").json
    assert [layer["kind"] for layer in facts["layers"]] == [
        "conv2d",
        "depthwise_conv2d",
        "add",
        "max_pool2d",
        "average_pool2d",
        "reshape",
        "fully_connected",
        "softmax",
    ]
    assert all(layer["signal_to_noise_db"] > 20 and layer["effective_bits"] > 3 for layer in facts["layers"])
    assert "over 6 samples" in facts["method"] and facts["accuracy"] is None and facts["files"] == []


def test_compiling_quantizes_on_the_way(luciole: Run, folder: Path) -> None:
    quantized = ("net.graph", "--quantize", "int8", *CALIBRATED, "--target", "cortex-m4")
    report = luciole("compile", *quantized, "-o", "whole", "--json").json
    assert report["removed_channels"] == []
    assert "ranges by minmax over 24 samples" in dict(report["options"])["quantization"]
    assert luciole("compile", *quantized, "--to", "quantize", "-o", "part.graph").code == 0
    assert luciole("compile", "part.graph", "--from", "quantize", "--target", "cortex-m4", "-o", "parts").code == 0
    for path in Path("whole").iterdir():
        assert path.read_bytes() == (Path("parts") / path.name).read_bytes(), path.name
    done = luciole("validate", *quantized, "--data", "data.npz", "--limit", "3", "--json")
    assert done.code == 0 and done.json["mismatches"] == 0 and done.json["samples"] == 3


def test_how_it_was_quantized_survives_saving_and_compiling(luciole: Run, folder: Path) -> None:
    assert luciole("quantize", "net.graph", *CALIBRATED, "-o", "int8.graph").code == 0
    saved = luciole("compile", "int8.graph", "-o", "saved", "--json").json
    at_once = luciole("compile", "net.graph", "--quantize", "int8", *CALIBRATED, "-o", "at_once", "--json").json
    assert dict(saved["options"])["quantization"] == dict(at_once["options"])["quantization"]
    assert saved["quantization"] == at_once["quantization"] and len(saved["quantization"]["layers"]) == 8
    for page in ("saved/int8.report.html", "at_once/net.report.html"):
        text = Path(page).read_text(encoding="utf-8")
        assert "<h2>Quantization</h2>" in text and "ranges by minmax over 24 samples" in text
    assert luciole("quantize", "net.graph", *CALIBRATED, "--data", "data.npz", "-o", "int8.graph").code == 0
    told = luciole("compile", "int8.graph", "-o", "saved", "--json").json["quantization"]["accuracy"]
    assert told["samples"] == 24 and 0 <= told["integer_right"] <= 24
    assert "Right answers of 24 labelled samples" in Path("saved/int8.report.html").read_text(encoding="utf-8")


def test_named_sizes_of_an_onnx_model_are_bound(luciole: Run, folder: Path) -> None:
    net = OnnxNet()
    y = net.add("Relu", net.conv("x", (3, 4), 3))
    model = net.model({"x": ["batch", 3, 8, 8]}, {y: ["batch", 4, 8, 8]})
    (folder / "named.onnx").write_bytes(model.SerializeToString())
    np.savez(folder / "first.npz", x=np.random.default_rng(1).normal(0, 1, (6, 3, 8, 8)).astype(np.float32))
    given = ("quantize", "named.onnx", "--calibration", "first.npz", "-o", "named.graph")
    assert luciole(*given).code == 2
    done = luciole(*given, "--dim", "batch=1")
    assert done.code == 0, done.err
    assert api.load("named.graph").inputs[0].shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    "remark", ["quantization layer {", "quantization accuracy []", 'quantization layer {\\"name\\": 1}']
)
def test_remarks_that_lie_are_refused(luciole: Run, folder: Path, remark: str) -> None:
    save_small(folder)
    text = (folder / "small.graph").read_text().replace("graph small\n", f'graph small\n  remark "{remark}"\n', 1)
    (folder / "small.graph").write_text(text)
    done = luciole("compile", "small.graph")
    assert done.code == 1 and "does not say what its beginning promises" in done.err


def test_a_profile_takes_the_place_of_samples(luciole: Run, folder: Path) -> None:
    options = ("--observer", "mse", "--correct-bias", "--equalize", "--float-operators", "softmax,stem")
    with_samples = luciole("quantize", "net.graph", *CALIBRATED, *options, "-o", "a.graph", "--save-profile", "p.json")
    assert with_samples.code == 0, with_samples.err
    assert "layers equalized, biases corrected over 24 samples; 2 stay in float" in with_samples.out
    assert luciole("quantize", "net.graph", "--profile", "p.json", *options, "-o", "b.graph").code == 0
    text = [line for line in Path("a.graph").read_text().splitlines() if "quantization layer" not in line]
    assert text == Path("b.graph").read_text().splitlines()
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()
    compiled = ("compile", "net.graph", "--quantize", "int8", "--profile", "p.json", *options)
    assert (
        luciole(*compiled, "-o", "c").code == 0 and luciole("compile", "b.graph", "--name", "net", "-o", "d").code == 0
    )
    assert Path("c/net.o").read_bytes() == Path("d/net.o").read_bytes()


def test_two_parts_of_the_data_through_a_profile_give_the_bytes_of_the_whole(luciole: Run, folder: Path) -> None:
    arrays = np.load("data.npz")
    np.savez("first.npz", x=arrays["x"][:7])
    np.savez("rest.npz", x=arrays["x"][7:])
    assert luciole("quantize", "net.graph", *CALIBRATED, "--save-profile", "whole.json").code == 0
    assert (
        luciole("quantize", "net.graph", "--calibration", "first.npz", *SCALING, "--save-profile", "f.json").code == 0
    )
    rest = ("--profile", "f.json", "--calibration", "rest.npz", *SCALING, "--save-profile", "both.json")
    assert luciole("quantize", "net.graph", *rest).code == 0
    assert Path("whole.json").read_bytes() == Path("both.json").read_bytes()


def test_a_session_of_a_quantized_model(folder: Path) -> None:
    given: dict[str, Any] = {"calibration": Path("data.npz"), "data_scale": 0.1, "data_zero": 3.0}
    native = api.load("net.graph", quantize="int8", **given)
    reference = api.load("net.graph", stage="graph", quantize="int8", **given)
    x = {"image": np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 3)).astype(np.int8)}
    assert np.array_equal(native.run(x)["probabilities"], reference.run(x)["probabilities"])


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (
            ("compile", "net.graph", "--quantize", "int8"),
            1,
            "error[no-calibration-data]: --quantize int8 needs samples of what the model will see",
        ),
        (("quantize", "net.graph"), 1, "error[no-calibration-data]: "),
        (
            ("compile", "net.graph", "--equalize", "--float-operators", "x"),
            1,
            "error[bad-option]: --float-operators, --equalize say nothing without --quantize",
        ),
        (
            ("quantize", "net.graph", *CALIBRATED, "--float-operators", "nobody"),
            1,
            "error[bad-option]: --float-operators: no operator is called nobody",
        ),
        (
            ("quantize", "middle.graph", *CALIBRATED, "-o", "int8.graph", "--save-profile", "p.json"),
            2,
            "error[unsupported-quantization]: power has no int8 form",
        ),
        (
            ("compile", "middle.graph", "--quantize", "int8", *CALIBRATED, "-o", "bundle"),
            2,
            "error[unsupported-quantization]: power has no int8 form",
        ),
        (("quantize", "net.graph", "--profile", "nowhere.json"), 1, "error[profile-file]"),
        (("quantize", "net.graph", "--profile", "data.npz"), 1, "error[profile-file]"),
        (
            ("compile", "net.graph", "--calibration", "data.npz"),
            1,
            "error[bad-option]: --calibration says nothing without --quantize",
        ),
        (("quantize", "net.graph", "--calibration", "nowhere"), 1, "error["),
        (
            ("quantize", "net.graph", *CALIBRATED, "-o", "int8.tflite"),
            1,
            "error[bad-option]: the integer model is a .graph or .onnx file, not .tflite",
        ),
        (("quantize", "net.graph", "--calibration", "wrong.npz"), 1, "error[bad-data]: a sample has shape [7]"),
        (("quantize", "net.graph", "--calibration", "nan.npz"), 1, 'error[bad-data]: sample 1 for the input "image"'),
        (("quantize", "net.graph", "--calibration", "none.npz"), 1, "error[no-calibration-data]: there are no samples"),
        (("quantize", "small.graph", *CALIBRATED), 1, 'error[nothing-to-quantize]: "small" has no float inputs'),
        (("quantize", "int8.graph", *CALIBRATED), 1, 'error[nothing-to-quantize]: "int8" is quantized already'),
        (
            ("quantize", "net.graph", *CALIBRATED, "--data", "labels.npz"),
            1,
            "error[bad-data]: sample 1 has the label 77, the model has the classes 0 to ",
        ),
        (
            ("compile", "net.graph", "--quantize", "int8", *CALIBRATED, "--from", "optimize"),
            1,
            "error[bad-option]: --quantize comes too late: the stage optimize is done",
        ),
        (("quantize", "net.graph", *CALIBRATED, "--data-scale", "0"), 1, "error[bad-option]: --data-scale 0 would"),
        (("quantize", "net.graph", *CALIBRATED, "--data-zero", "nan"), 1, "error[bad-option]: --data-zero must be"),
        (
            ("quantize", "net.graph", *CALIBRATED, "--data", "wrong.npz"),
            1,
            "error[bad-data]: the data of --data has no",
        ),
        (("quantize", "net.graph", *CALIBRATED, "--data", "data.npz", "--skip", "24"), 1, "error[bad-data]: --skip 24"),
    ],
)
def test_refusals(luciole: Run, folder: Path, arguments: tuple[str, ...], code: int, error: str) -> None:
    save_small(folder)
    g = Net(0)
    scores = g.add(FullyConnected(g.add(Reshape(g.x, (1, 192))), g.weights(6, 192)), "scores")
    ratio = g.add(Power(g.add(Clamp(scores, 0.0, 9.0)), g.weights(6)), "ratio")
    graph = g.finish(y=g.add(FullyConnected(ratio, g.weights(2, 6)), "y"))
    graph.name = "middle"
    save_small(folder, graph)
    g = Net(1)
    reals = g.add(Dequantize(g.add(Quantize(g.x, quant=Quant.per_tensor(0.1)))))
    graph = g.finish(y=g.add(FullyConnected(g.add(Reshape(reals, (1, 192))), g.weights(2, 192)), "y"))
    graph.name = "int8"
    save_small(folder, graph)
    np.savez(folder / "labels.npz", x=np.zeros((2, 8, 8, 3), np.float32), y=np.array([0, 77]))
    np.savez(folder / "wrong.npz", x=np.zeros((2, 7), np.float32))
    np.savez(folder / "none.npz", x=np.zeros((0, 8, 8, 3), np.float32))
    broken = np.zeros((2, 8, 8, 3), np.float32)
    broken[1, 2, 3, 0] = np.nan
    np.savez(folder / "nan.npz", x=broken)
    before = sorted(folder.iterdir())
    done = luciole(*arguments)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(error), done.err
    assert sorted(folder.iterdir()) == before
