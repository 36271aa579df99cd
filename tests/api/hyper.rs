//! Hyper-parameters change while training: by call, or where the host keeps them.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Failure, Handle, Param, config};
use adamw::ffi::*;

/// The parameter after steps with a gradient of one, `edit` being called before each.
fn trained(config: &adamw_config, steps: usize, edit: impl Fn(&Handle, usize)) -> Vec<f64> {
    let param = Array::of(Dtype::F64, &[1.0, -2.0, 0.5]);
    let grad = Array::of(Dtype::F64, &[1.0, 0.5, -3.0]);
    let handle = Handle::new(config);
    let number = handle.add_array("w", &param);
    handle.set_grad(number, &grad);
    for step in 0..steps {
        grad.set(0, 1.0 + step as f64);
        edit(&handle, step);
        handle.step();
    }
    drop(handle);
    param.values()
}

#[test]
fn set_group_changes_every_value_from_the_next_step_on() {
    type Edit = fn(&mut adamw_group_config);
    let edits: [(&str, Edit); 9] = [
        ("independent_weight_decay", |group| group.independent_weight_decay = 1),
        ("lr_scale", |group| group.lr_scale = 3.0),
        ("weight_decay", |group| group.weight_decay = 0.5),
        ("beta1", |group| group.beta1 = 0.5),
        ("beta2", |group| group.beta2 = 0.5),
        ("eps", |group| group.eps = 0.25),
        ("clip", |group| (group.clip, group.clip_norm) = (ADAMW_CLIP_GLOBAL_NORM, 0.1)),
        ("clip_max", |group| (group.clip, group.clip_max) = (ADAMW_CLIP_VALUE, 0.1)),
        ("lazy_mode", |group| group.lazy_mode = ADAMW_LAZY_ROWS),
    ];
    let unchanged = trained(&config(), 3, |_, _| ());
    for (name, edit) in edits {
        let changed = trained(&config(), 3, |handle, step| {
            let mut group = handle.group(0);
            if step == 1 {
                edit(&mut group);
                handle.set_group(0, &group).unwrap();
            }
            let now = handle.group(0);
            let bits = |group: &adamw_group_config| format!("{group:?}");
            assert_eq!(bits(&now), bits(&group), "{name}");
        });
        assert_eq!(changed == unchanged, name == "lazy_mode", "{name}");
    }
}

#[test]
fn a_group_that_is_refused_stays_as_it_was() {
    let handle = Handle::new(&config());
    let before = format!("{:?}", handle.group(0));
    let group = adamw_group_config { beta1: 1.0, ..handle.group(0) };
    let Failure { status, text } = handle.set_group(0, &group).unwrap_err();
    assert_eq!(
        (status, &text[..]),
        (Status::InvalidArgument, "beta1 is 1, expected 0 <= beta < 1")
    );
    assert_eq!(handle.set_group(1, &handle.group(0)).unwrap_err().status, Status::NotFound);
    assert_eq!(format!("{:?}", handle.group(0)), before);
}

#[test]
fn a_new_group_starts_with_what_group_0_has_now() {
    let handle = Handle::new(&config());
    let group = adamw_group_config { lr_scale: 5.0, eps: 0.5, ..handle.group(0) };
    handle.set_group(0, &group).unwrap();
    let added = handle.group(handle.add_group(|_| ()));
    assert_eq!((added.lr_scale, added.eps), (1.0, 0.5));
}

#[test]
fn a_new_group_has_no_learning_rate_of_another() {
    let hosts = Array::of(Dtype::F32, &[5.0, 0.5]);
    let at = |i: usize| hosts.data().cast::<f32>().cast_const().wrapping_add(i);
    let handle = Handle::new(&config());
    let group = adamw_group_config { lr_scale_ptr: at(0), beta1_ptr: at(1), ..handle.group(0) };
    handle.set_group(0, &group).unwrap();
    let (param, grad) = (Array::of(Dtype::F32, &[1.0]), Array::of(Dtype::F32, &[1.0]));
    let number = handle.add_group(|_| ());
    let id = handle.add(&Param { group: number, ..Param::new("w", &param) });
    handle.set_grad(id, &grad);
    handle.step();
    let added = handle.group(number);
    assert_eq!((added.lr_scale, added.lr_scale_ptr), (1.0, core::ptr::null()));
    assert_eq!((added.beta1, added.beta1_ptr), (0.5, at(1)));
    assert_eq!(handle.param_lr(id), Ok(handle.lr()));
}

