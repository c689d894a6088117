"""ONNX's own tests: no answer is wrong, and the list of what is refused only shrinks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")

import onnx

from onnx_backend import suite

#: All node tests take minutes, so that they are run in parts.
PARTS = 8

#: What PyTorch wrote for opset 6: all of these tests pass.
PYTORCH = {"pytorch-converted": 82, "pytorch-operator": 35}


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """ONNX computes its expected results while it collects, with warnings of numpy's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_part(part: int, parts: int) -> None:
    """Run every `parts`-th test: none is wrong, and those are refused that the list names, by the rules it names."""
    chosen = list(suite.cases("node"))[part::parts]
    outcomes = [suite.run_case(case) for case in chosen]
    assert [f"{o.name}: {o.detail}" for o in outcomes if o.status == "wrong"] == []
    if onnx.__version__ != suite.ONNX_VERSION:
        pytest.skip(f"the list of refusals is of onnx {suite.ONNX_VERSION}, {onnx.__version__} is installed")
    names = {case.name for case in chosen}
    refused = {f"{o.name} {o.detail}" for o in outcomes if o.status == "refused"}
    lines = suite.REFUSALS.read_text(encoding="utf-8").splitlines()
    listed = {line for line in lines if line.partition(" ")[0] in names}
    assert sorted(refused - listed) == [], "tests that passed are refused now, or by another rule"
    assert sorted(listed - refused) == [], "these pass now: take them from the list"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_node_suite(part: int) -> None:
    check_part(part, PARTS)


def test_a_fiftieth_of_the_node_suite() -> None:
    check_part(0, 50)


def test_more_than_a_thousand_node_tests_pass() -> None:
    """By the list: what it does not name passes."""
    listed = len(suite.REFUSALS.read_text(encoding="utf-8").splitlines())
    assert sum(1 for _ in suite.cases("node")) - listed >= 1440 or onnx.__version__ != suite.ONNX_VERSION


@pytest.mark.slow
@pytest.mark.parametrize("kind", PYTORCH)
def test_models_of_pytorch(kind: str) -> None:
    outcomes = [suite.run_case(case) for case in suite.cases(kind)]
    assert [f"{o.name}: {o.detail}" for o in outcomes if o.status == "wrong"] == []
    assert sum(o.status == "passed" for o in outcomes) >= PYTORCH[kind]


def test_one_test_passes_and_one_is_refused() -> None:
    """The suite tells the two apart; all of it takes a minute."""
    found = {case.name: suite.run_case(case) for case in suite.cases() if case.name in ("test_relu", "test_det_2d")}
    assert {name: (o.status, o.detail) for name, o in found.items()} == {
        "test_relu": ("passed", ""),
        "test_det_2d": ("refused", "unsupported-operator"),
    }
