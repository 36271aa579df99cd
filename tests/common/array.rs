//! The host's memory: an array of one element type at a chosen distance from a 64-byte boundary.

use super::random::Random;
use adamw::ffi;
use core::ffi::c_void;
use half::{bf16, f16};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::Range;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dtype {
    F32,
    F64,
    F16,
    Bf16,
    /// Of remainders only.
    I16,
    /// Of moments in codes only.
    U8,
}

impl Dtype {
    pub const ALL: [Dtype; 4] = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16];

    pub fn code(self) -> ffi::adamw_dtype {
        match self {
            Dtype::F32 => ffi::ADAMW_DTYPE_F32,
            Dtype::F64 => ffi::ADAMW_DTYPE_F64,
            Dtype::F16 => ffi::ADAMW_DTYPE_F16,
            Dtype::Bf16 => ffi::ADAMW_DTYPE_BF16,
            Dtype::I16 => ffi::ADAMW_DTYPE_I16,
            Dtype::U8 => ffi::ADAMW_DTYPE_U8,
        }
    }

    pub fn bytes(self) -> usize {
        match self {
            Dtype::F64 => 8,
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 => 2,
            Dtype::U8 => 1,
        }
    }

    /// What the moments are stored in.
    pub fn compute(self) -> Dtype {
        if self == Dtype::F64 { Dtype::F64 } else { Dtype::F32 }
    }

    pub fn dlpack(self) -> ffi::adamw_data_type {
        let code = match self {
            Dtype::I16 => 0,
            Dtype::U8 => 1,
            Dtype::Bf16 => 4,
            _ => 2,
        };
        ffi::adamw_data_type { code, bits: 8 * self.bytes() as u8, lanes: 1 }
    }

    /// The value of these bits; every 16- and 32-bit value is an f64 exactly.
    pub fn value(self, bits: u64) -> f64 {
        match self {
            Dtype::F32 => f32::from_bits(bits as u32).into(),
            Dtype::F64 => f64::from_bits(bits),
            Dtype::F16 => f16::from_bits(bits as u16).to_f64(),
            Dtype::Bf16 => bf16::from_bits(bits as u16).to_f64(),
            Dtype::I16 => (bits as u16 as i16).into(),
            Dtype::U8 => (bits as u8).into(),
        }
    }

    /// The bits of the nearest value. 16-bit types are reached from f32, as the library does it:
    /// `half` drops the low bits of an f64 before it rounds.
    pub fn nearest(self, value: f64) -> u64 {
        match self {
            Dtype::F32 => (value as f32).to_bits().into(),
            Dtype::F64 => value.to_bits(),
            Dtype::F16 => f16::from_f32(value as f32).to_bits().into(),
            Dtype::Bf16 => bf16::from_f32(value as f32).to_bits().into(),
            Dtype::I16 => (value as i16 as u16).into(),
            Dtype::U8 => (value as u8).into(),
        }
    }
}

/// Bytes on either side of an array that nobody may write; a dropped array looks whether one has.
const GUARD: usize = 64;
const UNTOUCHED: u8 = 0xa5;

/// `n` elements on the heap, reached through raw pointers only, as a C host's are.
pub struct Array {
    dtype: Dtype,
    n: usize,
    offset: usize,
    allocation: *mut u8,
    layout: Layout,
    shape: Box<[i64]>,
}

impl Array {
    pub fn zeros(dtype: Dtype, n: usize) -> Array {
        Array::at_offset(dtype, n, 0)
    }

    /// Zeros that start `offset` elements past a 64-byte boundary.
    pub fn at_offset(dtype: Dtype, n: usize, offset: usize) -> Array {
        let bytes = 2 * GUARD + (offset + n) * dtype.bytes();
        let layout = Layout::from_size_align(bytes, 64).unwrap();
        // SAFETY: the layout has the guards' bytes at least.
        let allocation = unsafe { alloc_zeroed(layout) };
        if allocation.is_null() {
            handle_alloc_error(layout);
        }
        let array = Array { dtype, n, offset, allocation, layout, shape: Box::new([n as i64]) };
        for guard in array.guards() {
            // SAFETY: inside the allocation, which nobody else knows yet.
            guard.for_each(|at| unsafe { allocation.add(at).write(UNTOUCHED) });
        }
        array
    }

    /// The bytes of the allocation that are before and after the elements.
    fn guards(&self) -> [Range<usize>; 2] {
        let start = GUARD + self.offset * self.dtype.bytes();
        [0..start, start + self.n * self.dtype.bytes()..self.layout.size()]
    }

    /// The nearest values that the type has.
    pub fn of(dtype: Dtype, values: &[f64]) -> Array {
        let array = Array::zeros(dtype, values.len());
        for (i, value) in values.iter().enumerate() {
            array.set(i, *value);
        }
        array
    }

    /// Ordinary and extreme values: see `Random::bits`.
    pub fn random(dtype: Dtype, n: usize, random: &mut Random) -> Array {
        let array = Array::zeros(dtype, n);
        for i in 0..n {
            array.set_bits(i, random.bits(dtype));
        }
        array
    }

    /// Small values of both signs, all of them finite.
    pub fn ordinary(dtype: Dtype, n: usize, random: &mut Random) -> Array {
        let array = Array::zeros(dtype, n);
        for i in 0..n {
            array.set(i, random.ordinary());
        }
        array
    }

