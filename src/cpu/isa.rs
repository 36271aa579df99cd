//! One table of functions per instruction set, chosen once.
//!
//! A new instruction set is one line of `isa!`. Fused multiply-add is enabled nowhere: Rust
//! never contracts, and a feature that is off cannot be used by mistake.

use super::loops;
use crate::config::IsaCap;
use crate::dtype::{Bf16, F16};
use crate::error::{Error, Label};
use crate::math::{Preparation, Scalars, StepScalars};
use crate::norm::{self, LANES};
use crate::sys;

/// The loops of one instruction set. To have a reference to one is proof that the processor runs
/// it: the statics are private, and `available` hands them out.
pub struct Isa {
    pub cap: IsaCap,
    f32: Update<f32>,
    f64: Update<f64>,
    widen_f16: unsafe fn(&[F16], &mut [f32]),
    widen_bf16: unsafe fn(&[Bf16], &mut [f32]),
    widen_f32: unsafe fn(&[f32], &mut [f64]),
    narrow_f16: unsafe fn(&[f32], &mut [F16]),
    narrow_bf16: unsafe fn(&[f32], &mut [Bf16]),
    join: unsafe fn(&[Bf16], &[i16], &mut [f32]),
    split: unsafe fn(&[f32], &mut [Bf16], &mut [i16]),
    add_squares_f32: unsafe fn(&mut [f64; LANES], &[f32]) -> u64,
    add_squares_f64: unsafe fn(&mut [f64; LANES], &[f64]) -> u64,
}

/// The update of one compute type.
pub struct Update<T> {
    plain: Plain<T>,
    amsgrad: Amsgrad<T>,
    prepare: Prepare<T>,
}

/// Of param, grad, exp_avg, exp_avg_sq.
type Plain<T> = unsafe fn(&StepScalars<T>, &mut [T], &[T], &mut [T], &mut [T]);
/// Of param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq.
type Amsgrad<T> = unsafe fn(&StepScalars<T>, &mut [T], &[T], &mut [T], &mut [T], &mut [T]);

/// Of grad, param.
type Prepare<T> = unsafe fn(&Preparation<T>, &mut [T], &[T]);

