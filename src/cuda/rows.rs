//! Sparse gradients on the device: their entries are sorted by row, and gathered into a dense
//! gradient of the library's own, which is zero in all other rows.
//!
//! `reserve_rows` makes room when a gradient is set: `SparseBuffers` holds the dense gradient, the
//! entries and the counts of the sort. `plan.rs` puts the gradients of a step into its table, and
//! `gather` queues up the kernels of `rows.cuh`: one lists the entries, a radix sort of 8 bits a
//! pass orders them, and one sums the values of each row. From then on the step and its norms read
//! the dense gradient.
//!
//! A row that the parameter does not have is passed over and noted. `outside` reads the notes, for
//! calls that wait for the device anyway.

use super::driver::{Entered, Memory};
use super::kernels::Kernel;
use super::lag::DeviceLag;
use super::launch::launch;
use super::layout::{self, COUNTS, GATHERED, Outside, SHARES, SHORT, TILE, Values};
use super::workspace::Size;
use super::{Cuda, Stale};
use crate::error::{Error, Label};
use crate::tensor::{Operands, RowNumber, SparseGrad};

/// The offset of the gradient in its memory, behind the notes.
const GRAD: usize = 64;

const _: () = assert!(GATHERED <= GRAD && size_of::<Outside>() <= GATHERED);

/// The memory that the sparse gradients of one parameter need.
pub struct SparseBuffers {
    number: u32,
    /// The notes, and the gradient `[n]` in the compute type.
    grad: Memory,
    grad_bytes: usize,
    /// The entries `[n_rows]`, room for three numbers of each, and the counts of their digits.
    lists: Memory,
    n_rows: usize,
}

impl SparseBuffers {
    /// Allocates the entries and counts of a gradient of `n_rows` rows.
    fn lists(device: &Entered, n_rows: usize) -> Result<Memory, Error> {
        let bytes = n_rows * 4 * size_of::<u64>() + (n_rows.div_ceil(TILE) + 1) * COUNTS * 4;
        device.allocate(bytes, "the rows of a sparse gradient on the device")
    }

    fn new(
        device: &Entered,
        number: u32,
        operands: &Operands,
        n_rows: usize,
    ) -> Result<SparseBuffers, Error> {
        let param = operands.param();
        let elements = param.n_elements() as usize;
        let grad_bytes = elements.saturating_mul(param.dtype().compute().bytes());
        let bytes = grad_bytes.saturating_add(GRAD);
        let buffers = SparseBuffers {
            number,
            grad: device.allocate(bytes, "the gathered gradient of a parameter")?,
            grad_bytes,
            lists: SparseBuffers::lists(device, n_rows)?,
            n_rows,
        };
        buffers.forget(device, GATHERED)?;
        Ok(buffers)
    }

    /// Writes zeros over the gradient and over the first `noted` bytes of the notes. Waits for the
    /// device.
    fn forget(&self, device: &Entered, noted: usize) -> Result<(), Error> {
        // SAFETY: `new` allocated these bytes, and `wait` returns before they can be dropped.
        unsafe {
            device.zero(self.grad(), self.grad_bytes)?;
            device.zero(self.grad.address(), noted)?;
        }
        device.wait()
    }

    /// Returns the address of the gradient.
    pub fn grad(&self) -> u64 {
        self.grad.address() + GRAD as u64
    }

