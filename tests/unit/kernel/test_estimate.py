"""What is said of a kernel without running it: how often its statements run."""

from __future__ import annotations

from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Kernel, maximum, minimum
from luciole.kernel.executions import executions
from luciole.kernel.walk import walk


def counted(kernel: Kernel, scalars: dict[str, int] | None = None) -> list[float]:
    """The executions of each statement of a kernel, outer before inner."""
    counts = executions(kernel, scalars)
    return [counts.get(id(stmt), 0.0) for stmt in walk(kernel.body)]


def test_loops_are_counted() -> None:
    k = LoopBuilder("f")
    y = k.buffer("out", "y", DType.I32, (6, 5))
    with k.loop("i", 6) as i, k.loop("j", 1, 5, 2) as j:
        y[i, j] = 1
    assert counted(k.build()) == [1, 6, 12]


def test_pointers_that_advance_are_followed() -> None:
    k = LoopBuilder("f")
    x, y = k.buffer("in", "x", DType.I8, (64,)), k.buffer("out", "y", DType.I8, (64,))
    source, out = k.define("source", x.address()), k.define("out", y.address())
    end = k.define("end", source + 64)
    with k.repeat_while(lambda: source.ne(end)):
        stop = k.define("stop", source + 16)
        with k.repeat_while(lambda: source < stop):
            k.write(out, 0, k.read(source, 0, DType.I8), DType.I8)
            source += 2
            out += 2
    # Three definitions; 4 turns of a definition and a loop of 8 turns of three statements.
    assert counted(k.build()) == [1, 1, 1, 1, 4, 4, 32, 32, 32]


def test_windows_cut_at_edges_are_counted() -> None:
    k = LoopBuilder("f")
    x, y = k.buffer("in", "x", DType.I8, (20,)), k.buffer("out", "y", DType.I8, (20,))
    with k.loop("i", 20) as i, k.loop("t", maximum(i - 1, 0), minimum(i + 2, 20)) as t:
        y[i] = x[t]
    assert counted(k.build()) == [1, 20, 58]


def test_branches_and_scalars() -> None:
    k = LoopBuilder("f")
    n = k.scalar("n")
    x, y = k.buffer("in", "x", DType.I8, (20,)), k.buffer("out", "y", DType.I8, (20,))
    with k.loop("i", n.cast(DType.INDEX)) as i:
        with k.if_(x[i] > 0):
            y[i] = 1
        with k.else_():
            y[i] = 2
        with k.if_(n > 3):
            y[i] = 3
    # What depends on data is taken half of the time.
    assert counted(k.build(), {"n": 6}) == [1, 6, 3, 3, 6, 6]
    assert counted(k.build(), {"n": 2}) == [1, 2, 1, 1, 2, 0]
