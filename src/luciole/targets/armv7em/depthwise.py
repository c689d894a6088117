"""Depthwise convolution of int8 on cores with the DSP extension: two products of one channel an instruction.

Four channels at a time, a strip of the input is widened into planes of halves, one plane a channel, centered and with
zeros for padding. The planes' lines run along the width or along the height, whichever costs less, so that a word holds
two neighbors under the window. Then each channel sweeps its plane with doubled weights, words of two neighboring ones,
which it pairs in the workspace first. An output on an even column begins with the low half of a word of x, one on an
odd column with the high half of one.

Weights stay int8 in flash, [channel][outer tap][inner tap], and are paired at run time; or, where memory may be traded,
they stand there as pairs, [channel][outer tap][word], which counts where a kernel computes few rows at a time.

Measured on Cortex-M4, executed instructions per multiplication: 2.1 to 2.3 for 3x3 with stride 1.
"""

from __future__ import annotations

import numpy as np

from luciole.graph.core import Operator, Views
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, Operand, maximum, minimum
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.targets.armv7em import hilo
from luciole.targets.armv7em.depthwise_plan import (
    BLOCK,
    GROUP,
    PRELOADED_WORDS,
    WORKSPACE_LIMIT,
    Plan,
    Product,
    blocks_of,
    code_bytes_of,
    instructions_of,
    plan_of,
    planned,
    products_at,
    widened_columns,
)
from luciole.targets.armv7em.intrinsics import (
    kept,
    packed_halves,
    packed_high_halves,
    smlabb,
    smlabt,
    smlad,
    smlatb,
    sxtab16,
    sxtab16_odd,
)
from luciole.targets.armv7em.parameters import ChannelParameters, Scaling
from luciole.targets.base import Cost, KernelRecipe, kernel


