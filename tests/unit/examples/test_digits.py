"""The shipped model and its labelled samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from luciole.graph.interpret import run_graph
from luciole.graph.text import load_graph, print_graph
from luciole.ops.catalog import load_operators

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits"


def test_the_reference_reads_97_of_100_digits_by_unseen_writers() -> None:
    load_operators()
    graph = load_graph(DIGITS / "digits.graph")
    with np.load(DIGITS / "digits_samples.npz") as samples:
        images, labels = samples["x"], samples["y"]
    outputs = [run_graph(graph, {"image": image[None]})["probabilities"] for image in images]
    correct = sum(int(output.argmax()) == label for output, label in zip(outputs, labels, strict=True))
    assert len(images) == 360
    assert correct >= 0.97 * 360


def test_the_model_is_in_the_form_that_printing_gives() -> None:
    load_operators()
    path = DIGITS / "digits.graph"
    assert print_graph(load_graph(path)) == path.read_text(encoding="utf-8")
