//! Parameters on a device that the processor steps: the downloads of their gradients, and their
//! uploads.
//!
//! The processor steps a copy in the host's memory. A gradient may lie there too, or on the device,
//! and `step_grad` returns the memory to which it is then downloaded. A step begins all downloads
//! (`begin_offload`). `update_offloaded` takes batches, of small parameters or of a piece of a
//! large one: it waits for their gradients, steps them, and has them uploaded while the next batch
//! is stepped.
//!
//! Outside a step, `fetch` brings a copy up to date before it is read or written, and `send_back`
//! uploads what was written. When the host has written the parameter itself, the copy is stale
//! (`forget_copy`).
#![forbid(unsafe_code)]

use crate::backend::Refused;
use crate::cuda::{OffloadTimes, PIECE};
use crate::device::Device;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::ParamId;
use crate::role::Role;
use crate::steps::Clock;
use crate::tensor::{Grad, Operands, Tensor};
use core::ops::Range;

/// What is stepped together, while the gradients after it arrive: parameters, or a piece of one.
struct Batch {
    params: Range<usize>,
    piece: Option<Range<u64>>,
}

/// A gradient as a step reads it.
#[derive(Clone, Copy)]
pub struct StepGrad {
    /// The values that are read.
    pub values: Tensor,
    /// The gradient that is downloaded to `values`, if the processor steps the parameter and its
    /// gradient is on the device.
    pub device_grad: Option<Tensor>,
}

impl Optimizer {
    /// Returns whether the processor steps parameters that are on a device.
    pub(in crate::optimizer) fn has_copies(&mut self) -> bool {
        self.backend.cuda().is_some_and(|cuda| cuda.has_copies())
    }

    /// Returns a gradient as a step reads it.
    pub(in crate::optimizer) fn step_grad(
        &mut self,
        id: ParamId,
        grad: &Tensor,
    ) -> Result<StepGrad, Error> {
        let as_it_is = StepGrad { values: *grad, device_grad: None };
        let Some(cuda) = self.backend.cuda() else { return Ok(as_it_is) };
        match cuda.copy_of(id.number()) {
            Some(copy) if grad.device() == copy.param().device() => {}
            _ => return Ok(as_it_is),
        }
        let operands = self.params.operands(id);
        let fits = operands.fits(Role::Grad, &grad.as_if_on(operands.param().device()));
        fits.map_err(|problem| problem.of(self.params.label(id), Role::Grad))?;
        self.check_reach(id, &Grad::Dense(*grad))?;
        self.check_place(id, &Grad::Dense(*grad))?;
        self.params.operands_mut(id).reserve_device_grad()?;
        let values = self.cuda()?.landing(id.number(), grad.dtype())?;
        Ok(StepGrad { values, device_grad: Some(*grad) })
    }

    /// Downloads the parameters that the host has written, and begins to download the gradients of
    /// a step.
    pub(in crate::optimizer) fn begin_offload(&mut self, of: &Range<usize>) -> Result<(), Error> {
        if let Some(cuda) = self.backend.cuda() {
            let operands = self.params.operands_of(&self.params.all());
            cuda.fill_copies(due_of(operands, of))?;
            cuda.begin_times();
        }
        self.begin_grads(of)
    }

    /// Begins to download the gradients of some parameters.
    pub(in crate::optimizer) fn begin_grads(&mut self, of: &Range<usize>) -> Result<(), Error> {
        let operands = self.params.operands_of(&self.params.all());
        match self.backend.cuda() {
            Some(cuda) if cuda.has_copies() => cuda.begin_downloads(operands, due_of(operands, of)),
            _ => Ok(()),
        }
    }

    /// Brings the copy of a parameter up to date, if there is one, so that it can be read and
    /// written outside a step. `send_back` uploads what has been written.
    pub(in crate::optimizer) fn fetch(&mut self, id: ParamId) -> Result<(), Error> {
        self.backend.cuda().map_or(Ok(()), |cuda| cuda.fetch(id.number()))
    }

    /// Brings the copy of a parameter up to date that the host has written.
    pub(in crate::optimizer) fn fetch_anew(&mut self, id: ParamId) -> Result<(), Error> {
        self.forget_copy(id);
        self.fetch(id)
    }

