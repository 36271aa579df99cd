//! Memory as tensors: the only place where a raw address becomes a slice.
//!
//! `Tensor::new` checks the address and the length that the host gives, and its caller vouches for
//! the memory. `operands.rs` holds all the tensors of one parameter, whose lengths and types
//! `Operands::fits` has checked; `grad.rs` is its gradient, dense, of some rows (`rows.rs`) or a
//! sum, and `part.rs` tells whether it takes part in a step.
//!
//! A step borrows the operands of all parameters. `chunks.rs` and `grad_blocks.rs` lay them end to
//! end on a line (`line.rs`), of which each thread claims disjoint tasks; only then `chunk.rs`,
//! `run.rs` and `state.rs` make slices of the elements of a task.

mod bytes;
mod changes;
mod chunk;
mod chunks;
mod grad;
mod grad_blocks;
mod lag;
mod line;
mod number;
mod operands;
mod part;
mod prefetch;
mod rows;
mod run;
mod state;

pub use changes::{Change, Changes, Squares};
pub use chunk::{Chunk, PlainChunk, Visitor};
pub use chunks::{Chunks, Extent, Pass};
pub use grad::{Grad, GradArray};
pub use grad_blocks::{GradBlock, GradBlocks, Tallies, Total};
pub use lag::{LOGGED, Lag};
pub use line::{InPieces, Line, Reach};
pub use number::HostNumber;
pub use operands::Operands;
pub use rows::{NoRow, RowList, RowNumber, RowPart, SparseGrad};
pub use run::PlainRun;
pub use state::{Moment, Precise, State, StateOf};

use crate::device::Device;
use crate::dtype::{Bf16, Dtype, F16};
use crate::error::{Error, TensorProblem};
use crate::order::Order;
use crate::sys::memory::{Memory, Pool};
use core::ops::Range;
use core::ptr::with_exposed_provenance_mut;

/// A contiguous run of elements in memory, described by plain numbers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tensor {
    address: usize,
    n_elements: u64,
    dtype: Dtype,
    device: Device,
    order: Order,
}

const _: () = assert!(size_of::<Tensor>() == 24);

impl Tensor {
    /// Checks what can be checked about memory without touching it.
    ///
    /// # Safety
    /// While a handle knows the tensor, its memory stays valid for reads and writes of
    /// `n_elements` initialised elements, and nobody else writes it, nor reads what the library
    /// writes, during a call on that handle.
    pub unsafe fn new(
        address: usize,
        n_elements: u64,
        dtype: Dtype,
    ) -> Result<Tensor, TensorProblem> {
        check_memory(address, n_elements, dtype.bytes())?;
        Ok(Tensor { address, n_elements, dtype, device: Device::Host, order: Order::FLAT })
    }

    /// Returns a tensor like this one in other memory.
    pub fn at(&self, array: GradArray) -> Result<Tensor, TensorProblem> {
        check_memory(array.address, self.n_elements, self.dtype.bytes())?;
        Ok(Tensor { address: array.address, ..*self })
    }

    /// Returns a tensor like this one that has no memory, which nobody may touch.
    pub fn nowhere(&self) -> Tensor {
        Tensor { address: 0, ..*self }
    }

    /// Checks what can be checked about memory of a device without touching it.
    ///
    /// # Safety
    /// As for `new`, and also while work on the device that the handle has queued up runs.
    pub unsafe fn on_device(
        address: usize,
        n_elements: u64,
        dtype: Dtype,
        device: u16,
    ) -> Result<Tensor, TensorProblem> {
        check_memory(address, n_elements, dtype.bytes())?;
        let device = Device::Cuda(device);
        Ok(Tensor { address, n_elements, dtype, device, order: Order::FLAT })
    }

    pub fn device(&self) -> Device {
        self.device
    }

    pub fn address(&self) -> usize {
        self.address
    }

    /// Returns the tensor as if it were on `device`, to compare it with others there.
    pub fn as_if_on(&self, device: Device) -> Tensor {
        Tensor { device, ..*self }
    }

