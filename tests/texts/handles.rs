//! Handles that are none, or are not to be used now.

use crate::Refusals;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Answer, Failure, Handle, answer, config};
use adamw::ffi::Status::{BadHandle, Busy, InvalidArgument, NotFound};
use adamw::ffi::*;
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use std::cell::RefCell;
use std::process::Command;

pub fn refusals(rows: &mut Refusals) {
    ones_that_are_none(rows);
    one_in_use(rows);
    steps_together(rows);
    teams(rows);
    environment(rows);
}

fn ones_that_are_none(rows: &mut Refusals) {
    rows.row(
        answer(adamw_step(null_mut())),
        BadHandle,
        "optimizer is NULL, expected a handle of adamw_create's",
    );
    let handle = Handle::new(&config());
    let stale = handle.raw();
    drop(handle);
    let text = format!(
        "no such handle: {:#x} was destroyed, or never came from adamw_create",
        stale.addr()
    );
    rows.row(answer(adamw_step(stale)), BadHandle, &text);
    // SAFETY: the library sees that there is nowhere to write to.
    rows.invalid(answer(unsafe { adamw_create(null(), null_mut()) }), "out_optimizer is NULL");
}

/// What a callback has been told of the handle that called it.
struct Inside {
    optimizer: *mut Optimizer,
    told: RefCell<Answer>,
}

unsafe extern "C" fn calls_again(
    _: *const adamw_param_info,
    out_ratio: *mut f64,
    inside: *mut c_void,
) -> i32 {
    // SAFETY: the library's, and what the test gave.
    unsafe {
        out_ratio.write(1.0);
        let inside = &*inside.cast::<Inside>();
        *inside.told.borrow_mut() = answer(adamw_step(inside.optimizer));
    }
    0
}

fn one_in_use(rows: &mut Refusals) {
    let [param, grad] = [0; 2].map(|_| Array::zeros(Dtype::F32, 1));
    let handle = Handle::new(&config());
    handle.add_array("w", &param);
    handle.set_grad(0, &grad);
    let inside = Inside { optimizer: handle.raw(), told: RefCell::new(Ok(())) };
    handle.set_lr_ratio(Some(calls_again), &inside);
    handle.step();
    rows.row(
        inside.told.replace(Ok(())),
        Busy,
        "the handle is in use by another call: of another thread, or by the one that led to this \
         callback",
    );
}

fn steps_together(rows: &mut Refusals) {
    let handle = Handle::new(&config());
    rows.row(
        answer(adamw_step_end(handle.raw())),
        NotFound,
        "no step has begun on this handle: adamw_step_begin begins one",
    );
    answer(adamw_step_begin(handle.raw())).unwrap();
    rows.row(handle.try_step(), Busy, "a step has begun on this handle: adamw_step_end ends it");
    answer(adamw_step_end(handle.raw())).unwrap();
}

unsafe extern "C" fn no_loop(_: usize, _: adamw_task, _: *mut c_void, _: *mut c_void) -> i32 {
    0
}

fn teams(rows: &mut Refusals) {
    let mut team = null_mut();
    // SAFETY: the library sees that there is nowhere to write to.
    rows.invalid(answer(unsafe { adamw_team_create(2, null_mut()) }), "out_team is NULL");
    // SAFETY: the pointer is to the handle.
    answer(unsafe { adamw_team_create(2, &mut team) }).unwrap();
    let made = |edit: fn(&mut adamw_config)| {
        let mut config = adamw_config { team, ..config() };
        edit(&mut config);
        Handle::try_new(&config).map(drop)
    };
    rows.invalid(
        made(|config| config.num_threads = 4),
        "config.num_threads is 4, expected 0 where config.team is set, which has a number of its own",
    );
    rows.invalid(
        made(|config| config.parallel_for = Some(no_loop)),
        "config.team and config.parallel_for are set, expected one of them at most",
    );
    answer(adamw_team_destroy(team)).unwrap();
    let text = format!(
        "no such team: {:#x} was destroyed, or never came from adamw_team_create",
        team.addr()
    );
    rows.row(made(|_| ()), BadHandle, &text);
}

const INSIDE: &str = "ADAMW_TEST_ENVIRONMENT";

/// Another process says what it is told: the environment is that of all threads.
fn environment(rows: &mut Refusals) {
    let inside = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "handles::what_the_environment_asks_for"])
        .env(INSIDE, "1")
        .env("ADAMW_ISA", "sse2")
        .output()
        .unwrap();
    let said = String::from_utf8(inside.stdout).unwrap();
    let text = said.lines().find_map(|line| line.strip_prefix("told: ")).unwrap_or_default();
    let told: Answer = Err(Failure { status: InvalidArgument, text: text.to_owned() });
    rows.invalid(told, "ADAMW_ISA is \"sse2\", expected portable, avx2 or avx512");
}

#[test]
fn what_the_environment_asks_for() {
    if std::env::var_os(INSIDE).is_some() {
        let failure = Handle::try_new(&config()).map(drop).unwrap_err();
        assert_eq!(failure.status, InvalidArgument);
        println!("\ntold: {}", failure.text);
    }
}

#[test]
fn a_handle_that_cannot_be_used_says_why() {
    crate::said(refusals);
}
