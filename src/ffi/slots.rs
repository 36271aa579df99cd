//! Tables of what handles name: numbers that look like pointers and are never dereferenced.
//!
//! A handle consists of the index of a slot and the generation of its tenant. Slots are never
//! freed, so a lookup is sound whatever the host passes: a stale handle finds another generation, a
//! handle that is destroyed twice finds a free slot, and garbage finds no slot. A slot is three
//! words; the tenant has its own memory. There are no locks: after a fork in the middle of another
//! thread's call, only that one handle stays busy in the child.

use crate::error::Error;
use core::ptr::{null_mut, without_provenance_mut};
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};

/// A table of tenants of type `T`. What a slot keeps from one tenant to the next is an `S`.
pub struct Slots<T, S = ()> {
    /// Mixed into the upper half of a handle, so that neither an address, nor a small number, nor
    /// the handle of another table is a handle.
    mark: u32,
    /// Returns the error for a number that is no handle.
    no_handle: fn(usize) -> Error,
    /// Segment k holds `FIRST_SEGMENT << k` slots. It is allocated when the segments before it are
    /// full.
    segments: [AtomicPtr<Slot<T, S>>; 24],
    /// The number of slots that have had a tenant.
    n_used: AtomicUsize,
    /// The list of slots that have had a tenant and are free again: a link to the first in the low
    /// half, and in the high half the number of changes, so that a changed list is never taken for
    /// the one that was read before (the ABA problem).
    free: AtomicU64,
}

const FIRST_SEGMENT: usize = 64;

/// A link to a slot is its index plus 1; 0 is the end of the list.
const LINK: u64 = u32::MAX as u64;

/// All zero bits are a free slot of generation 0.
pub struct Slot<T, S> {
    /// The generation (the number of tenants that have left) in the high half; in the low half the
    /// phase, and above it the number of readers of an idle tenant.
    state: AtomicU64,
    /// The tenant, which only the thread that has set `BUSY` may change. In the phase `FREE`: the
    /// link to the next free slot.
    tenant: AtomicPtr<T>,
    /// NULL, or what stays with the slot for as long as the process.
    pub kept: AtomicPtr<S>,
}

impl<T, S> Slot<T, S> {
    /// Returns the address of the tenant.
    pub fn tenant(&self) -> *mut T {
        self.tenant.load(Ordering::Relaxed)
    }
}

/// What can be done with a tenant.
pub type Phase = u64;
const FREE: Phase = 0;
pub const IDLE: Phase = 1;
pub const BUSY: Phase = 2;
pub const POISONED: Phase = 3;
/// Threads of the host take a step together, which no other call may enter.
pub const BEGUN: Phase = 4;

const PHASE: u64 = 7;
const READER: u64 = PHASE + 1;

/// A handle has 32 bits for the generation. A slot that has had that many tenants is not reused.
const LAST_GENERATION: u64 = u32::MAX as u64;

impl<T, S> Slots<T, S> {
    pub const fn new(mark: u32, no_handle: fn(usize) -> Error) -> Slots<T, S> {
        Slots {
            mark,
            no_handle,
            segments: [const { AtomicPtr::new(null_mut()) }; 24],
            n_used: AtomicUsize::new(0),
            free: AtomicU64::new(0),
        }
    }

    /// Moves a tenant into a free slot and returns its handle.
    pub fn insert(&'static self, tenant: T) -> Result<*mut T, Error> {
        let (index, slot) = self.free_slot()?;
        let layout = Layout::new::<T>();
        // SAFETY: a tenant is not zero-sized.
        let memory = unsafe { alloc(layout) }.cast::<T>();
        if memory.is_null() {
            self.give_back(index, slot);
            return Err(Error::OutOfMemory { what: "what a handle names", bytes: layout.size() });
        }
        // SAFETY: `memory` was allocated above, for a tenant.
        unsafe { memory.write(tenant) };
        slot.tenant.store(memory, Ordering::Relaxed);
        let generation = slot.state.load(Ordering::Relaxed) >> 32;
        slot.state.store(generation << 32 | IDLE, Ordering::Release);
        Ok(self.encode(index, generation))
    }

    /// Enters the tenant of a handle, if it is in this phase: no other call can enter it meanwhile.
    pub fn enter(&'static self, handle: *const T, from: Phase) -> Result<Entered<T, S>, Error> {
        let Found { slot, generation, .. } = self.find(handle)?;
        let (expected, busy) = (generation << 32 | from, generation << 32 | BUSY);
        let seen =
            slot.state.compare_exchange(expected, busy, Ordering::Acquire, Ordering::Relaxed);
        match seen {
            // Whoever unwinds leaves the tenant poisoned.
            Ok(_) => Ok(Entered { slot, generation, then: POISONED }),
            Err(state) => Err(self.refusal(handle, generation, state, from)),
        }
    }

