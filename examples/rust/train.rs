// As examples/c/train.c, with what bindgen makes of the header. usage: train <checkpoint>
#[allow(non_camel_case_types, non_upper_case_globals, dead_code)]
mod adamw {
    include!(concat!(env!("BINDINGS"), "/adamw.rs"));
}
use adamw::*;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

const N: usize = 64;
const NUM_STEPS: usize = 50;

/// Boxed once: the library keeps the addresses.
struct Param {
    data: Box<[f32; N]>,
    grad: Box<[f32; N]>,
}

impl Param {
    fn new() -> Self {
        Param { data: Box::new([0.0; N]), grad: Box::new([0.0; N]) }
    }
}

fn check(status: adamw_status) {
    if status != 0 {
        // SAFETY: NUL-terminated, and printed before the next call.
        panic!("{}", unsafe { CStr::from_ptr(adamw_last_error()) }.to_string_lossy());
    }
}

unsafe extern "C" fn decays(name: *const c_char, _user_data: *mut c_void) -> i32 {
    // SAFETY: the library passes a NUL-terminated name.
    i32::from(unsafe { CStr::from_ptr(name) } != c"bias")
}

/// An optimizer of both, which must stay where they are until it is destroyed.
fn new_optimizer(weight: &mut Param, bias: &mut Param) -> *mut adamw_optimizer {
    let mut optimizer = ptr::null_mut();
    // SAFETY: all pointers are valid for what they describe, and `main` keeps the parameters.
    unsafe {
        check(adamw_create(ptr::null(), &mut optimizer));
        check(adamw_set_lr(optimizer, 0.05));
        check(adamw_set_decay_filter(optimizer, Some(decays), ptr::null_mut()));
        for (name, param) in [(c"weight", weight), (c"bias", bias)] {
            let (data, grad) = (param.data.as_mut_ptr(), param.grad.as_ptr());
            let (n, mut number) = (N as u64, 0);
            check(adamw_add_array(optimizer, name.as_ptr(), data.cast(), n, ADAMW_DTYPE_F32, &mut number));
            check(adamw_set_grad_array(optimizer, number, grad.cast(), n, ADAMW_DTYPE_F32));
        }
    }
    optimizer
}

fn train(optimizer: *mut adamw_optimizer, weight: &mut Param, bias: &mut Param) {
    for _ in 0..NUM_STEPS {
        for i in 0..N {
            weight.grad[i] = weight.data[i] - i as f32 / 16.0;
            bias.grad[i] = bias.data[i] + i as f32 / 16.0;
        }
        // SAFETY: the parameters are where the optimizer knows them.
        check(unsafe { adamw_step(optimizer) });
    }
}

fn main() {
    let path = CString::new(std::env::args().nth(1).expect("usage: train <checkpoint>")).unwrap();
    let (mut weight, mut bias) = (Param::new(), Param::new());
    let optimizer = new_optimizer(&mut weight, &mut bias);
    train(optimizer, &mut weight, &mut bias);
    // SAFETY: the path is NUL-terminated.
    check(unsafe { adamw_save(optimizer, path.as_ptr()) });
    check(unsafe { adamw_destroy(optimizer) });

    let optimizer = new_optimizer(&mut weight, &mut bias);
    // SAFETY: the path is NUL-terminated.
    check(unsafe { adamw_load(optimizer, path.as_ptr(), ptr::null()) });
    train(optimizer, &mut weight, &mut bias);
    check(unsafe { adamw_destroy(optimizer) });

    let (mut a, mut b) = (1, 0);
    for byte in weight.data.iter().chain(bias.data.iter()).flat_map(|x| x.to_ne_bytes()) {
        a = (a + u32::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    println!("{:08X}", b << 16 | a);
}
