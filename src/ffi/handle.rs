//! Handles: numbers that look like pointers and are never dereferenced.
//!
//! A handle names a slot and the generation of its tenant. Slots are never freed, so that looking
//! one up is sound whatever the host passes: a stale handle meets another generation, a doubly
//! destroyed one a free slot, garbage no slot at all. There are no locks: a fork in the middle of
//! another thread's call leaves nothing held in the child but that one handle.

use crate::error::Error;
use crate::optimizer::Optimizer;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::alloc::{Layout, alloc_zeroed, dealloc};

struct Slot {
    /// The generation (how many tenants have left), and in the two lowest bits the phase.
    state: AtomicU64,
    /// Initialised in every phase but `FREE`; whoever set `BUSY` has it alone.
    optimizer: UnsafeCell<MaybeUninit<Optimizer>>,
}

// SAFETY: `optimizer` is reached only by the thread that moved `state` to `BUSY`.
unsafe impl Sync for Slot {}

/// All zero bits are a slot of generation 0 that is free.
const FREE: u64 = 0;
const IDLE: u64 = 1;
const BUSY: u64 = 2;
const POISONED: u64 = 3;

/// A handle has 32 bits for the generation: a slot that has had that many tenants stays free.
const LAST_GENERATION: u64 = u32::MAX as u64;

/// Segment k holds `FIRST_SEGMENT << k` slots; it comes when the ones before are full.
static SEGMENTS: [AtomicPtr<Slot>; 24] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 24];
const FIRST_SEGMENT: usize = 64;

/// Where the search for a free slot goes on, so that a freed slot is used again late.
static CURSOR: AtomicUsize = AtomicUsize::new(0);

/// Moves an optimizer into a free slot and returns its handle.
pub fn insert(optimizer: Optimizer) -> Result<*mut Optimizer, Error> {
    let (index, slot, generation) = free_slot()?;
    // SAFETY: the slot was free and is busy with us.
    unsafe { (*slot.optimizer.get()).write(optimizer) };
    slot.state.store(generation << 2 | IDLE, Ordering::Release);
    Ok(encode(index, generation))
}

/// Calls `work` with the optimizer, if nobody else is using it.
pub fn with<R>(
    handle: *const Optimizer,
    work: impl FnOnce(&mut Optimizer) -> Result<R, Error>,
) -> Result<R, Error> {
    let (slot, generation) = find(handle)?;
    enter(slot, generation, handle, IDLE)?;
    // A panic in `work` leaves the handle poisoned.
    let mut release = Release { slot, state: generation << 2 | POISONED };
    // SAFETY: an idle slot is initialised, and it is busy with us.
    let result = work(unsafe { (*slot.optimizer.get()).assume_init_mut() });
    // What was done in part cannot be undone, and is not to be gone on from.
    if !matches!(result, Err(Error::HalfStep)) {
        release.state = generation << 2 | IDLE;
    }
    result
}

/// The same for a load. One that failed in the middle of its writes leaves the handle poisoned, and open
/// to another load.
pub fn load(
    handle: *const Optimizer,
    work: impl FnOnce(&mut Optimizer) -> Result<(), Error>,
) -> Result<(), Error> {
    let (slot, generation) = find(handle)?;
    let was_poisoned = match enter(slot, generation, handle, IDLE) {
        Err(Error::Poisoned) => enter(slot, generation, handle, POISONED).map(|()| true),
        entered => entered.map(|()| false),
    }?;
    let mut release = Release { slot, state: generation << 2 | POISONED };
    // SAFETY: an idle or poisoned slot is initialised, and it is busy with us.
    let optimizer = unsafe { (*slot.optimizer.get()).assume_init_mut() };
    if was_poisoned && !optimizer.is_half_loaded() {
        return Err(Error::Poisoned);
    }
    let result = work(optimizer);
    if !optimizer.is_half_loaded() {
        release.state = generation << 2 | IDLE;
    }
    result
}

/// Drops the optimizer; its handle is stale from now on.
pub fn remove(handle: *const Optimizer) -> Result<(), Error> {
    let (slot, generation) = find(handle)?;
    enter(slot, generation, handle, IDLE).or_else(|error| match error {
        Error::Poisoned => enter(slot, generation, handle, POISONED),
        other => Err(other),
    })?;
    let _release = Release { slot, state: (generation + 1) << 2 | FREE };
    // SAFETY: an idle or poisoned slot is initialised, it is busy with us, and free afterwards.
    unsafe { (*slot.optimizer.get()).assume_init_drop() };
    Ok(())
}

/// Sets the slot's state when the call is over, also when it unwinds.
struct Release {
    slot: &'static Slot,
    state: u64,
}

