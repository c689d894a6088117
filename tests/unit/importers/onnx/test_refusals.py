"""What an ONNX file may not be: each refusal with its text. Nothing a file says makes the importer fail otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

import onnx
from onnx import TensorProto, helper, numpy_helper

import luciole
from luciole.compilation import identify
from luciole.errors import CompileError, ToolError
from luciole.importers import load_model
from luciole.importers.onnx.build import load_onnx
from support.onnx_models import MODELS, Net


def refusal(model: Any, dims: dict[str, int] | None = None) -> tuple[str, int]:
    """The text and the exit code of the error that a model makes."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(CompileError) as error:
        load_onnx(data, "net.onnx", dims=dims)
    return str(error.value), error.value.exit_code


def relu(shape: list[Any] | None = None, output: list[Any] | None = None) -> Any:
    """A model of one Relu."""
    net = Net()
    return net.model({"x": shape or [2, 3]}, {net.add("Relu", "x"): output})


def test_all_operators_without_a_rule_are_told_at_once() -> None:
    net = Net()
    x = net.add("Unique", net.add("Relu", net.add("Unique", net.add("Det", "x"))))
    model = net.model({"x": [1, 3, 3]}, {net.add("Relu", x): None})
    model.graph.node[4].domain = "com.acme"
    model.opset_import.append(helper.make_opsetid("com.acme", 1))
    assert refusal(model) == (
        'error[unsupported-operator]: 3 operators have no import rule: Det (1 node, "det0"), Unique (2 nodes, '
        '"unique1", "unique3"), com.acme:Relu (1 node, "relu4")\n'
        "  --> net.onnx\n"
        "  help: `luciole ops` lists the supported operators",
        2,
    )


def test_open_sizes_are_named() -> None:
    text, code = refusal(relu(["batch", 3, None, 4]))
    assert (text, code) == (
        'error[open-shape]: input "x" has the shape [batch,3,x:2,4]: give a number for each name\n'
        "  --> net.onnx\n"
        "  help: as in --dim batch=1 --dim x:2=1",
        2,
    )


def test_open_sizes_are_bound() -> None:
    data = relu(["batch", 3, None, 4], ["batch", 3, None, 4]).SerializeToString()
    graph = load_onnx(data, "net.onnx", dims={"batch": 2, "x:2": 5})
    assert [value.type.shape for value in graph.inputs] == [(2, 3, 5, 4)]


def test_a_name_that_no_size_has() -> None:
    assert refusal(relu(["batch", 3]), {"batsh": 1}) == (
        'error[bad-option]: no size of the model is called "batsh"\n  help: open sizes are batch',
        1,
    )


def test_sizes_are_bound_from_python_and_the_command_line(tmp_path: Path) -> None:
    from luciole.cli.main import main

    (tmp_path / "net.onnx").write_bytes(relu(["batch", 3], ["batch", 3]).SerializeToString())
    session = luciole.load(tmp_path / "net.onnx", dims={"batch": 2})
    assert session.inputs[0].shape == (2, 3)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as exit:
        main(["compile", str(tmp_path / "net.onnx"), "--dim", "batch=2", "-o", str(out)])
    assert exit.value.code in (0, None)
    for wrong in ({"batch": 0}, {"batch": "2"}, {1: 2}):
        with pytest.raises(CompileError, match="--dim must give"):
            luciole.load(tmp_path / "net.onnx", dims=wrong)  # type: ignore[arg-type]
    (tmp_path / "net.graph").write_text("graph net\nend\n")
    with pytest.raises(CompileError, match="only ONNX models"):
        load_model(tmp_path / "net.graph", {"batch": 1})


def test_the_package_onnx_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = relu().SerializeToString()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ToolError, match=r"get it by: pip install 'luciole\[onnx\]'"):
        load_onnx(data, "net.onnx")


def test_types_without_arithmetic_are_refused() -> None:
    for number, name in ((TensorProto.COMPLEX64, "COMPLEX64"), (TensorProto.BFLOAT16, "BFLOAT16"), (99, "type 99")):
        model = relu()
        model.graph.input[0].type.tensor_type.elem_type = number
        text, code = refusal(model)
        assert f'input "x" is of element type {name}' in text and code == 2
    model = relu()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    model.graph.node[0].op_type = "Sigmoid"
    text, code = refusal(model)
    assert "error[unsupported-types]: logistic: x must be f32 or i8" in text and code == 2


Change = Callable[[Any], object]


def _twice(model: Any) -> None:
    model.graph.node.append(model.graph.node[0])


def _backwards(model: Any) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))


def _attribute(name: str, value: Any) -> Change:
    return lambda model: model.graph.node[0].attribute.append(helper.make_attribute(name, value))


def _constant(**fields: Any) -> Change:
    """Change the first constant of a model."""

    def change(model: Any) -> None:
        for name, value in fields.items():
            if name in ("dims", "float_data", "int32_data"):
                del getattr(model.graph.initializer[0], name)[:]
                getattr(model.graph.initializer[0], name).extend(value)
            else:
                setattr(model.graph.initializer[0], name, value)

    return change


