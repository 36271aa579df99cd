//! Hyper-parameters: of the handle, of its groups, and of one parameter.
//!
//! The learning rate of a parameter is a product: the handle's (`lr`), a scale of its group, a
//! scale of its own, and what the host's `lr_ratio` returns for it. `scaled_lr` multiplies them and
//! checks that the product is finite.
//!
//! The host may keep a value itself and change it between steps. `read_host_values` reads all of
//! them once, at the beginning of a step, and checks them before it takes any.
//!
//! `schedule.rs` moves the handle's learning rate, and `scaler.rs` the scale of the loss. What a
//! step makes of all these is worked out in `step/decide.rs`.
#![forbid(unsafe_code)]

pub(in crate::optimizer) mod scaler;
pub(in crate::optimizer) mod schedule;

use crate::callback::{DecayFilter, LrRatio};
use crate::config::{self, GroupConfig, HostValues};
use crate::dtype::Dtype;
use crate::error::{Error, Label};
use crate::optimizer::Optimizer;
use crate::optimizer::params::Param;
use crate::optimizer::params::table::ParamId;
use crate::sys::memory::reserve;
use crate::tensor::HostNumber;

impl Optimizer {
    /// Returns the learning rate that groups, parameters and callbacks scale.
    pub fn lr(&self) -> f64 {
        self.config.lr_ptr.map_or(self.lr, HostNumber::read)
    }

    /// Returns the learning rate of the next step. Waits for the device if only the device knows
    /// it.
    pub fn next_lr(&mut self) -> Result<f64, Error> {
        self.learn_schedule()?;
        Ok(self.lr())
    }

    /// Returns the learning rate for a checkpoint. If the host keeps one that no step would take,
    /// it is the one that was read last, for a step or by `prepare`, so that the checkpoint can be
    /// loaded.
    pub(in crate::optimizer) fn saved_lr(&self) -> f64 {
        let lr = self.lr();
        config::learning_rate(lr).map_or(self.lr, |()| lr)
    }

    /// Sets the learning rate of the next steps.
    pub fn set_lr(&mut self, lr: f64) -> Result<(), Error> {
        config::learning_rate(lr)?;
        self.check_lr_is_free()?;
        if self.schedule.is_some() {
            return Err(Error::LrConflict(
                "the schedule's: adamw_set_lr_schedule with NULL removes it",
            ));
        }
        (self.lr, self.given_lr) = (lr, lr);
        Ok(())
    }

    /// Returns the learning rate that the host gave last, whatever a schedule has made of it.
    pub fn given_lr(&self) -> f64 {
        self.given_lr
    }

    /// Checks that the host does not keep the learning rate itself.
    pub(in crate::optimizer) fn check_lr_is_free(&self) -> Result<(), Error> {
        match self.config.lr_ptr {
            Some(_) => Err(Error::LrConflict("read from config.lr_ptr: write it there")),
            None => Ok(()),
        }
    }

    /// Returns the learning rate that a step would give a parameter now. Asks the host's callback.
    pub fn param_lr(&mut self, number: u32) -> Result<f64, Error> {
        let id = self.params.id(number)?;
        let ratio = self.ratio(id)?;
        let lr = self.next_lr()?;
        config::learning_rate(lr)?;
        finite_lr(lr * self.current_group_of(id)?.lr_scale * ratio)
    }

    /// Returns what the learning rate of a parameter is multiplied by, beside its group's scale.
    /// Asks the host's callback.
    #[inline]
    pub(in crate::optimizer) fn ratio(&self, id: ParamId) -> Result<f64, Error> {
        let param = &self.params[id];
        match self.lr_ratio {
            Some(lr_ratio) => {
                let ratio = lr_ratio.ratio(&self.param_info(id), param.label())?;
                Ok(param.lr_scale * ratio)
            }
            None => Ok(param.lr_scale),
        }
    }

    /// Returns a learning rate times the scale of a group and the scale of a parameter.
    #[inline]
    pub(in crate::optimizer) fn lr_product(&self, lr: f64, group: u32, scale: f64) -> f64 {
        lr * self.groups[group as usize].lr_scale * scale
    }

    /// Returns `lr_product`, or an error if it is not finite.
    pub(in crate::optimizer) fn scaled_lr(
        &self,
        lr: f64,
        group: u32,
        scale: f64,
    ) -> Result<f64, Error> {
        finite_lr(self.lr_product(lr, group, scale))
    }

