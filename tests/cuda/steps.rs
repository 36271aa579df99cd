//! Parameters on a device are stepped as parameters in the host's memory are: the same bits, whatever is asked
//! of a handle. (Which formats there are and how memory lies is for `cuda_kernels.rs`, what the driver is
//! called for `cuda_calls.rs`.)

use crate::common::array::{Array, Dtype};
use crate::common::device::{Device, OnDevice};
use crate::common::handle::{Failure, Handle, Param, config, loss_scaler, schedule, with_clip};
use crate::common::rows::{Rows, RowsOnDevice};
use crate::common::twin::Twin;
use adamw::ffi::*;
use core::ptr::null_mut;
use std::cell::Cell;

/// Parameters of all types and of awkward lengths.
fn several(twin: &mut Twin) {
    for (dtype, n) in [
        (Dtype::F32, 40_003),
        (Dtype::Bf16, 4_099),
        (Dtype::F32, 1),
        (Dtype::F64, 5_000),
        (Dtype::F16, 131),
        (Dtype::F32, 0),
        (Dtype::Bf16, 16_385),
    ] {
        twin.add(dtype, n);
    }
}

fn steps(twin: &mut Twin, n: usize) {
    for _ in 0..n {
        twin.set_grads();
        twin.step();
        twin.assert_same();
    }
}

#[test]
fn many_steps_of_many_parameters_have_the_same_bits() {
    let _device = Device::new();
    for multi_precision in [0, 1] {
        let mut twin = Twin::new(&adamw_config { multi_precision, ..config() });
        several(&mut twin);
        steps(&mut twin, 4);
        twin.both(|handle| handle.set_lr(0.3));
        steps(&mut twin, 2);
    }
}

#[test]
fn small_shards_of_coded_moments_have_the_same_bits() {
    let _device = Device::new();
    for (moments, block) in [(ADAMW_MOMENTS_8BIT, 256), (ADAMW_MOMENTS_4BIT, 128)] {
        let mut twin = Twin::new(&adamw_config { moments, seed: 7, ..config() });
        for (n, offload) in
            [(2048usize, false), (block, false), (77, false), (0, false), (block, true)]
        {
            // Only the last of a whole has a block that is not full.
            let is_last = !n.is_multiple_of(block);
            let (first_element, whole_elements) =
                if is_last { (4864, 4864 + n as u64) } else { (1024, 5000) };
            let number = twin.add_with(Dtype::F32, n, true, |param| Param {
                first_element,
                whole_elements,
                offload,
                ..param
            });
            let scales = twin.device.state_info(number, ADAMW_BUFFER_EXP_AVG_SCALE).unwrap();
            assert_eq!(scales.n_elements, n.div_ceil(block) as u64);
        }
        steps(&mut twin, 3);
    }
}

#[test]
fn clipping_has_the_same_bits_wherever_norms_are_summed() {
    let _device = Device::new();
    for (clip, clip_scope) in [
        (ADAMW_CLIP_NORM, ADAMW_CLIP_SCOPE_GROUP),
        (ADAMW_CLIP_GLOBAL_NORM, ADAMW_CLIP_SCOPE_GROUP),
        (ADAMW_CLIP_GLOBAL_NORM, ADAMW_CLIP_SCOPE_HANDLE),
    ] {
        // All on the device, and some.
        for host_too in [false, true] {
            let config = adamw_config { clip, clip_scope, clip_norm: 0.5, ..config() };
            let mut twin = Twin::new(&config);
            several(&mut twin);
            twin.both(|handle| {
                assert_eq!(handle.add_group(|group| group.clip_norm = 0.25), 1);
                assert_eq!(
                    handle
                        .add_group(|group| (group.clip, group.clip_norm) = (ADAMW_CLIP_NONE, 0.0)),
                    2
                );
            });
            for group in [1, 2] {
                twin.add_with(Dtype::F32, 9_000, !host_too, |mut param| {
                    param.group = group;
                    param
                });
            }
            twin.add_with(Dtype::F32, 5_000, true, |mut param| {
                param.no_clip = true;
                param
            });
            steps(&mut twin, 3);
            assert!(twin.host.step_info().clip_factor < 1.0);
        }
    }
}

