//! Events.
#![allow(non_snake_case)]

use super::call;
use super::code::Code;
use super::queue::Ticket;
use super::raw::Out;
use super::state::{Driver, Handle};
use super::work::Work;
use std::ffi::{c_int, c_uint};
use std::time::Instant;

/// The flag of an event that keeps no time.
const NO_TIMING: c_uint = 2;
/// All flags: blocking wait, no timing, between processes.
const FLAGS: c_uint = 7;

pub(crate) struct Event {
    timing: bool,
    /// The work that it was recorded as last.
    pub recorded: Option<Ticket>,
    /// Instead, the capture and the stream in which it was recorded last.
    pub captured: Option<(Handle, Handle)>,
    pub time: Option<Instant>,
}

impl Driver {
    /// An event that is not part of a capture.
    fn event(&self, event: Handle) -> Result<&Event, Code> {
        let event = self.events.get(&event).ok_or(Code::INVALID_HANDLE)?;
        if event.captured.is_some() { Err(Code::CAPTURED_EVENT) } else { Ok(event) }
    }
}

/// Makes an event.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventCreate(event: Out<usize>, flags: c_uint) -> c_int {
    call("cuEventCreate", format_args!("flags={flags}"), |driver| {
        driver.need_context()?;
        event.check()?;
        if flags > FLAGS {
            return Err(Code::INVALID_VALUE);
        }
        let handle = driver.handle();
        let timing = flags & NO_TIMING == 0;
        driver.events.insert(handle, Event { timing, recorded: None, captured: None, time: None });
        event.set(handle)
    })
}

/// Lets the event happen when the stream has done what it was asked until now.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: usize, stream: usize) -> c_int {
    call("cuEventRecord", format_args!("event={event:#x}, stream={stream:#x}"), |driver| {
        driver.need_context()?;
        let stream = driver.stream(stream)?;
        if !driver.events.contains_key(&event) {
            return Err(Code::INVALID_HANDLE);
        }
        let capture = driver.streams[&stream].capture;
        if capture.is_some() {
            driver.capture_of(stream)?;
        }
        let recorded = match capture {
            Some(_) => None,
            None => driver.enqueue(stream, Work::Record { event })?,
        };
        if let Some(own) = driver.events.get_mut(&event) {
            own.recorded = recorded;
            own.captured = capture.map(|capture| (capture, stream));
        }
        Ok(())
    })
}

/// Whether the event has happened. Asking does the work before it, so asking again is enough.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(event: usize) -> c_int {
    call("cuEventQuery", format_args!("event={event:#x}"), |driver| {
        driver.need_context()?;
        let recorded = driver.event(event)?.recorded;
        driver.refuse_in_capture()?;
        match recorded {
            Some(ticket) if driver.queue.holds(ticket) => {
                driver.wait_for(ticket);
                Err(Code::NOT_READY)
            }
            _ => Ok(()),
        }
    })
}

/// Waits until the event has happened.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(event: usize) -> c_int {
    call("cuEventSynchronize", format_args!("event={event:#x}"), |driver| {
        driver.need_context()?;
        let recorded = driver.event(event)?.recorded;
        driver.refuse_in_capture()?;
        if let Some(ticket) = recorded {
            driver.wait_for(ticket);
        }
        driver.sticky.map_or(Ok(()), Err)
    })
}

/// Ends an event.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: usize) -> c_int {
    call("cuEventDestroy_v2", format_args!("event={event:#x}"), |driver| {
        driver.need_context()?;
        driver.events.remove(&event).map(drop).ok_or(Code::INVALID_HANDLE)
    })
}

fn elapsed(driver: &Driver, first: Handle, second: Handle) -> Result<f32, Code> {
    driver.need_context()?;
    let (first, second) = (driver.event(first)?, driver.event(second)?);
    for event in [first, second] {
        let ticket = event.recorded.filter(|_| event.timing).ok_or(Code::INVALID_HANDLE)?;
        if driver.queue.holds(ticket) {
            return Err(Code::NOT_READY);
        }
    }
    match (first.time, second.time) {
        (Some(first), Some(second)) if second >= first => Ok((second - first).as_secs_f32() * 1e3),
        (Some(first), Some(second)) => Ok(-(first - second).as_secs_f32() * 1e3),
        _ => Err(Code::NOT_READY),
    }
}

/// The milliseconds between two events.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime(ms: Out<f32>, first: usize, second: usize) -> c_int {
    let arguments = format_args!("first={first:#x}, second={second:#x}");
    call("cuEventElapsedTime", arguments, |driver| ms.set(elapsed(driver, first, second)?))
}

/// As `cuEventElapsedTime`.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime_v2(ms: Out<f32>, first: usize, second: usize) -> c_int {
    let arguments = format_args!("first={first:#x}, second={second:#x}");
    call("cuEventElapsedTime_v2", arguments, |driver| ms.set(elapsed(driver, first, second)?))
}
