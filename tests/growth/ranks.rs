//! What a rank takes is its share, and a step of ranks takes nothing.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, answer, config};
use crate::{alone, most_bytes};
use adamw::ffi::*;
use core::ffi::c_void;

const N: usize = 1 << 20;
const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// A rank whose others hold what it lacks: what it tells is the sum where it alone has a number.
unsafe extern "C" fn all_reduce(numbers: *mut f64, count: usize, share: *mut c_void) -> i32 {
    // SAFETY: the library's numbers, and the test's own.
    let (numbers, alone) =
        unsafe { (core::slice::from_raw_parts_mut(numbers, count), &*share.cast::<bool>()) };
    if *alone { 0 } else { numbers.len() as i32 }
}

unsafe extern "C" fn next_piece(_: u64, _: u64, _: *mut c_void) -> i32 {
    0
}

/// A rank that has a range of each parameter, beginning at 0.
fn rank(parts: &[Array], moments: adamw_moments, whole: u64) -> Handle {
    let clip = ADAMW_CLIP_GLOBAL_NORM;
    let handle =
        Handle::new(&adamw_config { moments, clip, clip_norm: 1.0, num_threads: 1, ..config() });
    for (name, part) in NAMES.into_iter().zip(parts) {
        handle.add(&Param { whole_elements: whole, ..Param::new(name, part) });
    }
    handle
}

#[test]
fn the_state_of_a_rank_is_its_share_and_no_rank_allocates_the_whole() {
    let _alone = alone();
    for (moments, bytes_of_element) in [(ADAMW_MOMENTS_F32, 8.0), (ADAMW_MOMENTS_8BIT, 2.03125)] {
        for n_ranks in [1, 2, 4, 8] {
            let parts = NAMES.map(|_| Array::zeros(Dtype::F32, N / n_ranks));
            let grads = NAMES.map(|_| Array::zeros(Dtype::F32, N / n_ranks));
            let always = n_ranks == 1;
            let (handle, most) = most_bytes(|| {
                let handle = rank(&parts, moments, N as u64);
                let (share, to) = (&raw const always, Some(all_reduce as _));
                // SAFETY: the flag lives as long as the handle steps.
                answer(unsafe { adamw_set_all_reduce(handle.raw(), to, share.cast_mut().cast()) })
                    .unwrap();
                (0..).zip(&grads).for_each(|(number, grad)| handle.set_grad(number, grad));
                let stepped = handle.try_step();
                assert_eq!(stepped.is_ok(), always);
                handle
            });
            // State of 2 MiB and more is mapped, which the plan tells and no allocator counts.
            let plan = handle.plan_of_part(0, ADAMW_DTYPE_F32, (N / n_ranks) as u64, N as u64);
            let total = NAMES.len() as f64 * plan.unwrap().total as f64;
            let share = NAMES.len() as f64 * bytes_of_element * (N / n_ranks) as f64;
            assert_eq!(total, share, "{n_ranks} ranks");
            assert!((most as f64) < share + 400_000.0, "{n_ranks} ranks: {most} bytes, {share}");
        }
    }
}

#[test]
fn steps_of_ranks_after_the_first_allocate_nothing() {
    let _alone = alone();
    let parts = NAMES.map(|_| Array::zeros(Dtype::F32, 10_000));
    let grads = NAMES.map(|_| Array::of(Dtype::F32, &vec![0.5; 10_000]));
    let handle = rank(&parts, ADAMW_MOMENTS_F32, 10_000);
    let always = true;
    let (share, to) = (&raw const always, Some(all_reduce as _));
    // SAFETY: the flag lives as long as the handle steps.
    answer(unsafe { adamw_set_all_reduce(handle.raw(), to, share.cast_mut().cast()) }).unwrap();
    let none = core::ptr::null_mut();
    // SAFETY: the function needs nothing.
    answer(unsafe { adamw_set_next_piece(handle.raw(), 4096, Some(next_piece), none) }).unwrap();
    let step = || {
        (0..).zip(&grads).for_each(|(number, grad)| handle.set_grad(number, grad));
        handle.step();
    };
    step();
    // The threads of the test's own harness take some memory now and then.
    let least = || (0..20).map(|_| most_bytes(step).1).min();
    assert_eq!(least(), Some(0));
    handle.clear_grad(ADAMW_CLEAR_FORGET);
    assert_eq!(least(), Some(0));
}
