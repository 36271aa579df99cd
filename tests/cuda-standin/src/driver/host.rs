//! The host's page-locked memory.
#![allow(non_snake_case)]

use super::call;
use super::code::Code;
use super::raw::Out;
use super::state::Driver;
use crate::machine::RangeKind;
use std::ffi::{c_int, c_uint};

fn allocate(driver: &mut Driver, address: &Out<u64>, bytes: usize) -> Result<(), Code> {
    driver.need_no_capture()?;
    address.check()?;
    let found = driver.allocate(bytes, RangeKind::Pinned)?;
    address.set(found)
}

/// Allocates page-locked memory, which kernels may use too.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocHost_v2(address: Out<u64>, bytes: usize) -> c_int {
    let arguments = format_args!("bytes={bytes}");
    call("cuMemAllocHost_v2", arguments, |driver| allocate(driver, &address, bytes))
}

/// As `cuMemAllocHost_v2`; the flags change nothing.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostAlloc(address: Out<u64>, bytes: usize, flags: c_uint) -> c_int {
    let arguments = format_args!("bytes={bytes}, flags={flags}");
    call("cuMemHostAlloc", arguments, |driver| allocate(driver, &address, bytes))
}

/// Frees page-locked memory, all work done.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(address: u64) -> c_int {
    call("cuMemFreeHost", format_args!("address={address:#x}"), |driver| {
        driver.need_no_capture()?;
        driver.wait_for_all()?;
        let freed = driver.memory.remove(address, &[RangeKind::Pinned]);
        if freed { Ok(()) } else { Err(Code::INVALID_VALUE) }
    })
}

/// Page-locks memory of the host.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostRegister_v2(address: u64, bytes: usize, flags: c_uint) -> c_int {
    let arguments = format_args!("address={address:#x}, bytes={bytes}, flags={flags}");
    call("cuMemHostRegister_v2", arguments, |driver| {
        driver.need_no_capture()?;
        if address == 0 || bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let registered = driver.memory.register(address, bytes as u64, RangeKind::Registered);
        if registered { Ok(()) } else { Err(Code::HOST_MEMORY_ALREADY_REGISTERED) }
    })
}

/// Takes that back.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostUnregister(address: u64) -> c_int {
    call("cuMemHostUnregister", format_args!("address={address:#x}"), |driver| {
        driver.need_no_capture()?;
        driver.wait_for_all()?;
        let found = driver.memory.remove(address, &[RangeKind::Registered]);
        if found { Ok(()) } else { Err(Code::HOST_MEMORY_NOT_REGISTERED) }
    })
}
