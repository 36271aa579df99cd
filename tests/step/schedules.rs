//! Learning-rate schedules: Paddle's traces, closed forms, refusals, saved states, and what a step
//! does with them.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Answer, Handle, config, schedule, schedule_trace};
use crate::common::host::{from_user_data, user_data};
use adamw::ffi::{self, *};
use core::cell::{Cell, RefCell};
use core::f64::consts::PI;
use core::ffi::c_void;
use serde_json::Value;

/// A schedule with all that it points to.
struct Owned {
    schedule: adamw_schedule,
    _boundaries: Vec<u64>,
    _values: Vec<f64>,
    _inner: Vec<Owned>,
    _pointers: Vec<*const adamw_schedule>,
}

fn owned(
    mut schedule: adamw_schedule,
    boundaries: &[u64],
    values: &[f64],
    inner: Vec<Owned>,
) -> Owned {
    let (boundaries, values) = (boundaries.to_vec(), values.to_vec());
    let pointers: Vec<_> = inner.iter().map(|owned| &raw const owned.schedule).collect();
    (schedule.boundaries, schedule.n_boundaries) = (boundaries.as_ptr(), boundaries.len());
    (schedule.values, schedule.n_values) = (values.as_ptr(), values.len());
    (schedule.schedules, schedule.n_schedules) = (pointers.as_ptr(), pointers.len());
    Owned { schedule, _boundaries: boundaries, _values: values, _inner: inner, _pointers: pointers }
}

fn plain(kind: adamw_schedule_kind, edit: impl FnOnce(&mut adamw_schedule)) -> Owned {
    let mut schedule = schedule(kind);
    edit(&mut schedule);
    owned(schedule, &[], &[], vec![])
}

#[track_caller]
fn assert_near(lrs: &[f64], expected: &[f64], what: &str) {
    assert_eq!(lrs.len(), expected.len());
    for (i, (lr, expected)) in lrs.iter().zip(expected).enumerate() {
        let near = (lr - expected).abs() <= 1e-12 * expected.abs();
        assert!(near, "{what}, index {i}: {lr:?}, expected {expected:?}");
    }
}

fn bits(lrs: &[f64]) -> Vec<u64> {
    lrs.iter().map(|lr| lr.to_bits()).collect()
}

// ---------------------------------------------------------------------------------- Paddle

fn list(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn indices(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|value| value.as_u64().unwrap()).collect()
}

unsafe extern "C" fn power_of_0_95(index: u64, out: *mut f64, _: *mut c_void) -> i32 {
    // SAFETY: the library's pointer.
    unsafe { *out = 0.95f64.powi(index as i32) };
    0
}

unsafe extern "C" fn always_0_95(_: u64, out: *mut f64, _: *mut c_void) -> i32 {
    // SAFETY: the library's pointer.
    unsafe { *out = 0.95 };
    0
}

