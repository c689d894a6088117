"""Which loops of hand-scheduled kernels become vectors of MVE, and which are left as they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, compile_object
from luciole.ir.target import find_target
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder, View
from luciole.kernel.core import Kernel

I8, I32, I64 = DType.I8, DType.I32, DType.I64
M55 = find_target("cortex-m55")


def kernel(body: Callable[[LoopBuilder, View, View, View], None], *, is_scheduled: bool = True) -> Kernel:
    """A kernel over two inputs and an output of 64 bytes."""
    k = LoopBuilder("case", is_scheduled=is_scheduled)
    a, b = k.buffer("in", "a", I8, (64,), 4), k.buffer("in", "b", I8, (64,), 4)
    body(k, a, b, k.buffer("inout", "y", I8, (64,), 4))
    return k.build()


def text_of(kernel: Kernel) -> str:
    """Its assembly, after LLVM has taken it."""
    text = print_kernel_llvm(kernel, "case", M55)
    assert compile_object([LlvmModule(text, optimize=False)], M55)
    return text


def dot(count: int) -> Callable[[LoopBuilder, View, View, View], None]:
    """The sum of products of some bytes."""

    def body(k: LoopBuilder, a: View, b: View, y: View) -> None:
        total = k.define("total", 0)
        with k.loop("i", count) as i:
            total += a[i].cast(I32) * b[i].cast(I32)
        y[0] = total.cast(I8)

    return body


def test_products_are_summed_by_sixteen() -> None:
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
        with k.loop("outer", 8) as outer, k.loop("i", outer * 8) as i:
            y[i] = a[i]

    text = text_of(kernel(body))
    assert "llvm.arm.mve.vctp8" in text
    assert "llvm.masked.store.v16i8" in text


def test_words_go_by_four() -> None:
    def body(k: LoopBuilder, a: View, b: View, y: View) -> None:
        with k.loop("i", 64) as i:
            y[i] = (a[i].cast(I32) + b[i].cast(I32)).cast(I8)

    text = text_of(kernel(body))
    assert "add <4 x i32>" in text
    assert "store <4 x i8>" in text


def _previous(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 63) as i:
        y[i + 1] = y[i]


def _far(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 32) as i:
        y[i] = a[i * 2]


def _stepped(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 0, 64, 2) as i:
        y[i] = a[i]


def _position(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 64) as i:
        y[i] = i.cast(I8)


def _wide(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 64) as i:
        y[i] = ((a[i].cast(I64) * b[i].cast(I64)) >> 7).cast(I8)


def _carried(k: LoopBuilder, a: View, b: View, y: View) -> None:
    total = k.define("total", 0)
    with k.loop("i", 64) as i:
        total.set(total * 3 + a[i].cast(I32))
    y[0] = total.cast(I8)


def _same_place(k: LoopBuilder, a: View, b: View, y: View) -> None:
    with k.loop("i", 64) as i:
        y[0] = a[i]


@pytest.mark.parametrize("body", [_previous, _far, _stepped, _position, _wide, _carried, _same_place])
def test_loops_that_are_left_as_they_are(body: Callable[[LoopBuilder, View, View, View], None]) -> None:
    text = text_of(kernel(body))
    assert " x i" not in text
    assert text.count("i = phi") + text.count(" phi ") >= 1


def test_kernels_without_a_schedule_are_left_to_the_compiler() -> None:
    assert "mve" not in print_kernel_llvm(kernel(dot(64), is_scheduled=False), "case", M55)


def test_other_targets_have_plain_loops() -> None:
    assert " x i" not in print_kernel_llvm(kernel(dot(64)), "case", find_target("cortex-m4"))
