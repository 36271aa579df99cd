//! The host's functions: a pointer and its `user_data`, safe to call once made.
//!
//! A host function runs in the host's own floating-point environment.

mod checkpoint;

pub use checkpoint::{
    HostProgress, HostReader, HostWriter, Rename, adamw_progress, adamw_read, adamw_rename,
    adamw_write,
};

use crate::error::{Error, Label};
use crate::sys::{cancel, fp, panics};
use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::{AtomicBool, Ordering};

/// One parameter, as a callback or `adamw_get_param_info` shows it. Valid during the callback; the
/// name belongs to the library and lives as long as the parameter.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_param_info {
    /// `sizeof(adamw_param_info)`.
    pub struct_size: usize,
    /// The name it was added with, NUL-terminated.
    pub name: *const c_char,
    /// Elements of the parameter.
    pub n_elements: u64,
    /// Steps that this parameter has taken (a parameter without a gradient takes none).
    pub step: u64,
    /// Its number, from `adamw_add_param`.
    pub param: u32,
    /// The number of its group.
    pub group: u32,
    /// Its element type, an `adamw_dtype`.
    pub dtype: u32,
    /// 1 if weight decay applies to it, 0 if the decay filter said no.
    pub decays: u32,
}

/// Says whether weight decay applies to the parameter of this name: 1 yes, 0 no, negative: an
/// error, which makes the call fail with `ADAMW_STATUS_CALLBACK`.
#[allow(non_camel_case_types)]
pub type adamw_decay_filter =
    Option<unsafe extern "C" fn(name: *const c_char, user_data: *mut c_void) -> i32>;

/// Writes to `out_ratio` what the learning rate of this parameter is multiplied by (finite, >= 0)
/// and returns 0. Anything else fails the step with `ADAMW_STATUS_CALLBACK`, nothing changed.
#[allow(non_camel_case_types)]
pub type adamw_lr_ratio = Option<
    unsafe extern "C" fn(
        param: *const adamw_param_info,
        out_ratio: *mut f64,
        user_data: *mut c_void,
    ) -> i32,
>;

/// Writes a schedule's value at this index to `out_value` (finite, >= 0) and returns 0. Anything else
/// fails the call with `ADAMW_STATUS_CALLBACK`, nothing changed. It may be asked about an index
/// again, if the step that asked was refused for another reason.
#[allow(non_camel_case_types)]
pub type adamw_schedule_function =
    Option<unsafe extern "C" fn(index: u64, out_value: *mut f64, user_data: *mut c_void) -> i32>;

/// Computes the loss and the gradients (into the memory that the handle knows, or set by calls on
/// the handle), writes the loss to `out_loss` and returns 0. Anything else fails the call with
/// `ADAMW_STATUS_CALLBACK`, and no step is taken.
#[allow(non_camel_case_types)]
pub type adamw_closure =
    Option<unsafe extern "C" fn(out_loss: *mut f64, user_data: *mut c_void) -> i32>;

/// A piece of work of the library's, for the host's threads to run.
#[allow(non_camel_case_types)]
pub type adamw_task = Option<unsafe extern "C" fn(task_data: *mut c_void, index: usize)>;

/// Calls `task(task_data, index)` for every index from 0 to `num_tasks` - 1, on any threads and in
/// any order, and returns 0 when all those calls have returned. What it leaves undone, the calling
/// thread does; if it returns anything but 0 before any task ran, the call that uses it fails with
/// `ADAMW_STATUS_CALLBACK`, nothing changed; once a task has run, or the call has written anything (a
/// second use in one step, a load), its answer means nothing. A step of fewer than 262,144 elements does
/// not call it; one that measures norms or finiteness calls it once more, and so does one that rows have
/// to catch up for (ADAMW_LAZY_EXACT). `adamw_load` calls it for tensors of 2 MiB on.
#[allow(non_camel_case_types)]
pub type adamw_parallel_for = Option<
    unsafe extern "C" fn(
        num_tasks: usize,
        task: adamw_task,
        task_data: *mut c_void,
        user_data: *mut c_void,
    ) -> i32,
>;

/// The host's word, given to `new` of each callback, covers its `user_data` on any thread.
#[derive(Clone, Copy)]
struct UserData(*mut c_void);
// SAFETY: the library only carries the pointer; whoever made the callback vouched for its use.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

/// Which parameters decay.
#[derive(Clone, Copy)]
pub struct DecayFilter {
    function: unsafe extern "C" fn(*const c_char, *mut c_void) -> i32,
    user_data: UserData,
}

impl DecayFilter {
    /// `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` until the filter is replaced.
    pub unsafe fn new(function: adamw_decay_filter, user_data: *mut c_void) -> Option<Self> {
        Some(DecayFilter { function: function?, user_data: UserData(user_data) })
    }

    pub fn decays(&self, name: &CStr) -> Result<bool, Error> {
        let answer = fp::as_host(|| {
            // SAFETY: `new`'s caller allowed it; the name is NUL-terminated.
            unsafe { (self.function)(name.as_ptr(), self.user_data.0) }
        });
        match answer {
            0 | 1 => Ok(answer == 1),
            _ => Err(Error::Callback {
                name: "decay_filter",
                param: Label::new(name.to_bytes()),
                returned: answer,
                expected: "1 or 0",
            }),
        }
    }
}

