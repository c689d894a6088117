"""The placement solver on chains, overlaps in place and on the diagonal, fixed offsets, and alignment."""

from __future__ import annotations

import itertools

import pytest

from luciole.lower.placement import (
    Forbidden,
    Item,
    Placement,
    PlacementProblem,
    check,
    lower_bound,
    solve,
)


def _solved(problem: PlacementProblem) -> Placement:
    """The placement of `problem`, checked."""
    placement = solve(problem)
    assert check(problem, placement.offsets) == ()
    ends = [offset + item.size_bytes for offset, item in zip(placement.offsets, problem.items, strict=True)]
    assert placement.size_bytes == max(ends, default=0)
    return placement


def _chain(sizes: list[int], alignment: int = 1) -> tuple[Item, ...]:
    """Tensors of a layer-by-layer network: tensor i is written by step i and read by step i + 1."""
    return tuple(Item(f"tensor{index}", size, alignment, index, index + 1) for index, size in enumerate(sizes))


def test_no_items_need_no_memory() -> None:
    placement = _solved(PlacementProblem(()))
    assert placement.offsets == ()
    assert placement.size_bytes == placement.lower_bound_bytes == placement.gap_bytes == 0
    assert placement.is_optimal


def test_one_item_lies_at_zero() -> None:
    placement = _solved(PlacementProblem((Item("only", 10, 16, 3, 3),)))
    assert placement.offsets == (0,)
    assert placement.size_bytes == 10


def test_items_of_size_zero_conflict_with_nothing() -> None:
    items = (Item("a", 8, 1, 0, 5), Item("empty", 0, 4, 0, 5), Item("b", 8, 1, 2, 3), Item("void", 0, 1, 0, 5))
    problem = PlacementProblem(items)
    assert [(conflict.a, conflict.b) for conflict in problem.conflicts()] == [(0, 2)]
    assert _solved(problem).size_bytes == 16


@pytest.mark.parametrize(
    "sizes",
    [
        [3_072, 16_384, 16_384, 16_384, 8_192, 8_192, 4_096, 4_096, 64, 10],
        [490, 8_000, 8_000, 8_000, 8_000, 8_000, 8_000, 64, 12],
        [27_648, 18_432, 18_432, 36_864, 9_216, 18_432, 18_432, 18_432, 4_608, 9_216, 9_216, 9_216, 2_304, 256, 2],
        [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640],
    ],
)
def test_chains_reach_the_live_sum(sizes: list[int]) -> None:
    placement = _solved(PlacementProblem(_chain(sizes)))
    assert placement.is_optimal
    assert placement.size_bytes == max(a + b for a, b in itertools.pairwise(sizes))


def test_residual_branches_reach_the_live_sum() -> None:
    # A skip tensor stays alive across two layers, as in a residual network.
    items = (
        Item("input", 3_072, 4, 0, 1),
        Item("stem", 16_384, 4, 1, 4),
        Item("conv1", 16_384, 4, 2, 3),
        Item("conv2", 16_384, 4, 3, 4),
        Item("sum", 16_384, 4, 4, 6),
        Item("conv3", 8_192, 4, 5, 7),
        Item("shortcut", 8_192, 4, 6, 8),
        Item("conv4", 8_192, 4, 7, 8),
        Item("sum2", 8_192, 4, 8, 9),
    )
    placement = _solved(PlacementProblem(items))
    assert placement.is_optimal
    assert placement.size_bytes == 3 * 16_384


def test_in_place_at_the_same_offset_halves_a_chain() -> None:
    # Each output may lie exactly on its input, or clear of it.
    items = _chain([64, 64, 64, 64])
    overrides = {(index, index + 1): ((-64, 0), (0, 64)) for index in range(3)}
    problem = PlacementProblem(items, overrides)
    placement = _solved(problem)
    assert placement.offsets == (0, 0, 0, 0)
    assert placement.size_bytes == placement.lower_bound_bytes == 64
    assert _solved(PlacementProblem(items)).size_bytes == 128


def test_in_place_pair_is_found_when_a_third_item_holds_one_of_the_two_up() -> None:
    # `out` must lie exactly on `in` for the bound, above `low`, which only `out` meets.
    items = (
        Item("in", 40, 1, 0, 1),
        Item("out", 40, 1, 1, 2),
        Item("low", 30, 1, 2, 3, fixed_offset=0),
        Item("other", 30, 1, 0, 1),
    )
    problem = PlacementProblem(items, {(0, 1): ((-40, 0), (0, 40))})
    placement = _solved(problem)
    assert placement.is_optimal
    assert placement.offsets == (30, 30, 0, 0)
    assert placement.size_bytes == 70


