//! The options of a handle and of its groups: checked once, plain values after that.
//!
//! `ffi/` makes a `Config` (the handle and its group 0) or a `GroupConfig` (any other group) of the
//! C structs. `Config::validate` and `GroupConfig::validate` check each number by itself. Before a
//! parameter takes a group's numbers, `GroupConfig::check_for` checks them in the type that the
//! parameter computes in, where a small eps may become 0 and a large limit infinite.
//!
//! The host may keep some numbers in its own memory (`Config::lr_ptr`, `HostValues`). They are read
//! at each step: `GroupConfig::current` returns the group with the numbers that it read, checked
//! again. `check`, `not_negative` and `fits` make the errors, for loss scales and schedules, too.
#![forbid(unsafe_code)]

use crate::callback::{DeviceAllocator, ParallelFor};
use crate::choice::choice;
use crate::clip::{Clip, ClipNumbers, NormScope};
use crate::dtype::Dtype;
use crate::error::{Error, Label};
use crate::format::{MomentFormat, Precision};
use crate::sys::team::Team;
use crate::tensor::HostNumber;
use core::ops::RangeInclusive;

/// The choices made at creation.
#[derive(Clone, Copy)]
pub struct Config {
    pub lr: f64,
    /// The host's learning rate, which is read at each step in place of `lr`.
    pub lr_ptr: Option<HostNumber>,
    /// The values of group 0, and the defaults of the others.
    pub group: GroupConfig,
    pub multi_precision: bool,
    /// A step takes the mean of accumulated gradients, not their sum.
    pub average_grads: bool,
    /// A step writes zeros over the gradients that it has used.
    pub clear_grads: bool,
    pub clip_scope: NormScope,
    pub nonfinite: Nonfinite,
    pub isa: IsaCap,
    /// The seed of the random bits of stochastic rounding.
    pub seed: u64,
    pub device: DeviceConfig,
}

/// What memory a handle takes for parameters on a device.
#[derive(Clone, Copy)]
pub struct DeviceConfig {
    pub memory: DeviceMemory,
    /// The most bytes of the host's memory that it pins, if there is a limit.
    pub most_pinned: Option<usize>,
}

choice! {
    /// The allocator of the driver's from which memory on a device comes.
    pub enum DevicePool: "an ADAMW_DEVICE_MEMORY constant, 0 or 1" {
        Default = 0;
        Pool = 1;
    }
}

/// Where the library's memory on a device comes from.
#[derive(Clone, Copy)]
pub enum DeviceMemory {
    Driver(DevicePool),
    Host(DeviceAllocator),
}

choice! {
    /// The treatment of gradients that are not finite.
    pub enum Nonfinite: "an ADAMW_NONFINITE constant, 0 to 2" {
        Propagate = 0, "Propagate";
        Skip = 1, "Skip";
        Fail = 2, "Fail";
    }
}

choice! {
    /// The treatment of rows that a sparse gradient does not list.
    pub enum Lazy: "an ADAMW_LAZY constant, 0 to 2" {
        /// They are stepped with a gradient of zero.
        Off = 0, "Off";
        /// They are left as they are.
        Rows = 1, "Rows";
        /// They are left as they are now, and catch up before they are used.
        Exact = 2, "Exact";
    }
}

/// The threads on which a step's work runs.
pub struct Threads {
    /// The number of threads that work, the caller's included; `None` for as many as the affinity
    /// mask has.
    pub count: Option<usize>,
    /// The host's parallel loop, which replaces the library's own threads.
    pub host: Option<ParallelFor>,
    /// The library's own threads; `None` if other handles have no part in them, until they are
    /// first needed.
    pub team: Option<Team>,
}

choice! {
    /// The highest instruction set that may be used, from the lowest up.
    #[derive(PartialOrd, Ord)]
    pub enum IsaCap: "an ADAMW_ISA constant, 0 to 3" {
        Portable = 1;
        Avx2 = 2;
        Avx512 = 3;
        /// The highest that the processor and the environment variable `ADAMW_ISA` allow.
        Best = 0;
    }
}

