//! Masters: filled from their parameters, or compared with them, before the first step.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::{ParamId, Parts};
use crate::tensor::Operands;
use core::ops::Range;

/// What the next step has to do about a master.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Master {
    /// Nothing, or the parameter has no master.
    Settled,
    /// Fill it from the parameter: the master is the library's.
    Stale,
    /// Compare it with the parameter, which has taken no step: the master is the host's.
    Unchecked,
}

impl Optimizer {
    /// Fills the master, if there is one, from the parameter that the host has written.
    pub fn sync_master(&mut self, param: u32) -> Result<(), Error> {
        let id = self.params.id(param)?;
        self.check_whole(id)?;
        self.fetch_anew(id)?;
        self.catch_up_rows(id)?;
        self.fill_master(id)?;
        self.params.revise_param(id).master = Master::Settled;
        Ok(())
    }

    /// Returns what the next step has to do so that a master of the library's becomes what its
    /// parameter is: fill it. Where a graph steps the parameter, whose launches fill none, it is
    /// filled now.
    pub(in crate::optimizer) fn begin_master(&mut self, id: ParamId) -> Result<Master, Error> {
        if !self.is_in_graph(id) {
            return Ok(Master::Stale);
        }
        self.fill_master(id)?;
        Ok(Master::Settled)
    }

    /// Fills the stale masters of parameters that are about to be stepped. The library's masters
    /// start as what the parameter is at its first step, so that the host may add parameters before
    /// it has filled them. A master stays stale until the step has been taken: if the step is
    /// refused, the host may yet write the parameter.
    #[inline(never)] // so that `update` runs on a smaller stack
    pub(in crate::optimizer) fn fill_stale_masters(
        &mut self,
        of: &Range<usize>,
        which: impl Fn(&Operands) -> bool,
    ) -> Result<(), Error> {
        let Parts { params, operands, .. } = self.params.parts();
        for (param, operands) in params[of.clone()].iter().zip(&mut operands[of.clone()]) {
            if param.master == Master::Stale && operands.is_due() && which(operands) {
                self.backend.fill_master(operands)?;
            }
        }
        Ok(())
    }

    /// Checks that the host's masters of parameters that have taken no step are what the parameters
    /// were rounded from: a master that nobody filled would overwrite its parameter.
    pub(in crate::optimizer) fn check_masters(&mut self, of: &Range<usize>) -> Result<(), Error> {
        let Parts { params, operands, .. } = self.params.parts();
        for (param, operands) in params[of.clone()].iter().zip(&mut operands[of.clone()]) {
            if param.master == Master::Unchecked
                && operands.is_due()
                && let Some(element) = self.backend.check_master(operands)?
            {
                return Err(Error::MasterMismatch { param: param.label(), element });
            }
        }
        Ok(())
    }
}
