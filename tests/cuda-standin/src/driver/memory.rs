//! The device's memory.
#![allow(non_snake_case)]

use super::call;
use super::code::Code;
use super::raw::Out;
use super::state::{Driver, TOTAL_MEMORY};
use super::work::Work;
use crate::machine::RangeKind;
use std::ffi::{c_int, c_uchar, c_uint};

/// Allocates; the memory is poisoned.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(address: Out<u64>, bytes: usize) -> c_int {
    call("cuMemAlloc_v2", format_args!("bytes={bytes}"), |driver| {
        driver.need_no_capture()?;
        address.check()?;
        address.set(driver.allocate(bytes, RangeKind::Device)?)
    })
}

/// Frees; all work done, unless it is the pool's memory.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    call("cuMemFree_v2", format_args!("address={address:#x}"), |driver| {
        driver.need_no_capture()?;
        if address == 0 {
            return Ok(());
        }
        if !driver.pooled.remove(&address) {
            driver.wait_for_all()?;
        }
        let freed = driver.memory.remove(address, &[RangeKind::Device]);
        if freed { Ok(()) } else { Err(Code::INVALID_VALUE) }
    })
}

/// Allocates at once. The driver's own would become part of a capture: this one is refused there.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocAsync(address: Out<u64>, bytes: usize, stream: usize) -> c_int {
    let arguments = format_args!("bytes={bytes}, stream={stream:#x}");
    call("cuMemAllocAsync", arguments, |driver| {
        driver.need_context()?;
        address.check()?;
        let stream = driver.stream(stream)?;
        driver.refuse_captured(stream)?;
        let start = driver.allocate(bytes, RangeKind::Device)?;
        driver.pooled.insert(start);
        address.set(start)
    })
}

/// Frees when the stream comes to it.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(address: u64, stream: usize) -> c_int {
    let arguments = format_args!("address={address:#x}, stream={stream:#x}");
    call("cuMemFreeAsync", arguments, |driver| {
        driver.need_context()?;
        let stream = driver.stream(stream)?;
        driver.refuse_captured(stream)?;
        match driver.memory.range_of(address, 0) {
            Some((start, _, RangeKind::Device)) if start == address => {}
            _ => return Err(Code::INVALID_VALUE),
        }
        driver.pooled.remove(&address);
        driver.enqueue(stream, Work::Free { address })?;
        Ok(())
    })
}

/// The bytes that are free, and all.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) -> c_int {
    call("cuMemGetInfo_v2", format_args!(""), |driver| {
        driver.need_context()?;
        let used = driver.memory.bytes(RangeKind::Device);
        free.set(TOTAL_MEMORY.saturating_sub(used) as usize)?;
        total.set(TOTAL_MEMORY as usize)
    })
}

impl Driver {
    fn fill(
        &mut self,
        to: u64,
        pattern: &[u8],
        count: usize,
        stream: Option<usize>,
    ) -> Result<(), Code> {
        match stream {
            Some(_) => self.need_context()?,
            None => self.need_no_capture()?,
        }
        let waits = stream.is_none();
        let stream = self.stream(stream.unwrap_or(0))?;
        let bytes = count.checked_mul(pattern.len()).ok_or(Code::INVALID_VALUE)?;
        if count == 0 {
            return Ok(());
        }
        let found = self.memory.range_of(to, bytes as u64);
        let (_, _, kind) = found.ok_or(Code::INVALID_VALUE)?;
        if !to.is_multiple_of(pattern.len() as u64) {
            return Err(Code::INVALID_VALUE);
        }
        let work = Work::Fill { to, pattern: pattern.to_vec(), count: count as u64 };
        let ticket = self.enqueue(stream, work)?;
        match ticket {
            // Only the host's own memory is set when the call returns.
            Some(ticket) if waits && kind != RangeKind::Device => {
                self.wait_for(ticket);
                self.sticky.map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }
}

/// Sets bytes.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8_v2(to: u64, value: c_uchar, count: usize) -> c_int {
    let arguments = format_args!("to={to:#x}, value={value}, count={count}");
    call("cuMemsetD8_v2", arguments, |driver| driver.fill(to, &[value], count, None))
}

/// Sets bytes when the stream comes to it.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(to: u64, value: c_uchar, count: usize, stream: usize) -> c_int {
    let arguments = format_args!("to={to:#x}, value={value}, count={count}, stream={stream:#x}");
    call("cuMemsetD8Async", arguments, |driver| driver.fill(to, &[value], count, Some(stream)))
}

/// Sets words of four bytes.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32_v2(to: u64, value: c_uint, count: usize) -> c_int {
    let arguments = format_args!("to={to:#x}, value={value}, count={count}");
    let pattern = value.to_le_bytes();
    call("cuMemsetD32_v2", arguments, |driver| driver.fill(to, &pattern, count, None))
}

/// Sets words of four bytes when the stream comes to it.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32Async(to: u64, value: c_uint, count: usize, stream: usize) -> c_int {
    let arguments = format_args!("to={to:#x}, value={value}, count={count}, stream={stream:#x}");
    let pattern = value.to_le_bytes();
    call("cuMemsetD32Async", arguments, |driver| driver.fill(to, &pattern, count, Some(stream)))
}
