"""The order of execution that needs the least memory at its peak.

The search sees tasks (operators with code) and storages (tensors; a view shares its operand's). What is alive after
some tasks depends on the set of tasks alone, not on their order. So the sets closed under dependence are the nodes of a
graph, an edge is one more task and costs the bytes alive while it runs, and the best order is the path whose largest
edge is smallest. Dijkstra's algorithm finds it where the sets are few, as in nearly all networks; a beam search stands
in where they are many. Work is bounded by counted steps, so that the result is the same on any machine.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from luciole.graph.core import Graph, Operator, Value

#: Tasks that the exact search may try, then those of the beam, and the most states of the beam.
EXACT_BUDGET, BEAM_BUDGET, MAXIMUM_BEAM_WIDTH = 40_000, 80_000, 16


@dataclass(frozen=True)
class Storage:
    """Bytes of a tensor and its views, alive from the start or the task that writes them to the last reader.

    `readers` is a set of tasks as bits. A kept storage stays alive to the end.
    """

    size_bytes: int
    readers: int
    is_initial: bool = False
    is_kept: bool = False


@dataclass(frozen=True)
class Task:
    """An operator: the tasks it needs as bits, storages it reads and writes, and those its result may take over."""

    needs: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    replaces: tuple[int, ...] = ()


@dataclass(frozen=True)
class OrderProblem:
    """Tasks in file order, which is a valid order, and storages."""

    tasks: tuple[Task, ...]
    storages: tuple[Storage, ...]


@dataclass(frozen=True)
class Order:
    """A valid order with its peak of bytes alive. `is_optimal` says that none has a lower one; `work` counts tries."""

    tasks: tuple[int, ...]
    peak_bytes: int
    is_optimal: bool
    work: int


def order_operators(graph: Graph, *, keep_input: bool = False, keep_output: bool = False) -> int:
    """Reorder the operators so that fewer bytes are alive at the peak; gives the bytes gained, 0 when nothing changed.

    Counts tensors in memory, views and results in place of operands as lowering makes them; not workspaces. An output
    that is kept is counted from the start, beside the operand that it may take over.
    """
    code = [op for op in graph.operators if not op.is_view]
    problem = order_problem(graph, keep_input=keep_input, keep_output=keep_output)
    before = peak_bytes(problem, range(len(code)))
    found = find_order(problem)
    if found.peak_bytes >= before:
        return 0
    graph.reorder(_with_views(graph, [code[task] for task in found.tasks]))
    return before - found.peak_bytes


def _with_views(graph: Graph, code: Sequence[Operator]) -> list[Operator]:
    """The operators in a new order of those with code, each view just before its first reader, or at the end."""
    order: dict[Operator, None] = {}

    def append(op: Operator) -> None:
        chain = []
        for operand in op.operands:
            view = operand.producer
            while view is not None and view.is_view and view not in order:
                chain.append(view)
                view = view.operands[0].producer
        order.update(dict.fromkeys([*reversed(chain), op]))

    for op in (*code, *(op for op in graph.operators if op.is_view)):
        if op not in order:
            append(op)
    return list(order)


# From a graph to a problem


def order_problem(graph: Graph, *, keep_input: bool = False, keep_output: bool = False) -> OrderProblem:
    """What the search sees of a graph; tasks are its operators with code, in order."""
    code = {op: index for index, op in enumerate(op for op in graph.operators if not op.is_view)}
    root = _roots(graph)
    outputs = {root[value] for _, value in graph.outputs}
    inputs = {value: keep_input for value in graph.inputs}
    readers: dict[Value, int] = {value: 0 for value in root.values() if not value.is_constant}
    for op, index in code.items():
        for operand in op.operands:
            if root[operand] in readers:
                readers[root[operand]] |= 1 << index
    numbers = {value: number for number, value in enumerate(readers)}
    storages = tuple(
        Storage(
            value.type.size_bytes,
            mask,
            is_initial=value in inputs or (keep_output and value in outputs),
            is_kept=value in outputs or inputs.get(value, False),
        )
        for value, mask in readers.items()
    )
    return OrderProblem(tuple(_task(graph, op, code, root, numbers) for op in code), storages)


def _roots(graph: Graph) -> dict[Value, Value]:
    """Every value with the one whose bytes it is."""
    root = {value: value for value in graph.values()}
    for op in graph.operators:
        if op.is_view:
            root[graph.result(op)] = root[op.operands[0]]
    return root


def _task(
    graph: Graph, op: Operator, code: dict[Operator, int], root: dict[Value, Value], numbers: dict[Value, int]
) -> Task:
    sources = [root[value] for value in op.operands]
    needs = 0
    for source in sources:
        if source.producer is not None and source.producer in code:
            needs |= 1 << code[source.producer]
    results = graph.results(op)
    replaces: list[int] = []
    if len(results) == 1:
        names = op.in_place_operands()
        for name, value in op.named_operands():
            same = (value.type.dtype, value.type.shape) == (results[0].type.dtype, results[0].type.shape)
            if name in names and same and root[value] in numbers and sources.count(root[value]) == 1:
                replaces.append(numbers[root[value]])
    reads = tuple(dict.fromkeys(numbers[source] for source in sources if source in numbers))
    return Task(needs, reads, tuple(numbers[value] for value in results), tuple(replaces))


# The search


@dataclass(frozen=True, eq=False)
class _State:
    """A set of tasks that were run: peak so far, bytes alive, tasks that may come next, and the way here."""

    done: int
    peak_bytes: int
    alive_bytes: int
    ready: tuple[int, ...]
    previous: _State | None = None
    task: int = -1

    def order(self) -> tuple[int, ...]:
        """The tasks that were run, in order."""
        tasks: list[int] = []
        state: _State | None = self
        while state is not None and state.previous is not None:
            tasks.append(state.task)
            state = state.previous
        return tuple(reversed(tasks))


def peak_bytes(problem: OrderProblem, order: Sequence[int]) -> int:
    """The most bytes alive at once when the tasks run in this order."""
    search = _Search(problem)
    state = search.start()
    for task in order:
        state = search.advance(state, task, *search.step(state, task))
    return state.peak_bytes


def find_order(problem: OrderProblem, exact_budget: int = EXACT_BUDGET, beam_budget: int = BEAM_BUDGET) -> Order:
    """The best order found; the file order when none has a lower peak."""
    count = len(problem.tasks)
    file_order = tuple(range(count))
    limit = peak_bytes(problem, file_order)
    if limit == _lower_bound(problem):
        return Order(file_order, limit, True, 0)
    search = _Search(problem)
    best, is_optimal = search.dijkstra(limit, exact_budget)
    if not is_optimal:
        best = search.beam(limit, beam_budget)
    if best is None:
        return Order(file_order, limit, is_optimal, search.work)
    return Order(best.order(), best.peak_bytes, is_optimal, search.work)


def _lower_bound(problem: OrderProblem) -> int:
    """A peak that no order avoids: the inputs, what one task reads and writes, the outputs."""
    sizes = [storage.size_bytes for storage in problem.storages]
    bounds = [
        sum(storage.size_bytes for storage in problem.storages if storage.is_initial),
        sum(storage.size_bytes for storage in problem.storages if storage.is_kept),
    ]
    for task in problem.tasks:
        written = 0 if task.replaces else sum(sizes[index] for index in task.writes)
        bounds.append(sum(sizes[index] for index in task.reads) + written)
    return max(bounds)


class _Search:
    def __init__(self, problem: OrderProblem) -> None:
        self.tasks = problem.tasks
        self.storages = problem.storages
        self.everything = (1 << len(problem.tasks)) - 1
        self.work = 0
        self.successors: list[list[int]] = [[] for _ in problem.tasks]
        for index, task in enumerate(problem.tasks):
            for before in _bits(task.needs):
                self.successors[before].append(index)

    def start(self) -> _State:
        initial = [storage for storage in self.storages if storage.is_initial]
        alive = sum(s.size_bytes for s in initial if s.readers or s.is_kept)
        ready = tuple(index for index, task in enumerate(self.tasks) if not task.needs)
        return _State(0, sum(s.size_bytes for s in initial), alive, ready)

    def step(self, state: _State, index: int) -> tuple[int, int]:
        """Bytes alive while a task runs, and after it."""
        self.work += 1
        task = self.tasks[index]
        missing = ~(state.done | (1 << index))
        written = change = 0
        for number in task.writes:
            storage = self.storages[number]
            if not storage.is_initial:
                written += storage.size_bytes
                change += storage.size_bytes if storage.readers or storage.is_kept else 0
        for number in task.reads:
            storage = self.storages[number]
            if not storage.readers & missing and not storage.is_kept:
                change -= storage.size_bytes
                if number in task.replaces:
                    written = 0
        return state.alive_bytes + written, state.alive_bytes + change

    def advance(self, state: _State, index: int, during: int, after: int) -> _State:
        done = state.done | (1 << index)
        freed = [task for task in self.successors[index] if not self.tasks[task].needs & ~done]
        ready = tuple(sorted([*(task for task in state.ready if task != index), *freed]))
        return _State(done, max(state.peak_bytes, during), after, ready, state, index)

    def settle(self, state: _State) -> _State:
        """Run every task that neither raises the peak nor leaves more alive.

        Such a task may always come first: it frees at least as much later, so in any order that has it later, moving it
        to the front raises no step.
        """
        index = 0
        while index < len(state.ready):
            during, after = self.step(state, state.ready[index])
            if during <= state.peak_bytes and after <= state.alive_bytes:
                state = self.advance(state, state.ready[index], during, after)
                index = 0
            else:
                index += 1
        return state

    def children(self, state: _State, limit: int) -> Iterator[_State]:
        """The states one task further whose peak is below `limit`, in file order."""
        for index in state.ready:
            during, after = self.step(state, index)
            if during < limit:
                yield self.advance(state, index, during, after)

    def dijkstra(self, limit: int, budget: int) -> tuple[_State | None, bool]:
        """The end state of lowest peak, if that is below `limit`, and whether the search came to its end."""
        stop = self.work + budget
        heap = [(0, 0, 0, self.start())]
        settled: set[int] = set()
        pushed = 0
        while heap:
            state = self.settle(heapq.heappop(heap)[3])
            if state.done == self.everything:
                return state, True
            if state.done in settled:
                continue
            settled.add(state.done)
            for child in self.children(state, limit):
                if child.done not in settled:
                    pushed += 1
                    heapq.heappush(heap, (child.peak_bytes, -child.done.bit_count(), pushed, child))
            if self.work > stop:
                return None, False
        return None, True

    def beam(self, limit: int, budget: int) -> _State | None:
        """An end state whose peak is below `limit`, if the best few states of each round lead to one."""
        turns = len(self.tasks) * max(1, self._widest())
        width = max(1, min(MAXIMUM_BEAM_WIDTH, budget // turns))
        best: _State | None = None
        states = [self.start()]
        while states:
            found: dict[int, _State] = {}
            for child in (child for state in states for child in self.children(self.settle(state), limit)):
                settled = self.settle(child)
                if settled.done == self.everything:
                    if best is None or settled.peak_bytes < best.peak_bytes:
                        best, limit = settled, settled.peak_bytes
                elif settled.done not in found or settled.peak_bytes < found[settled.done].peak_bytes:
                    found[settled.done] = settled
            ranked = sorted(found.values(), key=lambda s: (s.peak_bytes, s.alive_bytes, -s.done.bit_count()))
            states = [state for state in ranked if state.peak_bytes < limit][:width]
        return best

    def _widest(self) -> int:
        """The most tasks ready at once in file order."""
        state, widest = self.start(), 0
        for index in range(len(self.tasks)):
            widest = max(widest, len(state.ready))
            state = self.advance(state, index, 0, 0)
        return widest


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
