//! Any sequence of calls leaves what the slow, obvious model has, bit for bit; a call that is refused
//! leaves what was there.

mod common;

use adamw::ffi::*;
use common::array::{Array, Dtype};
use common::handle::{self, Answer, Handle, isas};
use common::model::{self, Format, Grad, Model};
use common::random::Random;
use common::rows::Rows;
use proptest::prelude::*;

/// A call; a number of a parameter or group is taken modulo how many there are and, now and then,
/// one more.
#[derive(Clone, Debug)]
enum Call {
    AddGroup(Hyper),
    SetGroup(u8, Hyper),
    AddParam { dtype: u8, length: u16, group: u8, seed: u64 },
    SetLr(f64),
    SetGradScale(f64),
    SetGrad { param: u8, seed: u64, spoiled: bool },
    SetRows { param: u8, rows: Vec<u16>, row: u8, seed: u64 },
    Accumulate { param: u8, seed: u64 },
    ForgetGrad(u8),
    ClearGrad { zero: bool },
    Step,
    GradReady(u8),
    StepParam(u8),
    Apply { params: Vec<u8>, seed: u64 },
    Options { param: u8, group: u8, lr_scale: f64, frozen: bool, no_clip: bool, regularizer: u8 },
    Reset(u8),
    Remove(u8),
}

#[derive(Clone, Debug)]
struct Hyper {
    lr_scale: f64,
    weight_decay: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    clip: u8,
    clip_norm: f64,
    lazy: u8,
    precision: u8,
    moments: u8,
}

#[derive(Clone, Debug)]
struct Setup {
    amsgrad: bool,
    maximize: bool,
    multi_precision: bool,
    average_grads: bool,
    skip: bool,
    handle_scope: bool,
    isa: usize,
    threads: u32,
    statistics: bool,
    clear_grads: bool,
    group: Hyper,
}

fn hyper() -> impl Strategy<Value = Hyper> {
    let number = |low: f64, high: f64| prop_oneof![Just(0.0), low..high];
    (
        (
            number(0.0, 3.0),
            number(-0.2, 0.5),
            0.0..1.0,
            prop_oneof![Just(0.0), Just(1.5), 0.1..1.0],
        ),
        (1e-9..1e-2, 0u8..5, 0.01..4.0, 0u8..3, 0u8..5, 0u8..4),
    )
        .prop_map(|((lr_scale, weight_decay, beta1, beta2), numbers)| {
            let (eps, clip, clip_norm, lazy, precision, moments) = numbers;
            Hyper {
                lr_scale,
                weight_decay,
                beta1,
                beta2,
                eps,
                clip,
                clip_norm,
                lazy,
                precision,
                moments,
            }
        })
}

fn setup() -> impl Strategy<Value = Setup> {
    let flags = any::<[bool; 8]>();
    (flags, 0usize..3, 1u32..4, hyper()).prop_map(|(flags, isa, threads, group)| {
        let [amsgrad, maximize, multi_precision, average_grads, ..] = flags;
        let [.., skip, handle_scope, statistics, clear_grads] = flags;
        let group = Hyper { beta2: group.beta2.min(0.999), ..group };
        Setup {
            amsgrad,
            maximize,
            multi_precision,
            average_grads,
            skip,
            handle_scope,
            isa,
            threads,
            statistics,
            clear_grads,
            group,
        }
    })
}

