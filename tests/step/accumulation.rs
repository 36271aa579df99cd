//! Gradients of micro-batches are added up in f32, or f64, and used up by a step.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config, with_clip};
use crate::common::kind::Kind;
use crate::common::random::Random;
use adamw::ffi::*;

/// The sum in the compute type, in order.
fn sum(compute: Dtype, grads: &[Array]) -> Array {
    let total = Array::zeros(compute, grads[0].len());
    for i in 0..total.len() {
        let add = |sum: f64, grad: &Array| match compute {
            Dtype::F64 => sum + grad.get(i),
            _ => (sum as f32 + grad.get(i) as f32).into(),
        };
        total.set(i, grads[1..].iter().fold(grads[0].get(i), add));
    }
    total
}

#[test]
fn a_step_takes_the_sum_or_the_mean_and_uses_it_up() {
    for kind in Kind::all() {
        for (average_grads, n) in [(0, 3), (1, 4), (1, 1)] {
            for clip in [ADAMW_CLIP_NONE, ADAMW_CLIP_GLOBAL_NORM, ADAMW_CLIP_NORM] {
                let mut random = Random::new(n as u64);
                let config = with_clip(
                    clip,
                    adamw_config {
                        average_grads,
                        clip_norm: 0.5,
                        amsgrad: kind.amsgrad.into(),
                        maximize: kind.maximize.into(),
                        multi_precision: kind.master.into(),
                        ..config()
                    },
                );
                let (param, expected) = {
                    let param = Array::ordinary(kind.param, 700, &mut random);
                    (param.duplicate(), param)
                };
                let grads: Vec<Array> =
                    (0..n).map(|_| Array::ordinary(kind.grad, 700, &mut random)).collect();
                let handle = Handle::new(&config);
                let number = handle.add_array("w", &param);
                for grad in &grads {
                    handle.accumulate_grad(number, grad).unwrap();
                    grad.set(0, grad.get(0)); // read during the call only
                }
                handle.step();
                assert_eq!(handle.info(number).step, 1);
                let after = param.values();
                handle.step();
                assert_eq!((handle.info(number).step, param.values()), (1, after));

                // The mean as a loss scale: the same factor, folded in at the same place.
                let total = sum(kind.param.compute(), &grads);
                let dense = Handle::new(&config);
                let other = dense.add_array("w", &expected);
                dense.set_grad_scale(if average_grads == 1 { n as f64 } else { 1.0 }).unwrap();
                dense.set_grad(other, &total);
                dense.step();
                assert_eq!(param.first_difference(&expected), None, "{kind:?} {n} clip {clip}");
            }
        }
    }
}

#[test]
fn a_gradient_that_is_set_takes_the_place_of_the_sum_and_the_other_way_round() {
    let handle = Handle::new(&adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..config() });
    let param = Array::of(Dtype::F32, &[1.0]);
    let number = handle.add_array("w", &param);
    let norm = || {
        handle.step();
        handle.step_info().grad_norm
    };
    let (two, three) = (Array::of(Dtype::F32, &[2.0]), Array::of(Dtype::F32, &[3.0]));
    handle.accumulate_grad(number, &two).unwrap();
    handle.set_grad(number, &three);
    assert_eq!(norm(), 3.0);
    handle.accumulate_grad(number, &two).unwrap();
    handle.accumulate_grad(number, &two).unwrap();
    assert_eq!(norm(), 4.0);
    assert_eq!(norm(), 0.0, "neither the sum nor what was set before it is there any more");
    handle.accumulate_grad(number, &two).unwrap();
    handle.clear_grad(ADAMW_CLEAR_ZERO);
    handle.accumulate_grad(number, &three).unwrap();
    assert_eq!(norm(), 3.0);
}

