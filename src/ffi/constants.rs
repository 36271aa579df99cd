//! The constants of the C API, under the names that C sees. A number is never reused.
#![allow(non_camel_case_types)]

/// Element type of a plain array.
pub type adamw_dtype = u32;
/// IEEE 754 binary32.
pub const ADAMW_DTYPE_F32: adamw_dtype = 1;
/// IEEE 754 binary64.
pub const ADAMW_DTYPE_F64: adamw_dtype = 2;
/// IEEE 754 binary16.
pub const ADAMW_DTYPE_F16: adamw_dtype = 3;
/// bfloat16: the upper 16 bits of a binary32.
pub const ADAMW_DTYPE_BF16: adamw_dtype = 4;
/// int16, of remainders only.
pub const ADAMW_DTYPE_I16: adamw_dtype = 5;
/// uint8, of 8-bit and 4-bit moments only.
pub const ADAMW_DTYPE_U8: adamw_dtype = 6;

/// Where memory is, as DLPack numbers it: `device_type` of a tensor's device.
pub type adamw_device_type = i32;
/// The host's memory.
pub const ADAMW_DEVICE_CPU: adamw_device_type = 1;
/// The memory of a CUDA device.
pub const ADAMW_DEVICE_CUDA: adamw_device_type = 2;
/// Page-locked memory of the host's, of CUDA's.
pub const ADAMW_DEVICE_CUDA_HOST: adamw_device_type = 3;
/// Page-locked memory of the host's, of ROCm's.
pub const ADAMW_DEVICE_ROCM_HOST: adamw_device_type = 11;
/// CUDA's managed memory.
pub const ADAMW_DEVICE_CUDA_MANAGED: adamw_device_type = 13;

/// What the bits of an element mean, as DLPack numbers it: `code` of a tensor's type.
pub type adamw_type_code = u8;
/// Signed integers.
pub const ADAMW_CODE_INT: adamw_type_code = 0;
/// Unsigned integers.
pub const ADAMW_CODE_UINT: adamw_type_code = 1;
/// IEEE 754: f16, f32 and f64.
pub const ADAMW_CODE_FLOAT: adamw_type_code = 2;
/// bf16.
pub const ADAMW_CODE_BFLOAT: adamw_type_code = 4;

/// An instruction set, as a cap: the highest available that is not above it is used. All of them
/// give the same bits, but for the sign and the payload of a NaN.
pub type adamw_isa = u32;
/// As high as the processor has; the environment variable `ADAMW_ISA` (`portable`, `avx2` or
/// `avx512`) caps it, and every other choice too.
pub const ADAMW_ISA_BEST: adamw_isa = 0;
/// What the target's baseline has: SSE2 on x86-64, NEON on aarch64.
pub const ADAMW_ISA_PORTABLE: adamw_isa = 1;
/// AVX2.
pub const ADAMW_ISA_AVX2: adamw_isa = 2;
/// AVX-512 F, BW, DQ and VL.
pub const ADAMW_ISA_AVX512: adamw_isa = 3;

/// A buffer of a parameter, or a counter of its state.
pub type adamw_buffer = u32;
/// The parameter itself.
pub const ADAMW_BUFFER_PARAM: adamw_buffer = 1;
/// The f32 master of a 16-bit parameter.
pub const ADAMW_BUFFER_MASTER: adamw_buffer = 2;
/// The running mean of the gradient.
pub const ADAMW_BUFFER_EXP_AVG: adamw_buffer = 3;
/// The running mean of the squared gradient.
pub const ADAMW_BUFFER_EXP_AVG_SQ: adamw_buffer = 4;
/// The largest exp_avg_sq so far, with amsgrad.
pub const ADAMW_BUFFER_MAX_EXP_AVG_SQ: adamw_buffer = 5;

/// A counter, one f64: the steps that the parameter has taken.
pub const ADAMW_BUFFER_STEP: adamw_buffer = 6;
/// A counter, one f64: the product of beta1 over those steps.
pub const ADAMW_BUFFER_BETA1_POWER: adamw_buffer = 7;
/// A counter, one f64: the product of beta2 over those steps.
pub const ADAMW_BUFFER_BETA2_POWER: adamw_buffer = 8;

