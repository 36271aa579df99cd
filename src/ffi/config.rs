//! The configuration of a handle.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{ADAMW_ISA_BEST, Status, Team, adamw_isa, guard};
use core::ffi::c_void;

pub use crate::callback::{adamw_device_alloc, adamw_device_free};
pub use crate::callback::{adamw_parallel_for, adamw_task};

/// How gradients are clipped. Gradients are not rewritten: the step clips them as it reads them.
/// Norms are summed in f64 in one fixed order, so that they have the same bits everywhere. Under
/// ADAMW_NONFINITE_PROPAGATE, a norm of NaN makes every parameter that it clips NaN, and an
/// infinite norm makes the factor 0, which turns finite gradients into 0 and infinite ones into
/// NaN.
pub type adamw_clip = u32;
/// No clipping.
pub const ADAMW_CLIP_NONE: adamw_clip = 0;
/// Scales each tensor to a norm of at most `clip_norm`.
pub const ADAMW_CLIP_NORM: adamw_clip = 1;
/// Scales all tensors of the scope together to a norm of at most `clip_norm`: multiplies each by
/// clip_norm / max(norm, clip_norm).
pub const ADAMW_CLIP_GLOBAL_NORM: adamw_clip = 2;
/// Limits each element to the range from `clip_min` to `clip_max`. A NaN stays NaN.
pub const ADAMW_CLIP_VALUE: adamw_clip = 3;

/// Which gradients a global norm is computed over.
pub type adamw_clip_scope = u32;
/// All groups of the handle that clip by global norm, as in torch.nn.utils.clip_grad_norm_.
pub const ADAMW_CLIP_SCOPE_HANDLE: adamw_clip_scope = 0;
/// One group, as in Paddle's ClipGradByGlobalNorm.
pub const ADAMW_CLIP_SCOPE_GROUP: adamw_clip_scope = 1;

/// How a step handles gradients that are not finite. It decides before it writes anything.
pub type adamw_nonfinite = u32;
/// The step computes with them, as IEEE 754 defines.
pub const ADAMW_NONFINITE_PROPAGATE: adamw_nonfinite = 0;
/// The step is skipped for every parameter: nothing changes, no counter advances, and
/// `adamw_get_step_info` reports it.
pub const ADAMW_NONFINITE_SKIP: adamw_nonfinite = 1;
/// The step fails with `ADAMW_STATUS_NONFINITE`, and the text names the first such parameter.
pub const ADAMW_NONFINITE_FAIL: adamw_nonfinite = 2;

/// How a step with a sparse gradient handles the rows that the gradient does not list. Dense
/// gradients are not affected.
pub type adamw_lazy = u32;
/// Steps these rows with a gradient of zero. The result has the same bits as with the dense
/// gradient, and the step costs as much.
pub const ADAMW_LAZY_OFF: adamw_lazy = 0;
/// Skips these rows, their state and their weight decay. The step still counts for the whole
/// parameter. This is Paddle's `lazy_mode`.
pub const ADAMW_LAZY_ROWS: adamw_lazy = 1;
/// Defers these rows. Call `adamw_sparse_prepare` before the host reads rows: it gives them the
/// bits that the dense gradient would have given. `adamw_sparse_flush` does so for all rows. Each
/// step also brings 1/1,024 of the rows up to date, in turn.
pub const ADAMW_LAZY_EXACT: adamw_lazy = 2;

/// Which powers of beta1 and beta2 correct the bias of the moments in step t of a parameter.
pub type adamw_bias_correction = u32;
/// The products of the betas that its steps have had, as Paddle computes them.
pub const ADAMW_BIAS_CORRECTION_PRODUCTS: adamw_bias_correction = 0;
/// beta1^t and beta2^t with the betas of this step, as PyTorch, ggml and llm.c compute them. With
/// betas that never change, both choices give the same value up to rounding.
pub const ADAMW_BIAS_CORRECTION_CURRENT: adamw_bias_correction = 1;
/// None: the first steps are larger, by up to (1 - beta1) / sqrt(1 - beta2). MLX does so by
/// default, and MindSpore's AdamWeightDecay. The state keeps the powers of
/// ADAMW_BIAS_CORRECTION_PRODUCTS.
pub const ADAMW_BIAS_CORRECTION_NONE: adamw_bias_correction = 2;