choice! {
    /// The powers of beta1 and beta2 by which the moments of a step are corrected.
    pub enum BiasCorrection: "an ADAMW_BIAS_CORRECTION constant, 0 to 2" {
        /// The products of the betas of all steps.
        Products = 0, "Products";
        /// The betas of the step, to the power of its number.
        Current = 1, "Current";
        /// None: the moments are not corrected.
        None = 2, "None";
    }
}

choice! {
    /// A penalty whose gradient is added to a parameter's.
    pub enum Penalty: "an ADAMW_REGULARIZER constant, 0 to 2" {
        None = 0;
        L1 = 1;
        L2 = 2;
    }
}

/// The hyper-parameters of a group.
#[derive(Clone, Copy)]
pub struct GroupConfig {
    pub lr_scale: f64,
    pub weight_decay: f64,
    /// Decay is not multiplied by the learning rate.
    pub independent_weight_decay: bool,
    pub maximize: bool,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub bias_correction: BiasCorrection,
    /// eps is added before the second moment is corrected.
    pub eps_before_correction: bool,
    /// A parameter decays after it has moved.
    pub decays_new_value: bool,
    pub clip: Clip,
    pub lazy: Lazy,
    /// Parameters that are added to the group keep the largest second moment.
    pub amsgrad: bool,
    /// The precision of parameters that are added to the group.
    pub precision: Precision,
    /// The format of the moments of parameters that are added to the group.
    pub moments: MomentFormat,
    /// The values that the host keeps, which are read at each step.
    pub host_values: HostValues,
}

/// The flags of a formula, as the host and the kernels have them.
pub const EPS_BEFORE_CORRECTION: u32 = 1;
pub const DECAYS_NEW_VALUE: u32 = 2;

/// Hyper-parameters that the host keeps.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct HostValues {
    pub lr_scale: Option<HostNumber>,
    pub weight_decay: Option<HostNumber>,
    pub beta1: Option<HostNumber>,
    pub beta2: Option<HostNumber>,
}

/// A dynamic loss scale.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LossScaler {
    pub scale: f64,
    pub growth_factor: f64,
    pub backoff_factor: f64,
    /// Steps taken in a row after which the scale grows.
    pub growth_interval: u64,
    /// Steps skipped in a row after which it backs off.
    pub backoff_interval: u64,
}

impl LossScaler {
    pub fn validate(&self) -> Result<(), Error> {
        let LossScaler { growth_factor, backoff_factor, .. } = *self;
        loss_scale("scaler.scale", self.scale)?;
        let grows = growth_factor.is_finite() && growth_factor >= 1.0;
        check("scaler.growth_factor", growth_factor, grows, "a finite number >= 1")?;
        let backs_off = backoff_factor > 0.0 && backoff_factor <= 1.0;
        check("scaler.backoff_factor", backoff_factor, backs_off, "a number > 0 and <= 1")
    }
}

impl GroupConfig {
    /// Returns the group with the present values of the numbers that the host keeps, whatever they
    /// are.
    pub fn read(&self) -> GroupConfig {
        let HostValues { lr_scale, weight_decay, beta1, beta2 } = self.host_values;
        GroupConfig {
            lr_scale: lr_scale.map_or(self.lr_scale, HostNumber::read),
            weight_decay: weight_decay.map_or(self.weight_decay, HostNumber::read),
            beta1: beta1.map_or(self.beta1, HostNumber::read),
            beta2: beta2.map_or(self.beta2, HostNumber::read),
            ..*self
        }
    }

    /// The same, or an error if no step can be taken with them.
    pub fn current(&self) -> Result<GroupConfig, Error> {
        let current = self.read();
        current.validate()?;
        Ok(current)
    }

    /// Returns in what the update differs from the usual one, as flags.
    pub fn formula(&self) -> u32 {
        u32::from(self.eps_before_correction) * EPS_BEFORE_CORRECTION
            + u32::from(self.decays_new_value) * DECAYS_NEW_VALUE
    }

