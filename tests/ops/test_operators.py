"""Every operator, every sample: types, text, kernel interpreter, machine code of this and of emulated cores, and C."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from luciole.emit.native import LoadedObject
from luciole.emulate.cores import find_core
from luciole.emulate.unicorn_machine import EmulatedMachine
from luciole.graph.core import OPERATORS, Graph, Value
from luciole.graph.text import parse_graph, render_graph
from luciole.ir.target import find_target, load_targets
from luciole.ir.types import Array, DType
from luciole.kernel.interpret import run_kernel
from luciole.kernel.parse import parse_kernel
from luciole.kernel.text import print_kernel
from luciole.kernel.verify import verify_kernel
from luciole.lower.inplace import in_place_operands, merge_parameters
from luciole.ops.catalog import load_operators
from support.native_c import call_kernel, compile_c, kernels_source
from support.operator_samples import (
    Sample,
    assert_nearly_equal,
    call_address,
    compile_samples,
    dtypes_of,
    float_samples,
    integer_samples,
    long_samples,
    one_of_each,
    samples,
)

every_sample = pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)

#: Operators that exist for one element type only.
ONE_TYPE = {
    "quantize",
    "dequantize",
    "requantize",
    "resize_bilinear",
    "fused",
    "annotate",
    "as_uint8",
    "dequantize_channels",
    "lookup",
}
#: Operators of floats alone.
FLOAT_ONLY = {"clamp", "max_unpool", "grid_sample", "roi_align", "quantize_channels", "resample", "rnn", "gru", "lstm"}
#: Operators of truth values and integers alone.
INTEGER_ONLY = {"as_int8", "and", "or", "xor", "not", "shift_left", "shift_right"}
INTEGER_ONLY |= {"remainder", "matmul_integer", "conv2d_integer"}
FLOAT_ONLY |= {"float_remainder", "power", "exp", "expm1", "log", "log1p", "sqrt", "erf", "floor", "round"}
FLOAT_ONLY |= {"sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"}

#: Support functions for floats that an object may need where there is no FPU (Run-time ABI for the Arm Architecture,
#: section 4.1.2, and the same of gcc's libgcc for other cores).
SOFT_FLOAT_PREFIXES = ("__aeabi_f", "__aeabi_i2f", "__aeabi_ui2f", "__adds", "__subs", "__muls", "__divs")
SOFT_FLOAT_PREFIXES += ("__eqs", "__nes", "__lts", "__les", "__gts", "__ges", "__unords", "__float", "__fixs")
SOFT_FLOAT_PREFIXES += ("__fixunss",)
#: And those for numbers of 64 bits.
LONG_PREFIXES = (*SOFT_FLOAT_PREFIXES, "__aeabi_l", "__aeabi_ul", "__divd", "__udivd", "__modd", "__umodd", "__muld")


def kinds() -> list[str]:
    """The kinds of all operators but those that tests define."""
    return [kind for kind, cls in load_operators().items() if cls.__module__.startswith("luciole.")]


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind != "fused"])
def test_an_operator_has_samples_of_the_types_it_takes(kind: str) -> None:
    wanted = {DType.F32, DType.I8} if kind not in ONE_TYPE - {"quantize", "dequantize"} else {DType.I8}
    wanted -= {DType.I8} if kind in FLOAT_ONLY else {DType.F32, DType.I8} if kind in INTEGER_ONLY else set()
    assert wanted <= dtypes_of(kind)
    assert (OPERATORS[kind].__doc__ or "").startswith("y")


@every_sample
def test_numpy_computes_what_the_type_says(sample: Sample) -> None:
    for array, type in zip(sample.expected, sample.op.result_types(), strict=True):
        assert (array.shape, array.dtype) == (type.shape, type.dtype.numpy)
    assert sample.op.macs() >= 0


@every_sample
def test_the_kernel_interpreter_agrees_with_numpy(sample: Sample) -> None:
    sample.check(run_kernel(sample.bound.kernel, sample.buffers()))


@every_sample
def test_kernels_are_valid_and_have_a_text(sample: Sample) -> None:
    kernel = sample.bound.kernel
    verify_kernel(kernel)
    assert parse_kernel(print_kernel(kernel)) == kernel


@pytest.mark.parametrize("sample", [s for s in samples() if s.op.in_place_operands()], ids=lambda sample: sample.name)
def test_a_result_may_take_the_place_of_an_operand(sample: Sample) -> None:
    (result,) = sample.bound.results
    for name, _ in in_place_operands(sample.op, sample.bound):
        merged = merge_parameters(sample.bound.kernel, name, result)
        buffers = sample.buffers()
        sample.check(run_kernel(merged, {**buffers, result: buffers[name]}))


@every_sample
def test_text_of_a_graph_keeps_the_operator(sample: Sample) -> None:
    graph = Graph("sample")
    values: dict[Value, Value] = {}
    for value in sample.op.operands:
        if value not in values:
            is_constant = value.data is not None
            values[value] = (
                graph.add_constant(value.data, value.type.quant, value.name)
                if is_constant
                else graph.add_input(value.name, value.type)
            )
    op = sample.op.with_operands(lambda value: values[value])
    for number, value in enumerate(graph.add(op)):
        graph.add_output(f"y{number}", value)
    rendered = render_graph(graph)
    parsed = parse_graph(rendered.text, rendered.arrays)
    assert render_graph(parsed).text == rendered.text
    (again,) = parsed.operators
    assert _plain(again.attributes()) == _plain(op.attributes())
    assert again.result_types() == op.result_types()


def _plain(attributes: dict[str, object]) -> dict[str, object]:
    """Attributes without bodies, which the text that is the same already compares."""
    return {name: value for name, value in attributes.items() if not isinstance(value, Graph)}


@pytest.fixture(scope="module")
def native() -> Callable[[Sample], dict[str, Array]]:
    """Runs the machine code of a sample's kernel in this process; all of them are compiled at once."""
    loaded = LoadedObject(compile_samples(samples(), find_target("native")))
    numbers = {sample: number for number, sample in enumerate(samples())}
    return lambda sample: call_address(loaded.address(f"kernel_{numbers[sample]}"), sample)