fn call() -> impl Strategy<Value = Call> {
    let byte = any::<u8>;
    let length = prop_oneof![8 => 0u16..64, 1 => 4000u16..9000];
    prop_oneof![
        2 => hyper().prop_map(Call::AddGroup),
        2 => (byte(), hyper()).prop_map(|(group, hyper)| Call::SetGroup(group, hyper)),
        5 => (byte(), length, byte(), any::<u64>())
            .prop_map(|(dtype, length, group, seed)| Call::AddParam { dtype, length, group, seed }),
        1 => prop_oneof![Just(-1.0), 0.0..0.5].prop_map(Call::SetLr),
        1 => prop_oneof![Just(0.0), 0.5..2000.0].prop_map(Call::SetGradScale),
        8 => (byte(), any::<u64>(), prop::bool::weighted(0.05))
            .prop_map(|(param, seed, spoiled)| Call::SetGrad { param, seed, spoiled }),
        5 => (byte(), prop::collection::vec(0u16..40, 0..6), 1u8..5, any::<u64>())
            .prop_map(|(param, rows, row, seed)| Call::SetRows { param, rows, row, seed }),
        3 => (byte(), any::<u64>()).prop_map(|(param, seed)| Call::Accumulate { param, seed }),
        1 => byte().prop_map(Call::ForgetGrad),
        1 => any::<bool>().prop_map(|zero| Call::ClearGrad { zero }),
        12 => Just(Call::Step),
        4 => byte().prop_map(Call::GradReady),
        3 => byte().prop_map(Call::StepParam),
        1 => (prop::collection::vec(byte(), 0..4), any::<u64>())
            .prop_map(|(params, seed)| Call::Apply { params, seed }),
        3 => (byte(), byte(), prop_oneof![Just(-1.0), 0.0..2.0], any::<[bool; 2]>(), 0u8..4).prop_map(
            |(param, group, lr_scale, [frozen, no_clip], regularizer)| Call::Options {
                param,
                group,
                lr_scale,
                frozen,
                no_clip,
                regularizer,
            }
        ),
        1 => byte().prop_map(Call::Reset),
        1 => byte().prop_map(Call::Remove),
    ]
}

impl Hyper {
    fn put(&self, group: &mut adamw_group_config) {
        group.lr_scale = self.lr_scale;
        group.weight_decay = self.weight_decay;
        group.beta1 = self.beta1;
        group.beta2 = self.beta2;
        group.eps = self.eps;
        group.clip = self.clip.into();
        let norm = if group.clip == ADAMW_CLIP_NONE { 0.0 } else { self.clip_norm };
        (group.clip_norm, group.clip_min, group.clip_max) = (norm, -norm / 2.0, norm / 4.0);
        group.lazy_mode = self.lazy.into();
        group.precision = self.precision.into();
        group.moments = self.moments.into();
    }

    /// Whether the library takes it: beta2 may be 1.5, clip and precision may be 4.
    fn is_good(&self) -> bool {
        self.beta2 < 1.0 && self.clip <= 3 && self.precision <= 3
    }
}

/// The model and the library, side by side.
struct Pair {
    handle: Handle,
    model: Model,
    /// Host memory by parameter, and all that gradients were ever in.
    arrays: Vec<Array>,
    grads: Vec<Array>,
    rows: Vec<Rows>,
}

impl Pair {
    fn new(setup: &Setup) -> Option<Pair> {
        let mut group: adamw_group_config = handle_defaults();
        setup.group.put(&mut group);
        let config = adamw_config {
            lr: 0.1,
            beta1: group.beta1,
            beta2: group.beta2,
            eps: group.eps,
            weight_decay: group.weight_decay,
            clip: group.clip,
            clip_norm: group.clip_norm,
            clip_min: group.clip_min,
            clip_max: group.clip_max,
            lazy_mode: group.lazy_mode,
            precision: group.precision,
            moments: group.moments,
            seed: 0x1234_5678_9abc_def0,
            amsgrad: setup.amsgrad.into(),
            maximize: setup.maximize.into(),
            multi_precision: setup.multi_precision.into(),
            average_grads: setup.average_grads.into(),
            clear_grads: setup.clear_grads.into(),
            nonfinite: if setup.skip { ADAMW_NONFINITE_SKIP } else { ADAMW_NONFINITE_PROPAGATE },
            clip_scope: if setup.handle_scope {
                ADAMW_CLIP_SCOPE_HANDLE
            } else {
                ADAMW_CLIP_SCOPE_GROUP
            },
            isa: isas()[setup.isa % isas().len()],
            num_threads: setup.threads,
            ..handle::config()
        };
        let handle = Handle::try_new(&config).ok()?;
        handle.set_statistics(setup.statistics.into()).unwrap();
        let groups = vec![handle.group(0)];
        let model =
            Model { config, lr: 0.1, grad_scale: 1.0, window: 0, groups, params: Vec::new() };
        Some(Pair { handle, model, arrays: Vec::new(), grads: Vec::new(), rows: Vec::new() })
    }

