//! Gradients measured without a step, and sums over them that come from outside.
//!
//! `measure_grads` writes what a step would measure: for each parameter the sum of the squares of
//! the gradient that it would be stepped with, and the count of its elements that are not finite.
//! `set_grad_sums` says where the host has such sums, which steps then take in place of their own
//! (`read_grad_sums`). In between, hosts that share a model can add theirs up.
//!
//! The sums are f64s, two for each parameter, so that one sum over all of them is what hosts
//! exchange. Where they lie on the device and it steps all parameters, nobody waits.
#![forbid(unsafe_code)]

use crate::config::Nonfinite;
use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::{Error, TensorProblem};
use crate::optimizer::{Optimizer, Report};
use crate::sys::memory::reserve;
use crate::tensor::{Tensor, Total};
use core::ops::Range;

impl Optimizer {
    /// Measures the gradients of all parameters that have a part in the next step, and writes the
    /// sums.
    pub fn measure_grads(&mut self, to: &Tensor) -> Result<(), Error> {
        self.check_no_ranks()?;
        self.check_grad_sums(to)?;
        let of = self.params.all();
        let is_on_host = self.begin_measurement(&of)?;
        if to.device() != Device::Host && !is_on_host {
            return self.put_sums_on_device(to);
        }
        self.learn_measured(&of)?;
        let mut sums = core::mem::take(&mut self.scratch.outside);
        sums.clear();
        for (place, id) in self.params.ids(&of).enumerate() {
            let Total { sum_squares, n_nonfinite } = self.measured_total(place, id);
            sums.push([sum_squares, n_nonfinite as f64]); // `check_grad_sums` has made room
        }
        let written = match to.device() {
            Device::Host => {
                let numbers = sums.iter().flatten().enumerate();
                numbers.for_each(|(i, &number)| to.set_f64(i, number));
                Ok(())
            }
            Device::Cuda(_) => self.write_sums_on_device(to, &sums),
        };
        self.scratch.outside = sums;
        written
    }

    /// Returns the norm of the gradients of the next step, unscaled, and the count of what is not
    /// finite in them: of the sums of the host's if it gives them, otherwise of the gradients.
    pub fn grad_norm(&mut self) -> Result<(f64, u64), Error> {
        self.check_no_ranks()?;
        let of = self.params.all();
        if self.grad_sums.is_some() {
            self.read_grad_sums(true)?;
        } else {
            self.begin_measurement(&of)?;
            self.learn_measured(&of)?;
        }
        self.learn_scale()?;
        let mut report = Report::NONE;
        self.add_up_grads(&of, Nonfinite::Propagate, &mut report)?;
        Ok((report.grad_norm, report.n_nonfinite))
    }

    /// Sets where the host has the sums over the gradients of the next steps. With `None`, steps
    /// measure themselves.
    pub fn set_grad_sums(&mut self, sums: Option<&Tensor>) -> Result<(), Error> {
        if let Some(sums) = sums {
            self.check_no_ranks()?;
            self.check_grad_sums(sums)?;
        }
        if self.grad_sums != sums.copied() {
            self.grad_sums = sums.copied();
            self.on_device.lay_anew();
        }
        Ok(())
    }

    /// Reads the sums of the host's, if they are in its memory or `waits` for the device's.
    pub(in crate::optimizer) fn read_grad_sums(&mut self, waits: bool) -> Result<(), Error> {
        let Some(sums) = self.grad_sums else { return Ok(()) };
        self.check_length(&sums)?;
        let mut outside = core::mem::take(&mut self.scratch.outside);
        outside.clear();
        let read = match sums.device() {
            Device::Host => {
                outside
                    .extend((0..self.params.len()).map(|i| [sums.f64(2 * i), sums.f64(2 * i + 1)]));
                Ok(())
            }
            Device::Cuda(_) if waits => {
                outside.resize(self.params.len(), [0.0; 2]);
                self.read_sums_on_device(&sums, &mut outside)
            }
            Device::Cuda(_) => Ok(()),
        };
        self.scratch.outside = outside;
        read
    }

    /// Begins to measure the gradients of some parameters. Returns whether some are in the host's
    /// memory.
    fn begin_measurement(&mut self, of: &Range<usize>) -> Result<bool, Error> {
        self.check_grads()?;
        self.check_window(of)?;
        self.read_host_values()?;
        let needs = self.needs_of(of);
        self.lay_measurement(of)?;
        self.begin_grads(of)?;
        if self.has_copies() {
            self.wait_for_grads(of)?;
        }
        if needs.rows {
            self.read_rows(of)?;
        }
        self.measure_on_host(of)?;
        if self.has_device() {
            self.gather_rows_on_device()?;
            self.measure_on_device()?;
        }
        Ok(needs.steps_on_host)
    }

    /// Learns what has been measured on the device, if there is one.
    fn learn_measured(&mut self, of: &Range<usize>) -> Result<(), Error> {
        let is_there = self.params.operands_of(of).iter().any(|there| there.is_due_on_device());
        self.learn_totals(is_there)
    }

    /// Checks that sums are f64s, two for each parameter, in memory that can be reached and that no
    /// step writes.
    fn check_grad_sums(&mut self, sums: &Tensor) -> Result<(), Error> {
        self.check_length(sums)?;
        if sums.dtype() != Dtype::F64 {
            let problem = TensorProblem::Dtype { is: sums.dtype(), expected: Dtype::F64 };
            return Err(Error::GradSums(problem));
        }
        if let Some(place) = self.params.occupied.overlapped(&sums.addresses()) {
            let param = self.params.label(self.params.id(place.param)?);
            return Err(Error::GradSums(TensorProblem::Overlaps { param, buffer: place.role }));
        }
        self.scratch.outside.clear();
        reserve(&mut self.scratch.outside, self.params.len(), "the sums over gradients")?;
        match sums.device() {
            Device::Host => Ok(()),
            device => self.check_sums_on_device(sums, device),
        }
    }

    fn check_length(&self, sums: &Tensor) -> Result<(), Error> {
        let (is, expected) = (sums.n_elements(), 2 * self.params.len() as u64);
        if is == expected { Ok(()) } else { Err(Error::GradSumsLength { is, expected }) }
    }
}
