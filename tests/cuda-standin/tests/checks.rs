//! That each check fires, and says where.

mod common;

use common::{Device, KERNELS, count, device, text, trouble};
use cuda::driver::code::Code;
use cuda::driver::memory::{cuMemAlloc_v2, cuMemFree_v2};
use cuda::driver::stream::cuStreamSynchronize;
use cuda::driver::{Out, module::cuModuleUnload};

/// Runs `body` with 64 zeros of four bytes, and the same as a second parameter.
fn ran(device: &Device, size: [u32; 3], body: &str) -> i32 {
    let kernel = device.kernel(&text(1, body), "k");
    let memory = device.upload(&[0_u32; 64]);
    device.run(kernel, size, &[&memory.to_le_bytes()])
}

/// That `body` fails with this code and a text that holds each of these.
fn fails(code: Code, size: [u32; 3], body: &str, said: &[&str]) {
    let device = device();
    assert_eq!(ran(&device, size, body), code.0, "{body}: {}", trouble());
    for said in said {
        assert!(trouble().contains(said), "{}", trouble());
    }
}

fn passes(size: [u32; 3], body: &str) {
    let device = device();
    assert_eq!(ran(&device, size, body), 0, "{body}: {}", trouble());
}

const OWN: &str = "mov.u32 %r1, %tid.x; mul.wide.u32 %d1, %r1, 4; add.s64 %d1, %a0, %d1;";

#[test]
fn bounds() {
    passes([1, 64, 0], &format!("{OWN} st.global.u32 [%d1], %r1;"));
    let illegal = Code::ILLEGAL_ADDRESS;
    let body = format!("{OWN} ld.global.u32 %r2, [%d1+4];");
    let said = ["k, block (0, 0, 0), thread (63, 0, 0), line 10", "read of 4 bytes", "256 bytes"];
    fails(illegal, [1, 64, 0], &body, &said);
    fails(illegal, [1, 65, 0], &format!("{OWN} st.u32 [%d1], %r1;"), &["(64, 0, 0)", "write"]);
    fails(illegal, [1, 1, 0], "ld.global.u32 %r2, [%a0+-4];", &["read"]);
    fails(illegal, [1, 1, 0], "mov.u64 %d1, 0; ld.global.u32 %r2, [%d1];", &["below all memory"]);
    fails(illegal, [1, 1, 0], "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%a0+256];", &["16 bytes"]);
    // A register that nothing has written is an address of nothing.
    fails(illegal, [1, 1, 0], "and.b64 %d2, %d1, -8; ld.global.u32 %r1, [%d2];", &["read"]);
    fails(
        illegal,
        [1, 64, 0],
        ".shared .align 4 .b8 s[8];\nmov.u32 %r1, %tid.x; shl.b32 %r1, %r1, 2; st.shared.u32 [%r1], %r1;",
        &["thread (2, 0, 0)", "shared access of 4 bytes at 8 of 8"],
    );
}

#[test]
fn alignment() {
    let misaligned = Code::MISALIGNED_ADDRESS;
    fails(misaligned, [1, 1, 0], "ld.global.u32 %r2, [%a0+2];", &["misaligned", "line 10"]);
    let vector = "ld.global.cs.v4.u32 {%r1, %r2, %r3, %r4}, [%a0+8];";
    fails(misaligned, [1, 1, 0], vector, &["16 bytes"]);
    passes([1, 1, 0], "ld.global.cs.v4.u32 {%r1, %r2, %r3, %r4}, [%a0+16];");
    fails(misaligned, [1, 1, 0], "atom.global.add.u32 %r1, [%a0+1], 1;", &["misaligned"]);
}

#[test]
fn freed_memory() {
    let device = device();
    let kernel = device.kernel(&text(1, "st.global.u32 [%a0], 1;"), "k");
    let memory = device.allocate(64);
    assert_eq!(cuMemFree_v2(memory), 0);
    // A new allocation does not take the place of the old one.
    assert_ne!(device.allocate(64), memory);
    let code = device.run(kernel, [1, 1, 0], &[&memory.to_le_bytes()]);
    assert_eq!(code, Code::ILLEGAL_ADDRESS.0);
    assert!(trouble().contains("freed"), "{}", trouble());
}

