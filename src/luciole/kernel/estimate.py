"""What a kernel costs to run, estimated from its loops: instructions of one statement times how often it runs.

The prices are those of compiled code: operands that are folded into an instruction cost nothing (constants, offsets,
extensions of what is loaded, a product that is added on Arm), indices that advance with a loop cost nothing either.
Held against emulated cores by `tests/unit/targets/test_cost.py`; registers that do not suffice are not foreseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from luciole.ir.target import Target
from luciole.ir.types import DType
from luciole.kernel.core import (
    Address,
    Assign,
    Binary,
    Bitcast,
    Body,
    Call,
    Cast,
    Compare,
    Constant,
    Define,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Read,
    Repeat,
    Select,
    Stmt,
    Store,
    Unary,
    Variable,
    Write,
)
from luciole.kernel.executions import executions
from luciole.kernel.walk import bodies, children, walk

#: Entering and leaving a function with its registers saved.
_CALL = 12
#: What moving operands between eight registers and memory adds to plain loops nested deeper than this.
_SPILLS, _SHALLOW = 1.4, 3
#: Support functions of floating point, on cores without: instructions by operation, as libgcc's take.
_SOFT_FLOAT = {"add": 50.0, "sub": 50.0, "mul": 40.0, "divide": 120.0, "min": 25.0, "max": 25.0}
_SOFT_COMPARE, _SOFT_CAST = 20.0, 25.0
#: A division by shifts and subtractions.
_LONG_DIVISION = 70.0


def estimated_instructions(kernel: Kernel, target: Target, scalars: Mapping[str, int] | None = None) -> int:
    """Executed instructions of one run on a target; `scalars` are the kernel's scalar parameters."""
    counts = executions(kernel, scalars)
    prices = _Prices(target)
    seen: dict[int, Stmt] = {id(stmt): stmt for stmt in walk(kernel.body)}
    total = sum(
        counts[key] * prices.statement(stmt) + prices.turns(stmt, counts) for key, stmt in seen.items() if key in counts
    )
    if prices.is_small and not kernel.is_scheduled and _depth(kernel.body) > _SHALLOW:
        total *= _SPILLS
    return int(_CALL + total)


