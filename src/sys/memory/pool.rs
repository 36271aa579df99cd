//! Memory for small state: pieces that lie end to end in chunks.
//!
//! A step passes over the state of small parameters in the order in which they were added. An
//! allocator puts headers and unused cache lines between; pieces of a chunk lie as close as the
//! parameters do. A pool has the state of one role, so that it lies end to end where parameters do,
//! which are then stepped as one. The first bytes of a pool come from the allocator, so that few
//! parameters need no pages of their own. What comes after comes from chunks, all but the first on
//! a huge page; of the first only a part is used, so that most state lies on huge pages.
//!
//! A chunk starts on the boundary of a huge page with its `Head`, which `give_back` finds by the
//! address of a piece, and in which each cache line has a bit. Pieces are taken from one chunk from
//! its start to its end, then from one that is worth it, or else from a new one. One is worth it of
//! which a quarter was given back since it was last gone through, or as much as is still taken. So
//! the search costs little for each piece, and pieces that come and go for ever take no more and
//! more memory. A chunk without pieces goes back to the system, unless it is in use.

use super::{ALIASES, ALIGN, HUGE_PAGE, Memory, PIECE, mapped, place_away, reserve, unmap};
use crate::error::Error;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::alloc::{Layout, alloc};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Fewer bytes are small.
const SMALL: usize = 4096;
/// So many bytes come from the allocator before there are chunks.
const ALLOCATED: usize = 32 << 10;
/// The cache lines of a chunk.
const LINES: usize = HUGE_PAGE / ALIGN;
/// The lines that are used of a chunk on ordinary pages.
const ORDINARY: usize = (256 << 10) / ALIGN;
/// The first line that is not the head's.
const FIRST: usize = size_of::<Head>().div_ceil(ALIGN);

/// Memory for the state of the parameters of a handle.
#[derive(Default)]
pub struct Pool {
    /// The bytes that have come from the allocator.
    allocated: usize,
    /// What the chunks share, once there are any.
    shared: Option<NonNull<Shared>>,
}

// SAFETY: `Shared` has an atomic number, and chunks that are reached only under their lock.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

struct Shared {
    /// The pool, and all pieces that have not been given back. The last of them frees this.
    n_users: AtomicUsize,
    /// The first is in use.
    chunks: Mutex<Vec<Chunk>>,
}

/// A mapping that starts with its head.
struct Chunk(NonNull<Head>);

struct Head {
    /// Never changes.
    shared: NonNull<Shared>,
    /// The place in `Shared::chunks`.
    place: usize,
    n_taken: usize,
    /// The lines that were given back since the chunk was last gone through from its start.
    n_given_back: usize,
    /// The line from which the search goes on.
    next: usize,
    /// The line at which it ends.
    end: usize,
    /// The chunk was gone through before, so that free lines may not be zero.
    is_used: bool,
    /// A bit for each line, which is set if the line is taken.
    taken: [u64; LINES / 64],
}

impl Pool {
    /// Returns zeroed memory that is passed over with what begins at an address.
    pub fn memory(
        &mut self,
        address: usize,
        bytes: usize,
        what: &'static str,
    ) -> Result<Memory, Error> {
        if !(1..SMALL).contains(&bytes) {
            return Memory::beside(address, bytes, what);
        }
        if self.allocated < ALLOCATED {
            self.allocated += bytes;
            return Memory::beside(address, bytes, what);
        }
        let shared = match self.shared {
            Some(shared) => shared,
            None => *self.shared.insert(new_shared(what)?),
        };
        // SAFETY: the pool is a user.
        let start = unsafe { take(shared, address, bytes.div_ceil(ALIGN), what) }?;
        Ok(Memory { start, bytes: bytes | PIECE })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(shared) = self.shared {
            // SAFETY: the pool is a user, and is none from here on.
            unsafe { leave(shared) }
        }
    }
}

/// Gives a piece of so many bytes back.
///
/// # Safety
/// A pool returned it, and nobody has it from here on.
pub(super) unsafe fn give_back(start: NonNull<u8>, bytes: usize) {
    let place = start.addr().get() % HUGE_PAGE;
    // SAFETY: a piece lies in a chunk, which starts on the boundary of a huge page. `shared` never
    // changes, and is there because the piece is a user. A head is reached only under the lock.
    unsafe {
        let head = start.byte_sub(place).cast::<Head>();
        let shared = (*head.as_ptr()).shared;
        let mut chunks = lock(shared.as_ref());
        let chunk = (*head.as_ptr()).place;
        chunks[chunk].give_back(place / ALIGN, bytes.div_ceil(ALIGN));
        if chunks[chunk].n_taken == 0 && chunk > 0 {
            chunks.swap_remove(chunk);
            if let Some(moved) = chunks.get_mut(chunk) {
                moved.place = chunk;
            }
        }
        drop(chunks);
        leave(shared);
    }
}

