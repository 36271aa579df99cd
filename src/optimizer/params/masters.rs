//! Masters: filled from their parameters, and held against them, before the first step.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::{ParamId, Parts};
use crate::tensor::Operands;
use core::ops::Range;

/// What has yet to be done about a master before the next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Master {
    /// Nothing, or there is none.
    Settled,
    /// The library's own, to be filled from the parameter.
    Stale,
    /// The host's, of a parameter that has taken no step: to be held against the parameter.
    Unchecked,
}

impl Optimizer {
    /// Fills the master, if there is one, from the parameter that the host has written.
    pub fn sync_master(&mut self, param: u32) -> Result<(), Error> {
        let id = self.params.id(param)?;
        self.fetch_anew(id)?;
        self.catch_up_rows(id)?;
        self.fill_master(id)?;
        self.params.revise_param(id).master = Master::Settled;
        Ok(())
    }

    /// What has yet to be done about a master of the library's that is to become what its parameter
    /// is: the next step fills it. Where a graph steps the parameter, whose launches fill none, it
    /// is filled now.
    pub(in crate::optimizer) fn begin_master(&mut self, id: ParamId) -> Result<Master, Error> {
        if !self.is_in_graph(id) {
            return Ok(Master::Stale);
        }
        self.fill_master(id)?;
        Ok(Master::Settled)
    }

    /// The library's own masters start as what the parameter is at its first step, so that a host
    /// may register parameters before it has filled them. A master stays stale until the step has
    /// been taken: if it is refused, the host may yet write the parameter.
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

    /// That the host's masters of parameters that have taken no step are what the parameters were
    /// rounded from: a master that nobody filled would overwrite its parameter.
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
