//! Functions for parameters on a CUDA device.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{Optimizer, Status, flag, guard, handle, put};
use crate::error::{Error, MemoryProblem};
use crate::optimizer::InputsAt;
use core::ffi::c_void;

/// Addresses of scalars in device memory, one f32 each, that steps read. Kernels before the step
/// may write them, so that they may differ in each launch of a captured graph. NULL: the step uses
/// the scalar of the host.
///
/// The device checks the scalars in each step. A step that reads an invalid one is skipped, as with
/// `found_inf`: parameters, state and step counts do not change, and the gradients are cleared if
/// `clear_grads` is set. `skipped` and `invalid_inputs` of `adamw_step_info` are 1 then, and
/// `grad_norm` is NaN if the gradients were measured and `grad_scale` is invalid. A step for which
/// the host waits (see "Waiting" above) fails with `ADAMW_STATUS_INVALID_ARGUMENT` if `lr` is
/// invalid, and changes nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_device_inputs {
    /// `sizeof(adamw_device_inputs)`.
    pub struct_size: usize,
    /// `[NULL]` The learning rate, in place of that of the handle, which `adamw_set_lr` and
    /// `adamw_get_lr` still refer to. It is valid if it is finite, >= 0, and small enough that a
    /// step of each parameter is finite in the type that the parameter computes in.
    pub lr: *const f32,
    /// `[NULL]` The scale of the gradients, in place of `adamw_set_grad_scale`. It is valid from
    /// 2^-126 to 2^126.
    pub grad_scale: *const f32,
    /// `[NULL]` If it is not 0, a gradient is not finite, and the step is skipped.
    pub found_inf: *const f32,
}

sized_struct!(adamw_device_inputs, "inputs", 4 of 8);

impl adamw_device_inputs {
    const DEFAULT: adamw_device_inputs = adamw_device_inputs {
        struct_size: size_of::<Self>(),
        lr: core::ptr::null(),
        grad_scale: core::ptr::null(),
        found_inf: core::ptr::null(),
    };
}

/// Sets the stream on which the work of parameters on the device is queued from now on: a
/// `CUstream` or `cudaStream_t`; NULL is the legacy default stream. `ADAMW_STATUS_NOT_FOUND` before
/// the first parameter on a device.
///
/// The stream belongs to the host and must exist during every call; the previous stream must still
/// exist during this one. The library does not order streams. The host must order, by events as for
/// its own kernels, what precedes a step on other streams and what reads the results of a step
/// there.
///
/// # Safety
/// `stream` is NULL or a stream of the device's primary context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_stream(
    optimizer: *mut Optimizer,
    stream: *mut c_void,
) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.set_stream(stream.expose_provenance())))
}

/// Writes to `out_num_bytes` the bytes of page-locked memory that the handle has taken: for copies
/// of offloaded parameters and their gradients, and for the tables of steps on the device. See
/// `config.pinned_bytes`.
///
/// # Safety
/// `out_num_bytes` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_pinned_bytes(
    optimizer: *const Optimizer,
    out_num_bytes: *mut u64,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            unsafe { put("out_num_bytes", out_num_bytes, optimizer.pinned_bytes() as u64) }
        })
    })
}

/// Has steps take the times of the copies of offloaded parameters (1), for
/// `adamw_get_offload_info`, or not (0, as it is at first). Two marks on a stream for each copy are
/// what it costs: a step with them waits for nothing else, and has the same bits.
///
/// `ADAMW_STATUS_NOT_FOUND` before the first parameter on a device.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_set_offload_timing(optimizer: *mut Optimizer, timing: u32) -> Status {
    guard(|| {
        let timing = flag("timing", timing)?;
        handle::with(optimizer, |optimizer| optimizer.set_offload_timing(timing))
    })
}

