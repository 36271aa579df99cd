//! Memory that may be lacking. Zeroed memory for optimizer state: from the allocator where it is small, mapped on huge pages
//! where it is large.
//!
//! A mapping costs nothing until it is touched, so that the pages of a large state come into being
//! on the thread that first steps them, and go back to the system at once when it is dropped.

use crate::error::Error;
use core::ffi::c_void;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc};

/// A cache line, and the widest vector register.
const ALIGN: usize = 64;
const HUGE_PAGE: usize = 2 << 20;

/// An owned allocation; all its bytes are initialised.
pub struct Memory {
    address: NonNull<u8>,
    origin: Origin,
}

enum Origin {
    Allocator(Layout),
    Mapping { start: *mut c_void, bytes: usize },
}

// SAFETY: the memory is owned, and reached only through `tensor.rs`'s disjoint chunks.
unsafe impl Send for Memory {}
// SAFETY: as above; `&Memory` gives nothing but the address.
unsafe impl Sync for Memory {}

impl Memory {
    pub fn zeroed(bytes: usize, what: &'static str) -> Result<Memory, Error> {
        let memory = if bytes < HUGE_PAGE { allocated(bytes) } else { mapped(bytes) };
        memory.ok_or(Error::OutOfMemory { what, bytes })
    }

    pub fn address(&self) -> usize {
        self.address.expose_provenance().get()
    }
}

/// Makes room in a `Vec` for `additional` more, or says what there was no room for.
pub fn reserve<T>(vec: &mut Vec<T>, additional: usize, what: &'static str) -> Result<(), Error> {
    let bytes = vec.len().saturating_add(additional).saturating_mul(size_of::<T>());
    vec.try_reserve(additional).map_err(|_| Error::OutOfMemory { what, bytes })
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

fn allocated(bytes: usize) -> Option<Memory> {
    let layout = Layout::from_size_align(bytes.max(1), ALIGN).ok()?;
    // SAFETY: the size is not zero.
    let address = NonNull::new(unsafe { alloc_zeroed(layout) })?;
    Some(Memory { address, origin: Origin::Allocator(layout) })
}

fn mapped(bytes: usize) -> Option<Memory> {
    // One huge page more, so that the state can start on the boundary of one.
    let length = bytes.checked_add(HUGE_PAGE)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping touches nothing that exists.
    let start = unsafe { libc::mmap(core::ptr::null_mut(), length, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    let origin = Origin::Mapping { start, bytes: length };
    let to_boundary = start.addr().next_multiple_of(HUGE_PAGE) - start.addr();
    // SAFETY: less than a huge page further is still inside the mapping.
    let address = NonNull::new(unsafe { start.cast::<u8>().add(to_boundary) })?;
    // SAFETY: the range is ours. A refusal only means ordinary pages.
    unsafe { libc::madvise(address.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
    Some(Memory { address, origin })
}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.origin {
            // SAFETY: allocated in `allocated` with this layout, and not freed before.
            Origin::Allocator(layout) => unsafe { dealloc(self.address.as_ptr(), layout) },
            // SAFETY: mapped in `mapped` with this length, and not unmapped before.
            Origin::Mapping { start, bytes } => unsafe {
                libc::munmap(start, bytes);
            },
        }
    }
}
