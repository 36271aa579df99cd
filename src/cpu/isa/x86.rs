//! The conversions of groups for which x86 has instructions. They keep NaN, and round to nearest
//! even, as the definitions in `convert.rs` do.
//!
//! The conversions of bf16 leave a signaling NaN as it is. On x86 an operation on it has the bits
//! that it has on the same NaN quieted, and no operation returns one.

mod avx2;

pub use avx2::{F16c, Floats as Sixteen, update, update_small};

use crate::cpu::convert::{Convert, GROUP};
use crate::cpu::groups::Loop;
use crate::dtype::{Bf16, F16};
use core::arch::x86_64::*;

/// With the features of AVX-512 that `isa.rs` names.
pub struct Avx512;

const TO_NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;

/// Widens, and quiets no NaN.
#[inline(always)]
fn shift(stored: &[Bf16; GROUP], wide: &mut [f32; GROUP]) {
    for (wide, stored) in wide.iter_mut().zip(stored) {
        *wide = f32::from_bits((stored.0 as u32) << 16);
    }
}

impl Loop for Avx512 {}

impl Convert for Avx512 {
    #[inline(always)]
    fn widen_f16(stored: &[F16; GROUP], wide: &mut [f32; GROUP]) {
        let groups = stored.as_chunks::<16>().0.iter().zip(wide.as_chunks_mut::<16>().0);
        for (stored, wide) in groups {
            // SAFETY: both are of the size that is read and written, and only the loops of an
            // instruction set that has the features name this type.
            unsafe {
                let stored = _mm256_loadu_si256(stored.as_ptr().cast());
                _mm512_storeu_ps(wide.as_mut_ptr(), _mm512_cvtph_ps(stored));
            }
        }
    }

    #[inline(always)]
    fn narrow_f16(wide: &[f32; GROUP], stored: &mut [F16; GROUP]) {
        let groups = wide.as_chunks::<16>().0.iter().zip(stored.as_chunks_mut::<16>().0);
        for (wide, stored) in groups {
            // SAFETY: as in `widen_f16`.
            unsafe {
                let narrow = _mm512_cvtps_ph::<TO_NEAREST>(_mm512_loadu_ps(wide.as_ptr()));
                _mm256_storeu_si256(stored.as_mut_ptr().cast(), narrow);
            }
        }
    }

    #[inline(always)]
    fn widen_bf16(stored: &[Bf16; GROUP], wide: &mut [f32; GROUP]) {
        shift(stored, wide);
    }

    #[inline(always)]
    fn narrow_bf16(wide: &[f32; GROUP], stored: &mut [Bf16; GROUP]) {
        let groups = wide.as_chunks::<WORDS>().0.iter().zip(stored.as_chunks_mut::<WORDS>().0);
        for (wide, stored) in groups {
            // SAFETY: as in `widen_f16`; `stored` is as long as a register.
            unsafe {
                let [low, high] = halves(wide);
                let nearest = words(rounded(low), &ODD, rounded(high));
                _mm512_storeu_si512(stored.as_mut_ptr().cast(), nearest);
            }
        }
    }

    #[inline(always)]
    fn join(upper: &[Bf16; GROUP], remainder: &[i16; GROUP], wide: &mut [f32; GROUP]) {
        let groups = upper.as_chunks::<WORDS>().0.iter().zip(remainder.as_chunks::<WORDS>().0);
        for ((upper, remainder), wide) in groups.zip(wide.as_chunks_mut::<WORDS>().0) {
            // SAFETY: as in `widen_f16`; what is read is as long as a register, and so is each half
            // of what is written.
            unsafe {
                let upper = _mm512_loadu_si512(upper.as_ptr().cast());
                let remainder = _mm512_loadu_si512(remainder.as_ptr().cast());
                // A remainder below 0 borrows from the upper half.
                let upper = _mm512_add_epi16(upper, _mm512_srai_epi16::<15>(remainder));
                let (low, high) = wide.split_at_mut(WORDS / 2);
                _mm512_storeu_si512(low.as_mut_ptr().cast(), words(remainder, &PAIRS[0], upper));
                _mm512_storeu_si512(high.as_mut_ptr().cast(), words(remainder, &PAIRS[1], upper));
            }
        }
    }

    #[inline(always)]
    fn split(wide: &[f32; GROUP], upper: &mut [Bf16; GROUP], remainder: &mut [i16; GROUP]) {
        let (upper, remainder) = (upper.as_chunks_mut::<WORDS>().0, remainder.as_chunks_mut().0);
        let groups = upper.iter_mut().zip(remainder).zip(wide.as_chunks::<WORDS>().0);
        for ((upper, remainder), wide) in groups {
            let remainder: &mut [i16; WORDS] = remainder;
            // SAFETY: as in `widen_f16`; what is written is as long as a register.
            unsafe {
                let [low, high] = halves(wide);
                let (low, high) = (with_one_nan(low), with_one_nan(high));
                let rest = words(low, &EVEN, high);
                let carry = _mm512_srli_epi16::<15>(rest);
                let nearest = _mm512_add_epi16(words(low, &ODD, high), carry);
                _mm512_storeu_si512(upper.as_mut_ptr().cast(), nearest);
                _mm512_storeu_si512(remainder.as_mut_ptr().cast(), rest);
            }
        }
    }
}

/// The 16-bit words of a register.
const WORDS: usize = 32;

type Places = [u16; WORDS];

/// Of two registers, the upper and the lower halves of f32s, and the pairs of words at one place.
const ODD: Places = places(1, 2, 4);
const EVEN: Places = places(0, 2, 4);
const PAIRS: [Places; 2] = [places(0, WORDS, 1), places(WORDS / 2, WORDS, 1)];

/// Returns `first`, its neighbour that is `apart` from it, and the same from `step` further on.
const fn places(first: usize, apart: usize, step: usize) -> Places {
    let mut places = [0; WORDS];
    let mut i = 0;
    while i < WORDS {
        places[i] = (first + i / 2 * step + i % 2 * apart) as u16;
        i += 1;
    }
    places
}

/// Returns the words at some places in two registers.
///
/// # Safety
/// The processor has AVX-512BW.
#[inline(always)]
unsafe fn words(first: __m512i, places: &Places, second: __m512i) -> __m512i {
    // SAFETY: the caller guarantees the features; `places` is as long as a register.
    unsafe {
        let places = _mm512_loadu_si512(places.as_ptr().cast());
        _mm512_permutex2var_epi16(first, places, second)
    }
}

/// Returns f32s in two registers.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn halves(wide: &[f32; WORDS]) -> [__m512; 2] {
    let (low, high) = wide.split_at(WORDS / 2);
    // SAFETY: the caller guarantees the features; each half is as long as a register.
    unsafe { [_mm512_loadu_ps(low.as_ptr()), _mm512_loadu_ps(high.as_ptr())] }
}

/// Returns bits whose upper halves are the nearest bf16s. NaN stay as they are.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn rounded(wide: __m512) -> __m512i {
    // SAFETY: the caller guarantees the features.
    unsafe {
        let bits = _mm512_castps_si512(wide);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let is_number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(wide, wide);
        _mm512_mask_add_epi32(bits, is_number, bits, half)
    }
}

/// Returns bits, with one and the same for all NaN.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn with_one_nan(wide: __m512) -> __m512i {
    // SAFETY: the caller guarantees the features.
    unsafe {
        let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(wide, wide);
        _mm512_mask_mov_epi32(_mm512_castps_si512(wide), is_nan, _mm512_set1_epi32(NAN))
    }
}

/// The bits of the NaN that all are when they are split.
const NAN: i32 = 0x7fc0_0000;
