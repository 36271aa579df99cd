//! Memory as tensors: the only place where a raw address becomes a slice.

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
mod state;

pub use changes::{Change, Changes, Squares};
pub use chunk::{Chunk, PlainChunk, Visitor};
pub use chunks::{Chunks, Extent, Pass};
pub use grad::Grad;
pub use grad_blocks::{GradBlock, GradBlocks, Tallies, Total};
pub use lag::{LOGGED, Lag};
pub use line::Line;
pub use number::HostNumber;
pub use operands::Operands;
pub use rows::{NoRow, RowList, RowNumber, RowPart, SparseGrad};
pub use state::{Moment, Precise, State, StateOf};

use crate::device::Device;
use crate::dtype::{Bf16, Dtype, F16};
use crate::error::{Error, TensorProblem};
use crate::sys::memory::Memory;
use core::ops::Range;
use core::ptr::with_exposed_provenance_mut;

/// A contiguous run of elements in memory, described by plain numbers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tensor {
    address: usize,
    n_elements: u64,
    dtype: Dtype,
    device: Device,
}

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
        Ok(Tensor { address, n_elements, dtype, device: Device::Host })
    }

    /// The same for memory of a device.
    ///
    /// # Safety
    /// As `new`, for work on the device that the handle queues up.
    pub unsafe fn on_device(
        address: usize,
        n_elements: u64,
        dtype: Dtype,
        device: u16,
    ) -> Result<Tensor, TensorProblem> {
        check_memory(address, n_elements, dtype.bytes())?;
        Ok(Tensor { address, n_elements, dtype, device: Device::Cuda(device) })
    }

    pub fn device(&self) -> Device {
        self.device
    }

    pub fn address(&self) -> usize {
        self.address
    }

    /// The same elements as if they were there, for holding them against others.
    pub fn as_if_on(&self, device: Device) -> Tensor {
        Tensor { device, ..*self }
    }

    pub fn n_elements(&self) -> u64 {
        self.n_elements
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The addresses it covers, for finding overlaps.
    pub fn addresses(&self) -> Range<usize> {
        self.address..self.address + self.n_elements as usize * self.dtype.bytes()
    }

    /// Copies as many elements of the same type; the two may overlap.
    fn copy_from(&self, from: &Tensor) {
        let bytes = from.addresses().len().min(self.addresses().len());
        let (from, to) = (from.address, self.address);
        // SAFETY: `new`'s callers vouched for both, and who gave them for each other.
        unsafe {
            core::ptr::copy(
                with_exposed_provenance_mut::<u8>(from),
                with_exposed_provenance_mut::<u8>(to),
                if from == 0 || to == 0 { 0 } else { bytes },
            );
        }
    }

    /// Some of its elements.
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
            // SAFETY: `new`'s caller vouched for the memory, this function's for the rest; all
            // element types have a zero of zero bits.
            unsafe { start.write_bytes(0, bytes) };
        }
    }

    /// The first element of one or more f64s.
    pub fn f64(&self) -> f64 {
        // SAFETY: `new`'s caller vouched for the memory.
        unsafe { with_exposed_provenance_mut::<f64>(self.address).read() }
    }

    /// Writes the first element of one or more f64s.
    pub fn set_f64(&self, value: f64) {
        // SAFETY: `new`'s caller vouched for the memory.
        unsafe { with_exposed_provenance_mut::<f64>(self.address).write(value) }
    }

    /// Elements `range`, as `T`s.
    ///
    /// # Safety
    /// `T` is the tensor's element type, `range` lies inside, and nothing writes those elements
    /// during `'a`.
    unsafe fn slice<'a, T>(&self, range: Range<usize>) -> &'a [T] {
        // SAFETY: the caller's word here is what `slice_mut` asks for, less the writing.
        unsafe { self.slice_mut(range) }
    }

    /// Elements `range`, as `T`s.
    ///
    /// # Safety
    /// `T` is the tensor's element type, `range` lies inside, and nothing else touches those
    /// elements during `'a`.
    unsafe fn slice_mut<'a, T>(&self, range: Range<usize>) -> &'a mut [T] {
        debug_assert_eq!(self.device, Device::Host);
        // SAFETY: the caller's word.
        unsafe { slice_at(self.address, range) }
    }
}

/// Elements `range` of a tensor at this address, as `T`s.
///
/// # Safety
/// As `Tensor::slice_mut`.
#[inline]
unsafe fn slice_at<'a, T>(address: usize, range: Range<usize>) -> &'a mut [T] {
    if range.is_empty() {
        return &mut []; // An empty tensor's address may be anything.
    }
    let first = with_exposed_provenance_mut::<T>(address);
    // SAFETY: `Tensor::new`'s caller vouched for the memory, this function's for the rest.
    unsafe { core::slice::from_raw_parts_mut(first.add(range.start), range.len()) }
}

/// That so many elements at this address lie in memory and are aligned.
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

/// Where a state tensor is: what it is made of, its parameter's format says. Two words: a step passes
/// over some of them for every parameter.
pub enum Buffer {
    /// Somebody else's: the host's, or on a device.
    Lent(usize),
    Own(Memory),
}

impl Buffer {
    /// Of no elements.
    const NONE: Buffer = Buffer::Lent(0);

    pub fn host(tensor: &Tensor) -> Buffer {
        Buffer::Lent(tensor.address)
    }

    /// The library's own on a device: `cuda` has it.
    pub fn on_device(address: u64) -> Buffer {
        Buffer::Lent(address as usize)
    }

    /// `n_elements` zeros in memory of the library's.
    pub fn zeroed(n_elements: u64, dtype: Dtype, role: &'static str) -> Result<Buffer, Error> {
        // A parameter of that many elements exists, but its state may be four times as wide.
        let bytes = (n_elements as usize).saturating_mul(dtype.bytes());
        Ok(Buffer::Own(Memory::zeroed(bytes, role)?))
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
    /// # Safety
    /// As `slice`, whatever the type.
    unsafe fn elements<'a>(&self, range: Range<usize>) -> Slice<'a> {
        // SAFETY: the type is the tensor's; the rest is the caller's word.
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

    /// # Safety
    /// As `slice_mut`, whatever the type.
    unsafe fn elements_mut<'a>(&self, range: Range<usize>) -> SliceMut<'a> {
        // SAFETY: the type is the tensor's; the rest is the caller's word.
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
