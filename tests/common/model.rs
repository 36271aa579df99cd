//! The optimizer as one would write it first: slow, obvious, one element after the other, every
//! option an `if`. The library must have its bits.

pub mod convert;
pub mod layout;
pub mod param;

use super::sums::sum_squares;
use adamw::ffi::*;
use param::round;
pub use param::{Grad, Param};

#[derive(Clone)]
pub struct Model {
    pub config: adamw_config,
    pub lr: f64,
    /// What the host has set last, whatever schedules have made of it.
    pub given_lr: f64,
    /// What the host keeps for those that read it: the learning rate, beta1, beta2, weight_decay and
    /// lr_scale.
    pub hosts: [f64; 5],
    pub statistics: bool,
    /// How many elements the last step has left as they were, if they are counted.
    pub n_unchanged: u64,
    pub grad_scale: f64,
    pub scaler: Option<Scaler>,
    pub schedule: Option<Schedule>,
    /// The learning rate's ratio of a parameter, by its name; `None`: the callback refuses to say.
    pub ratio: Option<fn(&str) -> Option<f64>>,
    /// Whether a filter says which parameters decay.
    pub filters: bool,
    /// What the host's flag says; `None`: there is none.
    pub flag: Option<f32>,
    /// How many micro-batches make a window; 0: the most that a parameter has accumulated.
    pub window: u64,
    /// The most that a parameter has accumulated since one began while no other held a sum.
    pub most_accumulated: u64,
    pub groups: Vec<adamw_group_config>,
    pub params: Vec<Param>,
}

/// A loss scale that adapts.
#[derive(Clone)]
pub struct Scaler {
    pub config: adamw_loss_scaler,
    pub scale: f64,
    pub good_steps: u64,
    pub bad_steps: u64,
}

/// The learning rates of a schedule, and how far it has come.
#[derive(Clone)]
pub struct Schedule {
    pub lrs: Vec<f64>,
    pub index: usize,
    /// It goes on by a call of its own.
    pub manual: bool,
}

/// What becomes of a step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verdict {
    Refused,
    Skipped,
    Taken,
}

/// What a checkpoint holds.
#[derive(Clone)]
pub struct Saved {
    pub lr: f64,
    pub grad_scale: f64,
    pub scaler: Option<Scaler>,
    pub schedule: Option<Schedule>,
    pub params: Vec<Param>,
}

impl Model {
    /// A handle that nothing has been asked of yet. `hosts` are the numbers that the host keeps.
    pub fn new(config: adamw_config, lr: f64, hosts: [f64; 5], group: adamw_group_config) -> Model {
        Model {
            config,
            lr,
            given_lr: lr,
            hosts,
            statistics: false,
            n_unchanged: 0,
            filters: false,
            grad_scale: 1.0,
            scaler: None,
            schedule: None,
            ratio: None,
            flag: None,
            window: 0,
            most_accumulated: 0,
            groups: vec![group],
            params: Vec::new(),
        }
    }

    /// A parameter with moments in codes cannot be stepped by rows.
    pub fn is_refused(&self) -> bool {
        (0..self.params.len()).any(|i| self.is_refused_alone(i))
    }

    pub fn is_refused_alone(&self, i: usize) -> bool {
        let param = &self.params[i];
        let lazy = self.groups[param.options.group as usize].lazy_mode != ADAMW_LAZY_OFF;
        let by_rows = lazy && matches!(param.grad, Some(Grad::Rows(..)));
        param.is_stepped() && by_rows && param.is_coded()
    }

    /// Whether gradients are looked at before a step.
    pub fn measures(&self) -> bool {
        let norms = [ADAMW_CLIP_NORM, ADAMW_CLIP_GLOBAL_NORM];
        self.nonfinite() != ADAMW_NONFINITE_PROPAGATE
            || self.flag.is_some()
            || self.groups.iter().any(|group| norms.contains(&group.clip))
    }

    /// What a step does with gradients that are not finite.
    pub fn nonfinite(&self) -> adamw_nonfinite {
        if self.scaler.is_some() { ADAMW_NONFINITE_SKIP } else { self.config.nonfinite }
    }

