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

/// Implements `OutOfLine` for the registers of an instruction set, and declares the steps that
/// `isa.rs` lists.
macro_rules! compile {
    ($features:literal, $Set:ident) => {
        use crate::cpu::coded::{Codes, SplitMaster};
        use crate::cpu::convert::Convert;
        use crate::cpu::registers::blocks::{self, Blocks};
        use crate::cpu::registers::out_of_line::OutOfLine;
        use crate::cpu::registers::params::Params;
        use crate::cpu::registers::set::Registers;
        use crate::cpu::registers;
        use crate::dtype::Bf16;
        use crate::math::StepScalars;

        compile!(@ $features, $Set:
            update_bytes[](
                scalars: &StepScalars<f32>, param: &mut [f32], grad: &[f32], moments: [Codes; 2],
                noise: Noise, wide: [&mut [f32]; 2]
            );
            update_nibbles[](
                scalars: &StepScalars<f32>, param: &mut [f32], grad: &[f32], moments: [Codes; 2],
                noise: [Noise; 2], wide: &mut [f32]
            );
            update_split_bytes[C: Convert](
                scalars: &StepScalars<f32>, master: SplitMaster, grad: &[Bf16],
                moments: [Codes; 2], noise: Noise, wide: [&mut [f32]; 2]
            );
            update_split_nibbles[C: Convert](
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
        $($name:ident[$($Type:ident: $Bound:ident)?]($($arg:ident: $type:ty),*);)*
    ) => {
        $(
            #[inline]
            #[target_feature(enable = $features)]
            pub fn $name$(<$Type: $Bound>)?($($arg: $type),*) {
                registers::$name$(::<$Type>)?($Set::new(), $($arg),*)
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
