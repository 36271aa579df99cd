//! Memory whose lack is an error, never the end of the process.
//!
//! `reserve` makes room in a `Vec`; `Boxed::new` and `leaked` allocate one value. They return an
//! error if there is no memory. `give_back` returns room that is no longer needed.
//!
//! `Memory::beside` is the zeroed memory of optimizer state. `allocated` takes less than a huge
//! page from the allocator, and places it by hand. `mapped` maps more than that on huge pages. A
//! mapping costs nothing until it is touched, so that the pages of a large state are allocated by
//! the thread that first steps them; they go back to the system at once when it is dropped. A
//! `Pool` (`pool.rs`) lays small state end to end. A `Block` is memory for bytes that one owner
//! reads and writes.
//!
//! All of it starts on a cache line, and what is not small away from its parameter (`modulus`): a
//! processor holds a load back behind an earlier store where the low 12 bits of their addresses
//! are close, and a step loads and stores both at one pace.

mod pool;

pub use pool::Pool;

use crate::error::Error;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc};

/// A cache line, and the widest vector register.
const ALIGN: usize = 64;
const HUGE_PAGE: usize = 2 << 20;
/// A multiple of the page size of every system.
const PAGES: usize = 64 << 10;
/// What a processor compares of two addresses before it knows them whole.
const ALIASES: usize = 4096;
/// What an allocator aligns to, unasked.
const UNASKED: usize = 16;
/// Added to the bytes of a piece of a pool: no memory is that long.
const PIECE: usize = 1 << (usize::BITS - 1);

/// An owned allocation, all of whose bytes are initialised. It takes two words, because a step
/// passes over one or more of them for each parameter.
pub struct Memory {
    start: NonNull<u8>,
    /// The number of bytes that were asked for, which tells whether the memory was allocated or
    /// mapped; with `PIECE` if it is of a pool.
    bytes: usize,
}

// SAFETY: the memory is owned, and reached only through `tensor.rs`'s disjoint chunks.
unsafe impl Send for Memory {}
// SAFETY: `&Memory` gives nothing but the address; the memory is reached only through `tensor.rs`'s
// disjoint chunks.
unsafe impl Sync for Memory {}

impl Memory {
    pub fn zeroed(bytes: usize, what: &'static str) -> Result<Memory, Error> {
        Memory::beside(0, bytes, what)
    }

    /// Returns zeroed memory that is passed over with what begins at an address.
    pub fn beside(address: usize, bytes: usize, what: &'static str) -> Result<Memory, Error> {
        let modulus = modulus(bytes);
        let place = place_away(address, modulus);
        let start =
            if bytes < HUGE_PAGE { allocated(bytes, place) } else { mapped(bytes, place, true) };
        let start = start.ok_or(Error::OutOfMemory { what, bytes })?;
        Ok(Memory { start, bytes })
    }

    pub fn address(&self) -> usize {
        self.start.expose_provenance().get()
    }

    /// Returns whether it is a piece of a pool's chunk, in which others lie end to end with it.
    pub fn is_piece(&self) -> bool {
        self.bytes >= PIECE
    }
}

/// Memory that is reached only through its owner.
pub struct Block(Memory);

impl Block {
    pub fn zeroed(bytes: usize, what: &'static str) -> Result<Block, Error> {
        Ok(Block(Memory::zeroed(bytes, what)?))
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the bytes are initialised, and nobody else knows the address.
        unsafe { core::slice::from_raw_parts(self.0.start.as_ptr(), self.0.bytes) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.bytes) }
    }
}

/// Makes room in a `Vec` for `additional` more values. The error names `what` had no room.
pub fn reserve<T>(vec: &mut Vec<T>, additional: usize, what: &'static str) -> Result<(), Error> {
    let bytes = vec.len().saturating_add(additional).saturating_mul(size_of::<T>());
    vec.try_reserve(additional).map_err(|_| Error::OutOfMemory { what, bytes })
}

