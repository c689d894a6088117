"""Which passes there are, and in what order they run."""

from __future__ import annotations

from luciole.passes.activation_fusion import FUSE_ACTIVATIONS
from luciole.passes.affine_folding import FOLD_AFFINE
from luciole.passes.channel_shrinking import shrink_channels
from luciole.passes.common_subexpressions import share_common_subexpressions
from luciole.passes.constant_folding import fold_constants, fold_dequantized
from luciole.passes.dead_code import remove_dead_code
from luciole.passes.elementwise_fusion import fuse_elementwise
from luciole.passes.integer_fusion import FUSE_INTEGERS
from luciole.passes.layout import MOVE_LAYOUTS
from luciole.passes.manager import GraphPass
from luciole.passes.pad_folding import FOLD_PADS
from luciole.passes.quantization_folding import FOLD_QUANTIZATION
from luciole.passes.shape_folding import FOLD_SHAPES
from luciole.passes.window_simplification import SIMPLIFY_WINDOWS

#: What the stage `optimize` runs. Constants and duplicates go first, so that rules see the plain graph, and duplicates
#: that rules made go after them; fusion of elementwise operators is last, because no rule looks into a fused operator.
OPTIMIZE: tuple[GraphPass, ...] = (
    remove_dead_code,
    fold_constants,
    share_common_subexpressions,
    MOVE_LAYOUTS,
    FOLD_SHAPES,
    FUSE_ACTIVATIONS,
    FUSE_INTEGERS,
    fold_dequantized,
    fold_constants,
    FOLD_QUANTIZATION,
    FOLD_PADS,
    SIMPLIFY_WINDOWS,
    FOLD_AFFINE,
    FUSE_ACTIVATIONS,
    share_common_subexpressions,
    fuse_elementwise,
    remove_dead_code,
)

#: What follows unless the user keeps all channels.
SHRINK: tuple[GraphPass, ...] = (shrink_channels, remove_dead_code)

#: Every pass by its name.
PASSES: dict[str, GraphPass] = {step.name: step for step in (*OPTIMIZE, *SHRINK)}
