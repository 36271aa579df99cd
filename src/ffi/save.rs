//! Saving checkpoints.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{Optimizer, Status, flag, guard, handle, name, put_if_asked};
use crate::callback::{HostProgress, HostWriter};
use crate::error::Error;
use crate::optimizer::Target;
use core::ffi::{c_char, c_void};

pub use crate::callback::{adamw_progress, adamw_write};

/// The arguments of `adamw_save_to`. Zero it, then set `struct_size` and one of `path`, `data`,
/// `write` and `size_only`; the other fields may stay 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_save_args {
    /// `sizeof(adamw_save_args)`.
    pub struct_size: usize,
    /// The file to write, as `adamw_save` does.
    pub path: *const c_char,
    /// The memory to write to, `[capacity]` bytes.
    pub data: *mut c_void,
    /// The number of bytes that `data` has room for.
    pub capacity: usize,
    /// Called with the bytes of the checkpoint, one piece after another. The tensors are read
    /// twice, because their checksums come first.
    pub write: adamw_write,
    /// Passed to `write`.
    pub write_data: *mut c_void,
    /// `[NULL]` Called while the save proceeds.
    pub progress: adamw_progress,
    /// Passed to `progress`.
    pub progress_data: *mut c_void,
    /// `[0]` 1: the parameters themselves are saved too.
    pub params: u32,
    /// `[0]` 1: nothing is saved, and only the number of bytes is computed. `path`, `data` and
    /// `write` must be NULL.
    pub size_only: u32,
    /// `[NULL]` Receives 1 after a save to a file if the file and its name survive a power failure,
    /// and 0 if the file system has no way to ensure that: it does not support fsync, or fsync of a
    /// directory, or the directory can be written but not read. The file is there and complete in
    /// either case. Receives 0 after any other save. Not written if the call fails.
    pub out_durable: *mut u32,
}

sized_struct!(adamw_save_args, "args", 8 of 8, 2 of 4, 1 of 8);

/// Saves the state of all parameters to a file, with all that a run needs to continue with the same
/// bits: step counts and beta powers, hyper-parameters, groups, the learning rate, the schedule,
/// the loss scaler, the seed. The parameters themselves are not saved (`adamw_save_to` can save
/// them), nor are the host's functions and pointers. If `lr_ptr` holds a learning rate that no step
/// would take, the last one that a call has read for a step is saved.
///
/// At any time the path names the complete new file, or what it named before: the library writes a
/// new file in the same directory, makes it durable, renames it, and then makes the directory
/// durable. A symbolic link stays, and its target is replaced. A file that did not exist gets mode
/// 0666 less the umask. A file that replaces another gets the other's mode (nine bits of it), owner
/// and group, as far as the process may set them and the file system has them. If the group cannot
/// be set, its members get no more permissions than everybody.
///
/// `ADAMW_STATUS_IO` if the system fails: the old file is still there (if only the fsync of the
/// directory has failed, the new one is), and no other file is left. A file system that does not
/// support fsync, or fsync of a directory, is not a failure; `out_durable` of `adamw_save_to`
/// reports it. A process that is killed may leave `.adamw-000.tmp` in the directory, which the next
/// save there removes.
///
/// Deferred rows (ADAMW_LAZY_EXACT) are brought up to date first. Accumulated gradients are not
/// part of the state: `ADAMW_STATUS_INVALID_ARGUMENT` while there are any, and while some
/// parameters have been stepped alone (`adamw_step_param`) and others still have a gradient.
///
/// # Safety
/// `path` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_save(optimizer: *mut Optimizer, path: *const c_char) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            let path = unsafe { name(path, "path") }?;
            optimizer.save(Target::File(path), false, None).map(drop)
        })
    })
}

/// Saves what `adamw_save` saves to a file, to memory or through a function, and writes the size in
/// bytes to `out_num_bytes`, which may be NULL. All three give the same bytes. With
/// `args.size_only`, nothing is saved, and only the size is written.
/// `ADAMW_STATUS_INVALID_ARGUMENT` if `args` names none of the targets, for example because a path
/// was not set, or more than one.
///
/// # Safety
/// `args` is NULL, or readable with all that it points to (`data` and `out_durable`: writable). Its
/// functions may be called. `out_num_bytes` is NULL or writable.
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
            // SAFETY: the caller guarantees it.
            let args = unsafe { sized::read(args, zeros) }?;
            let params = flag("args.params", args.params)?;
            // SAFETY: the caller guarantees it.
            let (target, progress) = unsafe {
                (
                    target(&args, out_num_bytes)?,
                    HostProgress::new(args.progress, args.progress_data),
                )
            };
            Ok((optimizer.save(target, params, progress)?, args.out_durable))
        })?;
        // SAFETY: the caller guarantees it.
        unsafe {
            put_if_asked(out_durable, written.is_durable.into());
            put_if_asked(out_num_bytes, written.n_bytes);
        }
        Ok(())
    })
}

/// Returns the one target that the arguments name.
///
/// # Safety
/// The requirements of `adamw_save_to` hold.
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
        // SAFETY: the caller guarantees it; bytes that are not initialized are only written.
        let data = unsafe { core::slice::from_raw_parts_mut(args.data.cast::<u8>(), n) };
        return Ok(Target::Memory(data));
    }
    // SAFETY: the caller guarantees it.
    unsafe { written(args) }
}

/// Returns the target that is a file or a function of the host's.
///
/// # Safety
/// `args.path` is NULL or NUL-terminated, and `args.write` may be called.
pub(super) unsafe fn written<'a>(args: &adamw_save_args) -> Result<Target<'a>, Error> {
    // SAFETY: the caller guarantees it.
    if let Some(writer) = unsafe { HostWriter::new(args.write, args.write_data) } {
        return Ok(Target::Host(writer));
    }
    // SAFETY: the caller guarantees it.
    Ok(Target::File(unsafe { name(args.path, "args.path") }?))
}

pub(super) fn one_of(name: &'static str, of: &'static str, given: &[bool]) -> Result<(), Error> {
    match given.iter().filter(|&&given| given).count() {
        1 => Ok(()),
        count => Err(Error::OneOf { name, count, of }),
    }
}
