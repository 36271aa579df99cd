//! The layouts that the host and the kernels share: what a kernel takes by address or as an
//! argument.
//!
//! `plan.rs` fills a table of `Tensor`, of `Hyper`, of `Chunk` and of `Rows` for each step, and
//! `transfer.rs` copies them to the device. `Inputs` and `RowLag` are arguments of launches. The
//! kernels write `Verdict` and `Outside`, and the host reads them.
//!
//! `layout.cuh` declares each of them again. Both sides assert the size and the place of every
//! field, by the same numbers: a field that moves on one side alone does not compile, or fails
//! `make ptx-check`. Addresses are numbers here; 0 stands for memory that is not there.
#![forbid(unsafe_code)]

use crate::config::{BiasCorrection, DECAYS_NEW_VALUE, EPS_BEFORE_CORRECTION, GroupConfig};
use crate::format::{Kept, MomentFormat};
use crate::math::Regularizer;
use crate::role::Role;
use crate::steps::Clock;
use crate::tensor::{Operands, Total};

/// Asserts the size of a layout and the place of each field, in bytes.
macro_rules! assert_layout {
    ($layout:ty, $bytes:literal: $($place:literal $field:ident),+) => {
        const _: () = assert!(size_of::<$layout>() == $bytes);
        $(const _: () = assert!(core::mem::offset_of!($layout, $field) == $place);)+
    };
}

mod sparse;

pub use sparse::{COUNTS, GATHERED, Outside, RowLag, Rows, SHARES, SHORT, TILE, Values};

/// The elements of a chunk, which one block of threads works on.
pub const CHUNK: u64 = 16_384;

/// The memory of one parameter, by address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Default)]
pub struct Tensor {
    pub param: u64,
    pub grad: u64,
    pub exp_avg: u64,
    pub exp_avg_sq: u64,
    pub max_exp_avg_sq: u64,
    /// The master, or the remainder.
    pub rest: u64,
    /// The scales of exp_avg, exp_avg_sq and max_exp_avg_sq.
    pub scales: [u64; 3],
    pub n_elements: u64,
    /// The place of the first element in the whole tensor, which random bits depend on.
    pub first_element: u64,
    /// The first of the tensor's chunks in the table of chunks.
    pub first_chunk: u64,
    pub key: [u32; 2],
    /// A `Kept`, as a number.
    pub kept: u32,
    /// 1 more than the place of the sparse gradient among those of the step; 0: the gradient is
    /// dense.
    pub rows: u32,
}

assert_layout!(Tensor, 112: 0 param, 8 grad, 16 exp_avg, 24 exp_avg_sq, 32 max_exp_avg_sq, 40 rest,
    48 scales, 72 n_elements, 80 first_element, 88 first_chunk, 96 key, 104 kept, 108 rows);

/// Elements `number * CHUNK` and on of a tensor.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Chunk {
    pub tensor: u32,
    pub number: u32,
}

assert_layout!(Chunk, 8: 0 tensor, 4 number);

/// The hyper-parameters of one parameter's step, except for what the device alone knows.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Hyper {
    pub group_lr_scale: f64,
    pub lr_scale: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// The factor that makes a sum of gradients their mean.
    pub mean: f64,
    pub min: f64,
    pub max: f64,
    /// The coefficient of the regularizer.
    pub coefficient: f64,
    pub largest_norm: f64,
    /// The clip factor, where the host has decided.
    pub clip_factor: f64,
    /// 0, `CLIP_NORM` or `CLIP_GLOBAL_NORM`.
    pub clip: u32,
    /// The scope of the global norm.
    pub scope: u32,
    /// 0, or 1 and 2 for L1 and L2.
    pub regularizer: u32,
    pub limited: u32,
    pub maximize: u32,
    /// `PART_STEPPED`, `PART_COUNTED`, or 0 for no part in the step.
    pub part: u32,
    /// The parameter is stepped in f64.
    pub is_f64: u32,
    pub independent_weight_decay: u32,
    /// A `BiasCorrection`, as a number.
    pub bias_correction: u32,
    /// Flags, as `GroupConfig::formula` returns them.
    pub formula: u32,
}