/// What a step has copied for the parameters that the processor steps, and how long nothing was
/// stepped meanwhile.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_offload_info {
    /// `sizeof(adamw_offload_info)`.
    pub struct_size: usize,
    /// The bytes of gradients that have come down.
    pub n_bytes_down: u64,
    /// The bytes of parameters that have gone up.
    pub n_bytes_up: u64,
    /// The time that gradients took to come down, in seconds: the sum over the copies, each as its
    /// stream has timed it.
    pub seconds_down: f64,
    /// The time that parameters took to go up, in seconds, summed up in the same way. Some of it
    /// may be the same time.
    pub seconds_up: f64,
    /// The time that the processor worked, in seconds: from the arrival of the first part of a
    /// gradient until all was stepped, without its waits.
    pub seconds_worked: f64,
    /// The time that nothing was stepped because of copies, in seconds: the waits of the processor
    /// for them, once the gradients were complete on the device, and the time from the end of its
    /// work until the last part had gone up.
    pub seconds_waited: f64,
    /// The share of the copies that is hidden behind the processor's work and behind each other,
    /// from 0 to 1: 1 - `seconds_waited` / (`seconds_down` + `seconds_up`). 0 without copies.
    pub hidden: f64,
}

sized_struct!(adamw_offload_info, "out_info", 8 of 8);

/// Writes to `out_info` what the last step has copied for offloaded parameters, whichever call has
/// taken it. Waits until the last part has gone up. `struct_size` is the caller's
/// `sizeof(adamw_offload_info)`.
///
/// All is 0 if no step has been taken with `adamw_set_offload_timing`, or if the last one failed or
/// was skipped. What is copied outside of steps is left out: gradients for `adamw_grad_ready`, and
/// parameters that the host has written.
///
/// # Safety
/// `out_info` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_offload_info(
    optimizer: *const Optimizer,
    out_info: *mut adamw_offload_info,
    struct_size: usize,
) -> Status {
    guard(|| {
        let times = handle::with(optimizer, |optimizer| optimizer.offload_times())?;
        let info = adamw_offload_info {
            struct_size,
            n_bytes_down: times.down.bytes,
            n_bytes_up: times.up.bytes,
            seconds_down: times.down.seconds,
            seconds_up: times.up.seconds,
            seconds_worked: times.worked,
            seconds_waited: times.waited,
            hidden: times.hidden(),
        };
        // SAFETY: the caller guarantees it.
        unsafe { sized::write(out_info, struct_size, info) }
    })
}

/// Makes steps of parameters on the device read these scalars from device memory. NULL: all of them
/// come from the host. `ADAMW_STATUS_NOT_FOUND` before the first parameter on a device.
/// `ADAMW_STATUS_INVALID_ARGUMENT` for an address that is not aligned to 4 bytes or is not memory
/// of the device.
///
/// # Safety
/// `inputs` is NULL or readable. What it points to is memory of the device until it is replaced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_device_inputs(
    optimizer: *mut Optimizer,
    inputs: *const adamw_device_inputs,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            let inputs = match inputs.is_null() {
                true => adamw_device_inputs::DEFAULT,
                // SAFETY: the caller guarantees it.
                false => unsafe { sized::read(inputs, adamw_device_inputs::DEFAULT) }?,
            };
            let numbers = [inputs.lr, inputs.grad_scale, inputs.found_inf];
            let [lr, grad_scale, found_inf] =
                numbers.map(|number| number.expose_provenance() as u64);
            let inputs = InputsAt { lr, grad_scale, found_inf };
            let named = inputs.named();
            if let Some(&(name, at)) = named.iter().find(|(_, at)| !at.is_multiple_of(4)) {
                return Err(Error::Memory(MemoryProblem::MisalignedInput {
                    name,
                    at: at as usize,
                }));
            }
            optimizer.set_device_inputs(inputs)
        })
    })
}

/// Has the device write the scale of the next gradients, as `adamw_get_grad_scale` returns it, to
/// `out_scale`, one f32 in its memory: now, when the host changes the scale, and behind each step
/// on which the loss scaler adapts it. A backward pass that multiplies its loss by this number, and
/// a loss scaler that adapts on the device (see "Waiting" above), need no wait. A graph that has
/// captured a step goes on writing where it wrote then. NULL: it is written no more.
///
/// `ADAMW_STATUS_NOT_FOUND` before the first parameter on a device. `ADAMW_STATUS_INVALID_ARGUMENT`
/// for an address that is not aligned to 4 bytes or is not memory of the device.
///
/// # Safety
/// `out_scale` is NULL, or memory of the device that is writable until another one is set, and as
/// long as work that writes it is queued up or captured.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_device_scale(
    optimizer: *mut Optimizer,
    out_scale: *mut f32,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            let at = out_scale.expose_provenance();
            if !at.is_multiple_of(4) {
                return Err(Error::Memory(MemoryProblem::MisalignedInput {
                    name: "out_scale",
                    at,
                }));
            }
            optimizer.set_scale_out(at as u64)
        })
    })
}

