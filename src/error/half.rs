//! The errors of steps that are half taken, after which a handle is of no more use.
#![forbid(unsafe_code)]

use super::{Error, RanksProblem};

impl Error {
    /// Returns the error of a step that has written before it failed.
    pub fn in_the_middle(self) -> Error {
        match self {
            Error::HalfStep { .. } | Error::Ranks(RanksProblem::HalfStep(_)) => self,
            Error::Cuda { call, code, name } => Error::HalfStep { call, code, name },
            // Nothing else fails there.
            _ => Error::HalfStep { call: "a call", code: 999, name: "CUDA_ERROR_UNKNOWN" },
        }
    }
}
