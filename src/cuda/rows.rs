//! Sparse gradients on the device: sorted by their rows, and gathered into dense gradients of the library's
//! own, which are zero elsewhere.

use super::driver::{Entered, Memory};
use super::kernels::Kernel;
use super::lag::Lag;
use super::step::argument;
use super::table::{self, COUNTS, GATHERED, Outside, TILE, Values};
use super::workspace::Size;
use super::{Cuda, Stale};
use crate::error::{Error, Label};
use crate::tensor::{Operands, RowNumber, SparseGrad};

/// Blocks that share the work on one gradient: `rows.cuh` has the same.
pub const SHARES: u64 = 256;

/// Where in its memory the gradient starts, behind what is noted of it.
const GRAD: usize = 64;

const _: () = assert!(GATHERED <= GRAD && size_of::<Outside>() <= GATHERED);

/// What the sparse gradients of one parameter need.
pub struct Room {
    number: u32,
    /// What is noted, and the gradient `[n]` in the compute type.
    grad: Memory,
    grad_bytes: usize,
    /// The entries `[n_rows]`, twice, and the counts of their digits.
    lists: Memory,
    n_rows: usize,
}

impl Room {
    fn lists(device: &Entered, n_rows: usize) -> Result<Memory, Error> {
        let bytes = n_rows * 2 * size_of::<u64>() + n_rows.div_ceil(TILE) * COUNTS * 4;
        device.allocate(bytes, "the rows of a sparse gradient on the device")
    }

    fn new(
        device: &Entered,
        number: u32,
        operands: &Operands,
        n_rows: usize,
    ) -> Result<Room, Error> {
        let param = operands.param();
        let elements = param.n_elements() as usize;
        let grad_bytes = elements.saturating_mul(param.dtype().compute().bytes());
        let bytes = grad_bytes.saturating_add(GRAD);
        let room = Room {
            number,
            grad: device.allocate(bytes, "the gathered gradient of a parameter")?,
            grad_bytes,
            lists: Room::lists(device, n_rows)?,
            n_rows,
        };
        room.forget(device, GATHERED)?;
        Ok(room)
    }

    /// Makes nothing gathered, and forgets so many bytes of what is noted. Waits for the device.
    fn forget(&self, device: &Entered, noted: usize) -> Result<(), Error> {
        // SAFETY: so much has been allocated, and it is waited for before anybody can drop it.
        unsafe {
            device.zero(self.grad(), self.grad_bytes)?;
            device.zero(self.grad.address(), noted)?;
        }
        device.wait()
    }

    /// Where the gradient is.
    pub fn grad(&self) -> u64 {
        self.grad.address() + GRAD as u64
    }

    /// What the kernels are told of a gradient that there is room for.
    pub fn described(
        &self,
        operands: &Operands,
        sparse: &SparseGrad,
        lag: Option<&Lag>,
    ) -> table::Rows {
        let row_elements = sparse.row_elements();
        let (entries, bytes) = (self.lists.address(), (self.n_rows * size_of::<u64>()) as u64);
        table::Rows {
            numbers: sparse.rows.address() as u64,
            values: sparse.values.address() as u64,
            grad: self.grad(),
            entries,
            spare: entries + bytes,
            counts: entries + 2 * bytes,
            gathered: self.grad.address(),
            lag: lag.map_or(0, Lag::address),
            n_rows: sparse.rows.len() as u64,
            row_elements,
            height: operands.param().n_elements() / row_elements.max(1),
            tensor: self.number,
            values_type: Values::new(operands.param().dtype(), sparse.values.dtype()),
            is_long: (sparse.rows.number() == RowNumber::I64).into(),
            reserved: 0,
        }
    }
}

impl Cuda {
    /// Makes room for a sparse gradient, so that a step need not. May wait for the device.
    pub fn reserve_rows(
        &mut self,
        (number, name): (u32, Label),
        operands: &Operands,
        sparse: &SparseGrad,
    ) -> Result<(), Error> {
        let n_rows = sparse.rows.len();
        let height = operands.param().n_elements().checked_div(sparse.row_elements());
        if n_rows.max(height.unwrap_or(0) as usize) > u32::MAX as usize {
            let what = "sparse gradient of 2^32 rows";
            return Err(Error::NotOnDevice { param: name, what });
        }
        let room = self.rooms.get(number);
        if room.is_some_and(|room| room.n_rows >= n_rows) {
            return Ok(());
        }
        let n_rows = n_rows.max(room.map_or(0, |room| 2 * room.n_rows));
        self.check_not_capturing("the first sparse gradient of so many rows")?;
        let is_in_graph = self.is_in_graph(number);
        match self.rooms.get(number) {
            Some(_) if !is_in_graph => {
                let lists = Room::lists(&self.driver.enter()?, n_rows)?;
                self.wait_for_all()?;
                let device = self.driver.enter()?;
                let room = self.rooms.get_mut(number).ok_or(Error::BrokenDevice)?;
                // The old entries say which rows of the gradient are not zero.
                room.forget(&device, GATHERED - size_of::<Outside>())?;
                (room.lists, room.n_rows) = (lists, n_rows);
            }
            // A graph knows its room by what was gathered there last.
            _ => {
                self.rooms.reserve(number as usize + 1)?;
                self.leftover.reserve()?;
                let n_rooms = self.n_rooms() + 1;
                self.plan.reserve_rows(n_rooms)?;
                self.grow_workspace(Size { n_rooms, ..Size::default() })?;
                let room = Room::new(&self.driver.enter()?, number, operands, n_rows)?;
                let before = self.rooms.remove(number);
                self.leftover.rooms.extend(before.map(|before| (Some(number), before)));
                self.rooms.insert(number, room);
            }
        }
        self.stale = Stale::All;
        Ok(())
    }

