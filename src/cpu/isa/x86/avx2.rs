//! Sixteen f32s in two registers of AVX2, and their conversions.

use super::NAN;
use crate::cpu::convert::{Convert, GROUP, Half};
use crate::cpu::groups::{self, Itself, Loop, Weights};
use crate::cpu::late::{self, Kept, N, Sixteens};
use crate::cpu::loops;
use crate::cpu::registers::lanes::{arithmetic, each};
use crate::cpu::small;
use crate::dtype::{Bf16, F16};
use crate::math::StepScalars;
use crate::steps::Steps;
use crate::tensor::PlainRun;
use core::arch::x86_64::*;

/// With the features `avx2` and `f16c`.
pub struct F16c;

/// Sixteen f32s, in the order of memory; or crossed, as halves of 16 bits are unpacked: the fours
/// 0 and 2, then 1 and 3.
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

/// Steps small f32 parameters.
#[inline(always)]
pub fn update_small(steps: &Steps, run: &mut PlainRun) {
    small::update(steps, run, update);
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
            F16c::store(F16c::crossed(F16c::load_split(upper, remainder)), wide);
        }
    }

    #[inline(always)]
    fn split(wide: &[f32; GROUP], upper: &mut [Bf16; GROUP], remainder: &mut [i16; GROUP]) {
        let halves = upper.as_chunks_mut().0.iter_mut().zip(remainder.as_chunks_mut().0);
        for ((upper, remainder), wide) in halves.zip(wide.as_chunks().0) {
            F16c::store_split(F16c::crossed(F16c::load(wide)), upper, remainder);
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
            let (low, high) = halves(from);
            Floats([shifted(low), shifted(high)])
        }
    }

    /// Rounds what an operation has returned, which is no signaling NaN.
    #[inline(always)]
    fn store_bf16(wide: Floats, to: &mut [Bf16; N]) {
        // SAFETY: as above.
        unsafe {
            let [lower, upper] = words(wide);
            // What a half above 0x8000 is less than the lower one: 1 if the upper one is even, and
            // 0x8000 or more, so that none is above it, if that is NaN.
            let magnitude = _mm256_and_si256(upper, _mm256_set1_epi16(0x7fff));
            let even_or_nan = _mm256_add_epi16(magnitude, _mm256_set1_epi16(0x7f));
            let less = _mm256_and_si256(even_or_nan, _mm256_set1_epi16(-0x7fff));
            let is_up = _mm256_srli_epi16::<15>(_mm256_subs_epu16(lower, less));
            let nearest = _mm256_add_epi16(upper, is_up);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), in_order(in_fours(nearest)));
        }
    }

    #[inline(always)]
    fn load_split(upper: &[Bf16; N], remainder: &[i16; N]) -> Floats {
        // SAFETY: as above.
        unsafe {
            let upper = _mm256_loadu_si256(upper.as_ptr().cast());
            let remainder = _mm256_loadu_si256(remainder.as_ptr().cast());
            // A remainder below 0 borrows from the upper half.
            let upper = _mm256_add_epi16(upper, _mm256_srai_epi16::<15>(remainder));
            let low = _mm256_unpacklo_epi16(remainder, upper);
            let high = _mm256_unpackhi_epi16(remainder, upper);
            Floats([_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)])
        }
    }

    #[inline(always)]
    fn store_split(wide: Floats, upper: &mut [Bf16; N], remainder: &mut [i16; N]) {
        // SAFETY: as above.
        unsafe {
            let [lower, above] = words(wide);
            let (is_nan, nan) = (are_nan(above), _mm256_set1_epi16((NAN >> 16) as i16));
            let rest = _mm256_andnot_si256(is_nan, lower);
            let nearest = _mm256_add_epi16(above, _mm256_srli_epi16::<15>(rest));
            let nearest = in_fours(_mm256_blendv_epi8(nearest, nan, is_nan));
            _mm256_storeu_si256(upper.as_mut_ptr().cast(), nearest);
            _mm256_storeu_si256(remainder.as_mut_ptr().cast(), in_fours(rest));
        }
    }

    #[inline(always)]
    fn crossed(wide: Floats) -> Floats {
        let [low, high] = wide.0;
        // SAFETY: as above.
        Floats(unsafe {
            [_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)]
        })
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

/// Returns the f32s whose upper halves these are. Quiets no NaN.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn shifted(upper: &[Bf16; N / 2]) -> __m256 {
    // SAFETY: the caller guarantees the feature; what is read is as long as a register.
    unsafe {
        let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(upper.as_ptr().cast()));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
    }
}

/// Returns the lower and the upper halves of f32s, one of each register in turn.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn words(wide: Floats) -> [__m256i; 2] {
    const ODD: i32 = 0b1010_1010;
    // SAFETY: the caller guarantees the feature.
    unsafe {
        let [low, high] = [_mm256_castps_si256(wide.0[0]), _mm256_castps_si256(wide.0[1])];
        let lower = _mm256_blend_epi16::<ODD>(low, _mm256_slli_epi32::<16>(high));
        let upper = _mm256_blend_epi16::<ODD>(_mm256_srli_epi32::<16>(low), high);
        [lower, upper]
    }
}

/// Returns, by the upper halves of what operations have returned, which are NaN.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn are_nan(upper: __m256i) -> __m256i {
    // SAFETY: the caller guarantees the feature.
    unsafe {
        let magnitude = _mm256_and_si256(upper, _mm256_set1_epi16(0x7fff));
        _mm256_cmpgt_epi16(magnitude, _mm256_set1_epi16(0x7f80))
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

/// Parts words that are of one register and of another in turn: four of the one, then four of the
/// other, in each half.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn in_fours(words: __m256i) -> __m256i {
    const FIRST: i64 = 0x0d0c_0908_0504_0100;
    const SECOND: i64 = 0x0f0e_0b0a_0706_0302;
    // SAFETY: the caller guarantees the feature.
    unsafe { _mm256_shuffle_epi8(words, _mm256_set_epi64x(SECOND, FIRST, SECOND, FIRST)) }
}

/// Swaps the second and the third four of sixteen words.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn in_order(words: __m256i) -> __m256i {
    // SAFETY: the caller guarantees the feature.
    unsafe { _mm256_permute4x64_epi64::<0b11_01_10_00>(words) }
}

arithmetic!(2; _mm256_sqrt_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_div_ps);
