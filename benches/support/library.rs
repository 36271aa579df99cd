//! A build of the library that is loaded by its path.

use core::ffi::{CStr, c_void};
use std::ffi::CString;

/// A build of this project's library. It stays loaded.
pub struct Library {
    path: CString,
    handle: *mut c_void,
}

impl Library {
    pub fn load(path: &str) -> Library {
        let path = CString::new(path).unwrap();
        // SAFETY: a library of this project, whose loading does nothing else.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "{path:?} cannot be loaded");
        Library { path, handle }
    }

    /// Returns a function by its name.
    ///
    /// # Safety
    /// It has this type.
    pub unsafe fn function<F: Copy>(&self, name: &CStr) -> F {
        // SAFETY: the library stays loaded.
        let found = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        assert!(!found.is_null(), "{:?} has no {name:?}", self.path);
        assert_eq!(size_of::<F>(), size_of_val(&found));
        // SAFETY: the caller's word.
        unsafe { core::mem::transmute_copy(&found) }
    }
}
