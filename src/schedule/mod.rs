//! Learning-rate schedules: what to compute (`terms.rs`), how (`formula.rs`), and how far one has
//! come. A schedule's state is four numbers, whatever it is made of, since an inner schedule starts
//! afresh where it takes over.
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
    /// When a schedule goes on.
    pub enum Advance: "an ADAMW_ADVANCE constant, 0 or 1" {
        /// After every step that was taken.
        OnStep = 0, "on_step";
        /// When the host says so.
        Manually = 1, "manually";
    }
}

/// How far a schedule has come: all there is to save.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct State {
    /// How often it has advanced.
    pub index: u64,
    /// The learning rate at that index.
    pub lr: f64,
    /// The best metric so far, NaN before the first; only `ReduceOnPlateau` uses this and the rest.
    pub best: f64,
    /// Metrics since then that were no better.
    pub num_bad: u32,
    /// Metrics still to be passed over.
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

/// A schedule under way.
pub struct Schedule {
    node: Node,
    advance: Advance,
    state: State,
}

impl Schedule {
    /// At its first learning rate. Asks the host's function, if the schedule starts with one.
    pub fn new(node: Node, advance: Advance) -> Result<Schedule, Error> {
        node.validate()?;
        let advance = if node.is_past_warmup(0) { Advance::Manually } else { advance };
        let lr = node.lr(0, f64::NAN)?;
        let state = State { index: 0, lr, best: f64::NAN, num_bad: 0, cooldown: 0 };
        Ok(Schedule { node, advance, state })
    }

    pub fn advances(&self) -> Advance {
        if self.node.is_past_warmup(self.state.index) { Advance::Manually } else { self.advance }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Goes to a state that was saved.
    pub fn set_state(&mut self, state: State) -> Result<(), Error> {
        state.validate()?;
        self.state = state;
        Ok(())
    }

    /// Goes to a state that `next` gave.
    pub fn go_to(&mut self, state: State) {
        self.state = state;
    }

    /// The state at an index, as if it had advanced so often from its start; of one that advances with a
    /// metric, this state. Asks the host's function; changes nothing.
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

    /// Whether metrics decide where it goes, not the index.
    pub fn goes_by_metrics(&self) -> bool {
        self.node.kind() == Kind::ReduceOnPlateau
    }

    /// The state after this one. Asks the host's function; changes nothing.
    pub fn next(&self) -> Result<State, Error> {
        if self.node.is_past_warmup(self.state.index) {
            return Err(Error::Schedule("advances with a metric only"));
        }
        let index = self.state.index.saturating_add(1);
        let lr = self.node.lr(index, self.state.lr)?;
        Ok(State { index, lr, ..self.state })
    }

    /// The state after this one, if this was the metric.
    pub fn next_with_metric(&self, metric: f64) -> Result<State, Error> {
        if self.node.kind() != Kind::ReduceOnPlateau {
            return Err(Error::Schedule("takes no metric: only REDUCE_ON_PLATEAU does"));
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
