//! Memory as tensors: the only place where a raw address becomes a slice.

mod chunks;
mod grad_blocks;
mod line;

pub use chunks::{Chunk, Chunks, Moments, State};
pub use grad_blocks::{GradBlocks, Tallies};
pub use line::{Line, Plan};

use crate::dtype::{Bf16, Dtype, F16};
use crate::error::{Error, Role, TensorProblem};
use crate::sys::memory::Memory;
use core::ops::Range;
use core::ptr::with_exposed_provenance_mut;

/// A contiguous run of elements in memory, described by plain numbers.
#[derive(Clone, Copy, Debug)]
pub struct Tensor {
    address: usize,
    n_elements: u64,
    dtype: Dtype,
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
        let bytes = usize::try_from(n_elements)
            .ok()
            .and_then(|n| n.checked_mul(dtype.bytes()))
            .filter(|&bytes| bytes <= isize::MAX as usize)
            .filter(|&bytes| address.checked_add(bytes).is_some());
        if bytes.is_none() {
            return Err(TensorProblem::TooLarge(n_elements));
        }
        if n_elements > 0 && address == 0 {
            return Err(TensorProblem::NullData(n_elements));
        }
        if n_elements > 0 && !address.is_multiple_of(dtype.bytes()) {
            return Err(TensorProblem::Misaligned { address, bytes: dtype.bytes() });
        }
        Ok(Tensor { address, n_elements, dtype })
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
        if range.is_empty() {
            return &mut []; // An empty tensor's address may be anything.
        }
        let first = with_exposed_provenance_mut::<T>(self.address);
        // SAFETY: `new`'s caller vouched for the memory, this function's for the rest.
        unsafe { core::slice::from_raw_parts_mut(first.add(range.start), range.len()) }
    }
}

/// One state tensor, in the host's memory or the library's own.
pub struct Buffer {
    tensor: Tensor,
    own: Option<Memory>,
}

impl Buffer {
    pub fn host(tensor: Tensor) -> Buffer {
        Buffer { tensor, own: None }
    }

    /// `n_elements` zeros in memory of the library's.
    pub fn zeroed(n_elements: u64, dtype: Dtype, role: &'static str) -> Result<Buffer, Error> {
        // A parameter of that many elements exists, but its state may be four times as wide.
        let bytes = (n_elements as usize).saturating_mul(dtype.bytes());
        let memory = Memory::zeroed(bytes, role)?;
        // SAFETY: the memory lives beside the tensor, is as long, aligned and initialised.
        let tensor = unsafe { Tensor::new(memory.address(), n_elements, dtype) }
            .map_err(|_| Error::OutOfMemory { what: role, bytes })?;
        Ok(Buffer { tensor, own: Some(memory) })
    }

    /// Whether the host gave it, and may move it.
    pub fn is_hosts(&self) -> bool {
        self.own.is_none()
    }
}

/// All the memory of one parameter. Every tensor in it has the parameter's number of elements and
/// the element type of its role: that is checked where it comes in, and relied on where it is cut.
pub struct Operands {
    /// `[n] f32|f64|f16|bf16`, the host's.
    param: Tensor,
    /// `[n]` of the parameter's type or f32, the host's; none: the parameter is skipped.
    grad: Option<Tensor>,
    /// `[n] f32`, for 16-bit parameters with multi_precision.
    master: Option<Buffer>,
    /// `[n]` of the compute type, as the two below; none: the parameter is skipped.
    exp_avg: Option<Buffer>,
    exp_avg_sq: Option<Buffer>,
    /// With amsgrad.
    max_exp_avg_sq: Option<Buffer>,
}

impl Operands {
    /// A parameter that has no gradient and no state yet.
    pub fn new(param: Tensor) -> Operands {
        Operands {
            param,
            grad: None,
            master: None,
            exp_avg: None,
            exp_avg_sq: None,
            max_exp_avg_sq: None,
        }
    }

    pub fn param(&self) -> Tensor {
        self.param
    }

