//! Every kernel, executed on the stand-in device, has the bits of the processor's step.

use crate::common::array::Dtype;
use crate::common::device::Device;
use crate::common::kernels::{CHUNK, Case, compare};
use adamw::ffi::*;

#[track_caller]
fn assert_same(device: &Device, case: &Case, lengths: &[usize], offset: impl Fn(usize) -> usize) {
    compare(device, case, lengths, offset).unwrap_or_else(|why| panic!("{why}: {case:?}"));
}

#[test]
fn every_format_steps_to_the_processors_bits() {
    // Fewer blocks than chunks, and more.
    let device = Device::with(&[("blocks", "2")]);
    for case in Case::all() {
        assert_same(&device, &case, &[CHUNK + 5000, 4096 + 77, 2 * CHUNK], |_| 0);
        assert_same(&device, &case, &[129, 1, 1000], |_| 0);
    }
}

#[test]
fn many_chunks_are_shared_out_whole_and_few_in_quarters() {
    let device = Device::with(&[("blocks", "1")]);
    let cases = Case::all();
    for moments in [ADAMW_MOMENTS_F32, ADAMW_MOMENTS_8BIT] {
        let case = cases.iter().find(|case| case.moments == moments).unwrap();
        assert_same(&device, case, &[6 * CHUNK + 300, CHUNK + 4097, 5], |_| 0);
        assert_same(&device, case, &[2 * CHUNK + 4096, CHUNK + 4097, 5], |_| 0);
    }
}

#[test]
fn every_length_steps_to_the_processors_bits() {
    let device = Device::new();
    let lengths: Vec<usize> = (0..=131).chain(CHUNK - 1..=CHUNK + 1).collect();
    let coded: Vec<usize> =
        (0..=131).map(|n| 4096 + n).chain(CHUNK - 1..=CHUNK + 1).chain([CHUNK + 256]).collect();
    for case in Case::all().iter().filter(|case| case.amsgrad == case.f32_grad) {
        let is_coded = matches!(case.moments, ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT);
        let lengths = if is_coded { &coded } else { &lengths };
        assert_same(&device, case, lengths, |_| 0);
    }
}

#[test]
fn every_alignment_of_every_operand_steps_to_the_processors_bits() {
    let device = Device::new();
    for case in Case::all().iter().filter(|case| !case.f32_grad || case.kept.param == Dtype::F64) {
        let is_coded = matches!(case.moments, ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT);
        let n = if is_coded { 4099 } else { 203 };
        for operand in 0..10 {
            for elements in [1, 2, 3] {
                let offset = |place| if place == operand { elements } else { 0 };
                assert_same(&device, case, &[n], offset);
            }
        }
        assert_same(&device, case, &[n], |place| place % 4 + 1);
    }
}
