"""How to quantize."""

from __future__ import annotations

from dataclasses import dataclass

from luciole.errors import EXIT_UNSUPPORTED, CompileError
from luciole.ir.types import DType
from luciole.quantize.observe import OBSERVERS
from luciole.quantize.schemes import SCHEMES

#: Element types of activations that schemes know.
ACTIVATION_TYPES = (DType.I8, DType.I16)


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantize. Raises `CompileError` for a scheme or observer that is not known."""

    #: How ranges become scales and zero points; one of `SCHEMES`.
    scheme: str = "affine"
    #: How ranges are found; one of `OBSERVERS`.
    observer: str = "minmax"
    #: One scale for each output channel of weights, or one for all.
    per_channel: bool = True
    #: Operators that stay in float: kinds, names of nodes, or names of what they make.
    float_operators: tuple[str, ...] = ()
    #: Balance the weights of neighboring layers first (`equalize`).
    equalize: bool = False
    #: Make up in each bias for what rounding the weights does to the mean.
    correct_bias: bool = False
    #: The element type of activations. Schemes know i16 too, with weights of i8; operators do not compute it yet.
    activations: DType = DType.I8

    def __post_init__(self) -> None:
        for option, value, known in (("scheme", self.scheme, SCHEMES), ("observer", self.observer, OBSERVERS)):
            if value not in known:
                help = f"it is one of {', '.join(known)}"
                raise CompileError.of("bad-option", f'--{option} cannot be "{value}"', help=help)
        if self.activations is not DType.I8:
            raise CompileError.of(
                "unsupported-quantization",
                f"no operator computes activations of {self.activations.value}",
                help="activations of i8",
                exit_code=EXIT_UNSUPPORTED,
            )

    def describe(self) -> str:
        """Scheme, weights, observer, and what else was asked for, in words."""
        weights = "per channel" if self.per_channel else "per tensor"
        words = [f"scheme {self.scheme}", f"weights {weights}", f"ranges by {self.observer}"]
        words += ["layers equalized"] * self.equalize + ["biases corrected"] * self.correct_bias
        return ", ".join(words)
