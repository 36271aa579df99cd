//! The agreement of ranks before a step.
//!
//! Everything in which one rank alone may fail comes first. Then each rank tells the others whether
//! it has failed, and the hashes of all that has to be the same. Only numbers that were added up
//! decide what comes next, so that all ranks go on, or none.
#![forbid(unsafe_code)]

use super::digest::{GROUP_FIELDS, Topic};
use super::hash::{self, NUMBERS};
use super::{Ranks, WHAT};
use crate::error::{Error, RanksProblem};
use crate::optimizer::Optimizer;
use crate::optimizer::step::gather::Plan;
use crate::schedule;
use crate::sys::memory::reserve;
use core::ops::Range;

/// The numbers at the head of an agreement: each rank counts itself, and whether it has failed, has
/// parameters that may be cut anew, has been told of a gradient that is not finite, or has a sparse
/// one that lists no row.
const HEAD: usize = 5;

impl Optimizer {
    /// Gathers a step, and has the ranks agree on it. `next` returns the next state of the
    /// schedule.
    #[inline(never)]
    pub(in crate::optimizer) fn agree(
        &mut self,
        of: Range<usize>,
        next: &dyn Fn(&Optimizer) -> Result<Option<schedule::State>, Error>,
    ) -> Result<Plan, Error> {
        self.expect_rows();
        if let Some(ranks) = &mut self.ranks {
            ranks.find_starts(&self.params);
        }
        let gathered = self.wait_for_offloaded().and_then(|()| self.gather(of));
        let Some(mut ranks) = self.ranks.take() else { return gathered };
        let prepared = gathered.and_then(|plan| {
            ranks.next = next(self)?;
            self.prepare_part(&mut ranks)?;
            Ok(plan)
        });
        let agreed = self.agree_on(prepared, &mut ranks);
        self.ranks = Some(ranks);
        agreed
    }

    /// Does what may fail on this rank alone.
    fn prepare_part(&mut self, ranks: &mut Ranks) -> Result<(), Error> {
        let all = self.params.all();
        ranks.ratios.clear();
        if self.lr_ratio.is_some() {
            for id in self.params.ids(&all) {
                let is_due = self.params.operands(id).is_due();
                ranks.ratios.push(if is_due { self.ratio(id)? } else { 0.0 });
            }
        }
        Ok(())
    }

    fn agree_on(
        &mut self,
        mut prepared: Result<Plan, Error>,
        ranks: &mut Ranks,
    ) -> Result<Plan, Error> {
        self.digest_params(&mut ranks.digests);
        let raised = self.found_inf.host_flag.is_some_and(|flag| flag.read() != 0.0);
        loop {
            let mut numbers = [0.0; HEAD + NUMBERS * Topic::ALL.len()];
            let flags = [true, prepared.is_err(), !ranks.is_cut, raised, ranks.lists_nothing];
            for (number, flag) in numbers.iter_mut().zip(flags) {
                *number = if flag { 1.0 } else { 0.0 };
            }
            for (to, topic) in numbers[HEAD..].chunks_mut(NUMBERS).zip(Topic::ALL) {
                let digest = self.digest(topic, ranks);
                to.copy_from_slice(&hash::numbers(digest));
            }
            ranks.all_reduce.add_up(&mut numbers)?;
            let [n_ranks, n_failed, n_uncut, n_raised, n_listless, ..] = numbers;
            if !(1.0..=(1u64 << 20) as f64).contains(&n_ranks) || n_ranks.fract() != 0.0 {
                return Err(Error::Ranks(RanksProblem::NoSum(n_ranks)));
            }
            if n_failed > 0.0 {
                let (n_failed, n_ranks) = (n_failed as u64, n_ranks as u64);
                let failed = RanksProblem::Failed { n_failed, n_ranks };
                return prepared.and(Err(Error::Ranks(failed)));
            }
            let sums = numbers[HEAD..].chunks(NUMBERS).zip(Topic::ALL);
            let mut others = sums.filter(|(sums, _)| !hash::is_one(n_ranks, sums));
            if let Some((_, topic)) = others.next() {
                return Err(Error::Ranks(self.difference(topic, n_ranks, ranks)?));
            }
            if n_uncut == 0.0 {
                ranks.raised = n_raised > 0.0;
                let mut plan = prepared?;
                if n_listless > 0.0 {
                    self.exchange_lists(ranks, &mut plan)?;
                }
                return Ok(plan);
            }
            match self.exchange_cuts(ranks).and_then(|()| self.reserve_sums(ranks)) {
                Ok(()) => ranks.is_cut = true,
                Err(error @ Error::Ranks(RanksProblem::Returned(_))) => return Err(error),
                // The others are told in the next round, where it is not theirs, too.
                Err(error) => prepared = Err(error),
            }
        }
    }

    /// Makes room for the numbers of a step.
    fn reserve_sums(&self, ranks: &mut Ranks) -> Result<(), Error> {
        ranks.buffer.clear();
        reserve(&mut ranks.buffer, ranks.nodes.n_numbers, WHAT)
    }

    /// Returns the problem of a topic in which ranks differ. It names the parameter or the field,
    /// for which all ranks exchange one more hash of each.
    fn difference(
        &self,
        topic: Topic,
        n_ranks: f64,
        ranks: &mut Ranks,
    ) -> Result<RanksProblem, Error> {
        let differ = RanksProblem::Differ;
        if topic.is_of_params() {
            let all = self.params.ids(&self.params.all());
            let hashes = all.clone().map(|id| self.param_hash(id, topic));
            let first = first_difference(hashes, n_ranks, ranks)?;
            let what = topic.what();
            let id = first.and_then(|i| all.clone().nth(i));
            return Ok(
                id.map_or(differ(what), |id| RanksProblem::DifferIn(self.params.label(id), what))
            );
        }
        if topic == Topic::Groups {
            let hashes = (0..GROUP_FIELDS.len()).map(|field| self.group_hash(field));
            let first = first_difference(hashes, n_ranks, ranks)?;
            return Ok(differ(first.map_or(topic.what(), |field| GROUP_FIELDS[field])));
        }
        Ok(differ(topic.what()))
    }
}

/// Returns the first of some hashes that is not the same on all ranks.
fn first_difference(
    hashes: impl Iterator<Item = u32>,
    n_ranks: f64,
    ranks: &mut Ranks,
) -> Result<Option<usize>, Error> {
    ranks.buffer.clear();
    ranks.buffer.extend(hashes.flat_map(hash::numbers)); // `reserve` has made room
    ranks.all_reduce.add_up(&mut ranks.buffer)?;
    let mut sums = ranks.buffer.chunks(NUMBERS);
    Ok(sums.position(|sums| !hash::is_one(n_ranks, sums)))
}