#[test]
fn options_of_groups_and_parameters_have_the_same_bits() {
    let _device = Device::new();
    let mut twin = Twin::new(&adamw_config { maximize: 1, amsgrad: 1, ..config() });
    twin.both(|handle| {
        handle.add_group(|group| {
            (group.lr_scale, group.weight_decay, group.beta1, group.eps) = (0.3, 0.2, 0.8, 1e-3);
            group.independent_weight_decay = 1;
            (group.clip, group.clip_min, group.clip_max) = (ADAMW_CLIP_VALUE, -0.25, 0.125);
        });
    });
    several(&mut twin);
    for regularizer in [ADAMW_REGULARIZER_L1, ADAMW_REGULARIZER_L2] {
        twin.add_with(Dtype::F32, 3_000, true, |mut param| {
            (param.group, param.regularizer) = (1, (regularizer, 0.01));
            param
        });
    }
    steps(&mut twin, 2);
    twin.both(|handle| handle.edit_options(0, |options| options.lr_scale = 0.7));
    twin.both(|handle| handle.edit_options(1, |options| options.frozen = 1));
    steps(&mut twin, 2);
    twin.both(|handle| handle.edit_options(1, |options| (options.frozen, options.group) = (0, 1)));
    twin.both(|handle| handle.forget_grad(0));
    twin.step();
    twin.assert_same();
    twin.both(|handle| handle.reset(2));
    twin.both(|handle| handle.remove(3).unwrap());
    for number in [0, 1, 2, 4] {
        let grad = Array::ordinary(
            [Dtype::F32, Dtype::Bf16, Dtype::F32, Dtype::F64, Dtype::F16][number],
            [40_003, 4_099, 1, 0, 131][number],
            &mut twin.random,
        );
        twin.set_grad(number as u32, grad);
    }
    twin.step();
    twin.assert_same();
}

#[test]
fn a_skipped_step_advances_nothing() {
    let _device = Device::new();
    for (clear_grads, clip) in [(0, ADAMW_CLIP_NONE), (1, ADAMW_CLIP_GLOBAL_NORM)] {
        for host_too in [false, true] {
            let nonfinite = ADAMW_NONFINITE_SKIP;
            let config = adamw_config { nonfinite, clear_grads, clip_norm: 0.1, ..config() };
            let mut twin = Twin::new(&with_clip(clip, config));
            several(&mut twin);
            twin.add_with(Dtype::F32, 300, !host_too, |param| param);
            steps(&mut twin, 2);
            twin.set_grads();
            let bad = Array::of(Dtype::F64, &vec![f64::INFINITY; 5_000]);
            twin.write_grad(3, &bad);
            twin.step();
            assert_eq!(twin.device.step_info().skipped, 1);
            twin.assert_same();
            steps(&mut twin, 2);
        }
    }
}

#[test]
fn a_flag_of_the_hosts_skips_a_step_and_says_so() {
    let _device = Device::new();
    let (nonfinite, flag) = (ADAMW_NONFINITE_SKIP, Array::zeros(Dtype::F32, 1));
    let mut twin = Twin::new(&adamw_config { nonfinite, ..config() });
    several(&mut twin);
    twin.both(|handle| handle.set_found_inf(flag.data().cast(), core::ptr::null_mut()));
    twin.set_grads();
    // What the device would have said of this step is not asked before the next.
    twin.step();
    flag.set(0, 1.0);
    twin.step();
    assert_eq!(twin.device.step_info().skipped, 1);
    twin.assert_same();
}

#[test]
fn a_gradient_that_is_not_finite_fails_by_name_where_that_was_asked() {
    let _device = Device::new();
    let mut twin = Twin::new(&adamw_config { nonfinite: ADAMW_NONFINITE_FAIL, ..config() });
    several(&mut twin);
    steps(&mut twin, 1);
    twin.set_grads();
    twin.write_grad(2, &Array::of(Dtype::F32, &[f64::NAN]));
    let failures = [&twin.host, &twin.device].map(|handle| handle.try_step().unwrap_err());
    assert_eq!(failures[0], failures[1]);
    assert!(failures[1].text.contains("\"w2\""), "{}", failures[1].text);
    steps(&mut twin, 1);
}

