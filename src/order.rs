//! The order in which the dimensions of a tensor lie in memory, where there are no gaps.
//!
//! Steps know no dimensions: they go through memory. So it is enough that all tensors of a
//! parameter have their dimensions in one order, which `fits` compares. Dimensions of one element
//! lie anywhere and do not count.
#![forbid(unsafe_code)]

use core::fmt;

/// The order of the dimensions in memory. It has a number for each permutation of 2 to `MOST`
/// dimensions, so that it takes little room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order(u16);

impl Order {
    /// That of a plain array, or of one dimension: whatever the order is, here are the elements.
    pub const FLAT: Order = Order(0);
    pub const ROW_MAJOR: Order = Order(1);
    /// The most dimensions that are not row-major.
    pub const MOST: usize = 8;

    /// Returns the order of these dimensions, of which the first is the outermost in memory; `None`
    /// for more than `MOST` that are not row-major.
    pub fn of(dimensions: &[u8]) -> Option<Order> {
        let n = dimensions.len();
        if n < 2 {
            return Some(Order::FLAT);
        }
        if dimensions.is_sorted() {
            return Some(Order::ROW_MAJOR);
        }
        if n > Order::MOST {
            return None;
        }
        let rank = dimensions.iter().enumerate().fold(0, |rank, (i, dimension)| {
            let n_lower = dimensions[i..].iter().filter(|other| *other < dimension).count();
            rank * (n - i) + n_lower
        });
        Some(Order(first(n) + rank as u16))
    }

    /// Returns whether a tensor of this order may be a buffer of a parameter of that one.
    pub fn fits(self, param: Order) -> bool {
        self == Order::FLAT || self == param || self.is_row_major() && param.is_row_major()
    }

    pub fn is_row_major(self) -> bool {
        self == Order::FLAT || self == Order::ROW_MAJOR
    }
}

/// Returns the number of the first permutation of `n` dimensions, which is behind all of fewer.
fn first(n: usize) -> u16 {
    let factorials = (2..n as u16).scan(1, |product, factor| {
        *product *= factor;
        Some(*product)
    });
    2 + factorials.sum::<u16>()
}

/// Numbers the dimensions from 0, those of one element left out, as `1,2,0`.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.is_row_major() {
            return f.write_str("row-major");
        }
        let n = (3..=Order::MOST).take_while(|&n| first(n) <= self.0).last().unwrap_or(2);
        let mut rank = usize::from(self.0 - first(n));
        let mut n_lower = [0; Order::MOST];
        for i in (0..n).rev() {
            n_lower[i] = rank % (n - i);
            rank /= n - i;
        }
        let mut left: u32 = (1 << n) - 1;
        for (i, &n_lower) in n_lower[..n].iter().enumerate() {
            let mut lower = left;
            (0..n_lower).for_each(|_| lower &= lower - 1);
            let dimension = lower.trailing_zeros();
            left &= !(1 << dimension);
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{dimension}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `visit` with every order of so many dimensions.
    fn each(n: usize, begun: &mut Vec<u8>, visit: &mut impl FnMut(&[u8])) {
        if begun.len() == n {
            return visit(begun);
        }
        for dimension in 0..n as u8 {
            if !begun.contains(&dimension) {
                begun.push(dimension);
                each(n, begun, visit);
                begun.pop();
            }
        }
    }

    #[test]
    fn every_order_has_a_number_and_a_text_of_its_own() {
        let mut seen = vec![false; 1 << 16];
        for n in 2..=Order::MOST {
            each(n, &mut Vec::new(), &mut |dimensions| {
                let order = Order::of(dimensions).unwrap();
                if dimensions.is_sorted() {
                    assert_eq!(order, Order::ROW_MAJOR);
                    return;
                }
                assert!(
                    !core::mem::replace(&mut seen[usize::from(order.0)], true),
                    "{dimensions:?}"
                );
                let text: Vec<_> = dimensions.iter().map(u8::to_string).collect();
                assert_eq!(order.to_string(), text.join(","));
            });
        }
        assert!(!seen[0] && !seen[1]);
        // Only the order counts, not how the dimensions are numbered.
        assert_eq!(Order::of(&[9, 2, 40]), Order::of(&[1, 0, 2]));
        assert_eq!([Order::of(&[]), Order::of(&[3])], [Some(Order::FLAT); 2]);
        let many: Vec<u8> = (0..9).collect();
        assert_eq!(Order::of(&many), Some(Order::ROW_MAJOR));
        assert_eq!(Order::of(&[1, 0, 2, 3, 4, 5, 6, 7, 8]), None);
    }

    #[test]
    fn an_array_fits_any_order_and_a_tensor_its_own() {
        let [flat, rows] = [Order::FLAT, Order::ROW_MAJOR];
        let [columns, other] = [[1, 0, 2], [2, 0, 1]].map(|order| Order::of(&order).unwrap());
        for (buffer, param, fits) in [
            (flat, flat, true),
            (flat, rows, true),
            (flat, columns, true),
            (rows, flat, true),
            (rows, rows, true),
            (rows, columns, false),
            (columns, flat, false),
            (columns, rows, false),
            (columns, columns, true),
            (columns, other, false),
        ] {
            assert_eq!(buffer.fits(param), fits, "{buffer} {param}");
        }
    }
}