#[test]
fn fresh_memory_is_poisoned() {
    let device = device();
    let body = "ld.global.f32 %f1, [%a0]; add.rn.f32 %f1, %f1, %f1; st.global.f32 [%a0+4], %f1;\n\
                .shared .align 4 .b8 s[4];\nld.shared.u32 %r1, [s]; st.global.u32 [%a0+8], %r1; st.global.u32 [%a0+12], %r2;";
    let kernel = device.kernel(&text(1, body), "k");
    let memory = device.allocate(16);
    assert_eq!(device.run(kernel, [1, 1, 0], &[&memory.to_le_bytes()]), 0, "{}", trouble());
    assert_eq!(device.download::<u32>(memory, 4), [u32::MAX, 0x7FFF_FFFF, u32::MAX, u32::MAX]);
}

#[test]
fn errors_stay() {
    let device = device();
    assert_eq!(ran(&device, [1, 1, 0], "st.global.u32 [%a0+256], 1;"), 700);
    let mut address = 0;
    assert_eq!(cuMemAlloc_v2(Out::from(&mut address), 4), 700);
    assert_eq!(cuStreamSynchronize(0), 700);
    assert_eq!(count("allocations"), 1);
    drop(device);
    let device = common::device();
    assert_eq!(count("allocations"), 0);
    device.allocate(4);
}

#[test]
fn shared_races() {
    // Each writes its own; each reads its neighbour's.
    let neighbours = |between: &str| {
        format!(
            ".shared .align 4 .b8 s[256];\nmov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 2; \
             st.shared.u32 [%r2], %r1; {between} xor.b32 %r2, %r2, 4; ld.shared.u32 %r3, [%r2];"
        )
    };
    passes([1, 64, 0], &neighbours("bar.sync 0;"));
    passes([1, 64, 0], &neighbours("bar.warp.sync -1;"));
    let said = ["shared race", "no barrier between"];
    fails(Code::LAUNCH_FAILED, [1, 64, 0], &neighbours(""), &said);
    // The neighbour in the other warp.
    let warps = |between: &str| neighbours(between).replace("%r2, %r2, 4;", "%r2, %r2, 128;");
    passes([1, 64, 0], &warps("bar.sync 0;"));
    fails(Code::LAUNCH_FAILED, [1, 64, 0], &warps("bar.warp.sync -1;"), &said);
    // All write the same, though the same value.
    let all = ".shared .align 4 .b8 s[4];\nst.shared.u32 [s], 1;";
    fails(Code::LAUNCH_FAILED, [1, 32, 0], all, &["writes what another wrote"]);
    passes([1, 64, 0], ".shared .align 4 .b8 s[4];\nred.shared.or.b32 [s], 1;");
    let atomic = ".shared .align 4 .b8 s[4];\nred.shared.or.b32 [s], 1; bar.sync 0;\n\
                  mov.u32 %r1, %tid.x; setp.eq.u32 %p1, %r1, 40; red.shared.or.b32 [s], 1;";
    let reads = format!("{atomic} ld.shared.u32 %r2, [s];");
    fails(Code::LAUNCH_FAILED, [1, 64, 0], &reads, &["reads what another wrote"]);
    passes([1, 64, 0], &format!("{atomic} bar.sync 0; @%p1 ld.shared.u32 %r2, [s];"));
    // The neighbour's read is over when the warp has met, and an own read is no race.
    let exchange = neighbours("bar.warp.sync -1;");
    let again = "bar.warp.sync -1; xor.b32 %r2, %r2, 4; ld.shared.u32 %r4, [%r2]; \
                 st.shared.u32 [%r2], %r3;";
    passes([1, 64, 0], &format!("{exchange} {again}"));
    let early = again.replace("bar.warp.sync -1; ", "");
    fails(Code::LAUNCH_FAILED, [1, 64, 0], &format!("{exchange} {early}"), &["another read"]);
    // A write after a read.
    let after_read = ".shared .align 4 .b8 s[4];\nld.shared.u32 %r1, [s]; mov.u32 %r2, %tid.x; \
                      setp.eq.u32 %p1, %r2, 40; @%p1 st.shared.u32 [s], 1;";
    fails(Code::LAUNCH_FAILED, [1, 64, 0], after_read, &["writes what another read"]);
}

#[test]
fn global_races() {
    let failed = Code::LAUNCH_FAILED;
    let said = ["global race", "block 1 writes what block 0 wrote"];
    fails(failed, [2, 1, 0], "st.global.u32 [%a0], 1;", &said);
    passes([1, 1, 0], "st.global.u32 [%a0], 1;");
    passes([2, 1, 0], "red.global.add.u32 [%a0], 1;");
    passes([2, 1, 0], "ld.global.u32 %r1, [%a0];");
    let reads = "mov.u32 %r1, %ctaid.x; setp.eq.u32 %p1, %r1, 1; ld.global.u32 %r2, [%a0]; @%p1 st.global.u32 [%a0], 1;";
    fails(failed, [2, 1, 0], reads, &["block 1 writes what another block read"]);
    // Bytes of one word apart from each other are no race.
    passes(
        [4, 1, 0],
        "mov.u32 %r1, %ctaid.x; cvt.u64.u32 %d1, %r1; add.s64 %d1, %a0, %d1; st.global.u8 [%d1], %r1;",
    );
    // A fence orders blocks that count each other.
    passes([2, 1, 0], "membar.gl; st.global.u32 [%a0], 1;");
    let device = device();
    common::set("global_races", "0");
    assert_eq!(ran(&device, [2, 1, 0], "st.global.u32 [%a0], 1;"), 0);
}

