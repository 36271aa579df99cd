//! The third stage of a step, its scalars: decided for each parameter, or, if nothing has changed since the last step,
//! once for all that share them.
#![forbid(unsafe_code)]

use crate::dtype::Dtype;
use crate::error::Error;
use crate::math::{Regularizer, Scalars, Step, StepScalars};
use crate::optimizer::Optimizer;
use crate::optimizer::params::Param;
use crate::optimizer::params::table::ParamId;
use crate::optimizer::step::gather::Plan;
use crate::steps::{Clock, NO_STEP};
use crate::sys::memory::{give_back, reserve};
use core::ops::Range;

/// What has been decided, in memory that is kept for the next step.
#[derive(Default)]
pub struct Decisions {
    /// The scalars of this step, each for one or more parameters.
    pub scalars: Vec<Scalars>,
    /// By number of scalars: the first parameter that has them, and its place in the step.
    first_of: Vec<(usize, ParamId)>,
    /// By place among the parameters of the step: the number of its scalars, or `NO_STEP`.
    pub scalars_of: Vec<u32>,
    /// The smallest factor that a gradient is clipped with.
    pub clip_factor: f64,
    /// By group, with decay and without: what the last such parameter stepped with.
    latest: Vec<[Option<Decided>; 2]>,
}

impl Decisions {
    fn clear(&mut self) {
        self.scalars.clear();
        self.first_of.clear();
        self.scalars_of.clear();
        self.latest.clear();
    }

    /// Notes what a gradient is clipped by.
    pub fn clipped_by(&mut self, factor: f64) {
        if factor < self.clip_factor || factor.is_nan() {
            self.clip_factor = factor;
        }
    }

    /// Forgets them, and makes room for so many parameters and groups.
    pub fn reserve(&mut self, n_params: usize, n_groups: usize) -> Result<(), Error> {
        self.clear();
        reserve(&mut self.scalars, n_params, "the step's scalars")?;
        reserve(&mut self.first_of, n_params, "the step's scalars")?;
        reserve(&mut self.scalars_of, n_params, "the step's scalars")?;
        reserve(&mut self.latest, n_groups, "the step's scalars")
    }

    /// Gives back what is not needed for so many parameters.
    pub fn give_back(&mut self, n_params: usize) {
        give_back(&mut self.scalars, n_params);
        give_back(&mut self.first_of, n_params);
        give_back(&mut self.scalars_of, n_params);
    }
}

/// Scalars that the next parameter of the group can share, if it agrees in the terms.
#[derive(Clone, Copy)]
struct Decided {
    terms: Terms,
    scalars: u32,
}

/// What makes the scalars of a parameter, beside its group and whether it decays.
#[derive(Clone, Copy, PartialEq)]
struct Terms {
    clock: Clock,
    ratio: f64,
    grad_scale: f64,
    /// Where two are scaled alike now and one is not clipped, they may not be in the next step.
    no_clip: bool,
    limits: Option<(f64, f64)>,
    regularizer: Regularizer<f64>,
    /// What it computes in, which its numbers must be of.
    dtype: Dtype,
}

impl Optimizer {
    /// Works out the scalars of a step, here and for the device. Asks the host's callbacks; writes
    /// nothing but the scratch.
    pub(in crate::optimizer) fn decide(&mut self, plan: &Plan) -> Result<(), Error> {
        let mut decisions = core::mem::take(&mut self.scratch.decisions);
        decisions.clip_factor = 1.0;
        let decided = if plan.repeats {
            self.decide_again(&mut decisions)
        } else {
            self.decide_anew(&plan.of, &mut decisions)
        };
        self.scratch.decisions = decisions;
        decided?;
        match plan.on_device {
            Some(_) => self.decide_on_device(&plan.of),
            None => Ok(()),
        }
    }

    /// For a step of all parameters that share scalars as they did.
    fn decide_again(&self, decisions: &mut Decisions) -> Result<(), Error> {
        for scalars in 0..decisions.scalars.len() {
            let (place, id) = decisions.first_of[scalars];
            let terms = self.terms(place, id, decisions)?;
            decisions.scalars[scalars] = self.scalars_for(&self.params[id], &terms)?;
        }
        Ok(())
    }

    fn decide_anew(&self, of: &Range<usize>, decisions: &mut Decisions) -> Result<(), Error> {
        decisions.clear();
        decisions.latest.resize(self.groups.len(), [None; 2]);
        for (place, id) in self.params.ids(of).enumerate() {
            let (param, operands) = (&self.params[id], self.params.operands(id));
            if !operands.is_due_on_host() {
                decisions.scalars_of.push(NO_STEP);
                continue;
            }
            let terms = self.terms(place, id, decisions)?;
            let latest = &mut decisions.latest[param.group as usize][param.decays as usize];
            let scalars = match latest.filter(|latest| latest.terms == terms) {
                Some(latest) => latest.scalars,
                None => {
                    let scalars = decisions.scalars.len() as u32;
                    let made = self.scalars_for(param, &terms)?;
                    decisions.scalars.push(made);
                    decisions.first_of.push((place, id));
                    *latest = Some(Decided { terms, scalars });
                    scalars
                }
            };
            decisions.scalars_of.push(scalars);
        }
        Ok(())
    }

    /// What makes the scalars of a parameter, which has a place in the step.
    #[inline]
    fn terms(&self, place: usize, id: ParamId, decisions: &mut Decisions) -> Result<Terms, Error> {
        let param = &self.params[id];
        let (grad_scale, clip_factor) = self.factor(place, id);
        decisions.clipped_by(clip_factor);
        let group = &self.groups[param.group as usize];
        Ok(Terms {
            clock: param.clock,
            ratio: self.ratio(id)?,
            grad_scale,
            no_clip: param.no_clip,
            limits: group.clip.limits().filter(|_| !param.no_clip),
            regularizer: param.regularizer,
            dtype: self.params.operands(id).param().dtype().compute(),
        })
    }

    fn scalars_for(&self, param: &Param, terms: &Terms) -> Result<Scalars, Error> {
        let scalars = Scalars::new(&self.step_of(param, terms)?);
        match scalars.are_finite(terms.dtype == Dtype::F64) {
            true => Ok(scalars),
            false => Err(self.too_large(param, &scalars, terms.dtype)),
        }
    }

    /// Which of the scalars is too large.
    #[cold]
    fn too_large(&self, param: &Param, scalars: &Scalars, dtype: Dtype) -> Error {
        let StepScalars { step_size, lr_weight_decay, .. } = scalars.f64;
        let (name, value) = match dtype.computed(step_size).is_finite() {
            false => ("lr * lr_scale * lr_ratio / (1 - beta1^step)", step_size),
            true => ("lr * lr_scale * lr_ratio * weight_decay", lr_weight_decay),
        };
        Error::NotOfType { param: param.label(), name, value, is: dtype.computed(value), dtype }
    }

    fn step_of(&self, param: &Param, terms: &Terms) -> Result<Step, Error> {
        let group = &self.groups[param.group as usize];
        let clock = terms.clock.advanced(group);
        let lr = self.scaled_lr(self.lr, param.group, terms.ratio)?;
        Ok(Step {
            lr,
            beta1: group.beta1,
            beta2: group.beta2,
            eps: group.eps,
            grad_scale: terms.grad_scale,
            limits: terms.limits,
            regularizer: terms.regularizer,
            independent_weight_decay: group.independent_weight_decay,
            weight_decay: if param.decays { group.weight_decay } else { 0.0 },
            maximize: self.config.maximize,
            number: clock.step,
            beta1_power: clock.beta1_power,
            beta2_power: clock.beta2_power,
        })
    }
}
