//! Structs of the C API that are as long as their caller says.

use adamw::ffi::*;
use core::ffi::{CStr, c_void};
use core::ptr::{null, null_mut};
use std::collections::BTreeMap;

/// A handle with a parameter, and for each struct what fills one and what it is passed to.
pub struct Structs {
    optimizer: *mut Optimizer,
    _memory: Box<[f32; 4]>,
    read: BTreeMap<&'static str, (Vec<u8>, Pass)>,
    written: BTreeMap<&'static str, Fill>,
}

type Pass = fn(*mut Optimizer, *const u8) -> Status;
type Fill = fn(*mut Optimizer, *mut u8, usize) -> Status;

/// The bytes of a struct, which has no padding.
fn bytes<T>(value: &T) -> Vec<u8> {
    // SAFETY: the struct's own bytes.
    unsafe { core::slice::from_raw_parts((&raw const *value).cast(), size_of::<T>()) }.to_vec()
}

/// A struct of numbers and nullable pointers.
fn zeros<T>() -> T {
    // SAFETY: as above.
    unsafe { core::mem::zeroed() }
}

unsafe extern "C" fn no_loss(out_loss: *mut f64, _: *mut c_void) -> i32 {
    // SAFETY: the library's.
    unsafe { out_loss.write(0.0) };
    0
}

/// Calls a function with a struct that it reads, or writes as far as `size` goes.
macro_rules! call {
    ($function:ident(optimizer, read)) => {
        // SAFETY: the bytes are as many as the struct says.
        |optimizer, from| unsafe { $function(optimizer, from.cast()) }
    };
    ($function:ident(optimizer, written)) => {
        // SAFETY: the bytes are that many.
        |optimizer, to, size| unsafe { $function(optimizer, to.cast(), size) }
    };
    ($function:ident(optimizer, $number:expr, written)) => {
        // SAFETY: the bytes are that many.
        |optimizer, to, size| unsafe { $function(optimizer, $number, to.cast(), size) }
    };
}

impl Structs {
    pub fn new() -> Structs {
        let mut memory = Box::new([0f32; 4]);
        let (mut optimizer, mut number) = (null_mut(), 0);
        let data = memory.as_mut_ptr().cast();
        let mut schedule: adamw_schedule = zeros();
        (schedule.kind, schedule.lr, schedule.gamma) = (ADAMW_SCHEDULE_EXPONENTIAL, 1.0, 0.5);
        schedule.struct_size = size_of_val(&schedule);
        let mut scaler: adamw_loss_scaler = zeros();
        scaler.struct_size = size_of_val(&scaler);
        let mut group: adamw_group_config = zeros();
        let (mut scaler_state, mut schedule_state) =
            (zeros::<adamw_loss_scaler_state>(), zeros::<adamw_schedule_state>());
        let mut options: adamw_param_options = zeros();
        // SAFETY: everything lives through its call.
        unsafe {
            for status in [
                adamw_create(null(), &mut optimizer),
                adamw_add_array(optimizer, c"w".as_ptr(), data, 4, ADAMW_DTYPE_F32, &mut number),
                adamw_set_lr_schedule(optimizer, &schedule),
                adamw_set_loss_scaler(optimizer, &scaler),
                adamw_group_config_init(optimizer, &mut group, size_of_val(&group)),
                adamw_get_param_options(optimizer, 0, &mut options, size_of_val(&options)),
                adamw_get_loss_scaler_state(
                    optimizer,
                    &mut scaler_state,
                    size_of_val(&scaler_state),
                ),
                adamw_get_schedule_state(
                    optimizer,
                    &mut schedule_state,
                    size_of_val(&schedule_state),
                ),
            ] {
                assert_eq!(status, Status::Ok);
            }
        }
        let args = adamw_minimize_args { closure: Some(no_loss), ..zeros() };
        let source = adamw_source { path: c"/".as_ptr(), ..zeros() };
        let param = adamw_param_config::DEFAULT;
        let save: adamw_save_args = zeros();
        let load: adamw_load_options = zeros();
        let inputs: adamw_device_inputs = zeros();
        let read: [(_, Vec<u8>, Pass); 13] = [
            ("adamw_config", bytes(&adamw_config::DEFAULT), |_, from| {
                let mut made = null_mut();
                // SAFETY: the bytes are as many as the struct says.
                let status = unsafe { adamw_create(from.cast(), &mut made) };
                assert_eq!(adamw_destroy(made), Status::Ok);
                status
            }),
            ("adamw_group_config", bytes(&group), |optimizer, from| {
                let mut number = 0;
                // SAFETY: as above.
                unsafe { adamw_add_group(optimizer, from.cast(), &mut number) }
            }),
            ("adamw_param_config", bytes(&param), |optimizer, from| {
                let mut number = 0;
                // SAFETY: as above.
                unsafe { adamw_add_param(optimizer, from.cast(), &mut number) }
            }),
            ("adamw_param_options", bytes(&options), |optimizer, from| {
                // SAFETY: as above.
                unsafe { adamw_set_param_options(optimizer, 0, from.cast()) }
            }),
            ("adamw_minimize_args", bytes(&args), |optimizer, from| {
                // SAFETY: as above.
                unsafe { adamw_minimize(optimizer, from.cast(), null_mut(), null_mut()) }
            }),
            ("adamw_schedule", bytes(&schedule), call!(adamw_set_lr_schedule(optimizer, read))),
            (
                "adamw_schedule_state",
                bytes(&schedule_state),
                call!(adamw_set_schedule_state(optimizer, read)),
            ),
            ("adamw_loss_scaler", bytes(&scaler), call!(adamw_set_loss_scaler(optimizer, read))),
            (
                "adamw_loss_scaler_state",
                bytes(&scaler_state),
                call!(adamw_set_loss_scaler_state(optimizer, read)),
            ),
            (
                "adamw_device_inputs",
                bytes(&inputs),
                call!(adamw_set_device_inputs(optimizer, read)),
            ),
            ("adamw_save_args", bytes(&save), |optimizer, from| {
                let mut n = 0;
                // SAFETY: as above.
                unsafe { adamw_save_to(optimizer, from.cast(), &mut n) }
            }),
            ("adamw_load_options", bytes(&load), |optimizer, from| {
                // SAFETY: as above.
                unsafe { adamw_load(optimizer, c"/".as_ptr(), from.cast()) }
            }),
            ("adamw_source", bytes(&source), |optimizer, from| {
                // SAFETY: as above.
                unsafe { adamw_load_from(optimizer, &from.cast(), 1, null()) }
            }),
        ];
        let written: [(_, Fill); 9] = [
            // SAFETY: the bytes are that many.
            ("adamw_config", |_, to, size| unsafe { adamw_config_init(to.cast(), size) }),
            ("adamw_group_config", call!(adamw_group_config_init(optimizer, written))),
            ("adamw_param_info", call!(adamw_get_param_info(optimizer, 0, written))),
            ("adamw_param_options", call!(adamw_get_param_options(optimizer, 0, written))),
            ("adamw_step_info", call!(adamw_get_step_info(optimizer, written))),
            ("adamw_schedule_state", call!(adamw_get_schedule_state(optimizer, written))),
            ("adamw_loss_scaler_state", call!(adamw_get_loss_scaler_state(optimizer, written))),
            ("adamw_capabilities", |_, to, size| {
                // SAFETY: as above.
                unsafe { adamw_get_capabilities(to.cast(), size) }
            }),
            ("adamw_state_info", |optimizer, to, size| {
                // SAFETY: as above.
                unsafe { adamw_get_state_info(optimizer, 0, ADAMW_BUFFER_EXP_AVG, to.cast(), size) }
            }),
        ];
        let memory_plan: Fill = |optimizer, to, size| {
            // SAFETY: as above.
            unsafe { adamw_memory_plan(optimizer, 0, ADAMW_DTYPE_F32, 4, 0, to.cast(), size) }
        };
        let written = written.into_iter().chain([("adamw_memory", memory_plan)]).collect();
        let read = read.into_iter().map(|(name, bytes, pass)| (name, (bytes, pass))).collect();
        Structs { optimizer, _memory: memory, read, written }
    }

