//! The step: gather the parameters that have a gradient, decide their scalars, update, count.
#![forbid(unsafe_code)]

use super::Optimizer;
use super::params::Param;
use crate::clip::{Clip, Scope};
use crate::config::GroupConfig;
use crate::error::Error;
use crate::math::{Regularizer, Scalars, Step};
use crate::sys::memory::reserve;
use crate::tensor::{Chunks, GradBlocks, Operands, Plan, Tallies};

/// How far a parameter has come.
#[derive(Clone, Copy, PartialEq)]
pub struct Clock {
    pub step: u64,
    /// beta1^step and beta2^step as running products, one multiplication a step: `pow` would give
    /// other bits elsewhere.
    beta1_power: f64,
    beta2_power: f64,
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
    plan: Plan,
    /// The scalars of this step, each for one or more parameters.
    scalars: Vec<Scalars>,
    /// By parameter: the number of its scalars.
    scalars_of: Vec<u32>,
    /// By group, with decay and without: what the last such parameter stepped with.
    latest: Vec<[Option<Decided>; 2]>,
    /// What the gradients add up to.
    pub tallies: Tallies,
    /// By group: the sum of squares of what it clips together.
    sums: Vec<f64>,
}

/// Scalars that the next parameter which agrees in all this can share.
#[derive(Clone, Copy)]
struct Decided {
    clock: Clock,
    ratio: f64,
    grad_scale: f64,
    limits: Option<(f64, f64)>,
    regularizer: Regularizer<f64>,
    scalars: u32,
}

impl Scratch {
    /// Makes room for so many parameters and groups, so that a step need not.
    pub fn reserve(&mut self, n_params: usize, n_groups: usize) -> Result<(), Error> {
        // Each `Vec` may be empty or hold the entries of the last step.
        self.scalars.clear();
        self.scalars_of.clear();
        self.latest.clear();
        self.sums.clear();
        reserve(&mut self.sums, n_groups, "the step's norms")?;
        reserve(&mut self.scalars, n_params, "the step's scalars")?;
        reserve(&mut self.scalars_of, n_params, "the step's scalars")?;
        reserve(&mut self.latest, n_groups, "the step's scalars")?;
        self.plan.reserve(n_params)
    }
}

impl Optimizer {
    /// Steps every parameter that has a gradient.
    pub fn step(&mut self) -> Result<(), Error> {
        self.check_grads()?;
        self.measure()?;
        self.decide()?;
        self.fill_stale_masters();
        let chunks = Chunks::new(&mut self.operands, &mut self.scratch.plan);
        self.backend.update(&chunks, &self.scratch.scalars, &self.scratch.scalars_of)?;
        self.advance();
        Ok(())
    }

    /// The norms of the gradients, if any group clips by them.
    fn measure(&mut self) -> Result<(), Error> {
        let Scratch { tallies, sums, .. } = &mut self.scratch;
        sums.clear();
        sums.resize(self.groups.len(), 0.0);
        if !self.groups.iter().any(|group| group.clip.needs_norms()) {
            return Ok(());
        }
        self.backend.measure(&GradBlocks::new(&self.operands, tallies))?;
        let stepped = self.operands.iter().map(Operands::is_stepped);
        for (number, (param, is_stepped)) in self.params.iter().zip(stepped).enumerate() {
            let together = matches!(self.groups[param.group as usize].clip, Clip::GlobalNorm(_));
            if together && is_stepped && !param.no_clip {
                let scope = match self.config.clip_scope {
                    Scope::Group => param.group as usize,
                    Scope::Handle => 0,
                };
                sums[scope] += tallies.total(number).sum_squares;
            }
        }
        Ok(())
    }

    /// What the gradient of a parameter is multiplied by.
    fn grad_scale(&self, number: u32, param: &Param, scratch: &Scratch) -> f64 {
        let sum_squares = match self.groups[param.group as usize].clip {
            _ if param.no_clip => return 1.0,
            Clip::None | Clip::Value { .. } => return 1.0,
            Clip::Norm(_) => scratch.tallies.total(number as usize).sum_squares,
            Clip::GlobalNorm(_) => match self.config.clip_scope {
                Scope::Group => scratch.sums[param.group as usize],
                Scope::Handle => scratch.sums[0],
            },
        };
        self.groups[param.group as usize].clip.factor(sum_squares.sqrt())
    }

