"""Which operators can run row by row together, and what they read and write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from luciole.graph.core import Graph, Operator, RowAccess, Value

#: The rows that an operator reads, by operand.
Accesses = dict[str, RowAccess] | None

#: A tensor that exists as a whole before; a few rows of one of those, copied; rows made inside; a whole tensor made.
Role = Literal["source", "copied", "ring", "result"]


@dataclass(frozen=True)
class Tensor:
    """A tensor of a segment: `fill` is the byte of the rows of padding above and below, if any are read."""

    value: Value
    role: Role
    fill: int | None = None

    @property
    def rows(self) -> int:
        """The height."""
        return self.value.type.shape[1] if self.value.type.rank == 4 else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.value.type.size_bytes // self.rows


@dataclass(frozen=True)
class Read:
    """What a stage reads: an operand by name, the tensor's number, and its rows."""

    operand: str
    tensor: int
    access: RowAccess


@dataclass(frozen=True)
class Stage:
    """An operator that runs on `rows` rows of its result at a time (of its operand, if it adds rows up)."""

    operator: Operator
    reads: tuple[Read, ...]
    result: int
    rows: int
    runs: int


@dataclass(frozen=True)
class Segment:
    """Neighboring operators that run row by row, in order."""

    stages: tuple[Stage, ...]
    tensors: tuple[Tensor, ...]


def describe_segment(
    graph: Graph,
    operators: Sequence[Operator],
    rows: Sequence[int],
    accesses: Mapping[Operator, Accesses] | None = None,
    *,
    pushed: Value | None = None,
) -> Segment | None:
    """The segment of some operators, each run on so many rows at a time (one where that does not divide the result);
    None where they cannot run by rows together. `accesses` are what operators say of their rows, where that is known
    already.

    `pushed` is a model input whose rows come from the caller one after another: of it, too, only a few exist.
    """
    known = accesses if accesses is not None else {op: op.row_accesses() for op in operators}
    return _Describer(graph, operators, known, pushed).segment(rows)


class _Describer:
    def __init__(
        self,
        graph: Graph,
        operators: Sequence[Operator],
        accesses: Mapping[Operator, Accesses],
        pushed: Value | None,
    ) -> None:
        self.graph = graph
        self.accesses = accesses
        self.inside = dict.fromkeys(operators)
        self.pushed = pushed
        self.tensors: list[Tensor] = []
        self.numbers: dict[tuple[Value, bool], int] = {}

    def segment(self, rows: Sequence[int]) -> Segment | None:
        stages: list[Stage] = []
        fills = self._fills()
        if fills is None:
            return None
        for op, count in zip(self.inside, rows, strict=True):
            reads = self._reads(op, fills)
            values = self.graph.results(op)
            if reads is None or len(values) != 1:
                return None
            (value,) = values
            # What nobody reads is made as a whole, too: nothing else would ask for it.
            is_read_inside = bool(value.users) and all(user in self.inside for user in value.users)
            is_result = self.graph.is_output(value) or not is_read_inside
            if is_result and value in fills:
                return None
            number = self._number(value, "result" if is_result else "ring", fills.get(value), is_copy=False)
            height = value.type.shape[1] if not op.adds_rows else self.tensors[reads[0].tensor].rows
            count = count if height % count == 0 else 1
            stages.append(Stage(op, reads, number, count, height // count))
        return Segment(tuple(stages), tuple(self.tensors))

    def _fills(self) -> dict[Value, int] | None:
        """The byte of padding of each value that is read with padding; None where two readers differ."""
        fills: dict[Value, int] = {}
        for op in self.inside:
            accesses = self.accesses[op]
            if accesses is None:
                return None
            for name, value in op.named_operands():
                access = accesses.get(name)
                if (
                    access is not None
                    and access.fill is not None
                    and fills.setdefault(value, access.fill) != access.fill
                ):
                    return None
        return fills

    def _reads(self, op: Operator, fills: dict[Value, int]) -> tuple[Read, ...] | None:
        accesses = self.accesses[op] or {}
        reads = []
        for name, value in op.named_operands():
            if name not in accesses:
                continue
            access = accesses[name]
            if value.producer in self.inside:
                number = self.numbers[value, False]
            elif self._root(value).producer in self.inside or value.is_constant:
                return None
            elif access.fill is not None or value is self.pushed:
                number = self._number(value, "copied", fills.get(value), is_copy=True)
            else:
                number = self._number(value, "source", None, is_copy=False)
            reads.append(Read(name, number, access))
        return tuple(reads)

    def _number(self, value: Value, role: Role, fill: int | None, *, is_copy: bool) -> int:
        if (value, is_copy) not in self.numbers:
            self.numbers[value, is_copy] = len(self.tensors)
            self.tensors.append(Tensor(value, role, fill))
        return self.numbers[value, is_copy]

    def _root(self, value: Value) -> Value:
        """The value whose bytes a view shows."""
        while value.producer is not None and value.producer.is_view:
            value = value.producer.operands[0]
        return value
