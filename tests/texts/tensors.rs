//! Tensors that cannot be what they are given as.

use crate::Refusals;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Answer, Handle, Param, answer, config};
use crate::common::rows::Rows;
use adamw::ffi::Status::{InvalidArgument, Unsupported};
use adamw::ffi::*;
use core::ptr::null_mut;

pub fn refusals(rows: &mut Refusals) {
    one_by_itself(rows);
    one_beside_its_param(rows);
    rows_of_one(rows);
    one_of_several(rows);
}

fn on(device_type: i32, device_id: i32, tensor: adamw_tensor) -> adamw_tensor {
    adamw_tensor { device: adamw_device { device_type, device_id }, ..tensor }
}

fn one_by_itself(rows: &mut Refusals) {
    let handle = Handle::new(&config());
    let array = Array::of(Dtype::F32, &[1.0; 6]);
    let add = |tensor| {
        let mut tensors = [None; 9];
        tensors[0] = tensor;
        handle.try_add_tensors(&Param::new("w", &array), tensors)
    };
    let plain = array.tensor();
    rows.invalid(add(None), "param \"w\": param is NULL");

    let shapes = [vec![2i64, 3], vec![6, -1], vec![1 << 40; 2], vec![1 << 61]];
    let (strides, deep) = ([1i64, 4], [2i64; 9]);
    let turned = [1i64, 2, 4, 8, 16, 32, 64, 128, 256];
    let shaped = |of: usize| adamw_tensor {
        ndim: shapes[of].len() as i32,
        shape: shapes[of].as_ptr().cast_mut(),
        ..plain
    };
    let strided = adamw_tensor { strides: strides.as_ptr().cast_mut(), ..shaped(0) };
    let many = adamw_tensor {
        ndim: 9,
        shape: deep.as_ptr().cast_mut(),
        strides: turned.as_ptr().cast_mut(),
        ..plain
    };
    let nowhere = adamw_tensor { data: null_mut(), ..plain };
    let beyond = adamw_tensor { byte_offset: u64::MAX, ..plain };
    let of =
        |code, bits, lanes| adamw_tensor { dtype: adamw_data_type { code, bits, lanes }, ..plain };
    for (tensor, text) in [
        (adamw_tensor { ndim: -1, ..plain }, "has ndim -1, expected 0 to 64"),
        (
            adamw_tensor { shape: null_mut(), ..plain },
            "has shape NULL and ndim 1, expected a pointer to so many numbers",
        ),
        (shaped(1), "has a dimension of -1 elements, expected 0 or more"),
        (shaped(2), "has more elements than fit in 64 bits"),
        (shaped(3), "has 2305843009213693952 elements, more than fit in memory"),
        (
            strided,
            "has gaps or elements in one place: stride 4 in dimension 1, expected 2; give the whole \
             that it is a view of, or a copy",
        ),
        (
            many,
            "has 9 dimensions that are not row-major, expected 8 or fewer of more than one element: \
             give a plain array of its memory",
        ),
        (nowhere, "has data NULL and 6 elements, expected a pointer to them"),
        (beyond, "has byte_offset 18446744073709551615, which leaves the address space"),
        (
            of(1, 64, 2),
            "has DLPack type code 1, 64 bits, 2 lanes, expected code 2 with 16, 32 or 64 bits, or \
             code 4 with 16, and 1 lane",
        ),
        (of(0, 16, 1), "is i16, expected f32, f64, f16 or bf16"),
        (on(2, -1, plain), "is on CUDA device -1, expected 0 to 65535"),
    ] {
        rows.invalid(add(Some(tensor)), &format!("param \"w\": param {text}"));
    }
    rows.row(
        add(Some(on(10, 0, plain))),
        Unsupported,
        "param \"w\": param is on DLPack device type 10, expected the host's memory (1, 3 or 11: a \
         plain array's device is {1, 0}) or CUDA's (2 or 13)",
    );
    let odd = adamw_tensor { byte_offset: 2, ..plain };
    let text = format!(
        "param \"w\": param is at {:#x}, which is not aligned to its 4-byte elements",
        array.data().addr() + 2
    );
    rows.invalid(add(Some(odd)), &text);
    let mut number = 0;
    // SAFETY: the library sees that the type is none.
    let status =
        unsafe { adamw_add_array(handle.raw(), c"w".as_ptr(), array.data(), 6, 99, &mut number) };
    rows.invalid(
        answer(status),
        "param \"w\": param has dtype 99, expected ADAMW_DTYPE_F32, F64, F16 or BF16",
    );
}

