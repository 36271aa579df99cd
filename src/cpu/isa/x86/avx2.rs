//! Sixteen f32s in two registers of AVX2, and their conversions.

use super::NAN;
use crate::cpu::convert::{Convert, GROUP, Half};
use crate::cpu::groups::{self, Itself, Loop, Weights};
use crate::cpu::late::{self, Kept, N, Sixteens};
use crate::cpu::loops;
use crate::cpu::registers::lanes::{arithmetic, each};
use crate::dtype::{Bf16, F16};
use crate::math::StepScalars;
use core::arch::x86_64::*;

/// With the features `avx2` and `f16c`.
pub struct F16c;

/// Sixteen f32s, in the order of memory.
#[derive(Clone, Copy)]
pub struct Floats(pub [__m256; 2]);

/// Steps f32s.
#[inline(always)]
pub fn update(
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
) {
    let grad = &grad[..param.len()];
    let n = late::update::<F16c, f32>(scalars, &mut Itself(param), grad, exp_avg, exp_avg_sq);
    let (exp_avg, exp_avg_sq) = (&mut exp_avg[n..], &mut exp_avg_sq[n..]);
    loops::update(scalars, &mut param[n..], &grad[n..], exp_avg, exp_avg_sq);
}

impl Loop for F16c {
    #[inline(always)]
    fn update<G: Half>(
        scalars: &StepScalars<f32>,
        mut weights: impl Weights + Kept,
        grad: &[G],
        exp_avg: &mut [f32],
        exp_avg_sq: &mut [f32],
    ) {
        let n = late::update::<F16c, G>(scalars, &mut weights, grad, exp_avg, exp_avg_sq);
        let rest = n..grad.len();
        if !rest.is_empty() {
            let weights = &mut weights;
            groups::update_some::<F16c, G>(scalars, weights, grad, exp_avg, exp_avg_sq, rest);
        }
    }
}

impl Convert for F16c {
    #[inline(always)]
    fn widen_f16(stored: &[F16; GROUP], wide: &mut [f32; GROUP]) {
        for (stored, wide) in stored.as_chunks().0.iter().zip(wide.as_chunks_mut().0) {
            F16c::store(F16c::load_f16(stored), wide);
        }
    }

    #[inline(always)]
    fn narrow_f16(wide: &[f32; GROUP], stored: &mut [F16; GROUP]) {
        for (wide, stored) in wide.as_chunks().0.iter().zip(stored.as_chunks_mut().0) {
            F16c::store_f16(F16c::load(wide), stored);
        }
    }

    #[inline(always)]
    fn widen_bf16(stored: &[Bf16; GROUP], wide: &mut [f32; GROUP]) {
        for (stored, wide) in stored.as_chunks().0.iter().zip(wide.as_chunks_mut().0) {
            F16c::store(F16c::load_bf16(stored), wide);
        }
    }

    #[inline(always)]
    fn narrow_bf16(wide: &[f32; GROUP], stored: &mut [Bf16; GROUP]) {
        for (wide, stored) in wide.as_chunks().0.iter().zip(stored.as_chunks_mut().0) {
            F16c::store_bf16(F16c::load(wide), stored);
        }
    }

    #[inline(always)]
    fn join(upper: &[Bf16; GROUP], remainder: &[i16; GROUP], wide: &mut [f32; GROUP]) {
        let halves = upper.as_chunks().0.iter().zip(remainder.as_chunks().0);
        for ((upper, remainder), wide) in halves.zip(wide.as_chunks_mut().0) {
            F16c::store(F16c::load_split(upper, remainder), wide);
        }
    }

    #[inline(always)]
    fn split(wide: &[f32; GROUP], upper: &mut [Bf16; GROUP], remainder: &mut [i16; GROUP]) {
        let halves = upper.as_chunks_mut().0.iter_mut().zip(remainder.as_chunks_mut().0);
        for ((upper, remainder), wide) in halves.zip(wide.as_chunks().0) {
            F16c::store_split(F16c::load(wide), upper, remainder);
        }
    }
}

// SAFETY, of all blocks below: what is read and written is as long as the registers, and only the
// loops of an instruction set that has the features name `F16c`.
impl Sixteens for F16c {
    type Floats = Floats;

    #[inline(always)]
    fn splat(value: f32) -> Floats {
        // SAFETY: as above.
        Floats(unsafe { [_mm256_set1_ps(value); 2] })
    }