#[test]
fn a_skipped_step_uses_the_sum_up_and_a_failed_one_does_not() {
    for (nonfinite, steps) in [(ADAMW_NONFINITE_SKIP, 1), (ADAMW_NONFINITE_FAIL, 0)] {
        let handle = Handle::new(&adamw_config { nonfinite, ..config() });
        let param = Array::of(Dtype::F32, &[1.0]);
        let number = handle.add_array("w", &param);
        let (nan, one) = (Array::of(Dtype::F32, &[f64::NAN]), Array::of(Dtype::F32, &[1.0]));
        handle.accumulate_grad(number, &nan).unwrap();
        let _ = handle.try_step();
        handle.accumulate_grad(number, &one).unwrap();
        let _ = handle.try_step();
        assert_eq!(handle.info(number).step, steps, "policy {nonfinite}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let handle = Handle::new(&config());
    let param = Array::of(Dtype::F16, &[1.0; 4]);
    let number = handle.add_array("w", &param);
    for (grad, text) in [
        (Array::zeros(Dtype::F16, 3), "param \"w\": grad has 3 elements, param has 4"),
        (
            Array::zeros(Dtype::Bf16, 4),
            "param \"w\": grad is bf16, expected f16 as the param, or f32",
        ),
    ] {
        assert_eq!(handle.accumulate_grad(number, &grad).unwrap_err().text, text);
    }
    handle.step();
    assert_eq!(handle.info(number).step, 0);
}

/// A handle that averages and looks at gradients, its parameters, and a gradient of eight.
fn averaging(n_params: usize) -> (Handle, Vec<Array>, Array) {
    let nonfinite = ADAMW_NONFINITE_FAIL;
    let handle = Handle::new(&adamw_config { average_grads: 1, nonfinite, ..config() });
    let params: Vec<Array> = (0..n_params).map(|_| Array::of(Dtype::F32, &[1.0])).collect();
    for (i, param) in params.iter().enumerate() {
        handle.add_array(&format!("w{i}"), param);
    }
    (handle, params, Array::of(Dtype::F32, &[8.0]))
}

/// Adds the gradient to each parameter as often as is said.
fn accumulate(handle: &Handle, grad: &Array, counts: &[(u32, usize)]) {
    for &(number, count) in counts {
        (0..count).for_each(|_| handle.accumulate_grad(number, grad).unwrap());
    }
}

#[test]
fn a_mean_is_of_the_windows_micro_batches_whichever_reached_the_parameter() {
    let (handle, _params, grad) = averaging(2);
    let norm = |counts: &[(u32, usize)]| {
        accumulate(&handle, &grad, counts);
        handle.step();
        handle.step_info().grad_norm
    };
    let of = |means: &[f64]| means.iter().map(|mean| mean * mean).sum::<f64>().sqrt();
    assert_eq!(norm(&[(0, 4), (1, 1)]), of(&[8.0, 2.0]));
    assert_eq!(norm(&[(0, 1), (1, 1)]), of(&[8.0, 8.0]), "the next window is one of its own");
    assert_eq!(norm(&[(1, 2)]), 8.0);
    handle.set_accumulation_window(8);
    assert_eq!(norm(&[(0, 4), (1, 1)]), of(&[4.0, 1.0]));
    handle.set_accumulation_window(0);
    assert_eq!(norm(&[(0, 4), (1, 1)]), of(&[8.0, 2.0]));
    // What was forgotten counts no more.
    accumulate(&handle, &grad, &[(0, 4)]);
    handle.clear_grad(ADAMW_CLEAR_FORGET);
    assert_eq!(norm(&[(1, 2)]), 8.0);
}

#[test]
fn a_parameter_that_was_stepped_alone_belongs_to_the_window() {
    for first in [None, Some(0)] {
        let config = adamw_config { average_grads: 1, ..config() };
        let handle = Handle::new(&config);
        let params = [Array::of(Dtype::F64, &[1.0]), Array::of(Dtype::F64, &[1.0])];
        params.iter().zip(["a", "b"]).for_each(|(param, name)| {
            handle.add_array(name, param);
        });
        let grad = Array::of(Dtype::F64, &[8.0]);
        accumulate(&handle, &grad, &[(0, 4), (1, 1)]);
        if let Some(number) = first {
            handle.step_param(number).unwrap();
        }
        handle.step();
        let to = Array::zeros(Dtype::F64, 1);
        handle.get_state("state.b.exp_avg", &to).unwrap();
        assert!((to.get(0) - 0.2).abs() < 1e-12, "{}", to.get(0));
    }
}

#[test]
fn parameters_that_are_all_stepped_alone_end_the_window_with_the_last() {
    for n in [1, 2] {
        let (handle, _params, grad) = averaging(n);
        for count in [4, 2, 3] {
            accumulate(&handle, &grad, &[(0, count), (n as u32 - 1, 1)]);
            for number in 0..n as u32 {
                handle.step_param(number).unwrap();
                let sum = if n == 1 {
                    count + 1
                } else if number == 0 {
                    count
                } else {
                    1
                };
                let longest = if n == 1 { count + 1 } else { count };
                let expected = 8.0 * sum as f64 / longest as f64;
                assert_eq!(handle.step_info().grad_norm, expected, "{n} {count} {number}");
            }
        }
    }
}

#[test]
fn a_window_that_is_shorter_than_what_was_accumulated_refuses_the_step() {
    let (handle, params, grad) = averaging(2);
    handle.set_accumulation_window(2);
    accumulate(&handle, &grad, &[(0, 2), (1, 3)]);
    let failure = handle.try_step().unwrap_err();
    assert_eq!(failure.status, Status::InvalidArgument);
    assert_eq!(
        failure.text,
        "param \"w1\" has accumulated 3 gradients, which is more than the 2 of \
         adamw_set_accumulation_window: set it to how many there are in a step"
    );
    assert_eq!([params[0].get(0), params[1].get(0)], [1.0, 1.0]);
    handle.set_accumulation_window(4);
    handle.step();
    assert_eq!(handle.step_info().grad_norm, (16.0f64 + 36.0).sqrt());
}
