//! Kernels that the NVRTC made of kernels.cu, against Rust and under mutation.

mod common;

use common::{Device, KERNELS, device, text, trouble};
use cuda::driver::code::Code;
use cuda::driver::launch::cuOccupancyMaxActiveBlocksPerMultiprocessor;

/// Numbers of many sizes, some of them special.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let special = [0.0, -0.0, 1e-42, f32::INFINITY, f32::NAN, f32::MAX];
    let next = |index: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let fraction = (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5;
        if index % 97 == 96 { special[index / 97 % special.len()] } else { fraction * 4.0 }
    };
    (0..count).map(next).collect()
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Step {
    decay: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    lr: f32,
    eps: f32,
}

const STEP: Step =
    Step { decay: 0.999, beta1: 0.9, rest1: 0.1, beta2: 0.999, rest2: 0.001, lr: 0.01, eps: 1e-8 };

impl Step {
    fn bytes(&self) -> Vec<u8> {
        let Step { decay, beta1, rest1, beta2, rest2, lr, eps } = *self;
        [decay, beta1, rest1, beta2, rest2, lr, eps].iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn apply(&self, p: &mut f32, g: f32, m: &mut f32, v: &mut f32) {
        *p *= self.decay;
        *m = self.beta1 * *m + self.rest1 * g;
        *v = self.beta2 * *v + self.rest2 * (g * g);
        *p -= self.lr * (*m / (v.sqrt() + self.eps));
    }
}

fn same(found: &[f32], expected: &[f32]) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let both_nan = found.is_nan() && expected.is_nan();
        assert!(both_nan || found.to_bits() == expected.to_bits(), "{index}: {found} {expected}");
    }
}

/// The addresses p, g, m, v, and what launches `update` over them.
fn launch_update(
    device: &Device,
    source: &str,
    arrays: &[Vec<f32>; 4],
    grid: u32,
) -> ([u64; 4], i32) {
    let kernel = device.kernel(source, "update");
    let addresses = [0, 1, 2, 3].map(|array| device.upload(&arrays[array]));
    let count = arrays[0].len() as u64;
    let bytes = addresses.map(u64::to_le_bytes);
    let (count, step) = (count.to_le_bytes(), STEP.bytes());
    let parameters: [&[u8]; 6] = [&bytes[0], &bytes[1], &bytes[2], &bytes[3], &count, &step];
    (addresses, device.run(kernel, [grid, 256, 0], &parameters))
}

#[test]
fn update() {
    for count in [0, 1, 3, 4, 131, 4096, 10_007] {
        let device = device();
        let mut arrays = [1, 2, 3, 4].map(|seed| numbers(seed, count));
        arrays[3].iter_mut().for_each(|v| *v = v.abs());
        let (addresses, code) = launch_update(&device, KERNELS, &arrays, 3);
        assert_eq!(code, 0, "{}", trouble());
        let [p, g, m, v] = &mut arrays;
        for (((p, &g), m), v) in p.iter_mut().zip(&*g).zip(&mut *m).zip(&mut *v) {
            STEP.apply(p, g, m, v);
        }
        same(&device.download(addresses[0], count), p);
        same(&device.download(addresses[2], count), m);
        same(&device.download(addresses[3], count), v);
    }
}

#[test]
fn mutations_of_update() {
    let arrays = [1, 2, 3, 4].map(|seed| numbers(seed, 1024));
    let run = |from: &str, to: &str| {
        assert!(KERNELS.contains(from), "{from}");
        let device = device();
        launch_update(&device, &KERNELS.replacen(from, to, 1), &arrays, 1).1
    };
    let start = KERNELS.find("ld.global.cs.v4.f32").unwrap();
    let load = &KERNELS[start..][..KERNELS[start..].find("[%rd").unwrap() + 4];
    let (_, rest) = KERNELS.split_once(load).unwrap();
    let number = &rest[..rest.find(']').unwrap()];
    let moved = |by: u32| format!("{load}{number}+{by}]");
    let whole = format!("{load}{number}]");
    assert_eq!(run(&whole, &moved(0)), 0);
    assert_eq!(run(&whole, &moved(16)), Code::ILLEGAL_ADDRESS.0);
    assert_eq!(run(&whole, &moved(4)), Code::MISALIGNED_ADDRESS.0);
    let device = device();
    for (from, to) in [("sqrt.rn", "sqrt.approx"), ("mul.rn.f32", "mul.f32"), ("add.rn", "add.ftz")]
    {
        assert_eq!(device.load(&KERNELS.replacen(from, to, 1)), Err(Code::INVALID_PTX.0));
        assert!(trouble().starts_with("line "), "{}", trouble());
    }
}

