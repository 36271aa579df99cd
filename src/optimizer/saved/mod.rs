//! Saving and loading the state of a handle.
#![forbid(unsafe_code)]

pub(in crate::optimizer) mod load;
pub(in crate::optimizer) mod save;
pub(in crate::optimizer) mod settings;
