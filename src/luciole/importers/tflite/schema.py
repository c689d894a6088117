"""The parts of the TFLite schema that reading a model needs: field numbers, enumerations, options of operators.

The numbers are those of `schema.fbs`, version 3 (file identifier "TFL3"); a test compares them with the `tflite`
package from PyPI. They stand here as data because importing that package costs 0.2 s, and its accessors trust the
file.
"""

from __future__ import annotations

from enum import IntEnum

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3


class ModelField(IntEnum):
    """Slots of the root table."""

    VERSION = 0
    OPERATOR_CODES = 1
    SUBGRAPHS = 2
    DESCRIPTION = 3
    BUFFERS = 4


class OperatorCodeField(IntEnum):
    """Slots of an operator code: codes above 126 stand in BUILTIN_CODE, old writers fill the deprecated field only."""

    DEPRECATED_BUILTIN_CODE = 0
    CUSTOM_CODE = 1
    VERSION = 2
    BUILTIN_CODE = 3


class SubGraphField(IntEnum):
    """Slots of a subgraph."""

    TENSORS = 0
    INPUTS = 1
    OUTPUTS = 2
    OPERATORS = 3
    NAME = 4


class TensorField(IntEnum):
    """Slots of a tensor."""

    SHAPE = 0
    TYPE = 1
    BUFFER = 2
    NAME = 3
    QUANTIZATION = 4
    IS_VARIABLE = 5
    SPARSITY = 6
    SHAPE_SIGNATURE = 7


class QuantizationField(IntEnum):
    """Slots of the quantization parameters. The details union is for custom quantizations."""

    SCALE = 2
    ZERO_POINT = 3
    DETAILS_TYPE = 4
    QUANTIZED_DIMENSION = 6


class BufferField(IntEnum):
    """Slots of a buffer. OFFSET and SIZE point behind the FlatBuffer, for files above 2 GiB."""

    DATA = 0
    OFFSET = 1
    SIZE = 2


class OperatorField(IntEnum):
    """Slots of an operator."""

    OPCODE_INDEX = 0
    INPUTS = 1
    OUTPUTS = 2
    BUILTIN_OPTIONS_TYPE = 3
    BUILTIN_OPTIONS = 4


#: Names of the element types, by number.
TENSOR_TYPES = (
    "FLOAT32",
    "FLOAT16",
    "INT32",
    "UINT8",
    "INT64",
    "STRING",
    "BOOL",
    "INT16",
    "COMPLEX64",
    "INT8",
    "FLOAT64",
    "COMPLEX128",
    "UINT64",
    "RESOURCE",
    "VARIANT",
    "UINT32",
    "UINT16",
    "INT4",
    "BFLOAT16",
)

_OPERATOR_NAMES = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
    FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC
    LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH
    SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER
    BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
    BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM
    ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE
    TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK
    LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL
    FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL
    REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND
    HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
    BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
    HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE
    ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU
    DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
    UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE
    STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
    STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE
    STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG
    STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT
    STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
    STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
    STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE
    STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT
