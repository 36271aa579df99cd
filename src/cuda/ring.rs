//! Page-locked memory that offloaded parameters share, where a handle may not lock the pages of all
//! their copies: gradients come down through two slots, and parameters go up through two others.
//!
//! `begin` lists the gradients of a step in chunks of a slot. `land` copies them on to where they
//! are stepped, as far as the step needs them, while the next one is on its way. `send` waits for a
//! slot, fills it and has it go up.

use super::driver::{Entered, Event, Pinned};
use super::timing::{Timing, Way};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::sys::memory::{Memory, reserve};
use crate::tensor::Tensor;
use core::ops::Range;
use core::ptr::{copy_nonoverlapping, with_exposed_provenance, with_exposed_provenance_mut};

/// The elements of a parameter that come down, are stepped and go up together.
pub const PIECE: u64 = 1 << 22;

/// Memory of the host's for a copy or for gradients.
pub enum Room {
    Pinned(Pinned),
    /// It is reached through the ring.
    Plain(Memory),
}

impl Room {
    pub fn address(&self) -> usize {
        match self {
            Room::Pinned(memory) => memory.address(),
            Room::Plain(memory) => memory.address(),
        }
    }

    pub fn is_plain(&self) -> bool {
        matches!(self, Room::Plain(_))
    }
}

/// The slots in each direction: one is on its way while the other is copied.
const SLOTS: usize = 2;

/// The longest slot, in bytes: a piece of f32.
const LONGEST: usize = 16 << 20;

/// The part of what may be locked that a slot is at most.
const SHARE: usize = 16;

struct Slot {
    room: Pinned,
    /// The mark behind the last copy from or to it.
    used: Event,
}

impl Slot {
    fn new(device: &Entered, bytes: usize) -> Result<Slot, Error> {
        let room = device.pinned(bytes, "what copies of offloaded parameters pass through")?;
        Ok(Slot { room, used: device.event()? })
    }
}

/// A part of a gradient that comes down.
#[derive(Clone, Copy)]
struct Chunk {
    from: u64,
    to: usize,
    bytes: usize,
}

pub struct Ring {
    down: [Slot; SLOTS],
    up: [Slot; SLOTS],
    next_up: usize,
    /// The bytes of a slot.
    bytes: usize,
    /// What comes down in this step, in order.
    chunks: Vec<Chunk>,
    /// How many chunks there are at most.
    most_chunks: usize,
    n_queued: usize,
    n_landed: usize,
}

/// Returns the most copies in which the gradient of a parameter comes down and it goes up.
pub fn most_copies(param: &Tensor, ring: &Option<Ring>) -> usize {
    let n_pieces = param.n_elements().div_ceil(PIECE) as usize;
    let widest = param.n_elements().min(PIECE) as usize * Dtype::F64.bytes();
    2 * n_pieces * ring.as_ref().map_or(1, |ring| ring.n_chunks(widest))
}

impl Ring {
    /// Allocates the slots of a handle that may pin so many bytes.
    pub fn new(device: &Entered, most_pinned: usize) -> Result<Ring, Error> {
        let bytes = (most_pinned / SHARE).min(LONGEST) / 64 * 64;
        let slot = || Slot::new(device, bytes);
        Ok(Ring {
            down: [slot()?, slot()?],
            up: [slot()?, slot()?],
            next_up: 0,
            bytes,
            chunks: Vec::new(),
            most_chunks: 0,
            n_queued: 0,
            n_landed: 0,
        })
    }

    /// Makes room for the chunks of a gradient that comes down in pieces of so many bytes. Returns
    /// how many those are at most.
    pub fn reserve(&mut self, n_pieces: usize, piece_bytes: usize) -> Result<usize, Error> {
        let n_chunks = n_pieces * self.n_chunks(piece_bytes);
        let most_chunks = self.most_chunks + n_chunks;
        let missing = most_chunks.saturating_sub(self.chunks.len());
        reserve(&mut self.chunks, missing, "the pieces of a parameter")?;
        self.most_chunks = most_chunks;
        Ok(n_chunks)
    }

