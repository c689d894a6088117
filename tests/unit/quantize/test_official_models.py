"""Float models quantized by us against the same as their makers quantized them, on samples not calibrated with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import luciole
from luciole.importers.samples import Scaling, fed_samples
from luciole.ir.types import Array
from luciole.session import Session
from luciole.validate import predict

#: The first samples calibrate, the others are counted.
CALIBRATION_SAMPLES = 100

#: How many more wrong answers than the official model we may give.
MARGIN = 3


@dataclass(frozen=True)
class Case:
    """A model, its labelled data, which reals the stored samples stand for, and how many the emulated core runs."""

    model: str
    data: str
    scale: float
    zero: float
    on_core: int


CASES = {
    "kws": Case("kws_dscnn", "kws_mfcc_500", 0.58470290899276733, 83, 100),
    "ic": Case("ic_resnet8", "cifar10_250", 1.0, 0, 10),
    "vww": Case("vww_mbv1", "vww_300", 1 / 255, 0, 20),
}


def answers(session: Session, stored: Array, scaling: Scaling) -> list[Array]:
    """The first output for each stored sample."""
    name, _ = session.program.graph.outputs[0]
    fed = list(fed_samples(stored, session.program.graph.inputs, scaling))
    return [found[name] for found in session.run_many(fed)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_at_most_three_more_wrong_answers_than_the_official_model(
    name: str, shared: Path, shared_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """On this machine all samples are counted; the emulated core gives the same bits for the first of these."""
    case = CASES[name]
    data = shared / "data" / f"{case.data}.npz"
    if not data.is_file():
        pytest.skip(f"no data at {data}")
    with np.load(data) as arrays:
        stored, labels = arrays["x"], arrays["y"][CALIBRATION_SAMPLES:]
    quantized = luciole.quantize_model(
        shared_model(f"{case.model}_f32"), stored[:CALIBRATION_SAMPLES], data_scale=case.scale, data_zero=case.zero
    )
    assert all(layer.signal_to_noise_db > 10 for layer in quantized.layers)
    quantized.save(tmp_path / "ours.graph")
    others, reals = stored[CALIBRATION_SAMPLES:], Scaling(case.scale, case.zero, are_reals=True)
    session = luciole.load(tmp_path / "ours.graph")
    ours = answers(session, others, reals)
    theirs = answers(luciole.load(shared_model(f"{case.model}_int8")), others, Scaling())
    output = session.program.graph.outputs[0][1].type
    right = [sum(predict(y, output) == label for y, label in zip(ys, labels, strict=True)) for ys in (ours, theirs)]
    assert right[0] >= right[1] - MARGIN
    on_core = answers(luciole.load(tmp_path / "ours.graph", target="cortex-m4"), others[: case.on_core], reals)
    assert len(on_core) == case.on_core
    assert all(np.array_equal(a, b) for a, b in zip(on_core, ours, strict=False))