fn one_beside_its_param(rows: &mut Refusals) {
    let handle = Handle::new(&config());
    let [single, half] = [Dtype::F32, Dtype::Bf16].map(|dtype| Array::of(dtype, &[1.0; 6]));
    let [s, h] = [handle.add_array("s", &single), handle.add_array("h", &half)];
    let grad = |dtype| Array::of(dtype, &[1.0; 6]);
    for n in [0, 6] {
        // SAFETY: the library sees that there is no memory.
        let forgotten = answer(unsafe {
            adamw_set_grad_array(handle.raw(), s, null_mut(), n, ADAMW_DTYPE_F32)
        });
        let text = format!(
            "param \"s\": grad has data NULL and {n} elements (adamw_set_grad with NULL forgets a gradient)"
        );
        rows.invalid(forgotten, &text);
    }
    rows.invalid(
        handle.try_set_grad(s, &Array::of(Dtype::F32, &[1.0; 5])),
        "param \"s\": grad has 5 elements, param has 6",
    );
    rows.invalid(
        handle.try_set_grad(s, &grad(Dtype::F64)),
        "param \"s\": grad is f64, expected f32",
    );
    rows.invalid(
        handle.try_set_grad(h, &grad(Dtype::F16)),
        "param \"h\": grad is f16, expected bf16 as the param, or f32",
    );
    let (shape, strides) = ([2i64, 3], [1i64, 2]);
    let (shape, strides) = (shape.as_ptr().cast_mut(), strides.as_ptr().cast_mut());
    let square = adamw_tensor { ndim: 2, shape, ..grad(Dtype::F32).tensor() };
    rows.invalid(
        handle.set_grad_tensor(s, &adamw_tensor { strides, ..square }),
        "param \"s\": grad has its dimensions in the order 1,0 in memory, expected row-major: copy it \
         into that order",
    );
    rows.invalid(
        handle.set_grad_tensor(s, &on(2, 0, grad(Dtype::F32).tensor())),
        "param \"s\": grad is in the memory of CUDA device 0, expected that of the host, as param is",
    );
}

fn rows_of_one(rows: &mut Refusals) {
    let handle = Handle::new(&adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..config() });
    let table = Array::of(Dtype::F32, &[1.0; 12]);
    let t = handle.add_array("t", &table);
    let set = |rows: &Rows, n: usize| -> Answer {
        handle.try_set_sparse_grad(t, rows, &Array::of(Dtype::F32, &vec![1.0; n]))
    };
    let two = Rows::i64(&[0, 1]);
    rows.invalid(
        set(&two, 7),
        "param \"t\": grad has 7 values for 2 rows, expected the same number for each row",
    );
    rows.invalid(
        set(&two, 10),
        "param \"t\": grad has rows of 5 elements, which do not divide the 12 of param",
    );
    let (shape, strides) = ([4i64, 3], [1i64, 4]);
    let tensor = adamw_tensor { ndim: 2, shape: shape.as_ptr().cast_mut(), ..table.tensor() };
    let turned = adamw_tensor { strides: strides.as_ptr().cast_mut(), ..tensor };
    for (tensor, n, text) in [
        (tensor, 4, "has rows of 2 elements, expected 3 as those of param have"),
        (
            turned,
            6,
            "lists rows of a param whose dimensions are in the order 1,0 in memory, expected \
             row-major: give a dense one",
        ),
    ] {
        let handle = Handle::new(&config());
        let mut tensors = [None; 9];
        tensors[0] = Some(tensor);
        handle.try_add_tensors(&Param::new("t", &table), tensors).unwrap();
        let set = handle.try_set_sparse_grad(0, &two, &Array::of(Dtype::F32, &vec![1.0; n]));
        rows.invalid(set, &format!("param \"t\": grad {text}"));
    }
    let bytes =
        adamw_tensor { dtype: adamw_data_type { code: 1, bits: 8, lanes: 1 }, ..two.tensor() };
    let values = Array::of(Dtype::F32, &[1.0; 6]);
    rows.invalid(
        handle.set_sparse_grad_tensors(t, &bytes, &values.tensor()),
        "param \"t\": rows has DLPack type code 1, 8 bits, 1 lanes, expected code 0 with 32 or 64 \
         bits, and 1 lane",
    );
    handle.set_sparse_grad(t, &two, &values);
    handle.step();
    rows.invalid(
        set(&two, 8),
        "param \"t\": grad has rows of 4 elements, expected 3 as earlier ones had",
    );
    let outside = Rows::i64(&[0, 4]);
    handle.set_sparse_grad(t, &outside, &values);
    rows.invalid(handle.try_step(), "param \"t\": rows[1] is 4, expected 0 to 3");
}

fn one_of_several(rows: &mut Refusals) {
    let handle = Handle::new(&config());
    let (a, b) = (Array::of(Dtype::F32, &[1.0; 6]), Array::of(Dtype::F32, &[1.0; 6]));
    let (grad, short) = (Array::of(Dtype::F32, &[1.0; 6]), Array::of(Dtype::F32, &[1.0; 5]));
    let (first, second) = (handle.add_array("a", &a), handle.add_array("b", &b));
    let set = |numbers: [u32; 2], grads: [adamw_tensor; 2]| {
        let grads = grads.each_ref().map(|grad| &raw const *grad);
        // SAFETY: everything lives through the call, and the gradients longer than the handle.
        answer(unsafe { adamw_set_grads(handle.raw(), numbers.as_ptr(), grads.as_ptr(), 2) })
    };
    rows.row(
        set([first, second], [grad.tensor(), short.tensor()]),
        InvalidArgument,
        "grads[1]: param \"b\": grad has 5 elements, param has 6",
    );
    rows.row(
        set([9, second], [grad.tensor(), grad.tensor()]),
        Status::NotFound,
        "grads[0]: there is no param 9: numbers are below 2, and free where a param was removed",
    );
    let strides = [2i64];
    let strided = adamw_tensor { strides: strides.as_ptr().cast_mut(), ..grad.tensor() };
    rows.invalid(
        handle.rebind_tensors(&[
            (first, ADAMW_BUFFER_PARAM, strided),
            (9, ADAMW_BUFFER_PARAM, strided),
        ]),
        "buffers[0]: param \"a\": param has gaps or elements in one place: stride 2 in dimension 0, \
         expected 1; give the whole that it is a view of, or a copy",
    );
}

#[test]
fn a_tensor_that_is_refused_says_which_it_is_and_what_to_do() {
    crate::said(refusals);
}
