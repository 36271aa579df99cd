//! One chunk: widen a block of 512 elements, update, narrow. What needs no widening is updated in
//! place, as one block.
#![forbid(unsafe_code)]

use super::isa::{Compute, Isa};
use super::moments::Kind;
use super::noise::{self, Source};
use super::norms::Sums;
use super::rows::{GradSpace, Gradient, Room, Stored};
use super::weights::{self, StoredParam};
use crate::math::{Scalars, StepScalars};
use crate::philox::Key;
use crate::steps::Steps;
use crate::tensor::{
    Change, Chunk, Moment, PlainChunk, Precise, RowPart, Slice, SliceMut, State, StateOf, Visitor,
};

/// Elements of a block: two of them in f32 take 4 KiB, and stay in the first-level cache.
pub const BLOCK: usize = 512;

/// A thread that steps chunks.
pub struct Stepper<'a> {
    isa: &'static Isa,
    steps: &'a Steps<'a>,
    space: Space,
}

impl<'a> Stepper<'a> {
    pub fn new(isa: &'static Isa, steps: &'a Steps) -> Stepper<'a> {
        Stepper { isa, steps, space: Space::default() }
    }
}

impl Visitor for Stepper<'_> {
    fn any(&mut self, chunk: Chunk) {
        update(self.isa, self.steps, chunk, &mut self.space);
    }

    #[inline]
    fn plain(&mut self, chunk: PlainChunk) {
        match self.steps.now(chunk.index) {
            None => {}
            Some(now) if now.f32.preparation.is_some() => self.any(chunk.into()),
            Some(now) => {
                let PlainChunk { param, grad, exp_avg, exp_avg_sq, .. } = chunk;
                self.isa.update_f32(&now.f32, param, grad, exp_avg, exp_avg_sq)
            }
        }
    }
}

/// Where a thread puts the blocks that it works on, one after the other.
#[derive(Default)]
struct Space {
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
    exp_avg: Room<T>,
    exp_avg_sq: Room<T>,
    max_exp_avg_sq: Room<T>,
    noise: noise::Room,
}

/// The elements of a chunk that are not the gradient's.
struct Elements<'a, T, P> {
    param: &'a mut [P],
    state: StateOf<'a, T>,
    random: Option<(Key, u64)>,
}

/// Steps the elements of one chunk: through the steps that they have yet to take, then this one.
fn update(isa: &'static Isa, steps: &Steps, chunk: Chunk, space: &mut Space) {
    use Slice as G;
    use SliceMut as P;
    let Chunk { index, random, param, grad, rows, state, behind, change } = chunk;
    let behind = behind.map(|step| steps.logged(index, step));
    let now = steps.now(index);
    macro_rules! taken {
        ($state:ident, $param:ident, $grad:ident, $space:ident) => {{
            let elements = Elements { param: $param, state: $state, random };
            take(isa, (behind, now), elements, ($grad, rows), change, &mut space.$space)
        }};
    }
    match (state, param, grad) {
        (State::F32(s), P::F32(p), G::F32(g)) => taken!(s, p, g, f32),
        (State::F32(s), P::F16(p), G::F16(g)) => taken!(s, p, g, f32),
        (State::F32(s), P::F16(p), G::F32(g)) => taken!(s, p, g, f32),
        (State::F32(s), P::Bf16(p), G::Bf16(g)) => taken!(s, p, g, f32),
        (State::F32(s), P::Bf16(p), G::F32(g)) => taken!(s, p, g, f32),
        (State::F64(s), P::F64(p), G::F64(g)) => taken!(s, p, g, f64),
        (State::F64(s), P::F64(p), G::F32(g)) => taken!(s, p, g, f64),
        _ => unreachable!("Operands::fits admits no other pair"),
    }
}

fn take<'a, T, P, G>(
    isa: &'static Isa,
    (behind, now): (impl Iterator<Item = &'a Scalars>, Option<&Scalars>),
    mut elements: Elements<T, P>,
    (values, rows): (&[G], Option<RowPart>),
    change: Option<&Change>,
    space: &mut Blocks<T>,
) where
    T: Compute,
    P: StoredParam<T>,
    G: Stored<T>,
{
    for scalars in behind {
        step(isa, scalars, &mut elements, Gradient::<G>::none(), space);
    }
    let Some(scalars) = now else { return };
    let grad = Gradient::new(values, rows);
    match change {
        None => step(isa, scalars, &mut elements, grad, space),
        Some(change) => {
            let mut sums = Sums::new();
            step_blocks(isa, scalars, &mut elements, grad, space, Some(&mut sums));
            change.set(sums.squares());
        }
    }
}

