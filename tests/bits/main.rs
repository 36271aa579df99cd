//! The same bits everywhere: beside Paddle's, a plain formula, other instruction sets, threads and
//! cuts of tensors.

#[path = "../common/mod.rs"]
mod common;

mod behaviour;
mod bits;
mod formula;
mod fp_environment;
mod paddle;
mod precision;
mod repeats;
mod split_master;
