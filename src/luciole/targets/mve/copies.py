"""Windows gathered into the workspace, with the zero point where they reach outside the input."""

from __future__ import annotations

from luciole.graph.core import Value, Views
from luciole.ir.types import DType
from luciole.kernel.builder import LoopBuilder
from luciole.kernel.core import Expr, Operand, binary, minimum
from luciole.ops.common import Window, lies_in

#: Fewer bytes than this are copied by words and bytes.
SMALL_COPY = 13


def fill(k: LoopBuilder, target: Expr, value: int, count: Operand) -> None:
    """`count` bytes of one value."""
    if not isinstance(count, Expr) and count <= 0:
        return
    place = k.define("place", target)
    with k.loop("i", count, is_vector=True) as i:
        k.write(place + i, 0, value, DType.I8)


def copy(k: LoopBuilder, target: Expr, source: Expr, count: Operand) -> None:
    """`count` bytes from one place to another."""
    read, place = k.define("read", source), k.define("place", target)
    if isinstance(count, Expr) or count >= SMALL_COPY:
        with k.loop("i", count, is_vector=True) as i:
            k.write(place + i, 0, k.read(read + i, 0, DType.I8), DType.I8)
        return
    size = int(count)
    words = size // 4
    for offset in range(0, 4 * words, 4):
        k.write(place, offset, k.read(read, offset, DType.I32, 1), DType.I32, 1)
    for offset in range(4 * words, size):
        k.write(place, offset, k.read(read, offset, DType.I8), DType.I8)


def copy_instructions(count: int) -> int:
    """Executed instructions of a copy of known length."""
    return 2 * (count // 4 + count % 4) if count < SMALL_COPY else 2 * (count // 16) + 6 * (count % 16 > 0)


def prepare_rows(
    k: LoopBuilder, window: Window, x: Value, v: Views, oh: Expr, zero_point: int
) -> tuple[Operand, Operand]:
    """The rows of the windows of an output row that lie inside x; the others are filled, once for all its pixels."""
    row_bytes, rows = window.kernel[1] * x.type.shape[3], window.kernel[0]
    first, last = window.tap_bounds(0, oh, x.type.shape[1])
    if isinstance(first, Expr):
        first = k.define("first_row", first, DType.INDEX)
        fill(k, v.workspace.address(), zero_point, first * row_bytes)
    if isinstance(last, Expr):
        last = k.define("last_row", last, DType.INDEX)
        fill(k, v.workspace.address(last * row_bytes), zero_point, (rows - last) * row_bytes)
    return first, last


def lies_inside(window: Window, x: Value, oh: Expr, ow: Expr) -> Expr | None:
    """Whether the window of an output pixel lies inside x; `None` where all do."""
    size = x.type.shape[1], x.type.shape[2]
    result: Expr | None = None
    for axis, position in enumerate((oh, ow)):
        inner, count = window.inner_range(axis, size[axis]), window.output_size(size)[axis]
        if inner != range(count):
            lies = lies_in(position, inner, count)
            result = lies if result is None else binary("and", result, lies)
    return result


def gather(
    k: LoopBuilder,
    window: Window,
    x: Value,
    v: Views,
    pixel: tuple[Expr, Expr, Expr],
    rows: tuple[Operand, Operand],
) -> None:
    """The window's rows that lie inside x, one after the other in the workspace."""
    n, oh, ow = pixel
    _, height, width, channels = x.type.shape
    inner, columns = window.inner_range(1, width), window.output_size((height, width))[1]
    is_dense = window.dilations[1] == 1
    row_bytes, line_bytes = window.kernel[1] * channels, width * channels
    top, left = oh * window.strides[0] - window.pads[0], ow * window.strides[1] - window.pads[1]
    row = (n * height + top) * width + left
    line = k.define("line", v.x.address((row + rows[0] * (window.dilations[0] * width)) * channels))
    place = k.define("window_row", v.workspace.address(rows[0] * row_bytes))

    def copy_rows(is_inside: bool) -> None:
        with k.loop("kh", *rows):
            if is_inside:
                copy(k, place, line, row_bytes)
            else:
                _copy_taps(k, window, x, ow, place, line)
            line.set(line + window.dilations[0] * line_bytes)
            place.set(place + row_bytes)

    if not is_dense or not inner:
        copy_rows(is_inside=False)
    elif inner == range(columns):
        copy_rows(is_inside=True)
    else:
        with k.if_(lies_in(ow, inner, columns)):
            copy_rows(is_inside=True)
        with k.else_():
            copy_rows(is_inside=False)


def _copy_taps(k: LoopBuilder, window: Window, x: Value, ow: Expr, place: Expr, line: Expr) -> None:
    """One row of a window that may reach over the sides: the taps inside x, fills at both ends."""
    channels, zero_point = x.type.shape[3], _zero_point(x)
    first, last = window.tap_bounds(1, ow, x.type.shape[2])
    if isinstance(first, Expr):
        first = k.define("first_tap", first, DType.INDEX)
        fill(k, place, zero_point, first * channels)
    if isinstance(last, Expr):
        last = k.define("last_tap", last, DType.INDEX)
        fill(k, place + last * channels, zero_point, (window.kernel[1] - last) * channels)
    step = window.dilations[1] * channels
    if window.dilations[1] == 1:
        copy(k, place + first * channels, line + first * channels, minimum(last - first, window.kernel[1]) * channels)
        return
    with k.loop("kw", first, last) as kw:
        copy(k, place + kw * channels, line + kw * step, channels)


def _zero_point(x: Value) -> int:
    assert x.type.quant is not None
    return x.type.quant.zero_point
