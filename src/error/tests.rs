//! Errors that tests/texts cannot bring about, and the size of all of them.
#![forbid(unsafe_code)]

use super::*;

#[test]
fn an_error_carries_the_name_and_both_values() {
    let problem = TensorProblem::Elements { is: 10, param: 12 };
    let error = problem.of(Label::new(b"w1"), Role::Grad);
    assert_eq!(error.to_string(), "param \"w1\": grad has 10 elements, param has 12");
    assert_eq!(error.status(), Status::InvalidArgument);
}

#[test]
fn what_the_system_refuses_is_said_in_its_words() {
    let error = Error::Threads(3, Errno(libc::EAGAIN));
    assert_eq!(error.to_string(), "could not start 3 threads: Resource temporarily unavailable");
}

#[test]
fn an_error_is_small_enough_to_return_by_value() {
    assert!(size_of::<Error>() <= 128);
}

#[test]
fn what_nobody_waits_for_is_said_in_full() {
    let text = "there are 7 params or groups already, which is the most a handle holds";
    assert_eq!(Error::TooMany(7).to_string(), text);
}
