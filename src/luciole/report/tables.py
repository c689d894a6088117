"""A report as tables and drawings of text, for terminals and pipes."""

from __future__ import annotations

from dataclasses import replace

from luciole.report.model import BufferReport, Report, occupied_bytes
from luciole.report.table import Cell, Column, Table, format_size, shorten

#: Names are cut to this in tables for people; the JSON has them whole.
_NAME_LENGTH = 40

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def layer_table(report: Report) -> Table:
    """One row a layer: what it is, its output, MACs, bytes and, once measured, instructions and estimated cycles."""
    measured = any(layer.instructions is not None for layer in report.layers)
    columns = [
        Column("#", "index", right=True),
        Column("layer", "name", limit=_NAME_LENGTH),
        Column("operator", "operator"),
        Column("kernel", "kernel", limit=_NAME_LENGTH),
        Column("output", "output_shape"),
        Column("MACs", "macs", right=True),
        Column("weights B", "weights_bytes", right=True),
        Column("arena B", "arena_bytes", right=True),
    ]
    measured_columns = [
        Column("instructions", "instructions", right=True),
        Column("per MAC", "instructions_per_mac", right=True, decimals=2),
        Column("share %", "share_percent", right=True, decimals=1),
        Column("cycles (est.)", "estimated_cycles", right=True),
    ]
    total_instructions = sum(layer.instructions or 0 for layer in report.layers)
    rows: list[tuple[Cell, ...]] = []
    for index, layer in enumerate(report.layers):
        shape = layer.output_shapes[0] if layer.output_shapes else None
        row: list[Cell] = [index, layer.name, layer.operator, layer.kernel, shape]
        row += [layer.macs, layer.weights_bytes, layer.arena_bytes]
        if measured:
            count = layer.instructions
            per_mac = None if count is None or not layer.macs else round(count / layer.macs, 2)
            share = None if count is None or not total_instructions else round(100 * count / total_instructions, 2)
            row += [count, per_mac, share, layer.estimated_cycles]
        rows.append(tuple(row))
    total: list[Cell] = [None, "total", None, None, None]
    total += [sum(layer.macs for layer in report.layers), sum(layer.weights_bytes for layer in report.layers)]
    total += [max((layer.arena_bytes for layer in report.layers), default=0)]
    if measured:
        macs = sum(layer.macs for layer in report.layers)
        cycles = [layer.estimated_cycles for layer in report.layers]
        known_cycles = None if None in cycles else sum(cycle or 0 for cycle in cycles)
        total += [total_instructions, round(total_instructions / macs, 2) if macs else None, None, known_cycles]
    return Table(tuple(columns + (measured_columns if measured else [])), tuple(rows), "layers", tuple(total))


def alternatives_table(report: Report) -> Table:
    """What other kernels would cost, a row a kernel, those of each layer together; the chosen one is marked."""
    columns = (
        Column("#", "index", right=True),
        Column("layer", "name", limit=_NAME_LENGTH),
        Column("", "is_chosen"),
        Column("kernel", "kernel"),
        Column("instructions (est.)", "estimated_instructions", right=True),
        Column("instructions", "instructions", right=True),
        Column("per MAC", "instructions_per_mac", right=True, decimals=2),
        Column("cycles (est.)", "estimated_cycles", right=True),
        Column("code B", "code_bytes", right=True),
        Column("weights B", "weights_bytes", right=True),
        Column("workspace B", "workspace_bytes", right=True),
    )
    rows: list[tuple[Cell, ...]] = []
    for index, layer in enumerate(report.layers):
        for other in layer.alternatives:
            count = other.estimated_instructions if other.instructions is None else other.instructions
            per_mac = round(count / layer.macs, 2) if layer.macs else None
            row: list[Cell] = [index, layer.name, "*" if other.is_chosen else "", other.kernel]
            row += [other.estimated_instructions, other.instructions, per_mac, other.estimated_cycles]
            rows.append((*row, other.code_bytes, other.weights_bytes, other.workspace_bytes))
    return Table(columns, tuple(rows), "kernels to choose from, estimated; * is chosen")


def memory_table(report: Report) -> Table:
    """RAM by what takes it, in bytes, with what is known about how good the plan is."""
    memory = report.memory
    if memory.gap_bytes == 0:
        verdict = "equal to the lower bound: optimal"
    elif memory.is_optimal:
        verdict = f"{memory.gap_bytes:,} B above the lower bound, proven optimal"
    else:
        verdict = f"{memory.gap_bytes:,} B above the lower bound"
    rows: list[tuple[Cell, ...]] = [
        ("arena", memory.arena_bytes, verdict),
        ("activations", memory.activation_bytes, f"in the arena, placed by {memory.method}"),
        ("workspace", memory.workspace_bytes, "in the arena, temporary memory of kernels"),
        ("state", memory.state_bytes, "in the arena, kept from run to run"),
        ("input", memory.input_bytes, "inside the activations"),
        ("output", memory.output_bytes, "inside the activations"),
        ("stack", memory.stack_bytes, "worst case, from the code"),
    ]
    if report.emulated is not None:
        rows.append(("stack used", report.emulated.stack_bytes, f"on the emulated {report.emulated.core}"))
    return Table((Column("RAM", "what"), Column("bytes", "bytes", right=True), Column("", "note")), tuple(rows))


