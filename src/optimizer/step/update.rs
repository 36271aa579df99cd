//! The fourth stage of a step: parameters and state are written.
#![forbid(unsafe_code)]

use crate::backend::Refused;
use crate::config::Lazy;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::masters::Master;
use crate::optimizer::params::table::Parts;
use crate::optimizer::step::Scratch;
use crate::optimizer::step::decide::Decisions;
use crate::optimizer::step::gather::Plan;
use crate::steps::{NO_STEP, Steps};
use crate::tensor::{Chunks, Extent, Operands};
use core::ops::Range;

impl Optimizer {
    /// Writes what has been decided, and counts the step. `advances`: the schedule, with it.
    pub(in crate::optimizer) fn update(
        &mut self,
        plan: &Plan,
        advances: bool,
    ) -> Result<(), Error> {
        let Plan { of, repeats, needs, on_device, .. } = plan;
        if needs.stale_masters {
            self.fill_stale_masters(of, |_| true)?;
        }
        self.clear_due_report();
        if let Some(step) = on_device {
            self.step_on_device(of, step, advances)?;
        }
        // After the first write, and where other ranks write, the calling thread does what others
        // refuse.
        let is_begun = on_device.is_some() || self.ranks.is_some();
        let refused = Refused::after(is_begun);
        if needs.lags {
            self.take_turns(of, refused)?;
        }
        let refused = Refused::after(is_begun || needs.lags);
        let has_copies = self.has_copies();
        if has_copies {
            self.update_offloaded(of, is_begun, refused)
        } else {
            self.update_part(of, of, None, *repeats, refused)
        }?;
        if needs.passes_over || has_copies {
            let is_left =
                |operands: &Operands| operands.is_passed_over() || operands.device_grad().is_some();
            self.clear_used_on_device(of, true, is_left)?;
        }
        if needs.rows || needs.passes_over {
            self.clear_used(of, |operands| operands.has_rows() || operands.is_passed_over());
        }
        self.advance(of, *repeats);
        if on_device.is_some() {
            self.advance_on_device(of);
        }
        if needs.lags {
            self.log_steps(of);
        }
        Ok(())
    }

    /// Steps a part of the parameters of a step, or (`elements`) of the only one among them.
    pub(in crate::optimizer) fn update_part(
        &mut self,
        of: &Range<usize>,
        part: &Range<usize>,
        elements: Option<Range<u64>>,
        repeats: bool,
        refused: Refused,
    ) -> Result<(), Error> {
        let has_copies = self.has_copies(); // which are not stepped piece by piece
        let Scratch { pass, decisions, changes, .. } = &mut self.scratch;
        let Decisions { scalars, scalars_of, .. } = decisions;
        let scalars_of = &scalars_of[part.start - of.start..][..part.len()];
        let of = part;
        let grad_moves = self.params.grad_moves();
        let (Parts { params, operands, logs, .. }, groups) = (self.params.parts(), &self.groups);
        let (params, logs) = (&params[of.clone()], &logs[of.clone()]);
        let extent = |place: usize, operands: &Operands| match scalars_of[place] {
            NO_STEP => Extent::Nothing,
            _ if !operands.has_rows() => elements.clone().map_or(Extent::All, Extent::Part),
            _ => match groups[params[place].group as usize].lazy {
                Lazy::Off => Extent::All,
                // Other ranks list rows; here none has been listed yet, whose width would be known.
                Lazy::Exact if operands.lag().is_none() => Extent::All,
                Lazy::Rows | Lazy::Exact => Extent::Listed,
            },
        };
        let operands = &mut operands[of.clone()];
        let mut chunks = if self.statistics {
            pass.measured_over(operands, extent, changes)
        } else if repeats {
            pass.again_over(operands, grad_moves)
        } else {
            pass.over(operands, grad_moves, extent)
        };
        if self.config.clear_grads {
            chunks.clear_grads();
        }
        let steps = Steps { scalars, scalars_of, logs };
        let mut update = |chunks: &Chunks| self.backend.update(chunks, &steps, refused);
        match self.ranks.as_ref().and_then(|ranks| ranks.pieces()).filter(|_| !has_copies) {
            Some((pieces, starts)) => pieces.go(starts, true, &mut chunks, update),
            None => update(&chunks),
        }
    }

    /// Counts the step that has been taken.
    #[inline(never)] // so that `update` runs on a smaller stack
    fn advance(&mut self, of: &Range<usize>, repeats: bool) {
        let Parts { params, clocks, .. } = self.params.parts();
        let Decisions { scalars_of, clocks: after, .. } = &self.scratch.decisions;
        if repeats {
            clocks.count_again(after);
        } else {
            clocks.count(of, scalars_of, after);
            for (param, scalars) in params[of.clone()].iter_mut().zip(scalars_of) {
                if *scalars != NO_STEP {
                    param.master = Master::Settled;
                }
            }
        }
        if let Some(ranks) = &mut self.ranks {
            ranks.count_step();
        }
    }
}
