//! Schedules of the learning rate.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{Optimizer, Status, adamw_schedule, entry, flag, guard, handle, not_null};
use crate::callback::ScheduleFunction;
use crate::error::Error;
use crate::schedule::{Advance, CyclicMode, Kind, Node, Schedule, State, Terms};
use crate::sys::memory::reserve;

/// The greatest depth of inner schedules. It also stops at a schedule that contains itself.
const DEEPEST: usize = 8;

/// Sets a schedule that gives the learning rate from now on. Where its `lr` is 0, it uses that of
/// the handle (`config.lr`, or the last `adamw_set_lr`). NULL removes the schedule, and the
/// learning rate stays at its last value.
///
/// With a schedule, `adamw_get_lr` returns its learning rate for the next step, and `adamw_set_lr`
/// is `ADAMW_STATUS_LR_CONFLICT`; so is this call, if the learning rate comes from `config.lr_ptr`.
/// The function of a schedule is called for index 0 now, and in each step for the index after it,
/// before the step writes anything.
///
/// # Safety
/// `schedule` is NULL or readable, with what it points to. Its function may be called with its
/// user_data until another schedule is set or the handle is destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_lr_schedule(
    optimizer: *mut Optimizer,
    schedule: *const adamw_schedule,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            let schedule = match schedule.is_null() {
                true => None,
                // SAFETY: the caller guarantees it.
                false => Some(unsafe { read(schedule, optimizer.given_lr()) }?),
            };
            optimizer.set_schedule(schedule)?;
            Ok(())
        })
    })
}

/// Advances a schedule that was set with `ADAMW_ADVANCE_MANUALLY` by one, after an epoch for
/// example.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_schedule_advance(optimizer: *mut Optimizer) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.advance_schedule(None)))
}

/// Advances REDUCE_ON_PLATEAU with the metric (finite) of the time since the last call.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_schedule_advance_with_metric(
    optimizer: *mut Optimizer,
    metric: f64,
) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.advance_schedule(Some(metric))))
}

/// The state of a schedule: all that has to be saved in addition to the values that it was set
/// with.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_schedule_state {
    /// `sizeof(adamw_schedule_state)`.
    pub struct_size: usize,
    /// The number of times that it has advanced.
    pub index: u64,
    /// The current learning rate.
    pub lr: f64,
    /// REDUCE_ON_PLATEAU: the best metric, or NaN before the first.
    pub best: f64,
    /// REDUCE_ON_PLATEAU: the number of metrics since the best.
    pub num_bad: u32,
    /// REDUCE_ON_PLATEAU: the number of metrics that are still to be ignored.
    pub cooldown: u32,
}

sized_struct!(adamw_schedule_state, "state", 4 of 8, 2 of 4);

/// Writes the state of the handle's schedule to `out_state`. `struct_size` is the caller's
/// `sizeof(adamw_schedule_state)`.
///
/// # Safety
/// `out_state` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_schedule_state(
    optimizer: *const Optimizer,
    out_state: *mut adamw_schedule_state,
    struct_size: usize,
) -> Status {
    guard(|| {
        let state = handle::with(optimizer, |optimizer| optimizer.schedule_state())?;
        // SAFETY: the caller guarantees it.
        unsafe { sized::write(out_state, struct_size, to_c(state)) }
    })
}

/// Sets the state of the handle's schedule to that of another schedule with the same values. It
/// then continues with the same bits.
///
/// # Safety
/// `state` is NULL or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_schedule_state(
    optimizer: *mut Optimizer,
    state: *const adamw_schedule_state,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            let defaults = to_c(optimizer.schedule_state()?);
            // SAFETY: the caller guarantees it.
            let state = unsafe { sized::read(state, defaults) }?;
            let adamw_schedule_state { index, lr, best, num_bad, cooldown, .. } = state;
            optimizer.set_schedule_state(State { index, lr, best, num_bad, cooldown })
        })
    })
}

/// Sets the handle's schedule to its state after `index` advances from its start, with the same
/// bits, for a run that continues under another schedule. For COSINE_ANNEALING and MULTIPLICATIVE
/// this computes every learning rate up to there, so that `index` is at most 2^24. Not for
/// REDUCE_ON_PLATEAU, whose state does not follow from the index.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_set_schedule_index(optimizer: *mut Optimizer, index: u64) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.set_schedule_index(index)))
}

