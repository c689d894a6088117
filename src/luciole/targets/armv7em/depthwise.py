"""Depthwise convolution of int8 on cores with the DSP extension: two products of one channel an instruction.

Four channels at a time, a strip of the input is widened into planes of halves, one plane a channel, centered and with
zeros for padding. The planes' lines run along the width or along the height, whichever costs less, so that a word holds
two neighbors under the window; a dilated window sees lines cut into phases, in which its columns are neighbors. Then
each channel sweeps its plane with doubled weights, words of two neighboring ones, which it pairs in the workspace
first; where a channel has several results, each of them does. An output on an even column begins with the low half of a
word of x, one on an odd column with the high half of one. Channels behind the last four are widened byte by byte.

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
    instructions_of,
    plan_of,
    planned,
    products_at,
)
from luciole.targets.armv7em.depthwise_widening import Bytes, Words, widen_lines
from luciole.targets.armv7em.intrinsics import (
    kept,
    packed_halves,
    smlabb,
    smlabt,
    smlad,
    smlatb,
)
from luciole.targets.armv7em.parameters import ChannelParameters, Scaling
from luciole.targets.base import Cost, KernelRecipe, kernel


@kernel("depthwise_conv2d", DType.I8, needs={"dsp"})
class DepthwisePlanes(KernelRecipe):
    """Depthwise convolution; the window may be dilated along a line where its stride is one."""

    name = "planes"
    #: Whether weights are paired at compile time.
    is_paired = False

    def _plan(self, op: DepthwiseConv2d) -> Plan:
        return planned(op, self.is_paired)

    def applies(self, op: Operator) -> str:
        assert isinstance(op, DepthwiseConv2d)
        if op.w.data is None or (op.b is not None and op.b.data is None):
            return "weights or bias are not constant"
        if problem := hilo.requantization_problem(op.sums()):
            return problem
        if plan_of(op, self.is_paired) is None:
            return (
                f"the window is too large, or dilated with a stride, or a strip of lines under it exceeds "
                f"{WORKSPACE_LIMIT} bytes"
            )
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
        assert isinstance(op, DepthwiseConv2d)
        return {} if op.x.type.shape[3] % GROUP else {"x": GROUP}

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
        is_one = self._plan(op).strips == 1 and op.x.type.shape[0] == 1
        return ("x",) if is_one and op.multiplier == 1 else ()

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below."""
        assert isinstance(op, DepthwiseConv2d)
        plan = self._plan(op)
        instructions = op.x.type.shape[0] * instructions_of(plan)
        return Cost(instructions, int(1.3 * instructions))

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
    _clear(k, v.workspace.address(plan.planes_offset), v.workspace.address(plan.workspace_bytes), 4 * plan.planes)


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
    target_end = k.define("target_end", target + plan.channels * plan.multiplier)
    weights, layout = k.define("weights", v.weights.address()), _parameters(op)
    shared = layout.read_shared(k, v.channels.address())
    parameters = k.define("parameters", v.channels.address(layout.header_bytes))
    groups = plan.channels // GROUP
    rest_source = k.define("rest_source", source + groups * GROUP)
    with k.repeat_while(lambda: target.ne(target_end)):

        def widen_words() -> None:
            widening = Words(plan, k.define("offsets", hilo.offsets_word(-op.sums().zero_point)))
            widen_lines(k, plan, v, widening, source, begin, end)
            source.set(kept(source + GROUP))

        def widen_bytes() -> None:
            widen_lines(k, plan, v, Bytes(plan, op.sums().zero_point), source, begin, end)

        size: Operand = plan.planes * plan.plane_bytes
        if groups and plan.rest:
            size = k.define("size", size, DType.INDEX)
            with k.if_(source.ne(rest_source)):
                widen_words()
            with k.else_():
                widen_bytes()
                size.set(plan.rest * plan.plane_bytes)
        elif groups:
            widen_words()
        else:
            widen_bytes()
        plane = k.define("plane", v.workspace.address(plan.planes_offset))
        plane_end = k.define("plane_end", plane + size)

        def one_result() -> None:
            _channel(k, op, plan, v, plane, target, count, weights, parameters, shared)
            target.set(kept(target + 1))
            weights.set(
                kept(weights + (4 * plan.weight_words if plan.is_paired else plan.outer.taps * plan.inner.taps))
            )
            parameters.set(parameters + layout.bytes_each)

        with k.repeat_while(lambda: plane.ne(plane_end)):
            if plan.multiplier > 1:
                with k.loop("result", plan.multiplier):
                    one_result()
            else:
                one_result()
            plane.set(kept(plane + plan.plane_bytes))


