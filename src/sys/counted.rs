//! A value with several owners, whose allocation can fail.

use crate::error::Error;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use std::alloc::{Layout, alloc};

/// One owner of a value, which is dropped with the last of them.
pub struct Counted<T>(NonNull<Inner<T>>);

struct Inner<T> {
    n_owners: AtomicUsize,
    value: T,
}

// SAFETY: owners on any thread share the value, and the last one drops it, on its own thread.
unsafe impl<T: Send + Sync> Send for Counted<T> {}
// SAFETY: a reference to an owner gives a reference to the value, and another owner.
unsafe impl<T: Send + Sync> Sync for Counted<T> {}

impl<T> Counted<T> {
    pub fn new(value: T, what: &'static str) -> Result<Counted<T>, Error> {
        let layout = Layout::new::<Inner<T>>();
        // SAFETY: the count makes the size of the layout more than 0.
        let memory = NonNull::new(unsafe { alloc(layout) }.cast::<Inner<T>>())
            .ok_or(Error::OutOfMemory { what, bytes: layout.size() })?;
        // SAFETY: the memory was allocated above, for an `Inner`.
        unsafe { memory.write(Inner { n_owners: AtomicUsize::new(1), value }) };
        Ok(Counted(memory))
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: this owner keeps the value, and nobody has a mutable reference to it.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Clone for Counted<T> {
    fn clone(&self) -> Counted<T> {
        self.inner().n_owners.fetch_add(1, Ordering::Relaxed);
        Counted(self.0)
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        if self.inner().n_owners.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire); // what other owners did comes before the drop
            // SAFETY: `new` allocated it with the layout of a box, and this was the last owner.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_value_is_dropped_once_with_its_last_owner() {
        let value = Arc::new(());
        let first = Counted::new(value.clone(), "a test").unwrap();
        let owners: Vec<_> = (0..8).map(|_| first.clone()).collect();
        drop(first);
        let threads = owners.into_iter().map(|owner| {
            assert_eq!(Arc::strong_count(&owner), 2);
            std::thread::spawn(move || drop(owner))
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
