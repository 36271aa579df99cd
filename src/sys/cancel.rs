//! Cancellation of the host's threads, which unwinds the stack from inside a call: held off until the call is
//! over. Whoever holds it off and lets it go again does so in a frame that has nothing to drop, and calls
//! nothing that unwinds in between, so that the thread may end right there.

use core::ffi::c_int;

/// What the thread had set.
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

/// This thread is not cancelled from now on. The type alone would not do, and the state alone does not either: a
/// cancellation that is on its way when it is set is held back by some versions of glibc for the type only.
#[inline(always)]
pub fn hold_off() -> Found {
    let mut found = Found { state: DISABLE, kind: DEFERRED };
    // SAFETY: the pointers are to what was found.
    unsafe {
        pthread_setcancelstate(DISABLE, &mut found.state);
        pthread_setcanceltype(DEFERRED, &mut found.kind);
    }
    found
}

/// This thread may be cancelled again, if it might before: now, if somebody has meanwhile.
#[inline(always)]
pub fn let_go(found: Found) {
    let mut ours = 0;
    // SAFETY: the values were set before, and the pointers are to another.
    unsafe {
        pthread_setcancelstate(found.state, &mut ours);
        pthread_setcanceltype(found.kind, &mut ours);
    }
}