def _clear_lines(k: LoopBuilder, plan: Plan, v: Views, begin: Operand, end: Operand) -> None:
    """Zeros in some lines of every plane."""
    with k.nest("line", plan.planes) as (plane,), k.loop("line", begin, end) as line:
        start = k.define(
            "line_start", v.workspace.address(plan.planes_offset + plane * plan.plane_bytes + line * plan.line_bytes)
        )
        _clear(k, start, start + plan.line_bytes, 4)


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
    if plan.phases == 1:
        _phase(k, op, plan, weights, k.define("inputs", line), k.define("place", out), bias, scaling, None)
        return
    with k.loop("phase", plan.phases) as phase:
        inputs = k.define("inputs", line + phase * plan.phase_bytes)
        place = k.define("place", out + phase * plan.inner.y_bytes)
        has_last = None if plan.whole_phases == plan.phases else phase < plan.whole_phases
        _phase(k, op, plan, weights, inputs, place, bias, scaling, has_last)


def _phase(
    k: LoopBuilder,
    op: DepthwiseConv2d,
    plan: Plan,
    weights: Expr,
    inputs: Register,
    place: Register,
    bias: Expr,
    scaling: Scaling,
    has_last: Expr | None,
) -> None:
    """The outputs of one phase of a line, the last one if `has_last`."""
    whole, remainder = blocks_of(plan)
    block_bytes, block_step = 2 * BLOCK * plan.inner.stride, BLOCK * plan.result_bytes
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
        _block(k, op, plan, weights, inputs, place, remainder, bias, scaling, has_last)


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
    has_last: Expr | None = None,
) -> None:
    """A few outputs side by side, the last one if `has_last`; `inputs` is at the first column under the first one's
    window.
    """
    sums = [k.define(f"sum{i}", bias) for i in range(outputs)]
    products = [(i, p) for i in range(outputs) for p in products_at(plan, i * plan.inner.stride)]
    row_bytes, row_step = 4 * len(plan.keys), plan.outer.dilation * plan.line_bytes
    if plan.is_unrolled:
        pointer = k.define("paired", weights)
        for row in range(plan.outer.taps):
            _add_row(k, plan, products, sums, (pointer, row * row_bytes), (inputs, row * row_step))
    else:
        line, weight_row = k.define("row", inputs), k.define("weight_row", weights)
        weight_end = k.define("weight_end", weights + 4 * plan.weight_words)
        with k.repeat_while(lambda: weight_row.ne(weight_end)):
            _add_row(k, plan, products, sums, (weight_row, 0), (line, 0))
            line.set(kept(line + row_step))
            weight_row.set(kept(weight_row + row_bytes))
    _finish(k, op, plan, sums, place, scaling, has_last)


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
    k: LoopBuilder,
    op: DepthwiseConv2d,
    plan: Plan,
    sums: list[Register],
    place: Expr,
    scaling: Scaling,
    has_last: Expr | None,
) -> None:
    """Requantize and store a block, the last output if there is one."""
    parameters = _parameters(op)

    def store(i: int) -> None:
        k.write(place, i * plan.result_bytes, parameters.finished(sums[i], scaling).cast(DType.I8))

    k.fence(holds_arithmetic=True)
    for i in range(len(sums) - 1):
        store(i)
    if has_last is None:
        store(len(sums) - 1)
    else:
        with k.if_(has_last):
            store(len(sums) - 1)