#[test]
fn a_group_tells_what_the_host_keeps_now_whichever_call_has_read_it() {
    let hosts = Array::of(Dtype::F32, &[0.5, 0.75, 0.125, 2.0]);
    let at = |i: usize| hosts.data().cast::<f32>().cast_const().wrapping_add(i);
    let handle = Handle::new(&adamw_config { nonfinite: ADAMW_NONFINITE_FAIL, ..config() });
    let group = adamw_group_config {
        beta1_ptr: at(0),
        beta2_ptr: at(1),
        weight_decay_ptr: at(2),
        lr_scale_ptr: at(3),
        ..handle.group(0)
    };
    handle.set_group(0, &group).unwrap();
    let (param, grad) = (Array::of(Dtype::F32, &[1.0]), Array::of(Dtype::F32, &[1.0]));
    let number = handle.add_array("w", &param);
    handle.set_grad(number, &grad);
    let sums = Array::zeros(Dtype::F64, 2).shaped(&[1, 2]);
    type Read<'a> = &'a dyn Fn() -> bool;
    let calls: [(&str, Read); 6] = [
        ("nothing", &|| true),
        ("a step", &|| handle.try_step().is_ok()),
        ("a step that fails", &|| {
            grad.set(0, f64::NAN);
            let has_failed = handle.try_step().is_err();
            grad.set(0, 1.0);
            has_failed
        }),
        ("adamw_prepare", &|| handle.prepare().is_ok()),
        ("adamw_measure_grads", &|| handle.measure_grads(&sums.tensor()).is_ok()),
        ("adamw_get_grad_norm", &|| handle.grad_norm().is_ok()),
    ];
    let seen = || {
        let group = handle.group(0);
        [group.beta1, group.beta2, group.weight_decay, group.lr_scale]
    };
    for (which, (name, reads)) in calls.into_iter().enumerate() {
        (0..4).for_each(|i| hosts.set(i, 0.125 + i as f64 / 8.0));
        assert!(reads(), "{name}");
        let now = [0.25, 0.5, f64::from(which as u32), 3.0];
        (0..).zip(now).for_each(|(i, value)| hosts.set(i, value));
        assert_eq!(seen(), now, "{name}");
        let defaults = handle.group(handle.add_group(|_| ()));
        assert_eq!((defaults.beta1, defaults.weight_decay), (0.25, now[2]), "{name}");
    }
    // What no step would take is told as well, and refused where it is set.
    hosts.set(1, 1.5);
    assert_eq!(seen()[1], 1.5);
    assert!(handle.set_group(0, &handle.group(0)).is_err());
}

#[test]
fn values_that_the_host_keeps_are_read_at_each_step() {
    let hosts = Array::of(Dtype::F32, &[0.0; 4]);
    let at = |i: usize| hosts.data().cast::<f32>().cast_const().wrapping_add(i);
    let by_pointer = adamw_config {
        lr_ptr: at(0),
        beta1_ptr: at(1),
        beta2_ptr: at(2),
        weight_decay_ptr: at(3),
        ..config()
    };
    let value = |step: usize, i: usize| {
        f64::from(
            [[0.1f32, 0.8, 0.95, 0.3], [0.05, 0.9, 0.99, 0.0], [0.2, 0.7, 0.9, -0.1]][step][i],
        )
    };
    let read = trained(&by_pointer, 3, |handle, step| {
        (0..4).for_each(|i| hosts.set(i, value(step, i)));
        assert_eq!(handle.lr(), value(step, 0));
    });
    let set = trained(&config(), 3, |handle, step| {
        handle.set_lr(value(step, 0));
        let group = adamw_group_config {
            beta1: value(step, 1),
            beta2: value(step, 2),
            weight_decay: value(step, 3),
            ..handle.group(0)
        };
        handle.set_group(0, &group).unwrap();
    });
    assert_eq!(read, set);
}

