//! What can be wrong with a checkpoint, and with the file that it is in.
#![forbid(unsafe_code)]

use super::Label;
use core::fmt;
use thiserror::Error;

/// What the system said, as a text that needs no memory and no locale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let text = match self.0 {
            libc::EACCES => "permission denied",
            libc::EDQUOT => "the disk quota is used up",
            libc::EFBIG => "the file is too large",
            libc::EIO => "input/output error",
            libc::EISDIR => "it is a directory",
            libc::ELOOP => "too many symbolic links",
            libc::EMFILE | libc::ENFILE => "too many open files",
            libc::ENAMETOOLONG => "the name is too long",
            libc::ENOENT => "no such file or directory",
            libc::ENOSPC => "no space left on the device",
            libc::ENOTDIR => "a part of the path is not a directory",
            libc::EPERM => "operation not permitted",
            libc::EROFS => "the file system is read-only",
            _ => return write!(f, "error {}", self.0),
        };
        f.write_str(text)
    }
}

/// What is wrong with a checkpoint, taken alone.
#[derive(Error, Clone, Copy, PartialEq, Debug)]
pub enum FileProblem {
    #[error("is no checkpoint of this library: {0}")]
    Foreign(&'static str),
    #[error("has format {0}, this version of the library reads 1")]
    Version(u32),
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    #[error("is damaged: the checksum of \"{0}\" is not that of its bytes")]
    Checksum(Label),
    #[error("is damaged: \"{0}\" is there twice")]
    Twice(Label),
    #[error("is damaged: \"{0}\" is missing or not what it should be")]
    Text(Label),
}
