//! What is not finite in a gradient is found before anything is written, and dealt with as the
//! handle was told; a loss scale is taken out of gradients on the way.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config, isas, with_clip};
use crate::common::kind::Kind;
use crate::common::random::Random;
use crate::common::tensors::Tensors;
use adamw::ffi::*;

const DTYPES: [Dtype; 4] = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16];

/// Two parameters and their gradients.
struct Model {
    params: [Array; 2],
    grads: [Array; 2],
}

impl Model {
    fn new(dtype: Dtype) -> Model {
        let mut random = Random::new(3);
        let mut arrays =
            || [Array::ordinary(dtype, 5000, &mut random), Array::ordinary(dtype, 70, &mut random)];
        Model { params: arrays(), grads: arrays() }
    }

    fn handle(&self, config: &adamw_config) -> Handle {
        let handle = Handle::new(config);
        for (name, (param, grad)) in ["a", "b"].into_iter().zip(self.params.iter().zip(&self.grads))
        {
            let number = handle.add_array(name, param);
            handle.set_grad(number, grad);
        }
        handle
    }

    fn copy(&self) -> Model {
        Model {
            params: self.params.each_ref().map(Array::duplicate),
            grads: self.grads.each_ref().map(Array::duplicate),
        }
    }

    #[track_caller]
    fn assert_same_params(&self, other: &Model) {
        for (param, other) in self.params.iter().zip(&other.params) {
            assert_eq!(param.first_difference(other), None);
        }
    }
}

fn config_with(nonfinite: adamw_nonfinite) -> adamw_config {
    adamw_config { nonfinite, multi_precision: 1, ..config() }
}

#[test]
fn a_skipped_step_changes_nothing_and_says_so() {
    for dtype in DTYPES {
        for isa in isas() {
            let model = Model::new(dtype);
            let untouched = model.copy();
            let handle = model.handle(&adamw_config { isa, ..config_with(ADAMW_NONFINITE_SKIP) });
            let good = model.grads[0].duplicate();
            model.grads[0].set(4097, f64::NAN);
            model.grads[1].set(69, f64::NEG_INFINITY);
            handle.step();
            model.assert_same_params(&untouched);
            assert_eq!([handle.info(0).step, handle.info(1).step], [0, 0]);
            let info = handle.step_info();
            assert_eq!((info.skipped, info.measured, info.n_nonfinite), (1, 1, 2));
            assert_eq!(info.n_elements, 5070);

            // The next good step is the first.
            model.grads[0].set_bits(4097, good.bits(4097));
            model.grads[1].set_bits(69, untouched.grads[1].bits(69));
            handle.step();
            let expected = untouched.copy();
            expected.handle(&config_with(ADAMW_NONFINITE_PROPAGATE)).step();
            model.assert_same_params(&expected);
            assert_eq!((handle.step_info().skipped, handle.step_info().n_nonfinite), (0, 0));
            assert_eq!(handle.info(0).step, 1);
        }
    }
}

#[test]
fn a_failed_step_changes_nothing_and_names_the_first() {
    let model = Model::new(Dtype::F32);
    model.grads[1].set(3, f64::INFINITY);
    model.grads[1].set(4, f64::NAN);
    let untouched = model.copy();
    let handle = model.handle(&config_with(ADAMW_NONFINITE_FAIL));
    let failure = handle.try_step().unwrap_err();
    assert_eq!(failure.status, Status::Nonfinite);
    assert_eq!(
        failure.text,
        "param \"b\": 2 of the 70 elements of grad are not finite (ADAMW_NONFINITE_SKIP passes over such steps)"
    );
    model.assert_same_params(&untouched);
    assert_eq!(handle.info(0).step, 0);
    model.grads[1].fill(0.0);
    handle.step();
}

#[test]
fn what_is_propagated_is_not_even_looked_for() {
    let model = Model::new(Dtype::F32);
    model.grads[0].set(7, f64::NAN);
    let handle = model.handle(&config_with(ADAMW_NONFINITE_PROPAGATE));
    handle.step();
    assert!(model.params[0].get(7).is_nan() && model.params[0].get(8).is_finite());
    let info = handle.step_info();
    assert_eq!((info.measured, info.n_nonfinite, info.grad_norm), (0, 0, 0.0));
}

#[test]
fn the_norm_is_that_of_all_gradients_unscaled() {
    let model = Model::new(Dtype::F32);
    model.grads[0].fill(3.0 / 16.0);
    model.grads[1].fill(-4.0 / 16.0);
    let handle = model.handle(&config_with(ADAMW_NONFINITE_FAIL));
    handle.set_grad_scale(2.0).unwrap();
    handle.step();
    let expected = (5000.0f64 * 9.0 / 256.0 + 70.0 * 16.0 / 256.0).sqrt() / 2.0;
    assert_eq!(handle.step_info().grad_norm.to_bits(), expected.to_bits());
}

