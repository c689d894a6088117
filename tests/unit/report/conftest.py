from __future__ import annotations

import pytest

from luciole.report.model import (
    BufferReport,
    FlashReport,
    LayerReport,
    LinkReport,
    MemoryReport,
    ModelReport,
    Report,
    TensorReport,
)

IMAGE, FEATURES, CLASSES = (1, 8, 8, 1), (1, 4, 4, 8), (1, 10)


@pytest.fixture
def report() -> Report:
    """Three instructions and five buffers, with the peak at the second instruction."""
    return Report(
        luciole_version="0.1.0",
        model=ModelReport("digits", "Digits model", "digits-int8.tflite", "0123456789abcdef" * 4),
        target="cortex-m4",
        memory=MemoryReport(
            arena_bytes=320,
            alignment_bytes=16,
            activation_bytes=256,
            workspace_bytes=64,
            lower_bound_bytes=304,
            gap_bytes=16,
            is_optimal=False,
            method="first-fit by size",
            state_bytes=0,
            input_bytes=64,
            output_bytes=10,
            stack_bytes=96,
        ),
        flash=FlashReport.of(1400, 2048, 256),
        macs=11_280,
        layers=(
            LayerReport("net/conv", "conv2d", "conv2d_i8.a81c", 9_216, 104, (IMAGE,), (FEATURES,), 192),
            LayerReport("net/scale", "mul", "mul_i8.0d11", 0, 16, (FEATURES,), (FEATURES,), 320),
            LayerReport("net/dense", "fully_connected", "dense_i8.77f0", 2_064, 1280, (FEATURES,), (CLASSES,), 144),
        ),
        buffers=(
            BufferReport("image", "input", 128, 64, -1, 0, IMAGE, "i8"),
            BufferReport("net/conv", "temp", 0, 128, 0, 1, FEATURES, "i8"),
            BufferReport("scratch", "workspace", 256, 64, 1, 1, (64,), "i8"),
            BufferReport("net/scale", "temp", 128, 128, 1, 2, FEATURES, "i8"),
            BufferReport("scores", "output", 0, 10, 2, 3, CLASSES, "i8"),
        ),
        inputs=(TensorReport("image", IMAGE, "i8", 0.003921568859368563, -128, 64),),
        outputs=(TensorReport("scores", CLASSES, "f32", None, None, 10),),
        link=LinkReport(("digits.h", "digits.o"), ("arm-none-eabi-gcc main.c digits.o",)),
        options=(("emit", "object"), ("keep_input", False)),
    )