    /// A parameter whose step depends on all gradients cannot be stepped alone.
    pub fn conflicts(&self, i: usize) -> bool {
        let options = &self.params[i].options;
        let clip = self.groups[options.group as usize].clip;
        clip == ADAMW_CLIP_GLOBAL_NORM && options.no_clip == 0
            || self.nonfinite() == ADAMW_NONFINITE_SKIP
            || self.flag.is_some()
    }

    /// What the next step of a handle has for a learning rate.
    pub fn lr(&self) -> f64 {
        let own = if self.config.lr_ptr.is_null() { self.lr } else { self.hosts[0] };
        self.schedule.as_ref().map_or(own, |schedule| schedule.lrs[schedule.index])
    }

    pub fn loss_scale(&self) -> f64 {
        self.scaler.as_ref().map_or(self.grad_scale, |scaler| scaler.scale)
    }

    /// The numbers of the parameters that are there.
    pub fn live(&self) -> impl Iterator<Item = usize> {
        (0..self.params.len()).filter(|&i| !self.params[i].removed)
    }

    pub fn step(&mut self) -> Verdict {
        let all: Vec<usize> = self.live().collect();
        self.step_those(&all)
    }

    /// Steps some, or all there are; the schedule goes on.
    pub fn step_those(&mut self, asked: &[usize]) -> Verdict {
        let verdict = self.take(asked);
        if verdict == Verdict::Taken
            && let Some(schedule) = self.schedule.as_mut().filter(|schedule| !schedule.manual)
        {
            schedule.index += 1;
        }
        verdict
    }

    /// Steps one parameter, which then has no gradient.
    pub fn step_one(&mut self, i: usize) -> Verdict {
        let is_stepped = self.params[i].is_stepped();
        let verdict = self.take(&[i]);
        if verdict != Verdict::Refused {
            self.params[i].grad = None;
            self.params[i].alone |= is_stepped;
        }
        verdict
    }

    pub fn accumulate(&mut self, i: usize, grad: &[f64]) {
        if !self.params.iter().any(|param| matches!(param.grad, Some(Grad::Sum(..)))) {
            self.most_accumulated = 0;
        }
        self.params[i].accumulate(grad);
        if let Some(Grad::Sum(_, n)) = self.params[i].grad {
            self.most_accumulated = self.most_accumulated.max(n);
        }
    }

    /// Steps some with these gradients; those that were set are set again afterwards.
    pub fn apply(&mut self, grads: Vec<(usize, Grad)>) -> Verdict {
        let asked: Vec<usize> = grads.iter().map(|(i, _)| *i).collect();
        let before: Vec<(usize, Option<Grad>)> =
            grads.into_iter().map(|(i, grad)| (i, self.params[i].grad.replace(grad))).collect();
        let verdict = self.step_those(&asked);
        for (i, grad) in before {
            self.params[i].grad = grad;
        }
        verdict
    }

    pub fn clear_grads(&mut self, zero: bool) {
        for param in &mut self.params {
            param.grad = match param.grad.take() {
                Some(Grad::Dense(grad)) if zero => Some(Grad::Dense(vec![0.0; grad.len()])),
                Some(Grad::Rows(rows, grad)) if zero => {
                    Some(Grad::Rows(rows, vec![0.0; grad.len()]))
                }
                _ => None,
            };
        }
    }

    /// A group with what the host keeps now.
    pub fn seen(&self, group: &adamw_group_config) -> adamw_group_config {
        let [_, beta1, beta2, weight_decay, lr_scale] = self.hosts;
        let read = |pointer: *const f32, own, hosts| if pointer.is_null() { own } else { hosts };
        adamw_group_config {
            beta1: read(group.beta1_ptr, group.beta1, beta1),
            beta2: read(group.beta2_ptr, group.beta2, beta2),
            weight_decay: read(group.weight_decay_ptr, group.weight_decay, weight_decay),
            lr_scale: read(group.lr_scale_ptr, group.lr_scale, lr_scale),
            ..*group
        }
    }