/// Makes both handles wait for what a device has measured, or share a norm with it.
fn wait(twin: &mut Twin, why: &str, flags: &[Array; 2]) {
    let scaler = loss_scaler(16.0, 2, 1);
    match why {
        "statistics" => twin.both(|handle| handle.set_statistics(1).unwrap()),
        "a scaler" => twin.both(|handle| handle.set_scaler(&scaler).unwrap()),
        "a flag" => {
            for (handle, flag) in [&twin.host, &twin.device].into_iter().zip(flags) {
                handle.set_found_inf(core::ptr::null(), flag.data().cast());
            }
        }
        "a parameter at home" => drop(twin.add_with(Dtype::F32, 300, false, |param| param)),
        _ => {}
    }
}

#[test]
fn what_has_no_part_in_a_step_counts_for_nothing_whoever_waits() {
    extern "C" fn no_closure(_: *mut f64, _: *mut core::ffi::c_void) -> i32 {
        0
    }
    let leave = |twin: &mut Twin, how: &str| match how {
        "forgotten" => twin.both(|handle| handle.forget_grad(1)),
        "all forgotten" => twin.both(|handle| handle.clear_grad(ADAMW_CLEAR_FORGET)),
        "frozen" => twin.both(|handle| handle.edit_options(1, |options| options.frozen = 1)),
        "used up" => {
            let grad = Array::ordinary(Dtype::F32, 3_000, &mut twin.random);
            twin.accumulate(1, &grad);
            twin.step();
        }
        "stepped alone" => twin.both(|handle| handle.step_param(1).unwrap()),
        _ => {}
    };
    let _device = Device::new();
    for why in ["statistics", "it may fail", "a scaler", "a flag", "a parameter at home"] {
        for how in ["forgotten", "all forgotten", "frozen", "used up", "stepped alone", "left out"]
        {
            if how == "stepped alone" && ["a scaler", "a flag"].contains(&why) {
                continue; // which is refused
            }
            let flags = [(); 2].map(|()| Array::zeros(Dtype::F32, 1));
            let fails = why == "it may fail";
            let mut twin = Twin::new(&adamw_config {
                clip: ADAMW_CLIP_GLOBAL_NORM,
                clip_norm: 0.5,
                nonfinite: if fails { ADAMW_NONFINITE_FAIL } else { ADAMW_NONFINITE_PROPAGATE },
                ..config()
            });
            for _ in 0..2 {
                twin.add(Dtype::F32, 3_000);
            }
            twin.both(|handle| {
                handle
                    .edit_options(1, |options| options.no_clip = u32::from(how == "stepped alone"));
            });
            wait(&mut twin, why, &flags);
            steps(&mut twin, 2);
            leave(&mut twin, how);
            for _ in 0..2 {
                for number in (0..3).filter(|&number| number != 1) {
                    if number == 0 || why == "a parameter at home" {
                        let n = if number == 0 { 3_000 } else { 300 };
                        let grad = Array::ordinary(Dtype::F32, n, &mut twin.random);
                        twin.set_grad(number, grad);
                    }
                }
                match how {
                    "left out" => twin.both(|handle| {
                        handle.minimize(Some(no_closure), &(), None, &[1], 3).unwrap();
                    }),
                    _ => twin.step(),
                }
                twin.assert_same();
            }
        }
    }
}

#[test]
fn a_gradient_that_was_not_finite_and_is_gone_stops_no_step() {
    let _device = Device::new();
    for why in ["it may fail", "a scaler"] {
        let fails = why == "it may fail";
        let nonfinite = if fails { ADAMW_NONFINITE_FAIL } else { ADAMW_NONFINITE_PROPAGATE };
        let mut twin = Twin::new(&adamw_config { nonfinite, ..config() });
        for _ in 0..2 {
            twin.add(Dtype::F32, 100);
        }
        let flags = [(); 2].map(|()| Array::zeros(Dtype::F32, 1));
        wait(&mut twin, why, &flags);
        twin.set_grads();
        twin.write_grad(1, &Array::of(Dtype::F32, &[f64::NAN; 100]));
        twin.both(|handle| assert_eq!(handle.try_step().is_err(), fails));
        twin.both(|handle| handle.forget_grad(1));
        twin.step();
        twin.assert_same();
        assert_eq!(twin.device.info(0).step, 1);
    }
}

