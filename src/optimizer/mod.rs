//! The optimizer of one handle: its groups, its parameters, their state, and the step.
//!
//! Every method checks all it can before it writes: on an error nothing has changed.
#![forbid(unsafe_code)]

mod grads;
mod measure;
mod occupied;
mod params;
mod rows;
mod schedule;
mod step;

pub use grads::Clear;
pub use measure::Report;
pub use params::NewParam;

use crate::backend::Backend;
use crate::callback::{DecayFilter, LrRatio};
use crate::config::{self, Config, GroupConfig};
use crate::error::{Error, Label};
use crate::schedule::Schedule;
use crate::steps::Log;
use crate::sys::memory::reserve;
use crate::tensor::Operands;
use occupied::Occupied;
use params::Param;
use step::Scratch;

/// An optimizer: a handle from `adamw_create`, opaque to the host.
pub struct Optimizer {
    config: Config,
    lr: f64,
    groups: Vec<GroupConfig>,
    params: Vec<Param>,
    /// The memory of each parameter, by the same number.
    operands: Vec<Operands>,
    /// The steps that rows of each parameter may have yet to take, by the same number.
    logs: Vec<Log>,
    /// The numbers of the parameters, in the order of their names.
    by_name: Vec<u32>,
    occupied: Occupied,
    /// What is occupied has changed since the gradients were last held against it.
    grads_unchecked: bool,
    decay_filter: Option<DecayFilter>,
    lr_ratio: Option<LrRatio>,
    /// 1 / the loss scale that the gradients carry.
    inv_grad_scale: f64,
    report: Report,
    schedule: Option<Schedule>,
    backend: Backend,
    scratch: Scratch,
}

impl Optimizer {
    /// An optimizer without parameters, with one group.
    pub fn new(config: Config) -> Result<Optimizer, Error> {
        config.validate()?;
        let mut groups = Vec::new();
        reserve(&mut groups, 1, "the groups")?;
        groups.push(config.group);
        Ok(Optimizer {
            config,
            lr: config.lr,
            groups,
            params: Vec::new(),
            operands: Vec::new(),
            logs: Vec::new(),
            by_name: Vec::new(),
            occupied: Occupied::default(),
            grads_unchecked: false,
            decay_filter: None,
            lr_ratio: None,
            inv_grad_scale: 1.0,
            report: Report::default(),
            schedule: None,
            backend: Backend::new(&config)?,
            scratch: Scratch::default(),
        })
    }

    /// The learning rate that groups and callbacks scale.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// Sets the learning rate of the next steps.
    pub fn set_lr(&mut self, lr: f64) -> Result<(), Error> {
        config::learning_rate(lr)?;
        if self.schedule.is_some() {
            return Err(Error::LrConflict);
        }
        self.lr = lr;
        Ok(())
    }

    /// Says how many times too large the gradients are.
    pub fn set_grad_scale(&mut self, scale: f64) -> Result<(), Error> {
        config::grad_scale(scale)?;
        self.inv_grad_scale = 1.0 / scale;
        Ok(())
    }

    /// What the last step found, and whether it was taken.
    pub fn report(&self) -> Report {
        self.report
    }

    /// The values that a group has unless it is given others.
    pub fn group_defaults(&self) -> GroupConfig {
        self.config.group
    }

    /// Adds a group and returns its number.
    pub fn add_group(&mut self, group: GroupConfig) -> Result<u32, Error> {
        group.validate()?;
        let number = next_number(self.groups.len())?;
        reserve(&mut self.groups, 1, "the groups")?;
        self.scratch.reserve(self.params.len(), self.groups.len() + 1)?;
        self.groups.push(group);
        Ok(number)
    }

    /// Asks the filter about every parameter there is, and about each one added later.
    pub fn set_decay_filter(&mut self, filter: Option<DecayFilter>) -> Result<(), Error> {
        let mut answers = Vec::new();
        reserve(&mut answers, self.params.len(), "the decay filter's answers")?;
        for param in &self.params {
            answers.push(params::decays(filter, &param.name)?);
        }
        for (param, decays) in self.params.iter_mut().zip(answers) {
            param.decays = decays;
        }
        self.decay_filter = filter;
        Ok(())
    }

    /// Asked about every parameter with a gradient, at each step.
    pub fn set_lr_ratio(&mut self, lr_ratio: Option<LrRatio>) {
        self.lr_ratio = lr_ratio;
    }
}

impl Optimizer {
    /// The hyper-parameters of a parameter that is there.
    fn group_of(&self, param: u32) -> &GroupConfig {
        &self.groups[self.params[param as usize].group as usize]
    }
}

fn next_number(count: usize) -> Result<u32, Error> {
    // The last number stays free, for a constant that means none or all.
    u32::try_from(count).ok().filter(|&n| n < u32::MAX).ok_or(Error::TooMany(u32::MAX))
}

fn label(name: &core::ffi::CStr) -> Label {
    Label::new(name.to_bytes())
}
