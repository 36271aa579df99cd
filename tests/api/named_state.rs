//! State in memory: every tensor and counter is found, seen, read and written by name.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Failure, Handle, Param, config};
use crate::common::kind::Kind;
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::tensors::Tensors;
use adamw::ffi::*;

const BUFFERS: core::ops::RangeInclusive<adamw_buffer> =
    ADAMW_BUFFER_MASTER..=ADAMW_BUFFER_BETA2_POWER;

fn config_of(kind: Kind) -> adamw_config {
    adamw_config {
        amsgrad: kind.amsgrad.into(),
        maximize: kind.maximize.into(),
        multi_precision: kind.master.into(),
        ..config()
    }
}

/// The names of all state of a handle, and what each part of it is made of.
fn names(handle: &Handle, scheme: adamw_names) -> Vec<(String, Dtype, usize)> {
    let mut names = Vec::new();
    for param in 0..handle.num_params() {
        for buffer in BUFFERS {
            let Ok(info) = handle.state_info(param, buffer) else { continue };
            let Ok(name) = handle.state_name(param, buffer, scheme) else { continue };
            assert_eq!(handle.find_state(&name), Ok((param, buffer)));
            let dtype = Dtype::ALL.into_iter().find(|dtype| dtype.code() == info.dtype).unwrap();
            names.push((name, dtype, info.n_elements as usize));
        }
    }
    names
}

#[test]
fn state_that_is_read_and_written_by_name_goes_on_with_the_same_bits() {
    for kind in Kind::all() {
        for scheme in [ADAMW_NAMES_NEUTRAL, ADAMW_NAMES_PADDLE] {
            let mut random = Random::new(1);
            let config = config_of(kind);
            let start = Array::ordinary(kind.param, 77, &mut random);
            let grads: Vec<Array> =
                (0..6).map(|_| Array::ordinary(kind.grad, 77, &mut random)).collect();
            let step = |handle: &Handle, number, step: usize| {
                handle.set_grad(number, &grads[step]);
                handle.step();
            };
            let unbroken = start.duplicate();
            let first = Handle::new(&config);
            let number = first.add_array("a.b", &unbroken);
            (0..3).for_each(|i| step(&first, number, i));

            let resumed = unbroken.duplicate();
            let second = Handle::new(&config);
            let other = second.add_array("a.b", &resumed);
            for (name, dtype, n) in names(&first, scheme) {
                let copy = Array::zeros(dtype, n);
                first.get_state(&name, &copy).unwrap();
                second.set_state(&name, &copy).unwrap();
            }
            (3..6).for_each(|i| step(&first, number, i));
            (3..6).for_each(|i| step(&second, other, i));
            if scheme == ADAMW_NAMES_NEUTRAL {
                assert_eq!(resumed.first_difference(&unbroken), None, "{kind:?}");
                assert_eq!(second.info(other).step, 6);
            } else {
                // Paddle's powers are a step ahead: going back costs a rounding.
                for (a, b) in resumed.values().into_iter().zip(unbroken.values()) {
                    assert!((a - b).abs() <= 1e-3 * b.abs().max(1.0), "{kind:?} {a} {b}");
                }
            }
        }
    }
}

#[test]
fn names_are_those_of_either_scheme() {
    let handle = Handle::new(&adamw_config { multi_precision: 1, amsgrad: 1, ..config() });
    let (w, h) = (Array::of(Dtype::F32, &[1.0]), Array::of(Dtype::Bf16, &[1.0]));
    handle.add_array("w", &w);
    handle.add_array("h", &h);
    let all = |scheme| names(&handle, scheme).into_iter().map(|name| name.0).collect::<Vec<_>>();
    assert_eq!(
        all(ADAMW_NAMES_NEUTRAL),
        [
            "state.w.exp_avg",
            "state.w.exp_avg_sq",
            "state.w.max_exp_avg_sq",
            "state.w.step",
            "state.w.beta1_power",
            "state.w.beta2_power",
            "state.h.master",
            "state.h.exp_avg",
            "state.h.exp_avg_sq",
            "state.h.max_exp_avg_sq",
            "state.h.step",
            "state.h.beta1_power",
            "state.h.beta2_power",
        ]
    );
    assert_eq!(
        all(ADAMW_NAMES_PADDLE),
        [
            "w_moment1_0",
            "w_moment2_0",
            "w_moment2_max_0",
            "w_beta1_pow_acc_0",
            "w_beta2_pow_acc_0",
            "h_fp32_master_0",
            "h_fp32_master_0_moment1_0",
            "h_fp32_master_0_moment2_0",
            "h_fp32_master_0_moment2_max_0",
            "h_fp32_master_0_beta1_pow_acc_0",
            "h_fp32_master_0_beta2_pow_acc_0",
        ]
    );
    assert_eq!(handle.find_param("h"), Ok(1));
    assert_eq!(
        handle.find_param("x").unwrap_err().text,
        "no param is called \"x\" (adamw_get_param_info gives the names)"
    );
}

