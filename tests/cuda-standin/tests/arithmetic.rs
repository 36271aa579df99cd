//! Arithmetic bit by bit against Rust, on values at the edges.

mod common;

use common::values::{F32, F64, INTEGERS, bits32, bits64, pairs, run};
use std::cmp::Ordering::{self, Equal, Greater, Less};

fn smaller(a: f64, b: f64) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        // Minus zero is the smaller one.
        _ if a == b => {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        }
        _ => {
            if a < b {
                a
            } else {
                b
            }
        }
    }
}

#[test]
fn floats() {
    type F = fn(f32, f32) -> f32;
    let (a, b) = pairs(&F32);
    let cases: [(&str, F); 10] = [
        ("add.rn.f32 C, A, B;", |a, b| a + b),
        ("sub.rn.f32 C, A, B;", |a, b| a - b),
        ("mul.rn.f32 C, A, B;", |a, b| a * b),
        ("div.rn.f32 C, A, B;", |a, b| a / b),
        ("sqrt.rn.f32 C, A;", |a, _| a.sqrt()),
        ("rcp.rn.f32 C, A;", |a, _| 1.0 / a),
        ("abs.f32 C, A;", |a, _| a.abs()),
        ("neg.f32 C, A;", |a, _| -a),
        ("min.f32 C, A, B;", |a, b| smaller(a.into(), b.into()) as f32),
        ("max.f32 C, A, B;", |a, b| -smaller((-a).into(), (-b).into()) as f32),
    ];
    for (instruction, expected) in cases {
        let found: Vec<u32> = run(["f32"; 3], instruction, &a, &b);
        for ((&a, &b), found) in a.iter().zip(&b).zip(found) {
            let expected = bits32(expected(f32::from_bits(a), f32::from_bits(b)));
            assert_eq!(found, expected, "{instruction} {a:#x} {b:#x}");
        }
    }
}

#[test]
fn doubles() {
    type F = fn(f64, f64) -> f64;
    let (a, b) = pairs(&F64);
    let cases: [(&str, F); 9] = [
        ("add.rn.f64 C, A, B;", |a, b| a + b),
        ("sub.rn.f64 C, A, B;", |a, b| a - b),
        ("mul.rn.f64 C, A, B;", |a, b| a * b),
        ("div.rn.f64 C, A, B;", |a, b| a / b),
        ("sqrt.rn.f64 C, A;", |a, _| a.sqrt()),
        ("rcp.rn.f64 C, A;", |a, _| 1.0 / a),
        ("neg.f64 C, A;", |a, _| -a),
        ("min.f64 C, A, B;", smaller),
        ("max.f64 C, A, B;", |a, b| -smaller(-a, -b)),
    ];
    for (instruction, expected) in cases {
        let found: Vec<u64> = run(["f64"; 3], instruction, &a, &b);
        for ((&a, &b), found) in a.iter().zip(&b).zip(found) {
            let expected = bits64(expected(f64::from_bits(a), f64::from_bits(b)));
            assert_eq!(found, expected, "{instruction} {a:#x} {b:#x}");
        }
    }
}

#[test]
fn comparisons() {
    type F = fn(Option<Ordering>) -> bool;
    let (a, b) = pairs(&F32);
    let cases: [(&str, F); 14] = [
        ("eq", |order| order == Some(Equal)),
        ("ne", |order| matches!(order, Some(Less | Greater))),
        ("lt", |order| order == Some(Less)),
        ("le", |order| matches!(order, Some(Less | Equal))),
        ("gt", |order| order == Some(Greater)),
        ("ge", |order| matches!(order, Some(Greater | Equal))),
        ("equ", |order| matches!(order, None | Some(Equal))),
        ("neu", |order| order != Some(Equal)),
        ("ltu", |order| matches!(order, None | Some(Less))),
        ("leu", |order| order != Some(Greater)),
        ("gtu", |order| matches!(order, None | Some(Greater))),
        ("geu", |order| order != Some(Less)),
        ("num", |order| order.is_some()),
        ("nan", |order| order.is_none()),
    ];
    for (name, expected) in cases {
        let instruction = format!("setp.{name}.f32 %p1, A, B; selp.u32 C, 1, 0, %p1;");
        let found: Vec<u32> = run(["f32", "f32", "u32"], &instruction, &a, &b);
        for ((&a, &b), found) in a.iter().zip(&b).zip(found) {
            let order = f32::from_bits(a).partial_cmp(&f32::from_bits(b));
            assert_eq!(found, u32::from(expected(order)), "{name} {a:#x} {b:#x}");
        }
    }
}

