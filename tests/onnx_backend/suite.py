"""ONNX's own backend tests, run through Luciole: each passes, is refused (with the rule that refuses it), or is wrong.

A node test gives everything as an input, weights and shapes too. Where that is refused, all inputs but the first become
constants, as they are in real models.

`python -m onnx_backend.suite` in tests/ prints a table by operator and writes the list of refusals; `--only WORD` runs
the tests whose names hold a word and shows why each is refused; `--kind simple` runs others than node tests.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

import luciole
from luciole import backend
from luciole.errors import InternalError

#: The version of onnx whose node tests the list of refusals is of; other versions have other tests.
ONNX_VERSION = "1.23.2"
REFUSALS = Path(__file__).parent / "refusals.txt"


@dataclass(frozen=True)
class Outcome:
    """What became of a test: `passed`, `refused` or `wrong`; `detail` is the code of the error, or the difference."""

    name: str
    operators: tuple[str, ...]
    status: str
    detail: str = ""
    #: What the refusal says.
    reason: str = ""


def cases(kind: str = "node") -> Iterator[Any]:
    """The tests of a kind (`node`, `simple`, `pytorch-converted`, `pytorch-operator`), by name."""
    yield from sorted(load_model_tests(kind=kind), key=lambda case: case.name)


def run_case(case: Any) -> Outcome:
    """Compile and run a test on this machine."""
    model = case.model or onnx.load(Path(case.model_dir) / "model.onnx")
    operators = tuple(dict.fromkeys(node.op_type for node in model.graph.node))
    initial = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in initial]
    problems = []
    for data in case.data_sets or _files(Path(case.model_dir)):
        inputs, outputs = (list(map(_array, tensors)) for tensors in data)
        if not all(isinstance(array, np.ndarray | np.generic) for array in (*inputs, *outputs)):
            return Outcome(case.name, operators, "refused", "data-types")
        given = dict(zip(names, inputs, strict=False))
        try:
            results = _run(model, given)
        except luciole.CompileError as error:
            first = error.diagnostics[0]
            return Outcome(case.name, operators, "refused", first.code, first.message)
        except InternalError as error:
            return Outcome(case.name, operators, "wrong", str(error).partition("\n")[0])
        for result, expected in zip(results, outputs, strict=True):
            try:
                assert result.dtype == expected.dtype
                np.testing.assert_allclose(result, expected, rtol=case.rtol, atol=case.atol)
            except AssertionError as problem:
                problems.append(" ".join(str(problem).split())[:200])
    return Outcome(case.name, operators, "wrong" if problems else "passed", "; ".join(problems))


def _array(data: Any) -> Any:
    """A tensor that a test gives as ONNX has it in numpy's form; anything else as it is."""
    return numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else data


def _run(model: onnx.ModelProto, given: dict[str, Any]) -> list[Any]:
    """The outputs in order. Raises `CompileError` when the model is refused in both forms."""
    try:
        return _compiled(model, given)
    except luciole.CompileError as refused:
        if len(given) < 2:
            raise
        bound = onnx.ModelProto()
        bound.CopyFrom(model)
        first, *others = given
        bound.graph.initializer.extend(numpy_helper.from_array(np.asarray(given[name]), name) for name in others)
        try:
            return _compiled(bound, {first: given[first]})
        except luciole.CompileError:
            raise refused from None


def _compiled(model: onnx.ModelProto, given: dict[str, Any]) -> list[Any]:
    prepared = backend.prepare(model)
    inputs = [np.asarray(given[tensor.name]) for tensor in prepared.session.inputs]
    return list(prepared.run(inputs))


def _files(folder: Path) -> Iterator[tuple[list[Any], list[Any]]]:
    """The data of a test that stands in files."""
    for data in sorted(folder.glob("test_data_set_*")):
        yield _tensors(data, "input"), _tensors(data, "output")


def _tensors(data: Path, role: str) -> list[Any]:
    count = len(list(data.glob(f"{role}_*.pb")))
    return [numpy_helper.to_array(onnx.load_tensor(data / f"{role}_{index}.pb")) for index in range(count)]


def print_table(outcomes: list[Outcome]) -> None:
    """Passed, refused and wrong tests by operator, the rules that refuse, and all wrong answers."""
    counts = Counter(outcome.status for outcome in outcomes)
    table = Counter((op, o.status) for o in outcomes for op in o.operators)
    print(f"{'operator':32}{'passed':>8}{'refused':>8}{'wrong':>8}  refused by")
    for op in sorted({op for op, _ in table}):
        rules = Counter(o.detail for o in outcomes if op in o.operators and o.status == "refused")
        by_rule = ", ".join(f"{rule} {count}" for rule, count in sorted(rules.items()))
        print(f"{op:32}{table[op, 'passed']:8}{table[op, 'refused']:8}{table[op, 'wrong']:8}  {by_rule}")
    print(f"{'all tests':32}{counts['passed']:8}{counts['refused']:8}{counts['wrong']:8}")
    for outcome in outcomes:
        if outcome.status == "wrong":
            print(f"wrong: {outcome.name}: {outcome.detail}")


def main() -> None:
    """Run tests and print the table; a run of all node tests writes the list of refusals."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kind", default="node", help="node, simple, pytorch-converted or pytorch-operator")
    parser.add_argument("--only", default="", metavar="WORD", help="the tests whose names hold this word")
    options = parser.parse_args()
    outcomes = [run_case(case) for case in cases(options.kind) if options.only in case.name]
    print_table(outcomes)
    if options.only:
        for outcome in outcomes:
            if outcome.status == "refused":
                print(f"refused: {outcome.name}: {outcome.detail}: {outcome.reason}")
    elif options.kind == "node":
        lines = [f"{o.name} {o.detail}\n" for o in outcomes if o.status == "refused"]
        REFUSALS.write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
