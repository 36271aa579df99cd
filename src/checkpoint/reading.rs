//! A checkpoint that is read: nothing of it is believed before its checksums have been checked.
//!
//! ```text
//! open      looks at the first bytes (foreign.rs), reads the header, and checks its length, format
//!           and checksum (check_header) before it is parsed (header.rs)
//! verify    reads every tensor and compares it with its checksum: long ones by several threads
//!           (Buffers::sum), short ones through a Window, together with their neighbours
//! read      reads a part of a tensor, and checks its sum again where the part is the whole
//! ```
//!
//! A file may have been set aside (`source.rs`); `opened` opens it for one piece of work.
#![forbid(unsafe_code)]

use super::foreign::{self, ENOUGH};
use super::header::{Entry, Header};
use super::packed::Packed;
use super::shared::{self, Buffers, SHORTEST, Share};
use super::{AFTER_FORMAT, CRC_DIGITS, FORMAT, LENGTH, LONGEST_HEADER, PACKED, START};
use super::{PIECE, Progress, Source, hexadecimal, zeros};
use crate::error::{Error, FileProblem, Label};

/// A checkpoint. Once `verify` has returned, its bytes are known to be those that were written.
pub struct Checkpoint<'a> {
    source: Source<'a>,
    header: Header,
    /// The start of the bytes of tensors.
    start: u64,
    is_packed: bool,
    /// What it says of many parameters, once it has been verified.
    packed: Option<Packed>,
}

impl<'a> Checkpoint<'a> {
    /// Reads and checks the header, and nothing else.
    pub fn open(mut source: Source<'a>) -> Result<Checkpoint<'a>, Error> {
        let was_aside = source.take_up()?;
        let n_bytes = source.n_bytes();
        let mut start = [0; ENOUGH];
        let start = &mut start[..n_bytes.min(ENOUGH as u64) as usize];
        source.read(0, start)?;
        // A file that is cut off still starts as a checkpoint does.
        let header = start.get(LENGTH..).filter(|text| !text.is_empty());
        let starts = |text: &[u8]| text.iter().zip(START.as_bytes()).all(|(a, b)| a == b);
        let Some((&length, _)) = start.split_first_chunk().filter(|_| header.is_some_and(starts))
        else {
            return Err(source.problem(FileProblem::Foreign(foreign::seems(start))));
        };
        let behind = n_bytes - LENGTH as u64;
        let n_header = u64::from_le_bytes(length);
        if n_header > behind {
            return Err(source.broken("its header is longer than the file"));
        }
        if n_header > LONGEST_HEADER as u64 {
            return Err(source.broken("its header is longer than 100,000,000 bytes"));
        }
        let mut text = zeros(n_header as usize, "a checkpoint's header")?;
        source.read(LENGTH as u64, &mut text)?;
        let problem = |problem| source.problem(problem);
        let format = check_header(&length, &mut text).map_err(problem)?;
        let header = Header::new(text, behind - n_header).map_err(problem)?;
        let sums = header.bytes(&["crc32"]).unwrap_or_default().len();
        if sums != header.entries().len() * CRC_DIGITS {
            return Err(problem(FileProblem::Text(Label::new(b"crc32"))));
        }
        if was_aside {
            source.set_aside();
        }
        let (start, is_packed) = (LENGTH as u64 + n_header, format == PACKED);
        Ok(Checkpoint { source, header, start, is_packed, packed: None })
    }

    /// Runs `work`, which reads the checkpoint, with its file open even if it was set aside.
    pub fn opened<R>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let was_aside = self.source.take_up()?;
        let result = work(self);
        if was_aside {
            self.source.set_aside();
        }
        result
    }

    /// Returns the bytes of all tensors.
    pub fn n_bytes(&self) -> u64 {
        self.source.n_bytes() - self.start
    }

