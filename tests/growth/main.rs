//! What comes and goes leaves nothing behind, and costs the same however much there is. These tests measure
//! the memory of the process: they have a program of their own, and run one at a time.

#[path = "../common/mod.rs"]
mod common;

mod handles;
mod headers;
mod params;
mod ranks;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts the bytes that are allocated, by the library and by the tests.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
/// The most that `LIVE` has been since it was set.
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, which does what it is asked.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps the conditions of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        let live = LIVE.fetch_add(size, Ordering::Relaxed) + size;
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps the conditions of `GlobalAlloc::realloc`.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the conditions of `GlobalAlloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Waits until no other test of this program runs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of memory that the process has mapped and that it has now.
fn mapped_and_resident_bytes() -> (usize, usize) {
    // SAFETY: gives back what the allocator holds for nobody.
    unsafe { libc::malloc_trim(0) };
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let mut bytes = statm.split(' ').map(|pages| pages.trim().parse::<usize>().unwrap() * 4096);
    (bytes.next().unwrap(), bytes.next().unwrap())
}

fn resident_bytes() -> usize {
    mapped_and_resident_bytes().1
}

/// What some work returns, and how many bytes more than before were allocated at once while it ran.
fn most_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed) - before)
}
