//! The time that a thread computes: what others do on the machine is not in it.

fn now() -> f64 {
    // SAFETY: plain numbers.
    let mut time: libc::timespec = unsafe { core::mem::zeroed() };
    // SAFETY: the pointer is to the time.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The seconds that this thread computes for some work.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let start = now();
    work();
    now() - start
}
