"""How the M-profile Vector Extension spells operations on vectors: LLVM's intrinsics, and those of C.

Sources: LLVM's IntrinsicsARM.td, the Arm C Language Extensions (MVE), and for the meaning the Armv8-M Architecture
Reference Manual, DDI 0553 (VCTP, VMLADAV, VQRDMULH, VRSHL).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from luciole.emit.c_prelude import REGISTER_TYPES as C_TYPES
from luciole.emit.c_vectors import VectorFunction, VectorType
from luciole.ir.types import DType
from luciole.kernel.core import COMPARISONS, Call, Read
from luciole.kernel.vectors import ActiveLanes, Dot

if TYPE_CHECKING:
    from luciole.emit.llvm import LlvmPrinter

#: Bits of a vector.
VECTOR_BITS = 128


def words_of(expr: Read) -> int:
    """How many words a vector of narrower lanes may be loaded as: loads of words reach four times as far. 0 where it
    may not.
    """
    bits = expr.dtype.bits
    is_vector = expr.lanes * bits == VECTOR_BITS and 8 <= bits < 32 and expr.dtype.is_integer
    return 4 if is_vector and expr.mask is None and expr.alignment >= 4 else 0


def print_llvm(printer: LlvmPrinter, expr: ActiveLanes | Dot | Call, arguments: list[str]) -> str:
    """The value of an expression over printed operands by an intrinsic, or nothing where none fits."""
    match expr:
        case ActiveLanes() if expr.lanes in (4, 8, 16):
            name = f"llvm.arm.mve.vctp{VECTOR_BITS // expr.lanes}"
            return printer.call_llvm(name, f"<{expr.lanes} x i1>", [("i32", arguments[0])])
        case Dot() if expr.lanes == 1 and expr.a.lanes == 16 and expr.a.dtype is expr.b.dtype:
            flags = [("i32", "0" if expr.a.dtype is DType.I8 else "1"), ("i32", "0"), ("i32", "0")]
            total, *factors = arguments
            typed = [("i32", total), *(("<16 x i8>", factor) for factor in factors)]
            return printer.call_llvm("llvm.arm.mve.vmldava.v16i8", "i32", [*flags, *typed])
        case Call() if expr.lanes == 4:
            typed = [("<4 x i32>", argument) for argument in arguments]
            if expr.intrinsic.name == "high_multiply":
                return printer.call_llvm("llvm.arm.mve.vqrdmulh.v4i32", "<4 x i32>", typed)
            if expr.intrinsic.name == "shift_rounded":
                flags = [("i32", "0"), ("i32", "1"), ("i32", "0")]
                return printer.call_llvm("llvm.arm.mve.vshl.vector.v4i32.v4i32", "<4 x i32>", [*typed, *flags])
    return ""


#: Operations of lanes whose name in C is that of the instruction.
_C_OPERATIONS = {
    "add": "vaddq",
    "sub": "vsubq",
    "mul": "vmulq",
    "min": "vminq",
    "max": "vmaxq",
    "and": "vandq",
    "or": "vorrq",
    "xor": "veorq",
}
#: How unsigned numbers are compared, and whether the operands are exchanged for it.
_C_UNSIGNED = {"eq": ("eq", False), "ne": ("ne", False), "gt": ("hi", False), "ge": ("cs", False)} | {
    "lt": ("hi", True),
    "le": ("cs", True),
}
_C_INTRINSICS = {("high_multiply", "i32x4"): "vqrdmulhq_s32", ("shift_rounded", "i32x4"): "vrshlq_s32"}


def c_spelling(function: VectorFunction) -> str:
    """The value of a function on vectors by an intrinsic of C over its parameters, or nothing where none fits."""
    kind = function.types[0]
    if function.operation == "call":
        name = _C_INTRINSICS.get((function.intrinsic, kind.text))
        # Both take two parameters, named as their meaning names them.
        return f"{name}({', '.join(_PARAMETERS[function.intrinsic])})" if name else ""
    operation = function.operation.removesuffix("_masked")
    if operation in ("read", "write", "gather"):
        return _c_memory(function, operation)
    if not kind.is_native and operation not in ("dot", "products"):
        return ""
    if kind.dtype is DType.BOOL:
        return _c_mask(function, kind)
    return _c_lanes(function, operation, kind)


#: gcc would write the four registers to the stack and read a vector.
_C_LANES = """\
#if defined(__clang__)
const luciole_i32x4 result = {lane0, lane1, lane2, lane3};
#else
luciole_i32x4 result;
__asm__("vmov %q0[2], %q0[0], %1, %3\\n\\tvmov %q0[3], %q0[1], %2, %4"
        : "=&w"(result) : "r"(lane0), "r"(lane1), "r"(lane2), "r"(lane3));
