from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from luciole.emit.c import c_names, comment_c, intrinsic_functions_c, prelude_c, print_kernel_c
from luciole.errors import InternalError
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Bitcast, Constant, Expr, Intrinsic, Kernel, Select, Unary, Variable, clamp
from luciole.kernel.interpret import run_kernel
from luciole.kernel.transform import expand_long_multiply
from support.native_c import WARNINGS, call_kernel, compile_c, kernels_source
from support.random_kernels import equal_bits, high_product, random_inputs, random_kernel

SHARED_LIBRARY = ("-shared", "-fPIC")


def convolution() -> Kernel:
    """A quantized 3x3 convolution with a border test, as `lower` makes them."""
    k = LoopBuilder("conv2d 3x3")
    x = k.buffer("in", "x", DType.I8, (1, 8, 8, 4))
    w = k.buffer("in", "w", DType.I8, (4, 3, 3, 4))
    b = k.buffer("in", "b", DType.I32, (4,))
    y = k.buffer("out", "y", DType.I8, (1, 8, 8, 4))
    k.comment('node "conv*/2d"')
    with k.loop("oh", 8) as oh, k.loop("ow", 8) as ow, k.loop("oc", 4) as oc:
        acc = k.define("acc", b[oc])
        with k.loop("kh", 3) as kh, k.loop("kw", 3) as kw:
            ih, iw = k.define("ih", oh + kh - 1), k.define("iw", ow + kw - 1)
            with k.if_((ih >= 0) & (ih < 8) & (iw >= 0) & (iw < 8)), k.loop("ic", 4) as ic:
                acc += (x[0, ih, iw, ic].cast(DType.I32) + 128) * w[oc, kh, kw, ic].cast(DType.I32)
        scaled = high_product()(acc, 1518500250) >> 4
        y[0, oh, ow, oc] = clamp(scaled - 3, -128, 127).cast(DType.I8)
    return k.build()


def floats() -> Kernel:
    """Everything that floats can do."""
    k = LoopBuilder("floats")
    x, w = k.buffer("in", "x", DType.F32, (160,)), k.buffer("in", "w", DType.F32, (160,))
    y = k.buffer("out", "y", DType.F32, (6, 160))
    n = k.buffer("out", "n", DType.I32, (160,))
    total = k.define("sum", 0.0, DType.F32)
    with k.loop("i", 160) as i:
        total += x[i] * w[i]
        y[0, i] = x[i] * w[i] + total
        y[1, i] = Unary("round_even", x[i])
        y[2, i] = Unary("floor", x[i]) - 0.5
        y[3, i] = Unary("sqrt", Unary("abs", x[i]))
        y[4, i] = Select(x[i] < w[i], -x[i], Constant(float("inf"), DType.F32))
        y[5, i] = Bitcast(Bitcast(x[i], DType.U32) ^ 0x80000000, DType.F32)
        n[i] = clamp(x[i] / 3.0, -1e6, 1e6).cast(DType.I32)
    return k.build()


def pointers() -> Kernel:
    """Raw memory as hand-scheduled kernels use it: advancing pointers, alignment, fences, a workspace."""
    k = LoopBuilder("pointers", is_scheduled=True)
    x = k.buffer("in", "x", DType.I8, (64,), 4)
    y = k.buffer("out", "y", DType.I32, (16,))
    workspace = k.buffer("workspace", "w", DType.I32, (16,), 4)
    k.scalar("unused")
    source, target = k.define("source", x.address()), k.define("target", workspace.address(4))
    k.write(workspace.address(), 0, 7)
    end = k.define("end", source + 60)
    with k.repeat_while(lambda: source < end):
        word = k.define("word", k.read(source, 0, DType.I32, 2))
        k.fence()
        k.write(target, 0, word & 0x00FF00FF)
        source += 4
        target += 4
    with k.loop("i", 16) as i:
        y[i] = workspace[i] << 3
    return k.build()


