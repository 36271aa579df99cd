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

/// A source that any thread may read.
#[derive(Clone, Copy)]
pub enum Shared<'a> {
    File(&'a Reading),
    Memory(&'a [u8]),
}

impl Shared<'_> {
    /// Fills `to` with the bytes from this place on.
    pub fn read(&self, at: u64, to: &mut [u8]) -> Result<(), Error> {
        match self {
            Shared::File(file) => file.read(at, to),
            Shared::Memory(bytes) => {
                let there =
                    usize::try_from(at).ok().and_then(|at| bytes.get(at..)?.get(..to.len()));
                let problem = FileProblem::Damaged(ENDS);
                let file = Label::new(IN_MEMORY);
                to.copy_from_slice(there.ok_or(Error::Checkpoint { file, problem })?);
                Ok(())
            }
        }
    }
}

/// What errors call a checkpoint there.
const IN_MEMORY: &[u8] = b"in memory";

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
            Source::File(file) => Shared::File(file).read(at, to),
            Source::Memory(bytes) => Shared::Memory(bytes).read(at, to),
            Source::Host(reader) => reader.read(at, to),
        }
    }

    /// The same for several threads at once, if they may read it.
    pub fn shared(&self) -> Option<Shared<'_>> {
        match self {
            Source::File(file) => Some(Shared::File(file)),
            Source::Memory(bytes) => Some(Shared::Memory(bytes)),
            Source::Host(_) => None, // a function of the host's runs on the caller's thread
        }
    }

    /// What errors call it.
    pub fn label(&self) -> Label {
        match self {
            Source::File(file) => file.label(),
            Source::Memory(_) => Label::new(IN_MEMORY),
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
