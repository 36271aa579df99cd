//! Functions compiled for an instruction set, out of line: each has a frame of its own, so that the
//! stack has the largest of them, not all.
use super::blocks::Blocks;
use super::params::Params;
use super::set::Registers;
use crate::cpu::coded::Codes;
use crate::math::StepScalars;
use crate::noise::Noise;

/// See `blocks.rs`, and `registers.rs`.
pub trait OutOfLine: Registers {
    fn step_alone<P: Params, const N: usize, const BYTES: usize>(
        self,
        blocks: &mut Blocks<P, N, BYTES>,
        i: usize,
    ) -> [f32; 2];

    fn step_further<P: Params, const N: usize, const BYTES: usize>(
        self,
        blocks: &mut Blocks<P, N, BYTES>,
        i: &mut usize,
        n_blocks: usize,
        inverse: [f32; 2],
    ) -> [f32; 2];

    fn finish<P: Params, const N: usize, const BYTES: usize>(
        self,
        blocks: &mut Blocks<P, N, BYTES>,
        i: usize,
    );

    fn encode<P: Params, const N: usize, const BYTES: usize>(
        self,
        blocks: &mut Blocks<P, N, BYTES>,
        i: usize,
        inverse: [f32; 2],
    );

    fn rest_in_bytes(
        self,
        scalars: &StepScalars<f32>,
        operands: (&mut [f32], &[f32]),
        moments: [Codes; 2],
        noise: Noise,
        wide: [&mut [f32]; 2],
    );

    fn rest_in_nibbles(
        self,
        scalars: &StepScalars<f32>,
        operands: (&mut [f32], &[f32]),
        moments: [Codes; 2],
        noise: [Noise; 2],
        wide: &mut [f32],
    );
}

