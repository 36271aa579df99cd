//! What a schedule is made of.
#![allow(non_camel_case_types)]

use super::sized::sized_struct;
use core::ffi::c_void;

pub use crate::callback::adamw_schedule_function;

/// A formula of the index i: how often the schedule has advanced. A zero field is zero, unless it is
/// said to be something else.
pub type adamw_schedule_kind = u32;
/// lr / sqrt(d_model) * min(1 / sqrt(i), i / warmup_steps^1.5). `lr` 0 is 1.
pub const ADAMW_SCHEDULE_NOAM: adamw_schedule_kind = 1;
/// `values[k]`, where k boundaries lie at or before i; one value more than boundaries.
pub const ADAMW_SCHEDULE_PIECEWISE: adamw_schedule_kind = 2;
/// lr * exp(-gamma * i).
pub const ADAMW_SCHEDULE_NATURAL_EXP: adamw_schedule_kind = 3;
/// lr / (1 + gamma * i).
pub const ADAMW_SCHEDULE_INVERSE_TIME: adamw_schedule_kind = 4;
/// From lr to end_lr in `total_steps`, as (1 - i / total_steps)^power; `cycle`: total_steps grows to
/// its next multiple instead of an end. `power` 0 is 1.
pub const ADAMW_SCHEDULE_POLYNOMIAL: adamw_schedule_kind = 5;
/// From start_lr to end_lr in `warmup_steps`, then the inner schedule from its start, or lr if there
/// is none.
pub const ADAMW_SCHEDULE_LINEAR_WARMUP: adamw_schedule_kind = 6;
/// lr * gamma^i.
pub const ADAMW_SCHEDULE_EXPONENTIAL: adamw_schedule_kind = 7;
/// lr * gamma^(boundaries at or before i). `gamma` 0 is 0.1.
pub const ADAMW_SCHEDULE_MULTI_STEP: adamw_schedule_kind = 8;
/// lr * gamma^(i / period), rounded down. `gamma` 0 is 0.1.
pub const ADAMW_SCHEDULE_STEP: adamw_schedule_kind = 9;
/// lr * function(i).
pub const ADAMW_SCHEDULE_LAMBDA: adamw_schedule_kind = 10;
/// lr times `factor` (0 is 0.1), not below min_lr and not by less than `epsilon`, when a metric has
/// not improved for more than `patience` calls of `adamw_schedule_advance_with_metric`. With `warmup_steps` a line
/// from start_lr to lr first, which advances as others do; metrics then only count for the best.
pub const ADAMW_SCHEDULE_REDUCE_ON_PLATEAU: adamw_schedule_kind = 11;
/// From lr to min_lr along half a cosine in `period` and back again, each from the one before.
pub const ADAMW_SCHEDULE_COSINE_ANNEALING: adamw_schedule_kind = 12;
/// lr * function(1) * ... * function(i).
pub const ADAMW_SCHEDULE_MULTIPLICATIVE: adamw_schedule_kind = 13;
/// Up from max_lr / divide_factor to max_lr in `phase_fraction` of `total_steps`, then down to end_lr,
/// which stays; `three_phase`: down first to where it began. Half cosines, or lines with
/// `linear_anneal`. `divide_factor` 0 is 25, `phase_fraction` 0 is 0.3.
pub const ADAMW_SCHEDULE_ONE_CYCLE: adamw_schedule_kind = 14;
/// Up from lr to max_lr in `steps_up` and down in `steps_down` (0: as many), by `cyclic_mode`.
pub const ADAMW_SCHEDULE_CYCLIC: adamw_schedule_kind = 15;
/// lr times a factor that goes from start_factor (0 is 1/3) to end_factor in `total_steps`.
pub const ADAMW_SCHEDULE_LINEAR: adamw_schedule_kind = 16;
/// From lr to min_lr along half a cosine in `period`, then again from lr in `period_factor` times as
/// many, and so on. `period_factor` 0 is 1.
pub const ADAMW_SCHEDULE_COSINE_WARM_RESTARTS: adamw_schedule_kind = 17;
/// A line from start_lr to lr in `warmup_steps`, then lr.
pub const ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP: adamw_schedule_kind = 18;
/// That line, then one to min_lr at `total_steps`, which stays.
pub const ADAMW_SCHEDULE_LINEAR_WITH_WARMUP: adamw_schedule_kind = 19;
/// That line, then half a cosine to min_lr at `total_steps`, which stays.
pub const ADAMW_SCHEDULE_COSINE_WITH_WARMUP: adamw_schedule_kind = 20;
/// That line, then lr * sqrt(warmup_steps / i).
pub const ADAMW_SCHEDULE_INVERSE_SQRT: adamw_schedule_kind = 21;
/// That line, then lr, and in the last `decay_steps` of `total_steps` down to min_lr by 1 - sqrt of the
/// part done; min_lr stays.
pub const ADAMW_SCHEDULE_WARMUP_STABLE_DECAY: adamw_schedule_kind = 22;
/// One schedule after another, each from its own start: the next at each of `boundaries`, one
/// schedule more than those.
pub const ADAMW_SCHEDULE_CHAIN: adamw_schedule_kind = 23;
/// function(i).
pub const ADAMW_SCHEDULE_FUNCTION: adamw_schedule_kind = 24;

