//! Writing a checkpoint, out of the state itself or out of a snapshot of it.
//!
//! `write` writes the tensors and computes the checksum of each on its way (`sum_up`); the header
//! comes last. A writer of the host's has to get the header first: for it the tensors are visited
//! twice.
#![forbid(unsafe_code)]

use crate::callback::HostWriter;
use crate::checkpoint::{Draft, PIECE, Progress};
use crate::error::Error;
use crate::sys::files::NewFile;
use crate::sys::memory::reserve;
use core::ffi::CStr;
use crc32fast::Hasher;

/// Where a checkpoint goes.
pub enum Target<'a> {
    /// A file, which is replaced whole or not at all.
    File(&'a CStr),
    Memory(&'a mut [u8]),
    Host(HostWriter),
    /// Nowhere, because only its size is asked for.
    Size,
}

/// A target that is ready to be written.
#[allow(clippy::large_enum_variant, reason = "a save has one, which is moved twice")]
pub enum Destination<'a> {
    File(NewFile),
    Memory(&'a mut [u8]),
    Host(HostWriter),
}

/// What a save has written.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Written {
    pub n_bytes: u64,
    /// The checkpoint is in a file that outlives a power cut.
    pub is_durable: bool,
}

/// Takes the number of a tensor and the next of its bytes.
pub type Visit<'a> = dyn FnMut(usize, &[u8]) -> Result<(), Error> + 'a;

/// The bytes of all tensors of a checkpoint.
pub trait Pieces {
    /// Visits them in the order of the file, at most `PIECE` of one tensor at once.
    fn each(&self, visit: &mut Visit) -> Result<(), Error>;
}

impl<'a> Destination<'a> {
    /// Opens a target for the checkpoint of a draft. Returns `None` if there is nothing to write.
    pub fn open(target: Target<'a>, draft: &Draft) -> Result<Option<Destination<'a>>, Error> {
        Ok(Some(match target {
            Target::Size => return Ok(None),
            Target::File(path) => Destination::File(NewFile::create(path)?),
            Target::Host(writer) => Destination::Host(writer),
            Target::Memory(to) => {
                let wanted = (draft.n_bytes() + draft.n_tensor_bytes()) as usize;
                if to.len() < wanted {
                    return Err(Error::Count { name: "capacity", count: to.len(), wanted });
                }
                Destination::Memory(to)
            }
        }))
    }

    /// Returns how many bytes of tensors `write` visits.
    pub fn n_visited(&self, draft: &Draft) -> u64 {
        let times = if matches!(self, Destination::Host(_)) { 2 } else { 1 };
        times * draft.n_tensor_bytes()
    }
}

/// Writes a checkpoint.
pub fn write(
    draft: &mut Draft,
    pieces: &impl Pieces,
    to: Destination,
    progress: &mut Progress,
) -> Result<Written, Error> {
    let n_bytes = draft.n_bytes() + draft.n_tensor_bytes();
    let mut is_durable = false;
    match to {
        Destination::File(file) => {
            let mut to = FileBuffer::new(&file, draft.n_bytes())?;
            sum_up(draft, pieces, progress, |bytes| to.write(bytes))?;
            to.flush()?;
            file.write(0, draft.sealed())?;
            is_durable = file.commit()?;
        }
        Destination::Memory(to) => {
            let (header, mut rest) = to.split_at_mut(draft.n_bytes() as usize);
            sum_up(draft, pieces, progress, |bytes| {
                let (next, behind) = core::mem::take(&mut rest).split_at_mut(bytes.len());
                next.copy_from_slice(bytes);
                rest = behind;
                Ok(())
            })?;
            header.copy_from_slice(draft.sealed());
        }
        Destination::Host(writer) => {
            // The header, which has the checksums, comes first.
            sum_up(draft, pieces, progress, |_| Ok(()))?;
            writer.write(draft.sealed())?;
            pieces.each(&mut |_, bytes| {
                writer.write(bytes)?;
                progress.add(bytes.len() as u64)
            })?;
        }
    }
    Ok(Written { n_bytes, is_durable })
}

/// Visits the bytes of all tensors, and puts the checksum of each tensor into the header.
fn sum_up(
    draft: &mut Draft,
    pieces: &impl Pieces,
    progress: &mut Progress,
    mut visit: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut current: Option<(usize, Hasher)> = None;
    pieces.each(&mut |number, bytes| {
        match &mut current {
            Some((of, crc)) if *of == number => crc.update(bytes),
            before => {
                let mut crc = Hasher::new();
                crc.update(bytes);
                if let Some((of, crc)) = before.replace((number, crc)) {
                    draft.set_crc(of, crc.finalize());
                }
            }
        }
        visit(bytes)?;
        progress.add(bytes.len() as u64)
    })?;
    if let Some((of, crc)) = current {
        draft.set_crc(of, crc.finalize());
    }
    Ok(())
}

/// A writer that gathers small tensors into one write. Large ones go straight from their own
/// memory.
struct FileBuffer<'a> {
    file: &'a NewFile,
    at: u64,
    buffer: Vec<u8>,
}

impl FileBuffer<'_> {
    fn new(file: &NewFile, at: u64) -> Result<FileBuffer<'_>, Error> {
        let mut buffer = Vec::new();
        reserve(&mut buffer, PIECE, "a buffer for writing")?;
        Ok(FileBuffer { file, at, buffer })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.buffer.len() + bytes.len() > PIECE || bytes.len() == PIECE {
            self.flush()?;
        }
        if bytes.len() == PIECE {
            self.file.write(self.at, bytes)?;
            self.at += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes); // there is room: see `new` and above
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.write(self.at, &self.buffer)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
