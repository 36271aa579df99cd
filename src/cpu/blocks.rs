//! One chunk: widen a block of 512 elements, update, narrow. What needs no widening is updated in
//! place, as one block.
#![forbid(unsafe_code)]

use super::isa::{Compute, Isa};
use super::rows::{Gradient, Stored};
use crate::dtype::{Bf16, F16};
use crate::math::{Preparation, Real, Scalars, StepScalars};
use crate::steps::Steps;
use crate::tensor::{Chunk, Moments, RowPart, Slice, SliceMut, State};

/// Elements of a block: two of them in f32 take 4 KiB, and stay in the first-level cache.
pub const BLOCK: usize = 512;

/// Steps the elements of one chunk: through the steps that they have yet to take, then this one.
pub fn update(isa: &'static Isa, steps: &Steps, chunk: Chunk) {
    use Slice as G;
    use SliceMut as P;
    let Chunk { index, param, grad, rows, state, behind } = chunk;
    let behind = behind.map(|step| steps.logged(index, step));
    let now = steps.now(index);
    match (state, param, grad) {
        (State::F32(m), P::F32(p), G::F32(g)) => take(isa, behind, now, p, (g, rows), m),
        (State::F32(m), P::F16(p), G::F16(g)) => take(isa, behind, now, p, (g, rows), m),
        (State::F32(m), P::F16(p), G::F32(g)) => take(isa, behind, now, p, (g, rows), m),
        (State::F32(m), P::Bf16(p), G::Bf16(g)) => take(isa, behind, now, p, (g, rows), m),
        (State::F32(m), P::Bf16(p), G::F32(g)) => take(isa, behind, now, p, (g, rows), m),
        (State::F64(m), P::F64(p), G::F64(g)) => take(isa, behind, now, p, (g, rows), m),
        (State::F64(m), P::F64(p), G::F32(g)) => take(isa, behind, now, p, (g, rows), m),
        _ => unreachable!("Operands::fits admits no other pair"),
    }
}

/// Writes the parameter's values into its f32 master.
pub fn fill_master(isa: &'static Isa, master: &mut [f32], param: Slice) {
    match param {
        Slice::F16(param) => isa.widen_f16(param, master),
        Slice::Bf16(param) => isa.widen_bf16(param, master),
        _ => unreachable!("only 16-bit parameters have a master"),
    }
}

fn take<'a, T, P, G>(
    isa: &'static Isa,
    behind: impl Iterator<Item = &'a Scalars>,
    now: Option<&Scalars>,
    param: &mut [P],
    (values, rows): (&[G], Option<RowPart>),
    mut moments: Moments<T>,
) where
    T: Real + Compute,
    P: StoredParam<T>,
    G: Stored<T>,
{
    for scalars in behind {
        let none = Gradient::<G>::none();
        step(isa, T::scalars(scalars), param, none, moments.again());
    }
    if let Some(scalars) = now {
        step(isa, T::scalars(scalars), param, Gradient::new(values, rows), moments);
    }
}

fn step<T, P, G>(
    isa: &'static Isa,
    scalars: &StepScalars<T>,
    param: &mut [P],
    grad: Gradient<G>,
    moments: Moments<T>,
) where
    T: Real + Compute,
    P: StoredParam<T>,
    G: Stored<T>,
{
    // Apart, so that the space for what is seldom asked for costs nothing where it is not.
    match &scalars.preparation {
        None => step_blocks::<T, P, G, false>(isa, scalars, None, param, grad, moments),
        some => step_blocks::<T, P, G, true>(isa, scalars, some.as_ref(), param, grad, moments),
    }
}

fn step_blocks<T, P, G, const PREPARES: bool>(
    isa: &'static Isa,
    scalars: &StepScalars<T>,
    preparation: Option<&Preparation<T>>,
    param: &mut [P],
    grad: Gradient<G>,
    moments: Moments<T>,
) where
    T: Real + Compute,
    P: StoredParam<T>,
    G: Stored<T>,
{
    let update = T::of(isa);
    let Moments { exp_avg, exp_avg_sq, mut max_exp_avg_sq, mut master } = moments;
    let in_place = P::IS_WIDE && grad.is_in_place() && !PREPARES;
    let block = if in_place { param.len() } else { BLOCK };
    let mut wide_param = [T::ZERO; BLOCK];
    let mut wide_grad = [T::ZERO; BLOCK];
    let mut prepared_grad = [T::ZERO; BLOCK];
    let mut start = 0;
    while start < param.len() {
        let at = start..param.len().min(start + block);
        start = at.end;
        let grad = grad.widened(isa, at.clone(), &mut wide_grad);
        let exp_avg = &mut exp_avg[at.clone()];
        let exp_avg_sq = &mut exp_avg_sq[at.clone()];
        let max_exp_avg_sq = max_exp_avg_sq.as_deref_mut().map(|max| &mut max[at.clone()]);
        let param = &mut param[at.clone()];
        let step = |wide_param: &mut [T]| {
            let grad = match preparation.filter(|_| PREPARES) {
                None => grad,
                Some(preparation) => {
                    let prepared = &mut prepared_grad[..grad.len()];
                    prepared.copy_from_slice(grad);
                    update.prepare(preparation, prepared, wide_param);
                    prepared
                }
            };
            update.step(scalars, wide_param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq);
        };
        match master.as_deref_mut().map(|master| &mut master[at]) {
            Some(master) => {
                step(master);
                P::narrow(isa, master, param);
            }
            None => P::edit(isa, param, &mut wide_param, step),
        }
    }
}

/// An element type that parameters are stored in.
trait StoredParam<T>: Stored<T> {
    fn narrow(isa: &Isa, wide: &[T], stored: &mut [Self]);

    /// Gives `work` a block's values to change, and stores what they have become.
    fn edit(isa: &Isa, stored: &mut [Self], space: &mut [T; BLOCK], work: impl FnOnce(&mut [T]));
}

macro_rules! stored_wide {
    ($type:ty) => {
        impl StoredParam<$type> for $type {
            fn narrow(_: &Isa, wide: &[$type], stored: &mut [$type]) {
                stored.copy_from_slice(wide);
            }
            fn edit(
                _: &Isa,
                stored: &mut [$type],
                _: &mut [$type; BLOCK],
                work: impl FnOnce(&mut [$type]),
            ) {
                work(stored);
            }
        }
    };
}

macro_rules! stored_16_bit {
    ($type:ty, $widen:ident, $narrow:ident) => {
        impl StoredParam<f32> for $type {
            fn narrow(isa: &Isa, wide: &[f32], stored: &mut [$type]) {
                isa.$narrow(wide, stored);
            }
            fn edit(
                isa: &Isa,
                stored: &mut [$type],
                space: &mut [f32; BLOCK],
                work: impl FnOnce(&mut [f32]),
            ) {
                let wide = &mut space[..stored.len()];
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
stored_16_bit!(Bf16, widen_bf16, narrow_bf16);
