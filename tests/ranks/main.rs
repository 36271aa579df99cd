//! Ranks that each step a part of the same parameters have the bits of one that steps all of them.

#[path = "../common/mod.rs"]
mod common;

mod bits;
mod differences;
mod meeting;
mod moves;
mod pieces;
mod ranges;
mod sparse;
mod world;
