//! How far the rows of parameters on the device lag behind their steps, and what brings them up to date:
//! `lag.cuh` counts.

use super::driver::Memory;
use super::kernels::Kernel;
use super::launch::launch;
use super::layout::{self, SCALARS};
use super::{Cuda, Entered};
use crate::error::Error;
use crate::tensor::{LOGGED, Operands, RowList, RowNumber};

/// What is known of the rows of one parameter, which the device alone counts.
pub struct DeviceLag {
    kernel: Kernel,
    flags: u32,
    described: layout::RowLag,
    _memory: Memory,
}

/// Where the steps are counted: behind the row whose turn is next.
const STEPS: u64 = 8;
/// Where it is said what each row has taken.
const TAKEN: u64 = 16;

impl DeviceLag {
    pub fn address(&self) -> u64 {
        self.described.at
    }

    fn bytes_counted(&self) -> usize {
        (TAKEN - STEPS + self.described.height * size_of::<u64>() as u64) as usize
    }
}

/// The rows that are brought up to date.
#[derive(Clone, Copy)]
pub enum RowSet<'a> {
    All,
    Listed(&'a RowList),
}

impl Cuda {
    /// Lets the rows of a parameter lag, if they are rows of so many elements and do not lag yet. May wait for
    /// the device.
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
            described: layout::RowLag { at: memory.address(), height, row_elements },
            _memory: memory,
        };
        self.lags.insert(number, lag);
        Ok(())
    }

    /// What a row of a parameter whose rows may lag has.
    pub fn lagging_row_elements(&self, number: u32) -> Option<u64> {
        self.lags.get(number).map(|lag| lag.described.row_elements)
    }

    /// Brings rows of a parameter to where steps without a gradient would have brought them. Rows that it has
    /// not are passed over.
    pub fn catch_up(&self, number: u32, operands: &Operands, which: RowSet) -> Result<(), Error> {
        let Some(lag) = self.lags.get(number) else { return Ok(()) };
        if self.is_broken {
            return Err(Error::BrokenDevice);
        }
        self.queue_catch_up(&self.enter_to_queue()?, lag, layout::Tensor::of(operands), which, 0)
    }

    /// The same, unless the verdict is to skip.
    fn queue_catch_up(
        &self,
        device: &Entered,
        lag: &DeviceLag,
        tensor: layout::Tensor,
        which: RowSet,
        verdict: u64,
    ) -> Result<(), Error> {
        let (described, flags) = (lag.described, lag.flags);
        let (numbers, n, is_long) = match which {
            RowSet::All => (0, described.height, false),
            RowSet::Listed(rows) => {
                (rows.address() as u64, rows.len() as u64, rows.number() == RowNumber::I64)
            }
        };
        let is_long = u32::from(is_long);
        // SAFETY: what the kernel takes; the host vouched for the tensor and the list. A row a warp.
        unsafe {
            launch!(
                device, lag.kernel, n.div_ceil(8);
                tensor, described, numbers, n, is_long, flags, verdict
            )
        }
    }

    /// Brings the rows of the parameters up to date that a step steps as a whole.
    pub(super) fn catch_up_stepped(&self, device: &Entered, verdict: u64) -> Result<(), Error> {
        let tensors = &self.plan.tensors;
        self.lags.iter().try_for_each(|(number, lag)| match tensors.get(number as usize) {
            Some(&tensor) if tensor.n_elements > 0 && tensor.rows == 0 => {
                self.queue_catch_up(device, lag, tensor, RowSet::All, verdict)
            }
            _ => Ok(()),
        })
    }

    /// Logs the step that has been queued up for the rows that do not take it.
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
        // SAFETY: what the kernel takes; the table describes the library's own memory.
        unsafe { launch!(device, Kernel::log_step, n.div_ceil(256); table, n, scalars, verdict) }
    }

    /// All rows of a parameter have been given what they would be if they did not lag.
    pub fn mark_all_caught_up(&self, number: u32) -> Result<(), Error> {
        let Some(lag) = self.lags.get(number) else { return Ok(()) };
        // SAFETY: the lag's own memory.
        unsafe { self.enter_to_queue()?.zero(lag.address() + STEPS, lag.bytes_counted()) }
    }

    /// No row of some parameters lags from now on. Waits for the device.
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
