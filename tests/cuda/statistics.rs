//! What a step has changed, as a device counts it.

use crate::common::array::{Array, Dtype};
use crate::common::device::{Device, Graph, OnDevice, Stream, take_log, waits};
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
    let mut logs = Vec::new();
    for _ in 0..5 {
        twin.host.step();
        take_log();
        twin.device.step();
        logs.push(take_log());
    }
    assert_eq!(waits(&logs), [""; 0], "{logs:#?}");
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

/// A twin with statistics whose tables have lists of rows, beside a parameter whose gradient is dense.
fn with_rows(config: &adamw_config, dtype: Dtype, (height, row): (usize, usize)) -> Twin {
    let multi_precision = u32::from(config.precision == ADAMW_PRECISION_DEFAULT);
    let mut twin = Twin::new(&adamw_config { multi_precision, ..*config });
    twin.add(dtype, height * row);
    twin.add(Dtype::F32, 5_000);
    twin.add(dtype, 40 * 3);
    twin.set_grads();
    twin.both(|handle| handle.set_statistics(1).unwrap());
    twin
}

/// Lists of rows in any order, some twice, for both tables.
fn list_rows(twin: &mut Twin, dtype: Dtype, (height, row): (usize, usize), n: usize) {
    for (number, height, row, n) in [(0, height, row, n), (2, 40, 3, n.min(47))] {
        let rows: Vec<usize> = (0..n).map(|_| twin.random.next() as usize % height).collect();
        let values = Array::ordinary(dtype, n * row, &mut twin.random);
        twin.set_sparse_grad(number, Rows::i64(&rows), values);
    }
}

/// Of formats that are kept in every way.
fn forms() -> [(Dtype, adamw_precision, adamw_moments); 5] {
    [
        (Dtype::F32, ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_F32),
        (Dtype::F64, ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_F32),
        (Dtype::F16, ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_BF16),
        (Dtype::Bf16, ADAMW_PRECISION_SPLIT, ADAMW_MOMENTS_F32),
        (Dtype::Bf16, ADAMW_PRECISION_STOCHASTIC, ADAMW_MOMENTS_BF16),
    ]
}

#[test]
fn what_a_step_changes_of_rows_that_are_stepped_alone_is_added_up_there_as_on_the_processor() {
    let _device = Device::with(&[("blocks", "3")]);
    let tables = [(300, 5), (7, 4_100 + 77), (900, 128), (2_000, 1)];
    for (form, (dtype, precision, moments)) in forms().into_iter().enumerate() {
        for (i, lazy_mode) in [ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT].into_iter().enumerate() {
            let table = tables[(form + i) % 4];
            let config = adamw_config { lazy_mode, precision, moments, ..config() };
            let mut twin = with_rows(&config, dtype, table);
            for n in [1, 700, 3_000, 2] {
                list_rows(&mut twin, dtype, table, if table.1 > 1_000 { n.min(30) } else { n });
                twin.step();
                twin.assert_same();
            }
        }
    }
}

#[test]
fn updates_of_rows_that_rounding_has_lost_are_counted() {
    let _device = Device::new();
    for lazy_mode in [ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        let table = (300, 5);
        let mut twin =
            with_rows(&adamw_config { lazy_mode, lr: 1e-30, ..config() }, Dtype::F32, table);
        for _ in 0..2 {
            list_rows(&mut twin, Dtype::F32, table, 400);
            twin.step();
            twin.assert_same();
            assert!(twin.device.step_info().n_unchanged > 0);
        }
    }
}

#[test]
fn a_step_with_statistics_of_rows_waits_for_nothing() {
    let _device = Device::with(&[("lazy", "1")]);
    let mut twin =
        with_rows(&adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..config() }, Dtype::F32, (300, 5));
    let mut logs = Vec::new();
    for _ in 0..5 {
        list_rows(&mut twin, Dtype::F32, (300, 5), 20);
        twin.host.step();
        take_log();
        twin.device.step();
        logs.push(take_log());
    }
    assert_eq!(waits(&logs), [""; 0], "{logs:#?}");
    twin.assert_same();
}

/// A twin whose step with statistics has been captured.
fn captured(twin: &Twin, stream: &Stream) -> (Graph, OnDevice) {
    let lr = OnDevice::of(&Array::of(Dtype::F32, &[0.5]), 0);
    twin.both(|handle| handle.set_lr(0.5));
    twin.device.set_stream(stream.raw().cast()).unwrap();
    twin.device.set_device_inputs([lr.address(), 0, 0]).unwrap();
    twin.device.prepare().unwrap();
    (stream.capture(|| twin.device.step()), lr)
}

#[test]
fn each_launch_of_a_graph_has_statistics() {
    let _device = Device::new();
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        for nonfinite in [ADAMW_NONFINITE_PROPAGATE, ADAMW_NONFINITE_SKIP] {
            let stream = Stream::new(); // which lives longer than the handle that steps on it
            let config = adamw_config { lazy_mode, nonfinite, ..config() };
            let mut twin = with_rows(&config, Dtype::F32, (300, 5));
            list_rows(&mut twin, Dtype::F32, (300, 5), 70);
            let (graph, _lr) = captured(&twin, &stream);
            for launch in 0..6 {
                let grad = Array::ordinary(Dtype::F32, 5_000, &mut twin.random);
                let is_bad = nonfinite == ADAMW_NONFINITE_SKIP && launch % 3 == 1;
                if is_bad {
                    grad.set(77, f64::NAN);
                }
                twin.write_grad(1, &grad);
                stream.launch(&graph);
                stream.wait();
                twin.host.step();
                twin.assert_same();
                assert_eq!(twin.device.step_info().has_statistics, u32::from(!is_bad));
            }
            // A plain step has its own.
            twin.step();
            stream.wait();
            twin.assert_same();
        }
    }
}

#[test]
fn a_graph_keeps_weights_where_it_did_when_there_are_more_parameters() {
    let _device = Device::new();
    let stream = Stream::new();
    let mut twin = twin(false);
    let (graph, _lr) = captured(&twin, &stream);
    twin.add(Dtype::F32, 200_000);
    for _ in 0..2 {
        stream.launch(&graph);
        stream.wait();
        twin.host.step();
        twin.assert_same();
    }
}
