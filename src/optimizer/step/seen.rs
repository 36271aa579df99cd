//! Where gradients have been held against what a step writes, and were found free of it.
//!
//! Hosts that free gradients after each step get the same addresses again and again. `is_free`
//! looks an address up in two places of a table, which is far cheaper than a search among all that
//! a step writes; `note` puts one there, in place of the older. What is noted holds as long as the
//! memory that a step writes is what it was (`Occupied::revision`).
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::sys::memory::{give_back, reserve};
use core::ops::Range;

#[derive(Clone, Copy)]
struct Free {
    start: usize,
    end: usize,
    /// Of what a step writes.
    revision: u64,
}

/// No memory, which nobody asks about.
const NOTHING: Free = Free { start: 0, end: 0, revision: 0 };

#[derive(Default)]
pub struct Seen {
    /// Two of them side by side for each address, the first noted later.
    places: Vec<Free>,
}

impl Seen {
    /// Makes room for the gradients of so many parameters, and forgets what is noted.
    pub fn reserve(&mut self, n_params: usize) -> Result<(), Error> {
        let n_places = (2 * n_params).next_power_of_two();
        if self.places.len() < n_places {
            let missing = n_places - self.places.len();
            reserve(&mut self.places, missing, "the places of gradients")?;
            self.places.clear();
            self.places.resize(n_places, NOTHING);
        }
        Ok(())
    }

    /// Gives back what is not needed for so many parameters.
    pub fn give_back(&mut self, n_params: usize) {
        let n_places = (2 * n_params).next_power_of_two();
        if n_places < self.places.len() / 4 {
            give_back(&mut self.places, n_places);
            self.places.fill(NOTHING);
        }
    }

    /// Returns whether memory has been noted as free of what a step writes.
    pub fn is_free(&self, addresses: &Range<usize>, revision: u64) -> bool {
        let pair = self.pair(addresses.start);
        self.places.get(pair..pair + 2).is_some_and(|pair| {
            pair.iter().any(|free| {
                free.start == addresses.start
                    && free.end >= addresses.end
                    && free.revision == revision
            })
        })
    }

    /// Notes memory that is free of what a step writes.
    pub fn note(&mut self, addresses: &Range<usize>, revision: u64) {
        let pair = self.pair(addresses.start);
        if let Some([first, second]) = self.places.get_mut(pair..pair + 2) {
            *second = *first;
            *first = Free { start: addresses.start, end: addresses.end, revision };
        }
    }

    /// Returns the first of the two places of an address, by the high bits of its product with 2^64
    /// over the golden ratio.
    fn pair(&self, address: usize) -> usize {
        let n_pairs = self.places.len() as u64 / 2;
        let product = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        2 * ((product as u128 * n_pairs as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_noted_of_the_memory_of_now_is_free() {
        let mut seen = Seen::default();
        seen.note(&(64..128), 1);
        assert!(!seen.is_free(&(64..128), 1), "there is no room");
        seen.reserve(1000).unwrap();
        seen.note(&(64..128), 1);
        for (addresses, revision, is_free) in [
            (64..128, 1, true),
            (64..100, 1, true),
            (64..129, 1, false),
            (65..128, 1, false),
            (64..128, 2, false),
            (4096..4100, 1, false),
        ] {
            assert_eq!(seen.is_free(&addresses, revision), is_free, "{addresses:?} {revision}");
        }
        let pages: Vec<_> = (1..1000).map(|i| i * 4096..i * 4096 + 64).collect();
        pages.iter().for_each(|page| seen.note(page, 3));
        let n_kept = pages.iter().filter(|page| seen.is_free(page, 3)).count();
        assert!(n_kept > 800, "{n_kept} of pages have places of their own");
        seen.give_back(10);
        assert!(!pages.iter().any(|page| seen.is_free(page, 3)));
    }
}