    /// How many rooms there are, those of graphs too.
    pub(super) fn n_rooms(&self) -> usize {
        self.rooms.len() + self.leftover.rooms.len()
    }

    /// Whether a sparse gradient is part of the step.
    pub fn has_rows(&self) -> bool {
        !self.plan.rows.is_empty()
    }

    /// Gathers the sparse gradients of the step. After an error that left some gathered in part, the device's
    /// part of the handle is broken.
    pub fn gather(&mut self) -> Result<(), Error> {
        if !self.has_rows() {
            return Ok(());
        }
        self.prepare()?;
        let device = self.driver.enter()?;
        let queued = self.queue_gather(&device);
        let is_broken = queued.is_err() && device.has_launched();
        drop(device);
        self.is_broken = is_broken;
        queued
    }

    fn queue_gather(&self, device: &Entered) -> Result<(), Error> {
        let rows = &self.plan.rows;
        let (mut table, mut n) = (self.rows_table(), rows.len() as u64);
        // The row behind the last stands for those outside. An odd number of passes, of 8 bits each.
        let highest = rows.iter().map(|rows| rows.height).max().unwrap_or(0);
        let n_passes = (u64::BITS - highest.leading_zeros()).div_ceil(8) | 1;
        let blocks = n * SHARES;
        let tables = [argument(&mut table), argument(&mut n)];
        // SAFETY: what the kernels take; the table describes memory that the host vouched for, and room for
        // as many rows as it lists.
        unsafe {
            device.launch(Kernel::LIST_ROWS, blocks, tables)?;
            for mut pass in 0..n_passes {
                let [table, n] = tables;
                let arguments = [table, n, argument(&mut pass)];
                if pass > 0 {
                    device.launch(Kernel::COUNT_DIGITS, blocks, arguments)?;
                }
                device.launch(Kernel::SORT_ROWS, blocks, arguments)?;
            }
            device.launch(Kernel::GATHER_ROWS, blocks, tables)
        }
    }

    /// A row that a parameter did not have, since this was asked last: of the first such parameter. Waits for
    /// the device.
    pub fn outside(&mut self) -> Result<Option<(u32, Outside)>, Error> {
        self.check_not_capturing("asking what a step came to")?;
        const PLACE: u64 = (GATHERED - size_of::<Outside>()) as u64;
        const BYTES: usize = size_of::<Outside>();
        let staging = self.staging.as_mut().ok_or(Error::BrokenDevice)?;
        let device = self.driver.enter()?;
        let mut to = staging.downloads.address();
        let rooms = self.rooms.iter().map(|(number, room)| (Some(number), room));
        let left = self.leftover.rooms.iter().map(|(number, room)| (*number, room));
        let rooms = rooms.chain(left);
        for (_, room) in rooms.clone() {
            // SAFETY: the room is as long as this for each parameter, and nothing else reads or writes it
            // until this has waited.
            unsafe { device.download(to, room.grad.address() + PLACE, BYTES) }?;
            to += BYTES;
        }
        device.wait()?;
        // SAFETY: as above.
        let noted = unsafe { staging.downloads.bytes() }.chunks_exact(BYTES);
        let mut first: Option<(u32, Outside)> = None;
        for ((number, room), noted) in rooms.zip(noted) {
            // SAFETY: so many bytes are there, of plain numbers.
            let outside = unsafe { noted.as_ptr().cast::<Outside>().read_unaligned() };
            if let (1.., Some(number)) = (outside.place, number) {
                // SAFETY: the room's own memory.
                unsafe { device.zero(room.grad.address() + PLACE, BYTES) }?;
                if first.is_none_or(|(earlier, _)| number < earlier) {
                    first = Some((number, outside));
                }
            }
        }
        Ok(first)
    }
}