/// In what the update differs from the formula of this header: 0, or ADAMW_FORMULA constants added
/// up, for runs that another library has begun. Each changes numbers of a step, not its work.
pub type adamw_formula = u32;
/// `eps` is added before the correction: the step divides by
/// `(sqrt(exp_avg_sq) + eps) / sqrt(1 - beta2^t)`, as Keras, ONNX Runtime and the algorithm with
/// "epsilon hat" of Kingma & Ba (2015, section 2) do.
pub const ADAMW_FORMULA_EPS_BEFORE_CORRECTION: adamw_formula = 1;
/// The parameter decays after it has moved, `(param - step) * (1 - lr * weight_decay)`, as ONNX
/// Runtime and thinc do.
pub const ADAMW_FORMULA_DECAYS_NEW_VALUE: adamw_formula = 2;

/// How the precision of 16-bit parameters that are added to a group is kept.
pub type adamw_precision = u32;
/// An f32 master with multi_precision, otherwise nothing: updates that are small relative to a
/// 16-bit parameter are then lost in rounding (see `multi_precision`). Each of the other values
/// keeps them.
pub const ADAMW_PRECISION_DEFAULT: adamw_precision = 0;
/// A bf16 parameter and a remainder `[n] i16` that together are the exact f32 master. The step has
/// the bits of ADAMW_PRECISION_DEFAULT with multi_precision, in 4 bytes per element instead of 6.
/// The parameter is the master rounded half away from zero. f16 cannot be split in this way:
/// `ADAMW_STATUS_UNSUPPORTED`.
pub const ADAMW_PRECISION_SPLIT: adamw_precision = 1;
/// No master. A bf16 parameter is rounded up or down at random, with the probability of each
/// proportional to how near it is, so that nothing is lost on average. The random bits are a
/// function of `seed`, of the parameter's name, of its step count and of the element's index. Not
/// for f16: `ADAMW_STATUS_UNSUPPORTED`.
pub const ADAMW_PRECISION_STOCHASTIC: adamw_precision = 2;
/// Kahan summation: an f16 or bf16 parameter and a remainder `[n]` of its type, which holds the
/// last rounding error and which the next step adds first. (For bf16, ADAMW_PRECISION_SPLIT takes
/// the same memory and is exact. An f16 remainder resolves at best 6e-8, the smallest f16.)
pub const ADAMW_PRECISION_KAHAN: adamw_precision = 3;

/// How the moments of f32, f16 and bf16 parameters that are added to a group are stored. f64
/// parameters have f64 moments.
pub type adamw_moments = u32;
/// f32.
pub const ADAMW_MOMENTS_F32: adamw_moments = 0;
/// bf16. exp_avg is rounded to nearest. exp_avg_sq is rounded at random, as in
/// ADAMW_PRECISION_STOCHASTIC, because rounding to nearest would lose its small changes.
pub const ADAMW_MOMENTS_BF16: adamw_moments = 1;
/// 8 bits: a code for each element, `[n] u8`, and an f32 scale for each block of 256 elements,
/// which is the largest magnitude in the block. A code counts down from the scale. exp_avg has a
/// sign; its codes cover 4 octaves with 16 values each, then 8 octaves with 8 values each; what is
/// smaller is 0. exp_avg_sq is rounded at random and never to 0; its codes cover 8 octaves with 16
/// values each, then 16 octaves with 8 values each.
///
/// Tensors of fewer than 4,096 elements have f32 moments; for a shard, the length of the whole
/// decides (`whole_elements`). An element that is not finite affects the other elements of its
/// block. Sparse gradients need ADAMW_LAZY_OFF.
pub const ADAMW_MOMENTS_8BIT: adamw_moments = 2;
/// 4 bits: for each block of 128 elements, the last of which may be shorter, 64 bytes of codes and
/// an f32 scale, which is the largest magnitude in the block. Byte i has the code of element i in
/// its low half and the code of element i + 64 in its high half. A code is a whole number of
/// octaves below the scale: up to 6 for exp_avg, whose codes also have a sign and a 0, and up to 14
/// for exp_avg_sq, which is never 0. Both are rounded at random.
///
/// The second paragraph of ADAMW_MOMENTS_8BIT holds here too. amsgrad is not possible, because its
/// maximum would collect the values that were rounded up.
pub const ADAMW_MOMENTS_4BIT: adamw_moments = 3;

