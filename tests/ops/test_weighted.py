"""Sums over weights: what kernels are told of each channel, and what a product costs."""

from __future__ import annotations

import numpy as np
import pytest

from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, compile_object
from luciole.emulate.cores import find_core
from luciole.emulate.unicorn_machine import EmulatedMachine
from luciole.graph.core import Operator, Value
from luciole.graph.samples import Samples
from luciole.ir.quant import Quant
from luciole.ir.target import find_target
from luciole.ir.types import Array
from luciole.kernel.interpret import run_kernel
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.matmul import FullyConnected
from luciole.targets.base import build_kernel

#: Executed instructions of a generic int8 kernel for each nominal product on a Cortex-M4.
MAXIMUM_INSTRUCTIONS = 8


def with_an_empty_channel(bias: int, scale: float) -> tuple[FullyConnected, Array]:
    """A layer whose second channel has no weight but zeros, and an input."""
    s = Samples()
    x = s.i8(1, 4, zero=5)
    w = s.constant(np.array([[1, 2, -3, 4], [0] * 4, [9, -9, 9, 9]], np.int8), Quant((0.01, scale, 0.02), (0, 0, 0)))
    b = s.constant(np.array([100, bias, -7], np.int32))
    return FullyConnected(x, w, b, quant=s.quant(0.05, -3)), s.arrays[x]


@pytest.mark.parametrize("bias", [0, 1 << 30, -(1 << 31), 37])
@pytest.mark.parametrize("scale", [1e-12, 3e-9, 0.5, 1e6])
def test_a_channel_without_weights_keeps_its_result_and_the_short_arithmetic(bias: int, scale: float) -> None:
    op, x = with_an_empty_channel(bias, scale)
    assert op.w.data is not None and op.b is not None and op.b.data is not None
    expected = op.compute(x, op.w.data, op.b.data)
    assert op.sums().kernel_requantizer.is_short
    kernel = build_kernel(op).kernel
    results = run_kernel(kernel, {"x": x, "w": op.w.data, **op.parameters()})
    assert np.array_equal(results["y"], expected)


def test_a_sum_that_may_exceed_30_bits_takes_the_exact_long_arithmetic() -> None:
    s, count = Samples(), 40_000
    x, w = s.i8(1, count), s.constant(np.full((1, count), 127, np.int8), Quant.per_tensor(0.01))
    op = FullyConnected(x, w, s.constant(np.zeros(1, np.int32)), quant=s.quant(5000.0))
    assert not op.sums().kernel_requantizer.is_short


def shapes() -> dict[str, tuple[Operator, dict[Value, Array]]]:
    """Layers like those of the MLPerf Tiny models, smaller where only the size differs."""
    same, after, none = (1, 1, 1, 1), (0, 0, 1, 1), (0, 0, 0, 0)
    made: dict[str, tuple[Operator, dict[Value, Array]]] = {}

    def conv(
        name: str,
        x: tuple[int, int, int, int],
        w: tuple[int, int, int, int],
        stride: int,
        pads: tuple[int, int, int, int],
    ) -> None:
        s = Samples()
        op = Conv2d(s.i8(*x), s.i8_weights(*w), s.i32_bias(w[0]), (stride, stride), pads, quant=s.quant(0.5))
        made[name] = (op, s.arrays)

    def depthwise(
        name: str, x: tuple[int, int, int, int], size: tuple[int, int], stride: int, pads: tuple[int, int, int, int]
    ) -> None:
        s = Samples()
        w = s.i8_weights(1, *size, x[3], axis=3)
        op = DepthwiseConv2d(s.i8(*x), w, s.i32_bias(x[3]), (stride, stride), pads, quant=s.quant(0.5))
        made[name] = (op, s.arrays)

    conv("conv-first", (1, 49, 10, 1), (64, 10, 4, 1), 2, (4, 1, 5, 1))
    conv("conv-image", (1, 16, 16, 3), (8, 3, 3, 3), 2, after)
    conv("conv-3x3", (1, 8, 8, 16), (16, 3, 3, 16), 1, same)
    conv("conv-1x1", (1, 12, 12, 8), (16, 1, 1, 8), 1, none)
    conv("conv-1x1-stride-2", (1, 8, 8, 32), (16, 1, 1, 32), 2, none)
    depthwise("depthwise-few-channels", (1, 12, 12, 8), (3, 3), 1, same)
    depthwise("depthwise-narrow", (1, 25, 5, 64), (3, 3), 1, same)
    depthwise("depthwise-stride-2", (1, 12, 12, 16), (3, 3), 2, after)
    depthwise("depthwise-tiny-image", (1, 3, 3, 64), (3, 3), 1, same)
    depthwise("depthwise-time-3", (1, 30, 1, 40), (3, 1), 1, none)
    depthwise("depthwise-time-15", (1, 15, 1, 128), (15, 1), 1, none)
    s = Samples()
    dense = FullyConnected(s.i8(1, 128), s.i8_weights(20, 128, axis=None), s.i32_bias(20), quant=s.quant(0.5))
    made["fully-connected"] = (dense, s.arrays)
    return made


@pytest.mark.parametrize("name", shapes())
def test_a_product_costs_at_most_eight_instructions_on_cortex_m4(name: str) -> None:
    pytest.importorskip("unicorn", reason="unicorn is not installed")
    op, arrays = shapes()[name]
    bound, target = build_kernel(op), find_target("cortex-m4")
    text = print_kernel_llvm(bound.kernel, "kernel", target)
    machine = EmulatedMachine(compile_object([LlvmModule(text)], target), find_core("cortex-m4"))
    data = {name: arrays[value] for name, value in bound.activations} | dict(bound.constants)
    addresses = []
    for parameter in bound.kernel.parameters:
        size = int(np.prod(parameter.shape, dtype=np.int64)) * parameter.dtype.size_bytes
        addresses.append(machine.allocate(size))
        if parameter.name in data:
            machine.write(addresses[-1], np.ascontiguousarray(data[parameter.name]).tobytes())
    instructions = machine.measure("kernel", *addresses).instructions
    assert 0 < instructions <= MAXIMUM_INSTRUCTIONS * op.macs()
