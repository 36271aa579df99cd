//! What a step ends: what was accumulated, measured or is to be cleared of every parameter that it was asked about,
//! stepped or not; and what a load and a save make of a step that has been taken in part.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::device::Device;
use crate::common::handle::{Handle, Param, config};
use crate::common::rows::Rows;
use crate::common::twin::Twin;
use adamw::ffi::*;

fn one(value: f64) -> Array {
    Array::of(Dtype::F32, &[value])
}

/// Two parameters of one element.
fn pair(config: &adamw_config) -> (Handle, [Array; 2]) {
    let handle = Handle::new(config);
    let params = [one(1.0), one(1.0)];
    for (name, param) in ["a", "b"].into_iter().zip(&params) {
        handle.add_array(name, param);
    }
    (handle, params)
}

fn freeze(handle: &Handle, number: u32, frozen: u32) {
    handle.edit_options(number, |options| options.frozen = frozen);
}

extern "C" fn no_closure(_: *mut f64, _: *mut core::ffi::c_void) -> i32 {
    0
}

// ---------------------------------------------------------------------------------- sums

#[test]
fn the_sum_of_a_frozen_parameter_ends_with_the_step() {
    for is_skipped in [false, true] {
        let (handle, _params) = pair(&adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..config() });
        freeze(&handle, 1, 1);
        let grad = one(if is_skipped { f64::NAN } else { 1.0 });
        handle.set_grad(0, &grad);
        for _ in 0..3 {
            handle.accumulate_grad(1, &one(2.0)).unwrap();
            handle.step();
            handle.saved(false);
        }
        freeze(&handle, 1, 0);
        handle.forget_grad(0);
        handle.step();
        assert_eq!(handle.info(1).step, 0, "nothing is left of the frozen time");
        handle.accumulate_grad(1, &one(4.0)).unwrap();
        handle.step();
        assert_eq!((handle.step_info().grad_norm, handle.info(1).step), (4.0, 1));
    }
}

#[test]
fn a_step_of_some_leaves_the_sums_of_the_others() {
    let (handle, _params) = pair(&adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..config() });
    let norm = |handle: &Handle| {
        handle.step();
        handle.step_info().grad_norm
    };
    for frozen in [0, 1] {
        let (one, three) = (one(1.0), one(3.0));
        handle.set_grad(0, &one);
        handle.accumulate_grad(1, &three).unwrap();
        freeze(&handle, 1, frozen);
        handle.minimize(Some(no_closure), &(), None, &[1], 2).unwrap();
        handle.minimize(Some(no_closure), &(), Some(&[0]), &[], 2).unwrap();
        handle.apply_gradients(&[(0, &one)]).unwrap();
        handle.forget_grad(0);
        freeze(&handle, 1, 0);
        assert_eq!(norm(&handle), 3.0);
        assert_eq!(norm(&handle), 0.0);
    }
}

// ---------------------------------------------------------------------------------- clearing

#[test]
fn the_gradient_of_a_frozen_parameter_is_cleared_and_that_of_one_left_out_is_not() {
    let clearing = adamw_config { clear_grads: 1, nonfinite: ADAMW_NONFINITE_SKIP, ..config() };
    for (is_skipped, all_frozen) in [(false, false), (true, false), (false, true)] {
        let (handle, _params) = pair(&clearing);
        let (rows, table) = (Rows::i32(&[0]), Array::of(Dtype::F32, &[1.0; 4]));
        handle.add_array("table", &table);
        let grads = [one(1.0), one(2.0)];
        let values = Array::of(Dtype::F32, &[5.0, 5.0]);
        handle.set_grad(0, &grads[0]);
        handle.set_grad(1, &grads[1]);
        handle.set_sparse_grad(2, &rows, &values);
        freeze(&handle, 0, u32::from(all_frozen));
        freeze(&handle, 1, 1);
        freeze(&handle, 2, 1);
        for _ in 0..3 {
            grads[0].fill(if is_skipped { f64::NAN } else { 1.0 });
            grads[1].fill(2.0);
            values.fill(5.0);
            handle.minimize(Some(no_closure), &(), None, &[1, 2], 3).unwrap();
            assert_eq!([grads[1].get(0), values.get(0)], [2.0, 5.0]);
            grads[0].fill(if is_skipped { f64::NAN } else { 1.0 });
            handle.step();
            assert_eq!(handle.step_info().skipped, u32::from(is_skipped));
            assert_eq!([grads[0].get(0), grads[1].get(0), values.get(0)], [0.0; 3]);
        }
        assert_eq!([handle.info(1).step, handle.info(2).step], [0; 2]);
    }
}

