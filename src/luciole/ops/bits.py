"""Operations on truth values and on the bits of integers, element by element."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Elementwise, Operator, Value, Views, operator
from luciole.graph.foreign import ForeignNode, onnx, tflite
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, TensorType
from luciole.kernel.core import Constant, Expr, binary, select
from luciole.ops import common

#: Types whose elements are truth values or bits.
_BITS = (DType.BOOL, *common.PLAIN_INTEGERS)


@dataclass(frozen=True, eq=False, repr=False)
class BitOperator(Elementwise):
    """Base of operators on the bits of two operands of one type, which broadcast; a truth value is one bit."""

    a: Value
    b: Value

    def infer(self) -> TensorType:
        a, b = self.a.type, self.b.type
        if a.dtype is not b.dtype or a.dtype not in _BITS or a.quant is not None or b.quant is not None:
            raise self.error("a and b must both be bool, or both integers of one type", "unsupported-types")
        return TensorType(a.dtype, common.broadcast(self, a.shape, b.shape))

    def in_place_operands(self) -> tuple[str, ...]:
        return ("a", "b")

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield cls(s.numbers(DType.BOOL, 2, 8), s.numbers(DType.BOOL, 8))
        yield from (cls(s.numbers(dtype, 2, 9), s.numbers(dtype, 9)) for dtype in common.SAMPLED_INTEGERS)


@operator("and")
class And(BitOperator):
    """y = a and b, bit by bit, with numpy's broadcasting."""

    def compute(self, a: Array, b: Array) -> Array:
        return np.asarray(a & b)

    def element(self, v: Views, *operands: Expr) -> Expr:
        a, b = operands
        return a & b


@operator("or")
class Or(BitOperator):
    """y = a or b, bit by bit, with numpy's broadcasting."""

    def compute(self, a: Array, b: Array) -> Array:
        return np.asarray(a | b)

    def element(self, v: Views, *operands: Expr) -> Expr:
        a, b = operands
        return a | b


@operator("xor")
class Xor(BitOperator):
    """y = a or b but not both, bit by bit, with numpy's broadcasting."""

    def compute(self, a: Array, b: Array) -> Array:
        return np.asarray(a ^ b)

    def element(self, v: Views, *operands: Expr) -> Expr:
        a, b = operands
        return a ^ b


@operator("not")
class Not(Elementwise):
    """y = not x, bit by bit; a truth value is one bit."""

    x: Value

    def infer(self) -> TensorType:
        x = self.x.type
        if x.dtype not in _BITS or x.quant is not None:
            raise self.error("x must be bool or an integer", "unsupported-types")
        return x

    def compute(self, x: Array) -> Array:
        return np.asarray(~x)

    def element(self, v: Views, *operands: Expr) -> Expr:
        (x,) = operands
        return ~x

    def in_place_operands(self) -> tuple[str, ...]:
        return ("x",)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        yield from (cls(s.numbers(dtype, 2, 9)) for dtype in (DType.BOOL, *common.SAMPLED_INTEGERS))


@dataclass(frozen=True, eq=False, repr=False)
class Shift(Elementwise):
    """Base of shifts of integers.

    By as many bits as the type has, or more, or by a negative number, all bits of `a` leave: what remains is 0, or of
    negative numbers shifted right -1.
    """

    a: Value
    b: Value

    def infer(self) -> TensorType:
        a, b = self.a.type, self.b.type
        if a.dtype is not b.dtype or not a.dtype.is_integer or a.quant or b.quant:
            raise self.error("a and b must both be integers of one type", "unsupported-types")
        return TensorType(a.dtype, common.broadcast(self, a.shape, b.shape))

    def in_place_operands(self) -> tuple[str, ...]:
        return ("a", "b")

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        for dtype in (DType.U8, DType.U32, DType.U64):
            amounts = np.array([0, 1, dtype.bits - 1, dtype.bits, dtype.bits + 1, dtype.limits[1]], dtype.numpy)
            yield cls(s.numbers(dtype, 3, 6), s.array(amounts))
        for dtype in (DType.I8, DType.I32, DType.I64):
            amounts = np.array([0, 1, dtype.bits - 1, dtype.bits, -1, dtype.limits[0], dtype.limits[1]], dtype.numpy)
            yield cls(s.numbers(dtype, 3, 7), s.array(amounts))


@operator("shift_left")
class ShiftLeft(Shift):
    """y = a * 2**b without the bits that leave the type; integers."""

    def compute(self, a: Array, b: Array) -> Array:
        bits = self.a.type.dtype.bits
        fits = (b >= 0) & (b < bits)
        return np.where(fits, np.left_shift(a, np.where(fits, b, b.dtype.type(0))), a.dtype.type(0))

    def element(self, v: Views, *operands: Expr) -> Expr:
        a, b = operands
        fits = _fits(b)
        return select(fits, a << select(fits, b, 0), 0)


@operator("shift_right")
class ShiftRight(Shift):
    """y = a / 2**b, rounded down; integers."""

    def compute(self, a: Array, b: Array) -> Array:
        bits = self.a.type.dtype.bits
        fits = (b >= 0) & (b < bits)
        rest = np.where(a < 0, ~a.dtype.type(0), a.dtype.type(0))
        return np.where(fits, np.right_shift(a, np.where(fits, b, b.dtype.type(0))), rest)

    def element(self, v: Views, *operands: Expr) -> Expr:
        a, b = operands
        fits = _fits(b)
        rest: Expr | int = select(a < 0, Constant(-1, a.dtype), 0) if a.dtype.is_signed else 0
        return select(fits, a >> select(fits, b, 0), rest)


def _fits(amount: Expr) -> Expr:
    """Whether a type has so many bits, and one more."""
    below = amount < amount.dtype.bits
    return binary("and", amount >= 0, below) if amount.dtype.is_signed else below


_ONNX_KINDS: dict[str, type[BitOperator]] = {"And": And, "Or": Or, "Xor": Xor}


@onnx("And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
def _import_bits(node: ForeignNode, g: GraphBuilder) -> Value:
    kind = _ONNX_KINDS[node.kind.removeprefix("Bitwise")]
    return g.add(kind(node.input(0), node.input(1), location=node.location), node.name)


@tflite("LOGICAL_NOT")
@onnx("Not", "BitwiseNot")
def _import_not(node: ForeignNode, g: GraphBuilder) -> Value:
    return g.add(Not(node.input(0), location=node.location), node.name)


@onnx("BitShift")
def _import_shift(node: ForeignNode, g: GraphBuilder) -> Value:
    direction = node.choice("direction", {"LEFT": "left", "RIGHT": "right"})
    kind = ShiftLeft if direction == "left" else ShiftRight
    return g.add(kind(node.input(0), node.input(1), location=node.location), node.name)
