//! The memory that a step writes, as sorted address ranges, none of which overlaps another.
//!
//! `overlapped` finds what memory of the host's would overlap: a step must not write through two
//! buffers to one address, nor to a gradient that it reads. `insert` and `remove` follow the
//! parameters, and `relocate` follows buffers that the host has moved.
//!
//! The places lie in runs of at most `MOST`, so that one comes or goes without moving many. A full
//! run is cut in two (`split`), and two short ones become one (`join`). `starts` has one address
//! for each run, and a search by halves through it finds the run of an address.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::role::Role;
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

    /// Returns what no two places have in common.
    pub fn key(&self) -> (u32, Role) {
        (self.param, self.role)
    }

    pub fn addresses(&self) -> Range<usize> {
        self.start..self.end
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// Places in the order of their addresses, none of which is empty.
#[derive(Default)]
pub struct Occupied {
    /// By run, an address at or before the start of each of its places, and behind all places of
    /// the run before. The addresses lie side by side, so that a search reads few lines of memory.
    starts: Vec<usize>,
    runs: Vec<Vec<Place>>,
    revision: u64,
}

/// The most places of a run. Every run but the first is allocated with room for them.
const MOST: usize = 64;

const WHAT: &str = "the table of buffers";

impl Occupied {
    /// Returns a number that is another one as soon as a place has come or gone.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the last place that these addresses overlap.
    pub fn overlapped(&self, addresses: &Range<usize>) -> Option<&Place> {
        if addresses.is_empty() {
            return None;
        }
        let before = self.starts.partition_point(|start| *start < addresses.end);
        let mut runs = self.runs[..before].iter().rev();
        let last = runs.find_map(|places| places[..n_before(places, addresses.end)].last())?;
        (last.end > addresses.start).then_some(last)
    }

    /// Returns the memory between the last place that starts at or before an address and the next.
    /// If the address lies in a place, so does the start of the memory.
    pub fn gap(&self, address: usize) -> Range<usize> {
        let (runs_before, rest) = self.runs.split_at(self.run_of(address));
        let Some((places, runs_behind)) = rest.split_first() else { return 0..usize::MAX };
        let (before, behind) = places.split_at(n_before(places, address.saturating_add(1)));
        let mut runs_before = runs_before.iter().rev();
        let before = before.last().or_else(|| runs_before.find_map(|places| places.last()));
        let behind = behind.first().or_else(|| runs_behind.iter().find_map(|run| run.first()));
        before.map_or(0, |place| place.end)..behind.map_or(usize::MAX, |place| place.start)
    }

    /// Adds a place that overlaps none.
    pub fn insert(&mut self, place: Place) -> Result<(), Error> {
        if place.is_empty() {
            return Ok(());
        }
        self.revision += 1;
        if self.runs.is_empty() {
            reserve(&mut self.starts, 1, WHAT)?;
            reserve(&mut self.runs, 1, WHAT)?;
            self.starts.push(place.start);
            self.runs.push(Vec::new());
        }
        let mut at = self.run_of(place.start);
        if self.runs[at].len() == MOST {
            at = self.split(at, place.start)?;
        }
        let (places, start) = (&mut self.runs[at], &mut self.starts[at]);
        reserve(places, 1, WHAT)?;
        places.insert(n_before(places, place.start), place);
        *start = place.start.min(*start);
        Ok(())
    }

    /// Removes the place that has these addresses.
    pub fn remove(&mut self, addresses: &Range<usize>) {
        if let Some((at, _)) = self.take(addresses) {
            self.join(at);
            self.join(at.saturating_sub(1));
        }
    }

    /// Replaces the places that have the addresses of `old`, or returns two that would overlap.
    /// Nothing has changed then, nor after an error.
    pub fn relocate(
        &mut self,
        old: &[Range<usize>],
        new: &[Place],
    ) -> Result<Result<(), (Place, Place)>, Error> {
        let mut taken = Vec::new();
        reserve(&mut taken, old.len(), WHAT)?;
        taken.extend(old.iter().filter_map(|addresses| Some(self.take(addresses)?.1)));
        let mut n_there = 0;
        let mut result = Ok(Ok(()));
        while let (Some(place), Ok(Ok(()))) = (new.get(n_there), &result) {
            result = match self.overlapped(&place.addresses()) {
                Some(other) if other.start < place.start => Ok(Err((*other, *place))),
                Some(other) => Ok(Err((*place, *other))),
                None => self.insert(*place).map(Ok),
            };
            n_there += usize::from(matches!(result, Ok(Ok(()))));
        }
        if !matches!(result, Ok(Ok(()))) {
            for place in &new[..n_there] {
                self.take(&place.addresses());
            }
            for place in taken {
                // The runs have room for all that they have had.
                let _ = self.insert(place);
            }
        }
        let mut are_kept = self.runs.iter().map(|places| !places.is_empty());
        self.starts.retain(|_| are_kept.next() == Some(true));
        self.runs.retain(|places| !places.is_empty());
        result
    }

    /// Returns the run that a place with this start belongs to.
    fn run_of(&self, start: usize) -> usize {
        self.starts.partition_point(|first| *first <= start).saturating_sub(1)
    }

    /// Cuts a full run in two, and returns the one that a start belongs to. A start behind all
    /// places begins a run of its own, because memory is often handed out upwards.
    fn split(&mut self, at: usize, start: usize) -> Result<usize, Error> {
        let places = &self.runs[at];
        let is_behind = at + 1 == self.runs.len() && places[MOST - 1].start < start;
        let kept = if is_behind { MOST } else { MOST / 2 };
        let mut behind = Vec::new();
        reserve(&mut behind, MOST, WHAT)?;
        reserve(&mut self.starts, 1, WHAT)?;
        reserve(&mut self.runs, 1, WHAT)?;
        behind.extend(self.runs[at].drain(kept..));
        let first = behind.first().map_or(start, |place| place.start);
        self.starts.insert(at + 1, first);
        self.runs.insert(at + 1, behind);
        Ok(if start < first { at } else { at + 1 })
    }

    /// Takes out the place that has these addresses, and returns it with the number of its run.
    fn take(&mut self, addresses: &Range<usize>) -> Option<(usize, Place)> {
        if addresses.is_empty() {
            return None;
        }
        self.revision += 1;
        let at = self.run_of(addresses.start);
        let places = self.runs.get_mut(at)?;
        let inside = n_before(places, addresses.start);
        places.get(inside).filter(|place| place.start == addresses.start)?;
        Some((at, places.remove(inside)))
    }

    /// Makes one run of this one and the next, if both are short.
    fn join(&mut self, at: usize) {
        if self.runs.get(at).is_some_and(Vec::is_empty) {
            self.forget(at);
        } else if let Some([places, next]) = self.runs.get_mut(at..at + 2)
            && places.len() + next.len() <= MOST / 2
            && places.capacity() >= MOST / 2
        {
            places.append(next);
            self.forget(at + 1);
        }
    }

    fn forget(&mut self, at: usize) {
        self.starts.remove(at);
        self.runs.remove(at);
    }
}

/// Returns how many places of a run start before an address. It looks at all of them, because their
/// loads do not depend on each other, as those of a search by halves would.
fn n_before(places: &[Place], address: usize) -> usize {
    places.iter().map(|place| usize::from(place.start < address)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(range: Range<usize>, param: u32) -> Place {
        Place::new(range, param, Role::Param)
    }

    fn occupied(ranges: &[Range<usize>]) -> Occupied {
        let mut occupied = Occupied::default();
        for (param, range) in ranges.iter().enumerate() {
            occupied.insert(place(range.clone(), param as u32)).unwrap();
        }
        occupied
    }

    fn all(occupied: &Occupied) -> Vec<Place> {
        occupied.runs.iter().flatten().copied().collect()
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
    fn a_gap_reaches_from_one_place_to_the_next() {
        let many: Vec<_> = (1..1000).map(|i| 10 * i..10 * i + 5).collect();
        for ranges in [&many[..1], &many[..2], &many] {
            let (occupied, last) = (occupied(ranges), ranges.len());
            assert_eq!(occupied.gap(3), 0..10);
            for (i, place) in ranges.iter().enumerate() {
                let next = ranges.get(i + 1).map_or(usize::MAX, |place| place.start);
                assert_eq!(occupied.gap(place.end), place.end..next, "{i} of {last}");
                assert_eq!(occupied.gap(place.end + 3), place.end..next, "{i} of {last}");
                let inside = occupied.gap(place.start);
                assert!(inside.start > place.start, "{i} of {last}: {inside:?}");
            }
        }
        assert_eq!(Occupied::default().gap(7), 0..usize::MAX);
    }

    #[test]
    fn two_buffers_may_change_places_but_not_share_one() {
        let mut occupied = occupied(&[0..10, 20..30]);
        let swap = [place(20..30, 0), place(0..10, 1)];
        assert_eq!(occupied.relocate(&[0..10, 20..30], &swap).unwrap(), Ok(()));
        let before = all(&occupied);
        let (a, b) = occupied.relocate(&[20..30, 0..0], &[place(5..8, 0)]).unwrap().unwrap_err();
        assert_eq!((a.start, b.start), (0, 5));
        assert_eq!(all(&occupied), before);
    }

    /// Compares with a plain list.
    #[test]
    fn many_places_that_come_go_and_move_stay_in_order() {
        let (mut occupied, mut list) = (Occupied::default(), Vec::<Place>::new());
        let mut random = 1u64;
        let mut below = |n: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % n
        };
        for round in 0..60_000 {
            let start = below(60_000);
            let new = place(start..start + 1 + below(4), round);
            let overlaps =
                |list: &[Place]| list.iter().any(|p| p.start < new.end && new.start < p.end);
            let is_full = round / 15_000 % 2 == 1;
            match below(10) {
                0..3 if !list.is_empty() => {
                    let old = list.swap_remove(below(list.len()));
                    let is_taken = overlaps(&list);
                    let moved = occupied.relocate(&[old.addresses()], &[new]).unwrap();
                    assert_eq!(moved.is_err(), is_taken);
                    list.push(if is_taken { old } else { new });
                }
                3..9 if is_full && !list.is_empty() => {
                    let old = list.swap_remove(below(list.len()));
                    occupied.remove(&old.addresses());
                }
                _ if round % 16 == 0 || list.len() < 4000 => {
                    let is_free = occupied.overlapped(&new.addresses()).is_none();
                    assert_eq!(is_free, !overlaps(&list));
                    if is_free {
                        occupied.insert(new).unwrap();
                        list.push(new);
                    }
                }
                _ => {}
            }
            if round % 1000 == 0 {
                list.sort_unstable_by_key(|place| place.start);
                assert_eq!(all(&occupied), list);
                assert_eq!(occupied.starts.len(), occupied.runs.len());
                let mut runs = occupied.starts.iter().zip(&occupied.runs);
                assert!(runs.all(|(start, places)| places[0].start >= *start));
            }
        }
        list.iter().for_each(|old| occupied.remove(&old.addresses()));
        assert!(occupied.starts.is_empty() && occupied.runs.is_empty());
    }
}
