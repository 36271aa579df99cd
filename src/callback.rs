//! Callbacks of the host: a function and its `user_data`, safe to call once made. They run in the
//! host's own floating-point environment.

mod all_reduce;
mod checkpoint;
mod device_memory;
mod next_piece;

pub use all_reduce::{AllReduce, adamw_all_reduce};
pub use checkpoint::{
    HostProgress, HostReader, HostWriter, Rename, adamw_progress, adamw_read, adamw_rename,
    adamw_write,
};
pub use device_memory::{DeviceAllocator, adamw_device_alloc, adamw_device_free};
pub use next_piece::{NextPiece, adamw_next_piece};

use crate::error::{Error, Label};
use crate::sys::{cancel, fp, panics};
use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::{AtomicBool, Ordering};

/// A description of one parameter, for callbacks and `adamw_get_param_info`. In a callback it is
/// valid until the callback returns. The name belongs to the library and lives as long as the
/// parameter.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_param_info {
    /// `sizeof(adamw_param_info)`.
    pub struct_size: usize,
    /// The name that it was added with, NUL-terminated.
    pub name: *const c_char,
    /// The number of elements.
    pub n_elements: u64,
    /// The number of steps that this parameter has taken. A step without a gradient for it does not
    /// count.
    pub step: u64,
    /// Its number, from `adamw_add_param`.
    pub param: u32,
    /// The number of its group.
    pub group: u32,
    /// Its element type, an `adamw_dtype`.
    pub dtype: u32,
    /// 1 if weight decay applies to it, 0 if the decay filter has excluded it.
    pub decays: u32,
}

/// Tells whether weight decay applies to the parameter of this name. Returns 1 for yes, 0 for no,
/// and a negative number for an error, which fails the call with `ADAMW_STATUS_CALLBACK`.
#[allow(non_camel_case_types)]
pub type adamw_decay_filter =
    Option<unsafe extern "C" fn(name: *const c_char, user_data: *mut c_void) -> i32>;

/// Writes the factor for the learning rate of this parameter (finite, >= 0) to `out_ratio` and
/// returns 0. Any other return value fails the step with `ADAMW_STATUS_CALLBACK`, and nothing
/// changes.
#[allow(non_camel_case_types)]
pub type adamw_lr_ratio = Option<
    unsafe extern "C" fn(
        param: *const adamw_param_info,
        out_ratio: *mut f64,
        user_data: *mut c_void,
    ) -> i32,
>;

/// Writes the value of a schedule at this index (finite, >= 0) to `out_value` and returns 0. Any
/// other return value fails the call with `ADAMW_STATUS_CALLBACK`, and nothing changes. The same
/// index may be asked for again, if the step that asked for it failed for another reason.
#[allow(non_camel_case_types)]
pub type adamw_schedule_function =
    Option<unsafe extern "C" fn(index: u64, out_value: *mut f64, user_data: *mut c_void) -> i32>;

/// Computes the loss and the gradients, writes the loss to `out_loss` and returns 0. The gradients
/// go into the memory that the handle knows, or are set by calls on the handle. Any other return
/// value fails the call with `ADAMW_STATUS_CALLBACK`, and no step is taken.
#[allow(non_camel_case_types)]
pub type adamw_closure =
    Option<unsafe extern "C" fn(out_loss: *mut f64, user_data: *mut c_void) -> i32>;

/// A piece of the library's work, which the threads of the host run.
#[allow(non_camel_case_types)]
pub type adamw_task = Option<unsafe extern "C" fn(task_data: *mut c_void, index: usize)>;

/// Calls `task(task_data, index)` for every index from 0 to `num_tasks` - 1, on any threads and in
/// any order, and returns 0 when all of these calls have returned. The calling thread does the work
/// that is left undone.
///
/// If it returns anything but 0 before any task has run, the call that uses it fails with
/// `ADAMW_STATUS_CALLBACK`, and nothing changes. Once a task has run, or once the call has written
/// anything (in the second use within one step, or in a load), the return value is ignored.
///
/// A step of fewer than 262,144 elements does not use it. A step that measures norms or finiteness
/// uses it once more, and so does a step that first has to bring rows up to date
/// (ADAMW_LAZY_EXACT). `adamw_load` uses it for tensors of 2 MiB and more.
#[allow(non_camel_case_types)]
pub type adamw_parallel_for = Option<
    unsafe extern "C" fn(
        num_tasks: usize,
        task: adamw_task,
        task_data: *mut c_void,
        user_data: *mut c_void,
    ) -> i32,
>;