    pub fn order(&self) -> Order {
        self.order
    }

    /// Returns the tensor with its dimensions in this order in memory.
    pub fn in_order(&self, order: Order) -> Tensor {
        Tensor { order, ..*self }
    }

    pub fn n_elements(&self) -> u64 {
        self.n_elements
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Returns the addresses that it covers, to find overlaps.
    pub fn addresses(&self) -> Range<usize> {
        self.address..self.address + self.n_elements as usize * self.dtype.bytes()
    }

    /// Copies the elements of a tensor of the same type and length; the two may overlap.
    fn copy_from(&self, from: &Tensor) {
        let bytes = from.addresses().len().min(self.addresses().len());
        let (from, to) = (from.address, self.address);
        // SAFETY: `new`'s callers vouched for both, and no more bytes than the shorter has are
        // copied.
        unsafe {
            core::ptr::copy(
                with_exposed_provenance_mut::<u8>(from),
                with_exposed_provenance_mut::<u8>(to),
                if from == 0 || to == 0 { 0 } else { bytes },
            );
        }
    }

    /// Returns the elements `range` as a tensor.
    fn part(&self, range: Range<usize>) -> Tensor {
        let address = self.address + range.start * self.dtype.bytes();
        Tensor { address, n_elements: range.len() as u64, ..*self }
    }

    /// Writes zeros over it.
    ///
    /// # Safety
    /// Nothing else touches its elements meanwhile.
    unsafe fn zero(&self) {
        let bytes = self.addresses().len();
        if bytes > 0 {
            let start = with_exposed_provenance_mut::<u8>(self.address);
            // SAFETY: `new`'s caller vouched for the memory, and this function's caller guarantees
            // that nothing else touches it; zero bits are the zero of all element types.
            unsafe { start.write_bytes(0, bytes) };
        }
    }

    /// Reads an element of f64s.
    pub fn f64(&self, i: usize) -> f64 {
        assert!((i as u64) < self.n_elements);
        // SAFETY: `new`'s caller vouched for the memory.
        unsafe { with_exposed_provenance_mut::<f64>(self.address).add(i).read() }
    }

    /// Writes an element of f64s.
    pub fn set_f64(&self, i: usize, value: f64) {
        assert!((i as u64) < self.n_elements);
        // SAFETY: `new`'s caller vouched for the memory.
        unsafe { with_exposed_provenance_mut::<f64>(self.address).add(i).write(value) }
    }

    /// Returns the elements `range` as `T`s.
    ///
    /// # Safety
    /// `T` is the tensor's element type, `range` lies inside, and nothing writes those elements
    /// during `'a`.
    unsafe fn slice<'a, T>(&self, range: Range<usize>) -> &'a [T] {
        // SAFETY: the caller guarantees what `slice_mut` asks for; of a slice that is only read,
        // others may read the elements, too.
        unsafe { self.slice_mut(range) }
    }

    /// Returns the elements `range` as `T`s.
    ///
    /// # Safety
    /// `T` is the tensor's element type, `range` lies inside, and nothing else touches those
    /// elements during `'a`.
    unsafe fn slice_mut<'a, T>(&self, range: Range<usize>) -> &'a mut [T] {
        debug_assert_eq!(self.device, Device::Host);
        // SAFETY: the caller guarantees the type, the range, and that nothing else touches it.
        unsafe { slice_at(self.address, range) }
    }
}

/// Returns the elements `range` of a tensor at this address as `T`s.
///
/// # Safety
/// As for `Tensor::slice_mut`.
#[inline]
unsafe fn slice_at<'a, T>(address: usize, range: Range<usize>) -> &'a mut [T] {
    if range.is_empty() {
        return &mut []; // An empty tensor's address may be anything.
    }
    let first = with_exposed_provenance_mut::<T>(address);
    // SAFETY: `Tensor::new`'s caller vouched for the memory, and this function's caller guarantees
    // the type, the range, and that nothing else touches it.
    unsafe { core::slice::from_raw_parts_mut(first.add(range.start), range.len()) }
}

/// Checks that `n_elements` at this address fit in memory and are aligned.
fn check_memory(address: usize, n_elements: u64, bytes_each: usize) -> Result<(), TensorProblem> {
    let bytes = usize::try_from(n_elements)
        .ok()
        .and_then(|n| n.checked_mul(bytes_each))
        .filter(|&bytes| bytes <= isize::MAX as usize)
        .filter(|&bytes| address.checked_add(bytes).is_some());
    if bytes.is_none() {
        return Err(TensorProblem::TooLarge(n_elements));
    }
    if n_elements > 0 && address == 0 {
        return Err(TensorProblem::NullData(n_elements));
    }
    if n_elements > 0 && !address.is_multiple_of(bytes_each) {
        return Err(TensorProblem::Misaligned { address, bytes: bytes_each });
    }
    Ok(())
}

/// The memory of a state tensor, whose type and length its parameter's format has. It takes two
/// words, because a step passes over some of them for every parameter.
pub enum Buffer {
    /// Memory of the host, or memory on a device, which `cuda` owns.
    Lent(usize),
    Own(Memory),
}

impl Buffer {
    /// A buffer of no elements.
    const NONE: Buffer = Buffer::Lent(0);

