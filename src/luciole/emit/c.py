"""A kernel as a C99 function that compilers take without a warning, as C++ too, and that gives the interpreter's bits.

    prelude = prelude_c(kernels)                      # once a file, before the functions
    text = print_kernel_c(kernel, "kws_conv2d_1")     # static void kws_conv2d_1(const int8_t *LUCIOLE_RESTRICT x,

The function takes the kernel's buffers in order, then its scalars as `int32_t`. A buffer is `const T *` when it is an
input, `T *` otherwise; a workspace is `unsigned char *`. Every buffer must have the alignment that its parameter says,
and no two may overlap unless the function is printed with `is_restrict=False`. Memory is little endian. See
`c_prelude` for what the code expects of a compiler.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from luciole.emit.c_expressions import SUM, UNARY, ExpressionPrinter
from luciole.emit.c_prelude import FEATURES, MEMORY_TYPES, REGISTER_TYPES, support_c
from luciole.emit.c_vector_support import VECTORS_BEGIN, VECTORS_END, vector_support
from luciole.emit.c_vectors import vector_write
from luciole.errors import InternalError
from luciole.ir.types import DType
from luciole.kernel.core import (
    Assign,
    Binary,
    Body,
    Comment,
    Constant,
    Define,
    Expr,
    Fence,
    For,
    If,
    Intrinsic,
    Kernel,
    Parameter,
    Repeat,
    Stmt,
    Store,
    Variable,
    Write,
)
from luciole.kernel.intervals import Interval, interval
from luciole.kernel.pointers import pointer_roots
from luciole.kernel.running import run_pointers
from luciole.kernel.walk import intrinsics_of, walk, walk_expr

#: Words that no name of ours may be: keywords of C and C++ up to 2023, and macros of compilers.
_RESERVED = frozenset(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t
    class compl concept const const_cast consteval constexpr constinit continue co_await co_return co_yield
    decltype default delete do double dynamic_cast else enum explicit export extern false float for friend
    goto if inline int long main mutable namespace new noexcept not not_eq nullptr operator or or_eq private
    protected public register reinterpret_cast requires restrict return short signed sizeof static
    static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename
    typeof typeof_unqual union unsigned using virtual void volatile wchar_t while xor xor_eq linux unix arm
    mips i386 vax sun near far huge interrupt
    """.split()  # noqa: SIM905  # a table of words reads better as words
)

_INDENT = "    "
_WIDTH = 120


def print_kernel_c(kernel: Kernel, function_name: str, linkage: str = "static", *, is_restrict: bool = True) -> str:
    """The definition of a kernel as a C function; it needs `prelude_c` before it.

    `linkage` is what stands before `void`. Without `is_restrict` the buffers may overlap, as they do when a kernel
    works in place. Raises `ValueError` when `function_name` is no identifier of C.
    """
    return _FunctionPrinter(kernel, function_name, is_restrict).print(linkage)


def prelude_c(kernels: Iterable[Kernel]) -> str:
    """What must stand before the functions of these kernels, once a file: includes, checks, helpers, intrinsics."""
    used: set[str] = set()
    intrinsics: dict[str, Intrinsic] = {}
    printers = []
    for kernel in kernels:
        printer = _FunctionPrinter(kernel, "unnamed", is_restrict=True)
        printer.print("static")
        used |= printer.used
        printers.append(printer.expressions)
        intrinsics |= {i.name: i for i in intrinsics_of(kernel.body)}
    for intrinsic in intrinsics.values():
        used |= _print_intrinsic(intrinsic)[1]
    support = vector_support(printers)
    vectors, functions = support.print(), intrinsic_functions_c(intrinsics.values())
    return "\n".join(text for text in (support_c(used | support.used), functions, vectors) if text)


def intrinsic_functions_c(intrinsics: Iterable[Intrinsic]) -> str:
    """Intrinsics as static functions: their C spelling where the compiler has the feature, their meaning elsewhere.

    Give them in an order in which those that others use come first, as `intrinsics_of` does. Raises `InternalError`
    when an intrinsic has a C spelling for a feature that `c_prelude.FEATURES` does not have.
    """
    return "\n".join(_print_intrinsic(intrinsic)[0] for intrinsic in intrinsics)


def comment_c(text: str) -> str:
    """Any text as one C comment: whatever names a model has, they cannot end the comment or hide code."""
    shown = "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text)
    return f"/* {shown.replace('*/', '* /').replace('/*', '/ *').replace('??', '? ?')} */"


