"""From a model file to a bundle: the table of contents of the compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from luciole.budget import fastest_within
from luciole.bundle import Bundle, assemble_bundle
from luciole.compilation import Compilation
from luciole.errors import CompileError
from luciole.graph.core import Graph, Operator
from luciole.graph.extract import copy_graph
from luciole.importers import load_model
from luciole.importers.samples import Scaling, fed_samples
from luciole.ir.board import Board
from luciole.ir.target import Target
from luciole.lower.choice import Point, choose
from luciole.lower.fit import Fitting, TradeOff, lower_without_copies
from luciole.lower.lower import LoweringOptions
from luciole.lower.order import order_operators
from luciole.lower.plan import plan_memory
from luciole.lower.regions import assign_regions, check_regions
from luciole.lower.schedule import schedule_kernels
from luciole.lower.sharing import share_kernels
from luciole.options import Options
from luciole.passes.elementwise_fusion import fuse_elementwise
from luciole.passes.input_layout import take_channels_last
from luciole.passes.integer_only import check_integers, with_integer_ends
from luciole.passes.manager import DeveloperOptions, PassContext
from luciole.passes.pipeline import OPTIMIZE, SHRINK
from luciole.program.core import Program
from luciole.quantize import QuantizeOptions, Sample, quantize_and_compare
from luciole.targets.base import KernelRecipe


def compile_model(source: Path, options: Options, developer: DeveloperOptions = DeveloperOptions()) -> Bundle:
    """The bundle of a model file.

    Raises `CompileError` for what is wrong with the model or does not fit the budget, `ToolError` for a missing
    program, and `InternalError` for a bug of ours, with a folder that reproduces it.
    """
    with Compilation(source, options, developer) as run:
        return build_bundle(run, build_program(run))


def build_bundle(run: Compilation, program: Program) -> Bundle:
    """The last stage: code, header and report of a program."""
    bundle = assemble(run, program)
    run.check_flash(bundle)
    return bundle


def assemble(run: Compilation, program: Program) -> Bundle:
    """The bundle, whatever its size."""
    options = run.options
    return run(
        "bundle",
        assemble_bundle,
        program,
        run.target,
        run.identity,
        options,
        reported_options=options.differing(),
        board=run.board,
    )


def build_program(run: Compilation) -> Program:
    """All stages up to a program whose kernels are ready to be printed."""
    graph = build_graph(run)
    if run.options.require_int8:
        check_integers(graph)
    return choose_program(run, graph, partial(build_chosen, run, graph))


def build_graph(run: Compilation) -> Graph:
    """The stages up to an optimized graph."""
    graph = run("import", load_model, run.source, dict(run.options.dims))
    graph = run("quantize", quantize, graph, run)
    graph = run("optimize", optimize, graph, run.passes, keep_all_channels=run.options.keep_all_channels)
    return graph


def choose_program(run: Compilation, graph: Graph, build: Callable[[Point], Program]) -> Program:
    """What `build` makes of one point on the curve of time against flash.

    With generic kernels only, or where RAM counts most, there is nothing to choose here; with a limit of flash objects
    are measured; else estimates decide.
    """
    options = run.options
    if run.has_passed("lower") or not options.use_recipes or options.optimize == "ram":
        return build(Point(0, 0, 0))
    if options.max_flash is not None and options.optimize != "size":
        return fastest_within(run, graph, options.max_flash, build)
    return build(choose(graph, run.target, options.optimize))


def build_chosen(run: Compilation, graph: Graph, point: Point) -> Program:
    """The stages from a graph to a program with chosen kernels."""
    lowering = replace(run.lowering, chosen=dict(point.chosen))
    program = run("lower", lower_ordered, graph, run.target, lowering)
    program = run("plan", plan, program, run, lowering)
    run.check_ram(program)
    return run("schedule", schedule, program, run.target, point.spare_instructions)


def schedule(program: Program, target: Target, spare_instructions: int) -> Program:
    """The program with kernels as its target wants them, one for several as far as there are instructions to spare."""
    program = schedule_kernels(program, target)
    return share_kernels(program, target, spare_instructions) if spare_instructions else program


def quantize(graph: Graph, run: Compilation) -> Graph:
    """The graph with inputs in the user's layout, of integers where the user asks for these; then it becomes the
    reference of this compilation.
    """
    options = run.options
    if options.input_layout == "nhwc":
        take_channels_last(graph)
        run.reference = copy_graph(graph)
    if not options.quantize and options.require_int8:
        graph = with_integer_ends(graph)
        run.reference = copy_graph(graph)
    if not options.quantize:
        return graph
    prepare(graph, run.passes)
    profile = Path(options.profile) if options.profile else None
    samples = calibration_samples(options, graph)
    quantized, _ = quantize_and_compare(graph, samples, quantize_options(options), profile=profile)
    run.reference = copy_graph(quantized.graph)
    return quantized.graph


def calibration_samples(options: Options, graph: Graph) -> Iterator[Sample]:
    """The samples that the options name, as the inputs of a float graph; none without a file."""
    if not options.calibration:
        return iter(())
    scaling = Scaling(options.data_scale, options.data_zero)
    return islice(fed_samples(options.calibration, graph.inputs, scaling), options.calibration_samples)


def quantize_options(options: Options) -> QuantizeOptions:
    """What the options say of quantization."""
    return QuantizeOptions(
        options.scheme,
        options.observer,
        per_channel=not options.per_tensor,
        float_operators=options.float_operators,
        equalize=options.equalize,
        correct_bias=options.correct_bias,
    )


def prepare(graph: Graph, passes: PassContext) -> Graph:
    """The float graph after the passes that quantization wants: all but those that make several operators one."""
    passes.run_pipeline(graph, [step for step in OPTIMIZE if step is not fuse_elementwise])
    return graph


def lower_again(run: Compilation, graph: Graph) -> Program:
    """The program of a graph that was optimized already."""
    return lower_with(
        run, graph, dict(choose(graph, run.target, run.options.optimize).chosen) if run.options.use_recipes else {}
    )


def lower_with(run: Compilation, graph: Graph, chosen: Mapping[Operator, KernelRecipe]) -> Program:
    """The program of an optimized graph with chosen kernels, whatever memory it takes."""
    lowering = replace(run.lowering, chosen=chosen)
    program = run("lower", lower_ordered, graph, run.target, lowering)
    program = run("plan", plan_memory, program) if run.board is None else run("plan", plan, program, run, lowering)
    return run("schedule", schedule_kernels, program, run.target)


def optimize(graph: Graph, passes: PassContext, *, keep_all_channels: bool = False) -> Graph:
    """The graph after all passes that any target wants."""
    passes.run_pipeline(graph, OPTIMIZE if keep_all_channels else (*OPTIMIZE, *SHRINK))
    return graph


def lower_ordered(graph: Graph, target: Target, options: LoweringOptions) -> Program:
    """The program in the order of execution that needs the least memory."""
    order_operators(graph, keep_input=options.keep_input, keep_output=options.keep_output)
    return lower_without_copies(graph, target, options)


def plan(program: Program, run: Compilation, options: LoweringOptions) -> Program:
    """The planned program, in the memories of the user's board where there is one, and within `max_ram` if possible."""
    if run.board is None:
        return plan_within(program, run.target, options, run.options.max_ram, run.options.input_rows)
    return plan_on_board(Fitting(program, run.target, options, is_pushed=run.options.input_rows), run.board)


