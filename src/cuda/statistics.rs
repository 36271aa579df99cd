//! The statistics of a step on the device: the weights are kept before the step and compared with
//! the new ones after it. Of parameters whose rows are stepped alone, those are the listed rows.

use super::Cuda;
use super::driver::{Entered, Memory};
use super::kernels::Kernel;
use super::launch::launch;
use super::layout::{self, CHUNK, Chunk};
use super::plan::{Launch, n_chunks};
use super::workspace::SUMS;
use crate::error::Error;
use crate::tensor::{Operands, Total};

/// Room for the weights of all parameters on the device, in the compute type.
pub struct WeightsBefore {
    memory: Memory,
    bytes: u64,
}

/// Elements that are added up together: blocks of chunks, or listed rows of one parameter.
struct Units {
    chunks: u64,
    /// The address of a `Rows`; 0: they are blocks of the chunks.
    rows: u64,
    n: u64,
    /// The address of the kept weights.
    before: u64,
    /// Where the sums over rows are.
    sums: Option<[u64; 3]>,
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
        self.leftover.reserve()?;
        let device = self.driver.enter()?;
        let memory = device.allocate(needed as usize, "the norms of updates")?;
        drop(device);
        self.wait_for_all()?;
        let before = self.weights_before.replace(WeightsBefore { memory, bytes: needed });
        if self.has_captured() {
            self.leftover.memories.extend(before.map(|before| before.memory));
        }
        Ok(())
    }

    /// Returns the units of the step in each of which one sum is made, by the launch and the table
    /// that they are listed in.
    fn units(&self) -> impl Iterator<Item = (&Launch, Units)> {
        let (_, _, first_chunk) = self.tables();
        let rows_table = self.rows_table();
        let before = self.weights_before.as_ref().map_or(0, |before| before.memory.address());
        let starts = self.plan.launches.iter().scan(before, |next, launch| {
            let start = *next;
            *next += launch.bytes();
            Some((launch, start))
        });
        starts.flat_map(move |(launch, before)| {
            let bytes = launch.param.compute().bytes() as u64;
            let chunks = first_chunk + launch.first_chunk * size_of::<Chunk>() as u64;
            let of_chunks = launch.rows.is_none().then_some(Units {
                chunks,
                rows: 0,
                n: launch.n_chunks * SUMS,
                before,
                sums: None,
            });
            let of_rows = launch.rows.clone().unwrap_or_default().map(move |place| {
                let rows = &self.plan.rows[place as usize];
                let tensor = &self.plan.tensors[rows.tensor as usize];
                let n_before = (tensor.first_chunk - launch.first_chunk) * CHUNK;
                let sums = [0, 1, 2].map(|i| rows.spare + i * rows.n_rows * 8);
                Units {
                    chunks,
                    rows: rows_table + place * size_of::<layout::Rows>() as u64,
                    n: rows.n_rows,
                    before: before + n_before * bytes,
                    sums: Some(sums),
                }
            });
            of_chunks.into_iter().chain(of_rows).map(move |units| (launch, units))
        })
    }

    /// Queues up copies of the weights that are about to be stepped.
    pub(super) fn keep_weights(&self, device: &Entered) -> Result<(), Error> {
        let (tensors, ..) = self.tables();
        for (launch, units) in self.units() {
            let Units { chunks, rows, n, before, .. } = units;
            // SAFETY: the arguments are what the kernel takes, and there is room for the chunks of
            // all launches. A warp takes a unit, and a block has 8 warps.
            unsafe {
                launch!(
                    device, Kernel::keep(launch.param), n.div_ceil(8);
                    tensors, chunks, rows, n, before
                )
            }?;
        }
        Ok(())
    }

    /// Queues up the sums over what has changed since.
    pub(super) fn tally_changes(&self, device: &Entered) -> Result<(), Error> {
        let (tensors, ..) = self.tables();
        let Some(workspace) = &self.workspace else { return Err(Error::NoDeviceYet) };
        let places = &workspace.places;
        for (launch, units) in self.units() {
            let Units { chunks, rows, n, before, sums } = units;
            let [updates, params] = places.change_sums;
            let offset = launch.first_chunk * SUMS * size_of::<f64>() as u64;
            let of_chunks = [updates, params, places.counts].map(|sums| sums + offset);
            let [updates, params, n_unchanged] = sums.unwrap_or(of_chunks);
            let (scalars, format) = (places.scalars, launch.moments as u32);
            // SAFETY: the arguments are what the kernel takes, and each array has a place for every
            // unit.
            unsafe {
                launch!(
                    device, Kernel::change(launch.param), n.div_ceil(8);
                    tensors, chunks, rows, n, before, scalars, format, updates, params, n_unchanged
                )
            }?;
        }
        // The first sums are joined together with the counts.
        for (sums, totals) in places.change_sums.into_iter().zip(places.change_totals) {
            self.join_sums(device, sums, totals)?;
        }
        let [updates, params] = places.change_totals;
        for rows in self.plan.launches.iter().filter_map(|launch| launch.rows.clone()) {
            let table = self.rows_table() + rows.start * size_of::<layout::Rows>() as u64;
            let n = rows.end - rows.start;
            // SAFETY: as above.
            unsafe { launch!(device, Kernel::join_rows, n; table, n, updates, params) }?;
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
