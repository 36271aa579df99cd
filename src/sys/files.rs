//! Files: read at any place, and replaced whole or not at all.
//!
//! A new file is written beside the old one, made durable, and renamed over it: whatever happens
//! meanwhile, the name is that of the old file or of the new one, each of them whole. The directory is
//! held open throughout, so that all of this happens in one place.

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

/// A file to read, open or set aside.
pub struct Reading<'a> {
    path: &'a CStr,
    file: Option<File>,
    is: Identity,
    label: Label,
}

/// What tells that a file is the same when it is opened again.
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

    /// Closes it until it is taken up again.
    pub fn set_aside(&mut self) {
        self.file = None;
    }

    /// Opens it again, if it was set aside: whether it was. It has to be the same file.
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

/// How many files a load keeps open: half of what the process may, so that the host has the others.
pub fn most_open() -> usize {
    // SAFETY: plain numbers, for which all zeros is a value.
    let mut limit: libc::rlimit = unsafe { core::mem::zeroed() };
    // SAFETY: the pointer is to `limit`.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0;
    if failed { 1 } else { usize::try_from(limit.rlim_cur / 2).unwrap_or(usize::MAX) }
}

/// A file that is being written, and takes the place of another when it is done.
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

    /// Makes what was written durable, and puts it in its place. False: it is there, but the file
    /// system knows no way to make it, or its name, durable.
    pub fn commit(mut self) -> Result<bool, Error> {
        // A write that the system could not do is reported once: asking again would hide it.
        let bytes = synced(&self.file, &[]).map_err(|e| failed(self.label, "fsync", e))?;
        self.place.rename(&self.temporary).map_err(|e| failed(self.label, "rename", e))?;
        self.is_done = true;
        // A directory that may not be read is open for its names alone.
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

/// Makes durable what a file or a directory holds; false where that is not known there.
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

/// That something of this mode is a file, and no directory, pipe or device.
fn check_kind(label: Label, mode: libc::mode_t) -> Result<(), Error> {
    match mode & libc::S_IFMT {
        libc::S_IFREG => Ok(()),
        libc::S_IFDIR => Err(failed(label, "open", IoError::from_raw_os_error(libc::EISDIR))),
        _ => Err(Error::NotAFile(label)),
    }
}

/// Opens a path seen from a directory. A new file has what the umask leaves of the mode.
fn open_at(folder: c_int, path: &CStr, flags: c_int, mode: libc::mode_t) -> Result<File, IoError> {
    loop {
        // SAFETY: the path is NUL-terminated.
        let opened = unsafe { libc::openat(folder, path.as_ptr(), flags | libc::O_CLOEXEC, mode) };
        if opened >= 0 {
            // SAFETY: it was opened just now and is nobody else's.
            return Ok(unsafe { File::from_raw_fd(opened) });
        }
        let error = IoError::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn failed(path: Label, call: &'static str, error: IoError) -> Error {
    // An error that is not the system's is a write of nothing.
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
