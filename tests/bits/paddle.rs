//! Agrees with the traces that Paddle's AdamW printed (`golden/README.md`): the parameters after
//! every step, the state and the step counts at the end.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, config, schedule};
use crate::common::host::from_user_data;
use adamw::ffi::*;
use core::ffi::{CStr, c_char, c_void};
use serde_json::Value;

/// A test for each case; the file and this list are compared, so that none is left out.
macro_rules! traces {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_trace_has_a_test() {
            let traces = traces();
            let names: Vec<_> = traces.iter().map(|trace| text(&trace["name"])).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

traces! {
    default_32 options_32 amsgrad_32 no_decay_filter_32 negative_decay_32 zero_decay_big_eps_32
    groups_32 missing_grads_32 set_lr_32 scalar_and_long_32
    clip_global_norm_32 clip_global_norm_need_clip_32 clip_global_norm_inactive_32
    clip_per_group_32 clip_norm_32 clip_value_32 regularizer_l2_32 regularizer_l1_32 schedule_32
    default_64 options_64 amsgrad_64 no_decay_filter_64 negative_decay_64 zero_decay_big_eps_64
    groups_64 missing_grads_64 set_lr_64 scalar_and_long_64
    clip_global_norm_64 clip_global_norm_need_clip_64 clip_global_norm_inactive_64
    clip_per_group_64 clip_value_64 regularizer_l2_64 regularizer_l1_64 schedule_64
}

fn traces() -> Vec<Value> {
    serde_json::from_str(include_str!("../golden/paddle_adamw.json")).unwrap()
}

/// Takes a trace's steps and compares all that it holds.
fn check(name: &str) {
    let trace = traces().into_iter().find(|trace| trace["name"] == name).unwrap();
    let dtype = match text(&trace["dtype"]) {
        "float32" => Dtype::F32,
        "float64" => Dtype::F64,
        other => panic!("{other}"),
    };
    let handle = handle(&trace["config"], &trace["clip"]);
    let no_decay = no_decay(&trace);
    handle.set_decay_filter(Some(decays), &no_decay).unwrap();
    let params = params(&trace, dtype, &handle);
    let is_scheduled = set_schedule(&trace["schedule"], &handle);

    for (t, step) in list(&trace["steps"]).iter().enumerate() {
        let lr = number(&step["lr"]);
        if is_scheduled {
            assert!((handle.lr() - lr).abs() <= 1e-12 * lr, "step {t}");
        } else {
            handle.set_lr(lr);
        }
        let grads = list(&step["grads"]).iter();
        let grads: Vec<Option<Array>> =
            grads.map(|grad| (!grad.is_null()).then(|| Array::of(dtype, &numbers(grad)))).collect();
        let numbers_and_grads: Vec<_> =
            params.iter().zip(&grads).map(|(param, grad)| (param.number, grad.as_ref())).collect();
        handle.set_grads(&numbers_and_grads);
        handle.step();
        for (param, expected) in params.iter().zip(list(&step["params"])) {
            assert_near(&param.param, &numbers(expected), || format!("step {t}, {}", param.name));
        }
    }
    for param in &params {
        param.assert_state(&trace["state"], &handle);
    }
}

fn handle(arguments: &Value, clip: &Value) -> Handle {
    let mut config = config();
    config.lr = arguments["learning_rate"].as_f64().unwrap_or(0.001);
    config.beta1 = arguments["beta1"].as_f64().unwrap_or(0.9);
    config.beta2 = arguments["beta2"].as_f64().unwrap_or(0.999);
    config.eps = arguments["epsilon"].as_f64().unwrap_or(1e-8);
    config.weight_decay = as_paddle_rounds(arguments["weight_decay"].as_f64().unwrap_or(0.01));
    config.amsgrad = arguments["amsgrad"].as_bool().unwrap_or(false).into();
    config.clip = match clip[0].as_str() {
        None => ADAMW_CLIP_NONE,
        Some("norm") => ADAMW_CLIP_NORM,
        Some("global_norm") => ADAMW_CLIP_GLOBAL_NORM,
        Some("value") => ADAMW_CLIP_VALUE,
        Some(other) => panic!("{other}"),
    };
    config.clip_scope = ADAMW_CLIP_SCOPE_GROUP;
    config.clip_norm = clip[1].as_f64().unwrap_or(0.0);
    config.clip_max = clip[1].as_f64().unwrap_or(0.0);
    config.clip_min = clip[2].as_f64().unwrap_or(0.0);
    Handle::new(&config)
}

/// Sets the schedule of a trace that has one.
fn set_schedule(given: &Value, handle: &Handle) -> bool {
    if given.is_null() {
        return false;
    }
    assert_eq!(given[0], "CosineAnnealingDecay");
    let [lr, t_max, eta_min] = numbers(&given[1])[..] else { panic!("{given}") };
    let mut cosine = schedule(ADAMW_SCHEDULE_COSINE_ANNEALING);
    (cosine.lr, cosine.period, cosine.min_lr) = (lr, t_max as u64, eta_min);
    handle.set_schedule(&cosine).unwrap();
    true
}

/// Paddle takes weight_decay as float32, whatever the parameters are.
fn as_paddle_rounds(weight_decay: f64) -> f64 {
    (weight_decay as f32).into()
}

/// One parameter of a trace, with moments of the host's to look into.
struct Traced {
    name: String,
    number: u32,
    param: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    max_exp_avg_sq: Option<Array>,
    beta1: f64,
    beta2: f64,
}

fn params(trace: &Value, dtype: Dtype, handle: &Handle) -> Vec<Traced> {
    let groups = trace["groups"].as_array().map_or(&[][..], Vec::as_slice);
    let added: Vec<u32> = groups.iter().map(|group| add_group(handle, group)).collect();
    let amsgrad = trace["config"]["amsgrad"] == true;
    let params = list(&trace["params"]).iter().enumerate();
    params
        .map(|(i, param)| {
            let name = text(&param["name"]).to_owned();
            let init = numbers(&param["init"]);
            let shape: Vec<i64> = list(&param["shape"]).iter().flat_map(Value::as_i64).collect();
            let zeros = || Array::zeros(dtype, init.len()).shaped(&shape);
            let param = Array::of(dtype, &init).shaped(&shape);
            let (exp_avg, exp_avg_sq) = (zeros(), zeros());
            let max_exp_avg_sq = amsgrad.then(zeros);
            let its_group =
                groups.iter().position(|group| list(&group["params"]).contains(&i.into()));
            let number = handle.add(&Param {
                exp_avg: Some(&exp_avg),
                exp_avg_sq: Some(&exp_avg_sq),
                max_exp_avg_sq: max_exp_avg_sq.as_ref(),
                group: its_group.map_or(0, |group| added[group]),
                no_clip: list(&trace["no_clip"]).contains(&i.into()),
                regularizer: regularizer(&trace["regularizer"], i),
                ..Param::new(&name, &param)
            });
            let beta = |field: &str, default: f64| {
                let overridden = its_group.and_then(|group| groups[group][field].as_f64());
                overridden.or(trace["config"][field].as_f64()).unwrap_or(default)
            };
            let (beta1, beta2) = (beta("beta1", 0.9), beta("beta2", 0.999));
            Traced { name, number, param, exp_avg, exp_avg_sq, max_exp_avg_sq, beta1, beta2 }
        })
        .collect()
}

/// That of the i-th parameter, of `[kind, coefficient, number of the parameter]`.
fn regularizer(trace: &Value, i: usize) -> (adamw_regularizer, f64) {
    match trace[0].as_str().filter(|_| trace[2] == i) {
        None => (ADAMW_REGULARIZER_NONE, 0.0),
        Some("l1") => (ADAMW_REGULARIZER_L1, number(&trace[1])),
        Some("l2") => (ADAMW_REGULARIZER_L2, number(&trace[1])),
        Some(other) => panic!("{other}"),
    }
}

fn add_group(handle: &Handle, overrides: &Value) -> u32 {
    handle.add_group(|group| {
        let set = |field: &mut f64, name: &str| {
            if let Some(value) = overrides[name].as_f64() {
                *field = value;
            }
        };
        set(&mut group.lr_scale, "learning_rate");
        set(&mut group.beta1, "beta1");
        set(&mut group.beta2, "beta2");
        set(&mut group.eps, "epsilon");
        set(&mut group.weight_decay, "weight_decay");
        group.weight_decay = as_paddle_rounds(group.weight_decay);
    })
}

impl Traced {
    fn assert_state(&self, state: &Value, handle: &Handle) {
        let assert_near = |array: &Array, suffix: &str, scale: f64| {
            let of_paddle = numbers(&state[format!("{}_{suffix}", self.name)]);
            let expected: Vec<f64> = of_paddle.iter().map(|value| value * scale).collect();
            assert_near(array, &expected, || format!("{}_{suffix}", self.name))
        };
        let (scale1, scale2) = (self.as_if_exact(self.beta1), self.as_if_exact(self.beta2));
        assert_near(&self.exp_avg, "moment1_0", scale1);
        assert_near(&self.exp_avg_sq, "moment2_0", scale2);
        if let Some(max) = &self.max_exp_avg_sq {
            assert_near(max, "moment2_max_0", scale2);
        }
        let taken = handle.info(self.number).step as i32;
        let power = |beta: f64| Array::of(self.param.dtype(), &[beta.powi(taken + 1)]);
        assert_near(&power(self.beta1), "beta1_pow_acc_0", 1.0);
        assert_near(&power(self.beta2), "beta2_pow_acc_0", 1.0);
    }

    /// A moment is proportional to 1 - beta, which Paddle computes in the parameter's type: in
    /// float32 it makes 9.99987e-4 of 1 - 0.999. This is what its moments lack.
    fn as_if_exact(&self, beta: f64) -> f64 {
        match self.param.dtype() {
            Dtype::F32 => (1.0 - beta) / f64::from(1.0 - beta as f32),
            _ => 1.0,
        }
    }
}

/// Within 3e-6 (f32) or 1e-13 (f64) of the tensor's largest value.
#[track_caller]
fn assert_near(array: &Array, expected: &[f64], context: impl Fn() -> String) {
    let tolerance = if array.dtype() == Dtype::F32 { 3e-6 } else { 1e-13 };
    let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    assert_eq!(array.len(), expected.len());
    for (i, (value, expected)) in array.values().iter().zip(expected).enumerate() {
        let error = (value - expected).abs() / largest;
        assert!(error <= tolerance, "{}: [{i}] {value} {expected}, off by {error:e}", context());
    }
}

/// The names of the parameters that do not decay.
fn no_decay(trace: &Value) -> Vec<String> {
    let params = list(&trace["params"]);
    let indices = list(&trace["no_decay"]).iter().flat_map(Value::as_u64);
    indices.map(|i| text(&params[i as usize]["name"]).to_owned()).collect()
}

unsafe extern "C" fn decays(name: *const c_char, user_data: *mut c_void) -> i32 {
    // SAFETY: the library passes a NUL-terminated name and what `check` registered.
    let (name, no_decay) =
        unsafe { (CStr::from_ptr(name), from_user_data::<Vec<String>>(user_data)) };
    (!no_decay.iter().any(|banned| banned.as_bytes() == name.to_bytes())).into()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(number).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
