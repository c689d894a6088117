"""`--to` and `--from`: stop behind a stage and show its text, or go on from such a text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from luciole.bundle import Bundle, ModelIdentity
from luciole.cli.files import write_files
from luciole.compilation import GRAPH_STAGES, STAGES, Compilation, Resume, StageReached, identify
from luciole.driver import build_bundle, build_program
from luciole.emit.entry import c_identifier
from luciole.errors import CompileError, Location
from luciole.graph.core import Graph
from luciole.graph.text import load_graph, render_graph, write_npz
from luciole.importers.files import read_file
from luciole.ir.types import Array
from luciole.ops.catalog import load_operators
from luciole.options import Options
from luciole.passes.manager import DeveloperOptions
from luciole.program.core import Program
from luciole.program.text import load_program, render_program
from luciole.targets.base import recipes

#: The comment on the first line that says which model a text was made of, and with which options of lowering.
_MODEL_COMMENT = "# model "
_LOWERING_OPTIONS = {"keep_input": "--keep-input", "keep_output": "--keep-output", "use_recipes": "--generic-kernels"}


@dataclass(frozen=True)
class StageText:
    """What a stage made: its text, and the arrays that the text names by hash."""

    stage: str
    text: str
    arrays: Mapping[str, Array]

    @property
    def suffix(self) -> str:
        """The suffix of files with such a text."""
        return ".graph" if self.stage in GRAPH_STAGES else ".program"

    def save(self, path: Path) -> tuple[Path, ...]:
        """Write the text, and the arrays into an `.npz` beside it; the files. Raises `CompileError`."""
        if path.suffix != self.suffix:
            raise CompileError.of(
                "bad-option", f"what stage {self.stage} makes is a {self.suffix} file, not {path.suffix or 'a folder'}"
            )
        files = {path: self.text.encode("utf-8")}
        if self.arrays:
            files[path.with_suffix(".npz")] = write_npz(self.arrays)
        write_files(files)
        return tuple(files)


def compile_between(
    source: Path,
    options: Options,
    developer: DeveloperOptions,
    from_stage: str,
    to_stage: str,
    *,
    has_target: bool,
) -> Bundle | StageText:
    """The bundle, or the text of the stage to stop behind; `has_target` tells whether the user named a target.

    A program is made for a target and by the options of lowering, so it is an error to ask for others later. Raises
    `CompileError` for that, and when `to` comes before `from`.
    """
    if from_stage and to_stage and STAGES.index(to_stage) < STAGES.index(from_stage):
        raise CompileError.of("bad-option", f"--to {to_stage} comes before --from {from_stage}")
    if not from_stage:
        return _compile(source, options, developer, identify(source, options.name), None, to_stage)
    identity, lowering = _read_origin(source, options.name)
    load_operators()
    recipes()  # the text of a program names the intrinsics of its kernels
    value = load_graph(source) if from_stage in GRAPH_STAGES else load_program(source)
    if isinstance(value, Program):
        options = _options_of_program(value, options, lowering, has_target)
    return _compile(source, options, developer, identity, Resume(from_stage, value), to_stage)


def _compile(
    source: Path,
    options: Options,
    developer: DeveloperOptions,
    identity: ModelIdentity,
    resume: Resume | None,
    to_stage: str,
) -> Bundle | StageText:
    with Compilation(source, options, developer, identity=identity, stop_after=to_stage, resume=resume) as run:
        try:
            return build_bundle(run, build_program(run))
        except StageReached as reached:
            return _stage_text(to_stage, reached.value, identity, options)


def _stage_text(stage: str, value: Graph | Program, identity: ModelIdentity, options: Options) -> StageText:
    """A stage's text, headed by the model it was made of."""
    rendered = render_graph(value) if isinstance(value, Graph) else render_program(value)
    lowering = {name: getattr(options, name) for name in _LOWERING_OPTIONS} if isinstance(value, Program) else {}
    origin = json.dumps({"identity": asdict(identity), "lowering": lowering})
    return StageText(stage, f"{_MODEL_COMMENT}{origin}\n{rendered.text}", rendered.arrays)


def _options_of_program(program: Program, options: Options, lowering: dict[str, bool], has_target: bool) -> Options:
    """The options for a program that was lowered already, with those of lowering as they were then."""
    if has_target and options.target != program.target:
        raise CompileError.of(
            "bad-option",
            f"the program was made for {program.target}, not for {options.target}",
            help="leave --target away, or compile from an earlier stage",
        )
    given = {name for name, _ in options.differing()}
    if late := [flag for name, flag in _LOWERING_OPTIONS.items() if name in given]:
        raise CompileError.of(
            "bad-option",
            f"{', '.join(late)} comes too late: the program is lowered already",
            help="compile from an earlier stage",
        )
    return replace(options, target=program.target, **lowering)  # type: ignore[arg-type]  # all three are flags


def _read_origin(source: Path, name: str) -> tuple[ModelIdentity, dict[str, bool]]:
    """The model that a text was made of and its options of lowering, by the first line.

    Without that line it is the text itself. Raises `CompileError` when the file cannot be read or the line is damaged.
    """
    line = read_file(source).partition(b"\n")[0]
    if not line.startswith(_MODEL_COMMENT.encode()):
        return identify(source, name), {}
    try:
        origin = json.loads(line[len(_MODEL_COMMENT) :])
        found, lowering = ModelIdentity(**origin["identity"]), dict(origin["lowering"])
        texts = [found.name, found.original_name, found.file, found.sha256]
        is_sound = all(isinstance(text, str) for text in texts) and c_identifier(found.name) == found.name
        are_flags = all(name in _LOWERING_OPTIONS and isinstance(flag, bool) for name, flag in lowering.items())
        if not is_sound or not are_flags or "/" in found.file or not re.fullmatch("[0-9a-f]{64}", found.sha256):
            raise ValueError
    except (ValueError, TypeError, LookupError, RecursionError):
        raise CompileError.of(
            "bad-data",
            "the first line does not say which model this text was made of",
            Location(str(source)),
            help="take the line away, or write the file again with --to",
        ) from None
    return (replace(found, name=c_identifier(name)) if name else found), lowering