@kernel("depthwise_conv2d", DType.I8, needs={"dsp"})
class DepthwisePlanes(KernelRecipe):
    """Depthwise convolution, one output channel for each input channel, channels a multiple of four, no dilation."""

    name = "planes"
    #: Whether weights are paired at compile time.
    is_paired = False

    def _plan(self, op: DepthwiseConv2d) -> Plan:
        return planned(op, self.is_paired)

    def applies(self, op: Operator) -> str:
        assert isinstance(op, DepthwiseConv2d)
        if op.multiplier != 1:
            return f"{op.multiplier} output channels for each input channel"
        if op.x.type.shape[3] % GROUP:
            return f"{op.x.type.shape[3]} channels are not a multiple of {GROUP}"
        if op.dilations != (1, 1):
            return "the window is dilated"
        if op.w.data is None or (op.b is not None and op.b.data is None):
            return "weights or bias are not constant"
        if problem := hilo.requantization_problem(op.sums()):
            return problem
        if plan_of(op, self.is_paired) is None:
            return f"the window is too large, or a strip of lines under it exceeds {WORKSPACE_LIMIT} bytes"
        return ""

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, DepthwiseConv2d)
        plan, (rows, columns) = self._plan(op), op.window.kernel
        weights = op.sums().weights.reshape(-1, rows, columns)
        if plan.is_transposed:
            weights = weights.transpose(0, 2, 1)
        packed = _paired(weights, plan.keys) if plan.is_paired else np.ascontiguousarray(weights.astype(np.int8))
        return {"weights": packed, "channels": _parameters(op).words()}

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, DepthwiseConv2d)
        return self._plan(op).workspace_bytes

    def alignments(self, op: Operator) -> dict[str, int]:
        return {"x": 4}

    def overlap_bytes(self, op: Operator) -> dict[str, int]:
        """A strip of rows is read until all of its channels are written; strips of columns go through all rows."""
        assert isinstance(op, DepthwiseConv2d)
        plan = self._plan(op)
        if plan.is_transposed or op.x.type.shape[0] != 1:
            return {}
        firsts = range(0, plan.outer.outputs, plan.strip)
        return {
            "x": max(
                min(first + plan.strip, plan.outer.outputs) * plan.outer.y_bytes
                - max(0, first * plan.outer.stride - plan.outer.pad) * plan.outer.x_bytes
                for first in firsts
            )
        }

    def in_place(self, op: Operator) -> tuple[str, ...]:
        """With one strip, a channel is wholly read before it is written, and it is written over itself."""
        assert isinstance(op, DepthwiseConv2d)
        return ("x",) if self._plan(op).strips == 1 and op.x.type.shape[0] == 1 else ()

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below."""
        assert isinstance(op, DepthwiseConv2d)
        plan = self._plan(op)
        instructions = op.x.type.shape[0] * instructions_of(plan)
        constants = sum(data.nbytes for data in self.constants(op).values())
        return Cost(instructions, int(1.3 * instructions), code_bytes_of(plan), constants, plan.workspace_bytes)

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, DepthwiseConv2d)
        plan = self._plan(op)
        _clear_workspace(k, plan, v)
        batch = op.x.type.shape[0]
        if batch == 1 and plan.strips == 1:
            _strip(k, op, plan, v, 0, 0, 0)
            return
        with k.loop("n", batch) as n, k.loop("first", 0, plan.outer.outputs, plan.strip) as first:
            x_bytes = op.x.type.elements // batch
            y_bytes = op.result_types()[0].elements // batch
            _strip(k, op, plan, v, n * x_bytes, n * y_bytes, first)


@kernel("depthwise_conv2d", DType.I8, needs={"dsp"})
class DepthwisePairedPlanes(DepthwisePlanes):
    """The same with weights that take two and a half times the flash for a window of 3x3."""

    name = "paired_planes"
    trades_memory = True
    is_paired = True


def _paired(weights: Array, keys: tuple[int, ...]) -> Array:
    """Words [channel][outer tap][key] of two neighboring doubled taps, of which the second may be missing."""
    doubled = np.pad(2 * weights.astype(np.int64), ((0, 0), (0, 0), (0, 1)))
    first = np.array(keys)
    words = (doubled[..., first] & 0xFFFF) | ((doubled[..., first + 1] & 0xFFFF) << 16)
    return np.ascontiguousarray(words.astype(np.uint32).view(np.int32))


def _parameters(op: DepthwiseConv2d) -> ChannelParameters:
    return ChannelParameters(op.sums().kernel_requantizer, op.sums().kernel_bias)


def _clear_workspace(k: LoopBuilder, plan: Plan, v: Views) -> None:
    """Zeros everywhere once: padding along lines is never written again."""
    _clear(k, v.workspace.address(plan.planes_offset), v.workspace.address(plan.workspace_bytes), 4 * GROUP)


def _clear(k: LoopBuilder, begin: Expr, end: Expr, unit: int) -> None:
    """Zeros in memory from `begin` to `end`, a multiple of `unit` bytes and not empty."""
    place = k.define("place", begin)
    stop = k.define("place_end", end)
    with k.repeat_while(lambda: place.ne(stop)):
        for offset in range(0, unit, 4):
            k.write(place, offset, 0)
        place.set(kept(place + unit))


def _strip(k: LoopBuilder, op: DepthwiseConv2d, plan: Plan, v: Views, x: Operand, y: Operand, first: Operand) -> None:
    """The outer outputs from `first`: all channels of as many as a strip has, or as are left."""
    top = k.define("top", first * plan.outer.stride - plan.outer.pad, DType.INDEX)
    begin = k.define("begin", minimum(maximum(-top, 0), plan.lines), DType.INDEX)
    end = k.define("end", maximum(minimum(plan.outer.inputs - top, plan.lines), begin), DType.INDEX)
    count = minimum(plan.outer.outputs - first, plan.strip) if isinstance(first, Expr) else plan.outer.outputs
    if isinstance(first, Expr):
        _clear_lines(k, plan, v, 0, begin)
        _clear_lines(k, plan, v, end, plan.lines)
    source = k.define("source", v.x.address(x + (top + begin) * plan.outer.x_bytes))
    target = k.define("target", v.y.address(y + first * plan.outer.y_bytes))
    target_end = k.define("target_end", target + plan.channels)
    weights, layout = k.define("weights", v.weights.address()), _parameters(op)
    shared = layout.read_shared(k, v.channels.address())
    parameters = k.define("parameters", v.channels.address(layout.header_bytes))
    with k.repeat_while(lambda: target.ne(target_end)):
        _widen_group(k, op, plan, v, source, begin, end)
        plane = k.define("plane", v.workspace.address(plan.planes_offset))
        plane_end = k.define("plane_end", plane + GROUP * plan.plane_bytes)
        with k.repeat_while(lambda: plane.ne(plane_end)):
            _channel(k, op, plan, v, plane, target, count, weights, parameters, shared)
            plane.set(kept(plane + plan.plane_bytes))
            target.set(kept(target + 1))
            weights.set(
                kept(weights + (4 * plan.weight_words if plan.is_paired else plan.outer.taps * plan.inner.taps))
            )
            parameters += layout.bytes_each
        source.set(kept(source + GROUP))


def _clear_lines(k: LoopBuilder, plan: Plan, v: Views, begin: Operand, end: Operand) -> None:
    """Zeros in some lines of every plane."""
    with k.nest("line", GROUP) as (plane,), k.loop("line", begin, end) as line:
        start = k.define(
            "line_start", v.workspace.address(plan.planes_offset + plane * plan.plane_bytes + line * plan.line_bytes)
        )
        _clear(k, start, start + plan.line_bytes, 4)


def _widen_group(
    k: LoopBuilder, op: DepthwiseConv2d, plan: Plan, v: Views, source: Expr, begin: Expr, end: Expr
) -> None:
    """Four channels of the input's lines into their planes."""
    single, pairs, rest = widened_columns(plan)
    step, base = plan.inner.x_bytes, 2 * plan.inner.pad
    offsets = k.define("offsets", hilo.offsets_word(-op.sums().zero_point))
    start = k.define("line_source", source)
    place = k.define("line_place", v.workspace.address(plan.planes_offset + begin * plan.line_bytes))
    with k.loop("line", begin, end):
        read, write = k.define("read", start), k.define("write", place)
        if single:
            _widen_column(k, plan, offsets, read, write, 0, base)
        first, unroll = single * step, 2 if pairs % 2 == 0 else 1
        base_pairs = base + 2 * single
        if pairs <= unroll:
            for pair in range(pairs):
                _widen_pair(k, plan, offsets, read, write, first + 2 * pair * step, base_pairs + 4 * pair, step)
        else:
            read_end = k.define("read_end", read + 2 * pairs * step)
            with k.repeat_while(lambda: read.ne(read_end)):
                for pair in range(unroll):
                    _widen_pair(k, plan, offsets, read, write, first + 2 * pair * step, base_pairs + 4 * pair, step)
                read.set(kept(read + 2 * unroll * step))
                write.set(kept(write + 4 * unroll))
        if rest:
            done = 0 if pairs > unroll else pairs
            _widen_column(k, plan, offsets, read, write, first + 2 * done * step, base_pairs + 4 * done)
        start.set(kept(start + plan.outer.x_bytes))
        place.set(kept(place + plan.line_bytes))


