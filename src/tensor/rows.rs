//! Rows of a parameter, listed by the host, and the gradient that has values for those rows only.
//!
//! The gradient cuts a parameter into rows, `[height, row_elements]`: `row_elements` is the number
//! of values that it has for each listed row.
//!
//! The host sets a `SparseGrad`, a `RowList` with values. Each step reads the list once:
//! `RowIndex::read` checks every number, sorts the rows, and keeps for each its places in the list
//! and the blocks of the gradient's norm that it reaches into. From then on the index is used and
//! the list is not, since the host may write it. A chunk of the step, or a block of the norm, has a
//! `RowPart`: it finds the entries that have values for some elements, which `cpu/rows.rs` adds up
//! in the order of the list.

use super::{Tensor, check_memory};
use crate::device::Device;
use crate::error::{Error, TensorProblem};
use crate::norm;
use crate::sys::memory::reserve;
use core::ops::Range;
use core::ptr::with_exposed_provenance;

/// The type of row numbers in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowNumber {
    I32,
    I64,
}

impl RowNumber {
    fn bytes(self) -> usize {
        match self {
            RowNumber::I32 => 4,
            RowNumber::I64 => 8,
        }
    }
}

/// Numbers of rows in memory, in any order, some more than once. Those on a device are read there.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RowList {
    address: usize,
    n_rows: usize,
    number: RowNumber,
    device: Device,
}

impl RowList {
    /// Checks what can be checked about memory without touching it.
    ///
    /// # Safety
    /// As for `Tensor::new` or `Tensor::on_device`, but for reads only.
    pub unsafe fn new(
        address: usize,
        n_rows: u64,
        number: RowNumber,
        device: Device,
    ) -> Result<RowList, TensorProblem> {
        check_memory(address, n_rows, number.bytes())?;
        Ok(RowList { address, n_rows: n_rows as usize, number, device })
    }

    /// Checks that the list lies where its parameter does.
    pub fn check_device(&self, param: Device) -> Result<(), TensorProblem> {
        match self.device {
            is if is == param => Ok(()),
            is => Err(TensorProblem::WrongDevice { is, param }),
        }
    }

    pub fn address(&self) -> usize {
        self.address
    }

    pub fn number(&self) -> RowNumber {
        self.number
    }

    pub fn len(&self) -> usize {
        self.n_rows
    }

    /// Returns the addresses that it covers, to find overlaps.
    pub fn addresses(&self) -> Range<usize> {
        self.address..self.address + self.n_rows * self.number.bytes()
    }

    fn numbers(&self) -> impl Iterator<Item = i64> {
        debug_assert_eq!(self.device, Device::Host);
        let (first, number) = (self.address, self.number);
        (0..self.n_rows).map(move |i| {
            // SAFETY: `new`'s caller vouched for the memory, whose size and alignment it checked.
            unsafe {
                match number {
                    RowNumber::I32 => with_exposed_provenance::<i32>(first).add(i).read().into(),
                    RowNumber::I64 => with_exposed_provenance::<i64>(first).add(i).read(),
                }
            }
        })
    }
}

/// A gradient that has values for the listed rows only; those of a row that is listed more than
/// once are added up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SparseGrad {
    pub rows: RowList,
    /// `[rows, row_elements]`
    pub values: Tensor,
}

impl SparseGrad {
    /// Returns the number of values of each listed row; 0 if no row is listed.
    pub fn row_elements(&self) -> u64 {
        self.values.n_elements.checked_div(self.rows.n_rows as u64).unwrap_or(0)
    }
}

/// A row of the list, and its place there, which is also that of its values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RowEntry {
    pub row: u64,
    pub place: u64,
}

/// The listed rows in rising order, those of one row in the order in which they were listed.
#[derive(Default)]
pub struct RowIndex {
    entries: Vec<RowEntry>,
    /// The first entry of each listed row.
    firsts: Vec<usize>,
    /// The blocks of the parameter's norm that a listed row reaches into, rising.
    blocks: Vec<u64>,
    row_elements: u64,
}

/// A row that the parameter does not have.
#[derive(Debug)]
pub struct NoRow {
    pub place: u64,
    pub row: i64,
    pub height: u64,
}

impl RowIndex {
    /// The index of no rows.
    pub(super) const EMPTY: RowIndex =
        RowIndex { entries: Vec::new(), firsts: Vec::new(), blocks: Vec::new(), row_elements: 0 };

    /// Makes room, so that `read` allocates nothing.
    pub fn reserve(
        &mut self,
        n_rows: usize,
        row_elements: u64,
        n_elements: u64,
    ) -> Result<(), Error> {
        let per_row = row_elements / norm::BLOCK as u64 + 2;
        let blocks = (n_rows as u64).saturating_mul(per_row);
        let blocks = blocks.min(n_elements.div_ceil(norm::BLOCK as u64) + 1) as usize;
        self.clear();
        reserve(&mut self.entries, n_rows, "the rows of a sparse gradient")?;
        reserve(&mut self.firsts, n_rows, "the rows of a sparse gradient")?;
        reserve(&mut self.blocks, blocks, "the rows of a sparse gradient")
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.firsts.clear();
        self.blocks.clear();
    }

