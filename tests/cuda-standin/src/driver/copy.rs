//! Copies.
//!
//! Of the host's memory, only what is page-locked is read and written when the stream comes to it.
//! From other memory an asynchronous copy takes the bytes at once, and to other memory it waits;
//! in a capture both are refused.
#![allow(non_snake_case)]

use super::call;
use super::code::Code;
use super::raw::elements;
use super::state::Driver;
use super::work::{Source, Work};
use std::ffi::c_int;

/// Which ends of a copy must be memory that the driver knows.
#[derive(Clone, Copy)]
struct Ends {
    to_device: bool,
    from_device: bool,
}

const UPLOAD: Ends = Ends { to_device: true, from_device: false };
const DOWNLOAD: Ends = Ends { to_device: false, from_device: true };
const INSIDE: Ends = Ends { to_device: true, from_device: true };
const ANY: Ends = Ends { to_device: false, from_device: false };

impl Driver {
    /// Copies, in a stream or (without one) in the default stream and to its end.
    fn copy(
        &mut self,
        ends: Ends,
        to: u64,
        from: u64,
        bytes: usize,
        stream: Option<usize>,
    ) -> Result<(), Code> {
        match stream {
            Some(_) => self.need_context()?,
            None => self.need_no_capture()?,
        }
        let handle = self.stream(stream.unwrap_or(0))?;
        if bytes == 0 {
            return Ok(());
        }
        let length = bytes as u64;
        let known_to = self.memory.range_of(to, length).is_some();
        let known_from = self.memory.range_of(from, length).is_some();
        if (ends.to_device && !known_to) || (ends.from_device && !known_from) {
            self.trouble = format!("copy of {bytes} bytes from {from:#x} to {to:#x}: not all live");
            return Err(Code::INVALID_VALUE);
        }
        if to == 0 || from == 0 {
            return Err(Code::INVALID_VALUE);
        }
        if !(known_to && known_from) {
            self.refuse_captured(handle)?;
            self.refuse_in_capture()?;
        }
        let work = match (known_to, known_from) {
            (true, true) => Work::Copy { to, from: Source::Address(from), bytes: length },
            (true, false) => {
                let taken = elements(from as *const u8, bytes)?;
                Work::Copy { to, from: Source::Taken(taken), bytes: length }
            }
            (false, true) => Work::CopyToHost { to, from, bytes: length },
            (false, false) => return Err(Code::INVALID_VALUE),
        };
        let ticket = self.enqueue(handle, work)?;
        match ticket {
            Some(ticket) if stream.is_none() || !known_to => {
                self.wait_for(ticket);
                self.sticky.map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }
}

/// From the host to the device.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoD_v2(to: u64, from: usize, bytes: usize) -> c_int {
    let arguments = format_args!("to={to:#x}, from={from:#x}, bytes={bytes}");
    call("cuMemcpyHtoD_v2", arguments, |driver| driver.copy(UPLOAD, to, from as u64, bytes, None))
}

/// From the device to the host.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoH_v2(to: usize, from: u64, bytes: usize) -> c_int {
    let arguments = format_args!("to={to:#x}, from={from:#x}, bytes={bytes}");
    call("cuMemcpyDtoH_v2", arguments, |driver| driver.copy(DOWNLOAD, to as u64, from, bytes, None))
}

/// Inside the device.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) -> c_int {
    let arguments = format_args!("to={to:#x}, from={from:#x}, bytes={bytes}");
    call("cuMemcpyDtoD_v2", arguments, |driver| driver.copy(INSIDE, to, from, bytes, None))
}

/// From the host to the device, in a stream.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: usize, bytes: usize, stream: usize) -> c_int {
    let arguments = format_args!("to={to:#x}, from={from:#x}, bytes={bytes}, stream={stream:#x}");
    call("cuMemcpyHtoDAsync_v2", arguments, |driver| {
        driver.copy(UPLOAD, to, from as u64, bytes, Some(stream))
    })
}

/// From the device to the host, in a stream.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoHAsync_v2(to: usize, from: u64, bytes: usize, stream: usize) -> c_int {
    let arguments = format_args!("to={to:#x}, from={from:#x}, bytes={bytes}, stream={stream:#x}");
    call("cuMemcpyDtoHAsync_v2", arguments, |driver| {
        driver.copy(DOWNLOAD, to as u64, from, bytes, Some(stream))
    })
}

/// Inside the device, in a stream.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: usize) -> c_int {
    let arguments = format_args!("to={to:#x}, from={from:#x}, bytes={bytes}, stream={stream:#x}");
    call("cuMemcpyDtoDAsync_v2", arguments, |driver| {
        driver.copy(INSIDE, to, from, bytes, Some(stream))
    })
}

/// Between any two, one of which the driver must know, in a stream.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: usize) -> c_int {
    let arguments = format_args!("to={to:#x}, from={from:#x}, bytes={bytes}, stream={stream:#x}");
    call("cuMemcpyAsync", arguments, |driver| driver.copy(ANY, to, from, bytes, Some(stream)))
}
