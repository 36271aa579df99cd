//! The step in registers, sixteen elements at a time, in three stages that are a group apart: while
//! the roots of one group are computed, the moments of the group before it are divided by theirs,
//! and the parameters of the one before that are moved. So no instruction waits long for the
//! divider, and a processor needs few of them in flight to keep it busy.
//!
//! `Sixteens` is what an instruction set keeps a group in, and how that comes from memory and goes
//! back. `Kept` are the `Weights` of `groups.rs`, and f32s.
#![forbid(unsafe_code)]

use crate::dtype::{Bf16, F16};
use crate::math::{Arithmetic, StepScalars, direction, moments, moved};

/// Elements of a group.
pub const N: usize = 16;

/// A group of f32s in registers, from each type of element and back, with the bits that `dtype.rs`
/// defines.
pub trait Sixteens {
    type Floats: Arithmetic;
    fn splat(value: f32) -> Self::Floats;
    fn load(from: &[f32; N]) -> Self::Floats;
    fn store(wide: Self::Floats, to: &mut [f32; N]);
    fn load_f16(from: &[F16; N]) -> Self::Floats;
    fn store_f16(wide: Self::Floats, to: &mut [F16; N]);
    fn load_bf16(from: &[Bf16; N]) -> Self::Floats;
    fn store_bf16(wide: Self::Floats, to: &mut [Bf16; N]);
    /// Joins halves to f32s that are crossed.
    fn load_split(upper: &[Bf16; N], remainder: &[i16; N]) -> Self::Floats;
    /// Splits f32s that are crossed.
    fn store_split(wide: Self::Floats, upper: &mut [Bf16; N], remainder: &mut [i16; N]);
    /// Swaps fours: into or out of the order in which the instruction set joins and splits halves.
    fn crossed(wide: Self::Floats) -> Self::Floats;
    /// Returns `dtype::left_over` of each.
    fn left_over(wide: Self::Floats, rounded: Self::Floats) -> Self::Floats;
}

/// An element type that comes in registers.
pub trait InRegisters: Sized {
    fn load<R: Sixteens>(from: &[Self; N]) -> R::Floats;
    fn store<R: Sixteens>(wide: R::Floats, to: &mut [Self; N]);
}

macro_rules! in_registers {
    ($type:ident, $load:ident, $store:ident) => {
        impl InRegisters for $type {
            #[inline(always)]
            fn load<R: Sixteens>(from: &[$type; N]) -> R::Floats {
                R::$load(from)
            }
            #[inline(always)]
            fn store<R: Sixteens>(wide: R::Floats, to: &mut [$type; N]) {
                R::$store(wide, to);
            }
        }
    };
}

in_registers!(f32, load, store);
in_registers!(F16, load_f16, store_f16);
in_registers!(Bf16, load_bf16, store_bf16);

/// A parameter, and what it is kept with.
pub trait Kept {
    fn load<R: Sixteens>(&self, group: usize) -> R::Floats;
    fn store<R: Sixteens>(&mut self, group: usize, wide: R::Floats);
    /// Returns floats in the order of those that are loaded and stored: if not said, of memory.
    #[inline(always)]
    fn arranged<R: Sixteens>(&self, wide: R::Floats) -> R::Floats {
        wide
    }
}

/// Returns a group of some elements.
#[inline(always)]
pub fn group<T>(all: &[T], group: usize) -> &[T; N] {
    &all.as_chunks().0[group]
}

#[inline(always)]
pub fn group_mut<T>(all: &mut [T], group: usize) -> &mut [T; N] {
    &mut all.as_chunks_mut().0[group]
}

/// Steps groups, and returns how many elements they have: all but fewer than `2 * N`.
#[inline(always)]
pub fn update<R: Sixteens, G: InRegisters>(
    scalars: &StepScalars<f32>,
    weights: &mut impl Kept,
    grad: &[G],
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
) -> usize {
    let n = grad.len() / N;
    if n < 2 {
        return 0;
    }
    let scalars = &scalars.map(|scalar| R::splat(scalar));
    let (exp_avg, exp_avg_sq) = (&mut exp_avg[..grad.len()], &mut exp_avg_sq[..grad.len()]);
    let root = rooted::<R, G>(scalars, grad, exp_avg, exp_avg_sq, 0);
    let mut direct = direction(scalars, R::load(group(exp_avg, 0)), root);
    let mut root = rooted::<R, G>(scalars, grad, exp_avg, exp_avg_sq, 1);
    for i in 2..n {
        let next = rooted::<R, G>(scalars, grad, exp_avg, exp_avg_sq, i);
        step_in::<R>(scalars, weights, direct, i - 2);
        direct = direction(scalars, R::load(group(exp_avg, i - 1)), root);
        root = next;
    }
    step_in::<R>(scalars, weights, direct, n - 2);
    direct = direction(scalars, R::load(group(exp_avg, n - 1)), root);
    step_in::<R>(scalars, weights, direct, n - 1);
    n * N
}

/// Steps the moments of a group. Returns the root of exp_avg_sq.
#[inline(always)]
fn rooted<R: Sixteens, G: InRegisters>(
    scalars: &StepScalars<R::Floats>,
    grad: &[G],
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
    i: usize,
) -> R::Floats {
    let (exp_avg, exp_avg_sq) = (group_mut(exp_avg, i), group_mut(exp_avg_sq, i));
    let grad = G::load::<R>(group(grad, i));
    let (m, v) = moments(scalars, grad, R::load(exp_avg), R::load(exp_avg_sq));
    R::store(m, exp_avg);
    R::store(v, exp_avg_sq);
    v.sqrt()
}

/// Moves the parameters of a group.
#[inline(always)]
fn step_in<R: Sixteens>(
    scalars: &StepScalars<R::Floats>,
    weights: &mut impl Kept,
    direct: R::Floats,
    i: usize,
) {
    let (param, direct) = (weights.load::<R>(i), weights.arranged::<R>(direct));
    weights.store::<R>(i, moved(scalars, param, direct));
}
