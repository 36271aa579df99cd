//! The library as a linker, a loader and a processor see it: what it exports and needs, and that
//! its loops are as wide as their instruction set and fuse nothing. Reads what binutils print.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use crate::disassembly::{Function, Instruction, functions};
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
fn printed_by(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).arg(library()).output().unwrap();
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn assert_none(broken: Vec<String>) {
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

// ---------------------------------------------------------------------------------- loops

const WIDEST: [(&str, &str); 3] = [("portable", "%xmm"), ("avx2", "%ymm"), ("avx512", "%zmm")];

/// Does a loop do the kernel's work in registers of one width?
type Works = fn(&[Instruction], &str) -> bool;

const KERNELS: [(&str, Works); 26] = [
    ("update_f32", |l, register| packed(l, register, "ps")),
    ("update_f64", |l, register| packed(l, register, "pd")),
    ("update_f32_amsgrad", |l, register| packed(l, register, "ps")),
    ("update_f64_amsgrad", |l, register| packed(l, register, "pd")),
    ("widen_f16", |l, register| l.iter().any(|i| i.stores(register))),
    ("widen_bf16", |l, register| l.iter().any(|i| i.stores(register))),
    ("widen_f32", |l, register| l.iter().any(|i| i.stores(register))),
    ("narrow_f16", |l, register| l.iter().any(|i| i.loads(register))),
    ("narrow_bf16", |l, register| l.iter().any(|i| i.loads(register))),
    ("join", |l, register| l.iter().any(|i| i.stores(register))),
    ("split", |l, register| l.iter().any(|i| i.loads(register))),
    ("join_kahan_f16", |l, register| l.iter().any(|i| i.stores(register))),
    ("join_kahan_bf16", |l, register| l.iter().any(|i| i.stores(register))),
    ("split_kahan_f16", |l, register| l.iter().any(|i| i.loads(register))),
    ("split_kahan_bf16", |l, register| l.iter().any(|i| i.loads(register))),
    ("fill_noise", |l, register| l.iter().any(|i| i.stores(register))),
    ("narrow_randomly", |l, register| l.iter().any(|i| i.loads(register))),
    ("decode_signed", |l, register| l.iter().any(|i| i.stores(register))),
    ("decode_unsigned", |l, register| l.iter().any(|i| i.stores(register))),
    ("encode_signed", |l, register| l.iter().any(|i| i.loads(register))),
    ("encode_unsigned", |l, register| l.iter().any(|i| i.loads(register))),
    ("encode_unsigned_randomly", |l, register| l.iter().any(|i| i.loads(register))),
    ("decode_signed_nibbles", |l, register| l.iter().any(|i| i.stores(register))),
    ("decode_unsigned_nibbles", |l, register| l.iter().any(|i| i.stores(register))),
    ("encode_signed_nibbles", |l, register| l.iter().any(|i| i.loads(register))),
    ("encode_unsigned_nibbles", |l, register| l.iter().any(|i| i.loads(register))),
];

fn packed(instructions: &[Instruction], register: &str, suffix: &str) -> bool {
    ["sqrt", "div", "mul", "add", "sub"].iter().all(|operation| {
        let name = format!("{operation}{suffix}");
        instructions.iter().any(|i| i.name == name && i.operands.contains(register))
    })
}

/// What is wrong with the kernels of a library, or fused anywhere in it.
fn broken_kernels(functions: &[Function]) -> Vec<String> {
    let mut broken = Vec::new();
    for (isa, register) in WIDEST {
        for (kernel, works) in KERNELS {
            let name = format!("adamw::cpu::isa::{isa}::{kernel}");
            let Some(function) = functions.iter().find(|function| function.name == name) else {
                broken.push(format!("{name} is not there"));
                continue;
            };
            let loops = function.loops();
            if loops.iter().any(|l| l.iter().any(Instruction::is_call)) {
                broken.push(format!("{name} calls something in a loop"));
            }
            let is_wide =
                |l: &&[Instruction]| works(l, register) && !l.iter().any(Instruction::is_scalar);
            // SSE2 multiplies two words at a time, which is no more than one after the other.
            let is_excused = isa == "portable" && kernel == "fill_noise";
            if !is_excused && !loops.iter().any(is_wide) {
                broken.push(format!("{name} has no loop over {register} registers"));
            }
        }
    }
    for function in functions {
        if function.instructions.iter().any(Instruction::is_fused) {
            broken.push(format!("{} fuses multiply and add", function.name));
        }
    }
    broken
}

#[test]
fn every_kernel_is_as_wide_as_its_instruction_set_and_fuses_nothing() {
    let arguments = ["--disassemble", "--demangle", "--no-show-raw-insn"];
    assert_none(broken_kernels(&functions(&printed_by("objdump", &arguments))));
}

/// A disassembly in which every kernel is as it should be.
fn sample() -> String {
    let kernel = |isa: &str, register: &str, kernel: &str| {
        let suffix = if kernel.contains("f64") { "pd" } else { "ps" };
        let arithmetic = ["sqrt", "div", "mul", "add", "sub"];
        let arithmetic = arithmetic.map(|name| format!("v{name}{suffix} {register}1,{register}2"));
        let mut lines = vec![format!("vmovups (%rsi,%rax,4),{register}1")];
        if kernel.starts_with("update") {
            lines.extend(arithmetic);
        }
        lines.push(format!("vmovups {register}2,(%rdi,%rax,4)"));
        lines.extend(["jne    1000 <back>", "call   9000 <panic>", "ret"].map(String::from));
        let lines =
            (0x1000..).zip(lines).map(|(address, line)| format!("    {address:x}:\t{line}\n"));
        format!(
            "0000000000001000 <adamw::cpu::isa::{isa}::{kernel}>:\n{}\n",
            lines.collect::<String>()
        )
    };
    let of_isa = |(isa, register)| KERNELS.map(|(name, _)| kernel(isa, register, name)).concat();
    WIDEST.map(of_isa).concat()
}

#[test]
fn a_kernel_that_is_narrow_scalar_fused_calling_or_missing_is_found() {
    let broken = |from: &str, to: &str| {
        let changed = sample().replacen(from, to, 1);
        assert_ne!(changed, sample(), "{from}");
        broken_kernels(&functions(&changed)).len()
    };
    assert_none(broken_kernels(&functions(&sample())));
    assert_eq!(broken("vsqrtps %zmm1,%zmm2", "vsqrtps %ymm1,%ymm2"), 1);
    assert_eq!(broken("vdivpd %ymm1,%ymm2", "vdivpd %xmm1,%xmm2"), 1);
    assert_eq!(broken("vmulps %xmm1", "vmulss %xmm1"), 1);
    assert_eq!(broken("vsubps %zmm1", "vfmadd231ps %zmm1"), 2);
    assert_eq!(broken("call   9000 <panic>", "call   9000\n    1fff:\tjne    1000"), 1);
    assert_eq!(broken("avx2::narrow_f16", "avx2::narrow"), 1);
}