#[test]
fn a_value_of_the_hosts_that_is_wrong_fails_the_step() {
    let cases = [
        (0, -1.0, "lr is -1, expected a finite number >= 0"),
        (0, f64::NAN, "lr is NaN, expected a finite number >= 0"),
        (1, 1.5, "beta1 is 1.5, expected 0 <= beta < 1"),
        (2, -0.5, "beta2 is -0.5, expected 0 <= beta < 1"),
        (3, f64::INFINITY, "weight_decay is inf, expected a finite number"),
    ];
    for (place, value, expected) in cases {
        let hosts = Array::of(Dtype::F32, &[0.1, 0.9, 0.99, 0.0, 0.25]);
        let at = |i: usize| hosts.data().cast::<f32>().cast_const().wrapping_add(i);
        let decay = at(4);
        let handle =
            Handle::new(&adamw_config { lr_ptr: at(0), weight_decay_ptr: decay, ..config() });
        let group = handle.add_group(|group| {
            (group.beta1_ptr, group.beta2_ptr) = (at(1), at(2));
            group.weight_decay_ptr = at(3);
        });
        let (param, grad) = (Array::of(Dtype::F32, &[1.0]), Array::of(Dtype::F32, &[1.0]));
        let number = handle.add(&Param { group, ..Param::new("w", &param) });
        handle.set_grad(number, &grad);
        handle.step();
        let before = param.values();
        let good = hosts.get(place);
        hosts.set(place, value);
        hosts.set(4, 0.5); // which is right, and read before some of the others
        let Failure { status, text } = handle.try_step().unwrap_err();
        assert_eq!((status, &text[..]), (Status::InvalidArgument, expected));
        assert_eq!((param.values(), handle.info(number).step), (before, 1));
        hosts.set(place, good);
        handle.step();
        assert_eq!(handle.info(number).step, 2);
    }
}

#[test]
fn beta_powers_start_at_the_value_that_the_host_keeps() {
    // After one step with bias correction the parameter has moved by lr, whatever the betas are.
    for beta in [0.0, 0.5, 0.9] {
        let hosts = Array::of(Dtype::F32, &[beta, beta]);
        let at = |i: usize| hosts.data().cast::<f32>().cast_const().wrapping_add(i);
        let config = adamw_config {
            beta1_ptr: at(0),
            beta2_ptr: at(1),
            lr: 0.125,
            weight_decay: 0.0,
            eps: 1e-30,
            ..config()
        };
        let got = trained(&config, 1, |_, _| ());
        for (got, expected) in got.into_iter().zip([0.875, -2.125, 0.625]) {
            assert!((got - expected).abs() < 1e-14, "{got}, beta {beta}");
        }
    }
}

#[test]
fn powers_that_are_set_are_of_the_betas_that_the_host_keeps_now() {
    let hosts = Array::of(Dtype::F32, &[0.5, 0.75]);
    let at = |i: usize| hosts.data().cast::<f32>().cast_const().wrapping_add(i);
    let handle = Handle::new(&config());
    let (param, number) = (Array::of(Dtype::F32, &[1.0]), Array::zeros(Dtype::F64, 1));
    handle.add_array("w", &param);
    let group = adamw_group_config { beta1_ptr: at(0), beta2_ptr: at(1), ..handle.group(0) };
    handle.set_group(0, &group).unwrap();
    let read = |name: &str| {
        handle.get_state(name, &number).unwrap();
        number.get(0)
    };
    let write = |name: &str, value: f64| handle.set_state(name, &Array::of(Dtype::F64, &[value]));
    // No step has read them; and they change between steps.
    for (beta1, beta2) in [(0.5, 0.75), (0.25, 0.5), (0.0, 0.5)] {
        hosts.set(0, beta1);
        hosts.set(1, beta2);
        write("state.w.step", 2.0).unwrap();
        assert_eq!(read("state.w.beta1_power"), beta1 * beta1);
        assert_eq!(read("state.w.beta2_power"), beta2 * beta2);
        // Paddle's powers are one step ahead.
        assert_eq!(read("w_beta2_pow_acc_0"), beta2 * beta2 * beta2);
        write("w_beta2_pow_acc_0", 0.125).unwrap();
        assert_eq!(read("state.w.beta2_power"), 0.125 / beta2);
        write("w_beta1_pow_acc_0", 0.125).unwrap();
        assert_eq!(read("state.w.beta1_power"), if beta1 == 0.0 { 0.0 } else { 0.125 / beta1 });
    }
    hosts.set(0, 1.5);
    let (before, text) = (handle.info(0), "beta1 is 1.5, expected 0 <= beta < 1");
    assert_eq!(write("state.w.step", 3.0).unwrap_err().text, text);
    assert_eq!(handle.info(0), before);
    write("state.w.beta1_power", 0.5).unwrap();
    assert_eq!(read("state.w.beta1_power"), 0.5);
}