def test_in_place_is_refused_when_the_input_lives_on() -> None:
    items = (Item("in", 64, 1, 0, 2), Item("out", 64, 1, 1, 2))
    assert _solved(PlacementProblem(items)).size_bytes == 128


def test_diagonal_overlap_needs_the_lag_and_the_larger_tensor() -> None:
    # The output may begin at most `lag` bytes below its input (memory.md, formula f).
    lag, size_in, size_out = 40, 300, 320
    items = (Item("in", size_in, 1, 0, 1), Item("out", size_out, 1, 1, 2))
    problem = PlacementProblem(items, {(0, 1): ((-lag, size_in),)})
    placement = _solved(problem)
    assert placement.size_bytes == max(lag + size_in, size_out) == placement.lower_bound_bytes
    assert placement.offsets[0] - placement.offsets[1] == lag


def test_diagonal_lag_is_rounded_up_to_the_alignment() -> None:
    items = (Item("in", 300, 16, 0, 1), Item("out", 300, 16, 1, 2))
    placement = _solved(PlacementProblem(items, {(0, 1): ((-40, 300),)}))
    assert placement.offsets == (48, 0)
    assert placement.size_bytes == placement.lower_bound_bytes == 348
    assert placement.is_optimal


def test_diagonal_chain_meets_the_bound() -> None:
    # Outputs go down by the lag in each layer: the whole chain fits the largest of the layers' own needs.
    sizes, lags = [1_000, 800, 900, 500, 700], [100, 50, 120, 60]
    items = _chain(sizes)
    overrides = {(index, index + 1): ((-lag, sizes[index]),) for index, lag in enumerate(lags)}
    placement = _solved(PlacementProblem(items, overrides))
    needs = [max(lag + size, after) for lag, size, after in zip(lags, sizes, sizes[1:], strict=False)]
    assert placement.lower_bound_bytes >= max(needs)
    assert placement.is_optimal
    assert placement.size_bytes < 1_800


def test_override_in_either_direction_means_the_same() -> None:
    items = (Item("in", 300, 1, 0, 1), Item("out", 320, 1, 1, 2))
    forward = PlacementProblem(items, {(0, 1): ((-40, 300),)})
    backward = PlacementProblem(items, {(1, 0): ((-300, 40),)})
    assert forward.conflicts() == backward.conflicts() == (Forbidden(0, 1, -40, 300),)
    assert solve(forward) == solve(backward)


def test_free_pairs_share_all_bytes() -> None:
    items = (Item("a", 64, 1, 0, 1), Item("view", 64, 1, 0, 1), Item("b", 10, 1, 0, 1))
    placement = _solved(PlacementProblem(items, {(0, 1): ()}))
    assert placement.size_bytes == 74
    assert placement.is_optimal


def test_override_can_forbid_more_than_overlap() -> None:
    # The two never live together, yet must lie in different banks of 1024 bytes.
    items = (Item("a", 10, 4, 0, 0), Item("b", 10, 4, 5, 5))
    placement = _solved(PlacementProblem(items, {(0, 1): ((-1_024, 1_024),)}))
    assert placement.size_bytes == 1_034 == placement.lower_bound_bytes


def test_bound_counts_the_inputs_of_an_addition_that_may_use_either_in_place() -> None:
    items = (Item("left", 100, 1, 0, 1), Item("right", 100, 1, 0, 1), Item("sum", 100, 1, 1, 2))
    in_place = ((-100, 0), (0, 100))
    problem = PlacementProblem(items, {(0, 2): in_place, (1, 2): in_place})
    assert lower_bound(problem) == 200
    placement = _solved(problem)
    assert placement.size_bytes == 200
    assert placement.offsets[2] in placement.offsets[:2]


def test_fixed_offsets_are_kept_and_the_rest_goes_around_them() -> None:
    items = (
        Item("low", 100, 1, 0, 3),
        Item("pinned", 50, 1, 1, 2, fixed_offset=80),
        Item("small", 30, 1, 1, 1),
    )
    placement = _solved(PlacementProblem(items))
    assert placement.offsets == (130, 80, 0)
    assert placement.size_bytes == 230 == placement.lower_bound_bytes


