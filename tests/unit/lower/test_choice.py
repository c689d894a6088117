"""The curve of time against flash: nothing beats it, and each purpose takes its point."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from luciole.compilation import Compilation
from luciole.driver import build_bundle, build_program, compile_model
from luciole.errors import CompileError
from luciole.graph.core import Operator
from luciole.graph.samples import Samples
from luciole.graph.text import save_graph
from luciole.kernel.core import Kernel
from luciole.lower.choice import BALANCED_SLOWDOWN, SHARED_SLOWDOWN, SIZE_SLOWDOWN, Point, frontier, pick
from luciole.ops.activation import Relu
from luciole.options import Options
from luciole.targets.base import Alternative, BoundKernel, Cost, KernelRecipe
from support.small_models import small_int8


def alternative(kernel: str, cycles: int, code: int, constants: int) -> Alternative:
    """A way to compute something that costs this."""
    bound = BoundKernel(Kernel(kernel, (), ()), kernel, (), (("w", np.zeros(constants, np.int8)),), (), 0)
    return Alternative(KernelRecipe(), bound, Cost(cycles, cycles), code)


def random_layers(seed: int) -> dict[Operator, list[Alternative]]:
    """Two pairs of layers, each pair with kernels in common, and a layer of its own."""
    random, s = np.random.default_rng(seed), Samples(0)
    layers: dict[Operator, list[Alternative]] = {}
    for pair in range(3):
        code = {f"k{pair}.{i}": int(random.integers(10, 100)) for i in range(3)}
        for _ in range(2 if pair < 2 else 1):
            layers[Relu(s.i8(1, 4))] = [
                alternative(name, int(random.integers(100, 1000)), size, int(random.integers(10, 100)))
                for name, size in code.items()
            ]
    return layers


def all_points(layers: dict[Operator, list[Alternative]]) -> list[tuple[int, int]]:
    """Cycles and bytes of every choice there is."""
    found = []
    for chosen in product(*layers.values()):
        code = {a.bound.kernel.name: a.code_bytes for a in chosen}
        constants = sum(a.bound.constant_bytes for a in chosen)
        found.append((sum(a.cost.cycles for a in chosen), sum(code.values()) + constants))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_nothing_beats_the_curve(seed: int) -> None:
    layers = random_layers(seed)
    points, everything = frontier(layers), all_points(layers)
    assert points == sorted(points, key=lambda p: p.cycles)
    for point in points:
        assert (point.cycles, point.flash_bytes) in everything
        assert not [c for c in everything if c[0] <= point.cycles and c[1] < point.flash_bytes]
    best = {c for c in everything if not any(o[0] <= c[0] and o[1] <= c[1] and o != c for o in everything)}
    assert {(p.cycles, p.flash_bytes) for p in points} == best


def test_each_purpose_takes_its_point() -> None:
    points = [
        Point(100, 100, 1000),
        Point(105, 105, 900),
        Point(109, 109, 890),
        Point(130, 130, 600),
        Point(300, 300, 100),
    ]
    assert pick(points, "speed") is points[0]
    assert pick(points, "balanced") is points[1]
    assert pick(points, "size").flash_bytes == 600
    # Sharing kernels may add instructions, up to the least times 1.42.
    assert pick(points, "size").spare_instructions == 12
    assert BALANCED_SLOWDOWN < SIZE_SLOWDOWN < SHARED_SLOWDOWN < 1.5


def test_purposes_are_ordered_in_time_and_flash(tmp_path: Path) -> None:
    path = tmp_path / "small.graph"
    save_graph(small_int8(), path)

    def flash(**options: object) -> int:
        return compile_model(path, Options("cortex-m4", **options)).report.flash.total_bytes  # type: ignore[arg-type]  # any options

    sizes = {purpose: flash(optimize=purpose) for purpose in ("speed", "balanced", "size")}
    assert sizes["size"] < sizes["balanced"] < sizes["speed"]
    # A budget is met, and used: more bytes never make it slower.
    for limit in (sizes["balanced"], sizes["speed"] - 1):
        assert sizes["size"] - 200 < flash(max_flash=limit) <= limit
    assert flash(max_flash=10 * sizes["speed"]) >= sizes["speed"]
    with Compilation(path, Options("cortex-m4", max_flash=900)) as run:
        program = build_program(run)
        with pytest.raises(CompileError, match='"scores" 780 B') as caught:
            build_bundle(run, program)
    assert "fewer channels in the largest layers" in str(caught.value)
