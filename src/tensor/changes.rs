//! The changes that a step makes, added up where that is asked for: block by block for a parameter
//! that is stepped as a whole, row by row for listed rows.

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

/// Sums of squares: of the changes of elements, and of the elements after them.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Squares {
    pub update: f64,
    pub param: f64,
    /// The number of elements whose change was lost in rounding.
    pub n_unchanged: u64,
}

impl Change {
    pub fn set(&self, squares: Squares) {
        self.update.store(squares.update.to_bits(), Ordering::Relaxed);
        self.param.store(squares.param.to_bits(), Ordering::Relaxed);
        self.n_unchanged.store(squares.n_unchanged, Ordering::Relaxed);
    }
}

/// The sums of a pass, kept between steps for their memory alone.
#[derive(Default)]
pub struct Changes {
    units: Vec<Change>,
    /// The most units that each parameter can have, by its number.
    most: Vec<u64>,
    /// The sum of those.
    n_units: u64,
}

/// Returns the most units that a parameter can have.
fn most_units(operands: &Operands) -> u64 {
    let blocks = operands.param().n_elements().div_ceil(norm::BLOCK as u64);
    blocks.max(operands.index().room() as u64)
}

impl Changes {
    /// Makes room for the sums of one more parameter, so that a step allocates nothing.
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

    /// Counts a parameter out, which needs no room any more.
    pub fn release(&mut self, number: usize) {
        if let Some(most) = self.most.get_mut(number) {
            self.n_units -= core::mem::take(most);
        }
    }

    /// Counts all parameters out.
    pub fn release_all(&mut self) {
        self.most.clear();
        self.n_units = 0;
    }

    /// Gives memory back that `n_params` parameters do not need.
    pub fn give_back(&mut self, n_params: usize) {
        give_back(&mut self.most, n_params);
        give_back(&mut self.units, self.n_units as usize);
    }

    /// Returns places for the sums of `n_units` units.
    pub(super) fn lay_out(&mut self, n_units: u64) -> &[Change] {
        self.units.resize_with(n_units as usize, Change::default);
        &self.units
    }

    /// Returns the sums over some units, all of one parameter.
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

/// Returns the number of units of an extent, each of which is added up by itself.
pub(super) fn n_units(extent: &Extent, operands: &Operands) -> u64 {
    match extent {
        Extent::Listed => operands.index().len() as u64,
        Extent::All => operands.param().n_elements().div_ceil(norm::BLOCK as u64),
        Extent::Nothing | Extent::Part(_) | Extent::Rows(_) => 0,
    }
}

/// Returns the elements of an extent that are its i-th unit.
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
