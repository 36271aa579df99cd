//! The kernels, compiled and loaded once for each device of a process: all handles there share them, and the last
//! one unloads them. They do not stay beyond it, so that a host that has destroyed its handles has the device to
//! itself again.

use super::find::{call, checked};
use super::{Relaxed, THREADS, Within, relaxed, within};
use crate::cuda::kernels::{NAMES, PTX};
use crate::error::{Error, Label};
use crate::sys::memory::reserve;
use crate::sys::process_id;
use core::ffi::{c_int, c_uint, c_void};
use core::ptr::null_mut;
use cudarc::driver::sys;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A kernel of a module, and how many blocks of it the device runs at once.
#[derive(Clone, Copy)]
pub struct Function {
    pub function: sys::CUfunction,
    pub most_blocks: c_uint,
}

/// A module of a context, and how many handles use it.
struct Loaded {
    context: sys::CUcontext,
    module: sys::CUmodule,
    functions: [Function; NAMES.len()],
    n_users: usize,
}

// SAFETY: the driver's handles may be used by any thread.
unsafe impl Send for Loaded {}

/// A module is loaded while this is locked: whoever comes meanwhile would compile the same.
static LOADED: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

fn lock() -> MutexGuard<'static, Vec<Loaded>> {
    // Nothing in here panics, and a count is changed at once.
    LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernels, as one handle uses them.
pub struct Kernels {
    pub functions: [Function; NAMES.len()],
    context: sys::CUcontext,
    /// The process that has loaded them: a forked child has not.
    process: i32,
}

impl Kernels {
    /// The kernels in a context that stays retained as long as they are used.
    pub fn new(device: sys::CUdevice, context: sys::CUcontext) -> Result<Kernels, Error> {
        let mut all = lock();
        let functions = match all.iter_mut().find(|loaded| loaded.context == context) {
            Some(loaded) => {
                loaded.n_users += 1;
                loaded.functions
            }
            None => {
                reserve(&mut *all, 1, "the device's kernels")?;
                let loaded = Loaded::new(device, context)?;
                let functions = loaded.functions;
                all.push(loaded);
                functions
            }
        };
        Ok(Kernels { functions, context, process: process_id() })
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        if self.process != process_id() {
            return; // nobody's in a forked child, where the lock may be held by a thread that is not there
        }
        let mut all = lock();
        let Some(place) = all.iter().position(|loaded| loaded.context == self.context) else {
            return;
        };
        all[place].n_users -= 1;
        if all[place].n_users == 0 {
            all.swap_remove(place);
            if all.is_empty() {
                *all = Vec::new();
            }
        }
    }
}

impl Loaded {
    fn new(device: sys::CUdevice, context: sys::CUcontext) -> Result<Loaded, Error> {
        let _current: (Within, Relaxed) = (within(context)?, relaxed()?);
        let mut log = [0u8; 256];
        let mut options = [
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
        ];
        let mut values: [*mut c_void; 2] =
            [log.as_mut_ptr().cast(), core::ptr::without_provenance_mut(log.len())];
        let (mut module, mut multiprocessors) = (null_mut(), 0);
        const MULTIPROCESSORS: sys::CUdevice_attribute =
            sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        // SAFETY: the image ends with a NUL; the log has the length that is said; the rest is written
        // to places of ours.
        unsafe {
            let ptx = PTX.as_ptr().cast();
            let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
            let loaded = call!(cuModuleLoadDataEx(&mut module, ptx, 2, options, values));
            loaded.map_err(|error| refused(error, &log))?;
        }
        // From here on `drop` unloads it.
        let none = Function { function: null_mut(), most_blocks: 0 };
        let mut loaded = Loaded { context, module, functions: [none; NAMES.len()], n_users: 1 };
        // SAFETY: written to a place of ours.
        unsafe { call!(cuDeviceGetAttribute(&mut multiprocessors, MULTIPROCESSORS, device)) }?;
        for (name, loaded_function) in NAMES.iter().zip(&mut loaded.functions) {
            let (mut function, mut blocks) = (null_mut(), 0);
            // SAFETY: the name is NUL-terminated, the rest is written to places of ours.
            unsafe {
                call!(cuModuleGetFunction(&mut function, module, name.as_ptr()))?;
                call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(
                    &mut blocks,
                    function,
                    THREADS as c_int,
                    0
                ))?;
            }
            let most_blocks = blocks.max(1).saturating_mul(multiprocessors.max(1)) as c_uint;
            *loaded_function = Function { function, most_blocks };
        }
        Ok(loaded)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // Nobody is left to be told of a failure, and what fails here is the driver's own to free.
        if let Ok(_within) = within(self.context) {
            let _relaxed = relaxed();
            // SAFETY: loaded in `new`; whoever launched its kernels has waited for them.
            let _ = unsafe { sys::cuModuleUnload(self.module) };
        }
    }
}

/// What the driver's compiler said first, if it was that which failed.
fn refused(error: Error, log: &[u8]) -> Error {
    let end = log.iter().position(|&byte| byte == 0 || byte == b'\n').unwrap_or(log.len());
    match error {
        Error::Cuda { code, .. } if end > 0 => Error::Jit { code, log: Label::new(&log[..end]) },
        other => other,
    }
}