    /// Calls `read`, which must not panic, with the tenant of a handle, if no call has entered it.
    /// Other threads may read it, too.
    pub fn read<R>(
        &'static self,
        handle: *const T,
        read: impl FnOnce(&T) -> R,
    ) -> Result<R, Error> {
        let Found { slot, generation, .. } = self.find(handle)?;
        let is_idle = |state: u64| state >> 32 == generation && state & PHASE == IDLE;
        let counted_in = |state| is_idle(state).then_some(state + READER);
        let counted = slot.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, counted_in);
        counted.map_err(|state| self.refusal(handle, generation, state, IDLE))?;
        // SAFETY: an idle slot has a tenant, and none can enter it until its readers have left.
        let result = read(unsafe { &*slot.tenant() });
        slot.state.fetch_sub(READER, Ordering::Release);
        Ok(result)
    }

    /// Drops a tenant that is idle or poisoned, if `may` agrees. Its handle is stale from now on.
    pub fn remove(
        &'static self,
        handle: *const T,
        may: impl FnOnce(&T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (mut entered, phase) = match self.enter(handle, IDLE) {
            Err(Error::Poisoned) => (self.enter(handle, POISONED)?, POISONED),
            entered => (entered?, IDLE),
        };
        entered.then = phase;
        may(entered.tenant())?;
        let Found { index, slot, generation } = self.find(handle)?;
        (entered.generation, entered.then) = (generation + 1, FREE);
        let tenant = slot.tenant();
        // SAFETY: `insert` allocated the tenant, which only this call has entered, and the slot is
        // free afterwards, also if the drop unwinds.
        unsafe {
            tenant.drop_in_place();
            dealloc(tenant.cast(), Layout::new::<T>());
        }
        drop(entered);
        if generation + 1 < LAST_GENERATION {
            self.give_back(index, slot);
        }
        Ok(())
    }

    /// Returns the slot of a handle whose tenant is still there.
    pub fn slot_of(&'static self, handle: *const T) -> Result<&'static Slot<T, S>, Error> {
        let Found { slot, generation, .. } = self.find(handle)?;
        let state = slot.state.load(Ordering::Acquire);
        match state >> 32 == generation && state & PHASE != FREE {
            true => Ok(slot),
            false => Err((self.no_handle)(handle.addr())),
        }
    }

    /// Returns the error for a tenant that is not in the phase that a call needs.
    fn refusal(&self, handle: *const T, generation: u64, state: u64, needed: Phase) -> Error {
        match state & PHASE {
            _ if state >> 32 != generation => (self.no_handle)(handle.addr()),
            FREE => (self.no_handle)(handle.addr()),
            POISONED => Error::Poisoned,
            BEGUN => Error::StepBegun,
            IDLE if needed == BEGUN => Error::NoStepBegun,
            _ => Error::Busy,
        }
    }

    /// Returns the handle: the generation above, the index below. The lowest bit is set, as in no
    /// pointer to an object.
    fn encode(&self, index: usize, generation: u64) -> *mut T {
        let number = (generation as usize) << 32 | index << 1 | 1;
        without_provenance_mut(number ^ (self.mark as usize) << 32)
    }

    /// Returns the slot that a handle names, if there is one.
    fn find(&'static self, handle: *const T) -> Result<Found<T, S>, Error> {
        let bits = handle.addr() ^ (self.mark as usize) << 32;
        let index = (bits & u32::MAX as usize) >> 1;
        let slot = if bits & 1 == 1 { self.slot(index) } else { None };
        let slot = slot.ok_or((self.no_handle)(handle.addr()))?;
        Ok(Found { index, slot, generation: (bits >> 32) as u64 })
    }

    fn slot(&'static self, index: usize) -> Option<&'static Slot<T, S>> {
        let (segment, place) = split(index);
        let slots = self.segments.get(segment)?.load(Ordering::Acquire);
        // SAFETY: a segment is never freed, and `split` keeps `place` below its length.
        (!slots.is_null()).then(|| unsafe { &*slots.add(place) })
    }

    /// Takes a free slot, which no other thread has.
    fn free_slot(&'static self) -> Result<(usize, &'static Slot<T, S>), Error> {
        loop {
            let first = self.free.load(Ordering::Acquire);
            let Some(index) = (first & LINK).checked_sub(1) else { break };
            let Some(slot) = self.slot(index as usize) else { break };
            // If another thread has taken the slot meanwhile, this is not a link; but then the list
            // has changed, and the exchange fails.
            let next = slot.tenant.load(Ordering::Relaxed).addr() as u64;
            if self.change_free(first, next & LINK) {
                return Ok((index as usize, slot));
            }
        }
        loop {
            let index = self.n_used.load(Ordering::Relaxed);
            let Some(slot) = self.slot(index) else {
                self.add_segment(index)?;
                continue;
            };
            let (from, to) = (Ordering::Relaxed, Ordering::Relaxed);
            if self.n_used.compare_exchange(index, index + 1, from, to).is_ok() {
                return Ok((index, slot));
            }
        }
    }

    /// Puts a free slot on the list of slots that can be taken.
    fn give_back(&self, index: usize, slot: &Slot<T, S>) {
        loop {
            let first = self.free.load(Ordering::Acquire);
            slot.tenant.store(without_provenance_mut((first & LINK) as usize), Ordering::Relaxed);
            if self.change_free(first, index as u64 + 1) {
                return;
            }
        }
    }

    /// Replaces the link to the first free slot, if the list has not changed since it was read.
    fn change_free(&self, seen: u64, link: u64) -> bool {
        let changed = (seen & !LINK).wrapping_add(LINK + 1) | link;
        let exchange =
            self.free.compare_exchange(seen, changed, Ordering::AcqRel, Ordering::Relaxed);
        exchange.is_ok()
    }

    /// Adds the segment that starts with this slot, unless another thread has added it.
    fn add_segment(&self, first_slot: usize) -> Result<(), Error> {
        let n_slots = first_slot + FIRST_SEGMENT;
        let bytes = n_slots.saturating_mul(size_of::<Slot<T, S>>());
        let failed = Error::OutOfMemory { what: "the table of handles", bytes };
        let segment = self.segments.get(split(first_slot).0).ok_or(failed)?;
        let layout = Layout::array::<Slot<T, S>>(n_slots).map_err(|_| failed)?;
        // SAFETY: a slot is not zero-sized.
        let slots = unsafe { alloc_zeroed(layout) }.cast::<Slot<T, S>>();
        if slots.is_null() {
            return Err(failed);
        }
        let (from, to) = (Ordering::AcqRel, Ordering::Relaxed);
        if segment.compare_exchange(null_mut(), slots, from, to).is_err() {
            // SAFETY: allocated above with this layout, and no other thread has the address.
            unsafe { dealloc(slots.cast(), layout) };
        }
        Ok(())
    }
}

/// Where a handle leads, whoever is there now.
struct Found<T: 'static, S: 'static> {
    index: usize,
    slot: &'static Slot<T, S>,
    generation: u64,
}

/// A tenant that one call has entered. When the call is over, it is in the phase `then`.
pub struct Entered<T: 'static, S: 'static = ()> {
    pub slot: &'static Slot<T, S>,
    generation: u64,
    pub then: Phase,
}

impl<T, S> Entered<T, S> {
    pub fn tenant(&mut self) -> &mut T {
        // SAFETY: a slot that can be entered has a tenant, and only this call has entered it.
        unsafe { &mut *self.slot.tenant() }
    }
}

impl<T, S> Drop for Entered<T, S> {
    fn drop(&mut self) {
        self.slot.state.store(self.generation << 32 | self.then, Ordering::Release);
    }
}

/// Returns the segment of a slot's index, and its place in the segment.
fn split(index: usize) -> (usize, usize) {
    let segment = (index / FIRST_SEGMENT + 1).ilog2() as usize;
    (segment, index - FIRST_SEGMENT * ((1 << segment) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_tenant_that_is_read_is_busy_for_those_who_would_enter_it() {
        static TABLE: Slots<u64> = Slots::new(0x1234_5678, Error::BadHandle);
        let handle = TABLE.insert(7).unwrap();
        let read = TABLE.read(handle, |seven| {
            assert!(matches!(TABLE.enter(handle, IDLE), Err(Error::Busy)));
            assert!(matches!(TABLE.remove(handle, |_| Ok(())), Err(Error::Busy)));
            TABLE.read(handle, |again| seven + again)
        });
        assert!(matches!(read, Ok(Ok(14))));
        let mut entered = TABLE.enter(handle, IDLE).ok().unwrap();
        *entered.tenant() += 1;
        assert!(matches!(TABLE.read(handle, |_| ()), Err(Error::Busy)));
        entered.then = IDLE;
        drop(entered);
        assert!(matches!(TABLE.read(handle, |seven| *seven), Ok(8)));
        assert!(matches!(TABLE.remove(handle, |_| Err(Error::Busy)), Err(Error::Busy)));
        TABLE.remove(handle, |_| Ok(())).unwrap();
        assert!(matches!(TABLE.read(handle, |_| ()), Err(Error::BadHandle(_))));
    }
}
