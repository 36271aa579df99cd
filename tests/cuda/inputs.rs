//! Numbers that the device reads are looked at where they are read: one that no step can use changes nothing, in plain
//! steps and in every launch of a graph.

use crate::common::array::{Array, Dtype};
use crate::common::device::{Device, OnDevice};
use crate::common::handle::{Failure, Handle, config, schedule, with_clip};
use crate::common::inputs::{Input, Reading, UNUSABLE, USABLE};
use crate::common::kernels::Case;
use crate::common::rows::Rows;
use crate::common::twin::Twin;
use adamw::ffi::*;
use std::ptr::null;

/// A twin with a parameter of this format, and gradients.
fn of_format(case: &Case) -> Twin {
    let is_coded = matches!(case.moments, ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT);
    let mut twin = Twin::new(&case.config());
    twin.add(case.kept.param, if is_coded { 4096 + 77 } else { 77 });
    twin.set_grads();
    twin
}

/// A twin whose steps look at their gradients.
fn measuring(clip: adamw_clip, nonfinite: adamw_nonfinite, clear_grads: u32) -> Twin {
    let config = adamw_config { clip_norm: 0.3, nonfinite, clear_grads, ..config() };
    let mut twin = Twin::new(&with_clip(clip, config));
    twin.add(Dtype::F32, 600);
    twin.add(Dtype::F64, 30);
    twin.set_grads();
    twin
}

fn all_measuring() -> impl Iterator<Item = Twin> {
    let clips = [ADAMW_CLIP_NONE, ADAMW_CLIP_NORM, ADAMW_CLIP_GLOBAL_NORM];
    clips.into_iter().flat_map(|clip| {
        [ADAMW_NONFINITE_PROPAGATE, ADAMW_NONFINITE_SKIP]
            .into_iter()
            .flat_map(move |nonfinite| [0, 1].map(|clears| measuring(clip, nonfinite, clears)))
    })
}

/// Steps, is given every number that cannot be used, and steps.
fn skips_all(twin: Twin, is_captured: bool) {
    let mut reading = Reading::new(twin, is_captured);
    reading.assert_steps(Input::Lr, 0.02);
    for (input, value) in UNUSABLE {
        reading.assert_skips(input, value);
    }
    reading.assert_steps(Input::Lr, 0.03);
    reading.assert_skips(Input::Lr, f32::NAN);
}

#[test]
fn a_number_that_no_step_can_use_changes_nothing_in_any_format() {
    let _device = Device::new();
    for case in Case::formats() {
        for is_captured in [false, true] {
            skips_all(of_format(&case), is_captured);
        }
    }
}

#[test]
fn nor_where_gradients_are_measured() {
    let _device = Device::new();
    for is_captured in [false, true] {
        all_measuring().for_each(|twin| skips_all(twin, is_captured));
    }
}

#[test]
fn nor_of_rows_that_lag() {
    let _device = Device::new();
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        for is_captured in [false, true] {
            let mut twin = Twin::new(&adamw_config { lazy_mode, ..config() });
            twin.add(Dtype::F32, 200);
            let values = Array::ordinary(Dtype::F32, 15, &mut twin.random);
            twin.set_sparse_grad(0, Rows::i64(&[3, 8, 3]), values);
            let mut reading = Reading::new(twin, is_captured);
            for (input, value) in UNUSABLE {
                reading.assert_skips(input, value);
                reading.assert_steps(Input::Lr, 0.02);
            }
        }
    }
}

#[test]
fn numbers_as_far_as_they_go_are_stepped_with() {
    let _device = Device::new();
    for is_captured in [false, true] {
        for (input, value) in USABLE {
            let f32_and_f64 = || measuring(ADAMW_CLIP_NONE, ADAMW_NONFINITE_PROPAGATE, 0);
            for twin in all_measuring().chain([f32_and_f64()]) {
                let mut reading = Reading::new(twin, is_captured);
                reading.assert_steps(input, value);
                reading.assert_steps(Input::Lr, 0.5);
            }
        }
    }
}

