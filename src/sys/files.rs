//! Files: read at any place, and replaced whole or not at all.
//!
//! A new file is written beside the old one, made durable, and renamed over it: whatever happens
//! meanwhile, the name is that of the old file or of the new one, each of them whole. The directory is
//! held open throughout, so that all of this happens in one place.

use crate::error::{Errno, Error, FileProblem, Label};
use core::ffi::{CStr, c_char, c_int};
use std::fs::File;
use std::io::{Error as IoError, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

/// A file to read.
pub struct Reading {
    file: File,
    label: Label,
    n_bytes: u64,
}

impl Reading {
    pub fn open(path: &CStr) -> Result<Reading, Error> {
        let label = Label::new(path.to_bytes());
        // Without O_NONBLOCK opening a pipe would wait for somebody to write to it.
        let flags = libc::O_RDONLY | libc::O_NONBLOCK;
        let file = open_at(libc::AT_FDCWD, path, flags).map_err(|e| failed(label, "open", e))?;
        let metadata = file.metadata().map_err(|e| failed(label, "stat", e))?;
        if !metadata.is_file() {
            return Err(Error::NotAFile(label));
        }
        Ok(Reading { file, label, n_bytes: metadata.len() })
    }

    pub fn label(&self) -> Label {
        self.label
    }

    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    pub fn read(&self, at: u64, to: &mut [u8]) -> Result<(), Error> {
        self.file.read_exact_at(to, at).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                let problem = FileProblem::Damaged("it ends too early");
                Error::Checkpoint { file: self.label, problem }
            }
            _ => failed(self.label, "read", error),
        })
    }
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
        place.check(label)?;
        let (file, temporary) = place.temporary().map_err(|e| failed(label, "create", e))?;
        Ok(NewFile { place, file, temporary, label, is_done: false })
    }

    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let written = super::without_sigxfsz(|| self.file.write_all_at(bytes, at));
        written.map_err(|e| failed(self.label, "write", e))
    }

    /// Makes what was written durable, and puts it in its place.
    pub fn commit(mut self) -> Result<(), Error> {
        // A write that the system could not do is reported once: asking again would hide it.
        self.file.sync_all().map_err(|e| failed(self.label, "fsync", e))?;
        let folder = self.place.folder.as_raw_fd();
        // SAFETY: the names are NUL-terminated.
        let renamed = unsafe {
            libc::renameat(folder, self.temporary.as_ptr(), folder, self.place.name.as_ptr())
        };
        if renamed != 0 {
            return Err(failed(self.label, "rename", IoError::last_os_error()));
        }
        self.is_done = true;
        self.place.folder.sync_all().map_err(|e| failed(self.label, "fsync of its directory", e))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_done {
            // SAFETY: the name is NUL-terminated.
            unsafe { libc::unlinkat(self.place.folder.as_raw_fd(), self.temporary.as_ptr(), 0) };
        }
    }
}

/// A directory that is open, and a name in it.
struct Place {
    folder: File,
    name: Name,
}

/// As many symbolic links as Linux itself follows.
const MOST_LINKS: usize = 40;

impl Place {
    /// Where a file is or would be, its symbolic links followed: they stay, and what they lead to is
    /// replaced.
    fn of(path: &CStr) -> Result<Place, IoError> {
        let mut place = Place::next(None, path.to_bytes())?;
        let mut link = [0; libc::PATH_MAX as usize];
        for _ in 0..MOST_LINKS {
            let (folder, name) = (place.folder.as_raw_fd(), place.name.as_ptr());
            // SAFETY: the name is NUL-terminated, and the buffer as long as is said.
            let length =
                unsafe { libc::readlinkat(folder, name, link.as_mut_ptr().cast(), link.len()) };
            let Ok(length) = usize::try_from(length) else { return Ok(place) };
            place = Place::next(Some(&place), &link[..length])?;
        }
        Err(IoError::from_raw_os_error(libc::ELOOP))
    }

    /// A path seen from a place.
    fn next(from: Option<&Place>, path: &[u8]) -> Result<Place, IoError> {
        let cut = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (folder, name) = path.split_at(cut);
        let mut text = [0; libc::PATH_MAX as usize];
        let folder = terminated(if folder.is_empty() { b"." } else { folder }, &mut text)?;
        let from = from.map_or(libc::AT_FDCWD, |place| place.folder.as_raw_fd());
        let name = Name::new(name)?;
        Ok(Place { folder: open_at(from, folder, libc::O_RDONLY | libc::O_DIRECTORY)?, name })
    }