    /// The scalars of this step. Asks the host's callbacks; changes nothing but the scratch.
    fn decide(&mut self) -> Result<(), Error> {
        let mut scratch = core::mem::take(&mut self.scratch);
        let decided = self.decide_into(&mut scratch);
        self.scratch = scratch;
        decided
    }

    fn decide_into(&self, scratch: &mut Scratch) -> Result<(), Error> {
        scratch.scalars.clear();
        scratch.scalars_of.clear();
        scratch.latest.clear();
        scratch.latest.resize(self.groups.len(), [None; 2]);
        for (number, (param, operands)) in (0..).zip(self.params.iter().zip(&self.operands)) {
            if !operands.is_stepped() {
                scratch.scalars_of.push(u32::MAX);
                continue;
            }
            let ratio = match self.lr_ratio {
                Some(lr_ratio) => lr_ratio.ratio(&self.param_info(number)?, param.label())?,
                None => 1.0,
            };
            let grad_scale = self.grad_scale(number, param, scratch);
            let latest = &mut scratch.latest[param.group as usize][param.decays as usize];
            let limits = group_limits(&self.groups[param.group as usize], param);
            let regularizer = param.regularizer;
            let shared = latest.filter(|l| {
                l.clock == param.clock
                    && l.ratio == ratio
                    && l.grad_scale == grad_scale
                    && l.limits == limits
                    && l.regularizer == regularizer
            });
            let scalars = match shared {
                Some(decided) => decided.scalars,
                None => {
                    let number = scratch.scalars.len() as u32;
                    let group = &self.groups[param.group as usize];
                    let step = self.step_of(group, param, ratio, grad_scale)?;
                    scratch.scalars.push(Scalars::new(&step));
                    *latest = Some(Decided {
                        clock: param.clock,
                        ratio,
                        grad_scale,
                        limits,
                        regularizer,
                        scalars: number,
                    });
                    number
                }
            };
            scratch.scalars_of.push(scalars);
        }
        Ok(())
    }

    fn step_of(
        &self,
        group: &GroupConfig,
        param: &Param,
        ratio: f64,
        grad_scale: f64,
    ) -> Result<Step, Error> {
        let clock = param.clock.advanced(group);
        let lr = self.lr * group.lr_scale * ratio;
        if !lr.is_finite() {
            let (name, expected) = ("lr * lr_scale * lr_ratio", "a finite number");
            return Err(Error::Number { name, value: lr, expected });
        }
        Ok(Step {
            lr,
            beta1: group.beta1,
            beta2: group.beta2,
            eps: group.eps,
            grad_scale,
            limits: group_limits(group, param),
            regularizer: param.regularizer,
            weight_decay: if param.decays { group.weight_decay } else { 0.0 },
            maximize: self.config.maximize,
            beta1_power: clock.beta1_power,
            beta2_power: clock.beta2_power,
        })
    }

    /// The library's own masters start as what the parameter is at its first step, so that a host
    /// may register parameters before it has filled them. A master stays stale until the step has
    /// been taken: if it is refused, the host may yet write the parameter.
    fn fill_stale_masters(&mut self) {
        for (param, operands) in self.params.iter().zip(&mut self.operands) {
            if param.master_is_stale && operands.is_stepped() {
                self.backend.fill_master(operands);
            }
        }
    }

    /// Counts the step that has been taken.
    fn advance(&mut self) {
        for (param, operands) in self.params.iter_mut().zip(&self.operands) {
            if operands.is_stepped() {
                param.clock = param.clock.advanced(&self.groups[param.group as usize]);
                param.master_is_stale = false;
            }
        }
    }
}

/// What the elements of a parameter's gradient are clamped to.
fn group_limits(group: &GroupConfig, param: &Param) -> Option<(f64, f64)> {
    group.clip.limits().filter(|_| !param.no_clip)
}
