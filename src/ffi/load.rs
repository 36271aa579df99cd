//! Loading checkpoints.
#![allow(non_camel_case_types)]

use super::save::{adamw_progress, one_of};
use super::sized::{self, sized_struct};
use super::{Optimizer, Status, entry, flag, guard, handle, name, not_null, reserved};
use crate::callback::{HostProgress, HostReader, Rename};
use crate::checkpoint::{Source, open_all};
use crate::error::Error;
use crate::optimizer::{LoadOptions, LoadScope};
use crate::sys::files::Reading;
use core::ffi::{c_char, c_void};
use core::ptr::null;

pub use crate::callback::{adamw_read, adamw_rename};

/// The location of a checkpoint. Zero it, then set `struct_size` and one of `path`, `data` and
/// `read`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_source {
    /// `sizeof(adamw_source)`.
    pub struct_size: usize,
    /// The file to read.
    pub path: *const c_char,
    /// The memory to read, `[num_bytes]` bytes.
    pub data: *const c_void,
    /// The number of bytes of a checkpoint that is in memory or that `read` gives.
    pub num_bytes: u64,
    /// Called for bytes at any offset.
    pub read: adamw_read,
    /// Passed to `read`.
    pub read_data: *mut c_void,
}

sized_struct!(adamw_source, "source", 6 of 8);

/// Which parameters the handle and the checkpoint must have in common.
pub type adamw_load_scope = u32;
/// The handle and the checkpoint must have the same parameters.
pub const ADAMW_LOAD_ALL: adamw_load_scope = 0;
/// The checkpoint must have all parameters of the handle. Its other parameters are ignored.
pub const ADAMW_LOAD_SUBSET: adamw_load_scope = 1;
/// No parameter is required: the state of those that both have is loaded, and nothing else. The
/// settings of the handle may differ, and its learning rate, schedule and loss scale stay.
pub const ADAMW_LOAD_SHARED: adamw_load_scope = 2;

/// The options of a load. Zero it and set `struct_size`; the other fields may stay 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_load_options {
    /// `sizeof(adamw_load_options)`.
    pub struct_size: usize,
    /// `[NULL]` Gives the name of each parameter in the checkpoint.
    pub rename: adamw_rename,
    /// Passed to `rename`.
    pub rename_data: *mut c_void,
    /// `[NULL]` Called while the load proceeds. Its return value is ignored once the state is being
    /// written.
    pub progress: adamw_progress,
    /// Passed to `progress`.
    pub progress_data: *mut c_void,
    /// `[ADAMW_LOAD_ALL]` Which parameters the handle and the checkpoint must have in common.
    pub scope: adamw_load_scope,
    /// `[0]` 1: the parameters themselves are loaded too, into the host's memory.
    pub params: u32,
    /// `[0]` 1: where the checkpoint has f32, f64, f16 or bf16 and the handle has another of these
    /// types, elements are converted, exactly if the new type can represent them and otherwise by
    /// rounding to nearest (from f64 to 16 bits by way of f32). Where it has moments of these types
    /// and the handle codes, codes are made, the nearest, out of whole blocks. Where it has an f32
    /// master and no remainder, and the handle a master that is split, the master is split, and
    /// writes the parameter too, whatever `params` is. 0: such a difference is an error.
    pub convert: u32,
    /// `[0]` 1: the schedule and the learning rate of the handle stay, and may differ from the
    /// saved ones. The schedule continues at the saved index as if the run had used it from the
    /// start (for example with a longer `total_steps`). A REDUCE_ON_PLATEAU schedule keeps its
    /// state, and so does any schedule if the checkpoint has none. 0: the learning rate of the
    /// checkpoint is used, and the schedule must be the saved one.
    pub keep_schedule: u32,
    /// `[0]` 1: the handle may have `amsgrad` or `multi_precision` although the saved one had not,
    /// and so may a group have `amsgrad`. `max_exp_avg_sq` then starts as `exp_avg_sq`, so that it
    /// is the maximum since the last saved step: earlier values are not known. The master is the
    /// exactly widened parameter, as it is at the next step or save. 0: such a difference is an
    /// error. An option that was on cannot be turned off.
    pub extend: u32,
    /// 0.
    pub reserved: u32,
}

sized_struct!(adamw_load_options, "options", 5 of 8, 6 of 4);