    /// A copy of some of the elements, `offset` elements past a 64-byte boundary.
    pub fn copy(&self, range: Range<usize>, offset: usize) -> Array {
        assert!(range.end <= self.n);
        let copy = Array::at_offset(self.dtype, range.len(), offset);
        let from = self.at(range.start);
        // SAFETY: both have the range's elements, and the copy's memory is new.
        unsafe { copy.at(0).copy_from_nonoverlapping(from, range.len() * self.dtype.bytes()) };
        copy
    }

    pub fn duplicate(&self) -> Array {
        self.copy(0..self.n, self.offset)
    }

    /// The same elements under another shape, such as `&[]` for one element of no dimension.
    pub fn shaped(mut self, shape: &[i64]) -> Array {
        assert_eq!(shape.iter().product::<i64>(), self.n as i64);
        self.shape = shape.into();
        self
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub fn len(&self) -> usize {
        self.n
    }

    pub fn data(&self) -> *mut c_void {
        self.at(0).cast()
    }

    /// The array as DLPack describes it; the shape is this array's.
    pub fn tensor(&self) -> ffi::adamw_tensor {
        ffi::adamw_tensor {
            data: self.data(),
            device: ffi::adamw_device { device_type: 1, device_id: 0 },
            ndim: self.shape.len() as i32,
            dtype: self.dtype.dlpack(),
            shape: self.shape.as_ptr().cast_mut(),
            strides: core::ptr::null_mut(),
            byte_offset: 0,
        }
    }

    /// Some of the elements, from one on, as DLPack describes them.
    pub fn part(&self, start: usize, shape: &[i64; 1]) -> ffi::adamw_tensor {
        assert!(start + shape[0] as usize <= self.n);
        ffi::adamw_tensor {
            ndim: 1,
            shape: shape.as_ptr().cast_mut(),
            byte_offset: (start * self.dtype.bytes()) as u64,
            ..self.tensor()
        }
    }

    pub fn get(&self, i: usize) -> f64 {
        self.dtype.value(self.bits(i))
    }

    pub fn set(&self, i: usize, value: f64) {
        self.set_bits(i, self.dtype.nearest(value));
    }

    pub fn fill(&self, value: f64) {
        (0..self.n).for_each(|i| self.set(i, value));
    }

    pub fn values(&self) -> Vec<f64> {
        (0..self.n).map(|i| self.get(i)).collect()
    }

    pub fn bits(&self, i: usize) -> u64 {
        assert!(i < self.n);
        let at = self.at(i);
        // SAFETY: inside the allocation, aligned, initialised, and nobody writes it meanwhile.
        unsafe {
            match self.dtype.bytes() {
                8 => at.cast::<u64>().read(),
                4 => at.cast::<u32>().read().into(),
                2 => at.cast::<u16>().read().into(),
                _ => at.read().into(),
            }
        }
    }

    pub fn set_bits(&self, i: usize, bits: u64) {
        assert!(i < self.n);
        let at = self.at(i);
        // SAFETY: inside the allocation, aligned, and nobody reads it meanwhile.
        unsafe {
            match self.dtype.bytes() {
                8 => at.cast::<u64>().write(bits),
                4 => at.cast::<u32>().write(bits as u32),
                2 => at.cast::<u16>().write(bits as u16),
                _ => at.write(bits as u8),
            }
        }
    }

    /// The bytes of all elements.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.n * self.dtype.bytes()];
        // SAFETY: the array has so many bytes, initialised, and nobody writes them meanwhile.
        unsafe { self.at(0).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        bytes
    }

    /// Writes the bytes of all elements.
    pub fn set_bytes(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.n * self.dtype.bytes());
        // SAFETY: the array has so many bytes, and nobody reads them meanwhile.
        unsafe { self.at(0).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// The first element whose bits differ; one NaN is as good as another.
    pub fn first_difference(&self, other: &Array) -> Option<String> {
        assert_eq!((self.dtype, self.n), (other.dtype, other.n));
        if self.bytes() == other.bytes() {
            return None;
        }
        let same = |i: &usize| {
            self.bits(*i) == other.bits(*i) || (self.get(*i).is_nan() && other.get(*i).is_nan())
        };
        let i = (0..self.n).find(|i| !same(i))?;
        let show = |array: &Array| format!("{:?} = {:#x}", array.get(i), array.bits(i));
        Some(format!("element {i} of {}: {} and {}", self.n, show(self), show(other)))
    }

    fn at(&self, i: usize) -> *mut u8 {
        // Callers stay inside: `wrapping_add` spares an empty array its own case.
        self.allocation.wrapping_add(GUARD + (self.offset + i) * self.dtype.bytes())
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        // SAFETY: inside the allocation, and initialised by `at_offset`.
        let untouched = |at: usize| unsafe { self.allocation.add(at).read() } == UNTOUCHED;
        let intact = self.guards().into_iter().all(|mut guard| guard.all(untouched));
        // SAFETY: allocated with this layout in `at_offset`.
        unsafe { dealloc(self.allocation, self.layout) }
        assert!(intact || std::thread::panicking(), "written beside an array of {}", self.n);
    }
}