def test_all_items_may_be_fixed() -> None:
    items = (Item("a", 8, 8, 0, 1, fixed_offset=16), Item("b", 8, 8, 1, 1, fixed_offset=0))
    placement = _solved(PlacementProblem(items))
    assert placement.offsets == (16, 0)
    assert placement.is_optimal and placement.size_bytes == 24


def test_alignment_is_kept_and_counted_in_the_bound() -> None:
    items = tuple(Item(f"item{index}", 10, 16, 0, 0) for index in range(4))
    placement = _solved(PlacementProblem(items))
    assert sorted(placement.offsets) == [0, 16, 32, 48]
    assert placement.size_bytes == 58 == placement.lower_bound_bytes


def test_padding_of_an_aligned_item_is_used_by_others() -> None:
    items = (Item("a", 10, 16, 0, 0), Item("b", 10, 16, 0, 0), Item("c", 6, 1, 0, 0))
    placement = _solved(PlacementProblem(items))
    assert placement.size_bytes == 26
    assert placement.is_optimal


def test_padding_of_the_highest_item_is_saved_when_sizes_differ() -> None:
    # Only an item of 65 bytes at the top, whose three bytes of padding nobody needs, meets the bound.
    items = tuple(Item(f"item{index}", 64 + index % 2, 4, 0, 1) for index in range(40))
    placement = _solved(PlacementProblem(items))
    assert placement.size_bytes == 20 * 64 + 20 * 68 - 3
    assert placement.is_optimal


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((-1, 1, 0, 0, None), "item 'x': size must not be negative, got -1 bytes"),
        ((1, 3, 0, 0, None), "item 'x': alignment must be a power of two, got 3"),
        ((1, 0, 0, 0, None), "item 'x': alignment must be a power of two, got 0"),
        ((1, 1, 2, 1, None), "item 'x': life ends at step 1, before it begins at 2"),
        ((1, 1, 0, 0, -4), "item 'x': fixed offset must not be negative, got -4"),
        ((1, 8, 0, 0, 4), "item 'x': fixed offset 4 is no multiple of its alignment 8"),
    ],
)
def test_impossible_items_are_refused(fields: tuple[int, int, int, int, int | None], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Item("x", *fields)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({(0, 2): ()}, "override (0, 2) names an item outside 0..1"),
        ({(-1, 0): ()}, "override (-1, 0) names an item outside 0..1"),
        ({(1, 1): ()}, "override (1, 1) relates item 'b' to itself"),
        ({(0, 1): (), (1, 0): ()}, "override (0, 1) is given in both directions"),
        ({(0, 1): ((3, 3),)}, "override of 'a' and 'b': interval (3, 3) is empty"),
    ],
)
def test_impossible_overrides_are_refused(
    overrides: dict[tuple[int, int], tuple[tuple[int, int], ...]], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        PlacementProblem((Item("a", 4, 1, 0, 0), Item("b", 4, 1, 0, 0)), overrides)
    assert str(caught.value) == message


def test_fixed_items_that_overlap_are_refused() -> None:
    items = (Item("a", 8, 1, 0, 1, fixed_offset=0), Item("b", 8, 1, 1, 1, fixed_offset=4))
    with pytest.raises(ValueError) as caught:
        PlacementProblem(items)
    assert str(caught.value) == "items 'a' and 'b' are fixed at offsets 0 and 4, which conflict"
    PlacementProblem(items, {(0, 1): ()})


def test_check_reports_every_violation() -> None:
    items = (
        Item("a", 8, 4, 0, 1),
        Item("b", 8, 4, 1, 2),
        Item("pinned", 4, 4, 9, 9, fixed_offset=8),
        Item("tied", 8, 1, 9, 9),
    )
    problem = PlacementProblem(items, {(2, 3): ((-8, 4),)})
    assert check(problem, (0, 8, 8, 12)) == ()
    assert check(problem, (0, 8, 8)) == ("4 items but 3 offsets",)
    assert check(problem, (-4, 2, 4, 6)) == (
        "'a' is at the negative offset -4",
        "'b' at offset 2 is not aligned to 4 bytes",
        "'pinned' is at offset 4 instead of its fixed offset 8",
        "'tied' is 2 bytes after 'pinned', which the interval (-8, 4) forbids",
        "'a' and 'b' overlap in memory and in time",
    )