    /// Counts out so many chunks of gradients that come down no more.
    pub fn release(&mut self, n_chunks: usize) {
        self.most_chunks -= n_chunks;
    }

    /// Forgets what a failed step has left on its way.
    pub fn begin(&mut self) {
        self.chunks.clear();
        (self.n_queued, self.n_landed) = (0, 0);
    }

    /// Returns the most copies in which so many bytes pass.
    pub fn n_chunks(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.bytes)
    }

    /// Lists bytes of a gradient that come down. Returns the number of chunks with which they will
    /// have landed.
    pub fn list(&mut self, from: u64, to: usize, bytes: usize) -> usize {
        for start in (0..bytes).step_by(self.bytes) {
            let bytes = self.bytes.min(bytes - start);
            self.chunks.push(Chunk { from: from + start as u64, to: to + start, bytes });
        }
        self.chunks.len()
    }

    /// Queues up as many downloads as there are free slots. `down`: the stream for them.
    ///
    /// # Safety
    /// What `list` was told is memory that stays until it has landed, and that nobody reads or
    /// writes before that.
    pub unsafe fn queue(&mut self, down: &Entered, timing: &mut Timing) -> Result<(), Error> {
        while self.n_queued < self.chunks.len().min(self.n_landed + SLOTS) {
            let chunk = self.chunks[self.n_queued];
            let slot = &self.down[self.n_queued % SLOTS];
            down.wait_for(&slot.used)?; // it may still be on its way for a step that failed
            timing.copy(down, (Way::Down, chunk.bytes), || {
                // SAFETY: the caller's word; the slot holds a chunk, and is read behind its mark.
                unsafe { down.download(slot.room.address(), chunk.from, chunk.bytes) }
            })?;
            down.record(&slot.used)?;
            self.n_queued += 1;
        }
        Ok(())
    }

    /// Waits until so many chunks have come down, and copies them on.
    ///
    /// # Safety
    /// As for `queue`.
    pub unsafe fn land(
        &mut self,
        down: &Entered,
        n_chunks: usize,
        timing: &mut Timing,
    ) -> Result<(), Error> {
        loop {
            // SAFETY: the caller's word.
            unsafe { self.queue(down, timing) }?;
            if self.n_landed >= n_chunks {
                return Ok(());
            }
            let (chunk, slot) = (self.chunks[self.n_landed], &self.down[self.n_landed % SLOTS]);
            timing.wait(down, &slot.used)?;
            let from = with_exposed_provenance::<u8>(slot.room.address());
            let to = with_exposed_provenance_mut(chunk.to);
            // SAFETY: both have these bytes, and the download into the slot is done.
            unsafe { copy_nonoverlapping(from, to, chunk.bytes) };
            self.n_landed += 1;
        }
    }

    /// Queues up the upload of bytes of the host's. They have been read when this returns. `up`:
    /// the stream for it.
    ///
    /// # Safety
    /// Both have these bytes; those of the device stay until they have been written.
    pub unsafe fn send(
        &mut self,
        up: &Entered,
        to: u64,
        from: Range<usize>,
        timing: &mut Timing,
    ) -> Result<(), Error> {
        for start in from.clone().step_by(self.bytes) {
            let (slot, bytes) = (&self.up[self.next_up], self.bytes.min(from.end - start));
            timing.wait(up, &slot.used)?;
            let room = with_exposed_provenance_mut::<u8>(slot.room.address());
            // SAFETY: the caller's word; the upload from the slot is done.
            unsafe { copy_nonoverlapping(with_exposed_provenance(start), room, bytes) };
            timing.copy(up, (Way::Up, bytes), || {
                let to = to + (start - from.start) as u64;
                // SAFETY: the caller's word; nobody writes the slot before its mark.
                unsafe { up.upload(to, slot.room.address(), bytes) }
            })?;
            up.record(&slot.used)?;
            self.next_up = (self.next_up + 1) % SLOTS;
        }
        Ok(())
    }
}
