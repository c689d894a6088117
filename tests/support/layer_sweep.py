"""Random layers of every class that has hand-scheduled kernels, run on a core by the kernels that it takes.

Many layers are one program, so that a core starts once for all of them. Every result is held against the operator's
numpy meaning: bits for integers, nearly the same for floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from luciole.bundle.objects import build_object
from luciole.emulate.bundle import open_bundle
from luciole.emulate.cores import find_core
from luciole.emulate.interface import BundleInterface, Slot
from luciole.errors import CompileError
from luciole.graph.core import Operator, Value
from luciole.graph.interpret import compute_operator
from luciole.graph.samples import Samples
from luciole.ir.arithmetic import Rounding
from luciole.ir.target import find_target
from luciole.lower.lower import lower
from luciole.lower.plan import plan_memory
from luciole.lower.schedule import schedule_kernels
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul, Sub
from luciole.ops.matmul import FullyConnected
from luciole.ops.pad import Pad
from luciole.ops.pool import AveragePool2d, MaxPool2d
from support.operator_samples import assert_nearly_equal, joined

#: Cores that stand for the instruction sets with kernels of their own.
SWEPT_CORES = (
    "cortex-m0plus",
    "cortex-m3",
    "cortex-m4",
    "cortex-m55",
    "rv32imc",
    "rv32imafc",
    "rv32imc-zve32x",
    "rv64gcv",
)
#: Height, width and channels of a layer are at most these.
LARGEST_SIZE, LARGEST_DEPTH = 13, 20
#: Layers of one program.
BATCH = 20


@dataclass(frozen=True, eq=False)
class Layer:
    """One operator with the data of its activations; `kind` is its class in the table."""

    kind: str
    op: Operator
    samples: Samples


@dataclass(frozen=True)
class Swept:
    """One layer as it ran: the recipe of its kernel, and executed instructions for each multiplication (each result,
    where there are none).
    """

    kind: str
    recipe: str
    instructions_each: float


class Numbers:
    """Random choices of a layer's attributes."""

    def __init__(self, s: Samples) -> None:
        self.samples = s
        self.random = s.random
        # One in five results is scaled up: a shift to the left.
        self.quant = s.quant(0.0001 if self.below(5) == 0 else 0.05, self.between(-128, 127))
        self.activation = ("none", "relu", "relu6", "relu_n1_to_1")[self.below(4)]
        self.rounding: Rounding = "tflite" if self.below(4) else "tflite-single"
        self.zero = (-128, 127, self.between(-128, 127))[self.below(3)]
        self.batch = 1 + (self.below(4) == 0)

    def below(self, count: int) -> int:
        return int(self.random.integers(count))

    def between(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def size(self) -> tuple[int, int]:
        """Height and width; one in four has a side of one."""
        height, width = self.between(1, LARGEST_SIZE), self.between(1, LARGEST_SIZE)
        return ((1, width), (height, 1), (1, 1))[self.below(3)] if self.below(4) == 0 else (height, width)

    def depth(self) -> int:
        """Channels, every other time by fours."""
        return self.between(1, LARGEST_DEPTH) if self.below(2) else 4 * self.between(1, LARGEST_DEPTH // 4)

    def kernel(self) -> tuple[int, int]:
        """A window of 1..7 by 1..7; squares of three, and lines, are frequent."""
        any_size = (self.between(1, 7), self.between(1, 7))
        return ((3, 3), (any_size[0], 1), any_size, any_size)[self.below(4)]

    def pads(self, kernel: tuple[int, int], steps: tuple[int, int] = (1, 1)) -> tuple[int, int, int, int]:
        """Padding below the window's extent, or none."""
        extents = [(size - 1) * step + 1 for size, step in zip(kernel, steps, strict=True)]
        top, left, bottom, right = (self.below(extent) if self.below(2) else 0 for extent in extents * 2)
        return top, left, bottom, right

    def weights(self, *shape: int, axis: int, scale: float = 0.01) -> Value:
        """int8 weights of the whole range, or of a third of it, with one scale or one for each channel."""
        w = self.samples.i8_weights(*shape, axis=axis if self.below(2) else None, scale=scale)
        assert w.data is not None
        return w if self.below(2) else self.samples.constant((w.data // 3).astype(np.int8), w.type.quant)

    def bias(self, channels: int) -> Value | None:
        return self.samples.i32_bias(channels) if self.below(4) else None


def _convolution(n: Numbers, kernel: tuple[int, int], strides: tuple[int, int], steps: tuple[int, int]) -> Operator:
    s, depth, out = n.samples, n.depth(), n.depth()
    return Conv2d(
        s.i8(n.batch, *n.size(), depth, zero=n.zero),
        n.weights(out, *kernel, depth, axis=0),
        n.bias(out),
        strides=strides,
        pads=n.pads(kernel, steps),
        dilations=steps,
        activation=n.activation,
        rounding=n.rounding,
        quant=n.quant,
    )


def _depthwise(n: Numbers, multiplier: int, steps: tuple[int, int]) -> Operator:
    s, kernel = n.samples, n.kernel()
    depth = n.depth() if multiplier == 1 else n.between(1, 8)
    return DepthwiseConv2d(
        s.i8(n.batch, *n.size(), depth, zero=n.zero),
        n.weights(1, *kernel, depth * multiplier, axis=3, scale=0.05),
        n.bias(depth * multiplier),
        strides=(n.between(1, 3), n.between(1, 3)),
        pads=n.pads(kernel, steps),
        dilations=steps,
        activation=n.activation,
        rounding=n.rounding,
        quant=n.quant,
    )


def _fully_connected(n: Numbers) -> Operator:
    s, length, out = n.samples, n.between(1, 300), n.between(1, 40)
    x, w = s.i8(n.between(1, 4), length, zero=n.zero), n.weights(out, length, axis=0)
    return FullyConnected(x, w, n.bias(out), activation=n.activation, rounding=n.rounding, quant=n.quant)


def _pool(n: Numbers, kind: type[AveragePool2d | MaxPool2d]) -> Operator:
    kernel = n.kernel()
    x = n.samples.i8(n.batch, *n.size(), n.depth(), zero=n.zero)
    return kind(x, kernel, strides=(n.between(1, 3), n.between(1, 3)), pads=n.pads(kernel), activation=n.activation)


def _elementwise(n: Numbers, kind: type[Add | Sub | Mul], *, is_repeated: bool = False) -> Operator:
    """Both operands of one shape, or the second one repeated over all pixels."""
    shape = (n.batch, *n.size(), n.depth())
    shapes = (shape, shape[3:] if is_repeated else shape)
    a, b = (
        n.samples.i8(*shape, scale=float(n.random.uniform(0.01, 0.2)), zero=n.between(-128, 127)) for shape in shapes
    )
    return kind(a, b, activation=n.activation, rounding=n.rounding, quant=n.samples.quant(0.1, n.between(-128, 127)))


def _pad(n: Numbers) -> Operator:
    """Borders around images, and behind channels in one of three."""
    (top, left, bottom, right), behind = (n.below(4) for _ in range(4)), 4 * (n.below(3) == 0)
    return Pad(n.samples.i8(n.batch, *n.size(), n.depth(), zero=n.zero), (0, top, left, 0), (0, bottom, right, behind))


def _float_convolution(n: Numbers) -> Operator:
    s, kernel, depth, out = n.samples, n.kernel(), n.between(1, 9), n.between(1, 9)
    b = s.f32_weights(out) if n.below(4) else None
    x, w, strides = s.f32(n.batch, *n.size(), depth), s.f32_weights(out, *kernel, depth), (n.between(1, 3), 1)
    return Conv2d(x, w, b, strides=strides, pads=n.pads(kernel), activation=n.activation)


def _float_depthwise(n: Numbers) -> Operator:
    s, kernel, depth = n.samples, n.kernel(), n.between(1, 12)
    x, w = s.f32(n.batch, *n.size(), depth), s.f32_weights(1, *kernel, depth)
    return DepthwiseConv2d(x, w, strides=(n.between(1, 3),) * 2, pads=n.pads(kernel), activation=n.activation)


def _float_fully_connected(n: Numbers) -> Operator:
    s, length = n.samples, n.between(1, 200)
    return FullyConnected(s.f32(n.between(1, 4), length), s.f32_weights(n.between(1, 20), length))


_INTEGERS: dict[str, Callable[[Numbers], Operator]] = {
    "conv 1x1": lambda n: _convolution(n, (1, 1), (1, 1), (1, 1)),
    "conv 3x3": lambda n: _convolution(n, (3, 3), (1, 1), (1, 1)),
    "conv k x k": lambda n: _convolution(n, n.kernel(), (n.between(1, 3), n.between(1, 3)), (1, 1)),
    "conv dilated": lambda n: _convolution(n, n.kernel(), (1, 1), (n.between(1, 3), n.between(1, 3))),
    "depthwise": lambda n: _depthwise(n, 1, (1, 1)),
    "depthwise dilated": lambda n: _depthwise(n, 1, (n.between(1, 3), n.between(1, 3))),
    "depthwise multiplied": lambda n: _depthwise(n, n.between(2, 3), (1, 1)),
    "fully connected": _fully_connected,
    "average pool": lambda n: _pool(n, AveragePool2d),
    "max pool": lambda n: _pool(n, MaxPool2d),
    "add": lambda n: _elementwise(n, Add),
    "mul": lambda n: _elementwise(n, Mul),
    "sub": lambda n: _elementwise(n, Sub),
    "mul by channel": lambda n: _elementwise(n, Mul, is_repeated=True),
    "add to channel": lambda n: _elementwise(n, Add, is_repeated=True),
    "pad": _pad,
}
_FLOATS: dict[str, Callable[[Numbers], Operator]] = {
    "f32 conv": _float_convolution,
    "f32 depthwise": _float_depthwise,
    "f32 fully connected": _float_fully_connected,
}


def random_layers(core: str, seed: int, count: int) -> list[Layer]:
    """`count` layers that the operators accept, of all classes in turn; floats for cores with an FPU."""
    kinds = _INTEGERS | (_FLOATS if find_target(core).has("fpu") else {})
    names, layers = list(kinds), []
    while len(layers) < count:
        seed += 1
        s, kind = Samples(seed), names[len(layers) % len(names)]
        try:
            op = kinds[kind](Numbers(s))
            op.result_types()
        except CompileError:
            continue
        layers.append(Layer(kind, op, s))
    return layers


def sweep(core: str, layers: Sequence[Layer]) -> list[Swept]:
    """Run all layers on a core by the kernels that it takes. Raises `AssertionError` when a result differs."""
    return [swept for first in range(0, len(layers), BATCH) for swept in _run(core, layers[first : first + BATCH])]


def _run(core: str, layers: Sequence[Layer]) -> list[Swept]:
    graph, arrays = joined((layer.op, layer.samples) for layer in layers)
    target = find_target(core)
    program = schedule_kernels(plan_memory(lower(graph, target)), target)
    inputs = tuple(Slot(b.offset or 0, b.size_bytes) for _, _, b in program.inputs())
    outputs = tuple(Slot(b.offset or 0, b.size_bytes) for _, _, b in program.outputs())
    interface = BundleInterface("net", program.arena.size_bytes, program.arena.alignment, inputs, outputs)
    bundle = open_bundle(build_object(program, "net", target), find_core(core), interface)
    result = bundle.run([array.tobytes() for array in arrays], measure=True)
    recipes = {instruction.kernel: instruction.recipe for instruction in program.instructions}
    found = []
    by_step = zip(layers, result.outputs, program.instructions, result.calls, strict=True)
    for layer, output, instruction, call in by_step:
        _check(layer, output, f"{core}, {instruction.kernel}")
        each = layer.op.macs() or layer.op.result_types()[0].elements
        found.append(Swept(layer.kind, recipes[instruction.kernel], call.instructions / each))
    return found


def _check(layer: Layer, output: bytes, where: str) -> None:
    values = dict(layer.samples.arrays) | {v: v.data for v in layer.op.operands if v.data is not None}
    (expected,) = compute_operator(layer.op, values)
    got = np.frombuffer(output, expected.dtype).reshape(expected.shape)
    if expected.dtype == np.float32:
        assert_nearly_equal(got, expected, tolerance=3e-6)
    else:
        assert np.array_equal(got, expected), f"{where}: {layer.op}"