    /// The same; `None`: no step can be taken with that.
    pub fn current(&self, group: &adamw_group_config) -> Option<adamw_group_config> {
        let group = self.seen(group);
        let are_good = [group.beta1, group.beta2].iter().all(|beta| (0.0..1.0).contains(beta));
        let is_lr_scale = group.lr_scale >= 0.0 && group.lr_scale.is_finite();
        (are_good && is_lr_scale && group.weight_decay.is_finite()).then_some(group)
    }

    /// Reads what the host keeps; whether a step can be taken with it.
    fn read_hosts(&mut self) -> bool {
        let lr = self.lr();
        let groups: Option<Vec<_>> = self.groups.iter().map(|group| self.current(group)).collect();
        match groups {
            Some(groups) if lr >= 0.0 && lr.is_finite() => self.groups = groups,
            _ => return false,
        }
        true
    }

    fn take(&mut self, asked: &[usize]) -> Verdict {
        if !self.read_hosts() {
            return Verdict::Refused;
        }
        self.n_unchanged = 0;
        let stepped: Vec<usize> =
            asked.iter().copied().filter(|&i| self.params[i].is_stepped()).collect();
        let verdict = self.verdict(&stepped);
        if verdict == Verdict::Refused {
            return verdict;
        }
        if verdict == Verdict::Taken {
            let scales: Vec<f64> = stepped.iter().map(|&i| self.scale(i, &stepped)).collect();
            for (&i, scale) in stepped.iter().zip(scales) {
                self.step_param(i, scale);
            }
        }
        if let Some(scaler) = &mut self.scaler {
            scaler.update(verdict == Verdict::Skipped);
        }
        self.end_window(asked);
        verdict
    }

    fn verdict(&self, stepped: &[usize]) -> Verdict {
        let is_sound = stepped.iter().all(|&i| self.params[i].is_finite());
        let nonfinite = self.nonfinite();
        let fails = nonfinite == ADAMW_NONFINITE_FAIL && !is_sound;
        if fails || stepped.iter().any(|&i| self.is_refused_alone(i) || self.is_past_window(i)) {
            return Verdict::Refused;
        }
        let is_raised = self.flag.is_some_and(|flag| flag != 0.0);
        if is_raised || nonfinite == ADAMW_NONFINITE_SKIP && !is_sound {
            return Verdict::Skipped;
        }
        let has_ratio = |i: &usize| self.ratio_of(*i).is_some();
        if stepped.iter().all(has_ratio) { Verdict::Taken } else { Verdict::Refused }
    }

    fn ratio_of(&self, i: usize) -> Option<f64> {
        self.ratio.map_or(Some(1.0), |ratio| ratio(&self.params[i].name))
    }

    /// The learning rate that a step would give a parameter now; `None`: the callback does not say.
    pub fn lr_of(&self, i: usize) -> Option<f64> {
        if !(self.lr() >= 0.0 && self.lr().is_finite()) {
            return None;
        }
        let options = &self.params[i].options;
        let group = self.current(&self.groups[options.group as usize])?;
        Some(self.lr() * group.lr_scale * (options.lr_scale * self.ratio_of(i)?))
    }

    /// A step uses up what was accumulated for those that it was asked about, and clears their gradients.
    fn end_window(&mut self, asked: &[usize]) {
        for &i in asked {
            self.params[i].alone = false;
            match &mut self.params[i].grad {
                sum @ Some(Grad::Sum(..)) => *sum = None,
                Some(Grad::Dense(values) | Grad::Rows(_, values))
                    if self.config.clear_grads == 1 =>
                {
                    values.fill(0.0)
                }
                _ => {}
            }
        }
    }

    fn n_accumulated(&self, i: usize) -> u64 {
        match self.params[i].grad {
            Some(Grad::Sum(_, n)) if self.config.average_grads == 1 => n,
            _ => 0,
        }
    }

    fn is_past_window(&self, i: usize) -> bool {
        self.window > 0 && self.n_accumulated(i) > self.window
    }

    fn mean(&self, i: usize) -> f64 {
        match self.n_accumulated(i) {
            0 => 1.0,
            n if self.window == 0 => 1.0 / self.most_accumulated.max(n) as f64,
            _ => 1.0 / self.window as f64,
        }
    }

