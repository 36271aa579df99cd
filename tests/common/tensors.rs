//! All the memory of one parameter, the host's own, and its way through the library.

use super::array::{Array, Dtype};
use super::handle::{Handle, Param};
use super::kind::Kind;
use super::random::Random;
use std::ops::Range;

/// One parameter and its state.
pub struct Tensors {
    pub param: Array,
    pub master: Option<Array>,
    pub exp_avg: Array,
    pub exp_avg_sq: Array,
    pub max_exp_avg_sq: Option<Array>,
}

impl Tensors {
    /// Every element random, the state's too: what no training would ever hold must step alike.
    pub fn random(kind: Kind, n: usize, random: &mut Random) -> Tensors {
        let compute = kind.param.compute();
        let tensors = Tensors {
            param: Array::random(kind.param, n, random),
            master: kind.master.then(|| Array::random(compute, n, random)),
            exp_avg: Array::random(compute, n, random),
            exp_avg_sq: second_moment(compute, n, random),
            max_exp_avg_sq: kind.amsgrad.then(|| second_moment(compute, n, random)),
        };
        let smallest = if compute == Dtype::F64 { 1 << 52 } else { 1 << 23 };
        let largest = tensors.max_exp_avg_sq.iter();
        for moment in [&tensors.exp_avg, &tensors.exp_avg_sq].into_iter().chain(largest) {
            (0..n).filter(|i| is_idle(*i)).for_each(|i| {
                moment.set_bits(i, random.next() % (2 * smallest));
            });
        }
        tensors
    }

    /// A gradient for these tensors, 0 where moments have fallen to the smallest numbers.
    pub fn random_grad(kind: Kind, n: usize, random: &mut Random) -> Array {
        let grad = Array::random(kind.grad, n, random);
        (0..n).filter(|i| is_idle(*i)).for_each(|i| grad.set_bits(i, 0));
        grad
    }

    /// A parameter at the start of its training: moments of zero, a master equal to it.
    pub fn fresh(kind: Kind, param: &Array) -> Tensors {
        let (n, compute) = (param.len(), kind.param.compute());
        Tensors {
            param: param.duplicate(),
            master: kind.master.then(|| Array::of(compute, &param.values())),
            exp_avg: Array::zeros(compute, n),
            exp_avg_sq: Array::zeros(compute, n),
            max_exp_avg_sq: kind.amsgrad.then(|| Array::zeros(compute, n)),
        }
    }

    /// Some elements of every tensor, each tensor at an alignment of its own; 0 aligns them all.
    pub fn copy(&self, range: Range<usize>, offset: usize) -> Tensors {
        let copy = |array: &Array, times: usize| array.copy(range.clone(), offset * times % 16);
        Tensors {
            param: copy(&self.param, 1),
            exp_avg: copy(&self.exp_avg, 3),
            exp_avg_sq: copy(&self.exp_avg_sq, 5),
            max_exp_avg_sq: self.max_exp_avg_sq.as_ref().map(|max| copy(max, 7)),
            master: self.master.as_ref().map(|master| copy(master, 9)),
        }
    }

    pub fn duplicate(&self) -> Tensors {
        self.copy(0..self.len(), 0)
    }

    pub fn len(&self) -> usize {
        self.param.len()
    }

    /// Adds the parameter with all of its state to a handle, as one that has taken `step` steps.
    pub fn add_to(&self, handle: &Handle, name: &str, step: u64) -> u32 {
        let param = Param {
            master: self.master.as_ref(),
            exp_avg: Some(&self.exp_avg),
            exp_avg_sq: Some(&self.exp_avg_sq),
            max_exp_avg_sq: self.max_exp_avg_sq.as_ref(),
            step,
            ..Param::new(name, &self.param)
        };
        handle.add(&param)
    }

    pub fn arrays(&self) -> impl Iterator<Item = (&'static str, &Array)> {
        let own = |name, array| Some((name, array));
        [
            own("param", &self.param),
            self.master.as_ref().and_then(|master| own("master", master)),
            own("exp_avg", &self.exp_avg),
            own("exp_avg_sq", &self.exp_avg_sq),
            self.max_exp_avg_sq.as_ref().and_then(|max| own("max_exp_avg_sq", max)),
        ]
        .into_iter()
        .flatten()
    }

    /// That both hold the same bits; `context` says which case it was.
    #[track_caller]
    pub fn assert_same(&self, expected: &Tensors, context: impl Fn() -> String) {
        for ((name, array), (_, expected)) in self.arrays().zip(expected.arrays()) {
            if let Some(difference) = array.first_difference(expected) {
                panic!("{}: {name}: {difference}", context());
            }
        }
    }
}

/// Whether an element has had no gradient for long.
fn is_idle(i: usize) -> bool {
    i % 16 == 7
}

/// Random elements, of which one in 64 may be negative: more would make NaN of most that follows.
fn second_moment(compute: Dtype, n: usize, random: &mut Random) -> Array {
    let array = Array::random(compute, n, random);
    for i in (0..n).filter(|i| i % 64 != 63) {
        array.set_bits(i, array.bits(i) & !(1 << (8 * compute.bytes() - 1)));
    }
    array
}
