//! The codes in words.
#![allow(non_snake_case)]

use super::call;
use super::code::Code;
use super::raw::Out;
use std::ffi::{c_char, c_int};
use std::ptr::null;

/// A code's name.
#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorName(error: c_int, text: Out<*const c_char>) -> c_int {
    call("cuGetErrorName", format_args!("error={error}"), |_| {
        let texts = Code(error).texts();
        text.set(texts.map_or(null(), |(name, _)| name.as_ptr()))?;
        texts.map(drop).ok_or(Code::INVALID_VALUE)
    })
}

/// A code's meaning.
#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorString(error: c_int, text: Out<*const c_char>) -> c_int {
    call("cuGetErrorString", format_args!("error={error}"), |_| {
        let texts = Code(error).texts();
        text.set(texts.map_or(null(), |(_, meaning)| meaning.as_ptr()))?;
        texts.map(drop).ok_or(Code::INVALID_VALUE)
    })
}
