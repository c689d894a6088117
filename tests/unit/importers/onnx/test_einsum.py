"""Sums of products by named axes, against onnxruntime."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

from luciole.errors import CompileError
from support.onnx_models import Net
from support.onnx_rules import check, imported


@pytest.mark.parametrize(
    "equation, shape, others",
    [
        ("ij->ji", (3, 4), []),
        ("ij->", (3, 4), []),
        ("ij -> i", (3, 4), []),
        ("...ii -> ...i", (2, 4, 4), []),
        ("ii", (4, 4), []),
        ("i,i", (5,), [(5,)]),
        ("i,j", (5,), [(4,)]),
        ("bij, bjk -> bik", (2, 3, 4), [(2, 4, 5)]),
        ("bhid,bhjd->bhij", (2, 3, 4, 5), [(2, 3, 6, 5)]),
        ("bij,kj->kbi", (2, 3, 4), [(5, 4)]),
        ("...ij,...jk->...ik", (2, 1, 3, 4), [(2, 5, 4, 2)]),
        ("ij,jk,kl->il", (2, 3), [(3, 4), (4, 5)]),
        ("ijk,k,ij->j", (2, 3, 4), [(4,), (2, 3)]),
        ("ba,a", (3, 4), [(4,)]),
    ],
)
def test_equations(equation: str, shape: tuple[int, ...], others: list[tuple[int, ...]]) -> None:
    net = Net()
    check(net, shape, net.add("Einsum", "x", *(net.weights(*other) for other in others), equation=equation))


@pytest.mark.parametrize(
    "equation, message",
    [
        ("ij,jk->ik", "of 1 operands"),
        ("ijk->i", "of an operand with 2 axes"),
        ("ij->k", "names axes of the result that no operand has"),
        ("ij->ii", "names an axis of the result twice"),
        ("i1->i", "has names other than letters"),
        ("ii->i", "axes i have 3 and another number of elements"),
    ],
)
def test_what_contradicts_itself(equation: str, message: str) -> None:
    net = Net()
    with pytest.raises(CompileError, match=message) as error:
        imported(net, (3, 4), net.add("Einsum", "x", equation=equation))
    assert error.value.exit_code == 1
