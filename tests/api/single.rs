//! One parameter at a time, as its gradient arrives: measured once, or stepped alone, with the bits
//! of a step of all.

use crate::common::LONG;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config, schedule, with_clip};
use crate::common::random::Random;
use adamw::ffi::*;

const CLIPPED: fn() -> adamw_config =
    || adamw_config { clip: ADAMW_CLIP_GLOBAL_NORM, clip_norm: 0.5, ..config() };

/// Parameters of several lengths with a gradient each.
fn world(config: &adamw_config) -> (Handle, Vec<u32>, Vec<Array>, Vec<Array>) {
    let mut random = Random::new(3);
    let handle = Handle::new(config);
    let params = [1, 4097, LONG, 64].map(|n| Array::ordinary(Dtype::F32, n, &mut random));
    let grads = [1, 4097, LONG, 64].map(|n| Array::ordinary(Dtype::F32, n, &mut random));
    let names = ["a", "b", "c", "d"];
    let numbers = names.iter().zip(&params).map(|(name, param)| handle.add_array(name, param));
    let numbers: Vec<u32> = numbers.collect();
    for (number, grad) in numbers.iter().zip(&grads) {
        handle.set_grad(*number, grad);
    }
    (handle, numbers, params.into(), grads.into())
}

#[track_caller]
fn assert_same(seen: &[Array], expected: &[Array]) {
    for (seen, expected) in seen.iter().zip(expected) {
        assert_eq!(seen.first_difference(expected), None);
    }
}

#[test]
fn gradients_that_were_ready_are_not_read_again_for_the_norm() {
    let (plain, _, expected, _grads) = world(&CLIPPED());
    let (handle, numbers, params, grads) = world(&CLIPPED());
    // What was ready is measured as it was then: a change afterwards, which no host may make, shows
    // that the step did not look again.
    for i in [0, 1, 3] {
        handle.grad_ready(numbers[i]).unwrap();
    }
    grads[1].set(7, -1000.0 * grads[1].get(7).signum());
    handle.step();
    plain.step();
    let norms = [&plain, &handle].map(|handle| handle.step_info().grad_norm.to_bits());
    assert_eq!(norms[0], norms[1]);

    assert!(params[1].first_difference(&expected[1]).is_some(), "the step took what is there");

    // The next step measures again, and so does a step after a gradient has been set again.
    let (handle, numbers, params, grads) = world(&CLIPPED());
    for number in &numbers {
        handle.grad_ready(*number).unwrap();
    }
    for steps in 0..3 {
        handle.step();
        if steps > 0 {
            plain.step();
        }
        assert_same(&params, &expected);
        handle.grad_ready(numbers[2]).unwrap();
        handle.set_grad(numbers[2], &grads[2]);
    }
}

#[test]
fn what_is_ready_but_not_stepped_is_no_part_of_the_norm() {
    let (plain, of_plain, expected, grads) = world(&CLIPPED());
    let (handle, numbers, params, _grads) = world(&CLIPPED());
    for number in &numbers {
        handle.grad_ready(*number).unwrap();
    }
    handle.edit_options(numbers[2], |options| options.frozen = 1);
    plain.forget_grad(of_plain[2]);
    plain.step();
    handle.step();
    assert_same(&params, &expected);
    // Explicit gradients are measured by themselves.
    handle.grad_ready(numbers[0]).unwrap();
    for (handle, numbers) in [(&plain, &of_plain), (&handle, &numbers)] {
        handle.apply_gradients(&[(numbers[1], &grads[1])]).unwrap();
    }
    assert_same(&params, &expected);
}

#[test]
fn what_was_ready_for_one_step_is_measured_again_for_the_next() {
    let (plain, of_plain, expected, of_plains) = world(&CLIPPED());
    let (handle, numbers, params, grads) = world(&CLIPPED());
    handle.grad_ready(numbers[2]).unwrap();
    // Frozen, it has no part in the step; then the host may change the gradient.
    for (handle, numbers, grads) in [(&plain, &of_plain, &of_plains), (&handle, &numbers, &grads)] {
        handle.edit_options(numbers[2], |options| options.frozen = 1);
        handle.step();
        handle.edit_options(numbers[2], |options| options.frozen = 0);
        (0..LONG).for_each(|i| grads[2].set(i, 3.0 * grads[2].get(i)));
        handle.step();
    }
    assert_same(&params, &expected);
}

