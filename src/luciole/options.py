"""All options of a compilation, as one tree of immutable values; the command line and the Python API fill it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, TypedDict, get_args

from luciole.errors import CompileError

Emit = Literal["object", "archive", "c"]
BundleApi = Literal["luciole", "glow"]

#: What to spare: time, whatever it takes; time and flash alike; flash; or RAM, by layers that write over their inputs.
Optimize = Literal["balanced", "speed", "size", "ram"]
OPTIMIZES: tuple[Optimize, ...] = get_args(Optimize)

#: How large weights are written beside C source.
WeightsFormat = Literal["array", "binary"]
WEIGHTS_FORMATS: tuple[WeightsFormat, ...] = get_args(WeightsFormat)

#: The layout of inputs: the model's, or channels last.
InputLayout = Literal["", "nhwc"]
INPUT_LAYOUTS: tuple[InputLayout, ...] = get_args(InputLayout)

#: What a float model becomes: itself, or integers.
QuantizeTo = Literal["", "int8"]
QUANTIZE_TO: tuple[QuantizeTo, ...] = get_args(QuantizeTo)

#: How ranges of reals become scales and zero points, and how the ranges are found; see `luciole.quantize`.
SchemeName = Literal["affine", "symmetric", "symmetric-uint8", "power-of-two"]
SCHEME_NAMES: tuple[SchemeName, ...] = get_args(SchemeName)
ObserverName = Literal["minmax", "moving-average", "percentile", "entropy", "mse"]
OBSERVER_NAMES: tuple[ObserverName, ...] = get_args(ObserverName)

EMITS: tuple[Emit, ...] = get_args(Emit)
BUNDLE_APIS: tuple[BundleApi, ...] = get_args(BundleApi)

#: What can run a model: its meaning at three levels, or machine code.
Stage = Literal["graph", "program", "kernel", "native"]
RUN_STAGES: tuple[Stage, ...] = get_args(Stage)

#: What can run machine code for another core.
Emulator = Literal["", "unicorn", "qemu"]
EMULATORS: tuple[Emulator, ...] = get_args(Emulator)

#: Fields of `Options` that only say how to quantize.
_QUANTIZATION = (
    "quantize",
    "calibration",
    "calibration_samples",
    "data_scale",
    "data_zero",
    "scheme",
    "observer",
    "per_tensor",
    "profile",
    "float_operators",
    "equalize",
    "correct_bias",
)

_UNITS = {"": 1, "B": 1, "K": 1024, "KB": 1024, "KIB": 1024, "M": 1 << 20, "MB": 1 << 20, "MIB": 1 << 20}


class OptionKeywords(TypedDict, total=False):
    """The fields of `Options` but the target, as keywords of `luciole.compile` and `luciole.load`."""

    name: str
    emit: Emit
    bundle_api: BundleApi
    keep_input: bool
    keep_output: bool
    input_rows: bool
    max_ram: int | str | None
    max_flash: int | str | None
    optimize: Optimize
    memory: str | Path
    use_recipes: bool
    keep_all_channels: bool
    require_int8: bool
    weights: WeightsFormat
    input_layout: InputLayout
    quantize: QuantizeTo
    calibration: str | Path
    calibration_samples: int | None
    data_scale: float
    data_zero: float
    scheme: SchemeName
    observer: ObserverName
    per_tensor: bool
    profile: str | Path
    float_operators: Sequence[str]
    equalize: bool
    correct_bias: bool
    dims: Mapping[str, int]


@dataclass(frozen=True)
class Options:
    """What the user asks for. Raises `CompileError` for a word that an option does not know."""

    #: The core, board or machine to compile for; see `luciole targets`.
    target: str = "native"
    #: Prefix of files, functions and macros; the file's stem by default, made C-safe.
    name: str = ""
    #: What the code is written as: an object file, a static library, or C99 source.
    emit: Emit = "object"
    #: The C interface: Luciole's own, or that of Glow's bundles.
    bundle_api: BundleApi = "luciole"
    #: Forbid `run` to overwrite the input; forbid writing an input to overwrite the last output.
    keep_input: bool = False
    keep_output: bool = False
    #: Take the rows of the input from the caller one after another, so that the whole input never lies in RAM.
    input_rows: bool = False
    #: Refuse a bundle whose arena or flash is larger than this, in bytes.
    max_ram: int | None = None
    max_flash: int | None = None
    #: What to spare: "speed" takes the fastest kernels, "size" the smallest within 1.5 times the instructions. With a
    #: `max_ram` that does not hold otherwise, "ram" is tried anyway.
    optimize: Optimize = "balanced"
    #: The board over whose memories the bundle is spread: a name (`luciole targets --boards`), or a TOML file, see
    #: `luciole.ir.board`.
    memory: str = ""
    #: Use hand-scheduled kernels where they apply; off, every layer takes its generic loops.
    use_recipes: bool = True
    #: Keep channels that are proven constant, or that nobody reads.
    keep_all_channels: bool = False
    #: Refuse whatever is computed in floats; float inputs and outputs that are quantized become int8.
    require_int8: bool = False
    #: How C source has weights above 100 KB: as an array, or as a binary file that the assembler includes.
    weights: WeightsFormat = "array"
    #: How images come in: as the model says, or with the channels last where it begins by moving them there.
    input_layout: InputLayout = ""
    #: Make a float model one of integers, by samples of its data: an .npz, an .npy or a folder of these.
    quantize: QuantizeTo = ""
    calibration: str = ""
    #: Calibrate with the first samples only.
    calibration_samples: int | None = None
    #: What stored samples stand for: the reals (x - data_zero) * data_scale.
    data_scale: float = 1.0
    data_zero: float = 0.0
    #: How scales are chosen from ranges, and ranges from samples.
    scheme: SchemeName = "affine"
    observer: ObserverName = "minmax"
    #: One scale for all weights of a layer instead of one for each output channel.
    per_tensor: bool = False
    #: A file of ranges that `luciole quantize --save-profile` wrote; samples may be left out then.
    profile: str = ""
    #: Operators that stay in float: kinds, names of nodes, or names of what they make.
    float_operators: tuple[str, ...] = ()
    #: Balance the weights of neighboring layers; make up in each bias for what rounding the weights does to the mean.
    equalize: bool = False
    correct_bias: bool = False
    #: A number for each named size of an ONNX model's inputs.
    dims: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        check_choice("emit", self.emit, EMITS)
        check_choice("bundle-api", self.bundle_api, BUNDLE_APIS)
        check_choice("optimize", self.optimize, OPTIMIZES)
        check_choice("weights", self.weights, WEIGHTS_FORMATS)
        check_choice("input-layout", self.input_layout, INPUT_LAYOUTS)
        others = {"--keep-input": self.keep_input, "--bundle-api glow": self.bundle_api == "glow"}
        if self.input_rows and (other := next((option for option, given in others.items() if given), "")):
            raise CompileError.of("bad-option", f"--input-rows cannot go with {other}")
        self._check_quantization()
        for option, text in (
            ("target", self.target),
            ("name", self.name),
            ("calibration", self.calibration),
            ("profile", self.profile),
            ("memory", self.memory),
        ):
            if not isinstance(text, str):
                raise CompileError.of("bad-option", f"--{option} must be text, not {text!r}")
        if self.memory and self.bundle_api != "luciole":
            raise CompileError.of("bad-option", f"--memory cannot go with --bundle-api {self.bundle_api}")
        if self.memory and self.max_ram is not None:
            help = "write the size that the model may take into the board's file"
            raise CompileError.of(
                "bad-option", "--max-ram cannot go with --memory, which has sizes of its own", help=help
            )
        for flag in fields(self):
            if isinstance(flag.default, bool) and not isinstance(getattr(self, flag.name), bool):
                raise CompileError.of("bad-option", f"{flag.name} is on or off, not {getattr(self, flag.name)!r}")
        for name, size in self.dims:
            if not isinstance(name, str) or not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise CompileError.of("bad-option", f"--dim must give a name a positive number, not {name!r} {size!r}")
        object.__setattr__(self, "dims", tuple(sorted((name, size) for name, size in self.dims)))
        for option, limit in (("max-ram", self.max_ram), ("max-flash", self.max_flash)):
            if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
                raise CompileError.of("bad-option", f"--{option} must be a number of bytes, not {limit!r}")

    def _check_quantization(self) -> None:
        check_choice("quantize", self.quantize, QUANTIZE_TO)
        check_choice("scheme", self.scheme, SCHEME_NAMES)
        check_choice("observer", self.observer, OBSERVER_NAMES)
        for option, number in (("data-scale", self.data_scale), ("data-zero", self.data_zero)):
            if not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number):
                raise CompileError.of("bad-option", f"--{option} must be a finite number, not {number!r}")
        if self.data_scale == 0:
            raise CompileError.of("bad-option", "--data-scale 0 would make all samples zero")
        count = self.calibration_samples
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise CompileError.of("bad-option", f"--calibration-samples must be a positive number, not {count!r}")
        if not isinstance(self.float_operators, tuple) or not all(isinstance(w, str) for w in self.float_operators):
            raise CompileError.of("bad-option", f"--float-operators are names, not {self.float_operators!r}")
        if self.quantize and not self.calibration and not self.profile:
            raise CompileError.of(
                "no-calibration-data",
                f"--quantize {self.quantize} needs samples of what the model will see",
                help="--calibration FILE.npz with an array `x`, or arrays by input name; about a hundred samples",
            )
        alone = {
            "calibration": self.calibration,
            "profile": self.profile,
            "float-operators": self.float_operators,
            "equalize": self.equalize,
            "correct-bias": self.correct_bias,
        }
        if not self.quantize and (said := [f"--{option}" for option, value in alone.items() if value]):
            verb = "says" if len(said) == 1 else "say"
            problem = f"{', '.join(said)} {verb} nothing without --quantize"
            raise CompileError.of("bad-option", problem, help="add --quantize int8")

    def differing(self) -> tuple[tuple[str, str | int | bool | None], ...]:
        """The options that are not as they are by default, by name; the target and the model's name apart.

        How the model was quantized is not among them: a remark on the graph tells that.
        """
        plain = Options()
        apart = ("target", "name", "dims", "memory", *_QUANTIZATION)
        names = [f.name for f in fields(self) if f.name not in apart]
        given = [(n, getattr(self, n)) for n in names if getattr(self, n) != getattr(plain, n)]
        bound = ", ".join(f"{name}={size}" for name, size in self.dims)
        if self.memory:
            given.append(("memory", Path(self.memory).name))
        return (*given, ("dims", bound)) if bound else tuple(given)


def check_choice(option: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise `CompileError` unless an option's value is one of the words it knows."""
    if value not in allowed:
        words = ", ".join(word for word in allowed if word)
        raise CompileError.of("bad-option", f'--{option} cannot be "{value}"', help=f"it is one of {words}")


