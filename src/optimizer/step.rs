//! The step: gather the parameters that have a gradient, decide their scalars, update, count.
#![forbid(unsafe_code)]

use super::Optimizer;
use super::occupied::Place;
use super::params::{Master, Param};
use crate::config::{GroupConfig, Lazy};
use crate::error::Error;
use crate::math::{Regularizer, Scalars, Step};
use crate::schedule;
use crate::steps::{NO_STEP, Steps};
use crate::sys::memory::reserve;
use crate::tensor::{Changes, Extent, Operands, Pass, Tallies};
use core::ops::Range;
use std::time::Instant;

/// How far a parameter has come.
#[derive(Clone, Copy, PartialEq)]
pub struct Clock {
    pub step: u64,
    /// beta1^step and beta2^step as running products, one multiplication a step: `pow` would give
    /// other bits elsewhere.
    pub beta1_power: f64,
    pub beta2_power: f64,
}

impl Clock {
    /// The clock of a parameter that has taken so many steps.
    pub fn after(step: u64, group: &GroupConfig) -> Clock {
        let power = |beta: f64| {
            let mut power = 1.0;
            for _ in 0..step {
                let next = power * beta;
                if next == power {
                    break; // at 0, or at the smallest number that rounding keeps
                }
                power = next;
            }
            power
        };
        Clock { step, beta1_power: power(group.beta1), beta2_power: power(group.beta2) }
    }

    fn advanced(&self, group: &GroupConfig) -> Clock {
        Clock {
            step: self.step.saturating_add(1),
            beta1_power: self.beta1_power * group.beta1,
            beta2_power: self.beta2_power * group.beta2,
        }
    }
}

/// What a step works out, in memory that is kept for the next one.
#[derive(Default)]
pub struct Scratch {
    pub pass: Pass,
    /// The scalars of this step, each for one or more parameters.
    pub scalars: Vec<Scalars>,
    /// By place among the parameters of the step: the number of its scalars, or `NO_STEP`.
    pub scalars_of: Vec<u32>,
    /// The smallest factor that a gradient is clipped with.
    pub clip_factor: f64,
    /// By group, with decay and without: what the last such parameter stepped with.
    latest: Vec<[Option<Decided>; 2]>,
    /// What a step changes.
    pub changes: Changes,
    /// What the gradients add up to.
    pub tallies: Tallies,
    /// By group: the sum of squares of what it clips together.
    pub sums: Vec<f64>,
    /// Where the gradients are that a step writes.
    pub grads: Vec<Place>,
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
    limits: Option<(f64, f64)>,
    regularizer: Regularizer<f64>,
}

impl Scratch {
    /// Makes room for so many parameters and groups, so that a step need not.
    pub fn reserve(&mut self, n_params: usize, n_groups: usize) -> Result<(), Error> {
        // Each `Vec` may be empty or hold the entries of the last step.
        self.scalars.clear();
        self.scalars_of.clear();
        self.latest.clear();
        self.sums.clear();
        self.grads.clear();
        reserve(&mut self.grads, n_params, "the places of gradients")?;
        reserve(&mut self.sums, n_groups, "the step's norms")?;
        reserve(&mut self.scalars, n_params, "the step's scalars")?;
        reserve(&mut self.scalars_of, n_params, "the step's scalars")?;
        reserve(&mut self.latest, n_groups, "the step's scalars")?;
        self.pass.reserve(n_params)
    }
}

/// What the parameters that are stepped are, and have, all together.
#[derive(Default)]
struct Gathered {
    n_elements: u64,
    /// Sparse gradients.
    rows: bool,
    /// Rows that may lag.
    lags: bool,
    /// Gradients that were accumulated, or measured when they arrived: for one step.
    uses_up: bool,
    stale_masters: bool,
    unseen_masters: bool,
}

impl Optimizer {
    /// Steps every parameter that has a gradient.
    pub fn step(&mut self) -> Result<(), Error> {
        self.step_then(|_| ())
    }

    /// The same; `taken` sees the optimizer once the step has been taken, if it is.
    pub(super) fn step_then(&mut self, taken: impl FnOnce(&Optimizer)) -> Result<(), Error> {
        self.take_step(0..self.params.len(), Optimizer::next_scheduled, taken)
    }

    /// Steps those of some parameters that have a gradient. `next` says where the schedule goes.
    pub(super) fn take_step(
        &mut self,
        of: Range<usize>,
        next: impl FnOnce(&Optimizer) -> Result<Option<schedule::State>, Error>,
        taken: impl FnOnce(&Optimizer),
    ) -> Result<(), Error> {
        let started = self.statistics.then(Instant::now);
        self.check_grads()?;
        self.read_hosts_values()?;
        let gathered = self.gather(&of);
        if gathered.rows || gathered.lags {
            self.read_rows(&of)?;
        }
        if gathered.unseen_masters {
            self.look_at_masters(&of)?;
        }
        let mut report = self.measure(&of, gathered.n_elements)?;
        if report.skipped {
            report.seconds = seconds_since(started);
            self.report = report;
            self.tell(&report);
            self.clear_used(&of, |_| true);
            if gathered.uses_up {
                self.use_up_grads(&of);
            }
            return Ok(());
        }
        self.decide(&of)?;
        let scheduled = next(self)?;
        if gathered.stale_masters {
            self.fill_stale_masters(&of);
        }
        if gathered.lags {
            self.take_turns(&of)?;
        }
        self.update(&of)?;
        self.clear_used(&of, Operands::has_rows);
        self.advance(&of);
        if gathered.lags {
            self.log_steps(&of);
        }
        self.add_up(&of, &mut report);
        report.seconds = seconds_since(started);
        self.report = report;
        self.tell(&report);
        if let Some(state) = scheduled {
            self.go_to(state);
        }
        taken(self);
        if gathered.uses_up {
            self.use_up_grads(&of);
        }
        Ok(())
    }

