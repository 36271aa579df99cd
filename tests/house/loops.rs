//! The library as a processor sees it: its loops are as wide as their instruction set, and fuse
//! nothing. Reads what binutils print.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use crate::disassembly::{Function, Instruction, Registers, functions};
use crate::library::{assert_none, printed_by};
use std::process::Command;

/// The widest registers of each instruction set.
const X86: [(&str, Registers); 3] =
    [("portable", Registers::Xmm), ("avx2", Registers::Ymm), ("avx512", Registers::Zmm)];
const AARCH64: [(&str, Registers); 1] = [("portable", Registers::Neon)];

/// Does a loop do the kernel's work in registers of one width?
type Works = fn(&[Instruction], Registers) -> bool;

const KERNELS: [(&str, Works); 24] = [
    ("update_f32", |l, of| packed(l, of, 32)),
    ("update_f64", |l, of| packed(l, of, 64)),
    ("update_f32_amsgrad", |l, of| packed(l, of, 32)),
    ("update_f64_amsgrad", |l, of| packed(l, of, 64)),
    ("widen_f16", |l, of| l.iter().any(|i| i.stores(of))),
    ("widen_bf16", |l, of| l.iter().any(|i| i.stores(of))),
    ("widen_f32", |l, of| l.iter().any(|i| i.stores(of))),
    ("narrow_f16", |l, of| l.iter().any(|i| i.loads(of))),
    ("narrow_bf16", |l, of| l.iter().any(|i| i.loads(of))),
    ("join", |l, of| l.iter().any(|i| i.stores(of))),
    ("split", |l, of| l.iter().any(|i| i.loads(of))),
    ("join_kahan_f16", |l, of| l.iter().any(|i| i.stores(of))),
    ("join_kahan_bf16", |l, of| l.iter().any(|i| i.stores(of))),
    ("split_kahan_f16", |l, of| l.iter().any(|i| i.loads(of))),
    ("split_kahan_bf16", |l, of| l.iter().any(|i| i.loads(of))),
    ("narrow_randomly", |l, of| l.iter().any(|i| i.loads(of))),
    ("update_bytes", |l, of| packed(l, of, 32)),
    ("update_nibbles", |l, of| packed(l, of, 32)),
    ("decode_signed", |l, of| l.iter().any(|i| i.stores(of))),
    ("decode_unsigned", |l, of| l.iter().any(|i| i.stores(of))),
    ("encode_signed", |l, of| l.iter().any(|i| i.loads(of))),
    ("encode_unsigned", |l, of| l.iter().any(|i| i.loads(of))),
    ("encode_unsigned_randomly", |l, of| l.iter().any(|i| i.loads(of))),
    ("decode_signed_nibbles", |l, of| l.iter().any(|i| i.stores(of))),
];

/// Those that only instruction sets with conversions have.
const CONVERTING: [(&str, Works); 7] = [
    ("update_f16", |l, of| packed(l, of, 32)),
    ("update_bf16", |l, of| packed(l, of, 32)),
    ("update_master_f16", |l, of| packed(l, of, 32)),
    ("update_master_bf16", |l, of| packed(l, of, 32)),
    ("update_split", |l, of| packed(l, of, 32)),
    ("update_kahan_f16", |l, of| packed(l, of, 32)),
    ("update_kahan_bf16", |l, of| packed(l, of, 32)),
];

/// The kernels of an instruction set.
fn kernels(isa: &str) -> impl Iterator<Item = (&'static str, Works)> {
    let converting = if isa == "portable" { &[][..] } else { &CONVERTING };
    KERNELS.iter().chain(converting).copied()
}

/// The functions that have the loops of a kernel.
fn places(isa: &str, kernel: &str) -> Vec<String> {
    match (isa, kernel) {
        // Whole blocks are stepped by one generic function, what remains by another.
        ("avx2" | "avx512", "update_bytes") => out_of_line(isa, "rest_in_bytes"),
        ("avx2" | "avx512", "update_nibbles") => out_of_line(isa, "rest_in_nibbles"),
        _ => vec![format!("adamw::cpu::isa::{isa}::{kernel}")],
    }
}

