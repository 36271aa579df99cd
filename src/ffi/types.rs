//! The structs of the C API, under the names that C sees.
#![allow(non_camel_case_types)]

use super::constants::*;
use super::sized::sized_struct;
use super::{adamw_parallel_for, adamw_param_info};
use core::ffi::{c_char, c_void};

/// Where a tensor's memory is. Binary-identical to DLPack's `DLDevice`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_device {
    /// An ADAMW_DEVICE constant, which is DLPack's number: 1 CPU, 3 CUDA host memory, 11 ROCm host memory;
    /// 2 CUDA, 13 CUDA managed memory.
    pub device_type: i32,
    /// Which of them, as the CUDA driver numbers devices; 0 for the CPU.
    pub device_id: i32,
}

/// An element type. Binary-identical to DLPack's `DLDataType`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_data_type {
    /// An ADAMW_CODE constant: 2: IEEE float, 4: bfloat; 0: integer, of rows and remainders; 1: unsigned,
    /// of moments in codes.
    pub code: u8,
    /// 8, 16, 32 or 64.
    pub bits: u8,
    /// 1.
    pub lanes: u16,
}

/// A tensor: binary-identical to DLPack's `DLTensor`, so that a pointer to any producer's can be
/// passed. It must be contiguous (row-major) and aligned to its elements. All tensors of a parameter
/// lie in the host's memory, or on the device where the parameter is. Only the memory at `data` is
/// kept; the struct, its shape and strides are read during the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_tensor {
    /// The first element, less `byte_offset`; may be NULL if there are no elements.
    pub data: *mut c_void,
    /// Where it is.
    pub device: adamw_device,
    /// Dimensions; 0: one element.
    pub ndim: i32,
    /// What it is made of.
    pub dtype: adamw_data_type,
    /// `[ndim]` elements in each dimension.
    pub shape: *mut i64,
    /// `[ndim]` elements from one index to the next, or NULL.
    pub strides: *mut i64,
    /// Bytes from `data` to the first element.
    pub byte_offset: u64,
}

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

/// The hyper-parameters of a group; `adamw_group_config_init` fills in the handle's, which are also
/// what a shorter struct lacks.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_group_config {
    /// `sizeof(adamw_group_config)`.
    pub struct_size: usize,
    /// `[1]` Times the handle's learning rate; finite, >= 0.
    pub lr_scale: f64,
    /// As in `adamw_config`.
    pub weight_decay: f64,
    /// As in `adamw_config`.
    pub beta1: f64,
    /// As in `adamw_config`.
    pub beta2: f64,
    /// As in `adamw_config`.
    pub eps: f64,
    /// As in `adamw_config`.
    pub clip_norm: f64,
    /// As in `adamw_config`.
    pub clip_min: f64,
    /// As in `adamw_config`.
    pub clip_max: f64,
    /// As in `adamw_config`.
    pub clip: adamw_clip,
    /// As in `adamw_config`.
    pub lazy_mode: adamw_lazy,
    /// As in `adamw_config`.
    pub beta1_ptr: *const f32,
    /// As in `adamw_config`.
    pub beta2_ptr: *const f32,
    /// As in `adamw_config`.
    pub weight_decay_ptr: *const f32,
    /// As in `adamw_config`; of parameters that are added later.
    pub precision: adamw_precision,
    /// As in `adamw_config`; of parameters that are added later.
    pub moments: adamw_moments,
    /// As in `adamw_config`.
    pub independent_weight_decay: u32,
    /// 0.
    pub reserved: u32,
}