/// Loads a file that `adamw_save` has written into a handle with the same parameters and settings.
/// The run continues with the same bits, whatever instruction set and threads the handle uses.
/// `options` may be NULL.
///
/// The host loads the parameters themselves, unless they were saved and `options` requests them.
/// Deferred rows (ADAMW_LAZY_EXACT) are brought up to date first, which writes parameters. So load
/// the parameters after this call, or call `adamw_sparse_flush` before you load them. For a
/// parameter that is loaded, accumulated gradients and measurements (`adamw_grad_ready`) are
/// discarded; gradients that are set stay.
///
/// The groups, parameters, schedule and loss scaler of the saved handle must exist in this one
/// before the load, which adds none. It loads values: the state and step count of each parameter,
/// the state of the schedule and of the loss scaler, and the learning rate. The saved learning rate
/// replaces that of `adamw_config.lr`, of `adamw_set_lr` and of the start of the schedule, but not
/// that of `lr_ptr`, which belongs to the host. With ADAMW_LOAD_SHARED or `keep_schedule`, the
/// learning rate of the handle stays. Do not call `adamw_sync_master` after a load, because masters
/// and remainders are loaded.
///
/// Everything is checked before anything changes: `ADAMW_STATUS_CORRUPT` if the file is damaged or
/// not a checkpoint of this library; `ADAMW_STATUS_MISMATCH` if it does not match this handle, with
/// a list of the differences, both values, and what can be done; `ADAMW_STATUS_UNSUPPORTED` if its
/// format is newer. Only if the file fails or changes between the check and the copy does the
/// handle become `ADAMW_STATUS_POISONED`: it can then be loaded again or destroyed.
///
/// # Safety
/// `path` is NULL or NUL-terminated. `options` is NULL or readable, and its functions may be
/// called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_load(
    optimizer: *mut Optimizer,
    path: *const c_char,
    options: *const adamw_load_options,
) -> Status {
    let source = adamw_source {
        struct_size: size_of::<adamw_source>(),
        path,
        data: null(),
        num_bytes: 0,
        read: None,
        read_data: core::ptr::null_mut(),
    };
    guard(|| {
        handle::load(optimizer, |optimizer| {
            if path.is_null() {
                return Err(Error::Null("path"));
            }
            // SAFETY: the caller guarantees it, and the source lives through the call.
            unsafe { load(optimizer, &(&raw const source), 1, options) }
        })
    })
}

/// Loads one checkpoint from several sources, `[num_sources]`, such as the files of all ranks. Each
/// parameter of the handle takes its elements from the sources that have them, so that a checkpoint
/// saved on any number of ranks can be loaded on any other number. (A parameter that is a shard
/// says so by `first_element` and `whole_elements`. Moments in codes can be divided only at the end
/// of a block of 256 elements, or of 128 for 4 bits.)
///
/// The library opens at most half as many files at once as the process may have open
/// (RLIMIT_NOFILE), and fewer if the host has more open. It closes and reopens the others, which
/// must then still be the same files.
///
/// # Safety
/// The pointers in `sources` are NULL, or readable with all that they point to. `options` is as for
/// `adamw_load`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_load_from(
    optimizer: *mut Optimizer,
    sources: *const *const adamw_source,
    num_sources: usize,
    options: *const adamw_load_options,
) -> Status {
    guard(|| {
        // SAFETY: the caller guarantees it.
        handle::load(optimizer, |optimizer| unsafe {
            load(optimizer, sources, num_sources, options)
        })
    })
}

/// Loads from sources that C code gave.
///
/// # Safety
/// The requirements of `adamw_load_from` hold.
unsafe fn load(
    optimizer: &mut Optimizer,
    sources: *const *const adamw_source,
    num_sources: usize,
    options: *const adamw_load_options,
) -> Result<(), Error> {
    // SAFETY: a struct of numbers and nullable pointers.
    let zeros: adamw_load_options = unsafe { core::mem::zeroed() };
    let options = match options.is_null() {
        true => zeros,
        // SAFETY: the caller guarantees it.
        false => unsafe { sized::read(options, zeros) }?,
    };
    reserved("options.reserved", options.reserved)?;
    let options = LoadOptions {
        scope: LoadScope::of("options.scope", options.scope)?,
        params: flag("options.params", options.params)?,
        convert: flag("options.convert", options.convert)?,
        keep_schedule: flag("options.keep_schedule", options.keep_schedule)?,
        extend: flag("options.extend", options.extend)?,
        // SAFETY: the caller guarantees it.
        rename: unsafe { Rename::new(options.rename, options.rename_data) },
        // SAFETY: the caller guarantees it.
        progress: unsafe { HostProgress::new(options.progress, options.progress_data) },
    };
    not_null("sources", sources, num_sources)?;
    // SAFETY: there are `num_sources` entries; the caller guarantees the rest.
    let opened = open_all(num_sources, |i| unsafe { source(entry(sources, i)) })?;
    optimizer.load(opened, &options)
}

/// Opens the source that a struct names.
///
/// # Safety
/// `from` is NULL, or readable for as long as the source lives, with all that it points to.
pub(super) unsafe fn source<'a>(from: *const adamw_source) -> Result<Source<'a>, Error> {
    // SAFETY: a struct of numbers and nullable pointers.
    let zeros: adamw_source = unsafe { core::mem::zeroed() };
    // SAFETY: the caller guarantees it.
    let from = unsafe { sized::read(from, zeros) }?;
    let is_memory = !from.data.is_null() || from.path.is_null() && from.read.is_none();
    let is = [!from.path.is_null(), is_memory, from.read.is_some()];
    one_of("source", "path, data and read", &is)?;
    if is_memory {
        let n = isize::try_from(from.num_bytes).map(isize::unsigned_abs);
        let n = n.map_err(|_| Error::Number {
            name: "source.num_bytes",
            value: from.num_bytes as f64,
            expected: "at most 2^63 - 1",
        })?;
        not_null("source.data", from.data, n)?;
        let data = if n == 0 { core::ptr::dangling() } else { from.data.cast::<u8>() };
        // SAFETY: the caller guarantees it; a slice of no bytes may have any address.
        return Ok(Source::Memory(unsafe { core::slice::from_raw_parts(data, n) }));
    }
    // SAFETY: the caller guarantees it.
    if let Some(reader) = unsafe { HostReader::new(from.read, from.read_data, from.num_bytes) } {
        return Ok(Source::Host(reader));
    }
    // SAFETY: the caller guarantees it.
    Ok(Source::File(Reading::open(unsafe { name(from.path, "source.path") }?)?))
}