@pytest.fixture(scope="module")
def c_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sample], dict[str, Array]]:
    """Runs the C of a sample's kernel, compiled by gcc; all of them are compiled at once."""
    directory: Path = tmp_path_factory.mktemp("operators")
    source = kernels_source([sample.bound.kernel for sample in samples()])
    library = ctypes.CDLL(str(compile_c(source, directory, "gcc", ["-std=c99", "-O1", "-shared", "-fPIC"])))
    numbers = {sample: number for number, sample in enumerate(samples())}
    return lambda sample: call_kernel(library, f"kernel_{numbers[sample]}", sample.bound.kernel, sample.buffers(), {})


@every_sample
def test_machine_code_agrees_with_numpy(sample: Sample, native: Callable[[Sample], dict[str, Array]]) -> None:
    sample.check(native(sample))


@every_sample
def test_c_agrees_with_numpy_and_with_machine_code(
    sample: Sample, native: Callable[[Sample], dict[str, Array]], c_library: Callable[[Sample], dict[str, Array]]
) -> None:
    from_c = c_library(sample)
    sample.check(from_c)
    for name, array in native(sample).items():
        if name in from_c:
            assert_nearly_equal(from_c[name], array)


@cache
def objects(target_name: str) -> tuple[bytes, ...]:
    """The kernels of all samples without floats, of all with them, and of all with long numbers, for a target."""
    target = find_target(target_name)
    chosen = (integer_samples(), float_samples(), long_samples(target))
    return tuple(compile_samples(some, target) for some in chosen)


def emulate(machine: EmulatedMachine, number: int, sample: Sample) -> dict[str, Array]:
    """The results of function `kernel_<number>` of an object on an emulated core."""
    buffers, addresses = sample.buffers(), []
    parameters = sample.bound.kernel.parameters
    for parameter in parameters:
        size = int(np.prod(parameter.shape, dtype=np.int64)) * parameter.dtype.size_bytes
        addresses.append(machine.allocate(size, max(parameter.alignment, 1), parameter.name))
        if parameter.name in buffers:
            machine.write(addresses[-1], buffers[parameter.name].tobytes())
    machine.call(f"kernel_{number}", *addresses)
    results = {}
    for parameter, address in zip(parameters, addresses, strict=True):
        if parameter.kind == "out":
            count = int(np.prod(parameter.shape, dtype=np.int64))
            data = machine.read(address, count * parameter.dtype.size_bytes)
            results[parameter.name] = np.frombuffer(data, parameter.dtype.numpy)
    return results


EMULATED = ("cortex-m0plus", "cortex-m4", "rv32imc")


@pytest.mark.parametrize("target", EMULATED)
def test_emulated_cores_agree_with_numpy(target: str) -> None:
    pytest.importorskip("unicorn", reason="unicorn is not installed")
    described = find_target(target)
    core = find_core(described.emulated_core)
    for data, chosen in zip(
        objects(target), (integer_samples(), float_samples(), long_samples(described)), strict=True
    ):
        machine = EmulatedMachine(data, core)
        for number, sample in enumerate(chosen):
            sample.check(emulate(machine, number, sample))


def undefined_symbols(data: bytes) -> set[str]:
    """Names that an object expects from elsewhere."""
    symbols = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
    return {s.name for s in symbols.iter_symbols() if s["st_shndx"] == "SHN_UNDEF" and s.name}


def writable_sections(data: bytes) -> list[str]:
    """Sections of an object that would take memory that can be written."""
    return [s.name for s in ELFFile(io.BytesIO(data)).iter_sections() if s["sh_flags"] & 1 and s["sh_size"]]


@pytest.mark.parametrize("target", [name for name in load_targets() if name != "native"])
def test_kernels_compile_for_every_target_and_call_nothing(target: str) -> None:
    """All samples for the emulated cores, one of each operator and type for the others."""
    described = find_target(target)
    integer, floating, long = (
        objects(target)
        if target in EMULATED
        else (
            compile_samples(one_of_each(chosen), described)
            for chosen in (integer_samples(), float_samples(), long_samples(described))
        )
    )
    assert undefined_symbols(integer) == set()
    assert writable_sections(integer) == writable_sections(floating) == writable_sections(long) == []
    called = undefined_symbols(floating)
    if described.has("fpu") or described.triple.startswith("x86"):
        assert called == set()
    assert {name for name in called if not name.startswith(SOFT_FLOAT_PREFIXES)} == set()
    assert {name for name in undefined_symbols(long) if not name.startswith(LONG_PREFIXES)} == set()
