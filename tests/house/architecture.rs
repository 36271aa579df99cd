//! The house keeps its order: which file may import which, where `unsafe` may stand, how long a
//! file and how wide a line may be, and what may stand in none.

use crate::code::{Source, kernels, sources, words};
use std::collections::BTreeSet;

/// From the top down: a module imports from those below it.
const LAYERS: [&str; 9] =
    ["ffi", "optimizer", "checkpoint", "schedule", "backend", "cuda", "cpu", "steps", "math"];

/// Imported by every layer but `math`; imports nothing but itself.
const VOCABULARY: [&str; 16] = [
    "config", "choice", "clip", "norm", "tensor", "format", "role", "order", "device", "dtype",
    "codes", "noise", "ranges", "error", "callback", "sys",
];

/// Files and folders in which `unsafe` may stand.
const MAY_BE_UNSAFE: [&str; 10] = [
    "ffi/",
    "tensor",
    "sys",
    "callback",
    "cpu/isa",
    "cpu/avx2",
    "cpu/avx512",
    "cpu/registers/lanes.rs",
    "cpu/registers/out_of_line.rs",
    "cuda/",
];

/// Files and folders that compute the update, exactly as it is written.
const EXACT: [&str; 9] = [
    "math.rs",
    "steps.rs",
    "clip.rs",
    "norm.rs",
    "dtype",
    "codes",
    "noise.rs",
    "cpu/",
    "optimizer/",
];

const MOST_LINES: usize = 350;

/// Characters of the widest line.
const WIDEST: usize = 100;

#[track_caller]
fn assert_none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

// ---------------------------------------------------------------------------------- arrows

/// The top-level modules that a file names.
fn imports(source: &Source) -> BTreeSet<&str> {
    let tops = paths(source).into_iter().filter_map(|path| path.first().copied());
    tops.filter(|name| LAYERS.contains(name) || VOCABULARY.contains(name)).collect()
}

fn may_import(importer: &str, imported: &str) -> bool {
    let layer = |name| LAYERS.iter().position(|layer| *layer == name);
    match (layer(importer), layer(imported)) {
        _ if importer == imported => true,
        (Some(importer), Some(imported)) => importer < imported,
        (Some(_), None) => importer != "math",
        (None, Some(_)) => false,
        (None, None) => true,
    }
}

fn broken_arrows(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for source in sources.iter().filter(|source| source.path != "lib.rs") {
        let importer = source.module()[0];
        if !LAYERS.contains(&importer) && !VOCABULARY.contains(&importer) {
            broken.push(format!("{}: belongs to no layer", source.path));
        }
        for imported in imports(source) {
            if !may_import(importer, imported) {
                broken.push(format!("{}: {importer} imports {imported}", source.path));
            }
        }
    }
    broken
}

/// All paths that a file names from `crate` or `super` on, as modules see them: `[cpu, isa, Isa]`.
fn paths(source: &Source) -> Vec<Vec<&str>> {
    let words = words(&source.code);
    let module = source.module();
    let mut paths = Vec::new();
    for at in 0..words.len() {
        let is_start = at < 3 || !words[at - 3..at].ends_with(&[":", ":"]);
        let (mut base, mut next) = match words[at] {
            "crate" => (Vec::new(), at + 1),
            "super" if is_start => (module[..module.len() - 1].to_vec(), at + 1),
            _ => continue,
        };
        while words[next..].starts_with(&[":", ":", "super"]) {
            base.pop();
            next += 3;
        }
        expand(&words, next, base, &mut paths);
    }
    paths
}

/// Follows a path from its `::` on, into each path in braces; returns where it ends.
fn expand<'a>(
    words: &[&'a str],
    mut at: usize,
    mut path: Vec<&'a str>,
    paths: &mut Vec<Vec<&'a str>>,
) -> usize {
    while words[at..].starts_with(&[":", ":"]) {
        at += 2;
        if words[at..].first() == Some(&"{") {
            at += 1;
            while words[at..].first().is_some_and(|word| *word != "}") {
                let mut inner = path.clone();
                inner.push(words[at]);
                at = expand(words, at + 1, inner, paths);
                if words[at..].first() == Some(&",") {
                    at += 1;
                }
            }
            return at + 1;
        }
        path.extend(words.get(at));
        at += 1;
    }
    paths.push(path);
    at
}

