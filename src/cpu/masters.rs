//! The f32 masters of 16-bit parameters: filled from them, and checked against them.
#![forbid(unsafe_code)]

use super::block::BLOCK;
use super::isa::Isa;
use crate::dtype::{Bf16, F16, Widen};
use crate::tensor::Slice;

/// Writes the parameter's values into its f32 master.
pub fn fill(isa: &'static Isa, master: &mut [f32], param: Slice) {
    match param {
        Slice::F16(param) => isa.widen_f16(param, master),
        Slice::Bf16(param) => isa.widen_bf16(param, master),
        _ => unreachable!("only 16-bit parameters have a master"),
    }
}

/// Returns the first element of a master that rounds to the parameter neither up nor down.
pub fn first_mismatch(isa: &'static Isa, master: &[f32], param: Slice) -> Option<usize> {
    match param {
        Slice::F16(param) => {
            find(master, param, F16(0), |x| x.0, |wide, stored| isa.narrow_f16(wide, stored))
        }
        Slice::Bf16(param) => {
            find(master, param, Bf16(0), |x| x.0, |wide, stored| isa.narrow_bf16(wide, stored))
        }
        _ => None,
    }
}

fn find<S: Widen<f32>>(
    master: &[f32],
    param: &[S],
    zero: S,
    bits: impl Fn(S) -> u16,
    narrow: impl Fn(&[f32], &mut [S]),
) -> Option<usize> {
    let mut space = [zero; BLOCK];
    let differs = |(rounded, param): (&S, &S)| {
        let (a, b): (f32, f32) = (rounded.widen(), param.widen());
        // Neighbours are the two ways to round. Zeros may differ in their sign, and NaNs in any
        // bit.
        !(bits(*rounded).abs_diff(bits(*param)) <= 1 || a == b || a.is_nan() && b.is_nan())
    };
    let blocks = master.chunks(BLOCK).zip(param.chunks(BLOCK)).enumerate();
    let mut found = blocks.filter_map(|(i, (master, param))| {
        let rounded = &mut space[..param.len()];
        narrow(master, rounded);
        Some(i * BLOCK + rounded.iter().zip(param).position(differs)?)
    });
    found.next()
}