/// Cuts a `Vec` to `length` values, and gives room back if it has far more than they need and there
/// is memory to move them to.
pub fn give_back<T>(vec: &mut Vec<T>, length: usize) {
    const FEW: usize = 16;
    vec.truncate(length);
    let kept = length.max(FEW);
    if vec.capacity() / 4 > kept {
        let mut smaller = Vec::new();
        if reserve(&mut smaller, 2 * kept, "").is_ok() {
            smaller.append(vec);
            *vec = smaller;
        }
    }
}

/// Returns a value that stays for as long as the process.
pub fn leaked<T>(value: T, what: &'static str) -> Result<&'static T, Error> {
    let mut values = Vec::new();
    reserve(&mut values, 1, what)?;
    values.push(value);
    Ok(&values.leak()[0])
}

/// A box whose allocation can fail.
pub struct Boxed<T>(Vec<T>);

impl<T> Boxed<T> {
    pub fn new(value: T, what: &'static str) -> Result<Boxed<T>, Error> {
        let mut values = Vec::new();
        reserve(&mut values, 1, what)?;
        values.push(value);
        Ok(Boxed(values))
    }
}

impl<T> Deref for Boxed<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0[0] // `new` put it there, and nothing takes it away
    }
}

impl<T> DerefMut for Boxed<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0[0]
    }
}

/// Returns the number by which the start of so many bytes has its place as the remainder. As many
/// more bytes are allocated: at most a quarter of what there are. By a quarter of `ALIASES` a start
/// is 8 cache lines from the parameter's, and 16 from those of its other buffers, if it is not on
/// one place with them, which does no harm.
fn modulus(bytes: usize) -> usize {
    match bytes / ALIASES {
        0 => ALIGN,
        1..16 => ALIASES / 4,
        _ => ALIASES,
    }
}

/// Returns the place, as a remainder, of a cache line that is half a modulus from an address.
fn place_away(address: usize, modulus: usize) -> usize {
    (address % modulus + modulus / 2) / ALIGN * ALIGN % modulus
}

/// Returns the layout of `bytes` and as many more as it takes to place them by hand. The allocator
/// is not asked for the alignment, because it then cuts off pieces and joins them again, which took
/// a quarter of the time to add a parameter.
fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.checked_add(modulus(bytes))?, UNASKED).ok()
}

/// Allocates zeroed bytes. The byte before the start is its distance from the start of the
/// allocation, in `UNASKED`, less 1.
fn allocated(bytes: usize, place: usize) -> Option<NonNull<u8>> {
    // SAFETY: the size of the layout is not zero.
    let allocation = NonNull::new(unsafe { alloc_zeroed(layout(bytes)?) })?;
    let modulus = modulus(bytes);
    let before = modulus - allocation.addr().get().wrapping_sub(place) % modulus;
    // SAFETY: `before` is `UNASKED` to `modulus`, and the allocation has `modulus` bytes more than
    // were asked for.
    unsafe {
        let start = allocation.byte_add(before);
        start.byte_sub(1).write((before / UNASKED - 1) as u8);
        Some(start)
    }
}

/// Returns the length of the mapping in which `bytes` begin at `place`.
fn mapped_bytes(bytes: usize, place: usize) -> Option<usize> {
    bytes.checked_add(place)?.checked_next_multiple_of(PAGES)
}