#: Changes to a residual network, what the error says, and its exit code.
BROKEN: list[tuple[Change, str, int]] = [
    (lambda m: m.graph.ClearField("output"), "the model has no outputs", 1),
    (lambda m: m.ClearField("graph"), "it has no graph", 1),
    (lambda m: m.ClearField("opset_import"), "it imports none", 1),
    (lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 9)), "it imports 9 and 17", 1),
    (lambda m: setattr(m.opset_import[0], "version", 2**62), "uses opset 4611686018427387904", 2),
    (lambda m: setattr(m.opset_import[0], "version", 5), "uses opset 5; supported are 6 to", 2),
    (lambda m: m.graph.output.append(m.graph.output[0]), "two outputs have the same name", 1),
    (lambda m: m.graph.input.append(m.graph.input[0]), '"image" is made twice', 1),
    (_twice, "is made twice", 1),
    (_backwards, "is read, but nothing made it before", 1),
    (lambda m: m.graph.node[0].input.__setitem__(0, "nothing"), '"nothing" is read', 1),
    (lambda m: m.graph.node[0].input.__setitem__(0, ""), "operand 0 is missing", 1),
    (lambda m: m.graph.node[0].input.extend(["image"] * 9), "Conv has 11 operands; it takes 2 to 3", 1),
    (lambda m: m.graph.node[0].ClearField("output"), "the node has no results", 1),
    (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "two initializers", 1),
    (lambda m: m.graph.sparse_initializer.add(), "stored sparsely", 2),
    (_attribute("surprise", 1), "has no attribute surprise", 1),
    (_attribute("group", 1), "attribute group is given twice", 1),
    (_attribute("auto_pad", "SAME"), "auto_pad SAME is not supported", 2),
    (_attribute("dilations", [1]), "dilations of Conv is [1]; it needs 2 positive numbers", 1),
    (_attribute("dilations", [0, 1]), "dilations of Conv is [0, 1]", 1),
    (_attribute("dilations", [2**40, 1]), "none of these may exceed 4096", 2),
    (_attribute("dilations", "text"), "not a list of integers", 1),
    (_attribute("auto_pad", onnx.GraphProto(name="g")), "which is a graph", 1),
    (_constant(dims=[8, 3, 3, 4]), "needs 1152 bytes of data, the file has 864", 1),
    (_constant(dims=[-8, 3, 3, -3]), "with a negative size", 1),
    (_constant(dims=[2**40, 2**40]), "the limit is 2147483648", 1),
    (_constant(dims=[1] * 9 + [216]), "has 10 dimensions; the limit is 8", 1),
    (_constant(float_data=[1.0]), "has data in more than one place", 1),
    (_constant(raw_data=b"", float_data=[1.0]), "needs 216 values, the file has 1", 1),
    (_constant(raw_data=b"", int32_data=[1]), "has its values in int32_data", 1),
    (_constant(data_type=TensorProto.STRING), "has element type STRING", 2),
    (_constant(data_type=77), "has element type type 77", 2),
    (lambda m: setattr(m.graph.output[0], "name", "nowhere"), 'output "nowhere" is made by no node', 1),
    (lambda m: m.graph.input[0].type.Clear(), 'input "image" is of type unknown', 2),
    (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), 'input "image" has no shape', 2),
    (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 0), "has no elements", 2),
    (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", -3), "has the shape", 2),
    (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 2**50), "has the shape", 2),
    (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 4), "Conv of 4 channels", 1),
    (lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 4), "but the file says", 1),
]


@pytest.mark.parametrize("change, message, code", BROKEN, ids=[message for _, message, _ in BROKEN])
def test_broken_model(change: Change, message: str, code: int) -> None:
    model = MODELS["resnet"]()
    change(model)
    text, found = refusal(model)
    assert message in text
    assert found == code


def test_random_damage_is_an_error_or_another_model() -> None:
    data = MODELS["ds_cnn"]().SerializeToString()
    random = np.random.default_rng(11)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for position in random.integers(0, len(data) if random.random() < 0.5 else 2000, random.integers(1, 4)):
            damaged[position] = random.integers(0, 256)
        cut = len(data) if random.random() < 0.7 else int(random.integers(0, len(data)))
        try:
            load_onnx(bytes(damaged[:cut]), "net.onnx")
        except CompileError as error:
            refused += 1
            assert error.exit_code in (1, 2)
    assert refused > 50


@pytest.mark.parametrize("kind, value", [("ConstantOfShape", 2**20), ("Expand", 2**20), ("Range", 2**40)])
def test_constants_do_not_grow_without_bound(kind: str, value: int) -> None:
    net = Net()
    if kind == "Range":
        made = net.add("Range", *(net.constant(np.array(n, np.int64)) for n in (0, value, 1)))
    elif kind == "Expand":
        made = net.add("Expand", net.weights(1), net.integers(value, value))
    else:
        made = net.add("ConstantOfShape", net.integers(value, value))
    text, code = refusal(net.model({"x": [1]}, {net.add("Reshape", "x", made): None}))
    assert "makes a constant of" in text and code == 2


