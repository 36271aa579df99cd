//! Fewer bytes for parameters and moments: the same bits everywhere and after resume, no bias, and
//! the memory that is promised. (`model.rs` holds each mode to a slow model; `split_master.rs` holds
//! split masters to whole ones.)

use crate::common::LONG;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, config, isas};
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::state::state;
use adamw::ffi::*;
use std::ops::Range;

/// A type and what a group can say of it.
#[derive(Clone, Copy, Debug)]
struct Mode {
    param: Dtype,
    precision: adamw_precision,
    moments: adamw_moments,
    amsgrad: u32,
    /// Bytes an element of state, without scales, and without moments of 4 bits.
    bytes: u64,
}

const fn mode(
    param: Dtype,
    precision: adamw_precision,
    moments: adamw_moments,
    amsgrad: u32,
    bytes: u64,
) -> Mode {
    Mode { param, precision, moments, amsgrad, bytes }
}

/// With multi_precision.
const MODES: [Mode; 17] = [
    mode(Dtype::Bf16, ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_F32, 0, 12),
    mode(Dtype::Bf16, ADAMW_PRECISION_SPLIT, ADAMW_MOMENTS_BF16, 0, 6),
    mode(Dtype::Bf16, ADAMW_PRECISION_SPLIT, ADAMW_MOMENTS_8BIT, 0, 4),
    mode(Dtype::Bf16, ADAMW_PRECISION_STOCHASTIC, ADAMW_MOMENTS_F32, 0, 8),
    mode(Dtype::Bf16, ADAMW_PRECISION_STOCHASTIC, ADAMW_MOMENTS_BF16, 1, 6),
    mode(Dtype::Bf16, ADAMW_PRECISION_STOCHASTIC, ADAMW_MOMENTS_8BIT, 1, 3),
    mode(Dtype::Bf16, ADAMW_PRECISION_KAHAN, ADAMW_MOMENTS_F32, 0, 10),
    mode(Dtype::Bf16, ADAMW_PRECISION_KAHAN, ADAMW_MOMENTS_8BIT, 0, 4),
    mode(Dtype::F16, ADAMW_PRECISION_KAHAN, ADAMW_MOMENTS_BF16, 0, 6),
    mode(Dtype::F16, ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_8BIT, 0, 6),
    mode(Dtype::F32, ADAMW_PRECISION_KAHAN, ADAMW_MOMENTS_BF16, 0, 4),
    mode(Dtype::F32, ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_BF16, 1, 6),
    mode(Dtype::F32, ADAMW_PRECISION_SPLIT, ADAMW_MOMENTS_8BIT, 1, 3),
    mode(Dtype::F64, ADAMW_PRECISION_STOCHASTIC, ADAMW_MOMENTS_8BIT, 0, 16),
    mode(Dtype::F32, ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_4BIT, 0, 0),
    mode(Dtype::Bf16, ADAMW_PRECISION_STOCHASTIC, ADAMW_MOMENTS_4BIT, 0, 0),
    mode(Dtype::F16, ADAMW_PRECISION_KAHAN, ADAMW_MOMENTS_4BIT, 0, 2),
];

impl Mode {
    fn config(self) -> adamw_config {
        adamw_config {
            lr: 0.01,
            multi_precision: 1,
            precision: self.precision,
            moments: self.moments,
            amsgrad: self.amsgrad,
            seed: 5,
            ..config()
        }
    }
}

#[track_caller]
fn assert_same(seen: &[(&str, Array)], expected: &[(&str, Array)], context: impl Fn() -> String) {
    assert_eq!(seen.len(), expected.len());
    for ((part, seen), (_, expected)) in seen.iter().zip(expected) {
        assert_eq!(seen.first_difference(expected), None, "{part}, {}", context());
    }
}

/// Three steps of a long parameter between short ones, ordinary or extreme.
fn run(mode: Mode, isa: adamw_isa, num_threads: u32, extreme: bool) -> Vec<(&'static str, Array)> {
    let handle = Handle::new(&adamw_config { isa, num_threads, ..mode.config() });
    let mut random = Random::new(9);
    let mut array = |dtype, n| match extreme {
        true => Array::random(dtype, n, &mut random),
        false => Array::ordinary(dtype, n, &mut random),
    };
    let params = [5003, LONG, 4097].map(|n| array(mode.param, n));
    let numbers = [0, 1, 2].map(|i| handle.add_array(["a", "w", "z"][i], &params[i]));
    for _ in 0..3 {
        let grads = params.each_ref().map(|param| array(mode.param, param.len()));
        for (number, grad) in numbers.into_iter().zip(&grads) {
            handle.set_grad(number, grad);
        }
        handle.step();
    }
    let mut all = Vec::new();
    for (i, param) in params.into_iter().enumerate() {
        all.extend(state(&handle, numbers[i], ["a", "w", "z"][i]));
        all.push(("param", param));
    }
    all
}

