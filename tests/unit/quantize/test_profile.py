"""Profile files: the same calibration back, and clear words for whatever else a file may hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luciole.errors import CompileError
from luciole.graph.text import render_graph
from luciole.ops.activation import Relu
from luciole.quantize import (
    Calibration,
    QuantizeOptions,
    calibrate,
    convert,
    load_profile,
    profile_text,
    quantize_graph,
    tensor_names,
)
from support.float_nets import Net, images, residual


def there_and_back(graph: Any, calibration: Calibration, path: Path) -> Calibration:
    path.write_text(profile_text(graph, calibration), encoding="utf-8")
    return load_profile(graph, path)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 10), max_size=3).map(sorted), seed=st.integers(0, 5))
def test_any_split_saved_loaded_and_merged_gives_the_same_bytes(cuts: list[int], seed: int, tmp_path: Path) -> None:
    graph, data = residual(3), images(10, seed)
    whole = calibrate(graph, data)
    ends = [0, *cuts, len(data)]
    parts = [calibrate(graph, data[a:b], may_be_empty=True) for a, b in pairwise(ends)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merged(part)
    merged = there_and_back(graph, merged, tmp_path / "p.json")
    assert profile_text(graph, merged) == profile_text(graph, whole)
    options = QuantizeOptions(observer="moving-average", correct_bias=True)
    texts = [render_graph(convert(graph, c, options).graph) for c in (whole, merged)]
    assert texts[0].text == texts[1].text
    assert all(np.array_equal(array, texts[1].arrays[name]) for name, array in texts[0].arrays.items())


def test_the_keys_are_the_names_of_the_users_tensors(tmp_path: Path) -> None:
    g = Net(0, (1, 4))
    moved = g.add(Relu(g.x), "seen/last")
    graph = g.finish(y=g.add(Relu(g.add(Relu(moved), "other/last")), "other"))
    assert list(tensor_names(graph).values()) == ["image", "seen", "other/last", "other"]
    keys = json.loads(profile_text(graph, calibrate(graph, images(2, shape=(1, 4)))))["tensors"]
    assert list(keys) == ["image", "seen", "other/last", "other"]


def damaged(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(profile_text(residual(0), calibrate(residual(0), images(2))))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is no profile"),
        ("[]", "this is no profile"),
        ("[" * 100_000, "this is no profile"),
        ("{}", "this is no profile"),
        (damaged(lambda d: d.update(luciole_profile=2)), "it has the version 2, this compiler reads 1"),
        (damaged(lambda d: d.update(samples=0)), "samples are a positive number"),
        (damaged(lambda d: d.update(samples=True)), "samples are a positive number"),
        (damaged(lambda d: d.update(equalized=1)), "equalized is true or false"),
        (damaged(lambda d: d["tensors"].pop("deep")), "the profile has nothing for the tensor deep"),
        (damaged(lambda d: d["tensors"]["deep"].update(lows=[1.0])), "the tensor deep: lows and highs are one pair"),
        (damaged(lambda d: d["tensors"]["deep"].update(lows=[1e9, 1e9])), "the tensor deep: lows and highs are one"),
        (damaged(lambda d: d["tensors"]["deep"].update(lows=["a", 1])), "lists of finite numbers"),
        (damaged(lambda d: d["tensors"]["deep"].update(exponent=1000)), "the exponent is out of range"),
        (damaged(lambda d: d["tensors"]["deep"].update(bins=[[8192, 1]])), "a bin is out of range"),
        (damaged(lambda d: d["tensors"]["deep"].update(bins=[[0, 1, 2]])), "the tensor deep"),
        (damaged(lambda d: d["tensors"]["deep"].update(bins=[])), "there are samples, but no bins"),
        (damaged(lambda d: d["tensors"]["deep"].update(bins=5)), "bins are a list"),
        (damaged(lambda d: d["tensors"]["stem"].update(channel_sums=["0x1"])), "channel_sums are 8, one a channel"),
        (damaged(lambda d: d["tensors"]["stem"].update(channel_sums=["?"] * 8)), "the tensor stem"),
        (damaged(lambda d: d["tensors"].update(deep=7)), "the tensor deep"),
    ],
)
def test_what_is_no_profile_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(CompileError, match=message):
        load_profile(residual(0), path)


def test_a_profile_of_the_net_before_equalization_is_not_taken_for_the_one_behind(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(profile_text(residual(0), calibrate(residual(0), images(2))))
    with pytest.raises(CompileError, match="the profile was made without --equalize"):
        quantize_graph(residual(0), [], QuantizeOptions(equalize=True), profile=path)
