"""1x1 convolution of int8 on cores with the DSP extension: three pixels by two output channels in registers.

Weights are packed by pairs of channels, see `hilo`. A group of pixels is widened into the workspace, interleaved, and
all output channels of the group follow. Measured: 1.14 executed instructions per multiplication on 64 -> 64 channels,
Cortex-M4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from luciole.graph.core import Operator, Views
from luciole.graph.samples import Samples
from luciole.ir.target import Target
from luciole.ir.types import Array, DType
from luciole.kernel.builder import LoopBuilder, Register
from luciole.kernel.core import Expr, minimum
from luciole.ops.conv import Conv2d
from luciole.targets.armv7em import hilo
from luciole.targets.armv7em.intrinsics import smlad, sxtb16
from luciole.targets.base import Cost, KernelRecipe, kernel

#: Pixels in one register tile; the accumulators of two channels for them, the inputs, the weights and the pointers fill
#: 13 registers.
TILE_PIXELS = 3


@kernel("conv2d", DType.I8, needs={"dsp"})
@dataclass(frozen=True)
class PointwiseHiLo(KernelRecipe):
    """1x1 convolution, stride 1, input channels a multiple of 4, an even number of output channels."""

    name = "pointwise_hilo"
    parameter_space: ClassVar = {"unroll": (16, 32, 8, 4)}

    #: Pairs of inputs in one turn of the inner loop, at most.
    unroll: int = 16
    #: Whether parameters of channels take few bytes however many pixels there are.
    is_lean: bool = False
    #: Whether the last tile computes pixels a second time, instead of having code of its own for fewer.
    repeats_pixels: bool = False

    def shape_class(self, op: Operator) -> str:
        assert isinstance(op, Conv2d)
        channels = op.x.type.shape[3]
        return "few channels" if channels < 32 else "32 channels" if channels < 64 else "64 channels or more"

    def tuning_layers(self, s: Samples) -> Iterator[Operator]:
        for channels in (8, 16, 24, 32, 48, 64, 96, 128):
            yield hilo.tuning_layer(s, 6, channels, 16)

    def variants(self) -> tuple[KernelRecipe, ...]:
        lean = replace(self, is_lean=True)
        single = replace(lean, repeats_pixels=True)
        return lean, single, replace(single, unroll=16), replace(single, unroll=4)

    def applies(self, op: Operator) -> str:
        assert isinstance(op, Conv2d)
        channels, height, width, in_channels = op.w.type.shape
        if (height, width) != (1, 1) or op.strides != (1, 1) or op.window.has_padding:
            return "the window is not 1x1 with stride 1 and no padding"
        if in_channels % 4 or channels % 2:
            return f"{in_channels} -> {channels} channels are not a multiple of 4 and of 2"
        if op.w.data is None or (op.b is not None and op.b.data is None):
            return "weights or bias are not constant"
        return hilo.packing_problem(op.sums())

    def constants(self, op: Operator) -> dict[str, Array]:
        assert isinstance(op, Conv2d)
        order = np.arange(op.x.type.shape[3]).reshape(-1, 4)[:, [0, 2, 1, 3]].reshape(-1, 2)
        return {
            "weights": hilo.packed_words(op.sums().weights, order),
            "channels": self._parameters(op).words(),
        }

    def workspace_bytes(self, op: Operator) -> int:
        assert isinstance(op, Conv2d)
        return TILE_PIXELS * 2 * op.x.type.shape[3]

    def alignments(self, op: Operator) -> dict[str, int]:
        return {"x": 4}

    def overlap_bytes(self, op: Operator) -> dict[str, int]:
        """Three pixels are widened before they are written, whatever their rows and images."""
        assert isinstance(op, Conv2d)
        channels, in_channels = op.w.type.shape[0], op.w.type.shape[3]
        if self.repeats_pixels:
            return {}
        complete = (op.result_types()[0].elements // channels - 1) // TILE_PIXELS * TILE_PIXELS
        return {"x": max(0, complete * (channels - in_channels))}

    def cost(self, op: Operator, target: Target) -> Cost:
        """From counting the loops below; measured within 5 % of it on the emulated core."""
        assert isinstance(op, Conv2d)
        channels, in_channels = op.w.type.shape[0], op.w.type.shape[3]
        pixels = op.result_types()[0].elements // channels
        groups = -(-pixels // TILE_PIXELS) if self.repeats_pixels else pixels / TILE_PIXELS
        pairs = in_channels // 2
        inner = 5 + 2 * TILE_PIXELS
        turns = pairs // _unrolled(pairs, self.unroll)
        per_pair_of_channels = pairs * inner + (6.5 * turns if turns > 1 else 3) + 7 * 2 * TILE_PIXELS + 14
        per_pair_of_channels += self._parameters(op).extra_instructions
        instructions = groups * (channels // 2 * per_pair_of_channels + 4 * TILE_PIXELS * in_channels)
        return Cost(int(instructions), int(instructions * 1.2))

    def build(self, k: LoopBuilder, op: Operator, v: Views) -> None:
        assert isinstance(op, Conv2d)
        channels, in_channels = op.w.type.shape[0], op.w.type.shape[3]
        pixels = op.result_types()[0].elements // channels
        if self.repeats_pixels and pixels > TILE_PIXELS and pixels % TILE_PIXELS:
            with k.loop("tile", -(-pixels // TILE_PIXELS)) as tile:
                pixel = k.define("pixel", minimum(tile * TILE_PIXELS, pixels - TILE_PIXELS))
                source = k.define("source", v.x.address(pixel * in_channels))
                target = k.define("target", v.y.address(pixel * channels))
                self._pixel_group(k, op, v, source, target, TILE_PIXELS)
            return
        source, target = k.define("source", v.x.address()), k.define("target", v.y.address())
        whole = pixels // TILE_PIXELS
        if whole:
            end = k.define("source_end", v.x.address(whole * TILE_PIXELS * in_channels))
            with k.repeat_while(lambda: source.ne(end)):
                self._pixel_group(k, op, v, source, target, TILE_PIXELS)
                source += TILE_PIXELS * in_channels
                target += TILE_PIXELS * channels
        if rest := pixels % TILE_PIXELS:
            self._pixel_group(k, op, v, source, target, rest)

    def _parameters(self, op: Conv2d) -> hilo.PairParameters:
        _, height, width, _ = op.result_types()[0].shape
        return hilo.PairParameters.of(op.sums(), height * width, is_lean=self.is_lean)

    def _pixel_group(self, k: LoopBuilder, op: Conv2d, v: Views, source: Expr, target: Expr, pixels: int) -> None:
        """All output channels of a few pixels."""
        channels, in_channels = op.w.type.shape[0], op.w.type.shape[3]
        _widen(k, op, v, source, pixels)
        weights, layout = k.define("weights", v.weights.address()), self._parameters(op)
        shared = layout.read_shared(k, v.channels.address())
        parameters = k.define("parameters", v.channels.address(layout.header_bytes))
        out, out_end = k.define("out", target), k.define("out_end", target + channels)
        row_bytes = 2 * in_channels
        with k.repeat_while(lambda: out.ne(out_end)):
            sums = layout.start(k, parameters, pixels)
            _accumulate(k, v, weights, row_bytes, self.unroll, *sums)
            layout.finish(k, parameters, shared, out, channels, sums)
            parameters += layout.bytes_each
            out += 2


def _unrolled(pairs: int, most: int) -> int:
    """Pairs of inputs in one turn: the most that divide their number."""
    return next(u for u in range(most, 0, -1) if pairs % u == 0)


def _widen(k: LoopBuilder, op: Conv2d, v: Views, source: Expr, pixels: int) -> None:
    """The pixels' inputs as pairs of centered halves, interleaved by pixel, into the workspace."""
    in_channels = op.x.type.shape[3]
    scale = hilo.scale_of(op.sums())
    base = k.define("offsets", hilo.widening_offsets(op.sums()))
    unroll = next(u for u in (4, 2, 1) if (in_channels // 4) % u == 0)
    read, write = k.define("read", source), k.define("write", v.workspace.address())
    end = k.define("read_end", source + in_channels)
    with k.repeat_while(lambda: read.ne(end)):
        for i in range(unroll):
            for p in range(pixels):
                word = k.define("word", k.read(read, 4 * i + p * in_channels, DType.I32))
                low = hilo.widened_pair(word, base, scale)
                high = hilo.widened_pair(word, base, scale, odd=True)
                k.write(write, 4 * (pixels * 2 * i + p), low, alignment=4)
                k.write(write, 4 * (pixels * (2 * i + 1) + p), high, alignment=4)
        read += 4 * unroll
        write += 8 * unroll * pixels


def _accumulate(
    k: LoopBuilder,
    v: Views,
    weights: Register,
    row_bytes: int,
    most: int,
    even: list[Register],
    both: list[Register],
) -> None:
    """The sums of one pair of channels, at `most` so many inputs' pairs a turn; `weights` ends behind its row."""
    pixels, pairs = len(even), row_bytes // 4
    unroll = _unrolled(pairs, most)
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
