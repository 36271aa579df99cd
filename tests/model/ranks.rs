//! Ranks that each have a range of every parameter take the steps of the model, whatever is called between,
//! and go on as another number of ranks.

use crate::call::Hyper;
use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{in_memory, load_options};
use crate::common::handle::{Answer, Handle, Param, answer, call, config, isas, loss_scaler};
use crate::common::model::param::{Format, Shard};
use crate::common::model::{self, Grad, Model, Scaler, Verdict};
use crate::common::random::Random;
use crate::functions;
use crate::hosts::Numbers;
use crate::meeting::Meeting;
use adamw::ffi::{self, *};
use core::ops::Range;

/// One rank, with its range of each parameter, by number.
struct Rank {
    handle: Handle,
    params: Vec<Option<Array>>,
    grads: Vec<Option<Array>>,
}

struct Ranks {
    ranks: Vec<Rank>,
    /// By parameter, the ranges of the ranks.
    cuts: Vec<Vec<Range<usize>>>,
    model: Model,
    config: adamw_config,
    random: Random,
    n_named: u32,
    n_refused: u64,
    meeting: Box<Meeting>,
}

/// Prints which sequence has failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("ranks: seed {}", self.0);
        }
    }
}

/// Makes so many sequences from a seed on. How many steps were taken, skipped, and refused.
pub fn run(first: u64, n_sequences: u64) -> [u64; 3] {
    let mut counts = [0; 3];
    for seed in first..first + n_sequences {
        let _seed = Seed(seed);
        let mut ranks = Ranks::new(Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        for _ in 0..3 {
            ranks.add();
        }
        for _ in 0..ranks.random.below(60) {
            ranks.make_any(&mut counts);
        }
        ranks.compare();
        counts[2] += ranks.n_refused;
    }
    counts
}

impl Ranks {
    fn new(mut random: Random) -> Ranks {
        let random = &mut random;
        let clip = random.below(4) as u32;
        let norm = if clip == ADAMW_CLIP_NONE { 0.0 } else { random.between(0.01, 4.0) };
        let moments = random.one_of(&[0, 0, 1, 2, 3]);
        let config = adamw_config {
            lr: 0.125,
            clip,
            clip_norm: norm,
            clip_min: -norm / 2.0,
            clip_max: norm / 4.0,
            clip_scope: random.below(2) as u32,
            precision: random.one_of(&[ADAMW_PRECISION_DEFAULT, ADAMW_PRECISION_KAHAN]),
            moments,
            amsgrad: u32::from(moments != ADAMW_MOMENTS_4BIT && random.once_in(2)),
            multi_precision: random.below(2) as u32,
            average_grads: random.below(2) as u32,
            clear_grads: u32::from(random.once_in(3)),
            nonfinite: random.below(3) as u32,
            seed: random.next(),
            ..config()
        };
        let group = Handle::new(&config).group(0);
        let hosts = Numbers::new(0.125, &group).values();
        let model = Model::new(config, 0.125, hosts, group);
        let mut ranks = Ranks {
            ranks: Vec::new(),
            cuts: Vec::new(),
            model,
            config,
            random: Random::new(random.next()),
            n_named: 0,
            n_refused: 0,
            meeting: Box::new(Meeting::new(1)),
        };
        ranks.gather();
        ranks
    }

    /// New ranks, of which there are some, without parameters.
    fn gather(&mut self) {
        let n_ranks = 1 + self.random.below(4) as usize;
        self.ranks.clear();
        self.cuts.clear();
        *self.meeting = Meeting::new(n_ranks);
        for _ in 0..n_ranks {
            let (isa, num_threads) = (self.random.one_of(&isas()), 1 + self.random.below(2) as u32);
            let handle = Handle::new(&adamw_config { isa, num_threads, ..self.config });
            self.meeting.join(&handle).unwrap();
            self.ranks.push(Rank { handle, params: Vec::new(), grads: Vec::new() });
        }
    }

    /// Tells all ranks the same.
    fn tell(&self, tell: impl Fn(&Handle) -> Answer) {
        self.ranks.iter().for_each(|rank| tell(&rank.handle).unwrap());
    }

    /// A parameter that is there.
    fn any(&mut self) -> Option<usize> {
        let live: Vec<usize> = self.model.live().collect();
        (!live.is_empty()).then(|| self.random.one_of(&live))
    }

    fn make_any(&mut self, counts: &mut [u64; 3]) {
        match self.random.below(40) {
            0..3 => self.add(),
            3 => self.remove(),
            4..7 => self.set_options(),
            7 => self.set_group(),
            8 => self.add_group(),
            9 => self.set_scale(),
            10 => {
                let lr = self.random.one_of(&[0.1, 0.25, 0.0]);
                self.tell(|handle| handle.try_set_lr(lr));
                (self.model.lr, self.model.given_lr) = (lr, lr);
            }
            11 => {
                let window = self.random.one_of(&[0, 0, 2, 4]);
                self.tell(|handle| {
                    handle.set_accumulation_window(window);
                    Ok(())
                });
                self.model.window = window;
            }
            12..20 => self.set_grad(),
            20..23 => self.accumulate(),
            23 => self.forget(),
            24 => self.clear(),
            25 => self.go_on_as_others(),
            26..29 => self.differ(),
            29..32 => self.compare(),
            _ => self.step(counts),
        }
    }

    fn add(&mut self) {
        let dtype = self.random.one_of(&Dtype::ALL);
        let n = match self.random.below(6) {
            0 => 0,
            1 => 4096 + self.random.below(5000) as usize,
            _ => self.random.below(60) as usize,
        };
        let values = Array::ordinary(dtype, n, &mut self.random);
        let options = functions::no_options();
        let format = Format {
            amsgrad: self.config.amsgrad == 1,
            multi_precision: self.config.multi_precision == 1,
            precision: self.config.precision,
            moments: self.config.moments,
            shard: Shard::default(),
        };
        let name = format!("w{}", self.n_named);
        self.n_named += 1;
        let mut param = model::Param::new(name, dtype, values.values(), options, format);
        param.options.group = self.random.below(self.model.groups.len() as u64) as u32;
        let number = self.give(&param);
        match self.model.params.get_mut(number) {
            Some(removed) => *removed = param,
            None => self.model.params.push(param),
        }
    }

    /// Adds a parameter to all ranks, each with its range. Its number.
    fn give(&mut self, param: &model::Param) -> usize {
        let (n, whole) = (param.param.len(), Array::of(param.dtype, &param.param));
        let cuts = self.cut(param);
        let mut number = 0;
        for (rank, range) in self.ranks.iter_mut().zip(&cuts) {
            let part = whole.copy(range.clone(), 0);
            let config = Param {
                group: param.options.group,
                first_element: range.start as u64,
                whole_elements: n as u64,
                ..Param::new(&param.name, &part)
            };
            number = rank.handle.add(&config) as usize;
            rank.handle.set_options(number as u32, &param.options).unwrap();
            let there = rank.params.len().max(number + 1);
            rank.params.resize_with(there, || None);
            rank.grads.resize_with(there, || None);
            (rank.params[number], rank.grads[number]) = (Some(part), None);
        }
        self.cuts.resize(self.cuts.len().max(number + 1), Vec::new());
        self.cuts[number] = cuts;
        number
    }

    /// Ranges of a parameter that begin anywhere, or where a block of codes does.
    fn cut(&mut self, param: &model::Param) -> Vec<Range<usize>> {
        let (n, n_ranks) = (param.param.len(), self.ranks.len());
        let align = if param.is_coded() { 256 } else { self.random.one_of(&[1, 1, 64]) };
        let mut starts: Vec<usize> = (1..n_ranks)
            .map(|_| (self.random.below((n / align + 1) as u64) as usize * align).min(n))
            .collect();
        starts.sort_unstable();
        let ends = starts.iter().copied().chain([n]);
        let ranges = [0].into_iter().chain(starts.iter().copied()).zip(ends);
        ranges.map(|(start, end)| if start == end { 0..0 } else { start..end }).collect()
    }

    fn remove(&mut self) {
        let Some(i) = self.any() else { return };
        self.tell(|handle| handle.remove(i as u32));
        let param = &mut self.model.params[i];
        (param.removed, param.grad) = (true, None);
        for rank in &mut self.ranks {
            (rank.params[i], rank.grads[i]) = (None, None);
        }
    }

    fn set_options(&mut self) {
        let Some(i) = self.any() else { return };
        let random = &mut self.random;
        let options = adamw_param_options {
            group: random.below(self.model.groups.len() as u64) as u32,
            lr_scale: random.one_of(&[1.0, 0.5, 0.0]),
            frozen: random.once_in(3).into(),
            no_clip: random.once_in(4).into(),
            regularizer: random.below(3) as u32,
            regularizer_coeff: 0.125,
            ..self.model.params[i].options
        };
        self.tell(|handle| handle.set_options(i as u32, &options));
        self.model.params[i].options = options;
    }

    /// Other numbers for a group; what state is kept in stays.
    fn drawn_group(&mut self) -> adamw_group_config {
        loop {
            let hyper = Hyper::draw(&mut self.random);
            let first = self.model.groups[0];
            let mut group = first;
            Hyper { reads: 0, ..hyper.clone() }.put(&mut group, &Numbers::default());
            let adamw_group_config { precision, moments, amsgrad, .. } = first;
            (group.precision, group.moments, group.amsgrad) = (precision, moments, amsgrad);
            group.lazy_mode = ADAMW_LAZY_OFF;
            if hyper.is_good() {
                return group;
            }
        }
    }

    fn set_group(&mut self) {
        let group = self.drawn_group();
        let number = self.random.below(self.model.groups.len() as u64) as usize;
        self.tell(|handle| handle.set_group(number as u32, &group));
        self.model.groups[number] = group;
    }

    fn add_group(&mut self) {
        let group = self.drawn_group();
        self.tell(|handle| handle.try_add_group(&group).map(drop));
        self.model.groups.push(group);
    }

    fn set_scale(&mut self) {
        self.tell(|handle| {
            handle.remove_scaler();
            Ok(())
        });
        self.model.grad_scale = self.model.loss_scale();
        self.model.scaler = None;
        let scale = self.random.one_of(&[1.0, 64.0, 0.5]);
        if self.random.once_in(2) {
            let scaler = loss_scaler(scale, 1 + self.random.below(3), 1 + self.random.below(2));
            self.tell(|handle| handle.set_scaler(&scaler));
            self.model.scaler = Some(Scaler::new(scaler));
        } else {
            self.tell(|handle| handle.set_grad_scale(scale));
            self.model.grad_scale = scale;
        }
    }

    /// A gradient of a parameter, whole, and its parts.
    fn drawn_grad(&mut self, i: usize) -> (Vec<f64>, Vec<Array>) {
        let param = &self.model.params[i];
        let dtype = if self.random.once_in(3) { Dtype::F32 } else { param.dtype };
        let grad = Array::ordinary(dtype, param.param.len(), &mut self.random);
        let propagates = self.model.nonfinite() == ADAMW_NONFINITE_PROPAGATE;
        if grad.len() > 0 && !propagates && self.random.once_in(8) {
            let value = self.random.one_of(&[f64::NAN, f64::INFINITY]);
            grad.set(self.random.below(grad.len() as u64) as usize, value);
        }
        let parts = self.cuts[i].iter().map(|range| grad.copy(range.clone(), 0)).collect();
        (grad.values(), parts)
    }

    fn set_grad(&mut self) {
        let Some(i) = self.any() else { return };
        let (grad, parts) = self.drawn_grad(i);
        for (rank, part) in self.ranks.iter_mut().zip(parts) {
            rank.handle.set_grad(i as u32, &part);
            rank.grads[i] = Some(part);
        }
        self.model.params[i].grad = Some(Grad::Dense(grad));
    }

    fn accumulate(&mut self) {
        let Some(i) = self.any() else { return };
        let (grad, parts) = self.drawn_grad(i);
        for (rank, part) in self.ranks.iter_mut().zip(parts) {
            rank.handle.accumulate_grad(i as u32, &part).unwrap();
            rank.grads[i] = None;
        }
        self.model.accumulate(i, &grad);
    }

    fn forget(&mut self) {
        let Some(i) = self.any() else { return };
        for rank in &mut self.ranks {
            rank.handle.forget_grad(i as u32);
            rank.grads[i] = None;
        }
        self.model.params[i].grad = None;
    }

    fn clear(&mut self) {
        let zero = self.random.once_in(2);
        let mode = if zero { ADAMW_CLEAR_ZERO } else { ADAMW_CLEAR_FORGET };
        for rank in &mut self.ranks {
            rank.handle.clear_grad(mode);
            if !zero {
                rank.grads.iter_mut().for_each(|grad| *grad = None);
            }
        }
        self.model.clear_grads(zero);
    }

    /// What each rank answers to a step.
    fn step_all(&self) -> Vec<Answer> {
        let handles: Vec<usize> =
            self.ranks.iter().map(|rank| rank.handle.raw().expose_provenance()).collect();
        std::thread::scope(|scope| {
            let step = |handle: usize| {
                scope.spawn(move || {
                    let handle = core::ptr::with_exposed_provenance_mut(handle);
                    call!(adamw_step(handle)) // a number, and all that it knows outlives the step
                })
            };
            let threads: Vec<_> = handles.into_iter().map(step).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    /// Nothing that is not finite is stepped with where it would make all that follows so.
    fn forget_what_would_propagate(&mut self) {
        if self.model.nonfinite() != ADAMW_NONFINITE_PROPAGATE {
            return;
        }
        for i in self.model.live().collect::<Vec<_>>() {
            let param = &mut self.model.params[i];
            if param.grad.is_some() && !param.is_finite() {
                param.grad = None;
                for rank in &mut self.ranks {
                    rank.handle.forget_grad(i as u32);
                    rank.grads[i] = None;
                }
            }
        }
    }

    fn step(&mut self, counts: &mut [u64; 3]) {
        self.forget_what_would_propagate();
        let mut after = self.model.clone();
        let verdict = after.step();
        let answers = self.step_all();
        match verdict {
            Verdict::Refused => {
                assert!(answers.iter().all(Result::is_err), "{answers:?}");
                self.n_refused += 1;
            }
            _ => {
                assert!(answers.iter().all(Result::is_ok), "{answers:?}");
                counts[usize::from(verdict == Verdict::Skipped)] += 1;
                self.model = after;
                let told = self.ranks.iter().map(|rank| {
                    let info = rank.handle.step_info();
                    assert_eq!(info.skipped, u32::from(verdict == Verdict::Skipped));
                    let bits = [info.grad_norm, info.clip_factor]
                        .map(|x| if x.is_nan() { u64::MAX } else { x.to_bits() });
                    (bits, info.n_nonfinite, info.measured)
                });
                let told: Vec<_> = told.collect();
                assert!(told.iter().all(|of| *of == told[0]), "{told:?}");
            }
        }
    }

    fn has_plain_grad(&self, i: usize) -> bool {
        let param = &self.model.params[i];
        param.options.frozen == 0 && matches!(param.grad, Some(Grad::Dense(_)))
    }

    /// One rank differs: none takes the step, and nothing has changed on any.
    fn differ(&mut self) {
        self.forget_what_would_propagate();
        if self.ranks.len() == 1 {
            return;
        }
        let odd = self.random.below(self.ranks.len() as u64) as usize;
        let (param, which) = (self.any(), self.random.below(4));
        let handle = &self.ranks[odd].handle;
        let group = self.model.groups[0];
        match (which, param) {
            (0, _) => handle.set_lr(0.75),
            (1, _) => {
                let other = adamw_group_config { eps: group.eps * 2.0, ..group };
                handle.set_group(0, &other).unwrap();
            }
            (2, Some(i)) if self.has_plain_grad(i) => handle.forget_grad(i as u32),
            (3, Some(i)) => handle.edit_options(i as u32, |options| options.lr_scale += 1.0),
            _ => return,
        }
        let answers = self.step_all();
        assert!(answers.iter().all(Result::is_err), "{which}: {answers:?}");
        self.n_refused += 1;
        let handle = &self.ranks[odd].handle;
        match (which, param) {
            (0, _) => handle.set_lr(self.model.lr),
            (1, _) => handle.set_group(0, &group).unwrap(),
            (2, Some(i)) => {
                let grad = self.ranks[odd].grads[i].as_ref().unwrap();
                handle.set_grad(i as u32, grad);
            }
            (_, Some(i)) => handle.set_options(i as u32, &self.model.params[i].options).unwrap(),
            _ => {}
        }
        self.compare();
    }

    /// The run goes on in the handles of another number of ranks, which load what these have saved.
    fn go_on_as_others(&mut self) {
        if !self.model.can_save() || self.model.live().count() == 0 {
            return;
        }
        let saved: Vec<_> = self.ranks.iter().map(|rank| rank.handle.saved(true)).collect();
        self.gather();
        self.model.params.retain(|param| !param.removed);
        for param in &mut self.model.params {
            (param.grad, param.alone) = (None, false);
        }
        for group in &self.model.groups[1..] {
            self.tell(|handle| handle.try_add_group(group).map(drop));
        }
        let (first, model) = (self.model.groups[0], self.model.clone());
        self.tell(|handle| handle.set_group(0, &first));
        if let Some(scaler) = &model.scaler {
            self.tell(|handle| handle.set_scaler(&scaler.config));
        }
        self.tell(|handle| {
            handle.set_accumulation_window(model.window);
            Ok(())
        });
        for param in &model.params {
            self.give(param);
        }
        let sources: Vec<_> = saved.iter().map(|file| in_memory(file)).collect();
        let options = adamw_load_options { params: 1, ..load_options() };
        self.tell(|handle| handle.load_from(&sources, &options));
        self.model.given_lr = self.config.lr;
    }

    /// The parts of all ranks together are what the model has.
    fn compare(&self) {
        for i in self.model.live() {
            let param = &self.model.params[i];
            let joined = |part: &dyn Fn(&Rank) -> Vec<f64>| -> Vec<f64> {
                self.ranks.iter().flat_map(part).collect()
            };
            let assert_same = |what: &str, seen: Vec<f64>, expected: &[f64]| {
                let dtype = if what == "param" { param.dtype } else { Dtype::F64 };
                let difference =
                    Array::of(dtype, &seen).first_difference(&Array::of(dtype, expected));
                assert_eq!(difference, None, "{what} of {}, cut {:?}", param.name, self.cuts[i]);
            };
            let params = joined(&|rank| rank.params[i].as_ref().unwrap().values());
            assert_same("param", params, &param.param);
            for rank in &self.ranks {
                assert_eq!(rank.handle.info(i as u32).step, param.step, "{}", param.name);
            }
            let dtype = match param.format.moments {
                ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT => continue, // a step later
                ADAMW_MOMENTS_BF16 => Dtype::Bf16,
                _ => param.dtype.compute(),
            };
            for (part, values) in [("exp_avg", &param.exp_avg), ("exp_avg_sq", &param.exp_avg_sq)] {
                let seen = joined(&|rank| {
                    let to = Array::zeros(dtype, rank.params[i].as_ref().unwrap().len());
                    rank.handle.get_state(&format!("state.{}.{part}", param.name), &to).unwrap();
                    to.values()
                });
                assert_same(part, seen, values);
            }
        }
        for rank in &self.ranks {
            assert_eq!(rank.handle.lr().to_bits(), self.model.lr().to_bits(), "lr");
            let scale = rank.handle.grad_scale();
            assert_eq!(scale.to_bits(), self.model.loss_scale().to_bits(), "grad_scale");
        }
    }
}
