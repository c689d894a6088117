"""Graphs as text: printing, parsing, files, and what is said about bad ones."""

from __future__ import annotations

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luciole.errors import CompileError, InternalError, Location
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, content_hash
from luciole.graph.samples import Samples
from luciole.graph.text import attribute_text, load_graph, parse_graph, print_graph, render_graph, save_graph
from luciole.graph.verify import verify_graph
from luciole.ir.quant import Quant
from luciole.ir.types import DType
from luciole.ops.conv import Conv2d
from luciole.ops.fused import fuse
from support.toy_operators import ToyAdd, ToyAttributes, ToyRelu, ToySplit, registered_toys


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    with registered_toys():
        yield


def convolution_graph() -> Graph:
    s = Samples()
    g = GraphBuilder("two convolutions")
    x = g.input("image;0", DType.I8, (1, 6, 6, 4), Quant.per_tensor(0.05, 3))
    first, second = s.i8_weights(3, 3, 3, 4), s.i8_weights(8, 1, 1, 3)
    place = Location("a.tflite", "conv/1", "CONV_2D")
    y = g.add(Conv2d(x, g.constant(first.data, first.type.quant, "w"), quant=Quant.per_tensor(0.1, -1), location=place))
    w, b = g.constant(second.data, second.type.quant, 'w "b"\n'), g.constant(np.arange(8, dtype=np.int32))
    other = Location("b.tflite", "last one", "CONV 2D")
    y = g.add(Conv2d(y, w, b, activation="relu", quant=Quant.per_tensor(0.1, -1), location=other), "y")
    g.output("scores of\tthe net", y)
    return g.graph


CONVOLUTIONS = """\
graph "two convolutions"
  source "a.tflite"
  quant q0 = affine(scale=0.05, zero=3)
  quant q1 = affine(scale=[INLINE], zero=0, axis=0)
  quant q2 = affine(scale=@SCALES, zero=0, axis=0)
  quant q3 = affine(scale=0.1, zero=-1)
  in %image;0: i8[1,6,6,4]:q0
  const %w: i8[3,3,3,4]:q1 = @FIRST
  const %"w \\"b\\"\\n": i8[8,1,1,3]:q2 = @SECOND
  const %c: i32[8] = [0, 1, 2, 3, 4, 5, 6, 7]
  %2: i8[1,4,4,3]:q3 = conv2d(%image;0, %w)  @"conv/1"(CONV_2D)
  %y: i8[1,4,4,8]:q3 = conv2d(%2, %"w \\"b\\"\\n", %c, activation="relu")  @"last one"("CONV 2D") in "b.tflite"
  out %y as "scores of\\tthe net"
end
"""


def test_a_graph_prints_as_documented() -> None:
    graph = convolution_graph()
    first, second, _ = graph.constants
    assert first.data is not None and second.data is not None and second.type.quant is not None
    scales = np.array(second.type.quant.scales, np.float32)
    expected = CONVOLUTIONS
    for word, array in {"FIRST": first.data, "SECOND": second.data, "SCALES": scales}.items():
        expected = expected.replace(f"@{word}", f"@{content_hash(array)}")
    assert first.type.quant is not None
    expected = expected.replace("INLINE", ", ".join(str(np.float32(scale)) for scale in first.type.quant.scales))
    assert print_graph(graph) == expected


def assert_round_trip(graph: Graph) -> Graph:
    rendered = render_graph(graph)
    again = parse_graph(rendered.text, rendered.arrays)
    assert print_graph(again) == rendered.text
    for old, new in zip(graph.values(), again.values(), strict=True):
        assert (old.name, old.type, old.is_constant) == (new.name, new.type, new.is_constant)
        if old.data is not None and new.data is not None:
            assert old.data.tobytes() == new.data.tobytes()
    assert [op.location for op in graph.operators] == [op.location for op in again.operators]
    assert [op.quant for op in graph.operators] == [op.quant for op in again.operators]
    return again


def test_text_round_trips() -> None:
    assert_round_trip(convolution_graph())


