//! Gradients, sums of them, and steps that are not taken.

use crate::Refusals;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Answer, Handle, answer, config, loss_scaler};
use crate::common::host::user_data;
use adamw::ffi::Status::{Callback, ClipConflict, Nonfinite};
use adamw::ffi::*;
use core::ffi::c_void;
use core::ptr::null_mut;

pub fn refusals(rows: &mut Refusals) {
    steps(rows);
    steps_of_one(rows);
    steps_of_some(rows);
    loops(rows);
    sums(rows);
}

fn sums(rows: &mut Refusals) {
    let World { handle, grads: _grads, _params } = World::new(&config());
    let before = _params[0].bytes();
    let [short, narrow, sums] = [(Dtype::F64, 3), (Dtype::F32, 4), (Dtype::F64, 4)]
        .map(|(dtype, n)| Array::zeros(dtype, n));
    let text = "sums has 3 elements, expected 4: two for each of the handle's params";
    rows.invalid(handle.measure_grads(&short.tensor()), text);
    rows.invalid(handle.set_grad_sums(Some(&short.tensor())), text);
    rows.invalid(handle.measure_grads(&narrow.tensor()), "sums is f32, expected f64");
    let misaligned = adamw_tensor { byte_offset: 4, ..sums.tensor() };
    rows.invalid(
        handle.measure_grads(&misaligned),
        &format!(
            "sums is at {:#x}, which is not aligned to its 8-byte elements",
            sums.data().addr() + 4
        ),
    );
    let occupied = adamw_tensor { data: _params[0].data(), ..sums.tensor() };
    let text = "sums overlaps param of param \"a\": give it memory of its own";
    rows.invalid(handle.measure_grads(&occupied), text);
    rows.invalid(handle.set_grad_sums(Some(&occupied)), text);
    assert!(_params[0].bytes() == before);
    handle.set_grad_sums(Some(&sums.tensor())).unwrap();
    let late = Array::zeros(Dtype::F32, 1);
    handle.add_array("late", &late);
    rows.invalid(
        handle.grad_norm().map(|_| ()),
        "sums has 4 elements, expected 6: two for each of the handle's params",
    );
}

/// A handle with two parameters, and their gradients.
struct World {
    handle: Handle,
    grads: [Array; 2],
    _params: [Array; 2],
}

impl World {
    fn new(config: &adamw_config) -> World {
        let params = [0; 2].map(|_| Array::of(Dtype::F32, &[1.0; 4]));
        let grads = [0; 2].map(|_| Array::of(Dtype::F32, &[0.5; 4]));
        let handle = Handle::new(config);
        let numbers = [handle.add_array("a", &params[0]), handle.add_array("b", &params[1])];
        (0..2).for_each(|i| handle.set_grad(numbers[i], &grads[i]));
        World { handle, grads, _params: params }
    }
}

fn steps(rows: &mut Refusals) {
    let World { handle, grads, _params } =
        World::new(&adamw_config { nonfinite: ADAMW_NONFINITE_FAIL, ..config() });
    grads[1].set(2, f64::NAN);
    rows.row(
        handle.try_step(),
        Nonfinite,
        "param \"b\": 1 of the 4 elements of grad are not finite (ADAMW_NONFINITE_SKIP passes over \
         such steps)",
    );
    grads[1].set(2, 2f64.powi(127));
    handle.set_grad_scale(0.0625).unwrap();
    rows.row(
        handle.try_step(),
        Nonfinite,
        "param \"b\": the norm of grad is 2.722258935367508e39 when the loss scale is taken out, which f32 does not \
         hold",
    );
    let World { handle, grads, _params } =
        World::new(&adamw_config { average_grads: 1, ..config() });
    handle.set_accumulation_window(2);
    (0..3).for_each(|_| handle.accumulate_grad(0, &grads[0]).unwrap());
    rows.invalid(
        handle.try_step(),
        "param \"a\" has accumulated 3 gradients, which is more than the 2 of \
         adamw_set_accumulation_window: set it to how many there are in a step",
    );
    rows.invalid(
        answer(adamw_clear_grad(handle.raw(), 2)),
        "mode is 2, expected an ADAMW_CLEAR constant, 0 or 1",
    );
    rows.invalid(handle.set_statistics(2), "statistics is 2, expected 0 or 1");
}

fn steps_of_one(rows: &mut Refusals) {
    let flag = 0f32;
    type Edit = fn(&mut adamw_config);
    let cases: [(Edit, &str); 4] = [
        (
            |config| (config.clip, config.clip_norm) = (ADAMW_CLIP_GLOBAL_NORM, 1.0),
            "its group clips by global norm",
        ),
        (|_| (), "the handle has a loss scaler"),
        (|config| config.nonfinite = ADAMW_NONFINITE_SKIP, "the handle has ADAMW_NONFINITE_SKIP"),
        (|_| (), "the handle has found_inf flags"),
    ];
    for (edit, reason) in cases {
        let mut config = config();
        edit(&mut config);
        let World { handle, grads: _grads, _params } = World::new(&config);
        if reason.contains("scaler") {
            handle.set_scaler(&loss_scaler(2.0, 1, 1)).unwrap();
        }
        if reason.contains("flags") {
            handle.set_found_inf(&flag, null_mut());
        }
        let text = format!(
            "param \"b\" cannot be stepped alone, because {reason}: what to do depends on the \
             gradients of all, which adamw_step steps"
        );
        rows.row(handle.step_param(1), ClipConflict, &text);
    }
}

unsafe extern "C" fn loss(out_loss: *mut f64, returned: *mut c_void) -> i32 {
    // SAFETY: the library's, and what the test gave.
    unsafe {
        out_loss.write(1.0);
        *returned.cast::<i32>()
    }
}

fn steps_of_some(rows: &mut Refusals) {
    let World { handle, grads, _params } = World::new(&config());
    rows.invalid(
        handle.apply_gradients(&[(0, &grads[0]), (0, &grads[1])]),
        "param \"a\" is given twice, expected once in a call",
    );
    let minimize = |returned: &i32, capacity| {
        handle.minimize(Some(loss), returned, None, &[], capacity).map(|_| ())
    };
    rows.row(minimize(&-7, 2), Callback, "the closure returned -7, expected 0");
    rows.invalid(minimize(&0, 1), "args.capacity is 1, expected 2");
    let nothing: Answer<_> = handle.minimize(None, &0, None, &[], 2);
    rows.invalid(nothing, "args.closure is NULL");
}

unsafe extern "C" fn refuses(
    _: usize,
    _: adamw_task,
    _: *mut c_void,
    returned: *mut c_void,
) -> i32 {
    // SAFETY: what the test gave.
    unsafe { *returned.cast::<i32>() }
}

fn loops(rows: &mut Refusals) {
    let returned = 5i32;
    let handle = Handle::new(&adamw_config {
        num_threads: 2,
        parallel_for: Some(refuses),
        parallel_for_data: user_data(&returned),
        ..config()
    });
    let [param, grad] = [0; 2].map(|_| Array::zeros(Dtype::F32, crate::common::LONG));
    handle.add_array("w", &param);
    handle.set_grad(0, &grad);
    rows.row(
        handle.try_step(),
        Callback,
        "parallel_for returned 5 before it ran any task, expected 0",
    );
}

#[test]
fn a_step_that_is_not_taken_says_why_and_what_to_do() {
    crate::said(refusals);
}
