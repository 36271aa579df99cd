//! Problems of one checkpoint, by itself.
#![forbid(unsafe_code)]

use super::Label;
use thiserror::Error;

/// A problem of one checkpoint, by itself.
#[derive(Error, Clone, Copy, PartialEq, Debug)]
pub enum FileProblem {
    #[error("is no checkpoint of this library: {0}")]
    Foreign(&'static str),
    #[error("has format {0}, this version of the library reads 1 and 2: use a newer one")]
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