#[test]
fn barriers() {
    let failed = Code::LAUNCH_FAILED;
    let lanes = "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 7; @%p1 bar.sync 0;";
    fails(failed, [1, 32, 0], lanes, &["barrier reached by lanes 0x0000007f of 0xffffffff"]);
    let diverged = "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 7; @%p1 bra $A; bar.sync 0; bra $B;\n$A: bar.sync 0;\n$B: mov.u32 %r1, 0;";
    fails(failed, [1, 32, 0], diverged, &["barrier reached"]);
    let warps = diverged.replace("%r1, 7", "%r1, 32");
    fails(failed, [1, 64, 0], &warps, &["warps wait at different barriers"]);
    // Threads that have left are not waited for.
    passes([1, 64, 0], "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 37; @%p1 ret; bar.sync 0;");
    fails(Code::LAUNCH_TIMEOUT, [1, 1, 0], "$L: bra $L;", &["does not end"]);
}

#[test]
fn lanes_that_must_meet() {
    let failed = Code::LAUNCH_FAILED;
    passes([1, 64, 0], "shfl.sync.down.b32 %r1|%p1, %r2, 1, 31, -1;");
    fails(
        failed,
        [1, 32, 0],
        "shfl.sync.down.b32 %r1|%p1, %r2, 1, 31, 65535;",
        &["shuffle names lanes 0x0000ffff"],
    );
    let part = "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 16; @!%p1 bra $E;";
    passes(
        [1, 32, 0],
        &format!("{part} shfl.sync.bfly.b32 %r2, %r3, 1, 31, 65535;\n$E: mov.u32 %r1, 0;"),
    );
    fails(
        failed,
        [1, 32, 0],
        &format!("{part} shfl.sync.bfly.b32 %r2, %r3, 1, 31, -1;\n$E: mov.u32 %r1, 0;"),
        &["shuffle names"],
    );
    fails(
        failed,
        [1, 32, 0],
        &format!("{part} shfl.sync.bfly.b32 %r2, %r3, 16, 31, 65535;\n$E: mov.u32 %r1, 0;"),
        &["reads lane 16"],
    );
    fails(
        failed,
        [1, 32, 0],
        &format!("{part} vote.sync.any.pred %p2, %p1, -1;\n$E: mov.u32 %r1, 0;"),
        &["vote names"],
    );
    fails(
        failed,
        [1, 32, 0],
        &format!("{part} bar.warp.sync -1;\n$E: mov.u32 %r1, 0;"),
        &["warp barrier names"],
    );
    passes([1, 24, 0], "vote.sync.all.pred %p2, %p1, -1;");
}

#[test]
fn launches_that_are_refused() {
    let device = device();
    let kernel = device.kernel(&text(1, "mov.u32 %r1, 0;"), "k");
    let memory = device.allocate(4).to_le_bytes();
    for size in [[0, 1, 0], [1, 0, 0], [1, 257, 0], [1, 2048, 0], [1, 1, 64 << 10]] {
        assert_eq!(device.launch(kernel, size, 0, &[&memory]), 1, "{size:?}");
    }
    assert!(trouble().contains("shared memory"));
    assert_eq!(device.run(kernel, [1, 256, 0], &[&memory]), 0);
}

#[test]
fn constants_are_not_written() {
    let device = device();
    let body = ".version 7.8\n.target sm_70\n.const .align 4 .u32 c = 3;\n.visible .entry k()\n{\n\
                .reg .b64 %d<3>; mov.u64 %d1, c; st.u32 [%d1], 1; ret;\n}\n";
    let kernel = device.kernel(body, "k");
    assert_eq!(device.run(kernel, [1, 1, 0], &[]), 700);
    assert!(trouble().contains("constant"));
}

#[test]
fn kernels_of_a_module_that_is_gone() {
    let device = device();
    let module = device.load(KERNELS).unwrap();
    assert_eq!(cuModuleUnload(module), 0);
    assert_eq!(cuModuleUnload(module), Code::INVALID_HANDLE.0);
}
