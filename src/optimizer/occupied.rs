//! The memory that a step writes, as sorted address ranges: nothing may lie in it twice.
#![forbid(unsafe_code)]

use crate::error::{Error, Role};
use crate::sys::memory::reserve;
use core::ops::Range;

/// One buffer that a step writes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Place {
    pub start: usize,
    pub end: usize,
    pub param: u32,
    pub role: Role,
}

impl Place {
    pub fn new(addresses: Range<usize>, param: u32, role: Role) -> Place {
        Place { start: addresses.start, end: addresses.end, param, role }
    }

    /// What there is only one of.
    pub fn key(&self) -> (u32, Role) {
        (self.param, self.role)
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// Places in the order of their addresses, none empty, none overlapping another.
#[derive(Default)]
pub struct Occupied {
    places: Vec<Place>,
}

impl Occupied {
    pub fn reserve(&mut self, additional: usize) -> Result<(), Error> {
        reserve(&mut self.places, additional, "the table of buffers")
    }

    /// A place that these addresses overlap.
    pub fn overlapped(&self, addresses: &Range<usize>) -> Option<&Place> {
        if addresses.is_empty() {
            return None;
        }
        let before = self.places.partition_point(|place| place.start < addresses.end);
        let last = self.places[..before].last()?;
        (last.end > addresses.start).then_some(last)
    }

    /// Adds a place that overlaps none.
    pub fn insert(&mut self, place: Place) {
        if !place.is_empty() {
            let at = self.places.partition_point(|other| other.start < place.start);
            self.places.insert(at, place);
        }
    }

    /// Removes the places of a parameter.
    pub fn remove(&mut self, param: u32) {
        self.places.retain(|place| place.param != param);
    }

    /// The same places with some of them moved, or two that would overlap. `moves` is in the order
    /// of parameters and roles.
    pub fn moved(&self, moves: &[Place]) -> Result<Result<Occupied, (Place, Place)>, Error> {
        let mut places: Vec<Place> = Vec::new();
        reserve(&mut places, self.places.len() + moves.len(), "the table of buffers")?;
        let stays = |place: &&Place| moves.binary_search_by_key(&place.key(), Place::key).is_err();
        places.extend(self.places.iter().filter(stays));
        places.extend(moves.iter().filter(|place| !place.is_empty()));
        places.sort_unstable_by_key(|place| place.start);
        for pair in places.windows(2) {
            if pair[0].end > pair[1].start {
                return Ok(Err((pair[0], pair[1])));
            }
        }
        Ok(Ok(Occupied { places }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occupied(ranges: &[Range<usize>]) -> Occupied {
        let mut occupied = Occupied::default();
        for (param, range) in ranges.iter().enumerate() {
            occupied.insert(Place::new(range.clone(), param as u32, Role::Param));
        }
        occupied
    }

    #[test]
    fn neighbours_do_not_overlap_and_everything_else_does() {
        let occupied = occupied(&[30..40, 10..20, 50..50]);
        let overlapped = |range: Range<usize>| occupied.overlapped(&range).map(|place| place.param);
        for free in [0..10, 20..30, 40..100, 15..15, 50..51] {
            assert_eq!(overlapped(free.clone()), None, "{free:?}");
        }
        for (taken, by) in [(9..11, 1), (10..20, 1), (19..30, 1), (12..13, 1), (39..90, 0)] {
            assert_eq!(overlapped(taken.clone()), Some(by), "{taken:?}");
        }
        assert!(overlapped(0..100).is_some());
    }

    #[test]
    fn two_buffers_may_change_places_but_not_share_one() {
        let occupied = occupied(&[0..10, 20..30]);
        let swap = [Place::new(20..30, 0, Role::Param), Place::new(0..10, 1, Role::Param)];
        assert!(occupied.moved(&swap).unwrap().is_ok());
        let clash = occupied.moved(&swap[..1]).unwrap().err().unwrap();
        assert_eq!((clash.0.start, clash.1.start), (20, 20));
    }
}