    /// That what is there may be replaced: a file that can be written, or nothing.
    fn check(&self, label: Label) -> Result<(), Error> {
        let (folder, name) = (self.folder.as_raw_fd(), self.name.as_ptr());
        let Some(found) = self.status(&self.name) else { return Ok(()) };
        match found.st_mode & libc::S_IFMT {
            libc::S_IFREG => {}
            libc::S_IFDIR => {
                return Err(failed(label, "open", IoError::from_raw_os_error(libc::EISDIR)));
            }
            _ => return Err(Error::NotAFile(label)),
        }
        // SAFETY: the name is NUL-terminated.
        if unsafe { libc::faccessat(folder, name, libc::W_OK, libc::AT_EACCESS) } != 0 {
            return Err(failed(label, "open", IoError::last_os_error()));
        }
        Ok(())
    }

    fn status(&self, name: &Name) -> Option<libc::stat> {
        // SAFETY: `stat` is plain bits, for which all zeros is a value.
        let mut found: libc::stat = unsafe { core::mem::zeroed() };
        let (folder, flags) = (self.folder.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW);
        // SAFETY: the name is NUL-terminated, and the other pointer is to `found`.
        let failed = unsafe { libc::fstatat(folder, name.as_ptr(), &mut found, flags) } != 0;
        (!failed).then_some(found)
    }

    /// An empty file of ours in the same directory. A process that was killed leaves one behind, which
    /// the next one uses again: the lock says whether anybody still writes it.
    fn temporary(&self) -> Result<(File, Name), IoError> {
        const TRIES: usize = 1000;
        let mut last = IoError::from_raw_os_error(libc::EEXIST);
        for number in 0..TRIES {
            let name = Name::temporary(number)?;
            let flags = libc::O_RDWR | libc::O_NOFOLLOW;
            let path = name.as_c_str();
            let new = open_at(self.folder.as_raw_fd(), path, flags | libc::O_CREAT | libc::O_EXCL);
            let (file, is_new) = match new {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    match open_at(self.folder.as_raw_fd(), path, flags) {
                        Ok(file) => (file, false),
                        Err(error) => {
                            last = error;
                            continue;
                        }
                    }
                }
                new => (new?, true),
            };
            let is_locked = match file.try_lock() {
                Ok(()) => true,
                Err(std::fs::TryLockError::WouldBlock) => continue,
                // Some file systems have no locks; what we made ourselves is ours without one.
                Err(std::fs::TryLockError::Error(_)) => is_new,
            };
            if is_locked && self.is_ours(&file, &name) && file.set_len(0).is_ok() {
                return Ok((file, name));
            }
        }
        Err(last)
    }

    /// That a file has this name alone, and nobody else may write it.
    fn is_ours(&self, file: &File, name: &Name) -> bool {
        use std::os::unix::fs::MetadataExt;
        let (Ok(file), Some(named)) = (file.metadata(), self.status(name)) else { return false };
        // SAFETY: no precondition.
        let user = unsafe { libc::geteuid() };
        file.is_file()
            && file.nlink() == 1
            && file.uid() == user
            && (file.dev(), file.ino()) == (named.st_dev, named.st_ino)
    }
}

/// A name in a directory, NUL-terminated.
struct Name([u8; 256]);

impl Name {
    fn new(name: &[u8]) -> Result<Name, IoError> {
        let mut bytes = [0; 256];
        if name.is_empty() {
            return Err(IoError::from_raw_os_error(libc::EISDIR));
        }
        terminated(name, &mut bytes)?;
        Ok(Name(bytes))
    }

    /// `.adamw-<number>.tmp`
    fn temporary(number: usize) -> Result<Name, IoError> {
        let mut digits = *b".adamw-000.tmp";
        for (place, power) in [(7, 100), (8, 10), (9, 1)] {
            digits[place] += (number / power % 10) as u8;
        }
        Name::new(&digits)
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }

    fn as_ptr(&self) -> *const c_char {
        self.0.as_ptr().cast()
    }
}

/// A copy of a text with a NUL behind it, if there is room.
fn terminated<'a>(text: &[u8], to: &'a mut [u8]) -> Result<&'a CStr, IoError> {
    let too_long = || IoError::from_raw_os_error(libc::ENAMETOOLONG);
    if text.len() >= to.len() {
        return Err(too_long());
    }
    to[..text.len()].copy_from_slice(text);
    to[text.len()] = 0;
    CStr::from_bytes_until_nul(to).map_err(|_| too_long())
}

/// Opens a path seen from a directory. A new file has the mode that the umask leaves of 0666.
fn open_at(folder: c_int, path: &CStr, flags: c_int) -> Result<File, IoError> {
    loop {
        let mode: libc::c_uint = 0o666;
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
