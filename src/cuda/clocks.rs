//! What the device knows of a handle from step to step: how far each parameter has come, and what the last step
//! came to. Graphs that have captured a step go on with both where they are, so that neither moves after that.

use super::driver::{Entered, Memory};
use super::layout::Verdict;
use crate::error::Error;
use crate::steps::Clock;
use crate::sys::memory::reserve;
use core::ops::Range;

/// The clocks of all parameters, and the verdict.
pub struct Clocks {
    verdict: Memory,
    /// One after the other; one alone, unless a graph has kept the first from being replaced by a longer one.
    segments: Vec<Segment>,
}

/// The clocks of some parameters.
struct Segment {
    params: Range<usize>,
    memory: Memory,
}

impl Segment {
    fn new(device: &Entered, params: Range<usize>) -> Result<Segment, Error> {
        let bytes = params.len() * size_of::<Clock>();
        let memory = device.allocate(bytes, "the step counts of parameters on the device")?;
        // SAFETY: it has just been allocated, and is waited for before anybody can drop it.
        unsafe { device.zero(memory.address(), bytes) }?;
        device.wait()?;
        Ok(Segment { params, memory })
    }
}

impl Clocks {
    pub fn new(device: &Entered) -> Result<Clocks, Error> {
        let verdict =
            device.allocate(size_of::<Verdict>(), "what a step on the device comes to")?;
        Ok(Clocks { verdict, segments: Vec::new() })
    }

    /// Where it is said what a step came to.
    pub fn verdict(&self) -> u64 {
        self.verdict.address()
    }

    /// Where the clock of a parameter is.
    pub fn place(&self, number: usize) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| segment.params.contains(&number))?;
        let offset = (number - segment.params.start) * size_of::<Clock>();
        Some(segment.memory.address() + offset as u64)
    }

    /// Which of so many parameters have their clocks together, and where.
    pub fn segments(&self, n_params: usize) -> impl Iterator<Item = (Range<usize>, u64)> {
        let there = self.segments.iter().filter(move |segment| segment.params.start < n_params);
        there.map(move |Segment { params, memory }| {
            (params.start..params.end.min(n_params), memory.address())
        })
    }

    /// Makes room for so many parameters; where they `stay`, without moving those that are there. May wait for the
    /// device.
    pub fn grow(&mut self, device: &Entered, n_params: usize, stay: bool) -> Result<(), Error> {
        let there = self.segments.last().map_or(0, |segment| segment.params.end);
        if n_params <= there {
            return Ok(());
        }
        let n_params = n_params.max(2 * there);
        reserve(&mut self.segments, 1, "the parameters")?;
        if stay {
            self.segments.push(Segment::new(device, there..n_params)?);
            return Ok(());
        }
        let all = Segment::new(device, 0..n_params)?;
        for Segment { params, memory } in &self.segments {
            let (at, bytes) =
                (params.start * size_of::<Clock>(), params.len() * size_of::<Clock>());
            // SAFETY: both have so many clocks, and live until they have been copied.
            unsafe { device.copy(all.memory.address() + at as u64, memory.address(), bytes) }?;
        }
        device.wait()?;
        self.segments.clear();
        self.segments.push(all);
        Ok(())
    }
}
