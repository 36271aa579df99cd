//! One chunk: widen a block of 512 elements, update, narrow. What needs no widening is updated in
//! place, as one block.
#![forbid(unsafe_code)]

use super::isa::{Compute, Isa};
use super::norms::Sums;
use super::rows::{GradSpace, Gradient, Room, Stored};
use crate::dtype::{Bf16, F16};
use crate::math::{Real, Scalars, StepScalars};
use crate::steps::Steps;
use crate::tensor::{Change, Chunk, Moments, RowPart, Slice, SliceMut, State};

/// Elements of a block: two of them in f32 take 4 KiB, and stay in the first-level cache.
pub const BLOCK: usize = 512;

/// Where a thread puts the blocks that it works on, one after the other.
#[derive(Default)]
pub struct Space {
    f32: Blocks<f32>,
    f64: Blocks<f64>,
}

#[derive(Default)]
struct Blocks<T> {
    param: Room<T>,
    grad: GradSpace<T>,
    prepared: Room<T>,
    /// The parameter before the step.
    before: Room<T>,
}

/// Steps the elements of one chunk: through the steps that they have yet to take, then this one.
pub fn update(isa: &'static Isa, steps: &Steps, chunk: Chunk, space: &mut Space) {
    use Slice as G;
    use SliceMut as P;
    let Chunk { index, param, grad, rows, state, behind, change } = chunk;
    let behind = behind.map(|step| steps.logged(index, step));
    let now = steps.now(index);
    match (state, param, grad) {
        (State::F32(m), P::F32(p), G::F32(g)) => {
            take(isa, (behind, now), p, (g, rows), m, change, &mut space.f32)
        }
        (State::F32(m), P::F16(p), G::F16(g)) => {
            take(isa, (behind, now), p, (g, rows), m, change, &mut space.f32)
        }
        (State::F32(m), P::F16(p), G::F32(g)) => {
            take(isa, (behind, now), p, (g, rows), m, change, &mut space.f32)
        }
        (State::F32(m), P::Bf16(p), G::Bf16(g)) => {
            take(isa, (behind, now), p, (g, rows), m, change, &mut space.f32)
        }
        (State::F32(m), P::Bf16(p), G::F32(g)) => {
            take(isa, (behind, now), p, (g, rows), m, change, &mut space.f32)
        }
        (State::F64(m), P::F64(p), G::F64(g)) => {
            take(isa, (behind, now), p, (g, rows), m, change, &mut space.f64)
        }
        (State::F64(m), P::F64(p), G::F32(g)) => {
            take(isa, (behind, now), p, (g, rows), m, change, &mut space.f64)
        }
        _ => unreachable!("Operands::fits admits no other pair"),
    }
}

fn take<'a, T, P, G>(
    isa: &'static Isa,
    (behind, now): (impl Iterator<Item = &'a Scalars>, Option<&Scalars>),
    param: &mut [P],
    (values, rows): (&[G], Option<RowPart>),
    mut moments: Moments<T>,
    change: Option<&Change>,
    space: &mut Blocks<T>,
) where
    T: Compute,
    P: StoredParam<T>,
    G: Stored<T>,
{
    for scalars in behind {
        let none = Gradient::<G>::none();
        step(isa, T::scalars(scalars), param, none, moments.again(), space);
    }
    let Some(scalars) = now else { return };
    let (scalars, grad) = (T::scalars(scalars), Gradient::new(values, rows));
    match change {
        None => step(isa, scalars, param, grad, moments, space),
        Some(change) => {
            let mut sums = Sums::new();
            step_blocks(isa, scalars, param, grad, moments, space, Some(&mut sums));
            change.set(sums.squares());
        }
    }
}

fn step<T, P, G>(
    isa: &'static Isa,
    scalars: &StepScalars<T>,
    param: &mut [P],
    grad: Gradient<G>,
    moments: Moments<T>,
    space: &mut Blocks<T>,
) where
    T: Compute,
    P: StoredParam<T>,
    G: Stored<T>,
{
    if scalars.preparation.is_none()
        && let (Some(param), Some(grad)) = (<P as StoredParam<T>>::in_place(param), grad.in_place())
    {
        let Moments { exp_avg, exp_avg_sq, max_exp_avg_sq, .. } = moments;
        T::step(isa, scalars, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq);
    } else {
        step_blocks(isa, scalars, param, grad, moments, space, None);
    }
}

