//! The scalars of a step: decided for each parameter, or, if nothing has changed since the last step,
//! once for all that share them.
#![forbid(unsafe_code)]

use super::Optimizer;
use super::params::Param;
use super::step::{Clock, Scratch};
use crate::error::Error;
use crate::math::{Regularizer, Scalars, Step};
use crate::steps::NO_STEP;
use core::ops::Range;

/// Scalars that the next parameter of the group can share, if it agrees in the terms.
#[derive(Clone, Copy)]
pub struct Decided {
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
}

impl Optimizer {
    /// The scalars of this step. Asks the host's callbacks; changes nothing but the scratch.
    pub(super) fn decide(&mut self, of: &Range<usize>, repeats: bool) -> Result<(), Error> {
        let mut scratch = core::mem::take(&mut self.scratch);
        scratch.clip_factor = 1.0;
        let decided = match repeats {
            true => self.decide_again(&mut scratch),
            false => self.decide_anew(of, &mut scratch),
        };
        self.scratch = scratch;
        decided
    }

    /// For a step of all parameters that share scalars as they did.
    fn decide_again(&self, scratch: &mut Scratch) -> Result<(), Error> {
        for scalars in 0..scratch.scalars.len() {
            let first = scratch.first_of[scalars];
            let terms = self.terms(first, first, scratch)?;
            scratch.scalars[scalars] = Scalars::new(&self.step_of(&self.params[first], &terms)?);
        }
        Ok(())
    }

    fn decide_anew(&self, of: &Range<usize>, scratch: &mut Scratch) -> Result<(), Error> {
        scratch.scalars.clear();
        scratch.first_of.clear();
        scratch.scalars_of.clear();
        scratch.latest.clear();
        scratch.latest.resize(self.groups.len(), [None; 2]);
        for (place, number) in of.clone().enumerate() {
            let (param, operands) = (&self.params[number], &self.operands[number]);
            if !operands.is_stepped() {
                scratch.scalars_of.push(NO_STEP);
                continue;
            }
            let terms = self.terms(place, number, scratch)?;
            let latest = &mut scratch.latest[param.group as usize][param.decays as usize];
            let scalars = match latest.filter(|latest| latest.terms == terms) {
                Some(latest) => latest.scalars,
                None => {
                    let scalars = scratch.scalars.len() as u32;
                    let step = self.step_of(param, &terms)?;
                    scratch.scalars.push(Scalars::new(&step));
                    scratch.first_of.push(place);
                    *latest = Some(Decided { terms, scalars });
                    scalars
                }
            };
            scratch.scalars_of.push(scalars);
        }
        Ok(())
    }

    /// What makes the scalars of a parameter, by its place in the step and by its number.
    #[inline]
    fn terms(&self, place: usize, number: usize, scratch: &mut Scratch) -> Result<Terms, Error> {
        let (param, operands) = (&self.params[number], &self.operands[number]);
        let (grad_scale, clip_factor) = self.factor(param, place, operands, scratch);
        if clip_factor < scratch.clip_factor || clip_factor.is_nan() {
            scratch.clip_factor = clip_factor;
        }
        let group = &self.groups[param.group as usize];
        Ok(Terms {
            clock: param.clock,
            ratio: self.ratio(number as u32)?,
            grad_scale,
            no_clip: param.no_clip,
            limits: group.clip.limits().filter(|_| !param.no_clip),
            regularizer: param.regularizer,
        })
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
}
