"""Values, operators and graphs.

An operator is an immutable record: operand values, attributes, and where in the user's model it came from. A graph
holds operators in an order in which every value is made before it is used, and it owns the values that operators make.
To change an operator, replace it:

    graph.replace(conv, dataclasses.replace(conv, activation="relu"))
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

from luciole.errors import CompileError, InternalError, Location
from luciole.graph.facts import found_once
from luciole.ir.quant import Quant
from luciole.ir.types import Array, DType, Shape, TensorType, merged_axes

if TYPE_CHECKING:
    from luciole.graph.samples import Samples
    from luciole.kernel.builder import LoopBuilder, View
    from luciole.kernel.core import Expr


class Value:
    """A tensor in a graph: an input, a constant (then it has `data`), or a result of its `producer`."""

    __slots__ = ("data", "index", "name", "producer", "type", "users")

    def __init__(self, name: str, type: TensorType, data: Array | None = None) -> None:
        self.name = name
        self.type = type
        self.data = data
        self.producer: Operator | None = None
        self.index = 0
        #: Operators that read this value, each once, in the order they began to.
        self.users: dict[Operator, None] = {}

    @property
    def is_constant(self) -> bool:
        """Whether the value is known at compile time."""
        return self.data is not None

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(frozen=True)
class RowAccess:
    """Which rows of an operand (its axis 1, the height of NHWC) an operator reads: for row r of its result those from
    `r * stride - before` on, `extent` of them.

    Rows outside the operand read as bytes of `fill`; None where the operator reads none. A stride of 0 is an operand of
    one row that every row of the result reads.
    """

    stride: int = 1
    extent: int = 1
    before: int = 0
    fill: int | None = None

    def window_rows(self, rows: int) -> int:
        """How many rows of the operand so many neighboring rows of the result read."""
        return (rows - 1) * self.stride + self.extent


@dataclass(frozen=True, eq=False)
class Operator:
    """Base of all operators. Everything that the compiler knows about an operator stands in its class.

    Fields annotated `Value`, `Value | None` or `tuple[Value, ...]` are operands; all others are attributes and print as
    text. `quant` is the quantization of the (first) result, for operators that scale their result; it prints with the
    result's type.
    """

    kind: ClassVar[str] = ""
    operand_fields: ClassVar[tuple[str, ...]] = ()
    #: The meaning in numpy: takes the operands' arrays in order (None for an absent one), gives the result's (or a
    #: tuple).
    compute: ClassVar[Callable[..., Any]]

    #: Whether it moves or converts numbers only, so that it may take f16.
    takes_halves: ClassVar[bool] = False

    quant: Quant | None = field(default=None, kw_only=True)
    location: Location = field(default=Location(), kw_only=True)

    # Operands and attributes

    @property
    def operands(self) -> tuple[Value, ...]:
        """All operand values in order, absent ones left out."""
        return tuple(value for _, value in self.named_operands())

    def named_operands(self) -> Iterator[tuple[str, Value]]:
        """Operands with the name a kernel's view has: the field's, with a number for those of a tuple field."""
        for name in self.operand_fields:
            value = getattr(self, name)
            if isinstance(value, tuple):
                yield from ((f"{name}{i}", v) for i, v in enumerate(value))
            elif value is not None:
                yield name, value

    def attributes(self) -> dict[str, Any]:
        """Attributes that differ from their default, by name; without `quant` and `location`."""
        given = {}
        for f in dataclasses.fields(self):
            if f.name in self.operand_fields or f.name in ("quant", "location"):
                continue
            value = getattr(self, f.name)
            if f.default is dataclasses.MISSING or value != f.default:
                given[f.name] = value
        return given

    def with_operands(self, change: Callable[[Value], Value]) -> Operator:
        """The same operator over other operands."""
        new: dict[str, Value | tuple[Value, ...]] = {}
        for name in self.operand_fields:
            value = getattr(self, name)
            if isinstance(value, tuple):
                new[name] = tuple(change(v) for v in value)
            elif value is not None:
                new[name] = change(value)
        return dataclasses.replace(self, **new)  # type: ignore[arg-type]  # names of operand fields

    # What a class says about itself

    def infer(self) -> TensorType | tuple[TensorType, ...]:
        """The result's type (or types). Raises `CompileError`, made by `self.error`, when operands or attributes do not
        fit.
        """
        raise NotImplementedError

    def result_types(self) -> tuple[TensorType, ...]:
        """The types of all results. Raises `CompileError` when operands or attributes do not fit."""
        if not self.takes_halves and any(value.type.dtype is DType.F16 for value in self.operands):
            raise self.error("f16 is only moved and cast; cast it to f32 to compute", "unsupported-types")
        types = self.infer()
        return types if isinstance(types, tuple) else (types,)

    def macs(self) -> int:
        """Multiplications that are accumulated, for reports."""
        return 0

    # What the generic kernel of an operator is made from

    def kernel_operands(self) -> tuple[str, ...]:
        """Names (as in `named_operands`) of the operands that `loops` reads; by default all."""
        return tuple(name for name, _ in self.named_operands())

    def kernel_shapes(self) -> dict[str, Shape]:
        """Buffers that `loops` wants to see under another shape of the same size: operands, parameters, or the result
        `y`.
        """
        return {}

    def parameters(self) -> dict[str, Array]:
        """Further constants that `loops` reads, derived from operands and attributes: tables, multipliers, folded
        biases.
        """
        return {}

    def workspace_bytes(self) -> int:
        """Bytes of temporary memory that `loops` uses through `v.workspace`."""
        return 0

    def loops(self, k: LoopBuilder, v: Views) -> None:
        """The generic kernel: `v.x[...]` reads operand or parameter `x`, `v.y[...] = e` writes the result (`y0`,
        `y1`... if several).
        """
        raise NotImplementedError

    def in_place_operands(self) -> tuple[str, ...]:
        """Operands whose buffer the result may take over, when nobody else needs it: element i is read before element i
        is written.
        """
        return ()

    def overlap_bytes(self) -> dict[str, int]:
        """Operands over which the generic kernel may write its one result, and how many bytes the result must begin
        below each, at least: then nothing is overwritten before its last read. None that are not named.
        """
        return {}

    # Running by rows

    #: Whether a run by rows adds to one row of the result, which the whole of the operand makes complete.
    adds_rows: ClassVar[bool] = False

    def row_accesses(self) -> dict[str, RowAccess] | None:
        """Which rows each operand that is not constant is read in, by name; None for an operator that cannot run on a
        few rows of NHWC operands.
        """
        return None

    def restricted_to_rows(self, rows: int) -> Operator:
        """The operator that computes so many rows of the result from the rows of the operands under them, which are
        operands of their own: rows outside an operand are among them, so that nothing is padded above or below.
        """
        return found_once(self, ("rows", rows), lambda: self._restricted_to_rows(rows))

    def _restricted_to_rows(self, rows: int) -> Operator:
        accesses = self.row_accesses()
        assert accesses is not None, f"{self} has no rows"
        operands: dict[str, Value] = {}
        for name, value in self.named_operands():
            if name in accesses:
                batch, _, *rest = value.type.shape
                shape = (batch, accesses[name].window_rows(rows), *rest)
                operands[name] = Value(value.name, value.type.with_shape(shape))
            else:
                operands[name] = value
        changed: dict[str, Any] = {}
        for name in self.operand_fields:
            own = getattr(self, name)
            if isinstance(own, tuple):
                changed[name] = tuple(operands[f"{name}{i}"] for i in range(len(own)))
            elif own is not None:
                changed[name] = operands[name]
        return dataclasses.replace(self, **(changed | self.row_attributes()))

    def row_attributes(self) -> dict[str, Any]:
        """The attributes that an operator restricted to rows has otherwise, such as padding above and below."""
        return {}

    @property
    def is_view(self) -> bool:
        """Whether the result is the operand's bytes under another shape, so that no code is needed."""
        return False

    def parts(self) -> tuple[Part, ...]:
        """Which bytes of one tensor another is, if the operator only puts one into the other; the result is `y`."""
        return ()

    def gradient(self, g: Any, *results: Value) -> tuple[Value | None, ...]:
        """The place for gradients: one value an operand, from those of the results; no operator has one yet."""
        raise CompileError.of("no-gradient", f"{self.kind} has no gradient", self.location)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        """Small instances for every generic test: types, text, interpreter, C and LLVM against `compute`."""
        return iter(())

    def error(self, message: str, code: str = "operator-types", help: str = "") -> CompileError:
        """An error at this operator."""
        operands = ", ".join(f"{name}: {value.type}" for name, value in self.named_operands())
        return CompileError.of(
            code, f"{self.kind}: {message}", self.location, notes=(f"operands are {operands}",), help=help
        )

    def __repr__(self) -> str:
        attributes = "".join(f", {k}={v!r}" for k, v in self.attributes().items())
        return f"{self.kind}({', '.join('%' + v.name for v in self.operands)}{attributes})"