/// Files that import each other, by whatever way round. A module and those inside it are one in this: it
/// declares them, and they use what it has.
fn circles(sources: &[Source]) -> Vec<String> {
    let modules: Vec<Vec<&str>> = sources.iter().map(|source| source.module()).collect();
    let is_inside = |a: &[&str], b: &[&str]| a.starts_with(b) || b.starts_with(a);
    let arrows: Vec<Vec<usize>> = sources
        .iter()
        .zip(&modules)
        .map(|(source, module)| {
            let file_of = |path: &Vec<&str>| {
                let inside =
                    modules.iter().enumerate().filter(|(_, other)| path.starts_with(other));
                inside.max_by_key(|(_, other)| other.len()).map(|(file, _)| file)
            };
            let files = paths(source).iter().filter_map(file_of).collect::<BTreeSet<_>>();
            files.into_iter().filter(|file| !is_inside(module, &modules[*file])).collect()
        })
        .collect();
    let mut broken = Vec::new();
    for start in 0..sources.len() {
        let mut reached = vec![start];
        let mut at = 0;
        while at < reached.len() {
            let from = reached[at];
            for &to in &arrows[from] {
                if to == start {
                    let (start, from) = (&sources[start].path, &sources[from].path);
                    broken.push(format!("{start} imports itself through {from}"));
                }
                if !reached.contains(&to) {
                    reached.push(to);
                }
            }
            at += 1;
        }
    }
    broken
}

/// Files that name the device, outside of it, of the seam and of the optimizer's room for it.
fn beside_the_seam(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for source in sources {
        let may = ["cuda/", "backend.rs", "optimizer/device/"];
        let is_named = imports(source).contains("cuda")
            || words(&source.code).windows(3).any(|words| words[..] == [".", "cuda", "("]);
        if is_named && !may.iter().any(|place| source.path.starts_with(place)) {
            broken.push(format!("{}: names the device", source.path));
        }
    }
    broken
}

#[test]
fn the_device_is_named_by_the_seam_and_one_room() {
    assert_none(beside_the_seam(&sources()));
}

#[test]
fn a_way_round_the_seam_is_found() {
    let n_found = |path: &str, text: &str| beside_the_seam(&[Source::new(path, text)]).len();
    assert_eq!(n_found("optimizer/step/mod.rs", "fn f() { self.backend.cuda().is_some() }"), 1);
    assert_eq!(n_found("ffi/device.rs", "use crate::{cuda::InputsAt, optimizer};"), 1);
    assert_eq!(n_found("optimizer/device/rows.rs", "use crate::cuda::RowSet;"), 0);
    assert_eq!(n_found("optimizer/step/mod.rs", "fn f() { self.has_device() } // .cuda()"), 0);
}

#[test]
fn arrows_run_down() {
    assert_none(broken_arrows(&sources()));
}

#[test]
fn nothing_imports_itself_by_a_detour() {
    assert_none(circles(&sources()));
}

#[test]
fn an_upward_import_is_found() {
    let broken = |path: &str, text: &str| broken_arrows(&[Source::new(path, text)]);
    for (path, text) in [
        ("cpu/stepper.rs", "use crate::optimizer::Optimizer;"),
        ("cpu/isa.rs", "fn f() { crate::backend::isas() }"),
        ("backend.rs", "use super::optimizer::step;"),
        ("cpu/mod.rs", "use super::ffi;"),
        ("cpu/threads.rs", "use super::super::backend;"),
        ("math.rs", "use crate::dtype::Dtype;"),
        ("sys/fp.rs", "use crate::{error, math::{Step, cpu}};"),
        ("tensor/chunks.rs", "use crate::cpu;"),
        ("extra.rs", ""),
    ] {
        assert_eq!(broken(path, text).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        ("ffi/types.rs", "use crate::backend; use super::handle; use crate::sys::fp;"),
        ("cpu/threads.rs", "use super::isa; // crate::optimizer"),
        ("optimizer/step/mod.rs", "use crate::{math::{Step, Scalars}, tensor::Plan};"),
        (
            "tensor/chunks.rs",
            "use super::Buffer; use crate::dtype; const X: &str = \"crate::ffi\";",
        ),
    ] {
        assert_none(broken(path, text));
    }
}

#[test]
fn a_circle_is_found() {
    let count = |files: &[(&str, &str)]| {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::new(path, text)).collect();
        circles(&sources).len()
    };
    let through_three = |last| {
        count(&[
            ("error.rs", "use crate::dtype::Dtype;"),
            ("dtype.rs", "use crate::sys;"),
            ("sys/mod.rs", last),
        ])
    };
    assert_eq!(through_three("use crate::error::Label;"), 3);
    assert_eq!(through_three("use crate::sys::memory; fn f() {}"), 0);
    for (a, b) in [
        ("use super::b::B;", "use super::a::A;"),
        ("use crate::{dtype, cpu::{b::{B, C}, isa}};", "fn f() { super::a::g() }"),
        ("use crate::cpu::{isa::Isa, b};", "use crate::cpu::a::{self, A};"),
    ] {
        assert_eq!(count(&[("cpu/a.rs", a), ("cpu/b.rs", b)]), 2, "{a} {b}");
    }
    let parent = ("cpu/mod.rs", "mod a; use a::A; use crate::cpu::a::B;");
    assert_eq!(count(&[parent, ("cpu/a.rs", "use super::Cpu;")]), 0);
    assert_eq!(count(&[("cpu/a.rs", "use super::b::B;"), ("cpu/b.rs", "use super::isa;")]), 0);
}