#[test]
fn every_isa_and_number_of_threads_has_the_same_bits() {
    for mode in MODES {
        for extreme in [false, true] {
            let expected = run(mode, ADAMW_ISA_PORTABLE, 1, extreme);
            for isa in isas() {
                for threads in [1, 2, 7] {
                    let seen = run(mode, isa, threads, extreme);
                    let context = || format!("{mode:?}, isa {isa}, {threads} threads, {extreme}");
                    assert_same(&seen, &expected, context);
                }
            }
        }
    }
}

/// Some of the elements of a parameter, on a handle of its own, for three steps.
fn shard(mode: Mode, start: &Array, grads: &[Array], of: Range<usize>) -> Vec<Array> {
    let handle = Handle::new(&mode.config());
    let param = start.copy(of.clone(), 0);
    let number = handle.add(&Param { first_element: of.start as u64, ..Param::new("w", &param) });
    for grad in grads {
        let grad = grad.copy(of.clone(), 0);
        handle.set_grad(number, &grad);
        handle.step();
    }
    let mut all: Vec<Array> =
        state(&handle, number, "w").into_iter().map(|(_, copy)| copy).collect();
    all.push(param);
    all
}

#[test]
fn shards_that_say_where_they_start_have_the_bits_of_the_whole() {
    const N: usize = 40_000;
    for mode in MODES {
        let mut random = Random::new(4);
        let start = Array::ordinary(mode.param, N, &mut random);
        let grads = [(); 3].map(|()| Array::ordinary(mode.param, N, &mut random));
        let whole = shard(mode, &start, &grads, 0..N);
        // Blocks of codes must not be cut; random bits come in fours, which may be.
        let cut = match mode.moments {
            ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT => 256 * 61,
            _ => 15_001,
        };
        let shards = [0..cut, cut..N].map(|of| shard(mode, &start, &grads, of));
        for (i, whole) in whole.iter().enumerate() {
            let bits =
                shards.iter().flat_map(|shard| (0..shard[i].len()).map(|j| shard[i].bits(j)));
            assert!(bits.eq((0..whole.len()).map(|j| whole.bits(j))), "{mode:?}, tensor {i}");
        }
    }
}

#[test]
fn a_resumed_state_goes_on_with_the_same_bits() {
    const N: usize = 5000;
    for mode in MODES {
        let mut random = Random::new(8);
        let param = Array::ordinary(mode.param, N, &mut random);
        let grads = [(); 6].map(|()| Array::ordinary(mode.param, N, &mut random));
        let handles = [Handle::new(&mode.config()), Handle::new(&mode.config())];
        let number = handles[0].add_array("w", &param);
        for grad in &grads[..3] {
            handles[0].set_grad(number, grad);
            handles[0].step();
        }
        // The second handle has the state as host memory: all that there is must be given.
        let resumed = param.duplicate();
        let kept = state(&handles[0], number, "w");
        let part = |name| kept.iter().find(|(part, _)| *part == name).map(|(_, array)| array);
        let second = handles[1].add(&Param {
            master: part("master"),
            remainder: part("remainder"),
            exp_avg: part("exp_avg"),
            exp_avg_sq: part("exp_avg_sq"),
            max_exp_avg_sq: part("max_exp_avg_sq"),
            scales: ["exp_avg_scale", "exp_avg_sq_scale", "max_exp_avg_sq_scale"].map(part),
            step: 3,
            ..Param::new("w", &resumed)
        });
        for grad in &grads[3..] {
            for (handle, number) in handles.iter().zip([number, second]) {
                handle.set_grad(number, grad);
                handle.step();
            }
        }
        assert_eq!(resumed.first_difference(&param), None, "{mode:?}");
        let [first, second] = [(0, number), (1, second)].map(|(i, n)| state(&handles[i], n, "w"));
        assert_same(&first, &second, || format!("{mode:?}"));
    }
}

#[test]
fn the_seed_the_name_and_the_step_each_round_another_way() {
    let run = |seed, name: &str, steps| {
        let mode = MODES[3];
        let handle = Handle::new(&adamw_config { seed, lr: 1e-6, ..mode.config() });
        let param = Array::of(Dtype::Bf16, &[1.0; 3000]);
        let grad = Array::of(Dtype::Bf16, &[0.25; 3000]);
        let number = handle.add_array(name, &param);
        handle.set_grad(number, &grad);
        (0..steps).for_each(|_| handle.step());
        param
    };
    let first = run(1, "w", 200);
    assert_eq!(run(1, "w", 200).first_difference(&first), None);
    for other in [run(2, "w", 200), run(1, "v", 200), run(1, "w", 201)] {
        assert!(other.first_difference(&first).is_some());
    }
}

