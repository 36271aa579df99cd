//! A regularizer adds the gradient of its penalty to the parameter's, after clipping.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, config, isas};
use crate::common::random::Random;
use adamw::ffi::*;

const COEFF: f64 = 0.3;

/// The parameter after one step.
fn stepped(config: &adamw_config, param: &Array, grad: &Array, kind: adamw_regularizer) -> Array {
    let param = param.duplicate();
    let handle = Handle::new(config);
    let number = handle.add(&Param { regularizer: (kind, COEFF), ..Param::new("w", &param) });
    handle.set_grad(number, grad);
    handle.step();
    drop(handle);
    param
}

/// The gradient that a regularizer makes of one, in the compute type: one that a step ascends loses the
/// penalty, so that the parameter shrinks all the same.
fn regularized(kind: adamw_regularizer, maximize: u32, param: &Array, grad: &Array) -> Array {
    let coeff = if maximize == 1 { -COEFF } else { COEFF };
    let compute = param.dtype().compute();
    let pairs = grad.values().into_iter().zip(param.values());
    let sign = |param: f64| match param {
        param if param > 0.0 => 1.0,
        param if param < 0.0 => -1.0,
        _ => 0.0,
    };
    let value = |(grad, param): (f64, f64)| match (kind, compute) {
        (ADAMW_REGULARIZER_L1, Dtype::F64) => grad + coeff * sign(param),
        (ADAMW_REGULARIZER_L2, Dtype::F64) => grad + coeff * param,
        (ADAMW_REGULARIZER_L1, _) => (grad as f32 + coeff as f32 * sign(param) as f32).into(),
        (ADAMW_REGULARIZER_L2, _) => (grad as f32 + coeff as f32 * param as f32).into(),
        other => unreachable!("{other:?}"),
    };
    Array::of(compute, &pairs.map(value).collect::<Vec<_>>())
}

#[test]
fn a_regularizer_is_part_of_the_gradient_on_every_isa() {
    let mut random = Random::new(7);
    for dtype in [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16] {
        for n in [1, 17, 511, 513, 16_385] {
            let param = Array::ordinary(dtype, n, &mut random);
            let grad = Array::ordinary(dtype, n, &mut random);
            param.set(0, 0.0);
            for kind in [ADAMW_REGULARIZER_L1, ADAMW_REGULARIZER_L2] {
                for (maximize, multi_precision) in [(0, 0), (1, 0), (0, 1)] {
                    for isa in isas() {
                        let config =
                            adamw_config { isa, maximize, multi_precision, eps: 0.5, ..config() };
                        let got = stepped(&config, &param, &grad, kind);
                        let grad = regularized(kind, maximize, &param, &grad);
                        let expected = stepped(&config, &param, &grad, ADAMW_REGULARIZER_NONE);
                        assert_eq!(got.first_difference(&expected), None, "{dtype:?}, {n}, {kind}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_penalty_shrinks_parameters_whether_the_step_ascends_or_descends() {
    for dtype in [Dtype::F32, Dtype::F64, Dtype::Bf16] {
        for kind in [ADAMW_REGULARIZER_L1, ADAMW_REGULARIZER_L2] {
            let (param, grad) = (Array::of(dtype, &[5.0, -5.0, 0.0]), Array::zeros(dtype, 3));
            let plain = adamw_config { lr: 0.5, weight_decay: 0.0, ..config() };
            let [down, up] = [0, 1].map(|maximize| {
                stepped(&adamw_config { maximize, ..plain }, &param, &grad, kind).values()
            });
            assert_eq!(down, up, "{dtype:?}, {kind}");
            assert!(up[0] < 5.0 && up[1] > -5.0 && up[2] == 0.0, "{up:?}");
        }
    }
}

#[test]
fn unknown_kinds_and_coefficients_are_refused() {
    let param = Array::of(Dtype::F32, &[1.0]);
    let handle = Handle::new(&config());
    for (regularizer, text) in [
        ((3, 1.0), "param.regularizer is 3, expected an ADAMW_REGULARIZER constant, 0 to 2"),
        ((ADAMW_REGULARIZER_L1, f64::NAN), "regularizer_coeff is NaN, expected a finite number"),
        (
            (ADAMW_REGULARIZER_L2, f64::INFINITY),
            "regularizer_coeff is inf, expected a finite number",
        ),
    ] {
        let failure =
            handle.try_add(&Param { regularizer, ..Param::new("w", &param) }).unwrap_err();
        assert_eq!((failure.status, &failure.text[..]), (Status::InvalidArgument, text));
    }
}
