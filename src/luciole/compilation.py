"""One run of the compiler around its stages: timing, verification, dumps, resuming, stopping, and a reproducer when we
fail.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from luciole.bundle import Bundle, ModelIdentity
from luciole.emit.entry import c_identifier
from luciole.errors import EXIT_BUDGET, CompileError, InternalError, LucioleError
from luciole.graph.core import Graph
from luciole.graph.text import render_graph
from luciole.importers.files import read_file
from luciole.ir.target import find_target
from luciole.lower.lower import LoweringOptions
from luciole.options import Options
from luciole.passes.manager import DeveloperOptions, PassContext
from luciole.program.core import Program
from luciole.program.text import render_program
from luciole.program.verify import verify_program

#: The stages in order; `--to` and `--from` name one of them.
STAGES = ("import", "optimize", "lower", "plan", "schedule", "bundle")

P = ParamSpec("P")
T = TypeVar("T")


class StageReached(Exception):
    """The stage that the user wanted to see is done; `value` is what it made."""

    def __init__(self, value: object) -> None:
        super().__init__("stage reached")
        self.value = value


@dataclass(frozen=True)
class Resume:
    """Start behind a stage, with what it made."""

    stage: str
    value: object


class Compilation:
    """Runs stages: `run("plan", plan_memory, program)`. As a context it shows the time table at the end, when asked to."""

    def __init__(
        self,
        source: Path,
        options: Options,
        developer: DeveloperOptions = DeveloperOptions(),
        *,
        stop_after: str = "",
        resume: Resume | None = None,
    ) -> None:
        self.source = source
        self.options = options
        self.passes = PassContext(developer, sys.stderr.write)
        self.target = find_target(options.target)
        self.identity = identify(source, options.name)
        self.lowering = LoweringOptions(options.use_recipes, options.keep_input, options.keep_output)
        self._developer = developer
        self._stop_after = stop_after
        self._resume = resume
        self._latest: object = None

    def __enter__(self) -> Compilation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._developer.time:
            self.passes.write(self.passes.timing_report())

    def __call__(self, stage: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a stage. Bugs become `InternalError` with a reproducer."""
        if self._resume is not None and STAGES.index(stage) <= STAGES.index(self._resume.stage):
            result: Any = self._resume.value
        else:
            result = self._guarded(stage, function, *args, **kwargs)
        self._latest = result
        if stage == self._stop_after:
            raise StageReached(result)
        return result  # type: ignore[no-any-return]  # a resumed stage gives what was read from its file

    def _guarded(self, stage: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with self.passes.measure(stage):
                result = function(*args, **kwargs)
                self._look_at(stage, result)
            return result
        except (
            InternalError,
            AssertionError,
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
        ) as error:
            folder = self._write_reproducer(stage, error)
            message = f"stage {stage} failed: {type(error).__name__}: {error}\n  reproducer: {folder}"
            raise InternalError(message) from error

    def _look_at(self, stage: str, result: object) -> None:
        """Verify a stage's result and show it to whom it may concern."""
        if isinstance(result, Graph):
            self.passes.observe_graph(stage, result)
        elif isinstance(result, Program):
            if self._developer.verify != "off":
                verify_program(result)
            self.passes.observe(
                "program", stage, lambda: render_program(result).text, lambda: render_program(result).arrays
            )

    def _write_reproducer(self, stage: str, error: BaseException) -> str:
        """A folder with the traceback, the command and the last intermediate text; its name is a hash of the traceback."""
        trace = "".join(traceback.format_exception(error))
        folder = Path(f"luciole-crash-{hashlib.sha256(trace.encode()).hexdigest()[:8]}")
        try:
            folder.mkdir(exist_ok=True)
            (folder / "traceback.txt").write_text(trace, encoding="utf-8")
            (folder / "command.txt").write_text(
                " ".join(sys.argv) + f"\nstage {stage}\n{self.options}\n", encoding="utf-8"
            )
            if isinstance(self._latest, Graph):
                (folder / "before.graph").write_text(render_graph(self._latest).text, encoding="utf-8")
            elif isinstance(self._latest, Program):
                (folder / "before.program").write_text(render_program(self._latest).text, encoding="utf-8")
        except (OSError, LucioleError) as problem:
            return f"could not be written whole to {folder}: {problem}"
        return f"{folder}/"

    # Budgets

    def check_ram(self, program: Program) -> None:
        """Raise `CompileError` when the arena exceeds `max_ram`, with what is alive at the peak."""
        limit, needed = self.options.max_ram, program.arena.size_bytes
        if limit is None or needed <= limit:
            return
        raise CompileError.of(
            "does-not-fit",
            f"the arena needs {needed} B, --max-ram allows {limit} B",
            notes=(peak_note(program),),
            help="a smaller input, or int8 instead of float",
            exit_code=EXIT_BUDGET,
        )

    def check_flash(self, bundle: Bundle) -> None:
        """Raise `CompileError` when code and constants exceed `max_flash`."""
        limit, flash = self.options.max_flash, bundle.report.flash
        if limit is None or flash.total_bytes <= limit:
            return
        parts = f"weights {flash.weights_bytes} B, code {flash.code_bytes} B, other constants {flash.rodata_bytes} B"
        raise CompileError.of(
            "does-not-fit",
            f"the bundle needs {flash.total_bytes} B of flash, --max-flash allows {limit} B",
            notes=(parts,),
            exit_code=EXIT_BUDGET,
        )


def peak_note(program: Program) -> str:
    """The largest buffers alive at the instruction where most bytes are."""
    buffers = program.in_region("arena")
    steps = range(-1, len(program.instructions) + 1)
    alive = {s: [b for b in buffers if b.first <= s <= b.last] for s in steps}
    peak = max(steps, key=lambda s: sum(b.size_bytes for b in alive[s]))
    largest = sorted(alive[peak], key=lambda b: (-b.size_bytes, b.name))[:3]
    where = f"instruction {peak}"
    if 0 <= peak < len(program.instructions) and program.instructions[peak].location.node:
        where += f' "{program.instructions[peak].location.node}"'
    return f"largest at the peak ({where}): " + ", ".join(f"%{b.name} {b.size_bytes} B" for b in largest)


def identify(source: Path, name: str) -> ModelIdentity:
    """Name and hash of a model file. Raises `CompileError` when it cannot be read."""
    data = read_file(source)
    arrays = source.with_suffix(".npz")
    if source.suffix == ".graph" and arrays.exists():
        data += read_file(arrays)
    return ModelIdentity(c_identifier(name or source.stem), source.stem, source.name, hashlib.sha256(data).hexdigest())
