//! Captures: the work of streams, kept as a graph instead of being done.

use super::code::Code;
use super::state::{Driver, Handle};
use super::stream::LEGACY;
use super::work::Work;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::thread::{self, ThreadId};

/// Who may not allocate or wait during a capture.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Everybody,
    ThisThread,
    Nobody,
}

impl Mode {
    pub fn new(mode: c_int) -> Result<Mode, Code> {
        let modes = [Mode::Everybody, Mode::ThisThread, Mode::Nobody];
        modes.into_iter().find(|known| *known as c_int == mode).ok_or(Code::INVALID_VALUE)
    }
}

thread_local! {
    /// Whose captures this thread minds: everybody's, its own, or nobody's.
    pub static MINDS: Cell<Mode> = const { Cell::new(Mode::Everybody) };
}

/// A capture that has begun.
pub struct Capture {
    pub origin: Handle,
    pub mode: Mode,
    pub thread: ThreadId,
    pub nodes: Vec<Work>,
    pub valid: bool,
    /// The other streams that take part, and whether they have work that the origin does not wait
    /// for.
    pub forks: BTreeMap<Handle, bool>,
}

impl Driver {
    /// Refuses what this thread may not do while a stream is captured, which ends the capture's good.
    pub fn refuse_in_capture(&mut self) -> Result<(), Code> {
        let (here, minds) = (thread::current().id(), MINDS.get());
        self.refuse_where(|capture| match (minds, capture.mode) {
            (Mode::Nobody, _) | (_, Mode::Nobody) => false,
            (Mode::Everybody, Mode::Everybody) => true,
            _ => capture.thread == here,
        })
    }

    /// Refuses to wait for the context while any of its streams is captured.
    pub fn refuse_any_capture(&mut self) -> Result<(), Code> {
        self.refuse_where(|_| true)
    }

    fn refuse_where(&mut self, concerns: impl Fn(&Capture) -> bool) -> Result<(), Code> {
        let mut refused = false;
        for capture in self.captures.values_mut() {
            if concerns(capture) {
                capture.valid = false;
                refused = true;
            }
        }
        if refused { Err(Code::STREAM_CAPTURE_UNSUPPORTED) } else { Ok(()) }
    }

    /// Refuses to wait for a stream that is captured.
    pub fn refuse_captured(&mut self, stream: Handle) -> Result<(), Code> {
        let capture = self.streams.get(&stream).and_then(|stream| stream.capture);
        match capture.and_then(|capture| self.captures.get_mut(&capture)) {
            None => Ok(()),
            Some(capture) => {
                capture.valid = false;
                Err(Code::STREAM_CAPTURE_UNSUPPORTED)
            }
        }
    }

    /// Refuses work in the default stream, which would wait for a stream that is captured.
    pub fn refuse_implicit_wait(&mut self, stream: Handle) -> Result<(), Code> {
        if stream != LEGACY {
            return Ok(());
        }
        let waits = self.streams.values().filter(|stream| stream.blocking);
        let captures: Vec<_> = waits.filter_map(|stream| stream.capture).collect();
        for capture in &captures {
            if let Some(capture) = self.captures.get_mut(capture) {
                capture.valid = false;
            }
        }
        if captures.is_empty() { Ok(()) } else { Err(Code::STREAM_CAPTURE_IMPLICIT) }
    }

    /// The capture that a stream takes part in, which must be valid.
    pub fn capture_of(&mut self, stream: Handle) -> Result<Option<&mut Capture>, Code> {
        let capture = self.streams.get(&stream).and_then(|stream| stream.capture);
        match capture.and_then(|capture| self.captures.get_mut(&capture)) {
            Some(capture) if !capture.valid => Err(Code::STREAM_CAPTURE_INVALIDATED),
            found => Ok(found),
        }
    }

    /// Keeps work for the graph.
    pub fn capture_work(&mut self, stream: Handle, work: Work) -> Result<(), Code> {
        if let Some(capture) = self.capture_of(stream)? {
            capture.nodes.push(work);
            if stream != capture.origin {
                capture.forks.insert(stream, true);
            }
        }
        Ok(())
    }

    /// A stream waits for an event that was recorded in a captured stream, `from`.
    pub fn join(&mut self, stream: Handle, capture: Handle, from: Handle) -> Result<(), Code> {
        let Some(found) = self.captures.get_mut(&capture) else {
            return Err(Code::CAPTURED_EVENT);
        };
        if !found.valid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED);
        }
        match self.streams[&stream].capture {
            Some(own) if own != capture => {
                found.valid = false;
                return Err(Code::STREAM_CAPTURE_MERGE);
            }
            Some(_) => {
                if let Some(open) = found.forks.get_mut(&from) {
                    *open = false;
                }
            }
            None => {}
        }
        if stream != found.origin {
            found.forks.insert(stream, true);
        }
        if let Some(own) = self.streams.get_mut(&stream) {
            own.capture = Some(capture);
        }
        Ok(())
    }

    /// Ends the capture that began in this stream; its work.
    pub fn end_capture(&mut self, stream: Handle) -> Result<Vec<Work>, Code> {
        let handle = self.streams[&stream].capture.ok_or(Code::ILLEGAL_STATE)?;
        let capture = self.captures.get(&handle).ok_or(Code::ILLEGAL_STATE)?;
        if capture.origin != stream {
            return Err(Code::STREAM_CAPTURE_UNMATCHED);
        }
        if capture.mode != Mode::Nobody && capture.thread != thread::current().id() {
            return Err(Code::STREAM_CAPTURE_WRONG_THREAD);
        }
        let capture = self.captures.remove(&handle).ok_or(Code::ILLEGAL_STATE)?;
        for stream in self.streams.values_mut() {
            if stream.capture == Some(handle) {
                stream.capture = None;
            }
        }
        if !capture.valid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED);
        }
        if capture.forks.values().any(|&open| open) {
            return Err(Code::STREAM_CAPTURE_UNJOINED);
        }
        Ok(capture.nodes)
    }
}
