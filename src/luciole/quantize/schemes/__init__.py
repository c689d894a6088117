"""Schemes: how ranges of reals become scales and zero points."""

from luciole.quantize.schemes.affine import Affine
from luciole.quantize.schemes.base import Scheme
from luciole.quantize.schemes.power_of_two import PowerOfTwo
from luciole.quantize.schemes.symmetric import Symmetric, SymmetricUnsigned

#: Every scheme by its name.
SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme for scheme in (Affine(), Symmetric(), SymmetricUnsigned(), PowerOfTwo())
}

__all__ = ["SCHEMES", "Scheme"]
