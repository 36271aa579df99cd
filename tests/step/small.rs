//! Many small parameters, which a step takes in runs, and several as one where they lie end to end.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, config};
use crate::common::random::Random;
use adamw::ffi::*;

/// So many that two threads share a step of them.
const N: usize = 1100;

/// Adds a parameter of a kind that its place tells: most are small and f32, with a gradient.
fn add(handle: &Handle, i: usize, param: &Array, grad: &Array) {
    let number = handle.add_array(&format!("w{i}"), param);
    handle.edit_options(number, |options| {
        options.frozen = i.is_multiple_of(11).into();
        options.lr_scale = if i.is_multiple_of(5) { 0.5 } else { 1.0 };
    });
    if !i.is_multiple_of(13) {
        handle.set_grad(number, grad);
    }
}

#[test]
fn small_parameters_step_beside_others_as_each_does_alone() {
    for (num_threads, clear_grads, statistics) in [(1, 0, 0), (2, 0, 0), (2, 1, 0), (1, 1, 1)] {
        let random = &mut Random::new(17);
        let mut array = |i: usize| {
            let dtype = if i.is_multiple_of(7) { Dtype::Bf16 } else { Dtype::F32 };
            Array::ordinary(dtype, i * 37 % 530, random)
        };
        let params: Vec<_> = (0..N).map(&mut array).collect();
        let grads: Vec<_> = (0..N).map(&mut array).collect();
        let [theirs, their_grads] =
            [&params, &grads].map(|all| all.iter().map(Array::duplicate).collect::<Vec<_>>());
        let config = adamw_config { num_threads, clear_grads, ..config() };
        // From the 63rd step on; at the 64th moments forget.
        let steps = |handle: &Handle, n: usize| {
            handle.set_statistics(statistics).unwrap();
            handle.set_steps(None, &vec![62; n]).unwrap();
            (0..4).for_each(|_| handle.step());
        };
        let all = Handle::new(&config);
        for i in 0..N {
            add(&all, i, &params[i], &grads[i]);
            let alone = Handle::new(&adamw_config { num_threads: 1, ..config });
            add(&alone, i, &theirs[i], &their_grads[i]);
            steps(&alone, 1);
        }
        steps(&all, N);
        for i in 0..N {
            let of = format!("parameter {i}, {num_threads} threads, clear_grads {clear_grads}");
            assert_eq!(params[i].first_difference(&theirs[i]), None, "{of}");
            assert_eq!(grads[i].first_difference(&their_grads[i]), None, "{of}");
        }
    }
}

/// The tensors of a parameter: itself, its gradient, exp_avg and exp_avg_sq.
type Four<T> = [T; 4];

/// Many parameters in four arrays.
struct Arena {
    arrays: Four<Array>,
    /// Where the tensors of each begin, and how many elements they have.
    places: Vec<(Four<usize>, usize)>,
}

impl Arena {
    /// Lays parameters end to end, except that in some arrays elements are left free between some.
    fn new(has_gaps: Four<bool>, random: &mut Random) -> Arena {
        let (mut ends, mut places) = ([0; 4], Vec::new());
        for i in 0..N {
            let n = [64, 16, 32, 96, if i.is_multiple_of(50) { 5 } else { 48 }, 64, 511][i % 7];
            places.push((ends, n));
            for (end, has_gaps) in ends.iter_mut().zip(has_gaps) {
                *end += n + if has_gaps && i % 4 == 2 { 16 } else { 0 };
            }
        }
        let mut array = |i: usize| match i {
            0 | 1 => Array::ordinary(Dtype::F32, ends[i], random),
            _ => Array::zeros(Dtype::F32, ends[i]),
        };
        Arena { arrays: [0, 1, 2, 3].map(&mut array), places }
    }

    /// Copies what a parameter has, each tensor somewhere else.
    fn copy(&self, i: usize) -> Four<Array> {
        let (starts, n) = self.places[i];
        [0, 1, 2, 3].map(|k| self.arrays[k].copy(starts[k]..starts[k] + n, k))
    }
}