"""

#: Names of the built-in operators, by number.
OPERATORS = tuple(_OPERATOR_NAMES.split())

#: Names of the values of the enumerations that options use.
ENUMERATIONS: dict[str, tuple[str, ...]] = {
    "activation": ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT"),
    "mirror": ("REFLECT", "SYMMETRIC"),
    "padding": ("SAME", "VALID"),
    "type": TENSOR_TYPES,
    "weights_format": ("DEFAULT", "SHUFFLED4x16INT8"),
}

#: The fields of an operator's options, by the number of the options table in the union, in the order of their slots:
#: `name:kind` or `name:kind=default`; `-` is a slot no longer used. Kinds are scalars, vectors of them (`i32[]`),
#: `string`, or an enumeration. A table that is not here has no fields.
OPTIONS: dict[int, str] = {
    # Conv2DOptions
    1: "padding:padding stride_w:i32 stride_h:i32 fused_activation_function:activation dilation_w_factor:i32=1 "
    "dilation_h_factor:i32=1 quantized_bias_type:type",
    # DepthwiseConv2DOptions
    2: "padding:padding stride_w:i32 stride_h:i32 depth_multiplier:i32 fused_activation_function:activation "
    "dilation_w_factor:i32=1 dilation_h_factor:i32=1",
    # ConcatEmbeddingsOptions
    3: "num_channels:i32 num_columns_per_channel:i32[] embedding_dim_per_channel:i32[]",
    # LSHProjectionOptions
    4: "type:i8",
    # Pool2DOptions
    5: "padding:padding stride_w:i32 stride_h:i32 filter_width:i32 filter_height:i32 "
    "fused_activation_function:activation",
    # SVDFOptions
    6: "rank:i32 fused_activation_function:activation asymmetric_quantize_inputs:bool",
    # RNNOptions
    7: "fused_activation_function:activation asymmetric_quantize_inputs:bool",
    # FullyConnectedOptions
    8: "fused_activation_function:activation weights_format:weights_format keep_num_dims:bool "
    "asymmetric_quantize_inputs:bool quantized_bias_type:type",
    # SoftmaxOptions
    9: "beta:f32",
    # ConcatenationOptions
    10: "axis:i32 fused_activation_function:activation",
    # AddOptions
    11: "fused_activation_function:activation pot_scale_int16:bool=True",
    # L2NormOptions
    12: "fused_activation_function:activation",
    # LocalResponseNormalizationOptions
    13: "radius:i32 bias:f32 alpha:f32 beta:f32",
    # LSTMOptions
    14: "fused_activation_function:activation cell_clip:f32 proj_clip:f32 kernel_type:i8 "
    "asymmetric_quantize_inputs:bool",
    # ResizeBilinearOptions
    15: "- - align_corners:bool half_pixel_centers:bool",
    # CallOptions
    16: "subgraph:u32",
    # ReshapeOptions
    17: "new_shape:i32[]",
    # SkipGramOptions
    18: "ngram_size:i32 max_skip_size:i32 include_all_ngrams:bool",
    # SpaceToDepthOptions
    19: "block_size:i32",
    # EmbeddingLookupSparseOptions
    20: "combiner:i8",
    # MulOptions
    21: "fused_activation_function:activation",
    # GatherOptions
    23: "axis:i32 batch_dims:i32",
    # ReducerOptions
    27: "keep_dims:bool",
    # SubOptions
    28: "fused_activation_function:activation pot_scale_int16:bool=True",
    # DivOptions
    29: "fused_activation_function:activation",
    # SqueezeOptions
    30: "squeeze_dims:i32[]",
    # SequenceRNNOptions
    31: "time_major:bool fused_activation_function:activation asymmetric_quantize_inputs:bool",
    # StridedSliceOptions
    32: "begin_mask:i32 end_mask:i32 ellipsis_mask:i32 new_axis_mask:i32 shrink_axis_mask:i32 offset:bool",
    # SplitOptions
    35: "num_splits:i32",
    # CastOptions
    37: "in_data_type:type out_data_type:type",
    # ArgMaxOptions
    40: "output_type:type",
    # TransposeConvOptions
    49: "padding:padding stride_w:i32 stride_h:i32 fused_activation_function:activation quantized_bias_type:type",
    # SparseToDenseOptions
    50: "validate_indices:bool",
    # ShapeOptions
    55: "out_type:type",
    # ArgMinOptions
    57: "output_type:type",
    # FakeQuantOptions
    58: "min:f32 max:f32 num_bits:i32 narrow_range:bool",
    # PackOptions
    59: "values_count:i32 axis:i32",
    # OneHotOptions
    61: "axis:i32",
    # UnpackOptions
    64: "num:i32 axis:i32",
    # BidirectionalSequenceLSTMOptions
    69: "fused_activation_function:activation cell_clip:f32 proj_clip:f32 merge_outputs:bool time_major:bool=True "
    "asymmetric_quantize_inputs:bool",
    # BidirectionalSequenceRNNOptions
    70: "time_major:bool fused_activation_function:activation merge_outputs:bool asymmetric_quantize_inputs:bool",
    # UnidirectionalSequenceLSTMOptions
    71: "fused_activation_function:activation cell_clip:f32 proj_clip:f32 time_major:bool "
    "asymmetric_quantize_inputs:bool diagonal_recurrent_tensors:bool",
    # ResizeNearestNeighborOptions
    74: "align_corners:bool half_pixel_centers:bool",
    # LeakyReluOptions
    75: "alpha:f32",
    # MirrorPadOptions
    77: "mode:mirror",
    # SplitVOptions
    79: "num_splits:i32",
    # UniqueOptions
    80: "idx_out_type:type=2",
    # ReverseSequenceOptions
    87: "seq_dim:i32 batch_dim:i32",
    # IfOptions
    92: "then_subgraph_index:i32 else_subgraph_index:i32",
    # WhileOptions
    93: "cond_subgraph_index:i32 body_subgraph_index:i32",
    # DepthToSpaceOptions
    94: "block_size:i32",
    # BatchMatMulOptions
    101: "adj_x:bool adj_y:bool asymmetric_quantize_inputs:bool",
    # CumsumOptions
    102: "exclusive:bool reverse:bool",
    # CallOnceOptions
    103: "init_subgraph_index:i32",
    # Conv3DOptions
    106: "padding:padding stride_d:i32 stride_w:i32 stride_h:i32 fused_activation_function:activation "
    "dilation_d_factor:i32=1 dilation_w_factor:i32=1 dilation_h_factor:i32=1",
    # HashtableOptions
    107: "table_id:i32 key_dtype:type value_dtype:type",
    # VarHandleOptions
    111: "container:string shared_name:string",
    # RandomOptions
    114: "seed:i64 seed2:i64",
    # BucketizeOptions
    115: "boundaries:f32[]",
    # GeluOptions
    116: "approximate:bool",
}