def test_every_kind_of_attribute_round_trips() -> None:
    g = GraphBuilder("kinds")
    x = g.input("x", DType.F32, (2,))
    rows = ((0.1, math.inf), (), (-math.inf, float(np.float32(0.1)), -0.0, 1e-40, 3e38))
    op = ToyAttributes(
        x, None, (x, x), -3, 1 / 3, True, 'a "b"\u00e9\n%', (1, 2), rows, None, DType.I8, location=Location(node="n")
    )
    y = g.add(op)
    z = g.add(ToyAttributes(y, y, real=math.nan))
    g.output("z", z)
    again = assert_round_trip(g.graph)
    first, second = again.operators
    assert isinstance(first, ToyAttributes) and isinstance(second, ToyAttributes)
    assert first.attributes() == op.attributes()
    assert (first.y, first.more) == (None, tuple(again.inputs * 2))
    assert math.isnan(second.real)


def test_operators_with_several_results_round_trip() -> None:
    g = GraphBuilder("split")
    a, b = g.add_all(ToySplit(g.input("x", DType.I8, (4, 2), Quant.per_tensor(0.5))), ("a", "b"))
    g.output("a", a)
    g.output("b", b)
    assert "  %a: i8[2,2]:q0, %b: i8[2,2]:q0 = toy_split(%x)\n" in print_graph(g.graph)
    assert_round_trip(g.graph)


def test_a_fused_body_prints_indented_and_round_trips() -> None:
    g = GraphBuilder("outer")
    x, c = g.input("x", DType.F32, (1, 3)), g.constant(np.array([1, 2, 3], np.float32))
    first = ToyAdd(x, c, location=Location("m", "add"))
    last = ToyRelu(g.add(first))
    y = g.add(last, "y")
    g.output("y", y)
    g.graph.replace(last, fuse([first, last], g.graph))
    g.graph.erase(first)
    assert print_graph(g.graph) == (
        "graph outer\n"
        "  in %x: f32[1,3]\n"
        "  const %c: f32[3] = [1.0, 2.0, 3.0]\n"
        "  %y: f32[1,3] = fused([%x, %c], body={\n"
        "    graph body\n"
        '      source "m"\n'
        "      in %x: f32[1,3]\n"
        "      in %c: f32[3]\n"
        '      %2: f32[1,3] = toy_add(%x, %c)  @"add"\n'
        "      %y: f32[1,3] = toy_relu(%2)\n"
        '      out %y as "y"\n'
        "    end\n"
        "  })\n"
        '  out %y as "y"\n'
        "end\n"
    )
    assert_round_trip(g.graph)


def test_constants_of_all_element_types_round_trip() -> None:
    g = GraphBuilder("constants")
    random = np.random.default_rng(1)
    for dtype in (DType.BOOL, DType.U8, DType.I16, DType.U16, DType.I32, DType.U32, DType.I64, DType.U64, DType.F32):
        for shape in ((), (3,), (0, 2), (5, 4)):
            g.constant(random.integers(0, 2, shape).astype(dtype.numpy), name=f"{dtype.value}{len(shape)}")
    g.constant(np.array([-(1 << 63), (1 << 63) - 1]))
    g.constant(np.array([np.nan, 1.0], np.float32), name="a number and none")
    g.constant(np.array([np.inf, -0.0, 1e-45, 0.1], np.float32))
    assert_round_trip(g.graph)


def test_two_contents_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luciole.graph.text.content_hash", lambda _: "00c0ffee")
    g = GraphBuilder("collision")
    for start in (0, 0, 1):
        g.constant(np.arange(start, start + 20, dtype=np.int8))
    assert [line.split("= ")[1] for line in print_graph(g.graph).splitlines()[1:4]] == [
        "@00c0ffee",
        "@00c0ffee",
        "@00c0ffee.1",
    ]
    assert_round_trip(g.graph)


@given(st.floats(width=32, allow_nan=False))
def test_float32_attributes_are_short_and_exact(number: float) -> None:
    text = attribute_text(number)
    assert len(text) <= 16 and "0x" not in text
    assert str(float(np.float32(text))) == str(number)


def test_attributes_without_text_form_are_our_bug() -> None:
    with pytest.raises(InternalError, match="has no text form"):
        attribute_text([1, 2])


