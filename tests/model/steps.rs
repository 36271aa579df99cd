//! Calls that step, and what goes before.

use crate::call::{Call, Spoiled};
use crate::common::array::Array;
use crate::common::model::{Grad, Verdict};
use crate::side::Side;
use crate::world::World;
use adamw::ffi::*;

impl World {
    pub fn take_step(&mut self, call: &Call) -> bool {
        match call {
            Call::Step => {
                self.before_a_step();
                let mut after = self.model.clone();
                let verdict = after.step();
                if self.tell(verdict != Verdict::Refused, Side::step).is_some() {
                    self.model = after;
                    self.count(verdict);
                }
            }
            Call::StepParam(param) => {
                let (number, is_there) = self.param(*param);
                self.before_a_step();
                let mut after = self.model.clone();
                let i = number as usize;
                let is_good =
                    is_there && !after.conflicts(i) && after.step_one(i) != Verdict::Refused;
                if self.tell(is_good, |side| side.step_param(number)).is_some() {
                    self.model = after;
                    self.counts.steps += 1;
                }
            }
            Call::Minimize { params, left_out, grad, seed } => {
                self.minimize(params.as_deref(), left_out, *grad, *seed)
            }
            Call::Apply { params, seed } => {
                let numbers = self.params(params);
                let grads: Vec<(u32, Array)> = numbers
                    .iter()
                    .zip(*seed..)
                    .map(|(&number, seed)| (number, self.new_grad(number, seed, Spoiled::Not)))
                    .collect();
                self.before_a_step();
                let dense = |grad: &Array| Grad::Dense(grad.values());
                let values =
                    grads.iter().map(|(number, grad)| (*number as usize, dense(grad))).collect();
                let mut after = self.model.clone();
                let verdict = after.apply(values);
                let is_good = verdict != Verdict::Refused;
                if self.tell(is_good, |side| side.apply(&grads)).is_some() {
                    self.model = after;
                    self.count(verdict);
                }
            }
            _ => return false,
        }
        true
    }

    pub fn minimize(&mut self, params: Option<&[u8]>, left_out: &[u8], grad: u8, seed: u64) {
        let params = params.map(|params| self.params(params));
        let left_out = self.params(left_out);
        let (number, is_there) = self.param(grad);
        if !is_there {
            return;
        }
        self.before_a_step();
        let grad = self.new_grad(number, seed, Spoiled::Not);
        let mut after = self.model.clone();
        after.params[number as usize].grad = Some(Grad::Dense(grad.values()));
        let set = after.clone();
        let asked: Vec<usize> = after
            .live()
            .filter(|i| params.as_ref().is_none_or(|params| params.contains(&(*i as u32))))
            .filter(|i| !left_out.contains(&(*i as u32)))
            .collect();
        let stepped: Vec<u32> =
            asked.iter().filter(|i| after.params[**i].is_stepped()).map(|i| *i as u32).collect();
        let verdict = after.step_those(&asked);
        let is_good = verdict != Verdict::Refused;
        let done =
            self.tell(is_good, |side| side.minimize(params.as_deref(), &left_out, (number, &grad)));
        match done {
            Some(updated) => {
                if verdict == Verdict::Taken {
                    assert_eq!(updated, stepped, "what was stepped");
                }
                self.model = after;
                self.count(verdict);
            }
            // The closure has set the gradient, and no step was taken.
            None => {
                if is_good {
                    self.plain.set_grad(number, &grad, false).unwrap();
                }
                self.model = set;
            }
        }
    }

    /// Nothing that is not finite is stepped with.
    pub fn forget_what_would_propagate(&mut self) {
        if self.model.nonfinite() != ADAMW_NONFINITE_PROPAGATE {
            return;
        }
        let numbers: Vec<usize> = self.model.live().collect();
        for number in numbers {
            let param = &mut self.model.params[number];
            if param.grad.is_some() && !param.is_finite() {
                param.grad = None;
                self.tell(true, |side| side.forget(number as u32));
            }
        }
    }

    pub fn before_a_step(&mut self) {
        self.forget_what_would_propagate();
        self.write_inputs();
    }

    pub fn count(&mut self, verdict: Verdict) {
        self.is_replayed = false;
        self.counts.steps += u64::from(verdict == Verdict::Taken);
        self.counts.skipped += u64::from(verdict == Verdict::Skipped);
    }
}