    /// Marks the copy of a parameter as stale, which the host has written.
    pub(in crate::optimizer) fn forget_copy(&mut self, id: ParamId) {
        if let Some(copy) = self.backend.cuda().and_then(|cuda| cuda.copy_of(id.number())) {
            copy.forget();
        }
    }

    /// Uploads what has been written of a copy outside a step.
    pub(in crate::optimizer) fn send_back(&mut self, id: ParamId) -> Result<(), Error> {
        self.backend.cuda().map_or(Ok(()), |cuda| cuda.send_now(id.number()))
    }

    /// Brings every copy up to date.
    pub(in crate::optimizer) fn fetch_all(&mut self) -> Result<(), Error> {
        self.backend.cuda().map_or(Ok(()), |cuda| cuda.fill_copies(|_| true))
    }

    /// Downloads a gradient on the device to the host's memory, once that is free.
    pub(in crate::optimizer) fn bring_down(
        &mut self,
        id: ParamId,
        grad: &Tensor,
        to: &Tensor,
    ) -> Result<(), Error> {
        let cuda = self.cuda()?;
        cuda.wait_for_grad(id.number())?;
        cuda.copy_out(grad, to)
    }

    /// Has the device go on with what was loaded for a parameter. `has_params`: its weights were,
    /// too.
    pub(in crate::optimizer) fn take_up_on_device(
        &mut self,
        id: ParamId,
        clock: &Clock,
        has_params: bool,
    ) -> Result<(), Error> {
        let Some(cuda) = self.backend.cuda() else { return Ok(()) };
        if self.params.operands(id).is_on_device() {
            cuda.set_clock(id.number(), clock)?;
            cuda.mark_all_caught_up(id.number())?;
        }
        if has_params {
            return cuda.send_now(id.number());
        }
        self.forget_copy(id); // the host writes the weights that go with the state
        Ok(())
    }

    /// Waits until nothing reads the state any more that a load is about to write.
    pub(in crate::optimizer) fn wait_to_load(&mut self) -> Result<(), Error> {
        self.backend.cuda().map_or(Ok(()), |cuda| cuda.wait_to_load())
    }

    /// Fills the master of a parameter, if there is one, and forgets what rounding left.
    pub(in crate::optimizer) fn fill_master(&mut self, id: ParamId) -> Result<(), Error> {
        self.check_memory(id, Role::Param)?;
        self.fetch(id)?;
        self.backend.fill_master(self.params.revise_operands(id))
    }

    /// Waits until the gradients of some parameters have arrived.
    pub(in crate::optimizer) fn wait_for_grads(&mut self, of: &Range<usize>) -> Result<(), Error> {
        self.wait_for_batch(&Batch { params: of.clone(), piece: None })
    }

    fn wait_for_batch(&mut self, batch: &Batch) -> Result<(), Error> {
        for id in self.params.ids(&batch.params) {
            if self.params.operands(id).is_due_on_host()
                && let Some(cuda) = self.backend.cuda()
            {
                match &batch.piece {
                    None => cuda.wait_for_grad(id.number())?,
                    Some(piece) => cuda.wait_for_piece(id.number(), piece.start)?,
                }
            }
        }
        Ok(())
    }

    /// Returns the batch of a step that begins with an element of its `start`-th parameter. With
    /// statistics there is one batch, because their sums are laid out for a whole step.
    fn batch(&self, of: &Range<usize>, start: usize, element: u64) -> Batch {
        if self.statistics {
            return Batch { params: of.clone(), piece: None };
        }
        let is_large = |operands: &Operands| {
            operands.param().n_elements() > PIECE
                && operands.is_due_on_host()
                && !operands.has_rows()
        };
        let all = &self.params.operands_of(of)[start - of.start..];
        if is_large(&all[0]) {
            let end = all[0].param().n_elements().min(element + PIECE);
            return Batch { params: start..start + 1, piece: Some(element..end) };
        }
        let mut n_elements = 0;
        let small = all.iter().take_while(|operands| {
            let goes_on = n_elements < PIECE && !is_large(operands);
            n_elements += operands.param().n_elements();
            goes_on
        });
        Batch { params: start..start + small.count(), piece: None }
    }

