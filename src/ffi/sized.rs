//! Structs that start with their size. They are read and written as far as both sides know them,
//! which may be the first fields only.

use crate::error::Error;
use core::ptr::{copy_nonoverlapping, write_bytes};

/// A struct of the C API that grows at its end.
///
/// # Safety
/// It is `repr(C)`, starts with `struct_size: usize`, has no padding, and every bit pattern is a
/// value.
pub unsafe trait SizedStruct: Copy {
    /// The name of the parameter in the C API, for errors.
    const NAME: &'static str;
    /// The name of the struct, for errors.
    const TYPE: &'static str;
    /// Its fields in order, as (how many, of how many bytes).
    const FIELDS: &'static [(usize, usize)];
}

/// Implements `SizedStruct` for a struct that is `repr(C)` and starts with its size, from a list of
/// its fields: `sized_struct!(type, "argument", 6 of 8, 2 of 4)`. An assertion that the fields fill
/// the struct shows that it has no padding.
macro_rules! sized_struct {
    ($type:ty, $name:literal, $($count:literal of $bytes:literal),+) => {
        const _: () = assert!(0 $(+ $count * $bytes)+ == size_of::<$type>());
        // SAFETY: the fields are numbers and nullable pointers; the assertion excludes padding.
        unsafe impl $crate::ffi::sized::SizedStruct for $type {
            const NAME: &'static str = $name;
            const TYPE: &'static str = stringify!($type);
            const FIELDS: &'static [(usize, usize)] = &[$(($count, $bytes)),+];
        }
    };
}
pub(super) use sized_struct;

/// No version of a struct is as long as this. A larger size is garbage, and the bytes are not read.
const LONGEST: usize = 4096;

/// Checks that a struct of this size ends where a field does, behind the first one. A struct of the
/// first field alone is refused: its size is that of a pointer, which is what `sizeof` gives when
/// it is applied to a pointer by mistake.
fn check_size<T: SizedStruct>(size: usize) -> Result<(), Error> {
    let known = size_of::<T>();
    let bytes = T::FIELDS.iter().flat_map(|&(count, bytes)| core::iter::repeat_n(bytes, count));
    let mut ends = bytes.scan(0, |end, bytes| {
        *end += bytes;
        Some(*end)
    });
    let next = ends.find(|&end| end >= size && end > size_of::<usize>()).unwrap_or(known);
    let ours = size == next;
    let longer = size > known && size <= LONGEST && size.is_multiple_of(8);
    let (name, of) = (T::NAME, T::TYPE);
    if ours || longer { Ok(()) } else { Err(Error::StructSize { name, of, size, known, next }) }
}

/// Reads the fields that the caller's struct has; the others keep their defaults.
///
/// # Safety
/// `from` is NULL, or readable for the size that it starts with. It need not be aligned.
pub unsafe fn read<T: SizedStruct>(from: *const T, defaults: T) -> Result<T, Error> {
    if from.is_null() {
        return Err(Error::Null(T::NAME));
    }
    // SAFETY: the struct starts with its size; only these bytes are read so far.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    check_size::<T>(size)?;
    let known = size_of::<T>();
    let tail = size.saturating_sub(known);
    // SAFETY: the caller guarantees `size` bytes.
    let tail = unsafe { core::slice::from_raw_parts(from.cast::<u8>().add(size - tail), tail) };
    if tail.iter().any(|&byte| byte != 0) {
        return Err(Error::StructTail { name: T::NAME, size, known });
    }
    let mut value = defaults;
    // SAFETY: both are at least that long, and any bytes are a valid `T`.
    unsafe {
        copy_nonoverlapping(from.cast::<u8>(), (&raw mut value).cast::<u8>(), size.min(known));
    }
    Ok(value)
}

/// Writes the fields that the caller's struct has room for, and zeros over the fields that this
/// version does not know.
///
/// # Safety
/// `to` is NULL, or writable for `size` bytes. It need not be aligned.
pub unsafe fn write<T: SizedStruct>(to: *mut T, size: usize, value: T) -> Result<(), Error> {
    if to.is_null() {
        return Err(Error::Null(T::NAME));
    }
    check_size::<T>(size)?;
    let known = size_of::<T>().min(size);
    let bytes = to.cast::<u8>();
    // SAFETY: the caller guarantees `size` bytes; the size is their first field.
    unsafe {
        copy_nonoverlapping((&raw const value).cast::<u8>(), bytes, known);
        write_bytes(bytes.add(known), 0, size - known);
        to.cast::<usize>().write_unaligned(size);
    }
    Ok(())
}
