"""A fresh process goes on from a program's text, hand-scheduled kernels and all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from luciole.graph.builder import GraphBuilder
from luciole.graph.text import save_graph
from luciole.ir.quant import Quant
from luciole.ir.types import DType
from luciole.ops.conv import Conv2d

SOURCE = Path(__file__).parents[3] / "src"


def compile_in_a_fresh_process(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "luciole.cli.main", "compile", *arguments]
    environment = {"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_program_with_hand_scheduled_kernels_resumes_in_a_fresh_process(tmp_path: Path) -> None:
    quant = Quant.per_tensor(0.5, -1)
    g = GraphBuilder("pointwise")
    x = g.input("x", DType.I8, (1, 2, 3, 8), quant)
    w = g.constant(np.arange(-16, 16, dtype=np.int8).reshape(4, 1, 1, 8), Quant.per_tensor(0.01))
    g.output("y", g.add(Conv2d(x, w, quant=quant)))
    save_graph(g.graph, tmp_path / "a.graph")
    compile_in_a_fresh_process(tmp_path, "a.graph", "--target", "cortex-m4", "--to", "plan", "-o", "a.program")
    text = (tmp_path / "a.program").read_text()
    assert ") scheduled\n" in text
    compile_in_a_fresh_process(tmp_path, "a.program", "--from", "plan", "-o", "resumed")
    compile_in_a_fresh_process(tmp_path, "a.graph", "--target", "cortex-m4", "-o", "direct")
    names = sorted(path.name for path in (tmp_path / "direct").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "resumed").iterdir())
    for name in names:
        assert (tmp_path / "direct" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes(), name
