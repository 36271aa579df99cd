//! What gradients cost that are elsewhere at each step, beside the step, in the same run: 10,000
//! f32 parameters of 64 elements. Medians of some rounds, with the quartiles.

use adamw::ffi::*;
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use std::time::Instant;

const N_PARAMS: usize = 10_000;
const LENGTH: usize = 64;
const ROUNDS: usize = 201;

/// Where gradients lie: two sets, which take turns.
struct Memory {
    params: Vec<Vec<f32>>,
    grads: [Vec<Vec<f32>>; 2],
}

impl Memory {
    /// Gradients that lie behind all parameters.
    fn behind() -> Memory {
        let many = |value| (0..N_PARAMS).map(|_| vec![value; LENGTH]).collect();
        Memory { params: many(0.5), grads: [many(0.25), many(0.125)] }
    }

    /// Gradients that lie among the parameters.
    fn among() -> Memory {
        let mut memory = Memory { params: vec![], grads: [vec![], vec![]] };
        for _ in 0..N_PARAMS {
            memory.grads[0].push(vec![0.25; LENGTH]);
            memory.params.push(vec![0.5; LENGTH]);
            memory.grads[1].push(vec![0.125; LENGTH]);
        }
        memory
    }
}

fn ok(status: Status) {
    assert_eq!(status, Status::Ok);
}

fn tensor(data: *const f32, shape: &mut i64) -> adamw_tensor {
    adamw_tensor {
        data: data.cast_mut().cast(),
        device: adamw_device { device_type: ADAMW_DEVICE_CPU, device_id: 0 },
        ndim: 1,
        dtype: adamw_data_type { code: ADAMW_CODE_FLOAT, bits: 32, lanes: 1 },
        shape,
        strides: null_mut(),
        byte_offset: 0,
    }
}

/// Returns the median and the quartiles, in microseconds.
fn quartiles(mut seconds: Vec<f64>) -> [f64; 3] {
    seconds.sort_by(f64::total_cmp);
    [2, 1, 3].map(|quarter| seconds[seconds.len() * quarter / 4] * 1e6)
}

fn measure(what: &str, mut memory: Memory) {
    let mut optimizer = null_mut();
    let config = adamw_config { num_threads: 1, ..adamw_config::DEFAULT };
    let mut shape = LENGTH as i64;
    // SAFETY: the arrays outlive the handle.
    unsafe {
        ok(adamw_create(&config, &mut optimizer));
        for param in &mut memory.params {
            let mut number = 0;
            let data = param.as_mut_ptr().cast();
            ok(adamw_add_array(
                optimizer,
                null(),
                data,
                LENGTH as u64,
                ADAMW_DTYPE_F32,
                &mut number,
            ));
        }
    }
    let addresses = memory
        .grads
        .each_ref()
        .map(|grads| grads.iter().map(|grad| grad.as_ptr().cast()).collect::<Vec<*const c_void>>());
    let tensors = memory.grads.each_ref().map(|grads| {
        grads.iter().map(|grad| tensor(grad.as_ptr(), &mut shape)).collect::<Vec<_>>()
    });
    let pointers = tensors.each_ref().map(|tensors| {
        tensors.iter().map(|tensor| tensor as *const adamw_tensor).collect::<Vec<_>>()
    });
    let numbers: Vec<u32> = (0..N_PARAMS as u32).collect();
    let mut times: [Vec<f64>; 3] = Default::default();
    for round in 0..ROUNDS {
        let set = round % 2;
        let timed = |call: &dyn Fn() -> Status| {
            let started = Instant::now();
            ok(call());
            started.elapsed().as_secs_f64()
        };
        // SAFETY: the arrays have an entry for each parameter, and outlive the handle.
        let calls: [&dyn Fn() -> Status; 3] = unsafe {
            [
                &|| adamw_step(optimizer),
                &|| adamw_set_grad_data(optimizer, null(), addresses[set].as_ptr(), N_PARAMS),
                &|| {
                    let grads = pointers[1 - set].as_ptr();
                    adamw_set_grads(optimizer, numbers.as_ptr(), grads, N_PARAMS)
                },
            ]
        };
        // A step follows each way of setting gradients; the first round has none yet.
        let set_grads = timed(calls[2]);
        timed(calls[0]);
        let set_grad_data = timed(calls[1]);
        let step = timed(calls[0]);
        if round > 1 {
            [step, set_grad_data, set_grads].into_iter().zip(&mut times).for_each(|(t, to)| {
                to.push(t);
            });
        }
    }
    let [step, data, grads] = times.map(quartiles);
    for (name, [median, low, high]) in
        [("adamw_step", step), ("adamw_set_grad_data", data), ("adamw_set_grads", grads)]
    {
        println!(
            "{what:8} {name:20} {median:7.0} us ({low:.0} to {high:.0}), {:.2} of the step",
            median / step[0]
        );
    }
    ok(adamw_destroy(optimizer));
}

fn main() {
    measure("behind", Memory::behind());
    measure("among", Memory::among());
}
