//! What a campaign has done.

use core::fmt;
use core::ops::AddAssign;

#[derive(Default, Clone, Copy)]
pub struct Counts {
    pub sequences: u64,
    pub calls: u64,
    pub steps: u64,
    pub skipped: u64,
    pub comparisons: u64,
    pub failed: u64,
    pub asides: u64,
    pub reloads: u64,
    pub begun: u64,
    pub captures: u64,
    pub replays: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.sequences += other.sequences;
        self.calls += other.calls;
        self.steps += other.steps;
        self.skipped += other.skipped;
        self.comparisons += other.comparisons;
        self.failed += other.failed;
        self.asides += other.asides;
        self.reloads += other.reloads;
        self.begun += other.begun;
        self.captures += other.captures;
        self.replays += other.replays;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Counts { sequences, calls, steps, skipped, comparisons, .. } = self;
        let Counts { failed, asides, reloads, begun, captures, replays, .. } = self;
        write!(
            f,
            "{calls} calls in {sequences} sequences: {steps} steps taken and {skipped} skipped, \
             {comparisons} comparisons of everything, {failed} calls that failed, {asides} asides, \
             {reloads} reloads, {begun} saves begun, {captures} captures, {replays} replays"
        )
    }
}