    /// Returns the layout of a gradient for which there is room.
    pub fn layout(
        &self,
        operands: &Operands,
        sparse: &SparseGrad,
        lag: Option<&DeviceLag>,
    ) -> layout::Rows {
        let row_elements = sparse.row_elements();
        let (entries, bytes) = (self.lists.address(), (self.n_rows * size_of::<u64>()) as u64);
        layout::Rows {
            numbers: sparse.rows.address() as u64,
            values: sparse.values.address() as u64,
            grad: self.grad(),
            entries,
            spare: entries + bytes,
            counts: entries + 4 * bytes,
            gathered: self.grad.address(),
            lag: lag.map_or(0, DeviceLag::address),
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
    /// Makes room for a sparse gradient, so that a step allocates nothing. May wait for the device.
    pub fn reserve_rows(
        &mut self,
        number: u32,
        name: Label,
        operands: &Operands,
        sparse: &SparseGrad,
    ) -> Result<(), Error> {
        let n_rows = sparse.rows.len();
        let height = operands.param().n_elements().checked_div(sparse.row_elements());
        if n_rows.max(height.unwrap_or(0) as usize) > u32::MAX as usize {
            let what = "sparse gradient of 2^32 rows";
            return Err(Error::NotOnDevice { param: name, what });
        }
        let buffers = self.sparse.get(number);
        if buffers.is_some_and(|buffers| buffers.n_rows >= n_rows) {
            return Ok(());
        }
        let n_rows = n_rows.max(buffers.map_or(0, |buffers| 2 * buffers.n_rows));
        self.check_not_capturing("the first sparse gradient of so many rows")?;
        let is_in_graph = self.is_in_graph(number);
        match self.sparse.get(number) {
            Some(_) if !is_in_graph => {
                let lists = SparseBuffers::lists(&self.driver.enter()?, n_rows)?;
                self.wait_for_all()?;
                let device = self.driver.enter()?;
                let buffers = self.sparse.get_mut(number).ok_or(Error::NoDeviceYet)?;
                // The old entries say which rows of the gradient are not zero: without them, all
                // are made zero.
                buffers.forget(&device, GATHERED - size_of::<Outside>())?;
                (buffers.lists, buffers.n_rows) = (lists, n_rows);
            }
            // The memory in a graph stays: the graph finds in it what it gathered last.
            _ => {
                self.sparse.reserve(number as usize + 1)?;
                self.leftover.reserve()?;
                let n_sparse = self.n_sparse() + 1;
                self.plan.reserve_rows(n_sparse)?;
                self.grow_workspace(Size { n_sparse, ..Size::default() })?;
                let buffers = SparseBuffers::new(&self.driver.enter()?, number, operands, n_rows)?;
                let before = self.sparse.remove(number);
                self.leftover.sparse.extend(before.map(|before| (Some(number), before)));
                self.sparse.insert(number, buffers);
            }
        }
        self.stale = Stale::All;
        Ok(())
    }

    /// Returns the number of gathered gradients, with those of graphs.
    pub(super) fn n_sparse(&self) -> usize {
        self.sparse.len() + self.leftover.sparse.len()
    }

    /// Returns whether the step has a sparse gradient.
    pub fn has_rows(&self) -> bool {
        !self.plan.rows.is_empty()
    }

    /// Gathers the sparse gradients of the step. What is gathered in part cannot be undone.
    pub fn gather(&mut self) -> Result<(), Error> {
        if !self.has_rows() {
            return Ok(());
        }
        self.upload()?;
        let device = self.driver.enter()?;
        device.undone_or_half(self.queue_gather(&device))
    }

    fn queue_gather(&self, device: &Entered) -> Result<(), Error> {
        let rows = &self.plan.rows;
        let (table, n) = (self.rows_table(), rows.len() as u64);
        // The row behind the last one stands for those outside. Passes sort 8 bits each, and their
        // number is odd, so that the last one ends in `entries`.
        let highest = rows.iter().map(|rows| rows.height).max().unwrap_or(0);
        let n_passes = (u64::BITS - highest.leading_zeros()).div_ceil(8) | 1;
        let blocks = n * SHARES;
        let is_long = rows.iter().any(|rows| rows.n_rows > SHORT);
        // SAFETY: the arguments are what the kernels take. The table describes memory that the host
        // vouched for, and room for as many rows as it lists.
        unsafe {
            launch!(device, Kernel::list_rows, blocks; table, n)?;
            for pass in 0..n_passes {
                if pass > 0 {
                    launch!(device, Kernel::count_digits, blocks; table, n, pass)?;
                }
                if is_long {
                    launch!(device, Kernel::scan_counts, blocks; table, n)?;
                }
                launch!(device, Kernel::sort_rows, blocks; table, n, pass)?;
            }
            launch!(device, Kernel::gather_rows, blocks; table, n)
        }
    }

    /// Returns the first row outside that has been listed since the last call, of the first
    /// parameter with one. Waits for the device.
    pub fn outside(&mut self) -> Result<Option<(u32, Outside)>, Error> {
        self.check_not_capturing("asking what a step came to")?;
        const PLACE: u64 = (GATHERED - size_of::<Outside>()) as u64;
        const BYTES: usize = size_of::<Outside>();
        let staging = self.staging.as_mut().ok_or(Error::NoDeviceYet)?;
        let device = self.driver.enter()?;
        let mut to = staging.downloads.address();
        let sparse_buffers = self.sparse.iter().map(|(number, buffers)| (Some(number), buffers));
        let left = self.leftover.sparse.iter().map(|(number, buffers)| (*number, buffers));
        let sparse_buffers = sparse_buffers.chain(left);
        for (_, buffers) in sparse_buffers.clone() {
            // SAFETY: `downloads` has room for one of these for each parameter, and nothing else
            // reads or writes it until `wait` below returns.
            unsafe { device.download(to, buffers.grad.address() + PLACE, BYTES) }?;
            to += BYTES;
        }
        device.wait()?;
        // SAFETY: the downloads are done.
        let noted = unsafe { staging.downloads.bytes() }.chunks_exact(BYTES);
        let mut first: Option<(u32, Outside)> = None;
        for ((number, buffers), noted) in sparse_buffers.zip(noted) {
            // SAFETY: `chunks_exact` gives these bytes, and any bits are an `Outside`.
            let outside = unsafe { noted.as_ptr().cast::<Outside>().read_unaligned() };
            if let (1.., Some(number)) = (outside.place, number) {
                // SAFETY: these bytes are the buffer's own.
                unsafe { device.zero(buffers.grad.address() + PLACE, BYTES) }?;
                if first.is_none_or(|(earlier, _)| number < earlier) {
                    first = Some((number, outside));
                }
            }
        }
        Ok(first)
    }
}