fn new_shared(what: &'static str) -> Result<NonNull<Shared>, Error> {
    let layout = Layout::new::<Shared>();
    // SAFETY: the size of the layout is not zero.
    let shared = NonNull::new(unsafe { alloc(layout) }.cast::<Shared>());
    let shared = shared.ok_or(Error::OutOfMemory { what, bytes: layout.size() })?;
    let (n_users, chunks) = (AtomicUsize::new(1), Mutex::default());
    // SAFETY: it was allocated above.
    unsafe { shared.write(Shared { n_users, chunks }) };
    Ok(shared)
}

/// Counts one user less.
///
/// # Safety
/// The caller is a user, and is none from here on.
unsafe fn leave(shared: NonNull<Shared>) {
    // SAFETY: the caller is a user, so that it is there. If there are no others, nobody else has
    // what `new_shared` allocated as a box is.
    unsafe {
        if shared.as_ref().n_users.fetch_sub(1, Ordering::AcqRel) == 1 {
            drop(Box::from_raw(shared.as_ptr()));
        }
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Vec<Chunk>> {
    shared.chunks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes so many lines of the chunk in use, of another, or of a new one, which then begins away
/// from an address (`modulus`).
///
/// # Safety
/// The caller is a user.
unsafe fn take(
    shared: NonNull<Shared>,
    address: usize,
    n_lines: usize,
    what: &'static str,
) -> Result<NonNull<u8>, Error> {
    // SAFETY: the caller is a user, so that it is there.
    let of = unsafe { shared.as_ref() };
    let mut chunks = lock(of);
    loop {
        if let Some(piece) = chunks.first_mut().and_then(|in_use| in_use.take(n_lines)) {
            of.n_users.fetch_add(1, Ordering::Relaxed);
            return Ok(piece);
        }
        let next = match chunks.iter().position(|chunk| chunk.is_worth_it()) {
            Some(other) => {
                chunks[other].begin_again();
                other
            }
            None => {
                reserve(&mut chunks, 1, what)?;
                let new = Chunk::new(shared, address, !chunks.is_empty());
                chunks.push(new.ok_or(Error::OutOfMemory { what, bytes: HUGE_PAGE })?);
                chunks.len() - 1
            }
        };
        chunks.swap(0, next);
        chunks[next].place = next;
        chunks[0].place = 0;
    }
}

impl Chunk {
    fn new(shared: NonNull<Shared>, address: usize, is_huge: bool) -> Option<Chunk> {
        let head = mapped(HUGE_PAGE, 0, is_huge)?.cast::<Head>();
        const OF_PLACE: usize = ALIASES / ALIGN;
        let away = place_away(address, ALIASES) / ALIGN;
        let new = Head {
            shared,
            place: 0,
            n_taken: 0,
            n_given_back: 0,
            next: FIRST + (away + OF_PLACE - FIRST % OF_PLACE) % OF_PLACE,
            end: if is_huge { LINES } else { ORDINARY },
            is_used: false,
            taken: [0; LINES / 64],
        };
        // SAFETY: the mapping is longer than a head, and nobody else has it.
        unsafe { head.write(new) };
        Some(Chunk(head))
    }

    /// Takes so many lines side by side, if there are any from `next` on.
    fn take(&mut self, n_lines: usize) -> Option<NonNull<u8>> {
        let mut n_free = 0;
        while n_free < n_lines {
            if self.next == self.end {
                return None;
            }
            let is_taken = self.taken[self.next / 64] >> (self.next % 64) & 1 != 0;
            n_free = if is_taken { 0 } else { n_free + 1 };
            self.next += 1;
        }
        let first = self.next - n_lines;
        self.flip(first, n_lines);
        self.n_taken += n_lines;
        // SAFETY: the lines lie in the chunk, behind the head, and nobody has them.
        unsafe {
            let start = self.0.cast::<u8>().byte_add(first * ALIGN);
            if self.is_used {
                start.write_bytes(0, n_lines * ALIGN);
            }
            Some(start)
        }
    }

    fn give_back(&mut self, first: usize, n_lines: usize) {
        self.flip(first, n_lines);
        self.n_taken -= n_lines;
        self.n_given_back += n_lines;
    }

    fn is_worth_it(&self) -> bool {
        self.n_given_back >= self.n_taken.min(LINES / 4)
    }

    fn begin_again(&mut self) {
        (self.next, self.n_given_back, self.is_used) = (FIRST, 0, true);
    }

    /// Marks lines as taken that are not, or as free that are taken.
    fn flip(&mut self, first: usize, n_lines: usize) {
        (first..first + n_lines).for_each(|line| self.taken[line / 64] ^= 1 << (line % 64));
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: `new` made the mapping, in which nobody has a piece.
        unsafe { unmap(self.0.cast(), HUGE_PAGE, 0) };
    }
}

impl Deref for Chunk {
    type Target = Head;
    fn deref(&self) -> &Head {
        // SAFETY: `new` wrote it there, and it is reached only through the chunk.
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for Chunk {
    fn deref_mut(&mut self) -> &mut Head {
        // SAFETY: as above.
        unsafe { self.0.as_mut() }
    }
}

#[cfg(test)]
mod tests;
