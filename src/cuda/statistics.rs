//! The statistics of a step on the device: the weights are kept before the step and compared with
//! the new ones after it.

use super::Cuda;
use super::driver::{Entered, Memory};
use super::kernels::Kernel;
use super::launch::launch;
use super::layout::{CHUNK, Chunk};
use super::plan::n_chunks;
use crate::error::Error;
use crate::tensor::{Operands, Total};

/// Room for the weights of all parameters on the device, in the compute type.
pub struct WeightsBefore {
    memory: Memory,
    bytes: u64,
}

/// Returns the bytes of the kept weights of a parameter.
pub fn weights_bytes(operands: &Operands) -> u64 {
    n_chunks(operands) * CHUNK * operands.param().dtype().compute().bytes() as u64
}

impl Cuda {
    /// Makes room for the weights of all parameters, and of a new one. May wait for the device.
    pub fn reserve_statistics(&mut self, new: Option<&Operands>) -> Result<(), Error> {
        let needed = self.weights_bytes + new.map_or(0, weights_bytes);
        if self.weights_before.as_ref().is_some_and(|before| before.bytes >= needed) {
            return Ok(());
        }
        self.check_not_capturing("adamw_set_statistics")?;
        let device = self.driver.enter()?;
        let memory = device.allocate(needed as usize, "the norms of updates")?;
        drop(device);
        self.wait_for_all()?;
        self.weights_before = Some(WeightsBefore { memory, bytes: needed });
        Ok(())
    }

    /// Queues up copies of the weights that are about to be stepped.
    pub(super) fn keep_weights(&self, device: &Entered) -> Result<(), Error> {
        let (tensors, _, first_chunk) = self.tables();
        let mut before = self.weights_before.as_ref().map_or(0, |before| before.memory.address());
        for launch in &self.plan.launches {
            let chunks = first_chunk + launch.first_chunk * size_of::<Chunk>() as u64;
            let (n_chunks, place) = (launch.n_chunks, before);
            before += launch.bytes();
            // SAFETY: the arguments are what the kernel takes, and there is room for the chunks of
            // all launches.
            unsafe {
                launch!(
                    device, Kernel::keep(launch.param), n_chunks;
                    tensors, chunks, n_chunks, place
                )
            }?;
        }
        Ok(())
    }

    /// Queues up the sums over what has changed since.
    pub(super) fn tally_changes(&self, device: &Entered) -> Result<(), Error> {
        let (tensors, _, first_chunk) = self.tables();
        let Some(workspace) = &self.workspace else { return Err(Error::BrokenDevice) };
        let places = &workspace.places;
        let mut before = self.weights_before.as_ref().map_or(0, |before| before.memory.address());
        for launch in &self.plan.launches {
            let chunks = first_chunk + launch.first_chunk * size_of::<Chunk>() as u64;
            let offset = launch.first_chunk * 4 * size_of::<f64>() as u64;
            let (n_chunks, place) = (launch.n_chunks, before);
            let (scalars, format) = (places.scalars, launch.moments as u32);
            let [updates, params] = places.change_sums.map(|sums| sums + offset);
            let n_unchanged = places.counts + offset;
            before += launch.bytes();
            let blocks = n_chunks.div_ceil(2);
            // SAFETY: the arguments are what the kernel takes, and each array has a place for every
            // block of every chunk.
            unsafe {
                launch!(
                    device, Kernel::change(launch.param), blocks;
                    tensors, chunks, n_chunks, place, scalars, format, updates, params,
                    n_unchanged
                )
            }?;
        }
        // The first sums are joined together with the counts.
        for (sums, totals) in places.change_sums.into_iter().zip(places.change_totals) {
            self.join_sums(device, sums, totals)?;
        }
        Ok(())
    }

    /// Returns where a step leaves the sums over each parameter, by number: the squares of the
    /// changes, with the number of elements that should have changed and have not; and the squares
    /// of the new weights.
    pub fn changes_at(&mut self) -> Result<[u64; 2], Error> {
        Ok(self.workspace()?.places.change_totals)
    }

    /// Reads these sums. Waits for the device.
    pub fn changes(&mut self, at: [u64; 2], to: [&mut [Total]; 2]) -> Result<(), Error> {
        for (at, to) in at.into_iter().zip(to) {
            self.read("asking for statistics", at, to)?;
        }
        Ok(())
    }
}
