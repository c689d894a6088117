"""The C functions that `c_vectors` calls: by MVE where the compiler has it, lane by lane elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from luciole.emit.c_expressions import ExpressionPrinter
from luciole.emit.c_prelude import FEATURES, MEMORY_TYPES, REGISTER_TYPES
from luciole.emit.c_vectors import VectorFunction, VectorType
from luciole.emit.mve import c_spelling
from luciole.errors import InternalError
from luciole.ir.types import DType
from luciole.kernel.core import (
    BINARY_OPERATIONS,
    COMPARISONS,
    UNARY_OPERATIONS,
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Constant,
    Expr,
    Intrinsic,
    Select,
    Unary,
    Variable,
)
from luciole.kernel.rewrite import widened

_HEAD = f"""\
#if {FEATURES["mve"][0]} && !defined(LUCIOLE_PORTABLE)
#include <{FEATURES["mve"][1]}>
#define LUCIOLE_MVE
#endif
"""

#: What stands around a function on vectors.
VECTORS_BEGIN = """\
/* gcc would gather loads first and products later, spill what stands between, and move pointers in other places. */
#if defined(LUCIOLE_MVE) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("no-schedule-insns", "no-tree-ter", "no-ivopts", "no-tree-forwprop")
#endif
"""
VECTORS_END = """\
#if defined(LUCIOLE_MVE) && !defined(__clang__)
#pragma GCC pop_options
#endif
"""

_INDENT = "    "


@dataclass(frozen=True)
class _Signature:
    """A function's result, `None` for nothing, and its parameters; a parameter without a type is an address."""

    result: VectorType | None
    parameters: tuple[tuple[str, VectorType | None], ...]

    @property
    def types(self) -> list[VectorType]:
        """All types, those of scalars too."""
        types = [self.result, *(t for _, t in self.parameters)]
        return [t for t in types if t is not None]


@dataclass
class VectorSupport:
    """All that the vectors of some kernels need."""

    functions: set[VectorFunction]
    intrinsics: dict[VectorFunction, Intrinsic]
    #: Names of helpers on scalars, see `c_prelude`.
    used: set[str] = field(default_factory=set)
    #: Functions that only bodies by MVE call.
    native_only: set[VectorFunction] = field(default_factory=set)

    def print(self) -> str:
        """Types and functions, to stand behind the helpers on scalars and the intrinsics' own functions; nothing when
        there are no vectors.
        """
        if not self.functions:
            return ""
        bodies: dict[VectorFunction, str] = {}
        for function in sorted(self.intrinsics):
            self._expand(function, self.intrinsics[function], bodies)
        plain = [f for f in sorted(self.functions) if f.operation != "call"]
        types = {t for f in plain for t in _signature(f).types if t.lanes > 1}
        types |= {t for f, i in self.intrinsics.items() for t in _intrinsic_signature(f, i).types}
        texts = [_HEAD, *(_type(t) for t in sorted(types))]
        texts += [self._function(f, _signature(f), c_spelling(f)) for f in plain]
        return "\n".join([*texts, *bodies.values()])

    def _expand(self, function: VectorFunction, intrinsic: Intrinsic, bodies: dict[VectorFunction, str]) -> None:
        """An intrinsic's function, those that it calls first."""
        if function in bodies:
            return
        signature = _intrinsic_signature(function, intrinsic)
        spelled = c_spelling(function)
        if not spelled and _is_native(signature):
            spelled = self._meaning(function, intrinsic, bodies)
        bodies[function] = self._function(function, signature, spelled, intrinsic)

    def _meaning(self, function: VectorFunction, intrinsic: Intrinsic, bodies: dict[VectorFunction, str]) -> str:
        """The body of an intrinsic on vectors, from its definitions."""
        wide = widened(intrinsic, function.types[0].lanes)
        variables = [*wide.parameters, *(d.variable for d in wide.definitions)]
        printer = ExpressionPrinter({v.name: v.name for v in variables}, {})
        lines = []
        for definition in wide.definitions:
            type = _c_type(VectorType.of(definition.variable.dtype, definition.variable.lanes))
            lines.append(f"const {type} {definition.variable.name} = {printer.value(definition.value)};")
        lines.append(f"return {printer.value(wide.result)};")
        for inner, called in printer.vector_intrinsics.items():
            if inner not in self.intrinsics:
                self.intrinsics[inner] = called
                self.native_only.add(inner)
            self._expand(inner, called, bodies)
        self.native_only |= printer.vector_functions - self.functions
        self.functions |= printer.vector_functions
        self.used |= printer.used
        return "\n".join(lines)

    def _function(
        self, function: VectorFunction, signature: _Signature, spelled: str, intrinsic: Intrinsic | None = None
    ) -> str:
        """A function with its body by MVE, or lane by lane."""
        is_writing = signature.result is None
        given = [_parameter(name, type, is_writing) for name, type in signature.parameters]
        result = "void" if signature.result is None else _c_type(signature.result)
        head = f"LUCIOLE_INLINE {result} {function.name}({', '.join(given)})"
        if function in self.native_only:
            native = self._native_body(function, signature, spelled, intrinsic)
            return f"#if defined(LUCIOLE_MVE)\n{head}\n{{\n{_indented(native)}\n}}\n#endif\n"
        portable = _Lanes(function, signature, intrinsic, is_native=False, used=self.used).body()
        if not _is_native(signature):
            return f"{head}\n{{\n{_indented(portable)}\n}}\n"
        native = self._native_body(function, signature, spelled, intrinsic)
        return f"{head}\n{{\n#if defined(LUCIOLE_MVE)\n{_indented(native)}\n#else\n{_indented(portable)}\n#endif\n}}\n"

    def _native_body(
        self, function: VectorFunction, signature: _Signature, spelled: str, intrinsic: Intrinsic | None
    ) -> str:
        """A function's body where the compiler has MVE."""
        if not spelled:
            return _Lanes(function, signature, intrinsic, is_native=True, used=self.used).body()
        if "return" in spelled:
            return spelled
        return f"{spelled};" if signature.result is None else f"return {spelled};"


