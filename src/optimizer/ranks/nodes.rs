//! The nodes of the sums of squares of parameters of which ranks have ranges.
//!
//! `norm.rs` joins the blocks of a parameter as a tree. A rank that has all blocks below a node can
//! tell the sum of the node, so the ranks exchange one number for each of the highest such nodes.
//! Of a block that a range cuts they exchange the squares of all elements: nobody else can add them
//! up in the order that defines the sum.
#![forbid(unsafe_code)]

use super::{WHAT, n_blocks};
use crate::error::Error;
use crate::norm::{BLOCK, join_squares};
use crate::sys::memory::reserve;
use core::ops::Range;

/// A mark of a block.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Mark {
    pub place: usize,
    pub block: u64,
    pub is_cut: bool,
}

/// Blocks of which one number, or one for each element, is exchanged.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Node {
    pub blocks: (u64, u64),
    /// The elements of the only block, if it is cut.
    pub n_cut: usize,
    /// Where its numbers are.
    pub slot: usize,
}

impl Node {
    /// Returns the sum of squares that the exchanged numbers have for it.
    fn sum(&self, numbers: &[f64]) -> f64 {
        match self.n_cut {
            0 => numbers[self.slot],
            n => join_squares(&numbers[self.slot..][..n]),
        }
    }
}

/// The nodes of one parameter.
#[derive(Clone, Default)]
pub struct OfParam {
    pub nodes: Range<usize>,
    /// Where the count of what is not finite is.
    pub count: usize,
    n_blocks: u64,
}

#[derive(Default)]
pub struct Nodes {
    pub all: Vec<Node>,
    pub params: Vec<OfParam>,
    /// The numbers that are exchanged.
    pub n_numbers: usize,
    pub marks: Vec<Mark>,
}

impl Nodes {
    pub fn reserve(&mut self, n_params: usize) -> Result<(), Error> {
        self.params.clear();
        reserve(&mut self.params, n_params, WHAT)
    }

    /// Returns the nodes that have some of these elements of a parameter.
    pub fn nodes_of(&self, place: usize, elements: &Range<u64>) -> &[Node] {
        let nodes = &self.all[self.params[place].nodes.clone()];
        let first = nodes.partition_point(|node| elements.start >= node.blocks.1 * BLOCK as u64);
        let end = nodes.partition_point(|node| elements.end > node.blocks.0 * BLOCK as u64);
        &nodes[first.min(end)..end]
    }

    /// Returns the sum of squares of a parameter, by the exchanged numbers.
    pub fn total(&self, place: usize, numbers: &[f64]) -> f64 {
        let OfParam { nodes, n_blocks, .. } = &self.params[place];
        if *n_blocks == 0 {
            return 0.0;
        }
        let mut nodes = self.all[nodes.clone()].iter();
        join(&mut nodes, None, (0, *n_blocks), numbers)
    }

    /// Adds the nodes of a parameter of so many elements, whose marks are these.
    pub fn add(&mut self, place: usize, n_elements: u64, marks: Range<usize>) -> Result<(), Error> {
        let (first, count, n) = (self.all.len(), self.n_numbers, n_blocks(n_elements));
        self.n_numbers += 1;
        if n > 0 {
            self.split(n_elements, 0, n, marks)?;
        }
        debug_assert_eq!(self.params.len(), place);
        self.params.push(OfParam { nodes: first..self.all.len(), count, n_blocks: n });
        Ok(())
    }

    /// Adds the highest nodes of n blocks that no range cuts, in their order.
    fn split(
        &mut self,
        n_elements: u64,
        start: u64,
        n: u64,
        marks: Range<usize>,
    ) -> Result<(), Error> {
        let is_inside = |mark: &Mark| mark.is_cut || mark.block > start;
        let is_cut = self.marks[marks.clone()].iter().any(is_inside);
        if is_cut && n > 1 {
            let left = n.next_power_of_two() / 2;
            let before = self.marks[marks.clone()].partition_point(|at| at.block < start + left);
            let middle = marks.start + before;
            self.split(n_elements, start, left, marks.start..middle)?;
            return self.split(n_elements, start + left, n - left, middle..marks.end);
        }
        reserve(&mut self.all, 1, WHAT)?;
        let n_cut = match is_cut {
            true => (n_elements - start * BLOCK as u64).min(BLOCK as u64) as usize,
            false => 0,
        };
        self.all.push(Node { blocks: (start, start + n), n_cut, slot: self.n_numbers });
        self.n_numbers += n_cut.max(1);
        Ok(())
    }
}

/// Joins blocks as `norm::join_blocks` does, from nodes in their order. `next` is one that was
/// taken already.
fn join<'a>(
    nodes: &mut core::slice::Iter<'a, Node>,
    next: Option<&'a Node>,
    (start, n): (u64, u64),
    numbers: &[f64],
) -> f64 {
    let Some(node) = next.or_else(|| nodes.next()) else { return 0.0 };
    if node.blocks == (start, start + n) {
        return node.sum(numbers);
    }
    let left = n.next_power_of_two() / 2;
    let sum = join(nodes, Some(node), (start, left), numbers);
    sum + join(nodes, None, (start + left, n - left), numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::norm;

    /// The marks that ranges which begin at these elements make.
    fn marks(n_elements: u64, starts: &[u64]) -> Vec<Mark> {
        let mark = |block, is_cut| Mark { place: 0, block, is_cut };
        let (block, mut marks) = (BLOCK as u64, Vec::new());
        for &start in starts.iter().filter(|&&start| start > 0 && start < n_elements) {
            let new = mark(start / block, start % block > 0);
            if marks.last() != Some(&new) {
                marks.push(new);
            }
        }
        marks
    }

    #[test]
    fn nodes_have_the_sum_of_the_whole_wherever_ranges_begin() {
        let n_elements = 37 * BLOCK as u64 + 1234;
        let squares: Vec<f64> = (0..n_elements).map(|i| 1.0 / (i as f64 + 0.7)).collect();
        let blocks: Vec<f64> = squares.chunks(BLOCK).map(join_squares).collect();
        let expected = norm::join_blocks(blocks.len(), &|i| blocks[i]);
        let cases: [&[u64]; 7] = [
            &[0],
            &[0, 4096],
            &[0, 4096 * 16],
            &[0, 5, 4095, 4096, 8192, 100_000],
            &[0, 37 * 4096, 37 * 4096 + 1],
            &[0, 37 * 4096 + 1233],
            &[0, 12_345, 12_346, 65_536, 65_537],
        ];
        for starts in cases {
            let mut nodes = Nodes { marks: marks(n_elements, starts), ..Nodes::default() };
            nodes.add(0, n_elements, 0..nodes.marks.len()).unwrap();
            let mut numbers = vec![f64::NAN; nodes.n_numbers];
            for node in &nodes.all {
                let (start, end) = (node.blocks.0 as usize, node.blocks.1 as usize);
                match node.n_cut {
                    0 => {
                        numbers[node.slot] = norm::join_blocks(end - start, &|i| blocks[start + i]);
                    }
                    n => numbers[node.slot..][..n].copy_from_slice(&squares[start * BLOCK..][..n]),
                }
            }
            let total = nodes.total(0, &numbers);
            assert_eq!(total.to_bits(), expected.to_bits(), "{starts:?}");
            let has_nodes = nodes.nodes_of(0, &(0..n_elements)) == nodes.all;
            assert!(has_nodes && nodes.nodes_of(0, &(5..5)).len() <= 1, "{starts:?}");
        }
    }
}
