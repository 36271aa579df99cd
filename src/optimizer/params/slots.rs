//! The numbers of parameters, and the order in which the parameters were added.
//!
//! `next` returns the lowest number that is free, `take` gives it to a parameter, and `release`
//! takes it back. `free` has a bit for each number, and `words` has a bit for each word of `free`,
//! so that `next` need not look at all of them. `links` connects the parameters that are there in
//! the order of adding, which `live` follows.
//!
//! The highest number is never free: `release` drops the free ones at the end. A number that a
//! recorded graph still uses is released without becoming free, so that no parameter gets it again.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::sys::memory::{give_back, reserve};

/// Puts what belongs to a number in its place, for which there is room.
pub fn put<T>(values: &mut Vec<T>, number: u32, value: T) {
    match values.get_mut(number as usize) {
        Some(free) => *free = value,
        None => values.push(value),
    }
}

/// Numbers below a length, each of a parameter or free.
pub struct Slots {
    /// By number, the neighbours in the order of adding.
    links: Vec<Link>,
    first: u32,
    last: u32,
    /// A bit for each number, which is set if the number is free.
    free: Vec<u64>,
    /// A bit for each word of `free`, which is set if any of its bits is.
    words: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

/// Stands for no number: `next_number` never returns it.
const NONE: u32 = u32::MAX;

const WHAT: &str = "the numbers of parameters";

impl Default for Slots {
    fn default() -> Slots {
        Slots { links: Vec::new(), first: NONE, last: NONE, free: Vec::new(), words: Vec::new() }
    }
}

impl Slots {
    /// Returns one more than the highest number.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Returns the lowest number that is free.
    pub fn next(&self) -> usize {
        let in_words = self.words.iter().enumerate().find_map(lowest);
        in_words.and_then(|word| lowest((word, &self.free[word]))).unwrap_or(self.len())
    }

    /// Makes room for one more, so that `take` need not.
    pub fn reserve(&mut self) -> Result<(), Error> {
        reserve(&mut self.links, 1, WHAT)?;
        reserve(&mut self.free, 1, WHAT)?;
        reserve(&mut self.words, 1, WHAT)
    }

    /// Returns `next` and takes it for a parameter, which becomes the last in the order of adding.
    pub fn take(&mut self) -> u32 {
        let number = self.next();
        let link = Link { before: self.last, after: NONE };
        if number == self.len() {
            self.links.push(link);
            self.free.resize(number / 64 + 1, 0);
            self.words.resize(number / 4096 + 1, 0);
        } else {
            self.links[number] = link;
            self.set_free(number, false);
        }
        match self.links.get_mut(self.last as usize) {
            Some(last) => last.after = number as u32,
            None => self.first = number as u32,
        }
        self.last = number as u32;
        number as u32
    }

    /// Takes a number back, which can be given again if it `is_free`. Drops the free numbers at the
    /// end.
    pub fn release(&mut self, number: usize, is_free: bool) {
        let Link { before, after } = self.links[number];
        match self.links.get_mut(before as usize) {
            Some(link) => link.after = after,
            None => self.first = after,
        }
        match self.links.get_mut(after as usize) {
            Some(link) => link.before = before,
            None => self.last = before,
        }
        self.set_free(number, is_free);
        while let Some(highest) = self.len().checked_sub(1)
            && self.free[highest / 64] & bit(highest) != 0
        {
            self.set_free(highest, false);
            self.links.pop();
        }
        self.free.truncate(self.len().div_ceil(64));
        self.words.truncate(self.len().div_ceil(4096));
        let length = self.len();
        give_back(&mut self.links, length);
    }

    /// Returns the numbers of the parameters that are there, in the order in which they were added.
    pub fn live(&self) -> impl Iterator<Item = usize> {
        let number = |number: u32| (number != NONE).then_some(number as usize);
        core::iter::successors(number(self.first), move |&at| number(self.links[at].after))
    }

    fn set_free(&mut self, number: usize, is_free: bool) {
        let word = number / 64;
        set(&mut self.free[word], bit(number), is_free);
        set(&mut self.words[word / 64], bit(word), self.free[word] != 0);
    }
}

fn bit(number: usize) -> u64 {
    1 << (number % 64)
}

fn set(word: &mut u64, bit: u64, is_set: bool) {
    *word = if is_set { *word | bit } else { *word & !bit };
}

/// Returns the lowest number whose bit is set in the i-th word.
fn lowest((i, word): (usize, &u64)) -> Option<usize> {
    (*word != 0).then(|| i * 64 + word.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(slots: &mut Slots) -> usize {
        let number = slots.next();
        slots.reserve().unwrap();
        assert_eq!(slots.take() as usize, number);
        number
    }

    /// Compares with a plain list.
    #[test]
    fn the_lowest_free_number_comes_first_and_the_order_is_that_of_adding() {
        let (mut slots, mut live) = (Slots::default(), Vec::new());
        let mut random = 1u64;
        for round in 0..60_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Nine in ten are additions in one phase, and removals in the next.
            let grows = (random >> 33) % 10 < if round / 10_000 % 2 == 0 { 9 } else { 1 };
            if live.is_empty() || grows {
                let number = add(&mut slots);
                live.push(number);
            } else {
                let at = (random >> 40) as usize % live.len();
                slots.release(live.remove(at), true);
            }
            if round % 500 == 0 || slots.len() < 100 {
                assert!(slots.live().eq(live.iter().copied()));
                let mut sorted = live.clone();
                sorted.sort_unstable();
                let gap = sorted.iter().enumerate().find(|(i, number)| i != *number);
                assert_eq!(slots.next(), gap.map_or(sorted.len(), |(i, _)| i));
                assert_eq!(slots.len(), sorted.last().map_or(0, |highest| highest + 1));
            }
        }
    }

    #[test]
    fn a_number_that_is_kept_is_nobodys() {
        let mut slots = Slots::default();
        (0..4).for_each(|i| assert_eq!(add(&mut slots), i));
        slots.release(1, false);
        slots.release(3, true);
        slots.release(2, true);
        assert_eq!((slots.len(), slots.next()), (2, 2));
        assert!(slots.live().eq([0]));
    }

    #[test]
    fn nothing_is_left_when_all_are_gone() {
        let mut slots = Slots::default();
        assert!((0..10_000).map(|_| add(&mut slots)).eq(0..10_000));
        (0..10_000).for_each(|number| slots.release(number, true));
        assert_eq!((slots.len(), slots.next(), slots.live().count()), (0, 0, 0));
        assert!(slots.links.capacity() < 200);
    }
}
