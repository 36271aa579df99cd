//! Files: read at any place, and replaced whole or not at all.
//!
//! A new file is written beside the old one, made durable, and renamed over it: whatever happens
//! meanwhile, the name is that of the old file or of the new one, each of them whole. The directory
//! is held open throughout, so that all of this happens in one place.
//!
//! ```text
//! NewFile::create   follows links to the place, checks what is there, opens a temporary file
//! write             writes bytes at any place of it, in any order
//! commit            syncs the file, renames it, syncs the directory
//! drop              removes the temporary file, if it was not committed
//! ```
//!
//! `Reading` reads a file at any place. A load of very many files sets some aside (`set_aside`) and
//! opens them again (`take_up`), which fails unless the file is the same (`Identity`).

mod name;
mod place;

use crate::error::{Errno, Error, FileProblem, Label};
use core::ffi::{CStr, c_int};
use name::Name;
use place::Place;
use std::fs::File;
use std::io::{Error as IoError, ErrorKind};
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

/// A file to read, which is open or set aside.
pub struct Reading<'a> {
    path: &'a CStr,
    file: Option<File>,
    is: Identity,
    label: Label,
}

/// The identity of a file, by which it is recognized when it is opened again.
#[derive(PartialEq, Eq)]
struct Identity {
    inode: (u64, u64),
    n_bytes: u64,
    changed: (i64, i64),
}

impl<'a> Reading<'a> {
    pub fn open(path: &'a CStr) -> Result<Reading<'a>, Error> {
        let label = Label::new(path.to_bytes());
        let (file, is) = opened(path, label)?;
        Ok(Reading { path, file: Some(file), is, label })
    }

    /// Closes the file until it is taken up again.
    pub fn set_aside(&mut self) {
        self.file = None;
    }

    /// Opens the file again, if it was set aside, and returns whether it was. It has to be the same
    /// file.
    pub fn take_up(&mut self) -> Result<bool, Error> {
        if self.file.is_some() {
            return Ok(false);
        }
        let (file, is) = opened(self.path, self.label)?;
        if is != self.is {
            let problem = FileProblem::Damaged("it was replaced while it was being loaded");
            return Err(Error::Checkpoint { file: self.label, problem });
        }
        self.file = Some(file);
        Ok(true)
    }

    pub fn label(&self) -> Label {
        self.label
    }

    pub fn n_bytes(&self) -> u64 {
        self.is.n_bytes
    }

    pub fn read(&self, at: u64, to: &mut [u8]) -> Result<(), Error> {
        let aside = || failed(self.label, "read", IoError::from_raw_os_error(libc::EBADF));
        let file = self.file.as_ref().ok_or_else(aside)?;
        file.read_exact_at(to, at).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                let problem = FileProblem::Damaged("it ends too early");
                Error::Checkpoint { file: self.label, problem }
            }
            _ => failed(self.label, "read", error),
        })
    }
}

fn opened(path: &CStr, label: Label) -> Result<(File, Identity), Error> {
    // Without O_NONBLOCK opening a pipe would wait for somebody to write to it.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK;
    let file = open_at(libc::AT_FDCWD, path, flags, 0).map_err(|e| failed(label, "open", e))?;
    let found = file.metadata().map_err(|e| failed(label, "stat", e))?;
    check_kind(label, found.mode())?;
    let (inode, changed) = ((found.dev(), found.ino()), (found.mtime(), found.mtime_nsec()));
    Ok((file, Identity { inode, n_bytes: found.len(), changed }))
}

/// Returns the number of files that a load keeps open: half of those that the process may open, so
/// that the host has the others.
pub fn most_open() -> usize {
    // SAFETY: `rlimit` is plain numbers, for which all zeros is a value.
    let mut limit: libc::rlimit = unsafe { core::mem::zeroed() };
    // SAFETY: the pointer is to `limit`.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0;
    if failed { 1 } else { usize::try_from(limit.rlim_cur / 2).unwrap_or(usize::MAX) }
}

/// A file that is being written, and takes its place when it is committed.
pub struct NewFile {
    place: Place,
    file: File,
    temporary: Name,
    label: Label,
    is_done: bool,
}

