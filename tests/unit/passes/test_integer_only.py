"""`--require-int8`: what stays in floats is named, with the reason; ends that are only quantized are int8."""

from __future__ import annotations

import pytest

from luciole.errors import EXIT_UNSUPPORTED, CompileError
from luciole.graph.core import Graph
from luciole.graph.parse import parse_graph
from luciole.graph.text import render_graph
from luciole.ops.catalog import load_operators
from luciole.passes.integer_only import check_integers, with_integer_ends

ENDS = """graph ends
  quant q0 = affine(scale=0.5, zero=-7)
  quant q1 = affine(scale=0.25, zero=3)
  in %x: f32[4]
  in %z: f32[4]
  %0: i8[4]:q0 = quantize(%x, rounding="onnx")
  %1: i8[4]:q1 = relu(%0, rounding="onnx")
  %2: f32[4] = dequantize(%1)
  %3: f32[4] = add(%2, %z)
  out %2 as "y"
  out %3 as "both"
end
"""

INTEGER_ENDS = """graph ends
  quant q0 = affine(scale=0.5, zero=-7)
  quant q1 = affine(scale=0.25, zero=3)
  in %x: i8[4]:q0
  in %z: f32[4]
  %1: i8[4]:q1 = relu(%x, rounding="onnx")
  %2: f32[4] = dequantize(%1)
  %3: f32[4] = add(%2, %z)
  out %1 as "y"
  out %3 as "both"
end
"""


def graph_of(text: str) -> Graph:
    load_operators()
    return parse_graph(text, {})


def test_ends_that_are_only_quantized_become_int8() -> None:
    new = with_integer_ends(graph_of(ENDS))
    assert [line for line in render_graph(new).text.splitlines() if not line.lstrip().startswith("remark")] == (
        INTEGER_ENDS.splitlines()
    )
    assert new.remarks == [
        "input x is int8: affine(scale=0.5, zero=-7)",
        "output y is int8: affine(scale=0.25, zero=3)",
    ]


def test_every_operator_in_floats_is_named_with_its_reason() -> None:
    with pytest.raises(CompileError) as caught:
        check_integers(with_integer_ends(graph_of(ENDS)))
    assert [(d.code, d.exit_code, d.message) for d in caught.value.diagnostics] == [
        ("float-operator", EXIT_UNSUPPORTED, "dequantize is computed in floats: its result is used as floats"),
        ("float-operator", EXIT_UNSUPPORTED, "add is computed in floats: its operand %z is not quantized"),
    ]
    assert "--quantize int8" in caught.value.diagnostics[1].help


def test_a_graph_of_integers_is_let_through() -> None:
    lines = [line for line in INTEGER_ENDS.splitlines() if not any(word in line for word in ("%z", "%2", "%3"))]
    check_integers(graph_of("\n".join(lines) + "\n"))
