//! The library as a linker and a loader see it: what it exports and needs, and what may be written
//! and executed. Reads what binutils print.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The release library, built if it is not up to date.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--lib", "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success());
        target.join("release/libadamw.so")
    })
}

/// What a tool prints about the library.
pub fn printed_by(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).arg(library()).output().unwrap();
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
pub fn assert_none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

// ---------------------------------------------------------------------------------- linking

/// The names that `nm --dynamic --defined-only` prints.
fn exported(nm: &str) -> BTreeSet<&str> {
    nm.lines().filter_map(|line| line.split_whitespace().nth(2)).collect()
}

#[test]
fn it_exports_the_functions_of_the_header_and_nothing_else() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/adamw.h");
    let header = std::fs::read_to_string(header).unwrap();
    let declared = crate::declared::functions(&header).into_iter().map(|(name, _)| name).collect();
    let nm = printed_by("nm", &["--dynamic", "--defined-only"]);
    assert_eq!(exported(&nm), declared);
}

#[test]
fn every_exported_name_is_read() {
    let nm = "0000000000031660 T adamw_step\n0000000000000010 B leaked@@V1\n";
    assert_eq!(exported(nm), BTreeSet::from(["adamw_step", "leaked@@V1"]));
}

/// What is wrong with the entries that `readelf --dynamic` prints.
fn broken_dynamic(readelf: &str) -> Vec<String> {
    const NEEDED: [&str; 6] = [
        "libc.so.6",
        "libgcc_s.so.1",
        "ld-linux-x86-64.so.2",
        "libm.so.6",
        "libpthread.so.0",
        "libdl.so.2",
    ];
    let values = |tag: &str| -> Vec<&str> {
        let lines = readelf.lines().filter_map(|line| line.split_once(tag));
        lines.map(|(_, value)| value.trim()).collect()
    };
    let bracketed = |value: &str| value.split(['[', ']']).nth(1).unwrap_or(value).to_owned();
    let mut broken = Vec::new();
    if values("(SONAME)").into_iter().map(bracketed).collect::<Vec<_>>() != ["libadamw.so.0"] {
        broken.push("SONAME is not libadamw.so.0".to_owned());
    }
    for needed in values("(NEEDED)").into_iter().map(bracketed) {
        if !NEEDED.contains(&&needed[..]) {
            broken.push(format!("needs {needed}"));
        }
    }
    let has = |tag: &str, flag: &str| values(tag).iter().any(|value| value.contains(flag));
    if !has("(FLAGS_1)", "NODELETE") {
        broken.push("may be unmapped".to_owned());
    }
    if !has("(FLAGS)", "BIND_NOW") && !has("(FLAGS_1)", "NOW") {
        broken.push("binds lazily".to_owned());
    }
    if has("(TEXTREL)", "") || has("(FLAGS)", "TEXTREL") {
        broken.push("has text relocations".to_owned());
    }
    broken
}

/// What is wrong with the segments that `readelf --segments` prints.
fn broken_segments(readelf: &str) -> Vec<String> {
    let segments = readelf.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.len() >= 8).then(|| (words[0], words[6..words.len() - 1].concat()))
    });
    let segments: Vec<(&str, String)> = segments.collect();
    let mut broken = Vec::new();
    if !segments.iter().any(|(kind, flags)| *kind == "GNU_STACK" && flags == "RW") {
        broken.push("the stack may be executable".to_owned());
    }
    if segments.iter().any(|(kind, flags)| *kind == "LOAD" && flags.contains("WE")) {
        broken.push("memory is writable and executable".to_owned());
    }
    broken
}

#[test]
fn it_is_named_bound_and_needs_as_promised() {
    assert_none(broken_dynamic(&printed_by("readelf", &["--dynamic", "--wide"])));
}

#[test]
fn nothing_that_is_written_is_executed() {
    assert_none(broken_segments(&printed_by("readelf", &["--segments", "--wide"])));
}

#[test]
fn a_wrong_name_need_or_flag_is_found() {
    let good = "
 0x01 (NEEDED)             Shared library: [libc.so.6]
 0x0e (SONAME)             Library soname: [libadamw.so.0]
 0x1e (FLAGS)              BIND_NOW
 0x6b (FLAGS_1)            Flags: NOW NODELETE
";
    assert_none(broken_dynamic(good));
    for (from, to) in [
        ("libc.so.6", "libstdc++.so.6"),
        ("libadamw.so.0", "libadamw.so"),
        ("SONAME", "RUNPATH"),
        (" NODELETE", ""),
        ("0x1e (FLAGS) ", "0x16 (TEXTREL)"),
        ("BIND_NOW", "TEXTREL"),
    ] {
        assert_eq!(broken_dynamic(&good.replace(from, to)).len(), 1, "{to}");
    }
    let lazy = good.replace("BIND_NOW", "").replace("NOW NODELETE", "NODELETE");
    assert_eq!(broken_dynamic(&lazy).len(), 1);
}

#[test]
fn a_writable_and_executable_segment_is_found() {
    let good = "
  LOAD           0x01af58 0x000000000001bf58 0x000000000001bf58 0x05d928 0x05d928 R E 0x1000
  LOAD           0x078880 0x000000000007a880 0x000000000007a880 0x003460 0x003780 RW  0x1000
  GNU_STACK      0x000000 0x0000000000000000 0x0000000000000000 0x000000 0x000000 RW  0
";
    assert_none(broken_segments(good));
    for (from, to) in [("RW  0\n", "RWE 0\n"), ("RW  0x1000", "RWE 0x1000"), ("GNU_STACK", "NOTE")]
    {
        assert_eq!(broken_segments(&good.replace(from, to)).len(), 1, "{from}");
    }
}
