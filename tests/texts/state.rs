//! State by name that is not there, or cannot be so.

use crate::Refusals;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, answer, config};
use adamw::ffi::Status::NotFound;
use adamw::ffi::*;
use core::ffi::CStr;
use core::ptr::null_mut;

pub fn refusals(rows: &mut Refusals) {
    what_is_not_there(rows);
    names_of_it(rows);
    another_type(rows);
    values(rows);
}

fn what_is_not_there(rows: &mut Refusals) {
    let [single, half, other, third, fourth] =
        [Dtype::F32, Dtype::Bf16, Dtype::Bf16, Dtype::Bf16, Dtype::Bf16]
            .map(|dtype| Array::of(dtype, &[1.0]));
    let handle = Handle::new(&config());
    let add = |name, array, precision| {
        let group = handle.add_group(|group| group.precision = precision);
        handle.add(&Param { group, ..Param::new(name, array) })
    };
    add("w", &single, ADAMW_PRECISION_DEFAULT);
    add("h", &half, ADAMW_PRECISION_DEFAULT);
    add("split", &other, ADAMW_PRECISION_SPLIT);
    add("random", &third, ADAMW_PRECISION_STOCHASTIC);
    add("kahan", &fourth, ADAMW_PRECISION_KAHAN);
    for (number, buffer, text) in [
        (0, ADAMW_BUFFER_MASTER, "\"w\" has no master: only f16 and bf16 parameters have one"),
        (1, ADAMW_BUFFER_MASTER, "\"h\" has no master: the handle is not multi_precision"),
        (2, ADAMW_BUFFER_MASTER, "\"split\" has no master: its master is split"),
        (
            3,
            ADAMW_BUFFER_MASTER,
            "\"random\" has no master: its group has ADAMW_PRECISION_STOCHASTIC",
        ),
        (4, ADAMW_BUFFER_MASTER, "\"kahan\" has no master: its group has ADAMW_PRECISION_KAHAN"),
        (
            0,
            ADAMW_BUFFER_REMAINDER,
            "\"w\" has no remainder: only 16-bit parameters of a group with ADAMW_PRECISION_SPLIT \
             or ADAMW_PRECISION_KAHAN have one",
        ),
        (
            0,
            ADAMW_BUFFER_MAX_EXP_AVG_SQ,
            "\"w\" has no max_exp_avg_sq: it was added without amsgrad",
        ),
        (
            0,
            ADAMW_BUFFER_EXP_AVG_SCALE,
            "\"w\" has no exp_avg_scale: only 8-bit and 4-bit moments have one",
        ),
    ] {
        rows.row(handle.state_info(number, buffer), NotFound, &format!("param {text}"));
    }
    rows.row(
        handle.find_state("state.w.master"),
        NotFound,
        "no state is called \"state.w.master\" (adamw_get_state_name gives the names)",
    );
    rows.invalid(
        handle.state_info(0, 1).map(|_| ()),
        "buffer is 1, expected an ADAMW_BUFFER constant, 2 to 12",
    );
}

fn names_of_it(rows: &mut Refusals) {
    let half = Array::of(Dtype::Bf16, &[1.0]);
    let handle = Handle::new(&adamw_config { precision: ADAMW_PRECISION_SPLIT, ..config() });
    handle.add_array("w", &half);
    for (buffer, what) in [(ADAMW_BUFFER_STEP, "step"), (ADAMW_BUFFER_REMAINDER, "remainder")] {
        rows.row(
            handle.state_name(0, buffer, ADAMW_NAMES_PADDLE),
            NotFound,
            &format!(
                "Paddle has no name for the {what} of param \"w\": ADAMW_NAMES_NEUTRAL has one"
            ),
        );
    }
    rows.invalid(
        handle.state_name(0, ADAMW_BUFFER_STEP, 2),
        "names is 2, expected an ADAMW_NAMES constant, 0 or 1",
    );
    let (mut name, mut length) = ([0; 12], 0);
    // SAFETY: there is the room that is said.
    let short = answer(unsafe {
        let to = name.as_mut_ptr();
        adamw_get_state_name(handle.raw(), 0, ADAMW_BUFFER_STEP, 0, to, 12, &mut length)
    });
    rows.invalid(short, "capacity is 12, expected 13");
    // SAFETY: nothing is written.
    let nowhere = answer(unsafe {
        adamw_get_state_name(handle.raw(), 0, ADAMW_BUFFER_STEP, 0, null_mut(), 0, null_mut())
    });
    rows.invalid(nowhere, "out_length is NULL");
}

/// Wherever the memory lies: its type is told before where it is.
fn another_type(rows: &mut Refusals) {
    let param = Array::of(Dtype::F32, &[1.0; 6]);
    let handle = Handle::new(&config());
    handle.add_array("a", &param);
    let memory = [0u64; 8];
    let both = |rows: &mut Refusals, name: &CStr, byte: usize, dtype, is: &str| {
        let data = memory.as_ptr().wrapping_byte_add(byte).cast_mut().cast();
        let text = format!("state \"{}\": {is}", name.to_str().unwrap());
        // SAFETY: the library sees that the type or the length is another.
        let [set, got] = unsafe {
            let set = answer(adamw_set_state(handle.raw(), name.as_ptr(), data, 2, dtype));
            [set, answer(adamw_get_state(handle.raw(), name.as_ptr(), data, 2, dtype))]
        };
        rows.invalid(set, &text);
        rows.invalid(got, &text);
    };
    for byte in [0, 2] {
        both(rows, c"state.a.exp_avg", byte, ADAMW_DTYPE_F64, "is f64, expected f32");
        both(rows, c"state.a.step", byte, ADAMW_DTYPE_F32, "is f32, expected f64");
    }
    both(rows, c"state.a.exp_avg", 0, ADAMW_DTYPE_F32, "has 2 elements, param has 6");
    both(rows, c"state.a.step", 0, ADAMW_DTYPE_F64, "has 2 elements, expected 1");
}

fn values(rows: &mut Refusals) {
    let param = Array::of(Dtype::F32, &[1.0; 2]);
    let handle = Handle::new(&adamw_config { beta1: 1.0 - 1e-9, ..config() });
    handle.add_array("w", &param);
    let mut counter = |name: &str, value: f64, text: &str| {
        let set = handle.set_state(name, &Array::of(Dtype::F64, &[value]));
        rows.invalid(set, &format!("state \"{name}\" would be {text}"));
    };
    counter("state.w.step", -1.0, "-1, expected a whole number from 0 to 2^32");
    counter(
        "state.w.step",
        4294967296.0,
        "4294967296, expected at most 2^25 with a beta whose power still falls then \
         (adamw_set_state sets powers by themselves)",
    );
    counter("state.w.beta1_power", 1.5, "1.5, expected 0 to 1");
    rows.invalid(
        handle.set_state("state.w.exp_avg_sq", &Array::of(Dtype::F32, &[0.0, -0.5])),
        "state \"state.w.exp_avg_sq\": element 1 is -0.5, expected >= 0, as means of squares are",
    );
}

#[test]
fn state_that_is_refused_says_what_is_expected_wherever_it_lies() {
    crate::said(refusals);
}
