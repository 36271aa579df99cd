//! The times of a step of offloaded parameters, where the host asks for them: how long the copies
//! take on their streams, and how long nothing is stepped because of them.
//!
//! Each copy runs between two marks that keep the time. They are made when the host asks, and when
//! a parameter is added after that: a step makes none.

use super::driver::{Entered, Event};
use crate::error::Error;
use crate::sys::memory::{Boxed, reserve};
use std::time::{Duration, Instant};

/// The times of the last step, in seconds, and the bytes that it has copied. 0: none were taken.
#[derive(Clone, Copy, Default, Debug)]
pub struct OffloadTimes {
    /// Of gradients.
    pub down: Copied,
    /// Of parameters.
    pub up: Copied,
    /// The processor's work, between the first wait and the last upload.
    pub worked: f64,
    /// The processor has waited for copies, and the device for the last uploads.
    pub waited: f64,
}

impl OffloadTimes {
    /// Returns the share of the copies in which nobody waited for them.
    pub fn hidden(&self) -> f64 {
        let copied = self.down.seconds + self.up.seconds;
        if copied == 0.0 { 0.0 } else { (1.0 - self.waited / copied).clamp(0.0, 1.0) }
    }
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Copied {
    pub bytes: u64,
    pub seconds: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Down,
    Up,
}

/// The marks around a copy.
struct Span {
    start: Event,
    end: Event,
    way: Way,
    bytes: usize,
}

/// What is true of the times of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// There are none.
    Off,
    /// They are being taken.
    Open,
    /// They are those of the last step.
    Done,
}

/// The marks between which the device goes on alone: the processor has stepped all, and all has
/// gone up.
struct Tail {
    stepped: Event,
    sent: Event,
}

/// The times, if the host asks for them. They are kept apart, so that a device is no larger on the
/// stack where nobody asks.
#[derive(Default)]
pub struct Timing(Option<Boxed<Kept>>);

struct Kept {
    tail: Tail,
    spans: Vec<Span>,
    n_used: usize,
    state: State,
    /// The end of the last wait.
    since: Option<Instant>,
    worked: Duration,
    waited: Duration,
}

impl Kept {
    /// Counts the work since the last wait.
    fn work_until_now(&mut self) -> Instant {
        let now = Instant::now();
        self.worked += self.since.map_or(Duration::ZERO, |since| now - since);
        now
    }
}

impl Timing {
    /// Makes the marks for so many copies in a step.
    pub fn new(device: &Entered, n_copies: usize) -> Result<Timing, Error> {
        let tail = Tail { stepped: device.timed_event()?, sent: device.timed_event()? };
        let (worked, waited) = (Duration::ZERO, Duration::ZERO);
        let (spans, state) = (Vec::new(), State::Off);
        let kept = Kept { tail, spans, n_used: 0, state, since: None, worked, waited };
        let mut timing = Timing(Some(Boxed::new(kept, "the times of copies")?));
        timing.reserve(device, n_copies)?;
        Ok(timing)
    }

    /// Makes the marks for so many more copies, if the host asks for times.
    pub fn reserve(&mut self, device: &Entered, n_more: usize) -> Result<(), Error> {
        let Some(kept) = &mut self.0 else { return Ok(()) };
        reserve(&mut kept.spans, n_more, "the times of copies")?;
        for _ in 0..n_more {
            let (start, end) = (device.timed_event()?, device.timed_event()?);
            kept.spans.push(Span { start, end, way: Way::Down, bytes: 0 });
        }
        Ok(())
    }

    /// Begins with the times of a step.
    pub fn begin(&mut self) {
        if let Some(kept) = &mut self.0 {
            (kept.n_used, kept.state, kept.since) = (0, State::Open, None);
            (kept.worked, kept.waited) = (Duration::ZERO, Duration::ZERO);
        }
    }

    /// Returns whether the host asks for times.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the times that are being taken.
    fn open(&mut self) -> Option<&mut Kept> {
        self.0.as_deref_mut().filter(|kept| kept.state == State::Open)
    }

    /// Waits, if times are being taken and nobody has waited yet, for the mark that copies are
    /// queued up behind, so that nobody waits for that on their account.
    pub fn wait_first(&mut self, device: &Entered, begun: &Event) -> Result<(), Error> {
        match self.open() {
            Some(kept) if kept.since.is_none() => device.wait_for(begun),
            _ => Ok(()),
        }
    }

    /// Queues up a copy of so many bytes, between two marks if times are being taken.
    pub fn copy(
        &mut self,
        stream: &Entered,
        (way, bytes): (Way, usize),
        copy: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(kept) = self.open().filter(|_| bytes > 0) else { return copy() };
        let Some(span) = kept.spans.get_mut(kept.n_used) else { return copy() };
        stream.record(&span.start)?;
        copy()?;
        stream.record(&span.end)?;
        (span.way, span.bytes) = (way, bytes);
        kept.n_used += 1;
        Ok(())
    }

    /// Waits for a mark behind a copy.
    pub fn wait(&mut self, device: &Entered, copied: &Event) -> Result<(), Error> {
        let Some(kept) = self.open() else { return device.wait_for(copied) };
        let began = kept.work_until_now();
        device.wait_for(copied)?;
        let ended = Instant::now();
        kept.waited += ended - began;
        kept.since = Some(ended);
        Ok(())
    }

    /// Ends the times of a step that has been queued up. `down`, `up`: the streams, of which the
    /// first has nothing left to do.
    pub fn end(&mut self, down: &Entered, up: &Entered) -> Result<(), Error> {
        let Some(kept) = self.open() else { return Ok(()) };
        kept.work_until_now();
        down.record(&kept.tail.stepped)?;
        up.record(&kept.tail.sent)?;
        kept.state = State::Done;
        Ok(())
    }

    /// Returns the times of the last step. Waits until all has gone up.
    pub fn times(&self, device: &Entered) -> Result<OffloadTimes, Error> {
        let mut times = OffloadTimes::default();
        let done = self.0.as_ref().filter(|kept| kept.state == State::Done);
        let Some(Kept { tail, spans, n_used, worked, waited, .. }) = done.map(|kept| &**kept)
        else {
            return Ok(times);
        };
        device.wait_for(&tail.stepped)?; // on another stream
        device.wait_for(&tail.sent)?;
        for span in &spans[..*n_used] {
            let copied = if span.way == Way::Down { &mut times.down } else { &mut times.up };
            copied.bytes += span.bytes as u64;
            copied.seconds += device.seconds_between(&span.start, &span.end)?;
        }
        times.worked = worked.as_secs_f64();
        times.waited = waited.as_secs_f64() + device.seconds_between(&tail.stepped, &tail.sent)?;
        Ok(times)
    }
}
