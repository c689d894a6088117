"""Depthwise convolution of int8, and of f32 with an FPU, on cores with scalar instructions only: several outputs of a
row in registers.

A few channels (a word of them, where their number allows) of a strip of rows are gathered into the workspace, [row]
[column][channel], with the zero point for padding. Then for every channel the outputs of a row follow in tiles: a row
of weights is loaded once for all of a tile, and so is every input where multiplications keep their operands. All taps
lie in memory, so the zero point of x is in the bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from luciole.graph.core import Operator, Views
from luciole.ir.arithmetic import wrap_int32
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, minimum
from luciole.ops import common
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.weighted import WeightedSum
from luciole.targets.base import Cost
from luciole.targets.scalar.machine import Machine
from luciole.targets.scalar.recipe import TiledRecipe, tiled
from luciole.targets.scalar.rows import PARAMETER_BYTES
from luciole.targets.scalar.strips import fill_byte, filled, gathered

#: The workspace of a strip of rows stays within so many bytes.
WORKSPACE_LIMIT = 4096
#: Weights of a row that stay in registers for a tile.
HELD_WEIGHTS = 4
#: Outputs in a tile, at most: more gain little, and cost code.
LARGEST_TILE = 6
#: Windows of more taps than this are refused: all taps are written out.
WRITTEN_TAPS = 64


@dataclass(frozen=True)
class _Plane:
    """Geometry: rows and columns change places where there is one column, so that tiles run along the longer axis."""

    size: tuple[int, int]
    result: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    first_pads: tuple[int, int]
    has_row_padding: bool
    channels: int
    out_channels: int
    #: Channels that are gathered together.
    group: int
    #: Output columns of a tile.
    tile: int
    #: Output rows of a strip.
    strip: int
    #: Bytes of an element.
    element: int

    @property
    def columns(self) -> int:
        """Input columns that windows see, with padding."""
        return (self.result[1] - 1) * self.strides[1] + (self.kernel[1] - 1) * self.dilations[1] + 1

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in the workspace."""
        return self.columns * self.group_bytes

    @property
    def group_bytes(self) -> int:
        """Bytes of a column in the workspace."""
        return self.group * self.element

    @property
    def reach(self) -> int:
        """Rows that a window covers."""
        return (self.kernel[0] - 1) * self.dilations[0] + 1

    def rows(self, count: int) -> int:
        """Input rows under `count` output rows."""
        return (count - 1) * self.strides[0] + self.reach

    @property
    def workspace_bytes(self) -> int:
        """Bytes of a whole strip."""
        return self.rows(self.strip) * self.row_bytes