#[test]
fn accumulated_gradients_have_the_same_bits() {
    let _device = Device::new();
    for average_grads in [0, 1] {
        let (clip, clip_norm) = (ADAMW_CLIP_GLOBAL_NORM, 0.5);
        let mut twin = Twin::new(&adamw_config { average_grads, clip, clip_norm, ..config() });
        let types = [
            (Dtype::F32, Dtype::F32),
            (Dtype::Bf16, Dtype::Bf16),
            (Dtype::F16, Dtype::F16),
            (Dtype::F16, Dtype::F32),
            (Dtype::F64, Dtype::F32),
            (Dtype::F64, Dtype::F64),
        ];
        for (param, _) in types {
            twin.add(param, 5_001);
        }
        for _ in 0..2 {
            for _ in 0..3 {
                for (number, (_, grad)) in types.into_iter().enumerate() {
                    let grad = Array::random(grad, 5_001, &mut twin.random);
                    twin.accumulate(number as u32, &grad);
                }
            }
            twin.step();
            twin.assert_same();
        }
    }
}

#[test]
fn schedules_callbacks_and_scales_have_the_same_bits() {
    extern "C" fn ratio(
        info: *const adamw_param_info,
        out_ratio: *mut f64,
        calls: *mut core::ffi::c_void,
    ) -> i32 {
        // SAFETY: the library's pointers, and a number of the test's.
        unsafe {
            *out_ratio = 1.0 / (1.0 + (*info).param as f64 + (*info).step as f64);
            (*calls.cast::<Cell<u32>>()).update(|calls| calls + 1);
        }
        0
    }
    let _device = Device::new();
    for nonfinite in [ADAMW_NONFINITE_PROPAGATE, ADAMW_NONFINITE_SKIP] {
        let (clip, clip_norm) = (ADAMW_CLIP_NORM, 0.5);
        let calls = [Cell::new(0u32), Cell::new(0)];
        let mut twin = Twin::new(&adamw_config { nonfinite, clip, clip_norm, ..config() });
        several(&mut twin);
        twin.host.set_lr_ratio(Some(ratio), &calls[0]);
        twin.device.set_lr_ratio(Some(ratio), &calls[1]);
        twin.both(|handle| {
            let exponential = schedule(ADAMW_SCHEDULE_EXPONENTIAL);
            handle.set_schedule(&adamw_schedule { lr: 0.1, gamma: 0.9, ..exponential }).unwrap();
            handle.set_grad_scale(8.0).unwrap();
        });
        steps(&mut twin, 2);
        assert_eq!(calls.each_ref().map(Cell::get), [14, 14]);
        twin.set_grads();
        twin.write_grad(3, &Array::of(Dtype::F64, &vec![f64::NAN; 5_000]));
        twin.step();
        twin.assert_same();
        assert_eq!(twin.host.lr().to_bits(), twin.device.lr().to_bits());
        steps(&mut twin, 2);
    }
}

#[test]
fn a_gradient_that_overflows_when_the_scale_is_taken_out_is_not_finite_there_either() {
    let _device = Device::new();
    // With the flag the host waits and decides; without, the device does.
    for waits in [false, true] {
        for dtype in [Dtype::F32, Dtype::F64] {
            let nonfinite = ADAMW_NONFINITE_SKIP;
            let mut twin = Twin::new(&adamw_config { nonfinite, ..config() });
            let flag = Array::zeros(Dtype::F32, 1);
            if waits {
                let flag = flag.data().cast();
                twin.both(|handle| handle.set_found_inf(core::ptr::null(), flag));
            }
            twin.add(dtype, 100);
            twin.set_grad(0, Array::of(dtype, &[1e20; 100]));
            twin.both(|handle| handle.set_grad_scale(2f64.powi(-100)).unwrap());
            twin.step();
            twin.assert_same();
            let info = twin.device.step_info();
            let skips = u32::from(dtype == Dtype::F32);
            assert_eq!((info.skipped, info.n_nonfinite), (skips, u64::from(skips)), "{dtype:?}");
        }
    }
}