/// What a parameter computes in, what its learning rate and its decay are multiplied by, and the largest number that
/// it can be stepped with.
const LARGEST: [(Dtype, f64, f64, f32); 7] = [
    (Dtype::F32, 1.0, 0.0, f32::MAX * 0.5),
    (Dtype::Bf16, 1.0, 0.0, f32::MAX * 0.5),
    (Dtype::F32, 1.0, 4.0, f32::MAX * 0.25),
    (Dtype::F32, 1e30, 0.0, 1.7e8),
    (Dtype::F64, 1.0, 0.0, f32::MAX),
    (Dtype::F64, 1e300, 0.0, 8.9e7),
    (Dtype::F64, 0.0, 0.0, f32::MAX),
];

#[test]
fn a_learning_rate_is_looked_at_in_the_type_of_every_parameter() {
    let _device = Device::new();
    for (dtype, lr_scale, weight_decay, largest) in LARGEST {
        for is_captured in [false, true] {
            let mut twin = Twin::new(&adamw_config { weight_decay, beta1: 0.5, ..config() });
            twin.add(dtype, 100);
            twin.add(Dtype::F64, 10);
            twin.both(|handle| handle.edit_options(0, |options| options.lr_scale = lr_scale));
            twin.set_grads();
            let mut reading = Reading::new(twin, is_captured);
            reading.assert_steps(Input::Lr, 1e-6);
            for larger in [largest * 1.01, f32::INFINITY] {
                reading.assert_skips(Input::Lr, larger);
            }
            reading.assert_steps(Input::Lr, largest);
        }
    }
}

#[test]
fn a_flag_is_no_number_that_cannot_be_used() {
    let _device = Device::new();
    for is_captured in [false, true] {
        for twin in all_measuring() {
            let reading = Reading::new(twin, is_captured);
            for flag in [1.0, f32::NAN, -1.0] {
                reading.set(Input::FoundInf, flag);
                reading.step_there();
                let info = reading.twin.device.step_info();
                assert_eq!((info.skipped, info.invalid_inputs), (1, 0), "{flag}");
            }
        }
    }
}

#[test]
fn a_graph_goes_by_the_largest_learning_rate_that_it_was_captured_with() {
    let _device = Device::new();
    let mut twin = Twin::new(&config());
    twin.add(Dtype::F32, 100);
    twin.set_grads();
    let mut reading = Reading::new(twin, true);
    reading.assert_steps(Input::Lr, 0.02);
    // The graph's step keeps its scale of 1.
    let scale = |handle: &Handle, lr_scale| {
        handle.edit_options(0, |options| options.lr_scale = lr_scale);
    };
    scale(&reading.twin.device, 1e38);
    reading.twin.device.prepare().unwrap();
    reading.assert_steps(Input::Lr, 100.0);
    reading.assert_skips(Input::Lr, 1e38);
    scale(&reading.twin.device, 1.0);
    reading.assert_steps(Input::Lr, 0.02);
}

extern "C" fn ratio(_: *const adamw_param_info, out: *mut f64, _: *mut core::ffi::c_void) -> i32 {
    // SAFETY: the library's pointer.
    unsafe { *out = 0.5 };
    0
}

/// What makes the host know about a step.
type Ask = fn(&mut Twin, &Array);

const ASKS: [(&str, Ask); 5] = [
    ("a flag that is told", |twin, flag| {
        twin.both(|handle| handle.set_found_inf(null(), flag.data().cast()));
    }),
    ("a ratio", |twin, _| twin.both(|handle| handle.set_lr_ratio(Some(ratio), &()))),
    ("a parameter in the host's memory", |twin, _| {
        twin.add_with(Dtype::F32, 30, false, |param| param);
    }),
    ("an empty parameter in the host's memory", |twin, _| {
        twin.add_with(Dtype::F32, 0, false, |param| param);
    }),
    ("an offloaded parameter", |twin, _| {
        twin.add_with(Dtype::F32, 30, true, |mut param| {
            param.offload = true;
            param
        });
    }),
];

