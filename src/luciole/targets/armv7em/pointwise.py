"""1x1 convolution of int8 on cores with the DSP extension: three pixels by two output channels in registers.

Two weights share a halfword, 256 * odd + even channel, and two halfwords of neighbouring inputs share a word. With x
the pair of inputs, SMLAD of the whole word adds 256 * odd + even sums, SMLAD of the sign-extended low bytes adds the
even sums alone, so the odd sum is (whole - even) / 256: one unpacking for four products, at one byte of flash a weight.
Inputs are widened once a group of pixels, centered and doubled, so that SMMLAR rounds as TFLite's doubling high
multiply does.

Design and measurements: 1.12 to 1.15 executed instructions per multiplication on 64 -> 64 channels.
"""

from __future__ import annotations

import numpy as np

from luciole.graph.core import Operator, Views
from luciole.ir.arithmetic import multiplier_arrays
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, clamp
from luciole.ops import common
from luciole.ops.conv import Conv2d
from luciole.targets.armv7em.intrinsics import rotated_by_8, saturate_byte, smlad, smmlar, sxtab16, sxtb16
from luciole.targets.base import Cost, KernelRecipe, kernel

#: Pixels in one register tile; the accumulators of two channels for them, the inputs, the weights and the pointers fill
#: 13 registers.
TILE_PIXELS = 3
#: Pairs of inputs in one turn of the inner loop.
UNROLL = 8
#: Words of parameters for a pair of channels: two biases, then multiplier, rounding constant and shift of each.
PARAMETER_WORDS = 8
#: The doubled sum of an odd channel stands 8 bits higher in its register.
ODD_SUM_LIMIT = 1 << 23
#: The five-instruction requantization holds for right shifts in this range.
MINIMUM_RIGHT_SHIFT, MAXIMUM_RIGHT_SHIFT = 1, 23


