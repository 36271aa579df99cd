//! What the kernels read and write, as `layout.cuh` lays it out.
#![forbid(unsafe_code)]

use crate::config::GroupConfig;
use crate::dtype::Dtype;
use crate::math::Regularizer;
use crate::role::Role;
use crate::tensor::Operands;

/// Elements of a chunk, which one block of threads works on.
pub const CHUNK: u64 = 16_384;

/// The memory of one parameter, by address; 0: it has no such tensor.
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
    pub scales: [u64; 3],
    pub n_elements: u64,
    pub first_element: u64,
    pub first_chunk: u64,
    pub key: [u32; 2],
    pub kept: u32,
    /// 1 more than where its sparse gradient is among those of the step; 0: it has a dense one.
    pub rows: u32,
}

/// Elements `number * CHUNK` on of a tensor.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Chunk {
    pub tensor: u32,
    pub number: u32,
}

/// What one parameter is stepped with, but for what is known on the device alone.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Hyper {
    pub group_lr_scale: f64,
    pub lr_scale: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Makes a sum of gradients their mean.
    pub mean: f64,
    pub min: f64,
    pub max: f64,
    pub coefficient: f64,
    pub largest_norm: f64,
    /// Where the host has decided.
    pub clip_factor: f64,
    pub clip: u32,
    /// Of a global norm.
    pub scope: u32,
    pub regularizer: u32,
    pub limited: u32,
    pub maximize: u32,
    pub stepped: u32,
    /// Whether it computes in f64.
    pub is_f64: u32,
    pub independent_weight_decay: u32,
}

/// Blocks that share the work on one sparse gradient: `rows.cuh` has the same number.
pub const SHARES: u64 = 256;

/// Clipping by each tensor's norm, and by that of all of a scope.
pub const CLIP_NORM: u32 = 1;
pub const CLIP_GLOBAL_NORM: u32 = 2;

impl Hyper {
    /// Of a parameter that is stepped, in a group, and neither clipped nor regularized.
    pub fn of(group: &GroupConfig, lr_scale: f64, decays: bool, maximize: bool) -> Hyper {
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
            maximize: maximize.into(),
            stepped: 1,
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
    /// Of a parameter whose chunks and rows have no place yet.
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
            scales: [Role::ExpAvgScale, Role::ExpAvgSqScale, Role::MaxExpAvgSqScale].map(address),
            n_elements: operands.param().n_elements(),
            first_element,
            first_chunk: 0,
            key,
            kept: operands.format().kept() as u32,
            rows: 0,
        }
    }
}

/// What a launch has to know of a parameter's state.
pub fn flags(operands: &Operands) -> u32 {
    if operands.format().amsgrad() { FLAG_AMSGRAD } else { 0 }
}

/// What all parameters are stepped with: numbers of the host's, or f32s in the device's memory.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Inputs {
    pub lr: f64,
    pub inv_grad_scale: f64,
    /// That the device can read.
    pub largest_lr: f64,
    pub at: InputsAt,
}

/// Where numbers are that the device reads itself; 0: the host's is meant.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct InputsAt {
    pub lr: u64,
    pub grad_scale: u64,
    pub found_inf: u64,
}

impl InputsAt {
    /// With their names in errors.
    pub fn named(&self) -> [(&'static str, u64); 3] {
        [
            ("inputs.lr", self.lr),
            ("inputs.grad_scale", self.grad_scale),
            ("inputs.found_inf", self.found_inf),
        ]
    }
}

/// What all gradients come to.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Verdict {
    pub sum_squares: f64,
    pub inv_grad_scale: f64,
    /// The smallest.
    pub clip_factor: f64,
    pub n_nonfinite: u64,
    /// Whether a number was read that no step can use.
    pub invalid: u32,
    pub skipped: u32,
}

/// What the values of a sparse gradient are stored as, and widened to.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq)]
pub enum Values {
    F32,
    F16,
    Bf16,
    F64,
    F32InF64,
}

impl Values {
    pub fn new(param: Dtype, values: Dtype) -> Values {
        match (param, values) {
            (Dtype::F64, Dtype::F32) => Values::F32InF64,
            (Dtype::F64, _) => Values::F64,
            (_, Dtype::F16) => Values::F16,
            (_, Dtype::Bf16) => Values::Bf16,
            _ => Values::F32,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Values::F16 | Values::Bf16 => 2,
            Values::F32 | Values::F32InF64 => 4,
            Values::F64 => 8,
        }
    }
}

/// A sparse gradient, by address. The library's gradient is dense, in the compute type.
#[repr(C)]
#[derive(Clone, Copy, PartialEq)]
pub struct Rows {
    pub numbers: u64,
    pub values: u64,
    pub grad: u64,
    pub entries: u64,
    pub spare: u64,
    pub counts: u64,
    pub gathered: u64,
    /// 0: no row lags.
    pub lag: u64,
    pub n_rows: u64,
    pub row_elements: u64,
    pub height: u64,
    pub tensor: u32,
    pub values_type: Values,
    pub is_long: u32,
    pub reserved: u32,
}

impl Rows {
    /// How many bytes all values take.
    pub fn value_bytes(&self) -> usize {
        (self.n_rows * self.row_elements) as usize * self.values_type.bytes()
    }
}

/// How far the rows of a parameter lag, by address.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RowLag {
    pub at: u64,
    pub height: u64,
    pub row_elements: u64,
}

/// Entries that a block sorts, and what it counts for them: how many there are of each digit.
pub const TILE: usize = 2048;
pub const COUNTS: usize = 256;

/// The first row that a parameter did not have, since the host asked last.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Outside {
    /// 1 more than its place in the list, or 0: there was none.
    pub place: u64,
    pub row: i64,
    pub height: u64,
}

/// Bytes of what is noted of a sparse gradient, of which the last are an `Outside`.
pub const GATHERED: usize = 48;

/// What all tensors of a launch have in common.
pub const FLAG_AMSGRAD: u32 = 1;
pub const FLAG_CLEAR_GRADS: u32 = 2;
pub const FLAG_F32_GRADS: u32 = 4;

/// Bytes of `Scalars`, which only the device looks into.
pub const SCALARS: usize = 160;

const _: () = assert!(size_of::<Tensor>() == 112);
const _: () = assert!(size_of::<Chunk>() == 8);
const _: () = assert!(size_of::<Hyper>() == 128);
const _: () = assert!(size_of::<Inputs>() == 48);
const _: () = assert!(size_of::<Verdict>() == 40);
const _: () = assert!(size_of::<Rows>() == 104);
const _: () = assert!(size_of::<RowLag>() == 24);
const _: () = assert!(size_of::<Outside>() == 24);
