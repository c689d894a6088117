"""Depthwise convolution with two products an instruction: equal bits on every path, honest costs, stated refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luciole.graph.samples import Samples
from luciole.ir.target import find_target
from luciole.ops.depthwise import DepthwiseConv2d
from luciole.targets.armv7em.depthwise import DepthwisePairedPlanes, DepthwisePlanes
from luciole.targets.armv7em.depthwise_plan import WORKSPACE_LIMIT
from luciole.targets.base import candidate_recipes
from support.recipe_cases import RecipeCase, check_as_c, check_interpreted, measure_emulated

RECIPE, PAIRED = DepthwisePlanes(), DepthwisePairedPlanes()


def case(
    seed: int,
    size: tuple[int, int],
    channels: int,
    kernel: tuple[int, int],
    zero: int = -128,
    result: tuple[float, int] = (0.3, -128),
    batch: int = 1,
    multiplier: int = 1,
    **options: Any,
) -> RecipeCase:
    """A depthwise convolution of random data."""
    s, results = Samples(seed), channels * multiplier
    weights = s.i8_weights(1, *kernel, results, axis=3, scale=0.02)
    x = s.i8(batch, *size, channels, zero=zero)
    return RecipeCase(DepthwiseConv2d(x, weights, s.i32_bias(results), quant=s.quant(*result), **options), s, RECIPE)


def random_cases(seed: int, count: int, largest: int) -> list[RecipeCase]:
    """Windows of 1..7, strides and dilations of 1..3, any padding, images down to one pixel, any number of channels,
    each with one to three results, extreme zero points, clamps.
    """
    random, cases = np.random.default_rng(seed), []
    while len(cases) < count:
        kernel = (int(random.integers(1, 8)), int(random.integers(1, 8)))
        strides = (int(random.integers(1, 4)), int(random.integers(1, 4)))
        dilations = tuple(int(random.integers(1, 4)) if stride == 1 and random.integers(2) else 1 for stride in strides)
        extents = tuple((taps - 1) * dilation + 1 for taps, dilation in zip(kernel, dilations, strict=True))
        pads = tuple(int(random.integers(0, extent)) for extent in extents * 2)
        size = (int(random.integers(1, largest)), int(random.integers(1, largest)))
        if size[0] + pads[0] + pads[2] < extents[0] or size[1] + pads[1] + pads[3] < extents[1]:
            continue
        cases.append(
            case(
                int(random.integers(1 << 30)),
                size,
                4 * int(random.integers(1, 4)) if random.integers(2) else int(random.integers(1, 12)),
                kernel,
                multiplier=int(random.choice([1, 1, 2, 3])),
                zero=int(random.choice([-128, 127, 0, int(random.integers(-128, 128))])),
                result=(float(random.choice([0.05, 0.3, 2.0])), int(random.choice([-128, 127, 3]))),
                batch=int(random.integers(1, 3)),
                pads=pads,
                strides=strides,
                dilations=dilations,
                activation=str(random.choice(["none", "relu", "relu6"])),
            )
        )
    return cases


def test_random_windows_in_the_interpreter() -> None:
    check_interpreted(random_cases(1, 12, 7))


def test_random_windows_on_an_emulated_core() -> None:
    measure_emulated(random_cases(2, 60, 16))


def test_random_windows_as_c(tmp_path: Path) -> None:
    check_as_c(random_cases(3, 40, 14), tmp_path)


def paired(cases: list[RecipeCase]) -> list[RecipeCase]:
    """The same with weights that are paired in flash."""
    return [replace(case, recipe=PAIRED) for case in cases]


def test_weights_paired_in_flash(tmp_path: Path) -> None:
    check_interpreted(paired(random_cases(4, 6, 7)))
    check_as_c(paired(random_cases(5, 15, 12)), tmp_path)
    cases = random_cases(6, 30, 14)
    at_run_time, in_flash = measure_emulated(cases), measure_emulated(paired(cases))
    # Windows of two taps have a single word for each channel: there is next to nothing to save.
    assert all(fast < 1.1 * slow for fast, slow in zip(in_flash, at_run_time, strict=True))
    assert sum(in_flash) < 0.97 * sum(at_run_time)


def test_pairing_counts_where_there_are_few_rows() -> None:
    """A row of kws: a window of three rows and no padding above and below."""
    layer = case(21, (3, 5), 64, (3, 3), pads=(0, 1, 0, 1), activation="relu")
    (slow,), (fast,) = measure_emulated([layer]), measure_emulated(paired([layer]))
    assert fast < 0.85 * slow
    assert fast == pytest.approx(PAIRED.cost(layer.op, find_target("cortex-m4")).instructions, rel=0.1)
    window = candidate_recipes(layer.op, find_target("cortex-m4"), may_trade_memory=True)
    assert window[0].name == "paired_planes"


def test_a_row_of_a_narrow_image_takes_few_instructions() -> None:
    """Rows of kws are five wide: one block each, without loops around it."""
    (executed,) = measure_emulated(paired([case(22, (3, 5), 64, (3, 3), pads=(0, 1, 0, 1), activation="relu")]))
    assert executed <= 8000


def test_strips_of_lines_cover_images_larger_than_the_workspace() -> None:
    cases = [
        case(4, (40, 30), 4, (3, 3), pads=(1, 1, 1, 1)),
        case(5, (33, 47), 4, (5, 3), pads=(2, 1, 2, 1), strides=(2, 1), batch=2),
        case(6, (4, 120), 4, (3, 3), pads=(1, 1, 1, 1)),
        case(7, (60, 45), 4, (9, 5), pads=(4, 2, 4, 2)),
    ]
    for large in cases:
        assert 0 < RECIPE.workspace_bytes(large.op) <= WORKSPACE_LIMIT
    measure_emulated(cases)


def test_long_windows_over_one_column() -> None:
    """Streaming speech models have windows of up to 15 x 1."""
    measure_emulated([case(8 + taps, (20, 1), 8, (taps, 1), zero=taps) for taps in (1, 2, 3, 5, 10, 15)])


@pytest.mark.parametrize(
    ("size", "channels", "stride", "most"),
    [((25, 5), 64, 1, 2.3), ((24, 24), 32, 1, 2.2), ((6, 6), 128, 1, 2.35), ((24, 24), 32, 2, 3.2)],
)
def test_instructions_are_few_and_costs_honest(size: tuple[int, int], channels: int, stride: int, most: float) -> None:
    pads = (1, 1, 1, 1) if stride == 1 else (0, 0, 1, 1)
    layer = case(20, size, channels, (3, 3), pads=pads, strides=(stride, stride), activation="relu")
    (executed,) = measure_emulated([layer])
    assert executed / layer.op.macs() <= most
    stated = RECIPE.cost(layer.op, find_target("cortex-m4"))
    assert executed == pytest.approx(stated.instructions, rel=0.1)
    assert layer.bound.constant_bytes == 17 * channels


def test_costs_of_other_windows_are_honest() -> None:
    shapes: list[tuple[tuple[int, int], tuple[int, int], int]] = [
        ((28, 1), (5, 1), 128),
        ((24, 1), (10, 1), 128),
        ((14, 14), (5, 5), 32),
        ((12, 12), (7, 7), 16),
        ((9, 11), (4, 2), 16),
    ]
    cases = [case(30, size, channels, kernel) for size, kernel, channels in shapes]
    for layer, executed in zip(cases, measure_emulated(cases), strict=True):
        stated = RECIPE.cost(layer.op, find_target("cortex-m4")).instructions
        assert executed == pytest.approx(stated, rel=0.1), str(layer.op)


@pytest.mark.parametrize(
    ("layer", "most"),
    [
        (case(60, (13, 13), 7, (3, 3), pads=(1, 1, 1, 1)), 2.5),
        (case(61, (24, 24), 3, (3, 3), pads=(1, 1, 1, 1)), 2.6),
        (case(62, (24, 24), 3, (3, 3), pads=(1, 1, 1, 1), multiplier=8), 2.1),
        (case(63, (49, 10), 1, (10, 8), pads=(4, 3, 5, 3), strides=(2, 2), multiplier=8), 1.3),
        (case(64, (16, 16), 16, (3, 3), pads=(2, 2, 2, 2), dilations=(2, 2)), 2.7),
        (case(65, (1, 49), 40, (1, 9), pads=(0, 16, 0, 16), dilations=(1, 4)), 3.1),
    ],
    ids=["7 channels", "3 channels", "8 results a channel", "first layer of kws", "dilated", "dilated line"],
)
def test_shapes_beside_the_usual_ones_are_fast(layer: RecipeCase, most: float) -> None:
    (executed,) = measure_emulated([layer])
    assert executed / layer.op.macs() <= most
    assert executed == pytest.approx(RECIPE.cost(layer.op, find_target("cortex-m4")).instructions, rel=0.12)


def test_what_the_recipe_refuses() -> None:
    fitting = case(40, (5, 5), 4, (3, 3)).op
    assert isinstance(fitting, DepthwiseConv2d)
    assert RECIPE.applies(fitting) == ""
    assert RECIPE.applies(replace(fitting, dilations=(2, 1), strides=(2, 1))) == ""
    assert "dilated with a stride" in RECIPE.applies(replace(fitting, dilations=(2, 2), strides=(2, 2)))
    assert "rounding" in RECIPE.applies(replace(fitting, rounding="tflite-single"))
    assert "shift" in RECIPE.applies(case(43, (5, 5), 4, (3, 3), result=(1e-5, 0)).op)
    assert "exceeds" in RECIPE.applies(case(44, (700, 700), 4, (3, 3)).op)


def test_a_bias_too_large_to_share_its_word() -> None:
    s = Samples(41)
    bias, w = s.i32_bias(4, 67_200_000, 69_000_000), s.i8_weights(1, 5, 5, 4, axis=3)
    layer = DepthwiseConv2d(s.i8(1, 6, 6, 4), w, bias, quant=s.quant(141.0, -128))
    measure_emulated([RecipeCase(layer, s, RECIPE)])
    assert RECIPE.constants(layer)["channels"].shape == (12,)


def test_a_large_bias_that_hides_the_weights_becomes_smaller() -> None:
    s = Samples(41)
    bias = s.i32_bias(4, 1 << 27, 1 << 28)
    layer = DepthwiseConv2d(s.i8(1, 5, 5, 4), s.i8_weights(1, 3, 3, 4, axis=3), bias, quant=s.quant(2000.0))
    measure_emulated([RecipeCase(layer, s, RECIPE)])
    assert np.abs(layer.sums().bias).min() >= 1 << 27 > 2 * np.abs(layer.sums().kernel_bias).max()
    assert RECIPE.constants(layer)["channels"].shape == (8,)


def test_only_cores_with_the_dsp_extension_take_it() -> None:
    op = case(50, (5, 5), 4, (3, 3)).op
    assert candidate_recipes(op, find_target("cortex-m4"))[0].name == "planes"
    assert "planes" not in [r.name for r in candidate_recipes(op, find_target("cortex-m0plus"))]


@pytest.mark.slow
def test_many_random_windows_on_an_emulated_core() -> None:
    measure_emulated(random_cases(101, 150, 20))
