//! What only parameters on a CUDA device need.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{Optimizer, Status, guard, handle};
use crate::cuda::InputsAt;
use crate::error::Error;
use core::ffi::c_void;

/// Numbers in the device's memory, one f32 each, that a step reads there: they may be written by
/// kernels before it, and differ each time a captured graph is launched. NULL: the host's is meant.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_device_inputs {
    /// `sizeof(adamw_device_inputs)`.
    pub struct_size: usize,
    /// `[NULL]` The learning rate, in place of the handle's, which `adamw_set_lr` and `adamw_get_lr` go on to
    /// mean; finite and >= 0, which is not checked.
    pub lr: *const f32,
    /// `[NULL]` How many times too large the gradients are, in place of `adamw_set_grad_scale`; from 2^-126 to
    /// 2^126, which is not checked: a scale of 0, or NaN, makes parameters NaN.
    pub grad_scale: *const f32,
    /// `[NULL]` Not 0: a gradient is not finite, and the step is skipped.
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

/// Says on which stream (a `CUstream` or `cudaStream_t`; NULL: the legacy default stream) the work of
/// parameters on the device is queued up from now on. The stream stays the host's, and must be alive in
/// every call; the one before it must be so in this one yet. Streams are not ordered by this library: what comes
/// before a step on other streams, and what reads its results there, the host orders by events, as for kernels of
/// its own. `ADAMW_STATUS_NOT_FOUND` before the first parameter on a device.
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

/// Has steps read numbers in the device's memory, for the parameters there; NULL: none of them.
/// `ADAMW_STATUS_NOT_FOUND` before the first parameter on a device, `ADAMW_STATUS_INVALID_ARGUMENT` for an
/// address that is not aligned to 4 bytes or no memory of the device.
///
/// # Safety
/// `inputs` is NULL or readable; what it points to is memory of the device until it is replaced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_device_inputs(
    optimizer: *mut Optimizer,
    inputs: *const adamw_device_inputs,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            let inputs = match inputs.is_null() {
                true => adamw_device_inputs::DEFAULT,
                // SAFETY: the caller's word.
                false => unsafe { sized::read(inputs, adamw_device_inputs::DEFAULT) }?,
            };
            let numbers = [inputs.lr, inputs.grad_scale, inputs.found_inf];
            let [lr, grad_scale, found_inf] =
                numbers.map(|number| number.expose_provenance() as u64);
            if let Some(at) = [lr, grad_scale, found_inf].iter().find(|at| !at.is_multiple_of(4)) {
                return Err(Error::MisalignedInput(*at as usize));
            }
            optimizer.set_device_inputs(InputsAt { lr, grad_scale, found_inf })
        })
    })
}

/// Does what the next step needs beside launches of kernels: uploads what it reads, fills masters. A step
/// of the same parameters with the same gradients is launches alone after that, so that it can be
/// captured into a graph:
///
/// ```text
/// adamw_set_stream(optimizer, stream);       the stream that will be captured
/// adamw_set_device_inputs(optimizer, &at);   lr comes from the device's memory
/// adamw_prepare(optimizer);                  before the capture begins
/// cudaStreamBeginCapture(stream, ...);
/// adamw_step(optimizer);                     recorded; each launch of the graph is a step
/// cudaStreamEndCapture(stream, &graph);
/// ```
///
/// The device counts the steps that the graph takes; `adamw_get_param_info` and the state by name ask it.
///
/// A graph goes on as it was recorded, whatever the handle is told afterwards: every launch is a step of
/// the parameters that had a part in the captured one, with its gradients, options and device inputs.
/// Plain steps and other captures go on beside it, as the handle is told, and count on the same clocks. What a
/// graph reads and writes of the library's own stays where it is until `adamw_destroy`: state, step counts, what
/// sparse gradients need, also of parameters that are removed; and for each capture that was prepared anew, the
/// tables of its step (about 0.5 KiB a parameter and 136 bytes for each 16,384 elements). What is the host's own
/// must stay where it was as long as the graph is launched: the memory of parameters, of their gradients and lists
/// of rows, of state that the host gave, and of the device inputs; `adamw_rebind` moves none of them in a graph.
/// With `config.clear_grads` a launch writes zeros over every gradient on the device that was set, those of frozen
/// parameters too, whose memory must stay as well.
/// A graph whose step took accumulated gradients reads their sums each time; a launch does not end their window,
/// which `adamw_clear_grad` with `ADAMW_CLEAR_FORGET` does, before the next one begins.
/// Graphs are destroyed before the handle: none is launched after `adamw_destroy`, which frees what it reads and may
/// unload its kernels, and those that have been launched are over before it.
///
/// `ADAMW_STATUS_UNSUPPORTED` from a step inside a capture that `adamw_prepare` was not called before, or that
/// cannot be replayed: whose learning rate is the host's, with a schedule or a callback, with parameters in
/// the host's memory, or whose gradients the host has to know about. And for a parameter that a captured graph
/// steps, from what its graph could not go on with: its first sparse gradient under `ADAMW_LAZY_EXACT`, and
/// leaving that mode.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_prepare(optimizer: *mut Optimizer) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.prepare()))
}