/// Paddle's class and arguments as a schedule of ours.
fn from_paddle(trace: &Value) -> Owned {
    let args = &trace["args"];
    let real = |name: &str, default: f64| args[name].as_f64().unwrap_or(default);
    let whole = |name: &str| args[name].as_u64().unwrap_or(0);
    let flag = |name: &str| args[name].as_bool().unwrap_or(false).into();
    let mut inner = vec![];
    let (mut boundaries, mut values) = (vec![], vec![]);
    let kind = match trace["class"].as_str().unwrap() {
        "NoamDecay" => ADAMW_SCHEDULE_NOAM,
        "PiecewiseDecay" => ADAMW_SCHEDULE_PIECEWISE,
        "NaturalExpDecay" => ADAMW_SCHEDULE_NATURAL_EXP,
        "InverseTimeDecay" => ADAMW_SCHEDULE_INVERSE_TIME,
        "PolynomialDecay" => ADAMW_SCHEDULE_POLYNOMIAL,
        "LinearWarmup" => ADAMW_SCHEDULE_LINEAR_WARMUP,
        "ExponentialDecay" => ADAMW_SCHEDULE_EXPONENTIAL,
        "MultiStepDecay" => ADAMW_SCHEDULE_MULTI_STEP,
        "StepDecay" => ADAMW_SCHEDULE_STEP,
        "LambdaDecay" => ADAMW_SCHEDULE_LAMBDA,
        "ReduceOnPlateau" => ADAMW_SCHEDULE_REDUCE_ON_PLATEAU,
        "CosineAnnealingDecay" => ADAMW_SCHEDULE_COSINE_ANNEALING,
        "MultiplicativeDecay" => ADAMW_SCHEDULE_MULTIPLICATIVE,
        "OneCycleLR" => ADAMW_SCHEDULE_ONE_CYCLE,
        "CyclicLR" => ADAMW_SCHEDULE_CYCLIC,
        "LinearLR" => ADAMW_SCHEDULE_LINEAR,
        "CosineAnnealingWarmRestarts" => ADAMW_SCHEDULE_COSINE_WARM_RESTARTS,
        other => panic!("{other}"),
    };
    let mut s = schedule(kind);
    s.lr = real("learning_rate", real("base_learning_rate", 0.0));
    s.min_lr = real("eta_min", 0.0);
    s.max_lr = real("max_learning_rate", 0.0);
    s.end_lr = real("end_lr", real("end_learning_rate", 1e-4));
    s.start_lr = real("start_lr", 0.0);
    s.gamma = real("gamma", real("exp_gamma", 0.0));
    s.power = real("power", 0.0);
    s.factor = real("factor", 0.0);
    (s.start_factor, s.end_factor) = (real("start_factor", 0.0), real("end_factor", 1.0));
    s.divide_factor = real("divide_factor", 0.0);
    s.phase_fraction = real("phase_pct", 0.0);
    (s.threshold, s.epsilon) = (1e-4, 1e-8);
    s.d_model = whole("d_model");
    s.warmup_steps = whole("warmup_steps");
    s.total_steps = whole("decay_steps") + whole("total_steps");
    s.period = whole("T_max") + whole("T_0") + whole("step_size");
    s.period_factor = whole("T_mult");
    (s.steps_up, s.steps_down) = (whole("step_size_up"), whole("step_size_down"));
    (s.patience, s.cooldown) = (whole("patience") as u32, whole("cooldown") as u32);
    s.cyclic_mode = match args["mode"].as_str() {
        None => ADAMW_CYCLIC_TRIANGULAR,
        Some("triangular2") => ADAMW_CYCLIC_TRIANGULAR2,
        Some("exp_range") => ADAMW_CYCLIC_EXP_RANGE,
        Some(other) => panic!("{other}"),
    };
    s.cycle = flag("cycle");
    s.three_phase = flag("three_phase");
    s.linear_anneal = (args["anneal_strategy"] == "linear").into();
    s.function = match args["lr_lambda"].as_str() {
        None => None,
        Some("0.95**e") => Some(power_of_0_95),
        Some("0.95") => Some(always_0_95),
        Some(other) => panic!("{other}"),
    };
    if args["learning_rate"].is_object() {
        inner.push(from_paddle(&args["learning_rate"]));
    }
    for name in ["boundaries", "milestones"] {
        if !args[name].is_null() {
            boundaries = indices(&args[name]);
        }
    }
    if !args["values"].is_null() {
        values = list(&args["values"]);
    }
    owned(s, &boundaries, &values, inner)
}

fn paddle() -> Vec<Value> {
    serde_json::from_str(include_str!("../golden/paddle_lr.json")).unwrap()
}

/// What `adamw_get_lr` says at each index of a handle that goes on by `advance`.
fn lrs(handle: &Handle, n: usize, mut advance: impl FnMut(usize) -> Answer) -> Vec<f64> {
    let mut lrs = vec![handle.lr()];
    for i in 1..n {
        advance(i - 1).unwrap();
        lrs.push(handle.lr());
    }
    lrs
}

#[test]
fn every_trace_of_paddle_is_met() {
    let traces = paddle();
    assert_eq!(traces.len(), 22);
    for trace in &traces {
        let (what, expected) = (trace.to_string(), list(&trace["lr"]));
        let mut owned = from_paddle(trace);
        let handle = Handle::new(&config());
        handle.set_schedule(&owned.schedule).unwrap();
        if trace["metrics"].is_null() {
            let stepped = lrs(&handle, expected.len(), |_| handle.try_step());
            assert_near(&stepped, &expected, &what);
            let traced = schedule_trace(&owned.schedule, expected.len()).unwrap();
            assert_eq!(bits(&traced), bits(&stepped), "{what}");
            owned.schedule.advance = ADAMW_ADVANCE_MANUALLY;
            handle.set_schedule(&owned.schedule).unwrap();
            let advanced = lrs(&handle, expected.len(), |_| handle.advance_schedule());
            assert_eq!(bits(&advanced), bits(&stepped), "{what}");
        } else {
            let metrics = list(&trace["metrics"]);
            let advance = |i: usize| handle.advance_schedule_with_metric(metrics[i]);
            assert_near(&lrs(&handle, expected.len(), advance), &expected, &what);
        }
    }
}

