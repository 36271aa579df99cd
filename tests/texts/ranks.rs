//! Ranks that do not agree.

use crate::Refusals;
use crate::common::array::{Array, Dtype};
use crate::common::device::{Device, OnDevice};
use crate::common::handle::{Answer, Handle, Param, answer, config};
use crate::common::host::{from_user_data, user_data};
use adamw::ffi::Status::{Callback, Mismatch, Unsupported};
use adamw::ffi::*;
use core::ffi::c_void;

/// Another rank, which writes what this one does, and adds to some numbers: of a call with so many,
/// the number at a place, by so much.
struct Other {
    adds: &'static [(usize, usize, f64)],
    returns: i32,
}

/// How many numbers ranks agree by, and where those of a topic begin.
const NUMBERS: usize = 45;
const PARAMS: usize = 9;
const LR: usize = 29;

unsafe extern "C" fn all_reduce(numbers: *mut f64, count: usize, other: *mut c_void) -> i32 {
    // SAFETY: the library's numbers, and the test's own rank.
    let (numbers, other) = unsafe {
        (core::slice::from_raw_parts_mut(numbers, count), from_user_data::<Other>(other))
    };
    numbers.iter_mut().for_each(|number| *number *= 2.0);
    for (_, place, by) in other.adds.iter().filter(|(of, ..)| *of == count) {
        numbers[*place] += by;
    }
    other.returns
}

fn try_join(handle: &Handle, other: &Other) -> Answer {
    // SAFETY: the rank lives as long as the steps by which it agrees.
    answer(unsafe { adamw_set_all_reduce(handle.raw(), Some(all_reduce), user_data(other)) })
}

fn join(handle: &Handle, other: &Other) {
    try_join(handle, other).unwrap();
}

unsafe extern "C" fn of_one(_: *mut f64, _: usize, _: *mut c_void) -> i32 {
    0
}

unsafe extern "C" fn next_piece(_: u64, _: u64, _: *mut c_void) -> i32 {
    5
}

fn set_next_piece(handle: &Handle) -> Answer {
    let none = core::ptr::null_mut();
    // SAFETY: the function needs nothing.
    answer(unsafe { adamw_set_next_piece(handle.raw(), 0, Some(next_piece), none) })
}

pub fn refusals(rows: &mut Refusals) {
    let arrays = [0; 4].map(|_| Array::of(Dtype::F32, &[1.0; 4]));
    let handle = Handle::new(&config());
    for (name, i) in [("a", 0), ("b", 2)] {
        let number = handle.add_array(name, &arrays[i]);
        handle.set_grad(number, &arrays[i + 1]);
    }
    let none = "no rank has taken the step";
    for (adds, returns, status, text) in [
        (&[][..], 9, Callback, "all_reduce returned 9, expected 0".to_owned()),
        (
            &[(NUMBERS, 0, 0.5)],
            0,
            Callback,
            "all_reduce gave 2.5 where each rank had written 1, expected their number, at most \
             2^20: it adds up in place"
                .into(),
        ),
        (
            &[(NUMBERS, 1, 1.0)],
            0,
            Mismatch,
            format!(
                "{none}, because 1 of the 2 could not: their adamw_last_error says why"
            ),
        ),
        (
            &[(NUMBERS, LR, 1.0)],
            0,
            Mismatch,
            format!("ranks differ in lr, or where its schedule is: {none}"),
        ),
        // There are four more numbers for each parameter.
        (
            &[(NUMBERS, PARAMS, 1.0), (8, 4, 1.0)],
            0,
            Mismatch,
            format!(
                "param \"b\" is not the same on all ranks in its name, place, whole_elements, type \
                 or format: {none}"
            ),
        ),
        (
            &[],
            0,
            Mismatch,
            "param \"a\": the ranks have 8 elements of its 4, or some of them twice, expected each \
             on one rank"
                .into(),
        ),
    ] {
        let other = Other { adds, returns };
        join(&handle, &other);
        rows.row(handle.try_step(), status, &text);
    }
    for (nonfinite, when) in [
        (ADAMW_NONFINITE_SKIP, ""),
        (
            ADAMW_NONFINITE_PROPAGATE,
            ", in the middle of a step, which cannot be undone: destroy this handle",
        ),
    ] {
        let alone = Handle::new(&adamw_config { nonfinite, ..config() });
        let number = alone.add_array("a", &arrays[0]);
        alone.set_grad(number, &arrays[1]);
        rows.invalid(
            set_next_piece(&alone),
            "the handle has no all_reduce, without which no step goes on piece by piece: set it \
             first",
        );
        let to = core::ptr::null_mut();
        // SAFETY: the function needs nothing.
        answer(unsafe { adamw_set_all_reduce(alone.raw(), Some(of_one), to) }).unwrap();
        set_next_piece(&alone).unwrap();
        let text = format!("next_piece returned 5, expected 0{when}");
        rows.row(alone.try_step(), Callback, &text);
    }
    let lengths = [4, u64::MAX];
    let cut = |n, rank, num_ranks| {
        let (mut firsts, mut counts) = ([0; 2], [0; 2]);
        let (firsts, counts) = (firsts.as_mut_ptr(), counts.as_mut_ptr());
        // SAFETY: arrays of two numbers.
        answer(unsafe {
            adamw_shard_ranges(lengths.as_ptr(), n, 0, rank, num_ranks, firsts, counts)
        })
    };
    rows.invalid(cut(1, 2, 2), "rank is 2, expected less than num_ranks");
    rows.invalid(cut(2, 0, 1), "the sum of n_elements is inf, expected less than 2^64");
    let sums = Array::zeros(Dtype::F64, 4);
    rows.invalid(
        handle.measure_grads(&sums.tensor()),
        "the handle has an all_reduce, by which ranks add up what they measure in a step: without \
         it (adamw_set_all_reduce with NULL), the sums over gradients are for hosts to add up",
    );
    let (summed, other) = (Handle::new(&config()), Other { adds: &[], returns: 0 });
    summed.add_array("a", &arrays[0]);
    let sums = Array::zeros(Dtype::F64, 2);
    summed.set_grad_sums(Some(&sums.tensor())).unwrap();
    rows.invalid(
        try_join(&summed, &other),
        "sums over gradients are set, which hosts add up by themselves: forget them \
         (adamw_set_grad_sums with NULL) before ranks do",
    );
    let _device = Device::new();
    let param = OnDevice::of(&arrays[0], 0);
    let mut tensors = [None; 9];
    tensors[0] = Some(param.tensor());
    rows.row(
        handle.try_add_tensors(&Param::new("c", &arrays[0]), tensors),
        Unsupported,
        "param \"c\" is on a device, where ranks cannot agree: offload it, or clip it yourself",
    );
}

#[test]
fn ranks_that_do_not_agree_say_in_what() {
    crate::said(refusals);
}
