//! Whether the times of offloaded parameters are taken, and what they come to (`timing.rs`).

use super::Cuda;
use super::ring::most_copies;
use super::timing::{OffloadTimes, Timing};
use crate::error::Error;

impl Cuda {
    /// Sets whether the times of copies are taken.
    pub fn set_timing(&mut self, is_on: bool) -> Result<(), Error> {
        if is_on == self.timing.is_on() {
            return Ok(());
        }
        self.check_not_capturing("adamw_set_offload_timing")?;
        self.timing = Timing::default();
        if is_on {
            let copies = (0..self.copies.n_numbers()).filter_map(|number| self.copies.get(number));
            let n_copies = copies.map(|copy| most_copies(&copy.param(), &self.ring)).sum();
            self.timing = Timing::new(&self.driver.enter()?, n_copies)?;
        }
        Ok(())
    }

    /// Takes the times of the step that begins, if the host asks for them.
    pub fn begin_times(&mut self) {
        self.timing.begin();
    }

    /// Returns the times of the last step. Waits for the device.
    pub fn times(&self) -> Result<OffloadTimes, Error> {
        self.check_not_capturing("adamw_get_offload_info")?;
        self.timing.times(&self.driver.enter()?)
    }
}
