//! The third stage of a step: the scalars with which each parameter is stepped.
//!
//! The scalars of a parameter depend on its group, on whether it decays, and on its `Terms`.
//! Neighbours mostly agree in all of that, so `decide_anew` compares each parameter with the last
//! one of its group that decays alike (`latest`), and makes scalars only where they differ.
//! `scalars_of` has the index of its scalars for each parameter of the step.
//!
//! A step that repeats the last one has the same parameters sharing scalars. `decide_again` then
//! makes the scalars of the first parameter of each index, and looks at no other.
//!
//! Every scalar has to be finite in the type that the parameter is computed in.
#![forbid(unsafe_code)]

use crate::dtype::Dtype;
use crate::error::Error;
use crate::math::{Regularizer, Scalars, Step, StepScalars};
use crate::optimizer::Optimizer;
use crate::optimizer::params::Param;
use crate::optimizer::params::clocks::Shared;
use crate::optimizer::params::table::ParamId;
use crate::optimizer::step::gather::Plan;
use crate::steps::{Clock, NO_STEP};
use crate::sys::memory::{give_back, reserve};
use core::ops::Range;

/// The scalars of a step, in memory that is kept for the next one.
#[derive(Default)]
pub struct Decisions {
    /// The scalars of this step, each for one or more parameters.
    pub scalars: Vec<Scalars>,
    /// By index of the scalars, the clock after the step, and the first parameter that has them.
    pub clocks: Vec<Shared>,
    /// By place in the step, the index of the parameter's scalars, or `NO_STEP`.
    pub scalars_of: Vec<u32>,
    /// The smallest factor that a gradient is clipped with.
    pub clip_factor: f64,
    /// By group and by whether a parameter decays, what was decided for the last such parameter.
    latest: Vec<[Option<Decided>; 2]>,
}

impl Decisions {
    fn clear(&mut self) {
        self.scalars.clear();
        self.clocks.clear();
        self.scalars_of.clear();
        self.latest.clear();
    }

    /// Notes the factor that a gradient is clipped with.
    pub fn clipped_by(&mut self, factor: f64) {
        if factor < self.clip_factor || factor.is_nan() {
            self.clip_factor = factor;
        }
    }

    /// Forgets all decisions, and makes room for those of so many parameters and groups.
    pub fn reserve(&mut self, n_params: usize, n_groups: usize) -> Result<(), Error> {
        self.clear();
        reserve(&mut self.scalars, n_params, "the step's scalars")?;
        reserve(&mut self.clocks, n_params, "the step's scalars")?;
        reserve(&mut self.scalars_of, n_params, "the step's scalars")?;
        reserve(&mut self.latest, n_groups, "the step's scalars")
    }

    /// Gives back the memory that so many parameters do not need.
    pub fn give_back(&mut self, n_params: usize) {
        give_back(&mut self.scalars, n_params);
        give_back(&mut self.clocks, n_params);
        give_back(&mut self.scalars_of, n_params);
    }
}

/// The index of scalars that another parameter can share if it has the same terms.
#[derive(Clone, Copy)]
struct Decided {
    terms: Terms,
    scalars: u32,
}

/// What the scalars of a parameter depend on, beside its group and whether it decays.
#[derive(Clone, Copy, PartialEq)]
struct Terms {
    clock: Clock,
    ratio: f64,
    grad_scale: f64,
    /// Two parameters that are scaled alike now, of which one is not clipped, may differ in the
    /// next step.
    no_clip: bool,
    limits: Option<(f64, f64)>,
    regularizer: Regularizer<f64>,
    /// The type that the parameter is computed in, in which its scalars have to be finite.
    dtype: Dtype,
}

impl Optimizer {
    /// Decides the scalars of a step, for the processor and for the device. Asks the host's
    /// callbacks. Writes nothing but the scratch.
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
        match &plan.on_device {
            Some(step) => self.decide_on_device(&plan.of, step),
            None => Ok(()),
        }
    }

    /// Decides the scalars of a step whose parameters share them as in the last step.
    fn decide_again(&self, decisions: &mut Decisions) -> Result<(), Error> {
        for scalars in 0..decisions.scalars.len() {
            let first = decisions.clocks[scalars].first;
            let terms = self.terms(first.place(), first, decisions)?;
            let (made, clock) = self.scalars_for(&self.params[first], &terms)?;
            decisions.scalars[scalars] = made;
            decisions.clocks[scalars].clock = clock;
        }
        Ok(())
    }

    /// Decides the scalars of each parameter of a step.
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
                    let (made, clock) = self.scalars_for(param, &terms)?;
                    decisions.scalars.push(made);
                    decisions.clocks.push(Shared { clock, first: id });
                    *latest = Some(Decided { terms, scalars });
                    scalars
                }
            };
            decisions.scalars_of.push(scalars);
        }
        Ok(())
    }

    /// Returns the terms of the parameter at a place in the step.
    #[inline]
    fn terms(&self, place: usize, id: ParamId, decisions: &mut Decisions) -> Result<Terms, Error> {
        let param = &self.params[id];
        let factor = self.grad_factor(place, id);
        decisions.clipped_by(factor.clip);
        let group = &self.groups[param.group as usize];
        Ok(Terms {
            clock: self.params.clock(id),
            ratio: self.step_ratio(id)?,
            grad_scale: factor.scale,
            no_clip: param.no_clip,
            limits: group.clip.limits().filter(|_| !param.no_clip),
            regularizer: param.regularizer,
            dtype: self.params.operands(id).param().dtype().compute(),
        })
    }

    /// Returns the scalars of a parameter, and its clock after the step.
    fn scalars_for(&self, param: &Param, terms: &Terms) -> Result<(Scalars, Clock), Error> {
        let clock = terms.clock.advanced(&self.groups[param.group as usize]);
        let scalars = Scalars::new(&self.step_of(param, terms, &clock)?);
        if scalars.are_finite(terms.dtype == Dtype::F64) {
            Ok((scalars, clock))
        } else {
            Err(self.too_large(param, &scalars, terms.dtype))
        }
    }

    /// Returns the error that names the scalar that is too large.
    #[cold]
    fn too_large(&self, param: &Param, scalars: &Scalars, dtype: Dtype) -> Error {
        let StepScalars { step_size, lr_weight_decay, .. } = scalars.f64;
        let (name, value) = if dtype.computed(step_size).is_finite() {
            ("lr * lr_scale * lr_ratio * weight_decay", lr_weight_decay)
        } else {
            ("lr * lr_scale * lr_ratio / (1 - beta1^step)", step_size)
        };
        Error::NotOfType { param: param.label(), name, value, is: dtype.computed(value), dtype }
    }

    fn step_of(&self, param: &Param, terms: &Terms, clock: &Clock) -> Result<Step, Error> {
        let group = &self.groups[param.group as usize];
        let (beta1_power, beta2_power) = clock.correcting_powers(group);
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
            maximize: group.maximize,
            number: clock.step,
            beta1_power,
            beta2_power,
            eps_before_correction: group.eps_before_correction,
            decays_new_value: group.decays_new_value,
        })
    }
}