def test_comments_and_line_ends_are_blanks() -> None:
    graph = parse_graph('graph g # a graph\r\n in\n%x:\tf32 [1 , 2 ] # in\n out %x as "y" end # done')
    assert print_graph(graph) == 'graph g\n  in %x: f32[1,2]\n  out %x as "y"\nend\n'


HEAD = "graph g\n  quant q = affine(scale=0.5, zero=0)\n  in %x: f32[2]\n"
BAD = [
    ("", "expected 'graph', found the end of the file", 1, 1),
    ("grph g end", "expected 'graph', found 'grph'", 1, 1),
    (HEAD, "expected a statement, found the end of the file", 4, 1),
    (HEAD + "end end", "expected the end of the file, found 'end'", 4, 5),
    (HEAD + '  in %"": f32[2]', "a value has an empty name", 4, 6),
    (HEAD + '  out %x as "y"\n  out %x as "y"', 'two outputs are named "y"', 5, 13),
    (HEAD + "  in %y: f32[2]:q", "f32 cannot be quantized", 4, 17),
    (HEAD + "  quant r = affine(scale=1e-60, zero=0)", "a scale is not a positive number", 4, 9),
    (HEAD + "  quant r = affine(scale=0x1.0p+200, zero=0)", "a scale is not a positive number", 4, 9),
    (HEAD + "  frob", "expected a statement, found 'frob'", 4, 3),
    (HEAD + "  in %x: f32[2]", "%x is declared twice", 4, 6),
    (HEAD + "  in %y: f12[2]", "unknown element type f12", 4, 10),
    (HEAD + "  in %y: index[2]", "unknown element type index", 4, 10),
    (HEAD + "  in %y: f32[-2]", "a size is negative", 4, 14),
    (HEAD + "  in %y: f32[2.0]", "expected a size, found a float", 4, 14),
    (HEAD + "  in %y: f32[99999,99999]", "the tensor has 9999800001 elements, the limit is 2147483648", 4, 13),
    (HEAD + "  in %y: f32[1,1,1,1,1,1,1,1,1]", "the tensor has 9 axes, the limit is 8", 4, 13),
    (HEAD + "  in %y: i8[2]:q9", "there is no quantization q9", 4, 16),
    (HEAD + "  quant q = affine(scale=1, zero=0)", "the quantization q is declared twice", 4, 9),
    (HEAD + "  quant r = affine(scale=0, zero=0)", "a scale is not a positive number", 4, 9),
    (HEAD + "  quant r = affine(scale=inf, zero=0)", "a scale is not a positive number", 4, 9),
    (HEAD + "  quant r = affine(scale=[], zero=0)", "expected numbers or a hash", 4, 26),
    (HEAD + "  quant r = affine(scale=1, zero=0.5)", "expected numbers or a hash", 4, 34),
    (HEAD + "  quant r = affine(scale=[1, 2], zero=[1, 2, 3])", "2 scales but 3 zero points", 4, 9),
    (HEAD + "  quant r = affine(scale=1, zero=9999999999)", "a zero point is no 32-bit number", 4, 9),
    (
        HEAD + "  quant r = affine(scale=[1, 2], zero=0, axis=1)\n  in %y: i8[2]:r",
        "r has 2 scales along axis 1 of a tensor of shape [2]",
        5,
        16,
    ),
    (HEAD + "  const %c: i8[2] = [1, 128]", "a number is no i8", 4, 21),
    (HEAD + "  const %c: i8[2] = [1, 1.0]", "a number is no i8", 4, 21),
    (HEAD + "  const %c: bool[1] = [1]", "a number is no bool", 4, 23),
    (HEAD + "  const %c: f32[3] = [1, 2]", "expected a list of 3 numbers, or a hash", 4, 22),
    (HEAD + "  const %c: f32[3] = @abc", "there is no array @abc", 4, 22),
    (HEAD + "  const %c: f32[3] = @dada", "%c is f32[3], the array of that name is int8[3]", 4, 22),
    (HEAD + "  %y: f32[2] = toy_relu(%z)", "%z is not declared before it is used", 4, 25),
    (HEAD + "  %y: f32[2] = frob(%x)", "there is no operator frob", 4, 16),
    (HEAD + "  %y: f32[3] = toy_relu(%x)", "toy_relu gives f32[2], declared f32[3]", 4, 3),
    (HEAD + "  in %z: i8[2]\n  %y: i8[2]:q = toy_relu(%z)", "toy_relu gives i8[2], declared i8[2]:affine(", 5, 3),
    (HEAD + "  %y: f32[2] = toy_relu(%x, %x)", "toy_relu takes 1 operands, before its attributes", 4, 29),
    (HEAD + "  %y: f32[2] = toy_relu()", "toy_relu does not take these operands and attributes: ", 4, 3),
    (HEAD + "  %y: f32[2] = toy_relu([%x])", "toy_relu does not take these operands and attributes: ", 4, 3),
    (HEAD + "  %y: f32[2] = toy_relu(none)", "toy_relu does not take these operands and attributes: ", 4, 3),
    (HEAD + "  %y: f32[2] = toy_relu(%x, slope=2)", "toy_relu has no attribute slope", 4, 29),
    (HEAD + "  %y: f32[2] = toy_relu(%x, quant=2)", "toy_relu has no attribute quant", 4, 29),
    (HEAD + "  %y: f32[2], %y: f32[2] = toy_split(%x)", "%y is declared twice", 4, 15),
    (HEAD + "  %y: f32[1] = toy_split(%x)", "toy_split gives f32[1], f32[1], declared f32[1]", 4, 3),
    (HEAD + "  %y: f32[2] = toy_add(%x, %x) @ q", "expected the node's name in quotes, found 'q'", 4, 34),
    (HEAD + "  out %x as y", "expected the name of the output in quotes, found 'y'", 4, 13),
    (HEAD + "  in %y ~ f32", "unexpected character '~'", 4, 9),
    (HEAD + '  in %"y: f32', "unexpected character '%'", 4, 6),
    (HEAD + '  source "\\x"', "bad string: Invalid \\escape: ", 4, 10),
    (HEAD + f"  in %y: f32[{'1' * 41}]", "the number is too long", 4, 14),
]
ATTRIBUTES = {
    "number=1.5": "number",
    "number=true": "number",
    'number="1"': "number",
    "real=true": "real",
    "flag=1": "flag",
    "name=none": "name",
    "pair=[1]": "pair",
    "pair=[1, 2.0]": "pair",
    "rows=[1.0]": "rows",
    "maybe=1.5": "maybe",
    "element=none": "element",
}
BAD += [
    (
        HEAD + f"  %y: f32[2] = toy_attributes(%x, {text})",
        f"the attribute {name} of toy_attributes does not take this value",
        4,
        36 + len(name),
    )
    for text, name in ATTRIBUTES.items()
]
BAD += [
    (
        HEAD + "  %y: f32[2] = toy_attributes(%x, number=1, number=1)",
        "toy_attributes has the attribute number twice",
        4,
        45,
    ),
    (HEAD + f"  %y: f32[2] = toy_attributes(%x, rows={'[' * 2000}", "more than 8 levels of nesting", 4, 48),
    (HEAD + "  %y: f32[2] = toy_attributes(%x, number=)", "expected a value, found ')'", 4, 42),
]