// ---------------------------------------------------------------------------------- unsafe

/// Uses of `unsafe` in the wrong file, and files that could forbid it and do not.
fn broken_safety(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for source in sources.iter().filter(|source| !source.lies_in(&MAY_BE_UNSAFE)) {
        if words(&source.code).contains(&"unsafe") {
            broken.push(format!("{}: unsafe does not belong here", source.path));
        }
        if !forbids_unsafe(source, sources) && !holds_unsafe_files(source) {
            broken.push(format!("{}: lacks #![forbid(unsafe_code)]", source.path));
        }
    }
    broken
}

/// Whether the file or a module that it is in forbids `unsafe`.
fn forbids_unsafe(source: &Source, sources: &[Source]) -> bool {
    let above = |other: &&Source| source.module().starts_with(&other.module());
    sources.iter().filter(above).any(|other| other.code.contains("#![forbid(unsafe_code)]"))
}

/// Whether a file is the parent of one in which `unsafe` may stand, so that it cannot forbid it.
fn holds_unsafe_files(source: &Source) -> bool {
    let folder = source.path.trim_end_matches("mod.rs").trim_end_matches("lib.rs");
    folder != source.path && MAY_BE_UNSAFE.iter().any(|place| place.starts_with(folder))
}

/// The lines of `unsafe` blocks and impls that no comment vouches for. The comment stands above
/// the statement that the block is part of.
fn unvouched(source: &Source) -> Vec<String> {
    let lines: Vec<(&str, &str)> = source.text.lines().zip(source.code.lines()).collect();
    let is_comment = |(text, code): (&str, &str)| code.trim().is_empty() && !text.trim().is_empty();
    let vouched = |number: usize| {
        let above = lines[..number].iter().rev().copied();
        let mut above = above.skip_while(|&line| !is_comment(line) && continues(line.1)).peekable();
        above.peek().is_some()
            && above
                .take_while(|&line| is_comment(line))
                .any(|(text, _)| text.contains("// SAFETY: "))
    };
    let opens_unsafe = |code: &str| {
        let words = words(code);
        words.windows(2).any(|pair| pair[0] == "unsafe" && matches!(pair[1], "{" | "impl"))
    };
    (0..lines.len())
        .filter(|&number| opens_unsafe(lines[number].1) && !vouched(number))
        .map(|number| format!("{}:{}: no SAFETY comment", source.path, number + 1))
        .collect()
}

/// Whether a statement goes on after this line.
fn continues(code: &str) -> bool {
    let code = code.trim_end();
    !code.is_empty() && !code.ends_with([';', '}', '{', ','])
}

#[test]
fn unsafe_stands_only_where_it_belongs() {
    assert_none(broken_safety(&sources()));
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    assert_none(sources().iter().flat_map(unvouched).collect());
}

#[test]
fn misplaced_and_unforbidden_unsafe_is_found() {
    const FORBID: &str = "#![forbid(unsafe_code)]\n";
    let forbidding = |path: &str| Source::new(path, FORBID);
    let broken = |source: Source| broken_safety(&[source, forbidding("optimizer/mod.rs")]);
    assert_eq!(broken(Source::new("cpu/stepper.rs", "")).len(), 1);
    assert_eq!(broken(Source::new("cpu/mod.rs", "unsafe fn f() {}")).len(), 1);
    assert_eq!(broken(Source::new("config.rs", "// #![forbid(unsafe_code)]")).len(), 1);
    assert_eq!(broken(Source::new("systems.rs", "unsafe fn f() {}")).len(), 2);
    for (path, text) in [
        ("cpu/mod.rs", "// unsafe\nmod isa;"),
        ("cpu/isa/x86.rs", "unsafe fn f() {}"),
        ("sys/fp.rs", "unsafe fn f() {}"),
        ("tensor/chunks.rs", "unsafe fn f() {}"),
        ("optimizer/step/mod.rs", ""),
        ("config.rs", FORBID),
        ("lib.rs", ""),
    ] {
        assert_none(broken(Source::new(path, text)));
    }
}