def board_table(report: Report) -> Table:
    """What the bundle takes of each memory of a board."""
    columns = (
        Column("memory", "memory"),
        Column("as", "region"),
        Column("kind", "kind"),
        Column("base", "base", right=True),
        Column("bytes", "used_bytes", right=True),
        Column("of", "size_bytes", right=True),
        Column("cycles", "cycles", right=True),
        Column("holds", "holds", limit=60),
    )
    rows: list[tuple[Cell, ...]] = []
    for use in report.memories:
        holds = ", ".join(use.buffers) if use.buffers else f"{use.buffer_count} constants" if use.buffer_count else ""
        numbers = (f"0x{use.base:08x}", use.used_bytes, use.size_bytes, use.cycles)
        rows.append((use.memory, use.region, use.kind, *numbers, holds))
    return Table(columns, tuple(rows))


def flash_table(report: Report) -> Table:
    """Flash by what takes it, in bytes."""
    flash = report.flash
    rows: list[tuple[Cell, ...]] = [
        ("weights", flash.weights_bytes, "weights, biases, per-channel parameters"),
        ("code", flash.code_bytes, "" if flash.code_bytes is not None else "known once your compiler ran"),
        (
            "other constants",
            flash.rodata_bytes,
            "" if flash.rodata_bytes is not None else "known once your compiler ran",
        ),
        ("total", flash.total_bytes, format_size(flash.total_bytes)),
    ]
    return Table((Column("flash", "what"), Column("bytes", "bytes", right=True), Column("", "note")), tuple(rows))


def tensor_table(report: Report) -> Table:
    """Inputs and outputs: what the caller fills and reads."""
    columns = (
        Column("tensor", "name", limit=_NAME_LENGTH),
        Column("direction", "direction"),
        Column("type", "dtype"),
        Column("shape", "shape"),
        Column("bytes", "size_bytes", right=True),
        Column("scale", "scale", right=True),
        Column("zero point", "zero_point", right=True),
    )
    rows = tuple(
        (t.name, direction, t.dtype, t.shape, t.size_bytes, t.scale, t.zero_point)
        for direction, tensors in (("input", report.inputs), ("output", report.outputs))
        for t in tensors
    )
    return Table(columns, rows)


def peak_table(report: Report) -> Table:
    """The buffers alive at the instruction that needs the most memory, by address."""
    peak = report.peak_instruction()
    alive = report.buffers_at(peak)
    name = shorten(report.layers[peak].name, _NAME_LENGTH) if report.layers else "no instruction"
    title = f"at the peak: instruction {peak} ({name}), {occupied_bytes(alive):,} B"
    return replace(_buffer_table(alive, [""] * len(alive)), title=title)


def memory_map(report: Report, width: int = 64) -> str:
    """The arena over time as text: instructions go down, addresses across in `width` cells; a letter is a buffer.

    Every buffer has at least one cell; where several share one, the smallest is shown. The legend follows; `>` marks
    the peak. Letters repeat after 62 buffers.
    """
    arena = max(1, report.memory.arena_bytes)
    ordered = sorted(report.buffers, key=lambda b: (b.first, b.offset, b.name))
    letters = {id(b): _LETTERS[index % len(_LETTERS)] for index, b in enumerate(ordered)}
    peak = report.peak_instruction()
    operators = [layer.operator for layer in report.layers] or ["-"]
    label_width = max(len("operator"), *(len(operator) for operator in operators))
    scale = f"0{arena:>{width - 1},}"
    lines = [
        f"memory over time: {arena:,} B across, {-(-arena // width):,} B a cell; > marks the peak, . is free",
        f"     # {'operator':<{label_width}}  {'bytes':>11}  {scale}",
    ]
    for index, operator in enumerate(operators):
        alive = report.buffers_at(index)
        cells = ["."] * width
        for buffer in sorted(alive, key=lambda b: (-b.size_bytes, b.offset)):
            first = min(width - 1, buffer.offset * width // arena)
            end = max(first + 1, -(-(buffer.offset + buffer.size_bytes) * width // arena))
            cells[first : min(end, width)] = letters[id(buffer)] * (min(end, width) - first)
        mark = ">" if index == peak else " "
        lines.append(f"{mark}{index:>5} {operator:<{label_width}}  {occupied_bytes(alive):>11,}  {''.join(cells)}")
    legend = _buffer_table(ordered, [letters[id(b)] for b in ordered])
    return "\n".join(lines) + "\n\n" + legend.to_text()


def _buffer_table(buffers: tuple[BufferReport, ...] | list[BufferReport], marks: list[str]) -> Table:
    """Buffers with their marks in the drawing, places, sizes and lives."""
    columns = (
        Column("", "mark"),
        Column("buffer", "name", limit=_NAME_LENGTH),
        Column("kind", "kind"),
        Column("type", "dtype"),
        Column("shape", "shape"),
        Column("bytes", "size_bytes", right=True),
        Column("at", "offset", right=True),
        Column("first", "first", right=True),
        Column("last", "last", right=True),
    )
    rows = tuple(
        (mark, b.name, b.kind, b.dtype, b.shape, b.size_bytes, b.offset, b.first, b.last)
        for mark, b in zip(marks, buffers, strict=True)
    )
    if not any(marks):
        return Table(columns[1:], tuple(row[1:] for row in rows))
    return Table(columns, rows)