def wrapping() -> Kernel:
    """Arithmetic that overflows, and divisions that trap on real machines."""
    k = LoopBuilder("wrapping")
    a, b = k.buffer("in", "a", DType.I32, (4,)), k.buffer("in", "b", DType.I32, (4,))
    y = k.buffer("out", "y", DType.I32, (6, 4))
    z = k.buffer("out", "z", DType.I64, (4,))
    with k.loop("i", 4) as i:
        y[0, i] = a[i] + b[i] * 3 - 0x7FFFFFFF
        y[1, i] = a[i] // b[i]
        y[2, i] = a[i] % b[i]
        y[3, i] = -a[i]
        y[4, i] = (a[i] << 5) >> 3
        y[5, i] = (a[i].cast(DType.I16) * b[i].cast(DType.I16)).cast(DType.I32)
        z[i] = a[i].cast(DType.I64) * b[i].cast(DType.I64) - (1 << 62)
    return k.build()


KERNELS = (convolution(), floats(), pointers(), wrapping())


def check(library: Path, kernels: Sequence[Kernel], seed: int = 1) -> None:
    loaded = ctypes.CDLL(str(library))
    for number, kernel in enumerate(kernels):
        buffers, scalars = random_inputs(kernel, seed)
        if kernel.name == "wrapping":
            low = np.iinfo(np.int32).min
            buffers = {"a": np.array([low, low, 7, -7], np.int32), "b": np.array([-1, 3, -2, low], np.int32)}
        expected = run_kernel(kernel, buffers, scalars)
        actual = call_kernel(loaded, f"kernel_{number}", kernel, buffers, scalars)
        for name, array in expected.items():
            assert equal_bits(array, actual[name]), f"{kernel.name}: {name} is {actual[name]}, should be {array}"


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("gcc", ["-std=c99", "-O2", "-fsanitize=undefined"]),
        ("gcc", ["-O3", "-march=haswell"]),
        ("gcc", ["-std=c99", "-Os", "-DLUCIOLE_PORTABLE"]),
        ("g++", ["-std=c++11", "-O2"]),
        ("clang", ["-std=c99", "-O3"]),
        ("clang", ["-O2", "-ffast-math", "-march=haswell"]),
        # The first run of zig's C++ compiler builds its library, which takes minutes.
        pytest.param("clang++", ["-O1"], marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else "".join(value),
)
def test_c_compiles_without_a_warning_and_gives_the_bits_of_the_interpreter(
    name: str, flags: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    library = compile_c(kernels_source(KERNELS), tmp_path, name, [*flags, *WARNINGS, *SHARED_LIBRARY])
    check(library, KERNELS)
    assert "runtime error" not in capfd.readouterr().err


@pytest.mark.parametrize("flags", ["-fsanitize=undefined", "-fsanitize=undefined -DLUCIOLE_PORTABLE"])
@pytest.mark.parametrize("seed", [0, 12])
def test_random_kernels_give_the_bits_of_the_interpreter(
    seed: int, flags: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kernels = [random_kernel(s) for s in range(seed, seed + 12)]
    library = compile_c(kernels_source(kernels), tmp_path, "gcc", ["-O2", *flags.split(), "-w", *SHARED_LIBRARY])
    check(library, kernels, seed)
    assert "runtime error" not in capfd.readouterr().err


@pytest.mark.parametrize("flags", ["-O3", "-Ofast", "-O3 -DLUCIOLE_PORTABLE"])
@pytest.mark.parametrize("name", ["gcc", "g++", "clang"])
def test_products_and_sums_are_never_fused_and_nothing_is_called(name: str, flags: str, tmp_path: Path) -> None:
    source = kernels_source([floats()])
    options = [*flags.split(), "-march=haswell", "-Wno-deprecated"]
    assembly = compile_c(source, tmp_path, name, [*options, "-S"], suffix=".s").read_text()
    assert "vmul" in assembly
    assert re.findall(r"vfn?m(?:add|sub)\w*|\bcall\w*\s+\w+", assembly) == []


def test_fast_math_of_gcc_changes_no_bit(tmp_path: Path) -> None:
    kernels = [*KERNELS, random_kernel(54), random_kernel(65)]
    # Linked apart: gcc would link a start-up file that makes the whole process flush denormals to zero.
    compiled = compile_c(
        kernels_source(kernels), tmp_path, "gcc", ["-c", "-Ofast", "-march=haswell", "-fPIC", "-w"], ".o"
    )
    library = tmp_path / "fast.so"
    subprocess.run(["gcc", "-shared", str(compiled), "-o", str(library)], check=True)
    check(library, kernels)


@pytest.mark.parametrize("portable", [False, True])
def test_divisions_are_exact(portable: bool, tmp_path: Path) -> None:
    k = LoopBuilder("divisions")
    a, b = k.buffer("in", "a", DType.U32, (512,)), k.buffer("in", "b", DType.U32, (512,))
    y, z = k.buffer("out", "y", DType.U32, (2, 512)), k.buffer("out", "z", DType.I32, (4, 512))
    with k.loop("i", 512) as i:
        y[0, i] = a[i] // b[i]
        y[1, i] = a[i] % b[i]
        dividend, divisor = a[i].cast(DType.I32), b[i].cast(DType.I32)
        z[0, i] = dividend // divisor
        z[1, i] = dividend % divisor
        z[2, i] = dividend // -7
        z[3, i] = (dividend.cast(DType.I16) // (divisor.cast(DType.I16) | 1)).cast(DType.I32)
    kernel = k.build()
    generator = np.random.default_rng(11)
    numbers = [generator.integers(0, 1 << 32, 512) >> generator.integers(0, 32, 512) for _ in "ab"]
    numbers[0][:4], numbers[1][:4] = [0x80000000, 0xFFFFFFFF, 0, 0x80000000], [0xFFFFFFFF, 0x80000001, 1, 1]
    buffers = {"a": numbers[0].astype(np.uint32), "b": np.maximum(numbers[1], 1).astype(np.uint32)}
    flags = ["-O2", "-fsanitize=undefined", *(["-DLUCIOLE_PORTABLE"] if portable else []), *SHARED_LIBRARY]
    loaded = ctypes.CDLL(str(compile_c(kernels_source([kernel]), tmp_path, "gcc", flags)))
    expected, actual = run_kernel(kernel, buffers), call_kernel(loaded, "kernel_0", kernel, buffers, {})
    assert all(equal_bits(expected[name], actual[name]) for name in expected)


@pytest.mark.cross
def test_small_cores_call_nothing(tmp_path: Path) -> None:
    kernels = [expand_long_multiply(kernel) for kernel in (convolution(), wrapping())]
    source, output = tmp_path / "kernels.c", tmp_path / "kernels.o"
    source.write_text(kernels_source(kernels))
    flags = ["-mcpu=cortex-m0plus", "-mthumb", "-std=c99", "-O2", *WARNINGS]
    subprocess.run(["arm-none-eabi-gcc", *flags, "-c", str(source), "-o", str(output)], check=True)
    with output.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".symtab").iter_symbols()
        assert [s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and s.name] == []


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
@pytest.mark.parametrize("portable", [False, True])
def test_square_roots_and_roundings_are_correct(portable: bool, dtype: DType, tmp_path: Path) -> None:
    k = LoopBuilder("roots")
    x, y = k.buffer("in", "x", dtype, (4096,)), k.buffer("out", "y", dtype, (3, 4096))
    with k.loop("i", 4096) as i:
        y[0, i] = Unary("sqrt", x[i])
        y[1, i] = Unary("floor", x[i])
        y[2, i] = Unary("round_even", x[i])
    kernel = k.build()
    random = np.random.default_rng(3)
    if dtype is DType.F32:
        bits = random.integers(0, 1 << 32, 4096, dtype=np.uint32)
        bits[:8] = [0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 1, 0x007FFFFF, 0x7F7FFFFF]
        bits[8:2000] = bits[8:2000] % 0x10000000 + 0x3A000000  # around one
    else:
        bits = random.integers(0, 1 << 64, 4096, dtype=np.uint64)
        bits[:8] = [0, 1 << 63, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, 1, (1 << 52) - 1, (0x7FF << 52) - 1]
        bits[8:2000] = bits[8:2000] % (1 << 58) + (0x3E0 << 52)  # around one
        bits[2000:2100] >>= random.integers(12, 64, 100, dtype=np.uint64)  # subnormal numbers
    flags = ["-O2", *(["-DLUCIOLE_PORTABLE"] if portable else []), *SHARED_LIBRARY]
    loaded = ctypes.CDLL(str(compile_c(kernels_source([kernel]), tmp_path, "gcc", flags)))
    buffers = {"x": bits.view(dtype.numpy)}
    expected = run_kernel(kernel, buffers)
    assert equal_bits(expected["y"], call_kernel(loaded, "kernel_0", kernel, buffers, {})["y"])


def test_an_in_place_kernel_may_overlap_its_buffers() -> None:
    assert "LUCIOLE_RESTRICT" in print_kernel_c(wrapping(), "f")
    assert "LUCIOLE_RESTRICT" not in print_kernel_c(wrapping(), "f", is_restrict=False)


def test_the_text_of_a_small_kernel() -> None:
    k = LoopBuilder("scale")
    x, y = k.buffer("in", "x", DType.I8, (2, 8)), k.buffer("out", "y", DType.I8, (2, 8), 4)
    n = k.scalar("int")
    with k.loop("row", 2) as row, k.loop("i", n.cast(DType.INDEX)) as i:
        wide = k.define("wide", x[row, i].cast(DType.I32) * 3)
        y[row, i] = clamp(wide + n, -128, 127).cast(DType.I8)
    kernel = k.build()
    text = """\
/* scale */
static void kws_scale(
    const int8_t *LUCIOLE_RESTRICT x /* in i8[2, 8] */,
    int8_t *LUCIOLE_RESTRICT y /* out i8[2, 8], aligned to 4 */,
    int32_t int_1)
{
    for (int32_t row = 0; row < 2; row++) {
        for (int32_t i = 0, i_end = int_1; i < i_end; i++) {
            const int32_t wide = (int32_t)x[row * 8 + i] * 3;
            y[row * 8 + i] = (int8_t)luciole_saturate_8((int32_t)((uint32_t)wide + (uint32_t)int_1));
        }
    }
}
"""
    assert print_kernel_c(kernel, "kws_scale") == text


def test_names_become_identifiers_of_c_and_of_cpp() -> None:
    names = c_names(["x", "int", "class", "a.b", "a-b", "_X", "9", "é", "luciole_min_i32", "INT8_MAX", "a__b"], ["x"])
    assert list(names.values()) == [
        "x_1", "int_1", "class_1", "a_b", "a_b_1", "v_X", "v_9", "v", "v_luciole_min_i32", "v_INT8_MAX", "a_b_2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "comment"),
    [
        ("plain", "/* plain */"),
        ("end */ int x; /*", "/* end * / int x; / * */"),
        ("trigraph ??/ new\nline é", "/* trigraph ? ?/ new\\nline \\xe9 */"),
    ],
)
def test_comments_cannot_be_left(text: str, comment: str) -> None:
    assert comment_c(text) == comment


@pytest.mark.parametrize("name", ["", "9x", "a b", "while"])
def test_a_function_name_that_c_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name for a C function"):
        print_kernel_c(wrapping(), name)


def test_an_intrinsic_is_spelled_for_its_feature_and_by_its_meaning_elsewhere() -> None:
    a, b = Variable("a", DType.I32), Variable("b", DType.I32)
    dsp = Intrinsic("add_q", (a, b), DType.I32, (), a + b, "dsp", "__qadd({a}, {b})")
    assert intrinsic_functions_c([dsp]) == (
        "LUCIOLE_INLINE int32_t luciole_add_q(int32_t a, int32_t b)\n"
        "{\n"
        "#if defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SIMD32) && !defined(LUCIOLE_PORTABLE)\n"
        "    return (int32_t)__qadd(a, b);\n"
        "#else\n"
        "    return (int32_t)((uint32_t)a + (uint32_t)b);\n"
        "#endif\n"
        "}\n"
    )
    k = LoopBuilder("one")
    y = k.buffer("out", "y", DType.I32, (1,))
    y[0] = dsp(1, 2)
    assert "#include <arm_acle.h>" in prelude_c([k.build()])
    unknown = Intrinsic("other", (a,), DType.I32, (), a, "quantum", "f({a})")
    with pytest.raises(InternalError, match="quantum"):
        intrinsic_functions_c([unknown])


def test_the_prelude_holds_only_what_is_used() -> None:
    assert "float" not in prelude_c([convolution()])
    text = prelude_c([convolution(), wrapping(), convolution()])
    assert text.count("luciole_test_high_product(int32_t") == 1
    assert text.count("luciole_saturate_8(int32_t") == 1
    assert prelude_c([convolution(), floats()]) == prelude_c([convolution(), floats()])


def test_prelude_of_expressions_reads_nothing_else() -> None:
    expr: Expr = Unary("floor", Constant(1.5, DType.F32))
    k = LoopBuilder("k")
    k.define("t", expr)
    assert "luciole_floor" in prelude_c([k.build()])
