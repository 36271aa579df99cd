//! Pointers that a C caller hands in, each of them perhaps null.

use super::code::Code;
use std::ffi::{CStr, c_char};

/// Where a result goes: null, or a place that the caller owns.
#[repr(transparent)]
#[derive(Debug)]
pub struct Out<T>(*mut T);

impl<T> Out<T> {
    /// No place.
    pub fn null() -> Out<T> {
        Out(std::ptr::null_mut())
    }

    /// Refuses a null pointer, before there is a result that would be lost.
    pub(super) fn check(&self) -> Result<(), Code> {
        if self.0.is_null() { Err(Code::INVALID_VALUE) } else { Ok(()) }
    }

    /// Writes the result.
    pub(super) fn set(&self, value: T) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the caller of the API hands in null or a place to write.
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// Writes the result where there is a place for it.
    pub(super) fn set_if_given(&self, value: T) {
        // A null pointer is no error here.
        let _ = self.set(value);
    }

    /// Writes as much of a text as fits in so many elements of one byte, and ends it.
    pub(super) fn set_text(&self, text: &str, capacity: usize) {
        const { assert!(size_of::<T>() == 1) };
        if self.0.is_null() || capacity == 0 {
            return;
        }
        let length = text.len().min(capacity - 1);
        let to = self.0.cast::<u8>();
        // SAFETY: the caller of the API says that the place has so many bytes.
        unsafe {
            to.copy_from_nonoverlapping(text.as_ptr(), length);
            to.add(length).write(0);
        }
    }
}

impl<T> From<&mut T> for Out<T> {
    fn from(place: &mut T) -> Out<T> {
        Out(place)
    }
}

impl<T> From<*mut T> for Out<T> {
    fn from(place: *mut T) -> Out<T> {
        Out(place)
    }
}

/// A C text that the caller owns, or null.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Text(*const c_char);

impl Text {
    /// The text; null and what is not UTF-8 are invalid.
    pub(super) fn get(&self) -> Result<&str, Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the caller of the API hands in null or a text that ends.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map_err(|_| Code::INVALID_VALUE)
    }
}

impl From<&CStr> for Text {
    fn from(text: &CStr) -> Text {
        Text(text.as_ptr())
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.get().unwrap_or("null"))
    }
}

/// The elements of an array that the caller owns; null only where there are none.
pub(super) fn elements<T: Copy>(array: *const T, count: usize) -> Result<Vec<T>, Code> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if array.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: the caller of the API says that the array has so many elements.
    Ok((0..count).map(|index| unsafe { array.add(index).read_unaligned() }).collect())
}
