//! Numbers in four registers, all of which take each operation in turn: none waits for the one
//! before it.

/// Numbers that are decoded, stepped and encoded together, of an instruction set in one or more
/// parts.
pub const LANES: usize = 64;

/// The value of an expression for each register.
macro_rules! each {
    ($q:ident in 4: $value:expr) => {
        [each!(@ $q 0 $value), each!(@ $q 1 $value), each!(@ $q 2 $value), each!(@ $q 3 $value)]
    };
    ($q:ident in 2: $value:expr) => {
        [each!(@ $q 0 $value), each!(@ $q 1 $value)]
    };
    (@ $q:ident $number:literal $value:expr) => {{
        const $q: usize = $number;
        $value
    }};
}
pub(in crate::cpu) use each;

/// Declares `Floats` over four registers of a type: `N` f32s in the order of memory, and what
/// formulas ask of them.
macro_rules! floats {
    (
        $features:literal, $N:ident, $register:ident, $bits:ident;
        $splat:ident, $as_bits:ident, $sqrt:ident, $add:ident, $sub:ident, $mul:ident, $div:ident;
        $splat_bits:ident, $and:ident, $max:ident
    ) => {
        /// f32s, in the order of memory. Only functions for the instruction set make one, so that
        /// whoever has one runs on it.
        #[derive(Clone, Copy)]
        pub struct Floats([$register; 4]);

        impl Floats {
            #[inline]
            #[target_feature(enable = $features)]
            pub fn new(registers: [$register; 4]) -> Floats {
                Floats(registers)
            }

            #[inline]
            #[target_feature(enable = $features)]
            pub fn splat(value: f32) -> Floats {
                Floats([$splat(value); 4])
            }

            #[inline]
            #[target_feature(enable = $features)]
            pub fn load(from: &[f32; $N]) -> Floats {
                // SAFETY: as many bytes, of which a register holds any.
                Floats(unsafe { core::mem::transmute::<[f32; $N], [$register; 4]>(*from) })
            }

            #[inline]
            #[target_feature(enable = $features)]
            pub fn store(self, to: &mut [f32; $N]) {
                // SAFETY: as many bytes, which are f32s whatever they are.
                *to = unsafe { core::mem::transmute::<[$register; 4], [f32; $N]>(self.0) };
            }

            /// Returns a part.
            #[inline]
            #[target_feature(enable = $features)]
            pub fn load_part(from: &[f32], at: usize) -> Floats {
                Floats::load(&from.as_chunks().0[at])
            }

            #[inline]
            #[target_feature(enable = $features)]
            pub fn store_part(self, to: &mut [f32], at: usize) {
                self.store(&mut to.as_chunks_mut().0[at]);
            }

            #[inline]
            #[target_feature(enable = $features)]
            pub fn larger_magnitude(mut of: $bits, numbers: Floats) -> $bits {
                let magnitude = $splat_bits(0x7fff_ffff);
                for bits in numbers.bits() {
                    of = $max(of, $and(bits, magnitude));
                }
                of
            }

            #[inline]
            #[target_feature(enable = $features)]
            pub fn larger(mut of: $bits, numbers: Floats) -> $bits {
                for bits in numbers.bits() {
                    of = $max(of, bits);
                }
                of
            }

            /// Returns the bits.
            #[inline]
            #[target_feature(enable = $features)]
            pub fn bits(self) -> [$bits; 4] {
                each!(Q in 4: $as_bits(self.0[Q]))
            }
        }

        arithmetic!(4; $sqrt, $add, $sub, $mul, $div);
    };
}
pub(in crate::cpu) use floats;

/// Implements what formulas ask of `Floats`, which are so many registers.
macro_rules! arithmetic {
    ($n:tt; $sqrt:ident, $add:ident, $sub:ident, $mul:ident, $div:ident) => {
        arithmetic!(@ $n, Add, add, $add);
        arithmetic!(@ $n, Sub, sub, $sub);
        arithmetic!(@ $n, Mul, mul, $mul);
        arithmetic!(@ $n, Div, div, $div);

        impl crate::math::Arithmetic for Floats {
            #[inline(always)]
            fn sqrt(self) -> Floats {
                // SAFETY: whoever has a `Floats` runs on the instruction set.
                Floats(each!(Q in $n: unsafe { $sqrt(self.0[Q]) }))
            }
        }
    };
    (@ $n:tt, $Trait:ident, $operation:ident, $instruction:ident) => {
        impl core::ops::$Trait for Floats {
            type Output = Floats;
            #[inline(always)]
            fn $operation(self, other: Floats) -> Floats {
                // SAFETY: whoever has a `Floats` runs on the instruction set.
                Floats(each!(Q in $n: unsafe { $instruction(self.0[Q], other.0[Q]) }))
            }
        }
    };
}
pub(in crate::cpu) use arithmetic;
