//! The lag of rows behind the steps of their parameter, for parameters on the device: rows that no
//! gradient lists are stepped later.
//!
//! `keep_lag` allocates the lag of a parameter at its first sparse gradient under ADAMW_LAZY_EXACT.
//! From then on the kernels count (`lag.cuh`, which mirrors `tensor/lag.rs`): the step of the
//! listed rows brings them up to date first, and `log_step` logs the scalars of the step for the
//! others.
//!
//! `catch_up` brings rows up to date that the host is about to read, and `catch_up_stepped` those
//! that a step steps as a whole. `mark_all_caught_up` follows a load, which writes all rows.
//! `forget_lags` ends the lag of parameters whose group is no longer lazy.

use super::driver::Memory;
use super::kernels::Kernel;
use super::launch::launch;
use super::layout::{self, SCALARS};
use super::{Cuda, Entered};
use crate::error::Error;
use crate::tensor::{LOGGED, Operands, RowList, RowNumber};

/// The lag of the rows of one parameter. The device alone counts it.
pub struct DeviceLag {
    kernel: Kernel,
    flags: u32,
    layout: layout::RowLag,
    _memory: Memory,
}

/// The offset of the number of steps, behind the row whose turn is next.
const STEPS: u64 = 8;
/// The offset of the numbers of steps that each row has taken.
const TAKEN: u64 = 16;

impl DeviceLag {
    pub fn address(&self) -> u64 {
        self.layout.at
    }

    /// Returns the bytes of all numbers of steps.
    fn bytes_counted(&self) -> usize {
        (TAKEN - STEPS + self.layout.height * size_of::<u64>() as u64) as usize
    }
}

/// The rows to be brought up to date.
#[derive(Clone, Copy)]
pub enum RowSet<'a> {
    All,
    Listed(&'a RowList),
}

impl Cuda {
    /// Lets the rows of a parameter lag, if it has rows of `row_elements` elements and they do not
    /// lag yet. May wait for the device.
    pub fn keep_lag(
        &mut self,
        number: u32,
        operands: &Operands,
        row_elements: u64,
    ) -> Result<(), Error> {
        if row_elements == 0 || self.lags.get(number).is_some() {
            return Ok(());
        }
        self.check_not_capturing("the first sparse gradient under ADAMW_LAZY_EXACT")?;
        if self.is_in_graph(number) {
            return Err(Error::InGraph {
                what: "the first sparse gradient under ADAMW_LAZY_EXACT",
                instead: "set one before the capture",
            });
        }
        self.lags.reserve(number as usize + 1)?;
        let height = operands.param().n_elements() / row_elements;
        let bytes = TAKEN + height * size_of::<u64>() as u64 + LOGGED * SCALARS as u64;
        let memory = self.zeroed(bytes as usize, "the steps that rows have taken")?;
        let lag = DeviceLag {
            kernel: Kernel::catch_up(operands.param().dtype(), &operands.format()),
            flags: layout::flags(operands),
            layout: layout::RowLag { at: memory.address(), height, row_elements },
            _memory: memory,
        };
        self.lags.insert(number, lag);
        Ok(())
    }

    /// Returns the elements of a row of a parameter whose rows may lag.
    pub fn lagging_row_elements(&self, number: u32) -> Option<u64> {
        self.lags.get(number).map(|lag| lag.layout.row_elements)
    }

    /// Brings rows of a parameter to where steps without a gradient would have brought them. Rows
    /// that the parameter does not have are passed over.
    pub fn catch_up(&self, number: u32, operands: &Operands, which: RowSet) -> Result<(), Error> {
        let Some(lag) = self.lags.get(number) else { return Ok(()) };
        self.queue_catch_up(&self.enter_to_queue()?, lag, layout::Tensor::of(operands), which, 0)
    }