#[test]
fn steps_too_small_for_bf16_are_taken_on_average() {
    // Each step takes 1e-5 of the parameter away, a 400th of what bf16 can tell from 1.
    const N: usize = 1 << 16;
    const STEPS: i32 = 200;
    let expected = (1.0f64 - 1e-5).powi(STEPS);
    let mean_after = |precision| {
        let config = adamw_config {
            lr: 1e-3,
            weight_decay: 1e-2,
            precision,
            multi_precision: 0,
            ..MODES[0].config()
        };
        let handle = Handle::new(&config);
        let param = Array::of(Dtype::Bf16, &[1.0; N]);
        let grad = Array::zeros(Dtype::Bf16, N);
        let number = handle.add_array("w", &param);
        handle.set_grad(number, &grad);
        (0..STEPS).for_each(|_| handle.step());
        param.values().iter().sum::<f64>() / N as f64
    };
    assert_eq!(mean_after(ADAMW_PRECISION_DEFAULT), 1.0);
    // An element goes down by a gap of 2^-8 with a chance of p = 1e-5 / 2^-8 a step: the mean of N
    // of them has a standard deviation of sqrt(STEPS p (1 - p) / N) gaps. Seldom is it six of those.
    let gap = 1.0 / 256.0;
    let chance = 1e-5 / gap;
    let deviation = (f64::from(STEPS) * chance * (1.0 - chance) / N as f64).sqrt() * gap;
    let mean = mean_after(ADAMW_PRECISION_STOCHASTIC);
    assert!((mean - expected).abs() < 6.0 * deviation, "{mean}, expected {expected}");
}

#[test]
fn a_compensated_parameter_follows_steps_that_rounding_would_lose() {
    for param_dtype in [Dtype::Bf16, Dtype::F16] {
        let config = adamw_config { precision: ADAMW_PRECISION_KAHAN, lr: 1e-4, ..config() };
        let handle = Handle::new(&config);
        let param = Array::of(param_dtype, &[1.0; 64]);
        let grad = Array::of(param_dtype, &[0.5; 64]);
        let number = handle.add_array("w", &param);
        handle.set_grad(number, &grad);
        (0..1000).for_each(|_| handle.step());
        // Steps of 1e-4, a 20th of what bf16 would see, and decay of a hundredth of that.
        let expected = 1.0 - 1000.0 * 1.0095e-4;
        let remainder = Array::zeros(param_dtype, 64);
        handle.get_state("state.w.remainder", &remainder).unwrap();
        let whole = param.get(0) + remainder.get(0);
        // A step loses half of the last place of a remainder of up to 2^-9 at most: 2^-18 of bf16.
        assert!((whole - expected).abs() < 1000.0 / 262_144.0, "{param_dtype:?}: {whole}");
    }
}

#[test]
fn gradients_of_zero_for_ten_thousand_steps_leave_finite_parameters() {
    for mode in MODES {
        let handle = Handle::new(&adamw_config { weight_decay: 0.0, eps: 0.0, ..mode.config() });
        let mut random = Random::new(6);
        let param = Array::ordinary(mode.param, 4500, &mut random);
        let grad = Array::ordinary(mode.param, 4500, &mut random);
        let number = handle.add_array("w", &param);
        handle.set_grad(number, &grad);
        handle.step();
        let zero = Array::zeros(mode.param, 4500);
        handle.set_grad(number, &zero);
        for _ in 0..10_000 {
            handle.step();
        }
        // One step moves an element by 0.01, its momentum by ten such steps at the most.
        let moved = param.values().iter().all(|value| value.abs() < 1.3);
        assert!(moved, "{mode:?}");
        // And then a gradient again: what divides it has not been forgotten.
        handle.set_grad(number, &grad);
        handle.step();
        assert!(param.values().iter().all(|value| value.is_finite()), "{mode:?}");
    }
}

