//! One word for each thread, without thread-local storage. Where the library is loaded while the
//! host runs, that storage comes from an allocator that ends the process when there is no memory.

use crate::error::Error;
use core::ffi::c_void;
use core::ptr::{with_exposed_provenance_mut, without_provenance};
use core::sync::atomic::{AtomicU64, Ordering};

/// A word for each thread, 0 at first.
pub struct PerThread {
    /// The system's key plus 1, or 0 as long as there is none.
    key: AtomicU64,
    /// Called with the word of a thread that ends, if it is not 0.
    destructor: Option<unsafe extern "C" fn(*mut c_void)>,
}

impl PerThread {
    pub const fn new(destructor: Option<unsafe extern "C" fn(*mut c_void)>) -> PerThread {
        PerThread { key: AtomicU64::new(0), destructor }
    }

    /// Returns this thread's word.
    pub fn get(&self) -> usize {
        match self.key.load(Ordering::Acquire) {
            0 => 0,
            // SAFETY: the key was created, and is never deleted.
            key => unsafe { libc::pthread_getspecific((key - 1) as libc::pthread_key_t) }
                .expose_provenance(),
        }
    }

    /// Sets this thread's word. It fails if the system has no key left, or no memory for the word.
    pub fn set(&self, word: usize) -> Result<(), Error> {
        let key = self.key()?;
        let word = without_provenance(word);
        // SAFETY: the key was created, and is never deleted.
        match unsafe { libc::pthread_setspecific(key, word) } {
            0 => Ok(()),
            _ => Err(Error::OutOfMemory { what: "what is kept for a thread", bytes: 8 }),
        }
    }

    /// Returns the key, which the first call creates. There is no lock, which a fork might leave
    /// held.
    fn key(&self) -> Result<libc::pthread_key_t, Error> {
        let known = self.key.load(Ordering::Acquire);
        if known > 0 {
            return Ok((known - 1) as libc::pthread_key_t);
        }
        let mut key = 0;
        // SAFETY: the pointer is to the key; the destructor takes any word that is set.
        if unsafe { libc::pthread_key_create(&mut key, self.destructor) } != 0 {
            return Err(Error::OutOfMemory { what: "what is kept for each thread", bytes: 8 });
        }
        let new = u64::from(key) + 1;
        match self.key.compare_exchange(0, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(key),
            Err(other) => {
                // SAFETY: the key was created above, and nobody else knows it.
                unsafe { libc::pthread_key_delete(key) };
                Ok((other - 1) as libc::pthread_key_t)
            }
        }
    }
}

/// Some bytes for each thread, zero at first and freed when it ends.
pub struct BytesPerThread<const N: usize>(PerThread);

impl<const N: usize> BytesPerThread<N> {
    pub const fn new() -> BytesPerThread<N> {
        BytesPerThread(PerThread::new(Some(libc::free)))
    }

    /// Returns this thread's bytes, if it has asked for them.
    pub fn get(&self) -> Option<*mut [u8; N]> {
        let bytes = with_exposed_provenance_mut::<[u8; N]>(self.0.get());
        (!bytes.is_null()).then_some(bytes)
    }

    /// Returns this thread's bytes, which the first call allocates; `None` if there is no memory.
    pub fn ask(&self) -> Option<*mut [u8; N]> {
        self.get().or_else(|| {
            // SAFETY: `calloc` has no precondition.
            let bytes = unsafe { libc::calloc(1, N) };
            if bytes.is_null() || self.0.set(bytes.expose_provenance()).is_err() {
                // SAFETY: the pointer is NULL, or was allocated above and nobody else knows it.
                unsafe { libc::free(bytes) };
                return None;
            }
            self.get()
        })
    }
}