    /// Reads the rows as they are listed now. The host's memory is read once, so that the rows that
    /// are visited later are those that were checked here. Blocks count from `origin` elements
    /// before the first.
    pub fn read(
        &mut self,
        list: &RowList,
        row_elements: u64,
        height: u64,
        origin: u64,
    ) -> Result<(), NoRow> {
        self.clear();
        self.row_elements = row_elements;
        for (place, row) in (0..).zip(list.numbers()) {
            match u64::try_from(row) {
                Ok(row) if row < height => self.entries.push(RowEntry { row, place }),
                _ => {
                    self.clear();
                    return Err(NoRow { place, row, height });
                }
            }
        }
        if !self.entries.is_sorted() {
            self.entries.sort_unstable();
        }
        for (i, entry) in self.entries.iter().enumerate() {
            if i > 0 && self.entries[i - 1].row == entry.row {
                continue;
            }
            self.firsts.push(i);
            let first = (origin + entry.row * row_elements) / norm::BLOCK as u64;
            let last = (origin + (entry.row + 1) * row_elements - 1) / norm::BLOCK as u64;
            let next = self.blocks.last().map_or(0, |block| block + 1);
            self.blocks.extend(first.max(next)..=last);
        }
        Ok(())
    }

    /// Returns the number of rows for which there is room.
    pub fn room(&self) -> usize {
        self.firsts.capacity()
    }

    /// Returns the number of listed rows, each counted once.
    pub fn len(&self) -> usize {
        self.firsts.len()
    }

    /// Returns the listed rows in rising order.
    pub fn rows(&self) -> impl Iterator<Item = u64> {
        self.firsts.iter().map(|&first| self.entries[first].row)
    }

    pub fn blocks(&self) -> &[u64] {
        &self.blocks
    }

    /// Returns the entries of all rows.
    pub fn entries(&self) -> &[RowEntry] {
        &self.entries
    }

    /// Returns the i-th listed row, and its entries.
    pub fn row(&self, i: usize) -> (u64, &[RowEntry]) {
        let end = self.firsts.get(i + 1).copied().unwrap_or(self.entries.len());
        let entries = &self.entries[self.firsts[i]..end];
        (entries[0].row, entries)
    }

    /// Returns the i-th listed row, if there are so many.
    pub fn listed(&self, i: usize) -> Option<u64> {
        Some(self.entries[*self.firsts.get(i)?].row)
    }

    pub fn row_elements(&self) -> u64 {
        self.row_elements
    }
}

/// The entries from which the gradient of some elements is gathered; it is 0 where no entry has a
/// value.
#[derive(Clone, Copy)]
pub struct RowPart<'a> {
    entries: &'a [RowEntry],
    row_elements: usize,
    first_element: usize,
}

impl<'a> RowPart<'a> {
    /// Returns the part that starts at `first_element`; `entries`, in rising order, have some of
    /// its elements.
    pub fn new(entries: &'a [RowEntry], row_elements: u64, first_element: usize) -> RowPart<'a> {
        RowPart { entries, row_elements: row_elements as usize, first_element }
    }

    /// Returns the place of the values of the first n elements, if one entry has them all.
    pub fn values_in_place(&self, n: usize) -> Option<Range<usize>> {
        let mut entries = self.entries(0..n);
        let (_, _, values) = entries.next()?;
        (values.len() == n && entries.next().is_none()).then_some(values)
    }

    /// Returns, for each entry that has some of these elements (counted from the first of the
    /// part), its row, the range of those elements, and the range of their values.
    pub fn entries(
        &self,
        at: Range<usize>,
    ) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> + use<'a> {
        let n = self.row_elements;
        let elements = self.first_element + at.start..self.first_element + at.end;
        let from = self.entries.partition_point(|e| (e.row as usize + 1) * n <= elements.start);
        let end = elements.end;
        let entries = self.entries[from..].iter().take_while(move |e| (e.row as usize) * n < end);
        entries.map(move |entry| {
            let row = entry.row as usize * n;
            let common = row.max(elements.start)..(row + n).min(elements.end);
            let value = entry.place as usize * n + common.start - row;
            let values = value..value + common.len();
            (entry.row, common.start - elements.start..common.end - elements.start, values)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(rows: &[i64], row_elements: u64, height: u64) -> Result<RowIndex, NoRow> {
        // SAFETY: the rows outlive the list.
        let list = unsafe {
            let (address, n_rows) = (rows.as_ptr().expose_provenance(), rows.len() as u64);
            RowList::new(address, n_rows, RowNumber::I64, Device::Host)
        };
        let mut index = RowIndex::default();
        index.read(&list.unwrap(), row_elements, height, 0)?;
        Ok(index)
    }

    #[test]
    fn rows_rise_and_their_places_keep_their_order() {
        let index = index(&[5, 2, 5, 0, 5], 3000, 6).unwrap();
        assert_eq!(index.rows().collect::<Vec<_>>(), [0, 2, 5]);
        let places = |i| index.row(i).1.iter().map(|e| e.place).collect::<Vec<_>>();
        assert_eq!([places(0), places(1), places(2)], [vec![3], vec![1], vec![0, 2, 4]]);
        // Elements 0..3000, 6000..9000 and 15000..18000 in blocks of 4,096.
        assert_eq!(index.blocks(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_row_outside_is_found_with_its_place() {
        for (rows, place, row) in [([0, 6], 1, 6), ([-1, 9], 0, -1)] {
            let found = index(&rows, 4, 6).err().unwrap();
            assert_eq!((found.place, found.row, found.height), (place, row, 6));
        }
    }

    #[test]
    fn a_part_says_which_values_its_elements_have() {
        let index = index(&[3, 1, 3], 10, 5).unwrap();
        let part = RowPart::new(index.entries(), 10, 15);
        // Elements 17..35: of row 1 the last three, of row 3 the first five, twice.
        let found: Vec<_> = part.entries(2..20).collect();
        assert_eq!(found, [(1, 0..3, 17..20), (3, 13..18, 0..5), (3, 13..18, 20..25)]);
        assert_eq!(part.entries(5..15).count(), 0);
    }
}
