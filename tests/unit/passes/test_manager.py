"""The pass manager: what it shows, checks, counts and writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from luciole.errors import CompileError, InternalError, ToolError
from luciole.graph.builder import GraphBuilder
from luciole.graph.core import Graph, Value
from luciole.graph.rewrite import RuleCounter, rule
from luciole.graph.text import load_graph, print_graph
from luciole.ir.types import DType
from luciole.passes.manager import DeveloperOptions, GraphPass, PassContext, Timing, graph_pass, rules_pass
from support.toy_operators import ToyAdd, ToyRelu, registered_toys


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    with registered_toys():
        yield


@rule(ToyRelu)
def drop_second_relu(op: ToyRelu, graph: Graph) -> Value | None:
    """relu(relu(x)) -> relu(x)"""
    return op.x if isinstance(op.x.producer, ToyRelu) else None


DROP = rules_pass("drop_relus", "Drop relus of relus.", [drop_second_relu])


@graph_pass
def do_nothing(graph: Graph, counter: RuleCounter) -> int:
    """Leave everything as it is.

    At length.
    """
    return 0


@graph_pass
def break_the_graph(graph: Graph, counter: RuleCounter) -> int:
    """Put the operators in an order that cannot be."""
    graph.reorder(reversed(graph.operators))
    return 1


@graph_pass
def mistype(graph: Graph, counter: RuleCounter) -> int:
    """Add an operator that does not fit."""
    graph.add(ToyAdd(graph.inputs[0], graph.add_constant(np.zeros(7, np.float32))))
    return 1


def relus(count: int = 3) -> Graph:
    g = GraphBuilder("relus")
    value = g.input("x", DType.F32, (2,))
    value = g.add(ToyAdd(value, g.constant(np.zeros((20, 1), np.float32))))
    for _ in range(count):
        value = g.add(ToyRelu(value))
    g.output("y", value)
    return g.graph


def run(steps: list[GraphPass], graph: Graph | None = None, **options: object) -> str:
    shown: list[str] = []
    context = PassContext(DeveloperOptions(**options), shown.append)  # type: ignore[arg-type]  # names of fields
    context.run_pipeline(graph or relus(), steps)
    return "".join(shown)


def test_a_pass_has_the_name_and_the_first_line_of_its_function() -> None:
    assert (do_nothing.name, do_nothing.description) == ("do_nothing", "Leave everything as it is.")


def test_a_pipeline_counts_changes_and_shows_nothing_unless_asked() -> None:
    shown: list[str] = []
    graph = relus(4)
    assert PassContext(DeveloperOptions(), shown.append).run_pipeline(graph, [DROP, do_nothing]) == 3
    assert shown == []


def test_print_before_and_after_named_passes_or_all() -> None:
    graph = relus()
    before = print_graph(graph)
    shown = run([do_nothing, DROP], graph, print_before=("do_nothing",), print_after=("drop_relus",))
    assert shown == f"# before do_nothing\n{before}# after drop_relus\n{print_graph(graph)}"
    shown = run([do_nothing, do_nothing], print_after=("all",))
    assert shown == f"# after do_nothing\n{before}" * 2


def test_print_changed_is_a_diff_and_silent_when_nothing_changed() -> None:
    shown = run([do_nothing, DROP, do_nothing], relus(2), print_changed=True)
    assert shown == (
        "--- before drop_relus\n"
        "+++ after drop_relus\n"
        "@@ -3,6 +3,5 @@\n"
        f"   const %c: f32[20,1] = {print_graph(relus()).split('= ')[1].split()[0]}\n"
        "   %2: f32[20,2] = toy_add(%x, %c)\n"
        "   %3: f32[20,2] = toy_relu(%2)\n"
        "-  %4: f32[20,2] = toy_relu(%3)\n"
        '-  out %4 as "relu"\n'
        '+  out %3 as "relu"\n'
        " end\n"
    ).replace('"relu"', '"y"')


def test_dumps_are_numbered_and_only_of_changes(tmp_path: Path) -> None:
    graph = relus()
    run([do_nothing, DROP, do_nothing], graph, dump=tmp_path / "new" / "dump")
    assert sorted(path.name for path in (tmp_path / "new" / "dump").iterdir()) == [
        "01-drop_relus.graph",
        "01-drop_relus.npz",
    ]
    assert print_graph(load_graph(tmp_path / "new" / "dump" / "01-drop_relus.graph")) == print_graph(graph)


def test_other_stages_observe_with_their_own_suffix(tmp_path: Path) -> None:
    shown: list[str] = []
    options = DeveloperOptions(dump=tmp_path, print_changed=True, print_after=("plan",))
    context = PassContext(options, shown.append)
    context.observe_graph("import", relus())
    context.observe("program", "lower", lambda: "program p\nend\n")
    context.observe("program", "order", lambda: "program p\nend\n")
    context.observe("program", "plan", lambda: "program p\n  arena\nend\n", lambda: {"a": np.zeros(2)})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "01-import.graph",
        "01-import.npz",
        "02-lower.program",
        "03-plan.npz",
        "03-plan.program",
    ]
    assert "".join(shown) == (
        "# after plan\nprogram p\n  arena\nend\n"
        "--- before plan\n+++ after plan\n@@ -1,2 +1,3 @@\n program p\n+  arena\n end\n"
    )


def test_texts_are_not_made_when_nobody_wants_them() -> None:
    def never() -> str:
        raise AssertionError("the text was made")

    PassContext(DeveloperOptions(print_after=("other",))).observe("kernel", "schedule", never)


def test_a_dump_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolError, match=r"cannot make the folder .*file"):
        PassContext(DeveloperOptions(dump=tmp_path / "file"))


@pytest.mark.parametrize(
    ("verify", "found"), [("each", "pass break_the_graph: graph relus is broken"), ("ends", "graph relus")]
)
def test_verification_finds_what_a_pass_broke(verify: str, found: str) -> None:
    with pytest.raises(InternalError, match=found):
        run([break_the_graph], verify=verify)


def test_verify_each_names_the_guilty_pass_and_ends_sees_only_the_end() -> None:
    with pytest.raises(InternalError, match=r"^pass break_the_graph"):
        run([do_nothing, break_the_graph, break_the_graph], verify="each")
    run([break_the_graph, break_the_graph], verify="ends")
    run([break_the_graph], verify="off")


def test_a_badly_typed_operator_made_by_a_pass_is_our_bug() -> None:
    with pytest.raises(InternalError, match=r"pass mistype: error\[operator-types\]: toy_add: shapes") as caught:
        run([mistype])
    assert isinstance(caught.value.__cause__, CompileError)


def test_rules_are_traced_and_limited_over_all_passes() -> None:
    graph = relus(4)
    shown = run([DROP, DROP], graph, trace_rules=True, limit_rules=2)
    assert [line.split(":")[0] for line in shown.splitlines()] == ["1 drop_second_relu", "2 drop_second_relu"]
    assert len(graph.operators) == 3


def test_time_is_a_tree() -> None:
    context = PassContext()
    with context.measure("optimize"):
        context.run_pipeline(relus(), [DROP, do_nothing])
    with context.measure("lower"):
        pass
    report = context.timing_report().splitlines()
    assert [line[15:] for line in report if "(other)" not in line] == [
        "total",
        "  optimize",
        "    drop_relus",
        "    do_nothing",
        "  lower",
    ]
    optimize = context.timing.parts[0]
    assert 0 < sum(part.seconds for part in optimize.parts) <= optimize.seconds <= context.timing.seconds


def test_what_parts_leave_is_shown() -> None:
    timing = Timing("a", 1.5, [Timing("b", 0.25)])
    assert [*timing.lines()] == ["    1500.0 ms  a", "     250.0 ms    b", "    1250.0 ms    (other)"]


def test_time_is_kept_when_a_step_fails() -> None:
    context = PassContext()
    with pytest.raises(ValueError), context.measure("broken"):
        raise ValueError
    with context.measure("next"):
        pass
    assert [part.name for part in context.timing.parts] == ["broken", "next"]
