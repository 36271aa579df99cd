//! Parameters without memory for a while: they keep what they are, steps pass over them, and what they had
//! belongs to others.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{load_options, save_args};
use crate::common::handle::{Answer, Failure, Handle, Param, config};
use crate::common::kind::Kind;
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::tensors::Tensors;
use crate::state::{N, STEPS, Training, buffers};
use adamw::ffi::*;

/// Every buffer of the host that a parameter has.
fn all_of(number: u32, tensors: &Tensors) -> Vec<(u32, adamw_buffer)> {
    buffers(tensors).map(|(buffer, _)| (number, buffer)).collect()
}

fn moves(number: u32, tensors: &Tensors) -> Vec<(u32, adamw_buffer, &Array)> {
    buffers(tensors).map(|(buffer, array)| (number, buffer, array)).collect()
}

#[track_caller]
fn refused(answer: Answer, text: &str) {
    let Failure { status, text: said } = answer.unwrap_err();
    assert_eq!((status, &*said), (Status::InvalidArgument, text));
}

const NOT_THERE: &str = "has no memory now: adamw_rebind says where it is again";

#[test]
fn training_goes_on_where_a_parked_parameter_gets_memory_again() {
    for kind in Kind::all() {
        let training = Training::new(kind);
        let (tensors, handle) = (Tensors::fresh(kind, &training.start), training.handle());
        let number = tensors.add_to(&handle, "w", 0);
        let other = training.start.duplicate();
        let another = handle.add_array("other", &other);
        training.step(&handle, number, 0..2);

        let away = tensors.duplicate();
        handle.park(&all_of(number, &tensors)).unwrap();
        let noise = Array::ordinary(kind.param, N, &mut Random::new(1));
        buffers(&tensors).for_each(|(_, array)| array.fill(f64::NAN));
        // Steps of others pass over it, although it had a gradient; and what it had, others have.
        handle.set_grad(another, &noise);
        handle.step();
        let heir = handle.add_array("heir", &tensors.param);
        handle.step();
        assert_eq!((handle.info(number).step, handle.info(another).step), (2, 2));
        assert!(tensors.arrays().all(|(_, array)| array.values().iter().all(|v| v.is_nan())));
        handle.remove(heir).unwrap();
        handle.forget_grad(another);

        handle.rebind(&moves(number, &away)).unwrap();
        training.step(&handle, number, 2..STEPS);
        away.assert_same(&training.uninterrupted(), || format!("{kind:?}"));
        assert_eq!(handle.info(number).step, STEPS as u64);
    }
}

#[test]
fn a_master_fills_the_memory_that_its_parameter_gets() {
    let kind = Kind { master: true, ..Kind::plain(Dtype::Bf16) };
    let training = Training::new(kind);
    let (param, handle) = (training.start.duplicate(), training.handle());
    let number = handle.add_array("w", &param);
    training.step(&handle, number, 0..2);
    handle.park(&[(number, ADAMW_BUFFER_PARAM)]).unwrap();
    param.fill(f64::NAN);
    let there = Array::zeros(Dtype::Bf16, N);
    handle.rebind(&[(number, ADAMW_BUFFER_PARAM, &there)]).unwrap();
    training.step(&handle, number, 2..STEPS);
    assert_eq!(there.first_difference(&training.uninterrupted().param), None);
    assert!(param.values().iter().all(|value| value.is_nan()));
}

/// Two parameters with moments of the host's, and all their memory.
struct Two {
    handle: Handle,
    a: Tensors,
    b: Tensors,
}

impl Two {
    fn new() -> Two {
        let training = Training::new(Kind::plain(Dtype::F32));
        let handle = training.handle();
        let [a, b] = [(); 2].map(|()| Tensors::fresh(Kind::plain(Dtype::F32), &training.start));
        a.add_to(&handle, "a", 0);
        b.add_to(&handle, "b", 0);
        for number in 0..2 {
            training.step(&handle, number, 0..1);
        }
        Two { handle, a, b }
    }
}

#[test]
fn memory_that_is_parked_is_anybodys() {
    let Two { handle, a, b } = Two::new();
    // A gradient, a new parameter, and a buffer that moves are all refused until then.
    let grad = |to: &Array| handle.try_set_grad(1, to);
    let added = || handle.try_add(&Param::new("c", &a.param));
    let moved = || handle.rebind(&[(1, ADAMW_BUFFER_PARAM, &a.exp_avg)]);
    assert!(grad(&a.exp_avg_sq).is_err() && added().is_err() && moved().is_err());
    handle.park(&all_of(0, &a)).unwrap();
    grad(&a.exp_avg_sq).unwrap();
    moved().unwrap();
    added().unwrap();
    assert_eq!(handle.num_params(), 3);
    // Where others are now, it cannot come back; on the place that one has left, it can.
    let back = handle.rebind(&moves(0, &a)).unwrap_err();
    assert!(back.text.contains("overlaps"), "{}", back.text);
    let spare = [(); 2].map(|()| Array::zeros(Dtype::F32, N));
    let there = [
        (0, ADAMW_BUFFER_PARAM, &b.param),
        (0, ADAMW_BUFFER_EXP_AVG, &spare[0]),
        (0, ADAMW_BUFFER_EXP_AVG_SQ, &spare[1]),
    ];
    handle.rebind(&there).unwrap();
    handle.step();
}