#[test]
fn only_one_source_gives_the_learning_rate() {
    let lr = Array::of(Dtype::F32, &[0.5]);
    let handle = Handle::new(&adamw_config { lr_ptr: lr.data().cast(), ..config() });
    let Failure { status, text } = handle.try_set_lr(0.1).unwrap_err();
    assert_eq!(status, Status::LrConflict);
    assert_eq!(text, "lr is read from config.lr_ptr: write it there");
    let schedule = adamw_schedule {
        lr: 0.1,
        ..crate::common::handle::schedule(ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP)
    };
    assert_eq!(handle.set_schedule(&schedule).unwrap_err().status, Status::LrConflict);
    handle.remove_schedule();
    assert_eq!(handle.lr(), 0.5);
}

extern "C" fn half(_: *const adamw_param_info, out: *mut f64, _: *mut core::ffi::c_void) -> i32 {
    // SAFETY: the library passes a valid pointer.
    unsafe { *out = 0.5 };
    0
}

#[test]
fn the_learning_rate_of_a_parameter_is_the_product_of_all_that_scale_it() {
    let handle = Handle::new(&adamw_config { lr: 2.0, ..config() });
    let group = handle.add_group(|group| group.lr_scale = 3.0);
    let params = [Array::of(Dtype::F64, &[1.0]), Array::of(Dtype::F64, &[1.0])];
    let plain = handle.add_array("plain", &params[0]);
    let scaled = handle.add(&Param { group, ..Param::new("scaled", &params[1]) });
    handle.edit_options(scaled, |options| options.lr_scale = 5.0);
    assert_eq!((handle.param_lr(plain), handle.param_lr(scaled)), (Ok(2.0), Ok(30.0)));
    handle.set_lr_ratio(Some(half), &());
    assert_eq!((handle.param_lr(plain), handle.param_lr(scaled)), (Ok(1.0), Ok(15.0)));
    assert_eq!(handle.param_lr(2).unwrap_err().status, Status::NotFound);

    // And it is what a step takes.
    let grad = Array::of(Dtype::F64, &[1.0]);
    handle.set_grads(&[(plain, Some(&grad)), (scaled, Some(&grad))]);
    let expected: Vec<f64> = [plain, scaled]
        .map(|number| {
            let lr = handle.param_lr(number).unwrap();
            1.0 - (lr * 0.01 * 1.0
                + lr / (1.0 - 0.9)
                    * (0.1 / (0.001f64.sqrt() * (1.0 / (1.0 - 0.999f64).sqrt()) + 1e-8)))
        })
        .into();
    handle.step();
    for (param, expected) in params.iter().zip(expected) {
        assert!((param.get(0) - expected).abs() < 1e-12, "{} {expected}", param.get(0));
    }
}

