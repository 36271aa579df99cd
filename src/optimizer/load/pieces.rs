//! Which bytes of which checkpoint make up a tensor, where a parameter has been cut into other ranges
//! than when it was saved.
#![forbid(unsafe_code)]

use crate::error::Role;
use crate::format::{Format, MomentFormat};
use core::ops::Range;

/// Some elements of a whole parameter, and in how many they are counted where scales or codes of
/// several are one.
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

/// What several elements share in a tensor: so many are one unit of so many stored elements.
pub struct Unit {
    pub elements: u64,
    pub stored: u64,
}

impl Unit {
    pub fn of(format: &Format, role: Role) -> Unit {
        let block = format.moments().block().unwrap_or(1);
        let is_code = matches!(role, Role::ExpAvg | Role::ExpAvgSq | Role::MaxExpAvgSq);
        let is_scale =
            matches!(role, Role::ExpAvgScale | Role::ExpAvgSqScale | Role::MaxExpAvgSqScale);
        match format.moments() {
            _ if is_scale => Unit { elements: block, stored: 1 },
            MomentFormat::Nibbles if is_code => Unit { elements: block, stored: block / 2 },
            // A byte is an element's, but means what the scale of its block makes it.
            MomentFormat::Bytes if is_code => Unit { elements: block, stored: block },
            _ => Unit { elements: 1, stored: 1 },
        }
    }

    /// Which stored elements some elements of a part are, if a cut is where units end.
    pub fn stored(&self, part: Part, elements: &Range<u64>, n_stored: u64) -> Option<Range<u64>> {
        let place = |element: u64| {
            let inside = element - part.first;
            match inside.is_multiple_of(self.elements) {
                true => Some((inside / self.elements * self.stored).min(n_stored)),
                false if element == part.end() => Some(n_stored),
                false => None,
            }
        };
        Some(place(elements.start)?..place(elements.end)?)
    }
}

/// The next elements from `from` on, and which of some parts has most of them; `None`: no part has.
pub fn next(
    ours: Part,
    from: u64,
    parts: impl Iterator<Item = Option<Part>>,
) -> Option<(usize, Range<u64>)> {
    let reach = |part: &Part| part.end().min(ours.end());
    let here = |part: &Part| (part.first..part.end()).contains(&from);
    let parts = parts.enumerate().filter_map(|(i, part)| Some((i, part.filter(here)?)));
    let (i, part) = parts.max_by_key(|(_, part)| reach(part))?;
    Some((i, from..reach(&part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn part(first: u64, n_elements: u64) -> Part {
        Part { first, n_elements }
    }

    #[test]
    fn parts_are_put_together_from_whatever_covers_them() {
        let parts = [Some(part(0, 10)), None, Some(part(5, 15)), Some(part(20, 4))];
        let walk = |ours: Part| {
            let (mut at, mut steps) = (ours.first, Vec::new());
            while at < ours.end() {
                let (i, range) = next(ours, at, parts.into_iter())?;
                steps.push((i, range.start, range.end));
                at = range.end;
            }
            Some(steps)
        };
        assert_eq!(walk(part(0, 24)), Some(vec![(0, 0, 10), (2, 10, 20), (3, 20, 24)]));
        assert_eq!(walk(part(6, 3)), Some(vec![(2, 6, 9)]));
        assert_eq!(walk(part(22, 3)), None);
        assert_eq!(walk(part(30, 0)), Some(vec![]));
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
