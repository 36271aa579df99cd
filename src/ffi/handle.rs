//! Handles: numbers that look like pointers and are never dereferenced.
//!
//! A handle consists of the index of a slot and the generation of its tenant. Slots are never
//! freed, so a lookup is sound whatever the host passes: a stale handle finds another generation, a
//! handle that is destroyed twice finds a free slot, and garbage finds no slot. A slot is two
//! words; the optimizer has its own memory. There are no locks: after a fork in the middle of
//! another thread's call, only that one handle stays busy in the child.

use crate::error::Error;
use crate::optimizer::Optimizer;
use core::ptr::{null_mut, without_provenance_mut};
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};

struct Slot {
    /// The generation (the number of tenants that have left), and the phase in the two lowest bits.
    state: AtomicU64,
    /// The optimizer, which only the thread that has set `BUSY` may use. In the phase `FREE`: the
    /// link to the next free slot.
    tenant: AtomicPtr<Optimizer>,
}

/// All zero bits are a free slot of generation 0.
const FREE: u64 = 0;
const IDLE: u64 = 1;
const BUSY: u64 = 2;
const POISONED: u64 = 3;

/// A handle has 32 bits for the generation. A slot that has had that many tenants is not reused.
const LAST_GENERATION: u64 = u32::MAX as u64;

/// Segment k holds `FIRST_SEGMENT << k` slots. It is allocated when the segments before it are
/// full.
static SEGMENTS: [AtomicPtr<Slot>; 24] = [const { AtomicPtr::new(null_mut()) }; 24];
const FIRST_SEGMENT: usize = 64;

/// The number of slots that have had a tenant.
static N_USED: AtomicUsize = AtomicUsize::new(0);

/// The list of slots that have had a tenant and are free again: a link to the first in the low
/// half, and in the high half the number of changes, so that a changed list is never taken for the
/// one that was read before (the ABA problem).
static FREE_SLOTS: AtomicU64 = AtomicU64::new(0);

/// A link to a slot is its index plus 1; 0 is the end of the list.
const LINK: u64 = u32::MAX as u64;

/// Moves an optimizer into a free slot and returns its handle.
pub fn insert(optimizer: Optimizer) -> Result<*mut Optimizer, Error> {
    let (index, slot) = free_slot()?;
    // SAFETY: an optimizer is not zero-sized.
    let memory = unsafe { alloc(LAYOUT) }.cast::<Optimizer>();
    if memory.is_null() {
        give_back(index, slot);
        return Err(Error::OutOfMemory { what: "the optimizer", bytes: LAYOUT.size() });
    }
    // SAFETY: `memory` was allocated above, for an optimizer.
    unsafe { memory.write(optimizer) };
    slot.tenant.store(memory, Ordering::Relaxed);
    let generation = slot.state.load(Ordering::Relaxed) >> 2;
    slot.state.store(generation << 2 | IDLE, Ordering::Release);
    Ok(encode(index, generation))
}

const LAYOUT: Layout = Layout::new::<Optimizer>();

/// Calls `work` with the optimizer, if no other call is using it.
pub fn with<R>(
    handle: *const Optimizer,
    work: impl FnOnce(&mut Optimizer) -> Result<R, Error>,
) -> Result<R, Error> {
    let (_, slot, generation) = find(handle)?;
    enter(slot, generation, handle, IDLE)?;
    // A panic in `work` leaves the handle poisoned.
    let mut release = Release { slot, state: generation << 2 | POISONED };
    // SAFETY: an idle slot has a tenant, and only this call has set `BUSY`.
    let result = work(unsafe { &mut *slot.tenant.load(Ordering::Relaxed) });
    // A half-taken step cannot be undone: leave the handle poisoned.
    if !matches!(result, Err(Error::HalfStep)) {
        release.state = generation << 2 | IDLE;
    }
    result
}

/// Calls `work`, a load, with the optimizer, if no other call is using it. A load that fails in the
/// middle of its writes leaves the handle poisoned, and only a load may enter it then.
pub fn load(
    handle: *const Optimizer,
    work: impl FnOnce(&mut Optimizer) -> Result<(), Error>,
) -> Result<(), Error> {
    let (_, slot, generation) = find(handle)?;
    let was_poisoned = match enter(slot, generation, handle, IDLE) {
        Err(Error::Poisoned) => enter(slot, generation, handle, POISONED).map(|()| true),
        entered => entered.map(|()| false),
    }?;
    let mut release = Release { slot, state: generation << 2 | POISONED };
    // SAFETY: an idle or poisoned slot has a tenant, and only this call has set `BUSY`.
    let optimizer = unsafe { &mut *slot.tenant.load(Ordering::Relaxed) };
    if was_poisoned && !optimizer.is_half_loaded() {
        return Err(Error::Poisoned);
    }
    let result = work(optimizer);
    if !optimizer.is_half_loaded() {
        release.state = generation << 2 | IDLE;
    }
    result
}

