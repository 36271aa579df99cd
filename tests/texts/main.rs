//! What a refused call says, whole: the thing, the value, and the way out. Every text of the library is
//! provoked here through the C interface; `complete` holds that none is missing.

#[path = "../house/code.rs"]
mod code;
#[path = "../common/mod.rs"]
mod common;

mod calls;
mod checkpoints;
mod complete;
mod devices;
mod differences;
mod gradients;
mod handles;
mod headers;
mod options;
mod params;
mod ranks;
mod schedules;
mod state;
mod tensors;

use adamw::ffi::Status;
use common::handle::{Answer, Failure};
use core::fmt::Debug;
use std::panic::Location;

/// What refused calls have said.
#[derive(Default)]
pub struct Refusals {
    /// As was expected.
    pub said: Vec<String>,
    /// The rows in which something else was said.
    wrong: Vec<String>,
}

impl Refusals {
    /// A row: a call that is refused, and what it says.
    #[track_caller]
    pub fn row<T: Debug>(&mut self, answer: Answer<T>, status: Status, text: &str) {
        let expected = Failure { status, text: text.to_owned() };
        match answer {
            Err(failure) if failure == expected => self.said.push(failure.text),
            other => self.wrong.push(format!(
                "{}\n  said     {other:?}\n  expected {expected:?}",
                Location::caller()
            )),
        }
    }

    /// A row of what is not as it should be: most are.
    #[track_caller]
    pub fn invalid<T: Debug>(&mut self, answer: Answer<T>, text: &str) {
        self.row(answer, Status::InvalidArgument, text);
    }
}

/// All that one area says.
#[track_caller]
fn said(area: fn(&mut Refusals)) -> Vec<String> {
    let mut refusals = Refusals::default();
    area(&mut refusals);
    assert!(refusals.wrong.is_empty(), "\n{}", refusals.wrong.join("\n"));
    refusals.said
}
