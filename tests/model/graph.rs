//! Steps that a graph has recorded, and takes again.

use crate::call::{Call, Spoiled};
use crate::common::array::Array;
use crate::common::device::Graph;
use crate::common::model::{Grad, Verdict};
use crate::common::place::Place;
use crate::more::More;
use crate::side::Side;
use crate::world::World;
use adamw::ffi::*;
use std::rc::Rc;

/// A step of the twin that can be replayed, and what it steps: the plain handle applies the same.
pub struct Captured {
    graph: Graph,
    twins: Vec<Rc<Place>>,
    plains: Vec<(u32, Rc<Place>)>,
    /// The gradients that the step does not use and clears all the same.
    cleared: Vec<(u32, Rc<Place>)>,
}

impl Captured {
    /// What the plain handle had for gradients.
    fn grads(&self) -> impl Iterator<Item = &(u32, Rc<Place>)> {
        self.plains.iter().chain(&self.cleared)
    }
}

impl World {
    pub fn use_graph(&mut self, call: &Call) -> bool {
        match call {
            Call::Capture => self.capture(),
            Call::Replay => self.replay(),
            _ => return false,
        }
        true
    }

    /// Records a step of the twin, and launches it once; the other handle steps.
    pub fn capture(&mut self) {
        self.drop_graph();
        if !self.twin.is_all_on_device() || self.model.config.nonfinite == ADAMW_NONFINITE_FAIL {
            return;
        }
        self.leave_what_can_be_captured();
        if !self.model.live().any(|i| self.model.params[i].is_stepped()) {
            return;
        }
        self.before_a_step();
        self.twin.read_lr_there(true);
        self.twin.write_lr(self.model.lr());
        if !self.twin.reads_lr_there() || self.twin.handle.prepare().is_err() {
            return;
        }
        let mut after = self.model.clone();
        let (due, frozen): (Vec<u32>, Vec<u32>) = after
            .live()
            .filter(|i| after.params[*i].grad.is_some())
            .map(|i| i as u32)
            .partition(|i| after.params[*i as usize].is_stepped());
        let frozen = if after.config.clear_grads == 1 { frozen } else { Vec::new() };
        let verdict = after.step();
        self.twin.set_stream();
        let recorded = core::cell::Cell::new(None);
        let graph = {
            let handle = &self.twin.handle;
            self.twin.stream().capture(|| recorded.set(Some(handle.try_step())))
        };
        if recorded.take().unwrap().is_err() {
            return;
        }
        self.captured.extend(&due);
        if verdict == Verdict::Refused {
            return;
        }
        let hold = |side: &Side, numbers: &[u32]| {
            numbers.iter().map(|n| (*n, side.hold_grad(*n))).collect::<Vec<_>>()
        };
        let twins = hold(&self.twin, &[&due[..], &frozen[..]].concat());
        let twins = twins.into_iter().map(|(_, place)| place).collect();
        let [plains, cleared] = [&due, &frozen].map(|numbers| hold(&self.plain, numbers));
        self.twin.stream().launch(&graph);
        self.twin.stream().wait();
        self.plain.handle.step();
        self.model = after;
        self.count(verdict);
        self.counts.captures += 1;
        self.counts.calls += 1;
        self.graph = Some(Captured { graph, twins, plains, cleared });
    }

    /// What makes the host wait, or ask, is taken back, and all gradients are dense.
    fn leave_what_can_be_captured(&mut self) {
        for call in [
            Call::SetSchedule(0),
            Call::SetRatio(0),
            Call::SetFlag(None),
            Call::RemoveScaler,
            Call::SetStatistics(false),
        ] {
            self.make(&call);
        }
        let numbers: Vec<usize> = self.model.live().collect();
        for number in numbers {
            if let Some(Grad::Sum(..) | Grad::Rows(..)) = self.model.params[number].grad {
                let grad = self.new_grad(number as u32, number as u64, Spoiled::Not);
                self.tell(true, |side| side.set_grad(number as u32, &grad, false));
                self.model.params[number].grad = Some(Grad::Dense(grad.values()));
            }
        }
    }

    /// Launches what was recorded once more; the other handle applies the same gradients.
    pub fn replay(&mut self) {
        let Some(captured) = self.graph.take() else { return };
        let (lr, finite) = (self.model.lr(), self.model.nonfinite());
        let grads: Vec<(u32, Array)> =
            captured.plains.iter().map(|(number, place)| (*number, place.array())).collect();
        let is_sound = |grad: &Array| grad.values().iter().all(|g| g.is_finite());
        self.twin.write_lr(lr);
        if finite == ADAMW_NONFINITE_PROPAGATE && !grads.iter().all(|(_, grad)| is_sound(grad))
            || !self.twin.reads_lr_there()
        {
            self.graph = Some(captured);
            return self.drop_graph();
        }
        let values: Vec<_> =
            grads.iter().map(|(number, grad)| (*number as usize, grad.values())).collect();
        let verdict = self.model.apply(&values);
        let tensors: Vec<_> =
            captured.plains.iter().map(|(number, place)| (*number, place.tensor())).collect();
        self.plain.handle.apply_tensors(&tensors).unwrap();
        self.twin.stream().launch(&captured.graph);
        self.twin.stream().wait();
        self.count(verdict);
        self.counts.replays += 1;
        self.counts.calls += 1;
        for (_, place) in &captured.cleared {
            let grad = place.array();
            place.set(&Array::zeros(grad.dtype(), grad.len()));
        }
        if self.model.config.clear_grads == 1 {
            for (number, place) in captured.grads() {
                if self.plain.has_grad_at(*number, place) {
                    let param = &mut self.model.params[*number as usize];
                    param.grad = Some(Grad::Dense(vec![0.0; param.param.len()]));
                }
            }
        }
        self.graph = Some(captured);
        self.is_replayed = true;
    }

    /// Whether the graph may still be launched after a call like this: what it has been captured with must
    /// stay.
    pub fn keep_graph(&mut self, call: &Call) {
        let Some(captured) = &self.graph else { return };
        let keeps = match call {
            Call::Remove(byte) => {
                let number = self.param(*byte).0;
                captured.grads().all(|(of, _)| *of != number)
            }
            Call::AddGroup(_)
            | Call::AddParam { .. }
            | Call::SetLr(_)
            | Call::SetGrad { .. }
            | Call::SetRows { .. }
            | Call::Accumulate { .. }
            | Call::Forget(_)
            | Call::ClearGrad { .. }
            | Call::Step
            | Call::StepParam(_)
            | Call::Minimize { .. }
            | Call::Apply { .. }
            | Call::Save
            | Call::Replay
            | Call::Aside(_)
            | Call::Compare => true,
            _ => false,
        };
        if !keeps {
            self.drop_graph();
        }
    }

    pub fn drop_graph(&mut self) {
        if let Some(Captured { graph, twins, plains, cleared }) = self.graph.take() {
            drop(graph);
            twins.into_iter().for_each(|place| self.twin.let_go(place));
            let grads = plains.into_iter().chain(cleared);
            grads.for_each(|(_, place)| self.plain.let_go(place));
        }
    }
}
