//! One table of functions per instruction set, chosen once.
//!
//! A new instruction set is one line of `loops!`, a new loop one entry. Fused multiply-add is enabled nowhere: Rust
//! never contracts, and a feature that is off cannot be used by mistake.

use super::block::{BlockBuffer, InBlocks};
use super::loops;
use crate::config::IsaCap;
use crate::dtype::{Bf16, F16};
use crate::error::{Error, Label};
use crate::math::{Preparation, Scalars, StepScalars};
use crate::norm::{self, LANES};
use crate::philox::{Key, NoiseStream};
use crate::sys;

/// Declares `Isa` from its loops, each once: the table of function pointers, a copy of every loop for
/// each instruction set, and the methods that call them.
macro_rules! loops {
    ($( $(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $body:path; )*) => {
        /// The loops of one instruction set. To have a reference to one is proof that the
        /// processor runs it: the statics are private, and `available` hands them out.
        pub struct Isa {
            pub cap: IsaCap,
            $($name: unsafe fn($($type),*) $(-> $result)?,)*
        }

        impl Isa {
            $($(#[$doc])*
            pub fn $name(&self, $($arg: $type),*) $(-> $result)? {
                // SAFETY: whoever has an `Isa` runs on a processor that has it.
                unsafe { (self.$name)($($arg),*) }
            })*
        }

        isa!(PORTABLE, portable, IsaCap::Portable, [];
            $($name($($arg: $type),*) $(-> $result)? = $body;)*);
        #[cfg(target_arch = "x86_64")]
        isa!(AVX2, avx2, IsaCap::Avx2, [target_feature(enable = "avx2")];
            $($name($($arg: $type),*) $(-> $result)? = $body;)*);
        #[cfg(target_arch = "x86_64")]
        isa!(AVX512, avx512, IsaCap::Avx512,
            [target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")];
            $($name($($arg: $type),*) $(-> $result)? = $body;)*);
    };
}

macro_rules! isa {
    ($ISA:ident, $module:ident, $cap:expr, [$($feature:meta)?];
     $($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $body:path;)*) => {
        static $ISA: Isa = Isa { cap: $cap, $($name: $module::$name,)* };

        mod $module {
            use super::*;
            isa!(@each [$($feature)?] $($name($($arg: $type),*) $(-> $result)? = $body;)*);
        }
    };
    (@each $feature:tt) => {};
    (@each [$($feature:meta)?] $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $body:path;
     $($rest:tt)*) => {
        $(#[$feature])?
        pub unsafe fn $name($($arg: $type),*) $(-> $result)? {
            $body($($arg),*)
        }
        isa!(@each [$($feature)?] $($rest)*);
    };
}

loops! {
    update_f32(
        scalars: &StepScalars<f32>, param: &mut [f32], grad: &[f32],
        exp_avg: &mut [f32], exp_avg_sq: &mut [f32]
    ) = loops::update;
    update_f64(
        scalars: &StepScalars<f64>, param: &mut [f64], grad: &[f64],
        exp_avg: &mut [f64], exp_avg_sq: &mut [f64]
    ) = loops::update;
    update_f32_amsgrad(
        scalars: &StepScalars<f32>, param: &mut [f32], grad: &[f32],
        exp_avg: &mut [f32], exp_avg_sq: &mut [f32], max_exp_avg_sq: &mut [f32]
    ) = loops::update_amsgrad;
    update_f64_amsgrad(
        scalars: &StepScalars<f64>, param: &mut [f64], grad: &[f64],
        exp_avg: &mut [f64], exp_avg_sq: &mut [f64], max_exp_avg_sq: &mut [f64]
    ) = loops::update_amsgrad;
    prepare_f32(p: &Preparation<f32>, grad: &mut [f32], param: &[f32]) = loops::prepare;
    prepare_f64(p: &Preparation<f64>, grad: &mut [f64], param: &[f64]) = loops::prepare;

    widen_f16(stored: &[F16], wide: &mut [f32]) = loops::widen;
    widen_bf16(stored: &[Bf16], wide: &mut [f32]) = loops::widen;
    widen_f32(stored: &[f32], wide: &mut [f64]) = loops::widen;
    narrow_f16(wide: &[f32], stored: &mut [F16]) = loops::narrow;
    narrow_bf16(wide: &[f32], stored: &mut [Bf16]) = loops::narrow;

    /// Puts split masters together.
    join(upper: &[Bf16], remainder: &[i16], wide: &mut [f32]) = loops::join;
    /// Takes f32 apart into split masters.
    split(wide: &[f32], upper: &mut [Bf16], remainder: &mut [i16]) = loops::split;

    /// Adds compensations to what they compensate.
    join_kahan_f16(stored: &[F16], rest: &[u16], wide: &mut [f32]) = loops::join_kahan;
    join_kahan_bf16(stored: &[Bf16], rest: &[u16], wide: &mut [f32]) = loops::join_kahan;
    /// Rounds, and keeps what rounding leaves over.
    split_kahan_f16(wide: &[f32], stored: &mut [F16], rest: &mut [u16]) = loops::split_kahan;
    split_kahan_bf16(wide: &[f32], stored: &mut [Bf16], rest: &mut [u16]) = loops::split_kahan;

    /// The random bits of a step for eight elements an entry, from element `8 * octet` on.
    fill_noise(key: Key, tensor: NoiseStream, step: u64, octet: u64, noise: &mut [[[u8; 4]; 4]])
        = loops::fill_noise;
    /// Rounds by random bits.
    narrow_randomly(wide: &[f32], noise: &[[u8; 2]], stored: &mut [Bf16]) = loops::narrow_randomly;

    /// Codes with a scale for each block of them.
    decode_signed(codes: &[u8], scales: &[f32], wide: &mut [f32]) = loops::decode_signed;
    decode_unsigned(codes: &[u8], scales: &[f32], wide: &mut [f32]) = loops::decode_unsigned;
    encode_signed(wide: &[f32], codes: &mut [u8], scales: &mut [f32]) = loops::encode_signed;
    encode_unsigned(wide: &[f32], codes: &mut [u8], scales: &mut [f32]) = loops::encode_unsigned;
    /// Rounds by random bits.
    encode_unsigned_randomly(
        wide: &[f32], noise: &[[u8; 2]], codes: &mut [u8], scales: &mut [f32]
    ) = loops::encode_unsigned_randomly;

    /// The same, two codes in a byte; all are rounded by random bits.
    decode_signed_nibbles(codes: &[u8], scales: &[f32], wide: &mut [f32])
        = loops::decode_signed_nibbles;
    decode_unsigned_nibbles(codes: &[u8], scales: &[f32], wide: &mut [f32])
        = loops::decode_unsigned_nibbles;
    encode_signed_nibbles(
        wide: &[f32], noise: &[[u8; 2]], codes: &mut [u8], scales: &mut [f32]
    ) = loops::encode_signed_nibbles;
    encode_unsigned_nibbles(
        wide: &[f32], noise: &[[u8; 2]], codes: &mut [u8], scales: &mut [f32]
    ) = loops::encode_unsigned_nibbles;

    /// See `norm::add_squares`.
    add_squares_f32(lanes: &mut [f64; LANES], values: &[f32]) -> u64 = norm::add_squares;
    add_squares_f64(lanes: &mut [f64; LANES], values: &[f64]) -> u64 = norm::add_squares;

    /// See `norm::add_changes`.
    add_changes_f32(lanes: &mut [f64; LANES], before: &[f32], after: &[f32]) = norm::add_changes;
    add_changes_f64(lanes: &mut [f64; LANES], before: &[f64], after: &[f64]) = norm::add_changes;
}

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
}

/// The memory of f32s, for the random bits of eight elements an entry.
pub fn octets(buffer: &mut [f32]) -> &mut [[[u8; 4]; 4]] {
    // SAFETY: bytes need no alignment, and any bits are an f32.
    unsafe { buffer.align_to_mut() }.1
}

/// A compute type that every `Isa` updates.
pub trait Compute: InBlocks + 'static {
    /// Buffers for blocks of a parameter and of exp_avg_sq that are stored in less than this type,
    /// if they may be.
    type Narrow: Default;
    fn buffers(narrow: &mut Self::Narrow) -> Option<&mut [BlockBuffer<Self>; 2]>;

    /// The constants of a step in this type.
    fn scalars(scalars: &Scalars) -> &StepScalars<Self>;

    /// One step of `param [n]`; with `max_exp_avg_sq [n]`, amsgrad's.
    fn step(
        isa: &Isa,
        scalars: &StepScalars<Self>,
        param: &mut [Self],
        grad: &[Self],
        exp_avg: &mut [Self],
        exp_avg_sq: &mut [Self],
        max_exp_avg_sq: Option<&mut [Self]>,
    );

    /// Clamps `grad [n]` and adds the regularizer of `param [n]`.
    fn prepare(isa: &Isa, preparation: &Preparation<Self>, grad: &mut [Self], param: &[Self]);

    /// See `norm::add_squares`.
    fn add_squares(isa: &Isa, lanes: &mut [f64; LANES], values: &[Self]) -> u64;

    /// See `norm::add_changes`.
    fn add_changes(isa: &Isa, lanes: &mut [f64; LANES], before: &[Self], after: &[Self]);

    /// The same elements, of moments that are stored in less than the compute type.
    fn f32s(wide: &mut [Self]) -> &mut [f32];
}

macro_rules! compute {
    ($type:ident, $narrow:ty, $buffers:expr, $update:ident, $update_amsgrad:ident, $prepare:ident,
     $add_squares:ident, $add_changes:ident, $f32s:expr) => {
        impl Compute for $type {
            type Narrow = $narrow;
            fn buffers(narrow: &mut $narrow) -> Option<&mut [BlockBuffer<$type>; 2]> {
                $buffers(narrow)
            }
            fn scalars(scalars: &Scalars) -> &StepScalars<$type> {
                &scalars.$type
            }
            fn step(
                isa: &Isa,
                scalars: &StepScalars<$type>,
                param: &mut [$type],
                grad: &[$type],
                exp_avg: &mut [$type],
                exp_avg_sq: &mut [$type],
                max_exp_avg_sq: Option<&mut [$type]>,
            ) {
                match max_exp_avg_sq {
                    None => isa.$update(scalars, param, grad, exp_avg, exp_avg_sq),
                    Some(max) => {
                        isa.$update_amsgrad(scalars, param, grad, exp_avg, exp_avg_sq, max)
                    }
                }
            }
            fn prepare(isa: &Isa, p: &Preparation<$type>, grad: &mut [$type], param: &[$type]) {
                isa.$prepare(p, grad, param)
            }
            fn add_squares(isa: &Isa, lanes: &mut [f64; LANES], values: &[$type]) -> u64 {
                isa.$add_squares(lanes, values)
            }
            fn add_changes(isa: &Isa, lanes: &mut [f64; LANES], before: &[$type], after: &[$type]) {
                isa.$add_changes(lanes, before, after)
            }
            fn f32s(wide: &mut [$type]) -> &mut [f32] {
                $f32s(wide)
            }
        }
    };
}

compute!(
    f32,
    [BlockBuffer<f32>; 2],
    Some,
    update_f32,
    update_f32_amsgrad,
    prepare_f32,
    add_squares_f32,
    add_changes_f32,
    |wide| wide
);
compute!(
    f64,
    (),
    |_| None,
    update_f64,
    update_f64_amsgrad,
    prepare_f64,
    add_squares_f64,
    add_changes_f64,
    |_| unreachable!("f64 parameters have f64 moments")
);

fn environment_cap() -> Result<IsaCap, Error> {
    sys::environment(c"ADAMW_ISA", |value| match value {
        None | Some(b"") => Ok(IsaCap::Best),
        Some(b"portable") => Ok(IsaCap::Portable),
        Some(b"avx2") => Ok(IsaCap::Avx2),
        Some(b"avx512") => Ok(IsaCap::Avx512),
        Some(other) => Err(Error::IsaVariable(Label::new(other))),
    })
}
