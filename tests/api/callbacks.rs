//! The host's functions: when they are asked, what they are told, what their answers do, and that
//! a failing one changes nothing.

use crate::common::LONG;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Info, Param, config};
use crate::common::host::{from_user_data, user_data};
use crate::common::random::Random;
use adamw::ffi::{self, Status};
use core::cell::{Cell, RefCell};
use core::ffi::{CStr, c_char, c_void};

const N: usize = 37;

fn random(n: usize, seed: u64) -> Array {
    Array::ordinary(Dtype::F32, n, &mut Random::new(seed))
}

/// A parameter that steps twice with the same gradient in a handle of its own.
fn trained(config: &ffi::adamw_config, n: usize) -> Array {
    let (param, grad, handle) = (random(n, 1), random(n, 2), Handle::new(config));
    handle.set_grad(handle.add_array("w", &param), &grad);
    handle.step();
    handle.step();
    param
}

#[track_caller]
fn assert_same(a: &Array, b: &Array) {
    assert_eq!(a.first_difference(b), None);
}

// ---------------------------------------------------------------------------- decay filter

/// Refuses names that end in `bias`, notes what it was asked, and may fail.
#[derive(Default)]
struct Filter {
    asked: RefCell<Vec<String>>,
    fails_with: Cell<Option<i32>>,
}

unsafe extern "C" fn decays(name: *const c_char, filter: *mut c_void) -> i32 {
    // SAFETY: registered with a `Filter`; the name is NUL-terminated.
    let (filter, name) = unsafe { (from_user_data::<Filter>(filter), CStr::from_ptr(name)) };
    let name = name.to_str().unwrap();
    filter.asked.borrow_mut().push(name.to_owned());
    filter.fails_with.get().unwrap_or((!name.ends_with("bias")).into())
}

#[test]
fn the_filter_is_asked_when_it_is_set_and_when_a_parameter_is_added() {
    let filter = Filter::default();
    let (a, b, c, handle) = (random(N, 1), random(N, 1), random(N, 1), Handle::new(&config()));
    handle.add_array("a.weight", &a);
    handle.add_array("a.bias", &b);
    handle.set_decay_filter(Some(decays), &filter).unwrap();
    assert_eq!(filter.asked.take(), ["a.weight", "a.bias"]);
    handle.add_array("b.bias", &c);
    assert_eq!(filter.asked.take(), ["b.bias"]);
    assert_eq!([0, 1, 2].map(|param| handle.info(param).decays), [1, 0, 0]);
    handle.step();
    handle.set_decay_filter(None, &filter).unwrap();
    assert_eq!([0, 1, 2].map(|param| handle.info(param).decays), [1, 1, 1]);
    assert!(filter.asked.take().is_empty());
}

#[test]
fn a_refused_parameter_steps_as_without_decay() {
    let filter = Filter::default();
    let mut config = config();
    config.weight_decay = 0.3;
    let (weight, bias, grad) = (random(N, 1), random(N, 1), random(N, 2));
    let handle = Handle::new(&config);
    handle.set_decay_filter(Some(decays), &filter).unwrap();
    handle.set_grad(handle.add_array("weight", &weight), &grad);
    handle.set_grad(handle.add_array("bias", &bias), &grad);
    handle.step();
    handle.step();
    assert_same(&weight, &trained(&config, N));
    config.weight_decay = 0.0;
    assert_same(&bias, &trained(&config, N));
}

#[test]
fn a_failing_filter_changes_nothing() {
    let (good, bad) = (Filter::default(), Filter::default());
    let (a, b, handle) = (random(N, 1), random(N, 1), Handle::new(&config()));
    handle.add_array("bias", &a);
    handle.set_decay_filter(Some(decays), &good).unwrap();
    for answer in [-1, 2, i32::MIN] {
        bad.fails_with.set(Some(answer));
        let refused = handle.set_decay_filter(Some(decays), &bad).unwrap_err();
        assert_eq!(refused.status, Status::Callback);
        assert!(refused.text.contains("bias") && refused.text.contains(&answer.to_string()));
        assert_eq!(handle.info(0).decays, 0);
    }
    good.asked.take();
    good.fails_with.set(Some(-1));
    let refused = handle.try_add(&Param::new("weight", &b)).unwrap_err();
    assert_eq!(refused.status, Status::Callback);
    assert_eq!(good.asked.take(), ["weight"]);
    assert_eq!(handle.try_info(1).unwrap_err().status, Status::NotFound);
    good.fails_with.set(None);
    assert_eq!(handle.add_array("weight", &b), 1);
}