assert_layout!(Hyper, 136: 0 group_lr_scale, 8 lr_scale, 16 beta1, 24 beta2, 32 eps,
    40 weight_decay, 48 mean, 56 min, 64 max, 72 coefficient, 80 largest_norm, 88 clip_factor,
    96 clip, 100 scope, 104 regularizer, 108 limited, 112 maximize, 116 part, 120 is_f64,
    124 independent_weight_decay, 128 bias_correction, 132 formula);

/// The parameter is stepped.
pub const PART_STEPPED: u32 = 1;
/// The parameter is not stepped, but its sums count, which come from outside.
pub const PART_COUNTED: u32 = 2;

/// Clipping by the norm of each tensor.
pub const CLIP_NORM: u32 = 1;
/// Clipping by the norm of all tensors of a scope.
pub const CLIP_GLOBAL_NORM: u32 = 2;

impl Hyper {
    /// Returns the hyper-parameters of a parameter that is stepped, in a group, and neither clipped
    /// nor regularized.
    pub fn of(group: &GroupConfig, lr_scale: f64, decays: bool) -> Hyper {
        Hyper {
            group_lr_scale: group.lr_scale,
            lr_scale,
            beta1: group.beta1,
            beta2: group.beta2,
            eps: group.eps,
            weight_decay: if decays { group.weight_decay } else { 0.0 },
            independent_weight_decay: group.independent_weight_decay.into(),
            mean: 1.0,
            clip_factor: 1.0,
            maximize: group.maximize.into(),
            bias_correction: group.bias_correction.number(),
            formula: group.formula(),
            part: PART_STEPPED,
            ..Hyper::default()
        }
    }

    pub fn set_regularizer(&mut self, regularizer: Regularizer<f64>) {
        (self.regularizer, self.coefficient) = match regularizer {
            Regularizer::None => (0, 0.0),
            Regularizer::L1(coefficient) => (1, coefficient),
            Regularizer::L2(coefficient) => (2, coefficient),
        };
    }

    pub fn set_limits(&mut self, limits: Option<(f64, f64)>) {
        self.limited = limits.is_some().into();
        (self.min, self.max) = limits.unwrap_or_default();
    }
}

impl Tensor {
    /// Returns the memory of a parameter whose chunks and rows have no place yet.
    pub fn of(operands: &Operands) -> Tensor {
        let address = |role| operands.tensor(role).map_or(0, |tensor| tensor.address() as u64);
        let (key, first_element) =
            operands.key().map_or(([0; 2], 0), |(key, at)| (key.words(), at));
        Tensor {
            param: address(Role::Param),
            grad: address(Role::Grad),
            exp_avg: address(Role::ExpAvg),
            exp_avg_sq: address(Role::ExpAvgSq),
            max_exp_avg_sq: address(Role::MaxExpAvgSq),
            rest: address(Role::Master) + address(Role::Remainder), // there is one at most
            scales: Role::SCALES.map(address),
            n_elements: operands.param().n_elements(),
            first_element,
            first_chunk: 0,
            key,
            kept: operands.format().kept() as u32,
            rows: 0,
        }
    }
}

// `Kept`, `Formula`, `BiasCorrection` and `MomentFormat` of the kernels have these numbers, too.
const _: () = assert!(Kept::Itself as u32 == 0 && Kept::Master as u32 == 1);
const _: () = assert!(Kept::Split as u32 == 2 && Kept::Kahan as u32 == 3);
const _: () = assert!(Kept::Stochastic as u32 == 4);
const _: () = assert!(EPS_BEFORE_CORRECTION == 1 && DECAYS_NEW_VALUE == 2);
const _: () = assert!(BiasCorrection::Products.number() == 0);
const _: () = assert!(BiasCorrection::Current.number() == 1 && BiasCorrection::None.number() == 2);
const _: () = assert!(MomentFormat::Full as u32 == 0 && MomentFormat::Bf16 as u32 == 1);
const _: () = assert!(MomentFormat::Bytes as u32 == 2 && MomentFormat::Nibbles as u32 == 3);