    /// Reads every tensor and compares it with its checksum. After that tensors are found by name.
    pub fn verify(
        &mut self,
        window: &mut Window,
        buffers: &Buffers,
        progress: &mut Progress,
        share: Share,
    ) -> Result<(), Error> {
        for number in 0..self.header.entries().len() {
            let entry = self.header.entries()[number];
            let found = match self.source.shared() {
                Some(from) if entry.n_bytes() >= SHORTEST as u64 => {
                    let at = self.start + entry.start;
                    buffers.sum(from, at, entry.n_bytes(), progress, share)?
                }
                _ => self.sum_alone(&entry, window, progress)?,
            };
            self.check_crc(&entry, found)?;
        }
        self.header.sort_by_name().map_err(|problem| self.source.problem(problem))?;
        if self.is_packed {
            self.packed = Some(Packed::read(self, window)?);
        }
        Ok(())
    }

    /// Returns what the checkpoint says of its parameters, if their state is packed.
    pub fn packed(&self) -> Option<&Packed> {
        self.packed.as_ref()
    }

    /// Returns the checksum of a tensor, which is read together with its neighbours.
    fn sum_alone(
        &self,
        entry: &Entry,
        window: &mut Window,
        progress: &mut Progress,
    ) -> Result<u32, Error> {
        let mut sum = crc32fast::Hasher::new();
        let mut at = entry.start;
        while at < entry.end {
            let bytes = window.bytes(self, at, entry.end)?;
            sum.update(bytes);
            at += bytes.len() as u64;
            progress.add(bytes.len() as u64)?;
        }
        Ok(sum.finalize())
    }

    fn check_crc(&self, entry: &Entry, found: u32) -> Result<(), Error> {
        let sums = self.header.bytes(&["crc32"]).unwrap_or_default();
        let expected = sums.chunks(CRC_DIGITS).nth(entry.number as usize);
        if expected == Some(&hexadecimal(found)) {
            return Ok(());
        }
        let name = Label::new(self.header.name(entry).as_bytes());
        Err(self.source.problem(FileProblem::Checksum(name)))
    }

    /// Reads a part of a tensor. If that is the whole, its checksum is compared with the bytes read
    /// now.
    pub fn read(
        &self,
        entry: &Entry,
        at: u64,
        to: &mut [u8],
        window: &mut Window,
        share: Share,
    ) -> Result<(), Error> {
        let is_whole = to.len() as u64 == entry.n_bytes() && !entry.is_part();
        let from = self.start + entry.start + at;
        match self.source.shared() {
            Some(source) if is_whole && to.len() >= SHORTEST => {
                self.check_crc(entry, shared::read(source, from, to, share)?)
            }
            _ => {
                let mut sum = crc32fast::Hasher::new();
                for (at, piece) in (at..).step_by(PIECE).zip(to.chunks_mut(PIECE)) {
                    window.read(self, entry.start + at, piece)?;
                    if is_whole {
                        sum.update(piece);
                    }
                }
                if is_whole { self.check_crc(entry, sum.finalize()) } else { Ok(()) }
            }
        }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the text under a key that must be there.
    pub fn text(&self, key: &[&str]) -> Result<&str, Error> {
        let missing = key.last().copied().unwrap_or_default();
        let problem = || self.problem(FileProblem::Text(Label::new(missing.as_bytes())));
        self.header.text(key).ok_or_else(problem)
    }

    pub fn problem(&self, problem: FileProblem) -> Error {
        self.source.problem(problem)
    }

    pub fn broken(&self, broken: &'static str) -> Error {
        self.source.broken(broken)
    }

    /// Returns the start of the bytes of a tensor in the file.
    pub fn offset(&self, entry: &Entry) -> u64 {
        self.start + entry.start
    }
}

/// The bytes that were read last, so that small tensors side by side are read at once.
pub struct Window {
    buffer: Vec<u8>,
    /// The checkpoint of the bytes, by its address, at which it stays.
    of: usize,
    /// The start of the bytes, behind the header, and their number.
    start: u64,
    length: usize,
}

impl Window {
    pub fn new() -> Result<Window, Error> {
        let buffer = zeros(PIECE, "a buffer for reading")?;
        Ok(Window { buffer, of: 0, start: 0, length: 0 })
    }

