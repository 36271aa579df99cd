//! What a step has changed, as a device counts it.

use crate::common::array::{Array, Dtype};
use crate::common::device::{Device, take_log};
use crate::common::handle::config;
use crate::common::kernels::{CHUNK, Case};
use crate::common::rows::Rows;
use crate::common::twin::Twin;
use adamw::ffi::*;

/// Steps a parameter of so many elements, half of which have a momentum; how many updates are lost.
fn n_unchanged(case: &Case, n: usize, lr: f64) -> u64 {
    let mut twin = Twin::new(&adamw_config { lr, ..case.config() });
    twin.add(case.kept.param, n);
    twin.both(|handle| handle.set_statistics(1).unwrap());
    for _ in 0..2 {
        let grad = Array::ordinary(case.grad(), n, &mut twin.random);
        (0..n).filter(|i| i % 2 == 0).for_each(|i| grad.set(i, 0.0));
        twin.set_grad(0, grad);
        twin.step();
        twin.assert_same();
    }
    twin.device.step_info().n_unchanged
}

#[test]
fn updates_that_rounding_has_lost_are_counted_there_as_on_the_processor_in_every_format() {
    let _device = Device::with(&[("blocks", "2")]);
    for case in Case::formats() {
        for n in [131, 4096 + 77] {
            let lost = n_unchanged(&case, n, 1e-30);
            assert!(lost > 0 && lost <= n as u64, "{lost} of {n}: {case:?}");
            n_unchanged(&case, n, 0.01);
            assert_eq!(n_unchanged(&case, n, 0.0), 0, "{case:?}");
        }
    }
    n_unchanged(&Case::all()[0], 2 * CHUNK + 5, 1e-7);
}

/// A twin with statistics, a part of which may be in the host's memory, and gradients.
fn twin(is_mixed: bool) -> Twin {
    let mut twin = Twin::new(&adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..config() });
    for (i, n) in [5_000, 7, 4_097, 30].into_iter().enumerate() {
        twin.add_with(Dtype::F32, n, !is_mixed || i % 2 == 0, |param| param);
    }
    twin.both(|handle| handle.set_statistics(1).unwrap());
    twin.set_grads();
    twin
}

#[test]
fn a_step_with_statistics_waits_for_nothing() {
    let _device = Device::with(&[("lazy", "1")]);
    let twin = twin(false);
    for _ in 0..3 {
        twin.host.step();
        take_log();
        twin.device.step();
        let log = take_log();
        assert!(!log.iter().any(|line| line.contains("StreamSynchronize")), "{log:#?}");
    }
    twin.assert_same();
}

/// What a host may do between a step and the question what it has changed.
type Between = fn(&mut Twin);

const BETWEEN: [(&str, Between); 8] = [
    ("nothing", |_| ()),
    ("statistics off", |twin| twin.both(|handle| handle.set_statistics(0).unwrap())),
    ("statistics again", |twin| twin.both(|handle| handle.set_statistics(1).unwrap())),
    ("many parameters", |twin| {
        for n in 0..20 {
            twin.add(Dtype::F32, 900 * n);
        }
    }),
    ("many groups", |twin| {
        for _ in 0..9 {
            twin.both(|handle| {
                handle.add_group(|_| ());
            });
        }
    }),
    ("no parameter", |twin| {
        for number in 0..4 {
            twin.both(|handle| handle.remove(number).unwrap());
        }
    }),
    ("gradients without a step", |twin| {
        twin.both(|handle| {
            handle.grad_norm().unwrap();
        });
        twin.device.prepare().unwrap();
    }),
    ("a sparse gradient", |twin| {
        let values = Array::ordinary(Dtype::F32, 2 * 5, &mut twin.random);
        twin.set_sparse_grad(0, Rows::i64(&[3, 7]), values);
    }),
];

#[test]
fn what_a_step_has_changed_can_be_asked_whenever() {
    let _device = Device::new();
    for is_mixed in [false, true] {
        for (name, between) in BETWEEN {
            let mut twin = twin(is_mixed);
            twin.step();
            between(&mut twin);
            let [host, device] = [&twin.host, &twin.device].map(|handle| handle.step_info());
            for (is, expected) in
                [(device.update_norm, host.update_norm), (device.param_norm, host.param_norm)]
            {
                assert!(expected > 0.0);
                assert_eq!(is.to_bits(), expected.to_bits(), "{name}, {is_mixed}");
            }
            assert_eq!(device.n_unchanged, host.n_unchanged, "{name}");
            assert_eq!(device.has_statistics, 1, "{name}");
        }
    }
}

#[test]
fn a_step_that_the_device_skips_has_no_statistics() {
    let _device = Device::new();
    let mut twin = twin(false);
    for value in [f64::NAN, 1.0, f64::INFINITY] {
        twin.write_grads();
        twin.write_grad(1, &Array::of(Dtype::F32, &[value; 7]));
        twin.step();
        twin.assert_same();
        assert_eq!(twin.device.step_info().has_statistics, u32::from(value == 1.0));
    }
}
