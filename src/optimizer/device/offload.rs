//! Parameters on a device that the processor steps: when their gradients come down and they go up.
#![forbid(unsafe_code)]

use crate::backend::Refused;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::role::Role;
use crate::tensor::{Grad, Tensor};
use core::ops::Range;

/// Elements that are stepped while what comes after them is on its way.
const BATCH: u64 = 1 << 22;

impl Optimizer {
    /// Whether some parameters are on a device, and stepped here.
    pub(in crate::optimizer) fn has_copies(&mut self) -> bool {
        self.backend.cuda().is_some_and(|cuda| cuda.has_copies())
    }

    /// The gradient that the processor reads, the host's own or, if it is on the device, where it lands; and
    /// where it comes down from.
    pub(in crate::optimizer) fn landed(
        &mut self,
        number: u32,
        grad: &Tensor,
    ) -> Result<(Tensor, Option<Tensor>), Error> {
        let name = self.label(number)?;
        let Some(cuda) = self.backend.cuda() else { return Ok((*grad, None)) };
        match cuda.copy_of(number) {
            Some(copy) if grad.device() == copy.param().device() => {}
            _ => return Ok((*grad, None)),
        }
        let operands = &self.operands[number as usize];
        let fits = operands.fits(Role::Grad, &grad.as_if_on(operands.param().device()));
        fits.map_err(|problem| problem.of(name, Role::Grad))?;
        self.check_reach((number, name), &Grad::Dense(*grad))?;
        self.check_place(number, &Grad::Dense(*grad))?;
        self.operands.unmarked()[number as usize].reserve_device_grad()?;
        let landing = self.cuda()?.landing(number, grad.dtype())?;
        Ok((landing, Some(*grad)))
    }

    /// Has the gradients of a step come down, and what the host has written of parameters.
    pub(in crate::optimizer) fn begin_offload(&mut self, of: &Range<usize>) -> Result<(), Error> {
        if let Some(cuda) = self.backend.cuda() {
            let operands = &self.operands;
            let is_due = |number: u32| {
                of.contains(&(number as usize)) && operands[number as usize].is_due_on_host()
            };
            cuda.fill_copies(is_due)?;
        }
        self.begin_grads(of)
    }

    /// Has the gradients of some parameters come down.
    pub(in crate::optimizer) fn begin_grads(&mut self, of: &Range<usize>) -> Result<(), Error> {
        let operands = &self.operands;
        let is_due = |number: u32| {
            of.contains(&(number as usize)) && operands[number as usize].is_due_on_host()
        };
        match self.backend.cuda() {
            Some(cuda) if cuda.has_copies() => cuda.begin_downloads(operands, is_due),
            _ => Ok(()),
        }
    }

    /// Has the copy that the processor steps be what the parameter is, if there is one, for reading and writing
    /// it outside a step; `send_back` takes up what has been written.
    pub(in crate::optimizer) fn fetch(&mut self, number: usize) -> Result<(), Error> {
        self.backend.cuda().map_or(Ok(()), |cuda| cuda.fetch(number as u32))
    }

    /// The same where the host has written the parameter.
    pub(in crate::optimizer) fn fetch_anew(&mut self, number: usize) -> Result<(), Error> {
        self.forget_copy(number);
        self.fetch(number)
    }

    /// The host writes the parameter: the copy is fetched before it is read again.
    pub(in crate::optimizer) fn forget_copy(&mut self, number: usize) {
        if let Some(copy) = self.backend.cuda().and_then(|cuda| cuda.copy_of(number as u32)) {
            copy.forget();
        }
    }

    /// Takes up what has been written of a copy outside a step.
    pub(in crate::optimizer) fn send_back(&mut self, number: usize) -> Result<(), Error> {
        self.backend.cuda().map_or(Ok(()), |cuda| cuda.send_now(number as u32))
    }

    /// Fills the master of a parameter, if there is one, and forgets what rounding left.
    pub(in crate::optimizer) fn fill_master(&mut self, number: usize) -> Result<(), Error> {
        self.fetch(number)?;
        self.backend.fill_master(&mut self.operands[number])
    }

    /// Waits for the gradients of some parameters.
    pub(in crate::optimizer) fn wait_for_grads(&mut self, of: &Range<usize>) -> Result<(), Error> {
        for number in of.clone().filter(|number| self.operands[*number].is_due_on_host()) {
            if let Some(cuda) = self.backend.cuda() {
                cuda.wait_for_grad(number as u32)?;
            }
        }
        Ok(())
    }

    /// Steps parameters as their gradients arrive, and has them go up while others are stepped.
    pub(in crate::optimizer) fn update_offloaded(
        &mut self,
        of: &Range<usize>,
        mut refused: Refused,
    ) -> Result<(), Error> {
        let mut start = of.start;
        while start < of.end {
            let mut n_elements = 0;
            let mut end = start;
            // What is added up over a step is laid out for all of it at once.
            while end < of.end && (n_elements < BATCH || self.statistics) {
                n_elements += self.operands[end].param().n_elements();
                end += 1;
            }
            let batch = start..end;
            let is_first = start == of.start;
            let arrived = self.wait_for_grads(&batch);
            let stepped = arrived.and_then(|()| self.update_part(of, &batch, false, refused));
            let sent = stepped.and_then(|()| self.send(&batch));
            sent.map_err(|error| if is_first { error } else { Error::HalfStep })?;
            (start, refused) = (end, Refused::IsDoneAlone);
        }
        self.clear_on_device(of)?;
        self.cuda()?.end_uploads()
    }

    fn send(&mut self, of: &Range<usize>) -> Result<(), Error> {
        for number in of.clone().filter(|number| self.operands[*number].is_due_on_host()) {
            if let Some(cuda) = self.backend.cuda() {
                cuda.send(number as u32).map_err(|_| Error::HalfStep)?;
            }
        }
        Ok(())
    }

    /// Writes zeros over the gradients that a step has used, where they came from.
    pub(in crate::optimizer) fn clear_on_device(&mut self, of: &Range<usize>) -> Result<(), Error> {
        if !self.config.clear_grads {
            return Ok(());
        }
        for number in of.clone() {
            if self.operands[number].is_asked() {
                self.zero_grad_on_device(number as u32)?;
            }
        }
        Ok(())
    }

    /// Writes zeros over a gradient on the device that lands here, if there is one.
    pub(in crate::optimizer) fn zero_grad_on_device(&mut self, number: u32) -> Result<(), Error> {
        match self.operands[number as usize].device_grad() {
            Some(grad) => self.cuda()?.zero(&grad),
            None => Ok(()),
        }
    }
}
