//! Handles of optimizers, and how a call enters one.

use super::slots::{BEGUN, Entered, IDLE, POISONED, Slot, Slots};
use crate::error::{Error, RanksProblem};
use crate::optimizer::Optimizer;
use crate::sys::meeting::Meeting;
use crate::sys::memory::leaked;
use crate::sys::together::Together;
use core::sync::atomic::Ordering;

/// A slot keeps the place where threads of the host take steps together.
static OPTIMIZERS: Slots<Optimizer, Together> = Slots::new(0x9e37_79b9, |number| match number {
    0 => Error::NullHandle,
    _ => Error::BadHandle(number),
});

/// Moves an optimizer into the table and returns its handle.
pub fn insert(optimizer: Optimizer) -> Result<*mut Optimizer, Error> {
    OPTIMIZERS.insert(optimizer)
}

/// Calls `work` with the optimizer, if no other call is using it.
pub fn with<R>(
    handle: *const Optimizer,
    work: impl FnOnce(&mut Optimizer) -> Result<R, Error>,
) -> Result<R, Error> {
    // A panic in `work` leaves the handle poisoned.
    let mut entered = OPTIMIZERS.enter(handle, IDLE)?;
    let result = work(entered.tenant());
    leave(entered, result)
}

/// Leaves the handle poisoned if a step was half taken, which cannot be undone; otherwise idle.
fn leave<R>(
    mut entered: Entered<Optimizer, Together>,
    result: Result<R, Error>,
) -> Result<R, Error> {
    use Error::{HalfStep, Panic, Ranks};
    if !matches!(result, Err(HalfStep { .. } | Panic(_) | Ranks(RanksProblem::HalfStep(_)))) {
        entered.then = IDLE;
    }
    result
}

/// Calls `work`, a load, with the optimizer, if no other call is using it. A load that fails in the
/// middle of its writes leaves the handle poisoned, and only a load may enter it then.
pub fn load(
    handle: *const Optimizer,
    work: impl FnOnce(&mut Optimizer) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut entered, was_poisoned) = match OPTIMIZERS.enter(handle, IDLE) {
        Err(Error::Poisoned) => (OPTIMIZERS.enter(handle, POISONED)?, true),
        entered => (entered?, false),
    };
    let optimizer = entered.tenant();
    if was_poisoned && !optimizer.is_half_loaded() {
        return Err(Error::Poisoned);
    }
    let result = work(optimizer);
    if !optimizer.is_half_loaded() {
        entered.then = IDLE;
    }
    result
}

/// Drops the optimizer. Its handle is stale from now on.
pub fn remove(handle: *const Optimizer) -> Result<(), Error> {
    // Not in a function of the host's that the thread of a save has called.
    let is_elsewhere = |optimizer: &Optimizer| !optimizer.is_saved_by_this_thread();
    OPTIMIZERS.remove(handle, |optimizer| is_elsewhere(optimizer).then_some(()).ok_or(Error::Busy))
}

/// Begins a step that threads of the host take together.
pub fn begin_step(handle: *const Optimizer) -> Result<(), Error> {
    let mut entered = OPTIMIZERS.enter(handle, IDLE)?;
    entered.then = IDLE;
    let place = match place_of(entered.slot) {
        Some(place) => place,
        None => {
            // It is never freed: a thread of an earlier step may still be on its way out of it.
            let place = leaked(Together::new(), "the threads")?;
            entered.slot.kept.store((&raw const *place).cast_mut(), Ordering::Release);
            place
        }
    };
    place.begin(handle.addr());
    entered.then = BEGUN;
    Ok(())
}

/// Takes part in the step, if one has begun, and returns when it is over.
pub fn work_on_step(handle: *const Optimizer) -> Result<(), Error> {
    let slot = OPTIMIZERS.slot_of(handle)?;
    match place_of(slot) {
        Some(place) if !place.work(handle.addr(), |guests| lead(slot, guests)) => Err(Error::Busy),
        _ => Ok(()),
    }
}

/// Takes part in the step that has begun, and ends it: returns its result.
pub fn end_step(handle: *const Optimizer) -> Result<(), Error> {
    let mut entered = OPTIMIZERS.enter(handle, BEGUN)?;
    entered.then = BEGUN;
    let slot = entered.slot;
    match place_of(slot) {
        Some(place) if place.work(handle.addr(), |guests| lead(slot, guests)) => {
            entered.then = POISONED;
            leave(entered, place.end())
        }
        // In a callback of the step; or in a forked child, whose parent has begun it.
        _ => Err(Error::Busy),
    }
}

/// Returns the place where threads take steps together, if this process has made it.
fn place_of(slot: &Slot<Optimizer, Together>) -> Option<&'static Together> {
    // SAFETY: NULL, or what `begin_step` has allocated, which is never freed.
    let place = unsafe { slot.kept.load(Ordering::Acquire).as_ref() };
    place.filter(|place| place.is_here())
}

/// Takes the step that has begun, as its leader.
fn lead(slot: &Slot<Optimizer, Together>, guests: &'static Meeting) -> Result<(), Error> {
    // SAFETY: no call enters the optimizer until the step has ended, and a step has one leader.
    unsafe { &mut *slot.tenant() }.step_with(guests)
}

#[cfg(test)]
mod tests {
    use super::super::{Status, adamw_config, adamw_create, adamw_destroy, adamw_step, guard};
    use super::*;

    #[test]
    fn a_panic_in_a_call_poisons_the_handle_which_can_only_be_destroyed() {
        let mut handle = core::ptr::null_mut();
        // SAFETY: both pointers live through the call.
        let created = unsafe { adamw_create(&adamw_config::DEFAULT, &mut handle) };
        assert_eq!(created, Status::Ok);
        assert_eq!(adamw_step(handle), Status::Ok);
        let status = guard(|| with(handle, |_| -> Result<(), Error> { panic!("on purpose") }));
        assert_eq!(status, Status::Internal);
        assert_eq!(adamw_step(handle), Status::Poisoned);
        assert_eq!(adamw_destroy(handle), Status::Ok);
        assert_eq!(adamw_step(handle), Status::BadHandle);
    }
}