impl NewFile {
    pub fn create(path: &CStr) -> Result<NewFile, Error> {
        let label = Label::new(path.to_bytes());
        let place = Place::of(path).map_err(|e| failed(label, "open", e))?;
        let replaced = place.replaced(label)?;
        let (file, temporary) = place.temporary(label, replaced.as_ref())?;
        let new = NewFile { place, file, temporary, label, is_done: false };
        if let Some(replaced) = replaced {
            place::hand_on(&new.file, &replaced).map_err(|e| failed(label, "stat", e))?;
        }
        Ok(new)
    }

    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let written = super::without_sigxfsz(|| self.file.write_all_at(bytes, at));
        written.map_err(|e| failed(self.label, "write", e))
    }

    /// Makes the file durable, and puts it in its place. Returns false if it is there, but the file
    /// system has no way to make it, or its name, durable.
    pub fn commit(mut self) -> Result<bool, Error> {
        // The system reports a failed write once: asking again would hide it.
        let bytes = synced(&self.file, &[]).map_err(|e| failed(self.label, "fsync", e))?;
        self.place.rename(&self.temporary).map_err(|e| failed(self.label, "rename", e))?;
        self.is_done = true;
        // A directory that may not be read was opened for its names alone.
        let name = synced(&self.place.folder, &[libc::EBADF]);
        Ok(name.map_err(|e| failed(self.label, "fsync of its directory", e))? && bytes)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_done {
            self.place.remove(&self.temporary);
        }
    }
}

/// Makes the contents of a file or a directory durable; returns false if the file system cannot, or
/// if the error is one of `others`.
fn synced(file: &File, others: &[c_int]) -> Result<bool, IoError> {
    const NOT_KNOWN: [c_int; 3] = [libc::EINVAL, libc::ENOSYS, libc::EOPNOTSUPP];
    match file.sync_all() {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(number) if NOT_KNOWN.contains(&number) || others.contains(&number) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Checks that a mode is that of a regular file, not of a directory, pipe or device.
fn check_kind(label: Label, mode: libc::mode_t) -> Result<(), Error> {
    match mode & libc::S_IFMT {
        libc::S_IFREG => Ok(()),
        libc::S_IFDIR => Err(failed(label, "open", IoError::from_raw_os_error(libc::EISDIR))),
        _ => Err(Error::NotAFile(label)),
    }
}

/// Opens a path relative to a directory. A new file gets the part of `mode` that the umask leaves.
fn open_at(folder: c_int, path: &CStr, flags: c_int, mode: libc::mode_t) -> Result<File, IoError> {
    loop {
        // SAFETY: the path is NUL-terminated.
        let opened = unsafe { libc::openat(folder, path.as_ptr(), flags | libc::O_CLOEXEC, mode) };
        if opened >= 0 {
            // SAFETY: the descriptor was opened just now, and nobody else has it.
            return Ok(unsafe { File::from_raw_fd(opened) });
        }
        let error = IoError::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn failed(path: Label, call: &'static str, error: IoError) -> Error {
    // The one error that is not the system's is a write of no bytes.
    Error::File { path, call, errno: Errno(error.raw_os_error().unwrap_or(libc::EIO)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn a_file_that_was_set_aside_has_to_be_the_same_when_it_is_taken_up() {
        let path = std::env::temp_dir().join(format!("adamw-aside-{}", std::process::id()));
        let other = path.with_extension("other");
        std::fs::write(&path, "before").unwrap();
        let name = CString::new(path.to_str().unwrap()).unwrap();
        let mut reading = Reading::open(&name).unwrap();
        assert_eq!(reading.take_up(), Ok(false));
        reading.set_aside();
        let mut text = [0; 6];
        assert!(reading.read(0, &mut text).is_err());
        assert_eq!(reading.take_up(), Ok(true));
        reading.read(0, &mut text).unwrap();
        assert_eq!(&text, b"before");
        reading.set_aside();
        std::fs::write(&other, "behind").unwrap();
        std::fs::rename(&other, &path).unwrap();
        let error = reading.take_up().unwrap_err().to_string();
        assert!(
            error.ends_with("is damaged: it was replaced while it was being loaded"),
            "{error}"
        );
        std::fs::remove_file(&path).unwrap();
    }
}