    /// Whether a checkpoint can be made: not in the middle of a step.
    pub fn can_save(&self) -> bool {
        let sums = |i: usize| matches!(self.params[i].grad, Some(Grad::Sum(..)));
        let alone = |i: usize| self.params[i].alone;
        let late = |i: usize| self.params[i].is_stepped() && !alone(i);
        self.live().all(|i| !sums(i)) && !(self.live().any(alone) && self.live().any(late))
    }

    pub fn save(&self) -> Saved {
        Saved {
            lr: self.lr,
            grad_scale: self.grad_scale,
            scaler: self.scaler.clone(),
            schedule: self.schedule.clone(),
            params: self.params.clone(),
        }
    }

    /// Loads a checkpoint of the same handle, which may keep its schedule and learning rate.
    pub fn load(&mut self, saved: &Saved, keeps: bool) {
        (self.grad_scale, self.scaler) = (saved.grad_scale, saved.scaler.clone());
        match (&mut self.schedule, &saved.schedule) {
            (Some(schedule), Some(saved)) if keeps => schedule.index = saved.index,
            _ if keeps => {}
            _ => (self.lr, self.schedule) = (saved.lr, saved.schedule.clone()),
        }
        self.load_shared(saved);
    }

    /// Loads the state of the parameters that are in both.
    pub fn load_shared(&mut self, saved: &Saved) {
        for param in self.params.iter_mut().filter(|param| !param.removed) {
            let of_name = |saved: &&Param| !saved.removed && saved.name == param.name;
            if let Some(saved) = saved.params.iter().find(of_name) {
                param.load(saved);
                param.settled = true;
            }
        }
    }

    fn sum_squares(&self, i: usize) -> f64 {
        sum_squares(&self.params[i].dense_grad().0, 4096) * (self.mean(i) * self.mean(i))
    }

    /// What the gradient of a parameter is multiplied by.
    fn scale(&self, i: usize, stepped: &[usize]) -> f64 {
        let options = |i: usize| &self.params[i].options;
        let group = |i: usize| &self.groups[options(i).group as usize];
        let unscaled = 1.0 / self.loss_scale() * self.mean(i);
        let is_in_scope = |j: usize| {
            group(j).clip == ADAMW_CLIP_GLOBAL_NORM
                && options(j).no_clip == 0
                && (self.config.clip_scope == ADAMW_CLIP_SCOPE_HANDLE
                    || options(j).group == options(i).group)
        };
        let sum = match group(i).clip {
            _ if options(i).no_clip == 1 => return unscaled,
            ADAMW_CLIP_NORM => self.sum_squares(i),
            ADAMW_CLIP_GLOBAL_NORM => {
                let scope = stepped.iter().filter(|&&j| is_in_scope(j));
                scope.fold(0.0, |sum, &j| sum + self.sum_squares(j))
            }
            _ => return unscaled,
        };
        let norm = sum.sqrt() * (1.0 / self.loss_scale());
        let factor = if norm > group(i).clip_norm { group(i).clip_norm / norm } else { 1.0 };
        factor * unscaled
    }

