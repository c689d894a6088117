"""The report of a bundle, from the program and what was found in the object."""

from __future__ import annotations

from luciole.bundle.header import ModelIdentity
from luciole.bundle.interface import Interface, Tensor
from luciole.emit.entry import kernel_function
from luciole.ir.target import Target
from luciole.lower.plan import activation_sizes
from luciole.program.core import ARENA, WEIGHTS, Instruction, Program
from luciole.report.codec import Pairs
from luciole.report.model import (
    BufferReport,
    FlashReport,
    LayerReport,
    LinkReport,
    MemoryReport,
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
    link: LinkReport,
    options: Pairs = (),
) -> Report:
    """The report of a bundle."""
    buffers = _buffers(program)
    layers = tuple(_layer(program, interface, index, buffers) for index in range(len(program.instructions)))
    return Report(
        luciole_version=__version__,
        model=ModelReport(model.name, model.original_name, model.file, model.sha256),
        target=target.name,
        memory=_memory(program, interface),
        flash=FlashReport.of(program.weights.size_bytes, None, None),
        macs=sum(layer.macs for layer in layers),
        layers=layers,
        buffers=buffers,
        inputs=tuple(_tensor(tensor) for tensor in interface.inputs),
        outputs=tuple(_tensor(tensor) for tensor in interface.outputs),
        link=link,
        options=options,
    )


def _memory(program: Program, interface: Interface) -> MemoryReport:
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
        stack_bytes=None,
    )


def _buffers(program: Program) -> tuple[BufferReport, ...]:
    found = []
    for buffer in program.in_region(ARENA):
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


def _layer(program: Program, interface: Interface, index: int, buffers: tuple[BufferReport, ...]) -> LayerReport:
    instruction: Instruction = program.instructions[index]
    operator = instruction.operator
    constants = [b for b in dict.fromkeys(instruction.buffers("in")) if program.buffers[b].region == WEIGHTS]
    alive = [b for b in buffers if b.first <= index <= b.last]
    return LayerReport(
        name=operator.location.node or program.graph.results(operator)[0].name,
        operator=operator.kind,
        kernel=kernel_function(interface.prefix, instruction.kernel),
        macs=operator.macs(),
        weights_bytes=sum(program.buffers[b].size_bytes for b in constants),
        input_shapes=tuple(v.type.shape for v in operator.operands if not v.is_constant),
        output_shapes=tuple(v.type.shape for v in program.graph.results(operator)),
        arena_bytes=occupied_bytes(alive),
    )


def _tensor(tensor: Tensor) -> TensorReport:
    quant = tensor.quant if tensor.quant is not None and not tensor.quant.is_per_channel else None
    scale, zero_point = (quant.scale, quant.zero_point) if quant is not None else (None, None)
    return TensorReport(tensor.name, tensor.shape, tensor.dtype.value, scale, zero_point, tensor.size_bytes)