fn step_blocks<T, P, G>(
    isa: &'static Isa,
    scalars: &StepScalars<T>,
    param: &mut [P],
    grad: Gradient<G>,
    moments: Moments<T>,
    space: &mut Blocks<T>,
    mut sums: Option<&mut Sums>,
) where
    T: Compute,
    P: StoredParam<T>,
    G: Stored<T>,
{
    let Moments { exp_avg, exp_avg_sq, mut max_exp_avg_sq, mut master, mut remainder } = moments;
    let Blocks { param: wide_param, grad: grad_space, prepared, before } = space;
    let mut start = 0;
    while start < param.len() {
        let at = start..param.len().min(start + BLOCK);
        start = at.end;
        let n = at.len();
        let grad = grad.widened(isa, at.clone(), grad_space);
        let exp_avg = &mut exp_avg[at.clone()];
        let exp_avg_sq = &mut exp_avg_sq[at.clone()];
        let max_exp_avg_sq = max_exp_avg_sq.as_deref_mut().map(|max| &mut max[at.clone()]);
        let param = &mut param[at.clone()];
        let mut master = master.as_deref_mut().map(|master| &mut master[at.clone()]);
        let mut remainder = remainder.as_deref_mut().map(|remainder| &mut remainder[at]);
        if sums.is_some() {
            let now = truth(isa, param, master.as_deref(), remainder.as_deref(), wide_param);
            before.get()[..n].copy_from_slice(now);
        }
        let step = |wide_param: &mut [T]| {
            let grad = match &scalars.preparation {
                None => grad,
                Some(preparation) => {
                    let prepared = &mut prepared.get()[..n];
                    prepared.copy_from_slice(grad);
                    T::prepare(isa, preparation, prepared, wide_param);
                    prepared
                }
            };
            T::step(isa, scalars, wide_param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq);
        };
        match (master.as_deref_mut(), remainder.as_deref_mut()) {
            (Some(master), _) => {
                step(master);
                P::narrow(isa, master, param);
            }
            (None, Some(remainder)) => {
                let wide = &mut wide_param.get()[..n];
                P::join(isa, param, remainder, wide);
                step(wide);
                P::split(isa, wide, param, remainder);
            }
            (None, None) => P::edit(isa, param, wide_param, step),
        }
        if let Some(sums) = sums.as_deref_mut() {
            let now = truth(isa, param, master.as_deref(), remainder.as_deref(), wide_param);
            sums.add(isa, &before.get()[..n], now);
        }
    }
}

/// What a block's elements are, in the compute type: the master, where there is one.
fn truth<'a, T: Real, P: StoredParam<T>>(
    isa: &Isa,
    param: &'a [P],
    master: Option<&'a [T]>,
    remainder: Option<&[i16]>,
    space: &'a mut Room<T>,
) -> &'a [T] {
    match (master, remainder) {
        (Some(master), _) => master,
        (None, Some(remainder)) => {
            let wide = &mut space.get()[..param.len()];
            P::join(isa, param, remainder, wide);
            wide
        }
        (None, None) => P::widened(isa, param, space),
    }
}

/// An element type that parameters are stored in.
trait StoredParam<T>: Stored<T> {
    /// The same elements, where they are stored in the compute type.
    fn in_place(_: &mut [Self]) -> Option<&mut [T]> {
        None
    }

    fn narrow(isa: &Isa, wide: &[T], stored: &mut [Self]);

    /// Puts a split master together.
    fn join(_: &Isa, _: &[Self], _: &[i16], _: &mut [T]) {
        unreachable!("only bf16 parameters have a split master")
    }

    /// Takes it apart.
    fn split(_: &Isa, _: &[T], _: &mut [Self], _: &mut [i16]) {
        unreachable!("only bf16 parameters have a split master")
    }

    /// Gives `work` a block's values to change, and stores what they have become.
    fn edit(isa: &Isa, stored: &mut [Self], space: &mut Room<T>, work: impl FnOnce(&mut [T]));
}

macro_rules! stored_wide {
    ($type:ty) => {
        impl StoredParam<$type> for $type {
            fn in_place(stored: &mut [$type]) -> Option<&mut [$type]> {
                Some(stored)
            }
            fn narrow(_: &Isa, wide: &[$type], stored: &mut [$type]) {
                stored.copy_from_slice(wide);
            }
            fn edit(
                _: &Isa,
                stored: &mut [$type],
                _: &mut Room<$type>,
                work: impl FnOnce(&mut [$type]),
            ) {
                work(stored);
            }
        }
    };
}

macro_rules! stored_16_bit {
    ($type:ty, $widen:ident, $narrow:ident $(, $halves:item)*) => {
        impl StoredParam<f32> for $type {
            $($halves)*
            fn narrow(isa: &Isa, wide: &[f32], stored: &mut [$type]) {
                isa.$narrow(wide, stored);
            }
            fn edit(
                isa: &Isa,
                stored: &mut [$type],
                space: &mut Room<f32>,
                work: impl FnOnce(&mut [f32]),
            ) {
                let wide = &mut space.get()[..stored.len()];
                isa.$widen(stored, wide);
                work(wide);
                isa.$narrow(wide, stored);
            }
        }
    };
}

stored_wide!(f32);
stored_wide!(f64);
stored_16_bit!(F16, widen_f16, narrow_f16);
stored_16_bit!(
    Bf16,
    widen_bf16,
    narrow_bf16,
    fn join(isa: &Isa, upper: &[Bf16], remainder: &[i16], wide: &mut [f32]) {
        isa.join(upper, remainder, wide)
    },
    fn split(isa: &Isa, wide: &[f32], upper: &mut [Bf16], remainder: &mut [i16]) {
        isa.split(wide, upper, remainder)
    }
);