#[test]
fn counters_have_the_values_that_others_know() {
    let handle = Handle::new(&config());
    let (param, grad) = (Array::of(Dtype::F32, &[1.0]), Array::of(Dtype::F32, &[1.0]));
    let number = handle.add_array("w", &param);
    handle.set_grad(number, &grad);
    let value = |name: &str| {
        let value = Array::zeros(Dtype::F64, 1);
        handle.get_state(name, &value).unwrap();
        value.get(0)
    };
    assert_eq!((value("state.w.step"), value("state.w.beta1_power")), (0.0, 1.0));
    assert_eq!((value("w_beta1_pow_acc_0"), value("w_beta2_pow_acc_0")), (0.9, 0.999));
    handle.step();
    handle.step();
    assert_eq!((value("state.w.step"), value("state.w.beta1_power")), (2.0, 0.9 * 0.9));
    assert_eq!(value("w_beta1_pow_acc_0"), 0.9 * 0.9 * 0.9);

    handle.set_state("state.w.step", &Array::of(Dtype::F64, &[5.0])).unwrap();
    assert_eq!(handle.info(number).step, 5);
    assert_eq!(value("state.w.beta2_power"), 0.999 * 0.999 * 0.999 * 0.999 * 0.999);
}

#[test]
fn a_view_is_the_memory_that_a_step_works_on() {
    for hosts in [false, true] {
        let kind = Kind { master: true, ..Kind::plain(Dtype::Bf16) };
        let tensors = Tensors::fresh(kind, &Array::of(Dtype::Bf16, &[1.0, -2.0, 3.0]));
        let handle = Handle::new(&config_of(kind));
        let number = match hosts {
            true => tensors.add_to(&handle, "w", 0),
            false => handle.add_array("w", &tensors.param),
        };
        let grad = Array::of(Dtype::Bf16, &[1.0, 1.0, 1.0]);
        handle.set_grad(number, &grad);
        let info = handle.state_info(number, ADAMW_BUFFER_MASTER).unwrap();
        assert_eq!(
            (info.n_elements, info.is_hosts, info.dtype),
            (3, hosts.into(), ADAMW_DTYPE_F32)
        );
        // SAFETY: the library says where three floats are, and no call is made meanwhile.
        let master = || unsafe { core::slice::from_raw_parts(info.data.cast::<f32>(), 3) }.to_vec();
        assert_eq!(master(), [1.0, -2.0, 3.0], "the master is filled before it is seen");
        handle.step();
        let copy = Array::zeros(Dtype::F32, 3);
        handle.get_state("state.w.master", &copy).unwrap();
        assert_eq!(master().into_iter().map(f64::from).collect::<Vec<_>>(), copy.values());
        assert!(master()[0] < 1.0);
        let same = handle.state_info(number, ADAMW_BUFFER_MASTER).unwrap();
        assert_eq!(same.data, info.data);
    }
}

#[test]
fn a_master_that_is_written_is_not_filled_from_the_parameter() {
    let handle = Handle::new(&adamw_config { multi_precision: 1, lr: 0.0, ..config() });
    let (param, grad) = (Array::of(Dtype::F16, &[1.0]), Array::of(Dtype::F16, &[1.0]));
    let number = handle.add_array("w", &param);
    handle.set_grad(number, &grad);
    handle.set_state("state.w.master", &Array::of(Dtype::F32, &[2.0])).unwrap();
    handle.step();
    assert_eq!(param.values(), [2.0]);
}

#[test]
fn state_is_up_to_date_when_it_is_seen() {
    let run = |lazy_mode: adamw_lazy| {
        let handle = Handle::new(&adamw_config { lazy_mode, ..config() });
        let table = Array::of(Dtype::F32, &[1.0; 12]);
        let number = handle.add_array("table", &table);
        let values = Array::of(Dtype::F32, &[0.5, 0.25, 1.0]);
        for step in 0..5 {
            let rows = Rows::i32(&[step % 3]);
            handle.set_sparse_grad(number, &rows, &values);
            handle.step();
        }
        let exp_avg = Array::zeros(Dtype::F32, 12);
        handle.get_state("state.table.exp_avg", &exp_avg).unwrap();
        drop(handle);
        (table, exp_avg)
    };
    let (dense, exact) = (run(ADAMW_LAZY_OFF), run(ADAMW_LAZY_EXACT));
    assert_eq!(exact.0.first_difference(&dense.0), None);
    assert_eq!(exact.1.first_difference(&dense.1), None);
}

