//! What does not load, and that the error names the line.

mod common;

use common::text;
use cuda::ptx::parse;

/// The error of a kernel with this instruction; its line is 9 where the kernel has no parameter.
fn refused(instruction: &str) -> String {
    let error = parse(&text(0, instruction)).err().unwrap_or_else(|| panic!("{instruction}"));
    assert_eq!(error.line, 9, "{error}");
    error.message
}

#[test]
fn what_changes_results() {
    for instruction in [
        "sqrt.approx.f32 %f1, %f2;",
        "div.full.f32 %f1, %f2, %f3;",
        "add.rn.ftz.f32 %f1, %f2, %f3;",
        "add.rn.sat.f32 %f1, %f2, %f3;",
        "fma.rn.f32 %f1, %f2, %f3, %f4;",
        "fma.rn.f64 %g1, %g2, %g3, %g4;",
        "mad.rn.f32 %f1, %f2, %f3, %f4;",
        "ex2.approx.f32 %f1, %f2;",
    ] {
        refused(instruction);
    }
    for operation in ["add", "sub", "mul"] {
        assert!(refused(&format!("{operation}.f32 %f1, %f2, %f3;")).contains(".rn"));
        assert!(refused(&format!("{operation}.f64 %g1, %g2, %g3;")).contains(".rn"));
    }
    assert!(refused("sqrt.f32 %f1, %f2;").contains(".rn"));
    assert!(refused("div.rz.f32 %f1, %f2, %f3;").contains("rz"));
}

#[test]
fn what_is_not_known() {
    for instruction in [
        "frobnicate.f32 %f1, %f2;",
        "add.rn.f32.odd %f1, %f2, %f3;",
        "ld.local.u32 %r1, [%d1];",
        "mov.u32 %r1, %clock;",
        "mov.u32 %r1, %r99;",
        "mov.u32 %r1, %d1;",
        "add.s32 %r1, %r2, %d3;",
        "add.s32 %r1, %r2;",
        "add.s32 %r1, %r2, %r3, %r4;",
        "mov.f32 %f1, 1.0;",
        "mov.f32 %f1, 0f3F80;",
        "ld.param.u64 %d1, [nothing];",
        "ld.global.v4.f64 {%g1, %g2, %g3, %g4}, [%d1];",
        "ld.global.v2.f32 {%f1, %f2, %f3}, [%d1];",
        "bra $nowhere;",
        "bar.sync 1;",
        "bar.sync 0, 64;",
        "setp.lt.b32 %p1, %r1, %r2;",
        "setp.ltu.s32 %p1, %r1, %r2;",
        "cvt.f32.f64 %f1, %g1;",
        "cvt.rn.f64.f32 %g1, %f1;",
        "atom.global.add.f32 %f1, [%d1], %f2;",
        ".local .b8 depot[16];",
        ".reg .b32 %many<99999999>;",
    ] {
        refused(instruction);
    }
}

#[test]
fn what_stands_outside_kernels() {
    assert_eq!(parse(".target sm_70").err().unwrap().line, 1);
    assert_eq!(parse(".version 7.8\n.target sm_70\n.func f()\n{\n}").err().unwrap().line, 3);
    let broken = ".version 7.8\n.const .align 4 .f32 x[1] = {0f3F800000, 0f3F800000};";
    assert!(parse(broken).err().unwrap().message.contains("more values"));
    assert!(parse(&text(0, ".shared .b8 much[49153];")).is_err());
    assert!(parse(&text(0, ".shared .b8 all[49152];")).is_ok());
    let taking = |bytes: u32| {
        parse(&format!(".version 7.8\n.visible .entry k(.param .align 8 .b8 p[{bytes}])\n{{\n}}"))
    };
    assert!(taking(4352).is_ok() && taking(4353).is_err());
    assert!(parse(&text(0, "$L: bra $L; $L: ret;")).is_err());
    assert!(parse(".version 7.8\n.target sm_70\n.visible .entry k()\n{\n ret;").is_err());
}

#[test]
fn a_text_made_by_nvrtc() {
    let module = parse(common::KERNELS).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<_> = module.kernel_names().collect();
    assert_eq!(names, ["update", "sum_squares", "tree_max", "mixed", "reverse"]);
    assert_eq!((module.version, module.target), (78, 70));
}
