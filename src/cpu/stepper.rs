//! Steps the chunks that one thread claims.
//!
//! `Visitor::run` has one loop step small f32 parameters, one after the other, and `Visitor::plain`
//! takes a chunk that is all f32 straight to its loop. For any other `update` asks `halves.rs`
//! whether there is a loop that does it all; otherwise it finds the types and calls
//! `take_steps`, which takes the logged steps that the rows have missed, without a gradient, and
//! then this one. A step goes to `step_in_place` if it is its loop and nothing else, otherwise to
//! `step_blocks`, which does for each block:
//!
//! ```text
//! weights::open                     widens the parameter, or joins it with its remainder
//! grad.widened | grad.copied        widens the gradient, or gathers its rows
//! T::prepare                        clips and regularizes it, where that is asked for
//! MomentKind::open, T::step         widens the moments, and runs the loop
//! T::forget                         at every 64th step, ends the fall of moments
//! MomentKind::close                 stores the moments again
//! moments::step_coded               does all four, where moments are codes
//! weights::close                    stores the parameter again
//! ```
//!
//! With statistics, `step_measured` has `step_blocks` add up the changes, and `squares` adds up the
//! parameter.
#![forbid(unsafe_code)]

use super::block::{BLOCK, BufferPart};
use super::compute::Compute;
use super::halves;
use super::isa::Isa;
use super::moments::{self, MomentKind};
use super::rows::Gradient;
use super::space::{Blocks, Space};
use super::stored::Stored;
use super::weights::{self, StoredParam};
use crate::math::{Scalars, StepScalars};
use crate::noise::{Key, Source};
use crate::norm::{LANES, join_lanes};
use crate::steps::Steps;
use crate::tensor::{
    Change, Chunk, Moment, PlainChunk, PlainRun, Precise, RowPart, Slice, SliceMut, Squares, State,
    StateOf, Visitor,
};

/// The state of a thread that steps chunks.
pub struct Stepper<'a> {
    isa: &'static Isa,
    steps: &'a Steps<'a>,
    space: Space,
}

impl<'a> Stepper<'a> {
    pub fn new(isa: &'static Isa, steps: &'a Steps) -> Stepper<'a> {
        Stepper { isa, steps, space: Space::F32(Blocks::default()) }
    }
}

impl Visitor for Stepper<'_> {
    fn any(&mut self, mut chunk: Chunk) {
        update(self.isa, self.steps, &mut chunk, &mut self.space);
    }

    fn run(&mut self, run: &mut PlainRun) {
        self.isa.update_small(self.steps, run);
    }

    fn plain(&mut self, chunk: PlainChunk) {
        match self.steps.now(chunk.index) {
            None => {}
            Some(now) if !now.f32.are_plain() => self.any(chunk.into()),
            Some(now) => {
                let PlainChunk { param, grad, exp_avg, exp_avg_sq, .. } = chunk;
                self.isa.update_f32(&now.f32, param, grad, exp_avg, exp_avg_sq)
            }
        }
    }
}

/// The elements of a chunk, without their gradient.
struct Elements<'a, 's, T, P> {
    param: &'a mut [P],
    state: &'a mut StateOf<'s, T>,
    random: Option<(Key, u64)>,
}

/// Steps the elements of one chunk: through the steps that they have missed, then this one.
fn update(isa: &'static Isa, steps: &Steps, chunk: &mut Chunk, space: &mut Space) {
    use Slice as G;
    use SliceMut as P;
    if chunk.behind.is_empty()
        && let Some(now) = steps.now(chunk.index)
        && now.f32.are_plain()
        && (halves::step(isa, &now.f32, chunk).is_some()
            || halves::step_coded(isa, now, chunk, space).is_some())
    {
        return;
    }
    let Chunk { index, random, param, grad, rows, state, behind, change } = chunk;
    let (index, change) = (*index, *change);
    let behind = behind.clone().map(|step| steps.logged(index, step));
    let now = steps.now(index);
    macro_rules! take {
        ($state:ident, $param:ident, $grad:ident, $space:ident) => {{
            let elements = Elements { param: &mut $param[..], state: $state, random: *random };
            take_steps(isa, (behind, now), elements, (*$grad, rows.take()), change, space.$space())
        }};
    }
    match (state, param, grad) {
        (State::F32(s), P::F32(p), G::F32(g)) => take!(s, p, g, f32),
        (State::F32(s), P::F16(p), G::F16(g)) => take!(s, p, g, f32),
        (State::F32(s), P::F16(p), G::F32(g)) => take!(s, p, g, f32),
        (State::F32(s), P::Bf16(p), G::Bf16(g)) => take!(s, p, g, f32),
        (State::F32(s), P::Bf16(p), G::F32(g)) => take!(s, p, g, f32),
        (State::F64(s), P::F64(p), G::F64(g)) => take!(s, p, g, f64),
        (State::F64(s), P::F64(p), G::F32(g)) => take!(s, p, g, f64),
        _ => unreachable!("Operands::fits admits no other pair"),
    }
}

