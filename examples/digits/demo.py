"""`make demo`: the float model of this folder, quantized by samples, compiled for a Cortex-M7, run on an emulated one.

Shows what quantization costs, the accuracy, what the model takes of RAM and flash, what it executes, and the C that
calls it. The bundle stays in `build/digits`.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

import luciole

HERE = Path(__file__).resolve().parent
MODEL = HERE / "digits.onnx"
CALIBRATION = HERE / "digits_calibration.npz"
SAMPLES = HERE / "digits_samples.npz"
CALLER = HERE / "classify.c"
BUILD = HERE.parents[1] / "build" / "digits"
INTEGER_MODEL = BUILD / "digits.graph"
TARGET = "cortex-m7"

SHADES = " .:-=+*#%@"


def picture(image: npt.NDArray[np.uint8]) -> str:
    """An image as characters, two a pixel, so that it looks square."""
    levels = image.reshape(8, 8).astype(int) * (len(SHADES) - 1) // 255
    return "\n".join("".join(2 * SHADES[level] for level in row) for row in levels)


def indented(text: str) -> str:
    """The text, set off from what is around it."""
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def load_samples() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images of 8 x 8 pixels from 0 to 255, and which digits they are."""
    with np.load(SAMPLES) as samples:
        return samples["x"], samples["y"]


def share(correct: int, count: int) -> str:
    """Right answers in words."""
    return f"{correct} of {count}, {100 * correct / count:.1f} %"


def show_quantization() -> None:
    """Makes the integer model, saves it, and shows the float model's accuracy and the error of each layer."""
    images, labels = load_samples()
    floats = luciole.load(MODEL)
    outputs = floats.run_many([{0: image.reshape(1, 1, 8, 8).astype(np.float32)} for image in images])
    correct = sum(int(output["probabilities"].argmax()) == label for output, label in zip(outputs, labels, strict=True))
    print(f"{MODEL.name} reads {share(correct, len(images))} digits by other writers, in floats on this machine")
    began = time.perf_counter()
    quantized = luciole.quantize_model(MODEL, CALIBRATION)
    BUILD.mkdir(parents=True, exist_ok=True)
    quantized.save(INTEGER_MODEL)
    print(
        f"quantized to int8 by {CALIBRATION.name} in {time.perf_counter() - began:.1f} s; signal to noise by layer:\n"
    )
    layers = [layer for layer in quantized.layers if layer.kind != "reshape"]
    print(indented("\n".join(f"{n.node:<14} {n.kind:<17} {n.signal_to_noise_db:>5.1f} dB" for n in layers)))


def show_bundle() -> luciole.Bundle:
    """Compiles, saves, and lists the files."""
    began = time.perf_counter()
    bundle = luciole.compile(INTEGER_MODEL, target=TARGET)
    seconds = time.perf_counter() - began
    bundle.save(BUILD)
    print(f"\ncompiled for {TARGET} in {seconds:.1f} s; the bundle is in {BUILD}:\n")
    print(indented("\n".join(f"{name:<20} {len(data):>7,} bytes" for name, data in sorted(bundle.files.items()))))
    return bundle


def show_runs(session: luciole.Session) -> str:
    """Runs every sample, shows the first, and counts its instructions; returns the accuracy in words."""
    images, labels = load_samples()
    # The integer model's input is a pixel minus 128.
    inputs = [(image.astype(np.int16) - 128).astype(np.int8).reshape(1, 1, 8, 8) for image in images]
    began = time.perf_counter()
    outputs = session.run_many([{0: x} for x in inputs])
    seconds = time.perf_counter() - began
    digits = np.array([output["probabilities"].argmax() for output in outputs])
    print(f"\nran {len(images)} labelled digits in {seconds:.1f} s; the first was read as {digits[0]}:\n")
    print(indented(picture(images[0])))
    session.run({0: inputs[0]})  # once more, counted
    return share(int(np.count_nonzero(digits == labels)), len(images))


def show_facts(bundle: luciole.Bundle, session: luciole.Session, accuracy: str) -> None:
    """Prints what the model takes; instructions and stack are those of the session's last run."""
    run, memory, flash, macs = session.last_run, bundle.report.memory, bundle.report.flash, bundle.report.macs
    facts = {
        "accuracy": accuracy,
        "RAM: arena": f"{memory.arena_bytes:,} bytes; no placement in this order needs less than "
        f"{memory.lower_bound_bytes:,}",
        "RAM: stack": f"{run.stack_bytes:,} bytes used, {memory.stack_bytes:,} at most",
        "flash": f"{flash.total_bytes:,} bytes: {flash.weights_bytes:,} weights, {flash.code_bytes:,} code",
        "multiply-accumulates": f"{macs:,}",
        "instructions": f"{run.instructions:,}, {run.instructions / macs:.2f} a multiply-accumulate",
    }
    print("\n" + indented("\n".join(f"{name:<21} {fact}" for name, fact in facts.items())))
    print("\n" + indented(f"{'layer':<14} {'operator':<17} {'multiply-acc.':>13} {'instructions':>13}"))
    for layer in run.layers:
        print(indented(f"{layer.name:<14} {layer.operator:<17} {layer.macs:>13,} {layer.instructions:>13,}"))


def main() -> None:
    """Quantizes, compiles, runs and prints."""
    show_quantization()
    bundle = show_bundle()
    session = luciole.load(INTEGER_MODEL, target=TARGET)
    accuracy = show_runs(session)
    show_facts(bundle, session, accuracy)
    print(f"\n{CALLER.name} calls it from C:\n\n{indented(CALLER.read_text(encoding='utf-8'))}")


if __name__ == "__main__":
    main()
