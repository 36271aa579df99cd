//! Schedules that cannot be, and what cannot be asked of one that is.

use crate::Refusals;
use crate::common::handle::{Handle, config, schedule, schedule_trace};
use crate::common::host::user_data;
use adamw::ffi::Status::{Callback, NotFound};
use adamw::ffi::*;
use core::ffi::c_void;

pub fn refusals(rows: &mut Refusals) {
    numbers(rows);
    parts(rows);
    functions(rows);
    ways_on(rows);
}

fn numbers(rows: &mut Refusals) {
    type Edit = fn(&mut adamw_schedule);
    let none: Edit = |_| ();
    let cases: [(adamw_schedule_kind, Edit, &str); 21] = [
        (99, none, "kind is 99, expected an ADAMW_SCHEDULE constant, 1 to 24"),
        (
            ADAMW_SCHEDULE_EXPONENTIAL,
            |s| s.advance = 2,
            "advance is 2, expected an ADAMW_ADVANCE constant, 0 or 1",
        ),
        (
            ADAMW_SCHEDULE_CYCLIC,
            |s| s.cyclic_mode = 3,
            "cyclic_mode is 3, expected an ADAMW_CYCLIC constant, 0 to 2",
        ),
        (ADAMW_SCHEDULE_POLYNOMIAL, |s| s.cycle = 2, "cycle is 2, expected 0 or 1"),
        (ADAMW_SCHEDULE_EXPONENTIAL, |s| s.lr = -1.0, "lr is -1, expected a finite number >= 0"),
        (ADAMW_SCHEDULE_EXPONENTIAL, |s| s.gamma = 1.5, "gamma is 1.5, expected 0 < gamma < 1"),
        (
            ADAMW_SCHEDULE_NATURAL_EXP,
            |s| s.gamma = -1.0,
            "gamma is -1, expected a finite number > 0",
        ),
        (ADAMW_SCHEDULE_NOAM, none, "d_model is 0, expected 1 to 2^53"),
        (
            ADAMW_SCHEDULE_LINEAR_WARMUP,
            |s| (s.warmup_steps, s.start_lr, s.end_lr) = (5, 1.0, 0.5),
            "end_lr is 0.5, expected more than schedule.start_lr",
        ),
        (
            ADAMW_SCHEDULE_REDUCE_ON_PLATEAU,
            |s| s.factor = 1.0,
            "factor is 1, expected 0 < factor < 1",
        ),
        (
            ADAMW_SCHEDULE_ONE_CYCLE,
            |s| (s.divide_factor, s.total_steps, s.phase_fraction) = (25.0, 10, 1.5),
            "phase_fraction is 1.5, expected above 0 and at most 1 (with three_phase: below 0.5)",
        ),
        (
            ADAMW_SCHEDULE_ONE_CYCLE,
            |s| (s.divide_factor, s.total_steps, s.phase_fraction) = (25.0, 2, 0.25),
            "phase_fraction * total_steps is 0.5, expected more than 1",
        ),
        (
            ADAMW_SCHEDULE_LINEAR,
            |s| (s.total_steps, s.start_factor) = (5, 2.0),
            "start_factor is 2, expected 0 to 1",
        ),
        (
            ADAMW_SCHEDULE_COSINE_WITH_WARMUP,
            |s| (s.warmup_steps, s.total_steps) = (5, 5),
            "total_steps is 5, expected more than schedule.warmup_steps",
        ),
        (
            ADAMW_SCHEDULE_WARMUP_STABLE_DECAY,
            |s| (s.warmup_steps, s.decay_steps, s.total_steps) = (5, 5, 9),
            "total_steps is 9, expected at least schedule.warmup_steps + decay_steps",
        ),
        (ADAMW_SCHEDULE_PIECEWISE, none, "n_boundaries is 0, expected at least 1"),
        (ADAMW_SCHEDULE_LAMBDA, none, "function is NULL"),
        (ADAMW_SCHEDULE_EXPONENTIAL, |s| s.n_values = 1, "values is NULL"),
        (ADAMW_SCHEDULE_CYCLIC, |s| s.max_lr = 1.0, "steps_up is 0, expected 1 to 2^53"),
        (
            ADAMW_SCHEDULE_COSINE_ANNEALING,
            |s| s.period = u64::MAX,
            "period is 1.8446744073709552e19, expected 1 to 2^53",
        ),
        (ADAMW_SCHEDULE_CHAIN, |s| s.n_schedules = 1, "schedules is NULL"),
    ];
    let handle = Handle::new(&config());
    for (kind, edit, text) in cases {
        let mut made = adamw_schedule { lr: 1.0, gamma: 0.5, factor: 0.5, ..schedule(kind) };
        edit(&mut made);
        rows.invalid(handle.set_schedule(&made), &format!("schedule.{text}"));
    }
}