@dataclass(frozen=True)
class _Prices:
    """Instructions of one statement on a target."""

    target: Target

    @property
    def is_arm(self) -> bool:
        return self.target.triple.startswith(("thumb", "arm", "aarch64"))

    @property
    def is_small(self) -> bool:
        """Whether the core has Armv6-M's instructions only."""
        return self.target.triple.startswith(("thumbv6m", "thumbv8m.base"))

    def turns(self, stmt: Stmt, counts: Mapping[int, float]) -> float:
        """What the turns of a loop cost beside its body: advancing, comparing, jumping."""
        match stmt:
            case For() if stmt.body:
                return (2.0 if not self.is_small else 3.0) * counts.get(id(stmt.body[0]), 0.0)
            case Repeat() if stmt.body:
                return (1.0 + self.value(stmt.condition)) * counts.get(id(stmt.body[0]), 0.0)
        return 0.0

    def statement(self, stmt: Stmt) -> float:
        """One run of a statement, without the bodies in it."""
        match stmt:
            case Define() | Assign():
                return self.value(stmt.value)
            case Store():
                return 1 + self.stored(stmt.value) + sum(map(self.index, stmt.indices))
            case Write():
                return 1 + self.stored(stmt.value) + self.pointer(stmt.pointer)
            case For():
                return self.value(stmt.begin) + self.value(stmt.end) + 1
            case If():
                return self.value(stmt.condition) + 1
        return 0.0

    def stored(self, value: Expr) -> float:
        """A value that a store cuts to size."""
        while isinstance(value, Cast) and value.dtype.is_integer and value.a.dtype.is_integer:
            value = value.a
        return 1.0 if isinstance(value, Constant) else self.value(value)

    def index(self, expr: Expr) -> float:
        """An index: nothing where it advances with loops, its price where it comes from memory."""
        return self.value(expr) if _reads_memory(expr) else 0.0

    def pointer(self, expr: Expr) -> float:
        """An address in a load or store: a base with an offset."""
        if isinstance(expr, Binary) and isinstance(expr.b, Constant):
            return self.pointer(expr.a)
        return self.value(expr)

    def value(self, expr: Expr) -> float:
        """An expression into a register."""
        match expr:
            case Variable() | Constant():
                return 0.0
            case Load():
                return 1 + sum(map(self.index, expr.indices))
            case Read():
                return 1 + self.pointer(expr.pointer)
            case Address():
                return 0.5 if isinstance(expr.offset, Constant) else 1 + self.value(expr.offset)
            case Binary():
                return self.binary(expr)
            case Compare():
                price = _SOFT_COMPARE if self.is_soft(expr.a.dtype) else self.width(expr.a.dtype)
                return price + self.operands(expr)
            case Unary():
                return (6.0 if expr.operation in ("floor", "round_even") else 1.0) + self.operands(expr)
            case Select():
                if isinstance(expr.condition, Compare) and expr.condition.a == expr.condition.b:
                    return self.value(expr.a)
                return 2 * self.width(expr.dtype) + self.operands(expr)
            case Cast():
                return self.cast(expr)
            case Bitcast():
                return 1 + self.operands(expr)
            case Call():
                return self.call(expr)
        return 1 + self.operands(expr)

    def operands(self, expr: Expr) -> float:
        return sum(map(self.value, children(expr)))

    def is_soft(self, dtype: DType) -> bool:
        return dtype.is_float and not self.target.has("double" if dtype is DType.F64 else "fpu")

    def width(self, dtype: DType) -> float:
        """Registers that a number takes."""
        return 2.0 if dtype in (DType.I64, DType.U64) and self.target.pointer_bytes == 4 else 1.0

    def binary(self, expr: Binary) -> float:
        dtype, operation, operands = expr.dtype, expr.operation, self.operands(expr)
        if dtype.is_float:
            soft = _SOFT_FLOAT[operation]
            return operands + (soft if self.is_soft(dtype) else 3.0 if operation in ("min", "max") else 1.0)
        if operation in ("divide", "remainder"):
            remaining = 1.0 if operation == "remainder" else 0.0
            is_cheap = isinstance(expr.b, Constant) and int(expr.b.value).bit_count() == 1
            return operands + (3.0 if is_cheap else 2.0 if self.target.has("divide") else _LONG_DIVISION) + remaining
        if operation in ("min", "max"):
            return self.clamped(expr)
        if self.width(dtype) > 1:
            return self.wide(expr)
        if operation in ("add", "sub") and self.is_arm and not self.is_small:
            # One of the operands is multiplied or shifted in the same instruction.
            folded = [c for c in children(expr) if isinstance(c, Binary) and _is_folded(c)]
            if folded:
                return operands
        if operation == "and" and isinstance(expr.a, Binary) and expr.a.operation.startswith("shift"):
            return operands
        return operands + 1.0

    def clamped(self, expr: Binary) -> float:
        """A minimum or maximum; the clamp to int8 is one instruction on Armv7-M."""
        inner = expr.a
        if (
            self.is_arm
            and not self.is_small
            and isinstance(inner, Binary)
            and {expr.operation, inner.operation} == {"min", "max"}
            and isinstance(expr.b, Constant)
            and isinstance(inner.b, Constant)
            and {int(expr.b.value), int(inner.b.value)} == {-128, 127}
        ):
            return self.value(inner.a) + 1.0
        return self.operands(expr) + (3.0 if self.is_arm else 2.5) * self.width(expr.dtype)

    def wide(self, expr: Binary) -> float:
        """Arithmetic of 64 bits in pairs of registers."""
        operation, operands = expr.operation, self.operands(expr)
        if operation == "mul":
            is_long = all(isinstance(c, Constant | Cast) for c in children(expr))
            # The extensions of the operands cost nothing then.
            narrow = sum(self.value(c.a) for c in children(expr) if isinstance(c, Cast))
            product = 2.0 if self.target.has("long_multiply") and not self.is_arm else 1.0
            if not self.target.has("long_multiply"):
                product = 17.0
            return narrow + product if is_long else operands + 3 * product
        if operation.startswith("shift"):
            if isinstance(expr.b, Constant):
                return operands + (1.0 if int(expr.b.value) >= 31 else 3.0)
            return operands + 8.0
        return operands + (2.0 if self.is_arm else 3.0)

    def cast(self, expr: Cast) -> float:
        source, dtype, price = expr.a.dtype, expr.dtype, self.value(expr.a)
        if source.is_float or dtype.is_float:
            return price + (_SOFT_CAST if self.is_soft(DType.F32) else 2.0)
        if isinstance(expr.a, Load | Read) or dtype.bits == source.bits or DType.BOOL in (source, dtype):
            return price
        if dtype.bits < source.bits:
            return price
        return price + 1.0

    def call(self, expr: Call) -> float:
        intrinsic, operands = expr.intrinsic, self.operands(expr)
        if intrinsic.feature and self.target.has(intrinsic.feature):
            return operands + 1.0
        return operands + sum(self.value(d.value) for d in intrinsic.definitions) + self.value(intrinsic.result)


def _depth(body: Body) -> int:
    """How many loops stand in one another."""
    return max((isinstance(s, For | Repeat) + max(map(_depth, bodies(s)), default=0) for s in body), default=0)


def _is_folded(expr: Binary) -> bool:
    return expr.operation == "mul" or (expr.operation.startswith("shift") and isinstance(expr.b, Constant))


def _reads_memory(expr: Expr) -> bool:
    return isinstance(expr, Load | Read) or any(map(_reads_memory, children(expr)))


def estimated_code_bytes(kernel: Kernel, target: Target) -> int:
    """Bytes of a kernel's machine code on a target: each statement once."""
    prices = _Prices(target)
    statements = list(walk(kernel.body))
    once = {id(s): 1.0 for s in statements}
    total = sum(prices.statement(s) + prices.turns(s, once) for s in statements)
    return int(_bytes_each(target) * (_CALL + total))


def _bytes_each(target: Target) -> float:
    """Bytes of an instruction, about: instruction sets that mix 16 and 32 bits differ in how often they need the
    longer.
    """
    if target.triple.startswith(("thumbv6m", "thumbv8m.base")):
        return 2.1
    if target.triple.startswith("thumb"):
        return 3.2
    return 3.3 if "+c" in target.llvm_features else 4.0
