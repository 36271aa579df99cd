//! The scalars with which each parameter is stepped: those of this step, and those of the steps
//! that some of its rows have yet to take.
#![forbid(unsafe_code)]

use crate::config::{BiasCorrection, GroupConfig};
use crate::error::Error;
use crate::math::{Scalars, StepScalars, power};
use crate::sys::memory::reserve;
use crate::tensor::LOGGED;

/// The number of steps that a parameter has taken. A device keeps it in this layout.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Clock {
    pub step: u64,
    /// beta1^step and beta2^step, as the last step had them: running products, one multiplication a
    /// step, or `power`. `pow` would give other bits elsewhere.
    pub beta1_power: f64,
    pub beta2_power: f64,
}

/// The most multiplications that `Clock::after` does, which take a tenth of a second.
const MOST_PRODUCTS: u64 = 1 << 25;

impl Clock {
    /// Returns the clock of a parameter that has taken `step` steps, or `None` if the powers still
    /// fall after `MOST_PRODUCTS` products, because the rest might take long.
    pub fn after(step: u64, group: &GroupConfig) -> Option<Clock> {
        if group.bias_correction == BiasCorrection::Current {
            return Some(Clock::by_powers(step, group));
        }
        let (mut beta1_power, mut beta2_power) = (1.0, 1.0);
        for n in 0..step {
            let next = (beta1_power * group.beta1, beta2_power * group.beta2);
            if next == (beta1_power, beta2_power) {
                break; // at 0, or at the smallest numbers that rounding keeps
            }
            if n == MOST_PRODUCTS {
                return None;
            }
            (beta1_power, beta2_power) = next;
        }
        Some(Clock { step, beta1_power, beta2_power })
    }

    /// The clock of a parameter that has taken no step.
    pub const NEW: Clock = Clock { step: 0, beta1_power: 1.0, beta2_power: 1.0 };

    /// Returns the clock after one more step.
    pub fn advanced(&self, group: &GroupConfig) -> Clock {
        let step = self.step.saturating_add(1);
        match group.bias_correction {
            BiasCorrection::Products | BiasCorrection::None => Clock {
                step,
                beta1_power: self.beta1_power * group.beta1,
                beta2_power: self.beta2_power * group.beta2,
            },
            BiasCorrection::Current => Clock::by_powers(step, group),
        }
    }

    /// Returns the powers of beta1 and beta2 that correct the moments of the last step.
    pub fn correcting_powers(&self, group: &GroupConfig) -> (f64, f64) {
        match group.bias_correction {
            BiasCorrection::None => (0.0, 0.0),
            _ => (self.beta1_power, self.beta2_power),
        }
    }

    /// Returns the clock after `step` steps, all of which count as having had the betas of now.
    fn by_powers(step: u64, group: &GroupConfig) -> Clock {
        let beta1_power = power(group.beta1, step);
        Clock { step, beta1_power, beta2_power: power(group.beta2, step) }
    }
}

/// The scalars of the last `LOGGED` steps of one parameter.
#[derive(Default)]
pub struct Log {
    ring: Vec<Scalars>,
}

impl Log {
    /// Makes room, so that `set` allocates nothing.
    pub fn reserve(&mut self) -> Result<(), Error> {
        let missing = LOGGED as usize - self.ring.len();
        reserve(&mut self.ring, missing, "the log of a parameter's steps")
    }

    /// Keeps the scalars of a step, which is the one after the step of the last call.
    pub fn set(&mut self, step: u64, scalars: Scalars) {
        let place = (step % LOGGED) as usize;
        match self.ring.get_mut(place) {
            Some(old) => *old = scalars,
            None => self.ring.push(scalars),
        }
    }

    fn get(&self, step: u64) -> &Scalars {
        &self.ring[(step % LOGGED) as usize]
    }
}

/// Marks a parameter that takes no step now.
pub const NO_STEP: u32 = u32::MAX;

/// The scalars of each parameter, by its number.
pub struct Steps<'a> {
    /// Scalars of this step, each for one or more parameters.
    pub scalars: &'a [Scalars],
    /// For each parameter its index into `scalars`, or `NO_STEP`. Empty if no parameter takes a
    /// step now.
    pub scalars_of: &'a [u32],
    pub logs: &'a [Log],
}

impl Steps<'_> {
    #[inline(always)]
    pub fn now(&self, param: usize) -> Option<&Scalars> {
        let scalars = *self.scalars_of.get(param)?;
        (scalars != NO_STEP).then(|| &self.scalars[scalars as usize])
    }

    /// Returns the scalars of an f32 parameter, if its step is nothing but its loop.
    #[inline(always)]
    pub fn plain(&self, param: usize) -> Option<&StepScalars<f32>> {
        self.now(param).map(|now| &now.f32).filter(|scalars| scalars.are_plain())
    }

    /// Returns whether two parameters, the first of which takes a step now, share its scalars.
    #[inline(always)]
    pub fn share(&self, param: usize, other: usize) -> bool {
        self.scalars_of[param] == self.scalars_of[other]
    }

    pub fn logged(&self, param: usize, step: u64) -> &Scalars {
        self.logs[param].get(step)
    }
}
