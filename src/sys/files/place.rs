//! The place of a new file: an open directory and a name in it.
//!
//! `Place::of` follows the symbolic links of a path, so that links stay and the file that they lead
//! to is replaced. `replaced` finds what has the name and checks that it may be written.
//! `temporary` creates a file `.adamw-<number>.tmp` in the same directory under the first free
//! number. Each such file is locked while it is written, so that a file without a lock is the
//! leftover of a killed process, and is removed (`remove_leftover`). `hand_on` gives the new file
//! the owner and the mode of the old one. At last `rename` puts it in its place, or `remove`
//! removes it.

use super::name::{Name, terminated};
use super::{check_kind, failed, open_at};
use crate::error::{Error, Label};
use core::ffi::CStr;
use std::fs::{File, TryLockError};
use std::io::{Error as IoError, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, fchown};

/// An open directory, and a name in it.
pub struct Place {
    pub folder: File,
    name: Name,
}

/// The number of symbolic links that Linux itself follows.
const MOST_LINKS: usize = 40;

/// The number of names of temporary files, and so of saves in a directory at once.
const TEMPORARIES: usize = 1000;

impl Place {
    /// Returns the place where a file is or would be, after following symbolic links.
    pub fn of(path: &CStr) -> Result<Place, IoError> {
        let mut place = Place::next(None, path.to_bytes())?;
        let mut link = [0; libc::PATH_MAX as usize];
        for _ in 0..MOST_LINKS {
            let (folder, name) = (place.folder.as_raw_fd(), place.name.as_ptr());
            // SAFETY: the name is NUL-terminated, and the buffer has `link.len()` bytes.
            let length =
                unsafe { libc::readlinkat(folder, name, link.as_mut_ptr().cast(), link.len()) };
            let Ok(length) = usize::try_from(length) else { return Ok(place) };
            place = Place::next(Some(&place), &link[..length])?;
        }
        Err(IoError::from_raw_os_error(libc::ELOOP))
    }

    /// Returns the place of a path relative to another place.
    fn next(from: Option<&Place>, path: &[u8]) -> Result<Place, IoError> {
        let cut = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (folder, name) = path.split_at(cut);
        let mut text = [0; libc::PATH_MAX as usize];
        let folder = terminated(if folder.is_empty() { b"." } else { folder }, &mut text)?;
        let from = from.map_or(libc::AT_FDCWD, |place| place.folder.as_raw_fd());
        let name = Name::new(name)?;
        let open = |flags| open_at(from, folder, flags | libc::O_DIRECTORY, 0);
        let folder = match open(libc::O_RDONLY) {
            // A directory that may be written but not read still takes names.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => open(libc::O_PATH),
            opened => opened,
        };
        Ok(Place { folder: folder?, name })
    }

    /// Returns the status of the file that will be replaced, if there is one, and checks that it is
    /// a file that can be written.
    pub fn replaced(&self, label: Label) -> Result<Option<libc::stat>, Error> {
        let found = self.status(&self.name).map_err(|e| failed(label, "open", e))?;
        let Some(found) = found else { return Ok(None) };
        check_kind(label, found.st_mode)?;
        let (folder, name) = (self.folder.as_raw_fd(), self.name.as_ptr());
        // SAFETY: the name is NUL-terminated.
        if unsafe { libc::faccessat(folder, name, libc::W_OK, libc::AT_EACCESS) } != 0 {
            return Err(failed(label, "open", IoError::last_os_error()));
        }
        Ok(Some(found))
    }

