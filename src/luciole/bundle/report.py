"""The report of a bundle, from the program and what was found in the object."""

from __future__ import annotations

from luciole.bundle.check import ObjectFacts
from luciole.bundle.header import ModelIdentity
from luciole.bundle.interface import Interface, Tensor
from luciole.emit.entry import kernel_function
from luciole.ir.board import Board
from luciole.ir.target import Target
from luciole.lower.plan import activation_sizes
from luciole.lower.regions import memory_of
from luciole.program.core import ARENA, WEIGHTS, Instruction, Program, Region
from luciole.quantize import is_quantization_remark, quantization_of
from luciole.quantize.remarks import METHOD
from luciole.report.codec import Pairs
from luciole.report.model import (
    BufferReport,
    FlashReport,
    LayerReport,
    LinkReport,
    MemoryReport,
    MemoryUse,
    ModelReport,
    Report,
    TensorReport,
    occupied_bytes,
)
from luciole.version import __version__


def make_report(
    program: Program,
    target: Target,
    model: ModelIdentity,
    interface: Interface,
    facts: ObjectFacts | None,
    link: LinkReport,
    options: Pairs = (),
    board: Board | None = None,
) -> Report:
    """The report of a bundle; `facts` are what was found in its object, None for a bundle of C; `board` is what the
    program was placed on.
    """
    buffers = _buffers(program)
    layers = tuple(_layer(program, interface, facts, index, buffers) for index in range(len(program.instructions)))
    code_bytes, rodata_bytes = (facts.code_bytes, facts.rodata_bytes) if facts is not None else (None, None)
    remarks = program.graph.remarks
    return Report(
        luciole_version=__version__,
        model=ModelReport(model.name, model.original_name, model.file, model.sha256),
        target=target.name,
        memory=_memory(program, interface, facts),
        flash=FlashReport.of(sum(r.size_bytes for r in program.regions_of("const")), code_bytes, rodata_bytes),
        macs=sum(layer.macs for layer in layers),
        layers=layers,
        buffers=buffers,
        inputs=tuple(_tensor(tensor) for tensor in interface.inputs),
        outputs=tuple(_tensor(tensor) for tensor in interface.outputs),
        link=link,
        helpers=facts.undefined if facts is not None else (),
        removed_channels=tuple(r for r in remarks if not is_quantization_remark(r)),
        options=(*options, *(("quantization", r) for r in remarks if r.startswith(METHOD))),
        quantization=quantization_of(remarks),
        memories=() if board is None else tuple(_memory_use(program, region, board) for region in program.regions),
    )


def stack_bytes(facts: ObjectFacts, interface: Interface) -> int | None:
    """The most stack that any function of the interface takes; None when it cannot be known of one of them."""
    if interface.api == "glow":
        return facts.stack_bound(interface.prefix)
    if interface.takes_rows:
        entries = [f"{interface.prefix}_init", f"{interface.prefix}_push_rows"]
    else:
        entries = [f"{interface.prefix}_init", f"{interface.prefix}_run", *(t.function for t in interface.inputs)]
    entries += [tensor.function for tensor in interface.outputs]
    bounds = [facts.stack_bound(entry) for entry in entries]
    known = [bound for bound in bounds if bound is not None]
    return max(known) if len(known) == len(bounds) else None


def _memory_use(program: Program, region: Region, board: Board) -> MemoryUse:
    """What a region takes of its memory."""
    memory = memory_of(region.name, board)
    names = tuple(buffer.name for buffer in program.in_region(region.name) if buffer.size_bytes)
    return MemoryUse(
        memory.name,
        memory.kind,
        region.name,
        memory.base,
        memory.size_bytes,
        region.size_bytes,
        memory.cycles,
        names if region.kind == "arena" else (),
        len(names),
    )


def _memory(program: Program, interface: Interface, facts: ObjectFacts | None) -> MemoryReport:
    arena = program.arena
    sizes = activation_sizes(program)
    return MemoryReport(
        arena_bytes=arena.size_bytes,
        alignment_bytes=arena.alignment,
        activation_bytes=sizes.activation_bytes,
        workspace_bytes=sizes.workspace_bytes,
        lower_bound_bytes=arena.lower_bound_bytes,
        gap_bytes=arena.size_bytes - arena.lower_bound_bytes,
        is_optimal=arena.is_optimal,
        method=arena.method,
        state_bytes=0,
        input_bytes=sum(tensor.size_bytes for tensor in interface.inputs),
        output_bytes=sum(tensor.size_bytes for tensor in interface.outputs),
        stack_bytes=stack_bytes(facts, interface) if facts is not None else None,
    )


def _buffers(program: Program) -> tuple[BufferReport, ...]:
    found = []
    for buffer in program.roots(ARENA):
        assert buffer.offset is not None
        found.append(
            BufferReport(
                buffer.name,
                buffer.kind,
                buffer.offset,
                buffer.size_bytes,
                buffer.first,
                buffer.last,
                buffer.shape,
                buffer.dtype.value,
            )
        )
    return tuple(found)


def _layer(
    program: Program, interface: Interface, facts: ObjectFacts | None, index: int, buffers: tuple[BufferReport, ...]
) -> LayerReport:
    instruction: Instruction = program.instructions[index]
    operator = instruction.operator
    constants = [b for b in dict.fromkeys(instruction.buffers("in")) if program.buffers[b].region == WEIGHTS]
    alive = [b for b in buffers if b.first <= index <= b.last]
    kernel = kernel_function(interface.prefix, instruction.kernel)
    code_bytes = facts.functions[kernel].code_bytes if facts is not None and kernel in facts.functions else None
    return LayerReport(
        name=operator.location.node or program.graph.results(operator)[0].name,
        operator=operator.kind,
        kernel=kernel,
        macs=operator.macs(),
        weights_bytes=sum(program.buffers[b].size_bytes for b in constants),
        input_shapes=tuple(v.type.shape for v in operator.operands if not v.is_constant),
        output_shapes=tuple(v.type.shape for v in program.graph.results(operator)),
        arena_bytes=occupied_bytes(alive),
        code_bytes=code_bytes,
    )


def _tensor(tensor: Tensor) -> TensorReport:
    quant = tensor.quant if tensor.quant is not None and not tensor.quant.is_per_channel else None
    scale, zero_point = (quant.scale, quant.zero_point) if quant is not None else (None, None)
    return TensorReport(tensor.name, tensor.shape, tensor.dtype.value, scale, zero_point, tensor.size_bytes)
