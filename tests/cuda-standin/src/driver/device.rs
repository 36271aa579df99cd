//! The device: there is one, and it is made up.
#![allow(non_snake_case)]

use super::call;
use super::code::Code;
use super::raw::Out;
use super::state::{Driver, TOTAL_MEMORY};
use std::ffi::{c_char, c_int, c_uint};

/// The name by which everybody can tell that this is no GPU.
pub const NAME: &str = "PTX interpreter (CUDA stand-in)";

/// The attributes that are not zero, by number.
const ATTRIBUTES: [(c_int, c_int); 26] = [
    // Threads of a block, in all and by axis.
    (1, 1024),
    (2, 1024),
    (3, 1024),
    (4, 64),
    // Blocks of a grid by axis.
    (5, i32::MAX),
    (6, 65_535),
    (7, 65_535),
    // Shared bytes, constant bytes, lanes of a warp, registers of a block.
    (8, 49_152),
    (9, 65_536),
    (10, 32),
    (12, 65_536),
    // Kilohertz.
    (13, 1_000_000),
    (MULTIPROCESSORS, 4),
    // Maps host memory, runs several kernels, has two engines for copies.
    (19, 1),
    (31, 1),
    (40, 2),
    // Kilohertz and bits of the memory, bytes of the cache.
    (36, 1_000_000),
    (37, 512),
    (38, 4 << 20),
    // Threads of a multiprocessor.
    (39, 2048),
    // One address space with the host.
    (41, 1),
    // Compute capability 9.0.
    (75, 9),
    (76, 0),
    // Shared bytes and blocks of a multiprocessor.
    (81, 233_472),
    (106, 32),
    // Allocations in a stream's order.
    (POOLS, 1),
];

const MULTIPROCESSORS: c_int = 16;
const POOLS: c_int = 115;

/// Attributes from here on are unknown.
const END_OF_ATTRIBUTES: c_int = 150;

/// The CUDA version that a driver which loads PTX up to this has.
fn driver_version(max_ptx: Option<u32>) -> c_int {
    let ptx = max_ptx.unwrap_or(87) as c_int;
    match ptx {
        // The numbers of both once went apart: PTX 8.6 is CUDA 12.7.
        86.. if ptx < 90 => 12_000 + 10 * (ptx - 79),
        _ => 1000 * (ptx / 10 + 4) + 10 * (ptx % 10),
    }
}

fn need_device(driver: &Driver, device: c_int) -> Result<(), Code> {
    driver.need_initialized()?;
    if device == 0 { Ok(()) } else { Err(Code::INVALID_DEVICE) }
}

/// Begins; reads the environment.
#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: c_uint) -> c_int {
    // A fault that the environment plans for this very call must be known before it is made.
    super::lock().settings.read_environment();
    call("cuInit", format_args!("flags={flags}"), |driver| {
        if flags != 0 {
            return Err(Code::INVALID_VALUE);
        }
        if driver.settings.stub {
            return Err(Code::STUB_LIBRARY);
        }
        if driver.settings.no_device {
            return Err(Code::NO_DEVICE);
        }
        driver.initialized = true;
        Ok(())
    })
}

/// The CUDA version that this driver claims.
#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(version: Out<c_int>) -> c_int {
    call("cuDriverGetVersion", format_args!(""), |driver| {
        version.set(driver_version(driver.settings.max_ptx))
    })
}

/// One device.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(count: Out<c_int>) -> c_int {
    call("cuDeviceGetCount", format_args!(""), |driver| {
        driver.need_initialized()?;
        count.set(1)
    })
}

/// Device 0.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(device: Out<c_int>, ordinal: c_int) -> c_int {
    call("cuDeviceGet", format_args!("ordinal={ordinal}"), |driver| {
        need_device(driver, ordinal)?;
        device.set(ordinal)
    })
}

/// Its name.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(name: Out<c_char>, length: c_int, device: c_int) -> c_int {
    call("cuDeviceGetName", format_args!("device={device}"), |driver| {
        need_device(driver, device)?;
        name.check()?;
        let length = usize::try_from(length).map_err(|_| Code::INVALID_VALUE)?;
        name.set_text(NAME, length);
        Ok(())
    })
}

/// One of its limits and properties.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetAttribute(
    value: Out<c_int>,
    attribute: c_int,
    device: c_int,
) -> c_int {
    let arguments = format_args!("attribute={attribute}, device={device}");
    call("cuDeviceGetAttribute", arguments, |driver| {
        need_device(driver, device)?;
        if !(1..END_OF_ATTRIBUTES).contains(&attribute) {
            return Err(Code::INVALID_VALUE);
        }
        if attribute == MULTIPROCESSORS && driver.settings.blocks.is_some() {
            return value.set(1);
        }
        if attribute == POOLS && driver.settings.no_pool {
            return value.set(0);
        }
        let found = ATTRIBUTES.iter().find(|&&(number, _)| number == attribute);
        value.set(found.map_or(0, |&(_, value)| value))
    })
}

/// Its memory in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: c_int) -> c_int {
    call("cuDeviceTotalMem_v2", format_args!("device={device}"), |driver| {
        need_device(driver, device)?;
        bytes.set(TOTAL_MEMORY as usize)
    })
}

/// The primary context, which comes to be when it is first retained.
#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRetain(context: Out<usize>, device: c_int) -> c_int {
    call("cuDevicePrimaryCtxRetain", format_args!("device={device}"), |driver| {
        need_device(driver, device)?;
        context.check()?;
        if let Some(code) = driver.sticky {
            return Err(code);
        }
        context.set(driver.retain())
    })
}

/// Gives a retained context back; the last one ends it.
#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> c_int {
    call("cuDevicePrimaryCtxRelease_v2", format_args!("device={device}"), |driver| {
        need_device(driver, device)?;
        driver.release()
    })
}
