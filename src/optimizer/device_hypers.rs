//! What parameters on a device are stepped with, as the host knows it.
#![forbid(unsafe_code)]

use super::Optimizer;
use super::measure::scope;
use crate::clip::Clip;
use crate::cuda::{CLIP_GLOBAL_NORM, CLIP_NORM, Hyper};
use crate::dtype::Dtype;
use crate::error::Error;
use core::ops::Range;

impl Optimizer {
    /// Says what the device's parameters are stepped with. Asks the host's callback.
    pub(super) fn set_hypers(&mut self, of: &Range<usize>) -> Result<(), Error> {
        for number in of.clone() {
            if self.operands[number].is_stepped_there() {
                let hyper = self.hyper(number)?;
                self.cuda()?.set_hyper(number as u32, hyper);
            }
        }
        Ok(())
    }

    /// Says what their gradients are clipped by, where the host knows.
    pub(super) fn set_clip_factors(&mut self, of: &Range<usize>) -> Result<(), Error> {
        for (place, number) in of.clone().enumerate() {
            if self.operands[number].is_stepped_there() {
                let (_, factor) = self.factor(place, number);
                self.scratch.decisions.clipped_by(factor);
                self.cuda()?.set_clip_factor(number as u32, factor);
            }
        }
        Ok(())
    }

    fn hyper(&self, number: usize) -> Result<Hyper, Error> {
        let param = &self.params[number];
        let group = &self.groups[param.group as usize];
        let ratio = self.ratio(number as u32)?;
        self.scaled_lr(self.lr, param.group, ratio)?;
        let mut hyper = Hyper::of(group, ratio, param.decays, self.config.maximize);
        hyper.is_f64 = u32::from(self.operands[number].param().dtype() == Dtype::F64);
        hyper.mean = self.mean(&self.operands[number]);
        hyper.set_regularizer(param.regularizer);
        hyper.set_limits(group.clip.limits().filter(|_| !param.no_clip));
        match group.clip {
            Clip::Norm(largest) if !param.no_clip => {
                (hyper.clip, hyper.largest_norm) = (CLIP_NORM, largest);
            }
            Clip::GlobalNorm(largest) if !param.no_clip => {
                (hyper.clip, hyper.largest_norm) = (CLIP_GLOBAL_NORM, largest);
                hyper.scope = scope(self.config.clip_scope, param) as u32;
            }
            _ => {}
        }
        Ok(hyper)
    }
}
