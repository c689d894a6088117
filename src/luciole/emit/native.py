"""The only file that imports llvmlite: LLVM assembly in, object code out; and objects run in this process.

Traps of llvmlite that this file knows: there is no `-ffunction-sections` (functions name their section themselves),
objects for hard-float Arm carry the wrong attribute (patched here), inline assembly for foreign targets aborts the
process (none is used).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from luciole.errors import InternalError
from luciole.ir.target import Target

#: LLVM's options for code generation, which hold for the process: set anew for every object.
_OPTIONS = {
    "enable-misched": "true",
    # It cannot handle the labels that fences become, and found next to nothing to do.
    "enable-pipeliner": "false",
    "pre-RA-sched": "default",
    "riscv-enable-machine-combiner": "true",
    "disable-machine-sink": "false",
    "enable-arm-maskedgatscat": "true",
}

#: Cores with eight registers for most instructions.
_BASELINE = {"enable-misched": "false", "pre-RA-sched": "source", "disable-machine-sink": "true"}
#: What differs by the beginning of a triple. Register-tiled kernels are written in the order in which their sums fit
#: the registers; these cores' schedulers would gather products first and additions later, and spill.
#: Where a clamp is made of branches, sums would sink below those of their neighbors, and operands would be spilled.
_OPTIONS_OF = {
    "thumbv6m": _BASELINE,
    "thumbv8m.base": _BASELINE,
    "thumbv7m-": {"enable-misched": "false"},
    "riscv32": {
        "enable-misched": "false",
        "riscv-enable-machine-combiner": "false",
        "disable-machine-sink": "true",
    },
    # LLVM 22 moves what is added to the index of a gather into the start of the loop's counter, which the end of the
    # loop is compared with too: loops ran 2**32 times. Gathers take four loads anyway.
    "thumbv8.1m": {"enable-arm-maskedgatscat": "false"},
}


@dataclass(frozen=True)
class LlvmModule:
    """Assembly text of one module. `optimize` runs the loop and scalar pipeline; hand-scheduled kernels go without."""

    text: str
    optimize: bool = True
    unroll: bool = False


@cache
def _binding() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm


def native_triple() -> str:
    """The triple of this machine's process."""
    return str(_binding().get_process_triple())


def _target_machine(target: Target, *, jit: bool = False) -> Any:
    llvm = _binding()
    if target.is_native:
        features = llvm.get_host_cpu_features().flatten()
        return llvm.Target.from_triple(native_triple()).create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=features, opt=3, reloc="pic", codemodel="default"
        )
    reloc = "pic" if target.pointer_bytes == 8 else "static"
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.llvm_features,
        opt=3,
        reloc=reloc,
        codemodel=target.code_model,
        abiname=target.abi_name,
    )


def _set_options(target: Target) -> None:
    """Set all options of code generation to what a target takes."""
    own: dict[str, str] = {}
    for triple, options in _OPTIONS_OF.items():
        if target.triple.startswith(triple):
            own = options
    if target.has("rvv"):
        own = own | {"enable-misched": "false"}
    for name, value in (_OPTIONS | own).items():
        _binding().set_option("luciole", f"-{name}={value}")


def compile_object(modules: Iterable[LlvmModule], target: Target) -> bytes:
    """Link modules into one relocatable object. Raises `InternalError` when LLVM refuses a module, with its words."""
    llvm = _binding()
    _set_options(target)
    machine = _target_machine(target)
    linked: Any = None
    for module in modules:
        parsed = _parse(module, target, machine)
        if linked is None:
            linked = parsed
        else:
            linked.link_in(parsed)
    del llvm
    return _patch_attributes(bytes(machine.emit_object(linked)), target)


def _parse(module: LlvmModule, target: Target, machine: Any) -> Any:
    llvm = _binding()
    triple = native_triple() if target.is_native else target.triple
    try:
        parsed = llvm.parse_assembly(f'target triple = "{triple}"\n{module.text}')
        parsed.verify()
    except RuntimeError as error:
        raise InternalError(f"LLVM refuses our assembly: {error}\n{module.text}") from error
    parsed.data_layout = str(machine.target_data)
    if module.optimize:
        is_wide = target.pointer_bytes == 8
        options = llvm.create_pipeline_tuning_options(speed_level=3 if is_wide else 2)
        options.loop_vectorization = is_wide or target.has("mve") or target.has("rvv")
        options.slp_vectorization = is_wide
        options.loop_unrolling = is_wide or module.unroll
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(parsed, builder)
    return parsed


def _patch_attributes(data: bytes, target: Target) -> bytes:
    """Mark a hard-float Arm object as such, so that linkers take it.

    llvmlite's objects say ABI_FP_number_model = 3 and nothing of VFP arguments; the two bytes (tag 23, value 3) become
    (tag 28 = ABI_VFP_args, value 1). Tags: Addenda to the ABI for the Arm Architecture, section 3.3.
    """
    if not target.triple.endswith("eabihf"):
        return data
    start = data.find(b"aeabi\0")
    position = data.find(bytes([23, 3]), start) if start >= 0 else -1
    if position < 0:
        return data
    return data[:position] + bytes([28, 1]) + data[position + 2 :]


class LoadedObject:
    """An object for this machine, loaded into this process."""

    def __init__(self, data: bytes) -> None:
        llvm = _binding()
        target = llvm.Target.from_triple(native_triple())
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target.create_target_machine())
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(data))
        self._engine.finalize_object()

    def address(self, symbol: str) -> int:
        """Where a symbol lies. Raises `KeyError` when there is none."""
        address = int(self._engine.get_function_address(symbol))
        if not address:
            raise KeyError(symbol)
        return address