def _widen_pair(
    k: LoopBuilder, plan: Plan, offsets: Expr, read: Expr, write: Expr, source: int, target: int, step: int
) -> None:
    """Two neighbouring columns of four channels: a word in each plane."""
    left, right = (k.define(name, k.read(read, source + o, DType.I32)) for name, o in (("left", 0), ("right", step)))
    for odd in (0, 1):
        add = sxtab16_odd if odd else sxtab16
        first, second = k.define("first", add(offsets, left)), k.define("second", add(offsets, right))
        k.write(write, target + odd * plan.plane_bytes, packed_halves(first, second))
        k.write(write, target + (odd + 2) * plan.plane_bytes, packed_high_halves(first, second))


def _widen_column(k: LoopBuilder, plan: Plan, offsets: Expr, read: Expr, write: Expr, source: int, target: int) -> None:
    """One column of four channels: a half in each plane."""
    word = k.define("word", k.read(read, source, DType.I32))
    for odd in (0, 1):
        pair = k.define("pair", (sxtab16_odd if odd else sxtab16)(offsets, word))
        k.write(write, target + odd * plan.plane_bytes, pair.cast(DType.I16))
        k.write(write, target + (odd + 2) * plan.plane_bytes, (pair >> 16).cast(DType.I16))


def _channel(
    k: LoopBuilder,
    op: DepthwiseConv2d,
    plan: Plan,
    v: Views,
    plane: Expr,
    target: Expr,
    count: Operand,
    weights: Expr,
    source: Expr,
    shared: Scaling | None,
) -> None:
    """All outputs of one channel in the strip."""
    parameters = _parameters(op)
    bias = k.define("bias", parameters.read_bias(k, source) << 1)
    scaling = parameters.read_scaling(k, shared, source)
    if not plan.is_paired:
        _pair_weights(k, plan, v, weights)
        weights = v.workspace.address()
    if plan.outer.outputs == 1:
        _line(k, op, plan, weights, plane, target, bias, scaling)
        return
    line, out = k.define("line", plane), k.define("out_line", target)
    out_end = k.define("out_line_end", out + count * plan.outer.y_bytes)
    with k.repeat_while(lambda: out.ne(out_end)):
        _line(k, op, plan, weights, line, out, bias, scaling)
        line.set(kept(line + plan.outer.stride * plan.line_bytes))
        out.set(kept(out + plan.outer.y_bytes))


def _line(
    k: LoopBuilder,
    op: DepthwiseConv2d,
    plan: Plan,
    weights: Expr,
    line: Expr,
    out: Expr,
    bias: Expr,
    scaling: Scaling,
) -> None:
    """The outputs of one channel along a line; `out` is the first one."""
    whole, remainder = blocks_of(plan)
    block_bytes, block_step = 2 * BLOCK * plan.inner.stride, BLOCK * plan.inner.y_bytes
    inputs, place = k.define("inputs", line), k.define("place", out)
    if whole > 1:
        inputs_end = k.define("inputs_end", inputs + whole * block_bytes)
        with k.repeat_while(lambda: inputs.ne(inputs_end)):
            _block(k, op, plan, weights, inputs, place, BLOCK, bias, scaling)
            inputs.set(kept(inputs + block_bytes))
            place.set(kept(place + block_step))
    elif whole:
        _block(k, op, plan, weights, inputs, place, BLOCK, bias, scaling)
        if remainder:
            inputs += block_bytes
            place += block_step
    if remainder:
        _block(k, op, plan, weights, inputs, place, remainder, bias, scaling)