/// Writes the first `n` learning rates of a schedule to `out_lrs` `[n]`. It needs no optimizer: use
/// it for a plot, or in a host that sets the learning rate itself. REDUCE_ON_PLATEAU has those of
/// its warmup only.
///
/// # Safety
/// `schedule` is NULL or readable, with what it points to. `out_lrs` is NULL, or writable for `n`
/// numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_schedule_trace(
    schedule: *const adamw_schedule,
    out_lrs: *mut f64,
    n: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller guarantees it.
        let mut schedule = unsafe { read(schedule, 0.0) }?;
        not_null("out_lrs", out_lrs, n)?;
        let mut lrs = Vec::new();
        reserve(&mut lrs, n, "the learning rates")?;
        for i in 0..n {
            if i > 0 {
                schedule.go_to(schedule.next()?);
            }
            lrs.push(schedule.state().lr);
        }
        for (i, lr) in lrs.into_iter().enumerate() {
            // SAFETY: not NULL, and the caller guarantees the rest.
            unsafe { out_lrs.add(i).write_unaligned(lr) };
        }
        Ok(())
    })
}

fn to_c(state: State) -> adamw_schedule_state {
    let State { index, lr, best, num_bad, cooldown } = state;
    let struct_size = size_of::<adamw_schedule_state>();
    adamw_schedule_state { struct_size, index, lr, best, num_bad, cooldown }
}

/// Reads and checks a schedule. A `lr` of 0 in it is replaced by `lr`, where that is its meaning.
///
/// # Safety
/// `from` is NULL or readable, with what it points to. The requirements of `ScheduleFunction::new`
/// hold for its function.
unsafe fn read(from: *const adamw_schedule, lr: f64) -> Result<Schedule, Error> {
    // SAFETY: the caller guarantees it.
    let (node, advance) = unsafe { read_node(from, 0) }?;
    Schedule::new(node.with_lr(lr), advance)
}

/// Reads a schedule and its inner schedules.
///
/// # Safety
/// The requirements of `read` hold.
unsafe fn read_node(from: *const adamw_schedule, depth: usize) -> Result<(Node, Advance), Error> {
    if depth > DEEPEST {
        return Err(Error::Schedule("has inner schedules more than 8 deep: join those of a chain"));
    }
    // SAFETY: any bytes are a valid schedule, also zeros; the caller guarantees the rest.
    let c = unsafe { sized::read(from, core::mem::zeroed()) }?;
    let advance = Advance::of("schedule.advance", c.advance)?;
    let terms = terms(&c)?;
    not_null("schedule.schedules", c.schedules, c.n_schedules)?;
    let mut parts = Vec::new();
    for i in 0..c.n_schedules {
        reserve(&mut parts, 1, "the inner schedules")?;
        // SAFETY: the caller guarantees it.
        parts.push(unsafe { read_node(entry(c.schedules, i), depth + 1) }?.0);
    }
    // SAFETY: the caller guarantees it.
    let (boundaries, values, function) = unsafe {
        (
            copied("schedule.boundaries", c.boundaries, c.n_boundaries)?,
            copied("schedule.values", c.values, c.n_values)?,
            ScheduleFunction::new(c.function, c.user_data),
        )
    };
    Ok((Node::new(terms, boundaries, values, parts, function), advance))
}

fn terms(c: &adamw_schedule) -> Result<Terms, Error> {
    Ok(Terms {
        kind: Kind::of("schedule.kind", c.kind)?,
        lr: c.lr,
        start_lr: c.start_lr,
        end_lr: c.end_lr,
        min_lr: c.min_lr,
        max_lr: c.max_lr,
        gamma: c.gamma,
        power: c.power,
        factor: c.factor,
        start_factor: c.start_factor,
        end_factor: c.end_factor,
        divide_factor: c.divide_factor,
        phase_fraction: c.phase_fraction,
        threshold: c.threshold,
        epsilon: c.epsilon,
        d_model: c.d_model,
        warmup_steps: c.warmup_steps,
        total_steps: c.total_steps,
        decay_steps: c.decay_steps,
        period: c.period,
        period_factor: c.period_factor,
        steps_up: c.steps_up,
        steps_down: c.steps_down,
        patience: c.patience,
        cooldown: c.cooldown,
        cyclic_mode: CyclicMode::of("schedule.cyclic_mode", c.cyclic_mode)?,
        cycle: flag("schedule.cycle", c.cycle)?,
        linear_anneal: flag("schedule.linear_anneal", c.linear_anneal)?,
        three_phase: flag("schedule.three_phase", c.three_phase)?,
        maximize_metric: flag("schedule.maximize_metric", c.maximize_metric)?,
        threshold_is_absolute: flag("schedule.threshold_is_absolute", c.threshold_is_absolute)?,
    })
}

/// Returns a copy of a host's array.
///
/// # Safety
/// The array is NULL or has `n` entries.
unsafe fn copied<T: Copy>(name: &'static str, from: *const T, n: usize) -> Result<Vec<T>, Error> {
    not_null(name, from, n)?;
    let mut copy = Vec::new();
    reserve(&mut copy, n, name)?;
    // SAFETY: the caller guarantees it.
    copy.extend((0..n).map(|i| unsafe { entry(from, i) }));
    Ok(copy)
}