    /// Looks once at every parameter, so that what few need costs the others nothing.
    fn gather(&self, of: &Range<usize>) -> Gathered {
        let mut gathered = Gathered::default();
        let params = self.params[of.clone()].iter();
        for (param, operands) in params.zip(&self.operands[of.clone()]) {
            gathered.uses_up |= operands.is_ready();
            if operands.is_stepped() {
                gathered.n_elements += operands.param().n_elements();
                gathered.rows |= operands.has_rows();
                gathered.lags |= operands.lag().is_some();
                gathered.uses_up |= operands.n_accumulated() > 0;
                gathered.stale_masters |= param.master == Master::Stale;
                gathered.unseen_masters |= param.master == Master::Unseen;
            }
        }
        gathered
    }

    fn update(&mut self, of: &Range<usize>) -> Result<(), Error> {
        let Scratch { pass, scalars, scalars_of, changes, .. } = &mut self.scratch;
        let (params, groups) = (&self.params[of.clone()], &self.groups);
        let extent = |place: usize, operands: &Operands| match scalars_of[place] {
            NO_STEP => Extent::Nothing,
            _ if !operands.has_rows() => Extent::All,
            _ => match groups[params[place].group as usize].lazy {
                Lazy::Off => Extent::All,
                Lazy::Rows | Lazy::Exact => Extent::Listed,
            },
        };
        let operands = &mut self.operands[of.clone()];
        let mut chunks = match self.statistics {
            false => pass.over(operands, extent),
            true => pass.measured_over(operands, extent, changes),
        };
        if self.config.clear_grads {
            chunks.clear_grads();
        }
        let logs = &self.logs[of.clone()];
        self.backend.update(&chunks, &Steps { scalars, scalars_of, logs })
    }

    /// The scalars of this step. Asks the host's callbacks; changes nothing but the scratch.
    fn decide(&mut self, of: &Range<usize>) -> Result<(), Error> {
        let mut scratch = core::mem::take(&mut self.scratch);
        let decided = self.decide_into(of, &mut scratch);
        self.scratch = scratch;
        decided
    }

    fn decide_into(&self, of: &Range<usize>, scratch: &mut Scratch) -> Result<(), Error> {
        scratch.clip_factor = 1.0;
        scratch.scalars.clear();
        scratch.scalars_of.clear();
        scratch.latest.clear();
        scratch.latest.resize(self.groups.len(), [None; 2]);
        let inv_grad_scale = self.inv_grad_scale();
        for (place, number) in of.clone().enumerate() {
            let (param, operands) = (&self.params[number], &self.operands[number]);
            if !operands.is_stepped() {
                scratch.scalars_of.push(NO_STEP);
                continue;
            }
            let ratio = self.ratio(number as u32)?;
            let group = &self.groups[param.group as usize];
            let (grad_scale, clip_factor) =
                self.factor(inv_grad_scale, param, place, operands, scratch);
            if clip_factor < scratch.clip_factor || clip_factor.is_nan() {
                scratch.clip_factor = clip_factor;
            }
            let terms = Terms {
                clock: param.clock,
                ratio,
                grad_scale,
                limits: group.clip.limits().filter(|_| !param.no_clip),
                regularizer: param.regularizer,
            };
            let latest = &mut scratch.latest[param.group as usize][param.decays as usize];
            let scalars = match latest.filter(|latest| latest.terms == terms) {
                Some(latest) => latest.scalars,
                None => {
                    let scalars = scratch.scalars.len() as u32;
                    let step = self.step_of(param, &terms)?;
                    scratch.scalars.push(Scalars::new(&step));
                    *latest = Some(Decided { terms, scalars });
                    scalars
                }
            };
            scratch.scalars_of.push(scalars);
        }
        Ok(())
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
            weight_decay: if param.decays { group.weight_decay } else { 0.0 },
            maximize: self.config.maximize,
            number: clock.step,
            beta1_power: clock.beta1_power,
            beta2_power: clock.beta2_power,
        })
    }

    /// The library's own masters start as what the parameter is at its first step, so that a host
    /// may register parameters before it has filled them. A master stays stale until the step has
    /// been taken: if it is refused, the host may yet write the parameter.
    fn fill_stale_masters(&mut self, of: &Range<usize>) {
        let params = self.params[of.clone()].iter();
        for (param, operands) in params.zip(&mut self.operands[of.clone()]) {
            if param.master == Master::Stale && operands.is_stepped() {
                self.backend.fill_master(operands);
            }
        }
    }

    /// That the host's masters of parameters that have taken no step are what the parameters were
    /// rounded from: a master that nobody filled would overwrite its parameter.
    fn look_at_masters(&mut self, of: &Range<usize>) -> Result<(), Error> {
        let params = self.params[of.clone()].iter();
        for (param, operands) in params.zip(&mut self.operands[of.clone()]) {
            if param.master == Master::Unseen
                && operands.is_stepped()
                && let Some(element) = self.backend.strange_master(operands)
            {
                return Err(Error::StrangeMaster { param: param.label(), element });
            }
        }
        Ok(())
    }

    /// Counts the step that has been taken.
    fn advance(&mut self, of: &Range<usize>) {
        let stepped = self.params[of.clone()].iter_mut().zip(&self.scratch.scalars_of);
        for (param, _) in stepped.filter(|(_, scalars)| **scalars != NO_STEP) {
            param.clock = param.clock.advanced(&self.groups[param.group as usize]);
            param.master = Master::Settled;
        }
    }
}

fn seconds_since(started: Option<Instant>) -> f64 {
    started.map_or(0.0, |started| started.elapsed().as_secs_f64())
}
