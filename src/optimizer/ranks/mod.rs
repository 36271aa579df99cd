//! Ranks: handles, mostly of other processes, that each step a range of the same parameters.
//!
//! The host gives a callback that adds numbers up over all ranks. Before a step writes, the ranks
//! agree by it (`agree.rs`). First, whether each has what it needs and all are about to take the
//! same step: hashes (`hash.rs`) of what a step depends on (`digest.rs`) are the same everywhere.
//! Then, if the step measures, each fills in what it knows of the sums over the gradients
//! (`sums.rs`), of which every number is one rank's and 0 elsewhere, so that adding up is exact in
//! any order. From then on all have the same numbers, and decide the same.
//!
//! A sparse gradient may list rows on some ranks alone (`lists.rs`).
//!
//! A host may have gradients come while a step measures or writes, and hand out what it has
//! written: `pieces.rs` asks it before each piece.
//!
//! Where the sums have to be cut (`nodes.rs`) follows from the ranges of all ranks, which they tell
//! each other in the first step after the parameters have changed (`cuts.rs`).
#![forbid(unsafe_code)]

pub(in crate::optimizer) mod agree;
pub(in crate::optimizer) mod cuts;
pub(in crate::optimizer) mod digest;
pub(in crate::optimizer) mod hash;
pub(in crate::optimizer) mod lists;
pub(in crate::optimizer) mod nodes;
pub mod pieces;
pub(in crate::optimizer) mod sums;

use crate::callback::AllReduce;
use crate::error::{Error, Label, RanksProblem};
use crate::norm;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::{ParamId, Params};
use crate::schedule;
use crate::sys::memory::{Boxed, reserve};
use crate::tensor::{Operands, Total};
use digest::Digests;
use nodes::Nodes;
use pieces::Pieces;

/// What a handle knows of the other ranks.
pub struct Ranks {
    all_reduce: AllReduce,
    /// Numbers that are added up over the ranks.
    buffer: Vec<f64>,
    /// By place, the element of the whole that is the first of the parameter.
    origins: Vec<u64>,
    /// By place, the number of this rank's elements before the parameter; at the end, that of all.
    starts: Vec<u64>,
    /// Where the sums over the gradients are cut, unless the parameters have changed since.
    nodes: Nodes,
    is_cut: bool,
    /// How steps go on piece by piece, if they do.
    pieces: Option<Pieces>,
    digests: Digests,
    /// By place, the sums over the gradient of the whole parameter.
    totals: Vec<Total>,
    /// By place, what `lr_ratio` returned for this step.
    ratios: Vec<f64>,
    /// The state of the schedule after this step, if it advances with it.
    next: Option<schedule::State>,
    /// Some rank has been told of a gradient that is not finite.
    raised: bool,
    /// Some sparse gradient lists no row here.
    lists_nothing: bool,
}

const WHAT: &str = "what ranks tell each other";

impl Ranks {
    fn new(all_reduce: AllReduce) -> Ranks {
        Ranks {
            all_reduce,
            buffer: Vec::new(),
            origins: Vec::new(),
            starts: Vec::new(),
            nodes: Nodes::default(),
            is_cut: false,
            pieces: None,
            digests: Digests::default(),
            totals: Vec::new(),
            ratios: Vec::new(),
            next: None,
            raised: false,
            lists_nothing: false,
        }
    }

    /// Returns whether some rank has been told of a gradient that is not finite.
    pub fn raised(&self) -> bool {
        self.raised
    }

    /// Returns the sums over the gradient of a whole parameter, times a factor, which the ranks
    /// have added up. They are zero if the parameter has no part in the step.
    pub fn total(&self, id: ParamId, mean: f64) -> Total {
        let total = self.totals[id.place()];
        Total { sum_squares: total.sum_squares * (mean * mean), ..total }
    }

    /// Returns the state of the schedule after this step, if it advances with it.
    pub fn next_scheduled(&self) -> Option<schedule::State> {
        self.next
    }

    /// Counts a step that has been taken.
    pub fn count_step(&mut self) {
        self.digests.count_step();
    }

    /// Returns how steps go on piece by piece, if they do, and by place the number of this rank's
    /// elements before each parameter, and at the end that of all.
    pub fn pieces(&self) -> Option<(Pieces, &[u64])> {
        self.pieces.map(|pieces| (pieces, &*self.starts))
    }

    /// Finds where the parameters begin, if they have changed since.
    fn find_starts(&mut self, params: &Params) {
        if self.is_cut {
            return;
        }
        let all = params.all();
        self.origins.clear();
        self.starts.clear();
        self.starts.push(0); // `reserve` has made room
        let mut n_elements = 0;
        for id in params.ids(&all) {
            n_elements += params.operands(id).param().n_elements();
            self.starts.push(n_elements);
            self.origins.push(params.shard(id).first_element);
        }
    }