def c_names(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """A C and C++ identifier for each name, all different and none in `taken`; names that are fit stay as they are."""
    result: dict[str, str] = {}
    used = {"luciole", *taken}
    for name in names:
        fit = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9_]", "_", name)).rstrip("_") or "v"
        if (
            not fit[0].isalpha()
            or fit.lower().startswith("luciole")
            or re.fullmatch(r"U?INT\w*|LUCIOLE\w*|u?int\w*_t", fit)
        ):
            fit = f"v_{fit.lstrip('_')}"
        candidate, number = fit, 1
        while candidate in used or candidate in _RESERVED:
            candidate, number = f"{fit}_{number}", number + 1
        used.add(candidate)
        result[name] = candidate
    return result


def _print_intrinsic(intrinsic: Intrinsic) -> tuple[str, set[str]]:
    """An intrinsic's function and the helpers that it uses."""
    variables = [*intrinsic.parameters, *(d.variable for d in intrinsic.definitions)]
    names = c_names(v.name for v in variables)
    printer = ExpressionPrinter(names, {})
    definitions: list[tuple[str, str]] = []
    for definition in intrinsic.definitions:
        value, variable = printer.value(definition.value), definition.variable
        printer.known[variable.name] = _bounds(definition.value, printer.known)
        definitions.append((variable.name, f"const {REGISTER_TYPES[variable.dtype]} {names[variable.name]} = {value};"))
    result = f"return {printer.value(intrinsic.result)};"
    lines = [f"(void){names[p.name]};" for p in intrinsic.parameters if p.name not in printer.read]
    for name, line in definitions:
        lines += [line] if name in printer.read else [line, f"(void){names[name]};"]
    lines.append(result)
    meaning = "\n".join(_wrap(line, 1) for line in lines)
    parameters = ", ".join(f"{REGISTER_TYPES[p.dtype]} {names[p.name]}" for p in intrinsic.parameters)
    head = f"LUCIOLE_INLINE {REGISTER_TYPES[intrinsic.dtype]} luciole_{intrinsic.name}({parameters})"
    used = set(printer.used)
    if intrinsic.c:
        if intrinsic.feature not in FEATURES:
            raise InternalError(
                f"intrinsic {intrinsic.name} is spelled in C for {intrinsic.feature!r}, which has no condition"
            )
        condition, _ = FEATURES[intrinsic.feature]
        used.add(f"feature_{intrinsic.feature}")
        spelled = intrinsic.c.format(**{p.name: names[p.name] for p in intrinsic.parameters})
        fast = f"{_INDENT}return ({REGISTER_TYPES[intrinsic.dtype]}){spelled};"
        meaning = f"#if {condition} && !defined(LUCIOLE_PORTABLE)\n{fast}\n#else\n{meaning}\n#endif"
    return f"{_wrap(head, 0)}\n{{\n{meaning}\n}}\n", used


def _bounds(value: Expr, known: Mapping[str, Interval]) -> Interval:
    dtype = value.dtype
    return interval(value, known) if dtype.is_integer or dtype is DType.BOOL else Interval(0, 0)


def _wrap(line: str, depth: int) -> str:
    """A line of code, indented, broken at spaces where it is too long."""
    indent = _INDENT * depth
    if len(indent) + len(line) <= _WIDTH or line.startswith("/*"):
        return indent + line
    lines, rest, lead = [], line, indent
    while len(lead) + len(rest) > _WIDTH:
        cut = rest.rfind(" ", 0, _WIDTH - len(lead) + 1)
        if cut <= 0:
            break
        lines.append(lead + rest[:cut])
        rest, lead = rest[cut + 1 :], indent + 2 * _INDENT
    return "\n".join([*lines, lead + rest])


@dataclass
class _Line:
    """A line of the function; `unused` names a register whose definition it is and that nothing may read."""

    text: str
    depth: int
    unused: str = ""


