//! What can be changed about a parameter that is there.
#![forbid(unsafe_code)]

use super::Optimizer;
use super::params::{Master, check_regularizer};
use crate::config;
use crate::error::{Error, Role};
use crate::math::Regularizer;
use crate::steps::{Clock, Log};
use crate::tensor::Operands;

/// The choices about one parameter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Options {
    pub group: u32,
    /// Times the learning rate of its group.
    pub lr_scale: f64,
    /// Skipped by every step, as if it had no gradient.
    pub frozen: bool,
    /// Left out of clipping.
    pub no_clip: bool,
    pub regularizer: Regularizer<f64>,
}

impl Optimizer {
    /// The choices about a parameter.
    pub fn options(&self, number: u32) -> Result<Options, Error> {
        self.label(number)?;
        let param = &self.params[number as usize];
        Ok(Options {
            group: param.group,
            lr_scale: param.lr_scale,
            frozen: param.frozen,
            no_clip: param.no_clip,
            regularizer: param.regularizer,
        })
    }

    /// Changes the choices; the state and the step count stay.
    pub fn set_options(&mut self, number: u32, options: Options) -> Result<(), Error> {
        self.label(number)?;
        let group = self.group(options.group)?;
        config::lr_scale(options.lr_scale)?;
        check_regularizer(options.regularizer)?;
        let this = number as usize..number as usize + 1;
        self.change_laziness(this, |_| true, group.lazy)?;
        let param = &mut self.params[number as usize];
        let Options { group, lr_scale, frozen, no_clip, regularizer } = options;
        (param.group, param.lr_scale, param.frozen) = (group, lr_scale, frozen);
        (param.no_clip, param.regularizer) = (no_clip, regularizer);
        self.operands[number as usize].set_resting(frozen);
        Ok(())
    }

    /// Makes a parameter as new: no step taken, moments of zero, and the master what the parameter
    /// is at its next step.
    pub fn reset(&mut self, number: u32) -> Result<(), Error> {
        self.label(number)?;
        self.fetch_anew(number as usize)?;
        self.catch_up_rows(number as usize)?;
        self.backend.zero_moments(&mut self.operands[number as usize])?;
        self.fill_master(number as usize)?;
        self.forget_copy(number as usize);
        let operands = &self.operands[number as usize];
        let owns_master =
            operands.state(Role::Master).is_some() && !operands.is_hosts(Role::Master);
        let group = *self.group_of(number);
        let param = &mut self.params[number as usize];
        param.stepped_alone = false;
        param.master = if owns_master { Master::Stale } else { Master::Settled };
        self.set_clock(number, Clock::after(0, &group))
    }

    /// Forgets a parameter and frees the state that is the library's. Its number is not given
    /// again; its name may be.
    pub fn remove(&mut self, number: u32) -> Result<(), Error> {
        self.label(number)?;
        self.catch_up_rows(number as usize)?;
        if let Some(cuda) = self.backend.cuda()
            && self.operands[number as usize].is_on_device()
        {
            cuda.release(number, &self.operands[number as usize])?;
        }
        if let Some(cuda) = self.backend.cuda()
            && cuda.copy_of(number).is_some()
        {
            cuda.release_copy(number)?;
        }
        let n_elements = self.operands[number as usize].param().n_elements();
        self.scratch.tallies.release(n_elements);
        self.operands[number as usize] = Operands::none();
        self.logs[number as usize] = Log::default();
        self.params[number as usize].removed = true;
        self.by_name.retain(|&other| other != number);
        self.occupied.remove(number);
        Ok(())
    }
}
