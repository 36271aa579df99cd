//! Structs that start with their size: read and written as far as both sides know them.

use crate::error::Error;
use core::ptr::{copy_nonoverlapping, write_bytes};

/// A struct of the C API that grows at its end.
///
/// # Safety
/// `repr(C)`, starting with `struct_size: usize`; without padding; every bit pattern is a value.
pub unsafe trait SizedStruct: Copy {
    /// The parameter's name in the C API, and the struct's, for errors.
    const NAME: &'static str;
    const TYPE: &'static str;
    /// The size of the first version: no caller has a shorter one.
    const SMALLEST: usize;
}

/// Says so of a struct that is `repr(C)`, starts with its size and has no padding, which an assertion
/// beside it shows: `sized_struct!(type, "argument", smallest size)`.
macro_rules! sized_struct {
    ($type:ty, $name:literal, $smallest:expr) => {
        const _: () = assert!($smallest <= size_of::<$type>() && $smallest % 8 == 0);
        // SAFETY: as above, and of plain numbers and nullable pointers.
        unsafe impl $crate::ffi::sized::SizedStruct for $type {
            const NAME: &'static str = $name;
            const TYPE: &'static str = stringify!($type);
            const SMALLEST: usize = $smallest;
        }
    };
}
pub(super) use sized_struct;

/// No version of a struct is as long as this, so that a garbage size is not followed.
const LONGEST: usize = 4096;

fn check_size<T: SizedStruct>(size: usize) -> Result<(), Error> {
    let whole = size.is_multiple_of(8) && (T::SMALLEST..=LONGEST).contains(&size);
    let known = size_of::<T>();
    let (name, of) = (T::NAME, T::TYPE);
    if whole { Ok(()) } else { Err(Error::StructSize { name, of, size, known }) }
}

/// Reads what the caller has of a struct over the defaults of the rest.
///
/// # Safety
/// `from` is NULL, or readable for the size that it starts with. It need not be aligned.
pub unsafe fn read<T: SizedStruct>(from: *const T, defaults: T) -> Result<T, Error> {
    if from.is_null() {
        return Err(Error::Null(T::NAME));
    }
    // SAFETY: the struct starts with its size, of which only these bytes are read so far.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    check_size::<T>(size)?;
    let known = size_of::<T>();
    let tail = size.saturating_sub(known);
    // SAFETY: the caller vouched for `size` bytes.
    let tail = unsafe { core::slice::from_raw_parts(from.cast::<u8>().add(size - tail), tail) };
    if tail.iter().any(|&byte| byte != 0) {
        return Err(Error::StructTail { name: T::NAME, size, known });
    }
    let mut value = defaults;
    // SAFETY: both are at least that long, and any bytes are a `T`.
    unsafe {
        copy_nonoverlapping(from.cast::<u8>(), (&raw mut value).cast::<u8>(), size.min(known));
    }
    Ok(value)
}

/// Writes what the caller's struct has room for, and zeros where it knows more than we do.
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
    // SAFETY: the caller vouched for `size` bytes; the size is their first field.
    unsafe {
        copy_nonoverlapping((&raw const value).cast::<u8>(), bytes, known);
        write_bytes(bytes.add(known), 0, size - known);
        to.cast::<usize>().write_unaligned(size);
    }
    Ok(())
}
