//! How far the rows of a parameter lag behind its steps, where only the rows that a gradient lists
//! are stepped and the others catch up later.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::sys::memory::reserve;
use core::ops::Range;

/// How many steps the log of a parameter keeps. No row lags further behind, since every step
/// brings its share of the rows up to date.
pub const LOGGED: u64 = 1024;

/// The lag of each row. Steps are counted from when the lag was first kept.
pub struct Lag {
    /// By row: how many of the steps it has taken.
    taken: Vec<u64>,
    /// Steps there have been.
    steps: u64,
    row_elements: u64,
    /// Whose turn is next to be brought up to date.
    next: u64,
}

impl Lag {
    /// Rows that are all up to date.
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

    /// Steps there have been.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The steps that a row has yet to take.
    pub fn behind(&self, row: u64) -> Range<u64> {
        self.taken[row as usize]..self.steps
    }

    /// The rows whose turn it is: all of them come up in `LOGGED` turns.
    pub fn turn(&self) -> Range<u64> {
        self.next..(self.next + self.height().div_ceil(LOGGED)).min(self.height())
    }

    /// The rows whose turn it was are up to date.
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