def plan_on_board(fitting: Fitting, board: Board) -> Program:
    """The program in the memories of a board: the fastest of those that are smaller and smaller which fits.

    Raises `CompileError` when none does.
    """
    refusal: CompileError | None = None
    if fitting.is_pushed:
        ways = [fitting.fastest, fitting.smallest]
    else:
        ways = [lambda: fitting.lowered, lambda: fitting.overlapped, fitting.smallest]
    for way in ways[-1:] if fitting.options.allows_overlap else ways:
        try:
            planned = plan_memory(assign_regions(way(), board))
            check_regions(planned, board)
            return planned
        except CompileError as error:
            refusal = error
    assert refusal is not None
    raise refusal


def ram_trade_offs(run: Compilation) -> list[TradeOff]:
    """What less RAM would cost, from the fastest program to the smallest."""
    graph = build_graph(run)
    lowering = replace(run.lowering, allows_overlap=False)
    program = run("lower", lower_ordered, graph, run.target, lowering)
    return Fitting(program, run.target, lowering, is_pushed=run.options.input_rows).trade_offs()


def plan_within(
    program: Program, target: Target, options: LoweringOptions, max_bytes: int | None, input_rows: bool = False
) -> Program:
    """The planned program: with overlaps allowed the smallest there is; else, where its arena exceeds `max_bytes`, the
    fastest that does not, or the smallest. With `input_rows` the caller gives the rows of the input one after another.
    """
    if input_rows:
        return Fitting(program, target, options, is_pushed=True).pushed(max_bytes)
    fitting = Fitting(program, target, options)
    if options.allows_overlap:
        return fitting.smallest()
    return fitting.plain if max_bytes is None else fitting.within(max_bytes)