@dataclass(frozen=True)
class Part:
    """Tensor `part` is the bytes of tensor `whole` from `offset_bytes`; names as in `named_operands`, or `y`."""

    whole: str
    part: str
    offset_bytes: int


class Views:
    """The buffers of a kernel by name, as attributes."""

    def __init__(self, views: dict[str, View]) -> None:
        self._views = views

    def __getattr__(self, name: str) -> View:
        try:
            return self._views[name]
        except KeyError:
            raise AttributeError(f"the kernel has no buffer {name}; it has {', '.join(self._views)}") from None

    def __contains__(self, name: str) -> bool:
        return name in self._views


class Elementwise(Operator):
    """Base of operators that work element by element, with numpy's broadcasting of the operands."""

    def kernel_shapes(self) -> dict[str, Shape]:
        """Neighbouring axes merged, so that the loops are few and long."""
        named = [(n, v.type.shape) for n, v in self.named_operands() if n in self.kernel_operands()]
        result, operands = merged_axes(self.result_types()[0].shape, tuple(shape for _, shape in named))
        return {"y": result} | {name: shape for (name, _), shape in zip(named, operands, strict=True)}

    def element(self, v: Views, *operands: Expr) -> Expr:
        """The result's element from the operands' elements; `v` holds the parameters (tables)."""
        raise NotImplementedError

    def row_accesses(self) -> dict[str, RowAccess] | None:
        return elementwise_rows(self)


