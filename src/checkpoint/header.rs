//! The header of a safetensors file: its tensors, their places, and its texts.
//!
//! `Header::new` parses the JSON once, in place (`json.rs`). `entry` makes an `Entry` of each
//! tensor, and checks that its offsets are as far apart as its type and shape ask for; `metadata`
//! makes a `Pair` of each text. `in_order` then checks that the tensors lie one behind another and
//! fill the file, and `pairs` are sorted by key, so that `text` and `bytes` find them by binary
//! search.
//!
//! Entries stay in the order of their bytes, in which `Checkpoint::verify` reads them, until
//! `sort_by_name` sorts them for `tensor` and `place`. Both sorts find a name that is there twice.
//! No list takes more memory than the header (`bounded`), whatever a hostile file says.
#![forbid(unsafe_code)]

use super::json::{Broken, Reader, Span};
use crate::error::{FileProblem, Label};
use core::ffi::CStr;
use core::str;

/// The element types of safetensors: their names, and the bits of an element.
const TYPES: [(&CStr, u64); 22] = [
    (c"BOOL", 8),
    (c"F4", 4),
    (c"F6_E2M3", 6),
    (c"F6_E3M2", 6),
    (c"U8", 8),
    (c"I8", 8),
    (c"F8_E5M2", 8),
    (c"F8_E4M3", 8),
    (c"F8_E8M0", 8),
    (c"F8_E4M3FNUZ", 8),
    (c"F8_E5M2FNUZ", 8),
    (c"I16", 16),
    (c"U16", 16),
    (c"F16", 16),
    (c"BF16", 16),
    (c"I32", 32),
    (c"U32", 32),
    (c"F32", 32),
    (c"C64", 64),
    (c"F64", 64),
    (c"I64", 64),
    (c"U64", 64),
];

/// The number of all parts of tensors.
const PART: u32 = u32::MAX;

/// One tensor of a file, or a part of one.
#[derive(Clone, Copy, Default)]
pub struct Entry {
    /// The start and the end of its bytes, behind the header.
    pub start: u64,
    pub end: u64,
    name: Span,
    /// Its number in the order of the bytes.
    pub number: u32,
    dtype: u8,
}

impl Entry {
    pub fn dtype(&self) -> &'static str {
        self.dtype_c().to_str().unwrap_or_default() // the table is of ASCII
    }

    /// Returns the name of its type, NUL-terminated.
    pub fn dtype_c(&self) -> &'static CStr {
        TYPES[self.dtype as usize].0
    }

    pub fn n_elements(&self) -> u64 {
        (self.end - self.start) * 8 / TYPES[self.dtype as usize].1
    }

    pub fn n_bytes(&self) -> u64 {
        self.end - self.start
    }

    /// Returns the bytes of so many elements.
    pub fn bytes_of(&self, n_elements: u64) -> Option<u64> {
        Some(n_elements.checked_mul(TYPES[self.dtype as usize].1)? / 8)
    }

    /// Returns a part of the tensor, which has no checksum of its own.
    pub fn part(&self, start: u64, end: u64) -> Entry {
        Entry { start, end, number: PART, ..*self }
    }

    pub fn is_part(&self) -> bool {
        self.number == PART
    }
}

/// A key and a text of the metadata.
#[derive(Clone, Copy)]
struct Pair {
    key: Span,
    text: Span,
}

/// A header that was parsed and checked.
pub struct Header {
    text: Vec<u8>,
    /// The tensors in the order of their bytes; after `sort_by_name` in that of their names.
    entries: Vec<Entry>,
    /// The texts in the order of their keys.
    pairs: Vec<Pair>,
}

impl Header {
    /// Parses a header that `n_bytes` bytes of tensors follow.
    pub fn new(mut text: Vec<u8>, n_bytes: u64) -> Result<Header, FileProblem> {
        // An entry takes no more bytes here than in the header, so that no list needs more memory
        // than the header.
        let mut entries = bounded(text.len())?;
        let mut pairs = bounded(text.len())?;
        let mut reader = Reader::new(&mut text);
        let read = reader.object(|reader, key| {
            if reader.bytes(key) == b"__metadata__" {
                return metadata(reader, &mut pairs);
            }
            push(&mut entries, entry(reader, key)?)
        });
        read.and_then(|()| reader.end()).map_err(FileProblem::Damaged)?;
        in_order(&mut entries, n_bytes).map_err(FileProblem::Damaged)?;
        pairs.sort_unstable_by(|a, b| a.key.of(&text).cmp(b.key.of(&text)));
        let twice = |pair: &&[Pair]| pair[0].key.of(&text) == pair[1].key.of(&text);
        if let Some(pair) = pairs.windows(2).find(twice) {
            return Err(FileProblem::Twice(Label::new(pair[0].key.of(&text))));
        }
        Ok(Header { text, entries, pairs })
    }

