"""Kernels made fit for a target: vectors where it has them, and what its cores lack by what they have."""

from __future__ import annotations

from dataclasses import replace

from luciole.ir.target import Target
from luciole.kernel.core import Kernel
from luciole.kernel.float_hardware import use_floats
from luciole.kernel.transform import expand_long_multiply
from luciole.kernel.vectorize import vectorize
from luciole.program.core import Program
from luciole.targets.mve.unit import MVE
from luciole.targets.rvv.unit import RVV


def schedule_kernels(program: Program, target: Target) -> Program:
    """The same program with its kernels rewritten for the target."""
    return replace(program, kernels={name: scheduled(kernel, target) for name, kernel in program.kernels.items()})


def scheduled(kernel: Kernel, target: Target) -> Kernel:
    """A kernel rewritten for the target.

    Loops that recipes mark become loops over vectors where there are any. Cores without a 32x32 -> 64 multiply get one
    made of 16-bit parts, so that no helper function is called. Cores with floating-point hardware round as float32 does
    by that hardware.
    """
    if target.has("mve"):
        kernel = vectorize(kernel, MVE)
    elif target.has("rvv"):
        kernel = vectorize(kernel, RVV)
    if target.has("fpu"):
        kernel = use_floats(kernel)
    return kernel if target.has("long_multiply") else expand_long_multiply(kernel)
