"""Regions and places of images, and pools that are undone, as onnxruntime has them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

from onnx import parser

from luciole import CompileError, backend
from luciole.ir.types import Array
from support.onnx_models import reference

REGIONS = """
main (float[2,3,8,7] x, float[3,4] regions) => (float[3,3,2,3] y) {
  batch = Constant <value = int64[3] {1, 0, 1}> ()
  y = RoiAlign <output_height = 2, output_width = 3, sampling_ratio = 2, spatial_scale = 0.5> (x, regions, batch)
}
"""

PLACES = """
main (float[1,3,5,6] x, float[1,4,3,2] grid) => (float[1,3,4,3] y) {
  y = GridSample <mode = "bilinear", padding_mode = "reflection", align_corners = 1> (x, grid)
}
"""

POOLS = """
main (float[1,2,6,6] x) => (float[1,2,6,6] y) {
  greatest, where = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
  y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (greatest, where)
}
"""


def check(text: str, opset: int, inputs: dict[str, Array]) -> None:
    """Assert that a model gives onnxruntime's numbers."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}')
    (expected,) = reference(model, inputs).values()
    (result,) = backend.prepare(model).run(list(inputs.values()))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", [10, 16])
def test_regions_of_older_opsets_are_not_moved(opset: int) -> None:
    random = np.random.default_rng(opset)
    corners = random.uniform(0, 6, (3, 2))
    regions = np.concatenate([corners, corners + random.uniform(1, 12, (3, 2))], axis=1).astype(np.float32)
    check(REGIONS, opset, {"x": random.normal(size=(2, 3, 8, 7)).astype(np.float32), "regions": regions})


def test_places_and_positions() -> None:
    random = np.random.default_rng(2)
    x = random.normal(size=(1, 3, 5, 6)).astype(np.float32)
    check(PLACES, 16, {"x": x, "grid": random.uniform(-2, 2, (1, 4, 3, 2)).astype(np.float32)})
    check(POOLS, 12, {"x": random.normal(size=(1, 2, 6, 6)).astype(np.float32)})


def test_what_depends_on_the_data_is_refused() -> None:
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 16]>\n{REGIONS.replace("_ratio = 2", "_ratio = 0")}'
    )
    with pytest.raises(CompileError, match="RoiAlign with a number of places that depends on the region"):
        backend.prepare(model)