#[test]
fn a_loss_scale_that_is_a_power_of_two_changes_no_bit() {
    for clip in [ADAMW_CLIP_NONE, ADAMW_CLIP_GLOBAL_NORM, ADAMW_CLIP_NORM, ADAMW_CLIP_VALUE] {
        for dtype in [Dtype::F32, Dtype::F64] {
            let limits = adamw_config { clip_norm: 1.0, clip_min: -0.1, clip_max: 0.2, ..config() };
            let config = with_clip(clip, limits);
            let (plain, scaled) = (Model::new(dtype), Model::new(dtype));
            for grad in &scaled.grads {
                for i in 0..grad.len() {
                    grad.set(i, grad.get(i) * 1024.0);
                }
            }
            plain.handle(&config).step();
            let handle = scaled.handle(&config);
            handle.set_grad_scale(1024.0).unwrap();
            handle.step();
            scaled.assert_same_params(&plain);
        }
    }
}

#[test]
fn what_is_not_finite_spreads_alike_everywhere_but_for_the_bits_of_a_nan() {
    for kind in Kind::all() {
        let mut random = Random::new(11);
        let n = 700;
        let start = Tensors::random(kind, n, &mut random);
        let grads: Vec<_> = (0..3).map(|_| Array::random(kind.grad, n, &mut random)).collect();
        let run = |isa, offset| {
            let tensors = start.copy(0..n, offset);
            let handle = Handle::new(&adamw_config {
                isa,
                amsgrad: kind.amsgrad.into(),
                maximize: kind.maximize.into(),
                multi_precision: kind.master.into(),
                ..config()
            });
            let number = tensors.add_to(&handle, "w", 5);
            for grad in &grads {
                handle.set_grad(number, grad);
                handle.step();
            }
            drop(handle);
            tensors
        };
        let expected = run(ADAMW_ISA_PORTABLE, 0);
        for (name, array) in expected.arrays() {
            assert!(array.values().iter().any(|value| value.is_nan()), "{kind:?}: {name}");
        }
        for isa in isas() {
            // One NaN is as good as another there, and nothing else is.
            run(isa, 0).assert_same(&expected, || format!("{kind:?}, {isa}"));
            run(isa, 5).assert_same(&expected, || format!("{kind:?}, {isa}, off its alignment"));
        }
    }
}

#[test]
fn a_loss_scale_is_one_that_f32_can_multiply_by_and_invert() {
    let handle = Handle::new(&config());
    let (least, most) = (2f64.powi(-126), 2f64.powi(126));
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-39, least / 2.0, most * 2.0, 1e300] {
        let failure = handle.set_grad_scale(scale).unwrap_err();
        assert_eq!(failure.status, Status::InvalidArgument);
        let shown = format!("{scale:?}").replace(".0", ""); // a whole number has no point
        assert_eq!(failure.text, format!("grad_scale is {shown}, expected 2^-126 to 2^126"));
    }
    for scale in [least, most] {
        let model = Model::new(Dtype::F32);
        model.grads.iter().for_each(|grad| grad.fill(0.0));
        let handle = model.handle(&config_with(ADAMW_NONFINITE_FAIL));
        handle.set_grad_scale(scale).unwrap();
        handle.step();
        assert!(model.params[0].values().iter().all(|value| value.is_finite()), "{scale}");
    }
}

#[test]
fn a_gradient_that_overflows_when_the_scale_is_taken_out_counts_as_not_finite() {
    // 1e20 * 2^100 is no f32, and is an f64.
    let world = |dtype, nonfinite| {
        let model = Model::new(dtype);
        model.grads[0].fill(0.0);
        model.grads[1].fill(0.0);
        model.grads[1].set(3, 1e20);
        let handle = model.handle(&adamw_config { multi_precision: 0, ..config_with(nonfinite) });
        handle.set_grad_scale(2f64.powi(-100)).unwrap();
        (model, handle)
    };
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let (model, handle) = world(dtype, ADAMW_NONFINITE_SKIP);
        let untouched = model.copy();
        handle.step();
        model.assert_same_params(&untouched);
        assert_eq!((handle.step_info().skipped, handle.step_info().n_nonfinite), (1, 1));

        let (model, handle) = world(dtype, ADAMW_NONFINITE_FAIL);
        let untouched = model.copy();
        let failure = handle.try_step().unwrap_err();
        assert_eq!(failure.status, Status::Nonfinite);
        let norm = model.grads[1].get(3) * 2f64.powi(100);
        let text = format!(
            "param \"b\": the norm of grad is {norm:e} when the loss scale is taken out, which f32 \
             does not hold"
        );
        assert_eq!(failure.text, text);
        model.assert_same_params(&untouched);
    }
    let (model, handle) = world(Dtype::F64, ADAMW_NONFINITE_FAIL);
    handle.step();
    assert!(model.params[1].values().iter().all(|value| value.is_finite()));
}
