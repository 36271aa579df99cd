//! What can be changed about a parameter that is there.
#![forbid(unsafe_code)]

use crate::config;
use crate::error::Error;
use crate::math::Regularizer;
use crate::optimizer::Optimizer;
use crate::optimizer::params::check_regularizer;
use crate::optimizer::params::masters::Master;
use crate::role::Role;
use crate::steps::{Clock, Log};
use crate::sys::memory::give_back;
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
        let (param, dtype) = (self.label(number)?, self.operands[number as usize].param().dtype());
        check_regularizer(options.regularizer, param, dtype)?;
        group.check_for(param, dtype)?;
        let this = number as usize..number as usize + 1;
        self.change_laziness(this, |_| true, group.lazy)?;
        let param = &mut self.params[number as usize];
        let Options { group, lr_scale, frozen, no_clip, regularizer } = options;
        (param.group, param.lr_scale, param.frozen) = (group, lr_scale, frozen);
        (param.no_clip, param.regularizer) = (no_clip, regularizer);
        self.operands[number as usize].set_frozen(frozen);
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
            operands.state(Role::Master).is_some() && !operands.is_host_owned(Role::Master);
        let master =
            if owns_master { self.begin_master(number as usize)? } else { Master::Settled };
        let param = &mut self.params[number as usize];
        (param.stepped_alone, param.master) = (false, master);
        self.set_clock(number, Clock::NEW)
    }

    /// Forgets a parameter and frees the state that is the library's. Its number and its name are free.
    pub fn remove(&mut self, number: u32) -> Result<(), Error> {
        self.label(number)?;
        let at = number as usize;
        self.catch_up_rows(at)?;
        let operands = &self.operands[at];
        let mut param = operands.param();
        // A graph that steps it goes on with its number, which stays nobody's.
        let mut is_free = true;
        if let Some(cuda) = self.backend.cuda() {
            if operands.is_on_device() {
                is_free = !cuda.is_in_graph(number);
                cuda.release(number, operands)?;
            } else if let Some(copy) = cuda.copy_of(number) {
                param = copy.param();
                cuda.release_copy(number)?;
            }
        }
        let operands = core::mem::replace(&mut self.operands[at], Operands::none());
        self.vacate(number, &param, &operands);
        self.scratch.tallies.release(operands.param().n_elements());
        self.by_name.remove(self.params[at].name.to_bytes(), number);
        self.params[at].removed = true;
        self.logs[at] = Log::default();
        self.slots.release(at, is_free);
        self.give_back();
        Ok(())
    }

    /// Gives back what is not needed for as many numbers as there are.
    fn give_back(&mut self) {
        let n_params = self.slots.len();
        give_back(&mut self.params, n_params);
        give_back(&mut self.operands, n_params);
        give_back(&mut self.logs, n_params);
        give_back(&mut self.shards, n_params);
        self.scratch.give_back(n_params);
        self.on_device.give_back(n_params);
    }
}
