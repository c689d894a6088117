"""Random int8 layers for the recipes of cores with vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from luciole.graph.core import Operator
from luciole.graph.samples import Samples
from luciole.ops.conv import Conv2d
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.ops.elementwise import Add, Mul, Sub
from luciole.ops.matmul import FullyConnected
from luciole.ops.pool import AveragePool2d, MaxPool2d
from luciole.targets.base import KernelRecipe
from support.recipe_cases import RecipeCase


class Draw:
    """Random layers whose windows fit, by the recipes of their operators' types."""

    def __init__(self, seed: int, largest: int, recipes: Mapping[type[Operator], KernelRecipe]) -> None:
        self.random = np.random.default_rng(seed)
        self.largest = largest
        self.recipes = recipes

    def case(self, op: Operator, s: Samples) -> RecipeCase:
        """An operator with the recipe under test."""
        return RecipeCase(op, s, self.recipes[type(op)])

    def below(self, end: int, begin: int = 1) -> int:
        """A number of begin..end - 1."""
        return int(self.random.integers(begin, end))

    def zero(self) -> int:
        """A zero point, often an extreme one."""
        return int(self.random.choice([-128, 127, 0, self.below(128, -128)]))

    def samples(self) -> Samples:
        """New operands."""
        return Samples(self.below(1 << 30))

    def window(self, has_dilation: bool) -> tuple[tuple[int, int], tuple[int, int], dict[str, object]]:
        """An image's size, a kernel's, and options of a convolution."""
        while True:
            kernel = (self.below(6), self.below(6))
            pads = tuple(int(self.random.choice([0, self.below(extent, 0)])) for extent in kernel + kernel)
            size = (self.below(self.largest), self.below(self.largest))
            dilations = (self.below(3), self.below(3)) if has_dilation else (1, 1)
            extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
            if size[0] + pads[0] + pads[2] >= extent[0] and size[1] + pads[1] + pads[3] >= extent[1]:
                strides = (self.below(4), self.below(4))
                return size, kernel, {"pads": pads, "strides": strides, "dilations": dilations}

    def result(self, s: Samples) -> dict[str, object]:
        """The quantization of a result and an activation."""
        scale = float(self.random.choice([0.3, 2.0]))
        activation = str(self.random.choice(["none", "relu", "relu6"]))
        return {"quant": s.quant(scale, self.zero()), "activation": activation}

    def conv(self) -> RecipeCase:
        """Any convolution."""
        s, channels, outputs = self.samples(), self.below(21), self.below(14)
        size, kernel, options = self.window(has_dilation=True)
        x = s.i8(self.below(3), *size, channels, zero=self.zero())
        weights = s.i8_weights(outputs, *kernel, channels)
        return self.case(Conv2d(x, weights, s.i32_bias(outputs), **options, **self.result(s)), s)  # type: ignore[arg-type]  # options by name

    def pointwise(self) -> RecipeCase:
        """A 1x1 convolution, often of more than one vector of channels."""
        s, channels, outputs = self.samples(), self.below(100), self.below(14)
        x = s.i8(1, self.below(5), self.below(5), channels, zero=self.zero())
        weights = s.i8_weights(outputs, 1, 1, channels)
        strides = (self.below(3), self.below(3))
        return self.case(Conv2d(x, weights, s.i32_bias(outputs), strides=strides, **self.result(s)), s)  # type: ignore[arg-type]  # options by name

    def depthwise(self) -> RecipeCase:
        """A depthwise convolution."""
        s, channels = self.samples(), self.below(40)
        size, kernel, options = self.window(has_dilation=False)
        x = s.i8(self.below(3), *size, channels, zero=self.zero())
        weights = s.i8_weights(1, *kernel, channels, axis=3)
        return self.case(DepthwiseConv2d(x, weights, s.i32_bias(channels), **options, **self.result(s)), s)  # type: ignore[arg-type]  # options by name

    def single_channel(self) -> RecipeCase:
        """A depthwise convolution of one channel into several."""
        s, outputs = self.samples(), self.below(10)
        size, kernel, options = self.window(has_dilation=True)
        weights = s.i8_weights(1, *kernel, outputs, axis=3)
        op = DepthwiseConv2d(
            s.i8(1, *size, 1, zero=self.zero()),
            weights,
            s.i32_bias(outputs),
            **options,
            **self.result(s),  # type: ignore[arg-type]  # options by name
        )
        return RecipeCase(op, s, self.recipes[Conv2d])

    def fully_connected(self) -> RecipeCase:
        """A fully connected layer."""
        s, count, outputs = self.samples(), self.below(200), self.below(14)
        weights = s.i8_weights(outputs, count, axis=None if self.below(2, 0) else 0)
        x = s.i8(self.below(4), count, zero=self.zero())
        return self.case(FullyConnected(x, weights, s.i32_bias(outputs), **self.result(s)), s)  # type: ignore[arg-type]  # options by name

    def elementwise(self) -> RecipeCase:
        """A sum, difference or product."""
        s, kind = self.samples(), [Add, Sub, Mul][self.below(3, 0)]
        shape = (self.below(6), self.below(30))
        a, b = s.i8(*shape, zero=self.zero()), s.i8(*shape, scale=0.017, zero=self.zero())
        return self.case(kind(a, b, **self.result(s)), s)  # type: ignore[arg-type]  # options by name

    def pool(self) -> RecipeCase:
        """An average or maximum pool, at times of everything."""
        s, kind = self.samples(), [AveragePool2d, MaxPool2d][self.below(2, 0)]
        size, kernel, options = self.window(has_dilation=True)
        if not self.below(4, 0):
            kernel, options = size, {}
        x = s.i8(self.below(3), *size, self.below(40), zero=self.zero())
        return self.case(kind(x, kernel, activation=str(self.random.choice(["none", "relu", "relu6"])), **options), s)  # type: ignore[arg-type]  # options by name

    def each(self, count: int) -> list[RecipeCase]:
        """So many of every kind."""
        kinds: list[Callable[[], RecipeCase]] = [
            self.conv,
            self.pointwise,
            self.depthwise,
            self.single_channel,
            self.fully_connected,
            self.elementwise,
            self.pool,
        ]
        return [kind() for kind in kinds for _ in range(count)]