    /// A parameter that a byte names, which may be one that is not there.
    fn param(&self, byte: u8) -> (u32, bool) {
        let number = byte as usize % (self.model.params.len() + 1);
        (number as u32, self.model.params.get(number).is_some_and(|param| !param.removed))
    }

    fn group(&self, byte: u8) -> (u32, bool) {
        let number = byte as usize % (self.model.groups.len() + 1);
        (number as u32, number < self.model.groups.len())
    }

    /// A new gradient for a parameter, in its own type or f32.
    fn grad(&mut self, number: u32, seed: u64) -> (usize, Vec<f64>) {
        let param = &self.model.params[number as usize];
        let dtype = if seed.is_multiple_of(3) { Dtype::F32 } else { param.dtype };
        let grad = Array::ordinary(dtype, param.param.len(), &mut Random::new(seed));
        let values = grad.values();
        self.grads.push(grad);
        (self.grads.len() - 1, values)
    }

    /// Makes one call of both. The library refuses exactly what `is_good` says.
    fn make(&mut self, call: &Call) {
        match call {
            Call::AddGroup(hyper) => {
                let mut group = self.model.groups[0];
                hyper.put(&mut group);
                let added = self.handle.try_add_group(&group);
                expect(&added, hyper.is_good(), call);
                if added.is_ok() {
                    self.model.groups.push(group);
                }
            }
            Call::SetGroup(byte, hyper) => {
                let (number, is_there) = self.group(*byte);
                let mut group = self.model.groups[number as usize % self.model.groups.len()];
                hyper.put(&mut group);
                let set = self.handle.set_group(number, &group);
                expect(&set, is_there && hyper.is_good(), call);
                if set.is_ok() {
                    self.model.groups[number as usize] = group;
                }
            }
            Call::AddParam { dtype, length, group, seed } => {
                self.add(*dtype, *length, *group, *seed, call)
            }
            Call::SetLr(lr) => {
                let set = self.handle.try_set_lr(*lr);
                expect(&set, *lr >= 0.0, call);
                if set.is_ok() {
                    self.model.lr = *lr;
                }
            }
            Call::SetGradScale(scale) => {
                let set = self.handle.set_grad_scale(*scale);
                expect(&set, *scale > 0.0, call);
                if set.is_ok() {
                    self.model.grad_scale = *scale;
                }
            }
            Call::SetGrad { param, seed, spoiled } => {
                let (number, is_there) = self.param(*param);
                if !is_there {
                    let stray = Array::zeros(Dtype::F32, 1);
                    return expect(&self.handle.try_set_grad(number, &stray), false, call);
                }
                let (grad, mut values) = self.grad(number, *seed);
                if *spoiled
                    && self.model.config.nonfinite == ADAMW_NONFINITE_SKIP
                    && !values.is_empty()
                {
                    values[0] = f64::NAN;
                    self.grads[grad].set(0, f64::NAN);
                }
                self.handle.set_grad(number, &self.grads[grad]);
                self.model.params[number as usize].grad = Some(Grad::Dense(values));
            }
            Call::SetRows { param, rows, row, seed } => {
                self.set_rows(*param, rows, *row, *seed, call)
            }
            Call::Accumulate { param, seed } => {
                let (number, is_there) = self.param(*param);
                if is_there {
                    let (grad, values) = self.grad(number, *seed);
                    self.handle.accumulate_grad(number, &self.grads[grad]).unwrap();
                    self.model.accumulate(number as usize, &values);
                }
            }
            Call::ForgetGrad(param) => {
                let (number, is_there) = self.param(*param);
                if is_there {
                    self.handle.forget_grad(number);
                    self.model.params[number as usize].grad = None;
                }
            }
            Call::ClearGrad { zero } => {
                self.handle.clear_grad(if *zero { ADAMW_CLEAR_ZERO } else { ADAMW_CLEAR_FORGET });
                for param in &mut self.model.params {
                    param.grad = match param.grad.take() {
                        Some(Grad::Dense(grad)) if *zero => {
                            Some(Grad::Dense(vec![0.0; grad.len()]))
                        }
                        Some(Grad::Rows(rows, values)) if *zero => {
                            Some(Grad::Rows(rows, vec![0.0; values.len()]))
                        }
                        _ => None,
                    };
                }
                self.model.begin_window();
            }
            Call::Step => {
                let is_good = !self.model.is_refused();
                expect(&self.handle.try_step(), is_good, call);
                if is_good {
                    self.model.step();
                }
            }
            Call::GradReady(param) => {
                let (number, is_there) = self.param(*param);
                let is_good = is_there
                    && !(self.model.measures() && self.model.is_refused_alone(number as usize));
                expect(&self.handle.grad_ready(number), is_good, call);
            }
            Call::StepParam(param) => {
                let (number, is_there) = self.param(*param);
                let i = number as usize;
                let is_good =
                    is_there && !self.model.conflicts(i) && !self.model.is_refused_alone(i);
                expect(&self.handle.step_param(number), is_good, call);
                if is_good {
                    self.model.step_one(i);
                }
            }
            Call::Apply { params, seed } => self.apply(params, *seed, call),
            Call::Options { param, group, lr_scale, frozen, no_clip, regularizer } => {
                let ((number, is_there), (group, has_group)) =
                    (self.param(*param), self.group(*group));
                if !is_there {
                    return;
                }
                let options = adamw_param_options {
                    group,
                    lr_scale: *lr_scale,
                    frozen: (*frozen).into(),
                    no_clip: (*no_clip).into(),
                    regularizer: (*regularizer).into(),
                    regularizer_coeff: 0.125,
                    ..self.handle.options(number)
                };
                let set = self.handle.set_options(number, &options);
                expect(&set, has_group && *lr_scale >= 0.0 && *regularizer <= 2, call);
                if set.is_ok() {
                    self.model.params[number as usize].options = options;
                }
            }
            Call::Reset(param) => {
                let (number, is_there) = self.param(*param);
                if is_there {
                    self.handle.sparse_flush();
                    self.handle.reset(number);
                    self.model.params[number as usize].reset();
                }
            }
            Call::Remove(param) => {
                let (number, is_there) = self.param(*param);
                expect(&self.handle.remove(number), is_there, call);
                if is_there {
                    self.model.params[number as usize].removed = true;
                    self.model.params[number as usize].grad = None;
                }
            }
        }
    }

