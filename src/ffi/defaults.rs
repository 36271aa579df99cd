//! What the fields of the structs are that a host does not set.

use super::constants::*;
use super::types::{adamw_config, adamw_param_config};

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

impl adamw_param_config {
    /// What a shorter struct lacks.
    pub const DEFAULT: adamw_param_config = adamw_param_config {
        struct_size: size_of::<Self>(),
        name: core::ptr::null(),
        param: core::ptr::null(),
        master: core::ptr::null(),
        exp_avg: core::ptr::null(),
        exp_avg_sq: core::ptr::null(),
        max_exp_avg_sq: core::ptr::null(),
        step: 0,
        group: 0,
        no_clip: 0,
        regularizer_coeff: 0.0,
        regularizer: ADAMW_REGULARIZER_NONE,
        reserved: 0,
        remainder: core::ptr::null(),
        exp_avg_scale: core::ptr::null(),
        exp_avg_sq_scale: core::ptr::null(),
        max_exp_avg_sq_scale: core::ptr::null(),
        first_element: 0,
        whole_elements: 0,
        offload: 0,
        reserved_2: 0,
    };
}
