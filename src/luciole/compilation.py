"""One run of the compiler around its stages: timing, verification, dumps, resuming, stopping, and a reproducer when we
fail.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from luciole.bundle import Bundle, ModelIdentity
from luciole.crash import write_crash_folder
from luciole.emit.entry import c_identifier
from luciole.errors import EXIT_BUDGET, CompileError, InternalError, ToolError
from luciole.graph.core import Graph
from luciole.graph.text import save_graph
from luciole.importers.files import read_file
from luciole.ir.board import board_texts, find_board
from luciole.ir.target import find_target, load_targets
from luciole.lower.lower import LoweringOptions
from luciole.options import Options
from luciole.passes.manager import DeveloperOptions, PassContext
from luciole.program.core import ARENA, Program
from luciole.program.text import render_program, save_program
from luciole.program.verify import verify_program
from luciole.report.model import Report
from luciole.report.table import shorten

#: The stages in order; `--to` and `--from` name one of them.
STAGES = ("import", "quantize", "optimize", "lower", "plan", "schedule", "bundle")

#: The stages that give a graph; those behind them give programs.
GRAPH_STAGES = ("import", "quantize", "optimize")

#: Names of nodes are cut to so many characters; converters join the names of all that they fused.
_NODE_LENGTH = 64

P = ParamSpec("P")
T = TypeVar("T")


class StageReached(Exception):
    """The stage that the user wanted to see is done; `value` is what it made."""

    def __init__(self, value: Graph | Program) -> None:
        super().__init__("stage reached")
        self.value = value


@dataclass(frozen=True)
class Resume:
    """Start behind a stage, with what it made."""

    stage: str
    value: Graph | Program


def _with_board(options: Options) -> Options:
    """The options with the core and the memories of a board in place of its name as the target."""
    if options.target in load_targets() or options.target not in board_texts():
        return options
    core = find_board(options.target).target
    return replace(options, target=core, memory=options.memory or options.target)


class Compilation:
    """Runs stages: `run("plan", plan_memory, program)`. As a context it shows the times at the end, when asked to.

    Attributes:
        source: the file to compile.
        options: what the user asks for; `lowering` is the part of it that lowering reads.
        target: the core or machine.
        identity: the model's names and hash.
        board: the memories to spread the program over, when the user named a board.
        passes: what graph passes report to.
        reference: the quantized graph before any pass, when the user asked for one; else the imported model is the
            reference.
    """

    def __init__(
        self,
        source: Path,
        options: Options,
        developer: DeveloperOptions = DeveloperOptions(),
        *,
        identity: ModelIdentity | None = None,
        stop_after: str = "",
        resume: Resume | None = None,
    ) -> None:
        self.source = source
        self.options = options = _with_board(options)
        found = find_target(options.target)
        self.target = found.for_c if options.emit == "c" else found
        self.identity = identity or identify(source, options.name)
        # Glow's interface keeps inputs in a memory of their own, which nothing else may use.
        keep_input = options.keep_input or options.bundle_api == "glow"
        self.lowering = LoweringOptions(
            options.use_recipes,
            keep_input,
            options.keep_output,
            allows_overlap=options.optimize == "ram",
            # Nor can a tensor lie in one of another memory.
            places_parts=options.bundle_api != "glow",
            trades_flash=options.optimize == "speed" and options.max_flash is None,
        )
        self.board = find_board(options.memory) if options.memory else None
        self.passes = PassContext(developer, sys.stderr.write)
        self.reference: Graph | None = None
        if options.quantize and resume is not None and resume.stage != STAGES[0]:
            raise CompileError.of(
                "bad-option",
                f"--quantize comes too late: the stage {resume.stage} is done",
                help="compile from an earlier stage",
            )
        if options.input_layout and resume is not None and resume.stage != STAGES[0]:
            raise CompileError.of(
                "bad-option",
                f"--input-layout comes too late: the stage {resume.stage} is done",
                help="compile from an earlier stage",
            )
        self._developer = developer
        self._stop_after = stop_after
        self._resume = resume
        self._latest: Graph | Program | None = resume.value if resume is not None else None
        self._latest_stage = resume.stage if resume is not None else ""

    def __enter__(self) -> Compilation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._developer.time:
            self.passes.write(self.passes.timing_report())

    def __call__(self, stage: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a stage. Bugs become `InternalError` with a reproducer."""
        if self._resume is not None and self.has_passed(stage):
            result: Any = self._resume.value
        else:
            result = self._guarded(stage, function, *args, **kwargs)
        if isinstance(result, Graph | Program):
            self._latest, self._latest_stage = result, stage
            if stage == self._stop_after:
                raise StageReached(result)
        return result  # type: ignore[no-any-return]  # a resumed stage gives what was read from its file

    def has_passed(self, stage: str) -> bool:
        """Whether this compilation was resumed behind a stage."""
        return self._resume is not None and STAGES.index(stage) <= STAGES.index(self._resume.stage)

    def _guarded(self, stage: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with self.passes.measure(stage):
                result = function(*args, **kwargs)
                self._look_at(stage, result)
            return result
        except (CompileError, ToolError, MemoryError):
            raise
        except Exception as error:
            folder = write_crash_folder(error, self._context(stage), self._save_latest)
            problem = f"stage {stage} failed: {type(error).__name__}: {error}\n  reproducer: {folder}"
            raise InternalError(problem) from error

    def _look_at(self, stage: str, result: object) -> None:
        """Verify a stage's result and show it to whom it may concern."""
        if isinstance(result, Graph):
            self.passes.observe_graph(stage, result)
        elif isinstance(result, Program):
            program = result
            if self._developer.verify != "off":
                verify_program(program)
            rendered = cache(lambda: render_program(program))
            self.passes.observe("program", stage, lambda: rendered().text, lambda: rendered().arrays)

    # Reproducers

    def _context(self, stage: str) -> str:
        """What a reproducer says beside the command."""
        lines = [f"stage {stage} of {self.source}", str(self.options)]
        if self._latest is not None:
            text = self._before(Path())
            lines.append(f"again from before that stage: luciole compile --from {self._latest_stage} {text}")
        return "\n".join(lines) + "\n"

    def _before(self, folder: Path) -> Path:
        return folder / ("before.graph" if isinstance(self._latest, Graph) else "before.program")

    def _save_latest(self, folder: Path) -> None:
        """The last intermediate form, as a file that `--from` reads."""
        if isinstance(self._latest, Graph):
            save_graph(self._latest, self._before(folder))
        elif isinstance(self._latest, Program):
            save_program(self._latest, self._before(folder))

    # Budgets

    def check_ram(self, program: Program) -> None:
        """Raise `CompileError` when the arena exceeds `max_ram`, with what is alive at the peak."""
        limit, needed = self.options.max_ram, sum(r.size_bytes for r in program.regions_of("arena"))
        if limit is None or needed <= limit:
            return
        remedies = ["a smaller input"]
        if any(buffer.dtype.is_real for buffer in program.in_region(ARENA)):
            remedies.append("int8 instead of floats")
        if self.options.keep_input or self.options.keep_output:
            remedies.append("no --keep-input or --keep-output")
        raise CompileError.of(
            "does-not-fit",
            f"the arena needs {needed:,} B, --max-ram allows {limit:,} B",
            notes=(peak_note(program), "this is the smallest arena found, with layers row by row where that helps"),
            help=f"{', or '.join(remedies)}; `luciole inspect` draws the memory over time",
            exit_code=EXIT_BUDGET,
        )

    def check_flash(self, bundle: Bundle) -> None:
        """Raise `CompileError` when code and constants exceed `max_flash`, with the largest layers."""
        limit, flash = self.options.max_flash, bundle.report.flash
        if limit is None or flash.total_bytes <= limit:
            return
        parts = [("weights", flash.weights_bytes), ("code", flash.code_bytes), ("other constants", flash.rodata_bytes)]
        raise CompileError.of(
            "does-not-fit",
            f"the bundle needs {flash.total_bytes:,} B of flash, --max-flash allows {limit:,} B",
            notes=(
                ", ".join(f"{what} {size:,} B" for what, size in parts if size is not None),
                _largest_layers(bundle.report),
            ),
            help=self._less_flash(bundle),
            exit_code=EXIT_BUDGET,
        )

    def _less_flash(self, bundle: Bundle) -> str:
        """What would make a bundle smaller that is as small as this compilation allows."""
        options = self.options
        if not options.use_recipes or options.optimize == "ram":
            return f"{'--generic-kernels' if not options.use_recipes else '--optimize ram'} leaves no choice of kernels"
        if any(tensor.dtype == "f32" for tensor in bundle.report.inputs) and not options.quantize:
            return "integers instead of floats take a quarter: --quantize int8"
        if options.keep_all_channels:
            return "without --keep-all-channels channels that are constant are removed"
        return "this is the smallest that kernels can make it; fewer channels in the largest layers would help"


def _largest_layers(report: Report) -> str:
    """The layers that take most flash."""
    largest = sorted(report.layers, key=lambda layer: -layer.weights_bytes)[:3]
    shown = (f'"{shorten(layer.name, _NODE_LENGTH)}" {layer.weights_bytes:,} B' for layer in largest)
    return f"most weights: {', '.join(shown)}"


def peak_note(program: Program) -> str:
    """The largest buffers alive at the instruction where most bytes are."""
    buffers = program.roots(ARENA)
    steps = range(-1, len(program.instructions) + 1)
    alive = {s: [b for b in buffers if b.first <= s <= b.last] for s in steps}
    peak = max(steps, key=lambda s: sum(b.size_bytes for b in alive[s]))
    largest = sorted(alive[peak], key=lambda b: (-b.size_bytes, b.name))[:3]
    where = f"instruction {peak}"
    if 0 <= peak < len(program.instructions) and program.instructions[peak].location.node:
        where += f' "{shorten(program.instructions[peak].location.node, _NODE_LENGTH)}"'
    return f"largest at the peak ({where}): " + ", ".join(f"%{b.name} {b.size_bytes:,} B" for b in largest)


def identify(source: Path, name: str) -> ModelIdentity:
    """Name of a model file, and hash with what stands beside it. Raises `CompileError` when it cannot be read."""
    data = read_file(source)
    digest = hashlib.sha256(data)
    arrays = source.with_suffix(".npz")
    if source.suffix == ".graph" and arrays.exists():
        digest.update(read_file(arrays))
    elif source.suffix.lower() == ".onnx":
        from luciole.importers.onnx.reader import external_content

        for part in external_content(data, source.parent):
            digest.update(part)
    return ModelIdentity(c_identifier(name or source.stem), source.stem, source.name, digest.hexdigest())
