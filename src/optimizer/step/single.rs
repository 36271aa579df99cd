//! One parameter by itself, as its gradient arrives: measured, or stepped.
#![forbid(unsafe_code)]

use crate::clip::Clip;
use crate::config::Nonfinite;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::tensor::GradBlocks;
use core::ops::Range;

impl Optimizer {
    /// Measures a gradient for the next step, which then need not read it for that.
    pub fn grad_ready(&mut self, number: u32) -> Result<(), Error> {
        let of = self.range_of(number)?;
        if !self.measures() || !self.operands[of.start].is_due_on_host() {
            return Ok(());
        }
        self.begin_grads(&of)?;
        self.wait_for_grads(&of)?;
        self.read_rows(&of)?;
        let tallies = &mut self.scratch.tallies;
        let operands = &mut self.operands[of];
        self.backend.measure(&GradBlocks::new(operands, tallies))?;
        let total = tallies.total(0, &operands[0]);
        operands[0].set_measured(total)
    }

    /// Steps one parameter, if it has a gradient, and forgets the gradient.
    pub fn step_param(&mut self, number: u32) -> Result<(), Error> {
        let of = self.range_of(number)?;
        let param = &self.params[of.start];
        let clip = self.groups[param.group as usize].clip;
        let reason = match clip {
            Clip::GlobalNorm(_) if !param.no_clip => "its group clips by global norm",
            _ if self.scaler.is_some() => "the handle has a loss scaler",
            _ if self.nonfinite() == Nonfinite::Skip => "the handle has ADAMW_NONFINITE_SKIP",
            _ if self.found_inf.host_flag.or(self.found_inf.own_flag).is_some() => {
                "the handle has found_inf flags"
            }
            _ => {
                let is_stepped = self.operands[of.start].is_due();
                self.take_step(of.clone(), |_| Ok(None), |_| ())?;
                self.operands[of.start].forget_grad();
                self.params.unmarked()[of.start].stepped_alone |= is_stepped;
                return Ok(());
            }
        };
        Err(Error::ClipConflict { param: param.label(), reason })
    }

    fn range_of(&self, number: u32) -> Result<Range<usize>, Error> {
        self.label(number)?;
        Ok(number as usize..number as usize + 1)
    }
}
