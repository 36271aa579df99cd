//! Loading state.
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

/// Where a checkpoint is. Zero it, set `struct_size` and one of `path`, `data` and `read`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_source {
    /// `sizeof(adamw_source)`.
    pub struct_size: usize,
    /// The file to read.
    pub path: *const c_char,
    /// Memory to read, `[num_bytes]` bytes.
    pub data: *const c_void,
    /// Bytes of the checkpoint in memory, or that `read` can give.
    pub num_bytes: u64,
    /// Called for bytes at any place.
    pub read: adamw_read,
    /// Passed to `read`.
    pub read_data: *mut c_void,
}

sized_struct!(adamw_source, "source", 6 of 8);

/// Which parameters a handle and what it loads have to have.
pub type adamw_load_scope = u32;
/// The same.
pub const ADAMW_LOAD_ALL: adamw_load_scope = 0;
/// Those of the handle; the checkpoints may have more, which are passed over.
pub const ADAMW_LOAD_SUBSET: adamw_load_scope = 1;
/// Whatever both have: the state of these is loaded, and nothing else. The handle's settings may be
/// others, and its learning rate, schedule and loss scale stay.
pub const ADAMW_LOAD_SHARED: adamw_load_scope = 2;

/// How to load. Zero it and set `struct_size`; the rest may stay 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_load_options {
    /// `sizeof(adamw_load_options)`.
    pub struct_size: usize,
    /// `[NULL]` Says what the parameters of the handle are called in the checkpoint.
    pub rename: adamw_rename,
    /// Passed to `rename`.
    pub rename_data: *mut c_void,
    /// `[NULL]` Called while it goes on. What it returns means nothing once the state is being
    /// written.
    pub progress: adamw_progress,
    /// Passed to `progress`.
    pub progress_data: *mut c_void,
    /// `[ADAMW_LOAD_ALL]`
    pub scope: adamw_load_scope,
    /// `[0]` 1: the parameters themselves are loaded too, into the host's memory.
    pub params: u32,
    /// `[0]` 1: where the checkpoint has f32, f64, f16 or bf16 and the handle another of these, elements
    /// are converted: exactly where there is room, otherwise to nearest (f64 to 16 bits by way of
    /// f32). 0: that is an error.
    pub convert: u32,
    /// `[0]` 1: the handle's schedule and learning rate stay, and may be others than were saved. The schedule
    /// goes on at the index that was saved, as if it had been the run's from its start (a longer
    /// `total_steps`, say); a REDUCE_ON_PLATEAU, or one whose checkpoint has no schedule, stays where it
    /// is. 0: the checkpoint's learning rate is taken, and the schedule has to be the one that was saved.
    pub keep_schedule: u32,
    /// `[0]` 1: the handle may have been made with `amsgrad` or `multi_precision` where the saved one was
    /// not. `max_exp_avg_sq` starts as `exp_avg_sq`: the maximum since the last step that was saved, for
    /// nobody knows those before. The master is the parameter widened, exactly, as it is at the next
    /// step or save. 0: that is an error. What was on cannot be turned off.
    pub extend: u32,
    /// 0.
    pub reserved: u32,
}

sized_struct!(adamw_load_options, "options", 5 of 8, 6 of 4);

/// Loads what `adamw_save` saved into a handle that has the same parameters and settings: it goes on
/// with the same bits, whatever its instruction set and threads. `options` may be NULL. The host loads
/// the parameters themselves, unless they were saved and `options` says so: rows that lag
/// (ADAMW_LAZY_EXACT) are brought up to date first, so that it does so after the load, or calls
/// `adamw_sparse_flush` before. What was accumulated or measured (`adamw_grad_ready`) of a parameter that is
/// loaded is forgotten; gradients that are set stay.
///
/// Groups, parameters, the schedule and the loss scaler are there before, as they were in the handle that
/// was saved: a load adds none. What it takes are values: state and steps of each parameter, how far
/// the schedule and the scaler have come, and the learning rate. The saved learning rate wins over
/// `adamw_config.lr`, over `adamw_set_lr` and over the schedule's first, but not over `lr_ptr`, which is the
/// host's; with ADAMW_LOAD_SHARED or `keep_schedule` the handle's stays. Do not call `adamw_sync_master`
/// after it: masters and remainders are loaded.
///
/// All is checked before anything is changed: `ADAMW_STATUS_CORRUPT` if the file is damaged or none of
/// this library's, `ADAMW_STATUS_MISMATCH` if it is another handle's, with a list of what
/// differs, both values, and what can be done, `ADAMW_STATUS_UNSUPPORTED` if its format is newer. Only if the file fails or changes between
/// the check and the copy is the handle `ADAMW_STATUS_POISONED` from then on: it can be loaded again or
/// destroyed.
///
/// # Safety
/// `path` is NULL or NUL-terminated; `options` is NULL or readable, and its functions may be called.
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
            // SAFETY: the caller's word, and the source lives through the call.
            unsafe { load(optimizer, &(&raw const source), 1, options) }
        })
    })
}

