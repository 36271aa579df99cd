//! Parameters come and go: what that costs does not grow, and nothing is left of those that have gone.

use crate::common::array::{Array, Dtype};
use crate::common::cpu_time::seconds;
use crate::common::device::{Device, OnDevice};
use crate::common::handle::{Handle, Param, config};
use crate::{LIVE, alone, mapped_and_resident_bytes};
use adamw::ffi::*;
use std::sync::atomic::Ordering;

/// Places for many small parameters, and their names.
struct Many {
    n_elements: usize,
    memory: Array,
    names: Vec<std::ffi::CString>,
}

const N: usize = 4;

impl Many {
    fn new(n: usize) -> Many {
        Many::of(n, N)
    }

    fn of(n: usize, n_elements: usize) -> Many {
        let name = |i| std::ffi::CString::new(format!("layers.{i}.weight")).unwrap();
        let memory = Array::of(Dtype::F32, &vec![1.0; n * n_elements]);
        Many { n_elements, memory, names: (0..n).map(name).collect() }
    }

    fn add(&self, handle: &Handle, i: usize) -> u32 {
        let data = self.memory.data().wrapping_byte_add(i * self.n_elements * 4);
        handle.add_at(&self.names[i], data, self.n_elements as u64, ADAMW_DTYPE_F32)
    }
}

#[test]
fn adding_and_removing_again_and_again_takes_no_memory() {
    let _alone = alone();
    let many = Many::new(5000);
    for statistics in [false, true] {
        let handle = Handle::new(&config());
        handle.set_statistics(u32::from(statistics)).unwrap();
        many.add(&handle, 0);
        let grad = Array::of(Dtype::F32, &[1.0; N]);
        handle.set_grad(0, &grad);
        let round = |from: usize, to: usize| {
            let numbers: Vec<_> = (from..to).map(|i| many.add(&handle, i)).collect();
            handle.step();
            numbers.iter().for_each(|number| handle.remove(*number).unwrap());
            handle.step();
        };
        round(1, 100);
        let before = LIVE.load(Ordering::Relaxed);
        for _ in 0..20 {
            round(1, 5000);
        }
        let after = LIVE.load(Ordering::Relaxed);
        // Room for some tens of parameters may be left.
        assert!(after < before + 100_000, "{before} bytes, then {after}");
        assert_eq!(handle.num_params(), 1);
    }
}

#[test]
fn a_parameter_in_place_of_another_again_and_again_takes_no_memory_and_no_place() {
    let _alone = alone();
    let many = Many::new(3);
    let handle = Handle::new(&config());
    let grad = Array::of(Dtype::F32, &[1.0; N]);
    let mut last = many.add(&handle, 0);
    let mut replace = |times: usize| {
        for i in 1..=times {
            let number = many.add(&handle, i % 2 + 1);
            handle.remove(last).unwrap();
            handle.set_grad(number, &grad);
            last = number;
        }
        handle.step();
        LIVE.load(Ordering::Relaxed)
    };
    let before = replace(100);
    let after = replace(300_000);
    // A step passes over all numbers up to the highest.
    assert!(handle.num_params() <= 2, "{} places", handle.num_params());
    assert!(after < before + 10_000, "{before} bytes, then {after}");
}

#[test]
fn small_state_that_comes_and_goes_around_some_that_stays_takes_no_memory() {
    let _alone = alone();
    let many = Many::of(20_000, 64);
    let handle = Handle::new(&config());
    let round = |round: usize| {
        let new: Vec<_> = (20 * round..10_000).map(|i| (i, many.add(&handle, i))).collect();
        new[20..].iter().for_each(|(_, number)| handle.remove(*number).unwrap());
    };
    round(0);
    let before = mapped_and_resident_bytes().0;
    (1..40).for_each(round);
    let after = mapped_and_resident_bytes().0;
    // Some tens of chunks of 2 MiB have a piece that stays.
    assert!(after < before + (10 << 20), "{before} bytes, then {after}");
}

#[test]
fn small_state_that_is_removed_is_given_back() {
    let _alone = alone();
    let many = Many::of(50_000, 64);
    let handle = Handle::new(&config());
    let before = mapped_and_resident_bytes().0;
    let numbers: Vec<_> = (0..50_000).map(|i| many.add(&handle, i)).collect();
    let with = mapped_and_resident_bytes().0;
    assert!(with > before + 50_000 * 512, "{before} bytes, {with} with state");
    numbers.iter().for_each(|number| handle.remove(*number).unwrap());
    let after = mapped_and_resident_bytes().0;
    assert!(after < before + (8 << 20), "{before} bytes, {with} with state, then {after}");
}

#[test]
fn handles_of_few_small_parameters_take_little_each() {
    let _alone = alone();
    const HANDLES: usize = 500;
    let many = Many::of(10, 64);
    let before = mapped_and_resident_bytes();
    let handles: Vec<_> = (0..HANDLES).map(|_| Handle::new(&config())).collect();
    handles.iter().for_each(|handle| (0..10).for_each(|i| _ = many.add(handle, i)));
    let after = mapped_and_resident_bytes();
    assert!(after.1 < before.1 + HANDLES * (48 << 10), "{before:?} bytes, then {after:?}");
    assert!(after.0 < before.0 + HANDLES * (256 << 10), "{before:?} bytes, then {after:?}");
}

/// The seconds of the shortest of some rounds that each add, find and remove so many parameters beside those there are.
fn time(handle: &Handle, many: &Many, from: usize) -> f64 {
    const TIMES: usize = 200;
    let round = || {
        for i in from..from + TIMES {
            let number = many.add(handle, i);
            handle.find_param(many.names[i / 2].to_str().unwrap()).unwrap();
            // Another one goes than has come, and comes back.
            handle.remove(number / 2).unwrap();
            assert_eq!(many.add(handle, number as usize / 2), number / 2);
            handle.remove(number).unwrap();
        }
    };
    (0..5).map(|_| seconds(round)).fold(f64::INFINITY, f64::min)
}

#[test]
fn parameters_come_go_and_are_found_at_the_same_cost_however_many_there_are() {
    let _alone = alone();
    let many = Many::new(64_200);
    let handle = Handle::new(&config());
    let mut times = [1000, 64_000].map(|n| {
        for i in handle.num_params() as usize..n {
            many.add(&handle, i);
        }
        time(&handle, &many, n)
    });
    // Caches count, so it is not quite the same; a list of all would make it sixty times as much.
    times[0] *= 12.0;
    assert!(times[1] < times[0], "{times:?}");
}

#[test]
fn offloaded_parameters_that_come_and_go_leave_no_room_for_gradients_that_pass_through_little_memory()
 {
    let (_alone, _device) = (alone(), Device::new());
    const N: usize = 1 << 20;
    let handle = Handle::new(&adamw_config { pinned_bytes: 1 << 16, ..config() });
    let values = Array::zeros(Dtype::F32, N);
    let (param, grad) = (OnDevice::of(&values, 0), OnDevice::of(&values, 0));
    let round = || {
        let mut tensors = [None; 9];
        tensors[0] = Some(param.tensor());
        let new = Param { offload: true, ..Param::new("w", &values) };
        let number = handle.try_add_tensors(&new, tensors).unwrap();
        handle.set_grad_tensor(number, &grad.tensor()).unwrap();
        handle.remove(number).unwrap();
    };
    round();
    let before = LIVE.load(Ordering::Relaxed);
    (0..20).for_each(|_| round());
    let after = LIVE.load(Ordering::Relaxed);
    assert!(after < before + 100_000, "{before} bytes, then {after}");
}
