//! Saving and loading the state of a handle.
#![forbid(unsafe_code)]

pub(in crate::optimizer) mod begun;
mod layout;
pub(in crate::optimizer) mod load;
mod save;
pub(in crate::optimizer) mod settings;
mod snapshot;
pub(in crate::optimizer) mod write;