fn take_steps<'a, T, P, G>(
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
            let (update, n_unchanged) = step_measured(isa, scalars, &mut elements, grad, space);
            let param = squares(isa, &mut elements, space);
            change.set(Squares { update, param, n_unchanged });
        }
    }
}

/// Steps, and returns the sum of squares of the changes, and the number of elements whose change
/// was lost in rounding.
#[inline(never)] // so that steps without statistics do without its frame
fn step_measured<T, P, G>(
    isa: &'static Isa,
    scalars: &Scalars,
    elements: &mut Elements<T, P>,
    grad: Gradient<G>,
    space: &mut Blocks<T>,
) -> (f64, u64)
where
    T: Compute,
    P: StoredParam<T>,
    G: Stored<T>,
{
    let (mut lanes, mut n_unchanged) = ([0.0; LANES], 0);
    step_blocks(isa, scalars, elements, grad, space, Some((&mut lanes, &mut n_unchanged)));
    (join_lanes(&mut lanes), n_unchanged)
}

/// Returns the sum of squares of the parameter.
#[inline(never)]
fn squares<T, P>(isa: &'static Isa, elements: &mut Elements<T, P>, space: &mut Blocks<T>) -> f64
where
    T: Compute,
    P: StoredParam<T>,
{
    let mut lanes = [0.0; LANES];
    for start in (0..elements.param.len()).step_by(BLOCK) {
        let at = start..elements.param.len().min(start + BLOCK);
        let precise = &mut elements.state.part(at.clone()).precise;
        let mut buffer = T::buffers(&mut space.narrow)
            .map_or(BufferPart::Half(&mut []), |(param, _)| param.whole());
        let weights = weights::open(isa, &mut elements.param[at], precise, &mut buffer);
        T::add_squares(isa, &mut lanes, weights);
    }
    join_lanes(&mut lanes)
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
        && (step_in_place(isa, T::scalars(scalars), elements, grad).is_some()
            || step_codes_in_place(isa, scalars, elements, grad, space).is_some())
    {
        return;
    }
    step_blocks(isa, scalars, elements, grad, space, None);
}

/// Steps the elements where they lie; `None` if there is more to do than the loop.
fn step_in_place<T: Compute, P: StoredParam<T>>(
    isa: &'static Isa,
    scalars: &StepScalars<T>,
    elements: &mut Elements<T, P>,
    grad: &[T],
) -> Option<()> {
    let StateOf { exp_avg, exp_avg_sq, max_exp_avg_sq, precise } = &mut *elements.state;
    let (Moment::Full(exp_avg), Moment::Full(exp_avg_sq)) = (exp_avg, exp_avg_sq) else {
        return None;
    };
    let (Precise::Nothing, true) = (precise, scalars.are_plain()) else { return None };
    let max_exp_avg_sq = match max_exp_avg_sq {
        None => None,
        Some(Moment::Full(max)) => Some(&mut **max),
        Some(_) => return None,
    };
    let param = <P as StoredParam<T>>::in_place(elements.param)?;
    T::step(isa, scalars, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq);
    Some(())
}

/// Steps elements whose moments are codes where they lie; `None` if there is more to do.
#[inline(never)] // so that the loop runs on a smaller stack
fn step_codes_in_place<T: Compute, P: StoredParam<T>>(
    isa: &'static Isa,
    scalars: &Scalars,
    elements: &mut Elements<T, P>,
    grad: &[T],
    space: &mut Blocks<T>,
) -> Option<()> {
    if T::scalars(scalars).preparation.is_some() || !moments::are_stepped_as_codes(elements.state) {
        return None;
    }
    let param = T::f32s(<P as StoredParam<T>>::in_place(elements.param)?);
    let (_, exp_avg_sq) = T::buffers(&mut space.narrow)?;
    let mut wide = (space.exp_avg.whole(), exp_avg_sq.whole());
    let (key, first) = elements.random.unzip();
    let random = (key.map(|key| key.at(scalars.step, 0)), first.unwrap_or(0));
    let operands = (param, T::f32s_of(grad));
    moments::step_all_coded(isa, &scalars.f32, operands, elements.state, random, &mut wide);
    Some(())
}

#[inline(never)]
fn step_blocks<T, P, G>(
    isa: &'static Isa,
    scalars: &Scalars,
    elements: &mut Elements<T, P>,
    grad: Gradient<G>,
    space: &mut Blocks<T>,
    mut changes: Option<(&mut [f64; LANES], &mut u64)>,
) where
    T: Compute,
    P: StoredParam<T>,
    G: Stored<T>,
{
    let random = elements.random.map(|(key, first)| key.at(scalars.step, first));
    let first_element = elements.random.map_or(0, |(_, first)| first);
    let (of_f32, scalars) = (&scalars.f32, T::scalars(scalars));
    let is_coded = moments::are_stepped_as_codes(elements.state);
    let max_is_coded = !matches!(elements.state.max_exp_avg_sq, None | Some(Moment::Full(_)));
    let mut exp_avg_buffer = space.exp_avg.whole();
    let none = || BufferPart::Half(&mut []);
    let (mut param_buffer, [mut exp_avg_sq_buffer, mut max_buffer]) =
        match T::buffers(&mut space.narrow) {
            None => (none(), [none(), none()]),
            Some((param, exp_avg_sq)) if max_is_coded => (param.whole(), exp_avg_sq.halves()),
            Some((param, exp_avg_sq)) => (param.whole(), [exp_avg_sq.whole(), none()]),
        };
    let [mut grad_buffer, mut before_buffer] = match changes {
        None => [space.grad.whole(), none()],
        Some(_) => space.grad.halves(),
    };
    let block = if changes.is_some() || max_is_coded { BLOCK / 2 } else { BLOCK };
    let mut start = 0;
    while start < elements.param.len() {
        let random = random.map(|random| random.from(start as u64));
        let at = Source::part(first_element, start, elements.param.len().min(start + block));
        let n = at.len();
        let param = &mut elements.param[at.clone()];
        let StateOf { mut exp_avg, mut exp_avg_sq, mut max_exp_avg_sq, mut precise } =
            elements.state.part(at.clone());

        let weights = weights::open(isa, param, &mut precise, &mut param_buffer);
        if changes.is_some() {
            before_buffer.get()[..n].copy_from_slice(weights);
        }
        let row_buffer = &mut exp_avg_buffer;
        let grad = match &scalars.preparation {
            None => grad.widened(isa, at, &mut grad_buffer, row_buffer),
            Some(preparation) => {
                let prepared = grad.copied(isa, at, &mut grad_buffer, row_buffer);
                T::prepare(isa, preparation, prepared, weights);
                prepared
            }
        };
        if is_coded {
            let operands = (T::f32s(weights), T::f32s_of(grad));
            let moments = [&mut exp_avg, &mut exp_avg_sq];
            let wide = (&mut exp_avg_buffer, &mut exp_avg_sq_buffer);
            moments::step_coded(isa, of_f32, operands, moments, random, wide);
        } else {
            let first = MomentKind::First.open(isa, n, &mut exp_avg, &mut exp_avg_buffer);
            let second = MomentKind::Second.open(isa, n, &mut exp_avg_sq, &mut exp_avg_sq_buffer);
            let mut largest = max_exp_avg_sq
                .as_mut()
                .map(|max| MomentKind::Largest.open(isa, n, max, &mut max_buffer));
            T::step(isa, scalars, weights, grad, first, second, largest.as_deref_mut());
            if scalars.forgets {
                T::forget(isa, scalars.eps, first, second);
                if let Some(largest) = largest {
                    T::forget(isa, scalars.eps, first, largest);
                }
            }
            MomentKind::First.close(isa, n, &mut exp_avg, random, &mut exp_avg_buffer);
            MomentKind::Second.close(isa, n, &mut exp_avg_sq, random, &mut exp_avg_sq_buffer);
            if let Some(max) = &mut max_exp_avg_sq {
                MomentKind::Largest.close(isa, n, max, random, &mut max_buffer);
            }
        }
        weights::close(isa, param, &mut precise, random, &mut param_buffer);
        if let Some((lanes, unchanged)) = &mut changes {
            let weights = weights::open(isa, param, &mut precise, &mut param_buffer);
            let before = &before_buffer.get()[..n];
            T::add_changes(isa, lanes, before, weights);
            if scalars.step_size != T::ZERO {
                let exp_avg = MomentKind::First.open(isa, n, &mut exp_avg, &mut exp_avg_buffer);
                **unchanged += moments::n_unchanged(before, weights, exp_avg);
            }
        }
        start += n;
    }
}
