//! The clocks of all parameters, by place.
//!
//! Parameters that share the scalars of a step share their clock after it. A step that repeats the
//! last one counts for all of them by the shared clocks alone, and writes nothing for each.
#![forbid(unsafe_code)]

use super::id::ParamId;
use super::slots::put;
use crate::error::Error;
use crate::steps::{Clock, NO_STEP};
use crate::sys::memory::{give_back, reserve};
use core::ops::Range;

#[derive(Default)]
pub struct Clocks {
    /// By place.
    each: Vec<Each>,
    shared: Vec<Shared>,
}

struct Each {
    /// The clock, if it is not shared.
    own: Clock,
    /// The index of the clock that is shared, or `NO_STEP`.
    shared: u32,
}

/// The clock after a step of the parameters that share scalars, and the first of them.
#[derive(Clone, Copy)]
pub struct Shared {
    pub clock: Clock,
    pub first: ParamId,
}

impl Clocks {
    pub fn get(&self, place: usize) -> Clock {
        let Each { own, shared } = &self.each[place];
        self.shared.get(*shared as usize).map_or(*own, |shared| shared.clock)
    }

    pub fn set(&mut self, place: usize, clock: Clock) {
        self.each[place] = Each { own: clock, shared: NO_STEP };
    }

    /// Counts a step: `scalars_of` has for each place of the step the index into `after` of the
    /// clock after it, or `NO_STEP`.
    pub fn count(&mut self, of: &Range<usize>, scalars_of: &[u32], after: &[Shared]) {
        if *of != (0..self.each.len()) {
            for (place, index) in of.clone().zip(scalars_of) {
                if let Some(shared) = after.get(*index as usize) {
                    self.set(place, shared.clock);
                }
            }
            return;
        }
        for (each, index) in self.each.iter_mut().zip(scalars_of) {
            if *index == NO_STEP
                && let Some(shared) = self.shared.get(each.shared as usize)
            {
                each.own = shared.clock;
            }
            each.shared = *index;
        }
        self.shared.clear();
        self.shared.extend_from_slice(after);
    }

    /// Counts a step whose parameters are those that the last `count` was given, of all places.
    pub fn count_again(&mut self, after: &[Shared]) {
        self.shared.copy_from_slice(after);
    }

    /// Makes room for one more parameter, so that neither `put` nor `count` allocates.
    pub fn reserve(&mut self, what: &'static str) -> Result<(), Error> {
        let n_shared = (self.each.len() + 1).saturating_sub(self.shared.len());
        reserve(&mut self.each, 1, what)?;
        reserve(&mut self.shared, n_shared, what)
    }

    /// Puts the clock of a new parameter.
    pub fn put(&mut self, number: u32, clock: Clock) {
        put(&mut self.each, number, Each { own: clock, shared: NO_STEP });
    }

    /// Gives back the memory that so many parameters do not need.
    pub fn give_back(&mut self, n_params: usize) {
        let n_shared = self.shared.len();
        give_back(&mut self.each, n_params);
        give_back(&mut self.shared, n_params.max(n_shared));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(step: u64) -> Clock {
        Clock { step, ..Clock::NEW }
    }

    /// Compares with a plain list.
    #[test]
    fn every_parameter_has_the_clock_of_the_last_step_that_counted_it() {
        let (mut clocks, mut plain) = (Clocks::default(), Vec::new());
        let (mut scalars_of, mut repeats) = (Vec::new(), false);
        let first = ParamId::new(0);
        let mut random = 1u64;
        for round in 1..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = (random >> 40) as usize % (plain.len() + 1);
            match (random >> 33) % 8 {
                0 if plain.len() < 20 || place < plain.len() => {
                    clocks.reserve("a test").unwrap();
                    clocks.put(place as u32, after(round));
                    match plain.get_mut(place) {
                        Some(clock) => *clock = after(round),
                        None => plain.push(after(round)),
                    }
                    repeats = false;
                }
                1 if place < plain.len() => {
                    clocks.set(place, after(round));
                    plain[place] = after(round);
                    repeats = false;
                }
                2 if place > 3 => {
                    plain.truncate(place);
                    clocks.give_back(place);
                    repeats = false;
                }
                n => {
                    let of =
                        if n == 3 { place.min(plain.len())..plain.len() } else { 0..plain.len() };
                    let again = repeats && n > 4;
                    if !again {
                        let bits = |i: usize| (random >> (i % 50)) as u32 % 4;
                        let index = |i| if bits(i) == 3 { NO_STEP } else { bits(i) };
                        scalars_of = of.clone().map(index).collect();
                    }
                    let clocks_after = [0, 1, 2].map(|i| after(3 * round + i));
                    let shared = clocks_after.map(|clock| Shared { clock, first });
                    for (place, index) in of.clone().zip(&scalars_of) {
                        plain[place] = *clocks_after.get(*index as usize).unwrap_or(&plain[place]);
                    }
                    match again {
                        true => clocks.count_again(&shared),
                        false => clocks.count(&of, &scalars_of, &shared),
                    }
                    repeats = n > 3;
                }
            }
            let all: Vec<_> = (0..plain.len()).map(|place| clocks.get(place)).collect();
            assert_eq!(all, plain);
        }
    }
}