#[test]
fn a_scale_that_is_wrong_is_refused() {
    let handle = Handle::new(&config());
    let param = Array::of(Dtype::F32, &[1.0]);
    let number = handle.add_array("w", &param);
    type Edit = fn(&mut adamw_param_options);
    let cases: [(Edit, Status, &str); 6] = [
        (
            |o| o.lr_scale = -1.0,
            Status::InvalidArgument,
            "lr_scale is -1, expected a finite number >= 0",
        ),
        (
            |o| o.group = 1,
            Status::NotFound,
            "there is no group 1: the handle has 1 (adamw_add_group adds one)",
        ),
        (|o| o.frozen = 2, Status::InvalidArgument, "options.frozen is 2, expected 0 or 1"),
        (|o| o.no_clip = 2, Status::InvalidArgument, "options.no_clip is 2, expected 0 or 1"),
        (
            |o| o.regularizer = 9,
            Status::InvalidArgument,
            "options.regularizer is 9, expected an ADAMW_REGULARIZER constant, 0 to 2",
        ),
        (
            |o| (o.regularizer, o.regularizer_coeff) = (ADAMW_REGULARIZER_L2, f64::NAN),
            Status::InvalidArgument,
            "regularizer_coeff is NaN, expected a finite number",
        ),
    ];
    let before = handle.options(number);
    for (edit, status, expected) in cases {
        let mut options = before;
        edit(&mut options);
        let failure = handle.set_options(number, &options).unwrap_err();
        assert_eq!((failure.status, &failure.text[..]), (status, expected));
        assert_eq!(format!("{:?}", handle.options(number)), format!("{before:?}"));
    }
}

#[test]
fn independent_decay_takes_its_part_whatever_the_learning_rate_is() {
    for (lr, scale) in [(0.1, 1.0), (0.1, 0.0), (0.0, 1.0), (1e-30, 3.0)] {
        for isa in crate::common::handle::isas() {
            let (weight_decay, eps) = (0.25, 1.0);
            let config = adamw_config { lr, weight_decay, eps, isa, ..config() };
            let handle = Handle::new(&adamw_config { independent_weight_decay: 1, ..config });
            let dependent = Handle::new(&config);
            let [param, other] = [0; 2].map(|_| Array::of(Dtype::F64, &[1.0, -2.0, 0.0]));
            let grad = Array::zeros(Dtype::F64, 3);
            for (handle, param) in [(&handle, &param), (&dependent, &other)] {
                let number = handle.add_array("w", param);
                handle.edit_options(number, |options| options.lr_scale = scale);
                handle.set_grad(number, &grad);
                (0..2).for_each(|_| handle.step());
            }
            assert_eq!(param.values(), [0.5625, -1.125, 0.0], "lr {lr} * {scale}");
            assert!(other.get(0) > 0.9, "lr {lr} * {scale}");
        }
    }
}

#[test]
fn where_decay_is_independent_is_a_setting_of_a_group() {
    let refused = adamw_config { independent_weight_decay: 2, ..config() };
    let text = "config.independent_weight_decay is 2, expected 0 or 1";
    assert_eq!(Handle::try_new(&refused).err().unwrap().text, text);
    let handle = Handle::new(&adamw_config { independent_weight_decay: 1, ..config() });
    assert_eq!(handle.group(handle.add_group(|_| ())).independent_weight_decay, 1);
    let group = handle.add_group(|group| group.independent_weight_decay = 0);
    assert_eq!(handle.group(group).independent_weight_decay, 0);
    for (edit, text) in [
        (
            adamw_group_config { independent_weight_decay: 2, ..handle.group(0) },
            "group.independent_weight_decay is 2, expected 0 or 1",
        ),
        (
            adamw_group_config { amsgrad: 2, ..handle.group(0) },
            "group.amsgrad is 2, expected 0 or 1",
        ),
        (
            adamw_group_config { bias_correction: 3, ..handle.group(0) },
            "group.bias_correction is 3, expected an ADAMW_BIAS_CORRECTION constant, 0 to 2",
        ),
    ] {
        assert_eq!(handle.try_add_group(&edit).unwrap_err().text, text);
        assert_eq!(handle.set_group(0, &edit).unwrap_err().text, text);
    }
}

/// Adds a parameter of one element, in a group with these values.
fn try_add(handle: &Handle, group: u32, param: &Array, regularizer: f64) -> Result<u32, Failure> {
    let regularizer = (ADAMW_REGULARIZER_L2, regularizer);
    handle.try_add(&Param { group, regularizer, ..Param::new("w", param) })
}

