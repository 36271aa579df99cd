//! Memory that may be lacking. Zeroed memory for optimizer state: from the allocator where it is
//! small, mapped on huge pages where it is large.
//!
//! A mapping costs nothing until it is touched, so that the pages of a large state come into being
//! on the thread that first steps them, and go back to the system at once when it is dropped.

use crate::error::Error;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc};

/// A cache line, and the widest vector register.
const ALIGN: usize = 64;
const HUGE_PAGE: usize = 2 << 20;

/// An owned allocation; all its bytes are initialised. Two words: a step passes over one or more of
/// them for each parameter.
pub struct Memory {
    start: NonNull<u8>,
    /// How many bytes were asked for, which tells the one from the other.
    bytes: usize,
}

// SAFETY: the memory is owned, and reached only through `tensor.rs`'s disjoint chunks.
unsafe impl Send for Memory {}
// SAFETY: as above; `&Memory` gives nothing but the address.
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

/// Makes room in a `Vec` for `additional` more, or says what there was no room for.
pub fn reserve<T>(vec: &mut Vec<T>, additional: usize, what: &'static str) -> Result<(), Error> {
    let bytes = vec.len().saturating_add(additional).saturating_mul(size_of::<T>());
    vec.try_reserve(additional).map_err(|_| Error::OutOfMemory { what, bytes })
}

/// Forgets what a `Vec` has behind so many values, and gives room back where it has far more than for those, if
/// there is memory to move to.
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

/// A box whose memory is allowed to be lacking.
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

/// As much more as it takes to start on a cache line: an allocator that is asked for that cuts off
/// pieces and joins them again, which took a quarter of the time to add a parameter.
fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.checked_add(ALIGN)?, 1).ok()
}

/// The byte before the start says how far that is from where the allocation starts.
fn allocated(bytes: usize) -> Option<NonNull<u8>> {
    // SAFETY: the size is not zero.
    let allocation = NonNull::new(unsafe { alloc_zeroed(layout(bytes)?) })?;
    let before = ALIGN - allocation.addr().get() % ALIGN;
    // SAFETY: from 1 to `ALIGN` bytes, which are there before those that were asked for.
    unsafe {
        let start = allocation.byte_add(before);
        start.byte_sub(1).write(before as u8);
        Some(start)
    }
}

/// Whole huge pages.
fn mapped_bytes(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(HUGE_PAGE)
}

fn mapped(bytes: usize) -> Option<NonNull<u8>> {
    let kept = mapped_bytes(bytes)?;
    // One more than is kept, so that there is room to start on the boundary of one.
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
    // SAFETY: the three ranges make up the mapping, which is ours, and only the middle one is used
    // from here on. A refused advice only means ordinary pages.
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
                // SAFETY: allocated in `allocated` with this layout so far before, and not freed before.
                unsafe {
                    let before = self.start.byte_sub(1).read();
                    dealloc(self.start.byte_sub(before as usize).as_ptr(), layout);
                }
            }
        } else if let Some(length) = mapped_bytes(self.bytes) {
            // SAFETY: mapped in `mapped` with this length, and not unmapped before.
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
                // SAFETY: so many bytes are there, initialised, and nobody else has them.
                let all = unsafe { core::slice::from_raw_parts_mut(start, bytes) };
                assert!(all.iter().all(|&byte| byte == 0), "{bytes}");
                all.fill(i as u8 + 1);
            }
        }
        assert!(Memory::zeroed(usize::MAX, "a test").is_err());
    }
}