// ---------------------------------------------------------------------------- closed forms

#[test]
fn closed_forms_are_met() {
    type Form = fn(f64) -> f64;
    let line = |i: f64| if i < 4.0 { 0.1 + 0.4 * i / 4.0 } else { 0.5 };
    let warm = |s: &mut adamw_schedule| {
        (s.lr, s.start_lr, s.min_lr) = (0.5, 0.1, 0.05);
        (s.warmup_steps, s.total_steps, s.decay_steps) = (4, 20, 5);
    };
    let halves = |i: f64| 0.05 + 0.45 * (1.0 + (PI * ((i - 4.0) / 16.0).min(1.0)).cos()) / 2.0;
    let cases: [(adamw_schedule_kind, &dyn Fn(f64) -> f64); 5] = [
        (ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP, &|_| 0.5),
        (ADAMW_SCHEDULE_LINEAR_WITH_WARMUP, &|i| 0.5 - 0.45 * ((i - 4.0) / 16.0).min(1.0)),
        (ADAMW_SCHEDULE_COSINE_WITH_WARMUP, &halves),
        (ADAMW_SCHEDULE_INVERSE_SQRT, &|i| 0.5 * 2.0 / i.sqrt()),
        (ADAMW_SCHEDULE_WARMUP_STABLE_DECAY, &|i| {
            0.5 - 0.45 * ((i - 15.0) / 5.0).clamp(0.0, 1.0).sqrt()
        }),
    ];
    for (kind, after) in cases {
        let owned = plain(kind, warm);
        let expected: Vec<f64> =
            (0..30).map(f64::from).map(|i| if i < 4.0 { line(i) } else { after(i) }).collect();
        let lrs = schedule_trace(&owned.schedule, 30).unwrap();
        assert_near(&lrs, &expected, &format!("kind {kind}"));
    }
    let function = plain(ADAMW_SCHEDULE_FUNCTION, |s| {
        s.function = Some(power_of_0_95);
        (s.lr, s.warmup_steps) = (0.5, 4); // not looked at
    });
    let form: Form = |i| 0.95f64.powi(i as i32);
    let expected: Vec<f64> = (0..30).map(f64::from).map(form).collect();
    assert_near(&schedule_trace(&function.schedule, 30).unwrap(), &expected, "function");
}

#[test]
fn a_chain_starts_each_part_afresh() {
    let lrs = schedule_trace(&chain().schedule, 12).unwrap();
    let (first, second) = (multiplicative(), cosine());
    let mut expected = schedule_trace(&first.schedule, 3).unwrap();
    expected.extend(schedule_trace(&second.schedule, 4).unwrap());
    expected.extend(schedule_trace(&first.schedule, 5).unwrap());
    assert_eq!(bits(&lrs), bits(&expected));
}

#[test]
fn one_cycle_holds_its_end() {
    for (three_phase, linear_anneal) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let owned = plain(ADAMW_SCHEDULE_ONE_CYCLE, |s| {
            (s.max_lr, s.end_lr, s.total_steps) = (1.0, 0.25, 10);
            (s.three_phase, s.linear_anneal) = (three_phase, linear_anneal);
        });
        let lrs = schedule_trace(&owned.schedule, 40).unwrap();
        assert_eq!(&lrs[9..], [0.25; 31], "three_phase {three_phase}");
        assert_near(&lrs[..1], &[1.0 / 25.0], "the start");
    }
}

// ------------------------------------------------------------------------------------ state

fn multiplicative() -> Owned {
    plain(ADAMW_SCHEDULE_MULTIPLICATIVE, |s| {
        s.lr = 0.5;
        s.function = Some(always_0_95);
    })
}

fn cosine() -> Owned {
    plain(ADAMW_SCHEDULE_COSINE_ANNEALING, |s| (s.lr, s.min_lr, s.period) = (0.3, 0.01, 3))
}

fn chain() -> Owned {
    let parts = vec![multiplicative(), cosine(), multiplicative()];
    owned(schedule(ADAMW_SCHEDULE_CHAIN), &[3, 7], &[], parts)
}

