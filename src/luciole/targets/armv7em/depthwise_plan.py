"""How a depthwise convolution on cores with the DSP extension runs: strips, lines, blocks, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

from luciole.ops.depthwise import DepthwiseConv2d

#: Channels widened together: those of a word.
GROUP = 4
#: Outputs side by side along a line; where a line has just one block, so many at most, since no register counts blocks.
BLOCK, LONE_BLOCK = 4, 5
#: Windows of up to so many words of weights are written out.
UNROLLED_WORDS = 6
#: So many words of weights of a row are loaded before its products.
PRELOADED_WORDS = 2
#: Windows of up to so many taps along a line; longer ones would make long code.
MAXIMUM_INNER_TAPS = 16
#: Bytes of workspace that planes and widened weights may take.
WORKSPACE_LIMIT = 4096


@dataclass(frozen=True)
class Axis:
    """Height or width: sizes, the window along it, and how far neighbors are apart in x and y, in bytes."""

    inputs: int
    outputs: int
    taps: int
    stride: int
    pad: int
    x_bytes: int
    y_bytes: int
    dilation: int = 1

    @property
    def reach(self) -> int:
        """Columns or rows that a window reaches over."""
        return (self.taps - 1) * self.dilation + 1


@dataclass(frozen=True)
class Plan:
    """How the loops run: whether lines lie along the height, how many outer outputs a strip has, and whether weights
    are paired in flash already.

    Under a window that is dilated along lines, only columns that are a multiple of the dilation apart meet. A line is
    cut into as many phases, each of which holds such columns side by side, as if there were no dilation.
    """

    channels: int
    multiplier: int
    is_transposed: bool
    outer: Axis
    inner: Axis
    strip: int
    is_paired: bool = False

    @property
    def planes(self) -> int:
        """Channels that are in the workspace at a time."""
        return min(GROUP, self.channels)

    @property
    def rest(self) -> int:
        """Channels behind the last whole group."""
        return self.channels % GROUP

    @property
    def phases(self) -> int:
        """Parts of a line; each column of the result belongs to one."""
        return min(self.inner.dilation, self.inner.outputs)

    @property
    def phase_outputs(self) -> int:
        """Columns of the result in the first phase; the last ones may have one less."""
        return -(-self.inner.outputs // self.phases)

    @property
    def whole_phases(self) -> int:
        """Phases that have as many columns as the first."""
        return self.inner.outputs - (self.phase_outputs - 1) * self.phases

    @property
    def phase_columns(self) -> int:
        """Columns of the input under all windows of a phase."""
        return (self.phase_outputs - 1) * self.inner.stride + self.inner.taps

    @property
    def phase_halves(self) -> int:
        """Halves of one phase of a line: its columns, and the rest of the last word."""
        return -(-self.phase_columns // 2) * 2

    @property
    def phase_bytes(self) -> int:
        return 2 * self.phase_halves

    @property
    def result_bytes(self) -> int:
        """Bytes of y from one result of a phase to the next."""
        return self.inner.dilation * self.inner.y_bytes

    @property
    def line_bytes(self) -> int:
        return self.phases * self.phase_bytes

    @property
    def lines(self) -> int:
        """Lines of a plane."""
        return (self.strip - 1) * self.outer.stride + self.outer.reach

    @property
    def plane_bytes(self) -> int:
        return self.lines * self.line_bytes

    @property
    def columns(self) -> int:
        """Columns of the input that windows reach, where they are not dilated."""
        return min(self.inner.inputs, self.phase_halves - self.inner.pad)

    @property
    def keys(self) -> tuple[int, ...]:
        """The first taps of the words of weights: a word holds a tap and the next one, if there is one."""
        taps = self.inner.taps
        if self.inner.stride % 2 == 0 or self.phase_outputs == 1:
            return tuple(range(0, taps, 2))
        return tuple(range(max(1, taps - 1)))

    @property
    def weight_words(self) -> int:
        return self.outer.taps * len(self.keys)

    @property
    def is_unrolled(self) -> bool:
        """Whether the rows of a window are written out, not looped over."""
        return self.weight_words <= UNROLLED_WORDS

    @property
    def planes_offset(self) -> int:
        """Where planes begin in the workspace, behind the words of weights that are paired at run time."""
        return 0 if self.is_paired else 4 * self.weight_words

    @property
    def workspace_bytes(self) -> int:
        return self.planes_offset + self.planes * self.plane_bytes

    @property
    def strips(self) -> int:
        return -(-self.outer.outputs // self.strip)


@dataclass(frozen=True)
class Product:
    """One instruction of a sum: a word of x by a word of weights, whole or half by half."""

    word: int
    key: int
    #: "whole", or the halves of x and of the weights: "low_low", "low_high", "high_low".
    halves: str


def planned(op: DepthwiseConv2d, is_paired: bool) -> Plan:
    """The plan of an operator that the recipe applies to."""
    plan = plan_of(op, is_paired)
    assert plan is not None
    return plan


def plan_of(op: DepthwiseConv2d, is_paired: bool) -> Plan | None:
    """The cheaper of lines along the width and along the height, or `None` where neither fits."""
    plans = [plan for is_high in (False, True) if (plan := _oriented_plan(op, is_high, is_paired)) is not None]
    return min(plans, key=instructions_of, default=None)


def _oriented_plan(op: DepthwiseConv2d, is_transposed: bool, is_paired: bool) -> Plan | None:
    """Strips of equal size that fit the workspace."""
    _, _, width, channels = op.x.type.shape
    _, _, out_width, out_channels = op.result_types()[0].shape
    axes = [
        Axis(
            op.x.type.shape[1 + axis],
            op.result_types()[0].shape[1 + axis],
            op.window.kernel[axis],
            op.strides[axis],
            op.pads[axis],
            x_bytes,
            y_bytes,
            op.dilations[axis] if op.window.kernel[axis] > 1 else 1,
        )
        for axis, x_bytes, y_bytes in ((0, width * channels, out_width * out_channels), (1, channels, out_channels))
    ]
    inner, outer = axes if is_transposed else reversed(axes)
    if inner.taps > MAXIMUM_INNER_TAPS or (inner.dilation > 1 and inner.stride > 1):
        return None
    one = Plan(channels, op.multiplier, is_transposed, outer, inner, 1, is_paired)
    left = WORKSPACE_LIMIT - one.workspace_bytes
    if left < 0:
        return None
    most = min(1 + left // (one.planes * one.line_bytes * outer.stride), outer.outputs)
    strips = -(-outer.outputs // most)
    return replace(one, strip=-(-outer.outputs // strips))


def products_at(plan: Plan, column: int) -> list[Product]:
    """The products of one row of the window for the output whose window begins at a column of the block."""
    taps, found = plan.inner.taps, []
    for word in range(column // 2, (column + taps - 1) // 2 + 1):
        tap = 2 * word - column
        if tap == -1:
            found.append(Product(word, 0, "high_low"))
        elif tap < taps - 1:
            found.append(Product(word, tap, "whole"))
        elif tap - 1 in plan.keys:
            found.append(Product(word, tap - 1, "low_high"))
        else:
            found.append(Product(word, tap, "low_low"))
    return found


def blocks_of(plan: Plan) -> tuple[int, int]:
    """Blocks of `BLOCK` outputs of a phase of a line, and the outputs behind them, which may be a block of their own,
    and are not none where the last one of some phases does not exist.
    """
    outputs = plan.phase_outputs
    if outputs <= LONE_BLOCK:
        return 0, outputs
    whole, remainder = divmod(outputs, BLOCK)
    return (whole - 1, BLOCK) if not remainder and plan.whole_phases < plan.phases else (whole, remainder)


def widened_columns(plan: Plan) -> tuple[int, int, int]:
    """A line's first column on its own (1 or 0), pairs of columns, the last column on its own (1 or 0)."""
    single = plan.inner.pad % 2
    return (single, *divmod(plan.columns - single, 2))


