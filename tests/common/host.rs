//! The host's side of the C API: data for callbacks, and threads of its own.

use adamw::ffi;
use core::ffi::c_void;

/// A test's own data as a callback gets it: changed through `Cell`s and locks only.
pub fn user_data<T>(data: &T) -> *mut c_void {
    (&raw const *data).cast_mut().cast()
}

/// The way back.
///
/// # Safety
/// `pointer` came from `user_data` of a `T` that is still there.
pub unsafe fn from_user_data<'a, T>(pointer: *mut c_void) -> &'a T {
    // SAFETY: the caller's word.
    unsafe { &*pointer.cast() }
}

/// A `parallel_for` with threads of the host's own; `user_data` is their number, a `usize`.
unsafe extern "C" fn scoped_threads(
    num_tasks: usize,
    task: ffi::adamw_task,
    task_data: *mut c_void,
    user_data: *mut c_void,
) -> i32 {
    // SAFETY: `with_scoped_threads` set it.
    let num_threads = *unsafe { from_user_data::<usize>(user_data) };
    let task = task.expect("a task is never NULL");
    let task_data = task_data.expose_provenance();
    std::thread::scope(|scope| {
        for first in 0..num_threads {
            scope.spawn(move || {
                let task_data = core::ptr::with_exposed_provenance_mut(task_data);
                for index in (first..num_tasks).step_by(num_threads) {
                    // SAFETY: once for each index, on some thread, before this function returns.
                    unsafe { task(task_data, index) };
                }
            });
        }
    });
    0
}

/// Steps on the host's threads instead of the library's.
pub fn with_scoped_threads(config: &mut ffi::adamw_config, num_threads: &'static usize) {
    config.parallel_for = Some(scoped_threads);
    config.parallel_for_data = user_data(num_threads);
    config.num_threads = *num_threads as u32;
}
