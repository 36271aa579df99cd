//! Lengths laid end to end and cut into tasks of one size, each of which is claimed once.
//!
//! So ten thousand small tensors and one large one are the same work, split by size and not by
//! tensor, and a thread that comes late leaves its tasks to the others.
//!
//! `Plan::lay_out` takes the length of each parameter's part, keeps where each part ends, and
//! returns a `Line`. `Line::claim_task` counts up to the next task and finds its parameters by
//! binary search: those that are whole in it, and a `Piece` of each of the two that may be cut.
//! `claim` calls back with a piece of each. Cuts inside a parameter are
//! moved up to a multiple of `GRAIN`, by the same rule at the end of one task and at the start of
//! the next, so that pieces neither overlap nor leave gaps. `Plan::line` is the last line again,
//! with no task claimed.
//!
//! Where work waits for its input, `close` leaves no task to claim, and each `open_next` then some
//! after those before.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::sys::memory::{give_back, reserve};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Cuts inside a parameter lie at a multiple of this many elements from its start: whole blocks of
/// 8-bit codes, and whole cache lines.
const GRAIN: u64 = 256;

/// The end of each parameter's part of the line, kept between steps for its memory alone.
#[derive(Default)]
pub struct Plan {
    ends: Vec<u64>,
}

impl Plan {
    /// Makes room for `n_params` parameters, so that a step allocates nothing.
    pub fn reserve(&mut self, n_params: usize) -> Result<(), Error> {
        let missing = n_params.saturating_sub(self.ends.len());
        reserve(&mut self.ends, missing, "the step's plan")
    }

    /// Gives memory back that `n_params` parameters do not need.
    pub fn give_back(&mut self, n_params: usize) {
        give_back(&mut self.ends, n_params);
    }

    /// Returns the part of the line that is a parameter's.
    pub(super) fn part(&self, param: usize) -> Range<usize> {
        let start = if param == 0 { 0 } else { self.ends[param - 1] };
        start as usize..self.ends[param] as usize
    }

    /// Lays out a length for each parameter (0 if it has no part), in units of `unit` elements, and
    /// cuts the line into tasks of `task_length(whole length)` units.
    pub(super) fn lay_out(
        &mut self,
        lengths: impl Iterator<Item = u64>,
        unit: u64,
        task_length: impl FnOnce(u64) -> u64,
    ) -> Line<'_> {
        let mut length = 0;
        self.ends.clear();
        self.ends.extend(lengths.map(|part| {
            length += part;
            length
        }));
        self.line(unit, task_length)
    }

    /// Returns the line as it was last laid out.
    pub(super) fn line(&self, unit: u64, task_length: impl FnOnce(u64) -> u64) -> Line<'_> {
        let length = self.ends.last().copied().unwrap_or(0);
        let task_length = task_length(length);
        let n_tasks = length.div_ceil(task_length);
        let grain = GRAIN.div_ceil(unit);
        Line {
            ends: &self.ends,
            length,
            unit,
            task_length,
            open: 0..n_tasks,
            next_task: AtomicU64::new(0),
            is_shared: AtomicBool::new(false),
            grain,
        }
    }
}

/// Tasks of a piece, which threads share.
const TASKS_OF_PIECE: u64 = 16;

/// Work on a line that goes on piece by piece.
pub trait InPieces {
    /// As `Line::close`.
    fn close(&mut self, n_elements: u64);
    /// As `Line::open_next`. Returns how far the tasks reach; `None` if none is left.
    fn open_next(&mut self, n_elements: u64) -> Option<Reach>;
}

/// How far the tasks of a line reach that may be claimed.
pub struct Reach {
    /// The parameter that they reach into; the number of all if they end with the last.
    pub param: usize,
    /// The elements of it that they do not go beyond.
    pub at_most: u64,
    /// The elements of it behind which nothing is left to do once they are done.
    pub at_least: u64,
}

/// A line to claim tasks of.
pub struct Line<'a> {
    ends: &'a [u64],
    length: u64,
    /// Elements in a unit of length.
    unit: u64,
    task_length: u64,
    /// The tasks that may be claimed.
    open: Range<u64>,
    next_task: AtomicU64,
    /// Whether other threads claim tasks, too.
    is_shared: AtomicBool,
    grain: u64,
}

/// Part of one parameter, which no other piece of the line meets.
pub(super) struct Piece {
    pub param: usize,
    pub range: Range<u64>,
    /// The start of the piece on the line.
    pub position: u64,
}

/// A task: the parameters that are whole in it, and what it has of those before and behind that are
/// cut.
pub(super) struct Task {
    pub head: Option<Piece>,
    pub whole: Range<usize>,
    pub tail: Option<Piece>,
}

