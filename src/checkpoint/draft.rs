//! A header that is being written.
//!
//! `Draft::new` writes the start, with zeros in place of all checksums, because the header is as
//! long then as it will be in the end. `pair` adds texts, then `tensor` adds tensors, each of whose
//! bytes follow those of the one before, and `end` fills in the length. Now it is known how long
//! the file is. While the tensors are written, `set_crc` puts in the checksum of each. `sealed`
//! puts in that of the header itself, which is computed with zeros in its own place, and returns
//! the bytes.
//!
//! The bytes are a `Text`, which fails where there is no memory; `Escaped` writes JSON strings to
//! it.
#![forbid(unsafe_code)]

use super::{AFTER_CRC, AFTER_FORMAT, CRC_DIGITS, FORMAT, LENGTH, LONGEST_HEADER, PACKED, START};
use super::{crc, hexadecimal};
use crate::error::Error;
use core::fmt::{self, Display, Write};

/// Text whose allocation can fail.
#[derive(Default)]
pub struct Text {
    bytes: Vec<u8>,
    lacking: usize,
}

impl Text {
    /// Replaces the text by that which `write` writes.
    pub fn set(&mut self, write: impl FnOnce(&mut Text) -> fmt::Result) -> Result<&str, Error> {
        self.bytes.clear();
        write(self).map_err(|_| self.lacks())?;
        Ok(self.as_str())
    }

    pub fn as_str(&self) -> &str {
        // `write_str` takes UTF-8 only.
        core::str::from_utf8(&self.bytes).unwrap_or_default()
    }

    fn lacks(&self) -> Error {
        Error::OutOfMemory { what: "a checkpoint's header", bytes: self.lacking }
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.bytes.try_reserve(text.len()).is_err() {
            self.lacking = self.bytes.len() + text.len();
            return Err(fmt::Error);
        }
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Writes text as the contents of a JSON string.
struct Escaped<'a>(&'a mut Text);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '"' | '\\' => write!(self.0, "\\{character}")?,
                '\0'..' ' => write!(self.0, "\\u{:04x}", character as u32)?,
                _ => self.0.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// A header: first all pairs, then all tensors, then all checksums.
pub struct Draft {
    text: Text,
    in_tensors: bool,
    n_bytes: u64,
}

impl Draft {
    pub fn new(is_packed: bool, n_tensors: usize) -> Result<Draft, Error> {
        let format = if is_packed { PACKED } else { FORMAT };
        let mut draft = Draft { text: Text::default(), in_tensors: false, n_bytes: 0 };
        draft.write(|text| {
            write!(text, "{:LENGTH$}{START}{format}{AFTER_FORMAT}{:0CRC_DIGITS$}", "", 0)?;
            text.write_str(AFTER_CRC)?;
            (0..n_tensors).try_for_each(|_| write!(text, "{:0CRC_DIGITS$}", 0))?;
            text.write_str("\"")
        })?;
        Ok(draft)
    }

    fn write(&mut self, write: impl FnOnce(&mut Text) -> fmt::Result) -> Result<(), Error> {
        write(&mut self.text).map_err(|_| self.text.lacks())
    }

    /// Adds a key and a text.
    pub fn pair(&mut self, key: impl Display, value: impl Display) -> Result<(), Error> {
        self.write(|text| {
            text.write_str(",\"")?;
            write!(Escaped(text), "{key}")?;
            text.write_str("\":\"")?;
            write!(Escaped(text), "{value}")?;
            text.write_str("\"")
        })
    }

    /// Adds a tensor whose bytes follow those of the one before. A number has no `n_elements`.
    pub fn tensor(
        &mut self,
        name: impl Display,
        dtype: &str,
        n_elements: Option<u64>,
        n_bytes: u64,
    ) -> Result<(), Error> {
        self.end_pairs()?;
        let start = self.n_bytes;
        self.n_bytes += n_bytes;
        let end = self.n_bytes;
        self.write(|text| {
            text.write_str(",\"")?;
            write!(Escaped(text), "{name}")?;
            write!(text, "\":{{\"dtype\":\"{dtype}\",\"shape\":[")?;
            if let Some(n_elements) = n_elements {
                write!(text, "{n_elements}")?;
            }
            write!(text, "],\"data_offsets\":[{start},{end}]}}")
        })
    }

    fn end_pairs(&mut self) -> Result<(), Error> {
        if !self.in_tensors {
            self.in_tensors = true;
            self.write(|text| text.write_str("}"))?;
        }
        Ok(())
    }

    /// Ends the header, so that the bytes of tensors start at a multiple of 8.
    pub fn end(&mut self) -> Result<(), Error> {
        self.end_pairs()?;
        self.write(|text| {
            text.write_str("}")?;
            let spaces = text.bytes.len().next_multiple_of(8) - text.bytes.len();
            write!(text, "{:spaces$}", "")
        })?;
        let length = self.text.bytes.len() - LENGTH;
        if length > LONGEST_HEADER {
            let (name, value) = ("the length of the checkpoint's header", length as f64);
            return Err(Error::Number { name, value, expected: "at most 100,000,000 bytes" });
        }
        self.text.bytes[..LENGTH].copy_from_slice(&(length as u64).to_le_bytes());
        Ok(())
    }

    /// Returns the bytes of the header and of its length in front of it.
    pub fn n_bytes(&self) -> u64 {
        self.text.bytes.len() as u64
    }

    /// Returns the bytes of the tensors behind it.
    pub fn n_tensor_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Sets the checksum of a tensor.
    pub fn set_crc(&mut self, number: usize, crc: u32) {
        let first = header_crc_at() + CRC_DIGITS + AFTER_CRC.len();
        self.put(first + number * CRC_DIGITS, crc);
    }

    /// Sets the header's own checksum, when all others are set, and returns the whole.
    pub fn sealed(&mut self) -> &[u8] {
        let sum = crc(&self.text.bytes);
        self.put(header_crc_at(), sum);
        &self.text.bytes
    }

    fn put(&mut self, at: usize, crc: u32) {
        self.text.bytes[at..at + CRC_DIGITS].copy_from_slice(&hexadecimal(crc));
    }
}

/// Returns the place of the header's checksum: the number of its format has one digit.
fn header_crc_at() -> usize {
    LENGTH + START.len() + 1 + AFTER_FORMAT.len()
}
