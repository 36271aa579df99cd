//! Values of some parameters, by the parameter's number. Finding, adding and removing one costs the
//! same however many there are.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::sys::memory::reserve;

/// A value for some of the numbers.
pub struct ByNumber<T> {
    /// By number: 1 more than the place of its value, or 0 if it has none.
    places: Vec<u32>,
    /// The values in no order, each with its number.
    values: Vec<(u32, T)>,
}

impl<T> Default for ByNumber<T> {
    fn default() -> ByNumber<T> {
        ByNumber { places: Vec::new(), values: Vec::new() }
    }
}

impl<T> ByNumber<T> {
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Makes room for one more value, whose number is below `n_numbers`, so that `insert` need not.
    pub fn reserve(&mut self, n_numbers: usize) -> Result<(), Error> {
        const WHAT: &str = "the parameters";
        let missing = n_numbers.saturating_sub(self.places.len());
        reserve(&mut self.places, missing, WHAT)?;
        reserve(&mut self.values, 1, WHAT)
    }

    /// Adds the value of a number that has none. `reserve` has made room.
    pub fn insert(&mut self, number: u32, value: T) {
        let needed = number as usize + 1;
        self.places.resize(self.places.len().max(needed), 0);
        self.values.push((number, value));
        self.places[number as usize] = self.values.len() as u32;
    }

    pub fn get(&self, number: u32) -> Option<&T> {
        Some(&self.values[self.place(number)?].1)
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let place = self.place(number)?;
        Some(&mut self.values[place].1)
    }

    pub fn remove(&mut self, number: u32) -> Option<T> {
        let place = self.place(number)?;
        let (_, value) = self.values.swap_remove(place);
        self.places[number as usize] = 0;
        if let Some((moved, _)) = self.values.get(place) {
            self.places[*moved as usize] = place as u32 + 1;
        }
        Some(value)
    }

    /// Returns a bound above all numbers that have a value.
    pub fn n_numbers(&self) -> u32 {
        self.places.len() as u32
    }

    /// Returns all values with their numbers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> + Clone {
        self.values.iter().map(|(number, value)| (*number, value))
    }

    fn place(&self, number: u32) -> Option<usize> {
        (*self.places.get(number as usize)? as usize).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_and_go_under_their_numbers() {
        let mut values = ByNumber::default();
        for number in [7, 2, 9, 0] {
            values.reserve(10).unwrap();
            values.insert(number, number * 10);
        }
        assert_eq!(values.remove(2), Some(20));
        assert_eq!((values.remove(2), values.get(2), values.get(100)), (None, None, None));
        *values.get_mut(9).unwrap() += 1;
        values.insert(2, 21);
        let mut there: Vec<_> = values.iter().map(|(number, value)| (number, *value)).collect();
        there.sort();
        assert_eq!(there, [(0, 0), (2, 21), (7, 70), (9, 91)]);
        assert_eq!(values.iter().count(), values.len());
        assert_eq!((0..10).filter_map(|number| values.remove(number)).count(), 4);
        assert_eq!((values.len(), values.iter().count()), (0, 0));
    }
}