    /// That a struct of each size is taken as far as it goes where one of its fields ends, and is refused
    /// otherwise, with the sizes: nothing beyond it is read or written.
    pub fn assert_taken_up_to(&mut self, name: &str, ends: &[usize]) {
        let known = *ends.last().unwrap();
        assert!(self.read.contains_key(name) || self.written.contains_key(name), "{name}");
        for size in 0..=known + 8 {
            let taken = size == known + 8 || size > 8 && ends.contains(&size);
            if let Some((whole, pass)) = self.read.get(name) {
                // Exactly as many bytes as there are, so that a sanitizer sees a read beyond.
                let mut part = whole.clone();
                part.resize(known + 8, 0);
                part[..8].copy_from_slice(&size.to_ne_bytes());
                part.truncate(size.max(8));
                let part = part.into_boxed_slice();
                let status = pass(self.optimizer, part.as_ptr());
                assert_says(status, name, size, known, taken);
            }
            if let Some(fill) = self.written.get(name) {
                let mut whole = vec![0xa5; known];
                assert_eq!(fill(self.optimizer, whole.as_mut_ptr(), known), Status::Ok, "{name}");
                whole.resize(known + 8, 0); // what we do not know
                whole[..8].copy_from_slice(&size.to_ne_bytes());
                let mut part = vec![0xa5; known + 16];
                let status = fill(self.optimizer, part.as_mut_ptr(), size);
                assert_says(status, name, size, known, taken);
                let written = if taken { size } else { 0 };
                assert_eq!(part[..written], whole[..written], "{name} of {size} bytes");
                assert!(part[written..].iter().all(|&byte| byte == 0xa5), "{name} of {size} bytes");
            }
        }
    }
}

/// That a call has taken the size, whatever it thinks of the rest, or has refused it.
fn assert_says(status: Status, name: &str, size: usize, known: usize, taken: bool) {
    let text = match status {
        Status::Ok => String::new(),
        // SAFETY: NUL-terminated, and copied before the next call.
        _ => unsafe { CStr::from_ptr(adamw_last_error()) }.to_str().unwrap().to_owned(),
    };
    if taken {
        assert!(!text.contains("struct_size"), "{name} of {size} bytes: {text}");
    } else {
        let expected =
            format!(".struct_size is {size}, expected sizeof({name}), {known}, or where");
        assert!(text.contains(&expected), "{name} of {size} bytes: {text}");
        assert_eq!(status, Status::InvalidArgument);
    }
}

impl Drop for Structs {
    fn drop(&mut self) {
        assert_eq!(adamw_destroy(self.optimizer), Status::Ok);
    }
}
