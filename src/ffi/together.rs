//! Steps that threads of the host take together.

use super::{Optimizer, Status, guard, handle};

/// Begins a step that threads of the host take together, inside a parallel region of theirs, in
/// place of one `adamw_step` that would start threads of its own:
///
/// ```text
/// one thread:   adamw_step_begin(optimizer)
/// all threads:  adamw_step_work(optimizer)
/// one thread:   adamw_step_end(optimizer)
/// ```
///
/// The step has the bits of `adamw_step`, and uses none of the threads that `adamw_config` names.
/// This call looks at no gradient and at no number that the host keeps: they may be written until
/// the first `adamw_step_work` or `adamw_step_end`. From this call to `adamw_step_end`, every other
/// call on the handle is `ADAMW_STATUS_BUSY`.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_step_begin(optimizer: *mut Optimizer) -> Status {
    guard(|| handle::begin_step(optimizer))
}

/// Works on the step that has begun, and returns when it is over. Any number of threads call it, at
/// the same time or one after the other, each as often as it likes. The first one to come leads: it
/// does what one thread has to do, calls the host's callbacks, and hands out the rest to those that
/// are there. It waits for no thread that has not come; the others wait, asleep, for the leader.
///
/// If no step has begun, or the last one is over, it does nothing: a thread that comes late does no
/// harm. How the step ended is what `adamw_step_end` returns. The status here is
/// `ADAMW_STATUS_BAD_HANDLE`, or `ADAMW_STATUS_BUSY` in a callback of the step itself.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_step_work(optimizer: *mut Optimizer) -> Status {
    guard(|| handle::work_on_step(optimizer))
}

/// Ends the step that has begun, and returns what `adamw_step` would have returned. If the step is
/// not over yet, the thread first works on it as in `adamw_step_work`; alone, if no other has come.
/// So a step that has begun is always taken whole, or fails and changes nothing.
///
/// `ADAMW_STATUS_NOT_FOUND` if no step has begun.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_step_end(optimizer: *mut Optimizer) -> Status {
    guard(|| handle::end_step(optimizer))
}
