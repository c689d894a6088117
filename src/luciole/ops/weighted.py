"""The sum over constant weights that convolutions and fully connected layers share: how it begins and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import Any, TypeVar

import numpy as np

from luciole.graph.core import Operator, RowAccess, Value, Views
from luciole.ir import arithmetic
from luciole.ir.arithmetic import Multiplier, Rounding
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.core import Expr, Operand
from luciole.ops import common
from luciole.ops.common import Requantizer, Window

#: requantize(4 * v) with this multiplier is v, for every integer v of few bits.
_QUARTER = Multiplier(1 << 30, -1)
#: Biases of this magnitude are made smaller where results allow: kernels keep them in 27 bits.
_LARGE_BIAS = 1 << 26


Op = TypeVar("Op", bound=Operator)


def once(method: Callable[[Op], WeightedSum]) -> Callable[[Op], WeightedSum]:
    """Decorate a method without arguments of an operator: computed once, since operators are immutable."""

    @wraps(method)
    def remembered(op: Op) -> WeightedSum:
        known: WeightedSum | None = op.__dict__.get("_sums")
        if known is None:
            known = op.__dict__["_sums"] = method(op)
        return known

    return remembered


@dataclass(frozen=True, eq=False)
class WeightedSum:
    """y = act(b[c] + sum of x * w[c]) for output channels c along `axis` of w, f32 or int8.

    int8 weights are symmetric, with one scale or one for each channel; b is int32 in units of x.scale * w.scale. The
    zero point of x is subtracted from each element, or from the bias beforehand where `folds_zero_point`, which needs
    that all products are in every sum. Raises `CompileError` where quantizations do not fit.
    """

    op: Operator
    x: Value
    w: Value
    b: Value | None
    axis: int
    activation: str
    rounding: Rounding
    folds_zero_point: bool

    @property
    def is_int8(self) -> bool:
        """Whether the sum is one of integers."""
        return common.is_int8(self.x)

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return self.w.type.shape[self.axis]

    @cached_property
    def zero_point(self) -> int:
        """The zero point of x."""
        return common.operand_quant(self.op, self.x).zero_point

    @cached_property
    def weights(self) -> Array:
        """int64 weights [channels, products of a sum]."""
        data = common.constant_of(self.op, self.w, "w").astype(np.int64)
        return np.moveaxis(data, self.axis, 0).reshape(self.channels, -1)

    @cached_property
    def bias(self) -> Array:
        """int64 bias of each channel, without any zero point."""
        if self.b is None:
            return np.zeros(self.channels, np.int64)
        return common.constant_of(self.op, self.b, "b").astype(np.int64)

    @cached_property
    def multipliers(self) -> tuple[Multiplier, ...]:
        """The multiplier of each channel as the model has it."""
        quant, source = common.result_quant(self.op), common.operand_quant(self.op, self.x)
        weights = self.w.type.quant
        if weights is None or any(weights.zero_points) or len(weights.scales) not in (1, self.channels):
            raise self.op.error(
                f"int8 weights must be symmetric, with one scale or one for each of the {self.channels} channels"
            )
        if weights.is_per_channel and weights.axis != self.axis:
            raise self.op.error(
                f"weights are quantized along axis {weights.axis}, output channels lie along axis {self.axis}"
            )
        scales = weights.scales if weights.is_per_channel else weights.scales * self.channels
        return tuple(arithmetic.convolution_multiplier(source.scale, s, quant.scale, self.rounding) for s in scales)

    def compute(self, accumulator: Array) -> Array:
        """int8 results of accumulators without bias, channels on the last axis: the numpy meaning."""
        return self.requantizer.compute(accumulator + self.bias).astype(np.int8)

    @cached_property
    def requantizer(self) -> Requantizer:
        """From the sums with `bias` to results."""
        return self._requantizer(self.multipliers, self.bias)

    def _requantizer(self, multipliers: tuple[Multiplier, ...], bias: Array) -> Requantizer:
        quant = common.result_quant(self.op)
        low, high = arithmetic.activation_range(self.activation, quant.scale, quant.zero_point)
        bound = int(self.largest_sums(bias).max(initial=0))
        return Requantizer(multipliers, quant.zero_point, low, high, self.rounding, bound)

    def largest_sums(self, bias: Array) -> Array:
        """int64 [channels]: the largest magnitude that each sum with `bias` can reach.

        Every input is at its extreme: sum of |w| times the largest |x - zero point|, plus |bias|.
        """
        reach = common.reach(common.operand_quant(self.op, self.x))
        return np.asarray(np.abs(self.weights).sum(axis=1) * reach + np.abs(bias))

    # For kernels

    @cached_property
    def _is_constant(self) -> Array:
        """Which channels have no weight but zeros, so that their result is known."""
        return np.asarray(~np.any(self.weights, axis=1))

    @cached_property
    def _kernel_channels(self) -> tuple[Array, tuple[Multiplier, ...]]:
        """int64 bias and multiplier of each channel for kernels."""
        results = self.compute(np.zeros(self.channels, np.int64)).astype(np.int64)
        zero_point = common.result_quant(self.op).zero_point
        bias = np.where(self._is_constant, 4 * (results - zero_point), self.bias)
        pairs = zip(self.multipliers, self._is_constant, strict=True)
        multipliers = [_QUARTER if is_constant else multiplier for multiplier, is_constant in pairs]
        reach = self.largest_sums(np.zeros(self.channels, np.int64))
        for channel in np.flatnonzero(~self._is_constant & (np.abs(bias) >= _LARGE_BIAS)):
            bias[channel], multipliers[channel] = self._smaller(
                int(bias[channel]), multipliers[channel], int(reach[channel])
            )
        return bias, tuple(multipliers)

    def _smaller(self, bias: int, multiplier: Multiplier, reach: int) -> tuple[int, Multiplier]:
        """A smaller bias and a greater multiplier with which all sums give the same: one result, since the least and
        the greatest sum give it.
        """

        def results(bias: int, multiplier: Multiplier) -> list[int]:
            extremes = np.array([[bias - reach], [bias + reach]], np.int64)
            found = replace(self.requantizer, multipliers=(multiplier,)).compute(extremes)
            return [int(result) for result in found.reshape(-1)]

        wanted = results(bias, multiplier)
        while wanted[0] == wanted[1] and abs(bias) >= _LARGE_BIAS:
            half, twice = bias // 2, Multiplier(multiplier.multiplier, multiplier.shift + 1)
            if results(half, twice) != wanted:
                break
            bias, multiplier = half, twice
        return bias, multiplier

    @cached_property
    def kernel_bias(self) -> Array:
        """int64 bias of each channel for `kernel_requantizer`, no zero point in it.

        It differs from `bias` in channels without weights, whose results are found here, and where large biases hide
        small weights: biases and scales that nothing bounds would keep kernels from short arithmetic.
        """
        return self._kernel_channels[0]

    @cached_property
    def kernel_requantizer(self) -> Requantizer:
        """From the sums with `kernel_bias` to results."""
        return self._requantizer(self._kernel_channels[1], self.kernel_bias)

    def adopt(self, other: WeightedSum) -> None:
        """Take over what `other` has computed already, where it has the same constants and quantizations."""
        if self._facts() == other._facts() and isinstance(self.op, type(other.op)):
            known = other.__dict__
            self.__dict__.update((name, known[name]) for name in _ADOPTED if name in known)

    def _facts(self) -> tuple[object, ...]:
        """What all that is computed here follows from; equal data is the same array."""
        data = tuple((id(v.data), v.type.quant) if v is not None else None for v in (self.w, self.b))
        quants = self.x.type.dtype, self.x.type.quant, self.op.quant
        return (*data, *quants, self.axis, self.activation, self.rounding)

    def operands(self) -> tuple[str, ...]:
        """Names of the operands that a kernel reads."""
        return ("x", "w") if self.is_int8 or self.b is None else ("x", "w", "b")

    def parameters(self) -> dict[str, Array]:
        """For int8 `channels`: bias, multiplier and shift of each channel, next to one another."""
        if not self.is_int8:
            return {}
        bias = self.kernel_bias
        if self.folds_zero_point:
            bias = bias - self.zero_point * self.weights.sum(axis=1)
        scaling = self.kernel_requantizer.arrays()
        return {"channels": np.stack([arithmetic.wrap_int32(bias), scaling["multiplier"], scaling["shift"]], axis=1)}

    def initial(self, v: Views, channel: Operand) -> Operand:
        """What the sum of a channel begins with."""
        if self.is_int8:
            return v.channels[channel, 0]
        return common.float_zero(self.x.type.dtype) if self.b is None else v.b[channel]

    def term(self, element: Expr) -> Expr:
        """An element of x as the sum needs it."""
        value = common.widened(element)
        return value if self.folds_zero_point or not self.is_int8 else value - self.zero_point

    def finish(self, v: Views, total: Expr, channel: Operand) -> Expr:
        """The result of a channel from its sum."""
        if not self.is_int8:
            return common.float_activation(self.activation, total)
        multiplier, shift = v.channels[channel, 1], v.channels[channel, 2]
        return self.kernel_requantizer.emit(total, multiplier, shift).cast(DType.I8)


#: What follows from weights, bias and quantizations alone.
_ADOPTED = tuple(name for name, value in vars(WeightedSum).items() if isinstance(value, cached_property))


class WindowedSum(Operator):
    """Base of convolutions: a weighted sum under every place of a window over x, which is NHWC."""

    x: Value
    w: Value
    b: Value | None
    pads: tuple[int, int, int, int]

    @property
    def window(self) -> Window:
        """The window's geometry."""
        raise NotImplementedError

    def infer(self) -> TensorType:
        """The one result's type; see `Operator.infer`."""
        raise NotImplementedError

    def sums(self) -> WeightedSum:
        """The sum under one place."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Array]:
        return self.sums().parameters()

    def kernel_operands(self) -> tuple[str, ...]:
        return self.sums().operands()

    def overlap_bytes(self) -> dict[str, int]:
        """Pixel by pixel: a window is read until its pixel is complete."""
        distance = self.window.overlap_bytes(self.x.type, self.infer())
        return {} if distance is None else {"x": distance}

    def row_accesses(self) -> dict[str, RowAccess] | None:
        if not (self.w.is_constant and (self.b is None or self.b.is_constant)):
            return None
        access = self.window.row_access(self.x.type, common.zero_byte(self, self.x))
        return None if access is None else {"x": access}

    def row_attributes(self) -> dict[str, Any]:
        return {"pads": (0, self.pads[1], 0, self.pads[3])}

    def _restricted_to_rows(self, rows: int) -> Operator:
        return self._with_sums_of(super()._restricted_to_rows(rows))

    def with_operands(self, change: Callable[[Value], Value]) -> Operator:
        return self._with_sums_of(super().with_operands(change))

    def _with_sums_of(self, new: Operator) -> Operator:
        """An operator made from this one, which need not find again what is known here."""
        if "_sums" in self.__dict__ and isinstance(new, WindowedSum):
            new.sums().adopt(self.sums())
        return new
