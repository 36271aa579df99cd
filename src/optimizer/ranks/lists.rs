//! Sparse gradients that list no row on this rank.
//!
//! Such a gradient is one if another rank lists a row of the same parameter, and none if no rank
//! does. Which it is, ranks tell each other after they have agreed on the step, if some rank has
//! such a gradient. Until then it counts as one.
#![forbid(unsafe_code)]

use super::Ranks;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::ParamId;
use crate::optimizer::step::gather::Plan;

impl Optimizer {
    /// Has gradients that list no row count as gradients in this step.
    pub(super) fn expect_rows(&mut self) {
        let Some(ranks) = &self.ranks else { return };
        if ranks.digests.are_of(self.params.revision()) && !ranks.lists_nothing {
            return;
        }
        let mut lists_nothing = false;
        for id in self.params.ids(&self.params.all()) {
            if self.params.operands(id).lists_nothing() {
                self.count_list(id, true);
                lists_nothing = true;
            }
        }
        if let Some(ranks) = &mut self.ranks {
            ranks.lists_nothing = lists_nothing;
        }
    }

    /// Has no gradient that lists no row count, because there are no other ranks.
    pub(super) fn expect_no_rows(&mut self) {
        for id in self.params.ids(&self.params.all()) {
            self.count_list(id, false);
        }
    }

    /// Learns of which parameters some rank lists a row. Gradients of others count as none, of
    /// which the plan is told.
    pub(super) fn exchange_lists(
        &mut self,
        ranks: &mut Ranks,
        plan: &mut Plan,
    ) -> Result<(), Error> {
        let all = self.params.all();
        let lists = |id| if self.params.operands(id).lists_nothing() { 0.0 } else { 1.0 };
        ranks.buffer.clear();
        ranks.buffer.extend(self.params.ids(&all).map(lists)); // `reserve` has made room
        ranks.all_reduce.add_up(&mut ranks.buffer)?;
        let mut is_listed = ranks.buffer.iter();
        for id in self.params.ids(&all) {
            if is_listed.next() == Some(&0.0) {
                self.count_list(id, false);
            }
        }
        plan.needs = self.needs_of(&plan.of);
        plan.repeats = false;
        Ok(())
    }

    /// Has a gradient that lists no row count, or not.
    fn count_list(&mut self, id: ParamId, counts: bool) {
        if self.params.operands(id).is_listed_elsewhere() != counts {
            self.params.revise_operands(id).set_listed_elsewhere(counts);
        }
    }
}