    fn add(&mut self, dtype: u8, length: u16, group: u8, seed: u64, call: &Call) {
        let (group, has_group) = self.group(group);
        let dtype = Dtype::ALL[dtype as usize % 4];
        let array = Array::ordinary(dtype, length.into(), &mut Random::new(seed));
        let name = format!("w{}", self.model.params.len());
        let added =
            self.handle.try_add(&handle::Param { group, ..handle::Param::new(&name, &array) });
        let groups = self.model.groups.clone();
        let is_of_bf16 = |group| {
            let precision = groups[group as usize].precision;
            [ADAMW_PRECISION_SPLIT, ADAMW_PRECISION_STOCHASTIC].contains(&precision)
        };
        let is_refused = |group| {
            let is_nibbles = groups[group as usize].moments == ADAMW_MOMENTS_4BIT;
            dtype == Dtype::F16 && is_of_bf16(group)
                || dtype != Dtype::F64 && is_nibbles && self.model.config.amsgrad == 1
        };
        expect(&added, has_group && !is_refused(group), call);
        if let Ok(number) = added {
            let options = self.handle.options(number);
            let format = Format {
                multi_precision: self.model.config.multi_precision == 1,
                precision: groups[group as usize].precision,
                moments: groups[group as usize].moments,
            };
            let param = model::Param::new(name, dtype, array.values(), options, format);
            self.model.params.push(param);
            self.arrays.push(array);
        }
    }