/// What happens to a parameter between steps, in rounds.
fn change(handle: &Handle, number: u32, i: usize, other_grad: &Array, round: usize) {
    match (round, i % 23) {
        // Nothing but that a gradient moves, by either call.
        (0, 7) => handle.set_grad(number, other_grad),
        (1, 8) => handle.set_grad_data(Some(&[number]), &[other_grad.data()]).unwrap(),
        (2, 9) => handle.edit_options(number, |options| options.frozen = 1),
        (2, 10) => handle.edit_options(number, |options| options.lr_scale = 0.25),
        (2, 11) => handle.forget_grad(number),
        (3, 9) => handle.edit_options(number, |options| options.frozen = 0),
        (3, 12) => handle.remove(number).unwrap(),
        _ => {}
    }
}

#[test]
fn small_parameters_that_lie_end_to_end_step_as_each_does_alone() {
    let none = [false; 4];
    let gap_in = |tensor: usize| [0, 1, 2, 3].map(|k| k == tensor);
    for (num_threads, clear_grads, own_state, has_gaps) in [
        (1, 0, false, none),
        (2, 0, false, none),
        (1, 1, false, none),
        (1, 0, true, none),
        (2, 1, true, none),
        (1, 0, false, gap_in(0)),
        (1, 0, false, gap_in(1)),
        (1, 0, false, gap_in(2)),
        (1, 0, false, gap_in(3)),
        (1, 0, true, gap_in(0)),
        (1, 0, true, gap_in(1)),
    ] {
        let random = &mut Random::new(23);
        let arena = Arena::new(has_gaps, random);
        let theirs: Vec<_> = (0..N).map(|i| arena.copy(i)).collect();
        let config = adamw_config { num_threads, clear_grads, ..config() };
        let together = Handle::new(&config);
        let alone: Vec<_> =
            (0..N).map(|_| Handle::new(&adamw_config { num_threads: 1, ..config })).collect();
        let others: Vec<_> = (0..N)
            .map(|i| Array::ordinary(Dtype::F32, arena.places[i].1, random))
            .map(|grad| [grad.duplicate(), grad])
            .collect();
        let mut numbers = Vec::new();
        for (i, (starts, n)) in arena.places.iter().enumerate() {
            let shape = [*n as i64];
            let tensors = [0, 1, 2, 3].map(|k| arena.arrays[k].part(starts[k], &shape));
            for (handle, [param, grad, exp_avg, exp_avg_sq]) in
                [(&together, tensors), (&alone[i], theirs[i].each_ref().map(Array::tensor))]
            {
                let name = format!("w{i}");
                let of = Param { step: 0, ..Param::new(&name, &theirs[i][0]) };
                let state = [exp_avg, exp_avg_sq].map(|tensor| (!own_state).then_some(tensor));
                let [exp_avg, exp_avg_sq] = state;
                let none = None;
                let tensors =
                    [Some(param), none, exp_avg, exp_avg_sq, none, none, none, none, none];
                let number = handle.try_add_tensors(&of, tensors).unwrap();
                handle.edit_options(number, |options| {
                    options.lr_scale = if i / 20 % 2 == 0 { 0.5 } else { 1.0 };
                });
                handle.set_grad_tensor(number, &grad).unwrap();
                numbers.push(number);
            }
        }
        let mut moved = Vec::new();
        for round in 0..5 {
            if let Some(round) = usize::checked_sub(round, 1) {
                for (i, [ours, theirs]) in others.iter().enumerate() {
                    change(&together, numbers[2 * i], i, ours, round);
                    change(&alone[i], numbers[2 * i + 1], i, theirs, round);
                }
            }
            if round == 4 {
                for i in (15..N).step_by(23) {
                    let [[ours, ..], [theirs, ..]] = [arena.copy(i), arena.copy(i)];
                    together.rebind(&[(numbers[2 * i], ADAMW_BUFFER_PARAM, &ours)]).unwrap();
                    alone[i].rebind(&[(numbers[2 * i + 1], ADAMW_BUFFER_PARAM, &theirs)]).unwrap();
                    moved.push([ours, theirs]);
                }
            }
            for _ in 0..2 {
                together.step();
                alone.iter().for_each(Handle::step);
            }
        }
        assert!(moved.iter().all(|[ours, theirs]| ours.first_difference(theirs).is_none()));
        for (i, theirs) in theirs.iter().enumerate() {
            let ours = arena.copy(i);
            for (k, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                let of = format!(
                    "tensor {k} of parameter {i}, {num_threads} threads, clear_grads \
                     {clear_grads}, own state {own_state}, gaps {has_gaps:?}"
                );
                assert_eq!(ours.first_difference(theirs), None, "{of}");
            }
        }
    }
}
