//! The parts of a list of parameters that ranks step: about one length, cut at multiples of a
//! number.
//!
//! The parameters are laid end to end. Part r begins at the place nearest to r / n of the whole
//! length (the lower of two) at which a parameter ends or has a multiple of the number. So the
//! parts are in the order of the ranks, each element is in one, and no part is longer than the nth
//! of the length and that number.
#![forbid(unsafe_code)]

use core::ops::Range;

/// A way to cut parameters into parts.
#[derive(Clone, Copy)]
pub struct Cut {
    /// The number of parts, at least 1.
    pub n_parts: u32,
    /// The number of whose multiples parameters are cut, at least 1.
    pub align: u64,
}

impl Cut {
    /// Calls `each` with the range of every parameter that is in a part. Those of which it has
    /// nothing have `0..0`. Parameters have these lengths, `total` elements together.
    pub fn ranges(
        self,
        part: u32,
        total: u64,
        lengths: impl Iterator<Item = u64>,
        mut each: impl FnMut(Range<u64>),
    ) {
        let ideal = |part: u32| (total as u128 * part as u128 / self.n_parts as u128) as u64;
        let (begin, end) = (ideal(part), ideal(part + 1));
        let mut first = 0;
        for length in lengths {
            let at = |ideal: u64| self.nearest(ideal.saturating_sub(first), length);
            let range = at(begin)..at(end);
            each(if range.is_empty() { 0..0 } else { range });
            first += length;
        }
    }

    /// Returns the place nearest to an element at which a parameter may be cut.
    fn nearest(self, element: u64, length: u64) -> u64 {
        if element >= length {
            return length;
        }
        let below = element / self.align * self.align;
        let above = below.saturating_add(self.align).min(length);
        if element - below <= above - element { below } else { above }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(cut: Cut, lengths: &[u64]) -> Vec<Vec<Range<u64>>> {
        let total = lengths.iter().sum();
        let part = |part| {
            let mut ranges = Vec::new();
            cut.ranges(part, total, lengths.iter().copied(), |range| ranges.push(range));
            ranges
        };
        (0..cut.n_parts).map(part).collect()
    }

    #[test]
    fn every_element_is_in_one_part_and_the_parts_are_about_as_long() {
        let lists: [&[u64]; 7] = [
            &[],
            &[0],
            &[1],
            &[10, 0, 5],
            &[100_000],
            &[4096, 300, 12_288, 7, 0, 50_257],
            &[768 * 50_257, 768 * 1024, 768, 768, 768 * 2304, 2304],
        ];
        for lengths in lists {
            let total: u64 = lengths.iter().sum();
            for n_parts in [1, 2, 3, 4, 7, 64] {
                for align in [1, 128, 256, 4096, u64::MAX] {
                    let parts = parts(Cut { n_parts, align }, lengths);
                    let case = format!("{lengths:?} in {n_parts} at {align}");
                    for (i, &length) in lengths.iter().enumerate() {
                        let ranges = parts.iter().map(|part| part[i].clone());
                        let mut at = 0;
                        for range in ranges.filter(|range| !range.is_empty()) {
                            assert_eq!(range.start, at, "{case}");
                            assert!(range.start % align == 0, "{case}");
                            at = range.end;
                        }
                        assert_eq!(at, length, "{case}");
                    }
                    let most = total.div_ceil(n_parts.into()).saturating_add(align);
                    for part in &parts {
                        let length: u64 = part.iter().map(|range| range.end - range.start).sum();
                        assert!(length <= most, "{case}: {part:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn parts_are_in_the_order_of_the_ranks() {
        let parts = parts(Cut { n_parts: 3, align: 256 }, &[1000, 2000, 600]);
        let expected =
            [[0..1000, 0..256, 0..0], [0..0, 256..1280, 0..0], [0..0, 1280..2000, 0..600]];
        assert_eq!(parts, expected);
    }
}