/// What `sum_squares` computes, in its order.
fn sum_of_squares(chunk: &[f32]) -> f64 {
    let mut threads = [0_f64; 256];
    for (index, &x) in chunk.iter().enumerate() {
        threads[index % 256] += f64::from(x) * f64::from(x);
    }
    let mut warps = [0_f64; 8];
    for (warp, sum) in warps.iter_mut().enumerate() {
        let mut lanes = [0_f64; 32];
        lanes.copy_from_slice(&threads[32 * warp..][..32]);
        for distance in [16, 8, 4, 2, 1] {
            let old = lanes;
            for lane in 0..32 {
                lanes[lane] += old[if lane + distance < 32 { lane + distance } else { lane }];
            }
        }
        *sum = lanes[0];
    }
    for distance in [4, 2, 1] {
        let old = warps;
        for lane in 0..8 {
            warps[lane] += old[lane ^ distance];
        }
    }
    warps[0]
}

fn launch_sum(device: &Device, source: &str, values: &[f32]) -> (Vec<f64>, u32, i32) {
    let kernel = device.kernel(source, "sum_squares");
    let blocks = values.len().div_ceil(1000);
    let (x, bad) = (device.upload(values), device.upload(&[0_u32]));
    let sums = device.upload(&vec![0_f64; blocks]);
    let [x, count, sums_address, bad_address] =
        [x, values.len() as u64, sums, bad].map(u64::to_le_bytes);
    let chunk = 1000_u32.to_le_bytes();
    let parameters: [&[u8]; 5] = [&x, &count, &chunk, &sums_address, &bad_address];
    let code = device.run(kernel, [blocks as u32, 256, 0], &parameters);
    if code != 0 {
        return (Vec::new(), 0, code);
    }
    (device.download(sums, blocks), device.download(bad, 1)[0], code)
}

#[test]
fn sums() {
    let mut values = numbers(9, 9_500);
    for with_special in [true, false] {
        if !with_special {
            values
                .iter_mut()
                .for_each(|x| *x = if x.is_finite() && x.abs() < 9.0 { *x } else { 1.0 });
        }
        let device = device();
        let (sums, bad, code) = launch_sum(&device, KERNELS, &values);
        assert_eq!(code, 0, "{}", trouble());
        assert_eq!(bad, u32::from(with_special));
        for (chunk, sum) in values.chunks(1000).zip(sums) {
            let expected = sum_of_squares(chunk);
            assert!(expected.is_nan() && sum.is_nan() || expected.to_bits() == sum.to_bits());
        }
    }
    let device = device();
    let dropped = KERNELS.replacen("bar.red.or.pred \t%p2, 0, %p1;", "mov.pred %p2, %p1;", 1);
    assert_ne!(dropped, KERNELS);
    assert_eq!(launch_sum(&device, &dropped, &values).2, Code::LAUNCH_FAILED.0);
    assert!(trouble().contains("shared race"), "{}", trouble());
}

fn launch_tree(device: &Device, source: &str, values: &[f32]) -> Result<Vec<f32>, i32> {
    let kernel = device.kernel(source, "tree_max");
    let blocks = values.len() / 128;
    let (x, result) = (device.upload(values), device.allocate(4 * blocks));
    let parameters: [&[u8]; 2] = [&x.to_le_bytes(), &result.to_le_bytes()];
    match device.run(kernel, [blocks as u32, 128, 0], &parameters) {
        0 => Ok(device.download(result, blocks)),
        code => Err(code),
    }
}

#[test]
fn every_barrier_of_a_tree_is_needed() {
    let values = numbers(5, 512);
    let found = launch_tree(&device(), KERNELS, &values).unwrap();
    let expected: Vec<f32> = values
        .chunks(128)
        .map(|chunk| chunk.iter().fold(f32::NAN, |a, b| a.max(b.abs())))
        .collect();
    same(&found, &expected);
    let start = KERNELS.find(".entry tree_max").unwrap();
    let end = start + KERNELS[start..].find(".entry mixed").unwrap();
    let barriers: Vec<_> = KERNELS[start..end].match_indices("bar.sync").collect();
    // The last of eight only comes before the end of thread 0, which reads its own.
    for &(at, barrier) in &barriers[..7] {
        let at = start + at;
        let line_end = at + KERNELS[at..].find('\n').unwrap();
        assert!(KERNELS[at..line_end].starts_with(barrier));
        let source = format!("{}{}", &KERNELS[..at], &KERNELS[line_end..]);
        let device = device();
        assert_eq!(launch_tree(&device, &source, &values), Err(Code::LAUNCH_FAILED.0));
        assert!(trouble().contains("shared race"), "{}", trouble());
    }
    assert_eq!(barriers.len(), 8);
}

