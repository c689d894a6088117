"""Recurrent layers over a sequence: loops over its steps, whose state lies in the results.

x is [steps, batch, inputs]. Weights w [gates * units, inputs] are for the inputs, r [gates * units, units] for the
hidden state of the step before, and b [gates * units] is the bias. A layer that runs `reverse` begins at the last step.
`lengths` says how many steps of each sequence count: the rest gives zeros and leaves the state as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from luciole.graph.core import Operator, Value, Views, operator
from luciole.graph.samples import Samples
from luciole.ir.types import Array, DType, Shape, TensorType
from luciole.kernel.builder import LoopBuilder, Register, View
from luciole.kernel.core import Expr
from luciole.ops import common
from luciole.ops.gates import GATES, gate_array, gate_element

#: New states of the inputs of a step, [batch, inputs], and the states before.
StepFunction = Callable[[Array, list[Array]], list[Array]]
#: The element of a vector at an index.
Element = Callable[[Expr], Expr]


@dataclass(frozen=True, eq=False, repr=False)
class Recurrent(Operator):
    """Base of recurrent layers of floats. Results are the last hidden state h, perhaps more state, and with `sequence`
    the hidden state after each step, [steps, batch, units].

    `activations` names functions of `ops.gates`; `numbers` holds alpha and beta of each. What goes into them is clipped
    to -clip..clip, unless that is 0.
    """

    gates: ClassVar[int] = 1
    #: How many activations there are.
    functions: ClassVar[int] = 1
    #: States beside h.
    further_states: ClassVar[int] = 0

    x: Value
    w: Value
    r: Value
    b: Value | None = None
    h: Value | None = None
    lengths: Value | None = None
    activations: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
    clip: float = 0.0
    reverse: bool = False
    sequence: bool = True

    @property
    def units(self) -> int:
        """Elements of the hidden state."""
        return self.r.type.shape[-1]

    @property
    def state_shape(self) -> Shape:
        """[batch, units]"""
        return (self.x.type.shape[1], self.units)

    def infer(self) -> tuple[TensorType, ...]:
        x = self.x.type
        if x.rank != 3 or min(x.shape) < 1:
            raise self.error("x must have three axes: steps, batch, inputs")
        rows = self.gates * self.units
        for name, shape in self.wanted_shapes(rows).items():
            value: Value | None = getattr(self, name)
            if value is None:
                continue
            if value.type.shape != shape:
                raise self.error(f"{name} has shape {list(value.type.shape)}, needs {list(shape)}")
            wanted = DType.I32 if name == "lengths" else DType.F32
            if value.type.dtype is not wanted:
                raise self.error(f"{name} must be {wanted.value}", "unsupported-types")
        if unknown := [name for name in self.activations if name not in GATES]:
            raise self.error(f"activation {unknown[0]!r} is none of {', '.join(GATES)}")
        if len(self.activations) != self.functions or len(self.numbers) not in (0, 2 * self.functions):
            raise self.error(f"there must be {self.functions} activations, and two numbers of each")
        if not (self.clip >= 0 and np.isfinite(self.clip)):
            raise self.error(f"clip is {self.clip}, it must not be negative")
        states = (TensorType(DType.F32, self.state_shape),) * (1 + self.further_states)
        everything = TensorType(DType.F32, (x.shape[0], *self.state_shape))
        return (*states, everything) if self.sequence else states

    def wanted_shapes(self, rows: int) -> dict[str, Shape]:
        """The shapes of operands, by name."""
        _, batch, inputs = self.x.type.shape
        return {
            "x": self.x.type.shape,
            "w": (rows, inputs),
            "r": (rows, self.units),
            "b": (rows,),
            "h": (batch, self.units),
            "lengths": (batch,),
        }

    def macs(self) -> int:
        steps, batch, inputs = self.x.type.shape
        return steps * batch * self.gates * self.units * (inputs + self.units)

    def _numbers(self, index: int) -> tuple[float, float]:
        if self.numbers:
            return self.numbers[2 * index], self.numbers[2 * index + 1]
        gate = GATES[self.activations[index]]
        return gate.alpha, gate.beta

    def activated(self, index: int, x: Expr) -> Expr:
        """The kernel expression of one of the activations."""
        return gate_element(self.activations[index], self._numbers(index), x, self.clip)

    def activated_array(self, index: int, x: Array) -> Array:
        """One of the activations in numpy."""
        return gate_array(self.activations[index], self._numbers(index), x, self.clip)

    def steps_of(self, x: Array) -> Iterator[int]:
        """The steps in the order in which they are computed."""
        steps = range(len(x))
        return iter(reversed(steps) if self.reverse else steps)

    def run(self, x: Array, lengths: Array | None, states: list[Array], step: StepFunction) -> tuple[Array, ...]:
        """All results in numpy; `step` makes new states of an input [batch, inputs] and the states before."""
        everything = np.zeros((len(x), *self.state_shape), np.float32)
        for t in self.steps_of(x):
            new = step(x[t], states)
            counts = np.ones(len(x[t]), np.bool_) if lengths is None else t < lengths
            states = [np.where(counts[:, None], n, old).astype(np.float32) for n, old in zip(new, states, strict=True)]
            everything[t] = np.where(counts[:, None], states[0], np.float32(0))
        return (*states, everything) if self.sequence else tuple(states)

    def state_array(self, given: Array | None) -> Array:
        """A first state: zeros unless given."""
        return np.zeros(self.state_shape, np.float32) if given is None else given

    def state_views(self, v: Views) -> list[View]:
        """The buffers of the states."""
        count = 1 + self.further_states
        return [v.y] if "y" in v else [getattr(v, f"y{index}") for index in range(count)]

    @contextmanager
    def step_loops(self, k: LoopBuilder, v: Views, first: tuple[Value | None, ...]) -> Iterator[tuple[Expr, Register]]:
        """Loops over the batch and the steps that count, with the state set up before and the sequence filled.

        Gives the step and the sequence's number in the batch; `first` are the operands that hold the first states.
        """
        steps, batch, _ = self.x.type.shape
        states = self.state_views(v)
        with k.loop("n", batch) as n:
            for state, value in zip(states, first, strict=True):
                source = None if value is None else getattr(v, "h" if value is self.h else "c")
                with k.loop("i", self.units) as i:
                    state[n, i] = common.float_zero() if source is None else source[n, i]
            with k.loop("s", steps) as s:
                t = k.define("t", (steps - 1) - s if self.reverse else s + 0, DType.INDEX)
                if self.lengths is None:
                    yield t, n
                    self._keep(k, v, t, n, states[0])
                else:
                    with k.if_(t < v.lengths[n].cast(DType.INDEX)):
                        yield t, n
                        self._keep(k, v, t, n, states[0])
                    if self.sequence:
                        with k.else_():
                            self._keep(k, v, t, n, None)

    def _keep(self, k: LoopBuilder, v: Views, t: Expr, n: Expr, state: View | None) -> None:
        """Write a state, or zeros, into the sequence."""
        if self.sequence:
            everything: View = getattr(v, f"y{1 + self.further_states}")
            with k.loop("i", self.units) as i:
                everything[t, n, i] = common.float_zero() if state is None else state[n, i]

    def add_products(
        self, k: LoopBuilder, totals: list[Register], weights: View, rows: list[Expr], count: int, element: Element
    ) -> None:
        """Add to each total the products of a row of weights with the elements of a vector, which is loaded once."""
        with k.loop("p", count) as p:
            value = k.define("value", element(p))
            for total, row in zip(totals, rows, strict=True):
                total += value * weights[row, p]

    def gate_totals(self, k: LoopBuilder, v: Views, rows: list[Expr], t: Expr, n: Expr) -> list[Register]:
        """Registers with bias and products of the inputs, for some rows of the weights."""
        totals = [k.define("total", common.float_zero() if self.b is None else v.b[row]) for row in rows]
        self.add_products(k, totals, v.w, rows, self.x.type.shape[2], lambda p: v.x[t, n, p])
        return totals


class Scratch:
    """Floats of the workspace, by index."""

    def __init__(self, k: LoopBuilder, v: Views, begin: int = 0) -> None:
        self._k, self._workspace, self._begin = k, v.workspace, begin

    def __getitem__(self, index: Expr) -> Expr:
        return self._k.read(self._address(index), 0, DType.F32)

    def __setitem__(self, index: Expr, value: Expr) -> None:
        self._k.write(self._address(index), 0, value, DType.F32)

    def _address(self, index: Expr) -> Expr:
        return self._workspace.address((index + self._begin) * 4)


def copied(k: LoopBuilder, source: Scratch, state: View, n: Expr) -> None:
    """Write a new state over the old one."""
    with k.loop("i", state.shape[1]) as i:
        state[n, i] = source[i]


@operator("rnn")
class Rnn(Recurrent):
    """y0 = h after the last step, y1 = h after each step: h = f(w x[t] + r h + b)."""

    def compute(
        self, x: Array, w: Array, r: Array, b: Array | None, h: Array | None, lengths: Array | None
    ) -> Array | tuple[Array, ...]:
        def step(inputs: Array, states: list[Array]) -> list[Array]:
            return [self.activated_array(0, inputs @ w.T + states[0] @ r.T + (0 if b is None else b))]

        results = self.run(x, lengths, [self.state_array(h)], step)
        return results if self.sequence else results[0]

    def workspace_bytes(self) -> int:
        return 4 * self.units

    def loops(self, k: LoopBuilder, v: Views) -> None:
        (h,), new = self.state_views(v), Scratch(k, v)
        with self.step_loops(k, v, (self.h,)) as (t, n):
            with k.loop("j", self.units) as j:
                (total,) = totals = self.gate_totals(k, v, [j], t, n)
                self.add_products(k, totals, v.r, [j], self.units, lambda p: h[n, p])
                new[j] = self.activated(0, total)
            copied(k, new, h, n)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        w, r, b = s.f32_weights(5, 3), s.f32_weights(5, 5), s.f32_weights(5)
        yield cls(s.f32(4, 2, 3), w, r, b, s.f32(2, 5), activations=("tanh",))
        yield cls(s.f32(4, 1, 3), w, r, activations=("relu",), reverse=True, sequence=False)
        lengths = s.constant(np.array([2, 0, 3], np.int32))
        yield cls(s.f32(3, 3, 3), w, r, b, None, lengths, ("affine",), (0.5, 0.1), 0.75, reverse=True)


@operator("gru")
class Gru(Recurrent):
    """y0 = h after the last step, y1 = h after each step: h = (1 - z) * g + z * h, gates z and s (reset) as below.

    z = f(wz x[t] + rz h + bz), s = f(ws x[t] + rs h + bs), and g = f'(wg x[t] + rg (s * h) + bg) or, with
    `reset_after`, g = f'(wg x[t] + s * (rg h + b2) + bg). Rows of the weights are in the order z, s, g.
    """

    gates: ClassVar[int] = 3
    functions: ClassVar[int] = 2

    b2: Value | None = None
    reset_after: bool = False

    def infer(self) -> tuple[TensorType, ...]:
        if self.b2 is not None and not self.reset_after:
            raise self.error("b2 is of gates that are reset after the product")
        return super().infer()

    def wanted_shapes(self, rows: int) -> dict[str, Shape]:
        return {**super().wanted_shapes(rows), "b2": (self.units,)}

    def compute(
        self,
        x: Array,
        w: Array,
        r: Array,
        b: Array | None,
        h: Array | None,
        lengths: Array | None,
        b2: Array | None,
    ) -> Array | tuple[Array, ...]:
        units = self.units
        rg = r[2 * units :]

        def step(inputs: Array, states: list[Array]) -> list[Array]:
            (old,) = states
            total = inputs @ w.T + (np.float32(0) if b is None else b)
            both = self.activated_array(0, total[:, : 2 * units] + old @ r[: 2 * units].T)
            z, reset = both[:, :units], both[:, units:]
            if self.reset_after:
                inner = reset * (old @ rg.T + (np.float32(0) if b2 is None else b2))
            else:
                inner = (reset * old) @ rg.T
            g = self.activated_array(1, total[:, 2 * units :] + inner)
            return [(np.float32(1) - z) * g + z * old]

        results = self.run(x, lengths, [self.state_array(h)], step)
        return results if self.sequence else results[0]

    def workspace_bytes(self) -> int:
        """The new state or, where the reset comes before the product, the gate z and the reset state."""
        return 4 * self.units * (1 if self.reset_after else 2)

    def loops(self, k: LoopBuilder, v: Views) -> None:
        (h,), first = self.state_views(v), Scratch(k, v)
        with self.step_loops(k, v, (self.h,)) as (t, n):
            if self.reset_after:
                self._reset_after(k, v, t, n, h, first)
                copied(k, first, h, n)
            else:
                self._reset_before(k, v, t, n, h, first)

    def _reset_after(self, k: LoopBuilder, v: Views, t: Expr, n: Expr, h: View, new: Scratch) -> None:
        units = self.units
        with k.loop("j", units) as j:
            rows: list[Expr] = [j + 0, j + units, j + 2 * units]
            z, reset, g = self.gate_totals(k, v, rows, t, n)
            inner = k.define("inner", common.float_zero() if self.b2 is None else v.b2[j])
            self.add_products(k, [z, reset, inner], v.r, rows, units, lambda p: h[n, p])
            gate = k.define("gate", self.activated(0, z))
            g += self.activated(0, reset) * inner
            new[j] = (1.0 - gate) * self.activated(1, g) + gate * h[n, j]

    def _reset_before(self, k: LoopBuilder, v: Views, t: Expr, n: Expr, h: View, gate: Scratch) -> None:
        """All gates first, because the product needs the whole reset state; then each element of h may change."""
        units, state = self.units, Scratch(k, v, self.units)
        with k.loop("j", units) as j:
            rows: list[Expr] = [j + 0, j + units]
            z, reset = totals = self.gate_totals(k, v, rows, t, n)
            self.add_products(k, totals, v.r, rows, units, lambda p: h[n, p])
            gate[j] = self.activated(0, z)
            state[j] = self.activated(0, reset) * h[n, j]
        with k.loop("j", units) as j:
            row: list[Expr] = [j + 2 * units]
            (g,) = total = self.gate_totals(k, v, row, t, n)
            self.add_products(k, total, v.r, row, units, lambda p: state[p])
            z_now = k.define("gate", gate[j])
            h[n, j] = (1.0 - z_now) * self.activated(1, g) + z_now * h[n, j]

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        w, r, b = s.f32_weights(12, 3), s.f32_weights(12, 4), s.f32_weights(12)
        functions = ("sigmoid", "tanh")
        yield cls(s.f32(4, 2, 3), w, r, b, s.f32(2, 4), activations=functions)
        yield cls(s.f32(3, 1, 3), w, r, b, activations=functions, b2=s.f32_weights(4), reset_after=True, sequence=False)
        lengths = s.constant(np.array([2, 3], np.int32))
        yield cls(s.f32(3, 2, 3), w, r, None, None, lengths, ("hard_sigmoid", "softsign"), (), 0.5, True)


@operator("lstm")
class Lstm(Recurrent):
    """y0, y1 = h, c after the last step, y2 = h after each step: c = f * c + i * g and h = o * t(c), gates as below.

    i = s(wi x[t] + ri h + pi * c + bi), f = s(wf x[t] + rf h + pf * c + bf), g = t'(wg x[t] + rg h + bg), and with the
    new c, o = s(wo x[t] + ro h + po * c + bo). Rows of the weights are in the order i, o, f, g, those of the peephole
    p [3 * units] in the order i, o, f; activations are s, t', t. What goes into t is not clipped, as in onnxruntime.
    """

    gates: ClassVar[int] = 4
    functions: ClassVar[int] = 3
    further_states: ClassVar[int] = 1

    c: Value | None = None
    p: Value | None = None

    def wanted_shapes(self, rows: int) -> dict[str, Shape]:
        return {**super().wanted_shapes(rows), "c": self.state_shape, "p": (3 * self.units,)}

    def compute(
        self,
        x: Array,
        w: Array,
        r: Array,
        b: Array | None,
        h: Array | None,
        lengths: Array | None,
        c: Array | None,
        p: Array | None,
    ) -> tuple[Array, ...]:
        units = self.units
        pi, po, pf = np.zeros((3, units), np.float32) if p is None else p.reshape(3, units)

        def step(inputs: Array, states: list[Array]) -> list[Array]:
            old, cell = states
            total = inputs @ w.T + old @ r.T + (np.float32(0) if b is None else b)
            i, o, f, g = (total[:, gate * units : (gate + 1) * units] for gate in range(4))
            inner = self.activated_array(0, i + pi * cell) * self.activated_array(1, g)
            cell = self.activated_array(0, f + pf * cell) * cell + inner
            return [
                self.activated_array(0, o + po * cell) * gate_array(self.activations[2], self._numbers(2), cell, 0.0),
                cell,
            ]

        return self.run(x, lengths, [self.state_array(h), self.state_array(c)], step)

    def workspace_bytes(self) -> int:
        return 4 * self.units

    def loops(self, k: LoopBuilder, v: Views) -> None:
        (h, c), new, units = self.state_views(v), Scratch(k, v), self.units
        with self.step_loops(k, v, (self.h, self.c)) as (t, n):
            with k.loop("j", units) as j:
                rows: list[Expr] = [j + gate * units for gate in range(4)]
                i, o, f, g = totals = self.gate_totals(k, v, rows, t, n)
                self.add_products(k, totals, v.r, rows, units, lambda p: h[n, p])
                old = k.define("old", c[n, j])
                if self.p is not None:
                    i += v.p[j] * old
                    f += v.p[j + 2 * units] * old
                inner = k.define("inner", self.activated(0, i) * self.activated(1, g))
                cell = k.define("cell", self.activated(0, f) * old + inner)
                if self.p is not None:
                    o += v.p[j + units] * cell
                c[n, j] = cell
                new[j] = self.activated(0, o) * gate_element(self.activations[2], self._numbers(2), cell, 0.0)
            copied(k, new, h, n)

    @classmethod
    def samples(cls, s: Samples) -> Iterator[Operator]:
        w, r, b = s.f32_weights(12, 4), s.f32_weights(12, 3), s.f32_weights(12)
        functions = ("sigmoid", "tanh", "tanh")
        yield cls(s.f32(4, 2, 4), w, r, b, s.f32(2, 3), activations=functions, c=s.f32(2, 3), p=s.f32_weights(9))
        yield cls(s.f32(3, 1, 4), w, r, activations=functions, reverse=True, sequence=False)
        lengths = s.constant(np.array([2, 3], np.int32))
        yield cls(s.f32(3, 2, 4), w, r, b, None, lengths, ("sigmoid", "elu", "leaky_relu"), (), 0.25)
