//! What a refused call says: the thing, the value, and the way out.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Answer, Failure, Handle, answer, config};
use adamw::ffi::*;
use core::ptr::null_mut;

fn refused(answer: Answer, status: Status, text: &str) {
    assert_eq!(answer.unwrap_err(), Failure { status, text: text.to_owned() });
}

#[test]
fn a_gradient_that_is_refused_says_what_to_do_and_which_it_is() {
    use Status::{InvalidArgument, NotFound, Unsupported};
    let (a, b) = (Array::of(Dtype::F32, &[1.0; 6]), Array::of(Dtype::F32, &[1.0; 6]));
    let (grad, short) = (Array::of(Dtype::F32, &[1.0; 6]), Array::of(Dtype::F32, &[1.0; 5]));
    let handle = Handle::new(&config());
    let (first, second) = (handle.add_array("a", &a), handle.add_array("b", &b));

    for n in [0, 6] {
        // SAFETY: the library sees that there is no memory.
        let forgotten =
            unsafe { adamw_set_grad_array(handle.raw(), first, null_mut(), n, ADAMW_DTYPE_F32) };
        let text = format!(
            "param \"a\": grad has data NULL and {n} elements (adamw_set_grad with NULL forgets a gradient)"
        );
        refused(answer(forgotten), InvalidArgument, &text);
    }

    let (shape, strides) = ([2i64, 3], [1i64, 2]);
    let (at, turned) = (shape.as_ptr().cast_mut(), strides.as_ptr().cast_mut());
    let strided = adamw_tensor { ndim: 2, shape: at, strides: turned, ..grad.tensor() };
    let text = "param \"a\": grad is not contiguous: stride 2 in dimension 1, expected 1; make it \
                contiguous, or copy it";
    refused(handle.set_grad_tensor(first, &strided), InvalidArgument, text);

    let nowhere = adamw_device { device_type: 0, device_id: 0 };
    let nowhere = adamw_tensor { device: nowhere, ..grad.tensor() };
    let text = "param \"a\": grad is on DLPack device type 0, expected the host's memory (1, 3 or 11: \
                a plain array's device is {1, 0}) or CUDA's (2 or 13)";
    refused(handle.set_grad_tensor(first, &nowhere), Unsupported, text);

    let set = |numbers: [u32; 2], grads: [adamw_tensor; 2]| {
        let grads = grads.each_ref().map(|grad| &raw const *grad);
        // SAFETY: everything lives through the call, and the gradients longer than the handle.
        answer(unsafe { adamw_set_grads(handle.raw(), numbers.as_ptr(), grads.as_ptr(), 2) })
    };
    let text = "grads[1]: param \"b\": grad has 5 elements, param has 6";
    refused(set([first, second], [grad.tensor(), short.tensor()]), InvalidArgument, text);
    let text =
        "grads[0]: there is no param 9: numbers are below 2, and free where a param was removed";
    refused(set([9, second], [grad.tensor(), grad.tensor()]), NotFound, text);
    let (params, buffers) = ([first, 9], [ADAMW_BUFFER_PARAM; 2]);
    let moved = [&raw const strided; 2];
    // SAFETY: as above.
    let rebound =
        unsafe { adamw_rebind(handle.raw(), params.as_ptr(), buffers.as_ptr(), moved.as_ptr(), 2) };
    let text = "buffers[0]: param \"a\": param is not contiguous: stride 2 in dimension 1, expected 1; \
                make it contiguous, or copy it";
    refused(answer(rebound), InvalidArgument, text);
}

#[test]
fn state_of_another_type_is_told_so_wherever_it_lies() {
    let param = Array::of(Dtype::F32, &[1.0; 6]);
    let handle = Handle::new(&config());
    handle.add_array("a", &param);
    let memory = [0u64; 8];
    for (name, dtype, is) in [
        (c"state.a.exp_avg", ADAMW_DTYPE_F64, "f64, expected f32"),
        (c"state.a.step", ADAMW_DTYPE_F32, "f32, expected f64"),
    ] {
        for byte in [0, 2] {
            let data = memory.as_ptr().wrapping_byte_add(byte).cast_mut().cast();
            let name_in_text = name.to_str().unwrap();
            let text = format!("state \"{name_in_text}\": is {is}");
            // SAFETY: the library sees that the type is another.
            let (set, got) = unsafe {
                let set = adamw_set_state(handle.raw(), name.as_ptr(), data, 1, dtype);
                let set = answer(set);
                (set, answer(adamw_get_state(handle.raw(), name.as_ptr(), data, 1, dtype)))
            };
            refused(set, Status::InvalidArgument, &text);
            refused(got, Status::InvalidArgument, &text);
        }
    }
}