def _indented(text: str) -> str:
    return "\n".join(_INDENT + line for line in text.splitlines())


def _is_native(signature: _Signature) -> bool:
    return any(type.is_native for type in signature.types)


def _c_type(type: VectorType) -> str:
    return REGISTER_TYPES[type.dtype] if type.lanes == 1 else f"luciole_{type.text}"


def _parameter(name: str, type: VectorType | None, is_writing: bool) -> str:
    if type is None:
        return f"{'' if is_writing else 'const '}unsigned char *{name}"
    return f"{_c_type(type)} {name}"


def _type(type: VectorType) -> str:
    """The definition of a vector's type."""
    plain = f"typedef struct {{ {MEMORY_TYPES[type.dtype]} lane[{type.lanes}]; }} luciole_{type.text};\n"
    if not type.is_native:
        return plain
    if type.dtype is DType.BOOL:
        own = "mve_pred16_t"
    else:
        own = f"{'' if type.dtype.is_signed else 'u'}int{type.dtype.bits}x{type.lanes}_t"
    return f"#if defined(LUCIOLE_MVE)\ntypedef {own} luciole_{type.text};\n#else\n{plain}#endif\n"


def _scalar(type: VectorType) -> VectorType:
    return replace(type, lanes=1)


def _mask(type: VectorType) -> VectorType:
    return VectorType.of(DType.BOOL, type.lanes)


def _signature(function: VectorFunction) -> _Signature:
    """The result and parameters of a function that applies no intrinsic."""
    operation, first, last = function.operation, function.types[0], function.types[-1]
    mask = (("mask", _mask(first)),) if operation.endswith("_masked") else ()
    match operation.removesuffix("_masked"):
        case "shift_left" | "shift_right" if function.number:
            return _Signature(first, (("a", first),))
        case _ if operation in BINARY_OPERATIONS:
            return _Signature(first, (("a", first), ("b", first)))
        case "add_scalar" | "sub_scalar" | "mul_scalar":
            return _Signature(first, (("a", first), ("b", _scalar(first))))
        case _ if operation in COMPARISONS:
            return _Signature(_mask(first), (("a", first), ("b", first)))
        case _ if operation in UNARY_OPERATIONS:
            return _Signature(first, (("a", first),))
        case "splat":
            return _Signature(first, (("a", _scalar(first)),))
        case "select":
            return _Signature(first, (("condition", _mask(first)), ("a", first), ("b", first)))
        case "cast" | "bitcast":
            return _Signature(first, (("a", last),))
        case "read":
            return _Signature(last, (("address", None), *mask))
        case "write":
            return _Signature(None, (("address", None), ("value", last), *mask))
        case "gather":
            return _Signature(last, (("address", None), ("offsets", VectorType.of(DType.I32, first.lanes)), *mask))
        case "lanes":
            return _Signature(first, tuple((f"lane{i}", _scalar(first)) for i in range(first.lanes)))
        case "active":
            return _Signature(first, (("count", VectorType.of(DType.I32, 1)),))
        case "dot":
            return _Signature(first, (("total", first), ("a", function.types[1]), ("b", last)))
        case "products":
            return _Signature(first, (("a", function.types[1]), ("b", last)))
        case "reduce_add" | "reduce_min" | "reduce_max":
            return _Signature(_scalar(first), (("a", first),))
    raise InternalError(f"no C function on vectors is called {operation}")