    fn step_param(&mut self, i: usize, scale: f64) {
        let group = self.groups[self.params[i].options.group as usize];
        let (grads, touched) = self.params[i].dense_grad();
        let lr = self.lr_of(i).unwrap();
        let p = &mut self.params[i];
        p.step += 1;
        if group.bias_correction == ADAMW_BIAS_CORRECTION_CURRENT {
            p.set_step(p.step, &group);
        } else {
            p.beta1_power *= group.beta1;
            p.beta2_power *= group.beta2;
        }
        let r = |value: f64| round(p.dtype, value);
        p.settled = true;
        let (one_minus_beta1, one_minus_beta2) = (r(1.0 - group.beta1), r(1.0 - group.beta2));
        let (power1, power2) = match group.bias_correction {
            ADAMW_BIAS_CORRECTION_NONE => (0.0, 0.0),
            _ => (p.beta1_power, p.beta2_power),
        };
        let has = |formula| group.formula & formula != 0;
        let inverse = 1.0 / (1.0 - power2).sqrt();
        let correction2 = r(inverse);
        let decays_by = if group.independent_weight_decay == 1 { 1.0 } else { lr };
        let weight_decay = if p.decays { group.weight_decay } else { 0.0 };
        let (decay, step_size) = (decays_by * weight_decay, lr / (1.0 - power1));
        let kept = if has(ADAMW_FORMULA_DECAYS_NEW_VALUE) { 1.0 - decay } else { 1.0 };
        let eps_by = if has(ADAMW_FORMULA_EPS_BEFORE_CORRECTION) { inverse } else { 1.0 };
        let (decay, step_size, eps) = (r(decay), r(step_size * kept), r(group.eps * eps_by));
        let (scale, coeff) = (r(scale), r(p.options.regularizer_coeff));
        let clips = group.clip == ADAMW_CLIP_VALUE && p.options.no_clip == 0;
        let is_listed = |at: usize| group.lazy_mode == ADAMW_LAZY_OFF || touched[at];
        let touched = |at: usize| group.lazy_mode != ADAMW_LAZY_ROWS || touched[at];
        let before = p.master.as_ref().unwrap_or(&p.param).clone();
        for at in (0..p.param.len()).filter(|at| touched(*at)) {
            let param = p.master.as_ref().unwrap_or(&p.param)[at];
            let mut grad = r(grads[at] * scale);
            if clips {
                grad = grad.clamp(r(group.clip_min), r(group.clip_max));
            }
            if group.maximize == 1 {
                grad = -grad;
            }
            match p.options.regularizer {
                ADAMW_REGULARIZER_L1 if param > 0.0 => grad = r(grad + coeff),
                ADAMW_REGULARIZER_L1 if param < 0.0 => grad = r(grad - coeff),
                ADAMW_REGULARIZER_L2 => grad = r(grad + r(coeff * param)),
                _ => {}
            }
            let (m, v) = (p.exp_avg[at], p.exp_avg_sq[at]);
            let m = r(m + r(one_minus_beta1 * r(grad - m)));
            let v = r(v + r(one_minus_beta2 * r(r(grad * grad) - v)));
            let mut u = v;
            if p.format.amsgrad {
                u = v.max(p.max_exp_avg_sq[at]);
                p.max_exp_avg_sq[at] = u;
            }
            let denom = r(r(r(u.sqrt()) * correction2) + eps);
            let param = r(param - r(r(decay * param) + r(step_size * r(m / denom))));
            (p.exp_avg[at], p.exp_avg_sq[at]) = (m, v);
            p.master.as_mut().unwrap_or(&mut p.param)[at] = param;
        }
        if p.step.is_multiple_of(64) {
            (0..p.param.len()).filter(|at| touched(*at)).for_each(|at| p.forget(at, eps > 0.0));
        }
        p.store(self.config.seed, touched);
        let after = p.master.as_ref().unwrap_or(&p.param);
        let is_lost = |at: &usize| before[*at] == after[*at] && p.exp_avg[*at] != 0.0;
        if self.statistics && step_size != 0.0 {
            let visited = (0..before.len()).filter(|at| is_listed(*at));
            self.n_unchanged += visited.filter(is_lost).count() as u64;
        }
    }
}

impl Scaler {
    pub fn new(config: adamw_loss_scaler) -> Scaler {
        Scaler { config, scale: config.scale, good_steps: 0, bad_steps: 0 }
    }

    fn update(&mut self, skipped: bool) {
        (self.good_steps, self.bad_steps) = if skipped {
            (0, self.bad_steps.saturating_add(1))
        } else {
            (self.good_steps.saturating_add(1), 0)
        };
        if self.good_steps >= self.config.growth_interval {
            self.scale = (self.scale * self.config.growth_factor).min(2f64.powi(126));
        } else if self.bad_steps >= self.config.backoff_interval {
            let least = self.config.scale.min(1.0).min(self.scale);
            self.scale = (self.scale * self.config.backoff_factor).max(least);
        } else {
            return;
        }
        (self.good_steps, self.bad_steps) = (0, 0);
    }
}
