//! The system: files, the floating-point environment, memory, processors, threads, signals, panics.

pub mod background;
pub mod cancel;
pub mod counted;
pub mod files;
pub mod fp;
pub mod meeting;
pub mod memory;
pub mod panics;
pub mod streamed;
pub mod team;
pub mod thread;
pub mod together;

use core::ffi::CStr;

/// Returns the number of processors that this process may run on: those of its affinity mask, not
/// of the machine.
pub fn affinity_count() -> usize {
    // SAFETY: `cpu_set_t` is plain bits, for which all zeros is a value.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: the pointer and size are those of `set`.
    let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } != 0;
    // SAFETY: `set` is initialised.
    let count = unsafe { libc::CPU_COUNT(&set) };
    // More processors than the set has bits make the call fail; one thread is always right.
    if failed { 1 } else { count.max(1) as usize }
}

/// Returns the id of this process, which a forked child does not share with its parent.
pub fn process_id() -> i32 {
    // SAFETY: `getpid` has no precondition.
    unsafe { libc::getpid() }
}

/// Calls `read` with the bytes of an environment variable, or with `None` if it is unset or the
/// process runs with raised privileges.
pub fn environment<R>(name: &CStr, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
    // SAFETY: `getauxval` has no precondition.
    let privileged = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    // SAFETY: `name` is NUL-terminated.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if privileged || value.is_null() {
        return read(None);
    }
    // SAFETY: `getenv` returns a NUL-terminated string, borrowed only during `read`.
    read(Some(unsafe { CStr::from_ptr(value) }.to_bytes()))
}

/// Runs `work`, in which a file may outgrow the limit of the process (RLIMIT_FSIZE). The write then
/// fails, and no SIGXFSZ ends the process.
pub fn without_sigxfsz<R>(work: impl FnOnce() -> R) -> R {
    let mut set = no_signals();
    // SAFETY: the pointer is to the set.
    unsafe { libc::sigaddset(&mut set, libc::SIGXFSZ) };
    blocked(&set, || {
        let (mut pending, no_time) = (no_signals(), libc::timespec { tv_sec: 0, tv_nsec: 0 });
        // SAFETY: the pointers are to the set.
        let was_pending = unsafe {
            libc::sigpending(&mut pending);
            libc::sigismember(&pending, libc::SIGXFSZ) == 1
        };
        let result = work();
        if !was_pending {
            // SAFETY: the pointers are to the set and to the time, and NULL asks for no details.
            // The signal is this thread's, and is taken if it has come.
            unsafe { libc::sigtimedwait(&set, core::ptr::null_mut(), &no_time) };
        }
        result
    })
}

/// Runs `work` with all signals blocked. The threads that it starts inherit that for good, because
/// the process's signals are for the host's threads.
pub fn with_signals_blocked<R>(work: impl FnOnce() -> R) -> R {
    let mut all = no_signals();
    // SAFETY: the pointer is to the set.
    unsafe { libc::sigfillset(&mut all) };
    blocked(&all, work)
}

fn no_signals() -> libc::sigset_t {
    // SAFETY: `sigset_t` is plain bits, for which all zeros is a value: the empty set.
    unsafe { core::mem::zeroed() }
}

/// Runs `work` with these signals blocked in addition.
fn blocked<R>(set: &libc::sigset_t, work: impl FnOnce() -> R) -> R {
    let mut found = no_signals();
    // SAFETY: the pointers are to the two sets.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set, &mut found) };
    let result = work();
    // SAFETY: the set is the one that was found.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &found, core::ptr::null_mut()) };
    result
}