/// How a cyclic schedule's height goes on.
pub type adamw_cyclic_mode = u32;
/// Every cycle is as high as the first.
pub const ADAMW_CYCLIC_TRIANGULAR: adamw_cyclic_mode = 0;
/// Every cycle is half as high as the one before.
pub const ADAMW_CYCLIC_TRIANGULAR2: adamw_cyclic_mode = 1;
/// The height is multiplied by gamma^i.
pub const ADAMW_CYCLIC_EXP_RANGE: adamw_cyclic_mode = 2;

/// When a schedule advances.
pub type adamw_schedule_advances = u32;
/// After every `adamw_step` that was taken; one that fails, or is skipped, is none.
pub const ADAMW_ADVANCE_ON_STEP: adamw_schedule_advances = 0;
/// By `adamw_schedule_advance` only.
pub const ADAMW_ADVANCE_MANUALLY: adamw_schedule_advances = 1;

/// A schedule of the learning rate. Zero it, set `struct_size`, `kind` and what that kind names; the
/// rest is not looked at. All learning rates are finite and >= 0. Arrays and inner schedules are
/// copied during the call; `function` is kept.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_schedule {
    /// `sizeof(adamw_schedule)`.
    pub struct_size: usize,
    /// Which formula, an ADAMW_SCHEDULE constant.
    pub kind: adamw_schedule_kind,
    /// `[ADAMW_ADVANCE_ON_STEP]` Looked at in the outermost schedule; REDUCE_ON_PLATEAU is always
    /// advanced by its own call.
    pub advance: adamw_schedule_advances,
    /// What the formula starts from, or comes to after a warmup.
    /// 0: the handle's, but for CYCLIC, which may start from 0 (and NOAM, see there); a trace has no handle.
    pub lr: f64,
    /// Where a warmup starts.
    pub start_lr: f64,
    /// Where POLYNOMIAL and ONE_CYCLE end, and the warmup of LINEAR_WARMUP (there > start_lr).
    pub end_lr: f64,
    /// The lowest learning rate, where a formula has one.
    pub min_lr: f64,
    /// The highest one of ONE_CYCLE and CYCLIC.
    pub max_lr: f64,
    /// More than 0; for EXPONENTIAL, MULTI_STEP and STEP < 1.
    pub gamma: f64,
    /// More than 0.
    pub power: f64,
    /// 0 < factor < 1.
    pub factor: f64,
    /// 0 < start_factor <= 1.
    pub start_factor: f64,
    /// 0 to 1.
    pub end_factor: f64,
    /// More than 0.
    pub divide_factor: f64,
    /// 0 < phase_fraction <= 1, with three_phase < 0.5; times total_steps more than 1.
    pub phase_fraction: f64,
    /// By how much a metric must be better than the best one, as a part of that one.
    pub threshold: f64,
    /// Smaller reductions of the learning rate are not made.
    pub epsilon: f64,
    /// The width of the model.
    pub d_model: u64,
    /// Numbers of steps are 1 to 2^53; a warmup may be 0 where its line leads to lr.
    pub warmup_steps: u64,
    /// All steps, a warmup included.
    pub total_steps: u64,
    /// The last of them, in which WARMUP_STABLE_DECAY decays.
    pub decay_steps: u64,
    /// Steps from one change, or one turn, to the next.
    pub period: u64,
    /// What a period is multiplied by for the next.
    pub period_factor: u64,
    /// Steps of a cycle's rise.
    pub steps_up: u64,
    /// Steps of its fall.
    pub steps_down: u64,
    /// `[n_boundaries]` indices, > 0 and increasing.
    pub boundaries: *const u64,
    /// How many.
    pub n_boundaries: usize,
    /// `[n_values]` learning rates.
    pub values: *const f64,
    /// How many.
    pub n_values: usize,
    /// `[n_schedules]` inner schedules, at most 8 deep; none may be REDUCE_ON_PLATEAU.
    pub schedules: *const *const adamw_schedule,
    /// How many.
    pub n_schedules: usize,
    /// For LAMBDA, MULTIPLICATIVE and FUNCTION.
    pub function: adamw_schedule_function,
    /// Passed to `function`.
    pub user_data: *mut c_void,
    /// Metrics that may be no better before the learning rate is reduced.
    pub patience: u32,
    /// Metrics that are passed over after that.
    pub cooldown: u32,
    /// How the height of CYCLIC goes on.
    pub cyclic_mode: adamw_cyclic_mode,
    /// 1: POLYNOMIAL starts again.
    pub cycle: u32,
    /// 1: ONE_CYCLE is made of lines.
    pub linear_anneal: u32,
    /// 1: ONE_CYCLE has a phase more.
    pub three_phase: u32,
    /// 1: a larger metric is a better one.
    pub maximize_metric: u32,
    /// 1: `threshold` is a difference.
    pub threshold_is_absolute: u32,
}

sized_struct!(adamw_schedule, "schedule", 1 of 8, 2 of 4, 30 of 8, 8 of 4);