/// Maps zeroed bytes, on huge pages if there is no reason against it.
fn mapped(bytes: usize, place: usize, is_huge: bool) -> Option<NonNull<u8>> {
    let kept = mapped_bytes(bytes, place)?;
    // One huge page more than is kept, so that the mapping can start on the boundary of one.
    let length = kept.checked_add(HUGE_PAGE)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping touches nothing that exists.
    let start = unsafe { libc::mmap(core::ptr::null_mut(), length, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    let before = start.addr().next_multiple_of(HUGE_PAGE) - start.addr();
    let after = HUGE_PAGE - before;
    // SAFETY: the three ranges make up the mapping, which was made above, and only the middle one
    // is used from here on. If the advice is refused, the pages are ordinary ones.
    unsafe {
        let (first, rest) = (start.byte_add(before), start.byte_add(before + kept));
        if before > 0 && libc::munmap(start, before) != 0 || libc::munmap(rest, after) != 0 {
            libc::munmap(start, length);
            return None;
        }
        if is_huge {
            libc::madvise(first, kept, libc::MADV_HUGEPAGE);
        }
        NonNull::new(first.byte_add(place).cast())
    }
}

/// Unmaps `bytes`, which begin at `place`.
///
/// # Safety
/// `mapped` returned them, and nobody has them from here on.
unsafe fn unmap(start: NonNull<u8>, bytes: usize, place: usize) {
    if let Some(length) = mapped_bytes(bytes, place) {
        // SAFETY: `mapped` made the mapping with this length on the boundary of a huge page.
        unsafe { libc::munmap(start.byte_sub(place).as_ptr().cast(), length) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.is_piece() {
            // SAFETY: a pool returned the piece, and nobody has given it back.
            unsafe { pool::give_back(self.start, self.bytes - PIECE) };
        } else if self.bytes >= HUGE_PAGE {
            // SAFETY: `mapped` made this mapping, and nobody has unmapped it.
            unsafe { unmap(self.start, self.bytes, self.start.addr().get() % HUGE_PAGE) };
        } else if let Some(layout) = layout(self.bytes) {
            // SAFETY: `allocated` made this layout, wrote the distance to its start there, and
            // nobody has freed it.
            unsafe {
                let before = (usize::from(self.start.byte_sub(1).read()) + 1) * UNASKED;
                dealloc(self.start.byte_sub(before).as_ptr(), layout);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::with_exposed_provenance_mut;

    #[test]
    fn memory_is_zero_and_its_own_and_starts_on_a_cache_line() {
        for bytes in [0, 1, 16, 63, 64, 65, 100, 4096, 200_000, HUGE_PAGE - 1, HUGE_PAGE] {
            let few: Vec<_> = (0..9).map(|_| Memory::zeroed(bytes, "a test").unwrap()).collect();
            for (i, memory) in few.iter().enumerate() {
                assert!(memory.address().is_multiple_of(ALIGN), "{bytes}");
                let start = with_exposed_provenance_mut::<u8>(memory.address());
                // SAFETY: `memory` has `bytes` initialised bytes, and nobody else has them.
                let all = unsafe { core::slice::from_raw_parts_mut(start, bytes) };
                assert!(all.iter().all(|&byte| byte == 0), "{bytes}");
                all.fill(i as u8 + 1);
            }
        }
        assert!(Memory::zeroed(usize::MAX, "a test").is_err());
    }

    #[test]
    fn memory_starts_away_from_what_it_is_passed_over_with() {
        const LARGE: usize = 16 * ALIASES;
        let (some, all) = (ALIASES / 4, ALIASES);
        let sizes = [(ALIASES, some), (5000, some), (LARGE - 1, some), (LARGE, all)];
        let mapped = [HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 5 * HUGE_PAGE];
        for (bytes, modulus) in sizes.into_iter().chain(mapped.map(|bytes| (bytes, all))) {
            for beside in [0, 16, 64, 100, 1024, 2048, 4095, 123_456_789] {
                let memory = Memory::beside(beside, bytes, "a test").unwrap();
                let apart = memory.address().wrapping_sub(beside) % modulus;
                let half = modulus / 2;
                assert!((half - ALIGN..=half).contains(&apart), "{bytes}, {beside}: {apart}");
                let start = with_exposed_provenance_mut::<u8>(memory.address());
                // SAFETY: as above.
                unsafe { core::slice::from_raw_parts_mut(start, bytes) }.fill(1);
            }
        }
    }
}
