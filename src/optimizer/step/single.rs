//! One parameter by itself, as its gradient arrives: measured, or stepped.
#![forbid(unsafe_code)]

use crate::backend::Refused;
use crate::clip::Clip;
use crate::config::Nonfinite;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::tensor::GradBlocks;

impl Optimizer {
    /// Measures a gradient for the next step, which then need not read it to measure it.
    pub fn grad_ready(&mut self, number: u32) -> Result<(), Error> {
        let id = self.params.id(number)?;
        let of = id.alone();
        // Ranks measure blocks that need not be those of the range.
        let is_due = self.params.operands(id).is_due_on_host();
        if !self.measures() || !is_due || self.ranks.is_some() {
            return Ok(());
        }
        self.begin_grads(&of)?;
        self.wait_for_grads(&of)?;
        self.read_rows(&of)?;
        let tallies = &mut self.scratch.tallies;
        let operands = &mut self.params.revise().operands[of];
        let blocks = GradBlocks::new(operands, &[], tallies);
        self.backend.measure(&blocks, Refused::Fails)?;
        let total = tallies.total(0, &operands[0]);
        operands[0].set_measured(total)
    }

    /// Steps one parameter, if it has a gradient, and forgets the gradient.
    pub fn step_param(&mut self, number: u32) -> Result<(), Error> {
        let id = self.params.id(number)?;
        let param = &self.params[id];
        let clip = self.groups[param.group as usize].clip;
        let reason = match clip {
            Clip::GlobalNorm(_) if !param.no_clip => "its group clips by global norm",
            _ if self.ranks.is_some() => "the handle has an all_reduce",
            _ if self.scaler.is_some() => "the handle has a loss scaler",
            _ if self.nonfinite() == Nonfinite::Skip => "the handle has ADAMW_NONFINITE_SKIP",
            _ if self.found_inf.host_flag.or(self.found_inf.own_flag).is_some() => {
                "the handle has found_inf flags"
            }
            _ => {
                let is_stepped = self.params.operands(id).is_due();
                self.take_step(id.alone(), |_| Ok(None), |_| ())?;
                self.params.revise_operands(id).forget_grad();
                self.params.param_mut(id).stepped_alone |= is_stepped;
                return Ok(());
            }
        };
        Err(Error::ClipConflict { param: param.label(), reason })
    }
}