    /// Steps parameters as their gradients arrive, and uploads them while others are stepped.
    /// `is_begun`: the device has its part of the step, or other ranks have theirs.
    #[inline(never)] // so that `update` runs on a smaller stack
    pub(in crate::optimizer) fn update_offloaded(
        &mut self,
        of: &Range<usize>,
        mut is_begun: bool,
        mut refused: Refused,
    ) -> Result<(), Error> {
        let (mut start, mut element) = (of.start, 0);
        while start < of.end {
            let batch = self.batch(of, start, element);
            let arrived = self.wait_for_batch(&batch);
            let stepped = arrived.and_then(|()| {
                self.update_part(of, &batch.params, batch.piece.clone(), false, refused)
            });
            let sent = stepped.and_then(|()| self.send(&batch));
            sent.map_err(|error| if is_begun { error.in_the_middle() } else { error })?;
            (is_begun, refused) = (true, Refused::IsDoneAlone);
            (start, element) = match &batch.piece {
                Some(piece) if piece.end < self.n_elements(start) => (start, piece.end),
                _ => (batch.params.end, 0),
            };
        }
        self.cuda()?.end_uploads().map_err(Error::in_the_middle)
    }

    /// Sets whether the times of copies are taken.
    pub fn set_offload_timing(&mut self, is_on: bool) -> Result<(), Error> {
        self.cuda()?.set_timing(is_on)
    }

    /// Returns how long the copies of the last step took, and what for.
    pub fn offload_times(&mut self) -> Result<OffloadTimes, Error> {
        self.backend.cuda().map_or(Ok(OffloadTimes::default()), |cuda| cuda.times())
    }

    /// Returns the number of elements of a parameter.
    fn n_elements(&self, param: usize) -> u64 {
        self.params.operands_of(&(param..param + 1))[0].param().n_elements()
    }

    /// Begins to upload what has been stepped.
    fn send(&mut self, batch: &Batch) -> Result<(), Error> {
        for id in self.params.ids(&batch.params) {
            if self.params.operands(id).is_due_on_host()
                && let Some(cuda) = self.backend.cuda()
            {
                let elements = batch.piece.clone().unwrap_or(0..u64::MAX);
                cuda.send(id.number(), elements).map_err(Error::in_the_middle)?;
            }
        }
        Ok(())
    }

    /// Writes zeros over gradients on a device, as `clear_used` does over those of the host.
    /// `is_begun`: the step has written something. What fails after that cannot be undone.
    #[inline(never)] // so that `update` runs on a smaller stack
    pub(in crate::optimizer) fn clear_used_on_device(
        &mut self,
        of: &Range<usize>,
        mut is_begun: bool,
        is_left: impl Fn(&Operands) -> bool,
    ) -> Result<(), Error> {
        if !self.config.clear_grads {
            return Ok(());
        }
        for id in self.params.ids(of) {
            let operands = self.params.operands(id);
            let is_used = operands.is_asked() && operands.n_accumulated() == 0;
            let given = operands.given_grad().filter(|_| is_used && is_left(operands));
            if let (Some(grad), Some(cuda)) = (given, self.backend.cuda())
                && grad.device() != Device::Host
            {
                let cleared = cuda.zero(&grad);
                cleared.map_err(|error| if is_begun { error.in_the_middle() } else { error })?;
                is_begun = true;
            }
        }
        Ok(())
    }

    /// Writes zeros over the gradient on the device that is downloaded for a parameter, if there is
    /// one.
    pub(in crate::optimizer) fn zero_grad_on_device(&mut self, id: ParamId) -> Result<(), Error> {
        match self.params.operands(id).device_grad() {
            Some(grad) => self.cuda()?.zero(&grad),
            None => Ok(()),
        }
    }
}

/// Returns whether a parameter, by number, is one of these that the processor steps now.
fn due_of<'a>(operands: &'a [Operands], of: &'a Range<usize>) -> impl Fn(u32) -> bool + 'a {
    |number| of.contains(&(number as usize)) && operands[number as usize].is_due_on_host()
}
