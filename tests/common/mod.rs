//! What the tests share: the C API as a handle that destroys itself, host memory, random bits.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]

pub mod array;
pub mod checkpoint;
pub mod cpu_time;
pub mod device;
pub mod handle;
pub mod host;
pub mod inputs;
pub mod kernels;
pub mod kind;
pub mod model;
pub mod oracle;
pub mod place;
pub mod random;
pub mod rounding;
pub mod rows;
pub mod state;
pub mod sums;
pub mod tensors;
pub mod twin;

/// So many elements that a step gives them to threads; `callbacks.rs` sees that it does.
pub const LONG: usize = 300_007;