fn parts(rows: &mut Refusals) {
    let handle = Handle::new(&config());
    let (boundaries, values) = ([5u64, 5], [1.0f64, -1.0, 0.5]);
    let piecewise = |n_boundaries, n_values| adamw_schedule {
        boundaries: boundaries.as_ptr(),
        n_boundaries,
        values: values.as_ptr(),
        n_values,
        ..schedule(ADAMW_SCHEDULE_PIECEWISE)
    };
    rows.invalid(
        handle.set_schedule(&piecewise(2, 3)),
        "an entry of schedule.boundaries is 5, expected more than 0 and than the one before",
    );
    rows.invalid(handle.set_schedule(&piecewise(1, 3)), "schedule.n_values is 3, expected 2");
    rows.invalid(
        handle.set_schedule(&piecewise(1, 2)),
        "an entry of schedule.values is -1, expected a finite number >= 0",
    );
    let plateau =
        adamw_schedule { lr: 1.0, factor: 0.5, ..schedule(ADAMW_SCHEDULE_REDUCE_ON_PLATEAU) };
    let inner = &raw const plateau;
    let warmup = adamw_schedule {
        lr: 1.0,
        warmup_steps: 5,
        end_lr: 1.0,
        schedules: &inner,
        n_schedules: 1,
        ..schedule(ADAMW_SCHEDULE_LINEAR_WARMUP)
    };
    rows.invalid(
        handle.set_schedule(&warmup),
        "the schedule has REDUCE_ON_PLATEAU inside it, which goes by metrics: set it by itself, with \
         warmup_steps",
    );
    let mut itself = warmup;
    let pointer = &raw const itself;
    itself.schedules = &pointer;
    rows.invalid(
        handle.set_schedule(&itself),
        "the schedule has inner schedules more than 8 deep: join those of a chain",
    );
}

unsafe extern "C" fn function(index: u64, out_value: *mut f64, gives: *mut c_void) -> i32 {
    // SAFETY: the library's, and what the test gave.
    unsafe {
        let (returned, value) = *gives.cast::<(i32, f64)>();
        out_value.write(if index < 2 { 0.5 } else { value });
        if index < 2 { 0 } else { returned }
    }
}

fn functions(rows: &mut Refusals) {
    for (gives, text) in [
        ((-7, 0.5), "schedule.function returned -7 at index 2, expected 0"),
        ((0, -1.0), "schedule.function gave -1 at index 2, expected a finite number >= 0"),
    ] {
        let made = adamw_schedule {
            function: Some(function),
            user_data: user_data(&gives),
            ..schedule(ADAMW_SCHEDULE_FUNCTION)
        };
        rows.row(schedule_trace(&made, 4), Callback, text);
    }
    let huge = adamw_schedule {
        lr: 1e300,
        function: Some(function),
        user_data: user_data(&(0, 1e300)),
        ..schedule(ADAMW_SCHEDULE_LAMBDA)
    };
    rows.invalid(
        schedule_trace(&huge, 4),
        "the schedule's lr at index 2 is inf, expected a finite number >= 0",
    );
}

fn ways_on(rows: &mut Refusals) {
    let handle = Handle::new(&config());
    rows.row(
        handle.advance_schedule(),
        NotFound,
        "the handle has no schedule: adamw_set_lr_schedule sets one",
    );
    let exponential =
        adamw_schedule { lr: 1.0, gamma: 0.5, ..schedule(ADAMW_SCHEDULE_EXPONENTIAL) };
    handle.set_schedule(&exponential).unwrap();
    rows.invalid(
        handle.advance_schedule(),
        "the schedule advances with every step, not by a call: ADAMW_ADVANCE_MANUALLY waits for calls",
    );
    handle
        .set_schedule(&adamw_schedule { advance: ADAMW_ADVANCE_MANUALLY, ..exponential })
        .unwrap();
    rows.invalid(
        handle.advance_schedule_with_metric(1.0),
        "the schedule takes no metric, as REDUCE_ON_PLATEAU alone does: adamw_schedule_advance \
         advances it",
    );
    let state = handle.schedule_state().unwrap();
    for (state, text) in [
        (adamw_schedule_state { lr: -1.0, ..state }, "lr is -1, expected a finite number >= 0"),
        (
            adamw_schedule_state { best: f64::INFINITY, ..state },
            "best is inf, expected a finite number, or NaN for none",
        ),
    ] {
        rows.invalid(handle.set_schedule_state(&state), &format!("state.{text}"));
    }
    let plateau =
        adamw_schedule { lr: 1.0, factor: 0.5, ..schedule(ADAMW_SCHEDULE_REDUCE_ON_PLATEAU) };
    handle.set_schedule(&plateau).unwrap();
    rows.invalid(
        handle.advance_schedule(),
        "the schedule advances with a metric only: adamw_schedule_advance_with_metric takes it",
    );
    rows.invalid(
        handle.advance_schedule_with_metric(f64::NAN),
        "metric is NaN, expected a finite number",
    );
    rows.invalid(
        handle.set_schedule_index(3),
        "the schedule goes by metrics, not by an index: adamw_set_schedule_state puts it anywhere",
    );
    let one = (0, 1.0);
    let product = adamw_schedule {
        lr: 1.0,
        function: Some(function),
        user_data: user_data(&one),
        ..schedule(ADAMW_SCHEDULE_MULTIPLICATIVE)
    };
    handle.set_schedule(&product).unwrap();
    rows.invalid(
        handle.set_schedule_index((1 << 24) + 1),
        "the index of a schedule whose values go on from the last is 16777217, expected at most 2^24",
    );
}

#[test]
fn a_schedule_that_is_refused_says_which_number_and_what_is_expected() {
    crate::said(refusals);
}
