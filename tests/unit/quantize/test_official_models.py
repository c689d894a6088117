"""Float models quantized by us against the same as their makers quantized them, on samples not calibrated with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import luciole
from luciole.importers.samples import Scaling, fed_samples, feed
from luciole.session import Session
from luciole.validate import count_right

#: The first samples calibrate, the others are counted.
CALIBRATION_SAMPLES = 100

#: How many more wrong answers than the official model we may give.
MARGIN = 3


@dataclass(frozen=True)
class Case:
    """A model, its labelled data, and which reals the stored samples stand for."""

    model: str
    data: str
    scale: float
    zero: float


CASES = {
    "kws": Case("kws_dscnn", "kws_mfcc_500", 0.58470290899276733, 83),
    "ic": Case("ic_resnet8", "cifar10_250", 1.0, 0),
    "vww": Case("vww_mbv1", "vww_300", 1 / 255, 0),
}


def right_answers(session: Session, data: Path, scaling: Scaling) -> int:
    arrays = np.load(data)
    stored, labels = arrays["x"][CALIBRATION_SAMPLES:], arrays["y"][CALIBRATION_SAMPLES:]
    inputs = session.program.graph.inputs
    return count_right(session, list(fed_samples(stored, inputs, scaling)), labels, lambda _: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_at_most_three_more_wrong_answers_than_the_official_model(
    name: str, shared: Path, shared_model: Callable[[str], Path]
) -> None:
    case = CASES[name]
    data = shared / "data" / f"{case.data}.npz"
    if not data.is_file():
        pytest.skip(f"no data at {data}")
    ours = luciole.load(
        shared_model(f"{case.model}_f32"),
        quantize="int8",
        calibration=data,
        calibration_samples=CALIBRATION_SAMPLES,
        data_scale=case.scale,
        data_zero=case.zero,
    )
    reals = Scaling(case.scale, case.zero, are_reals=True)
    official = luciole.load(shared_model(f"{case.model}_int8"))
    expected = right_answers(official, data, Scaling())
    assert right_answers(ours, data, reals) >= expected - MARGIN


@pytest.mark.slow
def test_the_emulated_core_gives_the_bits_of_the_host(shared: Path, shared_model: Callable[[str], Path]) -> None:
    case = CASES["kws"]
    data = shared / "data" / f"{case.data}.npz"
    if not data.is_file():
        pytest.skip(f"no data at {data}")
    host, core = (
        luciole.load(
            shared_model(f"{case.model}_f32"),
            target,
            quantize="int8",
            calibration=data,
            calibration_samples=CALIBRATION_SAMPLES,
            data_scale=case.scale,
            data_zero=case.zero,
        )
        for target in ("native", "cortex-m4")
    )
    value = host.program.graph.inputs[0]
    stored = np.load(data)["x"][CALIBRATION_SAMPLES : 2 * CALIBRATION_SAMPLES]
    scaling = Scaling(case.scale, case.zero, are_reals=True)
    samples = [{value.name: feed(sample, value, scaling)} for sample in stored]
    for ours, theirs in zip(host.run_many(samples), core.run_many(samples), strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
