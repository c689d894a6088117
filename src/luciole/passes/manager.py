"""Running passes: registry entries, verification, timing, and everything a developer may want to see.

A pass is a free function that changes a graph and tells how often:

    @graph_pass
    def remove_dead_code(graph: Graph, counter: RuleCounter) -> int:
        \"\"\"Remove operators and constants that no output needs.\"\"\"

The pipelines stand in `luciole.passes.pipeline`. Stages that have no graph (program, kernels) report to the same
`PassContext` through `observe` and `measure`.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from luciole.errors import CompileError, InternalError, ToolError
from luciole.graph.core import Graph
from luciole.graph.rewrite import Rule, RuleCounter, apply_rules
from luciole.graph.text import GraphText, render_graph, write_npz
from luciole.graph.verify import verify_graph
from luciole.ir.types import Array


@dataclass(frozen=True)
class DeveloperOptions:
    """What to show and check while compiling; none of it changes the result, except `limit_rules`."""

    #: Names of passes or stages, or `all`: print the text before or after each.
    print_before: tuple[str, ...] = ()
    print_after: tuple[str, ...] = ()
    #: Print a unified diff after every pass that changed something.
    print_changed: bool = False
    #: A folder for numbered files, one for each pass that changed something.
    dump: Path | None = None
    #: Verify after each pass, before the first and after the last of a pipeline, or never.
    verify: Literal["each", "ends", "off"] = "ends"
    #: Print the time of every stage and pass.
    time: bool = False
    #: Print each application of a rule, and apply no more than so many.
    trace_rules: bool = False
    limit_rules: int | None = None


@dataclass(frozen=True)
class GraphPass:
    """A pass: its name, what it does in one line, and the function, which gives the number of changes."""

    name: str
    description: str
    function: Callable[[Graph, RuleCounter], int]


def graph_pass(function: Callable[[Graph, RuleCounter], int]) -> GraphPass:
    """Decorate a pass; name and description are the function's."""
    return GraphPass(function.__name__, (function.__doc__ or "").strip().partition("\n")[0], function)


def rules_pass(name: str, description: str, rules: Sequence[Rule]) -> GraphPass:
    """A pass that applies rules until none matches."""
    return GraphPass(name, description, lambda graph, counter: apply_rules(graph, rules, counter))


@dataclass
class Timing:
    """Time spent in a step, its parts included."""

    name: str
    seconds: float = 0.0
    parts: list[Timing] = field(default_factory=list)

    def lines(self, depth: int = 0) -> Iterator[str]:
        """The tree as text, one line a step; what the parts leave shows as `(other)`."""
        yield f"{1000 * self.seconds:10.1f} ms  {'  ' * depth}{self.name}"
        for part in self.parts:
            yield from part.lines(depth + 1)
        other = self.seconds - sum(part.seconds for part in self.parts)
        if self.parts and other > 0.001:
            yield f"{1000 * other:10.1f} ms  {'  ' * (depth + 1)}(other)"


class PassContext:
    """One compilation as passes see it: options, the count of rules, time spent, and what the last text was.

    `write` takes what is to be shown, text that ends in a newline. Raises `ToolError` when there can be no dump folder.
    """

    def __init__(self, options: DeveloperOptions = DeveloperOptions(), write: Callable[[str], object] = lambda _: None):
        self.options = options
        self.write = write
        self.counter = RuleCounter(options.limit_rules, self._trace if options.trace_rules else None)
        self.timing = Timing("total")
        self._open = [self.timing]
        self._last: dict[str, str] = {}
        self._files = 0
        self._needs_text = options.print_changed or options.dump is not None
        if options.dump is not None:
            try:
                options.dump.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ToolError(f"cannot make the folder {options.dump}: {error.strerror}") from None

    # Time

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Time what runs inside; nested steps become parts."""
        timing = Timing(name)
        self._open[-1].parts.append(timing)
        self._open.append(timing)
        start = time.perf_counter()
        try:
            yield
        finally:
            timing.seconds = time.perf_counter() - start
            self._open.pop()

    def timing_report(self) -> str:
        """The time of every step so far."""
        self.timing.seconds = sum(part.seconds for part in self.timing.parts)
        return "\n".join(self.timing.lines()) + "\n"

    # What developers see

    def observe(
        self,
        stage: str,
        name: str,
        text: Callable[[], str],
        arrays: Callable[[], Mapping[str, Array]] | None = None,
    ) -> None:
        """A step `name` of a stage (`graph`, `program`, `kernel`) ended with this text: show what the options ask for.

        The stage is the suffix of dumped files; `arrays` go into a `.npz` beside. Both are called only when needed.
        """
        wants = _is_named(name, self.options.print_after)
        if not wants and not self._needs_text:
            return
        now = text()
        if wants:
            self.write(f"# after {name}\n{now}")
        if not self._needs_text:
            return
        before = self._last.get(stage)
        self._last[stage] = now
        if before == now:
            return
        if self.options.print_changed and before is not None:
            self.write(_difference(before, now, name))
        if self.options.dump is not None:
            self._dump(self.options.dump, stage, name, now, arrays() if arrays is not None else {})

    def observe_graph(self, name: str, graph: Graph) -> None:
        """`observe` for a graph."""
        rendered: list[GraphText] = []

        def text() -> str:
            rendered.append(render_graph(graph))
            return rendered[-1].text

        self.observe("graph", name, text, lambda: rendered[-1].arrays)

    def _dump(self, folder: Path, stage: str, name: str, text: str, arrays: Mapping[str, Array]) -> None:
        self._files += 1
        path = folder / f"{self._files:02}-{name}.{stage}"
        try:
            path.write_text(text, encoding="utf-8", newline="\n")
            if arrays:
                path.with_suffix(".npz").write_bytes(write_npz(arrays))
        except OSError as error:
            raise ToolError(f"cannot write {path}: {error.strerror}") from None

    def _trace(self, line: str) -> None:
        self.write(line + "\n")

    # Running passes

    def run_pass(self, graph: Graph, step: GraphPass) -> int:
        """Run one pass; the number of changes. Raises `InternalError` with the pass's name when it breaks the graph."""
        if _is_named(step.name, self.options.print_before):
            self.write(f"# before {step.name}\n{render_graph(graph).text}")
        with self.measure(step.name):
            try:
                changes = step.function(graph, self.counter)
                if self.options.verify == "each":
                    verify_graph(graph)
            except (InternalError, CompileError) as error:
                # A rule that builds an operator which does not fit is our mistake: the user's graph was well typed.
                raise InternalError(f"pass {step.name}: {error}") from error
        self.observe_graph(step.name, graph)
        return changes

    def run_pipeline(self, graph: Graph, steps: Sequence[GraphPass]) -> int:
        """Run passes in order; the number of changes."""
        if self.options.verify != "off":
            verify_graph(graph)
        if self._needs_text and "graph" not in self._last:
            self._last["graph"] = render_graph(graph).text
        changes = sum(self.run_pass(graph, step) for step in steps)
        if self.options.verify == "ends":
            verify_graph(graph)
        return changes


def _is_named(name: str, names: tuple[str, ...]) -> bool:
    return name in names or "all" in names


def _difference(before: str, after: str, name: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"before {name}", f"after {name}"
    )
    return "".join(lines)
