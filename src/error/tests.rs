//! What errors say, and how large they are.
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
fn texts_name_the_thing_the_value_and_the_way_out() {
    let (w, v) = (Label::new(b"w"), Label::new(b"v"));
    let of = |problem: TensorProblem| problem.of(w, Role::Grad);
    let number = |name, value, expected| Error::Number { name, value, expected };
    for (error, text) in [
        (Error::Null("path"), "path is NULL"),
        (
            number("scaler.growth_interval", 0.0, "1 or more"),
            "scaler.growth_interval is 0, expected 1 or more",
        ),
        (number("lr", -0.5, "a finite number >= 0"), "lr is -0.5, expected a finite number >= 0"),
        (number("n", 118522592.0, "less"), "n is 118522592, expected less"),
        (
            Error::StateValue { name: w, value: -1.0, expected: "0 to 1" },
            "state \"w\" would be -1, expected 0 to 1",
        ),
        (
            Error::Ratio { param: w, ratio: -2.0 },
            "param \"w\": lr_ratio gave -2, expected a finite number >= 0",
        ),
        (
            Error::ScheduleLr { index: 3, lr: f64::INFINITY },
            "the schedule's lr at index 3 is inf, expected a finite number >= 0",
        ),
        (
            Error::StructSize {
                name: "config",
                of: "adamw_config",
                size: 20,
                known: 184,
                next: 24,
            },
            "config.struct_size is 20, expected sizeof(adamw_config), 184, or where one of its \
             fields ends, such as 24",
        ),
        (
            Error::OneOf { name: "source", count: 2, of: "path, data and read" },
            "source has 2 of path, data and read, expected one of them",
        ),
        (
            Error::NameEmpty,
            "a parameter's name is empty, expected one that no other param of the handle has",
        ),
        (Error::NameTaken(w), "param \"w\" is already there: names are unique in a handle"),
        (
            Error::NoGroup { number: 2, count: 1 },
            "there is no group 2: the handle has 1 (adamw_add_group adds one)",
        ),
        (
            Error::NoParam { number: 9, count: 2 },
            "there is no param 9: numbers are below 2, and free where a param was removed",
        ),
        (Error::NoStateNamed(w), "no state is called \"w\" (adamw_get_state_name gives the names)"),
        (Error::NoName, "Paddle has no name for the step: ADAMW_NAMES_NEUTRAL has one"),
        (Error::GivenTwice(w), "param \"w\" is given twice, expected once in a call"),
        (
            Error::TooMany(7),
            "there are 7 params or groups already, which is the most a handle holds",
        ),
        (Error::NoSchedule, "the handle has no schedule: adamw_set_lr_schedule sets one"),
        (Error::NoScaler, "the handle has no loss scaler: adamw_set_loss_scaler sets one"),
        (Error::NoDeviceYet, "the handle has no param on a device: add one first"),
        (
            Error::Busy,
            "the handle is in use by another call: of another thread, or by the one that led to \
             this callback",
        ),
        (
            Error::Overlap { param: w, buffer: Role::Grad, other: v, other_buffer: Role::Param },
            "param \"w\": grad overlaps param of param \"v\"",
        ),
        (
            Error::Row { param: w, place: 3, row: 12, height: 12 },
            "param \"w\": rows[3] is 12, expected 0 to 11",
        ),
        (
            of(TensorProblem::NullGrad(5)),
            "param \"w\": grad has data NULL and 5 elements (adamw_set_grad with NULL forgets a gradient)",
        ),
        (
            of(TensorProblem::Strided { dimension: 1, stride: 2, expected: 1 }),
            "param \"w\": grad is not contiguous: stride 2 in dimension 1, expected 1; make it \
             contiguous, or copy it",
        ),
        (
            of(TensorProblem::Device(0)),
            "param \"w\": grad is on DLPack device type 0, expected the host's memory (1, 3 or 11: a \
             plain array's device is {1, 0}) or CUDA's (2 or 13)",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