    fn set_rows(&mut self, param: u8, rows: &[u16], row: u8, seed: u64, call: &Call) {
        let (number, is_there) = self.param(param);
        if !is_there {
            return;
        }
        let param = &mut self.model.params[number as usize];
        let row: usize = if rows.is_empty() { 0 } else { row.into() };
        let height = param.param.len() / row.max(1);
        if height == 0 && !rows.is_empty() {
            return; // it has no row to list
        }
        let rows: Vec<usize> = rows.iter().map(|&r| r as usize % height.max(1)).collect();
        let values = Array::ordinary(param.dtype, rows.len() * row, &mut Random::new(seed));
        let fits = rows.is_empty() || param.param.len().is_multiple_of(row);
        let list = Rows::i32(&rows);
        let set = self.handle.try_set_sparse_grad(number, &list, &values);
        match set {
            Ok(()) => {
                assert!(fits, "{call:?} was taken");
                param.grad = Some(Grad::Rows(rows, values.values()));
                self.grads.push(values);
                self.rows.push(list);
            }
            // Under exact laziness rows keep the length that they had first.
            Err(failure) => {
                let reasons = ["earlier ones", "has moments in codes"];
                let is_known = reasons.iter().any(|reason| failure.text.contains(reason));
                assert!(!fits || is_known, "{call:?}: {failure:?}")
            }
        }
    }

    fn apply(&mut self, params: &[u8], seed: u64, call: &Call) {
        let numbers: Vec<(u32, bool)> = params.iter().map(|&byte| self.param(byte)).collect();
        if !numbers.iter().all(|(_, is_there)| *is_there) {
            return;
        }
        let numbers: Vec<u32> = numbers.into_iter().map(|(number, _)| number).collect();
        let made: Vec<(usize, Vec<f64>)> =
            numbers.iter().zip(seed..).map(|(&number, seed)| self.grad(number, seed)).collect();
        let pairs: Vec<(u32, &Array)> = numbers
            .iter()
            .zip(&made)
            .map(|(&number, (grad, _))| (number, &self.grads[*grad]))
            .collect();
        let mut once = numbers.clone();
        once.sort_unstable();
        once.dedup();
        let applied = self.handle.apply_gradients(&pairs);
        expect(&applied, once.len() == numbers.len(), call);
        if applied.is_ok() {
            let before: Vec<Option<Grad>> =
                self.model.params.iter_mut().map(|param| param.grad.take()).collect();
            for (number, (_, values)) in numbers.iter().zip(made) {
                self.model.params[*number as usize].grad = Some(Grad::Dense(values));
            }
            let window = self.model.window;
            self.model.step();
            self.model.window = window;
            for (param, grad) in self.model.params.iter_mut().zip(before) {
                param.grad = grad;
            }
        }
    }

    /// All that can be seen of the library is what the model has.
    fn compare(&self, call: &Call) {
        self.handle.sparse_flush();
        for (number, (param, array)) in (0..).zip(self.model.params.iter().zip(&self.arrays)) {
            if param.removed {
                assert!(self.handle.try_info(number).is_err());
                continue;
            }
            let expected = Array::of(param.dtype, &param.param);
            assert_eq!(array.first_difference(&expected), None, "param {number} after {call:?}");
            assert_eq!(self.handle.info(number).step, param.step);
            let state = [("exp_avg", &param.exp_avg), ("exp_avg_sq", &param.exp_avg_sq)];
            for (part, values) in state {
                let dtype = match param.format.moments {
                    ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT => continue, // the parameter shows it a step later
                    ADAMW_MOMENTS_BF16 => Dtype::Bf16,
                    _ => param.dtype.compute(),
                };
                let seen = Array::zeros(dtype, values.len());
                self.handle.get_state(&format!("state.w{number}.{part}"), &seen).unwrap();
                let expected = Array::of(dtype, values);
                assert_eq!(
                    seen.first_difference(&expected),
                    None,
                    "{part} {number} after {call:?}"
                );
            }
        }
    }
}

#[track_caller]
fn expect<T>(answer: &Answer<T>, is_good: bool, call: &Call) {
    let text = answer.as_ref().err().map(|failure| &failure.text);
    assert_eq!(answer.is_ok(), is_good, "{call:?}: {text:?}");
}

fn handle_defaults() -> adamw_group_config {
    Handle::new(&handle::config()).group(0)
}

/// `make test-long` asks for more.
fn cases() -> u32 {
    std::env::var("ADAMW_MODEL_CASES").map_or(2000, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_sequence_of_calls_leaves_what_the_model_has(
        setup in setup(),
        calls in prop::collection::vec(call(), 1..60),
    ) {
        if let Some(mut pair) = Pair::new(&setup) {
            for call in &calls {
                pair.make(call);
                pair.compare(call);
            }
        }
    }
}
