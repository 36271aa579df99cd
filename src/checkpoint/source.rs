//! Where a checkpoint is read from.
#![forbid(unsafe_code)]

use crate::callback::HostReader;
use crate::error::{Error, FileProblem, Label};
use crate::sys::files::Reading;

/// Bytes that can be read at any place, more than once.
pub enum Source<'a> {
    File(Reading),
    Memory(&'a [u8]),
    Host(HostReader),
}

impl Source<'_> {
    pub fn n_bytes(&self) -> u64 {
        match self {
            Source::File(file) => file.n_bytes(),
            Source::Memory(bytes) => bytes.len() as u64,
            Source::Host(reader) => reader.n_bytes(),
        }
    }

    /// Fills `to` with the bytes from this place on.
    pub fn read(&self, at: u64, to: &mut [u8]) -> Result<(), Error> {
        match self {
            Source::File(file) => file.read(at, to),
            Source::Host(reader) => reader.read(at, to),
            Source::Memory(bytes) => {
                let there =
                    usize::try_from(at).ok().and_then(|at| bytes.get(at..)?.get(..to.len()));
                to.copy_from_slice(there.ok_or_else(|| self.broken(ENDS))?);
                Ok(())
            }
        }
    }

    /// What errors call it.
    pub fn label(&self) -> Label {
        match self {
            Source::File(file) => file.label(),
            Source::Memory(_) => Label::new(b"in memory"),
            Source::Host(_) => Label::new(b"from the host"),
        }
    }

    pub fn problem(&self, problem: FileProblem) -> Error {
        Error::Checkpoint { file: self.label(), problem }
    }

    pub fn broken(&self, broken: &'static str) -> Error {
        self.problem(FileProblem::Damaged(broken))
    }
}

/// Less is there than the header says.
pub const ENDS: &str = "it ends too early";
