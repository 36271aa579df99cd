//! The PTX that is shipped: for which drivers it is, which kernels it has, and that nothing in it rounds
//! but once. (`make ptx-check` holds it to its source, and its machine code to what is promised.)

use std::collections::BTreeSet;

pub static PTX: &str = include_str!("../../src/cuda/kernels/kernels.ptx");

/// Instructions, without labels, directives and the predicate before them.
fn instructions() -> impl Iterator<Item = &'static str> {
    PTX.lines()
        .map(str::trim)
        .map(|line| {
            line.strip_prefix('@')
                .and_then(|line| line.split_once(' '))
                .map_or(line, |(_, rest)| rest.trim())
        })
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
}

fn opcode(instruction: &str) -> &str {
    instruction.split_whitespace().next().unwrap().trim_end_matches(';')
}

#[test]
fn drivers_from_r520_on_accept_it_and_devices_from_volta_on_run_it() {
    assert!(PTX.contains("\n.version 7.8\n.target sm_70\n"));
}

#[test]
fn every_operation_on_floats_rounds_once_to_nearest() {
    let mut seen = BTreeSet::new();
    for instruction in instructions() {
        let opcode = opcode(instruction);
        let parts: Vec<&str> = opcode.split('.').collect();
        let is_float = parts.iter().any(|part| ["f32", "f64", "f16"].contains(part));
        let rounds = ["add", "sub", "mul", "div", "sqrt", "rcp", "fma", "mad"].contains(&parts[0]);
        assert!(
            !["fma", "ex2", "lg2", "sin", "cos", "tanh", "rsqrt"].contains(&parts[0]),
            "{instruction}"
        );
        assert!(!(parts[0] == "mad" && is_float), "{instruction}");
        for relaxed in ["ftz", "approx", "full", "sat", "rz", "rm", "rp"] {
            assert!(!(is_float && parts.contains(&relaxed)), "{instruction}");
        }
        if is_float && rounds {
            assert!(parts.contains(&"rn"), "{instruction}");
            seen.insert(parts[0]);
        }
    }
    // What the formula is made of is there, so that this looked at something.
    assert!(["add", "sub", "mul", "div", "sqrt"].iter().all(|operation| seen.contains(operation)));
}

#[test]
fn there_is_a_kernel_for_each_format() {
    let kept = [
        "f16",
        "f16_master",
        "f16_kahan",
        "bf16",
        "bf16_master",
        "bf16_split",
        "bf16_kahan",
        "bf16_stochastic",
    ];
    let steps = ["f32"]
        .into_iter()
        .chain(kept)
        .flat_map(|kept| ["", "_bf16"].map(|moments| format!("step_{kept}{moments}")));
    let coded = ["f32", "f16", "bf16"]
        .into_iter()
        .flat_map(|param| ["8bit", "4bit"].map(|code| format!("step_{param}_{code}")));
    let tallies = ["f32", "f64", "f16", "bf16"].map(|grad| format!("tally_{grad}"));
    let sums = ["f32_f32", "f32_f16", "f32_bf16", "f64_f64", "f64_f32"]
        .map(|types| format!("accumulate_{types}"));
    let changes = ["f32", "f64", "f16", "bf16"]
        .into_iter()
        .flat_map(|param| ["keep", "change"].map(|what| format!("{what}_{param}")));
    let checks = ["f16", "bf16"].map(|param| format!("check_master_{param}"));
    let rows = ["f64", "f32", "f32_bf16", "f16", "f16_bf16", "bf16", "bf16_bf16"]
        .into_iter()
        .flat_map(|types| ["rows", "catch_up"].map(|what| format!("{what}_{types}")));
    let sparse =
        ["list_rows", "count_digits", "scan_counts", "sort_rows", "gather_rows", "log_step"];
    let sparse = sparse.map(str::to_owned);
    let others = [
        "prepare",
        "decide",
        "adapt_scale",
        "advance_lr",
        "set_scale",
        "join_sums",
        "join_rows",
        "put_sums",
        "clear_skipped",
        "step_f64",
    ];
    let others = others.map(str::to_owned);
    let expected: BTreeSet<String> = steps
        .chain(coded)
        .chain(tallies)
        .chain(sums)
        .chain(changes)
        .chain(checks)
        .chain(rows)
        .chain(sparse)
        .chain(others)
        .collect();
    let names = PTX
        .split(".visible .entry ")
        .skip(1)
        .map(|entry| entry.split('(').next().unwrap().to_owned());
    assert_eq!(names.collect::<BTreeSet<String>>(), expected);
}

#[test]
fn no_kernel_needs_a_stack() {
    assert!(!PTX.contains(".local"));
    assert!(!instructions().any(|instruction| opcode(instruction).starts_with("call")));
}
