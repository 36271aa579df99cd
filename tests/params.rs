//! Parameters while training: frozen, moved to another group, started anew, removed.

mod common;

use adamw::ffi::*;
use common::array::{Array, Dtype};
use common::handle::{Failure, Handle, Param, config};
use common::kind::Kind;
use common::random::Random;
use common::rows::Rows;
use common::tensors::Tensors;

#[test]
fn a_frozen_parameter_stays_and_is_no_part_of_the_norm() {
    let run = |frozen: bool| {
        let handle =
            Handle::new(&adamw_config { clip: ADAMW_CLIP_GLOBAL_NORM, clip_norm: 1.0, ..config() });
        let (a, b) = (Array::of(Dtype::F32, &[1.0]), Array::of(Dtype::F32, &[1.0]));
        let (grad_a, grad_b) = (Array::of(Dtype::F32, &[3.0]), Array::of(Dtype::F32, &[4.0]));
        let (first, second) = (handle.add_array("a", &a), handle.add_array("b", &b));
        handle.set_grads(&[(first, Some(&grad_a)), (second, Some(&grad_b))]);
        handle.step();
        handle.edit_options(second, |options| options.frozen = frozen.into());
        let before = b.values();
        handle.step();
        let norm = handle.step_info().grad_norm;
        let moved = b.values() != before;
        let steps = handle.info(second).step;
        handle.edit_options(second, |options| options.frozen = 0);
        handle.step();
        assert_eq!(handle.info(second).step, steps + 1);
        (norm, moved, steps)
    };
    assert_eq!(run(false), (5.0, true, 2));
    assert_eq!(run(true), (3.0, false, 1));
}

#[test]
fn a_parameter_moves_to_another_group_with_its_state() {
    let mut random = Random::new(3);
    let start =
        Tensors::fresh(Kind::plain(Dtype::F32), &Array::ordinary(Dtype::F32, 100, &mut random));
    let grad = Array::ordinary(Dtype::F32, 100, &mut random);
    let run = |moves: bool| {
        let tensors = start.duplicate();
        let handle = Handle::new(&config());
        let group = handle.add_group(|group| group.weight_decay = 0.5);
        let number = tensors.add_to(&handle, "w", 0);
        handle.set_grad(number, &grad);
        handle.step();
        if moves {
            handle.edit_options(number, |options| options.group = group);
        } else {
            let decayed = adamw_group_config { weight_decay: 0.5, ..handle.group(0) };
            handle.set_group(0, &decayed).unwrap();
        }
        handle.step();
        assert_eq!(handle.info(number).group, if moves { group } else { 0 });
        assert_eq!(handle.info(number).step, 2);
        drop(handle);
        tensors
    };
    run(true).assert_same(&run(false), || "moved".into());
}

#[test]
fn a_reset_parameter_trains_as_a_new_one() {
    for kind in Kind::all() {
        let mut random = Random::new(5);
        let param = Array::ordinary(kind.param, 300, &mut random);
        let grad = Array::ordinary(kind.grad, 300, &mut random);
        let config = adamw_config {
            amsgrad: kind.amsgrad.into(),
            maximize: kind.maximize.into(),
            multi_precision: kind.master.into(),
            ..config()
        };
        for hosts_state in [false, true] {
            let first = Tensors::fresh(kind, &param);
            let handle = Handle::new(&config);
            let number = match hosts_state {
                true => first.add_to(&handle, "w", 0),
                false => handle.add_array("w", &first.param),
            };
            handle.set_grad(number, &grad);
            handle.step();
            handle.step();
            handle.reset(number);
            assert_eq!(handle.info(number).step, 0);

            let expected = Tensors::fresh(kind, &first.param);
            let other = Handle::new(&config);
            let second = expected.add_to(&other, "w", 0);
            other.set_grad(second, &grad);
            for _ in 0..2 {
                handle.step();
                other.step();
            }
            let same = first.param.first_difference(&expected.param);
            assert_eq!(same, None, "{kind:?}, state of the host's: {hosts_state}");
        }
    }
}

