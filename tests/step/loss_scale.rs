//! Loss scales: a number, or one that adapts; flags that several optimizers share.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config};
use adamw::ffi::*;
use core::ptr::{null, null_mut};

fn scaler(scale: f64, growth_interval: u64, backoff_interval: u64) -> adamw_loss_scaler {
    adamw_loss_scaler { scale, growth_interval, backoff_interval, ..adamw_loss_scaler::defaults() }
}

/// A handle of one parameter, and the gradient that it reads.
fn world(config: &adamw_config) -> (Handle, u32, Array, Array) {
    let handle = Handle::new(config);
    let (param, grad) = (Array::of(Dtype::F32, &[1.0, 2.0]), Array::of(Dtype::F32, &[1.0, 1.0]));
    let number = handle.add_array("w", &param);
    handle.set_grad(number, &grad);
    (handle, number, param, grad)
}

#[test]
fn a_scaler_unscales_skips_and_adapts() {
    let (handle, number, param, grad) = world(&config());
    let (plain, _, expected, plain_grad) = world(&config());
    handle.set_scaler(&scaler(1024.0, 2, 1)).unwrap();
    let steps = [(1.0, 1024.0), (1.0, 1024.0), (f64::INFINITY, 2048.0), (1.0, 1024.0)];
    let mut taken = 0;
    for (value, scale) in steps {
        assert_eq!(handle.grad_scale(), scale);
        grad.fill(value * scale);
        plain_grad.fill(value);
        handle.step();
        let skipped = value.is_infinite();
        assert_eq!(handle.step_info().skipped, u32::from(skipped));
        if !skipped {
            plain.step();
            taken += 1;
        }
        assert_eq!(param.first_difference(&expected), None, "powers of two change no bit");
        assert_eq!(handle.info(number).step, taken);
    }
    assert_eq!(handle.grad_scale(), 1024.0);
}

#[test]
fn zeros_are_the_defaults_of_a_scaler() {
    let (handle, ..) = world(&config());
    handle.set_scaler(&adamw_loss_scaler::defaults()).unwrap();
    assert_eq!(handle.grad_scale(), 65536.0);
    (0..2000).for_each(|_| handle.step());
    assert_eq!(handle.grad_scale(), 131072.0);
}

#[test]
fn a_scaler_that_is_saved_goes_on_where_it_was() {
    let bad = |step: usize| step % 7 == 3 || step % 11 == 5;
    let run = |handle: &Handle, grad: &Array, steps: core::ops::Range<usize>| {
        let scale = |step| {
            grad.fill(if bad(step) { f64::NAN } else { handle.grad_scale() });
            handle.step();
            handle.grad_scale()
        };
        steps.map(scale).collect::<Vec<f64>>()
    };
    let unbroken = world(&config());
    unbroken.0.set_scaler(&scaler(64.0, 4, 2)).unwrap();
    let expected = run(&unbroken.0, &unbroken.3, 0..60);

    let first = world(&config());
    first.0.set_scaler(&scaler(64.0, 4, 2)).unwrap();
    run(&first.0, &first.3, 0..31);
    let state = first.0.scaler_state().unwrap();
    let second = world(&config());
    second.0.set_scaler(&scaler(64.0, 4, 2)).unwrap();
    second.0.set_scaler_state(&state).unwrap();
    assert_eq!(run(&second.0, &second.3, 31..60), expected[31..]);
}

#[test]
fn without_a_scaler_the_scale_stays() {
    let (handle, ..) = world(&config());
    assert_eq!(handle.scaler_state().unwrap_err().status, Status::NotFound);
    handle.set_scaler(&scaler(8.0, 1, 1)).unwrap();
    let conflict = handle.set_grad_scale(2.0).unwrap_err();
    assert_eq!(conflict.status, Status::InvalidArgument);
    assert_eq!(
        conflict.text,
        "the loss scale is the scaler's: adamw_set_loss_scaler with NULL removes it"
    );
    handle.step();
    handle.remove_scaler();
    assert_eq!(handle.grad_scale(), 16.0);
    handle.step();
    assert_eq!(handle.grad_scale(), 16.0);
    handle.set_grad_scale(2.0).unwrap();
    assert_eq!(handle.grad_scale(), 2.0);
}

#[test]
fn a_scaler_that_makes_no_sense_is_refused() {
    let (handle, ..) = world(&config());
    let good = adamw_loss_scaler::defaults();
    let bad = [
        (adamw_loss_scaler { scale: -1.0, ..good }, "scaler.scale is -1, expected 2^-126 to 2^126"),
        (
            adamw_loss_scaler { scale: f64::NAN, ..good },
            "scaler.scale is NaN, expected 2^-126 to 2^126",
        ),
        (
            adamw_loss_scaler { growth_factor: 0.5, ..good },
            "scaler.growth_factor is 0.5, expected a finite number >= 1",
        ),
        (
            adamw_loss_scaler { growth_factor: f64::INFINITY, ..good },
            "scaler.growth_factor is inf, expected a finite number >= 1",
        ),
        (
            adamw_loss_scaler { backoff_factor: 1.5, ..good },
            "scaler.backoff_factor is 1.5, expected a number > 0 and <= 1",
        ),
        (
            adamw_loss_scaler { backoff_factor: -0.5, ..good },
            "scaler.backoff_factor is -0.5, expected a number > 0 and <= 1",
        ),
    ];
    for (scaler, text) in bad {
        assert_eq!(handle.set_scaler(&scaler).unwrap_err().text, text);
        assert_eq!(handle.scaler_state().unwrap_err().status, Status::NotFound);
    }
    handle.set_scaler(&good).unwrap();
    let mut state = handle.scaler_state().unwrap();
    state.scale = 0.0;
    assert_eq!(handle.set_scaler_state(&state).unwrap_err().status, Status::InvalidArgument);
    assert_eq!(handle.grad_scale(), 65536.0);
}

