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

#: The comment on the first line that says which model a text was made of, and with which options so far.
_MODEL_COMMENT = "# model "

#: Options that act in a stage before the last, with their flag and that stage: behind it they come too late.
_EARLY_OPTIONS = {
    "require_int8": ("--require-int8", "quantize"),
    "keep_all_channels": ("--keep-all-channels", "optimize"),
    "keep_input": ("--keep-input", "lower"),
    "keep_output": ("--keep-output", "lower"),
    "use_recipes": ("--generic-kernels", "lower"),
}


@dataclass(frozen=True)
class Origin:
    """What a text was made of: the model, and the options that acted so far."""

    identity: ModelIdentity
    options: dict[str, bool]

    @property
    def is_sound(self) -> bool:
        """Whether all parts are what they should be; they come from a file that may say anything."""
        model = self.identity
        texts = (model.name, model.original_name, model.file, model.sha256)
        return (
            all(isinstance(text, str) for text in texts)
            and all(name in _EARLY_OPTIONS and isinstance(flag, bool) for name, flag in self.options.items())
            and c_identifier(model.name) == model.name
            and "/" not in model.file
            and re.fullmatch("[0-9a-f]{64}", model.sha256) is not None
        )


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
    origin = _read_origin(source, options.name)
    load_operators()
    recipes()  # the text of a program names the intrinsics of its kernels
    value = load_graph(source) if from_stage in GRAPH_STAGES else load_program(source)
    options = _options_behind(from_stage, options, origin)
    if isinstance(value, Program):
        options = _options_of_program(value, options, has_target)
    return _compile(source, options, developer, origin.identity, Resume(from_stage, value), to_stage)


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
    decided = {name: getattr(options, name) for name in _decided_options(stage)}
    origin = json.dumps(asdict(Origin(identity, decided)))
    return StageText(stage, f"{_MODEL_COMMENT}{origin}\n{rendered.text}", rendered.arrays)


def _decided_options(stage: str) -> dict[str, str]:
    """Options that have acted once a stage is done, with their flags."""
    done = STAGES.index(stage)
    return {name: flag for name, (flag, acts) in _EARLY_OPTIONS.items() if STAGES.index(acts) <= done}


def _options_behind(stage: str, options: Options, origin: Origin) -> Options:
    """The options with those that acted before as they were then; asking for others now is an error."""
    decided, given = _decided_options(stage), {name for name, _ in options.differing()}
    flags = {"dims": "--dim", **decided}  # sizes that were bound are in the text already
    if late := [flag for name, flag in flags.items() if name in given]:
        raise CompileError.of(
            "bad-option",
            f"{', '.join(late)} comes too late: stage {stage} is done",
            help="compile from an earlier stage",
        )
    return replace(options, **{name: flag for name, flag in origin.options.items() if name in decided})  # type: ignore[arg-type]  # all are flags


def _options_of_program(program: Program, options: Options, has_target: bool) -> Options:
    """The options for a program, which was made for a target."""
    if has_target and options.target != program.target:
        raise CompileError.of(
            "bad-option",
            f"the program was made for {program.target}, not for {options.target}",
            help="leave --target away, or compile from an earlier stage",
        )
    return replace(options, target=program.target)


def _read_origin(source: Path, name: str) -> Origin:
    """Where a text comes from, by its first line; without that line it is the text itself.

    Raises `CompileError` when the file cannot be read or the line is damaged.
    """
    line = read_file(source).partition(b"\n")[0]
    if not line.startswith(_MODEL_COMMENT.encode()):
        return Origin(identify(source, name), {})
    try:
        fields = json.loads(line[len(_MODEL_COMMENT) :])
        origin = Origin(ModelIdentity(**fields["identity"]), dict(fields["options"]))
        if not origin.is_sound:
            raise ValueError
    except (ValueError, TypeError, LookupError, RecursionError):
        raise CompileError.of(
            "bad-data",
            "the first line does not say which model this text was made of",
            Location(str(source)),
            help="take the line away, or write the file again with --to",
        ) from None
    return replace(origin, identity=replace(origin.identity, name=c_identifier(name))) if name else origin
