//! Inspection of a checkpoint without a handle.
#![allow(non_camel_case_types)]

use super::load::{adamw_source, source};
use super::sized::sized_struct;
use super::{Status, guard};
use crate::checkpoint::{Buffers, Checkpoint, Progress, Window, alone};
use crate::error::Error;
use crate::sys::fp;
use core::ffi::{c_char, c_void};
use core::ptr::null;

/// An entry of a checkpoint, which is a text or a tensor. Valid during the callback.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_entry {
    /// `sizeof(adamw_entry)`.
    pub struct_size: usize,
    /// The name of the entry, NUL-terminated.
    pub name: *const c_char,
    /// The text, NUL-terminated. NULL: the entry is a tensor.
    pub text: *const c_char,
    /// The element type of a tensor, as safetensors names it ("F32", "BF16", ...). NULL: the entry
    /// is a text.
    pub dtype: *const c_char,
    /// The number of elements of a tensor.
    pub n_elements: u64,
    /// The offset in the file of the first byte of a tensor.
    pub offset: u64,
    /// The value, if it is one number of 64 bits, such as a counter; otherwise NaN.
    pub value: f64,
}

sized_struct!(adamw_entry, "entry", 7 of 8);

/// Receives one entry of a checkpoint and returns 0. Any other return value ends the call with
/// `ADAMW_STATUS_CALLBACK`.
pub type adamw_visit =
    Option<unsafe extern "C" fn(entry: *const adamw_entry, user_data: *mut c_void) -> i32>;

/// Checks a checkpoint and calls `visit` for each of its entries: first the texts, then the
/// tensors, ordered by name. It needs no handle.
///
/// # Safety
/// `source` is NULL, or readable with all that it points to. `visit` may be called with
/// `user_data`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_inspect(
    source: *const adamw_source,
    visit: adamw_visit,
    user_data: *mut c_void,
) -> Status {
    guard(|| {
        let visit = visit.ok_or(Error::Null("visit"))?;
        // SAFETY: the caller guarantees it.
        let mut checkpoint = Checkpoint::open(unsafe { self::source(source) }?)?;
        let mut window = Window::new()?;
        let (buffers, mut progress) = (Buffers::default(), Progress::new(None, 0));
        checkpoint.verify(&mut window, &buffers, &mut progress, &mut alone)?;
        let show = |entry: &adamw_entry| {
            // SAFETY: the caller guarantees it; the entry lives through the call.
            match fp::as_host(|| unsafe { visit(entry, user_data) }) {
                0 => Ok(()),
                returned => Err(Error::Transfer { name: "visit", returned }),
            }
        };
        let none = adamw_entry {
            struct_size: size_of::<adamw_entry>(),
            name: null(),
            text: null(),
            dtype: null(),
            n_elements: 0,
            offset: 0,
            value: f64::NAN,
        };
        for (name, text) in checkpoint.header().texts() {
            show(&adamw_entry { name: name.as_ptr().cast(), text: text.as_ptr().cast(), ..none })?;
        }
        for found in checkpoint.header().entries() {
            show(&adamw_entry {
                name: checkpoint.header().name_with_nul(found).as_ptr().cast(),
                dtype: found.dtype_c().as_ptr(),
                n_elements: found.n_elements(),
                offset: checkpoint.offset(found),
                value: window.number(&checkpoint, found)?,
                ..none
            })?;
        }
        Ok(())
    })
}