def test_doubling_again_and_again_ends() -> None:
    net = Net()
    made = net.weights(2)
    for _ in range(60):
        made = net.add("Concat", made, made, axis=0)
    text, code = refusal(net.model({"x": [1]}, {net.add("Add", "x", made): None}))
    assert "Concat makes a constant of 134217728 elements" in text and code == 2


@pytest.mark.parametrize("number", [0, -(2**63)])
def test_integers_at_their_limits(number: int) -> None:
    """What made other loaders stop: divisions by zero, and of the least number by -1."""
    net = Net()
    y = net.add("Div", net.integers(-(2**63)), net.integers(-1 if number else 0))
    y = net.add("Gather", net.weights(3), y)
    text, code = refusal(net.model({"x": [1]}, {net.add("Add", "x", y): None}))
    assert code == 1 and ("division by zero" in text or "out of bounds" in text)


def external(folder: Path, **entries: str) -> Any:
    """A Relu of a sum with a constant of three floats that stands in a file."""
    net = Net()
    model = net.model({"x": [3]}, {net.add("Add", "x", net.weights(3)): None})
    tensor = model.graph.initializer[0]
    (folder / "weights.bin").write_bytes(b"\0\0\0\0" + np.array([1, 2, 3], np.float32).tobytes())
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "weights.bin", "offset": "4", "length": "12"} | entries).items():
        tensor.external_data.add(key=key, value=value)
    return model


def test_data_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for location in ("weights.bin", "./weights.bin", "data/weights.bin"):
        model = external(tmp_path, location=location)
        (tmp_path / "data" / "weights.bin").write_bytes((tmp_path / "weights.bin").read_bytes())
        (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
        graph = load_model(tmp_path / "net.onnx")
        (constant,) = graph.constants
        assert constant.data is not None and constant.data.tolist() == [1, 2, 3]


def test_data_beside_the_model_count_in_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(external(tmp_path).SerializeToString())
    before = identify(path, "").sha256
    assert identify(path, "").sha256 == before
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    assert identify(path, "").sha256 != before
    (tmp_path / "weights.bin").unlink()
    assert len(identify(path, "").sha256) == 64  # the import says what is wrong


def test_data_outside_of_the_models_folder_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    (folder / "hard.bin").hardlink_to(secret)
    (folder / "folder").mkdir()
    import os

    os.mkfifo(folder / "pipe.bin")
    names = ["../secret.bin", "x/../../secret.bin", str(secret), "link.bin", "up/secret.bin", "hard.bin", "pipe.bin"]
    names += ["folder", "missing.bin", "", ".", "..", "weights.bin\0.txt", "C:\\secret.bin", "folder//weights.bin"]
    cases = [{"location": name} for name in (*names, "/dev/zero")]
    cases += [{"offset": "8"}, {"offset": "-4"}, {"length": "8"}, {"offset": "9" * 30}, {"length": "x"}, {"other": "1"}]
    for entries in cases:
        (folder / "net.onnx").write_bytes(external(folder, **entries).SerializeToString())
        with pytest.raises(CompileError, match=r"error\[external-data\]: data of tensor") as error:
            load_model(folder / "net.onnx")
        assert error.value.exit_code == 1
    assert "no folder to read from" in refusal(external(folder))[0]


def test_text_is_no_model() -> None:
    for data in (b"", b"import onnx\n" * 9, bytes(100), b"\x08\x07\x12\x04onnx"):
        text, code = refusal(data)
        assert "error[not-onnx]: the file is not an ONNX model" in text and code == 1


def test_values_that_stand_one_by_one() -> None:
    """Constants of each element type, in the field that ONNX gives it."""
    from luciole.errors import Location
    from luciole.importers.onnx.tensors import read_tensor

    for dtype in ("float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "uint64", "float64"):
        values = np.array([[0, 1, 100]], dtype)
        tensor = helper.make_tensor("t", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [1, 3], values.reshape(-1))
        for stored in (tensor, numpy_helper.from_array(values, "t")):
            found = read_tensor(stored, "t", None, Location())
            assert found.dtype == values.dtype and np.array_equal(found, values)
    flags = helper.make_tensor("t", TensorProto.BOOL, [2], [True, False])
    assert read_tensor(flags, "t", None, Location()).tolist() == [True, False]
    half = helper.make_tensor("t", TensorProto.FLOAT16, [2], [1.5, -2.0])
    assert read_tensor(half, "t", None, Location()).tolist() == [1.5, -2.0]
    for number, value in ((TensorProto.INT8, 128), (TensorProto.BOOL, 2), (TensorProto.FLOAT16, 1 << 16)):
        wrong = TensorProto(data_type=number, dims=[1], int32_data=[value])
        with pytest.raises(CompileError):
            read_tensor(wrong, "t", None, Location())
    with pytest.raises(CompileError, match="values other than 0 and 1"):
        read_tensor(TensorProto(data_type=TensorProto.BOOL, dims=[1], raw_data=b"\2"), "t", None, Location())