/// Returns the flags of a launch that depend on a parameter's state.
pub fn flags(operands: &Operands) -> u32 {
    if operands.format().amsgrad() { FLAG_AMSGRAD } else { 0 }
}

/// The inputs of the step of all parameters: numbers of the host's, or f32s in the device's memory.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Inputs {
    pub lr: f64,
    pub inv_grad_scale: f64,
    /// The largest learning rate that the device may read.
    pub largest_lr: f64,
    pub at: InputsAt,
    /// The address of a `Scaling`; 0: the loss scale does not adapt there.
    pub scaling: u64,
    /// The address of a `Timetable`; 0: the step follows no schedule there.
    pub timetable: u64,
}

assert_layout!(Inputs, 64: 0 lr, 8 inv_grad_scale, 16 largest_lr, 24 at, 48 scaling, 56 timetable);

/// The head of the learning rates of coming steps, `[n] f64`, which follow it.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Timetable {
    /// The place of the next one.
    pub next: u64,
    pub n: u64,
    /// The steps that were skipped because there was none left.
    pub missed: u64,
}

assert_layout!(Timetable, 24: 0 next, 8 n, 16 missed);

/// The state of a loss scale that adapts.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Scaling {
    pub scale: f64,
    pub good_steps: u64,
    pub bad_steps: u64,
}

assert_layout!(Scaling, 24: 0 scale, 8 good_steps, 16 bad_steps);

/// How a loss scale adapts.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ScalingRule {
    pub growth_factor: f64,
    pub backoff_factor: f64,
    /// Where it stops shrinking, unless it is below that already.
    pub least: f64,
    /// Where it stops growing.
    pub most: f64,
    pub growth_interval: u64,
    pub backoff_interval: u64,
}

assert_layout!(ScalingRule, 48: 0 growth_factor, 8 backoff_factor, 16 least, 24 most,
    32 growth_interval, 40 backoff_interval);

/// The addresses of numbers that the device reads itself; 0: the host's number is meant.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct InputsAt {
    pub lr: u64,
    pub grad_scale: u64,
    pub found_inf: u64,
}

assert_layout!(InputsAt, 24: 0 lr, 8 grad_scale, 16 found_inf);

impl InputsAt {
    /// Returns the addresses with their names in errors.
    pub fn named(&self) -> [(&'static str, u64); 3] {
        [
            ("inputs.lr", self.lr),
            ("inputs.grad_scale", self.grad_scale),
            ("inputs.found_inf", self.found_inf),
        ]
    }
}

/// The outcome of a step: what the device found in all gradients, and whether it took the step.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Verdict {
    pub sum_squares: f64,
    pub inv_grad_scale: f64,
    /// The smallest clip factor.
    pub clip_factor: f64,
    pub n_nonfinite: u64,
    /// The device has read a number that no step can use.
    pub invalid: u32,
    pub skipped: u32,
}

assert_layout!(Verdict, 40: 0 sum_squares, 8 inv_grad_scale, 16 clip_factor, 24 n_nonfinite,
    32 invalid, 36 skipped);

/// Flags that all tensors of a launch have in common.
pub const FLAG_AMSGRAD: u32 = 1;
pub const FLAG_CLEAR_GRADS: u32 = 2;
pub const FLAG_F32_GRADS: u32 = 4;

/// The bytes of `Scalars`, which only the device looks into.
pub const SCALARS: usize = 168;

assert_layout!(Clock, 24: 0 step, 8 beta1_power, 16 beta2_power);
assert_layout!(Total, 16: 0 sum_squares, 8 n_nonfinite);

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use super::*;
    use crate::cuda::kernels::PTX;
    use crate::tensor::LOGGED;

    #[test]
    fn the_kernels_have_the_same_constants() {
        let constants = [
            ("CHUNK", CHUNK),
            ("SHARES", SHARES),
            ("TILE", TILE as u64),
            ("DIGITS", COUNTS as u64),
            ("LOGGED", LOGGED),
        ];
        for (name, value) in constants {
            let line = format!(".global .align 4 .u32 {name} = {value};");
            assert!(PTX.contains(&line), "{line}");
        }
    }
}