/// A ratio of the host's, a `Cell<f64>`; below 0 it fails.
extern "C" fn ratio_of(
    _: *const adamw_param_info,
    out_ratio: *mut f64,
    ratio: *mut core::ffi::c_void,
) -> i32 {
    // SAFETY: the library's pointer, and a number of the test's.
    unsafe {
        *out_ratio = (*ratio.cast::<Cell<f64>>()).get();
        i32::from(*out_ratio < 0.0)
    }
}

#[test]
fn a_ratio_that_is_taken_back_scales_no_further_step() {
    let _device = Device::new();
    for (ratio, prepares) in [(0.1, false), (0.0, false), (0.1, true)] {
        let ratio = Cell::new(ratio);
        let mut twin = Twin::new(&adamw_config { lr: 0.1, ..config() });
        twin.add(Dtype::F32, 300);
        twin.set_grads();
        twin.step();
        twin.both(|handle| handle.set_lr_ratio(Some(ratio_of), &ratio));
        twin.step();
        twin.both(|handle| handle.set_lr_ratio(None, &()));
        if prepares {
            twin.both(|handle| handle.prepare().unwrap());
        }
        twin.step();
        twin.assert_same();
        twin.both(|handle| handle.set_lr_ratio(Some(ratio_of), &ratio));
        twin.step();
        twin.assert_same();
    }
}

#[test]
fn a_step_that_is_skipped_asks_for_no_ratio() {
    let _device = Device::new();
    for (fails, nonfinite) in
        [(false, ADAMW_NONFINITE_SKIP), (true, ADAMW_NONFINITE_SKIP), (true, ADAMW_NONFINITE_FAIL)]
    {
        let ratio = Cell::new(0.5);
        let mut twin = Twin::new(&adamw_config { nonfinite, ..config() });
        twin.add(Dtype::F32, 300);
        twin.both(|handle| handle.set_lr_ratio(Some(ratio_of), &ratio));
        steps(&mut twin, 1);
        ratio.set(if fails { -1.0 } else { 0.25 });
        twin.write_grad(0, &Array::of(Dtype::F32, &[f64::NAN; 300]));
        let answers = [&twin.host, &twin.device].map(Handle::try_step);
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0].is_ok(), nonfinite == ADAMW_NONFINITE_SKIP);
        // Where it matters, both are told of the error.
        let grad = Array::ordinary(Dtype::F32, 300, &mut twin.random);
        twin.write_grad(0, &grad);
        let answers = [&twin.host, &twin.device].map(Handle::try_step);
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0].is_err(), fails);
        ratio.set(0.25);
        steps(&mut twin, 2);
    }
}

#[test]
fn the_loss_scaler_and_the_flags_of_the_host_know_what_the_device_finds() {
    let _device = Device::new();
    let mut twin = Twin::new(&config());
    several(&mut twin);
    let flags = [Array::zeros(Dtype::F32, 1), Array::zeros(Dtype::F32, 1)];
    for (handle, flag) in [&twin.host, &twin.device].into_iter().zip(&flags) {
        handle.set_found_inf(core::ptr::null(), flag.data().cast());
        let scaler = loss_scaler(16.0, 2, 1);
        handle.set_scaler(&scaler).unwrap();
    }
    steps(&mut twin, 3);
    twin.set_grads();
    twin.write_grad(3, &Array::of(Dtype::F64, &vec![f64::NAN; 5_000]));
    twin.step();
    twin.assert_same();
    assert_eq!(flags.each_ref().map(|flag| flag.get(0)), [1.0, 1.0]);
    assert_eq!(twin.host.grad_scale(), twin.device.grad_scale());
    steps(&mut twin, 1);
    assert_eq!(flags.each_ref().map(|flag| flag.get(0)), [0.0, 0.0]);
}

#[test]
fn to_prepare_a_step_hides_no_change_from_it() {
    let _device = Device::new();
    let mut twin = Twin::new(&config());
    twin.add_with(Dtype::F32, 100, false, |param| param);
    twin.add(Dtype::F32, 100);
    steps(&mut twin, 3);
    twin.both(|handle| handle.edit_options(0, |options| options.frozen = 1));
    twin.both(|handle| handle.edit_options(1, |options| options.lr_scale = 0.5));
    twin.both(|handle| handle.prepare().unwrap());
    twin.step();
    twin.assert_same();
    assert_eq!([twin.device.info(0).step, twin.device.info(1).step], [3, 4]);
}

