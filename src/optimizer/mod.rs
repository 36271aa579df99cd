//! The optimizer of one handle: its groups, its parameters, their state, and the step.
//!
//! Every method checks all it can before it writes: on an error nothing has changed.
#![forbid(unsafe_code)]

mod device;
mod hyper;
mod params;
mod ranks;
mod saved;
mod step;

pub use device::InputsAt;
pub use hyper::scaler::{FoundInf, ScalerState};
pub use params::moved::Move;
pub use params::names::{Item, Scheme};
pub use params::options::Options;
pub use params::{NewParam, Shard};
pub use ranks::pieces::Pieces;
pub use saved::load::{LoadOptions, LoadScope};
pub use saved::write::Target;
pub use step::grads::Clear;
pub use step::report::Report;

use crate::backend::Backend;
use crate::callback::{DecayFilter, LrRatio};
use crate::config::{Config, GroupConfig, IsaCap, Threads};
use crate::error::{Error, Label};
use crate::role::Role;
use crate::schedule::Schedule;
use crate::sys::memory::{Boxed, Pool, reserve};
use crate::tensor::Tensor;
use device::OnDevice;
use hyper::scaler::Scaler;
use params::table::{ParamId, Params};
use ranks::Ranks;
use saved::begun::Begun;
use step::Scratch;
use step::window::Window;

/// An optimizer: a handle from `adamw_create`, opaque to the host.
pub struct Optimizer {
    config: Config,
    lr: f64,
    /// The learning rate that the host gave last.
    given_lr: f64,
    groups: Vec<GroupConfig>,
    params: Params,
    /// The memory of small state: a pool for each role.
    pools: [Pool; Role::COUNT],
    /// The memory that steps write has changed since the gradients were compared with it.
    grads_unchecked: bool,
    decay_filter: Option<DecayFilter>,
    lr_ratio: Option<LrRatio>,
    /// The factor by which the gradients are too large, where no scaler has one.
    grad_scale: f64,
    window: Window,
    scaler: Option<Scaler>,
    found_inf: FoundInf,
    /// Where the host has the sums over the gradients, two f64s for each parameter.
    grad_sums: Option<Tensor>,
    /// The other ranks, if the host has given a callback by which they agree.
    ranks: Option<Boxed<Ranks>>,
    report: Report,
    /// Steps add up what they change.
    statistics: bool,
    schedule: Option<Schedule>,
    backend: Boxed<Backend>,
    on_device: OnDevice,
    scratch: Scratch,
    /// A load failed in the middle of its writes.
    is_half_loaded: bool,
    /// The save that was begun last.
    begun: Begun,
}

impl Optimizer {
    /// Returns an optimizer without parameters, with one group.
    pub fn new(config: Config, threads: Threads) -> Result<Optimizer, Error> {
        config.validate()?;
        let mut groups = Vec::new();
        reserve(&mut groups, 1, "the groups")?;
        groups.push(config.group);
        let mut params = Params::default();
        params.add_group()?;
        Ok(Optimizer {
            config,
            lr: config.lr,
            given_lr: config.lr,
            groups,
            params,
            pools: Default::default(),
            grads_unchecked: false,
            decay_filter: None,
            lr_ratio: None,
            grad_scale: 1.0,
            window: Window::default(),
            scaler: None,
            found_inf: FoundInf::default(),
            grad_sums: None,
            ranks: None,
            report: Report::NONE,
            statistics: false,
            schedule: None,
            backend: Boxed::new(Backend::new(config.isa, threads)?, "the backend")?,
            on_device: OnDevice::default(),
            scratch: Scratch::default(),
            is_half_loaded: false,
            begun: Begun::default(),
        })
    }

    /// Returns the instruction set that is used, and the most threads that share the work.
    pub fn isa_and_threads(&self) -> (IsaCap, usize) {
        self.backend.isa_and_threads()
    }

    /// Returns the hyper-parameters of a parameter.
    fn group_of(&self, param: ParamId) -> &GroupConfig {
        &self.groups[self.params[param].group as usize]
    }

    /// Returns the hyper-parameters of a parameter, with the values that the host keeps as they are
    /// now.
    fn current_group_of(&self, param: ParamId) -> Result<GroupConfig, Error> {
        self.group_of(param).current()
    }
}

fn next_number(count: usize) -> Result<u32, Error> {
    // The last number stays free, for a constant that means none or all.
    u32::try_from(count).ok().filter(|&n| n < u32::MAX).ok_or(Error::TooMany(u32::MAX))
}

fn label(name: &core::ffi::CStr) -> Label {
    Label::new(name.to_bytes())
}