    /// Makes room for so many parameters, which may be others than before.
    fn reserve(&mut self, n_params: usize) -> Result<(), Error> {
        self.is_cut = false;
        let n_numbers = (hash::NUMBERS * n_params).max(cuts::PIECE);
        self.buffer.clear();
        self.origins.clear();
        self.starts.clear();
        self.totals.clear();
        self.ratios.clear();
        reserve(&mut self.buffer, n_numbers, WHAT)?;
        reserve(&mut self.origins, n_params, WHAT)?;
        reserve(&mut self.starts, n_params + 1, WHAT)?;
        reserve(&mut self.totals, n_params, WHAT)?;
        reserve(&mut self.ratios, n_params, WHAT)?;
        self.nodes.reserve(n_params)
    }
}

impl Optimizer {
    /// Sets the callback by which the ranks agree before each step; with `None`, the handle steps
    /// by itself.
    pub fn set_all_reduce(&mut self, all_reduce: Option<AllReduce>) -> Result<(), Error> {
        let Some(all_reduce) = all_reduce else {
            self.ranks = None;
            self.expect_no_rows();
            return Ok(());
        };
        if self.grad_sums.is_some() {
            return Err(Error::Ranks(RanksProblem::AndSumsOfHost));
        }
        let all = self.params.all();
        self.params.iter(&all).try_for_each(|(param, operands)| {
            if operands.is_on_device() { Err(on_device(param.label())) } else { Ok(()) }
        })?;
        let mut ranks = Ranks::new(all_reduce);
        ranks.reserve(self.params.len())?;
        // What was measured before was of blocks that begin with the range, not with the whole.
        self.params.revise().operands.iter_mut().for_each(Operands::forget_measured);
        self.ranks = Some(Boxed::new(ranks, WHAT)?);
        Ok(())
    }

    /// Checks that no ranks agree by themselves, where the host wants the sums over gradients or
    /// has them.
    pub(in crate::optimizer) fn check_no_ranks(&self) -> Result<(), Error> {
        if self.ranks.is_some() { Err(Error::Ranks(RanksProblem::AndSums)) } else { Ok(()) }
    }

    /// Makes room for what ranks tell each other about so many parameters, which are others than
    /// before.
    pub(in crate::optimizer) fn reserve_for_ranks(
        &mut self,
        n_params: usize,
        name: Label,
        new: &Operands,
    ) -> Result<(), Error> {
        match &mut self.ranks {
            Some(_) if new.is_on_device() => Err(on_device(name)),
            Some(ranks) => ranks.reserve(n_params),
            None => Ok(()),
        }
    }

    /// Forgets where the sums over gradients are cut, after the parameters have changed.
    pub(in crate::optimizer) fn forget_cuts(&mut self) {
        if let Some(ranks) = &mut self.ranks {
            ranks.is_cut = false;
        }
    }

    /// Returns the element of the whole from which the blocks of a gradient's norm count, as the
    /// place of the parameter's first element in it.
    pub(in crate::optimizer) fn origin(&self, id: ParamId) -> u64 {
        if self.ranks.is_some() { self.params.shard(id).first_element } else { 0 }
    }

    /// Returns the number of elements of the whole of which a parameter is a range.
    pub(in crate::optimizer) fn whole_elements(&self, id: ParamId) -> u64 {
        match self.params.shard(id).whole {
            0 => self.params.operands(id).param().n_elements(),
            whole => whole,
        }
    }

    /// Returns the number of elements over which a gradient is measured.
    pub(in crate::optimizer) fn n_measured(&self, id: ParamId) -> u64 {
        match self.ranks {
            Some(_) => self.whole_elements(id),
            None => self.params.operands(id).param().n_elements(),
        }
    }

    /// Returns the factor of a parameter's learning rate in this step. Asks the host's callback,
    /// which ranks have asked before they agreed.
    #[inline]
    pub(in crate::optimizer) fn step_ratio(&self, id: ParamId) -> Result<f64, Error> {
        match &self.ranks {
            Some(ranks) if self.lr_ratio.is_some() => Ok(ranks.ratios[id.place()]),
            _ => self.ratio(id),
        }
    }
}

/// Returns the number of blocks of a norm.
fn n_blocks(n_elements: u64) -> u64 {
    n_elements.div_ceil(norm::BLOCK as u64)
}

fn on_device(param: Label) -> Error {
    Error::Ranks(RanksProblem::OnDevice(param))
}
