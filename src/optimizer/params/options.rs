//! What the host can change about a parameter, up to its removal.
#![forbid(unsafe_code)]

use crate::config;
use crate::error::Error;
use crate::math::Regularizer;
use crate::optimizer::Optimizer;
use crate::optimizer::params::check_regularizer;
use crate::optimizer::params::masters::Master;
use crate::role::Role;
use crate::steps::Clock;

/// What the host chooses about one parameter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Options {
    pub group: u32,
    /// A factor of the group's learning rate.
    pub lr_scale: f64,
    /// Every step skips the parameter, as if it had no gradient.
    pub frozen: bool,
    /// The gradient is not clipped, and not part of a global norm.
    pub no_clip: bool,
    pub regularizer: Regularizer<f64>,
}

impl Optimizer {
    /// Returns the choices about a parameter.
    pub fn options(&self, number: u32) -> Result<Options, Error> {
        let param = &self.params[self.params.id(number)?];
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
        let id = self.params.id(number)?;
        let group = self.group(options.group)?;
        config::lr_scale(options.lr_scale)?;
        let (param, dtype) = (self.params.label(id), self.params.operands(id).param().dtype());
        check_regularizer(options.regularizer, param, dtype)?;
        group.check_for(param, dtype)?;
        self.change_laziness(id.alone(), |_| true, group.lazy)?;
        self.params.regroup(id, options.group);
        let param = self.params.revise_param(id);
        let Options { group: _, lr_scale, frozen, no_clip, regularizer } = options;
        (param.lr_scale, param.frozen) = (lr_scale, frozen);
        (param.no_clip, param.regularizer) = (no_clip, regularizer);
        self.params.revise_operands(id).set_frozen(frozen);
        Ok(())
    }

    /// Makes a parameter as new: it has taken no step, its moments are zero, and its next step
    /// fills the master.
    pub fn reset(&mut self, number: u32) -> Result<(), Error> {
        let id = self.params.id(number)?;
        self.check_whole(id)?;
        self.fetch_anew(id)?;
        self.catch_up_rows(id)?;
        self.backend.zero_moments(self.params.revise_operands(id))?;
        self.fill_master(id)?;
        self.forget_copy(id);
        let operands = self.params.operands(id);
        let owns_master =
            operands.state(Role::Master).is_some() && !operands.is_host_owned(Role::Master);
        let master = if owns_master { self.begin_master(id)? } else { Master::Settled };
        let param = self.params.revise_param(id);
        (param.stepped_alone, param.master) = (false, master);
        self.set_clock(id, Clock::NEW)
    }

    /// Removes a parameter and frees the state that is the library's. Its number and its name can
    /// be given again.
    pub fn remove(&mut self, number: u32) -> Result<(), Error> {
        let id = self.params.id(number)?;
        self.catch_up_rows(id)?;
        let param = self.param_of_host(id);
        // A graph that steps it goes on with its number, which nobody else gets.
        let is_kept = self.params.operands(id).is_on_device() && self.is_in_graph(id);
        self.release_on_device(id)?;
        let operands = self.params.free(id, is_kept);
        self.vacate(number, &param, &operands);
        self.scratch.tallies.release(operands.param().n_elements());
        self.forget_cuts();
        let n_params = self.params.len();
        self.scratch.give_back(n_params);
        self.on_device.give_back(n_params);
        Ok(())
    }
}