// ---------------------------------------------------------------------------- lr_ratio

/// Answers with a ratio for each parameter, notes what it was told, and may fail.
struct Ratio {
    told: RefCell<Vec<Info>>,
    by_param: Cell<[f64; 3]>,
    returns: Cell<i32>,
}

impl Ratio {
    fn new(by_param: [f64; 3]) -> Ratio {
        Ratio { told: RefCell::default(), by_param: Cell::new(by_param), returns: Cell::new(0) }
    }
}

unsafe extern "C" fn ratio(
    param: *const ffi::adamw_param_info,
    out_ratio: *mut f64,
    ratio: *mut c_void,
) -> i32 {
    // SAFETY: registered with a `Ratio`; both pointers are the library's and live.
    let ratio = unsafe {
        let ratio = from_user_data::<Ratio>(ratio);
        assert_eq!((*param).struct_size, size_of::<ffi::adamw_param_info>());
        ratio.told.borrow_mut().push(Info::from_c(&*param));
        out_ratio.write(ratio.by_param.get()[(*param).param as usize]);
        ratio
    };
    ratio.returns.get()
}

#[test]
fn the_ratio_is_asked_at_each_step_about_each_parameter_with_a_gradient() {
    let (filter, ratios) = (Filter::default(), Ratio::new([1.0; 3]));
    let (a, b, c, grad) = (random(N, 1), random(N, 1), random(N, 1), random(N, 2));
    let handle = Handle::new(&config());
    let group = handle.add_group(|_| {});
    handle.set_decay_filter(Some(decays), &filter).unwrap();
    handle.set_lr_ratio(Some(ratio), &ratios);
    let weight = handle.add_array("weight", &a);
    let bias = handle.add(&Param { group, ..Param::new("bias", &b) });
    let frozen = handle.add_array("frozen", &c);
    handle.set_grad(bias, &grad);
    handle.step();
    let of_bias = |step| Info {
        name: "bias".to_owned(),
        n_elements: N as u64,
        step,
        param: bias,
        group,
        dtype: ffi::ADAMW_DTYPE_F32,
        decays: 0,
    };
    assert_eq!(ratios.told.take(), [of_bias(0)]);
    handle.set_grad(weight, &grad);
    handle.step();
    let of_weight = Info {
        name: "weight".to_owned(),
        step: 0,
        param: weight,
        group: 0,
        decays: 1,
        ..of_bias(0)
    };
    assert_eq!(ratios.told.take(), [of_weight, of_bias(1)]);
    assert_eq!(handle.info(frozen).step, 0);
    handle.set_lr_ratio(None, &ratios);
    handle.step();
    assert!(ratios.told.take().is_empty());
}

#[test]
fn a_ratio_scales_the_whole_learning_rate_of_its_parameter() {
    let mut config = config();
    (config.lr, config.weight_decay) = (0.1, 0.5);
    let ratios = Ratio::new([0.25, 1.0, 0.0]);
    let (params, grad) = ([(); 3].map(|()| random(N, 1)), random(N, 2));
    let handle = Handle::new(&config);
    handle.set_lr_ratio(Some(ratio), &ratios);
    for (name, param) in ["quarter", "whole", "nothing"].iter().zip(&params) {
        handle.set_grad(handle.add_array(name, param), &grad);
    }
    handle.step();
    handle.step();
    assert_same(&params[1], &trained(&config, N));
    config.lr *= 0.25;
    assert_same(&params[0], &trained(&config, N));
    assert_same(&params[2], &random(N, 1));
}

#[test]
fn a_failing_ratio_changes_nothing() {
    let ratios = Ratio::new([1.0; 3]);
    let (first, second, grad) = (random(N, 1), random(N, 3), random(N, 2));
    let handle = Handle::new(&config());
    handle.set_grad(handle.add_array("first", &first), &grad);
    handle.set_grad(handle.add_array("second", &second), &grad);
    handle.set_lr_ratio(Some(ratio), &ratios);
    for (answer, returned, failing) in [
        (1.0, 1, "first"),
        (1.0, -7, "first"),
        (f64::NAN, 0, "second"),
        (f64::INFINITY, 0, "second"),
        (-0.5, 0, "second"),
    ] {
        ratios.by_param.set([1.0, answer, 1.0]);
        ratios.returns.set(returned);
        let failure = handle.try_step().unwrap_err();
        assert_eq!(failure.status, Status::Callback);
        assert!(failure.text.contains(failing), "{}", failure.text);
        assert_same(&first, &random(N, 1));
        assert_same(&second, &random(N, 3));
        assert_eq!([0, 1].map(|param| handle.info(param).step), [0, 0]);
    }
    ratios.by_param.set([1.0; 3]);
    ratios.returns.set(0);
    handle.step();
    handle.step();
    assert_same(&first, &trained(&config(), N));
}

