//! Random hyper-parameters and gradients against the textbook: the paper's formula, as written, in
//! f64.

mod common;

use adamw::ffi::*;
use common::array::{Array, Dtype};
use common::handle::{Handle, config};
use common::random::Random;
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

/// Loshchilov & Hutter, algorithm 2, line by line, for one element.
fn textbook(h: Hyper, start: f64, grads: &[f64]) -> f64 {
    let (mut param, mut m, mut v, mut largest) = (start, 0.0, 0.0, 0.0f64);
    for (t, grad) in (1..).zip(grads) {
        let grad = if h.maximize { -grad } else { *grad };
        m = h.beta1 * m + (1.0 - h.beta1) * grad;
        v = h.beta2 * v + (1.0 - h.beta2) * grad * grad;
        largest = largest.max(v);
        let second = if h.amsgrad { largest } else { v };
        let m_hat = m / (1.0 - h.beta1.powi(t));
        let v_hat = second / (1.0 - h.beta2.powi(t));
        param -= h.lr * h.weight_decay * param + h.lr * m_hat / (v_hat.sqrt() + h.eps);
    }
    param
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn steps_are_those_of_the_paper(h in hyper(), seed in any::<u64>(), is_f64 in any::<bool>()) {
        let (dtype, tolerance) = if is_f64 { (Dtype::F64, 1e-12) } else { (Dtype::F32, 3e-6) };
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
        let expected: Vec<f64> = (0..40)
            .map(|i| textbook(h, start[i], &grads.iter().map(|grad| grad.get(i)).collect::<Vec<_>>()))
            .collect();
        let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        for (got, expected) in param.values().into_iter().zip(expected) {
            prop_assert!((got - expected).abs() <= tolerance * largest, "{got} and {expected}");
        }
    }
}