@tiled("depthwise_conv2d")
class TiledDepthwise(TiledRecipe):
    """Depthwise convolution with any window, stride, dilation, padding and multiplier."""

    def applies(self, op: Operator) -> str:
        assert isinstance(op, DepthwiseConv2d)
        if op.w.data is None or (op.b is not None and op.b.data is None):
            return "weights or bias are not constant"
        if not op.result_types()[0].elements:
            return "there is nothing to compute"
        if math.prod(op.window.kernel) > WRITTEN_TAPS:
            return f"a window of {math.prod(op.window.kernel)} taps is not written out"
        if self._plane(op).workspace_bytes > WORKSPACE_LIMIT:
            return "the rows of a window do not fit the workspace"
        return ""

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, DepthwiseConv2d)
        sums = _folded(op)
        if not sums.is_int8:
            weights = common.constant_of(op, op.w, "w").reshape(-1, sums.channels).T
            biases = np.zeros(sums.channels, np.float32) if op.b is None else common.constant_of(op, op.b, "b")
            return {"weights": np.ascontiguousarray(weights), "channels": biases}
        parameters = sums.parameters()["channels"].copy()
        parameters[:, 0] = wrap_int32(parameters[:, 0].astype(np.int64) - self.machine.bias * sums.weights.sum(axis=1))
        return {"weights": np.ascontiguousarray(sums.weights.astype(np.int8)), "channels": parameters}

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, DepthwiseConv2d)
        return self._plane(op).workspace_bytes

    def alignments(self, op: Operator) -> dict[str, int]:
        assert isinstance(op, DepthwiseConv2d)
        return {"x": self._plane(op).group_bytes}

    def cost(self, op: Operator, target: Target) -> Cost:
        assert isinstance(op, DepthwiseConv2d)
        plane = self._plane(op)
        rows = op.x.type.shape[0] * plane.result[0]
        gathered_rows = rows * plane.rows(plane.strip) // plane.strip * plane.channels // plane.group
        instructions = rows * plane.out_channels * _line_instructions(self.machine, plane, plane.tile)
        instructions += gathered_rows * (3 * plane.columns + 15)
        return Cost(instructions, int(instructions * self.machine.cycles_per_instruction))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, DepthwiseConv2d)
        plane, sums = self._plane(op), _folded(op)
        height, width = plane.size
        (out_height, out_width), channels, size = plane.result, plane.out_channels, plane.element
        zero_point = sums.zero_point if sums.is_int8 else 0
        with k.loop("n", op.x.type.shape[0]) as n, k.loop("first", 0, out_height, plane.strip) as first:
            count = k.define("count", minimum(out_height - first, plane.strip))
            line = k.define("line", (n * out_height + first) * (out_width * channels * size))
            with k.loop("c", 0, plane.channels, plane.group) as c:
                image = k.define("image", v.x.address((n * (height * width * plane.channels) + c) * size))
                self._gather(k, plane, v, image, first, count, zero_point)
                with k.nest("i", plane.group, op.multiplier) as (i, j):
                    channel = k.define("channel", (c + i) * op.multiplier + j)
                    source = k.define("source", v.workspace.address(i * size))
                    target = k.define("target", v.y.address(line + channel * size))
                    end = k.define("target_end", target + count * (out_width * channels * size))
                    weights = k.define("weights", v.weights.address(channel * (math.prod(plane.kernel) * size)))
                    parameters = k.define("parameters", v.channels.address(channel * _parameter_bytes(plane)))
                    with k.repeat_while(lambda: target.ne(end)):
                        _line(k, self.machine, plane, sums, source, target, (weights, parameters))
                        source += plane.strides[0] * plane.row_bytes
                        target += out_width * channels * size

    def _gather(
        self, k: LoopBuilder, plane: _Plane, v: Views, image: Expr, first: Expr, count: Expr, zero_point: int
    ) -> None:
        """The input rows under `count` output rows from `first` on, a group of channels of them."""
        height, width = plane.size
        unit, fill = plane.group_bytes, fill_byte(zero_point, self.machine)
        left = min(plane.first_pads[1], plane.columns)
        inside = min(width, plane.columns - left)
        row = k.define("row", first * plane.strides[0] - plane.first_pads[0])
        place = k.define("place", v.workspace.address())
        end = k.define("row_end", row + (count - 1) * plane.strides[0] + plane.reach)
        with k.repeat_while(lambda: row.ne(end)):

            def whole_row() -> None:
                filled(k, place, fill, left, unit)
                source = image + row * (width * plane.channels * plane.element)
                after = place + left * unit
                gathered(k, self.machine, after, source, inside, unit, plane.channels * plane.element)
                behind = place + (left + inside) * unit
                filled(k, behind, fill, plane.columns - left - inside, unit)

            if plane.has_row_padding:
                is_inside = k.define("is_inside", 1)
                with k.if_(row < 0):
                    is_inside.set(0)
                with k.if_(row >= height):
                    is_inside.set(0)
                with k.if_(is_inside.ne(0)):
                    whole_row()
                with k.else_():
                    filled(k, place, fill, plane.columns, unit)
            else:
                whole_row()
            place += plane.row_bytes
            row += 1

    def _plane(self, op: DepthwiseConv2d) -> _Plane:
        _, height, width, channels = op.x.type.shape
        _, out_height, out_width, out_channels = op.result_types()[0].shape
        pairs = [(height, width), (out_height, out_width), op.window.kernel, op.strides, op.dilations, op.pads[:2]]
        bottom_right = op.pads[2:]
        if out_width == 1 and op.window.kernel[1] == 1 and width == 1:
            pairs, bottom_right = [(b, a) for a, b in pairs], (op.pads[3], op.pads[2])
        size, result, taps, strides, dilations, first_pads = pairs
        has_row_padding = bool(first_pads[0] or bottom_right[0])
        one = (1, 1, 1, op.x.type.dtype.size_bytes)
        plane = _Plane(
            size, result, taps, strides, dilations, first_pads, has_row_padding, channels, out_channels, *one
        )
        tiles = range(1, min(_largest_tile(self.machine), result[1]) + 1)
        tile = min(tiles, key=lambda t: (_line_instructions(self.machine, plane, t), t))
        group = math.gcd(4, channels) if plane.element == 1 else 1
        while group > 1 and plane.columns * group * plane.reach > WORKSPACE_LIMIT:
            group //= 2
        fitting = (WORKSPACE_LIMIT // (plane.columns * group * plane.element) - plane.reach) // strides[0] + 1
        return replace(plane, tile=tile, group=group, strip=max(1, min(result[0], fitting)))


def _folded(op: DepthwiseConv2d) -> WeightedSum:
    """The sums with the zero point in the bias: padding counts as zero points."""
    return replace(op.sums(), folds_zero_point=True)


def _parameter_bytes(plane: _Plane) -> int:
    """Bytes of parameters of a channel."""
    return PARAMETER_BYTES if plane.element == 1 else 4


def _largest_tile(machine: Machine) -> int:
    """Outputs whose sums fit the registers beside a row of weights, and whose code is not too long."""
    return machine.sums if machine.is_unsigned else min(machine.sums - 2, LARGEST_TILE)


def _line_instructions(machine: Machine, plane: _Plane, tile: int) -> int:
    """About how many instructions a row of results of one channel takes."""

    def one(count: int) -> int:
        (rows, columns), products = plane.kernel, math.prod(plane.kernel)
        if not count:
            return 0
        if machine.is_unsigned:
            loads = products * (2 + count)
        else:
            seen = min(count * columns, (count - 1) * plane.strides[1] + (columns - 1) * plane.dilations[1] + 1)
            loads = products + rows * seen
        return loads + products * count * machine.product + count * machine.requantize + 12

    whole, rest = divmod(plane.result[1], tile)
    return whole * one(tile) + one(rest)


def _line(
    k: LoopBuilder,
    machine: Machine,
    plane: _Plane,
    sums: WeightedSum,
    source: Expr,
    target: Expr,
    constants: tuple[Expr, Expr],
) -> None:
    """One row of results of one channel."""
    read, out = k.define("read", source), k.define("out", target)
    whole, rest = divmod(plane.result[1], plane.tile)
    out_step = plane.tile * plane.out_channels * plane.element
    read_step = plane.tile * plane.strides[1] * plane.group_bytes
    if whole == 1:
        _tile(k, machine, plane, sums, read, out, constants, plane.tile)
    elif whole:
        end = k.define("out_end", target + whole * out_step)
        with k.repeat_while(lambda: out.ne(end)):
            _tile(k, machine, plane, sums, read, out, constants, plane.tile)
            read += read_step
            out += out_step
    if rest:
        if whole == 1:
            read += read_step
            out += out_step
        _tile(k, machine, plane, sums, read, out, constants, rest)


def _tile(
    k: LoopBuilder,
    machine: Machine,
    plane: _Plane,
    sums: WeightedSum,
    read: Expr,
    out: Expr,
    constants: tuple[Expr, Expr],
    count: int,
) -> None:
    """A few neighboring results of one channel."""
    weights, parameters = constants
    (kernel_height, kernel_width), (_, stride), (_, dilation) = plane.kernel, plane.strides, plane.dilations
    kept = DType.I8 if sums.is_int8 else DType.F32
    start = DType.I32 if sums.is_int8 else DType.F32
    totals = [k.define("total", k.read(parameters, 0, start)) for _ in range(count)]
    held = 1 if machine.is_unsigned else HELD_WEIGHTS
    dtype = DType.U8 if machine.is_unsigned else kept
    row, weight_row = k.define("taps", read), k.define("weight_row", weights)

    def one_row(weights: Expr, first: int) -> None:
        for begin in range(0, kernel_width, held):
            taps = range(begin, min(begin + held, kernel_width))
            k.fence()
            w = {kx: k.define("w", common.widened(k.read(weights, (first + kx) * plane.element, kept))) for kx in taps}
            for column in sorted({t * stride + kx * dilation for t in range(count) for kx in taps}):
                k.fence()
                x = k.define("x", common.widened(k.read(row, column * plane.group_bytes, dtype)))
                for t in range(count):
                    for kx in taps:
                        if t * stride + kx * dilation == column:
                            totals[t] += x * w[kx]

    if machine.is_unsigned and plane.rows(1) * plane.row_bytes > 3 * machine.reach:
        # Rows that are written out would lie far beyond the reach of loads.
        end = k.define("weights_end", weights + kernel_height * kernel_width)
        with k.repeat_while(lambda: weight_row.ne(end)):
            one_row(weight_row, 0)
            row += plane.dilations[0] * plane.row_bytes
            weight_row += kernel_width
    else:
        for ky in range(kernel_height):
            one_row(weights, ky * kernel_width)
            if ky + 1 < kernel_height:
                row += plane.dilations[0] * plane.row_bytes
    k.fence()
    if not sums.is_int8:
        for t, total in enumerate(totals):
            k.write(out, 4 * t * plane.out_channels, common.float_activation(sums.activation, total))
        return
    multiplier = k.define("multiplier", k.read(parameters, 4, DType.I32))
    shift = k.define("shift", k.read(parameters, 8, DType.I32))
    for t, total in enumerate(totals):
        value = sums.kernel_requantizer.emit(total, multiplier, shift)
        k.write(out, t * plane.out_channels, value.cast(DType.I8))