    /// Queues up the kernel that brings rows up to date, unless the verdict at this address, if it
    /// is not 0, is to skip.
    fn queue_catch_up(
        &self,
        device: &Entered,
        lag: &DeviceLag,
        tensor: layout::Tensor,
        which: RowSet,
        verdict: u64,
    ) -> Result<(), Error> {
        let (numbers, n, is_long) = match which {
            RowSet::All => (0, lag.layout.height, false),
            RowSet::Listed(rows) => {
                (rows.address() as u64, rows.len() as u64, rows.number() == RowNumber::I64)
            }
        };
        self.queue_catch_up_of(device, lag, tensor, (numbers, n, is_long.into()), verdict)
    }

    /// The same for `n` numbers of rows at an address, or for all rows.
    fn queue_catch_up_of(
        &self,
        device: &Entered,
        lag: &DeviceLag,
        tensor: layout::Tensor,
        (numbers, n, is_long): (u64, u64, u32),
        verdict: u64,
    ) -> Result<(), Error> {
        let (layout, flags) = (lag.layout, lag.flags);
        // SAFETY: the arguments are what the kernel takes, and the host vouched for the tensor and
        // the list. A warp takes a row, and a block has 8 warps.
        unsafe {
            launch!(
                device, lag.kernel, n.div_ceil(8);
                tensor, layout, numbers, n, is_long, flags, verdict
            )
        }
    }

    /// Brings the rows up to date of the lagging parameters that a step steps as a whole.
    pub(super) fn catch_up_stepped(&self, device: &Entered, verdict: u64) -> Result<(), Error> {
        let tensors = &self.plan.tensors;
        self.lags.iter().try_for_each(|(number, lag)| match tensors.get(number as usize) {
            Some(&tensor) if tensor.n_elements > 0 && tensor.rows == 0 => {
                self.queue_catch_up(device, lag, tensor, RowSet::All, verdict)
            }
            _ => Ok(()),
        })
    }

    /// Brings the rows up to date that are listed to be stepped alone.
    pub(super) fn catch_up_listed(&self, device: &Entered, verdict: u64) -> Result<(), Error> {
        let places = self.plan.launches.iter().filter_map(|launch| launch.rows.clone()).flatten();
        for rows in places.map(|place| &self.plan.rows[place as usize]) {
            let Some(lag) = self.lags.get(rows.tensor) else { continue };
            let tensor = self.plan.tensors[rows.tensor as usize];
            let listed = (rows.numbers, rows.n_rows, rows.is_long);
            self.queue_catch_up_of(device, lag, tensor, listed, verdict)?;
        }
        Ok(())
    }

    /// Logs the scalars of the step that has been queued up, for the rows that do not take it now.
    pub(super) fn log_step(
        &self,
        device: &Entered,
        scalars: u64,
        verdict: u64,
    ) -> Result<(), Error> {
        let (table, n) = (self.rows_table(), self.plan.rows.len() as u64);
        if self.plan.rows.iter().all(|rows| rows.lag == 0) {
            return Ok(());
        }
        // SAFETY: the arguments are what the kernel takes, and the table describes the library's
        // own memory.
        unsafe { launch!(device, Kernel::log_step, n.div_ceil(256); table, n, scalars, verdict) }
    }

    /// Marks all rows of a parameter as up to date, whose values have been written.
    pub fn mark_all_caught_up(&self, number: u32) -> Result<(), Error> {
        let Some(lag) = self.lags.get(number) else { return Ok(()) };
        // SAFETY: these bytes are the lag's own.
        unsafe { self.enter_to_queue()?.zero(lag.address() + STEPS, lag.bytes_counted()) }
    }

    /// Lets no row of some parameters lag from now on. Waits for the device.
    pub fn forget_lags(&mut self, which: impl Fn(u32) -> bool) -> Result<(), Error> {
        if !self.lags.iter().any(|(number, _)| which(number)) {
            return Ok(());
        }
        self.check_not_capturing("to end ADAMW_LAZY_EXACT")?;
        if self.lags.iter().any(|(number, _)| which(number) && self.is_in_graph(number)) {
            return Err(Error::InGraph {
                what: "to end ADAMW_LAZY_EXACT",
                instead: "do so before the capture",
            });
        }
        self.wait_for_all()?;
        for number in 0..self.lags.n_numbers() {
            if self.lags.get(number).is_some() && which(number) {
                self.lags.remove(number);
            }
        }
        Ok(())
    }
}
