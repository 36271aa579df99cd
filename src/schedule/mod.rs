//! Learning-rate schedules: their numbers (`terms.rs`), their formulas (`formula.rs`), and their
//! state.
//!
//! A `Schedule` is a `Node`, which may have inner nodes, and a `State`: an index, the learning rate
//! there, and the memory of `ReduceOnPlateau` (`plateau.rs`). The state has the same five numbers
//! for every schedule, because an inner schedule starts afresh where it takes over.
//!
//! `Schedule::new` checks the node and finds the learning rate at index 0. `next` and
//! `next_with_metric` return the state after this one and change nothing; the optimizer calls
//! `go_to` with it when its step has been taken. `at` returns the state at any index. Only
//! `set_state` takes a state from outside, and checks it. `write_words` (`text.rs`) is the schedule
//! as a checkpoint has it.
//!
//! `pow`, `exp` and `cos` are the pure Rust ones of `libm`, so that a learning rate has the same
//! bits everywhere.
#![forbid(unsafe_code)]

mod formula;
mod plateau;
mod terms;
mod text;

pub use terms::{CyclicMode, Kind, Node, Terms};

use crate::choice::choice;
use crate::error::Error;

choice! {
    /// The event that advances a schedule.
    pub enum Advance: "an ADAMW_ADVANCE constant, 0 or 1" {
        /// Each step that is taken.
        OnStep = 0, "on_step";
        /// A call of the host.
        Manually = 1, "manually";
    }
}

/// The state of a schedule: all that a checkpoint has to save.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct State {
    /// The number of times that it has advanced.
    pub index: u64,
    /// The learning rate at that index.
    pub lr: f64,
    /// The best metric so far, NaN before the first; only `ReduceOnPlateau` uses this and the rest.
    pub best: f64,
    /// The number of metrics since then that were no better.
    pub num_bad: u32,
    /// The number of metrics still to be passed over.
    pub cooldown: u32,
}

impl State {
    pub fn validate(&self) -> Result<(), Error> {
        let State { lr, best, .. } = *self;
        if !(lr.is_finite() && lr >= 0.0) {
            let expected = "a finite number >= 0";
            return Err(Error::Number { name: "state.lr", value: lr, expected });
        }
        if best.is_infinite() {
            let expected = "a finite number, or NaN for none";
            return Err(Error::Number { name: "state.best", value: best, expected });
        }
        Ok(())
    }
}

/// A schedule and its state.
pub struct Schedule {
    node: Node,
    advance: Advance,
    state: State,
}

impl Schedule {
    /// Returns a schedule at its first learning rate. Asks the host's function, if it starts with
    /// one.
    pub fn new(node: Node, advance: Advance) -> Result<Schedule, Error> {
        node.validate()?;
        let advance = if node.is_past_warmup(0) { Advance::Manually } else { advance };
        let lr = node.lr(0, f64::NAN)?;
        let state = State { index: 0, lr, best: f64::NAN, num_bad: 0, cooldown: 0 };
        Ok(Schedule { node, advance, state })
    }

    /// Returns the event that advances the schedule from its present index.
    pub fn advances(&self) -> Advance {
        if self.node.is_past_warmup(self.state.index) { Advance::Manually } else { self.advance }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Sets a state that has been found valid.
    pub fn go_to(&mut self, state: State) {
        self.state = state;
    }

    /// Returns the state at an index, as if the schedule had advanced `index` times from its start;
    /// the present state if it advances with a metric. Asks the host's function, and changes
    /// nothing.
    pub fn at(&self, index: u64) -> Result<State, Error> {
        if self.node.kind() == Kind::ReduceOnPlateau {
            return Ok(self.state);
        }
        const LONGEST_WALK: u64 = 1 << 24;
        let walks = self.node.goes_on();
        if walks && index > LONGEST_WALK {
            let (name, value) =
                ("the index of a schedule whose values go on from the last", index as f64);
            return Err(Error::Number { name, value, expected: "at most 2^24" });
        }
        let mut lr = f64::NAN;
        for index in if walks { 0 } else { index }..=index {
            lr = self.node.lr(index, lr)?;
        }
        Ok(State { index, lr, ..self.state })
    }

    /// Returns whether metrics decide the learning rate, not the index.
    pub fn goes_by_metrics(&self) -> bool {
        self.node.kind() == Kind::ReduceOnPlateau
    }

    /// Returns the state after this one. Asks the host's function, and changes nothing.
    pub fn next(&self) -> Result<State, Error> {
        if self.node.is_past_warmup(self.state.index) {
            return Err(Error::Schedule(
                "advances with a metric only: adamw_schedule_advance_with_metric takes it",
            ));
        }
        self.after(self.state)
    }

    /// Returns the state after another one. Asks the host's function.
    fn after(&self, state: State) -> Result<State, Error> {
        let index = state.index.saturating_add(1);
        let lr = self.node.lr(index, state.lr)?;
        Ok(State { index, lr, ..state })
    }

    /// Returns whether the learning rates of all coming steps follow from the present state.
    pub fn is_foreseen(&self) -> bool {
        self.advance == Advance::OnStep && self.node.is_foreseen()
    }

    /// Lists `n` learning rates from the present index on, or fewer if the next is none that a step
    /// can use.
    pub fn foresee(&self, n: usize, to: &mut Vec<f64>) {
        to.clear();
        let first = Some(self.state);
        let states = core::iter::successors(first, |state| self.after(*state).ok());
        to.extend(states.map(|state| state.lr).take(n));
    }

    /// Returns the state after this one and a metric. Changes nothing.
    pub fn next_with_metric(&self, metric: f64) -> Result<State, Error> {
        if self.node.kind() != Kind::ReduceOnPlateau {
            return Err(Error::Schedule(
                "takes no metric, as REDUCE_ON_PLATEAU alone does: adamw_schedule_advance \
                 advances it",
            ));
        }
        if !metric.is_finite() {
            let expected = "a finite number";
            return Err(Error::Number { name: "metric", value: metric, expected });
        }
        let next = plateau::next(self.node.terms(), self.state, metric);
        match self.node.is_past_warmup(self.state.index) {
            true => Ok(next),
            false => Ok(State { best: next.best, ..self.state }),
        }
    }
}
