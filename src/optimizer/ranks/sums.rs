//! The sums over gradients of which every rank has a part.
#![forbid(unsafe_code)]

use super::Ranks;
use super::cuts::own_range;
use super::nodes::Node;
use crate::backend::Refused;
use crate::error::Error;
use crate::norm::BLOCK;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::ParamId;
use crate::tensor::{GradBlocks, Tallies, Total};

impl Optimizer {
    /// Measures the part of the gradients that this rank has, as they come. What other threads
    /// refuse is done by the calling one, because the ranks have agreed.
    fn measure_part(&mut self, ranks: &Ranks) -> Result<(), Error> {
        let operands = self.params.operands_of(&self.params.all());
        let mut blocks = GradBlocks::new(operands, &ranks.origins, &mut self.scratch.tallies);
        let mut measure = |blocks: &GradBlocks| self.backend.measure(blocks, Refused::IsDoneAlone);
        match ranks.pieces() {
            Some((pieces, starts)) => pieces.go(starts, false, &mut blocks, measure),
            None => measure(&blocks),
        }
    }

    /// Measures the gradients, and adds up what the ranks have.
    #[inline(never)]
    pub(in crate::optimizer) fn add_up_parts(&mut self) -> Result<(), Error> {
        let Some(mut ranks) = self.ranks.take() else { return Ok(()) };
        let measured = self.measure_part(&ranks);
        let added = measured.and_then(|()| self.exchange_sums(&mut ranks));
        self.ranks = Some(ranks);
        added
    }

    fn exchange_sums(&mut self, ranks: &mut Ranks) -> Result<(), Error> {
        ranks.buffer.clear();
        ranks.buffer.resize(ranks.nodes.n_numbers, 0.0);
        let mut has_cut = false;
        for id in self.params.ids(&self.params.all()) {
            has_cut |= self.tell_sums(id, ranks);
        }
        if has_cut {
            self.tell_squares(ranks);
        }
        ranks.all_reduce.add_up(&mut ranks.buffer)?;
        ranks.totals.clear();
        for (place, of) in ranks.nodes.params.iter().enumerate() {
            let sum_squares = ranks.nodes.total(place, &ranks.buffer);
            let n_nonfinite = ranks.buffer[of.count] as u64;
            ranks.totals.push(Total { sum_squares, n_nonfinite });
        }
        Ok(())
    }

    /// Writes the sums of the blocks that this rank has whole of a parameter, and what is not
    /// finite in its range. Returns whether it has a part of a block that is cut.
    fn tell_sums(&self, id: ParamId, ranks: &mut Ranks) -> bool {
        let (place, operands) = (id.place(), self.params.operands(id));
        let own = own_range(&self.params, id);
        if !operands.is_due() || own.is_empty() {
            return false;
        }
        let tallies: &Tallies = &self.scratch.tallies;
        let Ranks { nodes, buffer, .. } = ranks;
        buffer[nodes.params[place].count] = tallies.n_nonfinite(place) as f64;
        let mut has_cut = false;
        for Node { blocks, n_cut, slot } in nodes.nodes_of(place, &own) {
            match n_cut {
                0 => {
                    let blocks = blocks.0..blocks.1;
                    buffer[*slot] = tallies.sum(place, operands, own.start, blocks);
                }
                _ => has_cut = true,
            }
        }
        has_cut
    }

    /// Writes the squares of the elements that this rank has of blocks that are cut.
    fn tell_squares(&mut self, ranks: &mut Ranks) {
        let all = self.params.all();
        let operands = self.params.operands_of(&all);
        let blocks = GradBlocks::new(operands, &ranks.origins, &mut self.scratch.tallies);
        let Ranks { nodes, buffer, .. } = ranks;
        for id in self.params.ids(&all) {
            let own = own_range(&self.params, id);
            if !self.params.operands(id).is_due() || own.is_empty() {
                continue;
            }
            for node in nodes.nodes_of(id.place(), &own).iter().filter(|node| node.n_cut > 0) {
                let first = node.blocks.0 * BLOCK as u64;
                let skipped = own.start.saturating_sub(first) as usize;
                if let Some(block) = blocks.at(id.place(), node.blocks.0) {
                    let to = &mut buffer[node.slot..][skipped..][..block.n_elements];
                    self.backend.squares(&block, to);
                }
            }
        }
    }
}
