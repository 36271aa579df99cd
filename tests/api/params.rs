//! Parameters while training: frozen, moved to another group, started anew, removed.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Failure, Handle, Param, config};
use crate::common::kind::Kind;
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::tensors::Tensors;
use adamw::ffi::*;

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
    assert_eq!(again, b);
    handle.set_grad(again, &grad);
    handle.step();
    assert_eq!((handle.info(again).step, handle.info(a).step), (1, 3));
    let Failure { text, .. } = handle.try_add(&Param::new("w0", &grad)).unwrap_err();
    assert!(text.contains("already there"), "{text}");
}

#[test]
fn numbers_are_given_lowest_first_and_given_again() {
    let handle = Handle::new(&config());
    let arrays: Vec<_> = (0..20).map(|_| Array::zeros(Dtype::F32, 4)).collect();
    let add = |i: usize| handle.add_array(&format!("w{i}"), &arrays[i]);
    assert_eq!((0..6).map(add).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    [3, 1, 4].into_iter().for_each(|number| handle.remove(number).unwrap());
    assert_eq!(handle.num_params(), 6);
    assert_eq!((6..10).map(add).collect::<Vec<_>>(), [1, 3, 4, 6]);
    assert_eq!(handle.find_param("w7"), Ok(3));
    assert_eq!(handle.find_param("w3").unwrap_err().status, Status::NotFound);
    // Free numbers above all others are no numbers any more.
    [6, 4, 5].into_iter().for_each(|number| handle.remove(number).unwrap());
    assert_eq!(handle.num_params(), 4);
    let Failure { text, .. } = handle.try_info(4).unwrap_err();
    assert!(text.contains("numbers are below 4"), "{text}");
    [0, 1, 2, 3].into_iter().for_each(|number| handle.remove(number).unwrap());
    assert_eq!(handle.num_params(), 0);
    assert_eq!(add(19), 0);
}

#[test]
fn a_number_that_is_given_again_brings_nothing_of_its_parameter_before() {
    let run = |lazy_mode: adamw_lazy, had_another: bool| {
        let mut random = Random::new(12);
        let (clip, clip_norm) = (ADAMW_CLIP_GLOBAL_NORM, 1.0);
        let handle = Handle::new(&adamw_config { lazy_mode, clip, clip_norm, ..config() });
        let [old, param, other, grad] =
            [64, 48, 16, 48].map(|n| Array::ordinary(Dtype::F32, n, &mut random));
        let sum = Array::ordinary(Dtype::F32, 64, &mut random);
        let values = Array::ordinary(Dtype::F32, 8, &mut random);
        let rows = [0, 1, 2, 3, 4].map(|step| Rows::i64(&[step, step + 2]));
        handle.set_statistics(1).unwrap();
        if had_another {
            let (first_element, whole_elements) = (7, 99);
            handle.add(&Param { first_element, whole_elements, ..Param::new("old", &old) });
            handle.add_array("other", &other);
            let group = handle.add_group(|group| group.lr_scale = 3.0);
            for rows in &rows {
                handle.set_sparse_grad(0, rows, &values);
                handle.step();
            }
            handle.accumulate_grad(0, &sum).unwrap();
            handle.edit_options(0, |options| {
                (options.group, options.lr_scale, options.no_clip) = (group, 0.5, 1);
                (options.regularizer, options.regularizer_coeff) = (ADAMW_REGULARIZER_L2, 9.0);
                options.frozen = 1;
            });
            handle.remove(0).unwrap();
        }
        assert_eq!(handle.add_array("new", &param), 0);
        if !had_another {
            handle.add_array("other", &other);
        }
        handle.step(); // which has no gradient of it
        for rows in &rows {
            handle.set_sparse_grad(0, rows, &values);
            handle.step();
        }
        handle.set_grad(0, &grad);
        handle.step();
        let (info, options) = (handle.step_info(), handle.options(0));
        let norms = [info.update_norm, info.param_norm, info.grad_norm].map(f64::to_bits);
        assert_eq!((handle.info(0).step, handle.info(1).step), (6, 0));
        handle.remove(1).unwrap();
        (param.values(), norms, (options.lr_scale, options.frozen, options.group))
    };
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        assert_eq!(run(lazy_mode, true), run(lazy_mode, false), "{lazy_mode}");
    }
}

#[test]
fn what_is_saved_does_not_depend_on_numbers() {
    let arrays = [5, 3000, 17, 40].map(|n| Array::ordinary(Dtype::Bf16, n, &mut Random::new(3)));
    let [a, b, c, d] = &arrays;
    let multi_precision = 1;
    let handle = Handle::new(&adamw_config { multi_precision, ..config() });
    handle.add_array("a", a);
    handle.add_array("b", b);
    handle.add_array("c", c);
    handle.remove(0).unwrap();
    assert_eq!(handle.add_array("d", d), 0);
    let straight = Handle::new(&adamw_config { multi_precision, ..config() });
    for (name, array) in [("b", b), ("c", c), ("d", d)] {
        straight.add_array(name, array);
    }
    assert!(handle.saved(true) == straight.saved(true));
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
