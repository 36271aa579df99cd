//! Cancellation of the host's threads, which unwinds the stack from inside a call: it is held off
//! until the call is over. The frame that calls `hold_off` and `let_go` has nothing to drop and
//! calls nothing that unwinds in between, so that the thread may end in `let_go`.

use core::ffi::c_int;

/// The settings that the thread had.
#[derive(Clone, Copy)]
pub struct Found {
    state: c_int,
    kind: c_int,
}

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
    fn pthread_setcanceltype(kind: c_int, old: *mut c_int) -> c_int;
}

/// PTHREAD_CANCEL_DISABLE and PTHREAD_CANCEL_DEFERRED
const DISABLE: c_int = 1;
const DEFERRED: c_int = 0;

/// Keeps this thread from being cancelled from now on, by both the state and the type. The type
/// alone does not keep cancellation off, and with the state alone some versions of glibc still act
/// on a cancellation that is on its way.
#[inline(always)]
pub fn hold_off() -> Found {
    let mut found = Found { state: DISABLE, kind: DEFERRED };
    // SAFETY: the pointers are to the fields of `found`.
    unsafe {
        pthread_setcancelstate(DISABLE, &mut found.state);
        pthread_setcanceltype(DEFERRED, &mut found.kind);
    }
    found
}

/// Restores the settings that were found. The thread ends here if it was cancelled meanwhile.
#[inline(always)]
pub fn let_go(found: Found) {
    let mut ours = 0;
    // SAFETY: the values are settings that the thread had, and the pointers are to `ours`.
    unsafe {
        pthread_setcancelstate(found.state, &mut ours);
        pthread_setcanceltype(found.kind, &mut ours);
    }
}