    /// Returns the status of what has a name, if anything has.
    fn status(&self, name: &Name) -> Result<Option<libc::stat>, IoError> {
        // SAFETY: `stat` is plain bits, for which all zeros is a value.
        let mut found: libc::stat = unsafe { core::mem::zeroed() };
        let (folder, flags) = (self.folder.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW);
        // SAFETY: the name is NUL-terminated, and the other pointer is to `found`.
        if unsafe { libc::fstatat(folder, name.as_ptr(), &mut found, flags) } == 0 {
            return Ok(Some(found));
        }
        let error = IoError::last_os_error();
        if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(error) }
    }

    /// Creates a new file in the same directory. If it takes the place of another, its owner alone
    /// may open it at first.
    pub fn temporary(
        &self,
        label: Label,
        replaced: Option<&libc::stat>,
    ) -> Result<(File, Name), Error> {
        let mode = if replaced.is_some() { 0o600 } else { 0o666 };
        for number in 0..TEMPORARIES {
            let name = Name::temporary(number).map_err(|e| failed(label, "create", e))?;
            let new = match self.create(&name, mode) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if !self.remove_leftover(&name) {
                        continue;
                    }
                    self.create(&name, mode)
                }
                new => new,
            };
            match new {
                Ok(Some(file)) => return Ok((file, name)),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(label, "create", error)),
            }
        }
        let call = "create of .adamw-000.tmp to .adamw-999.tmp beside it";
        Err(failed(label, call, IoError::from_raw_os_error(libc::EEXIST)))
    }

    /// Creates a file that was not there, and locks it. Returns `None` if another save took it for
    /// a leftover before it was locked, and removes it.
    fn create(&self, name: &Name, mode: libc::mode_t) -> Result<Option<File>, IoError> {
        let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_CREAT | libc::O_EXCL;
        let file = open_at(self.folder.as_raw_fd(), name.as_c_str(), flags, mode)?;
        // On a file system without locks nobody removes leftovers.
        let is_ours = match lock(&file) {
            Some(true) => self.is(name, &file),
            locked => Ok(locked.is_none()),
        };
        if is_ours.is_err() {
            self.remove(name);
        }
        Ok(is_ours?.then_some(file))
    }

    /// Removes the leftover of a killed process. That it can be locked tells that nobody writes it.
    fn remove_leftover(&self, name: &Name) -> bool {
        let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let opened = open_at(self.folder.as_raw_fd(), name.as_c_str(), flags, 0);
        // Only the holder of the lock of the file that has the name may remove it.
        opened.is_ok_and(|file| {
            lock(&file) == Some(true) && self.is(name, &file).unwrap_or(false) && self.remove(name)
        })
    }

    /// Returns whether a name is that of a file.
    fn is(&self, name: &Name, file: &File) -> Result<bool, IoError> {
        let (file, named) = (file.metadata()?, self.status(name)?);
        let named = named.map(|named| (named.st_dev, named.st_ino));
        Ok(file.is_file() && named == Some((file.dev(), file.ino())))
    }

    pub fn remove(&self, name: &Name) -> bool {
        // SAFETY: the name is NUL-terminated.
        unsafe { libc::unlinkat(self.folder.as_raw_fd(), name.as_ptr(), 0) == 0 }
    }

    /// Renames a file of the directory to the name of the place.
    pub fn rename(&self, from: &Name) -> Result<(), IoError> {
        let folder = self.folder.as_raw_fd();
        // SAFETY: the names are NUL-terminated.
        let renamed = unsafe { libc::renameat(folder, from.as_ptr(), folder, self.name.as_ptr()) };
        if renamed == 0 { Ok(()) } else { Err(IoError::last_os_error()) }
    }
}

/// Locks a file, and returns whether it could; `None` if the file system has no locks.
fn lock(file: &File) -> Option<bool> {
    loop {
        match file.try_lock() {
            Ok(()) => return Some(true),
            Err(TryLockError::WouldBlock) => return Some(false),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => {}
            Err(TryLockError::Error(_)) => return None,
        }
    }
}

/// Gives a new file the owner, the group and the mode of the one that it replaces, as far as the
/// process may and the file system can.
pub fn hand_on(new: &File, replaced: &libc::stat) -> Result<(), IoError> {
    let made = new.metadata()?;
    let (owner, group) = (replaced.st_uid, replaced.st_gid);
    let mut mode = replaced.st_mode & 0o777;
    let other_owner = (made.uid() != owner).then_some(owner);
    let other_group = (made.gid() != group).then_some(group);
    if (other_owner, other_group) != (None, None)
        && fchown(new, other_owner, other_group).is_err()
        && other_group.is_some()
        && fchown(new, None, other_group).is_err()
    {
        // The members of another group get no more than everybody has.
        mode &= 0o707 | mode << 3;
    }
    if made.mode() & 0o777 != mode {
        // SAFETY: `fchmod` has no precondition. If it fails, the file stays its owner's alone.
        unsafe { libc::fchmod(new.as_raw_fd(), mode) };
    }
    Ok(())
}
