"""Which marked loops become vectors and which are refused, and their LLVM for MVE; `vectorize_*.case` show the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, compile_object
from luciole.ir.target import find_target
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder, View
from luciole.kernel.core import Kernel
from luciole.kernel.vectorize import vectorize
from luciole.lower.schedule import scheduled
from luciole.targets.mve.unit import MVE

I8, I32, I64 = DType.I8, DType.I32, DType.I64
M55 = find_target("cortex-m55")


def kernel(body: Callable[[LoopBuilder, View, View, View], None]) -> Kernel:
    """A kernel over two inputs and an output of 64 bytes."""
    k = LoopBuilder("case", is_scheduled=True)
    a, b = k.buffer("in", "a", I8, (64,), 4), k.buffer("in", "b", I8, (64,), 4)
    body(k, a, b, k.buffer("inout", "y", I8, (64,), 4))
    return k.build()


def text_of(kernel: Kernel) -> str:
    """Its assembly by vectors, after LLVM has taken it."""
    text = print_kernel_llvm(scheduled(kernel, M55), "case", M55)
    assert compile_object([LlvmModule(text, optimize=False)], M55)
    return text


def dot(count: int) -> Callable[[LoopBuilder, View, View, View], None]:
    """The sum of products of some bytes."""

    def body(k: LoopBuilder, a: View, b: View, y: View) -> None:
        total = k.define("total", 0)
        with k.loop("i", count, is_vector=True) as i:
            total += a[i].cast(I32) * b[i].cast(I32)
        y[0] = total.cast(I8)

    return body


def test_products_are_summed_by_one_instruction() -> None:
    text = text_of(kernel(dot(64)))
    assert "llvm.arm.mve.vmldava.v16i8" in text
    assert "masked" not in text
    assert text.count(" phi ") == 2


def test_the_rest_of_a_loop_is_one_vector_under_a_mask() -> None:
    text = text_of(kernel(dot(21)))
    assert text.count("call i32 @llvm.arm.mve.vmldava") == 2
    assert text.count("call <16 x i8> @llvm.masked.load") == 2
    assert " phi " not in text


def test_a_loop_of_unknown_length_has_a_mask_each_turn() -> None:
    def body(k: LoopBuilder, a: View, b: View, y: View) -> None:
        with k.loop("outer", 8) as outer, k.loop("i", outer * 8, is_vector=True) as i:
            y[i] = a[i]

    text = text_of(kernel(body))
    assert "llvm.arm.mve.vctp8" in text
    assert "llvm.masked.store.v16i8" in text


def _previous(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 63, is_vector=True) as i:
        y[i + 1] = y[i]


def _far(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 32, is_vector=True) as i:
        y[i] = a[i * 2]


def _stepped(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 0, 64, 2, is_vector=True) as i:
        y[i] = a[i]


def _position(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 64, is_vector=True) as i:
        y[i] = i.cast(I8)


def _wide(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 64, is_vector=True) as i:
        y[i] = ((a[i].cast(I64) * b[i].cast(I64)) >> 7).cast(I8)


def _carried(k: LoopBuilder, a: View, b: View, y: View) -> None:
    total = k.define("total", 0)
    with k.loop("i", 64, is_vector=True) as i:
        total.set(total * 3 + a[i].cast(I32))
    y[0] = total.cast(I8)


def _branching(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 64, is_vector=True) as i, k.if_(a[i] > 0):
        y[i] = b[i]


def _same_place(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 64, is_vector=True) as i:
        y[0] = a[i]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_previous, "y is written and read"),
        (_far, "elements of a are 2 apart"),
        (_stepped, "its step is 2"),
        (_position, "the value of variable"),
        (_wide, "a number of i64"),
        (_carried, "total is no sum of products of bytes"),
        (_same_place, "elements of y are 0 apart"),
        (_branching, "if in its body"),
    ],
)
def test_marked_loops_that_cannot_become_vectors(
    body: Callable[[LoopBuilder, View, View, View], None], reason: str
) -> None:
    with pytest.raises(ValueError, match=f"loop i of case cannot become vectors: {reason}"):
        vectorize(kernel(body), MVE)


def test_loops_without_a_mark_stay() -> None:
    def body(k: LoopBuilder, a: View, b: View, y: View) -> None:
        with k.loop("i", 64) as i:
            y[i] = a[i]

    assert vectorize(kernel(body), MVE) == kernel(body)


def test_targets_without_vectors_run_the_loop() -> None:
    assert scheduled(kernel(dot(64)), find_target("cortex-m4")) == kernel(dot(64))