#[test]
fn a_gradient_that_is_not_finite_is_found_when_it_is_ready() {
    let (handle, numbers, params, grads) =
        world(&adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..config() });
    let before: Vec<Array> = params.iter().map(Array::duplicate).collect();
    grads[2].set(5, f64::INFINITY);
    for number in &numbers {
        handle.grad_ready(*number).unwrap();
    }
    handle.step();
    let info = handle.step_info();
    assert_eq!((info.skipped, info.n_nonfinite), (1, 1));
    assert_same(&params, &before);
    // What a skipped step has used is used up: mended, the gradient is measured anew.
    grads[2].set(5, 1.0);
    handle.step();
    assert_eq!(handle.step_info().skipped, 0);
}

#[test]
fn parameters_stepped_one_by_one_have_the_bits_of_a_step_of_all() {
    for clip in [ADAMW_CLIP_NONE, ADAMW_CLIP_NORM, ADAMW_CLIP_VALUE] {
        let limits = adamw_config { clip_norm: 0.5, clip_max: 0.25, ..config() };
        let config = with_clip(clip, limits);
        let (all, _, expected, _grads) = world(&config);
        let (alone, numbers, params, grads) = world(&config);
        for _ in 0..3 {
            all.step();
            for number in [2, 0, 3, 1] {
                alone.step_param(numbers[number]).unwrap();
                alone.step_param(numbers[number]).unwrap(); // it has no gradient any more
            }
            assert_same(&params, &expected);
            for (number, grad) in numbers.iter().zip(&grads) {
                alone.set_grad(*number, grad);
            }
        }
        assert_eq!(numbers.iter().map(|number| alone.info(*number).step).max(), Some(3));
    }
}

#[test]
fn a_schedule_goes_on_with_the_step_of_all_only() {
    let (handle, numbers, _params, _grads) = world(&config());
    let falling = adamw_schedule { lr: 1.0, gamma: 0.5, ..schedule(ADAMW_SCHEDULE_EXPONENTIAL) };
    handle.set_schedule(&falling).unwrap();
    for number in &numbers[..3] {
        handle.step_param(*number).unwrap();
    }
    assert_eq!(handle.lr(), 1.0);
    handle.step();
    assert_eq!(handle.lr(), 0.5);
    let steps: Vec<u64> = numbers.iter().map(|number| handle.info(*number).step).collect();
    assert_eq!(steps, [1, 1, 1, 1]);
}

#[test]
fn what_depends_on_all_gradients_cannot_be_done_for_one() {
    let flag = 0.0f32;
    let scaler = adamw_loss_scaler::defaults();
    let skip = adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..config() };
    let handles = [
        (CLIPPED(), "its group clips by global norm"),
        (skip, "the handle has ADAMW_NONFINITE_SKIP"),
        (config(), "the handle has found_inf flags"),
        (config(), "the handle has a loss scaler"),
    ];
    for (config, reason) in handles {
        let (handle, numbers, params, _grads) = world(&config);
        if reason.contains("found_inf") {
            handle.set_found_inf(&flag, core::ptr::null_mut());
        }
        if reason.contains("scaler") {
            handle.set_scaler(&scaler).unwrap();
        }
        let before: Vec<Array> = params.iter().map(Array::duplicate).collect();
        let failure = handle.step_param(numbers[1]).unwrap_err();
        assert_eq!(failure.status, Status::ClipConflict);
        let text = format!(
            "param \"b\" cannot be stepped alone, because {reason}: what to do depends on \
                            the gradients of all, which adamw_step steps"
        );
        assert_eq!(failure.text, text);
        assert_same(&params, &before);
    }
    // A parameter that is left out of the norm can.
    let (handle, numbers, _params, _grads) = world(&CLIPPED());
    handle.edit_options(numbers[1], |options| options.no_clip = 1);
    handle.step_param(numbers[1]).unwrap();
    assert_eq!(handle.info(numbers[1]).step, 1);
}

#[test]
fn a_gradient_that_is_not_finite_fails_the_step_of_its_own_parameter_alone() {
    let (handle, numbers, params, grads) =
        world(&adamw_config { nonfinite: ADAMW_NONFINITE_FAIL, ..config() });
    grads[0].set(0, f64::NAN);
    let before = params[0].duplicate();
    assert_eq!(handle.step_param(numbers[0]).unwrap_err().status, Status::Nonfinite);
    assert_eq!(params[0].first_difference(&before), None);
    handle.step_param(numbers[1]).unwrap();
}