@pytest.mark.parametrize(("text", "message", "line", "column"), BAD)
def test_bad_text_is_the_users_error_with_a_place(text: str, message: str, line: int, column: int) -> None:
    with pytest.raises(CompileError) as caught:
        parse_graph(text, {"dada": np.zeros(3, np.int8)}, "m.graph")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.message.startswith(message)
    assert diagnostic.code == "graph-syntax"
    assert diagnostic.location.file == f"m.graph:{line}:{column}"


def test_an_error_shows_the_line_with_a_caret() -> None:
    with pytest.raises(CompileError) as caught:
        parse_graph(HEAD + "  %y: f32[2] = toy_relu(%x, slope=2)\nend", {}, "m.graph")
    assert str(caught.value) == (
        "error[graph-syntax]: toy_relu has no attribute slope\n"
        "  --> m.graph:4:29\n"
        "  note:   %y: f32[2] = toy_relu(%x, slope=2)\n"
        "                                    ^\n"
        "  help: attributes of toy_relu: none"
    )


def test_an_operator_that_does_not_fit_says_what_its_class_says() -> None:
    with pytest.raises(CompileError) as caught:
        parse_graph(HEAD + "  in %y: f32[3]\n  %z: f32[3] = toy_add(%x, %y)\nend")
    assert str(caught.value) == (
        "error[graph-syntax]: toy_add: shapes [2] and [3] do not broadcast\n"
        "  --> graph text:5:16\n"
        "  note:   %z: f32[3] = toy_add(%x, %y)\n"
        "                       ^\n"
        "  note: operands are a: f32[2], b: f32[3]"
    )