    /// Reads the hyper-parameters that the host keeps, each once, and takes them if all are valid.
    pub(in crate::optimizer) fn read_host_values(&mut self) -> Result<(), Error> {
        let lr = self.lr();
        config::learning_rate(lr)?;
        let has_host_values = |group: &GroupConfig| group.host_values != HostValues::default();
        let groups_now = &mut self.scratch.groups_now;
        groups_now.clear();
        for group in self.groups.iter().filter(|group| has_host_values(group)) {
            groups_now.push(group.current()?);
        }
        // This is no revision: parameters of one group go on sharing their scalars.
        let groups = self.groups.iter_mut().filter(|group| has_host_values(group));
        for (group, now) in groups.zip(groups_now) {
            *group = *now;
        }
        self.lr = lr;
        Ok(())
    }

    /// Returns the values that a new group has unless it is given others: those of group 0, but for
    /// its learning rate.
    pub fn group_defaults(&self) -> GroupConfig {
        let group = self.groups[0].read();
        let host_values = HostValues { lr_scale: None, ..group.host_values };
        GroupConfig { lr_scale: 1.0, host_values, ..group }
    }

    /// Returns the values of a group as the next step would read them.
    pub fn group_now(&self, number: u32) -> Result<GroupConfig, Error> {
        Ok(self.group(number)?.read())
    }

    /// Returns the values of a group, with the numbers that the host keeps as they were last read.
    pub fn group(&self, number: u32) -> Result<GroupConfig, Error> {
        let count = self.groups.len();
        self.groups.get(number as usize).copied().ok_or(Error::NoGroup { number, count })
    }

    /// Adds a group and returns its number.
    pub fn add_group(&mut self, group: GroupConfig) -> Result<u32, Error> {
        group.validate()?;
        let number = crate::optimizer::next_number(self.groups.len())?;
        reserve(&mut self.groups, 1, "the groups")?;
        self.scratch.reserve(self.params.len(), self.groups.len() + 1)?;
        self.reserve_groups_on_device(self.groups.len() + 1)?;
        self.params.add_group()?;
        self.groups.push(group);
        self.params.revise();
        Ok(number)
    }

    /// Replaces the values of a group. Its parameters keep their state and their step counts.
    pub fn set_group(&mut self, number: u32, group: GroupConfig) -> Result<(), Error> {
        let before = self.group(number)?;
        group.validate()?;
        let (all, nobody) = (self.params.all(), Label::new(b""));
        let is_wrong = |dtype: Dtype| group.check_for(nobody, dtype).is_err();
        // Only if it is wrong for some are they visited, to name the first.
        if self.params.dtypes_of(number).any(is_wrong) {
            let is_of_group = |param: &Param| param.group == number && !param.removed;
            for (param, operands) in self.params.iter(&all).filter(|(of, _)| is_of_group(of)) {
                group.check_for(param.label(), operands.param().dtype())?;
            }
        }
        if group.lazy != before.lazy {
            self.change_laziness(all, |param| param.group == number, group.lazy)?;
        }
        self.groups[number as usize] = group;
        self.params.revise();
        Ok(())
    }

    /// Sets the filter, which is asked about every parameter now, and about new ones later.
    pub fn set_decay_filter(&mut self, filter: Option<DecayFilter>) -> Result<(), Error> {
        let mut answers = Vec::new();
        reserve(&mut answers, self.params.len(), "the decay filter's answers")?;
        for (param, _) in self.params.iter(&self.params.all()) {
            answers.push(param.removed || crate::optimizer::params::decays(filter, &param.name)?);
        }
        for (param, decays) in self.params.revise().params.iter_mut().zip(answers) {
            param.decays = decays;
        }
        self.decay_filter = filter;
        Ok(())
    }

    /// Sets the callback that each step asks about every parameter with a gradient.
    pub fn set_lr_ratio(&mut self, lr_ratio: Option<LrRatio>) {
        self.lr_ratio = lr_ratio;
        self.params.revise();
    }
}

/// Returns a learning rate of a parameter, or an error if it is not finite.
#[inline]
fn finite_lr(value: f64) -> Result<f64, Error> {
    let (name, expected) = ("lr * lr_scale * lr_ratio", "a finite number");
    if value.is_finite() { Ok(value) } else { Err(Error::Number { name, value, expected }) }
}