#[test]
fn buffers_are_parked_and_take_the_places_of_others_in_one_call_or_not_at_all() {
    let Two { handle, a, b } = Two::new();
    let values = b.param.duplicate();
    let to = |array: &Array| Some(array.tensor());
    // The parameter of b goes where that of a has been, and its mean where the mean of a has been.
    let all = [
        (0, ADAMW_BUFFER_PARAM, None),
        (1, ADAMW_BUFFER_PARAM, to(&a.param)),
        (0, ADAMW_BUFFER_EXP_AVG, None),
        (1, ADAMW_BUFFER_EXP_AVG, to(&a.exp_avg)),
    ];
    for wrong in [
        (0, ADAMW_BUFFER_MASTER, None),
        (0, ADAMW_BUFFER_PARAM, None),
        (1, ADAMW_BUFFER_EXP_AVG_SQ, to(&a.exp_avg_sq)),
        (2, ADAMW_BUFFER_PARAM, None),
    ] {
        handle.rebind_some(&[&all[..], &[wrong]].concat()).unwrap_err();
        handle.set_grad(0, &values);
        handle.forget_grad(0);
    }
    handle.rebind_some(&all).unwrap();
    refused(handle.try_set_grad(0, &values), &format!("param \"a\": param {NOT_THERE}"));
    handle.rebind(&[(0, ADAMW_BUFFER_PARAM, &b.param)]).unwrap();
    refused(handle.try_set_grad(0, &values), &format!("param \"a\": exp_avg {NOT_THERE}"));
    handle.rebind(&[(0, ADAMW_BUFFER_EXP_AVG, &b.exp_avg)]).unwrap();
    handle.set_grad(0, &values);
    handle.step();
}

#[test]
fn a_parked_parameter_has_no_gradient_and_takes_none() {
    let kind = Kind::plain(Dtype::F32);
    let (params, grads) =
        ([(); 2].map(|()| Array::zeros(Dtype::F32, 12)), Array::zeros(Dtype::F32, 12));
    let values = Array::zeros(Dtype::F32, 4);
    for given in 0..3 {
        let handle = Training::new(kind).handle();
        params.iter().zip(["a", "b"]).for_each(|(param, name)| _ = handle.add_array(name, param));
        match given {
            0 => handle.set_grad(0, &grads),
            1 => handle.accumulate_grad(0, &grads).unwrap(),
            _ => handle.set_sparse_grad(0, &Rows::i32(&[1]), &values),
        }
        handle.park(&[(0, ADAMW_BUFFER_PARAM)]).unwrap();
        handle.step();
        assert_eq!(handle.info(0).step, 0);
        let there = handle.minimize(Some(no_loss), &(), None, &[], 2).unwrap().1;
        assert_eq!(there, []);
    }
    let handle = Training::new(kind).handle();
    params.iter().zip(["a", "b"]).for_each(|(param, name)| _ = handle.add_array(name, param));
    handle.park(&[(0, ADAMW_BUFFER_PARAM)]).unwrap();
    let text = format!("param \"a\": param {NOT_THERE}");
    refused(handle.try_set_grad(0, &grads), &text);
    refused(handle.accumulate_grad(0, &grads), &text);
    refused(handle.try_set_sparse_grad(0, &Rows::i32(&[1]), &values), &text);
    let data = [grads.data(); 2];
    refused(handle.set_grad_data(Some(&[1, 0]), &data), &format!("data[1]: {text}"));
    refused(handle.apply_gradients(&[(1, &grads), (0, &grads)]), &text);
    // None of these has set that of the other, either.
    handle.step();
    assert_eq!(handle.info(1).step, 0);
    handle.forget_grad(0);
    handle.clear_grad(ADAMW_CLEAR_ZERO);
    handle.step_param(0).unwrap();
    handle.edit_options(0, |options| options.frozen = 1);
    handle.remove(0).unwrap();
    assert_eq!(handle.add_array("a", &params[0]), 0);
}