    /// Returns at least one byte from `at` on, and none from `end` on.
    pub fn bytes(&mut self, of: &Checkpoint, at: u64, end: u64) -> Result<&[u8], Error> {
        let address = core::ptr::from_ref(of).addr();
        let inside = self.start..self.start + self.length as u64;
        if self.of != address || !inside.contains(&at) {
            (self.of, self.length) = (address, 0);
            let length = (of.n_bytes() - at).min(PIECE as u64) as usize;
            of.source.read(of.start + at, &mut self.buffer[..length])?;
            (self.start, self.length) = (at, length);
        }
        let first = (at - self.start) as usize;
        let last = ((end - self.start) as usize).min(self.length);
        Ok(&self.buffer[first..last])
    }

    /// Fills `to` with the bytes from `at` on: at once if they are many.
    fn read(&mut self, of: &Checkpoint, mut at: u64, mut to: &mut [u8]) -> Result<(), Error> {
        if to.len() > PIECE / 2 {
            return of.source.read(of.start + at, to);
        }
        while !to.is_empty() {
            let bytes = self.bytes(of, at, at + to.len() as u64)?;
            let (now, later) = to.split_at_mut(bytes.len());
            now.copy_from_slice(bytes);
            (at, to) = (at + now.len() as u64, later);
        }
        Ok(())
    }

    /// Returns the value of a tensor of one 64-bit number; NaN for any other tensor.
    pub fn number(&mut self, of: &Checkpoint, entry: &Entry) -> Result<f64, Error> {
        Ok(match (entry.dtype(), entry.n_bytes()) {
            ("F64", 8) => f64::from_le_bytes(self.word(of, entry)?),
            ("U64", 8) => u64::from_le_bytes(self.word(of, entry)?) as f64,
            _ => f64::NAN,
        })
    }

    /// Returns the first 8 bytes of a tensor.
    pub fn word(&mut self, of: &Checkpoint, entry: &Entry) -> Result<[u8; 8], Error> {
        let mut word = [0; 8];
        let mut at = entry.start;
        while at < entry.end.min(entry.start + 8) {
            let bytes = self.bytes(of, at, entry.end)?;
            let first = (at - entry.start) as usize;
            let count = bytes.len().min(8 - first);
            word[first..first + count].copy_from_slice(&bytes[..count]);
            at += count as u64;
        }
        Ok(word)
    }
}

/// Checks that a header has the bytes that were written, and returns its format.
fn check_header(length: &[u8; LENGTH], text: &mut [u8]) -> Result<u32, FileProblem> {
    let foreign = FileProblem::Foreign("its header starts differently");
    let format = text.strip_prefix(START.as_bytes()).ok_or(foreign)?;
    let digits = format.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = core::str::from_utf8(&format[..digits]).ok().and_then(|text| text.parse().ok());
    let number: u32 = number.ok_or(foreign)?;
    if ![FORMAT, PACKED].contains(&number) {
        return Err(FileProblem::Version(number));
    }
    format[digits..].strip_prefix(AFTER_FORMAT.as_bytes()).ok_or(foreign)?;
    let at = START.len() + digits + AFTER_FORMAT.len();
    let digits = text.get_mut(at..at + CRC_DIGITS).ok_or(foreign)?;
    let mut expected = [0; CRC_DIGITS];
    expected.copy_from_slice(digits);
    // The header had zeros in place of its own checksum when that was computed.
    digits.fill(b'0');
    let mut sum = crc32fast::Hasher::new();
    sum.update(length);
    sum.update(text);
    if hexadecimal(sum.finalize()) != expected {
        return Err(FileProblem::Damaged("the checksum of its header is not that of its bytes"));
    }
    text[at..at + CRC_DIGITS].copy_from_slice(&expected);
    Ok(number)
}