#[test]
fn to_prepare_a_step_fills_only_the_masters_of_that_step() {
    let _device = Device::new();
    let mut twin = Twin::new(&adamw_config { multi_precision: 1, ..config() });
    twin.add(Dtype::Bf16, 100);
    twin.add(Dtype::Bf16, 100);
    let grad = |twin: &mut Twin| Array::ordinary(Dtype::Bf16, 100, &mut twin.random);
    let first = grad(&mut twin);
    twin.set_grad(0, first);
    twin.both(|handle| handle.prepare().unwrap());
    twin.step();
    // The other is written before its first step.
    let values = grad(&mut twin);
    twin.write_param(1, &values);
    let second = grad(&mut twin);
    twin.set_grad(1, second);
    twin.step();
    twin.assert_same();
}

#[test]
fn statistics_have_the_same_bits() {
    let _device = Device::new();
    for precision in [
        ADAMW_PRECISION_DEFAULT,
        ADAMW_PRECISION_SPLIT,
        ADAMW_PRECISION_KAHAN,
        ADAMW_PRECISION_STOCHASTIC,
    ] {
        let multi_precision = u32::from(precision == ADAMW_PRECISION_DEFAULT);
        let nonfinite = ADAMW_NONFINITE_SKIP;
        let mut twin =
            Twin::new(&adamw_config { precision, multi_precision, nonfinite, ..config() });
        twin.add(Dtype::Bf16, 40_003);
        twin.both(|handle| handle.set_statistics(1).unwrap());
        twin.add(Dtype::F32, 5_000);
        twin.add(Dtype::F64, 4_097);
        twin.add_with(Dtype::F32, 900, false, |param| param);
        if precision != ADAMW_PRECISION_SPLIT && precision != ADAMW_PRECISION_STOCHASTIC {
            twin.add(Dtype::F16, 16_385);
        }
        let norms = |info: adamw_step_info| {
            assert_eq!(info.has_statistics, u32::from(info.skipped == 0));
            assert!(info.update_norm > 0.0 || info.skipped == 1);
            (info.update_norm.to_bits(), info.param_norm.to_bits())
        };
        for step in 0..4 {
            twin.set_grads();
            if step == 2 {
                twin.write_grad(2, &Array::of(Dtype::F64, &vec![f64::NAN; 4_097]));
            }
            twin.step();
            twin.assert_same();
            assert_eq!(norms(twin.host.step_info()), norms(twin.device.step_info()));
        }
    }
}

#[test]
fn a_master_that_nobody_filled_fails_the_first_step_by_name() {
    let _device = Device::new();
    for (dtype, wrong) in [(Dtype::Bf16, 4_000), (Dtype::F16, 1)] {
        let handle = Handle::new(&adamw_config { multi_precision: 1, ..config() });
        let values: Vec<f64> = (0..5_000).map(|i| f64::from(i) / 64.0).collect();
        let param = Array::of(dtype, &values);
        let master = Array::of(Dtype::F32, &param.values());
        let on_device = [&param, &master, &param].map(|array| OnDevice::of(array, 0));
        let mut tensors = [None; 9];
        (tensors[0], tensors[1]) = (Some(on_device[0].tensor()), Some(on_device[1].tensor()));
        handle.try_add_tensors(&Param::new("w", &param), tensors).unwrap();
        handle.set_grad_tensor(0, &on_device[2].tensor()).unwrap();
        let right = master.get(wrong);
        master.set(wrong, right * 1.1);
        on_device[1].set(&master);
        for told in [handle.try_step(), handle.prepare()] {
            let text = told.unwrap_err().text;
            assert!(text.contains(&format!("element {wrong} of master")), "{text}");
        }
        master.set(wrong, right);
        on_device[1].set(&master);
        handle.step();
        assert_eq!(handle.info(0).step, 1);
    }
}

#[test]
fn step_counts_that_are_set_go_on_there_with_the_same_bits() {
    let _device = Device::new();
    for bias_correction in [ADAMW_BIAS_CORRECTION_PRODUCTS, ADAMW_BIAS_CORRECTION_CURRENT] {
        let mut twin = Twin::new(&adamw_config { bias_correction, ..config() });
        several(&mut twin);
        steps(&mut twin, 2);
        twin.both(|handle| {
            handle.set_steps(Some(&[2, 0]), &[70, 9]).unwrap();
            handle.set_steps(Some(&[1, 99]), &[5, 5]).unwrap_err();
        });
        steps(&mut twin, 2);
        twin.both(|handle| assert_eq!(handle.steps(3), [11, 4, 72]));
    }
}