/// One of each kind.
fn every_kind() -> Vec<Owned> {
    let mut all: Vec<Owned> = paddle().iter().map(from_paddle).collect();
    for kind in ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP..=ADAMW_SCHEDULE_WARMUP_STABLE_DECAY {
        all.push(plain(kind, |s| {
            (s.lr, s.warmup_steps, s.total_steps, s.decay_steps) = (0.5, 4, 20, 5);
        }));
    }
    all.push(chain());
    all.push(plain(ADAMW_SCHEDULE_FUNCTION, |s| s.function = Some(power_of_0_95)));
    let mut kinds: Vec<_> = all.iter().map(|owned| owned.schedule.kind).collect();
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds, (ADAMW_SCHEDULE_NOAM..=ADAMW_SCHEDULE_FUNCTION).collect::<Vec<_>>());
    all
}

#[test]
fn a_saved_state_goes_on_with_the_same_bits() {
    for owned in every_kind() {
        let kind = owned.schedule.kind;
        for saved_at in [1, 5, 8, 13] {
            let (first, second) = (Handle::new(&config()), Handle::new(&config()));
            let advance = |handle: &Handle, i: usize| match kind {
                ADAMW_SCHEDULE_REDUCE_ON_PLATEAU => handle
                    .advance_schedule_with_metric(4.0 + (i as f64 * 1.7).sin() / (i + 1) as f64),
                _ => handle.try_step(),
            };
            first.set_schedule(&owned.schedule).unwrap();
            lrs(&first, saved_at, |i| advance(&first, i));
            let state = first.schedule_state().unwrap();
            assert_eq!((state.index, state.lr), (saved_at as u64 - 1, first.lr()));
            second.set_schedule(&owned.schedule).unwrap();
            second.set_schedule_state(&state).unwrap();
            let rest = |handle: &Handle| lrs(handle, 30, |i| advance(handle, saved_at + i));
            assert_eq!(bits(&rest(&first)), bits(&rest(&second)), "kind {kind}, at {saved_at}");
        }
    }
}

#[test]
fn a_state_that_is_none_is_refused() {
    let handle = Handle::new(&config());
    let nothing = handle.schedule_state().unwrap_err();
    assert_eq!(
        (nothing.status, nothing.text.as_str()),
        (Status::NotFound, "the handle has no schedule: adamw_set_lr_schedule sets one")
    );
    handle.set_schedule(&cosine().schedule).unwrap();
    let good = handle.schedule_state().unwrap();
    for (edit, text) in [
        (|s| s.lr = f64::NAN, "state.lr is NaN, expected a finite number >= 0"),
        (|s| s.lr = -1.0, "state.lr is -1, expected a finite number >= 0"),
        (
            |s| s.best = f64::INFINITY,
            "state.best is inf, expected a finite number, or NaN for none",
        ),
    ] as [(fn(&mut adamw_schedule_state), &str); 3]
    {
        let mut state = good;
        edit(&mut state);
        let failure = handle.set_schedule_state(&state).unwrap_err();
        assert_eq!((failure.status, failure.text.as_str()), (Status::InvalidArgument, text));
        assert_eq!(handle.lr(), 0.3);
    }
}

// ------------------------------------------------------------------------------------- step

/// A parameter, its gradient and a handle that knows both.
fn trained() -> (Array, Array, Handle) {
    let (param, grad) = (Array::of(Dtype::F64, &[1.0, -2.0]), Array::of(Dtype::F64, &[0.5, 0.25]));
    let handle = Handle::new(&config());
    handle.set_grad(handle.add_array("w", &param), &grad);
    (param, grad, handle)
}

#[test]
fn a_step_uses_the_learning_rate_of_its_index() {
    let owned = cosine();
    let (scheduled, _grad, handle) = trained();
    handle.set_schedule(&owned.schedule).unwrap();
    let (set, _other_grad, by_hand) = trained();
    for lr in schedule_trace(&owned.schedule, 10).unwrap() {
        assert_eq!(handle.lr().to_bits(), lr.to_bits());
        by_hand.set_lr(lr);
        by_hand.step();
        handle.step();
        assert_eq!(scheduled.first_difference(&set), None);
    }
}

