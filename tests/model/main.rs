//! Any sequence of calls leaves what the slow, obvious model has, bit for bit, wherever the parameters lie and
//! whatever is asked between; a call that is refused leaves what was there, and memory that is the host's
//! again is left alone.

#[path = "../common/mod.rs"]
mod common;

#[path = "../ranks/meeting.rs"]
#[allow(dead_code, reason = "the tests of ranks use all of it")]
mod meeting;

mod asides;
mod begun;
mod call;
mod campaign;
mod compare;
mod counts;
mod functions;
mod given;
mod grads;
mod graph;
mod hosts;
mod inputs;
mod loops;
mod more;
mod ranks;
mod restart;
mod schedules;
mod settings;
mod side;
mod state;
mod steps;
mod sums;
mod world;
mod written;

use call::Places;
use campaign::Campaign;

#[test]
fn any_sequence_of_calls_leaves_what_the_model_has() {
    let calls = (150_000, "ADAMW_MODEL_CALLS");
    Campaign { name: "the processor", places: &[Places::Processor], n_first: 0, calls }.run();
}

#[test]
fn any_sequence_of_calls_leaves_what_the_model_has_where_state_is_packed() {
    let calls = (400, "ADAMW_MODEL_MANY_CALLS");
    // More than a checkpoint gives names of their own.
    Campaign { name: "many", places: &[Places::Processor], n_first: 4095, calls }.run();
}

#[test]
fn any_sequence_of_calls_does_the_same_on_a_device() {
    let places = &[Places::Device, Places::Device, Places::Offloaded, Places::Mixed];
    let calls = (10_000, "ADAMW_MODEL_DEVICE_CALLS");
    Campaign { name: "the device", places, n_first: 0, calls }.run();
}

#[test]
fn any_sequence_of_calls_on_ranks_leaves_what_the_model_has() {
    let number = |name, default| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let [taken, skipped, refused] =
        ranks::run(number("ADAMW_MODEL_SEED", 0), number("ADAMW_MODEL_RANKS", 100));
    eprintln!("ranks: {taken} steps taken, {skipped} skipped, {refused} refused");
}

#[test]
fn a_loop_that_refuses_at_any_use_changes_nothing_or_nothing_less() {
    let n_refused = loops::run(40);
    assert!(n_refused > 10, "{n_refused}");
}
