//! What lanes and warps do together, atomics, bit fields and generic addresses.

mod common;

use common::{device, text, trouble};

/// What each of so many threads leaves in `%r1`; `%r8` is the thread's number, `%a1` 64 zeros.
fn left(threads: u32, body: &str) -> Vec<u32> {
    let body = format!(
        "mov.u32 %r8, %tid.x;\n{body}\nmul.wide.u32 %d8, %r8, 4; add.s64 %d8, %a0, %d8; \
         st.global.u32 [%d8], %r1;"
    );
    let device = device();
    let kernel = device.kernel(&text(2, &body), "k");
    let (x, zeros) = (device.allocate(4 * threads as usize), device.upload(&[0_u32; 64]));
    let code = device.run(kernel, [1, threads, 0], &[&x.to_le_bytes(), &zeros.to_le_bytes()]);
    assert_eq!(code, 0, "{body}: {}", trouble());
    device.download(x, threads as usize)
}

fn each(threads: u32, f: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..threads).map(f).collect()
}

#[test]
fn shuffles() {
    let shuffled = |operands: &str| left(32, &format!("shfl.sync.{operands}, -1;"));
    assert_eq!(shuffled("down.b32 %r1, %r8, 5, 31"), each(32, |i| if i < 27 { i + 5 } else { i }));
    assert_eq!(shuffled("up.b32 %r1, %r8, 5, 0"), each(32, |i| if i < 5 { i } else { i - 5 }));
    assert_eq!(shuffled("bfly.b32 %r1, %r8, 9, 31"), each(32, |i| i ^ 9));
    assert_eq!(shuffled("idx.b32 %r1, %r8, 3, 31"), each(32, |_| 3));
    // In parts of eight: the mask of a lane's part stands above the clamp.
    assert_eq!(shuffled("idx.b32 %r1, %r8, 3, 6175"), each(32, |i| i / 8 * 8 + 3));
    let in_part = |i: u32| if i % 8 < 6 { i + 2 } else { i };
    assert_eq!(shuffled("down.b32 %r1, %r8, 2, 6175"), each(32, in_part));
    let up = |i: u32| if i % 8 < 2 { i } else { i - 2 };
    assert_eq!(shuffled("up.b32 %r1, %r8, 2, 6144"), each(32, up));
    let flag = "shfl.sync.down.b32 %r1|%p1, %r8, 5, 31, -1; selp.u32 %r1, 1, 0, %p1;";
    assert_eq!(left(32, flag), each(32, |i| u32::from(i < 27)));
}

#[test]
fn votes() {
    let small = "setp.lt.u32 %p1, %r8, 7;";
    let ballot = |operands| left(32, &format!("{small} vote.sync.ballot.b32 %r1, {operands};"));
    assert_eq!(ballot("%p1, -1"), each(32, |_| 0x7F));
    assert_eq!(ballot("!%p1, -1"), each(32, |_| !0x7F));
    let vote = |kind, condition: &str| {
        let vote = format!("vote.sync.{kind}.pred %p2, {condition}, -1; selp.u32 %r1, 1, 0, %p2;");
        left(32, &format!("{small} setp.lt.u32 %p3, %r8, 99; {vote}"))[31]
    };
    assert_eq!((vote("all", "%p1"), vote("any", "%p1"), vote("uni", "%p1")), (0, 1, 0));
    assert_eq!((vote("all", "%p3"), vote("any", "!%p3"), vote("uni", "!%p3")), (1, 0, 1));
    let active = format!("mov.u32 %r1, 0; {small} @%p1 activemask.b32 %r1;");
    assert_eq!(left(32, &active), each(32, |i| if i < 7 { 0x7F } else { 0 }));
}

#[test]
fn barriers_that_count() {
    let count =
        |kind: &str, result: &str| format!("setp.lt.u32 %p1, %r8, 40; bar.red.{kind}, 0, {result}");
    assert_eq!(left(64, &count("popc.u32 %r1", "%p1;")), each(64, |_| 40));
    assert_eq!(left(64, &count("popc.u32 %r1", "!%p1;")), each(64, |_| 24));
    let flag = |kind, bound| {
        left(
            64,
            &format!(
                "setp.lt.u32 %p1, %r8, {bound}; bar.red.{kind}.pred %p2, 0, %p1; selp.u32 %r1, 1, 0, %p2;"
            ),
        )
    };
    assert_eq!((flag("and", 64), flag("and", 63)), (each(64, |_| 1), each(64, |_| 0)));
    assert_eq!((flag("or", 1), flag("or", 0)), (each(64, |_| 1), each(64, |_| 0)));
}

#[test]
fn special_registers() {
    assert_eq!(left(64, "mov.u32 %r1, %laneid;"), each(64, |i| i % 32));
    assert_eq!(left(64, "mov.u32 %r1, %warpid;"), each(64, |i| i / 32));
    assert_eq!(left(64, "mov.u32 %r1, %lanemask_lt;"), each(64, |i| (1 << (i % 32)) - 1));
    assert_eq!(left(32, "mov.u32 %r1, %lanemask_ge;"), each(32, |i| u32::MAX << i));
    let size = "mov.u32 %r1, %ntid.x; mov.u32 %r2, %nctaid.y; mad.lo.u32 %r1, %r1, 10, %r2;";
    assert_eq!(left(64, size), each(64, |_| 641));
}