/// Loads one checkpoint from several sources, `[num_sources]`: the files of all ranks, say. Each
/// parameter of the handle takes its elements from wherever they are, so that what was saved on some
/// number of ranks can be loaded on any other. (A parameter that is a part of a larger one says so by
/// `first_element` and `whole_elements`. Moments in codes can be cut only where a block of 256, or of
/// 128, ends.)
///
/// Half as many files are open at once as the process may have open (RLIMIT_NOFILE), and fewer where the
/// host has more; the others are closed and opened again, and have to be the same files then.
///
/// # Safety
/// The pointers of `sources` are NULL or readable with all that they point to; `options` as for
/// `adamw_load`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_load_from(
    optimizer: *mut Optimizer,
    sources: *const *const adamw_source,
    num_sources: usize,
    options: *const adamw_load_options,
) -> Status {
    guard(|| {
        // SAFETY: the caller's word.
        handle::load(optimizer, |optimizer| unsafe {
            load(optimizer, sources, num_sources, options)
        })
    })
}

/// # Safety
/// As `adamw_load_from`.
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
        // SAFETY: the caller's word.
        false => unsafe { sized::read(options, zeros) }?,
    };
    reserved("options.reserved", options.reserved)?;
    let options = LoadOptions {
        scope: LoadScope::of("options.scope", options.scope)?,
        params: flag("options.params", options.params)?,
        convert: flag("options.convert", options.convert)?,
        keep_schedule: flag("options.keep_schedule", options.keep_schedule)?,
        extend: flag("options.extend", options.extend)?,
        // SAFETY: the caller's word.
        rename: unsafe { Rename::new(options.rename, options.rename_data) },
        // SAFETY: the caller's word.
        progress: unsafe { HostProgress::new(options.progress, options.progress_data) },
    };
    not_null("sources", sources, num_sources)?;
    // SAFETY: there are `num_sources`, and the caller's word.
    let opened = open_all(num_sources, |i| unsafe { source(entry(sources, i)) })?;
    optimizer.load(opened, &options)
}

/// # Safety
/// `from` is NULL, or readable for as long as the source lives, with all that it points to.
pub(super) unsafe fn source<'a>(from: *const adamw_source) -> Result<Source<'a>, Error> {
    // SAFETY: a struct of numbers and nullable pointers.
    let zeros: adamw_source = unsafe { core::mem::zeroed() };
    // SAFETY: the caller's word.
    let from = unsafe { sized::read(from, zeros) }?;
    let is_memory = !from.data.is_null() || from.path.is_null() && from.read.is_none();
    let is = [!from.path.is_null(), is_memory, from.read.is_some()];
    one_of("source", "path, data and read", &is)?;
    if is_memory {
        let n = usize::try_from(from.num_bytes).ok().filter(|&n| n <= isize::MAX as usize);
        let n = n.ok_or(Error::Null("source.data for so many bytes"))?;
        not_null("source.data", from.data, n)?;
        let data = if n == 0 { core::ptr::dangling() } else { from.data.cast::<u8>() };
        // SAFETY: the caller's word; no bytes may be anywhere.
        return Ok(Source::Memory(unsafe { core::slice::from_raw_parts(data, n) }));
    }
    // SAFETY: the caller's word.
    if let Some(reader) = unsafe { HostReader::new(from.read, from.read_data, from.num_bytes) } {
        return Ok(Source::Host(reader));
    }
    // SAFETY: the caller's word.
    Ok(Source::File(Reading::open(unsafe { name(from.path, "source.path") }?)?))
}
