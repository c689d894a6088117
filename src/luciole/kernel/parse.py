"""The parser of kernel text: statements and kernels. `luciole.kernel.text` describes the form and prints it."""

from __future__ import annotations

from typing import cast, get_args

from luciole.errors import printable
from luciole.ir.text import Token
from luciole.ir.types import MAXIMUM_ELEMENTS, DType
from luciole.kernel.core import (
    Assign,
    Body,
    Comment,
    Define,
    Fence,
    For,
    If,
    Kernel,
    Parameter,
    ParameterKind,
    Repeat,
    Stmt,
    Store,
    Variable,
    Write,
)
from luciole.kernel.parse_expressions import MAXIMUM_DEPTH, ExpressionParser


class KernelParser(ExpressionParser):
    """Reads one kernel. Types are checked as far as operators need them; `verify_kernel` checks the rest."""

    # The kernel

    def kernel(self) -> Kernel:
        """The whole text."""
        self._skip_lines()
        self.expect("kernel")
        name = self.name("the kernel's name")
        self.expect("(")
        parameters: list[Parameter] = []
        scalars: list[Variable] = []
        while not self.accept(")"):
            if parameters or scalars:
                self.expect(",")
            self._parameter(parameters, scalars)
        is_scheduled, may_overlap = self.accept("scheduled"), self.accept("overlapping")
        body = self._body(self._indent_of_line())
        if self._indent_of_line() != 0:
            self.fail(f"{self.tokens[self.position + 1].text!r} belongs to nothing here", self._first_of_line())
        self._next_line()
        self.expect("end")
        self._skip_lines()
        if self.peek().kind != "end of file":
            self.fail(f"expected the end of the file, found {self.found()}")
        return Kernel(name, tuple(parameters), body, tuple(scalars), is_scheduled, may_overlap)

    def _parameter(self, parameters: list[Parameter], scalars: list[Variable]) -> None:
        kind = self.peek().text
        is_buffer = kind in get_args(ParameterKind) and self.peek().kind == "word"
        if is_buffer:
            self.next()
        offset = self.peek().offset
        name = self.name("a parameter")
        if name in self.buffers or name in self.variables:
            self.fail(f"two parameters are named {printable(name)}", offset)
        self.expect(":")
        dtype = self.dtype()
        if not is_buffer:
            if dtype is not DType.I32:
                self.fail("a scalar parameter is i32", offset)
            self.variables[name] = Variable(name, dtype)
            scalars.append(self.variables[name])
            return
        self.expect("[")
        shape: list[int] = []
        while not self.accept("]"):
            if shape:
                self.expect(",")
            shape.append(self.bounded("a size", MAXIMUM_ELEMENTS))
        alignment = dtype.size_bytes if dtype not in (DType.INDEX, DType.POINTER) else 1
        if self.accept("align"):
            alignment = self.bounded("an alignment", 1 << 16)
        parameter = Parameter(cast(ParameterKind, kind), name, dtype, tuple(shape), alignment)
        self.buffers[name] = parameter
        parameters.append(parameter)

    # Lines

    def _skip_lines(self) -> None:
        """Pass over empty lines and comments outside the kernel."""
        while self.peek().kind in ("line", "comment"):
            self.next()

    def _indent_of_line(self) -> int:
        """Spaces before the first token of the next line."""
        token = self.peek()
        if token.kind != "line":
            self.fail(f"expected the end of the line, found {self.found()}")
        following = self.tokens[self.position + 1]
        if following.kind == "end of file":
            self.fail("expected 'end', found the end of the file", following.offset)
        return len(token.text.lstrip("\r\n"))

    def _next_line(self) -> None:
        self.take("line", "the end of the line")

    def _body(self, indent: int) -> Body:
        """All statements of lines indented by `indent`; nothing when it is not more than that of the line before."""
        if indent <= 2 * self.depth:
            return ()
        if self.depth >= MAXIMUM_DEPTH:
            self.fail("too many levels")
        if indent != 2 * self.depth + 2:
            self.fail(f"expected an indent of {2 * self.depth + 2} spaces, found {indent}", self._first_of_line())
        self.depth += 1
        stmts: list[Stmt] = []
        while (found := self._indent_of_line()) == indent:
            if self._first_of_line_is("else") or self._first_of_line_is("while"):
                break
            self._next_line()
            stmts.append(self._statement(indent))
        if found > indent:
            self.fail("indented more than the line above", self._first_of_line())
        self.depth -= 1
        return tuple(stmts)

    def _first_of_line(self) -> int:
        return self.tokens[self.position + 1].offset

    def _first_of_line_is(self, word: str) -> bool:
        token = self.tokens[self.position + 1]
        return token.kind == "word" and token.text == word

    # Statements

    def _statement(self, indent: int) -> Stmt:
        token = self.peek()
        if token.kind == "comment":
            return self._comment()
        if token.kind == "word":
            match token.text:
                case "for":
                    return self._for()
                case "if":
                    return self._if(indent)
                case "repeat":
                    self.next()
                    body = self._body(self._indent_of_line())
                    if self._indent_of_line() != indent or not self._first_of_line_is("while"):
                        self.fail("expected 'while' after the body of repeat", self._first_of_line())
                    self._next_line()
                    self.expect("while")
                    return Repeat(body, self.typed(DType.BOOL))
                case "fence":
                    self.next()
                    holds_arithmetic = self.peek().text == "all"
                    if holds_arithmetic:
                        self.next()
                    return Fence(holds_arithmetic)
                case "write":
                    return self._write()
        return self._assignment()

    def _comment(self) -> Comment:
        token = self.next()
        text = token.text[1:].removeprefix(" ")
        if text.startswith('"'):
            return Comment(self.unquoted(Token("string", text, token.offset)))
        return Comment(text)

    def _for(self) -> For:
        self.expect("for")
        offset = self.peek().offset
        name = self.name("a loop variable")
        self.expect("in")
        begin = self.typed(DType.INDEX)
        if self.peek().kind != "range":
            self.fail(f"expected '..', found {self.found()}")
        self.next()
        end = self.typed(DType.INDEX)
        step = self.bounded("a step", 1 << 31) if self.accept("step") else 1
        is_vector = self.accept("vectors")
        variable = self._define(name, DType.INDEX, 1, offset)
        return For(variable, begin, end, step, self._body(self._indent_of_line()), is_vector)

    def _if(self, indent: int) -> If:
        self.expect("if")
        condition = self.typed(DType.BOOL)
        then = self._body(self._indent_of_line())
        otherwise: Body = ()
        if self._indent_of_line() == indent and self._first_of_line_is("else"):
            self._next_line()
            self.expect("else")
            otherwise = self._body(self._indent_of_line())
        return If(condition, then, otherwise)

    def _write(self) -> Write:
        self.expect("write")
        access = self.access()
        self.expect("=")
        value = self.typed(access.dtype, access.lanes)
        return Write(access.pointer, access.offset, value, access.alignment, access.mask)

    def _assignment(self) -> Stmt:
        offset = self.peek().offset
        name = self.name("a statement")
        if self.accept(":"):
            dtype, lanes = self.type()
            self.expect("=")
            value = self.typed(dtype, lanes)
            return Define(self._define(name, dtype, lanes, offset), value)
        if self.peek().text == "[":
            buffer = self.buffer(name, offset)
            indices = self.indices(buffer)
            self.expect("=")
            return Store(name, indices, self.typed(buffer.dtype))
        if self.peek().text != "=":
            self.fail(f"expected ':', '[' or '=' after a name, found {self.found()}")
        variable = self.variable(name, offset)
        self.next()
        return Assign(variable, self.typed(variable.dtype, variable.lanes))

    def _define(self, name: str, dtype: DType, lanes: int, offset: int) -> Variable:
        if name in self.buffers:
            self.fail(f"{printable(name)} is a buffer", offset)
        self.variables[name] = Variable(name, dtype, lanes)
        return self.variables[name]


def parse_kernel(text: str, file: str = "", first_line: int = 1) -> Kernel:
    """The kernel of a text. Raises `CompileError` (`kernel-syntax`) with the line and a caret.

    `file` and the number of the text's first line in it are for messages. Intrinsics must have been defined: import the
    modules that hold them.
    """
    return KernelParser(text, file, first_line).kernel()
