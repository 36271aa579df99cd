//! The timetable: the learning rates of coming steps in the device's memory. A captured step takes
//! the next one, and advances, in each launch of its graph.

use super::Cuda;
use super::driver::{Entered, Memory};
use super::kernels::Kernel;
use super::launch::launch;
use super::layout::Timetable;
use crate::error::Error;

/// The most learning rates that a timetable has.
pub const MOST_RATES: usize = 1 << 16;

/// The offset of the count of steps that have missed a learning rate.
const MISSED: u64 = 16;

impl Cuda {
    /// Makes room for the timetable, which stays where it is: graphs read it.
    pub fn reserve_timetable(&mut self) -> Result<(), Error> {
        if self.timetable.is_some() {
            return Ok(());
        }
        self.check_not_capturing("adamw_prepare with a schedule")?;
        let bytes = size_of::<Timetable>() + MOST_RATES * size_of::<f64>();
        self.timetable = Some(self.zeroed(bytes, "the learning rates of coming steps")?);
        Ok(())
    }

    /// Returns the address of the timetable; 0: there is none.
    pub fn timetable(&self) -> u64 {
        self.timetable.as_ref().map_or(0, Memory::address)
    }

    /// Writes the learning rates of the coming steps. Waits for the device.
    pub fn set_timetable(&mut self, rates: &[f64]) -> Result<(), Error> {
        self.check_not_capturing("a change of a schedule that a graph follows")?;
        let to = self.timetable() + size_of::<Timetable>() as u64;
        let rates = &rates[..rates.len().min(MOST_RATES)];
        let device = self.driver.enter()?;
        let from = rates.as_ptr().expose_provenance();
        // SAFETY: there is room for so many, and `wait` returns before the host's can go.
        unsafe { device.upload(to, from, size_of_val(rates)) }?;
        device.wait()?;
        drop(device);
        self.write(self.timetable(), &[0, rates.len() as u64])
    }

    /// Writes the place of the next learning rate. Waits for the device.
    pub fn set_next_rate(&mut self, next: u64) -> Result<(), Error> {
        self.write(self.timetable(), &[next])
    }

    /// Forgets that steps have missed a learning rate. Waits for the device.
    pub fn forget_missed(&mut self) -> Result<(), Error> {
        self.write(self.timetable() + MISSED, &[0u64])
    }

    /// Returns the head of the timetable. Waits for the device.
    pub fn read_timetable(&mut self) -> Result<Timetable, Error> {
        let at = self.timetable();
        let mut head = [Timetable::default()];
        self.read(
            "asking for the learning rate of a schedule that a graph follows",
            at,
            &mut head,
        )?;
        Ok(head[0])
    }

    /// Queues up the advance to the next learning rate, unless the step is skipped.
    pub(super) fn advance_lr(&self, device: &Entered) -> Result<(), Error> {
        let (timetable, verdict) = (self.timetable(), self.clocks.verdict());
        // SAFETY: the arguments are what the kernel takes.
        unsafe { launch!(device, Kernel::advance_lr, 1; timetable, verdict) }
    }
}