def _intrinsic_signature(function: VectorFunction, intrinsic: Intrinsic) -> _Signature:
    lanes = function.types[0].lanes
    parameters = tuple((p.name, VectorType.of(p.dtype, lanes)) for p in intrinsic.parameters)
    return _Signature(VectorType.of(intrinsic.dtype, lanes), parameters)


@dataclass
class _Lanes:
    """A function's body lane by lane."""

    function: VectorFunction
    signature: _Signature
    intrinsic: Intrinsic | None
    #: Whether types that MVE has are the compiler's own here.
    is_native: bool
    used: set[str]

    def body(self) -> str:
        """All statements."""
        operation = self.function.operation.removesuffix("_masked")
        if operation in ("dot", "products"):
            return self._dot(operation)
        if operation.startswith("reduce_"):
            return self._reduce(operation.removeprefix("reduce_"))
        if operation == "write":
            return self._write()
        assert self.signature.result is not None
        if operation == "lanes":
            return self._lanes()
        if operation in ("read", "gather"):
            return self._loop(self.signature.result, self._from_memory(operation))
        return self._loop(self.signature.result, self._value(operation))

    def _loop(self, result: VectorType, value: str) -> str:
        """`value` for each lane i of a result."""
        is_own = self.is_native and result.is_native
        name = f"luciole_{result.text}"
        if not is_own:
            begin, line = f"{name} result;", f"result.lane[i] = {self._stored(result, value)};"
        elif result.dtype is DType.BOOL:
            width = 16 // result.lanes
            ones = (1 << width) - 1
            begin = f"{name} result = 0;"
            line = f"result = (mve_pred16_t)(result | (({value}) != 0 ? {ones}u << ({width} * i) : 0u));"
        else:
            sign = "s" if result.dtype.is_signed else "u"
            begin = f"{name} result = vdupq_n_{sign}{result.dtype.bits}(0);"
            line = f"result[i] = {value};"
        return f"{begin}\n{self._for(result.lanes)}\n{_INDENT}{line}\n}}\nreturn result;"

    def _for(self, lanes: int, name: str = "i") -> str:
        return f"for (int {name} = 0; {name} < {lanes}; {name}++) {{"

    def _stored(self, type: VectorType, value: str) -> str:
        return f"({MEMORY_TYPES[type.dtype]})({value})" if type.dtype is DType.BOOL else value

    def _lane(self, name: str, index: str = "i") -> str:
        """One lane of a parameter, or a scalar parameter."""
        type = next(t for n, t in self.signature.parameters if n == name)
        assert type is not None
        if type.lanes == 1:
            return name
        if not (self.is_native and type.is_native):
            return f"{name}.lane[{index}]" + (" != 0" if type.dtype is DType.BOOL else "")
        if type.dtype is DType.BOOL:
            return f"(({name} >> ({16 // type.lanes} * {index})) & 1) != 0"
        return f"{name}[{index}]"

    def _printed(self, expr: Expr, names: Mapping[str, str]) -> str:
        printer = ExpressionPrinter(names, {})
        text = printer.value(expr)
        self.used |= printer.used
        return text

    def _value(self, operation: str) -> str:
        """What a lane of the result is, over the lanes of the parameters."""
        parameters = [(n, t) for n, t in self.signature.parameters if t is not None]
        variables = [Variable(n, t.dtype) for n, t in parameters]
        names = {n: self._lane(n) for n, _ in parameters}
        # A comparison stands in parentheses wherever an expression holds it.
        names = {n: f"({text})" if " != 0" in text else text for n, text in names.items()}
        if operation == "active":
            return "i < count"
        return self._printed(self._scalar_expression(operation, variables), names)

    def _scalar_expression(self, operation: str, variables: list[Variable]) -> Expr:
        first, last = self.function.types[0].dtype, variables[-1]
        match operation:
            case "call":
                assert self.intrinsic is not None
                return Call(self.intrinsic, tuple(variables))
            case "shift_left" | "shift_right" if self.function.number:
                return Binary(operation, last, Constant(self.function.number, first))
            case "splat":
                return last
            case "select":
                return Select(*variables)
            case "cast":
                return Cast(last, first)
            case "bitcast":
                return Bitcast(last, first)
            case _ if operation in COMPARISONS:
                return Compare(operation, *variables)
            case _ if operation in UNARY_OPERATIONS:
                return Unary(operation, last)
        return Binary(operation.removesuffix("_scalar"), *variables)

    def _lanes(self) -> str:
        """A vector of the parameters."""
        type = self.function.types[0]
        names = [name for name, _ in self.signature.parameters]
        if self.is_native and type.is_native and type.dtype is not DType.BOOL:
            return f"const luciole_{type.text} result = {{{', '.join(names)}}};\nreturn result;"
        is_own = self.is_native and type.is_native
        target = f"{REGISTER_TYPES[type.dtype]} lane[{type.lanes}]" if is_own else f"luciole_{type.text} result"
        place = "lane" if is_own else "result.lane"
        lines = [f"{target};", *(f"{place}[{i}] = {self._stored(type, name)};" for i, name in enumerate(names))]
        return "\n".join([*lines, self._loop(type, "lane[i]") if is_own else "return result;"])

    # Memory

    def _from_memory(self, operation: str) -> str:
        memory, result = self.function.types[0], self.function.types[-1]
        size = memory.dtype.size_bytes
        if operation == "gather":
            alignment, place = size, f"address + {self._lane('offsets')}"
        else:
            alignment, place = min(self.function.number, size), f"address + {size} * i" if size > 1 else "address + i"
        helper = f"read_{memory.word}_{alignment}"
        self.used.add(helper)
        value = f"luciole_{helper}({place})"
        if memory != result:
            value = self._printed(Cast(Variable("read", memory.dtype), result.dtype), {"read": value})
        if not self.function.operation.endswith("_masked"):
            return value
        zero = "0.0f" if result.dtype.is_float else "0"
        ctype = REGISTER_TYPES[result.dtype]
        return f"({ctype})({self._lane('mask')} ? {value} : ({ctype}){zero})"

    def _write(self) -> str:
        memory, held = self.function.types[0], self.function.types[-1]
        size = memory.dtype.size_bytes
        helper = f"write_{memory.word}_{min(self.function.number, size)}"
        self.used.add(helper)
        value = self._lane("value")
        if memory != held:
            value = self._printed(Cast(Variable("value", held.dtype), memory.dtype), {"value": value})
        place = f"address + {size} * i" if size > 1 else "address + i"
        line = f"luciole_{helper}({place}, {value});"
        if self.function.operation.endswith("_masked"):
            line = f"if ({self._lane('mask')}) {{\n{_INDENT}{line}\n}}"
        return f"{self._for(held.lanes)}\n{_indented(line)}\n}}"

    # Sums over lanes

    def _dot(self, operation: str) -> str:
        total, a, _ = self.function.types
        group = a.lanes // total.lanes
        index = "i" if total.lanes == 1 else f"{group} * i + j"
        inner, count = ("i", a.lanes) if total.lanes == 1 else ("j", group)
        product = f"sum += (uint32_t)((int32_t){self._lane('a', index)} * (int32_t){self._lane('b', index)});"
        first = "0" if operation == "products" else f"(uint32_t){self._lane('total')}"
        begin = f"uint32_t sum = {first};"
        lines = f"{begin}\n{self._for(count, inner)}\n{_INDENT}{product}\n}}"
        if total.lanes == 1:
            return f"{lines}\nreturn (int32_t)sum;"
        target = "result[i]" if self.is_native and total.is_native else "result.lane[i]"
        lines += f"\n{target} = (int32_t)sum;"
        return f"luciole_{total.text} result;\n{self._for(total.lanes)}\n{_indented(lines)}\n}}\nreturn result;"

    def _reduce(self, operation: str) -> str:
        type = self.function.types[0]
        names = {"found": "found", "a": self._lane("a")}
        step = self._printed(Binary(operation, Variable("found", type.dtype), Variable("a", type.dtype)), names)
        first = f"{REGISTER_TYPES[type.dtype]} found = {self._lane('a', '0')};"
        loop = f"for (int i = 1; i < {type.lanes}; i++) {{"
        return f"{first}\n{loop}\n{_INDENT}found = {step};\n}}\nreturn found;"


def vector_support(printers: Iterable[ExpressionPrinter]) -> VectorSupport:
    """The support of all vectors that some printers have met."""
    support = VectorSupport(set(), {})
    for printer in printers:
        support.functions |= printer.vector_functions
        support.intrinsics |= printer.vector_intrinsics
    return support
