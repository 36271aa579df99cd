//! That every text of the library has a row.

use crate::code::{Source, sources, strings};
use crate::{
    calls, checkpoints, devices, differences, gradients, handles, options, params, ranks,
    schedules, state,
};
use crate::{headers, said, tensors};

/// What no test can bring about, or only where the program around it is made to fail.
const NOT_HERE: [(&str, &str); 8] = [
    ("there are {0} params or groups already", "it takes 2^32 of them"),
    ("could not start {0} threads", "the system has to refuse"),
    (
        "caught a panic, which is a bug",
        "no call is known to panic: src/ffi/guard.rs has one that does",
    ),
    ("the CUDA driver did not accept the kernels", "they are right: a driver has to fail"),
    (
        "param \"{param}\" is on a device, where there is no {what}",
        "rows without end take 16 GiB of a device",
    ),
    ("the process that this one was forked from", "tests/c/begun.c forks"),
    ("no memory for its header", "the system has to refuse"),
    ("it is no state", "nobody asks for the state that a parameter itself is"),
];

/// Files and folders whose texts are reasons, names and what is expected, each in one error.
const REASONS: [&str; 19] = [
    "callback.rs",
    "callback/",
    "checkpoint/foreign.rs",
    "checkpoint/header.rs",
    "checkpoint/json.rs",
    "clip.rs",
    "config.rs",
    "ffi/",
    "format.rs",
    "optimizer/step/grads.rs",
    "optimizer/hyper/",
    "optimizer/saved/load/mod.rs",
    "optimizer/step/single.rs",
    "optimizer/params/mod.rs",
    "optimizer/params/names.rs",
    "optimizer/params/state.rs",
    "optimizer/step/subset.rs",
    "schedule/mod.rs",
    "schedule/terms.rs",
];

fn all_said() -> Vec<String> {
    [
        calls::refusals,
        checkpoints::refusals,
        devices::refusals,
        differences::refusals,
        gradients::refusals,
        headers::refusals,
        handles::refusals,
        options::refusals,
        params::refusals,
        ranks::refusals,
        schedules::refusals,
        state::refusals,
        tensors::refusals,
    ]
    .into_iter()
    .flat_map(said)
    .collect()
}

/// Whether a text has these pieces, one behind the other.
fn has(text: &str, pieces: &[String]) -> bool {
    let mut rest = text;
    pieces.iter().all(|piece| match rest.find(piece.as_str()) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

/// What stands between the values of a text that is formatted.
fn pieces(format: &str) -> Vec<String> {
    let plain = format.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let between = plain.split('{').enumerate().map(|(i, part)| match i {
        0 => part,
        _ => part.split_once('}').map_or("", |(_, behind)| behind),
    });
    between
        .filter(|piece| !piece.is_empty())
        .map(|piece| piece.replace('\u{1}', "{").replace('\u{2}', "}"))
        .collect()
}

/// The texts of the variants of errors.
fn formats(source: &Source) -> Vec<String> {
    let attributes = source.text.split("#[error(").skip(1);
    attributes.filter_map(|attribute| strings(attribute).into_iter().next()).collect()
}

#[test]
fn every_error_that_there_is_has_a_row() {
    let (said, sources) = (all_said(), sources());
    let of_errors = sources.iter().filter(|source| source.lies_in(&["error.rs", "error/"]));
    let missing: Vec<String> = of_errors
        .flat_map(|source| match &source.path[..] {
            "error/difference.rs" => strings(&source.text),
            _ => formats(source),
        })
        .filter(|format| !pieces(format).is_empty())
        .filter(|format| !NOT_HERE.iter().any(|(opening, _)| format.starts_with(opening)))
        .filter(|format| !said.iter().any(|text| has(text, &pieces(format))))
        .collect();
    assert!(missing.is_empty(), "without a row:\n{}", missing.join("\n"));
}

#[test]
fn every_reason_that_there_is_has_a_row() {
    let said = all_said();
    let sources = sources();
    for place in REASONS {
        assert!(sources.iter().any(|source| source.lies_in(&[place])), "{place} is not there");
    }
    let mut missing = Vec::new();
    for source in sources.iter().filter(|source| source.lies_in(&REASONS)) {
        let code = source.text.split("#[cfg(test)]").next().unwrap_or_default();
        // What memory is for is a text of tests/c/allocation.c's.
        let lines = code.lines().filter(|line| {
            !["reserve(", "leaked(", "OutOfMemory", "reason =", "panic!("]
                .iter()
                .any(|other| line.contains(other))
        });
        let texts = strings(&lines.collect::<Vec<_>>().join("\n"));
        for text in texts.into_iter().filter(|text| text.contains(' ') && text != "C") {
            let is_here = NOT_HERE.iter().all(|(opening, _)| text != *opening);
            if is_here && !said.iter().any(|said| has(said, &pieces(&text))) {
                missing.push(format!("{}: {text}", source.path));
            }
        }
    }
    assert!(missing.is_empty(), "without a row:\n{}", missing.join("\n"));
}