/// The functions of an instruction set that step codes.
fn out_of_line(isa: &str, rest: &str) -> Vec<String> {
    let set = if isa == "avx2" { "Avx2" } else { "Avx512" };
    let by = format!("adamw::cpu::{isa}::{set} as adamw::cpu::registers::out_of_line::OutOfLine");
    ["step_further", rest].map(|name| format!("<{by}>::{name}::{name}")).into()
}

const OPERATIONS: [&str; 5] = ["sqrt", "div", "mul", "add", "sub"];

fn packed(instructions: &[Instruction], registers: Registers, bits: u32) -> bool {
    OPERATIONS
        .iter()
        .all(|operation| instructions.iter().any(|i| i.is_packed(operation, bits, registers)))
}

/// What is wrong with a function that has the loops of a kernel.
fn faults_of(function: &Function, kernel: &str, works: Works, registers: Registers) -> Vec<String> {
    let (name, loops) = (&function.name, function.loops());
    let mut faults = Vec::new();
    // These copy a last block, or the compensations of a last group, that is not whole.
    let copies = ["update_bytes", "update_nibbles", "update_kahan_f16"].contains(&kernel);
    if !copies && loops.iter().any(|l| l.iter().any(Instruction::is_call)) {
        faults.push(format!("{name} calls something in a loop"));
    }
    let is_wide = |l: &&[Instruction]| works(l, registers) && !l.iter().any(Instruction::is_scalar);
    if !loops.iter().any(is_wide) {
        faults.push(format!("{name} has no loop over {registers:?} registers"));
    }
    faults
}

