//! What a step takes into account: gradients, clips, scales, schedules, rows, statistics.

#[path = "../common/mod.rs"]
mod common;

mod accumulation;
mod clear_grads;
mod clipping;
mod formulas;
mod groups;
mod kept_promises;
mod loss_scale;
mod nonfinite;
mod regularizers;
mod schedules;
mod small;
mod sparse;
mod statistics;
mod sums;
mod windows;