    /// Checks that a parameter of this type can be stepped with this group: each number must be
    /// finite in the type that the parameter computes in, and a divisor must not become 0 there.
    pub fn check_for(&self, param: Label, dtype: Dtype) -> Result<(), Error> {
        let decay = if self.independent_weight_decay { self.weight_decay } else { 0.0 };
        let ClipNumbers { norm, min, max } = self.clip.numbers();
        for (name, value) in [("eps", self.eps), ("clip_norm", norm)] {
            let is_lost = value != 0.0 && dtype.computed(value) == 0.0;
            fits(name, value, !is_lost, param, dtype)?;
        }
        for (name, value) in [("weight_decay", decay), ("clip_min", min), ("clip_max", max)] {
            fits(name, value, true, param, dtype)?;
        }
        Ok(())
    }

    pub fn validate(&self) -> Result<(), Error> {
        not_negative("lr_scale", self.lr_scale)?;
        check("weight_decay", self.weight_decay, self.weight_decay.is_finite(), "a finite number")?;
        beta("beta1", self.beta1)?;
        beta("beta2", self.beta2)?;
        not_negative("eps", self.eps)?;
        if self.eps == 0.0 && self.beta2 == 0.0 {
            // A zero gradient would be divided by a zero; most likely nobody filled the struct.
            let expected = "> 0 where beta2 is 0 (was the struct filled by its _init function?)";
            return Err(Error::Number { name: "eps", value: self.eps, expected });
        }
        match self.clip {
            Clip::None => Ok(()),
            Clip::Value { min, max } => {
                check("clip_min", min, min.is_finite(), "a finite number")?;
                check("clip_max", max, max.is_finite() && max > min, "a finite number > clip_min")
            }
            Clip::Norm(norm) | Clip::GlobalNorm(norm) => {
                check("clip_norm", norm, norm.is_finite() && norm > 0.0, "a finite number > 0")
            }
        }
    }
}

impl Config {
    pub fn validate(&self) -> Result<(), Error> {
        learning_rate(self.lr)?;
        self.group.validate()
    }
}

/// The least limit of pinned memory: pages of it that parameters pass through.
pub const LEAST_PINNED: u64 = 1 << 16;

/// Checks a learning rate, which may be any finite number that is not negative.
pub fn learning_rate(lr: f64) -> Result<(), Error> {
    not_negative("lr", lr)
}

/// The loss scales that are allowed. A scale and its reciprocal are normal numbers of f32, because
/// losses are multiplied by the scale and gradients by its reciprocal.
pub const LOSS_SCALES: RangeInclusive<f64> =
    RangeInclusive::new(f32::MIN_POSITIVE as f64, 1.0 / f32::MIN_POSITIVE as f64);

/// Checks a loss scale.
pub fn loss_scale(name: &'static str, scale: f64) -> Result<(), Error> {
    check(name, scale, LOSS_SCALES.contains(&scale), "2^-126 to 2^126")
}

/// Checks a factor of the learning rate.
pub fn lr_scale(scale: f64) -> Result<(), Error> {
    not_negative("lr_scale", scale)
}

fn beta(name: &'static str, value: f64) -> Result<(), Error> {
    check(name, value, (0.0..1.0).contains(&value), "0 <= beta < 1")
}

/// Checks that a number is finite and not below 0.
pub fn not_negative(name: &'static str, value: f64) -> Result<(), Error> {
    check(name, value, value.is_finite() && value >= 0.0, "a finite number >= 0")
}

/// Checks that a number is finite in the type that a parameter of this type computes in, and `ok`.
pub fn fits(
    name: &'static str,
    value: f64,
    ok: bool,
    param: Label,
    dtype: Dtype,
) -> Result<(), Error> {
    let is = dtype.computed(value);
    match is.is_finite() && ok {
        true => Ok(()),
        false => Err(Error::NotOfType { param, name, value, is, dtype: dtype.compute() }),
    }
}

/// Returns an error that tells the value and what is expected, unless `ok`.
pub fn check(
    name: &'static str,
    value: f64,
    ok: bool,
    expected: &'static str,
) -> Result<(), Error> {
    if ok { Ok(()) } else { Err(Error::Number { name, value, expected }) }
}