    #[inline(always)]
    fn load(from: &[f32; N]) -> Floats {
        let (low, high) = from.split_at(N / 2);
        // SAFETY: as above.
        Floats(unsafe { [_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())] })
    }

    #[inline(always)]
    fn store(wide: Floats, to: &mut [f32; N]) {
        let (low, high) = to.split_at_mut(N / 2);
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_ps(low.as_mut_ptr(), wide.0[0]);
            _mm256_storeu_ps(high.as_mut_ptr(), wide.0[1]);
        }
    }

    #[inline(always)]
    fn load_f16(from: &[F16; N]) -> Floats {
        // SAFETY: as above.
        unsafe {
            let (low, high) = halves(from);
            Floats([
                _mm256_cvtph_ps(_mm_loadu_si128(low.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(high.as_ptr().cast())),
            ])
        }
    }

    #[inline(always)]
    fn store_f16(wide: Floats, to: &mut [F16; N]) {
        const TO_NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
        let (low, high) = to.split_at_mut(N / 2);
        // SAFETY: as above.
        unsafe {
            let narrow = [
                _mm256_cvtps_ph::<TO_NEAREST>(wide.0[0]),
                _mm256_cvtps_ph::<TO_NEAREST>(wide.0[1]),
            ];
            _mm_storeu_si128(low.as_mut_ptr().cast(), narrow[0]);
            _mm_storeu_si128(high.as_mut_ptr().cast(), narrow[1]);
        }
    }

    /// Quiets no NaN.
    #[inline(always)]
    fn load_bf16(from: &[Bf16; N]) -> Floats {
        // SAFETY: as above.
        unsafe {
            let upper = in_order(_mm256_loadu_si256(from.as_ptr().cast()));
            joined(_mm256_setzero_si256(), upper)
        }
    }

    /// Rounds what an operation has returned, which is no signaling NaN.
    #[inline(always)]
    fn store_bf16(wide: Floats, to: &mut [Bf16; N]) {
        // SAFETY: as above.
        unsafe {
            let [low, high] = [rounded(wide.0[0]), rounded(wide.0[1])];
            let nearest = upper_halves(low, high);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), in_order(nearest));
        }
    }

    #[inline(always)]
    fn load_split(upper: &[Bf16; N], remainder: &[i16; N]) -> Floats {
        // SAFETY: as above.
        unsafe {
            let upper = in_order(_mm256_loadu_si256(upper.as_ptr().cast()));
            let remainder = in_order(_mm256_loadu_si256(remainder.as_ptr().cast()));
            // A remainder below 0 borrows from the upper half.
            let upper = _mm256_add_epi16(upper, _mm256_srai_epi16::<15>(remainder));
            joined(remainder, upper)
        }
    }

    #[inline(always)]
    fn store_split(wide: Floats, upper: &mut [Bf16; N], remainder: &mut [i16; N]) {
        // SAFETY: as above.
        unsafe {
            let [low, high] = [with_one_nan(wide.0[0]), with_one_nan(wide.0[1])];
            let zero = _mm256_setzero_si256();
            let rest = _mm256_packus_epi32(
                _mm256_blend_epi16::<0b1010_1010>(low, zero),
                _mm256_blend_epi16::<0b1010_1010>(high, zero),
            );
            let carry = _mm256_srli_epi16::<15>(rest);
            let nearest = _mm256_add_epi16(upper_halves(low, high), carry);
            _mm256_storeu_si256(upper.as_mut_ptr().cast(), in_order(nearest));
            _mm256_storeu_si256(remainder.as_mut_ptr().cast(), in_order(rest));
        }
    }

    #[inline(always)]
    fn left_over(wide: Floats, rounded: Floats) -> Floats {
        let difference = wide - rounded;
        // SAFETY: as above.
        Floats(unsafe {
            [finite(difference.0[0], rounded.0[0]), finite(difference.0[1], rounded.0[1])]
        })
    }
}

#[inline(always)]
fn halves<T>(group: &[T; N]) -> (&[T; N / 2], &[T; N / 2]) {
    let [low, high] = group.as_chunks().0 else { unreachable!("two halves") };
    (low, high)
}

/// Returns f32s by their lower and upper halves, whose second and third four are swapped.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn joined(lower: __m256i, upper: __m256i) -> Floats {
    // SAFETY: the caller guarantees the feature.
    unsafe {
        let low = _mm256_unpacklo_epi16(lower, upper);
        let high = _mm256_unpackhi_epi16(lower, upper);
        Floats([_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)])
    }
}

/// Returns bits whose upper halves are the nearest bf16s. NaN stay as they are.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn rounded(wide: __m256) -> __m256i {
    // SAFETY: the caller guarantees the feature.
    unsafe {
        let bits = _mm256_castps_si256(wide);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let is_number = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_ORD_Q>(wide, wide));
        _mm256_add_epi32(bits, _mm256_and_si256(half, is_number))
    }
}

/// Returns bits, with one and the same for all NaN.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn with_one_nan(wide: __m256) -> __m256i {
    // SAFETY: the caller guarantees the feature.
    unsafe {
        let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(wide, wide);
        let nan = _mm256_castsi256_ps(_mm256_set1_epi32(NAN));
        _mm256_castps_si256(_mm256_blendv_ps(wide, nan, is_nan))
    }
}

/// Returns differences, or 0 from what is infinite.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn finite(difference: __m256, from: __m256) -> __m256 {
    // SAFETY: the caller guarantees the feature.
    unsafe {
        let magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0), from);
        let infinity = _mm256_set1_ps(f32::INFINITY);
        _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(magnitude, infinity), difference)
    }
}

/// Returns the upper halves of 32-bit words, in fours: the first four of `low`, the first four of
/// `high`, the last four of each.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn upper_halves(low: __m256i, high: __m256i) -> __m256i {
    // SAFETY: the caller guarantees the feature.
    unsafe { _mm256_packus_epi32(_mm256_srli_epi32::<16>(low), _mm256_srli_epi32::<16>(high)) }
}

/// Swaps the second and the third four of sixteen words: packed ones are in the order of memory
/// then, and those in that order can be unpacked.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn in_order(words: __m256i) -> __m256i {
    // SAFETY: the caller guarantees the feature.
    unsafe { _mm256_permute4x64_epi64::<0b11_01_10_00>(words) }
}

arithmetic!(2; _mm256_sqrt_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_div_ps);