#[test]
fn a_step_ends_the_same_wherever_parameters_lie() {
    for offload in [false, true] {
        for (clear_grads, nonfinite) in [(1, ADAMW_NONFINITE_PROPAGATE), (1, ADAMW_NONFINITE_SKIP)]
        {
            let _device = Device::new();
            let mut twin = Twin::new(&adamw_config { clear_grads, nonfinite, ..config() });
            for _ in 0..3 {
                twin.add_with(Dtype::F32, 300, true, |param| Param { offload, ..param });
            }
            twin.both(|handle| freeze(handle, 1, 1));
            for step in 0..5 {
                let grad = Array::ordinary(Dtype::F32, 300, &mut twin.random);
                twin.set_grad(0, grad);
                let grad = Array::ordinary(Dtype::F32, 300, &mut twin.random);
                if step < 3 {
                    twin.set_grad(1, grad);
                } else {
                    twin.accumulate(1, &grad);
                }
                if step == 1 {
                    let flag = if nonfinite == ADAMW_NONFINITE_SKIP { f64::NAN } else { 1.0 };
                    twin.write_grad(0, &Array::of(Dtype::F32, &[flag; 300]));
                }
                if step == 2 {
                    twin.both(|handle| freeze(handle, 0, 1)); // nobody is stepped
                }
                twin.step();
                twin.assert_same();
                twin.both(|handle| freeze(handle, 0, 0));
            }
            twin.both(|handle| freeze(handle, 1, 0));
            twin.step();
            twin.assert_same();
            assert_eq!(twin.device.info(1).step, 0);
        }
    }
}

// ---------------------------------------------------------------------------------- loads and saves

#[test]
fn a_load_forgets_what_was_accumulated_and_measured_before_it() {
    for params in [0, 1] {
        let (handle, _params) = pair(&adamw_config { nonfinite: ADAMW_NONFINITE_FAIL, ..config() });
        let grads = [one(1.0), one(f64::NAN)];
        let saved = handle.saved(params == 1);
        let options = adamw_load_options { params, ..load_options() };
        handle.accumulate_grad(0, &one(f64::NAN)).unwrap();
        handle.set_grad(1, &grads[1]);
        handle.grad_ready(1).unwrap();
        // A load that fails changes nothing.
        assert!(handle.load_bytes(&saved[..saved.len() - 1], &options).is_err());
        assert!(handle.saved_or_refused().unwrap_err().text.contains("accumulated"));
        grads[1].fill(2.0);
        assert_eq!(handle.try_step().unwrap_err().status, Status::Nonfinite);
        handle.load_bytes(&saved, &options).unwrap();
        handle.saved(false);
        handle.step();
        assert_eq!([handle.info(0).step, handle.info(1).step], [0, 1]);
        assert_eq!(handle.step_info().grad_norm, 2.0);
    }
}

#[test]
fn a_save_between_parameters_that_were_stepped_alone_and_others_is_refused() {
    let (handle, _params) = pair(&config());
    let grads = [one(1.0), one(1.0)];
    let set = || {
        handle.set_grad(0, &grads[0]);
        handle.set_grad(1, &grads[1]);
    };
    let saved = || handle.saved_or_refused().map(|_| ());
    let text = "param \"a\" was stepped alone and param \"b\" still has a gradient: a checkpoint would hold two \
                steps; adamw_step takes the rest of the step, or forget the gradient";
    set();
    assert_eq!(saved(), Ok(()));
    handle.step_param(0).unwrap();
    let failure = saved().unwrap_err();
    assert_eq!((failure.status, &*failure.text), (Status::InvalidArgument, text));
    handle.set_grad(0, &grads[0]);
    assert!(saved().is_err(), "the next gradient is there, the other's step is not taken");
    handle.forget_grad(0);
    // Whatever ends the step ends it.
    let ends: [(&str, &dyn Fn()); 6] = [
        ("a step", &|| handle.step()),
        ("forgotten", &|| handle.forget_grad(1)),
        ("alone too", &|| handle.step_param(1).unwrap()),
        ("frozen", &|| freeze(&handle, 1, 1)),
        ("a load", &|| handle.load_bytes(&start(), &load_options()).unwrap()),
        ("removed", &|| handle.remove(1).unwrap()),
    ];
    for (how, end) in ends {
        set();
        handle.step_param(0).unwrap();
        assert!(saved().is_err(), "{how}");
        end();
        assert_eq!(saved(), Ok(()), "{how}");
        if how == "removed" {
            break;
        }
        freeze(&handle, 1, 0);
        handle.step();
    }
}

