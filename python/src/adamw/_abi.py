"""The C interface for ctypes: its constants, structs and prototypes, without the prefix.

Generated from include/adamw.h, which says what each means, by python/generate_abi.py: do not edit.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

VERSION_MAJOR = 0
VERSION_MINOR = 1
VERSION_PATCH = 0

STATUS_OK = 0
STATUS_INVALID_ARGUMENT = 1
STATUS_UNSUPPORTED = 2
STATUS_OUT_OF_MEMORY = 3
STATUS_NOT_FOUND = 5
STATUS_BAD_HANDLE = 7
STATUS_BUSY = 8
STATUS_POISONED = 9
STATUS_CALLBACK = 10
STATUS_LR_CONFLICT = 11
STATUS_NONFINITE = 12
STATUS_CLIP_CONFLICT = 13
STATUS_DEVICE = 14
STATUS_IO = 15
STATUS_CORRUPT = 16
STATUS_MISMATCH = 17
STATUS_INTERNAL = 99

ISA_BEST = 0
ISA_PORTABLE = 1
ISA_AVX2 = 2
ISA_AVX512 = 3


class Capabilities(ctypes.Structure):
    """`adamw_capabilities`"""

    __slots__ = ()
    struct_size: int
    isas: int
    best_isa: int
    devices: int
    dtypes: int
    num_cpus: int
    reserved: int


Capabilities._fields_ = [
    ("struct_size", c_size_t),
    ("isas", c_uint32),
    ("best_isa", c_uint32),
    ("devices", c_uint32),
    ("dtypes", c_uint32),
    ("num_cpus", c_uint32),
    ("reserved", c_uint32),
]

DeviceAlloc = CFUNCTYPE(c_int32, c_size_t, c_int32, c_void_p, POINTER(c_void_p), c_void_p)

DeviceFree = CFUNCTYPE(c_int32, c_void_p, c_size_t, c_int32, c_void_p, c_void_p)

Task = CFUNCTYPE(None, c_void_p, c_size_t)

ParallelFor = CFUNCTYPE(c_int32, c_size_t, Task, c_void_p, c_void_p)

CLIP_NONE = 0
CLIP_NORM = 1
CLIP_GLOBAL_NORM = 2
CLIP_VALUE = 3

CLIP_SCOPE_HANDLE = 0
CLIP_SCOPE_GROUP = 1

NONFINITE_PROPAGATE = 0
NONFINITE_SKIP = 1
NONFINITE_FAIL = 2

LAZY_OFF = 0
LAZY_ROWS = 1
LAZY_EXACT = 2

BIAS_CORRECTION_PRODUCTS = 0
BIAS_CORRECTION_CURRENT = 1
BIAS_CORRECTION_NONE = 2

FORMULA_EPS_BEFORE_CORRECTION = 1
FORMULA_DECAYS_NEW_VALUE = 2

PRECISION_DEFAULT = 0
PRECISION_SPLIT = 1
PRECISION_STOCHASTIC = 2
PRECISION_KAHAN = 3

MOMENTS_F32 = 0
MOMENTS_BF16 = 1
MOMENTS_8BIT = 2
MOMENTS_4BIT = 3

DEVICE_MEMORY_DEFAULT = 0
DEVICE_MEMORY_POOL = 1


class Config(ctypes.Structure):
    """`adamw_config`"""

    __slots__ = ()
    struct_size: int
    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    amsgrad: int
    maximize: int
    multi_precision: int
    num_threads: int
    isa: int
    nonfinite: int
    parallel_for: Any
    parallel_for_data: int | None
    clip_norm: float
    clip_min: float
    clip_max: float
    clip: int
    clip_scope: int
    lazy_mode: int
    average_grads: int
    lr_ptr: Any
    beta1_ptr: Any
    beta2_ptr: Any
    weight_decay_ptr: Any
    precision: int
    moments: int
    seed: int
    clear_grads: int
    independent_weight_decay: int
    bias_correction: int
    formula: int
    team: int | None
    device_alloc: Any
    device_free: Any
    device_memory_data: int | None
    device_memory: int
    reserved: int
    pinned_bytes: int


Config._fields_ = [
    ("struct_size", c_size_t),
    ("lr", c_double),
    ("beta1", c_double),
    ("beta2", c_double),
    ("eps", c_double),
    ("weight_decay", c_double),
    ("amsgrad", c_uint32),
    ("maximize", c_uint32),
    ("multi_precision", c_uint32),
    ("num_threads", c_uint32),
    ("isa", c_uint32),
    ("nonfinite", c_uint32),
    ("parallel_for", ParallelFor),
    ("parallel_for_data", c_void_p),
    ("clip_norm", c_double),
    ("clip_min", c_double),
    ("clip_max", c_double),
    ("clip", c_uint32),
    ("clip_scope", c_uint32),
    ("lazy_mode", c_uint32),
    ("average_grads", c_uint32),
    ("lr_ptr", POINTER(c_float)),
    ("beta1_ptr", POINTER(c_float)),
    ("beta2_ptr", POINTER(c_float)),
    ("weight_decay_ptr", POINTER(c_float)),
    ("precision", c_uint32),
    ("moments", c_uint32),
    ("seed", c_uint64),
    ("clear_grads", c_uint32),
    ("independent_weight_decay", c_uint32),
    ("bias_correction", c_uint32),
    ("formula", c_uint32),
    ("team", c_void_p),
    ("device_alloc", DeviceAlloc),
    ("device_free", DeviceFree),
    ("device_memory_data", c_void_p),
    ("device_memory", c_uint32),
    ("reserved", c_uint32),
    ("pinned_bytes", c_uint64),
]

DTYPE_F32 = 1
DTYPE_F64 = 2
DTYPE_F16 = 3
DTYPE_BF16 = 4
DTYPE_I16 = 5
DTYPE_U8 = 6

DEVICE_CPU = 1
DEVICE_CUDA = 2
DEVICE_CUDA_HOST = 3
DEVICE_ROCM_HOST = 11
DEVICE_CUDA_MANAGED = 13

CODE_INT = 0
CODE_UINT = 1
CODE_FLOAT = 2
CODE_BFLOAT = 4


class Device(ctypes.Structure):
    """`adamw_device`"""

    __slots__ = ()
    device_type: int
    device_id: int


Device._fields_ = [
    ("device_type", c_int32),
    ("device_id", c_int32),
]


class DataType(ctypes.Structure):
    """`adamw_data_type`"""

    __slots__ = ()
    code: int
    bits: int
    lanes: int


DataType._fields_ = [
    ("code", c_uint8),
    ("bits", c_uint8),
    ("lanes", c_uint16),
]


class Tensor(ctypes.Structure):
    """`adamw_tensor`"""

    __slots__ = ()
    data: int | None
    device: Device
    ndim: int
    dtype: DataType
    shape: Any
    strides: Any
    byte_offset: int


Tensor._fields_ = [
    ("data", c_void_p),
    ("device", Device),
    ("ndim", c_int32),
    ("dtype", DataType),
    ("shape", POINTER(c_int64)),
    ("strides", POINTER(c_int64)),
    ("byte_offset", c_uint64),
]

REGULARIZER_NONE = 0
REGULARIZER_L1 = 1
REGULARIZER_L2 = 2


class ParamConfig(ctypes.Structure):
    """`adamw_param_config`"""

    __slots__ = ()
    struct_size: int
    name: bytes | None
    param: Any
    master: Any
    exp_avg: Any
    exp_avg_sq: Any
    max_exp_avg_sq: Any
    step: int
    group: int
    no_clip: int
    regularizer_coeff: float
    regularizer: int
    reserved: int
    remainder: Any
    exp_avg_scale: Any
    exp_avg_sq_scale: Any
    max_exp_avg_sq_scale: Any
    first_element: int
    whole_elements: int
    offload: int
    reserved_2: int


ParamConfig._fields_ = [
    ("struct_size", c_size_t),
    ("name", c_char_p),
    ("param", POINTER(Tensor)),
    ("master", POINTER(Tensor)),
    ("exp_avg", POINTER(Tensor)),
    ("exp_avg_sq", POINTER(Tensor)),
    ("max_exp_avg_sq", POINTER(Tensor)),
    ("step", c_uint64),
    ("group", c_uint32),
    ("no_clip", c_uint32),
    ("regularizer_coeff", c_double),
    ("regularizer", c_uint32),
    ("reserved", c_uint32),
    ("remainder", POINTER(Tensor)),
    ("exp_avg_scale", POINTER(Tensor)),
    ("exp_avg_sq_scale", POINTER(Tensor)),
    ("max_exp_avg_sq_scale", POINTER(Tensor)),
    ("first_element", c_uint64),
    ("whole_elements", c_uint64),
    ("offload", c_uint32),
    ("reserved_2", c_uint32),
]


class ParamInfo(ctypes.Structure):
    """`adamw_param_info`"""

    __slots__ = ()
    struct_size: int
    name: bytes | None
    n_elements: int
    step: int
    param: int
    group: int
    dtype: int
    decays: int


ParamInfo._fields_ = [
    ("struct_size", c_size_t),
    ("name", c_char_p),
    ("n_elements", c_uint64),
    ("step", c_uint64),
    ("param", c_uint32),
    ("group", c_uint32),
    ("dtype", c_uint32),
    ("decays", c_uint32),
]


class ParamOptions(ctypes.Structure):
    """`adamw_param_options`"""

    __slots__ = ()
    struct_size: int
    lr_scale: float
    regularizer_coeff: float
    regularizer: int
    group: int
    frozen: int
    no_clip: int


ParamOptions._fields_ = [
    ("struct_size", c_size_t),
    ("lr_scale", c_double),
    ("regularizer_coeff", c_double),
    ("regularizer", c_uint32),
    ("group", c_uint32),
    ("frozen", c_uint32),
    ("no_clip", c_uint32),
]

BUFFER_PARAM = 1
BUFFER_MASTER = 2
BUFFER_EXP_AVG = 3
BUFFER_EXP_AVG_SQ = 4
BUFFER_MAX_EXP_AVG_SQ = 5
BUFFER_STEP = 6
BUFFER_BETA1_POWER = 7
BUFFER_BETA2_POWER = 8
BUFFER_REMAINDER = 9
BUFFER_EXP_AVG_SCALE = 10
BUFFER_EXP_AVG_SQ_SCALE = 11
BUFFER_MAX_EXP_AVG_SQ_SCALE = 12


class Memory(ctypes.Structure):
    """`adamw_memory`"""

    __slots__ = ()
    struct_size: int
    master: int
    remainder: int
    exp_avg: int
    exp_avg_sq: int
    max_exp_avg_sq: int
    total: int


Memory._fields_ = [
    ("struct_size", c_size_t),
    ("master", c_uint64),
    ("remainder", c_uint64),
    ("exp_avg", c_uint64),
    ("exp_avg_sq", c_uint64),
    ("max_exp_avg_sq", c_uint64),
    ("total", c_uint64),
]

CLEAR_ZERO = 0
CLEAR_FORGET = 1


class StepInfo(ctypes.Structure):
    """`adamw_step_info`"""

    __slots__ = ()
    struct_size: int
    n_elements: int
    n_nonfinite: int
    grad_norm: float
    measured: int
    skipped: int
    clip_factor: float
    update_norm: float
    param_norm: float
    seconds: float
    has_statistics: int
    isa: int
    num_threads: int
    invalid_inputs: int
    n_unchanged: int


StepInfo._fields_ = [
    ("struct_size", c_size_t),
    ("n_elements", c_uint64),
    ("n_nonfinite", c_uint64),
    ("grad_norm", c_double),
    ("measured", c_uint32),
    ("skipped", c_uint32),
    ("clip_factor", c_double),
    ("update_norm", c_double),
    ("param_norm", c_double),
    ("seconds", c_double),
    ("has_statistics", c_uint32),
    ("isa", c_uint32),
    ("num_threads", c_uint32),
    ("invalid_inputs", c_uint32),
    ("n_unchanged", c_uint64),
]

Closure = CFUNCTYPE(c_int32, POINTER(c_double), c_void_p)


class ParamGrad(ctypes.Structure):
    """`adamw_param_grad`"""

    __slots__ = ()
    grad: int | None
    param: int
    reserved: int


ParamGrad._fields_ = [
    ("grad", c_void_p),
    ("param", c_uint32),
    ("reserved", c_uint32),
]


class MinimizeArgs(ctypes.Structure):
    """`adamw_minimize_args`"""

    __slots__ = ()
    struct_size: int
    closure: Any
    user_data: int | None
    params: Any
    num_params: int
    no_grad: Any
    num_no_grad: int
    updated: Any
    capacity: int


MinimizeArgs._fields_ = [
    ("struct_size", c_size_t),
    ("closure", Closure),
    ("user_data", c_void_p),
    ("params", POINTER(c_uint32)),
    ("num_params", c_size_t),
    ("no_grad", POINTER(c_uint32)),
    ("num_no_grad", c_size_t),
    ("updated", POINTER(ParamGrad)),
    ("capacity", c_size_t),
]

AllReduce = CFUNCTYPE(c_int32, POINTER(c_double), c_size_t, c_void_p)

NextPiece = CFUNCTYPE(c_int32, c_uint64, c_uint64, c_void_p)

DecayFilter = CFUNCTYPE(c_int32, c_char_p, c_void_p)

LrRatio = CFUNCTYPE(c_int32, POINTER(ParamInfo), POINTER(c_double), c_void_p)


class GroupConfig(ctypes.Structure):
    """`adamw_group_config`"""

    __slots__ = ()
    struct_size: int
    lr_scale: float
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    clip_norm: float
    clip_min: float
    clip_max: float
    clip: int
    lazy_mode: int
    beta1_ptr: Any
    beta2_ptr: Any
    weight_decay_ptr: Any
    precision: int
    moments: int
    independent_weight_decay: int
    maximize: int
    amsgrad: int
    bias_correction: int
    lr_scale_ptr: Any
    formula: int
    reserved: int


GroupConfig._fields_ = [
    ("struct_size", c_size_t),
    ("lr_scale", c_double),
    ("weight_decay", c_double),
    ("beta1", c_double),
    ("beta2", c_double),
    ("eps", c_double),
    ("clip_norm", c_double),
    ("clip_min", c_double),
    ("clip_max", c_double),
    ("clip", c_uint32),
    ("lazy_mode", c_uint32),
    ("beta1_ptr", POINTER(c_float)),
    ("beta2_ptr", POINTER(c_float)),
    ("weight_decay_ptr", POINTER(c_float)),
    ("precision", c_uint32),
    ("moments", c_uint32),
    ("independent_weight_decay", c_uint32),
    ("maximize", c_uint32),
    ("amsgrad", c_uint32),
    ("bias_correction", c_uint32),
    ("lr_scale_ptr", POINTER(c_float)),
    ("formula", c_uint32),
    ("reserved", c_uint32),
]

ScheduleFunction = CFUNCTYPE(c_int32, c_uint64, POINTER(c_double), c_void_p)

SCHEDULE_NOAM = 1
SCHEDULE_PIECEWISE = 2
SCHEDULE_NATURAL_EXP = 3
SCHEDULE_INVERSE_TIME = 4
SCHEDULE_POLYNOMIAL = 5
SCHEDULE_LINEAR_WARMUP = 6
SCHEDULE_EXPONENTIAL = 7
SCHEDULE_MULTI_STEP = 8
SCHEDULE_STEP = 9
SCHEDULE_LAMBDA = 10
SCHEDULE_REDUCE_ON_PLATEAU = 11
SCHEDULE_COSINE_ANNEALING = 12
SCHEDULE_MULTIPLICATIVE = 13
SCHEDULE_ONE_CYCLE = 14
SCHEDULE_CYCLIC = 15
SCHEDULE_LINEAR = 16
SCHEDULE_COSINE_WARM_RESTARTS = 17
SCHEDULE_CONSTANT_WITH_WARMUP = 18
SCHEDULE_LINEAR_WITH_WARMUP = 19
SCHEDULE_COSINE_WITH_WARMUP = 20
SCHEDULE_INVERSE_SQRT = 21
SCHEDULE_WARMUP_STABLE_DECAY = 22
SCHEDULE_CHAIN = 23
SCHEDULE_FUNCTION = 24

CYCLIC_TRIANGULAR = 0
CYCLIC_TRIANGULAR2 = 1
CYCLIC_EXP_RANGE = 2

ADVANCE_ON_STEP = 0
ADVANCE_MANUALLY = 1


class Schedule(ctypes.Structure):
    """`adamw_schedule`"""

    __slots__ = ()
    struct_size: int
    kind: int
    advance: int
    lr: float
    start_lr: float
    end_lr: float
    min_lr: float
    max_lr: float
    gamma: float
    power: float
    factor: float
    start_factor: float
    end_factor: float
    divide_factor: float
    phase_fraction: float
    threshold: float
    epsilon: float
    d_model: int
    warmup_steps: int
    total_steps: int
    decay_steps: int
    period: int
    period_factor: int
    steps_up: int
    steps_down: int
    boundaries: Any
    n_boundaries: int
    values: Any
    n_values: int
    schedules: Any
    n_schedules: int
    function: Any
    user_data: int | None
    patience: int
    cooldown: int
    cyclic_mode: int
    cycle: int
    linear_anneal: int
    three_phase: int
    maximize_metric: int
    threshold_is_absolute: int


Schedule._fields_ = [
    ("struct_size", c_size_t),
    ("kind", c_uint32),
    ("advance", c_uint32),
    ("lr", c_double),
    ("start_lr", c_double),
    ("end_lr", c_double),
    ("min_lr", c_double),
    ("max_lr", c_double),
    ("gamma", c_double),
    ("power", c_double),
    ("factor", c_double),
    ("start_factor", c_double),
    ("end_factor", c_double),
    ("divide_factor", c_double),
    ("phase_fraction", c_double),
    ("threshold", c_double),
    ("epsilon", c_double),
    ("d_model", c_uint64),
    ("warmup_steps", c_uint64),
    ("total_steps", c_uint64),
    ("decay_steps", c_uint64),
    ("period", c_uint64),
    ("period_factor", c_uint64),
    ("steps_up", c_uint64),
    ("steps_down", c_uint64),
    ("boundaries", POINTER(c_uint64)),
    ("n_boundaries", c_size_t),
    ("values", POINTER(c_double)),
    ("n_values", c_size_t),
    ("schedules", POINTER(POINTER(Schedule))),
    ("n_schedules", c_size_t),
    ("function", ScheduleFunction),
    ("user_data", c_void_p),
    ("patience", c_uint32),
    ("cooldown", c_uint32),
    ("cyclic_mode", c_uint32),
    ("cycle", c_uint32),
    ("linear_anneal", c_uint32),
    ("three_phase", c_uint32),
    ("maximize_metric", c_uint32),
    ("threshold_is_absolute", c_uint32),
]


class ScheduleState(ctypes.Structure):
    """`adamw_schedule_state`"""

    __slots__ = ()
    struct_size: int
    index: int
    lr: float
    best: float
    num_bad: int
    cooldown: int


ScheduleState._fields_ = [
    ("struct_size", c_size_t),
    ("index", c_uint64),
    ("lr", c_double),
    ("best", c_double),
    ("num_bad", c_uint32),
    ("cooldown", c_uint32),
]


class LossScaler(ctypes.Structure):
    """`adamw_loss_scaler`"""

    __slots__ = ()
    struct_size: int
    scale: float
    growth_factor: float
    backoff_factor: float
    growth_interval: int
    backoff_interval: int


LossScaler._fields_ = [
    ("struct_size", c_size_t),
    ("scale", c_double),
    ("growth_factor", c_double),
    ("backoff_factor", c_double),
    ("growth_interval", c_uint64),
    ("backoff_interval", c_uint64),
]


class LossScalerState(ctypes.Structure):
    """`adamw_loss_scaler_state`"""

    __slots__ = ()
    struct_size: int
    scale: float
    good_steps: int
    bad_steps: int


LossScalerState._fields_ = [
    ("struct_size", c_size_t),
    ("scale", c_double),
    ("good_steps", c_uint64),
    ("bad_steps", c_uint64),
]

NAMES_NEUTRAL = 0
NAMES_PADDLE = 1


class StateInfo(ctypes.Structure):
    """`adamw_state_info`"""

    __slots__ = ()
    struct_size: int
    data: int | None
    n_elements: int
    param: int
    buffer: int
    dtype: int
    is_hosts: int


StateInfo._fields_ = [
    ("struct_size", c_size_t),
    ("data", c_void_p),
    ("n_elements", c_uint64),
    ("param", c_uint32),
    ("buffer", c_uint32),
    ("dtype", c_uint32),
    ("is_hosts", c_uint32),
]

Write = CFUNCTYPE(c_int32, c_void_p, c_size_t, c_void_p)

Progress = CFUNCTYPE(c_int32, c_uint64, c_uint64, c_void_p)


class SaveArgs(ctypes.Structure):
    """`adamw_save_args`"""

    __slots__ = ()
    struct_size: int
    path: bytes | None
    data: int | None
    capacity: int
    write: Any
    write_data: int | None
    progress: Any
    progress_data: int | None
    params: int
    size_only: int
    out_durable: Any


SaveArgs._fields_ = [
    ("struct_size", c_size_t),
    ("path", c_char_p),
    ("data", c_void_p),
    ("capacity", c_size_t),
    ("write", Write),
    ("write_data", c_void_p),
    ("progress", Progress),
    ("progress_data", c_void_p),
    ("params", c_uint32),
    ("size_only", c_uint32),
    ("out_durable", POINTER(c_uint32)),
]

Rename = CFUNCTYPE(c_int32, c_char_p, POINTER(c_char_p), c_void_p)

Read = CFUNCTYPE(c_int32, c_uint64, c_void_p, c_size_t, c_void_p)


class Source(ctypes.Structure):
    """`adamw_source`"""

    __slots__ = ()
    struct_size: int
    path: bytes | None
    data: int | None
    num_bytes: int
    read: Any
    read_data: int | None


Source._fields_ = [
    ("struct_size", c_size_t),
    ("path", c_char_p),
    ("data", c_void_p),
    ("num_bytes", c_uint64),
    ("read", Read),
    ("read_data", c_void_p),
]

LOAD_ALL = 0
LOAD_SUBSET = 1
LOAD_SHARED = 2


class LoadOptions(ctypes.Structure):
    """`adamw_load_options`"""

    __slots__ = ()
    struct_size: int
    rename: Any
    rename_data: int | None
    progress: Any
    progress_data: int | None
    scope: int
    params: int
    convert: int
    keep_schedule: int
    extend: int
    reserved: int


LoadOptions._fields_ = [
    ("struct_size", c_size_t),
    ("rename", Rename),
    ("rename_data", c_void_p),
    ("progress", Progress),
    ("progress_data", c_void_p),
    ("scope", c_uint32),
    ("params", c_uint32),
    ("convert", c_uint32),
    ("keep_schedule", c_uint32),
    ("extend", c_uint32),
    ("reserved", c_uint32),
]


class Entry(ctypes.Structure):
    """`adamw_entry`"""

    __slots__ = ()
    struct_size: int
    name: bytes | None
    text: bytes | None
    dtype: bytes | None
    n_elements: int
    offset: int
    value: float


Entry._fields_ = [
    ("struct_size", c_size_t),
    ("name", c_char_p),
    ("text", c_char_p),
    ("dtype", c_char_p),
    ("n_elements", c_uint64),
    ("offset", c_uint64),
    ("value", c_double),
]

Visit = CFUNCTYPE(c_int32, POINTER(Entry), c_void_p)


class DeviceInputs(ctypes.Structure):
    """`adamw_device_inputs`"""

    __slots__ = ()
    struct_size: int
    lr: Any
    grad_scale: Any
    found_inf: Any


DeviceInputs._fields_ = [
    ("struct_size", c_size_t),
    ("lr", POINTER(c_float)),
    ("grad_scale", POINTER(c_float)),
    ("found_inf", POINTER(c_float)),
]


class OffloadInfo(ctypes.Structure):
    """`adamw_offload_info`"""

    __slots__ = ()
    struct_size: int
    n_bytes_down: int
    n_bytes_up: int
    seconds_down: float
    seconds_up: float
    seconds_worked: float
    seconds_waited: float
    hidden: float


OffloadInfo._fields_ = [
    ("struct_size", c_size_t),
    ("n_bytes_down", c_uint64),
    ("n_bytes_up", c_uint64),
    ("seconds_down", c_double),
    ("seconds_up", c_double),
    ("seconds_worked", c_double),
    ("seconds_waited", c_double),
    ("hidden", c_double),
]

PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "adamw_last_error": (c_char_p, []),
    "adamw_status_name": (c_char_p, [c_int32]),
    "adamw_version": (c_char_p, []),
    "adamw_get_capabilities": (c_int32, [POINTER(Capabilities), c_size_t]),
    "adamw_team_create": (c_int32, [c_uint32, POINTER(c_void_p)]),
    "adamw_team_destroy": (c_int32, [c_void_p]),
    "adamw_config_init": (c_int32, [POINTER(Config), c_size_t]),
    "adamw_create": (c_int32, [POINTER(Config), POINTER(c_void_p)]),
    "adamw_destroy": (c_int32, [c_void_p]),
    "adamw_add_param": (c_int32, [c_void_p, POINTER(ParamConfig), POINTER(c_uint32)]),
    "adamw_add_array": (
        c_int32,
        [c_void_p, c_char_p, c_void_p, c_uint64, c_uint32, POINTER(c_uint32)],
    ),
    "adamw_add_array_to_group": (
        c_int32,
        [c_void_p, c_uint32, c_char_p, c_void_p, c_uint64, c_uint32, POINTER(c_uint32)],
    ),
    "adamw_num_params": (c_int32, [c_void_p, POINTER(c_uint32)]),
    "adamw_find_param": (c_int32, [c_void_p, c_char_p, POINTER(c_uint32)]),
    "adamw_get_param_info": (c_int32, [c_void_p, c_uint32, POINTER(ParamInfo), c_size_t]),
    "adamw_get_param_options": (c_int32, [c_void_p, c_uint32, POINTER(ParamOptions), c_size_t]),
    "adamw_set_param_options": (c_int32, [c_void_p, c_uint32, POINTER(ParamOptions)]),
    "adamw_reset_param": (c_int32, [c_void_p, c_uint32]),
    "adamw_remove_param": (c_int32, [c_void_p, c_uint32]),
    "adamw_rebind": (
        c_int32,
        [c_void_p, POINTER(c_uint32), POINTER(c_uint32), POINTER(POINTER(Tensor)), c_size_t],
    ),
    "adamw_sync_master": (c_int32, [c_void_p, c_uint32]),
    "adamw_memory_plan": (
        c_int32,
        [c_void_p, c_uint32, c_uint32, c_uint64, c_uint64, POINTER(Memory), c_size_t],
    ),
    "adamw_set_grad": (c_int32, [c_void_p, c_uint32, POINTER(Tensor)]),
    "adamw_set_grad_array": (c_int32, [c_void_p, c_uint32, c_void_p, c_uint64, c_uint32]),
    "adamw_set_grad_data": (c_int32, [c_void_p, POINTER(c_uint32), POINTER(c_void_p), c_size_t]),
    "adamw_set_grads": (c_int32, [c_void_p, POINTER(c_uint32), POINTER(POINTER(Tensor)), c_size_t]),
    "adamw_accumulate_grad": (c_int32, [c_void_p, c_uint32, POINTER(Tensor)]),
    "adamw_accumulate_grad_array": (c_int32, [c_void_p, c_uint32, c_void_p, c_uint64, c_uint32]),
    "adamw_set_accumulation_window": (c_int32, [c_void_p, c_uint64]),
    "adamw_clear_grad": (c_int32, [c_void_p, c_uint32]),
    "adamw_step": (c_int32, [c_void_p]),
    "adamw_grad_ready": (c_int32, [c_void_p, c_uint32]),
    "adamw_step_param": (c_int32, [c_void_p, c_uint32]),
    "adamw_set_statistics": (c_int32, [c_void_p, c_uint32]),
    "adamw_get_step_info": (c_int32, [c_void_p, POINTER(StepInfo), c_size_t]),
    "adamw_measure_grads": (c_int32, [c_void_p, POINTER(Tensor)]),
    "adamw_set_grad_sums": (c_int32, [c_void_p, POINTER(Tensor)]),
    "adamw_get_grad_norm": (c_int32, [c_void_p, POINTER(c_double), POINTER(c_uint64)]),
    "adamw_step_begin": (c_int32, [c_void_p]),
    "adamw_step_work": (c_int32, [c_void_p]),
    "adamw_step_end": (c_int32, [c_void_p]),
    "adamw_minimize": (
        c_int32,
        [c_void_p, POINTER(MinimizeArgs), POINTER(c_double), POINTER(c_size_t)],
    ),
    "adamw_apply_gradients": (
        c_int32,
        [c_void_p, POINTER(c_uint32), POINTER(POINTER(Tensor)), c_size_t],
    ),
    "adamw_shard_ranges": (
        c_int32,
        [
            POINTER(c_uint64),
            c_size_t,
            c_uint64,
            c_uint32,
            c_uint32,
            POINTER(c_uint64),
            POINTER(c_uint64),
        ],
    ),
    "adamw_set_all_reduce": (c_int32, [c_void_p, AllReduce, c_void_p]),
    "adamw_set_next_piece": (c_int32, [c_void_p, c_uint64, NextPiece, c_void_p]),
    "adamw_set_lr": (c_int32, [c_void_p, c_double]),
    "adamw_get_lr": (c_int32, [c_void_p, POINTER(c_double)]),
    "adamw_get_param_lr": (c_int32, [c_void_p, c_uint32, POINTER(c_double)]),
    "adamw_set_decay_filter": (c_int32, [c_void_p, DecayFilter, c_void_p]),
    "adamw_set_lr_ratio": (c_int32, [c_void_p, LrRatio, c_void_p]),
    "adamw_group_config_init": (c_int32, [c_void_p, POINTER(GroupConfig), c_size_t]),
    "adamw_add_group": (c_int32, [c_void_p, POINTER(GroupConfig), POINTER(c_uint32)]),
    "adamw_num_groups": (c_int32, [c_void_p, POINTER(c_uint32)]),
    "adamw_get_group": (c_int32, [c_void_p, c_uint32, POINTER(GroupConfig), c_size_t]),
    "adamw_set_group": (c_int32, [c_void_p, c_uint32, POINTER(GroupConfig)]),
    "adamw_set_lr_schedule": (c_int32, [c_void_p, POINTER(Schedule)]),
    "adamw_schedule_advance": (c_int32, [c_void_p]),
    "adamw_schedule_advance_with_metric": (c_int32, [c_void_p, c_double]),
    "adamw_get_schedule_state": (c_int32, [c_void_p, POINTER(ScheduleState), c_size_t]),
    "adamw_set_schedule_state": (c_int32, [c_void_p, POINTER(ScheduleState)]),
    "adamw_set_schedule_index": (c_int32, [c_void_p, c_uint64]),
    "adamw_schedule_trace": (c_int32, [POINTER(Schedule), POINTER(c_double), c_size_t]),
    "adamw_set_grad_scale": (c_int32, [c_void_p, c_double]),
    "adamw_get_grad_scale": (c_int32, [c_void_p, POINTER(c_double)]),
    "adamw_set_loss_scaler": (c_int32, [c_void_p, POINTER(LossScaler)]),
    "adamw_get_loss_scaler_state": (c_int32, [c_void_p, POINTER(LossScalerState), c_size_t]),
    "adamw_set_loss_scaler_state": (c_int32, [c_void_p, POINTER(LossScalerState)]),
    "adamw_set_found_inf": (c_int32, [c_void_p, POINTER(c_float), POINTER(c_float)]),
    "adamw_set_sparse_grad": (c_int32, [c_void_p, c_uint32, POINTER(Tensor), POINTER(Tensor)]),
    "adamw_sparse_prepare": (c_int32, [c_void_p, c_uint32, POINTER(Tensor)]),
    "adamw_sparse_flush": (c_int32, [c_void_p]),
    "adamw_get_state_info": (c_int32, [c_void_p, c_uint32, c_uint32, POINTER(StateInfo), c_size_t]),
    "adamw_get_state_name": (
        c_int32,
        [c_void_p, c_uint32, c_uint32, c_uint32, c_char_p, c_size_t, POINTER(c_size_t)],
    ),
    "adamw_find_state": (c_int32, [c_void_p, c_char_p, POINTER(c_uint32), POINTER(c_uint32)]),
    "adamw_get_state": (c_int32, [c_void_p, c_char_p, c_void_p, c_uint64, c_uint32]),
    "adamw_set_state": (c_int32, [c_void_p, c_char_p, c_void_p, c_uint64, c_uint32]),
    "adamw_get_steps": (c_int32, [c_void_p, POINTER(c_uint32), POINTER(c_uint64), c_size_t]),
    "adamw_set_steps": (c_int32, [c_void_p, POINTER(c_uint32), POINTER(c_uint64), c_size_t]),
    "adamw_save": (c_int32, [c_void_p, c_char_p]),
    "adamw_save_to": (c_int32, [c_void_p, POINTER(SaveArgs), POINTER(c_uint64)]),
    "adamw_save_begin": (c_int32, [c_void_p, POINTER(SaveArgs)]),
    "adamw_save_poll": (
        c_int32,
        [c_void_p, POINTER(c_uint32), POINTER(c_uint64), POINTER(c_uint64)],
    ),
    "adamw_save_wait": (c_int32, [c_void_p, POINTER(c_uint64), POINTER(c_uint32)]),
    "adamw_load": (c_int32, [c_void_p, c_char_p, POINTER(LoadOptions)]),
    "adamw_load_from": (
        c_int32,
        [c_void_p, POINTER(POINTER(Source)), c_size_t, POINTER(LoadOptions)],
    ),
    "adamw_inspect": (c_int32, [POINTER(Source), Visit, c_void_p]),
    "adamw_set_stream": (c_int32, [c_void_p, c_void_p]),
    "adamw_get_pinned_bytes": (c_int32, [c_void_p, POINTER(c_uint64)]),
    "adamw_set_offload_timing": (c_int32, [c_void_p, c_uint32]),
    "adamw_get_offload_info": (c_int32, [c_void_p, POINTER(OffloadInfo), c_size_t]),
    "adamw_set_device_inputs": (c_int32, [c_void_p, POINTER(DeviceInputs)]),
    "adamw_set_device_scale": (c_int32, [c_void_p, POINTER(c_float)]),
    "adamw_prepare": (c_int32, [c_void_p]),
}


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Returns the library with the types of its functions set."""
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
