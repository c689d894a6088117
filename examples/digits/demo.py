"""`make demo`: the model and the labelled samples of this folder, compiled for a Cortex-M7 and run on an emulated one.

Shows the accuracy, what the model takes of RAM and flash, what it executes, and the C that calls it. The bundle stays
in `build/digits`.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

import luciole

HERE = Path(__file__).resolve().parent
MODEL = HERE / "digits.graph"
SAMPLES = HERE / "digits_samples.npz"
CALLER = HERE / "classify.c"
BUILD = HERE.parents[1] / "build" / "digits"
TARGET = "cortex-m7"

SHADES = " .:-=+*#%@"


def picture(image: npt.NDArray[np.int8]) -> str:
    """An image as characters, two a pixel, so that it looks square."""
    levels = (image.reshape(8, 8).astype(int) + 128) * (len(SHADES) - 1) // 255
    return "\n".join("".join(2 * SHADES[level] for level in row) for row in levels)


def indented(text: str) -> str:
    """The text, set off from what is around it."""
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def show_bundle() -> luciole.Bundle:
    """Compiles, saves, and lists the files."""
    began = time.perf_counter()
    bundle = luciole.compile(MODEL, target=TARGET)
    seconds = time.perf_counter() - began
    bundle.save(BUILD)
    print(f"compiled {MODEL.name} for {TARGET} in {seconds:.1f} s; the bundle is in {BUILD}:\n")
    print(indented("\n".join(f"{path.name:<20} {path.stat().st_size:>7,} bytes" for path in sorted(BUILD.iterdir()))))
    return bundle


def show_runs(session: luciole.Session) -> str:
    """Runs every sample, shows the first, and counts its instructions; returns the accuracy in words."""
    with np.load(SAMPLES) as samples:
        images, labels = samples["x"], samples["y"]
    began = time.perf_counter()
    outputs = session.run_many([{0: image[None]} for image in images])
    seconds = time.perf_counter() - began
    digits = np.array([output["probabilities"].argmax() for output in outputs])
    print(f"\nran {len(images)} labelled digits in {seconds:.1f} s; the first was read as {digits[0]}:\n")
    print(indented(picture(images[0])))
    correct = int(np.count_nonzero(digits == labels))
    session.run({0: images[:1]})  # once more, counted
    return f"{correct} of {len(images)}, {100 * correct / len(images):.1f} %"


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
    """Compiles, runs and prints."""
    bundle = show_bundle()
    session = luciole.load(MODEL, target=TARGET)
    accuracy = show_runs(session)
    show_facts(bundle, session, accuracy)
    print(f"\n{CALLER.name} calls it from C:\n\n{indented(CALLER.read_text(encoding='utf-8'))}")


if __name__ == "__main__":
    main()