    pub fn host(tensor: &Tensor) -> Buffer {
        Buffer::Lent(tensor.address)
    }

    /// Returns a buffer on a device, which `cuda` owns.
    pub fn on_device(address: u64) -> Buffer {
        Buffer::Lent(address as usize)
    }

    /// Returns a buffer of `n_elements` zeros, which steps pass over with the parameter.
    pub fn zeroed(
        pool: &mut Pool,
        (n_elements, dtype): (u64, Dtype),
        param: &Tensor,
        role: &'static str,
    ) -> Result<Buffer, Error> {
        // A parameter of that many elements exists, but its state may be four times as wide.
        let bytes = (n_elements as usize).saturating_mul(dtype.bytes());
        Ok(Buffer::Own(pool.memory(param.address, bytes, role)?))
    }

    #[inline]
    fn address(&self) -> usize {
        match self {
            Buffer::Lent(address) => *address,
            Buffer::Own(memory) => memory.address(),
        }
    }
}

const _: () = assert!(size_of::<Buffer>() == 16);

/// Elements that are read.
pub enum Slice<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    F16(&'a [F16]),
    Bf16(&'a [Bf16]),
}

/// Elements that are read and written.
pub enum SliceMut<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
    F16(&'a mut [F16]),
    Bf16(&'a mut [Bf16]),
}

impl Tensor {
    /// Returns the elements `range` in their own type.
    ///
    /// # Safety
    /// As for `slice`, but for the type.
    unsafe fn elements<'a>(&self, range: Range<usize>) -> Slice<'a> {
        // SAFETY: the type is the tensor's; the caller guarantees the range, and that nothing
        // writes it.
        unsafe {
            match self.dtype {
                Dtype::F32 => Slice::F32(self.slice(range)),
                Dtype::F64 => Slice::F64(self.slice(range)),
                Dtype::F16 => Slice::F16(self.slice(range)),
                Dtype::Bf16 => Slice::Bf16(self.slice(range)),
                Dtype::I16 | Dtype::U8 => unreachable!("no parameter or gradient is made of them"),
            }
        }
    }

    /// Returns the elements `range` in their own type.
    ///
    /// # Safety
    /// As for `slice_mut`, but for the type.
    unsafe fn elements_mut<'a>(&self, range: Range<usize>) -> SliceMut<'a> {
        // SAFETY: the type is the tensor's; the caller guarantees the range, and that nothing else
        // touches it.
        unsafe {
            match self.dtype {
                Dtype::F32 => SliceMut::F32(self.slice_mut(range)),
                Dtype::F64 => SliceMut::F64(self.slice_mut(range)),
                Dtype::F16 => SliceMut::F16(self.slice_mut(range)),
                Dtype::Bf16 => SliceMut::Bf16(self.slice_mut(range)),
                Dtype::I16 | Dtype::U8 => unreachable!("as above"),
            }
        }
    }
}