def elementwise_rows(op: Operator) -> dict[str, RowAccess] | None:
    """The rows of an operator whose elements read the operands' elements at the same place, with broadcasting."""
    shape = op.result_types()[0].shape
    if len(shape) != 4 or shape[0] != 1:
        return None
    found: dict[str, RowAccess] = {}
    for name, value in op.named_operands():
        own = value.type.shape
        if value.is_constant and (len(own) < 3 or own[-3] == 1):
            continue
        if value.is_constant or len(own) != 4 or own[1] not in (1, shape[1]):
            return None
        found[name] = RowAccess() if own[1] == shape[1] else RowAccess(stride=0)
    return found or None


#: Every operator class by its kind.
OPERATORS: dict[str, type[Operator]] = {}

AnyOperator = TypeVar("AnyOperator", bound=Operator)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
def operator(kind: str) -> Callable[[type[AnyOperator]], type[AnyOperator]]:
    """Decorate an operator class: makes it a frozen dataclass and registers it under `kind`."""

    def decorate(cls: type[AnyOperator]) -> type[AnyOperator]:
        made = dataclass(frozen=True, eq=False, repr=False)(cls)
        made.kind = kind
        made.operand_fields = tuple(f.name for f in dataclasses.fields(made) if _is_operand(f.type))
        if kind in OPERATORS:
            raise ValueError(f"two operators are called {kind}")
        OPERATORS[kind] = made
        return made

    return decorate


def _is_operand(annotation: object) -> bool:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return text in ("Value", "Value | None", "tuple[Value, ...]")