#[test]
fn integers_of_32_bits() {
    type F = fn(u32, u32) -> u32;
    let values: Vec<u32> = INTEGERS.iter().map(|&x| x as u32).collect();
    let (a, b) = pairs(&values);
    let cases: [(&str, F); 27] = [
        ("add.s32 C, A, B;", u32::wrapping_add),
        ("sub.s32 C, A, B;", u32::wrapping_sub),
        ("mul.lo.s32 C, A, B;", u32::wrapping_mul),
        ("mul.hi.u32 C, A, B;", |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32),
        ("mul.hi.s32 C, A, B;", |a, b| ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32),
        ("mad.lo.s32 C, A, B, 5;", |a, b| a.wrapping_mul(b).wrapping_add(5)),
        ("div.u32 C, A, B;", |a, b| a.checked_div(b).unwrap_or(u32::MAX)),
        ("rem.u32 C, A, B;", |a, b| a.checked_rem(b).unwrap_or(a)),
        ("max.s32 B, B, 1; div.s32 C, A, B;", |a, b| (a as i32 / (b as i32).max(1)) as u32),
        ("max.s32 B, B, 1; rem.s32 C, A, B;", |a, b| (a as i32 % (b as i32).max(1)) as u32),
        ("min.s32 C, A, B;", |a, b| (a as i32).min(b as i32) as u32),
        ("max.u32 C, A, B;", u32::max),
        ("and.b32 C, A, B;", |a, b| a & b),
        ("or.b32 C, A, B;", |a, b| a | b),
        ("xor.b32 C, A, B;", |a, b| a ^ b),
        ("not.b32 C, A;", |a, _| !a),
        ("neg.s32 C, A;", |a, _| a.wrapping_neg()),
        ("abs.s32 C, A;", |a, _| (a as i32).wrapping_abs() as u32),
        ("shl.b32 C, A, B;", |a, b| a.checked_shl(b).unwrap_or(0)),
        ("shr.u32 C, A, B;", |a, b| a.checked_shr(b).unwrap_or(0)),
        ("shr.s32 C, A, B;", |a, b| (a as i32 >> b.min(31)) as u32),
        ("popc.b32 C, A;", |a, _| a.count_ones()),
        ("clz.b32 C, A;", |a, _| a.leading_zeros()),
        ("brev.b32 C, A;", |a, _| a.reverse_bits()),
        ("setp.lt.s32 %p1|%p2, A, B; selp.b32 C, A, B, %p2;", |a, b| {
            if (a as i32) < (b as i32) { b } else { a }
        }),
        ("setp.lo.u32 %p1, A, B; not.pred %p1, %p1; selp.b32 C, A, B, %p1;", |a, b| {
            if a < b { b } else { a }
        }),
        ("{ .reg .b16 low, high; mov.b32 {low, high}, A; mov.b32 C, {high, low}; }", |a, _| {
            a.rotate_left(16)
        }),
    ];
    for (instruction, expected) in cases {
        let found: Vec<u32> = run(["u32"; 3], instruction, &a, &b);
        for ((&a, &b), found) in a.iter().zip(&b).zip(found) {
            assert_eq!(found, expected(a, b), "{instruction} {a:#x} {b:#x}");
        }
    }
}

#[test]
fn integers_of_64_bits() {
    type F = fn(u64, u64) -> u64;
    let (a, b) = pairs(&INTEGERS);
    let cases: [(&str, F); 9] = [
        ("add.s64 C, A, B;", u64::wrapping_add),
        ("mul.lo.s64 C, A, B;", u64::wrapping_mul),
        ("mul.hi.u64 C, A, B;", |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64),
        ("mul.hi.s64 C, A, B;", |a, b| {
            ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64
        }),
        ("rem.u64 C, A, B;", |a, b| a.checked_rem(b).unwrap_or(a)),
        ("min.s64 C, A, B;", |a, b| (a as i64).min(b as i64) as u64),
        ("cvt.u32.u64 %r1, B; shl.b64 C, A, %r1;", |a, b| a.checked_shl(b as u32).unwrap_or(0)),
        ("cvt.u32.u64 %r1, B; shr.s64 C, A, %r1;", |a, b| (a as i64 >> (b as u32).min(63)) as u64),
        ("cvt.u32.u64 %r1, A; cvt.u32.u64 %r2, B; mul.wide.s32 C, %r1, %r2;", |a, b| {
            (i64::from(a as i32) * i64::from(b as i32)) as u64
        }),
    ];
    for (instruction, expected) in cases {
        let found: Vec<u64> = run(["u64"; 3], instruction, &a, &b);
        for ((&a, &b), found) in a.iter().zip(&b).zip(found) {
            assert_eq!(found, expected(a, b), "{instruction} {a:#x} {b:#x}");
        }
    }
}