#[test]
fn a_groups_learning_rate_that_the_host_keeps_is_read_and_checked_for_those_there() {
    let _device = Device::new();
    let rate = Array::of(Dtype::F32, &[1.0]);
    let mut twin = Twin::new(&config());
    several(&mut twin);
    twin.both(|handle| {
        let lr_scale_ptr = rate.data().cast();
        handle.set_group(0, &adamw_group_config { lr_scale_ptr, ..handle.group(0) }).unwrap();
    });
    steps(&mut twin, 1);
    for scale in [0.25, 3.0] {
        rate.set(0, scale);
        twin.step(); // of which nothing else is new
        twin.assert_same();
    }
    for wrong in [f64::NAN, -0.5, f64::INFINITY] {
        rate.set(0, wrong);
        twin.both(|handle| {
            let answers = [handle.try_step(), handle.step_param(0), handle.prepare()];
            for failure in answers.map(Result::unwrap_err) {
                assert_eq!(failure.status, Status::InvalidArgument);
                assert!(failure.text.contains("lr_scale"), "{}", failure.text);
            }
            assert_eq!(handle.steps(3), [3; 3]);
        });
        twin.assert_same();
    }
    rate.set(0, 0.5);
    steps(&mut twin, 1);
}

#[test]
fn every_formula_has_the_same_bits_there() {
    let _device = Device::new();
    for formula in 0..=3 {
        for bias_correction in 0..=2 {
            for independent_weight_decay in [0, 1] {
                let config = adamw_config {
                    formula,
                    bias_correction,
                    independent_weight_decay,
                    weight_decay: 0.3,
                    eps: 0.01,
                    ..config()
                };
                let mut twin = Twin::new(&config);
                several(&mut twin);
                steps(&mut twin, 3);
            }
        }
    }
}

#[test]
fn state_that_is_written_by_name_goes_on_with_the_same_bits() {
    let _device = Device::new();
    let config = adamw_config { amsgrad: 1, multi_precision: 1, ..config() };
    let mut twin = Twin::new(&config);
    several(&mut twin);
    steps(&mut twin, 3);
    // What the device has goes to a host, and what the host has to a device.
    let other = Twin::new(&config);
    let mut other = other;
    several(&mut other);
    for (from, to) in [(&twin.device, &other.host), (&twin.host, &other.device)] {
        for number in 0..7 {
            let name = format!("w{number}");
            for (part, values) in crate::common::state::state(from, number, &name) {
                to.set_state(&format!("state.{name}.{part}"), &values).unwrap();
            }
            for counter in ["step", "beta1_power", "beta2_power"] {
                let value = Array::zeros(Dtype::F64, 1);
                let counter = format!("state.{name}.{counter}");
                from.get_state(&counter, &value).unwrap();
                to.set_state(&counter, &value).unwrap();
            }
        }
    }
    steps(&mut other, 3);
    assert_eq!(other.device.info(0).step, 6);
}

// ---------------------------------------------------------------------------------- memory of others