/// Prepares the next step for a capture: uploads what it reads, and fills masters. After that, a
/// step of the same parameters with the same gradients consists of kernel launches alone, and can
/// be captured into a graph:
///
/// ```text
/// adamw_set_stream(optimizer, stream);       the stream that will be captured
/// adamw_set_device_inputs(optimizer, &at);   lr comes from there, or from a schedule
/// adamw_prepare(optimizer);                  before the capture begins
/// cudaStreamBeginCapture(stream, ...);
/// adamw_step(optimizer);                     recorded; each launch of the graph is a step
/// cudaStreamEndCapture(stream, &graph);
/// ```
///
/// The device counts the steps that the graph takes; `adamw_get_param_info` and the state by name
/// read these counts. `adamw_get_step_info` reports the last launch, until the next plain step.
///
/// A captured step of a handle with a schedule follows it: each launch takes the learning rate of
/// its own step, and advances the schedule unless it is skipped. This call gives the device the
/// learning rates of the next 65,536 steps, from where the schedule is. A launch for which none is
/// left is skipped, as for an invalid device input, and the next `adamw_get_step_info` is once
/// `ADAMW_STATUS_INVALID_ARGUMENT` and says how many were: call `adamw_prepare` again in time.
/// Wherever the host puts the schedule, and whichever it sets in its place, the launches after that
/// follow; without one, they are skipped. A plain step waits for the device then, as do the calls
/// that read where the schedule is. The schedule advances with every step, has no function, is not
/// REDUCE_ON_PLATEAU, and is not combined with `lr` of `adamw_set_device_inputs`.
///
/// A graph continues as it was recorded, whatever else is set on the handle afterwards: every
/// launch is a step of the parameters of the captured step, with its gradients, options and device
/// inputs. Plain steps and other captures may follow in between; they use the current settings of
/// the handle and the same step counts.
///
/// Memory of the library that a graph uses stays where it is until `adamw_destroy`: state, step
/// counts, and what sparse gradients and statistics need, also for removed parameters; and for each
/// capture that was prepared anew, the tables of its step (about 0.5 KiB per parameter and 136
/// bytes per 16,384 elements). Memory of the host must stay where it was as long as the graph is
/// launched: parameters, their gradients and lists of rows, state that the host gave, and the
/// device inputs. `adamw_rebind` moves none of them in a graph.
///
/// With `config.clear_grads`, a launch writes zeros over every gradient on the device that was set,
/// including those of frozen parameters, whose memory must stay as well. A graph whose step used
/// accumulated gradients reads their sums in each launch. A launch does not end their window: call
/// `adamw_clear_grad` with `ADAMW_CLEAR_FORGET` before the next window begins. Nor does a
/// launch complete a step that `adamw_step_param` has begun: saving is refused as before.
///
/// A launch fills no master. The master of a parameter that a captured graph steps is filled by
/// `adamw_reset_param`, or by a load with `extend` that adds it, and not by the next step; call
/// `adamw_sync_master` if the host writes the parameter after that.
///
/// Destroy graphs before the handle, and let their launches finish. No graph may be launched after
/// `adamw_destroy`, which frees what it reads and may unload its kernels.
///
/// `ADAMW_STATUS_UNSUPPORTED` from a step inside a capture if `adamw_prepare` was not called before
/// it, or if the step cannot be replayed: if the learning rate is neither a device input nor of a
/// schedule that can be followed, if there is an lr_ratio callback, if parameters in the host's
/// memory are stepped, or if the host has to know about the gradients. It is
/// `ADAMW_STATUS_UNSUPPORTED`, too, to do to a parameter what a captured graph that steps it could
/// not follow: to set its first sparse gradient under `ADAMW_LAZY_EXACT`, or to leave that mode.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_prepare(optimizer: *mut Optimizer) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.prepare()))
}
