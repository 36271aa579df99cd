//! What a step changes, added up where it is asked for: block by block for a parameter that is
//! stepped as a whole, row by row for listed rows.

use super::{Extent, Operands};
use crate::error::Error;
use crate::norm;
use crate::sys::memory::{give_back, reserve};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// The sums of one block or row: the bits of f64s.
#[derive(Default)]
pub struct Change {
    update: AtomicU64,
    param: AtomicU64,
    n_unchanged: AtomicU64,
}

/// Sums of squares: of what was added to elements, and of the elements as they are then.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Squares {
    pub update: f64,
    pub param: f64,
    /// Elements that were to be changed and are what they were.
    pub n_unchanged: u64,
}

impl Change {
    pub fn set(&self, squares: Squares) {
        self.update.store(squares.update.to_bits(), Ordering::Relaxed);
        self.param.store(squares.param.to_bits(), Ordering::Relaxed);
        self.n_unchanged.store(squares.n_unchanged, Ordering::Relaxed);
    }
}

/// The sums of a pass; kept between steps for its memory alone.
#[derive(Default)]
pub struct Changes {
    units: Vec<Change>,
    /// By number, how many units each parameter has at most.
    most: Vec<u64>,
    /// All of those.
    n_units: u64,
}

/// How many sums a parameter has at most.
fn most_units(operands: &Operands) -> u64 {
    let blocks = operands.param().n_elements().div_ceil(norm::BLOCK as u64);
    blocks.max(operands.index().room() as u64)
}

impl Changes {
    /// Makes room for the sums of a parameter beside those of others, so that a step need not.
    pub fn reserve(&mut self, number: usize, operands: &Operands) -> Result<(), Error> {
        const WHAT: &str = "the norms of updates";
        let before = self.most.get(number).copied().unwrap_or(0);
        let most = most_units(operands);
        let needed = (self.n_units - before).saturating_add(most);
        let missing = (needed as usize).saturating_sub(self.units.len());
        reserve(&mut self.units, missing, WHAT)?;
        let length = self.most.len().max(number + 1);
        let missing = length - self.most.len();
        reserve(&mut self.most, missing, WHAT)?;
        self.most.resize(length, 0);
        self.most[number] = most;
        self.n_units = needed;
        Ok(())
    }

    /// Needs no room for a parameter any more.
    pub fn release(&mut self, number: usize) {
        if let Some(most) = self.most.get_mut(number) {
            self.n_units -= core::mem::take(most);
        }
    }

    /// Needs no room for any parameter.
    pub fn release_all(&mut self) {
        self.most.clear();
        self.n_units = 0;
    }

    /// Gives back what is not needed for so many parameters.
    pub fn give_back(&mut self, n_params: usize) {
        give_back(&mut self.most, n_params);
        give_back(&mut self.units, self.n_units as usize);
    }

    pub(super) fn lay(&mut self, n_units: u64) -> &[Change] {
        self.units.resize_with(n_units as usize, Change::default);
        &self.units
    }

    /// What some units, all of one parameter, add up to.
    pub fn total(&self, units: Range<usize>) -> Squares {
        let units = &self.units[units];
        let sum = |part: fn(&Change) -> &AtomicU64| {
            let bits = |i: usize| f64::from_bits(part(&units[i]).load(Ordering::Relaxed));
            norm::join_blocks(units.len(), &bits)
        };
        let n_unchanged = units.iter().map(|unit| unit.n_unchanged.load(Ordering::Relaxed)).sum();
        let (update, param) = (sum(|change| &change.update), sum(|change| &change.param));
        Squares { update, param, n_unchanged }
    }
}

/// How many units of an extent are added up each by itself.
pub(super) fn n_units(extent: &Extent, operands: &Operands) -> u64 {
    match extent {
        Extent::Listed => operands.index().len() as u64,
        Extent::All => operands.param().n_elements().div_ceil(norm::BLOCK as u64),
        Extent::Nothing | Extent::Rows(_) => 0,
    }
}

/// Where the i-th unit of an extent lies in it.
pub(super) fn unit(extent: &Extent, operands: &Operands, i: u64) -> Range<usize> {
    let n = match extent {
        Extent::Listed => operands.index().row_elements() as usize,
        _ => norm::BLOCK,
    };
    let start = i as usize * n;
    let end = match extent {
        Extent::Listed => start + n,
        _ => (start + n).min(operands.param().n_elements() as usize),
    };
    start..end
}