class Graph:
    """Operators in order, with inputs, constants and named outputs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.outputs: list[tuple[str, Value]] = []
        #: What passes want reports to say, a line each.
        self.remarks: list[str] = []
        self._operators: dict[Operator, tuple[Value, ...]] = {}
        self._constants: dict[Value, None] = {}
        self._names: dict[str, int] = {}

    # Reading

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The operators in order."""
        return tuple(self._operators)

    @property
    def constants(self) -> tuple[Value, ...]:
        """The constants in the order they were added."""
        return tuple(self._constants)

    def __contains__(self, op: Operator) -> bool:
        """Whether an operator stands in this graph (after `replace` and `erase` the old one does not)."""
        return op in self._operators

    def results(self, op: Operator) -> tuple[Value, ...]:
        """The values that an operator of this graph makes."""
        return self._operators[op]

    def result(self, op: Operator) -> Value:
        """The only value that an operator makes."""
        (value,) = self._operators[op]
        return value

    def values(self) -> Iterator[Value]:
        """Inputs, constants and results, in order."""
        yield from self.inputs
        yield from self._constants
        for results in self._operators.values():
            yield from results

    def is_output(self, value: Value) -> bool:
        """Whether a value is one of the outputs."""
        return any(v is value for _, v in self.outputs)

    def use_count(self, value: Value) -> int:
        """How many operators and outputs read a value."""
        return len(value.users) + sum(v is value for _, v in self.outputs)

    # Building

    def add_input(self, name: str, type: TensorType) -> Value:
        """A new input."""
        value = Value(self._unique(name), type)
        self.inputs.append(value)
        return value

    def add_constant(self, data: Array, quant: Quant | None = None, name: str = "c") -> Value:
        """A new constant."""
        from luciole.ir.types import DType

        data = data.view()
        data.flags.writeable = False
        value = Value(self._unique(name), TensorType(DType.of(data), tuple(data.shape), quant), data)
        self._constants[value] = None
        return value

    def add_output(self, name: str, value: Value) -> None:
        """A new output under a name of its own."""
        self.outputs.append((name, value))

    def add(self, op: Operator, names: Iterable[str] = (), before: Operator | None = None) -> tuple[Value, ...]:
        """Append an operator, or insert it before another; its results are new values. Raises `CompileError` from
        `infer`.
        """
        types = op.result_types()
        given = [*names]
        given += [""] * (len(types) - len(given))
        results = tuple(Value(self._unique(n or str(len(self._names))), t) for n, t in zip(given, types, strict=True))
        self._attach(op, results, before)
        return results

    # Changing

    def replace(self, old: Operator, new: Operator) -> None:
        """Put `new` in the place of `old`; the values keep their identity. Raises `InternalError` when a result's type
        changes.
        """
        results = self._operators[old]
        if new.result_types() != tuple(v.type for v in results):
            raise InternalError(f"{old} of {results} replaced by {new} of {new.result_types()}")
        self._detach(old)
        items = list(self._operators.items())
        self._operators = {(new if op is old else op): values for op, values in items}
        self._bind(new, results)

    def redirect(self, old: Value, new: Value) -> None:
        """Let every user and output of `old` read `new` instead. Raises `InternalError` when element type or shape
        differ.
        """
        if (old.type.dtype, old.type.shape) != (new.type.dtype, new.type.shape):
            raise InternalError(f"{old!r} redirected to {new!r}")
        for user in tuple(old.users):
            self.replace(user, user.with_operands(lambda v: new if v is old else v))
        self.outputs = [(name, new if v is old else v) for name, v in self.outputs]

    def erase(self, op: Operator) -> None:
        """Remove an operator whose results nobody reads."""
        for value in self._operators[op]:
            if self.use_count(value):
                raise InternalError(f"{op} is erased but {value!r} is read by {list(value.users)}")
        self._detach(op)
        del self._operators[op]

    def erase_constant(self, value: Value) -> None:
        """Remove a constant that nobody reads."""
        if self.use_count(value):
            raise InternalError(f"constant {value!r} is erased but read")
        del self._constants[value]

    def reorder(self, order: Iterable[Operator]) -> None:
        """Put the operators in another order, a permutation in which values are made before they are used."""
        ordered = {op: self._operators[op] for op in order}
        if len(ordered) != len(self._operators):
            raise InternalError("the new order is not a permutation of the operators")
        self._operators = ordered

    # Internal

    def _unique(self, name: str) -> str:
        count = self._names.get(name)
        if count is None:
            self._names[name] = 1
            return name
        self._names[name] = count + 1
        return self._unique(f"{name}.{count}")

    def _attach(self, op: Operator, results: tuple[Value, ...], before: Operator | None) -> None:
        if before is None:
            self._operators[op] = results
        else:
            items: dict[Operator, tuple[Value, ...]] = {}
            for other, values in self._operators.items():
                if other is before:
                    items[op] = results
                items[other] = values
            self._operators = items
        self._bind(op, results)

    def _bind(self, op: Operator, results: tuple[Value, ...]) -> None:
        for index, value in enumerate(results):
            value.producer, value.index = op, index
        for operand in op.operands:
            operand.users[op] = None

    def _detach(self, op: Operator) -> None:
        for operand in op.operands:
            operand.users.pop(op, None)


def content_hash(data: Array) -> str:
    """Eight hexadecimal digits of the SHA-256 of an array's type, shape and bytes; names constants in text forms."""
    digest = hashlib.sha256(f"{data.dtype.str}{data.shape}".encode())
    digest.update(data.tobytes())
    return digest.hexdigest()[:8]