@kernel("conv2d", DType.I8, needs={"dsp"})
class PointwiseHiLo(KernelRecipe):
    """1x1 convolution, stride 1, input channels a multiple of 4, an even number of output channels."""

    name = "pointwise_hilo"

    def applies(self, op: Operator) -> str:
        assert isinstance(op, Conv2d)
        channels, height, width, in_channels = op.w.type.shape
        if (height, width) != (1, 1) or op.strides != (1, 1) or op.window.has_padding:
            return "the window is not 1x1 with stride 1 and no padding"
        if in_channels % 4 or channels % 2:
            return f"{in_channels} -> {channels} channels are not a multiple of 4 and of 2"
        if op.w.data is None or (op.b is not None and op.b.data is None):
            return "weights or bias are not constant"
        return self._arithmetic_problem(op)

    def _arithmetic_problem(self, op: Conv2d) -> str:
        """Why the packed sums or the short requantization would not be exact, or an empty string."""
        requantizer = op.requantizer()
        if requantizer.rounding != "tflite":
            return f"rounding is {requantizer.rounding}"
        if any(not MINIMUM_RIGHT_SHIFT <= -m.shift <= MAXIMUM_RIGHT_SHIFT for m in requantizer.multipliers):
            return "a channel's shift is outside 1..23 to the right"
        if 2 * requantizer.accumulator_bound >= 1 << 31:
            return "twice a sum may exceed 32 bits"
        weights, bias = self._weights(op), self._bias(op)
        zero = common.operand_quant(op, op.x).zero_point
        reach = max(127 - zero, zero + 128)
        odd = 2 * (reach * np.abs(weights[1::2]).sum(axis=1) + np.abs(bias[1::2]))
        if int(odd.max()) >= ODD_SUM_LIMIT:
            return "a sum may exceed 23 bits"
        if np.any((weights[1::2] == -128) & (weights[0::2] < 0)):
            return "a pair of weights does not fit a halfword"
        return ""

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, Conv2d)
        return {"weights": self._packed_weights(op), "channels": self._channel_parameters(op)}

    def _weights(self, op: Conv2d) -> Array:
        return common.constant_of(op, op.w, "w").reshape(op.w.type.shape[0], -1).astype(np.int64)

    def _bias(self, op: Conv2d) -> Array:
        return (
            np.zeros(op.w.type.shape[0], np.int64)
            if op.b is None
            else common.constant_of(op, op.b, "b").astype(np.int64)
        )

    def _packed_weights(self, op: Conv2d) -> Array:
        """Words [pairs of channels, pairs of inputs]; four inputs give the pairs (0, 2) and (1, 3), the order SXTB16
        widens them in.
        """
        weights = self._weights(op)
        halves = 256 * weights[1::2] + weights[0::2]
        order = np.arange(weights.shape[1]).reshape(-1, 4)[:, [0, 2, 1, 3]].reshape(-1, 2)
        low, high = halves[:, order[:, 0]], halves[:, order[:, 1]]
        words: Array = ((low & 0xFFFF) | ((high & 0xFFFF) << 16)).astype(np.uint32).view(np.int32)
        return np.ascontiguousarray(words)

    def _channel_parameters(self, op: Conv2d) -> Array:
        """Words [pairs of channels, 8]: doubled bias of the even channel, packed bias of both, (multiplier, rounding,
        shift) twice.
        """
        requantizer, bias = op.requantizer(), 2 * self._bias(op)
        multiplier, shift = multiplier_arrays(requantizer.multipliers)
        right = -shift.astype(np.int64)
        rounding = (2 * requantizer.zero_point + 1) << (right - 1)
        triples = np.stack([multiplier.astype(np.int64), rounding, right], axis=1).reshape(-1, 6)
        packed = np.concatenate([bias[0::2, None], (256 * bias[1::2] + bias[0::2])[:, None], triples], axis=1)
        return packed.astype(np.uint64).astype(np.uint32).view(np.int32)

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, Conv2d)
        return TILE_PIXELS * 2 * op.x.type.shape[3]

    def alignments(self, op: Operator) -> dict[str, int]:
        return {"x": 4}

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below; measured within 5 % of it on the emulated core."""
        assert isinstance(op, Conv2d)
        channels, in_channels = op.w.type.shape[0], op.w.type.shape[3]
        pixels = op.result_types()[0].elements // channels
        groups = pixels / TILE_PIXELS
        pairs = in_channels // 2
        inner = 5 + 2 * TILE_PIXELS
        per_pair_of_channels = pairs * inner + 3 * -(-pairs // UNROLL) + 7 * 2 * TILE_PIXELS + 14
        instructions = groups * (channels // 2 * per_pair_of_channels + 4 * TILE_PIXELS * in_channels)
        constants = channels * in_channels + 4 * PARAMETER_WORDS * (channels // 2)
        code = 2 * (120 * UNROLL // 2 + 400)
        return Cost(int(instructions), int(instructions * 1.2), code, constants, self.workspace_bytes(op))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, Conv2d)
        channels, in_channels = op.w.type.shape[0], op.w.type.shape[3]
        pixels = op.result_types()[0].elements // channels
        source, target = k.define("source", v.x.address()), k.define("target", v.y.address())
        whole = pixels // TILE_PIXELS
        if whole:
            end = k.define("source_end", v.x.address(whole * TILE_PIXELS * in_channels))
            with k.repeat_while(lambda: source.ne(end)):
                _pixel_group(k, op, v, source, target, TILE_PIXELS)
                source += TILE_PIXELS * in_channels
                target += TILE_PIXELS * channels
        if rest := pixels % TILE_PIXELS:
            _pixel_group(k, op, v, source, target, rest)


def _pixel_group(k: LoopBuilder, op: Conv2d, v: Views, source: Expr, target: Expr, pixels: int) -> None:
    """All output channels of a few pixels."""
    channels, in_channels = op.w.type.shape[0], op.w.type.shape[3]
    _widen(k, op, v, source, pixels)
    weights, parameters = k.define("weights", v.weights.address()), k.define("parameters", v.channels.address())
    out, out_end = k.define("out", target), k.define("out_end", target + channels)
    row_bytes = 2 * in_channels
    with k.repeat_while(lambda: out.ne(out_end)):
        even = [k.define(f"even{p}", k.read(parameters, 0, DType.I32)) for p in range(pixels)]
        both = [k.define(f"both{p}", k.read(parameters, 4, DType.I32)) for p in range(pixels)]
        _accumulate(k, v, weights, row_bytes, even, both)
        k.fence()
        for channel in range(2):
            multiplier = k.define("multiplier", k.read(parameters, 8 + 12 * channel, DType.I32))
            rounding = k.define("rounding", k.read(parameters, 12 + 12 * channel, DType.I32))
            right = k.define("right", k.read(parameters, 16 + 12 * channel, DType.I32))
            for p in range(pixels):
                total = even[p] if channel == 0 else k.define("odd", (both[p] - even[p]) >> 8)
                value = _requantize(k, op, total, multiplier, rounding, right)
                k.write(out, p * channels + channel, value.cast(DType.I8))
        parameters += 4 * PARAMETER_WORDS
        out += 2


def _widen(k: LoopBuilder, op: Conv2d, v: Views, source: Expr, pixels: int) -> None:
    """The pixels' inputs as pairs of halves, 2 * (x - zero point), interleaved by pixel, into the workspace."""
    in_channels = op.x.type.shape[3]
    offset = (-2 * common.operand_quant(op, op.x).zero_point) & 0xFFFF
    offsets = offset | (offset << 16)
    base = k.define("offsets", offsets - (1 << 32) if offsets >= 1 << 31 else offsets)
    unroll = next(u for u in (4, 2, 1) if (in_channels // 4) % u == 0)
    read, write = k.define("read", source), k.define("write", v.workspace.address())
    end = k.define("read_end", source + in_channels)
    with k.repeat_while(lambda: read.ne(end)):
        for i in range(unroll):
            for p in range(pixels):
                word = k.define("word", k.read(read, 4 * i + p * in_channels, DType.I32))
                low = sxtab16(sxtab16(base, word), word)
                turned = rotated_by_8(word)
                high = sxtab16(sxtab16(base, turned), turned)
                k.write(write, 4 * (pixels * 2 * i + p), low, alignment=4)
                k.write(write, 4 * (pixels * (2 * i + 1) + p), high, alignment=4)
        read += 4 * unroll
        write += 8 * unroll * pixels


def _accumulate(
    k: LoopBuilder, v: Views, weights: Register, row_bytes: int, even: list[Register], both: list[Register]
) -> None:
    """The sums of one pair of channels; `weights` ends behind the pair's row."""
    pixels, pairs = len(even), row_bytes // 4
    unroll = next(u for u in range(UNROLL, 0, -1) if pairs % u == 0)
    inputs, end = k.define("inputs", v.workspace.address()), k.define("weights_end", weights + row_bytes)

    def turn() -> None:
        for u in range(unroll):
            k.fence()
            # Alignment 2 keeps the compiler from pairing loads into LDRD, which does not pipeline.
            x = [k.define(f"x{p}", k.read(inputs, 4 * (pixels * u + p), DType.I32, 2)) for p in range(pixels)]
            word = k.define("word", k.read(weights, 4 * u, DType.I32, 2))
            low = k.define("low", sxtb16(word))
            for p in range(pixels):
                even[p].set(smlad(low, x[p], even[p]))
            for p in range(pixels):
                both[p].set(smlad(word, x[p], both[p]))
        inputs_step, weights_step = 4 * pixels * unroll, 4 * unroll
        inputs.set(inputs + inputs_step)
        weights.set(weights + weights_step)

    if unroll == pairs:
        turn()
    else:
        with k.repeat_while(lambda: weights.ne(end)):
            turn()


def _requantize(k: LoopBuilder, op: Conv2d, total: Expr, multiplier: Expr, rounding: Expr, right: Expr) -> Expr:
    """(SMMLAR(2 * sum, multiplier, (2 * zero + 1) * 2**(right - 1)) - (sum < 0)) >> right, clamped.

    The sign of the sum stands for the sign of the product: they differ only where the result rounds to zero either way.
    """
    requantizer = op.requantizer()
    value = (smmlar(total, multiplier, rounding) + (total >> 31)) >> right
    if (requantizer.low, requantizer.high) == (-128, 127):
        return saturate_byte(value)
    return clamp(value, requantizer.low, requantizer.high)