#[test]
fn atomics() {
    // Threads take turns from the first lane on.
    let after = |operation: &str, load: &str| {
        left(32, &format!("{operation} bar.sync 0; ld.global.{load} %r1, [%a1];"))[0]
    };
    assert_eq!(after("red.global.add.u32 [%a1], %r8;", "u32"), 496);
    assert_eq!(after("red.global.or.b32 [%a1], %r8;", "u32"), 31);
    assert_eq!(after("atom.global.max.u32 %r2, [%a1], %r8;", "u32"), 31);
    assert_eq!(
        after("sub.s32 %r2, %r8, 9; atom.global.min.s32 %r2, [%a1], %r2;", "u32"),
        -9_i32 as u32
    );
    assert_eq!(after("atom.global.exch.b32 %r2, [%a1], %r8;", "u32"), 31);
    assert_eq!(after("cvt.u64.u32 %d1, %r8; red.global.add.u64 [%a1], %d1;", "u32"), 496);
    // Each exchanges its own number for the next.
    let chain = "add.s32 %r2, %r8, 1; atom.global.cas.b32 %r1, [%a1], %r8, %r2;";
    assert_eq!(left(32, chain), each(32, |i| i));
    let old = left(32, "atom.global.add.u32 %r1, [%a1], 2;");
    assert_eq!(old, each(32, |i| 2 * i));
    let xor = ".shared .align 4 .b8 s[4];\nsetp.eq.u32 %p1, %r8, 0; @%p1 st.shared.u32 [s], 0;\n\
               bar.sync 0; atom.shared.xor.b32 %r2, [s], %r8; atom.shared.and.b32 %r2, [s], -1;\n\
               membar.cta; bar.sync 0; ld.shared.u32 %r1, [s];";
    assert_eq!(left(4, xor), each(4, |_| 0));
}

#[test]
fn generic_addresses() {
    let body = ".shared .align 4 .b8 s[256];\nmov.u64 %d1, s; cvta.shared.u64 %d2, %d1;\n\
                mul.wide.u32 %d3, %r8, 4; add.s64 %d2, %d2, %d3; st.u32 [%d2], %r8;\n\
                cvta.to.shared.u64 %d4, %d2; ld.shared.u32 %r2, [%d4]; ld.u32 %r3, [%d2];\n\
                cvta.to.global.u64 %d5, %a1; ld.u32 %r4, [%d5]; add.s32 %r1, %r2, %r3;\n\
                add.s32 %r1, %r1, %r4;";
    assert_eq!(left(64, body), each(64, |i| 2 * i));
}

#[test]
fn bit_fields() {
    assert_eq!(left(32, "mul.lo.u32 %r2, %r8, 257; bfe.u32 %r1, %r2, 8, 3;"), each(32, |i| i & 7));
    let insert = "mov.u32 %r2, -1; bfi.b32 %r1, %r8, %r2, 4, 3;";
    assert_eq!(left(32, insert), each(32, |i| !0x70 | (i & 7) << 4));
    assert_eq!(left(32, "prmt.b32 %r1, %r8, -1, 1040;"), each(32, |i| i | 0x00FF_0000 | i << 24));
}

#[test]
fn branches_and_combined_comparisons() {
    let both = "setp.gt.u32 %p1, %r8, 3; setp.lt.and.u32 %p2|%p3, %r8, 9, %p1;\n\
                selp.u32 %r1, 1, 0, %p2; selp.u32 %r2, 2, 0, %p3; add.s32 %r1, %r1, %r2;";
    let expected = |i| match i {
        0..=3 => 0,
        4..=8 => 1,
        _ => 2,
    };
    assert_eq!(left(32, both), each(32, expected));
    let not = "setp.gt.u32 %p1, %r8, 3; setp.lt.or.u32 %p2, %r8, 2, !%p1; selp.u32 %r1, 1, 0, %p2;";
    assert_eq!(left(32, not), each(32, |i| u32::from(i <= 3)));
    let nested = "mov.u32 %r1, 0; setp.ge.u32 %p1, %r8, 16; @%p1 bra $HIGH;\n\
                  and.b32 %r2, %r8, 1; setp.eq.u32 %p2, %r2, 1; @%p2 bra $ODD;\n\
                  mov.u32 %r1, 10; bra.uni $END;\n$ODD: mov.u32 %r1, 20; bra.uni $END;\n\
                  $HIGH: mov.u32 %r1, 30;\n$END: add.s32 %r1, %r1, %r8;";
    let expected = |i| {
        i + if i >= 16 {
            30
        } else if i % 2 == 1 {
            20
        } else {
            10
        }
    };
    assert_eq!(left(32, nested), each(32, expected));
}

#[test]
fn blocks_along_three_axes() {
    let device = device();
    let body = "mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ctaid.y; mov.u32 %r3, %ctaid.z;\n\
                mov.u32 %r4, %nctaid.x; mov.u32 %r5, %nctaid.y; mad.lo.u32 %r3, %r3, %r5, %r2;\n\
                mad.lo.u32 %r3, %r3, %r4, %r1; mov.u32 %r1, %tid.z; mov.u32 %r2, %tid.y;\n\
                mad.lo.u32 %r1, %r1, 3, %r2; mov.u32 %r2, %tid.x; mad.lo.u32 %r1, %r1, 2, %r2;\n\
                mad.lo.u32 %r3, %r3, 24, %r1; mul.wide.u32 %d1, %r3, 4; add.s64 %d1, %a0, %d1;\n\
                st.global.u32 [%d1], %r3;";
    let kernel = device.kernel(&text(1, body), "k");
    let count = 2 * 3 * 4 * 24;
    let x = device.allocate(4 * count);
    let place = [(&raw const x).cast()];
    let code = cuda::driver::launch::cuLaunchKernel(
        kernel.0,
        2,
        3,
        4,
        2,
        3,
        4,
        0,
        0,
        place.as_ptr(),
        std::ptr::null(),
    );
    assert_eq!(code, 0);
    assert_eq!(device.download::<u32>(x, count), each(count as u32, |i| i));
}