fn step<T, P, G>(
    isa: &'static Isa,
    scalars: &Scalars,
    elements: &mut Elements<T, P>,
    grad: Gradient<G>,
    space: &mut Blocks<T>,
) where
    T: Compute,
    P: StoredParam<T>,
    G: Stored<T>,
{
    if let Some(grad) = grad.in_place()
        && let Some(()) = step_in_place(isa, T::scalars(scalars), elements, grad)
    {
        return;
    }
    step_blocks(isa, scalars, elements, grad, space, None);
}

/// Steps what needs no widening, if that is all there is.
fn step_in_place<T: Compute, P: StoredParam<T>>(
    isa: &'static Isa,
    scalars: &StepScalars<T>,
    elements: &mut Elements<T, P>,
    grad: &[T],
) -> Option<()> {
    let StateOf { exp_avg, exp_avg_sq, max_exp_avg_sq, precise } = &mut elements.state;
    let (Moment::Full(exp_avg), Moment::Full(exp_avg_sq)) = (exp_avg, exp_avg_sq) else {
        return None;
    };
    let (Precise::Nothing, None) = (precise, &scalars.preparation) else { return None };
    let max_exp_avg_sq = match max_exp_avg_sq {
        None => None,
        Some(Moment::Full(max)) => Some(&mut **max),
        Some(_) => return None,
    };
    let param = <P as StoredParam<T>>::in_place(elements.param)?;
    T::step(isa, scalars, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq);
    Some(())
}

fn step_blocks<T, P, G>(
    isa: &'static Isa,
    scalars: &Scalars,
    elements: &mut Elements<T, P>,
    grad: Gradient<G>,
    space: &mut Blocks<T>,
    mut sums: Option<&mut Sums>,
) where
    T: Compute,
    P: StoredParam<T>,
    G: Stored<T>,
{
    let step = scalars.step;
    let scalars = T::scalars(scalars);
    let mut start = 0;
    while start < elements.param.len() {
        let at = start..elements.param.len().min(start + BLOCK);
        let n = at.len();
        let param = &mut elements.param[at.clone()];
        let StateOf { mut exp_avg, mut exp_avg_sq, mut max_exp_avg_sq, mut precise } =
            elements.state.part(at.clone());
        let grad = grad.widened(isa, at, &mut space.grad);

        let weights = weights::open(isa, param, &mut precise, &mut space.param);
        if sums.is_some() {
            space.before.get()[..n].copy_from_slice(weights);
        }
        let grad = match &scalars.preparation {
            None => grad,
            Some(preparation) => {
                let prepared = &mut space.prepared.get()[..n];
                prepared.copy_from_slice(grad);
                T::prepare(isa, preparation, prepared, weights);
                prepared
            }
        };
        T::step(
            isa,
            scalars,
            weights,
            grad,
            Kind::First.open(isa, n, &mut exp_avg, &mut space.exp_avg),
            Kind::Second.open(isa, n, &mut exp_avg_sq, &mut space.exp_avg_sq),
            max_exp_avg_sq
                .as_mut()
                .map(|max| Kind::Largest.open(isa, n, max, &mut space.max_exp_avg_sq)),
        );

        let random = elements.random.map(|(key, first)| (key, first + start as u64));
        let noise = &mut Source { isa, random, step, room: &mut space.noise };
        weights::close(isa, param, &mut precise, noise, &mut space.param);
        Kind::First.close(isa, n, &mut exp_avg, noise, &mut space.exp_avg);
        Kind::Second.close(isa, n, &mut exp_avg_sq, noise, &mut space.exp_avg_sq);
        if let Some(max) = &mut max_exp_avg_sq {
            Kind::Largest.close(isa, n, max, noise, &mut space.max_exp_avg_sq);
        }
        if let Some(sums) = sums.as_deref_mut() {
            let weights = weights::open(isa, param, &mut precise, &mut space.param);
            sums.add(isa, &space.before.get()[..n], weights);
        }
        start += n;
    }
}
