//! The parameter that has a name: a hash table with linear probing.
//!
//! A place holds a hash and the number of a parameter, not the name, which `get` asks for to
//! compare. `get` looks from the place that a hash begins at (`home`) up to the first empty one. If
//! the name is not there, it returns the hash, with which `insert` adds the parameter; `reserve`
//! has made room before. `remove` closes the gap that it leaves, so that every search still ends at
//! an empty place.
//!
//! The table doubles when it is more than three quarters full, and shrinks when less than an eighth
//! of it is taken. The hash is keyed, so that no choice of names makes searches slow.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::sys::memory::reserve;
use std::hash::{BuildHasher, RandomState};

/// The hash of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hash(u32);

/// One place of the table. It keeps the hash, so that the table can grow without the names.
#[derive(Clone, Copy)]
struct Place {
    hash: Hash,
    /// The number of the parameter, or that of `EMPTY`, which no parameter has.
    number: u32,
}

const EMPTY: Place = Place { hash: Hash(0), number: u32::MAX };

/// The number of places of the smallest table that is not empty.
const SMALLEST: usize = 16;

#[derive(Default)]
pub struct ByName {
    hasher: RandomState,
    /// None, or a power of two, of which at most three quarters are taken.
    places: Vec<Place>,
    len: usize,
}

impl ByName {
    /// Returns the parameter of this name, or the hash by which it can be inserted. `name_of`
    /// returns the name of a parameter.
    pub fn get<'a>(&self, name: &[u8], name_of: impl Fn(u32) -> &'a [u8]) -> Result<u32, Hash> {
        let hash = self.hash(name);
        let mut at = self.home(hash).ok_or(hash)?;
        while self.places[at].number != EMPTY.number {
            let place = self.places[at];
            if place.hash == hash && name_of(place.number) == name {
                return Ok(place.number);
            }
            at = self.next(at);
        }
        Err(hash)
    }

    /// Makes room for one more, so that `insert` need not.
    pub fn reserve(&mut self) -> Result<(), Error> {
        if (self.len + 1) * 4 <= self.places.len() * 3 {
            return Ok(());
        }
        self.resize((self.places.len() * 2).max(SMALLEST))
    }

    /// Adds the hash of a name that is not there, for which there is room.
    pub fn insert(&mut self, hash: Hash, number: u32) {
        self.put(Place { hash, number });
        self.len += 1;
    }

    /// Removes the name of a parameter.
    pub fn remove(&mut self, name: &[u8], number: u32) {
        let Some(mut at) = self.home(self.hash(name)) else { return };
        while self.places[at].number != number {
            if self.places[at].number == EMPTY.number {
                return;
            }
            at = self.next(at);
        }
        // Those behind the gap move into it, except where it lies before their home.
        let mut behind = self.next(at);
        while self.places[behind].number != EMPTY.number {
            let mask = self.places.len() - 1;
            let from_home = |at: usize| at.wrapping_sub(self.places[behind].hash.0 as usize) & mask;
            if from_home(behind) >= (behind.wrapping_sub(at) & mask) {
                self.places[at] = self.places[behind];
                at = behind;
            }
            behind = self.next(behind);
        }
        self.places[at] = EMPTY;
        self.len -= 1;
        if self.places.len() > SMALLEST && self.len * 8 < self.places.len() {
            // If there is no memory for a smaller table, the large one stays.
            let _ = self.resize(self.places.len() / 4);
        }
    }

    fn resize(&mut self, n_places: usize) -> Result<(), Error> {
        let mut places = Vec::new();
        reserve(&mut places, n_places, "the names of parameters")?;
        places.resize(n_places, EMPTY);
        let old = core::mem::replace(&mut self.places, places);
        old.into_iter().filter(|place| place.number != EMPTY.number).for_each(|p| self.put(p));
        Ok(())
    }

    fn put(&mut self, place: Place) {
        let Some(mut at) = self.home(place.hash) else { return };
        while self.places[at].number != EMPTY.number {
            at = self.next(at);
        }
        self.places[at] = place;
    }

    fn hash(&self, name: &[u8]) -> Hash {
        Hash(self.hasher.hash_one(name) as u32)
    }

    /// Returns where the search for a hash begins, or `None` if there are no places.
    fn home(&self, hash: Hash) -> Option<usize> {
        Some(hash.0 as usize & self.places.len().checked_sub(1)?)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_long_as_they_are_there() {
        let names: Vec<String> = (0..5000).map(|i| format!("layer.{i}.weight")).collect();
        let name_of = |number: u32| names[number as usize].as_bytes();
        let (mut table, mut there) = (ByName::default(), vec![false; names.len()]);
        assert!(table.get(b"layer.0.weight", name_of).is_err());
        table.remove(b"layer.0.weight", 0);
        let mut random = 1u64;
        for round in 0..40_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = (random >> 33) as usize % names.len();
            if there[number] {
                table.remove(name_of(number as u32), number as u32);
            } else if round < 30_000 {
                table.reserve().unwrap();
                let hash = table.get(name_of(number as u32), name_of).unwrap_err();
                table.insert(hash, number as u32);
            } else {
                continue;
            }
            there[number] = !there[number];
            if round % 5000 == 0 {
                for (i, name) in names.iter().enumerate() {
                    let found = table.get(name.as_bytes(), name_of).ok();
                    assert_eq!(found, there[i].then_some(i as u32));
                }
            }
        }
        for number in (0..5000).filter(|&number| there[number]) {
            table.remove(name_of(number as u32), number as u32);
        }
        assert_eq!((table.len, table.places.len()), (0, SMALLEST));
        assert!(table.places.iter().all(|place| place.number == EMPTY.number));
    }
}