#endif
return result;"""

_PARAMETERS = {"high_multiply": ("a", "b"), "shift_rounded": ("value", "amount")}


def _c_suffix(kind: VectorType) -> str:
    return f"{'s' if kind.dtype.is_signed else 'u'}{kind.dtype.bits}"


def _c_mask(function: VectorFunction, kind: VectorType) -> str:
    sign = {"and": "&", "min": "&", "or": "|", "max": "|", "xor": "^"}.get(function.operation)
    if sign:
        return f"(mve_pred16_t)(a {sign} b)"
    match function.operation:
        case "not":
            return "(mve_pred16_t)~a"
        case "active":
            return f"vctp{VECTOR_BITS // kind.lanes}q((uint32_t)count)"
    return ""


def _c_lanes(function: VectorFunction, operation: str, kind: VectorType) -> str:
    """Operations from lanes to lanes."""
    suffix = _c_suffix(kind)
    if operation in _C_OPERATIONS:
        return f"{_C_OPERATIONS[operation]}_{suffix}(a, b)"
    if operation in ("add_scalar", "sub_scalar", "mul_scalar"):
        return f"{_C_OPERATIONS[operation.removesuffix('_scalar')]}_n_{suffix}(a, b)"
    if operation in COMPARISONS:
        name, is_exchanged = (operation, False) if kind.dtype.is_signed else _C_UNSIGNED[operation]
        return f"vcmp{name}q_{suffix}({'b, a' if is_exchanged else 'a, b'})"
    match operation:
        case "shift_left" | "shift_right" if function.number:
            return f"{'vshlq' if operation == 'shift_left' else 'vshrq'}_n_{suffix}(a, {function.number})"
        case "shift_left" if kind.dtype.is_signed:
            return f"vshlq_{suffix}(a, b)"
        case "shift_right" if kind.dtype.is_signed:
            return f"vshlq_{suffix}(a, vnegq_{suffix}(b))"
        case "neg" if kind.dtype.is_signed:
            return f"vnegq_{suffix}(a)"
        case "not":
            return f"vmvnq_{suffix}(a)"
        case "select":
            return f"vpselq_{suffix}(a, b, condition)"
        case "splat":
            return f"vdupq_n_{suffix}(a)"
        case "cast" | "bitcast" if function.types[1].is_native and function.types[1].dtype is not DType.BOOL:
            return f"vreinterpretq_{suffix}_{_c_suffix(function.types[1])}(a)"
        case "reduce_add":
            return f"({C_TYPES[kind.dtype]})vaddvq_{suffix}(a)"
        case "dot" if [t.text for t in function.types] == ["i32", "i8x16", "i8x16"]:
            return "vmladavaq_s8(total, a, b)"
        case "dot" if [t.text for t in function.types] == ["i32", "u8x16", "u8x16"]:
            return "(int32_t)vmladavaq_u8((uint32_t)total, a, b)"
        case "products" if [t.text for t in function.types] == ["i32", "i8x16", "i8x16"]:
            return "vmladavq_s8(a, b)"
        case "lanes" if kind.text == "i32x4":
            return _C_LANES
    return ""


def _c_memory(function: VectorFunction, operation: str) -> str:
    """Loads, stores and gathers, of lanes as they are or widened from memory, narrowed to memory."""
    memory, held = function.types[0], function.types[-1]
    if not held.is_native or held.dtype is DType.BOOL or held.lanes != memory.lanes:
        return ""
    if operation != "gather" and function.number < memory.dtype.size_bytes:
        return ""
    if operation == "gather" and held.lanes != 4:
        return ""
    if operation == "read" and function.operation == "read" and memory == held and function.number >= 4:
        words = "vldrwq_u32((const uint32_t *)(const void *)address)"
        return words if _c_suffix(held) == "u32" else f"vreinterpretq_{_c_suffix(held)}_u32({words})"
    letter = {8: "b", 16: "h", 32: "w"}[memory.dtype.bits]
    # Memory's sign says how lanes are widened.
    read = f"{'s' if memory.dtype.is_signed else 'u'}{held.dtype.bits}"
    is_masked = function.operation.endswith("_masked")
    if operation == "write":
        place = f"({C_TYPES[memory.dtype]} *)(void *)address"
        value = "value" if read == _c_suffix(held) else f"vreinterpretq_{read}_{_c_suffix(held)}(value)"
        return f"vstr{letter}q_{'p_' if is_masked else ''}{read}({place}, {value}{', mask' if is_masked else ''})"
    place = f"(const {C_TYPES[memory.dtype]} *)(const void *)address"
    how, offsets = ("gather_offset_", ", vreinterpretq_u32_s32(offsets)") if operation == "gather" else ("", "")
    loaded = f"vldr{letter}q_{how}{'z_' if is_masked else ''}{read}({place}{offsets}{', mask' if is_masked else ''})"
    return loaded if read == _c_suffix(held) else f"vreinterpretq_{_c_suffix(held)}_{read}({loaded})"