#[test]
fn a_raised_flag_skips_the_step_and_a_found_one_is_told() {
    for nonfinite in [ADAMW_NONFINITE_PROPAGATE, ADAMW_NONFINITE_SKIP] {
        for same in [false, true] {
            let (handle, number, param, grad) = world(&adamw_config { nonfinite, ..config() });
            let flags = Array::of(Dtype::F32, &[0.0, 7.0]);
            let flag = |i: usize| flags.data().cast::<f32>().wrapping_add(i);
            let (theirs, ours) = if same { (0, 0) } else { (0, 1) };
            handle.set_found_inf(flag(theirs), flag(ours));

            handle.step();
            assert_eq!((flags.get(ours), handle.info(number).step), (0.0, 1));
            let before = param.values();
            flags.set(theirs, 1.0);
            handle.step();
            let info = handle.step_info();
            assert_eq!((info.skipped, info.n_nonfinite), (1, 0));
            assert_eq!((param.values(), handle.info(number).step), (before, 1));
            assert_eq!(flags.get(ours), 1.0, "a flag that is raised stays so");

            flags.set(theirs, 0.0);
            grad.set(0, f64::NAN);
            handle.step();
            let skips = nonfinite == ADAMW_NONFINITE_SKIP;
            assert_eq!((flags.get(ours), handle.step_info().skipped), (1.0, skips.into()));
            handle.set_found_inf(null(), null_mut());
            flags.set(theirs, 1.0);
            grad.set(0, 1.0);
            handle.step();
            assert_eq!(handle.step_info().skipped, 0);
        }
    }
}

#[test]
fn a_failed_step_tells_nobody_and_leaves_the_scale() {
    let fails = adamw_config { nonfinite: ADAMW_NONFINITE_FAIL, ..config() };
    let (handle, _, _, grad) = world(&fails);
    let flag = Array::of(Dtype::F32, &[7.0]);
    handle.set_found_inf(null(), flag.data().cast());
    grad.set(0, f64::INFINITY);
    assert_eq!(handle.try_step().unwrap_err().status, Status::Nonfinite);
    assert_eq!(flag.get(0), 7.0);
    // With a scaler it is skipped instead.
    handle.set_scaler(&scaler(4.0, 1, 1)).unwrap();
    handle.step();
    assert_eq!((flag.get(0), handle.grad_scale()), (1.0, 2.0));
}

#[test]
fn a_scale_that_has_backed_off_for_long_still_divides_a_good_gradient() {
    for start in [65536.0, 2f64.powi(-20)] {
        for nonfinite in [ADAMW_NONFINITE_PROPAGATE, ADAMW_NONFINITE_FAIL] {
            let (handle, _, param, grad) = world(&adamw_config { nonfinite, ..config() });
            handle.set_scaler(&scaler(start, 0, 0)).unwrap();
            grad.fill(f64::NAN);
            (0..1200).for_each(|_| handle.step());
            assert_eq!(handle.grad_scale(), start.min(1.0));
            grad.fill(0.0);
            handle.step();
            assert_eq!((handle.step_info().skipped, handle.step_info().n_nonfinite), (0, 0));
            assert!(param.values().iter().all(|value| value.is_finite()), "{:?}", param.values());
        }
    }
}

#[test]
fn a_scale_that_grows_for_long_is_a_number_that_f32_can_multiply_by_and_invert() {
    let (handle, ..) = world(&config());
    handle.set_scaler(&scaler(3.0, 1, 0)).unwrap();
    (0..1200).for_each(|_| handle.step());
    assert_eq!(handle.grad_scale(), 2f64.powi(126));
    let scale = handle.grad_scale() as f32;
    assert!(scale.is_normal() && scale.recip().is_normal());
}

#[test]
fn a_scale_that_was_set_below_where_it_may_fall_is_not_raised() {
    let (handle, _, _, grad) = world(&config());
    handle.set_scaler(&scaler(8.0, 2, 1)).unwrap();
    let state = adamw_loss_scaler_state { scale: 0.25, ..handle.scaler_state().unwrap() };
    handle.set_scaler_state(&state).unwrap();
    grad.fill(f64::NAN);
    handle.step();
    assert_eq!(handle.grad_scale(), 0.25);
    grad.fill(0.0);
    (0..4).for_each(|_| handle.step());
    assert_eq!(handle.grad_scale(), 1.0);
}

#[test]
fn counts_of_a_scaler_with_longer_intervals_change_the_scale_at_the_next_step() {
    for (good_steps, bad_steps, is_good, expected) in [
        (1000, 0, true, 16.0),
        (u64::MAX, 0, true, 16.0),
        (0, 1000, false, 4.0),
        (0, u64::MAX, false, 4.0),
    ] {
        let (handle, _, _, grad) = world(&config());
        handle.set_scaler(&scaler(8.0, 3, 3)).unwrap();
        let state = handle.scaler_state().unwrap();
        handle
            .set_scaler_state(&adamw_loss_scaler_state { good_steps, bad_steps, ..state })
            .unwrap();
        grad.fill(if is_good { 1.0 } else { f64::NAN });
        handle.step();
        let state = handle.scaler_state().unwrap();
        assert_eq!((state.scale, state.good_steps, state.bad_steps), (expected, 0, 0));
    }
}