/// Gives a loss.
extern "C" fn no_loss(out_loss: *mut f64, _: *mut core::ffi::c_void) -> i32 {
    // SAFETY: the library passes a valid pointer.
    unsafe { *out_loss = 0.0 };
    0
}

#[test]
fn a_parked_parameter_is_saved_with_the_state_that_has_memory() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let kind = Kind { master: dtype == Dtype::Bf16, ..Kind::plain(dtype) };
        let training = Training::new(kind);
        let (param, handle) = (training.start.duplicate(), training.handle());
        let number = handle.add_array("w", &param);
        training.step(&handle, number, 0..2);
        let (state, whole) = (handle.saved(false), handle.saved(true));
        handle.park(&[(number, ADAMW_BUFFER_PARAM)]).unwrap();
        assert_eq!(handle.saved(false), state);
        let text = format!("param \"w\": param {NOT_THERE}");
        let args = adamw_save_args { params: 1, size_only: 1, ..save_args() };
        refused(handle.save_to(&args).map(|_| ()), &text);
        // It is loaded as it is saved: the parameter itself into memory only.
        let with = |params| adamw_load_options { params, ..load_options() };
        handle.set_steps(None, &[7]).unwrap();
        handle.load_bytes(&whole, &with(0)).unwrap();
        assert_eq!(handle.info(number).step, 2);
        refused(handle.load_bytes(&whole, &with(1)), &text);
        handle.rebind(&[(number, ADAMW_BUFFER_PARAM, &param)]).unwrap();
        training.step(&handle, number, 2..STEPS);
        assert_eq!(param.first_difference(&training.uninterrupted().param), None);
    }
}

#[test]
fn what_needs_the_missing_memory_is_refused_and_changes_nothing() {
    let kind = Kind { master: true, ..Kind::plain(Dtype::Bf16) };
    let training = Training::new(kind);
    let (tensors, handle) = (Tensors::fresh(kind, &training.start), training.handle());
    let number = tensors.add_to(&handle, "w", 0);
    training.step(&handle, number, 0..2);
    handle.park(&[(number, ADAMW_BUFFER_EXP_AVG)]).unwrap();
    let text = format!("param \"w\": exp_avg {NOT_THERE}");
    let array = Array::zeros(Dtype::F32, N);
    refused(handle.try_sync_master(number), &text);
    refused(handle.try_reset(number), &text);
    refused(handle.state_info(number, ADAMW_BUFFER_EXP_AVG).map(|_| ()), &text);
    refused(handle.get_state("state.w.exp_avg", &array), &text);
    refused(handle.set_state("state.w.exp_avg", &array), &text);
    refused(handle.saved_or_refused().map(|_| ()), &text);
    handle.get_state("state.w.exp_avg_sq", &array).unwrap();
    assert_eq!(array.first_difference(&tensors.exp_avg_sq), None);
    handle.rebind(&[(number, ADAMW_BUFFER_EXP_AVG, &tensors.exp_avg)]).unwrap();
    training.step(&handle, number, 2..STEPS);
    tensors.assert_same(&training.uninterrupted(), || "after refused calls".to_owned());
}

#[test]
fn a_master_that_has_not_begun_needs_its_parameter() {
    let handle = Handle::new(&adamw_config { multi_precision: 1, ..config() });
    let param = Array::of(Dtype::Bf16, &[1.0; 4]);
    handle.add_array("w", &param);
    handle.park(&[(0, ADAMW_BUFFER_PARAM)]).unwrap();
    let text = format!("param \"w\": param {NOT_THERE}");
    refused(handle.saved_or_refused().map(|_| ()), &text);
    refused(handle.state_info(0, ADAMW_BUFFER_MASTER).map(|_| ()), &text);
    handle.rebind(&[(0, ADAMW_BUFFER_PARAM, &param)]).unwrap();
    handle.saved(false);
}

#[test]
fn rows_that_may_lag_take_their_steps_before_a_parameter_is_parked() {
    let handle = Handle::new(&adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..config() });
    let at_once = handle.add_group(|group| group.lazy_mode = ADAMW_LAZY_OFF);
    let (param, values) = (Array::zeros(Dtype::F32, 12), Array::of(Dtype::F32, &[1.0; 4]));
    handle.add_array("w", &param);
    let rows = Rows::i32(&[1]);
    handle.set_sparse_grad(0, &rows, &values);
    handle.step();
    let parked = handle.park(&[(0, ADAMW_BUFFER_PARAM)]);
    assert!(parked.unwrap_err().text.contains("rows that may have steps to take yet"));
    handle.step();
    handle.edit_options(0, |options| options.group = at_once);
    handle.park(&[(0, ADAMW_BUFFER_PARAM)]).unwrap();
    handle.sparse_flush();
    assert_eq!(handle.info(0).step, 2);
}
