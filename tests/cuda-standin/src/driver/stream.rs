//! Streams.
#![allow(non_snake_case)]

use super::call;
use super::capture::{Capture, MINDS, Mode};
use super::code::Code;
use super::queue::Ticket;
use super::raw::{Out, elements};
use super::state::{Driver, Handle};
use super::work::Work;
use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint};
use std::thread;

/// The default stream, which every blocking stream waits for, and it for them.
pub const LEGACY: Handle = 1;
/// The default stream of a thread; here all threads have one in common.
const PER_THREAD: Handle = 2;
/// The flag by which a stream does not wait for the default stream.
const NON_BLOCKING: c_uint = 1;

pub(crate) struct Stream {
    pub blocking: bool,
    /// Work of other streams that the next work here comes after.
    pub waits: Vec<Ticket>,
    pub capture: Option<Handle>,
}

impl Stream {
    fn new(blocking: bool) -> Stream {
        Stream { blocking, waits: Vec::new(), capture: None }
    }
}

impl Driver {
    /// The stream of this handle; null is the default stream.
    pub fn stream(&mut self, stream: Handle) -> Result<Handle, Code> {
        let stream = if stream == 0 { LEGACY } else { stream };
        if stream <= PER_THREAD {
            self.streams.entry(stream).or_insert_with(|| Stream::new(stream == PER_THREAD));
        }
        if self.streams.contains_key(&stream) { Ok(stream) } else { Err(Code::INVALID_HANDLE) }
    }
}

/// Makes a stream.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreate(stream: Out<usize>, flags: c_uint) -> c_int {
    call("cuStreamCreate", format_args!("flags={flags}"), |driver| {
        driver.need_context()?;
        stream.check()?;
        if flags > NON_BLOCKING {
            return Err(Code::INVALID_VALUE);
        }
        let handle = driver.handle();
        driver.streams.insert(handle, Stream::new(flags != NON_BLOCKING));
        stream.set(handle)
    })
}

/// Ends a stream; its work is still done.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: usize) -> c_int {
    call("cuStreamDestroy_v2", format_args!("stream={stream:#x}"), |driver| {
        driver.need_context()?;
        if stream <= PER_THREAD {
            return Err(Code::INVALID_HANDLE);
        }
        let stream = driver.stream(stream)?;
        driver.refuse_captured(stream)?;
        driver.streams.remove(&stream);
        Ok(())
    })
}

/// Waits for a stream's work.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: usize) -> c_int {
    call("cuStreamSynchronize", format_args!("stream={stream:#x}"), |driver| {
        driver.need_context()?;
        let stream = driver.stream(stream)?;
        driver.refuse_captured(stream)?;
        driver.refuse_implicit_wait(stream)?;
        driver.refuse_in_capture()?;
        driver.wait_for_stream(stream)
    })
}

/// Whether a stream's work is done.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamQuery(stream: usize) -> c_int {
    call("cuStreamQuery", format_args!("stream={stream:#x}"), |driver| {
        driver.need_context()?;
        let stream = driver.stream(stream)?;
        driver.refuse_captured(stream)?;
        driver.refuse_in_capture()?;
        if driver.advance(stream) { Err(Code::NOT_READY) } else { Ok(()) }
    })
}

/// Lets a stream's next work come after an event.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(stream: usize, event: usize, flags: c_uint) -> c_int {
    let arguments = format_args!("stream={stream:#x}, event={event:#x}, flags={flags}");
    call("cuStreamWaitEvent", arguments, |driver| {
        driver.need_context()?;
        let stream = driver.stream(stream)?;
        let found = driver.events.get(&event).ok_or(Code::INVALID_HANDLE)?;
        let (recorded, captured) = (found.recorded, found.captured);
        if let Some((capture, from)) = captured {
            return driver.join(stream, capture, from);
        }
        if let Some(capture) = driver.capture_of(stream)? {
            if recorded.is_none() {
                return Ok(());
            }
            capture.valid = false;
            return Err(Code::STREAM_CAPTURE_ISOLATION);
        }
        if let Some(own) = driver.streams.get_mut(&stream) {
            own.waits.extend(recorded);
        }
        // So that waiting for the stream is waiting for the event.
        driver.enqueue(stream, Work::Nothing)?;
        Ok(())
    })
}

/// 0 where a stream is not captured, 1 where it is, 2 where an error has spoilt the capture.
fn status(driver: &mut Driver, stream: Handle) -> c_int {
    match driver.capture_of(stream) {
        Ok(None) => 0,
        Ok(Some(_)) => 1,
        Err(_) => 2,
    }
}

/// Whether a stream is captured.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamIsCapturing(stream: usize, result: Out<c_int>) -> c_int {
    call("cuStreamIsCapturing", format_args!("stream={stream:#x}"), |driver| {
        driver.need_context()?;
        let stream = driver.stream(stream)?;
        driver.refuse_implicit_wait(stream)?;
        result.set(status(driver, stream))
    })
}

/// Whether a stream is captured, and the capture's number; graph and dependencies stay unknown.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCaptureInfo_v2(
    stream: usize,
    result: Out<c_int>,
    number: Out<u64>,
    graph: Out<usize>,
    dependencies: Out<usize>,
    dependency_count: Out<usize>,
) -> c_int {
    call("cuStreamGetCaptureInfo_v2", format_args!("stream={stream:#x}"), |driver| {
        driver.need_context()?;
        let stream = driver.stream(stream)?;
        driver.refuse_implicit_wait(stream)?;
        result.check()?;
        number.set_if_given(driver.streams[&stream].capture.unwrap_or(0) as u64);
        graph.set_if_given(0);
        dependencies.set_if_given(0);
        dependency_count.set_if_given(0);
        result.set(status(driver, stream))
    })
}

/// From now on a stream's work becomes a graph.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCapture_v2(stream: usize, mode: c_int) -> c_int {
    let arguments = format_args!("stream={stream:#x}, mode={mode}");
    call("cuStreamBeginCapture_v2", arguments, |driver| {
        driver.need_context()?;
        let stream = driver.stream(stream)?;
        let mode = Mode::new(mode)?;
        if stream == LEGACY {
            return Err(Code::STREAM_CAPTURE_UNSUPPORTED);
        }
        let handle = driver.handle();
        let own = driver.streams.get_mut(&stream).ok_or(Code::INVALID_HANDLE)?;
        if own.capture.is_some() {
            return Err(Code::ILLEGAL_STATE);
        }
        own.capture = Some(handle);
        let capture = Capture {
            origin: stream,
            mode,
            thread: thread::current().id(),
            nodes: Vec::new(),
            valid: true,
            forks: BTreeMap::new(),
        };
        driver.captures.insert(handle, capture);
        Ok(())
    })
}

/// Changes whose captures this thread minds, and says whose it did.
#[unsafe(no_mangle)]
pub extern "C" fn cuThreadExchangeStreamCaptureMode(mode: *mut c_int) -> c_int {
    call("cuThreadExchangeStreamCaptureMode", format_args!(""), |_| {
        let asked = Mode::new(elements(mode.cast_const(), 1)?[0])?;
        Out::from(mode).set(MINDS.replace(asked) as c_int)
    })
}
