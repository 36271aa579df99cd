//! The pieces of checkpoints that make up a tensor, if a parameter is cut into other parts than
//! when it was saved.
#![forbid(unsafe_code)]

use super::convert::Way;
use crate::checkpoint::Entry;
use crate::format::{Format, MomentFormat};
use crate::role::Role;
use core::ops::Range;

/// A range of the elements of a whole parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    pub first: u64,
    pub n_elements: u64,
}

impl Part {
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.n_elements)
    }
}

/// The least that can be taken from a tensor, in which several elements may share a scale or a
/// byte.
pub struct Unit {
    /// The number of elements of the parameter.
    pub elements: u64,
    /// The number of elements of the tensor that store them.
    pub stored: u64,
}

impl Unit {
    pub fn of(format: &Format, role: Role) -> Unit {
        let block = format.moments().block().unwrap_or(1);
        match format.moments() {
            _ if role.is_scale() => Unit { elements: block, stored: 1 },
            MomentFormat::Nibbles if role.is_moment() => {
                Unit { elements: block, stored: block / 2 }
            }
            // A byte is the code of one element, but its value depends on the scale of its block.
            MomentFormat::Bytes if role.is_moment() => Unit { elements: block, stored: block },
            _ => Unit { elements: 1, stored: 1 },
        }
    }

    /// Returns the stored elements of some elements of a part, or `None` if a unit would be cut.
    pub fn stored(&self, part: Part, elements: &Range<u64>, n_stored: u64) -> Option<Range<u64>> {
        let place = |element: u64| {
            let inside = element - part.first;
            if inside.is_multiple_of(self.elements) {
                Some((inside / self.elements * self.stored).min(n_stored))
            } else {
                (element == part.end()).then_some(n_stored)
            }
        };
        Some(place(elements.start)?..place(elements.end)?)
    }
}

/// A part of a tensor in a checkpoint, and the elements that are taken from it.
#[derive(Clone, Copy)]
pub struct Piece {
    /// The number of the checkpoint.
    pub file: u32,
    /// The tensor of the checkpoint, or the part of one.
    pub entry: Entry,
    /// The number of the match.
    pub found: u32,
    pub role: Role,
    pub way: Way,
    /// The elements of the whole that the checkpoint has.
    pub part: Part,
    /// The first element that is taken, and the one after the last.
    pub first: u64,
    pub end: u64,
}

/// Moves pieces that cover a part to the front, and returns their number, or else the first element
/// that no piece has. The pieces are in the order of their first elements.
pub fn cover(ours: Part, pieces: &mut [Piece]) -> Result<usize, u64> {
    let (mut at, mut n_taken, mut n_seen) = (ours.first, 0, 0);
    let mut longest: Option<Piece> = None;
    while at < ours.end() {
        // Of the pieces that have this element, the longest has the most elements behind it.
        while let Some(piece) = pieces.get(n_seen).filter(|piece| piece.part.first <= at) {
            if longest.is_none_or(|longest| longest.part.end() < piece.part.end()) {
                longest = Some(*piece);
            }
            n_seen += 1;
        }
        let piece = longest.filter(|piece| piece.part.end() > at).ok_or(at)?;
        let end = piece.part.end().min(ours.end());
        // There is room in front: each piece was seen only after the one before was taken.
        pieces[n_taken] = Piece { first: at, end, ..piece };
        n_taken += 1;
        at = end;
    }
    Ok(n_taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn part(first: u64, n_elements: u64) -> Part {
        Part { first, n_elements }
    }

    /// Returns the numbers of the parts that are taken for a part, with the elements of each.
    fn taken(ours: Part, parts: &[Part]) -> Result<Vec<(u32, u64, u64)>, u64> {
        let piece = |(i, &part): (usize, &Part)| {
            let role = Role::ExpAvg;
            let (file, way) = (i as u32, Way::Plain);
            Piece { file, entry: Entry::default(), found: 0, role, way, part, first: 0, end: 0 }
        };
        let mut pieces: Vec<_> = parts.iter().enumerate().map(piece).collect();
        let n = cover(ours, &mut pieces)?;
        Ok(pieces[..n].iter().map(|piece| (piece.file, piece.first, piece.end)).collect())
    }

    #[test]
    fn parts_are_put_together_from_whatever_covers_them() {
        let parts = [part(0, 3), part(0, 10), part(5, 15), part(7, 2), part(20, 4)];
        let taken = |first, n_elements| taken(part(first, n_elements), &parts);
        assert_eq!(taken(0, 24), Ok(vec![(1, 0, 10), (2, 10, 20), (4, 20, 24)]));
        assert_eq!(taken(6, 3), Ok(vec![(2, 6, 9)]));
        assert_eq!(taken(22, 3), Err(24));
        assert_eq!(taken(30, 0), Ok(vec![]));
        assert_eq!(taken(30, 1), Err(30));
    }

    #[test]
    fn codes_are_cut_where_blocks_end() {
        let nibbles = Unit { elements: 128, stored: 64 };
        let whole = part(256, 300);
        assert_eq!(nibbles.stored(whole, &(256..556), 192), Some(0..192));
        assert_eq!(nibbles.stored(whole, &(384..556), 192), Some(64..192));
        assert_eq!(nibbles.stored(whole, &(256..300), 192), None);
        let scales = Unit { elements: 128, stored: 1 };
        assert_eq!(scales.stored(whole, &(384..556), 3), Some(1..3));
        let plain = Unit { elements: 1, stored: 1 };
        assert_eq!(plain.stored(whole, &(300..301), 300), Some(44..45));
    }
}