#[test]
fn a_schedule_has_the_learning_rate_to_itself_until_it_is_removed() {
    let handle = Handle::new(&config());
    handle.set_schedule(&cosine().schedule).unwrap();
    handle.step();
    let lr = handle.lr();
    let conflict = handle.try_set_lr(0.7).unwrap_err();
    let text = "lr is the schedule's: adamw_set_lr_schedule with NULL removes it";
    assert_eq!((conflict.status, conflict.text.as_str()), (Status::LrConflict, text));
    assert_eq!(handle.lr(), lr);
    handle.remove_schedule();
    assert_eq!(handle.lr(), lr);
    handle.step();
    assert_eq!(handle.lr(), lr);
    handle.set_lr(0.7);
    assert_eq!(handle.lr(), 0.7);
}

#[test]
fn a_schedule_advances_by_the_call_that_it_was_set_for() {
    let refused = |answer: Answer, text: &str| {
        let failure = answer.unwrap_err();
        assert_eq!((failure.status, failure.text.as_str()), (Status::InvalidArgument, text));
    };
    let handle = Handle::new(&config());
    assert_eq!(handle.advance_schedule().unwrap_err().status, Status::NotFound);
    let mut cosine = cosine();
    handle.set_schedule(&cosine.schedule).unwrap();
    refused(
        handle.advance_schedule(),
        "the schedule advances with every step, not by a call: ADAMW_ADVANCE_MANUALLY waits for calls",
    );
    cosine.schedule.advance = ADAMW_ADVANCE_MANUALLY;
    handle.set_schedule(&cosine.schedule).unwrap();
    handle.step();
    assert_eq!(handle.schedule_state().unwrap().index, 0);
    let text = "the schedule takes no metric, as REDUCE_ON_PLATEAU alone does: adamw_schedule_advance advances it";
    refused(handle.advance_schedule_with_metric(1.0), text);
    handle.advance_schedule().unwrap();
    assert_eq!(handle.schedule_state().unwrap().index, 1);
    let plateau = plain(ADAMW_SCHEDULE_REDUCE_ON_PLATEAU, |s| s.lr = 1.0);
    handle.set_schedule(&plateau.schedule).unwrap();
    handle.step();
    refused(
        handle.advance_schedule(),
        "the schedule advances with a metric only: adamw_schedule_advance_with_metric takes it",
    );
    refused(
        handle.advance_schedule_with_metric(f64::NAN),
        "metric is NaN, expected a finite number",
    );
    assert_eq!(handle.schedule_state().unwrap().index, 0);
    refused(
        schedule_trace(&plateau.schedule, 2).map(drop),
        "the schedule advances with a metric only: adamw_schedule_advance_with_metric takes it",
    );
}

#[test]
fn plateaus_of_either_direction_and_threshold_are_found() {
    // What follows the first metric, the best so far, and whether each one is better.
    for (maximize, absolute, metrics) in [
        (0, 0, [(10.0, true), (9.1, false), (8.9, true)]),
        (0, 1, [(10.0, true), (9.95, false), (9.8, true)]),
        (1, 0, [(10.0, true), (10.9, false), (11.1, true)]),
        (1, 1, [(10.0, true), (10.05, false), (10.2, true)]),
    ] {
        let owned = plain(ADAMW_SCHEDULE_REDUCE_ON_PLATEAU, |s| {
            (s.lr, s.threshold, s.patience) = (1.0, 0.1, 9);
            (s.maximize_metric, s.threshold_is_absolute) = (maximize, absolute);
        });
        let handle = Handle::new(&config());
        handle.set_schedule(&owned.schedule).unwrap();
        for (metric, is_better) in metrics {
            handle.advance_schedule_with_metric(metric).unwrap();
            let state = handle.schedule_state().unwrap();
            assert_eq!(state.best == metric, is_better, "{maximize} {absolute} {metric}");
            assert_eq!(state.num_bad == 0, is_better, "{maximize} {absolute} {metric}");
        }
    }
}

/// What a function does at index 2, and the indices it was asked about.
#[derive(Default)]
struct Failing {
    returns: Cell<i32>,
    value: Cell<f64>,
    asked: RefCell<Vec<u64>>,
}

unsafe extern "C" fn failing(index: u64, out: *mut f64, data: *mut c_void) -> i32 {
    // SAFETY: registered with a `Failing`.
    let failing = unsafe { from_user_data::<Failing>(data) };
    failing.asked.borrow_mut().push(index);
    // SAFETY: the library's pointer.
    unsafe { *out = if index == 2 { failing.value.get() } else { 0.1 } };
    if index == 2 { failing.returns.get() } else { 0 }
}

