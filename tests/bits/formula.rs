//! Random hyper-parameters and gradients against the textbook: the paper's formula, as written, in
//! f64.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config};
use crate::common::random::Random;
use adamw::ffi::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
struct Hyper {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    amsgrad: bool,
    maximize: bool,
}

fn hyper() -> impl Strategy<Value = Hyper> {
    let numbers = (1e-5..0.3, 0.0..0.99, 0.0..0.9999, 1e-8..1e-1, -0.1..0.5);
    (numbers, any::<[bool; 2]>()).prop_map(|(numbers, [amsgrad, maximize])| {
        let (lr, beta1, beta2, eps, weight_decay) = numbers;
        Hyper { lr, beta1, beta2, eps, weight_decay, amsgrad, maximize }
    })
}

/// A number, and how far what is computed with rounding may be from it.
#[derive(Clone, Copy)]
struct Bounded {
    value: f64,
    error: f64,
}

/// Loshchilov & Hutter, algorithm 2, line by line, for one element. The bounds are a running error
/// analysis (Higham, "Accuracy and Stability of Numerical Algorithms", 3.3) of the library's order
/// of operations: a moment moves by a difference, so that where it falls to a small part of what it
/// was, its error is a rounding of the old value.
fn textbook(h: Hyper, start: f64, grads: &[f64], unit: f64) -> Bounded {
    let mut param = Bounded { value: start, error: 0.0 };
    let [mut m, mut v, mut largest] = [Bounded { value: 0.0, error: 0.0 }; 3];
    for (t, grad) in (1..).zip(grads) {
        let grad = if h.maximize { -grad } else { *grad };
        m = moved(m, grad, h.beta1, unit, 0.0);
        v = moved(v, grad * grad, h.beta2, unit, unit * grad * grad);
        largest = Bounded { value: largest.value.max(v.value), error: largest.error.max(v.error) };
        let second = if h.amsgrad { largest } else { v };
        let (correction1, unit1) = correction(h.beta1, t, unit);
        let (correction2, unit2) = correction(h.beta2, t, unit);

        let root = second.value.sqrt();
        let root_error = root - (second.value - second.error).max(0.0).sqrt() + unit * root;
        let denom = (second.value / correction2).sqrt() + h.eps;
        let denom_error =
            (root_error + (unit + unit2) * root) / correction2.sqrt() + unit * (h.eps + denom);
        let ratio = m.value / denom;
        let most = (m.value.abs() + m.error) / (denom - denom_error);
        let ratio_error = most - ratio.abs() + unit * ratio.abs();

        let decay = h.lr * h.weight_decay * param.value;
        let step = h.lr / correction1;
        let next = param.value - decay - step * ratio;
        let rounded = unit * (3.0 * decay.abs() + next.abs())
            + (2.0 * unit + unit1) * (step * ratio).abs()
            + step * ratio_error;
        let carried = param.error * (1.0 + h.lr * h.weight_decay.abs());
        param = Bounded { value: next, error: carried + rounded };
    }
    param
}

/// Lines 7 and 8: `beta * moment + (1 - beta) * input`.
fn moved(moment: Bounded, input: f64, beta: f64, unit: f64, input_error: f64) -> Bounded {
    let value = beta * moment.value + (1.0 - beta) * input;
    let change = (1.0 - beta) * (input - moment.value).abs();
    let rounded = (1.0 - beta) * input_error + unit * (3.0 * change + value.abs());
    Bounded { value, error: beta * moment.error + rounded }
}

/// `1 - beta^t`, and the relative error of what is divided by it: the power is a product of t
/// roundings in f64, and what is near 1 cancels.
fn correction(beta: f64, t: i32, unit: f64) -> (f64, f64) {
    let power = beta.powi(t);
    let correction = 1.0 - power;
    (correction, unit + f64::from(t) * f64::EPSILON * power / correction)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn steps_are_those_of_the_paper(h in hyper(), seed in any::<u64>(), is_f64 in any::<bool>()) {
        let (dtype, epsilon) = if is_f64 {
            (Dtype::F64, f64::EPSILON)
        } else {
            (Dtype::F32, f32::EPSILON.into())
        };
        let mut random = Random::new(seed);
        let param = Array::ordinary(dtype, 40, &mut random);
        let start = param.values();
        let grads: Vec<Array> = (0..12).map(|_| Array::ordinary(dtype, 40, &mut random)).collect();
        let handle = Handle::new(&adamw_config {
            lr: h.lr,
            beta1: h.beta1,
            beta2: h.beta2,
            eps: h.eps,
            weight_decay: h.weight_decay,
            amsgrad: h.amsgrad.into(),
            maximize: h.maximize.into(),
            ..config()
        });
        let number = handle.add_array("w", &param);
        for grad in &grads {
            handle.set_grad(number, grad);
            handle.step();
        }
        drop(handle);
        for (i, got) in param.values().into_iter().enumerate() {
            let grads: Vec<f64> = grads.iter().map(|grad| grad.get(i)).collect();
            // Twice the unit roundoff: room for the reference's own rounding.
            let Bounded { value, error } = textbook(h, start[i], &grads, epsilon);
            prop_assert!((got - value).abs() <= error, "{got} is not {value} within {error}");
        }
    }
}