#[test]
fn memory_that_is_not_the_devices_is_refused_by_name() {
    let _device = Device::new();
    let handle = Handle::new(&config());
    let (array, rows) = (Array::zeros(Dtype::F32, 12), Rows::i64(&[1, 0]));
    let values = Array::zeros(Dtype::F32, 6).shaped(&[2, 3]);
    let (param, grad) = (OnDevice::of(&array, 0), OnDevice::of(&array, 0));
    let (listed, copied) = (RowsOnDevice::of(&rows), OnDevice::of(&values, 0));
    let add = |handle: &Handle, name: &str, tensor: adamw_tensor, offload| {
        let mut tensors = [None; 9];
        tensors[0] = Some(tensor);
        let param = Param { offload, ..Param::new(name, &array) };
        handle.try_add_tensors(&param, tensors).map(|_| ())
    };
    // The host's memory, said to be the device's; and memory of the device's that ends too early.
    let labelled = |tensor| adamw_tensor { device: param.tensor().device, ..tensor };
    let long = [1 << 40];
    let longer =
        adamw_tensor { shape: long.as_ptr().cast_mut(), strides: null_mut(), ..param.tensor() };
    add(&handle, "w", param.tensor(), false).unwrap();
    let other = OnDevice::of(&array, 0);
    add(&handle, "o", other.tensor(), true).unwrap();
    let (host, short) = (labelled(array.tensor()), labelled(rows.tensor()));
    let inputs = |at: [u64; 3]| handle.set_device_inputs(at);
    let moments = [0, 1].map(|_| OnDevice::of(&array, 0));
    let stated = OnDevice::of(&array, 0);
    let mut tensors = [None; 9];
    (tensors[0], tensors[2], tensors[3]) =
        (Some(stated.tensor()), Some(moments[0].tensor()), Some(moments[1].tensor()));
    handle.try_add_tensors(&Param::new("s", &array), tensors).unwrap();
    let rebind = |param, buffer, tensor| handle.rebind_tensors(&[(param, buffer, tensor)]);
    let address = array.data().expose_provenance();
    let refused = [
        ("param \"h\": param is", address, add(&handle, "h", host, false)),
        (
            "param \"l\": param is",
            param.address() as usize,
            add(&Handle::new(&config()), "l", longer, false),
        ),
        ("param \"w\": grad is", address, handle.set_grad_tensor(0, &host)),
        ("param \"o\": grad is", address, handle.set_grad_tensor(1, &host)),
        (
            "param \"w\": rows is",
            short.data.expose_provenance(),
            handle.set_sparse_grad_tensors(0, &short, &copied.tensor()),
        ),
        (
            "param \"w\": grad is",
            values.data().expose_provenance(),
            handle.set_sparse_grad_tensors(0, &listed.tensor(), &labelled(values.tensor())),
        ),
        ("param \"w\": param is", address, rebind(0, ADAMW_BUFFER_PARAM, host)),
        ("param \"o\": param is", address, rebind(1, ADAMW_BUFFER_PARAM, host)),
        ("param \"s\": exp_avg is", address, rebind(2, ADAMW_BUFFER_EXP_AVG, host)),
        (
            "param \"w\": rows is",
            short.data.expose_provenance(),
            handle.sparse_prepare_tensor(0, &short),
        ),
        ("inputs.lr is", address, inputs([address as u64, 0, 0])),
        ("inputs.found_inf is", address, inputs([0, 0, address as u64])),
    ];
    for (what, address, answer) in refused {
        let Failure { status, text } = answer.expect_err(what);
        assert_eq!(status, Status::InvalidArgument, "{text}");
        assert_eq!(text, format!("{what} at {address:#x}, which is no memory of device 0"));
    }
    handle.set_grad_tensor(0, &grad.tensor()).unwrap();
    handle.set_grad_tensor(1, &grad.tensor()).unwrap();
    handle.set_grad_tensor(2, &grad.tensor()).unwrap();
    handle.step();
}

#[test]
fn a_learning_rate_that_is_too_large_for_the_type_fails_the_step_there_too() {
    let _device = Device::new();
    for (dtype, is_taken) in [(Dtype::F32, false), (Dtype::F64, true)] {
        let mut twin = Twin::new(&config());
        twin.add(dtype, 100);
        twin.set_grads();
        twin.step();
        twin.both(|handle| handle.set_lr(1e38));
        let steps = [&twin.host, &twin.device].map(|handle| handle.try_step().is_ok());
        assert_eq!(steps, [is_taken; 2], "{dtype:?}");
        twin.assert_same();
    }
}

#[test]
fn a_step_that_the_device_skips_is_none_of_an_empty_parameter_in_the_hosts_memory() {
    let _device = Device::new();
    let mut twin = Twin::new(&adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..config() });
    twin.add(Dtype::F32, 3);
    twin.add_with(Dtype::F32, 0, false, |param| param);
    twin.set_grads();
    for grad in [1.0, f64::NAN, 2.0] {
        twin.write_grad(0, &Array::of(Dtype::F32, &[0.5, grad, 0.25]));
        twin.step();
        twin.assert_same();
    }
    assert_eq!(twin.device.info(1).step, 2);
}
