//! Steps that some of the parameters take: a subset, or explicit pairs of parameter and gradient.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::sys::memory::reserve;
use crate::tensor::Tensor;

impl Optimizer {
    /// Steps the parameters of `selected` (all if `None`) without those of `left_out`. Calls
    /// `updated` for each that was stepped, with the count of those before it, its number and its
    /// gradient. Returns the count of all. If there are more than `most`, no step is taken.
    pub fn step_some(
        &mut self,
        selected: Option<impl Iterator<Item = u32> + Clone>,
        left_out: impl Iterator<Item = u32> + Clone,
        most: usize,
        mut updated: impl FnMut(usize, u32, Tensor),
    ) -> Result<usize, Error> {
        self.check_numbers(selected.clone().into_iter().flatten())?;
        self.check_numbers(left_out.clone())?;
        self.leave_out(selected.is_some());
        for number in selected.into_iter().flatten() {
            let id = self.params.id(number)?;
            self.params.revise_operands(id).set_left_out(false);
        }
        for number in left_out {
            let id = self.params.id(number)?;
            self.params.revise_operands(id).set_left_out(true);
        }
        // They are counted before the step, which uses up accumulated gradients.
        let wanted = self.stepped().count();
        let taken = if wanted > most {
            Err(Error::Count { name: "args.capacity", count: most, wanted })
        } else {
            self.step_then(|optimizer| {
                let stepped = optimizer.stepped().enumerate();
                stepped.for_each(|(i, (number, grad))| updated(i, number, grad));
            })
        };
        self.leave_out(false);
        taken?;
        Ok(if self.report()?.skipped { 0 } else { wanted })
    }

    /// Steps these parameters with these gradients, and no others. All gradients are afterwards
    /// what they were before. `entry` is as for `set_grads`.
    pub fn apply(
        &mut self,
        count: usize,
        entry: impl Fn(&Optimizer, usize) -> Result<(u32, Option<Tensor>), Error>,
    ) -> Result<(), Error> {
        let mut before = Vec::new();
        reserve(&mut before, count, "the gradients that were set")?;
        self.leave_out(true);
        let selected = (0..count).try_for_each(|i| {
            let (number, _) = entry(self, i)?;
            let id = self.params.id(number)?;
            let operands = self.params.revise_operands(id);
            if !operands.set_left_out(false) {
                return Err(Error::GivenTwice(self.params.label(id)));
            }
            before.push((id, operands.gradient()));
            Ok(())
        });
        let window = self.window; // goes on with the sums that come back
        let stepped =
            selected.and_then(|()| self.set_grads(count, entry)).and_then(|()| self.step());
        self.window = window;
        for (id, gradient) in before {
            self.params.revise_operands(id).put_gradient(gradient);
        }
        self.leave_out(false);
        stepped
    }

    /// Checks that there are parameters of these numbers.
    pub fn check_numbers(&self, mut numbers: impl Iterator<Item = u32>) -> Result<(), Error> {
        numbers.try_for_each(|number| self.params.id(number).map(|_| ()))
    }

    fn leave_out(&mut self, left_out: bool) {
        self.params.revise().operands.iter_mut().for_each(|operands| {
            operands.set_left_out(left_out);
        });
    }

    /// Returns the parameters that a step would step now, each with its gradient.
    fn stepped(&self) -> impl Iterator<Item = (u32, Tensor)> {
        let all = self.params.operands_of(&self.params.all());
        let stepped = (0..).zip(all).filter(|(_, operands)| operands.is_due());
        stepped.filter_map(|(number, operands)| Some((number, operands.given_grad()?)))
    }
}