#[test]
fn an_unsafe_block_without_a_reason_is_found() {
    let lines = |text: &str| unvouched(&Source::new("sys.rs", text)).len();
    assert_eq!(lines("fn f() {\n    unsafe { g() }\n}"), 1);
    assert_eq!(lines("// SAFETY: x\nlet a = 1;\nlet b = unsafe { g() };"), 1);
    assert_eq!(lines("// It is safe.\nunsafe impl Send for X {}"), 1);
    assert_eq!(lines("unsafe { g() } // SAFETY: x"), 1);
    assert_eq!(lines("// SAFETY: x\nunsafe { g() }\nunsafe { h() }"), 1);
    assert_eq!(lines("// SAFETY: x,\n// and y.\nlet b =\n    unsafe { g() };"), 0);
    assert_eq!(lines("unsafe fn f();\ntype F = unsafe fn(i32);"), 0);
}

// ---------------------------------------------------------------------------------- habits

/// What stands in no source file: unfinished work and output, and where bits count, functions that
/// round differently elsewhere.
fn unwanted(source: &Source) -> Vec<String> {
    const UNFINISHED: [&str; 2] = ["TODO", "FIXME"];
    const PRINTING: [&str; 6] = ["println", "eprintln", "print", "eprint", "dbg", "todo"];
    const INEXACT: [&str; 4] = ["pow", "powi", "powf", "mul_add"];
    let code = words(&source.code);
    let called = |name: &str, by: &str| code.windows(2).any(|pair| pair == [name, by]);
    let unfinished = UNFINISHED.into_iter().filter(|word| words(&source.text).contains(word));
    let printing = PRINTING.into_iter().filter(|name| called(name, "!"));
    let inexact = INEXACT.into_iter().filter(|name| source.lies_in(&EXACT) && called(name, "("));
    let unwanted = unfinished.chain(printing).chain(inexact);
    unwanted.map(|word| format!("{}: {word}", source.path)).collect()
}

fn too_long(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (lines > MOST_LINES).then(|| format!("{}: {lines} lines", source.path))
}

#[test]
fn nothing_unfinished_printing_or_inexact_stands_in_the_source() {
    assert_none(sources().iter().flat_map(unwanted).collect());
}

fn too_wide(source: &Source) -> Vec<String> {
    let lines = source.text.lines().zip(1..).filter(|(line, _)| line.chars().count() > WIDEST);
    lines.map(|(line, at)| format!("{}:{at}: {}", source.path, line.trim())).collect()
}

#[test]
fn no_file_is_too_long() {
    assert_none(sources().iter().filter_map(too_long).collect());
}

#[test]
fn no_line_is_too_wide() {
    let kernels = kernels();
    assert!(kernels.len() > 10);
    assert_none(sources().iter().chain(&kernels).flat_map(too_wide).collect());
}

#[test]
fn bad_habits_are_found() {
    let found = |path: &str, text: &str| unwanted(&Source::new(path, text)).len();
    assert_eq!(found("error.rs", "// TODO: later"), 1);
    assert_eq!(found("error.rs", "fn f() { dbg!(1); eprintln!(\"x\") }"), 2);
    assert_eq!(found("math.rs", "a.mul_add(b, c)"), 1);
    assert_eq!(found("cpu/loops.rs", "f64::powi(beta, step)"), 1);
    assert_eq!(found("optimizer/step/mod.rs", "// never pow(beta, step)\nlet power = 1.0;"), 0);
    assert_eq!(found("callback.rs", "/// println!(\"x\")\nlet fingerprint = x.pow(2);"), 0);
    assert!(too_long(&Source::new("error.rs", &"\n".repeat(MOST_LINES + 1))).is_some());
    assert!(too_long(&Source::new("error.rs", &"\n".repeat(MOST_LINES))).is_none());
    let wide = |line: &str| too_wide(&Source::new("math.rs", &format!("//\n{line}\n")));
    assert_eq!(wide(&"é".repeat(WIDEST + 1)).len(), 1);
    assert_none(wide(&"é".repeat(WIDEST)));
}
