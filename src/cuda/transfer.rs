//! Copies between the host and the device: the tables of a step, clocks, state, and the outcome of
//! a step.
//!
//! `upload` copies the tables that have changed, through pinned memory and without waiting: it
//! takes the staging buffers in turn, and an event says when one may be written again. `tables` and
//! `rows_table` return where each table then is.
//!
//! `read` and `write` move a few plain values and wait for the device; clocks, totals and verdicts
//! go through them. `copy_out`, `copy_in`, `read_bytes` and `write_bytes` move tensors, between
//! memory of the host's and of the device's. Whatever waits is refused while the stream is
//! captured.

use super::layout::{Chunk, Hyper, Verdict};
use super::step::STALE;
use super::workspace::{UPLOADS, Workspace};
use super::{Cuda, Stale, layout};
use crate::error::Error;
use crate::steps::Clock;
use crate::tensor::{Tensor, Total};

/// Returns the bytes of plain values.
fn bytes_of<T>(values: &[T]) -> &[u8] {
    // SAFETY: the tables' types have no padding, as the assertions in `layout.rs` show.
    unsafe { core::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

impl Cuda {
    pub(super) fn workspace(&mut self) -> Result<&mut Workspace, Error> {
        // `reserve` has made it: the error never comes.
        self.workspace.as_mut().ok_or(Error::NoDeviceYet)
    }

    /// Queues up the upload of the tables that have changed, so that the step itself is launches.
    /// Where a graph has kept the workspace, the spare one takes its place first.
    pub(super) fn upload(&mut self) -> Result<(), Error> {
        if self.stale == Stale::Nothing {
            return Ok(());
        }
        self.check_not_capturing(STALE)?;
        if self.workspace()?.is_captured {
            // `record_step` checked that there is a spare, and `prepare_capture` made room.
            let spare = self.spare.take().ok_or(Error::NoDeviceYet)?;
            self.of_graphs.extend(self.workspace.replace(spare));
            self.stale = Stale::All;
        }
        let stale = core::mem::replace(&mut self.stale, Stale::All);
        let slot = self.next_upload;
        self.next_upload = (slot + 1) % UPLOADS;
        let to = self.workspace()?.places.tables;
        let device = self.driver.enter()?;
        let staging = self.staging.as_mut().ok_or(Error::NoDeviceYet)?;
        let copied = &self.copied[slot];
        device.wait_for(copied)?;
        let (tensors, hypers) = (bytes_of(&self.plan.tensors), bytes_of(&self.plan.hypers));
        let chunks = match stale {
            Stale::All => bytes_of(&self.plan.chunks),
            _ => &[],
        };
        // SAFETY: the event was waited for, so that the copy that read this memory is done.
        let mut room = unsafe { staging.uploads[slot].bytes() };
        let mut used = 0;
        let rows = bytes_of(&self.plan.rows);
        for table in [tensors, hypers, rows, chunks] {
            let (place, rest) = room.split_at_mut(table.len());
            place.copy_from_slice(table);
            room = rest;
            used += table.len();
        }
        let from = staging.uploads[slot].address();
        // SAFETY: both are as long as the workspace's tables, and nothing writes the staging buffer
        // before the event.
        unsafe { device.upload(to, from, used) }?;
        device.record(copied)?;
        self.stale = Stale::Nothing;
        Ok(())
    }

    /// Returns the addresses of the tables on the device: tensors, hyper-parameters, chunks.
    pub(super) fn tables(&self) -> (u64, u64, u64) {
        let tensors = self.workspace.as_ref().map_or(0, |workspace| workspace.places.tables);
        let hypers = tensors + (self.plan.tensors.len() * size_of::<layout::Tensor>()) as u64;
        let rows = hypers + (self.plan.hypers.len() * size_of::<Hyper>()) as u64;
        let chunks = rows + size_of_val(&*self.plan.rows) as u64;
        const _: () = assert!(size_of::<layout::Tensor>().is_multiple_of(align_of::<Chunk>()));
        (tensors, hypers, chunks)
    }

    /// Returns the address of the table of sparse gradients.
    pub(super) fn rows_table(&self) -> u64 {
        self.tables().2 - size_of_val(&*self.plan.rows) as u64
    }

    /// Reads plain values, when the device has done the work that is queued up.
    pub(super) fn read<T: Copy>(
        &mut self,
        what: &'static str,
        at: u64,
        to: &mut [T],
    ) -> Result<(), Error> {
        self.check_not_capturing(what)?;
        let staging = self.staging.as_mut().ok_or(Error::NoDeviceYet)?;
        let device = self.driver.enter()?;
        let bytes = size_of_val(to);
        // SAFETY: the device has these bytes at `at`. `downloads` is as long as the longest table
        // that is read, and nothing else reads or writes it until `wait` returns.
        unsafe {
            device.download(staging.downloads.address(), at, bytes)?;
            device.wait()?;
            let from = staging.downloads.bytes().as_ptr();
            core::ptr::copy_nonoverlapping(from, to.as_mut_ptr().cast(), bytes);
        }
        Ok(())
    }

    /// Returns the clock of a parameter. Waits for the device.
    pub fn clock(&mut self, number: u32) -> Result<Clock, Error> {
        let at = self.clock_place(number)?;
        let mut clock = [Clock { step: 0, beta1_power: 0.0, beta2_power: 0.0 }];
        self.read("reading a step count", at, &mut clock)?;
        Ok(clock[0])
    }

    /// Sets the clock of a parameter. Waits for the device.
    pub fn set_clock(&self, number: u32, clock: &Clock) -> Result<(), Error> {
        let to = self.clock_place(number)?;
        self.write(to, core::slice::from_ref(clock))
    }

    /// Writes plain values, behind the work that is queued up. Waits for the device.
    pub(super) fn write<T: Copy>(&self, to: u64, values: &[T]) -> Result<(), Error> {
        self.check_not_capturing("setting a step count, or looking at a master,")?;
        let device = self.driver.enter()?;
        let from = values.as_ptr().expose_provenance();
        // SAFETY: the device has these bytes at `to`, and `wait` returns before `values` can go.
        unsafe { device.upload(to, from, size_of_val(values)) }?;
        device.wait()
    }

    fn clock_place(&self, number: u32) -> Result<u64, Error> {
        // `reserve` has made room: the error never comes.
        self.clocks.place(number as usize).ok_or(Error::NoDeviceYet)
    }

    /// Reads the totals of the gradients that were measured last, by parameter. Waits for the
    /// device.
    pub fn totals(&mut self, to: &mut [Total]) -> Result<(), Error> {
        let at = self.workspace()?.places.totals;
        self.read("a step that looks at the gradients of the host's parameters too", at, to)
    }

    /// Reads the sums that the host gives, by parameter. Waits for the device.
    pub fn read_sums(&mut self, at: u64, to: &mut [[f64; 2]]) -> Result<(), Error> {
        self.read("a step whose sums over gradients the host has to know", at, to)
    }

    /// Writes sums for the host, by parameter. Waits for the device.
    pub fn write_sums(&self, to: u64, sums: &[[f64; 2]]) -> Result<(), Error> {
        self.write(to, sums)
    }

    /// Returns the verdict on the last step. Waits for the device.
    pub fn verdict(&mut self) -> Result<Verdict, Error> {
        let at = self.clocks.verdict();
        let mut verdict = [Verdict::default()];
        self.read("asking what a step came to", at, &mut verdict)?;
        Ok(verdict[0])
    }

    /// Returns a number of the host's that is in the device's memory. Waits for the device.
    pub fn number(&mut self, at: u64) -> Result<f32, Error> {
        let mut number = [0.0f32];
        self.read("a step whose learning rate the host has to know", at, &mut number)?;
        Ok(number[0])
    }

    /// Copies some bytes of a tensor of the device's. Waits for the device.
    pub fn read_bytes(&self, from: &Tensor, start: usize, to: &mut [u8]) -> Result<(), Error> {
        self.check_not_capturing("saving")?;
        let device = self.driver.enter()?;
        let from = (from.address() + start) as u64;
        // SAFETY: the host vouched for the tensor, the bytes are part of it, and `wait` returns
        // before either memory can go.
        unsafe { device.download(to.as_mut_ptr().expose_provenance(), from, to.len()) }?;
        device.wait()
    }

    /// Writes some bytes of a tensor of the device's. Waits for the device.
    pub fn write_bytes(&self, to: &Tensor, start: usize, from: &[u8]) -> Result<(), Error> {
        self.check_not_capturing("loading")?;
        let device = self.driver.enter()?;
        let to = (to.address() + start) as u64;
        // SAFETY: as above.
        unsafe { device.upload(to, from.as_ptr().expose_provenance(), from.len()) }?;
        device.wait()
    }

    /// Copies a tensor of the device's into one of the host's that fits it. Waits for the device.
    pub fn copy_out(&self, from: &Tensor, to: &Tensor) -> Result<(), Error> {
        self.check_not_capturing("reading state")?;
        let device = self.driver.enter()?;
        let bytes = from.addresses().len();
        // SAFETY: the host vouched for both tensors, which fit each other, and `wait` returns
        // before either memory can go.
        unsafe { device.download(to.address(), from.address() as u64, bytes) }?;
        device.wait()
    }

    /// Copies a tensor of the host's into one of the device's that fits it. Waits for the device.
    pub fn copy_in(&self, to: &Tensor, from: &Tensor) -> Result<(), Error> {
        self.check_not_capturing("writing state")?;
        let device = self.driver.enter()?;
        let bytes = from.addresses().len();
        // SAFETY: as above.
        unsafe { device.upload(to.address() as u64, from.address(), bytes) }?;
        device.wait()
    }
}
