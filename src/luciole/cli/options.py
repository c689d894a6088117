"""Options that verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from luciole.compilation import STAGES
from luciole.errors import CompileError
from luciole.options import (
    BUNDLE_APIS,
    EMITS,
    OBSERVER_NAMES,
    OPTIMIZES,
    QUANTIZE_TO,
    SCHEME_NAMES,
    WEIGHTS_FORMATS,
    Options,
    parse_dim,
    parse_size,
)
from luciole.passes.manager import DeveloperOptions

Command = TypeVar("Command", bound=Callable[..., Any])


class SizeType(click.ParamType[int]):
    """Bytes, as `65536`, `64K` or `1M` (units of 1024)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes that a text stands for."""
        try:
            return value if isinstance(value, int) else parse_size(str(value))
        except CompileError as error:
            (problem,) = error.diagnostics
            self.fail(f"{problem.message}; {problem.help}", param, ctx)


class DimType(click.ParamType[tuple[str, int]]):
    """A named size and its number, as `batch=1`."""

    name = "dim"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """The name and the number that a text stands for."""
        try:
            return value if isinstance(value, tuple) else parse_dim(str(value))
        except CompileError as error:
            (problem,) = error.diagnostics
            self.fail(f"{problem.message}; {problem.help}", param, ctx)


_DIM_OPTION = click.option(
    "--dim", "dims", type=DimType(), multiple=True, metavar="NAME=N", help="Number for a named size (ONNX inputs)."
)

_COMPILE_OPTIONS = [
    click.option("--target", "-t", help="Core or machine; see `luciole targets`.  [default: native]"),
    click.option("--name", default="", help="Prefix of files and functions.  [default: the file's stem]"),
    click.option("--emit", type=click.Choice(EMITS), default="object", show_default=True, help="Form of the code."),
    click.option(
        "--bundle-api", type=click.Choice(BUNDLE_APIS), default="luciole", show_default=True, help="C interface."
    ),
    click.option("--keep-input", is_flag=True, help="Let `run` leave the input as it was (costs RAM)."),
    click.option("--keep-output", is_flag=True, help="Keep the last output while an input is written (costs RAM)."),
    click.option("--input-rows", is_flag=True, help="Take the input row by row, as a camera gives it; saves RAM."),
    click.option("--input-layout", type=click.Choice(["nhwc"]), help="Take images channels last, without a transpose."),
    click.option(
        "--optimize",
        type=click.Choice(OPTIMIZES),
        default="balanced",
        show_default=True,
        help="What to spare: time, flash, both alike, or RAM.",
    ),
    click.option(
        "--memory",
        metavar="BOARD",
        default="",
        help="Spread the bundle over a board's memories: its name, or a TOML file.",
    ),
    click.option("--max-ram", type=SizeType(), help="The fastest program whose arena fits into this, such as 64K."),
    click.option("--max-flash", type=SizeType(), help="Take the fastest kernels within this flash, such as 256K."),
    click.option(
        "--weights",
        type=click.Choice(WEIGHTS_FORMATS),
        default="array",
        show_default=True,
        help="Form of large C weights.",
    ),
    click.option("--keep-all-channels", is_flag=True, help="Keep channels that are constant or never read."),
    click.option("--require-int8", is_flag=True, help="Refuse floats; inputs and outputs become int8."),
    click.option("--generic-kernels", is_flag=True, help="Use no hand-scheduled kernels."),
    _DIM_OPTION,
]

#: How stored samples are to be read.
_DATA_OPTIONS = [
    click.option("--data-scale", type=float, default=1.0, help="Samples stand for the reals (x - zero) * scale."),
    click.option("--data-zero", type=float, default=0.0, help="See --data-scale."),
]

_CALIBRATION_OPTIONS = [
    click.option("--calibration", metavar="FILE", default="", help="Samples to quantize with: .npz or folder of .npy."),
    click.option("--calibration-samples", type=click.IntRange(1), help="Calibrate with the first samples only."),
    click.option(
        "--scheme", type=click.Choice(SCHEME_NAMES), default="affine", show_default=True, help="How scales are chosen."
    ),
    click.option(
        "--observer",
        type=click.Choice(OBSERVER_NAMES),
        default="minmax",
        show_default=True,
        help="How ranges of reals are found.",
    ),
    click.option("--per-tensor", is_flag=True, help="One scale for all weights of a layer, not one a channel."),
    click.option(
        "--float-operators",
        multiple=True,
        metavar="NAME_OR_KIND,...",
        help="Operators that stay in float: kinds, or names of nodes or tensors.",
    ),
    click.option("--equalize", is_flag=True, help="Balance the weights of neighboring layers first."),
    click.option("--correct-bias", is_flag=True, help="Make up for what rounding the weights does to means."),
    click.option(
        "--profile", metavar="FILE", default="", help="Ranges that --save-profile wrote; without samples too."
    ),
    *_DATA_OPTIONS,
]

_QUANTIZE_OPTION = click.option(
    "--quantize", type=click.Choice([word for word in QUANTIZE_TO if word]), help="Make a float model one of integers."
)

_DEVELOPER_OPTIONS = [
    click.option(
        "--print-before", multiple=True, metavar="PASS", help="Print the text before a pass, or before `all`."
    ),
    click.option(
        "--print-after", multiple=True, metavar="PASS", help="Print the text after a pass or stage, or after `all`."
    ),
    click.option("--print-changed", is_flag=True, help="Print what each pass changed, as a diff."),
    click.option("--dump", type=click.Path(path_type=Path), help="Write the text after each change into this folder."),
    click.option(
        "--verify", type=click.Choice(["each", "ends", "off"]), default="ends", help="When to check invariants."
    ),
    click.option("--time", "show_time", is_flag=True, help="Print where the time went."),
    click.option("--trace-rules", is_flag=True, help="Print each rewriting as it happens."),
    click.option("--limit-rules", type=click.IntRange(0), help="Rewrite only so often, to find what breaks a model."),
]

#: For `--to` and `--from`.
STAGE_TYPE = click.Choice(STAGES[:-1])


def model_argument(command: Command) -> Command:
    """The model file."""
    return click.argument("model", type=click.Path(path_type=Path))(command)


def compile_options(command: Command) -> Command:
    """The options of a compilation, passed on as keywords; `options_of` and `developer_of` collect them."""
    for option in reversed([*_COMPILE_OPTIONS, _QUANTIZE_OPTION, *_CALIBRATION_OPTIONS, *_DEVELOPER_OPTIONS]):
        command = option(command)
    return command


def calibration_options(command: Command) -> Command:
    """The options of import and quantization alone, passed on as keywords."""
    for option in reversed([*_CALIBRATION_OPTIONS, _DIM_OPTION]):
        command = option(command)
    return command


def emulator_option(command: Command) -> Command:
    """What emulates a core."""
    choice = click.Choice(["unicorn", "qemu"])
    return click.option("--emulator", type=choice, help="For emulated cores.  [default: whichever has the core]")(
        command
    )


def options_of(given: dict[str, Any]) -> Options:
    """The compile options among a command's keywords."""
    return Options(
        target=given["target"] or "native",
        name=given["name"],
        emit=given["emit"],
        bundle_api=given["bundle_api"],
        keep_input=given["keep_input"],
        keep_output=given["keep_output"],
        input_rows=given["input_rows"],
        optimize=given["optimize"],
        memory=given["memory"],
        max_ram=given["max_ram"],
        max_flash=given["max_flash"],
        use_recipes=not given["generic_kernels"],
        keep_all_channels=given["keep_all_channels"],
        require_int8=given["require_int8"],
        input_layout=given["input_layout"] or "",
        weights=given["weights"],
        dims=given["dims"],
        quantize=given["quantize"] or "",
        **quantization_of(given),
    )


def quantization_of(given: dict[str, Any]) -> dict[str, Any]:
    """The options of quantization among a command's keywords, as fields of `Options`."""
    names = ["calibration", "calibration_samples", "scheme", "observer", "per_tensor", "data_scale", "data_zero"]
    names += ["equalize", "correct_bias", "profile"]
    words = tuple(word for text in given["float_operators"] for word in text.split(",") if word)
    return {name: given[name] for name in names} | {"float_operators": words}


def developer_of(given: dict[str, Any]) -> DeveloperOptions:
    """The developer options among a command's keywords."""
    return DeveloperOptions(
        print_before=given["print_before"],
        print_after=given["print_after"],
        print_changed=given["print_changed"],
        dump=cast(Path | None, given["dump"]),
        verify=given["verify"],
        time=given["show_time"],
        trace_rules=given["trace_rules"],
        limit_rules=given["limit_rules"],
    )
