//! The ranges of all ranks, which tell each other where those of parameters begin.
//!
//! From that all work out the nodes of the sums (`nodes.rs`). It takes two bits for each block: a
//! range begins with it, or ends inside of it. The rank that has the first element of the block
//! sets them. The bits go into f64s, 52 of them in one, after two numbers for each parameter by
//! which it is seen that each element is on one rank.
#![forbid(unsafe_code)]

use super::hash::hash_of;
use super::nodes::{Mark, Nodes};
use super::{Ranks, WHAT, n_blocks};
use crate::error::{Error, RanksProblem};
use crate::norm::BLOCK;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::{ParamId, Params};
use crate::sys::memory::reserve;
use core::ops::Range;

/// The most numbers that are exchanged at once.
pub const PIECE: usize = 1 << 12;

/// The blocks that have their bits in one number, which is exact up to 2^53.
const BLOCKS_OF_WORD: u64 = 26;

/// The numbers of a parameter that come before its bits.
const HEAD: u64 = 2;

/// A range begins with the first element of a block.
const BEGINS: u64 = 1;
/// A range ends inside a block.
const CUT: u64 = 2;

impl Optimizer {
    /// Tells the other ranks which ranges this one has, and works out the nodes of all parameters.
    pub(super) fn exchange_cuts(&self, ranks: &mut Ranks) -> Result<(), Error> {
        ranks.nodes.marks.clear();
        let n_numbers: u64 = self.params.ids(&self.params.all()).map(|id| self.n_told(id)).sum();
        let (mut problem, mut is_covered) = (None, true);
        let mut first = 0;
        // All ranks find in the same piece what is not covered: a whole may be absurdly long.
        while first < n_numbers && is_covered {
            let piece = first..n_numbers.min(first + PIECE as u64);
            ranks.buffer.clear();
            ranks.buffer.resize((piece.end - piece.start) as usize, 0.0);
            self.each_in(&piece, |id, before| {
                self.tell_range(id, before, &piece, &mut ranks.buffer)
            });
            ranks.all_reduce.add_up(&mut ranks.buffer)?;
            let Ranks { buffer, nodes, .. } = &mut *ranks;
            self.each_in(&piece, |id, before| {
                let learnt = self.learn_ranges(id, before, &piece, buffer, &mut nodes.marks);
                is_covered &= !matches!(learnt, Err(Error::Ranks(_)));
                problem = problem.or(learnt.err());
            });
            first = piece.end;
        }
        problem.map_or(Ok(()), Err)?;
        self.lay_nodes(&mut ranks.nodes)
    }

    fn lay_nodes(&self, nodes: &mut Nodes) -> Result<(), Error> {
        nodes.all.clear();
        nodes.params.clear();
        nodes.n_numbers = 0;
        let mut marks = 0;
        for id in self.params.ids(&self.params.all()) {
            let place = id.place();
            let of_param = nodes.marks[marks..].iter().take_while(|mark| mark.place == place);
            let end = marks + of_param.count();
            nodes.add(place, self.whole_elements(id), marks..end)?;
            marks = end;
        }
        Ok(())
    }

    /// Returns how many numbers are told of a parameter.
    fn n_told(&self, id: ParamId) -> u64 {
        HEAD + n_blocks(self.whole_elements(id)).div_ceil(BLOCKS_OF_WORD)
    }

    /// Calls `each` with the parameters that have numbers in a piece, and with the count of numbers
    /// before those of each.
    fn each_in(&self, piece: &Range<u64>, mut each: impl FnMut(ParamId, u64)) {
        let mut before = 0;
        for id in self.params.ids(&self.params.all()) {
            let end = before + self.n_told(id);
            if before < piece.end && piece.start < end {
                each(id, before);
            }
            before = end;
        }
    }

    /// Writes what this rank tells of a parameter to a piece.
    fn tell_range(&self, id: ParamId, before: u64, piece: &Range<u64>, to: &mut [f64]) {
        let own = own_range(&self.params, id);
        if own.is_empty() {
            return;
        }
        let mut add = |at: u64, number: f64| {
            if piece.contains(&(before + at)) {
                to[(before + at - piece.start) as usize] += number;
            }
        };
        add(0, (own.end - own.start) as f64);
        add(1, signature(own.end) - signature(own.start));
        let block = BLOCK as u64;
        let (begins, last) = (own.start / block, (own.end - 1) / block);
        let mut mark = |at: u64, bits: u64| {
            let shift = 2 * (at % BLOCKS_OF_WORD);
            add(HEAD + at / BLOCKS_OF_WORD, (bits << shift) as f64);
        };
        if own.start.is_multiple_of(block) && own.start > 0 {
            mark(begins, BEGINS);
        }
        // The rank that has the first element of a block tells that it is cut.
        let is_first = last * block >= own.start;
        let ends_inside = !own.end.is_multiple_of(block) && own.end < self.whole_elements(id);
        if is_first && ends_inside {
            mark(last, CUT);
        }
    }

    /// Reads what all ranks have told of a parameter from a piece.
    fn learn_ranges(
        &self,
        id: ParamId,
        before: u64,
        piece: &Range<u64>,
        from: &[f64],
        marks: &mut Vec<Mark>,
    ) -> Result<(), Error> {
        let whole = self.whole_elements(id);
        let start = piece.start.max(before) - before;
        let end = piece.end.min(before + self.n_told(id)) - before;
        for at in start..end {
            let number = from[(before + at - piece.start) as usize];
            let held = if at == 0 { number } else { whole as f64 };
            let is_right = match at {
                0 => number == whole as f64,
                1 => number == signature(whole) - signature(0),
                _ => number >= 0.0 && number < (1u64 << (2 * BLOCKS_OF_WORD)) as f64,
            };
            if !is_right {
                let param = self.params.label(id);
                return Err(Error::Ranks(RanksProblem::NotCovered { param, held, whole }));
            }
            let mut bits = if at < HEAD { 0 } else { number as u64 };
            while bits != 0 {
                let bit = bits.trailing_zeros();
                let block = (at - HEAD) * BLOCKS_OF_WORD + u64::from(bit / 2);
                reserve(marks, 1, WHAT)?;
                marks.push(Mark { place: id.place(), block, is_cut: 1 << (bit % 2) == CUT });
                bits &= bits - 1;
            }
        }
        Ok(())
    }
}

/// Returns the elements of the whole that a parameter has.
pub fn own_range(params: &Params, id: ParamId) -> Range<u64> {
    let first = params.shard(id).first_element;
    first..first + params.operands(id).param().n_elements()
}

/// Returns a number for a boundary. The differences between those at the ends of ranges add up to
/// that of the whole, if each range begins where another ends.
fn signature(boundary: u64) -> f64 {
    hash_of(boundary).into()
}
