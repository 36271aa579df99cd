//! The callback of the host by which a step of ranks goes on piece by piece.

use super::UserData;
use crate::sys::fp;
use core::ffi::c_void;

/// Called while a step goes on, and returns 0 when the step may read the gradients of the first
/// `until` elements. It has written the first `done`, whose parameters it does not touch any more.
/// Both count the elements that this handle has of its parameters, laid end to end by their
/// numbers.
///
/// A step that measures the gradients calls it for all of them with `done` 0 before the ranks tell
/// each other what they have measured; then, or without that, it calls it again from the first
/// element on while it writes. Each time, the last call has all elements as `until`, also where
/// this rank has none. (Where parameters are offloaded, it is called once before that, with all of
/// them, and not while the step writes.)
///
/// Any other return value fails the step on this rank with `ADAMW_STATUS_CALLBACK`. If the step has
/// begun to write, that cannot be undone, and the handle can only be destroyed. The other ranks
/// are not told.
#[allow(non_camel_case_types)]
pub type adamw_next_piece =
    Option<unsafe extern "C" fn(done: u64, until: u64, user_data: *mut c_void) -> i32>;

/// Waits for the gradients of pieces, and learns which have been stepped.
#[derive(Clone, Copy)]
pub struct NextPiece {
    function: unsafe extern "C" fn(u64, u64, *mut c_void) -> i32,
    user_data: UserData,
}

impl NextPiece {
    /// Returns `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` until it is replaced.
    pub unsafe fn new(function: adamw_next_piece, user_data: *mut c_void) -> Option<Self> {
        Some(NextPiece { function: function?, user_data: UserData(user_data) })
    }

    /// Waits until the gradients of so many elements are there. Returns what the host has returned,
    /// which is 0 if they are.
    pub fn wait(&self, done: u64, until: u64) -> i32 {
        fp::as_host(|| {
            // SAFETY: the caller of `new` allowed it.
            unsafe { (self.function)(done, until, self.user_data.0) }
        })
    }
}
