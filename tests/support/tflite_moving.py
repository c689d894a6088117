"""Models of one TFLite operator that moves elements, or puts them together again after a convolution."""

from __future__ import annotations

from typing import Any

from support.tflite_specs import bias, float_constant, floats, image, integers, unary, weights
from support.tflite_writer import ModelSpec, TensorSpec, single_operator


def _transposed(
    shape: tuple[int, ...], kernel: tuple[int, int], y: tuple[int, int], *, is_float: bool = False, **options: Any
) -> ModelSpec:
    """A transposed convolution to five channels."""
    sizes = (5, *kernel, shape[3])
    to = (shape[0], *y, 5)
    options = {"stride_w": 1, "stride_h": 1, "padding": "SAME"} | options
    x = floats(*shape) if is_float else image(*shape, zero=-11)
    w = float_constant(*sizes) if is_float else weights(*sizes)
    b = float_constant(5, name="b") if is_float else bias(x, w, 5)
    result = floats(*to, name="y") if is_float else image(*to, scale=0.06, zero=4, name="y")
    return single_operator("TRANSPOSE_CONV", [integers(*to), w, x, b], [result], options)


def _resized(code: str, *, is_float: bool = True, to: tuple[int, int] = (7, 9), **options: Any) -> ModelSpec:
    make = floats if is_float else image
    return unary(code, make(2, 4, 3, 2), make(2, *to, 2, name="y"), integers(*to), **options)


