"""Reading the text form of graphs; `luciole.graph.text` describes it.

A `.graph` file is user input: whatever is wrong with it becomes a `CompileError` with file, line and a caret.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from luciole.errors import CompileError, InternalError, Location
from luciole.graph.core import OPERATORS, Graph, Operator, Value
from luciole.graph.scanner import Scanner
from luciole.ir.quant import Quant
from luciole.ir.types import MAXIMUM_ELEMENTS, Array, DType, Shape, TensorType

#: Bounds on hostile files.
MAXIMUM_TEXT_BYTES = 256 << 20
MAXIMUM_NESTING = 8
MAXIMUM_RANK = 8

_TENSOR_TYPES = {dtype.value: dtype for dtype in DType if dtype not in (DType.INDEX, DType.POINTER)}
_SINGLE_WORDS: dict[str, object] = {
    "true": True, "false": False, "none": None, "inf": math.inf, "nan": math.nan, **_TENSOR_TYPES,
}  # fmt: skip


def parse_graph(text: str, constants: Mapping[str, Array] | None = None, file: str = "") -> Graph:
    """The graph that a text describes; `constants` are the arrays it names by hash. `file` is for messages.

    Raises `CompileError` for whatever is wrong with the text. Knows the operators whose modules have been imported.
    """
    return GraphParser(text, constants or {}, file).file_graph()


class GraphParser(Scanner):
    """Reads statements of graphs; the readers of other text forms that hold graphs build on it."""

    def __init__(self, text: str, constants: Mapping[str, Array], file: str) -> None:
        super().__init__(text, file)
        self.constants = constants
        self.depth = 0
        self.hints: dict[str, dict[str, Any]] = {}

    # Graphs

    def file_graph(self) -> Graph:
        graph = self.graph()
        if self.peek().kind != "end of file":
            self.fail(f"expected the end of the file, found {self.found()}")
        return graph

    def graph(self) -> Graph:
        self.expect("graph")
        body = _Body(Graph(self.word_or_string("a name for the graph")))
        while not self.accept("end"):
            if self.peek().kind == "value":
                self.operator(body)
            elif self.accept("quant"):
                self.quant(body)
            elif self.accept("in"):
                name, _ = self.new_name(body)
                body.values[name] = body.graph.add_input(name, self.tensor_type(body))
            elif self.accept("const"):
                self.constant(body)
            elif self.accept("out"):
                self.output(body)
            elif self.accept("source"):
                body.source = self.string("a file name in quotes")
            elif self.accept("remark"):
                body.graph.remarks.append(self.string("a remark in quotes"))
            else:
                statements = "source, remark, quant, in, const, %name or out"
                self.fail(f"expected a statement, found {self.found()}", help=f"statements begin with {statements}")
        return body.graph

    def output(self, body: _Body) -> None:
        value = self.value(body)
        self.expect("as")
        offset = self.peek().offset
        name = self.string("the name of the output in quotes")
        if any(name == other for other, _ in body.graph.outputs):
            self.fail(f'two outputs are named "{name}"', offset)
        body.graph.add_output(name, value)

    def new_name(self, body: _Body) -> tuple[str, int]:
        """A name being declared, and where it stands."""
        offset = self.peek().offset
        name = self.value_name()
        if name in body.values:
            self.fail(f"%{name} is declared twice", offset)
        if not name:
            self.fail("a value has an empty name", offset)
        self.expect(":")
        return name, offset

    def value(self, body: _Body) -> Value:
        offset = self.peek().offset
        name = self.value_name()
        if name not in body.values:
            self.fail(f"%{name} is not declared before it is used", offset)
        return body.values[name]

    # Types and quantization

    def tensor_type(self, body: _Body) -> TensorType:
        offset = self.peek().offset
        name = self.take("word", "a type such as f32[1,8]").text
        if name not in _TENSOR_TYPES:
            self.fail(f"unknown element type {name}", offset, help=f"element types are {', '.join(_TENSOR_TYPES)}")
        shape = self.sizes()
        quant = None
        if self.accept(":"):
            quant_offset = self.peek().offset
            quant_name = self.take("word", "the name of a quantization").text
            if quant_name not in body.quants:
                self.fail(f"there is no quantization {quant_name}", quant_offset)
            quant = body.quants[quant_name]
            if not _TENSOR_TYPES[name].is_integer:
                self.fail(f"{name} cannot be quantized", quant_offset)
            if quant.is_per_channel and not (0 <= quant.axis < len(shape) and shape[quant.axis] == len(quant.scales)):
                tensor = f"a tensor of shape [{','.join(map(str, shape))}]"
                self.fail(
                    f"{quant_name} has {len(quant.scales)} scales along axis {quant.axis} of {tensor}", quant_offset
                )
        return TensorType(_TENSOR_TYPES[name], shape, quant)

    def sizes(self) -> Shape:
        offset = self.peek().offset
        self.expect("[")
        sizes: list[int] = []
        while not self.accept("]"):
            if sizes:
                self.expect(",")
            size_offset = self.peek().offset
            sizes.append(self.integer("a size"))
            if sizes[-1] < 0:
                self.fail("a size is negative", size_offset)
        if len(sizes) > MAXIMUM_RANK:
            self.fail(f"the tensor has {len(sizes)} axes, the limit is {MAXIMUM_RANK}", offset)
        if math.prod(sizes) > MAXIMUM_ELEMENTS:
            self.fail(f"the tensor has {math.prod(sizes)} elements, the limit is {MAXIMUM_ELEMENTS}", offset)
        return tuple(sizes)

    def quant(self, body: _Body) -> None:
        offset = self.peek().offset
        name = self.take("word", "a name for the quantization").text
        if name in body.quants:
            self.fail(f"the quantization {name} is declared twice", offset)
        for word in ("=", "affine", "(", "scale", "="):
            self.expect(word)
        with np.errstate(over="ignore", under="ignore"):
            scales = [float(np.float32(scale)) for scale in self.quant_numbers("f")]
        for word in (",", "zero", "="):
            self.expect(word)
        zeros = self.quant_numbers("i")
        axis = 0
        if self.accept(","):
            self.expect("axis")
            self.expect("=")
            axis = self.integer("an axis")
        self.expect(")")
        if len(zeros) == 1:
            zeros = zeros * len(scales)
        if len(scales) != len(zeros):
            self.fail(f"{len(scales)} scales but {len(zeros)} zero points", offset)
        if not all(0.0 < scale < math.inf for scale in scales):
            self.fail("a scale is not a positive number", offset)
        if not all(-(1 << 31) <= zero < 1 << 31 for zero in zeros):
            self.fail("a zero point is no 32-bit number", offset)
        body.quants[name] = Quant(tuple(scales), tuple(map(int, zeros)), axis)

    def quant_numbers(self, kind: str) -> list[float | int]:
        """One number, a list of them, or the hash of an array; `kind` "i" or "f" as in numpy."""
        offset = self.peek().offset
        found: object
        if self.peek().kind == "hash":
            array = self.array()
            if array.ndim != 1 or array.dtype.kind != kind:
                wanted = "floats" if kind == "f" else "integers"
                self.fail(f"the array is {array.dtype}{list(array.shape)}, not a list of {wanted}", offset)
            found = tuple(array.tolist())
        else:
            found = self.attribute()
        numbers = found if isinstance(found, tuple) else (found,)
        allowed = (int, float) if kind == "f" else (int,)
        if not numbers or not all(isinstance(n, allowed) and not isinstance(n, bool) for n in numbers):
            self.fail("expected numbers or a hash", offset)
        return [*numbers]

    # Constants

    def constant(self, body: _Body) -> None:
        name, _ = self.new_name(body)
        type_offset = self.peek().offset
        type = self.tensor_type(body)
        self.expect("=")
        data = self.data(name, type)
        value = body.graph.add_constant(data, type.quant, name)
        if value.type != type:
            self.fail(f"%{name} is {type}, its data are {value.type}", type_offset)
        body.values[name] = value

    def data(self, name: str, type: TensorType) -> Array:
        """The contents of `name`: a list of numbers, or the hash of an array of its type."""
        offset = self.peek().offset
        if self.peek().kind != "hash":
            return self.literal(type, offset)
        data = self.array()
        if data.dtype != type.dtype.numpy or tuple(data.shape) != type.shape:
            given = f"{data.dtype}{list(data.shape)}"
            self.fail(f"%{name} is {type}, the array of that name is {given}", offset)
        return data

    def array(self) -> Array:
        token = self.next()
        data = self.constants.get(token.text[1:])
        if data is None:
            self.fail(
                f"there is no array {token.text}",
                token.offset,
                help="arrays stand in the .npz file beside the text",
            )
        return data

    def literal(self, type: TensorType, offset: int) -> Array:
        numbers = self.attribute()
        if not isinstance(numbers, tuple) or len(numbers) != type.elements:
            self.fail(f"expected a list of {type.elements} numbers, or a hash", offset)
        if type.dtype is DType.BOOL:
            fits = all(isinstance(n, bool) for n in numbers)
        elif type.dtype.is_real:
            fits = all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
        else:
            lowest, highest = type.dtype.limits
            fits = all(isinstance(n, int) and not isinstance(n, bool) and lowest <= n <= highest for n in numbers)
        if not fits:
            self.fail(f"a number is no {type.dtype.value}", offset)
        return np.array(numbers, type.dtype.numpy).reshape(type.shape)

    # Operators

    def operator(self, body: _Body) -> None:
        offset = self.peek().offset
        names: list[str] = []
        declared: list[TensorType] = []
        while not names or self.accept(","):
            name, name_offset = self.new_name(body)
            if name in names:
                self.fail(f"%{name} is declared twice", name_offset)
            names.append(name)
            declared.append(self.tensor_type(body))
        self.expect("=")
        kind_offset = self.peek().offset
        kind = self.take("word", "the kind of an operator").text
        if kind not in OPERATORS:
            self.fail(f"there is no operator {kind}", kind_offset)
        operands, attributes = self.arguments(body, OPERATORS[kind])
        location = self.location(body)
        op = self.make(
            OPERATORS[kind], {**operands, **attributes, "location": location}, tuple(declared), kind_offset, offset
        )
        for name, value in zip(names, body.graph.add(op, names), strict=True):
            body.values[name] = value

    def arguments(self, body: _Body, cls: type[Operator]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Operands and attributes by field, from the opening parenthesis to the closing one."""
        operands: dict[str, Any] = {}
        attributes: dict[str, Any] = {}
        slots = iter(cls.operand_fields)
        names = {f.name for f in fields(cls) if f.name not in (*cls.operand_fields, "quant", "location")}
        hints = self.hints.get(cls.kind)
        if hints is None:
            hints = self.hints[cls.kind] = _attribute_hints(cls)
        self.expect("(")
        while not self.accept(")"):
            if operands or attributes:
                self.expect(",")
            token = self.peek()
            if token.kind != "word" or token.text == "none":
                slot = next(slots, None)
                if slot is None or attributes:
                    self.fail(
                        f"{cls.kind} takes {len(cls.operand_fields)} operands, before its attributes", token.offset
                    )
                operands[slot] = self.operand(body)
                continue
            name = self.next().text
            if name not in names or name in attributes:
                problem = f"has the attribute {name} twice" if name in attributes else f"has no attribute {name}"
                known = ", ".join(sorted(names)) or "none"
                self.fail(f"{cls.kind} {problem}", token.offset, help=f"attributes of {cls.kind}: {known}")
            self.expect("=")
            value_offset = self.peek().offset
            value = self.attribute()
            if name in hints:
                fits, value = _convert(value, hints[name])
                if not fits:
                    self.fail(f"the attribute {name} of {cls.kind} does not take this value", value_offset)
            attributes[name] = value
        return operands, attributes

    def operand(self, body: _Body) -> Value | tuple[Value, ...] | None:
        if self.accept("none"):
            return None
        if self.accept("["):
            values: list[Value] = []
            while not self.accept("]"):
                if values:
                    self.expect(",")
                values.append(self.value(body))
            return tuple(values)
        return self.value(body)

    def attribute(self) -> Any:
        """Any attribute value."""
        token = self.peek()
        if token.kind == "number":
            return self.number(self.next())
        if token.kind == "string":
            return self.unquoted(self.next())
        if token.kind == "word" and token.text in _SINGLE_WORDS:
            return _SINGLE_WORDS[self.next().text]
        if token.kind == "mark" and token.text in ("[", "{"):
            self.depth += 1
            if self.depth > MAXIMUM_NESTING:
                self.fail(f"more than {MAXIMUM_NESTING} levels of nesting", token.offset)
            self.next()
            value = self.items() if token.text == "[" else self.graph()
            if token.text == "{":
                self.expect("}")
            self.depth -= 1
            return value
        self.fail(f"expected a value, found {self.found()}")

    def items(self) -> tuple[Any, ...]:
        items: list[Any] = []
        while not self.accept("]"):
            if items:
                self.expect(",")
            items.append(self.attribute())
        return tuple(items)

    def location(self, body: _Body) -> Location:
        if not self.accept("@"):
            return Location()
        node = self.string("the node's name in quotes")
        kind = ""
        if self.accept("("):
            kind = self.word_or_string("the kind of the node")
            self.expect(")")
        # `in` begins a declaration too, which goes on with a value.
        file = body.source
        if self.peek().text == "in" and self.tokens[self.position + 1].kind == "string":
            self.next()
            file = self.string("a file name in quotes")
        return Location(file, node, kind)

    def make(
        self,
        cls: type[Operator],
        arguments: dict[str, Any],
        declared: tuple[TensorType, ...],
        kind_offset: int,
        offset: int,
    ) -> Operator:
        """The operator whose results have the declared types; its `quant` is what the type of the first result adds."""
        quant = declared[0].quant
        problem = ""
        notes: tuple[str, ...] = ()
        for candidate in (None, quant) if quant is not None else (None,):
            try:
                op = cls(**arguments, quant=candidate)
                found = op.result_types()
            except CompileError as error:
                problem, notes = error.diagnostics[0].message, error.diagnostics[0].notes
            except InternalError:
                raise
            except Exception as error:  # what a class raises on operands of a wrong kind is its own affair
                problem, notes = f"{cls.kind} does not take these operands and attributes: {error}", ()
            else:
                if found == declared:
                    return op
                problem = f"{cls.kind} gives {', '.join(map(str, found))}, declared {', '.join(map(str, declared))}"
                notes = ()
        self.fail(problem, kind_offset if notes else offset, notes)