# Costs


def instructions_of(plan: Plan) -> int:
    """Executed instructions for one image."""
    single, pairs, rest = widened_columns(plan)
    lines = min(
        plan.strips * plan.lines, plan.outer.inputs + plan.strips * max(0, plan.outer.reach - plan.outer.stride)
    )
    if plan.inner.dilation > 1:
        pairs, single, rest = 0, plan.phases, min(plan.inner.inputs, plan.phases * plan.phase_columns)
    line = 11 * (single + rest) + (16 if pairs > 2 else 14) * pairs + 8
    last = 3 * plan.rest * (single + rest + 2 * pairs) + 12 if plan.rest else 0
    lines_instructions = lines * (plan.channels // GROUP * line + last)
    whole, remainder = blocks_of(plan)
    looped = 3 if whole > 1 else 0
    row = whole * (_block_instructions(plan, BLOCK) + looped) + (8 if whole else 4)
    row += _block_instructions(plan, remainder) if remainder else 0
    if plan.phases > 1:
        row = plan.phases * (row + 6) + 6
    channel = (0 if plan.is_paired else 3 * plan.outer.taps * plan.inner.taps) + (22 if plan.outer.outputs > 1 else 14)
    sums = plan.channels * plan.multiplier * (plan.strips * channel + plan.outer.outputs * row)
    return lines_instructions + sums + plan.workspace_bytes // 16 * 7


def _block_instructions(plan: Plan, outputs: int) -> int:
    products = [p for i in range(outputs) for p in products_at(plan, i * plan.inner.stride)]
    words = len({p.word for p in products})
    row = len(products) + words + (0 if plan.is_unrolled else len({p.key for p in products}) + 4)
    return plan.outer.taps * row + 5 * outputs + (7 if len(plan.keys) <= PRELOADED_WORDS else 15)
