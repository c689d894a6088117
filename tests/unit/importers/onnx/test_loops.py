"""Loop and Scan with a known number of turns give what onnxruntime gives; others are refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

import onnx
from onnx import parser

from luciole import CompileError, backend
from luciole.importers.onnx.unrolling import MAXIMUM_UNROLLED
from support.onnx_models import random_inputs, reference

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'

#: A state of three numbers, and what it was in each turn.
LOOP = """
main (float[3] x) => (float[3] last, float[{turns},3] all) {{
  count = Constant <value = int64 {{{turns}}}> ()
  going = Constant <value = bool {{{going}}}> ()
  two = Constant <value_float = 2.0> ()
  last, all = Loop <body = body (int64 i, bool c, float[3] h) => (bool d, float[3] next, float[3] seen) {{
    d = {condition}
    step = Cast <to = 1> (i)
    scaled = Mul (h, two)
    next = Add (scaled, step)
    seen = Neg (next)
  }}> (count, going, x)
}}
"""

#: A running sum over the columns of a matrix from the last to the first, and its doubles in that order.
SCAN = """
main (float[2] start, float[2,5] xs) => (float[2] end, float[2,5] sums) {
  end, sums = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1], scan_output_axes = [-1],
                    scan_output_directions = [1],
                    body = body (float[2] s, float[2] x) => (float[2] next, float[2] doubled) {
    next = Add (s, x)
    doubled = Add (next, next)
  }> (start, xs)
}
"""

#: Each turn has a loop of its own, which reads what is around it.
NESTED = """
main (float[4] x) => (float[4] y) {
  two = Constant <value = int64 {2}> ()
  three = Constant <value = int64 {3}> ()
  y = Loop <body = outer (int64 i, bool c, float[4] h) => (bool c2, float[4] next) {
    c2 = Identity (c)
    next = Loop <body = inner (int64 j, bool d, float[4] g) => (bool d2, float[4] after) {
      d2 = Identity (d)
      sum = Add (g, h)
      after = Tanh (sum)
    }> (three, , h)
  }> (two, , x)
}
"""


def model(text: str, **given: Any) -> onnx.ModelProto:
    """The model of a text."""
    found = parser.parse_model(HEAD + (text.format(**given) if given else text))
    return found


@pytest.mark.parametrize(
    "text",
    [
        LOOP.format(turns=4, going=1, condition="Identity (c)"),
        SCAN,
        NESTED,
    ],
    ids=["loop", "scan", "nested"],
)
def test_turns_of_a_known_number(text: str) -> None:
    given = model(text)
    inputs = random_inputs(given, 3)
    results = backend.prepare(given).run(list(inputs.values()))
    for result, expected in zip(results, reference(given, inputs).values(), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-6)


def refusal(text: str) -> str:
    """The first line of what a model is refused with."""
    with pytest.raises(CompileError) as caught:
        backend.prepare(model(text))
    return str(caught.value).partition("\n")[0]


def test_refusals() -> None:
    loop = {"going": 1, "condition": "Identity (c)"}
    assert refusal(LOOP.format(turns=2, **(loop | {"going": 0}))) == "error[unsupported-empty]: Loop that never runs"
    assert refusal(LOOP.format(turns=0, **loop)) == "error[unsupported-empty]: Loop that never runs"
    assert refusal(LOOP.format(turns=MAXIMUM_UNROLLED, **loop)).startswith(
        f"error[too-large]: Loop of {MAXIMUM_UNROLLED} turns would become {5 * MAXIMUM_UNROLLED} nodes"
    )
    computed = "ReduceMax <keepdims = 0> (h)\n    e = Less (d0, two)\n    d = Identity (e)"
    text = LOOP.format(turns=2, going=1, condition="X").replace("d = X", f"d0 = {computed}")
    assert refusal(text) == "error[unsupported-operator]: Loop until a condition that is computed at run time"
    text = LOOP.format(turns=2, **loop).replace("float[3] x)", "float[3] x, int64 count)")
    text = text.replace("  count = Constant <value = int64 {2}> ()\n", "")
    assert refusal(text) == "error[unsupported-operator]: Loop whose number of turns is computed at run time"