def parse_size(text: str) -> int:
    """Bytes from `65536`, `64K`, `64 KiB` or `1M` (units of 1024). Raises `CompileError` for other texts."""
    match = re.fullmatch(r"(\d{1,12})\s*([a-zA-Z]*)", text.strip(), re.ASCII)
    if match is None or match[2].upper() not in _UNITS:
        raise CompileError.of("bad-option", f'"{text}" is no size', help="write bytes, or 64K, or 1M")
    return int(match[1]) * _UNITS[match[2].upper()]


def parse_dim(text: str) -> tuple[str, int]:
    """A name and its number from `batch=1`. Raises `CompileError` for other texts."""
    name, _, size = text.rpartition("=")
    if not name or not re.fullmatch(r"[1-9]\d{0,8}", size, re.ASCII):
        raise CompileError.of("bad-option", f'"{text}" gives no size a number', help="write batch=1")
    return name, int(size)


def make_options(target: str, given: OptionKeywords) -> Options:
    """Options from keywords; sizes may be text such as `64K`. Raises `CompileError` that names the unknown ones."""
    known = [f.name for f in fields(Options)]
    if unknown := sorted(set(given) - set(known)):
        problem = f"unknown option{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}"
        raise CompileError.of("bad-option", problem, help=f"options are {', '.join(known)}")
    paths = {key: str(path) for key in ("calibration", "profile", "memory") if isinstance(path := given.get(key), Path)}
    sizes = {key: parse_size(size) for key in ("max_ram", "max_flash") if isinstance(size := given.get(key), str)}
    dims = {"dims": tuple(given["dims"].items())} if isinstance(given.get("dims"), Mapping) else {}
    words = given.get("float_operators")
    names = {"float_operators": tuple(words)} if isinstance(words, Sequence) and not isinstance(words, str) else {}
    return replace(Options(target), **{**given, **sizes, **paths, **dims, **names})  # type: ignore[arg-type]  # texts were replaced by sizes
