//! The kernels, loaded once for each device of a process.
//!
//! `LOADED` lists the modules that are loaded, with the number of handles that use each. `Kernels`
//! is one handle's use: the first on a device loads the module (`images.rs`), and the last one
//! unloads it, so that a host that has destroyed its handles has the device to itself again. A
//! forked child has none of them, because a context does not survive a fork.

use super::find::{call, checked};
use super::{Relaxed, THREADS, Within, images, relaxed, within};
use crate::cuda::kernels::NAMES;
use crate::error::Error;
use crate::sys::memory::reserve;
use crate::sys::process_id;
use core::ffi::{c_int, c_uint};
use core::ptr::null_mut;
use cudarc::driver::sys;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A kernel of a module, and the number of its blocks that the device runs at once.
#[derive(Clone, Copy)]
pub struct Function {
    pub function: sys::CUfunction,
    pub most_blocks: c_uint,
}

/// A module of a context, and the number of handles that use it.
struct Loaded {
    context: sys::CUcontext,
    module: sys::CUmodule,
    functions: [Function; NAMES.len()],
    n_users: usize,
}

// SAFETY: the driver's handles may be used by any thread.
unsafe impl Send for Loaded {}

/// The modules that are loaded. One is loaded while this is locked, because another thread would
/// compile the same.
static LOADED: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

fn lock() -> MutexGuard<'static, Vec<Loaded>> {
    // Nothing panics while this is locked, and each change is one assignment.
    LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernels, as one handle uses them.
pub struct Kernels {
    pub functions: [Function; NAMES.len()],
    context: sys::CUcontext,
    /// The process that has loaded them, which a forked child has not.
    process: i32,
}

impl Kernels {
    /// Returns the kernels in a context, which the caller retains as long as they are used.
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
            // A forked child has no kernels, and a thread that is not there may hold the lock.
            return;
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
        let module = images::load()?;
        // From here on `drop` unloads it.
        let none = Function { function: null_mut(), most_blocks: 0 };
        let mut loaded = Loaded { context, module, functions: [none; NAMES.len()], n_users: 1 };
        const MULTIPROCESSORS: sys::CUdevice_attribute =
            sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let mut multiprocessors = 0;
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
        // Nobody is left to be told of a failure, and the driver frees what is left.
        if let Ok(_within) = within(self.context) {
            let _relaxed = relaxed();
            // SAFETY: `new` loaded the module, and each handle has waited for its kernels.
            let _ = unsafe { sys::cuModuleUnload(self.module) };
        }
    }
}