#[test]
fn halves_tables_and_votes() {
    let device = device();
    let count = 100_u32;
    let halves: Vec<u16> = (0..count).map(|i| (i * 653) as u16).collect();
    let kernel = device.kernel(KERNELS, "mixed");
    let half = device.upload(&halves);
    let out = device.upload(&vec![0_u16; count as usize]);
    let quotients = device.upload(&vec![0_i32; count as usize]);
    let votes = device.upload(&[0_u32; 4]);
    let addresses = [half, out, quotients, votes].map(u64::to_le_bytes);
    let length = count.to_le_bytes();
    let parameters: [&[u8]; 5] =
        [&addresses[0], &addresses[1], &addresses[2], &addresses[3], &length];
    assert_eq!(device.run(kernel, [2, 64, 0], &parameters), 0, "{}", trouble());
    let found: Vec<i32> = device.download(quotients, count as usize);
    for i in (0..count).filter(|&i| i != 1) {
        let divisor = (i % 17) as i32 - 8 + i32::from(i % 17 == 8);
        let quotient = (i.wrapping_mul(2_654_435_761) as i32).wrapping_div(divisor);
        assert_eq!(found[i as usize], quotient + i.count_ones() as i32, "{i}");
    }
    assert_eq!(found[1], ((0xD251_1F53_u64 * 77) >> 32) as i32 + 200);
    let found: Vec<u32> = device.download(votes, 4);
    for (word, &vote) in found.iter().enumerate() {
        let lanes = (32 * word..).take(32);
        let set = lanes.filter(|&i| halves.get(i).is_some_and(|half| half & 0x8000 != 0));
        assert_eq!(vote, set.map(|i| 1 << (i % 32)).sum::<u32>());
    }
    // A power of two only moves the exponent where neither end is subnormal.
    let found: Vec<u16> = device.download(out, count as usize);
    for (i, (&half, &out)) in halves.iter().zip(&found).enumerate() {
        let exponent = half >> 10 & 31;
        if (4..31).contains(&exponent) {
            assert_eq!(out, half - ((i as u16 & 3) << 10), "{half:#x}");
        }
    }
}

#[test]
fn dynamic_shared_memory() {
    let device = device();
    let kernel = device.kernel(KERNELS, "reverse");
    let values: Vec<u32> = (0..192).collect();
    let x = device.upload(&values);
    assert_eq!(device.run(kernel, [3, 64, 256], &[&x.to_le_bytes()]), 0, "{}", trouble());
    let expected: Vec<u32> =
        values.chunks(64).flat_map(|chunk| chunk.iter().rev().copied()).collect();
    assert_eq!(device.download::<u32>(x, 192), expected);
    let mut blocks = 0;
    let found =
        cuOccupancyMaxActiveBlocksPerMultiprocessor((&mut blocks).into(), kernel.0, 64, 256);
    assert_eq!((found, blocks), (0, 32));
    assert_eq!(device.run(kernel, [3, 64, 252], &[&x.to_le_bytes()]), Code::ILLEGAL_ADDRESS.0);
}

#[test]
fn lanes_that_part_meet_again() {
    // Each thread counts down from its number; all must come to the shuffle.
    let body = "mov.u32 %r1, %tid.x; mov.u32 %r2, 0;\n$L: setp.eq.u32 %p1, %r1, 0; @%p1 bra $E;\n\
                add.s32 %r2, %r2, %r1; sub.s32 %r1, %r1, 1; bra.uni $L;\n\
                $E: shfl.sync.idx.b32 %r3|%p2, %r2, 31, 31, -1;\n\
                mov.u32 %r1, %tid.x; mul.wide.u32 %d1, %r1, 4; add.s64 %d1, %a0, %d1;\n\
                sub.s32 %r3, %r3, %r2; st.global.u32 [%d1], %r3;";
    let device = device();
    let kernel = device.kernel(&text(1, body), "k");
    let x = device.allocate(128);
    assert_eq!(device.run(kernel, [1, 32, 0], &[&x.to_le_bytes()]), 0, "{}", trouble());
    let expected: Vec<u32> = (0..32).map(|i| 31 * 32 / 2 - i * (i + 1) / 2).collect();
    assert_eq!(device.download::<u32>(x, 32), expected);
}