#[test]
fn moments_are_0_in_the_end_where_gradients_stay_0() {
    for mode in MODES {
        let (beta1, beta2) = if mode.param == Dtype::F64 { (0.1, 0.2) } else { (0.8, 0.7) };
        let handle = Handle::new(&adamw_config { beta1, beta2, ..mode.config() });
        let mut random = Random::new(6);
        let param = Array::ordinary(mode.param, 4500, &mut random);
        let grad = Array::ordinary(mode.param, 4500, &mut random);
        let number = handle.add_array("w", &param);
        handle.set_grad(number, &grad);
        handle.step();
        let zero = Array::zeros(mode.param, 4500);
        handle.set_grad(number, &zero);
        for _ in 1..576 {
            handle.step();
        }
        for (part, array) in state(&handle, number, "w") {
            let falls = part.starts_with("exp_avg") && !part.ends_with("scale");
            let is_zero = |i| array.bits(i) == 0;
            assert!(!falls || (0..array.len()).all(is_zero), "{part}, {mode:?}");
        }
    }
}

#[test]
fn state_takes_the_memory_that_is_planned_and_documented() {
    const N: u64 = 5001;
    for mode in MODES {
        let handle = Handle::new(&mode.config());
        let plan = handle.memory_plan(0, mode.param.code(), N).unwrap();
        let param = Array::zeros(mode.param, N as usize);
        let number = handle.add_array("w", &param);
        let kept = state(&handle, number, "w");
        let bytes = |parts: &[&str]| -> u64 {
            let of = kept.iter().filter(|(part, _)| parts.contains(part));
            of.map(|(_, array)| (array.len() * array.dtype().bytes()) as u64).sum()
        };
        assert_eq!(plan.master, bytes(&["master"]));
        assert_eq!(plan.remainder, bytes(&["remainder"]));
        assert_eq!(plan.exp_avg, bytes(&["exp_avg", "exp_avg_scale"]));
        assert_eq!(plan.exp_avg_sq, bytes(&["exp_avg_sq", "exp_avg_sq_scale"]));
        assert_eq!(plan.max_exp_avg_sq, bytes(&["max_exp_avg_sq", "max_exp_avg_sq_scale"]));
        let n_moments = 2 + u64::from(mode.amsgrad);
        let of_blocks = match mode.moments {
            _ if mode.param == Dtype::F64 => 0,
            ADAMW_MOMENTS_8BIT => n_moments * 4 * N.div_ceil(256),
            ADAMW_MOMENTS_4BIT => n_moments * 68 * N.div_ceil(128),
            _ => 0,
        };
        assert_eq!(plan.total, mode.bytes * N + of_blocks, "{mode:?}");
    }
    let small = Handle::new(&MODES[2].config()).memory_plan(0, ADAMW_DTYPE_BF16, 4095).unwrap();
    assert_eq!(small.exp_avg, 4 * 4095, "small tensors keep f32 moments");
}

#[test]
fn what_cannot_be_done_is_refused_with_a_way_out() {
    let half = Array::of(Dtype::F16, &[1.0]);
    let wide = Array::zeros(Dtype::F32, 4096);
    let [scale, short] = [16, 15].map(|n| Array::zeros(Dtype::F32, n));
    let codes = Array::zeros(Dtype::U8, 4096);
    let stochastic = adamw_config { precision: ADAMW_PRECISION_STOCHASTIC, ..config() };
    let coded = adamw_config { moments: ADAMW_MOMENTS_8BIT, ..config() };
    let nibbles = adamw_config { moments: ADAMW_MOMENTS_4BIT, ..config() };
    let cases = [
        (
            stochastic,
            Param::new("h", &half),
            Status::Unsupported,
            "param \"h\" is f16, which is not rounded stochastically: multi_precision gives it an \
             f32 master, ADAMW_PRECISION_KAHAN a remainder",
        ),
        (
            config(),
            Param { scales: [Some(&scale), None, None], ..Param::new("w", &wide) },
            Status::InvalidArgument,
            "param \"w\": exp_avg_scale was given, but only 8-bit and 4-bit moments have one: leave it NULL",
        ),
        (
            coded,
            Param { scales: [None, Some(&short), None], ..Param::new("w", &wide) },
            Status::InvalidArgument,
            "param \"w\": exp_avg_sq_scale has 15 elements, expected 16, for the blocks of codes of param",
        ),
        (
            nibbles,
            Param { exp_avg: Some(&codes), ..Param::new("w", &wide) },
            Status::InvalidArgument,
            "param \"w\": exp_avg has 4096 elements, expected 2048, for the blocks of codes of param",
        ),
        (
            adamw_config { amsgrad: 1, ..nibbles },
            Param::new("w", &wide),
            Status::Unsupported,
            "param \"w\": 4-bit moments are not for amsgrad, which would keep the largest of what was \
             rounded up: ADAMW_MOMENTS_8BIT are",
        ),
        (
            coded,
            Param { exp_avg: Some(&scale), ..Param::new("w", &wide) },
            Status::InvalidArgument,
            "param \"w\": exp_avg is f32, expected u8",
        ),
        (
            coded,
            Param { exp_avg: Some(&codes), step: 1, ..Param::new("w", &wide) },
            Status::InvalidArgument,
            "param \"w\": step is 1, but exp_avg_sq is not given: steps taken need their state",
        ),
    ];
    for (config, param, status, text) in cases {
        let failure = Handle::new(&config).try_add(&param).unwrap_err();
        assert_eq!((failure.status, &*failure.text), (status, text));
    }
    let values = [(4, "precision"), (4, "moments")];
    for (value, name) in values {
        let mut config = config();
        *(if name == "moments" { &mut config.moments } else { &mut config.precision }) = value;
        let failure = Handle::try_new(&config).map(|_| ()).unwrap_err();
        assert_eq!(
            failure.text,
            format!(
                "{name} is {value}, expected an ADAMW_{} constant, 0 to {}",
                name.to_uppercase(),
                value - 1
            )
        );
    }
}

