//! The description of a schedule.
#![allow(non_camel_case_types)]

use super::sized::sized_struct;
use core::ffi::c_void;

pub use crate::callback::adamw_schedule_function;

/// A formula for the learning rate as a function of the index i, the number of times that the
/// schedule has advanced. A field that is zero means zero, except where another default is given.
pub type adamw_schedule_kind = u32;
/// lr / sqrt(d_model) * min(1 / sqrt(i), i / warmup_steps^1.5). A `lr` of 0 means 1.
pub const ADAMW_SCHEDULE_NOAM: adamw_schedule_kind = 1;
/// `values[k]`, where k is the number of boundaries at or before i. There is one value more than
/// there are boundaries.
pub const ADAMW_SCHEDULE_PIECEWISE: adamw_schedule_kind = 2;
/// lr * exp(-gamma * i).
pub const ADAMW_SCHEDULE_NATURAL_EXP: adamw_schedule_kind = 3;
/// lr / (1 + gamma * i).
pub const ADAMW_SCHEDULE_INVERSE_TIME: adamw_schedule_kind = 4;
/// From lr to end_lr in `total_steps`, as (1 - i / total_steps)^power. With `cycle`, total_steps
/// grows to its next multiple instead of ending. A `power` of 0 means 1.
pub const ADAMW_SCHEDULE_POLYNOMIAL: adamw_schedule_kind = 5;
/// Linear from start_lr to end_lr in `warmup_steps`, then the inner schedule from its start, or lr
/// if there is no inner schedule.
pub const ADAMW_SCHEDULE_LINEAR_WARMUP: adamw_schedule_kind = 6;
/// lr * gamma^i.
pub const ADAMW_SCHEDULE_EXPONENTIAL: adamw_schedule_kind = 7;
/// lr * gamma^(number of boundaries at or before i). A `gamma` of 0 means 0.1.
pub const ADAMW_SCHEDULE_MULTI_STEP: adamw_schedule_kind = 8;
/// lr * gamma^floor(i / period). A `gamma` of 0 means 0.1.
pub const ADAMW_SCHEDULE_STEP: adamw_schedule_kind = 9;
/// lr * function(i).
pub const ADAMW_SCHEDULE_LAMBDA: adamw_schedule_kind = 10;
/// Multiplies the learning rate by `factor` (0 means 0.1) when a metric has not improved for more
/// than `patience` calls of `adamw_schedule_advance_with_metric`. The result is not below min_lr,
/// and a reduction of at most `epsilon` is not made. With `warmup_steps`, the schedule begins with
/// a line from start_lr to lr, which advances as other schedules do; during it, metrics only count
/// for the best.
pub const ADAMW_SCHEDULE_REDUCE_ON_PLATEAU: adamw_schedule_kind = 11;
/// From lr to min_lr along half a cosine in `period`, then back, and so on. Each value is computed
/// from the one before.
pub const ADAMW_SCHEDULE_COSINE_ANNEALING: adamw_schedule_kind = 12;
/// lr * function(1) * ... * function(i).
pub const ADAMW_SCHEDULE_MULTIPLICATIVE: adamw_schedule_kind = 13;
/// Up from max_lr / divide_factor to max_lr in `phase_fraction` of `total_steps`, then down to
/// end_lr, where it stays. With `three_phase`, it first goes down to its initial value. The phases
/// are half cosines, or lines with `linear_anneal`. A `divide_factor` of 0 means 25, a
/// `phase_fraction` of 0 means 0.3.
pub const ADAMW_SCHEDULE_ONE_CYCLE: adamw_schedule_kind = 14;
/// Up from lr to max_lr in `steps_up` and down in `steps_down` (0 means as many), again and again.
/// `cyclic_mode` scales the amplitude of later cycles.
pub const ADAMW_SCHEDULE_CYCLIC: adamw_schedule_kind = 15;
/// lr times a factor that goes from start_factor (0 means 1/3) to end_factor in `total_steps`.
pub const ADAMW_SCHEDULE_LINEAR: adamw_schedule_kind = 16;
/// From lr to min_lr along half a cosine in `period`, then again from lr in a period that is
/// `period_factor` times as long, and so on. A `period_factor` of 0 means 1.
pub const ADAMW_SCHEDULE_COSINE_WARM_RESTARTS: adamw_schedule_kind = 17;
/// Linear from start_lr to lr in `warmup_steps`, then lr.
pub const ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP: adamw_schedule_kind = 18;
/// Linear from start_lr to lr in `warmup_steps`, then linear to min_lr at `total_steps`, where it
/// stays.
pub const ADAMW_SCHEDULE_LINEAR_WITH_WARMUP: adamw_schedule_kind = 19;
/// Linear from start_lr to lr in `warmup_steps`, then half a cosine to min_lr at `total_steps`,
/// where it stays.
pub const ADAMW_SCHEDULE_COSINE_WITH_WARMUP: adamw_schedule_kind = 20;
/// Linear from start_lr to lr in `warmup_steps`, then lr * sqrt(warmup_steps / i).
pub const ADAMW_SCHEDULE_INVERSE_SQRT: adamw_schedule_kind = 21;
/// Linear from start_lr to lr in `warmup_steps`, then lr; in the last `decay_steps` of
/// `total_steps` down to min_lr by 1 - sqrt(part of the decay that is done), where it stays.
pub const ADAMW_SCHEDULE_WARMUP_STABLE_DECAY: adamw_schedule_kind = 22;
/// The inner schedules one after another, each from its own start. The next one begins at each of
/// `boundaries`, so there is one schedule more than there are boundaries.
pub const ADAMW_SCHEDULE_CHAIN: adamw_schedule_kind = 23;
/// function(i).
pub const ADAMW_SCHEDULE_FUNCTION: adamw_schedule_kind = 24;

