//! The device's own record of the steps: the clock of each parameter, the verdict on the last step,
//! and the loss scale. A graph that has captured a step goes on with them where they are, so none
//! moves after a capture.

use super::driver::{Entered, Memory};
use super::layout::{Scaling, Verdict};
use crate::error::Error;
use crate::steps::Clock;
use crate::sys::memory::reserve;
use core::ops::Range;

/// The clocks of all parameters, the verdict on the last step, and the loss scale.
pub struct Clocks {
    /// The verdict and, behind it, the loss scale.
    verdict: Memory,
    /// In the order of the parameters. There is one, unless a graph has kept the first from being
    /// replaced by a longer one.
    segments: Vec<Segment>,
}

/// The clocks of a range of parameters.
struct Segment {
    params: Range<usize>,
    memory: Memory,
}

impl Segment {
    fn new(device: &Entered, params: Range<usize>) -> Result<Segment, Error> {
        let bytes = params.len() * size_of::<Clock>();
        let memory = device.allocate(bytes, "the step counts of parameters on the device")?;
        // SAFETY: the memory has just been allocated, and `wait` returns before it can be dropped.
        unsafe { device.zero(memory.address(), bytes) }?;
        device.wait()?;
        Ok(Segment { params, memory })
    }
}

impl Clocks {
    pub fn new(device: &Entered) -> Result<Clocks, Error> {
        let bytes = size_of::<Verdict>() + size_of::<Scaling>();
        let verdict = device.allocate(bytes, "what a step on the device comes to")?;
        Ok(Clocks { verdict, segments: Vec::new() })
    }

    /// Returns the address of the verdict.
    pub fn verdict(&self) -> u64 {
        self.verdict.address()
    }

    /// Returns the address of the loss scale.
    pub fn scaling(&self) -> u64 {
        self.verdict.address() + size_of::<Verdict>() as u64
    }

    /// Returns the address of a parameter's clock, if there is room for one.
    pub fn place(&self, number: usize) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| segment.params.contains(&number))?;
        let offset = (number - segment.params.start) * size_of::<Clock>();
        Some(segment.memory.address() + offset as u64)
    }

    /// Returns the ranges of the first `n_params` parameters whose clocks lie together, each with
    /// the address of its first clock.
    pub fn segments(&self, n_params: usize) -> impl Iterator<Item = (Range<usize>, u64)> {
        let there = self.segments.iter().filter(move |segment| segment.params.start < n_params);
        there.map(move |Segment { params, memory }| {
            (params.start..params.end.min(n_params), memory.address())
        })
    }

    /// Makes room for the clocks of `n_params` parameters; if those that are there must `stay`,
    /// without moving them. May wait for the device.
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
            // SAFETY: both memories hold these clocks, and live until `wait` below returns.
            unsafe { device.copy(all.memory.address() + at as u64, memory.address(), bytes) }?;
        }
        device.wait()?;
        self.segments.clear();
        self.segments.push(all);
        Ok(())
    }
}
