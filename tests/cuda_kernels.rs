//! Every kernel, executed on the stand-in device, has the bits of the processor's step.

mod common;

use adamw::ffi::*;
use common::array::Dtype;
use common::device::Device;
use common::kernels::{CHUNK, Case, compare, compare_sums};

#[track_caller]
fn assert_same(
    device: &Device,
    case: &Case,
    lengths: &[usize],
    blocks: u32,
    offset: impl Fn(usize) -> usize,
) {
    compare(device, case, lengths, blocks, offset).unwrap_or_else(|why| panic!("{why}: {case:?}"));
}

#[test]
fn every_format_steps_to_the_processors_bits() {
    let device = Device::new();
    for case in Case::all() {
        // Fewer blocks than chunks, and more.
        assert_same(&device, &case, &[CHUNK + 5000, 4096 + 77, 2 * CHUNK], 2, |_| 0);
        assert_same(&device, &case, &[129, 1, 1000], 5, |_| 0);
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
        assert_same(&device, case, lengths, 3, |_| 0);
    }
}

#[test]
fn every_alignment_of_every_operand_steps_to_the_processors_bits() {
    let device = Device::new();
    for case in Case::all().iter().filter(|case| !case.f32_grad || case.kept.param == Dtype::F64) {
        for operand in 0..10 {
            for elements in [1, 2, 3] {
                let offset = |place| if place == operand { elements } else { 0 };
                assert_same(&device, case, &[4099], 1, offset);
            }
        }
        assert_same(&device, case, &[4099], 1, |place| place % 4 + 1);
    }
}

#[test]
fn sums_of_squares_are_the_processors() {
    let device = Device::new();
    for dtype in Dtype::ALL {
        compare_sums(&device, dtype).unwrap();
    }
}