/// What is wrong with the kernels of a library, or fused anywhere in it.
fn broken_kernels(functions: &[Function], widest: &[(&str, Registers)]) -> Vec<String> {
    let mut broken = Vec::new();
    for &(isa, registers) in widest {
        for (kernel, works) in kernels(isa) {
            for name in places(isa, kernel) {
                let named = || functions.iter().filter(|function| function.name == name);
                if named().next().is_none() {
                    broken.push(format!("{name} is not there"));
                }
                broken.extend(
                    named().flat_map(|function| faults_of(function, kernel, works, registers)),
                );
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

const DISASSEMBLE: [&str; 3] = ["--disassemble", "--demangle", "--no-show-raw-insn"];

#[test]
fn every_kernel_is_as_wide_as_its_instruction_set_and_fuses_nothing() {
    assert_none(broken_kernels(&functions(&printed_by("objdump", &DISASSEMBLE)), &X86));
}

#[test]
#[ignore = "tests/aarch64.sh builds the library that it reads, and names it in ADAMW_AARCH64"]
fn every_kernel_of_aarch64_is_as_wide_as_neon_and_fuses_nothing() {
    let library = std::env::var_os("ADAMW_AARCH64").expect("the path of libadamw.so for aarch64");
    let mut objdump = Command::new("aarch64-linux-gnu-objdump");
    let output = objdump.args(DISASSEMBLE).arg(library).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_none(broken_kernels(&functions(&text), &AARCH64));
}

/// A disassembly in which every kernel is as it should be.
fn sample(widest: &[(&str, Registers)]) -> String {
    let on_x86 = |register: &str, suffix: &str| {
        let work = |name| format!("v{name}p{suffix} {register}1,{register}2");
        let load = format!("vmovups (%rsi,%rax,4),{register}1");
        let store = format!("vmovups {register}2,(%rdi,%rax,4)");
        (load, OPERATIONS.map(work), store, ["jne    1000 <back>", "call   9000 <panic>"])
    };
    let on_neon = |lanes: &str| {
        let work = |name| format!("f{name}\tv1.{lanes}, v2.{lanes}");
        let (load, store) = ("ldr\tq1, [x0]".to_owned(), "str\tq1, [x1]".to_owned());
        (load, OPERATIONS.map(work), store, ["b.ne\t1000 <back>", "bl\t9000 <panic>"])
    };
    let kernel = |isa: &str, registers: Registers, kernel: &str| {
        let is_double = kernel.contains("f64");
        let (load, work, store, end) = match registers {
            Registers::Xmm => on_x86("%xmm", if is_double { "d" } else { "s" }),
            Registers::Ymm => on_x86("%ymm", if is_double { "d" } else { "s" }),
            Registers::Zmm => on_x86("%zmm", if is_double { "d" } else { "s" }),
            Registers::Neon => on_neon(if is_double { "2d" } else { "4s" }),
        };
        let mut lines = vec![load];
        if kernel.starts_with("update") {
            lines.extend(work);
        }
        lines.push(store);
        lines.extend(end.map(String::from));
        lines.push("ret".to_owned());
        let lines =
            (0x1000..).zip(lines).map(|(address, line)| format!("    {address:x}:\t{line}\n"));
        let lines = lines.collect::<String>();
        let functions = places(isa, kernel).into_iter();
        functions.map(|name| format!("0000000000001000 <{name}>:\n{lines}\n")).collect::<String>()
    };
    let of_isa = |&(isa, registers)| {
        kernels(isa).map(|(name, _)| kernel(isa, registers, name)).collect::<String>()
    };
    widest.iter().map(of_isa).collect()
}

/// How many faults are found where the sample has `to` in place of the first `from`.
fn faults(widest: &[(&str, Registers)], from: &str, to: &str) -> usize {
    let changed = sample(widest).replacen(from, to, 1);
    assert_ne!(changed, sample(widest), "{from}");
    broken_kernels(&functions(&changed), widest).len()
}

#[test]
fn a_kernel_of_x86_that_is_narrow_scalar_fused_calling_or_missing_is_found() {
    assert_none(broken_kernels(&functions(&sample(&X86)), &X86));
    let broken = |from: &str, to: &str| faults(&X86, from, to);
    assert_eq!(broken("vsqrtps %zmm1,%zmm2", "vsqrtps %ymm1,%ymm2"), 1);
    assert_eq!(broken("vdivpd %ymm1,%ymm2", "vdivpd %xmm1,%xmm2"), 1);
    assert_eq!(broken("vmulps %xmm1", "vmulss %xmm1"), 1);
    assert_eq!(broken("vsubps %zmm1", "vfmadd231ps %zmm1"), 2);
    assert_eq!(broken("call   9000 <panic>", "call   9000\n    1fff:\tjne    1000"), 1);
    assert_eq!(broken("avx2::narrow_f16", "avx2::narrow"), 1);
    assert_eq!(broken("avx512::update_split", "avx512::split_update"), 1);
}

#[test]
fn a_kernel_of_aarch64_that_is_narrow_scalar_fused_calling_or_missing_is_found() {
    assert_none(broken_kernels(&functions(&sample(&AARCH64)), &AARCH64));
    let broken = |from: &str, to: &str| faults(&AARCH64, from, to);
    assert_eq!(broken("fsqrt\tv1.4s, v2.4s", "fsqrt\tv1.2s, v2.2s"), 1);
    assert_eq!(broken("fdiv\tv1.2d, v2.2d", "fdiv\td1, d2"), 1);
    assert_eq!(broken("fsub\tv1.4s", "fmls\tv1.4s"), 2);
    assert_eq!(broken("fmul\tv1.4s, v2.4s", "fmadd\ts1, s2"), 2);
    assert_eq!(broken("bl\t9000 <panic>", "bl\t9000\n    1fff:\tb.ne\t1000"), 1);
    assert_eq!(broken("portable::widen_f16", "portable::widen"), 1);
}