/// What rounding a parameter left over. With ADAMW_PRECISION_SPLIT int16: the bits of the f32 master
/// are those of the parameter, shifted up by 16, plus this number. With ADAMW_PRECISION_KAHAN of the
/// parameter's type: the parameter is more precisely the sum of the two.
pub const ADAMW_BUFFER_REMAINDER: adamw_buffer = 9;
/// The scales of an 8-bit exp_avg, `[n / 256, rounded up] f32`, or of a 4-bit one, `[n / 128, rounded
/// up] f32`.
pub const ADAMW_BUFFER_EXP_AVG_SCALE: adamw_buffer = 10;
/// As ADAMW_BUFFER_EXP_AVG_SCALE, of exp_avg_sq.
pub const ADAMW_BUFFER_EXP_AVG_SQ_SCALE: adamw_buffer = 11;
/// As ADAMW_BUFFER_EXP_AVG_SCALE, of an 8-bit max_exp_avg_sq.
pub const ADAMW_BUFFER_MAX_EXP_AVG_SQ_SCALE: adamw_buffer = 12;

/// What keeps the precision of 16-bit parameters that are added to a group.
pub type adamw_precision = u32;
/// With multi_precision an f32 master, otherwise nothing: updates that are small beside a 16-bit
/// parameter are lost in rounding (see `multi_precision`). Any of the others keeps them.
pub const ADAMW_PRECISION_DEFAULT: adamw_precision = 0;
/// bf16 parameters and a remainder `[n] i16` that together are the exact f32 master: the bits of
/// ADAMW_PRECISION_DEFAULT with multi_precision, in 4 bytes and not 6. The parameter is the master
/// rounded half away from zero. f16 has no such split: `ADAMW_STATUS_UNSUPPORTED`.
pub const ADAMW_PRECISION_SPLIT: adamw_precision = 1;
/// No master: bf16 parameters are rounded up or down at random, each as likely as the sum is near it,
/// so that on average nothing is lost. The random bits are a function of `seed`, of the parameter's
/// name, of its step and of the element. Not for f16: `ADAMW_STATUS_UNSUPPORTED`.
pub const ADAMW_PRECISION_STOCHASTIC: adamw_precision = 2;
/// Kahan's compensation: f16 and bf16 parameters with a remainder `[n]` of their own type, which
/// holds what rounding left over, and which the next step adds first. (With bf16
/// ADAMW_PRECISION_SPLIT takes the same memory and is exact. An f16 remainder is at most as fine as
/// 6e-8, the smallest f16.)
pub const ADAMW_PRECISION_KAHAN: adamw_precision = 3;

/// What the moments of f32, f16 and bf16 parameters that are added to a group are kept in. f64
/// parameters have f64 moments.
pub type adamw_moments = u32;
/// f32.
pub const ADAMW_MOMENTS_F32: adamw_moments = 0;
/// bf16. exp_avg is rounded to nearest, exp_avg_sq at random (as ADAMW_PRECISION_STOCHASTIC has it):
/// it moves by less than rounding to nearest would see.
pub const ADAMW_MOMENTS_BF16: adamw_moments = 1;
/// 8 bits: `[n] u8`, and an f32 scale for each 256 elements, the largest magnitude among them. A code
/// counts down from it, sixteen values to an octave, then eight: exp_avg, which has a sign, for 4
/// octaves and 8 more, below which is 0; exp_avg_sq, rounded at random, for 8 and 16 more, and never to
/// 0. Tensors of fewer than 4,096 elements have f32 moments (shards: those of a whole of so few, as
/// `whole_elements` says). What is not finite spreads to the other elements of its 256. Sparse gradients need ADAMW_LAZY_OFF.
pub const ADAMW_MOMENTS_8BIT: adamw_moments = 2;
/// 4 bits: 64 bytes for each 128 elements, the last of which may be fewer, byte i with the code of
/// element i in its low half and of element i + 64 in its high half; and an f32 scale for each 128,
/// the largest magnitude among them. A code is an octave: of exp_avg, with a sign, 6 of them below the
/// scale and 0; of exp_avg_sq 14, and never 0. Both are rounded at random. Otherwise as 8 bits; not
/// with amsgrad, which would keep the largest of what was rounded up.
pub const ADAMW_MOMENTS_4BIT: adamw_moments = 3;

