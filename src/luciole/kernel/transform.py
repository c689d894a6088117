"""Transforms: free functions `Kernel -> Kernel` that change how a kernel computes and not what."""

from luciole.kernel.long_arithmetic import expand_long_multiply

__all__ = ["expand_long_multiply"]