#[test]
fn a_function_that_fails_fails_the_step_before_anything_is_written() {
    for (returns, value, text) in [
        (-7, 0.1, "schedule.function returned -7 at index 2, expected 0"),
        (0, -1.0, "schedule.function gave -1 at index 2, expected a finite number >= 0"),
        (0, f64::NAN, "schedule.function gave NaN at index 2, expected a finite number >= 0"),
    ] {
        let function = Failing::default();
        function.returns.set(returns);
        function.value.set(value);
        let owned = plain(ADAMW_SCHEDULE_FUNCTION, |s| {
            s.function = Some(failing);
            s.user_data = user_data(&function);
        });
        let (param, _grad, handle) = trained();
        handle.set_schedule(&owned.schedule).unwrap();
        handle.step();
        let (before, state) = (param.values(), handle.schedule_state().unwrap());
        let failure = handle.try_step().unwrap_err();
        assert_eq!((failure.status, failure.text.as_str()), (Status::Callback, text));
        assert_eq!(param.values(), before);
        assert_eq!(handle.schedule_state().unwrap().index, state.index);
        assert_eq!(handle.info(0).step, 1);
        function.returns.set(0);
        function.value.set(0.2);
        handle.step();
        assert_eq!((handle.lr(), handle.info(0).step), (0.2, 2));
        assert_eq!(function.asked.take(), [0, 1, 2, 2]);
    }
}

#[test]
fn a_step_that_is_refused_advances_nothing() {
    unsafe extern "C" fn no_ratio(
        _: *const ffi::adamw_param_info,
        _: *mut f64,
        _: *mut c_void,
    ) -> i32 {
        1
    }
    let (_param, _grad, handle) = trained();
    handle.set_schedule(&cosine().schedule).unwrap();
    handle.set_lr_ratio(Some(no_ratio), &());
    assert_eq!(handle.try_step().unwrap_err().status, Status::Callback);
    assert_eq!((handle.schedule_state().unwrap().index, handle.lr()), (0, 0.3));
}

#[test]
fn a_schedule_without_a_learning_rate_takes_the_handles() {
    let handle = Handle::new(&adamw_config { lr: 0.25, ..config() });
    let cosine = plain(ADAMW_SCHEDULE_COSINE_WITH_WARMUP, |s| {
        (s.warmup_steps, s.total_steps) = (4, 100);
    });
    let param = Array::of(Dtype::F32, &[1.0]);
    let number = handle.add_array("w", &param);
    handle.set_grad(number, &param.duplicate());
    // Again after the warmup has made it 0: it is still what the host gave.
    for _ in 0..2 {
        handle.set_schedule(&cosine.schedule).unwrap();
        assert_eq!(handle.lr(), 0.0);
        (0..4).for_each(|_| handle.step());
        assert_eq!(handle.lr(), 0.25);
    }
    handle.remove_schedule();
    handle.set_lr(0.5);
    let warmup = plain(ADAMW_SCHEDULE_LINEAR_WARMUP, |s| (s.end_lr, s.warmup_steps) = (0.5, 1));
    let constant = plain(ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP, |_| ());
    let chain = owned(schedule(ADAMW_SCHEDULE_CHAIN), &[2], &[], vec![warmup, constant]);
    handle.set_schedule(&chain.schedule).unwrap();
    let lrs: Vec<f64> = (0..4)
        .map(|_| {
            handle.step();
            handle.lr()
        })
        .collect();
    assert_eq!(lrs, [0.5; 4]);
    // Where 0 is a learning rate to start from, it stays one.
    let cyclic = plain(ADAMW_SCHEDULE_CYCLIC, |s| (s.max_lr, s.steps_up) = (1.0, 2));
    handle.set_schedule(&cyclic.schedule).unwrap();
    assert_eq!(handle.lr(), 0.0);
}

