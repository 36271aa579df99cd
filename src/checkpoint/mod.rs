//! Files of state: safetensors, with what makes one a checkpoint of a handle in its metadata.
//!
//! `docs/checkpoint.md` describes the format. What stands in a file, `optimizer/save.rs` decides; here
//! is how it is written (`draft.rs`), read (`header.rs`, `json.rs`, `source.rs`) and found whole before
//! anybody takes anything from it (`reading.rs`).
#![forbid(unsafe_code)]

mod draft;
mod foreign;
mod header;
mod json;
mod progress;
mod reading;
mod shared;
mod source;
pub mod words;

pub use draft::{Draft, Text};
pub use header::Entry;
pub use progress::Progress;
pub use reading::{Checkpoint, Window};
pub use shared::{Buffers, Share, alone};
pub use source::{Source, open_all};

use crate::error::Error;
use crate::sys::memory::reserve;

/// What a header starts with, up to its format's number.
const START: &str = "{\"__metadata__\":{\"adamw_checkpoint\":\"";
const FORMAT: u32 = 1;
/// What comes behind that number, up to the header's checksum.
const AFTER_FORMAT: &str = "\",\"header_crc32\":\"";
/// What comes behind that checksum, up to those of the tensors.
const AFTER_CRC: &str = "\",\"crc32\":\"";

/// Bytes of the length in front of a header.
const LENGTH: usize = 8;
/// As other readers of safetensors have it.
const LONGEST_HEADER: usize = 100_000_000;

/// Digits of a checksum.
const CRC_DIGITS: usize = 8;

/// How many bytes are read, written and summed at once, so that they are in cache still when they are
/// summed.
pub(crate) const PIECE: usize = 1 << 18;

/// So many bytes, where there is memory for them.
fn zeros(n: usize, what: &'static str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reserve(&mut bytes, n, what)?;
    bytes.resize(n, 0);
    Ok(bytes)
}

/// The checksum that zip, gzip and PNG have, so that whoever reads a file can check it.
pub fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Eight digits, small letters.
fn hexadecimal(crc: u32) -> [u8; CRC_DIGITS] {
    core::array::from_fn(|i| {
        let digit = (crc >> (28 - 4 * i) & 15) as u8;
        if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
    })
}
