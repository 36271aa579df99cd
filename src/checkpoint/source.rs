//! The sources of a checkpoint: files, memory, or functions of the host.
#![forbid(unsafe_code)]

use crate::callback::HostReader;
use crate::error::{Error, FileProblem, Label};
use crate::sys::files::{Reading, most_open};
use crate::sys::memory::reserve;

/// Bytes that can be read at any place, more than once.
pub enum Source<'a> {
    File(Reading<'a>),
    Memory(&'a [u8]),
    Host(HostReader),
}

/// A source that any thread may read.
#[derive(Clone, Copy)]
pub enum Shared<'a> {
    File(&'a Reading<'a>),
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

/// The name that errors have for a checkpoint in memory.
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

    /// Returns the source for several threads at once, if they may read it.
    pub fn shared(&self) -> Option<Shared<'_>> {
        match self {
            Source::File(file) => Some(Shared::File(file)),
            Source::Memory(bytes) => Some(Shared::Memory(bytes)),
            Source::Host(_) => None, // a function of the host's runs on the caller's thread
        }
    }

    /// Opens the source again, if it was set aside, and returns whether it was.
    pub fn take_up(&mut self) -> Result<bool, Error> {
        match self {
            Source::File(file) => file.take_up(),
            Source::Memory(_) | Source::Host(_) => Ok(false),
        }
    }

    /// Closes the file, if there is one, until it is taken up again.
    pub fn set_aside(&mut self) {
        if let Source::File(file) = self {
            file.set_aside();
        }
    }

    /// Returns the name that errors have for it.
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

/// Opens the sources of one checkpoint. The first of them stay open, as many as leave room for the
/// host's files; the others are set aside.
pub fn open_all<'a>(
    n: usize,
    mut open: impl FnMut(usize) -> Result<Source<'a>, Error>,
) -> Result<Vec<Source<'a>>, Error> {
    let mut sources: Vec<Source> = Vec::new();
    reserve(&mut sources, n, "the sources")?;
    let most = most_open();
    for number in 0..n {
        let mut next = open(number);
        if next.as_ref().is_err_and(Error::is_lack_of_files) {
            sources.iter_mut().for_each(Source::set_aside);
            next = open(number);
        }
        let mut next = next?;
        if number >= most {
            next.set_aside();
        }
        sources.push(next);
    }
    Ok(sources)
}

/// The problem of a source that has fewer bytes than its header says.
pub const ENDS: &str = "it ends too early";