impl Drop for Release {
    fn drop(&mut self) {
        self.slot.state.store(self.state, Ordering::Release);
    }
}

/// Moves the slot of this tenant from a phase to `BUSY`, or says what phase it is in.
fn enter(slot: &Slot, generation: u64, handle: *const Optimizer, from: u64) -> Result<(), Error> {
    let (expected, busy) = (generation << 2 | from, generation << 2 | BUSY);
    let seen = slot.state.compare_exchange(expected, busy, Ordering::Acquire, Ordering::Relaxed);
    match seen {
        Ok(_) => Ok(()),
        Err(state) if state >> 2 != generation => Err(Error::BadHandle(handle.addr())),
        Err(state) => Err(match state & 3 {
            FREE => Error::BadHandle(handle.addr()),
            POISONED => Error::Poisoned,
            _ => Error::Busy,
        }),
    }
}

/// Mixed into a handle's upper half, so that neither an address nor a small number is a handle.
const MARK: usize = 0x9e37_79b9 << 32;

/// The generation above, the index below; the lowest bit is set, as in no pointer to an object.
fn encode(index: usize, generation: u64) -> *mut Optimizer {
    core::ptr::without_provenance_mut(((generation as usize) << 32 | index << 1 | 1) ^ MARK)
}

/// The slot that a handle names, if there is one, and the generation it names.
fn find(handle: *const Optimizer) -> Result<(&'static Slot, u64), Error> {
    if handle.is_null() {
        return Err(Error::NullHandle);
    }
    let bits = handle.addr() ^ MARK;
    let index = (bits & u32::MAX as usize) >> 1;
    let slot = if bits & 1 == 1 { slot(index) } else { None };
    Ok((slot.ok_or(Error::BadHandle(handle.addr()))?, (bits >> 32) as u64))
}

/// The segment of a slot's number, and its place there.
fn split(index: usize) -> (usize, usize) {
    let segment = (index / FIRST_SEGMENT + 1).ilog2() as usize;
    (segment, index - FIRST_SEGMENT * ((1 << segment) - 1))
}

fn slot(index: usize) -> Option<&'static Slot> {
    let (segment, place) = split(index);
    let slots = SEGMENTS.get(segment)?.load(Ordering::Acquire);
    // SAFETY: a segment, once there, stays, and `split` keeps `place` below its length.
    (!slots.is_null()).then(|| unsafe { &*slots.add(place) })
}

/// A free slot, made busy.
fn free_slot() -> Result<(usize, &'static Slot, u64), Error> {
    loop {
        let n_segments = SEGMENTS.iter().take_while(|s| !s.load(Ordering::Acquire).is_null());
        let n_slots = FIRST_SEGMENT * ((1 << n_segments.count()) - 1);
        let cursor = CURSOR.load(Ordering::Relaxed);
        for index in (cursor..n_slots).chain(0..cursor.min(n_slots)) {
            let Some(slot) = slot(index) else { continue };
            let state = slot.state.load(Ordering::Relaxed);
            let generation = state >> 2;
            if state & 3 == FREE
                && generation < LAST_GENERATION
                && enter(slot, generation, encode(index, generation), FREE).is_ok()
            {
                CURSOR.store(index + 1, Ordering::Relaxed);
                return Ok((index, slot, generation));
            }
        }
        add_segment(n_slots)?;
    }
}

/// Adds the segment that starts with this slot, unless another thread has.
fn add_segment(first_slot: usize) -> Result<(), Error> {
    let n_slots = first_slot + FIRST_SEGMENT;
    let bytes = n_slots.saturating_mul(size_of::<Slot>());
    let failed = Error::OutOfMemory { what: "the table of handles", bytes };
    let segment = SEGMENTS.get(split(first_slot).0).ok_or(failed)?;
    let layout = Layout::array::<Slot>(n_slots).map_err(|_| failed)?;
    // SAFETY: a slot is not zero-sized.
    let slots = unsafe { alloc_zeroed(layout) }.cast::<Slot>();
    if slots.is_null() {
        return Err(failed);
    }
    let none = core::ptr::null_mut();
    if segment.compare_exchange(none, slots, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        // SAFETY: allocated above with this layout, and seen by nobody.
        unsafe { dealloc(slots.cast(), layout) };
    }
    Ok(())
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

    #[test]
    fn every_index_has_one_place_in_one_segment() {
        let mut expected = (0, 0);
        for index in 0..FIRST_SEGMENT * 15 {
            assert_eq!(split(index), expected, "{index}");
            expected.1 += 1;
            if expected.1 == FIRST_SEGMENT << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }
}
