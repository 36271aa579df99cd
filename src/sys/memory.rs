//! Memory whose lack is an error, never the end of the process.
//!
//! `reserve` makes room in a `Vec`; `Boxed::new` and `leaked` allocate one value. They return an
//! error if there is no memory. `give_back` returns room that is no longer needed.
//!
//! `Memory::zeroed` is the zeroed memory of optimizer state. `allocated` takes less than a huge
//! page from the allocator, and aligns it to a cache line by hand. `mapped` maps more than that on
//! huge pages. A mapping costs nothing until it is touched, so that the pages of a large state are
//! allocated by the thread that first steps them; they go back to the system at once when it is
//! dropped. A `Block` is the same for bytes that one owner reads and writes.

use crate::error::Error;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc};

/// A cache line, and the widest vector register.
const ALIGN: usize = 64;
const HUGE_PAGE: usize = 2 << 20;

/// An owned allocation, all of whose bytes are initialised. It takes two words, because a step
/// passes over one or more of them for each parameter.
pub struct Memory {
    start: NonNull<u8>,
    /// The number of bytes that were asked for, which tells whether the memory was allocated or
    /// mapped.
    bytes: usize,
}

// SAFETY: the memory is owned, and reached only through `tensor.rs`'s disjoint chunks.
unsafe impl Send for Memory {}
// SAFETY: `&Memory` gives nothing but the address; the memory is reached only through `tensor.rs`'s
// disjoint chunks.
unsafe impl Sync for Memory {}

impl Memory {
    pub fn zeroed(bytes: usize, what: &'static str) -> Result<Memory, Error> {
        let start = if bytes < HUGE_PAGE { allocated(bytes) } else { mapped(bytes) };
        let start = start.ok_or(Error::OutOfMemory { what, bytes })?;
        Ok(Memory { start, bytes })
    }

    pub fn address(&self) -> usize {
        self.start.expose_provenance().get()
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

/// Returns the layout of `bytes` and as many more as it takes to start on a cache line by hand. The
/// allocator is not asked for the alignment, because it then cuts off pieces and joins them again,
/// which took a quarter of the time to add a parameter.
fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.checked_add(ALIGN)?, 1).ok()
}

/// Allocates zeroed bytes that start on a cache line. The byte before the start is its distance
/// from the start of the allocation.
fn allocated(bytes: usize) -> Option<NonNull<u8>> {
    // SAFETY: the size of the layout is not zero.
    let allocation = NonNull::new(unsafe { alloc_zeroed(layout(bytes)?) })?;
    let before = ALIGN - allocation.addr().get() % ALIGN;
    // SAFETY: `before` is 1 to `ALIGN`, and the allocation has `ALIGN` bytes more than were asked
    // for.
    unsafe {
        let start = allocation.byte_add(before);
        start.byte_sub(1).write(before as u8);
        Some(start)
    }
}

/// Returns the bytes of the whole huge pages that hold `bytes`.
fn mapped_bytes(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(HUGE_PAGE)
}

fn mapped(bytes: usize) -> Option<NonNull<u8>> {
    let kept = mapped_bytes(bytes)?;
    // One more huge page than is kept, so that the memory can start on a boundary.
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
        libc::madvise(first, bytes, libc::MADV_HUGEPAGE);
        NonNull::new(first.cast())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.bytes < HUGE_PAGE {
            if let Some(layout) = layout(self.bytes) {
                // SAFETY: `allocated` made this layout, wrote the distance to its start there, and
                // nobody has freed it.
                unsafe {
                    let before = self.start.byte_sub(1).read();
                    dealloc(self.start.byte_sub(before as usize).as_ptr(), layout);
                }
            }
        } else if let Some(length) = mapped_bytes(self.bytes) {
            // SAFETY: `mapped` made this mapping with this length, and nobody has unmapped it.
            unsafe { libc::munmap(self.start.as_ptr().cast(), length) };
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
}