#[test]
fn what_f32_does_not_hold_is_refused_where_f32_uses_it() {
    type Edit = fn(&mut adamw_group_config, &mut f64);
    let edits: [(Edit, &str); 8] = [
        (|g, _| g.eps = 1e-46, "eps, 1e-46, is 0"),
        (|g, _| g.eps = 1e39, "eps, 1e39, is inf"),
        (|g, _| (g.clip, g.clip_norm) = (ADAMW_CLIP_GLOBAL_NORM, 1e-46), "clip_norm, 1e-46, is 0"),
        (|g, _| (g.clip, g.clip_norm) = (ADAMW_CLIP_NORM, 1e39), "clip_norm, 1e39, is inf"),
        (|g, _| (g.clip, g.clip_max) = (ADAMW_CLIP_VALUE, 1e39), "clip_max, 1e39, is inf"),
        (|g, _| (g.clip, g.clip_min) = (ADAMW_CLIP_VALUE, -1e39), "clip_min, -1e39, is -inf"),
        (
            |g, _| (g.independent_weight_decay, g.weight_decay) = (1, 1e39),
            "weight_decay, 1e39, is inf",
        ),
        (|_, coeff| *coeff = -1e39, "regularizer_coeff, -1e39, is -inf"),
    ];
    for (edit, text) in edits {
        let text =
            format!("param \"w\" is stepped in f32, in which {text}: give one that f32 holds");
        for dtype in [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16] {
            let handle = Handle::new(&config());
            let mut coeff = 0.0;
            let group = handle.add_group(|group| edit(group, &mut coeff));
            let param = Array::of(dtype, &[1.0]);
            let added = try_add(&handle, group, &param, coeff);
            if dtype == Dtype::F64 {
                assert_eq!(added, Ok(0), "{text}");
                continue;
            }
            let refused = |failure: Failure| {
                assert_eq!(failure, Failure { status: Status::InvalidArgument, text: text.clone() })
            };
            refused(added.unwrap_err());
            // One that is there is not given them either.
            let number = try_add(&handle, 0, &param, 0.0).unwrap();
            let before = format!("{:?} {:?}", handle.group(0), handle.options(number));
            if coeff == 0.0 {
                refused(handle.set_group(0, &handle.group(group)).unwrap_err());
            }
            let options = adamw_param_options {
                group,
                regularizer: ADAMW_REGULARIZER_L2,
                regularizer_coeff: coeff,
                ..handle.options(number)
            };
            refused(handle.set_options(number, &options).unwrap_err());
            assert_eq!(format!("{:?} {:?}", handle.group(0), handle.options(number)), before);
        }
    }
}

#[test]
fn a_learning_rate_that_is_too_large_for_the_type_fails_the_step() {
    let what = "lr * lr_scale * lr_ratio / (1 - beta1^step)";
    let decay = "lr * lr_scale * lr_ratio * weight_decay";
    for (lr, scale, weight_decay, dtype, text) in [
        (
            1e38,
            1.0,
            0.0,
            Dtype::F32,
            format!("f32, in which {what}, 1.0000000000000002e39, is inf"),
        ),
        (
            1e30,
            1e9,
            0.0,
            Dtype::Bf16,
            format!("f32, in which {what}, 1.0000000000000003e40, is inf"),
        ),
        (
            1e30,
            1.0,
            1e30,
            Dtype::F32,
            format!("f32, in which {decay}, 1.0000000000000001e60, is inf"),
        ),
        (1e300, 1e8, 0.0, Dtype::F64, format!("f64, in which {what}, inf, is inf")),
    ] {
        for schedules in [false, true] {
            let handle = Handle::new(&adamw_config { lr, weight_decay, ..config() });
            let (param, grad) = (Array::of(dtype, &[1.0]), Array::of(dtype, &[1.0]));
            let number = handle.add_array("w", &param);
            handle.edit_options(number, |options| options.lr_scale = scale);
            handle.set_grad(number, &grad);
            if schedules {
                let constant = crate::common::handle::schedule(ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP);
                handle.set_schedule(&adamw_schedule { lr, ..constant }).unwrap();
            }
            let Failure { status, text: got } = handle.try_step().unwrap_err();
            assert_eq!(status, Status::InvalidArgument);
            let computed = &text[..3];
            assert_eq!(
                got,
                format!("param \"w\" is stepped in {text}: give one that {computed} holds")
            );
            assert_eq!((param.get(0), handle.info(number).step), (1.0, 0));
        }
    }
}
