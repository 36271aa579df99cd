//! The compute types, whose loops generic code calls by the same names.
#![forbid(unsafe_code)]

use super::block::{BlockBuffer, InBlocks, LineBuffer};
use super::isa::Isa;
use crate::math::{Preparation, Scalars, StepScalars};
use crate::norm::LANES;

/// A compute type that every `Isa` updates.
pub trait Compute: InBlocks + 'static {
    /// Buffers for blocks of a parameter and of exp_avg_sq, if they may be stored in a narrower
    /// type than this.
    type Narrow: Default;
    fn buffers(narrow: &mut Self::Narrow) -> Option<&mut (BlockBuffer<Self>, LineBuffer<Self>)>;

    /// Returns the constants of a step in this type.
    fn scalars(scalars: &Scalars) -> &StepScalars<Self>;

    /// Steps `param [n]`, by amsgrad if there is `max_exp_avg_sq [n]`.
    fn step(
        isa: &Isa,
        scalars: &StepScalars<Self>,
        param: &mut [Self],
        grad: &[Self],
        exp_avg: &mut [Self],
        exp_avg_sq: &mut [Self],
        max_exp_avg_sq: Option<&mut [Self]>,
    );

    /// Has exp_avg and a second moment forget what is too small.
    fn forget(isa: &Isa, eps: Self, exp_avg: &mut [Self], second: &mut [Self]);

    /// Clamps `grad [n]` and adds the regularizer of `param [n]`.
    fn prepare(isa: &Isa, preparation: &Preparation<Self>, grad: &mut [Self], param: &[Self]);

    /// See `norm::add_squares`.
    fn add_squares(isa: &Isa, lanes: &mut [f64; LANES], values: &[Self]) -> u64;

    /// See `norm::add_changes`.
    fn add_changes(isa: &Isa, lanes: &mut [f64; LANES], before: &[Self], after: &[Self]);

    /// Returns the elements as f32s, for moments that are stored in a narrower type.
    fn f32s(wide: &mut [Self]) -> &mut [f32];
    fn f32s_of(wide: &[Self]) -> &[f32];
}

macro_rules! compute {
    ($type:ident, $narrow:ty, $buffers:expr, $update:ident, $update_amsgrad:ident, $forget:ident,
     $prepare:ident, $add_squares:ident, $add_changes:ident, $f32s:expr, $f32s_of:expr) => {
        impl Compute for $type {
            type Narrow = $narrow;
            fn buffers(
                narrow: &mut $narrow,
            ) -> Option<&mut (BlockBuffer<$type>, LineBuffer<$type>)> {
                $buffers(narrow)
            }
            fn scalars(scalars: &Scalars) -> &StepScalars<$type> {
                &scalars.$type
            }
            fn step(
                isa: &Isa,
                scalars: &StepScalars<$type>,
                param: &mut [$type],
                grad: &[$type],
                exp_avg: &mut [$type],
                exp_avg_sq: &mut [$type],
                max_exp_avg_sq: Option<&mut [$type]>,
            ) {
                match max_exp_avg_sq {
                    None => isa.$update(scalars, param, grad, exp_avg, exp_avg_sq),
                    Some(max) => {
                        isa.$update_amsgrad(scalars, param, grad, exp_avg, exp_avg_sq, max)
                    }
                }
            }
            fn forget(isa: &Isa, eps: $type, exp_avg: &mut [$type], second: &mut [$type]) {
                isa.$forget(eps, exp_avg, second)
            }
            fn prepare(isa: &Isa, p: &Preparation<$type>, grad: &mut [$type], param: &[$type]) {
                isa.$prepare(p, grad, param)
            }
            fn add_squares(isa: &Isa, lanes: &mut [f64; LANES], values: &[$type]) -> u64 {
                isa.$add_squares(lanes, values)
            }
            fn add_changes(isa: &Isa, lanes: &mut [f64; LANES], before: &[$type], after: &[$type]) {
                isa.$add_changes(lanes, before, after)
            }
            fn f32s(wide: &mut [$type]) -> &mut [f32] {
                $f32s(wide)
            }
            fn f32s_of(wide: &[$type]) -> &[f32] {
                $f32s_of(wide)
            }
        }
    };
}

compute!(
    f32,
    (BlockBuffer<f32>, LineBuffer<f32>),
    Some,
    update_f32,
    update_f32_amsgrad,
    forget_f32,
    prepare_f32,
    add_squares_f32,
    add_changes_f32,
    |wide| wide,
    |wide| wide
);
compute!(
    f64,
    (),
    |_| None,
    update_f64,
    update_f64_amsgrad,
    forget_f64,
    prepare_f64,
    add_squares_f64,
    add_changes_f64,
    |_| unreachable!("f64 parameters have f64 moments"),
    |_| unreachable!("f64 parameters have f64 moments")
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::{Element, adamw};

    #[test]
    fn every_instruction_set_steps_f32s_as_one_element_is_stepped() {
        let scalars = StepScalars {
            grad_scale: 0.5,
            one_minus_beta1: 0.1,
            one_minus_beta2: 0.001,
            inv_sqrt_bias_correction2: 1.5,
            eps: 1e-8,
            lr_weight_decay: 1e-5,
            step_size: 1e-3,
            forgets: false,
            preparation: None,
        };
        let before = |i: usize| Element {
            param: 0.5 - i as f32,
            exp_avg: 0.25 + i as f32,
            exp_avg_sq: 1e-3 * i as f32,
            max_exp_avg_sq: 0.0,
        };
        let grad = |i: usize| (i as f32 - 20.0) / 7.0;
        for (n, isa) in (0..80).flat_map(|n| Isa::available().map(move |isa| (n, isa))) {
            let mut param: Vec<f32> = (0..n).map(|i| before(i).param).collect();
            let mut exp_avg: Vec<f32> = (0..n).map(|i| before(i).exp_avg).collect();
            let mut exp_avg_sq: Vec<f32> = (0..n).map(|i| before(i).exp_avg_sq).collect();
            let grads: Vec<f32> = (0..n).map(grad).collect();
            isa.update_f32(&scalars, &mut param, &grads, &mut exp_avg, &mut exp_avg_sq);
            for i in 0..n {
                let after = adamw::<f32, false>(&scalars, before(i), grad(i));
                let got = [param[i], exp_avg[i], exp_avg_sq[i]].map(f32::to_bits);
                let want = [after.param, after.exp_avg, after.exp_avg_sq].map(f32::to_bits);
                assert_eq!(got, want, "{:?}, element {i} of {n}", isa.cap);
            }
        }
    }
}