@given(st.data())
def test_no_damage_to_a_text_leads_to_anything_but_a_compile_error(data: st.DataObject) -> None:
    rendered = render_graph(convolution_graph())
    words = rendered.text.split(" ")
    at = data.draw(st.integers(0, len(words) - 1))
    words[at] = data.draw(
        st.sampled_from(["", words[at][:-1], words[at - 1], "none", "[", "]", "-1", "%w", '"', "9e99"])
    )
    with contextlib.suppress(CompileError):
        verify_graph(parse_graph(" ".join(words), rendered.arrays))


# Files


def test_files_round_trip_and_do_not_depend_on_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = convolution_graph()
    save_graph(graph, tmp_path / "a.graph")
    monkeypatch.setattr("time.time", lambda: 1e9)
    save_graph(load_graph(tmp_path / "a.graph"), tmp_path / "b.graph")
    for suffix in ("graph", "npz"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        for name, array in arrays.items():
            assert content_hash(array) == name


def test_a_graph_without_large_constants_has_no_npz(tmp_path: Path) -> None:
    g = GraphBuilder("small")
    g.output("y", g.add(ToyRelu(g.input("x", DType.F32, (2,)))))
    save_graph(g.graph, tmp_path / "small.graph")
    assert [path.name for path in tmp_path.iterdir()] == ["small.graph"]
    assert print_graph(load_graph(tmp_path / "small.graph")) == print_graph(g.graph)


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a file of numpy arrays: File is not a zip file"),
        (b"PK\x03\x04 and so on", "not a file of numpy arrays: File is not a zip file"),
        (npz(a=b"nonsense"), "not a file of numpy arrays: "),
        (npz(a=npy(np.zeros(4))[:-1]), "not a file of numpy arrays: an array of shape (4,) has 31 bytes"),
        (npz(a=npy(np.array([{}]))), "not a file of numpy arrays: an array holds Python objects"),
        (
            npz(a=npy(np.zeros(4)).replace(b"(4,), }            ", b"(4000000000000,), }")),
            "not a file of numpy arrays: an array of shape (4000000000000,) has 32 bytes",
        ),
    ],
)
def test_bad_array_files_are_the_users_error(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "m.graph").write_text("graph g end")
    (tmp_path / "m.npz").write_bytes(data)
    with pytest.raises(CompileError) as caught:
        load_graph(tmp_path / "m.graph")
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.location.file) == ("graph-file", str(tmp_path / "m.npz"))
    assert diagnostic.message.startswith(message)


def test_unreadable_graph_files_are_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="cannot read the file: No such file"):
        load_graph(tmp_path / "absent.graph")
    (tmp_path / "bytes.graph").write_bytes(b"graph \xff")
    with pytest.raises(CompileError, match="the file is not UTF-8 text"):
        load_graph(tmp_path / "bytes.graph")


def test_fortran_order_arrays_are_read_in_row_major_order(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(20, dtype=np.int8).reshape(4, 5))
    (tmp_path / "m.graph").write_text('graph g const %c: i8[4,5] = @a out %c as "c" end')
    (tmp_path / "m.npz").write_bytes(npz(a=npy(array)))
    (constant,) = load_graph(tmp_path / "m.graph").constants
    assert constant.data is not None
    assert constant.data.tolist() == array.tolist()
