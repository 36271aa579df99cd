//! The machine: warps of 32 lanes that run a decoded kernel, one block after the other.
//!
//! Arithmetic is scalar Rust, so its bits are those of IEEE 754; a NaN result has the bits that
//! PTX gives it. Everything that has no value yet is poisoned.

mod access;
mod arithmetic;
mod atomic;
mod bits;
mod block;
mod compare;
mod convert;
mod exchange;
mod fault;
mod float;
mod lanes;
mod memory;
mod races;
mod shared;
mod warp;

pub use block::{Launch, run};
pub use fault::{Fault, Kind};
pub use memory::{Memory, RangeKind};