    /// Sorts the tensors, so that they are found by name from now on.
    pub fn sort_by_name(&mut self) -> Result<(), FileProblem> {
        let Header { text, entries, .. } = self;
        entries.sort_unstable_by(|a, b| a.name.of(text).cmp(b.name.of(text)));
        let twice = |pair: &&[Entry]| pair[0].name.of(text) == pair[1].name.of(text);
        match entries.windows(2).find(twice) {
            Some(pair) => Err(FileProblem::Twice(Label::new(pair[0].name.of(text)))),
            None => Ok(()),
        }
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn name(&self, entry: &Entry) -> &str {
        // The reader takes UTF-8 only.
        str::from_utf8(entry.name.of(&self.text)).unwrap_or_default()
    }

    pub fn name_with_nul(&self, entry: &Entry) -> &[u8] {
        entry.name.with_nul(&self.text)
    }

    /// Returns every key and its text, each with a NUL behind it.
    pub fn texts(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs
            .iter()
            .map(|pair| (pair.key.with_nul(&self.text), pair.text.with_nul(&self.text)))
    }

    /// Returns the tensor whose name is the concatenation of `name`.
    pub fn tensor(&self, name: &[&str]) -> Option<&Entry> {
        Some(&self.entries[self.place(name)?])
    }

    /// Returns its index in the entries.
    pub fn place(&self, name: &[&str]) -> Option<usize> {
        self.entries.binary_search_by(|entry| compare(entry.name.of(&self.text), name)).ok()
    }

    /// Returns the text under the key that is the concatenation of `key`.
    pub fn text(&self, key: &[&str]) -> Option<&str> {
        str::from_utf8(self.bytes(key)?).ok()
    }

    /// Returns the text as bytes, without checking that they are UTF-8.
    pub fn bytes(&self, key: &[&str]) -> Option<&[u8]> {
        let place = self.pairs.binary_search_by(|pair| compare(pair.key.of(&self.text), key));
        Some(self.pairs[place.ok()?].text.of(&self.text))
    }
}

fn compare(name: &[u8], parts: &[&str]) -> core::cmp::Ordering {
    name.iter().copied().cmp(parts.iter().flat_map(|part| part.bytes()))
}

/// Returns a list that never takes more bytes than the header.
fn bounded<T>(header: usize) -> Result<Vec<T>, FileProblem> {
    let mut list = Vec::new();
    let most = header / size_of::<T>();
    list.try_reserve_exact(most).map_err(|_| FileProblem::Damaged("no memory for its header"))?;
    Ok(list)
}

fn push<T>(list: &mut Vec<T>, value: T) -> Result<(), Broken> {
    if list.len() == list.capacity() {
        return Err("it has more entries than its header has room for");
    }
    list.push(value);
    Ok(())
}

fn metadata(reader: &mut Reader, pairs: &mut Vec<Pair>) -> Result<(), Broken> {
    if !pairs.is_empty() {
        return Err("its metadata is there twice");
    }
    reader.object(|reader, key| {
        let text = reader.string()?;
        push(pairs, Pair { key, text })
    })
}

fn entry(reader: &mut Reader, name: Span) -> Result<Entry, Broken> {
    let (mut dtype, mut n_elements, mut offsets) = (None, None, None);
    reader.object(|reader, key| {
        let is_new = match reader.bytes(key) {
            b"dtype" => {
                let text = reader.string()?;
                let known =
                    TYPES.iter().position(|(name, _)| name.to_bytes() == reader.bytes(text));
                dtype.replace(known.ok_or("a tensor is of an unknown type")?).is_none()
            }
            b"shape" => {
                let mut product = 1u64;
                reader.numbers(|n| {
                    product = product.checked_mul(n).ok_or("a shape has too many elements")?;
                    Ok(())
                })?;
                n_elements.replace(product).is_none()
            }
            b"data_offsets" => {
                let (mut pair, mut count) = ([0; 2], 0);
                reader.numbers(|n| {
                    *pair.get_mut(count).ok_or("a tensor has more than two offsets")? = n;
                    count += 1;
                    Ok(())
                })?;
                if count < 2 {
                    return Err("a tensor has fewer than two offsets");
                }
                offsets.replace(pair).is_none()
            }
            _ => return Err("a tensor has an unknown property"),
        };
        if is_new { Ok(()) } else { Err("a tensor has a property twice") }
    })?;
    let lacks = "a tensor lacks its type, its shape or its offsets";
    let (dtype, [start, end]) = (dtype.ok_or(lacks)?, offsets.ok_or(lacks)?);
    let bits = n_elements.ok_or(lacks)?.checked_mul(TYPES[dtype].1);
    let bits = bits.ok_or("a shape has too many elements")?;
    if !bits.is_multiple_of(8) || end.checked_sub(start) != Some(bits / 8) {
        return Err("the offsets of a tensor are not what its shape takes");
    }
    Ok(Entry { start, end, name, number: 0, dtype: dtype as u8 })
}

/// Sorts the tensors by place, and checks that they lie one behind another from the first byte to
/// the last.
fn in_order(entries: &mut [Entry], n_bytes: u64) -> Result<(), Broken> {
    entries.sort_unstable_by_key(|entry| (entry.start, entry.end));
    let mut end = 0;
    for (number, entry) in entries.iter_mut().enumerate() {
        if entry.start != end {
            return Err("its tensors overlap, or leave a hole");
        }
        end = entry.end;
        entry.number = number as u32;
    }
    if end == n_bytes { Ok(()) } else { Err("its tensors end before or after the file") }
}