/// What two parameters of one element that have taken no step are saved as.
fn start() -> Vec<u8> {
    pair(&config()).0.saved(false)
}

// ---------------------------------------------------------------------------------- rows that lag

/// Handles with one table of 6 rows of 10, stepped densely and with rows that lag.
fn tables(config: &adamw_config) -> [(Handle, Array); 2] {
    [ADAMW_LAZY_OFF, ADAMW_LAZY_EXACT].map(|lazy_mode| {
        let handle = Handle::new(&adamw_config { lazy_mode, lr: 0.1, ..*config });
        let table = Array::of(Dtype::Bf16, &[1.0; 60]);
        handle.add_array("w", &table);
        (handle, table)
    })
}

fn sparse_steps(tables: &[(Handle, Array); 2], rows: core::ops::Range<usize>) {
    let values = Array::of(Dtype::Bf16, &[0.25; 10]).shaped(&[1, 10]);
    for row in rows {
        let rows = Rows::i64(&[row]);
        for (handle, _) in tables {
            handle.set_sparse_grad(0, &rows, &values);
            handle.step();
            handle.forget_grad(0);
        }
    }
}

#[track_caller]
fn assert_same_tables(tables: &[(Handle, Array); 2]) {
    tables[1].0.sparse_flush();
    assert_eq!(tables[1].1.first_difference(&tables[0].1), None);
    let [dense, lazy] =
        tables.each_ref().map(|(handle, _)| crate::common::state::state(handle, 0, "w"));
    for ((part, dense), (_, lazy)) in dense.iter().zip(&lazy) {
        assert_eq!(lazy.first_difference(dense), None, "{part}");
    }
}

#[test]
fn rows_that_lag_are_brought_up_to_date_before_anything_is_overwritten() {
    let precisions = [ADAMW_PRECISION_DEFAULT, ADAMW_PRECISION_SPLIT, ADAMW_PRECISION_KAHAN];
    for precision in precisions {
        let multi_precision = u32::from(precision == ADAMW_PRECISION_DEFAULT);
        let config = adamw_config { precision, multi_precision, ..config() };
        let synced = tables(&config);
        sparse_steps(&synced, 0..5);
        synced.iter().for_each(|(handle, _)| handle.sync_master(0));
        assert_same_tables(&synced);
        sparse_steps(&synced, 1..4);
        assert_same_tables(&synced);

        let loaded = tables(&config);
        sparse_steps(&loaded, 0..3);
        let saved = loaded.each_ref().map(|(handle, _)| handle.saved(false));
        sparse_steps(&loaded, 2..6);
        for ((handle, _), saved) in loaded.iter().zip(&saved) {
            handle.load_bytes(saved, &load_options()).unwrap();
        }
        assert_same_tables(&loaded);
        sparse_steps(&loaded, 1..4);
        assert_same_tables(&loaded);
    }
}

#[test]
fn rows_that_lag_on_a_device_are_brought_up_to_date_before_anything_is_overwritten() {
    for offload in [false, true] {
        let _device = Device::new();
        let (precision, lazy_mode) = (ADAMW_PRECISION_SPLIT, ADAMW_LAZY_EXACT);
        let mut twin = Twin::new(&adamw_config { precision, lazy_mode, lr: 0.1, ..config() });
        twin.add_with(Dtype::Bf16, 60, true, |param| Param { offload, ..param });
        for (row, ends) in [(1, "synced"), (2, ""), (4, "loaded"), (3, "")] {
            let saved = [&twin.host, &twin.device].map(|handle| handle.saved(false));
            for row in row..row + 3 {
                let values = Array::ordinary(Dtype::Bf16, 10, &mut twin.random).shaped(&[1, 10]);
                let rows = Rows::i64(&[row % 6]);
                if offload {
                    twin.both(|handle| handle.set_sparse_grad(0, &rows, &values));
                    twin.step();
                    twin.both(|handle| handle.forget_grad(0));
                } else {
                    twin.set_sparse_grad(0, rows, values);
                    twin.step();
                }
            }
            match ends {
                "synced" => twin.both(|handle| handle.sync_master(0)),
                "loaded" => {
                    twin.host.load_bytes(&saved[0], &load_options()).unwrap();
                    twin.device.load_bytes(&saved[1], &load_options()).unwrap();
                }
                _ => {}
            }
            twin.assert_same();
        }
    }
}