/// Which of the driver's allocators the library's memory on a device comes from, unless
/// `device_alloc` gives it.
pub type adamw_device_memory = u32;
/// `cuMemAlloc`: memory that is the handle's alone, and the system's again once it is freed.
pub const ADAMW_DEVICE_MEMORY_DEFAULT: adamw_device_memory = 0;
/// `cuMemAllocAsync` on the handle's stream: memory of the device's current pool, which all of the
/// process share that use it, and which keeps as much of what is freed as the host lets it
/// (`cuDeviceSetMemPool`, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD). `ADAMW_STATUS_UNSUPPORTED` from
/// `adamw_add_param` if the device has none.
pub const ADAMW_DEVICE_MEMORY_POOL: adamw_device_memory = 1;

/// The configuration of an optimizer. `adamw_config_init` fills in the defaults, which are given in
/// brackets here. The hyper-parameters are those of group 0 and the defaults of the other groups.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_config {
    /// `sizeof(adamw_config)`.
    pub struct_size: usize,
    /// `[0.001]` Learning rate; finite, >= 0.
    pub lr: f64,
    /// `[0.9]` Decay rate of the mean of the gradient; 0 <= beta1 < 1.
    pub beta1: f64,
    /// `[0.999]` Decay rate of the mean of the squared gradient; 0 <= beta2 < 1. Below 0.01, f32
    /// is too coarse: where a gradient falls by 1e4 from one step to the next, exp_avg_sq cancels
    /// to 0, and the step is as large as eps allows.
    pub beta2: f64,
    /// `[1e-8]` Added to the root of the bias-corrected second moment; finite, >= 0, also in f32,
    /// in which all parameters but f64 ones compute. The same holds for the numbers below. With 0,
    /// an element whose gradients have all been 0 becomes NaN; not 0 if beta2 is 0.
    pub eps: f64,
    /// `[0.01]` Decoupled weight decay: a step subtracts lr * weight_decay times the parameter.
    /// Finite; a negative value makes the parameter grow.
    pub weight_decay: f64,
    /// `[0]` 1: divide by the largest second moment so far.
    pub amsgrad: u32,
    /// `[0]` 1: ascend the gradient, which is clipped first and then negated. Weight decay and
    /// regularizers still shrink the parameter.
    pub maximize: u32,
    /// `[0]` 1: each f16 and bf16 parameter gets an f32 master, which is stepped and then rounded
    /// to the parameter. With 0 and no other `precision`, an update smaller than half a unit in the
    /// last place of a parameter (1/256 of its value for bf16) is lost without notice: a learning
    /// rate of 1e-5 does not move a bf16 weight of 1 at all. `n_unchanged` of adamw_step_info
    /// counts such elements.
    pub multi_precision: u32,
    /// `[0]` Number of threads that work in a step, the caller's included. 0: as many as there are
    /// processors in the affinity mask of the process. Any other number is used as given. The first
    /// step that is shared starts the other threads. A step of fewer than 262,144 elements runs on
    /// the caller's thread alone.
    pub num_threads: u32,
    /// `[ADAMW_ISA_BEST]` The highest instruction set to use.
    pub isa: adamw_isa,
    /// `[ADAMW_NONFINITE_PROPAGATE]` How a step handles gradients that are not finite.
    pub nonfinite: adamw_nonfinite,
    /// `[NULL]` The host's loop over tasks, which replaces the library's own threads. It is called
    /// with at most `num_threads` tasks.
    pub parallel_for: adamw_parallel_for,
    /// Passed to `parallel_for`.
    pub parallel_for_data: *mut c_void,
    /// `[0]` The largest norm, if `clip` is one of the norms; finite, > 0. This field, `clip_min`
    /// and `clip_max` must be 0 if `clip` is ADAMW_CLIP_NONE. A kind of clipping ignores those that
    /// it does not use.
    pub clip_norm: f64,
    /// `[0]` The smallest value, if `clip` is ADAMW_CLIP_VALUE; finite.
    pub clip_min: f64,
    /// `[0]` The largest value, if `clip` is ADAMW_CLIP_VALUE; finite, > clip_min.
    pub clip_max: f64,
    /// `[ADAMW_CLIP_NONE]` How gradients are clipped.
    pub clip: adamw_clip,
    /// `[ADAMW_CLIP_SCOPE_HANDLE]` Which gradients a global norm is computed over.
    pub clip_scope: adamw_clip_scope,
    /// `[ADAMW_LAZY_OFF]` How a step handles the rows that a sparse gradient does not list.
    pub lazy_mode: adamw_lazy,
    /// `[0]` 1: a step uses the mean of the gradients added up by `adamw_accumulate_grad`, not
    /// their sum. The divisor is the number of micro-batches of the window, see
    /// `adamw_set_accumulation_window`.
    pub average_grads: u32,
    /// `[NULL]` Address of one f32 in the host's memory: the learning rate, which each step reads
    /// and checks, in place of `lr`. It must stay valid as long as the handle.
    pub lr_ptr: *const f32,
    /// `[NULL]` Address of one f32 in place of `beta1`, under the rules of `lr_ptr`.
    pub beta1_ptr: *const f32,
    /// `[NULL]` Address of one f32 in place of `beta2`, under the rules of `lr_ptr`.
    pub beta2_ptr: *const f32,
    /// `[NULL]` Address of one f32 in place of `weight_decay`, under the rules of `lr_ptr`.
    pub weight_decay_ptr: *const f32,
    /// `[ADAMW_PRECISION_DEFAULT]` How the precision of 16-bit parameters is kept.
    pub precision: adamw_precision,
    /// `[ADAMW_MOMENTS_F32]` How moments are stored.
    pub moments: adamw_moments,
    /// `[0]` Seed of the random bits for stochastic rounding.
    pub seed: u64,
    /// `[0]` 1: a step, taken or skipped, writes zeros over the gradients that it has used, while
    /// they are in cache. The effect is that of `adamw_clear_grad` after the step, for frozen
    /// parameters too. The gradients must be writable, and no two parameters may share gradient
    /// memory.
    pub clear_grads: u32,
    /// `[0]` 1: a step subtracts weight_decay times the parameter, whatever the learning rate is,
    /// as TensorFlow Addons' AdamW and pytorch_optimizer's `fixed_decay` do. PyTorch, Paddle and
    /// Optax multiply by lr. `weight_decay_ptr` can schedule it.
    pub independent_weight_decay: u32,
    /// `[ADAMW_BIAS_CORRECTION_PRODUCTS]` How the bias of the moments is corrected. It matters
    /// where betas change: OneCycleLR of PyTorch changes beta1 by default.
    pub bias_correction: adamw_bias_correction,
    /// `[0]` In what the update differs from the formula of this header.
    pub formula: adamw_formula,
    /// `[NULL]` A team of threads that other handles use, too, in place of threads of this handle's
    /// own. `num_threads` must then be 0, because the team has its number, and `parallel_for` NULL.
    /// The handle keeps the threads until it is destroyed, also if the team is destroyed before.
    pub team: *mut Team,
    /// `[NULL]` Gives the handle its memory on a device, all of it: state, tables, and what sums
    /// and sparse gradients need. (Page-locked memory of the host's is the driver's.) It is called
    /// where the library allocates, so never by `adamw_step`, nor by a call while its stream is
    /// being captured.
    pub device_alloc: adamw_device_alloc,
    /// `[NULL]` Takes back what `device_alloc` gave, where the library frees it, and the rest in
    /// `adamw_destroy`. Both are set, or neither.
    pub device_free: adamw_device_free,
    /// Passed to `device_alloc` and `device_free`.
    pub device_memory_data: *mut c_void,
    /// `[ADAMW_DEVICE_MEMORY_DEFAULT]` Where memory on a device comes from without `device_alloc`;
    /// with it, this must be the default.
    pub device_memory: adamw_device_memory,
    /// 0.
    pub reserved: u32,
    /// `[0]` The most bytes of page-locked memory of the host's that the handle takes; 0: as many
    /// as it needs, otherwise at least 65,536. Copies of offloaded parameters and of their
    /// gradients are page-locked, first come, as far as three quarters of the limit go. The others
    /// pass through a few page-locked slots, which take a quarter of it at most. The bits are the
    /// same. The tables of steps on the device are page-locked, too, and grow with the number of
    /// parameters: where they do not fit, `adamw_add_param` is `ADAMW_STATUS_OUT_OF_MEMORY`.
    /// `adamw_get_pinned_bytes` tells how many bytes the handle has taken.
    pub pinned_bytes: u64,
}

