//! One table of functions per instruction set, chosen once.
//!
//! `loops!` declares `Isa`, a struct of function pointers with a method for each, and has `isa!`
//! make a static table and a copy of every loop (`loops.rs`) for each instruction set.
//! `Isa::available` hands out the tables that the processor can run, and `Isa::choose` picks the
//! one of a handle when it is made. `Compute` (`compute.rs`) has the same calls for f32 and f64.
//!
//! The loops of `converting` (`groups.rs`) are there where the instruction set has instructions for
//! 16-bit floats (`isa/x86.rs`); they are why AVX2 asks for F16C, which every such processor has.
//!
//! A new instruction set is one line of `loops!`, a new loop one entry; `leaf` is the module with a
//! set's own way through moments that are codes, and `dense` the one with its steps of f32s. Fused
//! multiply-add is enabled nowhere: Rust never contracts, and a feature that is off cannot be used
//! by mistake.

use super::coded::{self, Codes, SplitMaster, parts};
#[cfg(target_arch = "x86_64")]
use super::groups;
use super::loops;
use crate::config::IsaCap;
use crate::dtype::{Bf16, F16};
use crate::error::{Error, Label};
use crate::math::{Preparation, StepScalars};
use crate::noise::Noise;
use crate::norm::{self, LANES};
use crate::steps::Steps;
use crate::sys;
use crate::tensor::PlainRun;

#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