#[test]
fn a_step_that_the_host_has_to_know_about_fails_with_a_learning_rate_that_it_cannot_use() {
    let _device = Device::new();
    for nonfinite in [ADAMW_NONFINITE_PROPAGATE, ADAMW_NONFINITE_SKIP, ADAMW_NONFINITE_FAIL] {
        for (what, ask) in ASKS {
            let mut twin = Twin::new(&adamw_config { nonfinite, clear_grads: 1, ..config() });
            twin.add(Dtype::F32, 5_000);
            twin.add(Dtype::F64, 10);
            let flag = Array::of(Dtype::F32, &[0.0]);
            ask(&mut twin, &flag);
            twin.set_grads();
            let lr = OnDevice::of(&Array::of(Dtype::F32, &[0.0]), 0);
            twin.device.set_device_inputs([lr.address(), 0, 0]).unwrap();
            let set = |value: f32| lr.set(&Array::of(Dtype::F32, &[value.into()]));
            for (n, (_, value)) in
                UNUSABLE.iter().filter(|(input, _)| *input == Input::Lr).enumerate()
            {
                set(*value);
                let Failure { status, text } = twin.device.try_step().expect_err(what);
                assert_eq!(status, Status::InvalidArgument, "{what}: {text}");
                assert!(text.starts_with("lr "), "{what}: {text}");
                let good = 0.01 * (1 + n) as f32;
                // What the host's own parameters are stepped with is the host's number.
                twin.both(|handle| handle.set_lr(good.into()));
                set(good);
                twin.step();
                twin.assert_same_state();
                twin.write_grads();
            }
            set(1e38);
            let text = twin.device.try_step().expect_err(what).text;
            assert!(text.contains("lr * lr_scale"), "{what}: {text}");
            assert_eq!(twin.device.step_info().invalid_inputs, 0);
            twin.assert_same_state();
        }
    }
}

#[test]
fn a_schedule_stays_where_it_is_when_a_step_fails_with_a_learning_rate_on_the_device() {
    let _device = Device::new();
    let mut twin = Twin::new(&config());
    twin.add(Dtype::F32, 500);
    twin.set_grads();
    let exponential = schedule(ADAMW_SCHEDULE_EXPONENTIAL);
    let exponential = adamw_schedule { lr: 0.1, gamma: 0.5, ..exponential };
    twin.both(|handle| handle.set_schedule(&exponential).unwrap());
    let lr = OnDevice::of(&Array::of(Dtype::F32, &[f64::NAN]), 0);
    twin.device.set_device_inputs([lr.address(), 0, 0]).unwrap();
    for _ in 0..3 {
        assert_eq!(twin.device.try_step().unwrap_err().status, Status::InvalidArgument);
        assert_eq!(twin.device.schedule_state().unwrap().index, 0);
    }
    lr.set(&Array::of(Dtype::F32, &[0.1]));
    twin.device.step();
    assert_eq!(twin.device.schedule_state().unwrap().index, 1);
    // A scale that is read there could skip the step, and nobody would know.
    twin.device.set_device_inputs([0, lr.address(), 0]).unwrap();
    assert_eq!(twin.device.try_step().unwrap_err().status, Status::Unsupported);
    assert_eq!(twin.device.schedule_state().unwrap().index, 1);
}

#[test]
fn the_hosts_learning_rate_is_nothing_to_a_step_that_reads_it_on_the_device() {
    let _device = Device::new();
    let mut twin = Twin::new(&config());
    twin.add(Dtype::F32, 500);
    twin.set_grads();
    let mut reading = Reading::new(twin, false);
    reading.twin.device.set_lr(1e300);
    reading.assert_steps(Input::Lr, 0.02);
}