/// Implements `Registers`, by the functions of a module, and `OutOfLine` for the registers of an
/// instruction set, and declares the steps that `isa.rs` lists.
macro_rules! compile {
    (
        $features:literal, $Set:ident, $part:ident, $late:literal,
        $codes:ident, $bits:ident, $none:ident, $largest:path
    ) => {
        use crate::cpu::coded::{Codes, SplitMaster};
        use crate::cpu::registers::blocks::{self, Blocks};
        use crate::cpu::registers::out_of_line::OutOfLine;
        use crate::cpu::registers::params::Params;
        use crate::cpu::registers::set::Registers;
        use crate::cpu::registers;
        use crate::dtype::Bf16;
        use crate::math::StepScalars;

        impl Registers for $Set {
            type Floats = Floats;
            type Codes = $codes;
            type Largest = $bits;

            const PART: usize = $part;
            const LATE: bool = $late;

            methods! {
                fn splat(value: f32) -> Floats = Floats::splat;
                fn load(from: &[f32], at: usize) -> Floats = Floats::load_part;
                fn store(numbers: Floats, to: &mut [f32], at: usize) = Floats::store_part;
                fn load_bf16(from: &[Bf16], at: usize) -> Floats = halves::load;
                fn load_split(upper: &[Bf16], remainder: &[i16], at: usize)
                    -> Floats = halves::load_split;
                fn store_split(
                    wide: Floats, upper: &mut [Bf16], remainder: &mut [i16],
                    at: usize
                ) = halves::store_split;
                fn crossed(wide: Floats) -> Floats = halves::crossed;
                fn none() -> $bits = $none;
                fn larger_magnitude(of: $bits, numbers: Floats) -> $bits
                    = Floats::larger_magnitude;
                fn larger(of: $bits, numbers: Floats) -> $bits = Floats::larger;
                fn largest(of: $bits) -> u32 = $largest;
                fn decode_bytes(codes: [&[u8]; 2], at: usize) -> [Floats; 2]
                    = bytes::decode;
                fn encode_signed_bytes(wide: Floats, inverse: f32) -> $codes = bytes::encode_signed;
                fn encode_unsigned_bytes(wide: Floats, inverse: f32, noise: Noise) -> $codes
                    = bytes::encode_unsigned;
                fn store_bytes(codes: $codes, to: &mut [u8], at: usize) = words::store;
                fn decode_nibbles(codes: [&[u8]; 2], half: usize, at: usize)
                    -> [Floats; 2] = nibbles::decode;
                fn encode_signed_nibbles(wide: Floats, inverse: f32, noise: Noise) -> $codes
                    = nibbles::encode_signed;
                fn encode_unsigned_nibbles(wide: Floats, inverse: f32, noise: Noise) -> $codes
                    = nibbles::encode_unsigned;
                fn store_nibbles(codes: $codes, half: usize, to: &mut [u8], at: usize)
                    = nibbles::store;
            }
        }

        compile!(@ $features, $Set:
            update_bytes(
                scalars: &StepScalars<f32>, param: &mut [f32], grad: &[f32], moments: [Codes; 2],
                noise: Noise, wide: [&mut [f32]; 2]
            );
            update_nibbles(
                scalars: &StepScalars<f32>, param: &mut [f32], grad: &[f32], moments: [Codes; 2],
                noise: [Noise; 2], wide: &mut [f32]
            );
            update_split_bytes(
                scalars: &StepScalars<f32>, master: SplitMaster, grad: &[Bf16],
                moments: [Codes; 2], noise: Noise, wide: [&mut [f32]; 2]
            );
            update_split_nibbles(
                scalars: &StepScalars<f32>, master: SplitMaster, grad: &[Bf16],
                moments: [Codes; 2], noise: [Noise; 2], wide: &mut [f32]
            );
        );

        impl OutOfLine for $Set {
            compile!(@out $features, $Set, blocks:
                step_alone[P: Params][N, BYTES](
                    blocks: &mut Blocks<P, N, BYTES>, i: usize
                ) -> [f32; 2];
                step_further[P: Params][N, BYTES](
                    blocks: &mut Blocks<P, N, BYTES>, i: &mut usize, n_blocks: usize,
                    inverse: [f32; 2]
                ) -> [f32; 2];
                finish[P: Params][N, BYTES](blocks: &mut Blocks<P, N, BYTES>, i: usize);
                encode[P: Params][N, BYTES](
                    blocks: &mut Blocks<P, N, BYTES>, i: usize, inverse: [f32; 2]
                );
            );
            compile!(@out $features, $Set, registers:
                rest_in_bytes[][](
                    scalars: &StepScalars<f32>, operands: (&mut [f32], &[f32]),
                    moments: [Codes; 2], noise: Noise, wide: [&mut [f32]; 2]
                );
                rest_in_nibbles[][](
                    scalars: &StepScalars<f32>, operands: (&mut [f32], &[f32]),
                    moments: [Codes; 2], noise: [Noise; 2], wide: &mut [f32]
                );
            );
        }
    };
    (@ $features:literal, $Set:ident:
        $($name:ident($($arg:ident: $type:ty),*);)*
    ) => {
        $(
            #[inline]
            #[target_feature(enable = $features)]
            pub fn $name($($arg: $type),*) {
                registers::$name($Set::new(), $($arg),*)
            }
        )*
    };
    (@out $features:literal, $Set:ident, $module:ident: $(
        $name:ident[$($Type:ident: $Bound:ident)?][$($N:ident),*]($($arg:ident: $type:ty),*)
        $(-> $result:ty)?;
    )*) => {
        $(
            fn $name<$($Type: $Bound,)? $(const $N: usize),*>(
                self, $($arg: $type),*
            ) $(-> $result)? {
                #[inline(never)]
                #[target_feature(enable = $features)]
                fn $name<$($Type: $Bound,)? $(const $N: usize),*>(
                    set: $Set, $($arg: $type),*
                ) $(-> $result)? {
                    $module::$name::<$Set, $($Type,)? $($N),*>(set, $($arg),*)
                }
                // SAFETY: whoever has the registers runs on the instruction set.
                unsafe { $name::<$($Type,)? $($N),*>(self, $($arg),*) }
            }
        )*
    };
}
pub(in crate::cpu) use compile;

/// Methods of `Registers` that are functions of the instruction set.
macro_rules! methods {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $function:path;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: $type),*) $(-> $result)? {
                // SAFETY: whoever has the registers runs on the instruction set.
                unsafe { $function($($arg),*) }
            }
        )*
    };
}
pub(in crate::cpu) use methods;