/// Whose names state has.
pub type adamw_names = u32;
/// `state.<param>.exp_avg`, `.exp_avg_sq`, `.max_exp_avg_sq`, `.master`, `.step`, `.beta1_power`,
/// `.beta2_power`.
pub const ADAMW_NAMES_NEUTRAL: adamw_names = 0;
/// Paddle's: `<param>_moment1_0`, `_moment2_0`, `_moment2_max_0`, `_fp32_master_0`,
/// `_beta1_pow_acc_0`, `_beta2_pow_acc_0`, where the state of a parameter that has a master is
/// that of `<param>_fp32_master_0`. Its powers are one step ahead, as Paddle's are.
pub const ADAMW_NAMES_PADDLE: adamw_names = 1;

/// How gradients are clipped. They are never rewritten: the factor is part of the step. Norms are
/// summed in f64, in one order, so that they have the same bits everywhere. Where gradients that are
/// not finite propagate, a norm of NaN makes every parameter that it clips NaN, and an infinite one
/// makes the factor 0: finite gradients become 0, infinite ones NaN.
pub type adamw_clip = u32;
/// Not at all.
pub const ADAMW_CLIP_NONE: adamw_clip = 0;
/// Each tensor to a norm of at most `clip_norm`.
pub const ADAMW_CLIP_NORM: adamw_clip = 1;
/// All tensors of the scope together to a norm of at most `clip_norm`: each is multiplied by
/// clip_norm / max(norm, clip_norm).
pub const ADAMW_CLIP_GLOBAL_NORM: adamw_clip = 2;
/// Each element to at least `clip_min` and at most `clip_max`. A NaN stays one.
pub const ADAMW_CLIP_VALUE: adamw_clip = 3;

/// What a step does with gradients that are not finite, before it writes anything.
pub type adamw_nonfinite = u32;
/// Steps with them, as IEEE 754 has it.
pub const ADAMW_NONFINITE_PROPAGATE: adamw_nonfinite = 0;
/// Takes no step, for any parameter: nothing changes, no counter moves, and
/// `adamw_get_step_info` says so.
pub const ADAMW_NONFINITE_SKIP: adamw_nonfinite = 1;
/// Fails with `ADAMW_STATUS_NONFINITE`, naming the first such parameter.
pub const ADAMW_NONFINITE_FAIL: adamw_nonfinite = 2;

/// A penalty whose gradient is added to a parameter's, after clipping. It passes through the
/// moments, which decoupled weight decay does not.
pub type adamw_regularizer = u32;
/// None.
pub const ADAMW_REGULARIZER_NONE: adamw_regularizer = 0;
/// Adds regularizer_coeff * sign(param).
pub const ADAMW_REGULARIZER_L1: adamw_regularizer = 1;
/// Adds regularizer_coeff * param.
pub const ADAMW_REGULARIZER_L2: adamw_regularizer = 2;

/// Which gradients make up a global norm.
pub type adamw_clip_scope = u32;
/// Those of all groups of the handle that clip by global norm, as torch.nn.utils.clip_grad_norm_ has it.
pub const ADAMW_CLIP_SCOPE_HANDLE: adamw_clip_scope = 0;
/// Those of one group, as Paddle's ClipGradByGlobalNorm has it.
pub const ADAMW_CLIP_SCOPE_GROUP: adamw_clip_scope = 1;

/// What a step with a sparse gradient does to the rows that the gradient does not list. With dense
/// gradients it means nothing.
pub type adamw_lazy = u32;
/// Steps them with a gradient of zero: the same bits as the dense gradient would give, at its cost.
pub const ADAMW_LAZY_OFF: adamw_lazy = 0;
/// Leaves them, their state and their weight decay alone; the step counts for the whole parameter.
/// This is Paddle's `lazy_mode`.
pub const ADAMW_LAZY_ROWS: adamw_lazy = 1;
/// Leaves them for now. `adamw_sparse_prepare` brings rows, before the host reads them, to the bits
/// that the dense gradient would have given; `adamw_sparse_flush` brings all of them. Each step
/// also brings a 1,024th of the rows up to date, in turn.
pub const ADAMW_LAZY_EXACT: adamw_lazy = 2;

/// What `adamw_clear_grad` does.
pub type adamw_clear = u32;
/// Writes zeros over every gradient, which must not be in read-only memory; they stay set, and a step with them decays the parameter and
/// moves it by its momentum.
pub const ADAMW_CLEAR_ZERO: adamw_clear = 0;
/// Forgets every gradient: a step skips a parameter until it has one again.
pub const ADAMW_CLEAR_FORGET: adamw_clear = 1;