/// How CYCLIC scales its amplitude from cycle to cycle.
pub type adamw_cyclic_mode = u32;
/// Every cycle has the amplitude of the first.
pub const ADAMW_CYCLIC_TRIANGULAR: adamw_cyclic_mode = 0;
/// Every cycle has half the amplitude of the one before.
pub const ADAMW_CYCLIC_TRIANGULAR2: adamw_cyclic_mode = 1;
/// The amplitude is multiplied by gamma^i.
pub const ADAMW_CYCLIC_EXP_RANGE: adamw_cyclic_mode = 2;

/// When a schedule advances.
pub type adamw_schedule_advances = u32;
/// After every `adamw_step` that was taken. A step that fails or is skipped does not count.
pub const ADAMW_ADVANCE_ON_STEP: adamw_schedule_advances = 0;
/// Only by `adamw_schedule_advance`.
pub const ADAMW_ADVANCE_MANUALLY: adamw_schedule_advances = 1;

/// A schedule of the learning rate. Zero it, then set `struct_size`, `kind` and the fields that
/// this kind uses; the others are ignored. All learning rates are finite and >= 0. Arrays and inner
/// schedules are copied during the call; `function` is kept.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_schedule {
    /// `sizeof(adamw_schedule)`.
    pub struct_size: usize,
    /// The formula, an ADAMW_SCHEDULE constant.
    pub kind: adamw_schedule_kind,
    /// `[ADAMW_ADVANCE_ON_STEP]` When the schedule advances. Only that of the outermost schedule is
    /// used. REDUCE_ON_PLATEAU advances by its own call, except during its warmup.
    pub advance: adamw_schedule_advances,
    /// The initial learning rate, or the one that a warmup leads to. 0 means that of the handle,
    /// except for CYCLIC, which may start from 0, and for NOAM. (`adamw_schedule_trace` has no
    /// handle, so that 0 stays 0.)
    pub lr: f64,
    /// The learning rate at which a warmup starts.
    pub start_lr: f64,
    /// The last learning rate of POLYNOMIAL and ONE_CYCLE, and of the warmup of LINEAR_WARMUP
    /// (where it must be > start_lr).
    pub end_lr: f64,
    /// The lowest learning rate, where a formula has one.
    pub min_lr: f64,
    /// The highest learning rate of ONE_CYCLE and CYCLIC.
    pub max_lr: f64,
    /// > 0; for EXPONENTIAL, MULTI_STEP and STEP also < 1.
    pub gamma: f64,
    /// > 0.
    pub power: f64,
    /// 0 < factor < 1.
    pub factor: f64,
    /// 0 < start_factor <= 1.
    pub start_factor: f64,
    /// 0 to 1.
    pub end_factor: f64,
    /// > 0.
    pub divide_factor: f64,
    /// 0 < phase_fraction <= 1, with three_phase < 0.5; phase_fraction * total_steps must be > 1.
    pub phase_fraction: f64,
    /// The improvement over the best metric that counts, as a fraction of that metric.
    pub threshold: f64,
    /// A reduction of the learning rate by at most this much is not made.
    pub epsilon: f64,
    /// The width of the model.
    pub d_model: u64,
    /// The length of the warmup. All numbers of steps are 1 to 2^53; a warmup may be 0 if its line
    /// leads to lr.
    pub warmup_steps: u64,
    /// The total number of steps, including a warmup.
    pub total_steps: u64,
    /// The number of last steps in which WARMUP_STABLE_DECAY decays.
    pub decay_steps: u64,
    /// The number of steps from one change, or one turn, to the next.
    pub period: u64,
    /// The factor from one period to the next.
    pub period_factor: u64,
    /// The number of steps in which a cycle rises.
    pub steps_up: u64,
    /// The number of steps in which a cycle falls.
    pub steps_down: u64,
    /// `[n_boundaries]` Indices, > 0 and increasing.
    pub boundaries: *const u64,
    /// The number of entries of `boundaries`.
    pub n_boundaries: usize,
    /// `[n_values]` Learning rates.
    pub values: *const f64,
    /// The number of entries of `values`.
    pub n_values: usize,
    /// `[n_schedules]` Inner schedules, at most 8 deep. None may be REDUCE_ON_PLATEAU.
    pub schedules: *const *const adamw_schedule,
    /// The number of entries of `schedules`.
    pub n_schedules: usize,
    /// The function of LAMBDA, MULTIPLICATIVE and FUNCTION.
    pub function: adamw_schedule_function,
    /// Passed to `function`.
    pub user_data: *mut c_void,
    /// The number of metrics without an improvement that are tolerated before a reduction.
    pub patience: u32,
    /// The number of metrics that are ignored after a reduction.
    pub cooldown: u32,
    /// How CYCLIC scales its amplitude from cycle to cycle.
    pub cyclic_mode: adamw_cyclic_mode,
    /// 1: POLYNOMIAL starts again.
    pub cycle: u32,
    /// 1: the phases of ONE_CYCLE are lines.
    pub linear_anneal: u32,
    /// 1: ONE_CYCLE has three phases.
    pub three_phase: u32,
    /// 1: a larger metric is better.
    pub maximize_metric: u32,
    /// 1: `threshold` is a difference, not a fraction.
    pub threshold_is_absolute: u32,
}

sized_struct!(adamw_schedule, "schedule", 1 of 8, 2 of 4, 30 of 8, 8 of 4);
