"""Checks of a whole model: that its operators form a dataflow (else the file is broken), and that we can import it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from luciole.errors import EXIT_UNSUPPORTED, CompileError, Diagnostic, Diagnostics, Location, printable
from luciole.importers.tflite.model import TfliteModel, TfliteOperator, TfliteTensor

#: How many problems, and how many names within one problem, an error shows.
_MAXIMUM_PROBLEMS = 20
_MAXIMUM_NAMES = 5

#: Types of weights that make an operator on floats a hybrid one.
_WEIGHT_TYPES = ("INT8", "UINT8", "INT4")
#: Types of constants that are widened when they are read.
_WIDENED_TYPES = ("FLOAT16",)


def raise_problems(diagnostics: Diagnostics) -> None:
    """Raise what was collected, cut to a readable length."""
    items = diagnostics.items
    if len(items) > _MAXIMUM_PROBLEMS:
        left = items[_MAXIMUM_PROBLEMS:]
        worst = max(item.exit_code for item in left)
        more = Diagnostic("more-problems", f"{len(left)} further problems of this file", exit_code=worst)
        raise CompileError(*items[:_MAXIMUM_PROBLEMS], more)
    diagnostics.raise_if_any()


def operator_location(model: TfliteModel, operator: TfliteOperator) -> Location:
    """Where an operator stands, named by its first result as TFLite tools do."""
    name = model.tensors[operator.outputs[0]].name if operator.outputs else f"operator {operator.position}"
    return Location(model.file, name, operator.kind)


def check_dataflow(model: TfliteModel, diagnostics: Diagnostics) -> None:
    """Check the order of execution. Invariants of a sound file:

    1. no input is a constant, no input is given twice, and there is at least one output;
    2. an operator has results, and writes no constant, no input, and no tensor that another operator (or itself)
    wrote;
    3. an operator reads constants, inputs, variables, and what operators before it wrote; the outputs are such
    tensors too.
    """
    tensors = model.tensors
    file = Location(model.file)
    known = set(model.inputs)
    known |= {t.index for t in tensors if t.is_constant or t.is_variable}
    for index in model.inputs:
        if tensors[index].is_constant:
            diagnostics.add("malformed-graph", f"{tensors[index]} is an input of the model and a constant", file)
    if len(set(model.inputs)) != len(model.inputs):
        diagnostics.add("malformed-graph", "the model names the same input twice", file)
    if not model.outputs:
        diagnostics.add("malformed-graph", "the model has no outputs", file)
    writers: dict[int, TfliteOperator] = {}
    for operator in model.operators:
        location = operator_location(model, operator)
        if not operator.outputs:
            diagnostics.add("malformed-graph", f"{operator} has no results", location)
        for index in operator.outputs:
            role = "a constant" if tensors[index].is_constant else "an input of the model"
            if index in writers:
                diagnostics.add(
                    "malformed-graph",
                    f"{tensors[index]} is written by {writers[index]} and by {operator}",
                    location,
                )
            elif index in known and not tensors[index].is_variable:
                diagnostics.add("malformed-graph", f"{tensors[index]} is {role}, but {operator} writes it", location)
            writers.setdefault(index, operator)
    for operator in model.operators:
        for index in operator.inputs:
            writer = writers.get(index)
            if writer is not None and writer.position >= operator.position:
                diagnostics.add(
                    "malformed-graph",
                    f"{operator} reads {tensors[index]}, which {writer} writes later",
                    operator_location(model, operator),
                )
            elif index >= 0 and index not in known and writer is None and 0 not in tensors[index].shape:
                diagnostics.add(
                    "malformed-graph",
                    f"{operator} reads {tensors[index]}, which has no data and is written by no operator",
                    operator_location(model, operator),
                )
    for index in model.outputs:
        if index not in known and index not in writers:
            diagnostics.add("malformed-graph", f"output {tensors[index]} is written by no operator", file)


def check_tensors(model: TfliteModel, diagnostics: Diagnostics) -> None:
    """Collect what keeps tensors from having a type in the graph.

    That is: several subgraphs, open sizes, sparse or variable tensors, element types without arithmetic, no elements.
    """
    if len(model.subgraphs) > 1:
        _unsupported(
            diagnostics,
            model,
            "unsupported-subgraphs",
            f"the model has {len(model.subgraphs)} subgraphs: {_names(model.subgraphs)}; only one is supported",
            "convert a single function without IF, WHILE and CALL_ONCE: unroll loops, freeze variables",
        )
    _check_sizes(model, diagnostics)
    used = set(model.inputs) | set(model.outputs)
    activations = used | {i for operator in model.operators for i in operator.outputs}
    used |= activations | {i for operator in model.operators for i in operator.inputs if i >= 0}
    tensors = [model.tensors[i] for i in sorted(used)]

    def report(code: str, what: str, bad: list[TfliteTensor], help: str) -> None:
        if bad:
            message = f"{_count(len(bad), 'tensor')} {what}: {_names(t.name for t in bad)}"
            _unsupported(diagnostics, model, code, message, help)

    report(
        "unsupported-sparsity",
        "stored sparsely",
        [t for t in tensors if t.is_sparse],
        "convert again without sparse weights",
    )
    report(
        "unsupported-variable",
        "keeping a value from run to run",
        [t for t in tensors if t.is_variable],
        "layers with state (recurrent, streaming) are not supported; export the model without state",
    )
    without_dtype = [t for t in tensors if t.dtype is None and not (t.is_constant and t.type_name in _WIDENED_TYPES)]
    for type_name in sorted({t.type_name for t in without_dtype}):
        report(
            "unsupported-type",
            f"of element type {type_name}",
            [t for t in without_dtype if t.type_name == type_name],
            "supported are FLOAT32 and INT8, and integers for biases and indices; convert the model to one of these",
        )
    report(
        "unsupported-quantization",
        "of int8 without a scale",
        [t for t in tensors if t.type_name == "INT8" and t.quant is None and 0 not in t.shape],
        "give every int8 tensor its scale and zero point: convert the model again with a representative data set",
    )
    report(
        "unsupported-quantization",
        "computed at run time with a scale for each channel",
        [t for t in tensors if t.quant is not None and t.quant.is_per_channel and not t.is_constant],
        "only weights may have a scale for each channel; convert the model again with per-tensor activations",
    )
    report(
        "unsupported-empty",
        "without elements",
        [t for t in tensors if t.index in activations and 0 in t.shape],
        "a size of 0 comes from an empty input shape; convert again with a real one",
    )


def _check_sizes(model: TfliteModel, diagnostics: Diagnostics) -> None:
    """An open size is -1 in the shape; or -1 in the signature of an input, anywhere but in front.

    Converters write 1 for an open size in the shape itself. For the first dimension, the batch, that is what
    everybody means; elsewhere it would silently compile a model for images of one pixel.
    """
    inputs = set(model.inputs)
    has_open_input = False
    for tensor in (model.tensors[i] for i in model.inputs):
        signature = tensor.signature or ()
        is_open = [
            size < 0 or (axis > 0 and axis < len(signature) and signature[axis] < 0 and size == 1)
            for axis, size in enumerate(tensor.shape)
        ]
        if any(is_open):
            has_open_input = True
            sizes = ",".join("?" if o else str(s) for s, o in zip(tensor.shape, is_open, strict=True))
            axes = [str(axis) for axis, o in enumerate(is_open) if o]
            _unsupported(
                diagnostics,
                model,
                "open-shape",
                f'input "{printable(tensor.name)}" has the shape [{sizes}]: {"sizes" if len(axes) > 1 else "size"} '
                f"{', '.join(axes)} {'are' if len(axes) > 1 else 'is'} open",
                "bind every ? to a number and convert the model again with that input shape",
            )
    others = [t for t in model.tensors if any(size < 0 for size in t.shape) and t.index not in inputs]
    if others and not has_open_input:
        _unsupported(
            diagnostics,
            model,
            "open-shape",
            f"{_count(len(others), 'tensor')} of open shape: {_names(t.name for t in others)}",
            "convert the model again with fixed input shapes; sizes that depend on data cannot be compiled",
        )


def check_operators(model: TfliteModel, has_rule: Callable[[str], bool], diagnostics: Diagnostics) -> set[int]:
    """Collect the operators without an import rule, and the hybrid ones (float activations, integer weights).

    Gives the positions of the operators found.
    """
    unknown: dict[str, list[TfliteOperator]] = {}
    hybrid: list[TfliteOperator] = []
    for operator in model.operators:
        if not has_rule(operator.kind):
            unknown.setdefault(operator.kind, []).append(operator)
        elif _is_hybrid(model, operator):
            hybrid.append(operator)
    if unknown:
        kinds = []
        for kind, nodes in unknown.items():
            first = printable(operator_location(model, nodes[0]).node)
            found = f'1 node, "{first}"' if len(nodes) == 1 else f'{len(nodes)} nodes, first "{first}"'
            kinds.append(f"{printable(kind)} ({found})")
        shown = kinds[:_MAXIMUM_PROBLEMS] + (["..."] if len(kinds) > _MAXIMUM_PROBLEMS else [])
        verb = "has" if len(kinds) == 1 else "have"
        _unsupported(
            diagnostics,
            model,
            "unsupported-operator",
            f"{_count(len(kinds), 'operator')} {verb} no import rule: {', '.join(shown)}",
            "`luciole ops` lists the supported operators",
        )
    if hybrid:
        names = _names(f"{operator_location(model, o).node} ({o.kind})" for o in hybrid)
        _unsupported(
            diagnostics,
            model,
            "unsupported-hybrid",
            f"{_count(len(hybrid), 'operator')} on floats with integer weights (dynamic-range quantization): {names}",
            "quantize fully, with a representative data set and int8 inputs and outputs, or convert as float32",
        )
    return {operator.position for operators in (*unknown.values(), hybrid) for operator in operators}


def _is_hybrid(model: TfliteModel, operator: TfliteOperator) -> bool:
    inputs = [model.tensors[i] for i in operator.inputs if i >= 0]
    outputs = [model.tensors[i] for i in operator.outputs]
    return (
        bool(inputs)
        and inputs[0].type_name == "FLOAT32"
        and all(t.type_name == "FLOAT32" for t in outputs)
        and any(t.is_constant and t.type_name in _WEIGHT_TYPES for t in inputs[1:])
    )


def _unsupported(diagnostics: Diagnostics, model: TfliteModel, code: str, message: str, help: str) -> None:
    diagnostics.add(code, message, Location(model.file), help=help, exit_code=EXIT_UNSUPPORTED)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _names(names: Iterable[str]) -> str:
    """Some quoted names, cut after the first few."""
    listed = list(names)
    shown = ", ".join(f'"{printable(n)}"' for n in listed[:_MAXIMUM_NAMES])
    return shown + (f" and {len(listed) - _MAXIMUM_NAMES} more" if len(listed) > _MAXIMUM_NAMES else "")