impl Line<'_> {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Returns the number of elements of the tasks that may be claimed.
    pub fn n_elements(&self) -> u64 {
        let start = self.open.start * self.task_length;
        (self.open_end() - start).saturating_mul(self.unit)
    }

    /// Returns the number of tasks that may be claimed.
    pub fn n_tasks(&self) -> u64 {
        self.open.end - self.open.start
    }

    /// Leaves no task to claim. Tasks become short enough for threads to share so many elements.
    pub fn close(&mut self, n_elements: u64) {
        let shared = (n_elements / self.unit / TASKS_OF_PIECE).next_multiple_of(self.grain);
        self.task_length = self.task_length.min(shared.max(self.grain));
        self.open = 0..0;
    }

    /// Leaves only tasks to claim that come after those that were, all of which have been: about so
    /// many elements. Returns false if there are none.
    pub fn open_next(&mut self, n_elements: u64) -> bool {
        let n_tasks = (n_elements / self.unit).div_ceil(self.task_length).max(1);
        let start = self.open.end;
        let end = start.saturating_add(n_tasks).min(self.length.div_ceil(self.task_length));
        self.open = start..end;
        *self.next_task.get_mut() = start;
        start < end
    }

    /// Returns the position at which the tasks end that may be claimed.
    fn open_end(&self) -> u64 {
        self.open.end.saturating_mul(self.task_length).min(self.length)
    }

    /// Returns the parameter in which the tasks end that may be claimed, and how many of its units
    /// are before that.
    pub(super) fn end(&self) -> (usize, u64) {
        let position = self.open_end();
        if position == self.length {
            return (self.ends.len(), 0);
        }
        let param = self.ends.partition_point(|&end| end <= position);
        let start = self.start(param);
        let length = position - start;
        (param, length.next_multiple_of(self.grain).min(self.ends[param] - start))
    }

    /// Tells the line that other threads are going to claim tasks, too.
    pub fn share(&self) {
        self.is_shared.store(true, Ordering::Relaxed);
    }

    /// Returns whether any task has been claimed.
    pub fn started(&self) -> bool {
        self.next_task.load(Ordering::Relaxed) > self.open.start
    }

    /// Claims a task and calls `each` with its pieces; returns false if no task is left.
    pub(super) fn claim(&self, each: impl FnMut(Piece)) -> bool {
        let Some(Task { head, whole, tail }) = self.claim_task() else { return false };
        let whole = whole.filter_map(|param| self.whole(param));
        head.into_iter().chain(whole).chain(tail).for_each(each);
        true
    }

    /// Claims a task; `None` if none is left. The counter need not order memory: starting threads
    /// lets them see that the line is shared, and joining them afterwards lets the caller see what
    /// they wrote.
    pub(super) fn claim_task(&self) -> Option<Task> {
        let task = if self.is_shared.load(Ordering::Relaxed) {
            self.next_task.fetch_add(1, Ordering::Relaxed)
        } else {
            // A thread that is alone does without the bus lock, which waits for all earlier writes.
            let task = self.next_task.load(Ordering::Relaxed);
            self.next_task.store(task + 1, Ordering::Relaxed);
            task
        };
        if task >= self.open.end {
            return None;
        }
        let start = task * self.task_length;
        let end = (start + self.task_length).min(self.length);
        let [first, behind] = [start, end].map(|at| self.ends.partition_point(|end| *end <= at));
        let is_cut = start > self.start(first);
        let head = is_cut.then(|| self.piece(first, start..end.min(self.ends[first]))).flatten();
        let whole = first + is_cut as usize..behind;
        let has_tail = behind >= whole.start && behind < self.ends.len();
        let tail = has_tail.then(|| self.piece(behind, self.start(behind)..end)).flatten();
        Some(Task { head, whole, tail })
    }

    /// Returns all of a parameter's part, if it has one.
    pub(super) fn whole(&self, param: usize) -> Option<Piece> {
        self.piece(param, self.start(param)..self.ends[param])
    }

    /// Returns the position at which a parameter's part starts.
    fn start(&self, param: usize) -> u64 {
        if param == 0 { 0 } else { self.ends[param - 1] }
    }

    /// Returns the piece of a parameter between two positions in its part, which are moved to where
    /// it may be cut; `None` if nothing is left.
    fn piece(&self, param: usize, positions: Range<u64>) -> Option<Piece> {
        let (start, length) = (self.start(param), self.ends[param] - self.start(param));
        let cut = |position: u64| match position - start {
            0 => 0, // a division is slow, and most parameters are not cut at all
            inside if inside == length => length,
            inside => inside.next_multiple_of(self.grain).min(length),
        };
        let range = cut(positions.start)..cut(positions.end);
        (!range.is_empty()).then_some(Piece { param, position: start + range.start, range })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_every_parameter_is_in_one_piece() {
        for task_length in [1, 2, 3, 7, 100] {
            let lengths = [0, 5, 0, 0, 1, 700, 0];
            let mut plan = Plan::default();
            let line = plan.lay_out(lengths.into_iter(), 1, |_| task_length);
            let mut covered = lengths.map(|length| vec![0; length as usize]);
            while line.claim(|piece| {
                assert!(!piece.range.is_empty());
                assert!(piece.range.start.is_multiple_of(GRAIN));
                for unit in piece.range {
                    covered[piece.param][unit as usize] += 1;
                }
            }) {}
            assert!(covered.iter().flatten().all(|&times| times == 1), "{covered:?}");
        }
    }
}
