//! Saving state.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{Optimizer, Status, flag, guard, handle, name};
use crate::callback::{HostProgress, HostWriter};
use crate::error::Error;
use crate::optimizer::Target;
use core::ffi::{c_char, c_void};

pub use crate::callback::{adamw_progress, adamw_write};

/// Where and what `adamw_save_to` saves. Zero it, set `struct_size` and one of `path`, `data` and
/// `write` (or `size_only`); the rest may stay 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_save_args {
    /// `sizeof(adamw_save_args)`.
    pub struct_size: usize,
    /// The file to write, as `adamw_save` does.
    pub path: *const c_char,
    /// Memory to write to, `[capacity]` bytes.
    pub data: *mut c_void,
    /// How many bytes there is room for.
    pub capacity: usize,
    /// Called with the checkpoint's bytes one piece after another. The tensors are read twice: their
    /// checksums come first.
    pub write: adamw_write,
    /// Passed to `write`.
    pub write_data: *mut c_void,
    /// `[NULL]` Called while it goes on.
    pub progress: adamw_progress,
    /// Passed to `progress`.
    pub progress_data: *mut c_void,
    /// `[0]` 1: the parameters themselves are saved too.
    pub params: u32,
    /// `[0]` 1: nothing is saved, and only the number of bytes is written; no `path`, `data` or `write`
    /// then.
    pub size_only: u32,
    /// `[NULL]` After a save to a file: 1 if the file and its name outlive a power cut, 0 if the file
    /// system knows no way to make them (fsync is not known there, or not that of a directory; or the
    /// directory may be written but not read). The file is there either way, and whole. 0 after any
    /// other save; not written if the call fails.
    pub out_durable: *mut u32,
}

sized_struct!(adamw_save_args, "args", 8 of 8, 2 of 4, 1 of 8);

/// Saves the state of all parameters to a file, and all that a run needs to go on with the same bits:
/// step counts and beta powers, hyper-parameters, groups, the learning rate, the schedule, the loss
/// scaler, the seed. (Not the parameters: `adamw_save_to` can; nor functions and pointers of the host's. Where
/// `lr_ptr` has a learning rate that no step would take, the one that the last step took is saved.)
///
/// The file is there whole, or what was there before is: it is written beside its place, made durable,
/// and renamed, and the directory is made durable after it. A symbolic link stays, and what it leads to
/// is replaced. A new file has the mode that the umask leaves of 0666. One that takes the place of another
/// has the other's mode (nine bits of it), owner and group, as far as the process may and the file system
/// has them; where the group cannot be had, its members get no more than everybody.
///
/// `ADAMW_STATUS_IO` if the system fails: what was there is still there (if only the directory's fsync
/// failed, the new file is), and no other file is left. A file system that knows no fsync, or none of
/// directories, is no failure: `adamw_save_to` tells, by `out_durable`. A process that is killed may leave
/// `.adamw-000.tmp` in the directory, which the next save there removes.
///
/// Rows that lag (ADAMW_LAZY_EXACT) are brought up to date first. Accumulated gradients are not state:
/// `ADAMW_STATUS_INVALID_ARGUMENT` while there are some, and while some parameters have been stepped alone
/// (`adamw_step_param`) and others still have a gradient.
///
/// # Safety
/// `path` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_save(optimizer: *mut Optimizer, path: *const c_char) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let path = unsafe { name(path, "path") }?;
            optimizer.save(Target::File(path), false, None).map(drop)
        })
    })
}

/// Saves to a file, to memory or through a function, and writes how many bytes that takes to
/// `out_num_bytes`, which may be NULL. All three give the same bytes. With `args.size_only` nothing is
/// saved, and only the number is written. Anything else that names none of the three, a path that nobody
/// set, say, is `ADAMW_STATUS_INVALID_ARGUMENT`.
///
/// # Safety
/// `args` is NULL, or readable with all that it points to (`data` and `out_durable`: writable); its
/// functions may be called; `out_num_bytes` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_save_to(
    optimizer: *mut Optimizer,
    args: *const adamw_save_args,
    out_num_bytes: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: a struct of numbers and nullable pointers.
        let zeros: adamw_save_args = unsafe { core::mem::zeroed() };
        let (written, out_durable) = handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let args = unsafe { sized::read(args, zeros) }?;
            let params = flag("args.params", args.params)?;
            // SAFETY: the caller's word.
            let (target, progress) = unsafe {
                (
                    target(&args, out_num_bytes)?,
                    HostProgress::new(args.progress, args.progress_data),
                )
            };
            Ok((optimizer.save(target, params, progress)?, args.out_durable))
        })?;
        if !out_durable.is_null() {
            // SAFETY: not NULL, and the caller's word.
            unsafe { out_durable.write_unaligned(written.is_durable.into()) };
        }
        if !out_num_bytes.is_null() {
            // SAFETY: not NULL, and the caller's word.
            unsafe { out_num_bytes.write_unaligned(written.n_bytes) };
        }
        Ok(())
    })
}

/// # Safety
/// As `adamw_save_to`.
unsafe fn target<'a>(args: &adamw_save_args, out_num_bytes: *mut u64) -> Result<Target<'a>, Error> {
    let size_only = flag("args.size_only", args.size_only)?;
    let is = [!args.path.is_null(), !args.data.is_null(), args.write.is_some(), size_only];
    one_of("args", "path, data, write and size_only", &is)?;
    if size_only {
        return match out_num_bytes.is_null() {
            true => Err(Error::Null("out_num_bytes, where size_only asks for it,")),
            false => Ok(Target::Size),
        };
    }
    if !args.data.is_null() {
        let n = args.capacity.min(isize::MAX as usize);
        // SAFETY: the caller's word. Bytes that nobody wrote yet are only written.
        let data = unsafe { core::slice::from_raw_parts_mut(args.data.cast::<u8>(), n) };
        return Ok(Target::Memory(data));
    }
    // SAFETY: the caller's word.
    if let Some(writer) = unsafe { HostWriter::new(args.write, args.write_data) } {
        return Ok(Target::Host(writer));
    }
    // SAFETY: the caller's word.
    Ok(Target::File(unsafe { name(args.path, "args.path") }?))
}

pub(super) fn one_of(name: &'static str, of: &'static str, given: &[bool]) -> Result<(), Error> {
    match given.iter().filter(|&&given| given).count() {
        1 => Ok(()),
        count => Err(Error::OneOf { name, count, of }),
    }
}
