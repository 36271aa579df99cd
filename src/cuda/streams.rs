//! On whose stream work is queued up, whether that is being captured, and what is waited for.

use super::Cuda;
use super::driver::{Entered, Event};
use crate::error::Error;
use core::sync::atomic::Ordering;

/// How many streams may be left before the work of the first of them is waited for.
const STREAMS: usize = 4;

/// Marks behind what was queued up on streams of the host's that are not this handle's any more.
pub struct Left {
    marks: [Event; STREAMS],
    next: usize,
}

impl Left {
    pub fn new(device: &Entered) -> Result<Left, Error> {
        let marks = [device.event()?, device.event()?, device.event()?, device.event()?];
        Ok(Left { marks, next: 0 })
    }

    /// Marks what is queued up on a stream.
    fn mark(&mut self, device: &Entered) -> Result<(), Error> {
        let mark = &self.marks[self.next];
        device.wait_for(mark)?;
        device.record(mark)?;
        self.next = (self.next + 1) % STREAMS;
        Ok(())
    }
}

impl Cuda {
    /// Queues up what comes on a stream of the host's from now on, by address; 0: the default one.
    pub fn set_stream(&mut self, stream: usize) {
        if stream == self.driver.stream() {
            return;
        }
        // Where nothing can be marked, what is freed waits by itself.
        if let Ok(device) = self.driver.enter()
            && let Ok(false) = device.is_capturing()
        {
            let _ = self.left.mark(&device);
        }
        self.driver.set_stream(stream);
    }

    /// Whether the stream's work is being recorded into a graph.
    pub fn is_capturing(&self) -> Result<bool, Error> {
        self.driver.enter()?.is_capturing()
    }

    /// Waits until all is done that the handle has queued up, so that what it worked with can go. Nobody waits for the
    /// whole context: that would be waiting for streams that are being captured, too.
    pub(super) fn wait_for_all(&self) -> Result<(), Error> {
        let device = self.driver.enter()?;
        device.wait()?;
        for mark in self.copied.iter().chain(&self.left.marks) {
            device.wait_for(mark)?;
        }
        self.traffic.as_ref().map_or(Ok(()), |traffic| traffic.wait(&device))
    }

    /// Enters for work on memory of the library's own, which may be recorded into a graph.
    pub(super) fn enter_to_queue(&self) -> Result<Entered<'_>, Error> {
        let device = self.driver.enter()?;
        if device.is_capturing()? {
            self.has_captured.store(true, Ordering::Relaxed);
        }
        Ok(device)
    }

    /// Whether the library's memory on the device may be in a graph, and so stays where it is.
    pub(super) fn has_captured(&self) -> bool {
        self.has_captured.load(Ordering::Relaxed)
    }

    /// Whether a graph steps a parameter.
    pub fn is_in_graph(&self, number: u32) -> bool {
        self.in_graphs.get(number as usize).is_some_and(|is_there| *is_there)
    }

    /// Fails while the stream is being recorded, which nothing may wait for.
    pub(super) fn check_not_capturing(&self, what: &'static str) -> Result<(), Error> {
        if self.is_capturing()? { Err(Error::Capturing(what)) } else { Ok(()) }
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Nobody is left to be told of a failure. What the device works with is freed after this.
        if let Ok(false) = self.is_capturing() {
            let _ = self.wait_for_all();
        }
    }
}
