//! Steps that a graph has recorded, and takes again.

use crate::call::{Aside, Call, Spoiled};
use crate::common::array::Array;
use crate::common::device::Graph;
use crate::common::inputs::Input;
use crate::common::model::{Grad, Model, Verdict};
use crate::more::More;
use crate::side::{Held, Side};
use crate::world::World;
use adamw::ffi::*;

/// A step of the twin that can be replayed, and what it steps: the plain handle applies the same.
pub struct Captured {
    graph: Graph,
    twins: Vec<Held>,
    plains: Vec<(u32, Held)>,
    /// The gradients that the step does not use and clears all the same.
    cleared: Vec<(u32, Held)>,
    /// What groups and the parameters that are stepped were told then.
    groups: Vec<adamw_group_config>,
    options: Vec<(u32, adamw_param_options)>,
    /// Its learning rates are those of the schedule.
    follows: bool,
}

impl Captured {
    /// What the plain handle had for gradients.
    fn grads(&self) -> impl Iterator<Item = &(u32, Held)> {
        self.plains.iter().chain(&self.cleared)
    }
}

/// Whether a graph may be launched after a call like this, whichever parameters it names.
pub fn keeps_graph(call: &Call) -> bool {
    match call {
        Call::Aside(aside) => !moves(aside),
        Call::AddGroup(_)
        | Call::SetGroup(..)
        | Call::AddParam { .. }
        | Call::Options { .. }
        | Call::Reset(_)
        | Call::Write { .. }
        | Call::SyncMaster(_)
        | Call::SetState { .. }
        | Call::SetSteps { .. }
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
        | Call::Begin { .. }
        | Call::EndBegun { .. }
        | Call::Load { .. }
        | Call::Replay
        | Call::Spoil { .. }
        | Call::Compare => true,
        _ => false,
    }
}

/// Whether an aside takes away what a graph goes on with.
pub fn moves(aside: &Aside) -> bool {
    matches!(aside, Aside::Rebind(_) | Aside::Park(_) | Aside::Read(_) | Aside::TellScale(_))
}

impl World {
    pub fn use_graph(&mut self, call: &Call) -> bool {
        match call {
            Call::Capture { schedule } => self.capture(*schedule),
            Call::Replay => self.replay(),
            Call::Spoil { which, replays } => self.spoil(*which, *replays),
            _ => return false,
        }
        true
    }