/// Declares `Isa` from its loops, each once: the table of function pointers, a copy of every loop
/// for each instruction set, and the methods that call them. Methods of `converting` return
/// `None` where the instruction set has no such loop.
macro_rules! loops {
    (
        converting {$(
            $(#[$wide_doc:meta])*
            $wide:ident($($wide_arg:ident: $wide_type:ty),*) = $wide_body:path;
        )*}
        $(
            $(#[$doc:meta])*
            $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $body:path;
        )*
    ) => {
        /// The loops of one instruction set. A reference to one proves that the processor runs it:
        /// the statics are private, and `available` hands them out.
        pub struct Isa {
            pub cap: IsaCap,
            /// Returns whether the processor has its features.
            runs: fn() -> bool,
            $($name: unsafe fn($($type),*) $(-> $result)?,)*
            $($wide: Option<unsafe fn($($wide_type),*)>,)*
        }

        impl Isa {
            $($(#[$doc])*
            pub fn $name(&self, $($arg: $type),*) $(-> $result)? {
                // SAFETY: a reference to an `Isa` proves that the processor has its features.
                unsafe { (self.$name)($($arg),*) }
            })*
            $($(#[$wide_doc])*
            pub fn $wide(&self, $($wide_arg: $wide_type),*) -> Option<()> {
                // SAFETY: a reference to an `Isa` proves that the processor has its features.
                self.$wide.map(|step| unsafe { step($($wide_arg),*) })
            })*
        }

        isa!(PORTABLE, portable, IsaCap::Portable, [], coded, loops;
            without {$($wide)*} with {}
            $($name($($arg: $type),*) $(-> $result)? = $body;)*);
        #[cfg(target_arch = "x86_64")]
        isa!(AVX2, avx2, IsaCap::Avx2, ["avx2" "f16c"], crate::cpu::avx2, x86;
            without {}
            with {x86::F16c: $($wide($($wide_arg: $wide_type),*) = $wide_body;)*}
            $($name($($arg: $type),*) $(-> $result)? = $body;)*);
        #[cfg(target_arch = "x86_64")]
        isa!(AVX512, avx512, IsaCap::Avx512, ["avx512f" "avx512bw" "avx512dq" "avx512vl"],
            crate::cpu::avx512, loops;
            without {}
            with {x86::Avx512: $($wide($($wide_arg: $wide_type),*) = $wide_body;)*}
            $($name($($arg: $type),*) $(-> $result)? = $body;)*);
    };
}

macro_rules! isa {
    ($ISA:ident, $module:ident, $cap:expr, $features:tt, $leaf:path, $dense:path;
     without {$($missing:ident)*}
     with {$($converts:ty:
        $($wide:ident($($wide_arg:ident: $wide_type:ty),*) = $wide_body:path;)*)?}
     $($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $body:path;)*
    ) => {
        static $ISA: Isa = Isa {
            cap: $cap,
            runs: || isa!(@runs $features),
            $($name: $module::$name,)*
            $($missing: None,)*
            $($($wide: Some($module::$wide),)*)?
        };

        mod $module {
            use super::*;
            use $dense as dense;
            use $leaf as leaf;
            $(type Own = $converts;)?
            isa!(@each $features $($name($($arg: $type),*) $(-> $result)? = $body;)*);
            $(isa!(@each $features $($wide($($wide_arg: $wide_type),*) = $wide_body;)*);)?
        }
    };
    (@runs [$($feature:tt)*]) => {
        true $(&& is_x86_feature_detected!($feature))*
    };
    (@each $feature:tt) => {};
    (@each [$($feature:tt)*]
     $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $body:path;
     $($rest:tt)*) => {
        $(#[target_feature(enable = $feature)])*
        pub unsafe fn $name($($arg: $type),*) $(-> $result)? {
            $body($($arg),*)
        }
        isa!(@each [$($feature)*] $($rest)*);
    };
}

loops! {
    converting {
        /// Steps 16-bit parameters without a master.
        update_f16(
            scalars: &StepScalars<f32>, param: &mut [F16], grad: &[F16],
            exp_avg: &mut [f32], exp_avg_sq: &mut [f32]
        ) = groups::update_itself::<Own, F16>;
        update_bf16(
            scalars: &StepScalars<f32>, param: &mut [Bf16], grad: &[Bf16],
            exp_avg: &mut [f32], exp_avg_sq: &mut [f32]
        ) = groups::update_itself::<Own, Bf16>;
        /// Steps masters, and rounds them to the parameter.
        update_master_f16(
            scalars: &StepScalars<f32>, param: &mut [F16], master: &mut [f32], grad: &[F16],
            exp_avg: &mut [f32], exp_avg_sq: &mut [f32]
        ) = groups::update_master::<Own, F16>;
        update_master_bf16(
            scalars: &StepScalars<f32>, param: &mut [Bf16], master: &mut [f32], grad: &[Bf16],
            exp_avg: &mut [f32], exp_avg_sq: &mut [f32]
        ) = groups::update_master::<Own, Bf16>;
        /// Steps split masters.
        update_split(
            scalars: &StepScalars<f32>, upper: &mut [Bf16], remainder: &mut [i16], grad: &[Bf16],
            exp_avg: &mut [f32], exp_avg_sq: &mut [f32]
        ) = groups::update_split::<Own>;
        /// Steps compensated parameters.
        update_kahan_f16(
            scalars: &StepScalars<f32>, param: &mut [F16], rest: &mut [u16], grad: &[F16],
            exp_avg: &mut [f32], exp_avg_sq: &mut [f32]
        ) = groups::update_kahan::<Own, F16>;
        update_kahan_bf16(
            scalars: &StepScalars<f32>, param: &mut [Bf16], rest: &mut [u16], grad: &[Bf16],
            exp_avg: &mut [f32], exp_avg_sq: &mut [f32]
        ) = groups::update_kahan::<Own, Bf16>;
        /// Steps whole blocks of split masters whose moments have 8 bits, as `update_bytes` does.
        update_split_bytes(
            scalars: &StepScalars<f32>, master: SplitMaster, grad: &[Bf16], moments: [Codes; 2],
            noise: Noise, wide: [&mut [f32]; 2]
        ) = leaf::update_split_bytes;
        /// Steps whole blocks of split masters whose moments have 4 bits.
        update_split_nibbles(
            scalars: &StepScalars<f32>, master: SplitMaster, grad: &[Bf16], moments: [Codes; 2],
            noise: [Noise; 2], wide: &mut [f32]
        ) = leaf::update_split_nibbles;
    }

    /// Steps small f32 parameters until one is of another kind, or there is more to do for it.
    update_small(steps: &Steps, run: &mut PlainRun) = dense::update_small;
    update_f32(
        scalars: &StepScalars<f32>, param: &mut [f32], grad: &[f32],
        exp_avg: &mut [f32], exp_avg_sq: &mut [f32]
    ) = dense::update;
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
    forget_f32(eps: f32, exp_avg: &mut [f32], second: &mut [f32]) = loops::forget;
    forget_f64(eps: f64, exp_avg: &mut [f64], second: &mut [f64]) = loops::forget;

    widen_f16(stored: &[F16], wide: &mut [f32]) = loops::widen;
    widen_bf16(stored: &[Bf16], wide: &mut [f32]) = loops::widen;
    widen_f32(stored: &[f32], wide: &mut [f64]) = loops::widen;
    narrow_f16(wide: &[f32], stored: &mut [F16]) = loops::narrow;
    narrow_bf16(wide: &[f32], stored: &mut [Bf16]) = loops::narrow;

    /// Joins the halves of split masters.
    join(upper: &[Bf16], remainder: &[i16], wide: &mut [f32]) = loops::join;
    /// Splits masters into their halves.
    split(wide: &[f32], upper: &mut [Bf16], remainder: &mut [i16]) = loops::split;

    /// Adds compensations to the values that they compensate.
    join_kahan_f16(stored: &[F16], rest: &[u16], wide: &mut [f32]) = loops::join_kahan;
    join_kahan_bf16(stored: &[Bf16], rest: &[u16], wide: &mut [f32]) = loops::join_kahan;
    /// Rounds, and keeps the rounding errors.
    split_kahan_f16(wide: &[f32], stored: &mut [F16], rest: &mut [u16]) = loops::split_kahan;
    split_kahan_bf16(wide: &[f32], stored: &mut [Bf16], rest: &mut [u16]) = loops::split_kahan;

    /// Rounds by random bits.
    narrow_randomly(wide: &[f32], noise: Noise, stored: &mut [Bf16]) = loops::narrow_randomly;

    /// Steps elements whose moments have 8 bits; `noise` is that of exp_avg_sq. Each `wide` has
    /// room for two blocks.
    update_bytes(
        scalars: &StepScalars<f32>, param: &mut [f32], grad: &[f32], moments: [Codes; 2],
        noise: Noise, wide: [&mut [f32]; 2]
    ) = leaf::update_bytes;
    /// Steps elements whose moments have 4 bits.
    update_nibbles(
        scalars: &StepScalars<f32>, param: &mut [f32], grad: &[f32], moments: [Codes; 2],
        noise: [Noise; 2], wide: &mut [f32]
    ) = leaf::update_nibbles;

    /// Decodes 8-bit codes that have a scale for each block of them.
    decode_signed(codes: &[u8], scales: &[f32], wide: &mut [f32]) = parts::decode_signed;
    decode_unsigned(codes: &[u8], scales: &[f32], wide: &mut [f32]) = parts::decode_unsigned;
    /// Encodes in 8 bits, with a scale for each block.
    encode_signed(wide: &[f32], codes: &mut [u8], scales: &mut [f32]) = parts::encode_signed;
    encode_unsigned(wide: &[f32], codes: &mut [u8], scales: &mut [f32]) = parts::encode_unsigned;
    /// Rounds by random bits.
    encode_unsigned_randomly(
        wide: &[f32], noise: Noise, codes: &mut [u8], scales: &mut [f32]
    ) = parts::encode_unsigned_randomly;
    /// Decodes 4-bit codes, two in a byte.
    decode_signed_nibbles(codes: &[u8], scales: &[f32], wide: &mut [f32])
        = parts::decode_signed_nibbles;

    /// See `norm::add_squares`.
    add_squares_f32(lanes: &mut [f64; LANES], values: &[f32]) -> u64 = norm::add_squares;
    add_squares_f64(lanes: &mut [f64; LANES], values: &[f64]) -> u64 = norm::add_squares;

    /// See `norm::add_changes`.
    add_changes_f32(lanes: &mut [f64; LANES], before: &[f32], after: &[f32]) = norm::add_changes;
    add_changes_f64(lanes: &mut [f64; LANES], before: &[f64], after: &[f64]) = norm::add_changes;
}

impl Isa {
    /// Returns the sets that this build has and this processor runs, from the lowest to the
    /// highest.
    pub fn available() -> impl DoubleEndedIterator<Item = &'static Isa> {
        #[cfg(target_arch = "x86_64")]
        let all = [&PORTABLE, &AVX2, &AVX512];
        #[cfg(not(target_arch = "x86_64"))]
        let all = [&PORTABLE];
        all.into_iter().filter(|isa| (isa.runs)())
    }

    /// Returns the highest available that is above neither `cap` nor the environment's `ADAMW_ISA`.
    pub fn choose(cap: IsaCap) -> Result<&'static Isa, Error> {
        let cap = cap.min(environment_cap()?);
        let highest = Isa::available().rfind(|isa| isa.cap <= cap);
        Ok(highest.unwrap_or(&PORTABLE))
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