def _pair_weights(k: LoopBuilder, plan: Plan, v: Views, weights: Expr) -> None:
    """A channel's words of doubled weights, into the workspace before the planes."""
    taps = plan.inner.taps

    def pair_row(row: Expr, place: Expr, offset: int) -> None:
        doubled = [
            k.define(f"tap{i}", k.read(row, offset * taps + i, DType.I8).cast(DType.I32) << 1) for i in range(taps)
        ]
        for i, key in enumerate(plan.keys):
            word = packed_halves(*doubled[key : key + 2]) if key + 1 < taps else doubled[key]
            k.write(place, 4 * (offset * len(plan.keys) + i), word)

    row, place = k.define("row", weights), k.define("place", v.workspace.address())
    if plan.is_unrolled:
        for i in range(plan.outer.taps):
            pair_row(row, place, i)
        return
    row_end = k.define("row_end", row + plan.outer.taps * taps)
    with k.repeat_while(lambda: row.ne(row_end)):
        pair_row(row, place, 0)
        row.set(kept(row + taps))
        place.set(kept(place + 4 * len(plan.keys)))


def _block(
    k: LoopBuilder,
    op: DepthwiseConv2d,
    plan: Plan,
    weights: Expr,
    inputs: Expr,
    place: Expr,
    outputs: int,
    bias: Expr,
    scaling: Scaling,
) -> None:
    """A few outputs side by side; `inputs` is at the first column under the first one's window."""
    sums = [k.define(f"sum{i}", bias) for i in range(outputs)]
    products = [(i, p) for i in range(outputs) for p in products_at(plan, i * plan.inner.stride)]
    row_bytes = 4 * len(plan.keys)
    if plan.is_unrolled:
        pointer = k.define("paired", weights)
        for row in range(plan.outer.taps):
            _add_row(k, plan, products, sums, (pointer, row * row_bytes), (inputs, row * plan.line_bytes))
    else:
        line, weight_row = k.define("row", inputs), k.define("weight_row", weights)
        weight_end = k.define("weight_end", weights + 4 * plan.weight_words)
        with k.repeat_while(lambda: weight_row.ne(weight_end)):
            _add_row(k, plan, products, sums, (weight_row, 0), (line, 0))
            line.set(kept(line + plan.line_bytes))
            weight_row.set(kept(weight_row + row_bytes))
    _finish(k, op, plan, sums, place, scaling)


def _add_row(
    k: LoopBuilder,
    plan: Plan,
    products: list[tuple[int, Product]],
    sums: list[Register],
    weights: tuple[Expr, int],
    line: tuple[Expr, int],
) -> None:
    """One row of the window of every output. `weights` and `line` are pointers with offsets.

    With few words of weights all are loaded first, then one word of x after the other; else weights go by one after the
    other, and words of x stay as long as they are needed.
    """
    words: dict[int, Register] = {}
    loaded: dict[int, Register] = {}

    def weight(key: int) -> Register:
        if key not in words:
            offset = weights[1] + 4 * plan.keys.index(key)
            words[key] = k.define("weight", k.read(weights[0], offset, DType.I32))
        return words[key]

    def add(i: int, product: Product) -> None:
        if product.word not in loaded:
            # Alignment 2 keeps the compiler from pairing these loads into LDRD, which takes registers.
            loaded[product.word] = k.define("x", k.read(line[0], line[1] + 4 * product.word, DType.I32, 2))
        sums[i].set(_multiplied(product, loaded[product.word], weight(product.key), sums[i]))

    k.fence()
    if len(plan.keys) <= PRELOADED_WORDS:
        for key in plan.keys:
            weight(key)
        ordered = sorted(products, key=lambda found: found[1].word)
    else:
        ordered = sorted(products, key=lambda found: found[1].key)
    for i, product in ordered:
        if product.word not in loaded and (loaded or words):
            k.fence()
        add(i, product)


def _multiplied(product: Product, x: Expr, weight: Expr, total: Expr) -> Expr:
    """The sum with one more product."""
    function = {"whole": smlad, "low_low": smlabb, "low_high": smlabt, "high_low": smlatb}[product.halves]
    return function(x, weight, total)


def _finish(
    k: LoopBuilder, op: DepthwiseConv2d, plan: Plan, sums: list[Register], place: Expr, scaling: Scaling
) -> None:
    """Requantize and store a block."""
    parameters = _parameters(op)
    k.fence()
    for i, total in enumerate(sums):
        k.write(place, i * plan.inner.y_bytes, parameters.finished(total, scaling).cast(DType.I8))
