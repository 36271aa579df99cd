//! What a handle is made with.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{ADAMW_ISA_BEST, Status, adamw_isa, guard};
use core::ffi::c_void;

pub use crate::callback::{adamw_parallel_for, adamw_task};

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

/// Which gradients make up a global norm.
pub type adamw_clip_scope = u32;
/// Those of all groups of the handle that clip by global norm, as torch.nn.utils.clip_grad_norm_ has it.
pub const ADAMW_CLIP_SCOPE_HANDLE: adamw_clip_scope = 0;
/// Those of one group, as Paddle's ClipGradByGlobalNorm has it.
pub const ADAMW_CLIP_SCOPE_GROUP: adamw_clip_scope = 1;

/// What a step does with gradients that are not finite, before it writes anything.
pub type adamw_nonfinite = u32;
/// Steps with them, as IEEE 754 has it.
pub const ADAMW_NONFINITE_PROPAGATE: adamw_nonfinite = 0;
/// Takes no step, for any parameter: nothing changes, no counter moves, and
/// `adamw_get_step_info` says so.
pub const ADAMW_NONFINITE_SKIP: adamw_nonfinite = 1;
/// Fails with `ADAMW_STATUS_NONFINITE`, naming the first such parameter.
pub const ADAMW_NONFINITE_FAIL: adamw_nonfinite = 2;

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

/// What an optimizer is created with. `adamw_config_init` fills in the defaults, in brackets here.
/// The hyper-parameters are those of group 0, and the defaults of the other groups.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_config {
    /// `sizeof(adamw_config)`.
    pub struct_size: usize,
    /// `[0.001]` Learning rate; finite, >= 0.
    pub lr: f64,
    /// `[0.9]` Decay of the mean of the gradient; 0 <= beta1 < 1.
    pub beta1: f64,
    /// `[0.999]` Decay of the mean of the squared gradient; 0 <= beta2 < 1.
    pub beta2: f64,
    /// `[1e-8]` Added to the root of the bias-corrected second moment; finite, >= 0, as the f32 that all but f64 parameters
    /// use, like the numbers below. With 0, what has only had gradients of 0 becomes NaN.
    pub eps: f64,
    /// `[0.01]` Decoupled weight decay: a step takes lr * weight_decay of the parameter away; finite, negative grows it.
    pub weight_decay: f64,
    /// `[0]` 1: divide by the largest second moment so far.
    pub amsgrad: u32,
    /// `[0]` 1: ascend the gradient (clipped, then negated). Decay and regularizers shrink the parameter all the same.
    pub maximize: u32,
    /// `[0]` 1: f16 and bf16 parameters get an f32 master, which is stepped and then rounded to
    /// the parameter. 0, with no `precision` either: an update below half a unit in the last place of a
    /// parameter (1/256 of its value for bf16) is lost, without a word. A learning rate of 1e-5 moves no
    /// bf16 weight of 1 at all. `n_unchanged` of adamw_step_info counts them.
    pub multi_precision: u32,
    /// `[0]` Threads that work in a step: 1 is the caller's alone, 0 as many as the process's
    /// affinity mask has processors, any other number is taken at its word: so many less 1 are started by
    /// the first step that is shared out. A step of fewer than 262,144 elements stays on the caller's.
    pub num_threads: u32,
    /// `[ADAMW_ISA_BEST]` The highest instruction set to use.
    pub isa: adamw_isa,
    /// `[ADAMW_NONFINITE_PROPAGATE]` What a step does with gradients that are not finite.
    pub nonfinite: adamw_nonfinite,
    /// `[NULL]` The host's loop over tasks, instead of threads of the library's own. It is given
    /// `num_threads` tasks, or fewer.
    pub parallel_for: adamw_parallel_for,
    /// Passed to `parallel_for`.
    pub parallel_for_data: *mut c_void,
    /// `[0]` The largest norm, if `clip` clips by one; finite, > 0. This and the two below must be 0
    /// where `clip` is ADAMW_CLIP_NONE, and are ignored by a clip that does not use them.
    pub clip_norm: f64,
    /// `[0]` The smallest value, if `clip` clips by value; finite.
    pub clip_min: f64,
    /// `[0]` The largest value, if `clip` clips by value; finite, > clip_min.
    pub clip_max: f64,
    /// `[ADAMW_CLIP_NONE]` How gradients are clipped.
    pub clip: adamw_clip,
    /// `[ADAMW_CLIP_SCOPE_HANDLE]` Which gradients make up a global norm.
    pub clip_scope: adamw_clip_scope,
    /// `[ADAMW_LAZY_OFF]` What sparse gradients do to the rows that they do not list.
    pub lazy_mode: adamw_lazy,
    /// `[0]` 1: a step takes the mean of the gradients that `adamw_accumulate_grad` has added up, not their sum:
    /// over the micro-batches of the window, see `adamw_set_accumulation_window`.
    pub average_grads: u32,
    /// `[NULL]` Where the host keeps the learning rate: one f32, read and checked by each step, in
    /// place of `lr`. It must stay valid as long as the handle, as the three below.
    pub lr_ptr: *const f32,
    /// `[NULL]` Where the host keeps beta1, likewise.
    pub beta1_ptr: *const f32,
    /// `[NULL]` Where the host keeps beta2, likewise.
    pub beta2_ptr: *const f32,
    /// `[NULL]` Where the host keeps weight_decay, likewise.
    pub weight_decay_ptr: *const f32,
    /// `[ADAMW_PRECISION_DEFAULT]` What keeps the precision of 16-bit parameters.
    pub precision: adamw_precision,
    /// `[ADAMW_MOMENTS_F32]` What moments are kept in.
    pub moments: adamw_moments,
    /// `[0]` Of the random bits that stochastic rounding takes.
    pub seed: u64,
    /// `[0]` 1: a step, taken or skipped, writes zeros over the gradients that it has used, while they
    /// are in cache: what `adamw_clear_grad` would do after it, to frozen parameters' too. They must be writable then, and no two
    /// parameters may share gradient memory.
    pub clear_grads: u32,
    /// `[0]` 1: a step takes weight_decay of the parameter away whatever its learning rate is, as TensorFlow Addons' AdamW
    /// and pytorch_optimizer's `fixed_decay` do; PyTorch, Paddle and Optax multiply by lr. `weight_decay_ptr` can schedule it.
    pub independent_weight_decay: u32,
}

sized_struct!(adamw_config, "config", 6 of 8, 6 of 4, 5 of 8, 4 of 4, 4 of 8, 2 of 4, 1 of 8, 2 of 4);

impl adamw_config {
    /// What `adamw_config_init` gives, and what a shorter struct lacks.
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
    // SAFETY: the caller's word.
    guard(|| unsafe { sized::write(config, struct_size, adamw_config::DEFAULT) })
}
