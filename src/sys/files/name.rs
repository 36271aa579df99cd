//! Names in a directory.
#![forbid(unsafe_code)]

use core::ffi::{CStr, c_char};
use std::io::Error as IoError;

/// A name in a directory, NUL-terminated.
pub struct Name([u8; 256]);

impl Name {
    pub fn new(name: &[u8]) -> Result<Name, IoError> {
        let mut bytes = [0; 256];
        if name.is_empty() {
            return Err(IoError::from_raw_os_error(libc::EISDIR));
        }
        terminated(name, &mut bytes)?;
        Ok(Name(bytes))
    }

    /// Returns `.adamw-<number>.tmp`, with three digits.
    pub fn temporary(number: usize) -> Result<Name, IoError> {
        let mut digits = *b".adamw-000.tmp";
        for (place, power) in [(7, 100), (8, 10), (9, 1)] {
            digits[place] += (number / power % 10) as u8;
        }
        Name::new(&digits)
    }

    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }

    pub fn as_ptr(&self) -> *const c_char {
        self.0.as_ptr().cast()
    }
}

/// Copies a text and a NUL behind it to `to`, if there is room, and returns it.
pub fn terminated<'a>(text: &[u8], to: &'a mut [u8]) -> Result<&'a CStr, IoError> {
    let too_long = || IoError::from_raw_os_error(libc::ENAMETOOLONG);
    if text.len() >= to.len() {
        return Err(too_long());
    }
    to[..text.len()].copy_from_slice(text);
    to[text.len()] = 0;
    CStr::from_bytes_until_nul(to).map_err(|_| too_long())
}
