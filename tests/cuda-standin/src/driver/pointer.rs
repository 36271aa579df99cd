//! What an address is.
#![allow(non_snake_case)]

use super::call;
use super::code::Code;
use super::raw::{Out, elements};
use super::state::Driver;
use crate::machine::RangeKind;
use std::ffi::{c_int, c_uint, c_void};

const HOST: u64 = 1;
const DEVICE: u64 = 2;

/// An attribute's value and how many bytes it has.
fn attribute(driver: &Driver, attribute: c_int, address: u64) -> Result<(u64, usize), Code> {
    let (start, bytes, kind) = driver.memory.range_of(address, 0).ok_or(Code::INVALID_VALUE)?;
    let host = matches!(kind, RangeKind::Pinned | RangeKind::Registered);
    let context = driver.primary.as_ref().map_or(0, |primary| primary.handle as u64);
    Ok(match attribute {
        1 => (context, 8),
        2 => (if host { HOST } else { DEVICE }, 4),
        3 => (address, 8),
        4 if host => (address, 8),
        // Whether it is managed, and its device's number.
        8 | 9 => (0, 4),
        11 => (start, 8),
        12 => (bytes, 8),
        _ => return Err(Code::INVALID_VALUE),
    })
}

fn set(to: *mut c_void, (value, bytes): (u64, usize)) -> Result<(), Code> {
    match bytes {
        4 => Out::from(to.cast::<u32>()).set(value as u32),
        _ => Out::from(to.cast::<u64>()).set(value),
    }
}

/// An attribute of an address that the driver knows.
#[unsafe(no_mangle)]
pub extern "C" fn cuPointerGetAttribute(data: *mut c_void, number: c_int, address: u64) -> c_int {
    let arguments = format_args!("attribute={number}, address={address:#x}");
    call("cuPointerGetAttribute", arguments, |driver| {
        driver.need_context()?;
        set(data, attribute(driver, number, address)?)
    })
}

/// Several attributes; zeros for an address that the driver does not know.
#[unsafe(no_mangle)]
pub extern "C" fn cuPointerGetAttributes(
    count: c_uint,
    attributes: *const c_int,
    data: *const *mut c_void,
    address: u64,
) -> c_int {
    let arguments = format_args!("count={count}, address={address:#x}");
    call("cuPointerGetAttributes", arguments, |driver| {
        driver.need_context()?;
        let numbers = elements(attributes, count as usize)?;
        let places = elements(data, count as usize)?;
        for (&number, &place) in numbers.iter().zip(&places) {
            // Half of the attributes have four bytes, and zero is the same in both.
            let unknown = (0, if matches!(number, 2 | 8 | 9) { 4 } else { 8 });
            set(place, attribute(driver, number, address).unwrap_or(unknown))?;
        }
        Ok(())
    })
}