#[test]
fn what_is_not_finite_stays_in_its_block() {
    for (moments, block) in [(ADAMW_MOMENTS_8BIT, 256..512), (ADAMW_MOMENTS_4BIT, 256..384)] {
        for value in [f64::NAN, f64::INFINITY] {
            let handle = Handle::new(&adamw_config { moments, ..config() });
            let param = Array::of(Dtype::F32, &[1.0; 5000]);
            let grad = Array::of(Dtype::F32, &[0.5; 5000]);
            let number = handle.add_array("w", &param);
            grad.set(300, value);
            handle.set_grad(number, &grad);
            handle.step();
            grad.set(300, 0.5);
            handle.step();
            for (i, value) in param.values().into_iter().enumerate() {
                assert_eq!(value.is_finite(), !block.contains(&i), "element {i}");
            }
        }
    }
}

#[test]
fn codes_of_four_bits_lie_as_the_header_says() {
    // Whole blocks of 128 and one that is not: 64 elements with gradients of 1, then 64 of a half.
    const N: usize = 4096 + 70;
    let handle = Handle::new(&adamw_config { moments: ADAMW_MOMENTS_4BIT, ..config() });
    let param = Array::of(Dtype::F32, &[1.0; N]);
    let grad: Vec<f64> = (0..N).map(|i| if i % 128 < 64 { 1.0 } else { 0.5 }).collect();
    let grad = Array::of(Dtype::F32, &grad);
    let number = handle.add_array("w", &param);
    handle.set_grad(number, &grad);
    handle.step();
    let kept = state(&handle, number, "w");
    let part = |name| &kept.iter().find(|(part, _)| *part == name).unwrap().1;
    // A half is one octave below the scale, its square two.
    for (name, low, high) in [("exp_avg", 7, 6), ("exp_avg_sq", 15, 13)] {
        let codes = part(name);
        assert_eq!(codes.len(), 33 * 64, "{name}");
        for (i, byte) in codes.values().into_iter().enumerate() {
            // Of the last block six elements are beyond the first half.
            let high = if i < 32 * 64 + 6 { high } else { 0 };
            assert_eq!(byte as u8, low | high << 4, "{name}, byte {i}");
        }
    }
    assert_eq!((part("exp_avg_scale").len(), part("exp_avg_sq_scale").len()), (33, 33));
    assert!(part("exp_avg_scale").values().iter().all(|scale| (scale - 0.1).abs() < 1e-7));
}

#[test]
fn moments_in_codes_are_not_stepped_by_rows() {
    let handle = Handle::new(&adamw_config { moments: ADAMW_MOMENTS_8BIT, ..config() });
    let lazy = handle.add_group(|group| group.lazy_mode = ADAMW_LAZY_ROWS);
    let param = Array::of(Dtype::F32, &[1.0; 8192]);
    let number = handle.add_array("emb", &param);
    let (rows, values) = (Rows::i32(&[3]), Array::of(Dtype::F32, &[1.0; 64]));
    handle.set_sparse_grad(number, &rows, &values);
    handle.step(); // every row, with a gradient of zero for those that are not listed
    handle.edit_options(number, |options| options.group = lazy);
    let before = param.duplicate();
    let failures = [handle.try_step(), handle.try_set_sparse_grad(number, &rows, &values)];
    for failure in failures {
        let failure = failure.unwrap_err();
        assert_eq!(failure.status, Status::Unsupported);
        assert_eq!(
            failure.text,
            "param \"emb\" has moments in codes, which are stepped in blocks and not by rows: its group's \
             lazy_mode must be ADAMW_LAZY_OFF"
        );
    }
    assert_eq!(param.first_difference(&before), None);
}
