//! What the host's functions gave back.

use crate::Refusals;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config};
use adamw::ffi::Status::Callback;
use adamw::ffi::*;
use core::ffi::{c_char, c_void};

pub fn refusals(rows: &mut Refusals) {
    let [param, grad] = [0; 2].map(|_| Array::zeros(Dtype::F32, 1));
    let handle = Handle::new(&config());
    handle.add_array("w", &param);
    handle.set_grad(0, &grad);
    rows.row(
        handle.set_decay_filter(Some(no_answer), &()),
        Callback,
        "decay_filter returned -3 for param \"w\", expected 1 or 0",
    );
    for (gives, text) in [
        (
            (0, f64::NAN),
            "param \"w\": lr_ratio gave NaN, or did not write out_ratio, expected a finite number >= 0",
        ),
        ((0, -2.0), "param \"w\": lr_ratio gave -2, expected a finite number >= 0"),
        ((4, 1.0), "lr_ratio returned 4 for param \"w\", expected 0"),
    ] {
        handle.set_lr_ratio(Some(ratio), &gives);
        rows.row(handle.try_step(), Callback, text);
    }
}

unsafe extern "C" fn no_answer(_: *const c_char, _: *mut c_void) -> i32 {
    -3
}

unsafe extern "C" fn ratio(
    _: *const adamw_param_info,
    out_ratio: *mut f64,
    gives: *mut c_void,
) -> i32 {
    // SAFETY: the library's, and what the test gave.
    unsafe {
        let (returned, ratio) = *gives.cast::<(i32, f64)>();
        out_ratio.write(ratio);
        returned
    }
}

#[test]
fn a_function_of_the_hosts_is_told_by_name_what_it_gave() {
    crate::said(refusals);
}
