//! The lag of a parameter's rows behind its steps, where only the rows that a gradient lists are
//! stepped and the others catch up later.
//!
//! Each step calls `count_step` and then `mark_caught_up` for the rows that it steps. Before a row
//! is used, it takes the steps that it is `behind`, from the log of their scalars (`steps.rs`). The
//! log keeps `LOGGED` steps: so in each step some further rows catch up in turn (`turn`,
//! `end_turn`), and no row lags further than the log reaches.
#![forbid(unsafe_code)]

use super::Operands;
use super::operands::Rare;
use super::rows::RowIndex;
use crate::error::Error;
use crate::sys::memory::reserve;
use core::ops::Range;

/// The number of steps that the log of a parameter keeps. No row lags further behind, because every
/// step brings its share of the rows up to date.
pub const LOGGED: u64 = 1024;

/// The lag of each row. Steps are counted from when the lag was first kept.
pub struct Lag {
    /// The number of steps that each row has taken.
    taken: Vec<u64>,
    /// The number of steps of the parameter.
    steps: u64,
    row_elements: u64,
    /// The row whose turn to catch up is next.
    next: u64,
}

impl Lag {
    /// Returns the lag of rows that are all up to date.
    pub fn new(height: u64, row_elements: u64) -> Result<Lag, Error> {
        let mut taken = Vec::new();
        reserve(&mut taken, height as usize, "the steps that rows have taken")?;
        taken.resize(height as usize, 0);
        Ok(Lag { taken, steps: 0, row_elements, next: 0 })
    }

    pub fn row_elements(&self) -> u64 {
        self.row_elements
    }

    pub fn height(&self) -> u64 {
        self.taken.len() as u64
    }

    /// Returns the number of steps of the parameter.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Returns the steps that a row has yet to take.
    pub fn behind(&self, row: u64) -> Range<u64> {
        self.taken[row as usize]..self.steps
    }

    /// Returns the rows whose turn it is: every row has its turn within `LOGGED` turns.
    pub fn turn(&self) -> Range<u64> {
        self.next..(self.next + self.height().div_ceil(LOGGED)).min(self.height())
    }

    /// Marks the rows whose turn it is as up to date, and goes on to the next.
    pub fn end_turn(&mut self) {
        let turn = self.turn();
        self.taken[turn.start as usize..turn.end as usize].fill(self.steps);
        self.next = if turn.end == self.height() { 0 } else { turn.end };
    }

    pub fn mark_caught_up(&mut self, row: u64) {
        self.taken[row as usize] = self.steps;
    }

    pub fn mark_all_caught_up(&mut self) {
        self.taken.fill(self.steps);
    }

    /// Counts a step, which no row has taken yet.
    pub fn count_step(&mut self) {
        self.steps += 1;
    }
}

impl Operands {
    pub fn lag(&self) -> Option<&Lag> {
        self.rare.as_ref()?.lag.as_ref()
    }

    /// Returns the lag of the rows, to be changed, and the rows that were last read.
    pub fn lag_and_index(&mut self) -> Option<(&mut Lag, &RowIndex)> {
        let Rare { lag, index, .. } = &mut **self.rare.as_mut()?;
        Some((lag.as_mut()?, index))
    }

    /// Lets rows lag from now on.
    pub fn set_lag(&mut self, lag: Lag) -> Result<(), Error> {
        self.rare()?.lag = Some(lag);
        Ok(())
    }

    /// Lets no row lag from now on.
    pub fn forget_lag(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.lag = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_lags_further_than_the_log_reaches() {
        for height in [1, 5, 1023, 1024, 1025, 5000] {
            let mut lag = Lag::new(height, 4).unwrap();
            for _ in 0..3 * LOGGED {
                for row in lag.turn() {
                    let behind = lag.behind(row);
                    assert!(behind.end - behind.start <= LOGGED, "{height} rows");
                }
                lag.end_turn();
                lag.count_step();
            }
            let behind =
                (0..height).map(|row| lag.behind(row)).map(|steps| steps.end - steps.start);
            assert!(behind.max() <= Some(LOGGED), "{height} rows");
        }
    }
}