/// The guarantee that the host gives to `new` of each callback covers its `user_data` on any
/// thread.
#[derive(Clone, Copy)]
struct UserData(*mut c_void);
// SAFETY: the library only carries the pointer; the caller of `new` guarantees its use.
unsafe impl Send for UserData {}
// SAFETY: the library only carries the pointer; the caller of `new` guarantees its use.
unsafe impl Sync for UserData {}

/// Selects the parameters that decay.
#[derive(Clone, Copy)]
pub struct DecayFilter {
    function: unsafe extern "C" fn(*const c_char, *mut c_void) -> i32,
    user_data: UserData,
}

impl DecayFilter {
    /// Returns `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` until the filter is replaced.
    pub unsafe fn new(function: adamw_decay_filter, user_data: *mut c_void) -> Option<Self> {
        Some(DecayFilter { function: function?, user_data: UserData(user_data) })
    }

    pub fn decays(&self, name: &CStr) -> Result<bool, Error> {
        let answer = fp::as_host(|| {
            // SAFETY: the caller of `new` allowed it; the name is NUL-terminated.
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

/// Gives the factor for the learning rate of each parameter.
#[derive(Clone, Copy)]
pub struct LrRatio {
    function: unsafe extern "C" fn(*const adamw_param_info, *mut f64, *mut c_void) -> i32,
    user_data: UserData,
}

impl LrRatio {
    /// Returns `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` until it is replaced.
    pub unsafe fn new(function: adamw_lr_ratio, user_data: *mut c_void) -> Option<Self> {
        Some(LrRatio { function: function?, user_data: UserData(user_data) })
    }

    /// Returns the factor for a parameter, which `label` names in an error.
    pub fn ratio(&self, info: &adamw_param_info, label: Label) -> Result<f64, Error> {
        let mut ratio = f64::NAN;
        let answer = fp::as_host(|| {
            // SAFETY: the caller of `new` allowed it; both pointers live through the call.
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

/// A schedule of the host, or a factor of one.
#[derive(Clone, Copy)]
pub struct ScheduleFunction {
    function: unsafe extern "C" fn(u64, *mut f64, *mut c_void) -> i32,
    user_data: UserData,
}

impl ScheduleFunction {
    /// Returns `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` for as long as the schedule is set.
    pub unsafe fn new(function: adamw_schedule_function, user_data: *mut c_void) -> Option<Self> {
        Some(ScheduleFunction { function: function?, user_data: UserData(user_data) })
    }

    pub fn value(&self, index: u64) -> Result<f64, Error> {
        let mut value = f64::NAN;
        let returned = fp::as_host(|| {
            // SAFETY: the caller of `new` allowed it; the value lives through the call.
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
    /// Returns `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` as long as this value lives.
    pub unsafe fn new(function: adamw_closure, user_data: *mut c_void) -> Option<Self> {
        Some(Closure { function: function?, user_data: UserData(user_data) })
    }

    pub fn loss(&self) -> Result<f64, Error> {
        let mut loss = f64::NAN;
        let returned = fp::as_host(|| {
            // SAFETY: the caller of `new` allowed it; the loss lives through the call.
            unsafe { (self.function)(&mut loss, self.user_data.0) }
        });
        if returned == 0 { Ok(loss) } else { Err(Error::Closure(returned)) }
    }
}

/// The host's loop over tasks.
#[derive(Clone, Copy)]
pub struct ParallelFor {
    function: unsafe extern "C" fn(usize, adamw_task, *mut c_void, *mut c_void) -> i32,
    user_data: UserData,
}

/// The target of `task_data`.
struct Task<'a> {
    body: &'a (dyn Fn() + Sync),
    panicked: AtomicBool,
}

impl ParallelFor {
    /// Returns `None` for NULL.
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
            // SAFETY: the caller of `new` allowed it, and that no task outlives the call.
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

/// Runs a task on a thread of the host. A panic must not unwind through the host's frames.
unsafe extern "C" fn run_task(task_data: *mut c_void, _index: usize) {
    let found = cancel::hold_off();
    // SAFETY: `run` passed a `Task` that lives until the host's loop has returned, and it is only
    // accessed through shared references.
    run_held(unsafe { &*task_data.cast::<Task>() });
    cancel::let_go(found);
}

/// The part of `run_task` during which the thread cannot be cancelled. Nothing unwinds out of it.
#[inline(never)]
extern "C" fn run_held(task: &Task) {
    if panics::caught(|| fp::standard(task.body)).is_err() {
        task.panicked.store(true, Ordering::Release);
    }
}