/// Drops the optimizer. Its handle is stale from now on.
pub fn remove(handle: *const Optimizer) -> Result<(), Error> {
    let (index, slot, generation) = find(handle)?;
    enter(slot, generation, handle, IDLE).or_else(|error| match error {
        Error::Poisoned => enter(slot, generation, handle, POISONED),
        other => Err(other),
    })?;
    let release = Release { slot, state: (generation + 1) << 2 | FREE };
    let tenant = slot.tenant.load(Ordering::Relaxed);
    // SAFETY: an idle or poisoned slot has a tenant, which `insert` allocated. Only this call has
    // set `BUSY`, and the slot is free afterwards.
    unsafe {
        tenant.drop_in_place();
        dealloc(tenant.cast(), LAYOUT);
    }
    drop(release);
    if generation + 1 < LAST_GENERATION {
        give_back(index, slot);
    }
    Ok(())
}

/// Sets the state of the slot when the call is over, also when it unwinds.
struct Release {
    slot: &'static Slot,
    state: u64,
}

impl Drop for Release {
    fn drop(&mut self) {
        self.slot.state.store(self.state, Ordering::Release);
    }
}

/// Moves the slot of this tenant from a phase to `BUSY`, or returns the error for its phase.
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

/// Mixed into the upper half of a handle, so that neither an address nor a small number is a
/// handle.
const MARK: usize = 0x9e37_79b9 << 32;

/// Returns the handle: the generation above, the index below. The lowest bit is set, as in no
/// pointer to an object.
fn encode(index: usize, generation: u64) -> *mut Optimizer {
    without_provenance_mut(((generation as usize) << 32 | index << 1 | 1) ^ MARK)
}

/// Returns the index and the slot that a handle names, if there is one, and its generation.
fn find(handle: *const Optimizer) -> Result<(usize, &'static Slot, u64), Error> {
    if handle.is_null() {
        return Err(Error::NullHandle);
    }
    let bits = handle.addr() ^ MARK;
    let index = (bits & u32::MAX as usize) >> 1;
    let slot = if bits & 1 == 1 { slot(index) } else { None };
    Ok((index, slot.ok_or(Error::BadHandle(handle.addr()))?, (bits >> 32) as u64))
}

/// Returns the segment of a slot's index, and its place in the segment.
fn split(index: usize) -> (usize, usize) {
    let segment = (index / FIRST_SEGMENT + 1).ilog2() as usize;
    (segment, index - FIRST_SEGMENT * ((1 << segment) - 1))
}

fn slot(index: usize) -> Option<&'static Slot> {
    let (segment, place) = split(index);
    let slots = SEGMENTS.get(segment)?.load(Ordering::Acquire);
    // SAFETY: a segment is never freed, and `split` keeps `place` below its length.
    (!slots.is_null()).then(|| unsafe { &*slots.add(place) })
}

/// Takes a free slot, which no other thread has.
fn free_slot() -> Result<(usize, &'static Slot), Error> {
    loop {
        let first = FREE_SLOTS.load(Ordering::Acquire);
        let Some(index) = (first & LINK).checked_sub(1) else { break };
        let Some(slot) = slot(index as usize) else { break };
        // If another thread has taken the slot meanwhile, this is not a link; but then the list has
        // changed, and the exchange fails.
        let next = slot.tenant.load(Ordering::Relaxed).addr() as u64;
        if change_free_slots(first, next & LINK) {
            return Ok((index as usize, slot));
        }
    }
    loop {
        let index = N_USED.load(Ordering::Relaxed);
        let Some(slot) = slot(index) else {
            add_segment(index)?;
            continue;
        };
        let (from, to) = (Ordering::Relaxed, Ordering::Relaxed);
        if N_USED.compare_exchange(index, index + 1, from, to).is_ok() {
            return Ok((index, slot));
        }
    }
}

/// Puts a free slot on the list of slots that can be taken.
fn give_back(index: usize, slot: &Slot) {
    loop {
        let first = FREE_SLOTS.load(Ordering::Acquire);
        slot.tenant.store(without_provenance_mut((first & LINK) as usize), Ordering::Relaxed);
        if change_free_slots(first, index as u64 + 1) {
            return;
        }
    }
}

/// Replaces the link to the first free slot, if the list has not changed since it was read.
fn change_free_slots(seen: u64, link: u64) -> bool {
    let changed = (seen & !LINK).wrapping_add(LINK + 1) | link;
    let exchange = FREE_SLOTS.compare_exchange(seen, changed, Ordering::AcqRel, Ordering::Relaxed);
    exchange.is_ok()
}

/// Adds the segment that starts with this slot, unless another thread has added it.
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
    if segment.compare_exchange(null_mut(), slots, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        // SAFETY: allocated above with this layout, and no other thread has the address.
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