class _Body:
    """What a graph's statements have declared so far."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[str, Value] = {}
        self.quants: dict[str, Quant] = {}
        self.source = ""


def _attribute_hints(cls: type[Operator]) -> dict[str, Any]:
    """The annotations of a class's attributes, as far as they can be evaluated."""
    try:
        return typing.get_type_hints(cls)
    except NameError:
        return {}


def _convert(value: Any, hint: Any) -> tuple[bool, Any]:
    """Whether `value` is of the annotated type, and the value in that type (an integer may stand for a float)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in arguments, value
    if origin in (typing.Union, types.UnionType):
        # An integer is an integer before it stands for a float.
        for alternative in sorted(arguments, key=lambda alternative: type(value) is not alternative):
            fits, converted = _convert(value, alternative)
            if fits:
                return True, converted
        return False, value
    if origin is tuple:
        if not isinstance(value, tuple):
            return False, value
        item_hints = arguments[:1] * len(value) if arguments[1:] == (Ellipsis,) else arguments
        if len(item_hints) != len(value):
            return False, value
        pairs = [_convert(item, item_hint) for item, item_hint in zip(value, item_hints, strict=True)]
        return all(fits for fits, _ in pairs), tuple(item for _, item in pairs)
    if hint is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number, float(value) if is_number else value
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if hint in (bool, str, DType, Graph):
        return isinstance(value, hint), value
    if hint is type(None):
        return value is None, value
    return True, value