#[test]
fn a_cosine_of_any_period_goes_through_its_valley() {
    for period in [1u64 << 27, 300_000_000, 1 << 40, 1 << 53] {
        let owned = plain(ADAMW_SCHEDULE_COSINE_ANNEALING, |s| {
            (s.lr, s.min_lr, s.period, s.advance) = (0.3, 0.01, period, ADAMW_ADVANCE_MANUALLY);
        });
        let handle = Handle::new(&config());
        handle.set_schedule(&owned.schedule).unwrap();
        let state = handle.schedule_state().unwrap();
        for index in [period / 2, period - 3, 2 * period - 3] {
            let state = adamw_schedule_state { index, lr: 0.01, ..state };
            handle.set_schedule_state(&state).unwrap();
            for index in index + 1..index + 7 {
                handle.advance_schedule().unwrap();
                let at = (index % (2 * period)) as f64 / period as f64;
                let expected = 0.01 + (0.3 - 0.01) * (1.0 + (PI * at).cos()) / 2.0;
                assert!((handle.lr() - expected).abs() < 1e-12, "{period}, {index}");
            }
        }
    }
}

#[test]
fn an_index_is_where_so_many_advances_lead() {
    let warmup = |inner| {
        let warmup = schedule(ADAMW_SCHEDULE_LINEAR_WARMUP);
        let line = adamw_schedule { end_lr: 0.3, warmup_steps: 5, ..warmup };
        owned(line, &[], &[], vec![inner])
    };
    let polynomial = || plain(ADAMW_SCHEDULE_POLYNOMIAL, |s| (s.lr, s.total_steps) = (1.0, 40));
    let chain = owned(schedule(ADAMW_SCHEDULE_CHAIN), &[7], &[], vec![polynomial(), cosine()]);
    for owned in [cosine(), polynomial(), warmup(cosine()), chain] {
        let lrs = schedule_trace(&owned.schedule, 30).unwrap();
        for (index, lr) in lrs.iter().enumerate() {
            let handle = Handle::new(&config());
            handle.set_schedule(&owned.schedule).unwrap();
            handle.set_schedule_index(index as u64).unwrap();
            assert_eq!(handle.schedule_state().unwrap().index, index as u64);
            assert_eq!(handle.lr().to_bits(), lr.to_bits(), "{index}");
        }
    }
    let handle = Handle::new(&config());
    assert_eq!(handle.set_schedule_index(1).unwrap_err().status, Status::NotFound);
    handle.set_schedule(&cosine().schedule).unwrap();
    let failure = handle.set_schedule_index(1 << 31).unwrap_err();
    assert!(failure.text.ends_with("expected at most 2^24"), "{}", failure.text);
    assert_eq!(handle.schedule_state().unwrap().index, 0);
    let plateau = plain(ADAMW_SCHEDULE_REDUCE_ON_PLATEAU, |s| s.lr = 1.0);
    handle.set_schedule(&plateau.schedule).unwrap();
    let failure = handle.set_schedule_index(1).unwrap_err();
    assert!(failure.text.contains("goes by metrics"), "{}", failure.text);
}

#[test]
fn a_plateau_may_come_after_a_warmup() {
    for advance in [ADAMW_ADVANCE_ON_STEP, ADAMW_ADVANCE_MANUALLY] {
        let owned = plain(ADAMW_SCHEDULE_REDUCE_ON_PLATEAU, |s| {
            (s.lr, s.factor, s.warmup_steps, s.advance) = (1.0, 0.5, 4, advance);
        });
        assert_eq!(schedule_trace(&owned.schedule, 5).unwrap(), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert!(schedule_trace(&owned.schedule, 6).is_err());
        let handle = Handle::new(&config());
        handle.set_schedule(&owned.schedule).unwrap();
        let further = || match advance {
            ADAMW_ADVANCE_ON_STEP => handle.step(),
            _ => handle.advance_schedule().unwrap(),
        };
        for lr in [0.0, 0.25, 0.5, 0.75] {
            assert_eq!(handle.lr(), lr);
            handle.advance_schedule_with_metric(3.0 + lr).unwrap();
            further();
        }
        assert_eq!((handle.lr(), handle.schedule_state().unwrap().best), (1.0, 3.0));
        handle.step();
        let text = handle.advance_schedule().unwrap_err().text;
        assert_eq!(
            text,
            "the schedule advances with a metric only: adamw_schedule_advance_with_metric takes it"
        );
        handle.advance_schedule_with_metric(3.5).unwrap();
        assert_eq!((handle.lr(), handle.schedule_state().unwrap().index), (0.5, 5));
        handle.advance_schedule_with_metric(1.0).unwrap();
        assert_eq!(handle.lr(), 0.5);
    }
}