def _mirrored(x: TensorSpec, y: TensorSpec, *widths: int, mode: int) -> ModelSpec:
    pairs = integers(*widths, shape=(len(widths) // 2, 2))
    return single_operator("MIRROR_PAD", [x, pairs], [y], {"mode": mode})


def _both(
    code: str, x: tuple[int, ...], y: tuple[int, ...], *constants: TensorSpec, **options: Any
) -> dict[str, ModelSpec]:
    """An operator on int8 and on floats."""
    return {
        "int8": unary(code, image(*x), image(*y, name="y"), *constants, **options),
        "float": unary(code, floats(*x), floats(*y, name="y"), *constants, **options),
    }


def _places(code: str) -> dict[str, ModelSpec]:
    """Where the greatest or smallest element is."""
    axis, y = integers(1, name="axis", shape=()), TensorSpec("y", (3, 4), "i32")
    return {
        "int8": unary(code, image(3, 9, 4), y, axis, output_type=2),
        "float": unary(code, floats(3, 9, 4), y, axis, output_type=2),
    }


def _packed() -> dict[str, ModelSpec]:
    return {
        name: single_operator(
            "PACK", [make(2, 3), make(2, 3, name="b")], [make(2, 2, 3, name="y")], {"values_count": 2, "axis": 1}
        )
        for name, make in (("int8", image), ("float", floats))
    }


def _unpacked() -> dict[str, ModelSpec]:
    return {
        name: single_operator(
            "UNPACK", [make(2, 3, 4)], [make(2, 4, name=f"y{i}") for i in range(3)], {"num": 3, "axis": 1}
        )
        for name, make in (("int8", image), ("float", floats))
    }


_BLOCK = integers(2, 3, name="block")

MOVING_CASES: dict[str, dict[str, ModelSpec]] = {
    "TRANSPOSE_CONV": {
        "same-stride-2": _transposed((1, 4, 5, 3), (3, 3), (8, 10), stride_w=2, stride_h=2),
        "same-stride-2-of-4": _transposed((1, 4, 3, 2), (4, 4), (8, 6), stride_w=2, stride_h=2),
        "valid-stride-3x2": _transposed((1, 3, 4, 2), (2, 3), (9, 10), stride_w=2, stride_h=3, padding="VALID"),
        "valid": _transposed((1, 3, 4, 2), (2, 3), (4, 6), padding="VALID"),
        "float-same-stride-2": _transposed((1, 4, 5, 3), (3, 2), (8, 10), is_float=True, stride_w=2, stride_h=2),
        "float-valid-odd": _transposed(
            (2, 3, 3, 2), (5, 5), (9, 9), is_float=True, stride_w=2, stride_h=2, padding="VALID"
        ),
    },
    "DEPTH_TO_SPACE": {
        "blocks": unary("DEPTH_TO_SPACE", image(2, 2, 3, 12), image(2, 4, 6, 3, name="y"), block_size=2),
        "float-blocks": unary("DEPTH_TO_SPACE", floats(1, 2, 1, 9), floats(1, 6, 3, 1, name="y"), block_size=3),
    },
    "SPACE_TO_DEPTH": {
        "blocks": unary("SPACE_TO_DEPTH", image(2, 4, 6, 3), image(2, 2, 3, 12, name="y"), block_size=2),
        "float-blocks": unary("SPACE_TO_DEPTH", floats(1, 6, 3, 1), floats(1, 2, 1, 9, name="y"), block_size=3),
    },
    "RESIZE_NEAREST_NEIGHBOR": {
        "bytes": _resized("RESIZE_NEAREST_NEIGHBOR", is_float=False),
        "centered": _resized("RESIZE_NEAREST_NEIGHBOR", half_pixel_centers=True),
        "aligned": _resized("RESIZE_NEAREST_NEIGHBOR", align_corners=True),
        "smaller": _resized("RESIZE_NEAREST_NEIGHBOR", to=(3, 2)),
        "bytes-centered": _resized("RESIZE_NEAREST_NEIGHBOR", is_float=False, half_pixel_centers=True),
        "bytes-aligned": _resized("RESIZE_NEAREST_NEIGHBOR", is_float=False, align_corners=True),
    },
    "RESIZE_BILINEAR": {
        "plain": _resized("RESIZE_BILINEAR"),
        "centered": _resized("RESIZE_BILINEAR", half_pixel_centers=True),
        "aligned": _resized("RESIZE_BILINEAR", align_corners=True),
        "smaller": _resized("RESIZE_BILINEAR", half_pixel_centers=True, to=(3, 2)),
        "bytes": _resized("RESIZE_BILINEAR", is_float=False),
        "bytes-centered": _resized("RESIZE_BILINEAR", is_float=False, half_pixel_centers=True),
        "bytes-aligned": _resized("RESIZE_BILINEAR", is_float=False, align_corners=True),
        "bytes-smaller": _resized("RESIZE_BILINEAR", is_float=False, half_pixel_centers=True, to=(3, 2)),
        "bytes-much-greater": _resized("RESIZE_BILINEAR", is_float=False, half_pixel_centers=True, to=(61, 47)),
    },
    "GATHER": {
        "rows": unary("GATHER", image(5, 3), image(2, 2, 3, name="y"), integers(4, 0, 2, 2, shape=(2, 2)), axis=0),
        "float-columns": unary("GATHER", floats(2, 5), floats(2, 1, name="y"), integers(3), axis=1),
    },
    "GATHER_ND": {
        "elements": unary("GATHER_ND", floats(3, 4), floats(2, name="y"), integers(2, 1, 0, 3, shape=(2, 2))),
        "rows": unary("GATHER_ND", image(3, 4), image(2, 4, name="y"), integers(2, 0, shape=(2, 1))),
    },
    "BROADCAST_TO": {
        "rows": unary("BROADCAST_TO", image(1, 3, 1), image(2, 3, 4, name="y"), integers(2, 3, 4)),
        "float-rank": unary("BROADCAST_TO", floats(3), floats(2, 3, name="y"), integers(2, 3)),
    },
    "MIRROR_PAD": {
        "reflect": _mirrored(image(1, 4, 5, 2), image(1, 7, 9, 2, name="y"), 0, 0, 1, 2, 4, 0, 0, 0, mode=0),
        "float-symmetric": _mirrored(floats(3, 4), floats(7, 6, name="y"), 3, 1, 0, 2, mode=1),
    },
    "PACK": _packed(),
    "UNPACK": _unpacked(),
    "ARG_MAX": _places("ARG_MAX"),
    "ARG_MIN": _places("ARG_MIN"),
    "CUMSUM": {
        "float": unary(
            "CUMSUM",
            floats(2, 5, 3),
            floats(2, 5, 3, name="y"),
            integers(1, name="axis", shape=()),
            exclusive=True,
            reverse=True,
        )
    },
    "REVERSE_V2": _both("REVERSE_V2", (2, 3, 4), (2, 3, 4), integers(1)),
    "SPACE_TO_BATCH_ND": _both(
        "SPACE_TO_BATCH_ND", (2, 4, 6, 2), (12, 2, 2, 2), _BLOCK, integers(0, 0, 0, 0, name="pads", shape=(2, 2))
    ),
    "BATCH_TO_SPACE_ND": _both(
        "BATCH_TO_SPACE_ND", (12, 2, 2, 2), (2, 3, 4, 2), _BLOCK, integers(0, 1, 2, 0, name="crops", shape=(2, 2))
    ),
    "ZEROS_LIKE": {"float": unary("ZEROS_LIKE", floats(2, 3), floats(2, 3, name="y"))},
    "SHAPE": {"float": unary("SHAPE", floats(2, 3), TensorSpec("y", (2,), "i32"), out_type=2)},
}
