//! Saving checkpoints while steps are taken.

use super::save::{adamw_save_args, one_of, written};
use super::{Optimizer, Status, flag, guard, guard_after, handle, put_if_asked, sized};
use crate::callback::HostProgress;
use crate::error::Error;

/// Begins to save what `adamw_save_to` saves, and returns while it is being written. It takes a
/// snapshot, which takes as long as a copy of what is saved; a thread of the handle writes from
/// that. Steps and all other calls go on meanwhile. The file has the bytes that `adamw_save_to`
/// would have given in place of this call, whatever happens after it, and is whole or not there as
/// with `adamw_save`.
///
/// `args` names a `path` or a `write` function. The path is opened here, so that most mistakes are
/// an error of this call. `write` and `progress` are called on the handle's thread, with all
/// signals blocked and in the default floating-point environment, and their `user_data` must live
/// until the save is over: until `adamw_save_wait`, `adamw_destroy` or another call that waits for
/// it has returned. A progress function that does not return 0 ends the save. In these functions,
/// calls that wait for the save are `ADAMW_STATUS_BUSY`.
///
/// One save is written at a time: this call waits for the one that was begun before, and so do
/// `adamw_save`, `adamw_save_to`, the loads and `adamw_destroy`. If that save has failed and
/// neither `adamw_save_wait` nor `adamw_save_poll` has told, its error is returned here, the text
/// says so, and nothing is begun: call again.
///
/// The snapshot takes as much memory as the file, and is kept for the next one until
/// `adamw_destroy`, because memory that was used before takes copies faster.
/// `ADAMW_STATUS_OUT_OF_MEMORY` if there is not enough of it: nothing has changed, and `adamw_save`
/// needs none. State on a device is copied down on the stream, which is waited for.
///
/// A forked child does not have the thread: its parent goes on writing. In the child
/// `adamw_save_wait` and `adamw_save_poll` are `ADAMW_STATUS_NOT_FOUND`, and every other call does
/// what it does if nothing was begun.
///
/// # Safety
/// `args` is NULL, or readable with all that it points to. Its functions may be called on another
/// thread until the save is over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_save_begin(
    optimizer: *mut Optimizer,
    args: *const adamw_save_args,
) -> Status {
    guard_after("the save that was begun before has failed", || {
        // SAFETY: a struct of numbers and nullable pointers.
        let zeros: adamw_save_args = unsafe { core::mem::zeroed() };
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            let args = unsafe { sized::read(args, zeros) }?;
            let params = flag("args.params", args.params)?;
            one_of("args", "path and write", &[!args.path.is_null(), args.write.is_some()])?;
            let others = [
                ("args.data", args.data.is_null()),
                ("args.out_durable", args.out_durable.is_null()),
            ];
            if let Some((name, _)) = others.into_iter().find(|(_, is_null)| !is_null) {
                return Err(Error::NotBegun(name));
            }
            if flag("args.size_only", args.size_only)? {
                return Err(Error::NotBegun("args.size_only"));
            }
            // SAFETY: the caller guarantees it, until the save is over.
            let (target, progress) =
                unsafe { (written(&args)?, HostProgress::new(args.progress, args.progress_data)) };
            optimizer.begin_save(target, params, progress)
        })
    })
}

/// Tells how far the save that was begun last has come, without waiting: writes 1 to `out_running`
/// while it is being written and 0 when it has ended, and the number of bytes of tensors that are
/// done and their total (twice what is saved, where a function takes it) to `out_done` and
/// `out_total`. Any of them may be NULL. If it has failed, its error is returned, as
/// `adamw_save_wait` would. If none was begun, all three are 0.
///
/// # Safety
/// The outputs are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_save_poll(
    optimizer: *mut Optimizer,
    out_running: *mut u32,
    out_done: *mut u64,
    out_total: *mut u64,
) -> Status {
    guard(|| {
        let progress = handle::with(optimizer, Optimizer::save_progress)?;
        // SAFETY: the caller guarantees it.
        unsafe {
            put_if_asked(out_running, progress.is_running.into());
            put_if_asked(out_done, progress.n_done);
            put_if_asked(out_total, progress.n_total);
        }
        Ok(())
    })
}

/// Waits until the save that was begun last has been written, and returns its result. Writes the
/// size of the checkpoint in bytes to `out_num_bytes`, and to `out_durable` what
/// `adamw_save_args.out_durable` receives; both may be NULL. It may be called again, and returns
/// the same until the next save is begun. If none was begun, it returns at once, and writes 0.
///
/// # Safety
/// The outputs are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_save_wait(
    optimizer: *mut Optimizer,
    out_num_bytes: *mut u64,
    out_durable: *mut u32,
) -> Status {
    guard(|| {
        let written = handle::with(optimizer, Optimizer::wait_to_save)?;
        // SAFETY: the caller guarantees it.
        unsafe {
            put_if_asked(out_num_bytes, written.n_bytes);
            put_if_asked(out_durable, written.is_durable.into());
        }
        Ok(())
    })
}