// ---------------------------------------------------------------------------- parallel_for

/// Notes how many tasks it was given, and then does as much as it is told to.
struct Loop {
    given: Cell<usize>,
    runs: Cell<bool>,
    returns: Cell<i32>,
}

impl Loop {
    fn config(&self, num_threads: u32) -> ffi::adamw_config {
        let mut config = config();
        config.num_threads = num_threads;
        config.parallel_for = Some(one_after_another);
        config.parallel_for_data = user_data(self);
        config
    }
}

unsafe extern "C" fn one_after_another(
    num_tasks: usize,
    task: ffi::adamw_task,
    task_data: *mut c_void,
    loop_: *mut c_void,
) -> i32 {
    // SAFETY: registered with a `Loop`.
    let loop_ = unsafe { from_user_data::<Loop>(loop_) };
    loop_.given.set(loop_.given.get() + num_tasks);
    if loop_.runs.get() {
        let task = task.unwrap();
        // SAFETY: each index once, while the call lasts.
        (0..num_tasks).for_each(|index| unsafe { task(task_data, index) });
    }
    loop_.returns.get()
}

fn new_loop(runs: bool, returns: i32) -> Loop {
    Loop { given: Cell::new(0), runs: Cell::new(runs), returns: Cell::new(returns) }
}

#[test]
fn the_hosts_loop_gets_long_work_and_never_short_work() {
    let long = new_loop(true, 0);
    let expected = trained(&config(), LONG);
    assert_same(&trained(&long.config(3), LONG), &expected);
    assert_eq!(long.given.get(), 2 * 3);
    let short = new_loop(true, 0);
    trained(&short.config(3), N);
    trained(&short.config(1), LONG);
    assert_eq!(short.given.get(), 0);
}

#[test]
fn what_the_hosts_loop_leaves_undone_is_done() {
    let lazy = new_loop(false, 0);
    assert_same(&trained(&lazy.config(3), LONG), &trained(&config(), LONG));
    assert_eq!(lazy.given.get(), 2 * 3);
}

#[test]
fn a_hosts_loop_that_fails_at_once_changes_nothing() {
    let failing = new_loop(false, 5);
    let (param, grad) = (random(LONG, 1), random(LONG, 2));
    let handle = Handle::new(&failing.config(2));
    let number = handle.add_array("w", &param);
    handle.set_grad(number, &grad);
    let failure = handle.try_step().unwrap_err();
    assert_eq!(failure.status, Status::Callback);
    assert!(failure.text.contains('5'), "{}", failure.text);
    assert_same(&param, &random(LONG, 1));
    assert_eq!(handle.info(number).step, 0);
    failing.returns.set(0);
    handle.step();
    handle.step();
    assert_same(&param, &trained(&config(), LONG));
}

// ---------------------------------------------------------------------------- reentry

/// A callback that calls its own handle.
#[derive(Default)]
struct Reentry {
    handle: Cell<Option<*mut ffi::Optimizer>>,
    seen: RefCell<Vec<Status>>,
}

unsafe extern "C" fn calls_back(
    _param: *const ffi::adamw_param_info,
    out_ratio: *mut f64,
    reentry: *mut c_void,
) -> i32 {
    let mut lr = 0.0;
    // SAFETY: registered with a `Reentry` whose handle lives; `out_ratio` is the library's.
    #[allow(unused_unsafe, reason = "some functions take no pointer but the handle")]
    unsafe {
        let reentry = from_user_data::<Reentry>(reentry);
        let handle = reentry.handle.get().unwrap();
        out_ratio.write(1.0);
        reentry.seen.borrow_mut().extend([
            ffi::adamw_get_lr(handle, &mut lr),
            ffi::adamw_step(handle),
            ffi::adamw_destroy(handle),
        ]);
    }
    0
}

#[test]
fn a_callback_finds_its_own_handle_busy() {
    let reentry = Reentry::default();
    let (param, grad, handle) = (random(N, 1), random(N, 2), Handle::new(&config()));
    reentry.handle.set(Some(handle.raw()));
    handle.set_lr_ratio(Some(calls_back), &reentry);
    handle.set_grad(handle.add_array("w", &param), &grad);
    handle.step();
    handle.step();
    assert_eq!(reentry.seen.take(), [Status::Busy; 6]);
    assert_same(&param, &trained(&config(), N));
}