/// What each parameter's learning rate is multiplied by.
#[derive(Clone, Copy)]
pub struct LrRatio {
    function: unsafe extern "C" fn(*const adamw_param_info, *mut f64, *mut c_void) -> i32,
    user_data: UserData,
}

impl LrRatio {
    /// `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` until it is replaced.
    pub unsafe fn new(function: adamw_lr_ratio, user_data: *mut c_void) -> Option<Self> {
        Some(LrRatio { function: function?, user_data: UserData(user_data) })
    }

    /// `label` names the parameter in an error.
    pub fn ratio(&self, info: &adamw_param_info, label: Label) -> Result<f64, Error> {
        let mut ratio = f64::NAN;
        let answer = fp::as_host(|| {
            // SAFETY: `new`'s caller allowed it; both pointers live through the call.
            unsafe { (self.function)(info, &mut ratio, self.user_data.0) }
        });
        if answer != 0 {
            return Err(Error::Callback {
                name: "lr_ratio",
                param: label,
                returned: answer,
                expected: "0",
            });
        }
        if ratio.is_finite() && ratio >= 0.0 {
            Ok(ratio)
        } else {
            Err(if ratio.is_nan() {
                Error::NoRatio(label)
            } else {
                Error::Ratio { param: label, ratio }
            })
        }
    }
}

/// A schedule of the host's own, or a factor of one.
#[derive(Clone, Copy)]
pub struct ScheduleFunction {
    function: unsafe extern "C" fn(u64, *mut f64, *mut c_void) -> i32,
    user_data: UserData,
}

impl ScheduleFunction {
    /// `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` for as long as the schedule is set.
    pub unsafe fn new(function: adamw_schedule_function, user_data: *mut c_void) -> Option<Self> {
        Some(ScheduleFunction { function: function?, user_data: UserData(user_data) })
    }

    pub fn value(&self, index: u64) -> Result<f64, Error> {
        let mut value = f64::NAN;
        let returned = fp::as_host(|| {
            // SAFETY: `new`'s caller allowed it; the value lives through the call.
            unsafe { (self.function)(index, &mut value, self.user_data.0) }
        });
        if returned != 0 {
            return Err(Error::ScheduleCallback { index, returned });
        }
        if value.is_finite() && value >= 0.0 {
            Ok(value)
        } else {
            Err(Error::ScheduleValue { index, value })
        }
    }
}

/// The host's forward and backward pass.
pub struct Closure {
    function: unsafe extern "C" fn(*mut f64, *mut c_void) -> i32,
    user_data: UserData,
}

impl Closure {
    /// `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` as long as this value lives.
    pub unsafe fn new(function: adamw_closure, user_data: *mut c_void) -> Option<Self> {
        Some(Closure { function: function?, user_data: UserData(user_data) })
    }

    pub fn loss(&self) -> Result<f64, Error> {
        let mut loss = f64::NAN;
        let returned = fp::as_host(|| {
            // SAFETY: `new`'s caller allowed it; the loss lives through the call.
            unsafe { (self.function)(&mut loss, self.user_data.0) }
        });
        if returned == 0 { Ok(loss) } else { Err(Error::Closure(returned)) }
    }
}

/// The host's threads.
#[derive(Clone, Copy)]
pub struct ParallelFor {
    function: unsafe extern "C" fn(usize, adamw_task, *mut c_void, *mut c_void) -> i32,
    user_data: UserData,
}

/// What `task_data` points to.
struct Task<'a> {
    body: &'a (dyn Fn() + Sync),
    panicked: AtomicBool,
}

impl ParallelFor {
    /// `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` for as long as the handle lives, and returns only
    /// when no call of a task it was given is running or will ever run.
    pub unsafe fn new(function: adamw_parallel_for, user_data: *mut c_void) -> Option<Self> {
        Some(ParallelFor { function: function?, user_data: UserData(user_data) })
    }

    /// Asks the host to call `body` `num_tasks` times, and returns the host's answer.
    pub fn run(&self, num_tasks: usize, body: &(dyn Fn() + Sync)) -> i32 {
        let mut task = Task { body, panicked: AtomicBool::new(false) };
        let answer = fp::as_host(|| {
            // SAFETY: `new`'s caller allowed it, and that no task outlives the call.
            unsafe {
                (self.function)(num_tasks, Some(run_task), (&raw mut task).cast(), self.user_data.0)
            }
        });
        if task.panicked.load(Ordering::Acquire) {
            panic!("a task of parallel_for panicked");
        }
        answer
    }
}

/// The task that the host's threads call; a panic must not unwind through their frames.
unsafe extern "C" fn run_task(task_data: *mut c_void, _index: usize) {
    let found = cancel::hold_off();
    // SAFETY: `run` passed a `Task` that lives until the host's loop has returned, and only shared
    // access is made of it.
    run_held(unsafe { &*task_data.cast::<Task>() });
    cancel::let_go(found);
}

/// `run_task` where the thread cannot be cancelled; nothing unwinds out of it.
#[inline(never)]
extern "C" fn run_held(task: &Task) {
    if panics::caught(|| fp::standard(task.body)).is_err() {
        task.panicked.store(true, Ordering::Release);
    }
}
