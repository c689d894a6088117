"""ONNX's own tests: no answer is wrong, and the list of what is refused only shrinks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")

import onnx

from onnx_backend import suite

#: What PyTorch wrote for opset 6: so many tests pass at least.
PYTORCH = {"pytorch-converted": 69, "pytorch-operator": 15}


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """ONNX computes its expected results while it collects, with warnings of numpy's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.slow
def test_node_suite() -> None:
    outcomes = [suite.run_case(case) for case in suite.cases("node")]
    assert [f"{o.name}: {o.detail}" for o in outcomes if o.status == "wrong"] == []
    if onnx.__version__ != suite.ONNX_VERSION:
        pytest.skip(f"the list of refusals is of onnx {suite.ONNX_VERSION}, {onnx.__version__} is installed")
    refused = {f"{o.name} {o.detail}" for o in outcomes if o.status == "refused"}
    listed = set(suite.REFUSALS.read_text(encoding="utf-8").splitlines())
    assert sorted(refused - listed) == [], "tests that passed are refused now, or by another rule"
    assert sorted(listed - refused) == [], "these pass now: take them from the list"
    assert sum(o.status == "passed" for o in outcomes) >= 1224


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
