"""Tensors and models of one TFLite operator, for the tests of import rules."""

from __future__ import annotations

from typing import Any

import numpy as np

from support.tflite_writer import ModelSpec, TensorSpec, single_operator

GENERATOR = np.random.default_rng(20)


def image(*shape: int, scale: float = 0.05, zero: int = -3, name: str = "x") -> TensorSpec:
    """An int8 activation."""
    return TensorSpec(name, shape, "i8", (scale,), (zero,))


def floats(*shape: int, name: str = "x") -> TensorSpec:
    """A float activation."""
    return TensorSpec(name, shape, "f32")


def float_constant(*shape: int, name: str = "w") -> TensorSpec:
    """A float constant."""
    return TensorSpec(name, shape, "f32", data=GENERATOR.normal(0, 1, shape).astype(np.float32))


def weights(*shape: int, axis: int | None = 0, name: str = "w") -> TensorSpec:
    """Symmetric int8 weights, with scales along `axis` or one for all."""
    data = GENERATOR.integers(-127, 128, shape).astype(np.int8)
    count = 1 if axis is None else shape[axis]
    scales = tuple(float(s) for s in np.float32(GENERATOR.uniform(0.005, 0.02, count)))
    return TensorSpec(name, shape, "i8", scales, (0,) * count, axis or 0, data)


def bias(x: TensorSpec, w: TensorSpec, channels: int) -> TensorSpec:
    """An int32 bias in the unit of the products of x and w."""
    scales = tuple(float(np.float32(x.scales[0]) * np.float32(s)) for s in w.scales)
    data = GENERATOR.integers(-3000, 3000, channels).astype(np.int32)
    return TensorSpec("b", (channels,), "i32", scales, (0,) * len(scales), 0, data)


def integers(*values: int, name: str = "i", shape: tuple[int, ...] | None = None, dtype: str = "i32") -> TensorSpec:
    """A constant of integers: axes, shapes."""
    data = np.array(values, np.int64 if dtype == "i64" else np.int32)
    return TensorSpec(name, (len(values),) if shape is None else shape, dtype, data=data)


def convolution(code: str, w: TensorSpec, y: tuple[int, ...], channels: int, **options: Any) -> ModelSpec:
    """A quantized convolution over an image of 9x8."""
    depth = w.shape[3] if code == "CONV_2D" and w.shape else channels // options.get("depth_multiplier", 1)
    x = image(1, 9, 8, depth, zero=-11)
    options = {"stride_w": 1, "stride_h": 1, "padding": "SAME"} | options
    return single_operator(code, [x, w, bias(x, w, channels)], [image(*y, scale=0.06, zero=4, name="y")], options)


def unary(code: str, x: TensorSpec, y: TensorSpec, *constants: TensorSpec, **options: Any) -> ModelSpec:
    """A model of one operator on one activation."""
    return single_operator(code, [x, *constants], [y], options)