    /// Records a step of the twin, and launches it once; the other handle steps.
    pub fn capture(&mut self, schedule: u8) {
        self.drop_graph();
        if !self.twin.is_all_on_device() || self.model.config.nonfinite == ADAMW_NONFINITE_FAIL {
            return;
        }
        if schedule > 0 {
            self.make(&Call::SetSchedule(schedule));
        }
        self.leave_what_can_be_captured();
        let is_due = |model: &Model| model.live().any(|i| model.params[i].is_stepped());
        if !is_due(&self.model) {
            self.make(&Call::SetGrad { param: u8::MAX, seed: 1, spoiled: Spoiled::Not });
        }
        if !is_due(&self.model) {
            return;
        }
        self.before_a_step();
        let follows = self.model.schedule.is_some();
        self.twin.read_lr_there(!follows);
        self.write_inputs();
        if !self.has_lr_there(follows) || self.twin.handle.prepare().is_err() {
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
        let twins = twins.into_iter().map(|(_, held)| held).collect();
        let [plains, cleared] = [&due, &frozen].map(|numbers| hold(&self.plain, numbers));
        self.twin.stream().launch(&graph);
        self.twin.stream().wait();
        self.plain.handle.step();
        self.model = after;
        self.count(verdict);
        self.counts.captures += 1;
        self.counts.calls += 1;
        let options = due.iter().map(|n| (*n, self.model.params[*n as usize].options)).collect();
        let groups = self.model.groups.clone();
        self.graph = Some(Captured { graph, twins, plains, cleared, groups, options, follows });
    }

    /// Whether a launch finds a learning rate on the device.
    fn has_lr_there(&self, follows: bool) -> bool {
        match &self.model.schedule {
            Some(schedule) => follows && !schedule.manual,
            None => !follows && self.twin.reads_lr_there(),
        }
    }

    /// What makes the host wait, or ask, is taken back, and gradients take the place of sums.
    fn leave_what_can_be_captured(&mut self) {
        if self.model.schedule.as_ref().is_some_and(|schedule| schedule.manual) {
            self.make(&Call::SetSchedule(0));
        }
        for call in [Call::SetRatio(0), Call::SetFlag(None), Call::RemoveScaler] {
            self.make(&call);
        }
        let numbers: Vec<usize> = self.model.live().collect();
        for number in numbers {
            if let Some(Grad::Sum(..)) = self.model.params[number].grad {
                let grad = self.new_grad(number as u32, number as u64, Spoiled::Not);
                self.tell(true, |side| side.set_grad(number as u32, &grad, false));
                self.model.params[number].grad = Some(Grad::Dense(grad.values()));
            }
        }
    }

    /// Launches what was recorded once more; the other handle applies the same gradients.
    pub fn replay(&mut self) {
        if self.graph.is_some() {
            self.write_inputs();
        }
        self.launch_again();
    }

    /// The same with the numbers that are there.
    pub fn launch_again(&mut self) {
        let Some(mut captured) = self.graph.take() else { return };
        let finite = self.model.nonfinite();
        let has_sum = |(number, _): &(u32, Held)| {
            matches!(self.model.params[*number as usize].grad, Some(Grad::Sum(..)))
        };
        // The twin would go on waiting for the step that the plain handle takes.
        let is_alone = |(number, _): &(u32, Held)| self.model.params[*number as usize].alone;
        let plains = &captured.plains;
        let is_sparse = plains.iter().any(|(_, held)| held.is_sparse());
        let is_sound =
            |(_, held): &(u32, Held)| held.values.array().values().iter().all(|g| g.is_finite());
        if finite == ADAMW_NONFINITE_PROPAGATE && !plains.iter().all(is_sound)
            || is_sparse && plains.iter().any(has_sum) // which could not be set again
            || plains.iter().any(is_alone)
            // A launch reads nothing of the host's, which refuses the plain step.
            || self.model.groups.iter().any(|group| self.model.current(group).is_none())
            || !self.has_lr_there(captured.follows)
        {
            self.graph = Some(captured);
            return self.drop_graph();
        }
        let grads = plains.iter().map(|(number, held)| (*number as usize, held.grad())).collect();
        self.swap_told(&mut captured);
        let (verdict, plains) = (self.model.apply(grads), &captured.plains);
        if is_sparse {
            self.plain.step_with(plains).unwrap();
        } else {
            let tensors = plains.iter().map(|(number, held)| (*number, held.values.tensor()));
            self.plain.handle.apply_tensors(&tensors.collect::<Vec<_>>()).unwrap();
        }
        self.swap_told(&mut captured);
        self.twin.stream().launch(&captured.graph);
        self.twin.stream().wait();
        self.count(verdict);
        self.counts.replays += 1;
        self.counts.calls += 1;
        for (_, held) in &captured.cleared {
            let grad = held.values.array();
            held.values.set(&Array::zeros(grad.dtype(), grad.len()));
        }
        if self.model.config.clear_grads == 1 {
            for (number, held) in captured.grads() {
                if self.plain.has_grad_at(*number, &held.values) {
                    self.model.params[*number as usize].grad = Some(held.grad());
                }
            }
        }
        self.graph = Some(captured);
        self.is_replayed = true;
    }

    /// The graph goes on with what was told before it was captured: the plain handle is told that
    /// again, or what has been told since.
    fn swap_told(&mut self, captured: &mut Captured) {
        let handle = &self.plain.handle;
        for ((number, then), now) in (0..).zip(&mut captured.groups).zip(&mut self.model.groups) {
            core::mem::swap(then, now);
            handle.set_group(number, now).unwrap();
        }
        for (number, then) in &mut captured.options {
            let now = &mut self.model.params[*number as usize].options;
            core::mem::swap(then, now);
            handle.set_options(*number, now).unwrap();
        }
    }

    /// Whether the graph may still be launched after a call like this: what it has been captured
    /// with must stay.
    pub fn keep_graph(&mut self, call: &Call) {
        let Some(captured) = &self.graph else { return };
        let keeps = match call {
            Call::Remove(byte) => {
                let number = self.param(*byte).0;
                captured.grads().all(|(of, _)| *of != number)
            }
            Call::SetGradScale(_) => self.twin.there.reads(Input::GradScale),
            Call::SetSchedule(_) | Call::SetIndex(_) => captured.follows,
            _ => keeps_graph(call),
        };
        if !keeps {
            self.drop_graph();
        }
    }

    pub fn drop_graph(&mut self) {
        if let Some(Captured { graph, twins, plains, cleared, .. }) = self.graph.take() {
            drop(graph);
            twins.into_iter().for_each(|held| self.twin.let_go(held));
            let grads = plains.into_iter().chain(cleared);
            grads.for_each(|(_, held)| self.plain.let_go(held));
        }
    }
}