    pub fn grad(&self) -> Option<Tensor> {
        self.grad
    }

    /// Whether a step has anything to do here.
    pub fn is_stepped(&self) -> bool {
        self.grad.is_some() && self.exp_avg.is_some() && self.exp_avg_sq.is_some()
    }

    /// The tensor in a role, if the parameter has one.
    pub fn tensor(&self, role: Role) -> Option<Tensor> {
        match role {
            Role::Param => Some(self.param),
            Role::Grad => self.grad,
            _ => self.state(role).map(|buffer| buffer.tensor),
        }
    }

    /// The state buffer in a role, if the parameter has one.
    pub fn state(&self, role: Role) -> Option<&Buffer> {
        match role {
            Role::Param | Role::Grad => None,
            Role::Master => self.master.as_ref(),
            Role::ExpAvg => self.exp_avg.as_ref(),
            Role::ExpAvgSq => self.exp_avg_sq.as_ref(),
            Role::MaxExpAvgSq => self.max_exp_avg_sq.as_ref(),
        }
    }

    /// Whether a tensor has the elements and the type that its role asks for.
    pub fn fits(&self, role: Role, tensor: &Tensor) -> Result<(), TensorProblem> {
        let (is, param) = (tensor.dtype, self.param.dtype);
        let expected = match role {
            Role::Grad if is != param && is != Dtype::F32 => {
                return Err(TensorProblem::GradDtype { is, param });
            }
            Role::Grad => is,
            Role::Param => param,
            _ => param.compute(),
        };
        if is != expected {
            return Err(TensorProblem::Dtype { is, expected });
        }
        if tensor.n_elements != self.param.n_elements {
            let (is, param) = (tensor.n_elements, self.param.n_elements);
            return Err(TensorProblem::Elements { is, param });
        }
        Ok(())
    }

    /// Puts a gradient, or none.
    pub fn set_grad(&mut self, grad: Option<Tensor>) -> Result<(), TensorProblem> {
        if let Some(grad) = &grad {
            self.fits(Role::Grad, grad)?;
        }
        self.grad = grad;
        Ok(())
    }

    pub fn forget_grad(&mut self) {
        self.grad = None;
    }

    /// Puts a state buffer where there was none, or another.
    pub fn set_state(&mut self, role: Role, buffer: Buffer) -> Result<(), TensorProblem> {
        self.fits(role, &buffer.tensor)?;
        match role {
            Role::Param => self.param = buffer.tensor,
            Role::Grad => self.grad = Some(buffer.tensor),
            Role::Master => self.master = Some(buffer),
            Role::ExpAvg => self.exp_avg = Some(buffer),
            Role::ExpAvgSq => self.exp_avg_sq = Some(buffer),
            Role::MaxExpAvgSq => self.max_exp_avg_sq = Some(buffer),
        }
        Ok(())
    }

    /// The master and the parameter that it is filled from, if there is a master.
    pub fn master_and_param(&mut self) -> Option<(&mut [f32], Slice<'_>)> {
        let master = self.master.as_ref()?.tensor;
        let all = 0..self.param.n_elements as usize;
        // SAFETY: `fits` saw that a master is f32 and as long as its param, which is another
        // buffer; `&mut self` keeps both from being sliced elsewhere.
        Some(unsafe { (master.slice_mut(all.clone()), self.param.elements(all)) })
    }

    /// Writes zeros over the gradient, if there is one.
    pub fn zero_grad(&mut self) {
        let Some(grad) = self.grad else { return };
        // SAFETY: the host's memory is writable by contract, and `&mut self` keeps it from being
        // sliced elsewhere.
        match unsafe { grad.elements_mut(0..grad.n_elements as usize) } {
            SliceMut::F32(grad) => grad.fill(0.0),
            SliceMut::F64(grad) => grad.fill(0.0),
            SliceMut::F16(grad) => grad.fill(F16(0)),
            SliceMut::Bf16(grad) => grad.fill(Bf16(0)),
        }
    }
}

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
            }
        }
    }
}