#[test]
fn what_does_not_fit_is_named_and_changes_nothing() {
    let handle = Handle::new(&config());
    let param = Array::of(Dtype::F32, &[1.0; 3]);
    let number = handle.add_array("w", &param);
    let floats = |n| Array::zeros(Dtype::F32, n);
    let doubles = |values: &[f64]| Array::of(Dtype::F64, values);
    let cases = [
        ("state.w.exp_avg", floats(2), "state \"state.w.exp_avg\": has 2 elements, param has 3"),
        ("w_moment1_0", doubles(&[0.0; 3]), "state \"w_moment1_0\": is f64, expected f32"),
        ("state.w.step", floats(1), "state \"state.w.step\": is f32, expected f64"),
        ("state.w.step", doubles(&[1.0; 2]), "state \"state.w.step\": has 2 elements, expected 1"),
        (
            "state.w.master",
            floats(3),
            "no state is called \"state.w.master\" (adamw_get_state_name gives the names)",
        ),
        (
            "state.v.step",
            doubles(&[1.0]),
            "no state is called \"state.v.step\" (adamw_get_state_name gives the names)",
        ),
        (
            "step",
            doubles(&[1.0]),
            "no state is called \"step\" (adamw_get_state_name gives the names)",
        ),
        ("", doubles(&[1.0]), "no state is called \"\" (adamw_get_state_name gives the names)"),
    ];
    for (name, array, text) in cases {
        let read = handle.get_state(name, &array).unwrap_err();
        let written = handle.set_state(name, &array).unwrap_err();
        assert_eq!((&read.text[..], &written.text[..]), (text, text));
    }
    let wrong = [
        (
            "state.w.step",
            -1.0,
            "state \"state.w.step\" would be -1, expected a whole number from 0 to 2^32",
        ),
        (
            "state.w.step",
            0.5,
            "state \"state.w.step\" would be 0.5, expected a whole number from 0 to 2^32",
        ),
        (
            "state.w.step",
            f64::NAN,
            "state \"state.w.step\" would be NaN, expected a whole number from 0 to 2^32",
        ),
        ("state.w.beta1_power", 1.5, "state \"state.w.beta1_power\" would be 1.5, expected 0 to 1"),
    ];
    for (name, value, text) in wrong {
        let Failure { status, text: got } = handle.set_state(name, &doubles(&[value])).unwrap_err();
        assert_eq!((status, &got[..]), (Status::InvalidArgument, text));
    }
    assert_eq!(handle.info(number).step, 0);
    assert_eq!(
        handle.state_info(number, ADAMW_BUFFER_MASTER).unwrap_err().text,
        "param \"w\" has no master: only f16 and bf16 parameters have one"
    );
    assert_eq!(handle.state_info(number, 1).unwrap_err().status, Status::InvalidArgument);
    assert_eq!(handle.state_info(7, ADAMW_BUFFER_STEP).unwrap_err().status, Status::NotFound);
    let nameless = handle.state_name(number, ADAMW_BUFFER_STEP, ADAMW_NAMES_PADDLE).unwrap_err();
    assert_eq!(
        (nameless.status, &nameless.text[..]),
        (
            Status::NotFound,
            "Paddle has no name for the step of param \"w\": ADAMW_NAMES_NEUTRAL has one"
        )
    );
    assert_eq!(
        handle.state_name(number, 3, 2).unwrap_err().text,
        "names is 2, expected an ADAMW_NAMES constant, 0 or 1"
    );
}

#[test]
fn a_name_that_does_not_fit_is_not_written() {
    let handle = Handle::new(&config());
    let param = Array::of(Dtype::F32, &[1.0]);
    handle.add(&Param::new("w", &param));
    let mut name = [0x7f as core::ffi::c_char; 15];
    let mut length = usize::MAX;
    // SAFETY: the buffer has room for what is said.
    let status = unsafe {
        adamw_get_state_name(
            handle.raw(),
            0,
            ADAMW_BUFFER_EXP_AVG,
            0,
            name.as_mut_ptr(),
            15,
            &mut length,
        )
    };
    assert_eq!((status, length), (Status::InvalidArgument, usize::MAX));
    assert_eq!(name, [0x7f; 15]);
    assert_eq!(crate::common::handle::last_error(), "capacity is 15, expected 16");
}