#[test]
fn a_removed_parameter_is_gone_and_its_name_and_memory_are_free() {
    let handle = Handle::new(&config());
    let arrays = [(); 3].map(|()| Array::of(Dtype::F32, &[1.0; 4]));
    let grad = Array::of(Dtype::F32, &[1.0; 4]);
    let [a, b, c] = [0, 1, 2].map(|i| handle.add_array(&format!("w{i}"), &arrays[i]));
    handle.set_grads(&[(a, Some(&grad)), (b, Some(&grad)), (c, Some(&grad))]);
    handle.step();
    handle.remove(b).unwrap();
    let before = arrays[1].values();
    handle.step();
    assert_eq!(arrays[1].values(), before);
    assert_eq!((handle.info(a).step, handle.info(c).step), (2, 2));

    for failure in [
        handle.try_info(b).unwrap_err(),
        handle.remove(b).unwrap_err(),
        handle.try_set_grad(b, &grad).unwrap_err(),
        handle.param_lr(b).unwrap_err(),
        handle.set_options(b, &handle.options(a)).unwrap_err(),
    ] {
        assert_eq!(failure.status, Status::NotFound, "{}", failure.text);
    }

    let again = handle.add_array("w1", &arrays[1]);
    assert_eq!(again, 3);
    handle.set_grad(again, &grad);
    handle.step();
    assert_eq!((handle.info(again).step, handle.info(a).step), (1, 3));
    let Failure { text, .. } = handle.try_add(&Param::new("w0", &grad)).unwrap_err();
    assert!(text.contains("already there"), "{text}");
}

#[test]
fn nobody_asks_the_filter_about_a_removed_parameter() {
    extern "C" fn only_b(name: *const core::ffi::c_char, _: *mut core::ffi::c_void) -> i32 {
        // SAFETY: the library passes a valid name.
        if unsafe { core::ffi::CStr::from_ptr(name) } == c"a" { -1 } else { 1 }
    }
    let handle = Handle::new(&config());
    let (a, b) = (Array::of(Dtype::F32, &[1.0]), Array::of(Dtype::F32, &[1.0]));
    let number = handle.add_array("a", &a);
    handle.add_array("b", &b);
    assert_eq!(handle.set_decay_filter(Some(only_b), &()).unwrap_err().status, Status::Callback);
    handle.remove(number).unwrap();
    handle.set_decay_filter(Some(only_b), &()).unwrap();
}

#[test]
fn rows_that_lag_catch_up_before_their_parameter_changes() {
    type Change = fn(&Handle, u32);
    let changes: [(&str, Change); 4] = [
        ("removed", |handle, table| handle.remove(table).unwrap()),
        ("another mode", |handle, _| {
            let group = adamw_group_config { lazy_mode: ADAMW_LAZY_OFF, ..handle.group(0) };
            handle.set_group(0, &group).unwrap();
        }),
        ("another group", |handle, table| {
            let group = handle.add_group(|group| group.lazy_mode = ADAMW_LAZY_ROWS);
            handle.edit_options(table, |options| options.group = group);
        }),
        ("reset", |handle, table| handle.reset(table)),
    ];
    let run = |lazy_mode: adamw_lazy, change: Option<Change>| {
        let mut random = Random::new(11);
        let table = Array::ordinary(Dtype::F32, 64, &mut random);
        let values = Array::ordinary(Dtype::F32, 8, &mut random);
        let handle = Handle::new(&adamw_config { lazy_mode, ..config() });
        let number = handle.add_array("table", &table);
        for step in 0..5 {
            let rows = Rows::i64(&[step, step + 7]);
            handle.set_sparse_grad(number, &rows, &values);
            handle.step();
        }
        if let Some(change) = change {
            change(&handle, number);
        }
        drop(handle);
        table
    };
    let expected = run(ADAMW_LAZY_OFF, None);
    assert!(run(ADAMW_LAZY_EXACT, None).first_difference(&expected).is_some());
    for (name, change) in changes {
        let got = run(ADAMW_LAZY_EXACT, Some(change));
        assert_eq!(got.first_difference(&expected), None, "{name}");
    }
}

#[test]
fn plain_arrays_go_into_any_group_and_are_micro_batches() {
    let handle = Handle::new(&adamw_config { average_grads: 1, ..config() });
    assert_eq!(handle.num_groups(), 1);
    let group = handle.add_group(|group| group.weight_decay = 0.5);
    assert_eq!((group, handle.num_groups()), (1, 2));
    let array = || Array::of(Dtype::F32, &[1.0, 2.0]);
    let (a, b, none) = (array(), array(), array());
    let short = handle.try_add_array_to_group(group, "a", &a).unwrap();
    assert_eq!((handle.info(short).group, handle.info(short).name), (group, "a".to_owned()));
    let failure = handle.try_add_array_to_group(2, "none", &none).unwrap_err();
    assert_eq!(failure.status, Status::NotFound);
    let long = handle.add(&Param { group, ..Param::new("b", &b) });
    let grads = [[1.0, -1.0], [3.0, 0.5]].map(|values| Array::of(Dtype::F32, &values));
    for grad in &grads {
        handle.accumulate_grad_array(short, grad).unwrap();
        handle.accumulate_grad(long, grad).unwrap();
    }
    let failure = handle.accumulate_grad_array(9, &grads[0]).unwrap_err();
    assert_eq!(failure.status, Status::NotFound);
    handle.step();
    assert_eq!(a.values(), b.values());
    assert_ne!(a.values(), none.values());
}
