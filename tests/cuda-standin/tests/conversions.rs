//! Conversions, and memory of every width, bit by bit against Rust.

mod common;

use common::values::{F32, F64, INTEGERS, bits32, bits64, run};

#[test]
fn conversions_of_floats() {
    let more = [0.5_f32, 1.5, 2.5, -0.5, -1.5, 255.5, 2.147_483_6e9, -2.2e9, 4.3e9, 1e19, -1e19];
    let values: Vec<u32> = F32.into_iter().chain(more.map(f32::to_bits)).collect();
    type F = fn(f32) -> u64;
    let cases: [(&str, F); 11] = [
        ("cvt.f64.f32 %g1, A; mov.b64 C, %g1;", |a| bits64(a.into())),
        ("cvt.rni.s32.f32 %r1, A; cvt.u64.u32 C, %r1;", |a| {
            u64::from(a.round_ties_even() as i32 as u32)
        }),
        ("cvt.rzi.s32.f32 %r1, A; cvt.s64.s32 C, %r1;", |a| a as i32 as i64 as u64),
        ("cvt.rzi.u32.f32 %r1, A; cvt.u64.u32 C, %r1;", |a| u64::from(a as u32)),
        ("cvt.rmi.s64.f32 C, A;", |a| a.floor() as i64 as u64),
        ("cvt.rpi.u64.f32 C, A;", |a| a.ceil() as u64),
        ("cvt.rzi.u16.f32 %h1, A; cvt.u64.u16 C, %h1;", |a| u64::from(a as u16)),
        ("cvt.rzi.s8.f32 %r1, A; cvt.u64.u32 C, %r1;", |a| u64::from(a as i8 as i32 as u32)),
        ("cvt.rni.f32.f32 %f3, A; mov.b32 %r1, %f3; cvt.u64.u32 C, %r1;", |a| {
            u64::from(bits32(a.round_ties_even()))
        }),
        // Through a half and back, compared with a second way to round.
        (
            "cvt.rn.f16.f32 %h1, A; cvt.f32.f16 %f3, %h1; mov.b32 %r1, %f3; cvt.u64.u32 C, %r1;",
            |a| u64::from(bits32(through_half(a))),
        ),
        ("mov.b32 %r1, A; cvt.u64.u32 C, %r1;", |a| u64::from(a.to_bits())),
    ];
    for (instruction, expected) in cases {
        let found: Vec<u64> = run(["f32", "f32", "u64"], instruction, &values, &values);
        for (&a, found) in values.iter().zip(found) {
            let a = f32::from_bits(a);
            assert_eq!(found, expected(a), "{instruction} {a:e}");
        }
    }
}

/// The nearest half as a float, by adding and taking away a number whose steps are a half's.
fn through_half(x: f32) -> f32 {
    let size = x.abs();
    if size.is_nan() || size.is_infinite() {
        return x;
    }
    let exponent = ((size.to_bits() >> 23) as i32 - 127).clamp(-14, 127);
    let step = 2_f64.powi(exponent - 10);
    let nearest = (f64::from(size) / step).round_ties_even() * step;
    let nearest = if nearest > 65504.0 { f32::INFINITY } else { nearest as f32 };
    nearest.copysign(x)
}

#[test]
fn conversions_of_doubles_and_integers() {
    type F = fn(u64) -> u64;
    let values: Vec<u64> =
        F64.into_iter().chain(INTEGERS).chain([(1 << 53) + 1, !0 >> 11]).collect();
    let cases: [(&str, F); 11] = [
        ("mov.b64 %g1, A; cvt.rn.f32.f64 %f1, %g1; mov.b32 %r1, %f1; cvt.u64.u32 C, %r1;", |a| {
            u64::from(bits32(f64::from_bits(a) as f32))
        }),
        ("cvt.rn.f64.u64 %g1, A; mov.b64 C, %g1;", |a| (a as f64).to_bits()),
        ("cvt.rn.f64.s64 %g1, A; mov.b64 C, %g1;", |a| (a as i64 as f64).to_bits()),
        ("cvt.rn.f32.u64 %f1, A; mov.b32 %r1, %f1; cvt.u64.u32 C, %r1;", |a| {
            u64::from((a as f32).to_bits())
        }),
        (
            "cvt.u32.u64 %r1, A; cvt.rn.f32.s32 %f1, %r1; mov.b32 %r1, %f1; cvt.u64.u32 C, %r1;",
            |a| u64::from((a as i32 as f32).to_bits()),
        ),
        ("mov.b64 %g1, A; cvt.rzi.s64.f64 C, %g1;", |a| f64::from_bits(a) as i64 as u64),
        ("cvt.s64.s8 C, A;", |a| a as i8 as i64 as u64),
        ("cvt.u16.u64 %h1, A; cvt.s64.s16 C, %h1;", |a| a as i16 as i64 as u64),
        ("cvt.u32.u64 %r1, A; cvt.s32.s8 %r1, %r1; cvt.u64.u32 C, %r1;", |a| {
            u64::from(a as i8 as i32 as u32)
        }),
        ("cvt.u8.u64 %r1, A; cvt.u64.u32 C, %r1;", |a| u64::from(a as u8)),
        ("mov.b64 %g1, A; cvt.rz.f32.f64 %f1, %g1; mov.b32 %r1, %f1; cvt.u64.u32 C, %r1;", |a| {
            u64::from(bits32(toward_zero(f64::from_bits(a))))
        }),
    ];
    for (instruction, expected) in cases {
        let found: Vec<u64> = run(["u64"; 3], instruction, &values, &values);
        for (&a, found) in values.iter().zip(found) {
            assert_eq!(found, expected(a), "{instruction} {a:#x}");
        }
    }
}

fn toward_zero(x: f64) -> f32 {
    let nearest = x as f32;
    let beyond = f64::from(nearest).abs() > x.abs();
    if beyond { f32::from_bits(nearest.to_bits() - 1) } else { nearest }
}

#[test]
fn memory_of_every_width() {
    let values: Vec<u64> = (0..64).map(|x| x * 0x0123_4567_89AB_CDEF).collect();
    type F = fn(u64) -> u64;
    let cases: [(&str, F); 5] = [
        ("ld.global.s8 C, [%d8];", |a| a as i8 as i64 as u64),
        ("ld.global.u8 %r1, [%d8+1]; cvt.u64.u32 C, %r1;", |a| a >> 8 & 0xFF),
        ("ld.global.s16 %r1, [%d8+2]; cvt.u64.u32 C, %r1;", |a| {
            u64::from((a >> 16) as i16 as i32 as u32)
        }),
        ("ld.global.v2.u32 {%r1, %r2}, [%d8]; mov.b64 C, {%r2, %r1};", |a| a.rotate_left(32)),
        ("ld.v4.u16 {%h1, %h2, %h3, %h4}, [%d8]; mov.b64 C, {%h4, %h3, %h2, %h1};", |a| {
            a >> 48 | a >> 16 & 0xFFFF_0000 | a << 16 & 0xFFFF_0000_0000 | a << 48
        }),
    ];
    for (instruction, expected) in cases {
        // The address of `A` is computed last, so that it is at hand.
        let instruction = format!("mul.wide.u32 %d8, %r8, 8; add.s64 %d8, %a0, %d8; {instruction}");
        let found: Vec<u64> = run(["u64"; 3], &instruction, &values, &values);
        for (&a, found) in values.iter().zip(found) {
            assert_eq!(found, expected(a), "{instruction} {a:#x}");
        }
    }
}
