//! The numbers that parameters on a device are stepped with, as far as the host knows them.
#![forbid(unsafe_code)]

use crate::clip::Clip;
use crate::config::{self, BiasCorrection};
use crate::cuda::{CLIP_GLOBAL_NORM, CLIP_NORM, Hyper, Inputs, InputsAt, PART_COUNTED};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::device::DeviceStep;
use crate::optimizer::params::table::ParamId;
use core::ops::Range;

/// The largest learning rate that all parameters on a device can be stepped with: a larger one
/// would make a number that is infinite in the type that `param` is computed in.
#[derive(Default)]
pub struct LrLimit {
    lr: f64,
    param: Option<ParamId>,
}

impl Optimizer {
    /// Works out what the device needs for a step that is taken.
    pub(in crate::optimizer) fn decide_on_device(
        &mut self,
        of: &Range<usize>,
        step: &DeviceStep,
    ) -> Result<(), Error> {
        if self.lr_ratio.is_some() {
            self.set_hypers(of, true)?;
        }
        if step.follows { Ok(()) } else { self.check_lr_on_device() }
    }

    /// Sets the hyper-parameters of the parameters on the device. `asks`: by the host's callback.
    pub(in crate::optimizer) fn set_hypers(
        &mut self,
        of: &Range<usize>,
        asks: bool,
    ) -> Result<(), Error> {
        let mut limit = LrLimit { lr: f64::INFINITY, param: None };
        for id in self.params.ids(of) {
            let (param, operands) = (&self.params[id], self.params.operands(id));
            let dtype = operands.param().dtype();
            if operands.is_due_on_device() {
                let ratio = if asks { self.ratio(id)? } else { param.lr_scale };
                let hyper = self.hyper(id, ratio)?;
                self.cuda()?.set_hyper(id.number(), hyper);
                let lr = largest_lr(&hyper, dtype.largest());
                if lr < limit.lr {
                    limit = LrLimit { lr, param: Some(id) };
                }
            } else if self.grad_sums.is_some() && !param.removed {
                let hyper = Hyper { part: PART_COUNTED, ..self.hyper(id, param.lr_scale)? };
                self.cuda()?.set_hyper(id.number(), hyper);
            }
        }
        self.on_device.lr_limit = limit;
        Ok(())
    }

    /// Reads the learning rate in the device's memory, if the host has to know whether the step is
    /// taken.
    pub(in crate::optimizer) fn read_lr_on_device(
        &mut self,
        step: Option<&DeviceStep>,
    ) -> Result<(), Error> {
        let at = self.on_device.inputs.lr;
        self.on_device.lr = match step {
            Some(step) if step.waits && at != 0 => Some(self.cuda()?.number(at)?.into()),
            _ => None,
        };
        self.on_device.lr.map_or(Ok(()), config::learning_rate)
    }

    /// Checks that the numbers that the device makes of the learning rate are finite in the type
    /// that each parameter is computed in, if the host knows the learning rate.
    fn check_lr_on_device(&self) -> Result<(), Error> {
        let inputs = self.inputs();
        let LrLimit { lr: largest, param: Some(id) } = self.on_device.lr_limit else {
            return Ok(());
        };
        if inputs.at.lr != 0 || inputs.lr <= largest {
            return Ok(());
        }
        let dtype = self.params.operands(id).param().dtype();
        let value = inputs.lr * (dtype.largest() / largest);
        Err(Error::NotOfType {
            param: self.params.label(id),
            name: "lr * lr_scale * lr_ratio / (1 - beta1)",
            value,
            is: dtype.computed(value),
            dtype: dtype.compute(),
        })
    }

    /// Returns the numbers that all of them are stepped with, or where the host has them there.
    pub(in crate::optimizer) fn inputs(&self) -> Inputs {
        let (at, largest) = (self.on_device.inputs, self.on_device.lr_limit.lr);
        Inputs {
            lr: self.on_device.lr.unwrap_or(self.lr),
            inv_grad_scale: self.inv_grad_scale(),
            largest_lr: if at.lr == 0 { largest } else { largest.min(f32::MAX.into()) },
            at: InputsAt { lr: if self.on_device.lr.is_some() { 0 } else { at.lr }, ..at },
            ..Inputs::default()
        }
    }

    /// Sets the factors that gradients on the device are clipped with, which the host has decided.
    pub(in crate::optimizer) fn set_clip_factors(
        &mut self,
        of: &Range<usize>,
    ) -> Result<(), Error> {
        for (place, id) in self.params.ids(of).enumerate() {
            if self.params.operands(id).is_due_on_device() {
                let factor = self.grad_factor(place, id);
                self.scratch.decisions.clipped_by(factor.clip);
                self.cuda()?.set_clip_factor(id.number(), factor.clip);
            }
        }
        Ok(())
    }

    /// Returns the hyper-parameters of a parameter on the device, whose learning rate is multiplied
    /// by `ratio`.
    fn hyper(&self, id: ParamId, ratio: f64) -> Result<Hyper, Error> {
        let (param, operands) = (&self.params[id], self.params.operands(id));
        let group = &self.groups[param.group as usize];
        self.scaled_lr(self.lr, param.group, ratio)?;
        let mut hyper = Hyper::of(group, ratio, param.decays);
        hyper.is_f64 = u32::from(operands.param().dtype() == Dtype::F64);
        hyper.mean = self.mean(operands);
        hyper.set_regularizer(param.regularizer);
        hyper.set_limits(group.clip.limits().filter(|_| !param.no_clip));
        match group.clip {
            Clip::Norm(largest) if !param.no_clip => {
                (hyper.clip, hyper.largest_norm) = (CLIP_NORM, largest);
            }
            Clip::GlobalNorm(largest) if !param.no_clip => {
                (hyper.clip, hyper.largest_norm) = (CLIP_GLOBAL_NORM, largest);
                hyper.scope = param.sum_of_norm(self.config.clip_scope) as u32;
            }
            _ => {}
        }
        Ok(hyper)
    }
}

/// Returns the largest learning rate of which a step makes no number above `largest`. The numbers
/// are largest in the first step.
fn largest_lr(hyper: &Hyper, largest: f64) -> f64 {
    let scale = hyper.group_lr_scale * hyper.lr_scale;
    let decay = hyper.weight_decay.abs();
    let corrects = hyper.bias_correction != BiasCorrection::None.number();
    let per_lr = scale * if corrects { 1.0 / (1.0 - hyper.beta1) } else { 1.0 };
    let decays_new_value = hyper.formula & config::DECAYS_NEW_VALUE != 0;
    match (hyper.independent_weight_decay != 0, decays_new_value) {
        (true, false) => largest / per_lr,
        (false, false) => largest / per_lr.max(scale * decay),
        // lr * per_lr * (1 + decay)
        (true, true) => largest / per_lr / (1.0 + decay),
        // lr * per_lr * (1 + lr * scale * decay): a half of each is enough
        (false, true) => {
            let half = largest / 2.0 / per_lr;
            half.min((half / (scale * decay)).sqrt())
        }
    }
}