@dataclass
class _FunctionPrinter:
    kernel: Kernel
    function_name: str
    is_restrict: bool
    lines: list[_Line] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.function_name) or self.function_name in _RESERVED:
            raise ValueError(f"{self.function_name!r} is no name for a C function")
        self.kernel = run_pointers(self.kernel)
        statements = list(walk(self.kernel.body))
        self.parameters = {p.name: p for p in self.kernel.parameters}
        self.assigned = {s.variable.name for s in statements if isinstance(s, Assign)}
        self.variables = {s.variable.name: s.variable for s in statements if isinstance(s, Define | For)}
        given = [*self.parameters, *(s.name for s in self.kernel.scalars)]
        self.names = c_names([*given, *self.variables], [self.function_name])
        self.roots = pointer_roots(self.kernel.body)
        self.hoisted: set[str] = set()
        self.expressions = ExpressionPrinter(self.names, self.parameters)

    # The head

    def head(self, linkage: str) -> str:
        """The declarator, one parameter a line."""
        parameters = [self._parameter(p) for p in self.kernel.parameters]
        parameters += [f"int32_t {self.names[s.name]}" for s in self.kernel.scalars]
        listed = ",\n".join(_INDENT + p for p in parameters) or f"{_INDENT}void"
        return f"{linkage} void {self.function_name}(\n{listed})".lstrip()

    def _parameter(self, parameter: Parameter) -> str:
        ctype = "unsigned char" if parameter.kind == "workspace" else MEMORY_TYPES[parameter.dtype]
        constness = "const " if parameter.kind == "in" else ""
        is_shared = self.kernel.may_overlap and parameter.kind != "workspace"
        star = "*LUCIOLE_RESTRICT " if self.is_restrict and not is_shared else "*"
        name = self.names[parameter.name] + ("_bytes" if self._is_typed_workspace(parameter) else "")
        shape = f"{parameter.dtype.value}[{', '.join(map(str, parameter.shape))}]"
        alignment = f", aligned to {parameter.alignment}" if parameter.alignment > parameter.dtype.size_bytes else ""
        return f"{constness}{ctype} {star}{name} {comment_c(f'{parameter.kind} {shape}{alignment}')}"

    def _is_typed_workspace(self, parameter: Parameter) -> bool:
        return parameter.kind == "workspace" and parameter.dtype not in (DType.U8, DType.BOOL)

    # The body

    def print(self, linkage: str) -> str:
        """The whole function."""
        self._body(self.kernel.body, 1)
        read = self.expressions.read
        lines = self._workspaces()
        unused = [n for n in (*self.parameters, *(s.name for s in self.kernel.scalars)) if n not in read]
        lines += [f"{_INDENT}(void){self._unused_name(n)};" for n in unused]
        for line in self.lines:
            lines.append(_wrap(line.text, line.depth))
            if line.unused and line.unused not in read:
                lines.append(f"{_INDENT * line.depth}(void){self.names[line.unused]};")
        self.used |= self.expressions.used
        text = "\n".join([comment_c(self.kernel.name), self.head(linkage), "{", *lines, "}", ""])
        return f"{VECTORS_BEGIN}{text}{VECTORS_END}" if self.expressions.vector_functions else text

    def _unused_name(self, name: str) -> str:
        parameter = self.parameters.get(name)
        is_typed = parameter is not None and self._is_typed_workspace(parameter)
        return self.names[name] + ("_bytes" if is_typed else "")

    def _workspaces(self) -> list[str]:
        """Typed pointers to the workspaces; of a type that may alias others, since a workspace is bytes."""
        lines = []
        for parameter in self.kernel.parameters:
            if self._is_typed_workspace(parameter) and parameter.name in self.expressions.read:
                name, word = self.names[parameter.name], parameter.dtype.value
                self.used.add(f"alias_{word}")
                lines.append(
                    f"{_INDENT}luciole_alias_{word} *const {name} = (luciole_alias_{word} *)(void *){name}_bytes;"
                )
        return lines

    def _body(self, body: Body, depth: int) -> None:
        for stmt in body:
            self._stmt(stmt, depth)

    def _emit(self, text: str, depth: int, unused: str = "") -> None:
        self.lines.append(_Line(text, depth, unused))

    def _stmt(self, stmt: Stmt, depth: int) -> None:
        value = self.expressions.value
        match stmt:
            case Define():
                self._define(stmt, depth)
            case Assign() if stmt.value == stmt.variable:
                pass  # Compilers warn of it.
            case Assign():
                self._emit(f"{self.names[stmt.variable.name]} = {value(stmt.value)};", depth)
            case Store():
                self.expressions.read.add(stmt.buffer)
                target = f"{self.names[stmt.buffer]}[{self.expressions.element(stmt.buffer, stmt.indices)}]"
                text = self.expressions.exact(stmt.value)
                stored = f"(uint8_t){text.at(UNARY)}" if stmt.value.dtype is DType.BOOL else text.text
                self._emit(f"{target} = {stored};", depth)
            case Write() if stmt.value.lanes > 1:
                self._emit(f"{vector_write(self.expressions, stmt)};", depth)
            case Write():
                name = f"write_{'i32' if stmt.value.dtype is DType.INDEX else stmt.value.dtype.value}_{stmt.alignment}"
                self.expressions.used.add(name)
                self._emit(
                    f"luciole_{name}({self.expressions.address(stmt.pointer, stmt.offset)}, {value(stmt.value)});",
                    depth,
                )
            case For():
                self._for(stmt, depth)
            case Repeat():
                self._repeat(stmt, depth)
            case If():
                self._emit(f"if ({value(stmt.condition)}) {{", depth)
                self._body(stmt.then, depth + 1)
                if stmt.otherwise:
                    self._emit("} else {", depth)
                    self._body(stmt.otherwise, depth + 1)
                self._emit("}", depth)
            case Fence():
                self.expressions.used.add("fence")
                self._emit("LUCIOLE_FENCE();", depth)
            case Comment():
                for line in stmt.text.splitlines() or [""]:
                    self._emit(comment_c(line), depth)
            case _:
                raise InternalError(f"no C for {type(stmt).__name__}")

    def _define(self, stmt: Define, depth: int) -> None:
        name = stmt.variable.name
        value = self.expressions.value(stmt.value)
        if name in self.hoisted:
            self._emit(f"{self.names[name]} = {value};", depth)
            return
        is_constant = name not in self.assigned
        if is_constant and stmt.variable.dtype is not DType.POINTER:
            self.expressions.known[name] = _bounds(stmt.value, self.expressions.known)
        self._emit(f"{self._declaration(stmt.variable, is_constant)} = {value};", depth, unused=name)

    def _declaration(self, variable: Variable, is_constant: bool) -> str:
        name = self.names[variable.name]
        if variable.dtype is DType.POINTER:
            is_input = any(self.parameters[b].kind == "in" for b in self.roots[variable.name])
            return f"{'const ' if is_input else ''}unsigned char *{'const ' if is_constant else ''}{name}"
        if variable.lanes > 1:
            return f"{'const ' if is_constant else ''}luciole_{variable.type_text} {name}"
        return f"{'const ' if is_constant else ''}{REGISTER_TYPES[variable.dtype]} {name}"

    def _for(self, stmt: For, depth: int) -> None:
        name = self.names[stmt.variable.name]
        begin, end = interval(stmt.begin, self.expressions.known), interval(stmt.end, self.expressions.known)
        first, last = self.expressions.value(stmt.begin), self.expressions.exact(stmt.end)
        self.expressions.known[stmt.variable.name] = Interval(begin.low, max(begin.low, end.high - 1))
        increment = f"{name}++" if stmt.step == 1 else f"{name} += {stmt.step}"
        if self._is_stable(stmt.end):
            self._emit(f"for (int32_t {name} = {first}; {name} < {last.at(SUM)}; {increment}) {{", depth)
        else:
            # The bounds are read once, and the body may change what they come from.
            fresh = f"{name}_end"
            while fresh in self.names.values():
                fresh += "_"
            self._emit(
                f"for (int32_t {name} = {first}, {fresh} = {last.text}; {name} < {fresh}; {increment}) {{", depth
            )
        self.expressions.read.add(stmt.variable.name)
        self._body(stmt.body, depth + 1)
        self._emit("}", depth)

    def _is_stable(self, end: Expr) -> bool:
        """Whether the end of a loop is cheap and the same all along: constants and registers that keep their value."""
        return all(
            isinstance(e, Constant | Binary) or (isinstance(e, Variable) and e.name not in self.assigned)
            for e in walk_expr(end)
        )

    def _repeat(self, stmt: Repeat, depth: int) -> None:
        needed = {e.name for e in walk_expr(stmt.condition) if isinstance(e, Variable)}
        for inner in stmt.body:
            if isinstance(inner, Define) and inner.variable.name in needed:
                # C ends the body's scope before the condition.
                self.hoisted.add(inner.variable.name)
                self._emit(f"{self._declaration(inner.variable, False)};", depth)
        self._emit("do {", depth)
        self._body(stmt.body, depth + 1)
        self._emit(f"}} while ({self.expressions.value(stmt.condition)});", depth)