/// A parameter to be added. Zero it, set `struct_size`, `name` and `param`; the rest may stay 0.
///
/// State that is NULL here is the library's own, and starts as zeros (a master: as the parameter
/// is at its first step). State that is given is the host's, borrowed like the parameter, and
/// taken as it is: the host has zeroed the moments, or brings them from earlier steps;
/// `adamw_sync_master` fills a master.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_param_config {
    /// `sizeof(adamw_param_config)`.
    pub struct_size: usize,
    /// UTF-8, NUL-terminated, not empty, unique in the handle; copied.
    pub name: *const c_char,
    /// The parameter `[...] f32|f64|f16|bf16`, stepped in place.
    pub param: *const adamw_tensor,
    /// `[NULL]` The same number of elements, f32; only for f16 and bf16 with multi_precision. If
    /// `step` is 0, the first step looks whether it rounds to the parameter, and fails if not.
    pub master: *const adamw_tensor,
    /// `[NULL]` The same number of elements, f32 (f64 for an f64 parameter) or what the group's
    /// `moments` say; with ADAMW_MOMENTS_4BIT as many bytes as they say.
    pub exp_avg: *const adamw_tensor,
    /// `[NULL]` As exp_avg; never negative.
    pub exp_avg_sq: *const adamw_tensor,
    /// `[NULL]` As exp_avg_sq; only with amsgrad.
    pub max_exp_avg_sq: *const adamw_tensor,
    /// `[0]` Steps that the given state has taken, at most 2^32 (2^25 with a beta above 0.99997). If it is not
    /// 0, all the state that the parameter needs must be given.
    pub step: u64,
    /// `[0]` The group's number, from `adamw_add_group`.
    pub group: u32,
    /// `[0]` 1: its gradient is not clipped, and is no part of a global norm.
    pub no_clip: u32,
    /// `[0]` The coefficient of the regularizer; finite.
    pub regularizer_coeff: f64,
    /// `[ADAMW_REGULARIZER_NONE]` A penalty whose gradient is added to the parameter's.
    pub regularizer: adamw_regularizer,
    /// 0.
    pub reserved: u32,
    /// `[NULL]` The same number of elements, int16 with ADAMW_PRECISION_SPLIT, of the parameter's type
    /// with ADAMW_PRECISION_KAHAN. The host has zeroed it, or brings it from earlier steps.
    pub remainder: *const adamw_tensor,
    /// `[NULL]` One f32 for each 256 elements of 8-bit moments, for each 128 of 4-bit moments, the last
    /// of which may be fewer; only for those. The host has zeroed it, or brings it from earlier steps.
    pub exp_avg_scale: *const adamw_tensor,
    /// `[NULL]` As exp_avg_scale.
    pub exp_avg_sq_scale: *const adamw_tensor,
    /// `[NULL]` As exp_avg_scale; only with amsgrad.
    pub max_exp_avg_sq_scale: *const adamw_tensor,
    /// `[0]` Where the host has cut a parameter into shards of one name: which element of the whole is
    /// this one's first, so that random bits are those of the whole. Moments in codes have the bits of
    /// the whole if it is a multiple of 256, or of 128 in 4 bits.
    pub first_element: u64,
    /// `[0]` How many elements the whole has, which a checkpoint then says; 0: it does not. It decides
    /// whether moments are codes, and so what must be given: give the same in all shards. With 0 each shard's
    /// own length decides.
    pub whole_elements: u64,
    /// `[0]` 1: the parameter is on a CUDA device, and the processor steps it. Its state is in the host's memory,
    /// and so are the tensors that are given for it; a step brings its gradient (on the device, or the host's)
    /// and takes the parameter back, while it steps others. The processor works on a copy, which is filled at the
    /// first step: `adamw_sync_master` says that the host has written the parameter since. Such a step waits for
    /// the device, and cannot be captured. It takes page-locked memory for the copy and for the gradient.
    pub offload: u32,
    /// 0.
    pub reserved_2: u32,
}

/// What the last successful step found and did.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_step_info {
    /// `sizeof(adamw_step_info)`.
    pub struct_size: usize,
    /// Elements of the parameters that had a gradient.
    pub n_elements: u64,
    /// Elements of the gradients that are not finite, if they were measured. A gradient of finite ones whose
    /// norm the compute type does not hold when the loss scale is taken out counts as one.
    pub n_nonfinite: u64,
    /// The norm of all gradients together, unscaled and before clipping, if they were measured.
    pub grad_norm: f64,
    /// 1 if the gradients were measured: for clipping by norm, or because it matters whether they
    /// are finite.
    pub measured: u32,
    /// 1 if the step was skipped.
    pub skipped: u32,
    /// The smallest factor that a gradient was multiplied by to clip it by norm; 1 if none was.
    pub clip_factor: f64,
    /// With `adamw_set_statistics`: the norm of what the step added to all elements that it
    /// visited (of parameters that step lazily: to the listed rows), decay included, after rounding.
    pub update_norm: f64,
    /// With `adamw_set_statistics`: the norm of those elements (of masters, where there are) after
    /// the step.
    pub param_norm: f64,
    /// With `adamw_set_statistics`: how long the step took, in seconds.
    pub seconds: f64,
    /// 1 if the step was taken with `adamw_set_statistics`.
    pub has_statistics: u32,
    /// The instruction set that the handle uses.
    pub isa: adamw_isa,
    /// How many threads work in a step that is large enough.
    pub num_threads: u32,
    /// 0.
    pub reserved: u32,
    /// With `adamw_set_statistics`: elements (of masters, where there are) that have a momentum, exp_avg, and
    /// the same value as before the step: their updates were lost in rounding. Many of them mean that 16 bits
    /// are too few for this learning rate; see `adamw_precision`. Not counted for parameters on a device.
    pub n_unchanged: u64,
}

const _: () = assert!(size_of::<adamw_tensor>() == 48);

sized_struct!(adamw_config, "config", 6 of 8, 6 of 4, 5 of 8, 4 of 4, 4 of 8, 2 of 4, 1 of 8, 2 of 4);
sized_struct!(adamw_group_config, "group", 9 of 8, 2 of 4, 3 of 8, 4 of 4);
sized_struct!(adamw_param_config, "param", 8 of 8, 2 of 4, 1 of 8, 2 of 4, 6 of 8, 2 of 4);
sized_struct!(adamw_param_info, "out_info", 4 of 8, 4 of 4);
sized_struct!(adamw_step_info, "out_info", 4 of 8, 2 of 4, 4 of 8, 4 of 4, 1 of 8);
