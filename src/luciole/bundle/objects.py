"""The object of a bundle: entry functions, kernels and weights in one file for the linker."""

from __future__ import annotations

from luciole.bundle.elf import without_unwind_tables
from luciole.bundle.interface import MUTABLE, Api
from luciole.emit.entry import kernel_function, print_entry_llvm, print_glow_entry_llvm, print_weights_llvm
from luciole.emit.llvm import print_kernel_llvm
from luciole.emit.native import LlvmModule, compile_object
from luciole.ir.target import Target
from luciole.program.core import Program


def build_object(program: Program, prefix: str, target: Target, api: Api = "luciole") -> bytes:
    """The relocatable ELF file of a planned program: `<prefix>_init`, `_run` and accessors are global, all else is
    hidden.

    Each function has a section `.text.<function>`, so that linkers place and drop them one by one; the weights are in
    `.rodata.<prefix>_weights`. Glow's interface has one global function and no weights. The same program gives the
    same bytes.
    """
    if api == "glow":
        entry = [print_glow_entry_llvm(program, prefix, MUTABLE)]
    else:
        entry = [print_entry_llvm(program, prefix, target), print_weights_llvm(program, prefix)]
    modules = [LlvmModule(text, optimize=False) for text in entry]
    modules += kernel_modules(program, prefix, target)
    return without_unwind_tables(compile_object(modules, target))


def kernel_modules(program: Program, prefix: str, target: Target) -> list[LlvmModule]:
    """One module a kernel; hand-scheduled kernels are not optimized, they are what they should be."""
    modules = []
    for name, kernel in program.kernels.items():
        function = kernel_function(prefix, name)
        text = print_kernel_llvm(kernel, function, target, section=f".text.{function}")
        modules.append(LlvmModule(_hidden(text, function), optimize=not kernel.is_scheduled))
    return modules


def _hidden(text: str, function: str) -> str:
    """The module with the kernel's function visible inside the bundle's program or library only."""
    return text.replace(f"define void @{function}(", f"define hidden void @{function}(", 1)
