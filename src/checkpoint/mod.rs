//! Files of state: safetensors, with what makes one a checkpoint of a handle in its metadata.
//!
//! `docs/checkpoint.md` describes the format, and `optimizer/saved/save.rs` decides what a file
//! contains.
//!
//! To save, a `Draft` collects the texts and the tensors of the header; the checksums follow when
//! the tensors have been written (`draft.rs`). To load, `open_all` opens the sources (`source.rs`),
//! `Checkpoint::open` reads and checks the header (`header.rs`, `json.rs`), and `verify` compares
//! every tensor with its checksum (`reading.rs`, with several threads `shared.rs`); where the state
//! of many parameters is packed, `packed.rs` finds that of each. Only then the optimizer reads any
//! of it. `Progress` tells the host about both.
#![forbid(unsafe_code)]

mod draft;
mod foreign;
mod header;
mod json;
mod packed;
mod progress;
mod reading;
mod shared;
mod source;
pub mod words;

pub use draft::{Draft, Text};
pub use header::Entry;
pub use packed::{Listed, Packed};
pub use progress::Progress;
pub use reading::{Checkpoint, Window};
pub use shared::{Buffers, Share, alone};
pub use source::{Source, open_all};

use crate::error::Error;
use crate::sys::memory::reserve;

/// The start of a header, up to the number of its format.
const START: &str = "{\"__metadata__\":{\"adamw_checkpoint\":\"";
const FORMAT: u32 = 1;
/// The format of files in which the state of many parameters is packed.
const PACKED: u32 = 2;
/// The text behind that number, up to the header's checksum.
const AFTER_FORMAT: &str = "\",\"header_crc32\":\"";
/// The text behind that checksum, up to those of the tensors.
const AFTER_CRC: &str = "\",\"crc32\":\"";

/// Bytes of the length in front of a header.
const LENGTH: usize = 8;
/// The limit that other readers of safetensors have.
const LONGEST_HEADER: usize = 100_000_000;

/// Digits of a checksum.
const CRC_DIGITS: usize = 8;

/// The number of bytes that are read or written at once, so that they are still in cache when they
/// are summed.
pub(crate) const PIECE: usize = 1 << 18;

/// Allocates `n` zero bytes.
fn zeros(n: usize, what: &'static str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reserve(&mut bytes, n, what)?;
    bytes.resize(n, 0);
    Ok(bytes)
}

/// Returns the checksum of zip, gzip and PNG, so that any reader can check a file.
pub fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Returns eight digits, with small letters.
fn hexadecimal(crc: u32) -> [u8; CRC_DIGITS] {
    core::array::from_fn(|i| {
        let digit = (crc >> (28 - 4 * i) & 15) as u8;
        if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
    })
}