sized_struct!(
    adamw_config, "config",
    6 of 8, 6 of 4, 5 of 8, 4 of 4, 4 of 8, 2 of 4, 1 of 8, 4 of 4, 4 of 8, 2 of 4, 1 of 8
);

impl adamw_config {
    /// The values that `adamw_config_init` writes, and those of the fields that a shorter struct
    /// lacks.
    pub const DEFAULT: adamw_config = adamw_config {
        struct_size: size_of::<Self>(),
        lr: 0.001,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        amsgrad: 0,
        maximize: 0,
        multi_precision: 0,
        num_threads: 0,
        isa: ADAMW_ISA_BEST,
        nonfinite: ADAMW_NONFINITE_PROPAGATE,
        parallel_for: None,
        parallel_for_data: core::ptr::null_mut(),
        clip_norm: 0.0,
        clip_min: 0.0,
        clip_max: 0.0,
        clip: ADAMW_CLIP_NONE,
        clip_scope: ADAMW_CLIP_SCOPE_HANDLE,
        lazy_mode: ADAMW_LAZY_OFF,
        average_grads: 0,
        lr_ptr: core::ptr::null(),
        beta1_ptr: core::ptr::null(),
        beta2_ptr: core::ptr::null(),
        weight_decay_ptr: core::ptr::null(),
        precision: ADAMW_PRECISION_DEFAULT,
        moments: ADAMW_MOMENTS_F32,
        seed: 0,
        clear_grads: 0,
        independent_weight_decay: 0,
        bias_correction: ADAMW_BIAS_CORRECTION_PRODUCTS,
        formula: 0,
        team: core::ptr::null_mut(),
        device_alloc: None,
        device_free: None,
        device_memory_data: core::ptr::null_mut(),
        device_memory: ADAMW_DEVICE_MEMORY_DEFAULT,
        reserved: 0,
        pinned_bytes: 0,
    };
}

/// Fills `config` with the defaults. `struct_size` is the caller's `sizeof(adamw_config)`.
///
/// # Safety
/// `config` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_config_init(
    config: *mut adamw_config,
    struct_size: usize,
) -> Status {
    // SAFETY: the caller guarantees it.
    guard(|| unsafe { sized::write(config, struct_size, adamw_config::DEFAULT) })
}
