//! The settings and the state of a handle as words, which are written into checkpoints and compared
//! with them.
#![forbid(unsafe_code)]

use crate::checkpoint::words;
use crate::clip::Clip;
use crate::config::{BiasCorrection, Config, GroupConfig};
use crate::math::Regularizer;
use crate::optimizer::Optimizer;
use crate::optimizer::hyper::scaler::{Scaler, ScalerState};
use crate::optimizer::params::Shard;
use crate::optimizer::params::table::ParamId;
use crate::schedule::State;
use core::fmt::{self, Write};

/// Words about a parameter that say where its elements lie, not how it is stepped.
pub const PLACE: [&str; 6] = ["dtype", "n_elements", "first_element", "whole", "order", "tensors"];

impl Optimizer {
    /// Writes the choices about the handle, which are fixed when it is made.
    pub(in crate::optimizer) fn write_config(&self, to: &mut impl Write) -> fmt::Result {
        let config = &self.config;
        let flags = [
            ("amsgrad", config.group.amsgrad),
            ("maximize", config.group.maximize),
            ("multi_precision", config.multi_precision),
            ("average_grads", config.average_grads),
            ("clear_grads", config.clear_grads),
        ];
        for (name, flag) in flags {
            write!(to, "{name}={} ", u8::from(flag))?;
        }
        let (clip_scope, nonfinite) = (config.clip_scope.word(), config.nonfinite.word());
        write!(to, "clip_scope={clip_scope} nonfinite={nonfinite} seed={}", config.seed)
    }

    /// Writes the numbers of the handle that change from step to step.
    pub(in crate::optimizer) fn write_numbers(&self, to: &mut impl Write) -> fmt::Result {
        write!(to, "lr={:?} grad_scale={:?}", self.saved_lr(), self.grad_scale)
    }

    /// Writes the choices about a parameter, and where its elements lie.
    pub(in crate::optimizer) fn write_param(
        &self,
        to: &mut impl Write,
        id: ParamId,
    ) -> fmt::Result {
        let tensor = self.params.operands(id).param();
        let dtype = tensor.dtype();
        write!(to, "dtype={dtype} n_elements={}", tensor.n_elements())?;
        let shard = self.params.shard(id);
        if shard != Shard::default() {
            write!(to, " first_element={} whole={}", shard.first_element, shard.whole)?;
        }
        self.write_choices(to, id)
    }

    /// Writes how a parameter is stepped, and the order of its elements.
    pub(in crate::optimizer) fn write_choices(
        &self,
        to: &mut impl Write,
        id: ParamId,
    ) -> fmt::Result {
        let (param, order) = (&self.params[id], self.params.operands(id).param().order());
        if !order.is_row_major() {
            write!(to, " order={order}")?;
        }
        write!(to, " group={} decays={}", param.group, u8::from(param.decays))?;
        if param.lr_scale.to_bits() != 1f64.to_bits() {
            write!(to, " lr_scale={:?}", param.lr_scale)?;
        }
        if param.frozen {
            to.write_str(" frozen=1")?;
        }
        if param.no_clip {
            to.write_str(" no_clip=1")?;
        }
        match param.regularizer {
            Regularizer::None => Ok(()),
            Regularizer::L1(coeff) => write!(to, " l1={coeff:?}"),
            Regularizer::L2(coeff) => write!(to, " l2={coeff:?}"),
        }
    }
}

/// Writes the hyper-parameters of a group of a handle, but not the values that the host keeps and
/// has to save itself.
pub fn write_group(to: &mut impl Write, group: &GroupConfig, of: &Config) -> fmt::Result {
    let host_values = group.host_values;
    let numbers = [
        ("lr_scale", group.lr_scale, host_values.lr_scale.is_some()),
        ("weight_decay", group.weight_decay, host_values.weight_decay.is_some()),
        ("beta1", group.beta1, host_values.beta1.is_some()),
        ("beta2", group.beta2, host_values.beta2.is_some()),
        ("eps", group.eps, false),
    ];
    for (name, value, is_host_value) in numbers {
        if is_host_value {
            write!(to, "{name}=host ")?;
        } else {
            write!(to, "{name}={value:?} ")?;
        }
    }
    write!(to, "clip={}", group.clip.kind().word())?;
    match group.clip {
        Clip::None => {}
        Clip::Norm(norm) | Clip::GlobalNorm(norm) => write!(to, " clip_norm={norm:?}")?,
        Clip::Value { min, max } => write!(to, " clip_min={min:?} clip_max={max:?}")?,
    }
    let (lazy, precision) = (group.lazy.word(), group.precision.word());
    write!(to, " lazy={lazy} precision={precision} moments={}", group.moments.word())?;
    if group.independent_weight_decay {
        to.write_str(" independent_weight_decay=1")?;
    }
    if group.amsgrad != of.group.amsgrad {
        write!(to, " amsgrad={}", u8::from(group.amsgrad))?;
    }
    if group.maximize != of.group.maximize {
        write!(to, " maximize={}", u8::from(group.maximize))?;
    }
    if group.bias_correction != BiasCorrection::Products {
        write!(to, " bias_correction={}", group.bias_correction.word())?;
    }
    if group.eps_before_correction {
        to.write_str(" eps_before_correction=1")?;
    }
    if group.decays_new_value {
        to.write_str(" decays_new_value=1")?;
    }
    Ok(())
}

pub fn write_schedule_state(to: &mut impl Write, state: &State) -> fmt::Result {
    let State { index, lr, best, num_bad, cooldown } = state;
    write!(to, "index={index} lr={lr:?} best={best:?} num_bad={num_bad} cooldown={cooldown}")
}

pub fn read_schedule_state(text: &str) -> Option<State> {
    Some(State {
        index: words::number(text, "index")?,
        lr: words::number(text, "lr")?,
        best: words::number(text, "best")?,
        num_bad: words::number(text, "num_bad")?,
        cooldown: words::number(text, "cooldown")?,
    })
}

impl Scaler {
    pub(in crate::optimizer) fn write_words(&self, to: &mut impl Write) -> fmt::Result {
        let config = self.config();
        write!(
            to,
            "scale={:?} growth_factor={:?} backoff_factor={:?} growth_interval={} \
             backoff_interval={}",
            config.scale,
            config.growth_factor,
            config.backoff_factor,
            config.growth_interval,
            config.backoff_interval
        )
    }
}

pub fn write_scaler_state(to: &mut impl Write, state: &ScalerState) -> fmt::Result {
    let ScalerState { scale, good_steps, bad_steps } = state;
    write!(to, "scale={scale:?} good_steps={good_steps} bad_steps={bad_steps}")
}

pub fn read_scaler_state(text: &str) -> Option<ScalerState> {
    Some(ScalerState {
        scale: words::number(text, "scale")?,
        good_steps: words::number(text, "good_steps")?,
        bad_steps: words::number(text, "bad_steps")?,
    })
}
