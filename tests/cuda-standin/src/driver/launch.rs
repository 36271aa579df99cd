//! Launches, and what a kernel's function tells of itself.
#![allow(non_snake_case)]

use super::call;
use super::code::Code;
use super::module::SHARED_LIMIT;
use super::raw::{Out, elements};
use super::state::{Driver, Handle};
use super::work::Work;
use crate::machine::Launch;
use std::ffi::{c_int, c_uint, c_void};

/// The attribute by which a function may use more shared memory.
const MOST_DYNAMIC_SHARED: c_int = 8;
/// The most shared bytes of a block, for who asks.
const SHARED_LIMIT_ASKED: usize = 227 << 10;
/// Threads and blocks of a multiprocessor.
const THREADS: c_int = 2048;
const BLOCKS: c_int = 32;
/// Blocks of a grid along the second and third axis.
const MOST_BLOCKS: u32 = 65_535;
/// Threads of a block along the third axis.
const MOST_DEPTH: u32 = 64;

/// One of a function's properties.
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetAttribute(
    value: Out<c_int>,
    attribute: c_int,
    function: usize,
) -> c_int {
    let arguments = format_args!("attribute={attribute}, function={function:#x}");
    call("cuFuncGetAttribute", arguments, |driver| {
        driver.need_context()?;
        let (function, module) = driver.function(function)?;
        let kernel = &module.module.kernels[function.kernel];
        value.set(match attribute {
            0 => kernel.max_threads as c_int,
            1 => kernel.shared as c_int,
            // Constant and local bytes, and registers, are the business of the machine code.
            2 | 3 => 0,
            4 => 32,
            5 => module.module.target as c_int,
            6 => 90,
            7 => 0,
            MOST_DYNAMIC_SHARED => function.most_dynamic_shared as c_int,
            9 => -1,
            _ => return Err(Code::INVALID_VALUE),
        })
    })
}

/// Sets how much shared memory launches may add, or the preference about it, which is ignored.
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(function: usize, attribute: c_int, value: c_int) -> c_int {
    let arguments = format_args!("function={function:#x}, attribute={attribute}, value={value}");
    call("cuFuncSetAttribute", arguments, |driver| {
        driver.need_context()?;
        let (found, module) = driver.function(function)?;
        let shared = module.module.kernels[found.kernel].shared;
        match attribute {
            MOST_DYNAMIC_SHARED => {
                let bytes = usize::try_from(value).map_err(|_| Code::INVALID_VALUE)?;
                if shared + bytes > SHARED_LIMIT_ASKED {
                    return Err(Code::INVALID_VALUE);
                }
                if let Some(found) = driver.functions.get_mut(&function) {
                    found.most_dynamic_shared = bytes;
                }
                Ok(())
            }
            9 => Ok(()),
            _ => Err(Code::INVALID_VALUE),
        }
    })
}

/// How many blocks of this size a multiprocessor holds, by threads and shared memory.
#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: Out<c_int>,
    function: usize,
    block_size: c_int,
    dynamic_shared: usize,
) -> c_int {
    let arguments = format_args!("function={function:#x}, block_size={block_size}");
    call("cuOccupancyMaxActiveBlocksPerMultiprocessor", arguments, |driver| {
        driver.need_context()?;
        let (function, module) = driver.function(function)?;
        let kernel = &module.module.kernels[function.kernel];
        if block_size <= 0 {
            return Err(Code::INVALID_VALUE);
        }
        if block_size as u32 > kernel.max_threads {
            return blocks.set(0);
        }
        let shared = (kernel.shared + dynamic_shared).max(1);
        let by_shared = (SHARED_LIMIT_ASKED / shared).min(BLOCKS as usize) as c_int;
        let held = (THREADS / block_size).min(by_shared);
        blocks.set(driver.settings.blocks.unwrap_or(held))
    })
}

impl Driver {
    fn launch(
        &mut self,
        function: Handle,
        grid: [u32; 3],
        block: [u32; 3],
        dynamic_shared: usize,
        parameters: *const *const c_void,
    ) -> Result<Work, Code> {
        let (function, module) = self.function(function)?;
        let kernel = &module.module.kernels[function.kernel];
        let threads = block.iter().map(|&axis| u64::from(axis)).product::<u64>();
        let refused = if grid.contains(&0) || block.contains(&0) {
            Some(format!("an empty launch, grid {grid:?}, block {block:?}"))
        } else if grid[0] > i32::MAX as u32 || grid[1] > MOST_BLOCKS || grid[2] > MOST_BLOCKS {
            Some(format!("grid {grid:?}"))
        } else if threads > u64::from(kernel.max_threads) || block[2] > MOST_DEPTH {
            Some(format!("block {block:?}, the kernel allows {} threads", kernel.max_threads))
        } else if dynamic_shared
            > function.most_dynamic_shared.max(SHARED_LIMIT - kernel.shared.min(SHARED_LIMIT))
        {
            Some(format!("{dynamic_shared} bytes of shared memory"))
        } else {
            None
        };
        if let Some(text) = refused {
            self.trouble = text;
            return Err(Code::INVALID_VALUE);
        }
        let mut bytes = vec![0; kernel.parameter_bytes()];
        let places = elements(parameters, kernel.parameters.len())?;
        for (place, parameter) in places.iter().zip(&kernel.parameters) {
            let value = elements(place.cast::<u8>(), parameter.bytes)?;
            bytes[parameter.offset..][..parameter.bytes].copy_from_slice(&value);
        }
        let launch =
            Launch { kernel: function.kernel, grid, block, dynamic_shared, parameters: bytes };
        Ok(Work::Launch { module: module.clone(), launch })
    }
}

/// Asks for a kernel to run. Its parameters are copied; `extra` is not supported.
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
pub extern "C" fn cuLaunchKernel(
    function: usize,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    dynamic_shared: c_uint,
    stream: usize,
    parameters: *const *const c_void,
    extra: *const *const c_void,
) -> c_int {
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    let arguments = format_args!(
        "function={function:#x}, grid={grid:?}, block={block:?}, dynamic_shared={dynamic_shared}, \
         stream={stream:#x}"
    );
    call("cuLaunchKernel", arguments, |driver| {
        driver.need_context()?;
        if !extra.is_null() {
            return Err(Code::NOT_SUPPORTED);
        }
        let shared = dynamic_shared as usize;
        let work = driver.launch(function, grid, block, shared, parameters)?;
        driver.enqueue(stream, work)?;
        Ok(())
    })
}
