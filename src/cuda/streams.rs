//! The stream on which work is queued up: its change, its capture, and the wait for everything that
//! the handle has queued up.

use super::Cuda;
use super::driver::{Entered, Event};
use crate::error::Error;
use core::sync::atomic::Ordering;

/// The number of streams that can be left before a change waits for the work on the first of them.
const STREAMS: usize = 4;

/// The marks behind the handle's work on streams of the host's that it has left.
pub struct Left {
    marks: [Event; STREAMS],
    next: usize,
    /// There is work without a mark.
    is_unmarked: bool,
}

impl Left {
    pub fn new(device: &Entered) -> Result<Left, Error> {
        let marks = [device.event()?, device.event()?, device.event()?, device.event()?];
        Ok(Left { marks, next: 0, is_unmarked: false })
    }

    /// Marks the work that is queued up on the stream.
    fn mark(&mut self, device: &Entered) -> Result<(), Error> {
        let mark = &self.marks[self.next];
        device.wait_for(mark)?;
        device.record(mark)?;
        self.next = (self.next + 1) % STREAMS;
        Ok(())
    }
}

impl Cuda {
    /// Sets the stream of the host's on which work is queued up from now on, by address; 0: the
    /// default one.
    pub fn set_stream(&mut self, stream: usize) {
        if stream == self.driver.stream() {
            return;
        }
        let is_marked = match self.driver.enter() {
            Ok(device) => {
                matches!(device.is_capturing(), Ok(false)) && self.left.mark(&device).is_ok()
            }
            Err(_) => false,
        };
        self.left.is_unmarked |= !is_marked;
        self.driver.set_stream(stream);
    }

    /// Returns whether the stream's work is being recorded into a graph.
    pub fn is_capturing(&self) -> Result<bool, Error> {
        self.driver.enter()?.is_capturing()
    }

    /// Waits until all work is done that the handle has queued up, so that its memory can be freed.
    /// A wait for the whole context would also wait for streams that are being captured.
    pub(super) fn wait_for_all(&self) -> Result<(), Error> {
        let device = self.driver.enter()?;
        device.wait()?;
        for mark in self.copied.iter().chain(&self.left.marks) {
            device.wait_for(mark)?;
        }
        if self.left.is_unmarked {
            device.wait_for_device()?;
        }
        self.traffic.as_ref().map_or(Ok(()), |traffic| traffic.wait(&device))
    }

    /// Enters the device to queue up work that may be recorded into a graph.
    pub(super) fn enter_to_queue(&self) -> Result<Entered<'_>, Error> {
        let device = self.driver.enter()?;
        if device.is_capturing()? {
            self.has_captured.store(true, Ordering::Relaxed);
        }
        Ok(device)
    }

    /// Returns whether a graph may use the library's memory on the device, which then stays where
    /// it is.
    pub(super) fn has_captured(&self) -> bool {
        self.has_captured.load(Ordering::Relaxed)
    }

    /// Returns whether a graph steps a parameter.
    pub fn is_in_graph(&self, number: u32) -> bool {
        self.in_graphs.get(number as usize).is_some_and(|is_there| *is_there)
    }

    /// Checks that the stream is not being recorded, because nothing may wait for it then.
    pub(super) fn check_not_capturing(&self, what: &'static str) -> Result<(), Error> {
        if self.is_capturing()? { Err(Error::Capturing(what)) } else { Ok(()) }
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Nobody is left to be told of a failure. The memory that the device works with is freed
        // after this.
        let _ = match self.is_capturing() {
            Ok(false) => self.wait_for_all(),
            _ => self.driver.enter().and_then(|device| device.wait_for_device()),
        };
    }
}