macro_rules! isa {
    ($ISA:ident, $module:ident, $cap:expr $(, $features:literal)?) => {
        static $ISA: Isa = Isa {
            cap: $cap,
            f32: Update {
                plain: $module::update_f32,
                amsgrad: $module::update_f32_amsgrad,
                prepare: $module::prepare_f32,
            },
            f64: Update {
                plain: $module::update_f64,
                amsgrad: $module::update_f64_amsgrad,
                prepare: $module::prepare_f64,
            },
            widen_f16: $module::widen_f16,
            widen_bf16: $module::widen_bf16,
            widen_f32: $module::widen_f32,
            narrow_f16: $module::narrow_f16,
            narrow_bf16: $module::narrow_bf16,
            join: $module::join,
            split: $module::split,
            add_squares_f32: $module::add_squares_f32,
            add_squares_f64: $module::add_squares_f64,
        };

        mod $module {
            use super::*;
            type S<T> = StepScalars<T>;

            $(#[target_feature(enable = $features)])?
            pub unsafe fn update_f32(
                s: &S<f32>, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32],
            ) {
                loops::update(s, p, g, m, v)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn update_f64(
                s: &S<f64>, p: &mut [f64], g: &[f64], m: &mut [f64], v: &mut [f64],
            ) {
                loops::update(s, p, g, m, v)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn update_f32_amsgrad(
                s: &S<f32>, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], max: &mut [f32],
            ) {
                loops::update_amsgrad(s, p, g, m, v, max)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn update_f64_amsgrad(
                s: &S<f64>, p: &mut [f64], g: &[f64], m: &mut [f64], v: &mut [f64], max: &mut [f64],
            ) {
                loops::update_amsgrad(s, p, g, m, v, max)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn prepare_f32(p: &Preparation<f32>, grad: &mut [f32], param: &[f32]) {
                loops::prepare(p, grad, param)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn prepare_f64(p: &Preparation<f64>, grad: &mut [f64], param: &[f64]) {
                loops::prepare(p, grad, param)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn widen_f16(stored: &[F16], wide: &mut [f32]) {
                loops::widen(stored, wide)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn widen_bf16(stored: &[Bf16], wide: &mut [f32]) {
                loops::widen(stored, wide)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn widen_f32(stored: &[f32], wide: &mut [f64]) {
                loops::widen(stored, wide)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn narrow_f16(wide: &[f32], stored: &mut [F16]) {
                loops::narrow(wide, stored)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn narrow_bf16(wide: &[f32], stored: &mut [Bf16]) {
                loops::narrow(wide, stored)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn join(upper: &[Bf16], remainder: &[i16], wide: &mut [f32]) {
                loops::join(upper, remainder, wide)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn split(wide: &[f32], upper: &mut [Bf16], remainder: &mut [i16]) {
                loops::split(wide, upper, remainder)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn add_squares_f32(lanes: &mut [f64; LANES], values: &[f32]) -> u64 {
                norm::add_squares(lanes, values)
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn add_squares_f64(lanes: &mut [f64; LANES], values: &[f64]) -> u64 {
                norm::add_squares(lanes, values)
            }
        }
    };
}

isa!(PORTABLE, portable, IsaCap::Portable);
#[cfg(target_arch = "x86_64")]
isa!(AVX2, avx2, IsaCap::Avx2, "avx2");
#[cfg(target_arch = "x86_64")]
isa!(AVX512, avx512, IsaCap::Avx512, "avx512f,avx512bw,avx512dq,avx512vl");

impl Isa {
    /// What this build has and this processor runs, from the lowest to the highest.
    pub fn available() -> impl DoubleEndedIterator<Item = &'static Isa> {
        #[cfg(target_arch = "x86_64")]
        let (avx2, avx512) = (
            is_x86_feature_detected!("avx2").then_some(&AVX2),
            (is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl"))
            .then_some(&AVX512),
        );
        #[cfg(not(target_arch = "x86_64"))]
        let (avx2, avx512) = (None, None);
        [Some(&PORTABLE), avx2, avx512].into_iter().flatten()
    }

    /// The highest available that is not above `cap` nor above the environment's `ADAMW_ISA`.
    pub fn choose(cap: IsaCap) -> Result<&'static Isa, Error> {
        let cap = cap.min(environment_cap()?);
        let highest = Isa::available().rfind(|isa| isa.cap <= cap);
        Ok(highest.unwrap_or(&PORTABLE))
    }

    pub fn widen_f16(&self, stored: &[F16], wide: &mut [f32]) {
        // SAFETY: whoever has an `Isa` runs on a processor that has it.
        unsafe { (self.widen_f16)(stored, wide) }
    }

    pub fn widen_bf16(&self, stored: &[Bf16], wide: &mut [f32]) {
        // SAFETY: as above.
        unsafe { (self.widen_bf16)(stored, wide) }
    }

    pub fn widen_f32(&self, stored: &[f32], wide: &mut [f64]) {
        // SAFETY: as above.
        unsafe { (self.widen_f32)(stored, wide) }
    }

    pub fn narrow_f16(&self, wide: &[f32], stored: &mut [F16]) {
        // SAFETY: as above.
        unsafe { (self.narrow_f16)(wide, stored) }
    }

    /// Puts split masters together.
    pub fn join(&self, upper: &[Bf16], remainder: &[i16], wide: &mut [f32]) {
        // SAFETY: as above.
        unsafe { (self.join)(upper, remainder, wide) }
    }

    /// Takes f32 apart into split masters.
    pub fn split(&self, wide: &[f32], upper: &mut [Bf16], remainder: &mut [i16]) {
        // SAFETY: as above.
        unsafe { (self.split)(wide, upper, remainder) }
    }

    pub fn narrow_bf16(&self, wide: &[f32], stored: &mut [Bf16]) {
        // SAFETY: as above.
        unsafe { (self.narrow_bf16)(wide, stored) }
    }
}

/// A compute type that every `Isa` updates.
pub trait Compute: Sized + 'static {
    fn of(isa: &'static Isa) -> &'static Update<Self>;

    /// The constants of a step in this type.
    fn scalars(scalars: &Scalars) -> &StepScalars<Self>;

    /// See `norm::add_squares`.
    fn add_squares(isa: &Isa, lanes: &mut [f64; LANES], values: &[Self]) -> u64;
}

impl Compute for f32 {
    fn of(isa: &'static Isa) -> &'static Update<f32> {
        &isa.f32
    }

    fn scalars(scalars: &Scalars) -> &StepScalars<f32> {
        &scalars.f32
    }

    fn add_squares(isa: &Isa, lanes: &mut [f64; LANES], values: &[f32]) -> u64 {
        // SAFETY: as above.
        unsafe { (isa.add_squares_f32)(lanes, values) }
    }
}

impl Compute for f64 {
    fn of(isa: &'static Isa) -> &'static Update<f64> {
        &isa.f64
    }

    fn scalars(scalars: &Scalars) -> &StepScalars<f64> {
        &scalars.f64
    }

    fn add_squares(isa: &Isa, lanes: &mut [f64; LANES], values: &[f64]) -> u64 {
        // SAFETY: as above.
        unsafe { (isa.add_squares_f64)(lanes, values) }
    }
}

impl<T> Update<T> {
    /// Clamps `grad [n]` and adds the regularizer of `param [n]`.
    pub fn prepare(&self, preparation: &Preparation<T>, grad: &mut [T], param: &[T]) {
        // SAFETY: as above: an `Update` is reached through its `Isa` only.
        unsafe { (self.prepare)(preparation, grad, param) }
    }

    /// One step of `param [n]`; with `max_exp_avg_sq [n]`, amsgrad's.
    pub fn step(
        &self,
        scalars: &StepScalars<T>,
        param: &mut [T],
        grad: &[T],
        exp_avg: &mut [T],
        exp_avg_sq: &mut [T],
        max_exp_avg_sq: Option<&mut [T]>,
    ) {
        // SAFETY: as above: an `Update` is reached through its `Isa` only.
        unsafe {
            match max_exp_avg_sq {
                None => (self.plain)(scalars, param, grad, exp_avg, exp_avg_sq),
                Some(max) => (self.amsgrad)(scalars, param, grad, exp_avg, exp_avg_sq, max),
            }
        }
    }
}

fn environment_cap() -> Result<IsaCap, Error> {
    sys::environment(c"ADAMW_ISA", |value| match value {
        None | Some(b"") => Ok(IsaCap::Best),
        Some(b"portable") => Ok(IsaCap::Portable),
        Some(b"avx2") => Ok(IsaCap::Avx2),
        Some(b"avx512") => Ok(IsaCap::Avx512),
        Some(other) => Err(Error::IsaVariable(Label::new(other))),
    })
}
