//! A load with `convert` makes what a handle keeps otherwise than the checkpoint: codes of moments, and the
//! halves of a master.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{in_memory, load_options};
use crate::common::handle::{Handle, Param, config};
use crate::common::host::{from_user_data, user_data};
use crate::common::random::Random;
use crate::common::state::state;
use adamw::ffi::*;
use core::cell::Cell;
use core::ffi::c_void;

/// More than is read at once, and a block that is not whole.
const N: usize = 70_000;

fn options() -> adamw_load_options {
    adamw_load_options { scope: ADAMW_LOAD_SHARED, convert: 1, ..load_options() }
}

/// With these betas one step leaves a gradient as `exp_avg`, and its square as the others.
fn of(moments: adamw_moments, amsgrad: u32) -> adamw_config {
    adamw_config { moments, amsgrad, beta1: 0.0, beta2: 0.0, ..config() }
}

fn grad() -> Array {
    let grad = Array::ordinary(Dtype::F32, N, &mut Random::new(7));
    for i in 0..300 {
        grad.set(i, 0.0); // a block of zeros
        grad.set(1000 + i, grad.get(i + 1000) * 1e-3_f64.powi(i as i32 % 8));
    }
    grad
}

/// A handle with a parameter, which is beside it.
fn fresh(config: &adamw_config) -> (Handle, Array) {
    let (handle, param) = (Handle::new(config), Array::zeros(Dtype::F32, N));
    handle.add_array("w", &param);
    (handle, param)
}

fn stepped(config: &adamw_config) -> (Handle, Array) {
    let ((handle, param), grad) = (fresh(config), grad());
    handle.set_grad(0, &grad);
    handle.step();
    handle.clear_grad(ADAMW_CLEAR_FORGET);
    (handle, param)
}

fn part(handle: &Handle, name: &str) -> Array {
    let mut parts = state(handle, 0, "w").into_iter();
    parts.find(|(part, _)| *part == name).unwrap_or_else(|| panic!("there is no {name}")).1
}

fn assert_same(a: &Handle, b: &Handle, names: &[&str]) {
    for name in names {
        assert_eq!(part(a, name).first_difference(&part(b, name)), None, "{name}");
    }
}

#[test]
fn moments_become_the_codes_that_a_step_makes_of_them() {
    let from = stepped(&of(ADAMW_MOMENTS_F32, 1)).0.saved(false);
    let (by_step, _itself) = stepped(&of(ADAMW_MOMENTS_8BIT, 1));
    let (made, param) = fresh(&of(ADAMW_MOMENTS_8BIT, 1));
    made.load_bytes(&from, &options()).unwrap();
    let scales = ["exp_avg_scale", "exp_avg_sq_scale", "max_exp_avg_sq_scale"];
    assert_same(&made, &by_step, &scales);
    assert_same(&made, &by_step, &["exp_avg", "max_exp_avg_sq"]);
    // A step rounds the second moment at random, a load to nearest, as a step the largest.
    let (squares, largest) = (part(&made, "exp_avg_sq"), part(&made, "max_exp_avg_sq"));
    assert_eq!(squares.first_difference(&largest), None);
    assert_eq!(param.first_difference(&Array::zeros(Dtype::F32, N)), None);
}

#[test]
fn moments_become_the_nearest_codes_of_four_bits() {
    let (plain, _plain_param) = stepped(&of(ADAMW_MOMENTS_F32, 0));
    let (by_step, _its_param) = stepped(&of(ADAMW_MOMENTS_4BIT, 0));
    let (made, _param) = fresh(&of(ADAMW_MOMENTS_4BIT, 0));
    made.load_bytes(&plain.saved(false), &options()).unwrap();
    assert_same(&made, &by_step, &["exp_avg_scale", "exp_avg_sq_scale"]);
    for name in ["exp_avg", "exp_avg_sq"] {
        let (values, codes) = (part(&plain, name), part(&made, name).bytes());
        let scales = part(&made, &format!("{name}_scale"));
        let decoded = |code: u8| match (name, code) {
            ("exp_avg", 0 | 8) | (_, 0) => 0.0,
            ("exp_avg", 9..) => -f64::exp2(f64::from(code) - 15.0),
            ("exp_avg", _) => f64::exp2(f64::from(code) - 7.0),
            _ => f64::exp2(f64::from(code) - 15.0),
        };
        for i in 0..N {
            let (block, place) = (i / 128, i % 128);
            let byte = codes[block * 64 + place % 64];
            let code = if place < 64 { byte & 15 } else { byte >> 4 };
            let value = values.get(i) / scales.get(block);
            let is_allowed = |other: u8| name == "exp_avg" || (other == 0) == (value == 0.0);
            let off = |code: u8| (decoded(code) - value).abs();
            let least = (0..16).filter(|&other| is_allowed(other)).map(off).fold(1.0, f64::min);
            assert!(off(code) <= least + 1e-7, "{name} {i}: {code} for {value}");
        }
        let rest = N % 128;
        assert!(codes[N / 128 * 64 + rest.min(64)..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn largest_squares_that_were_not_saved_begin_as_the_codes_of_the_squares() {
    let from = stepped(&of(ADAMW_MOMENTS_F32, 0)).0.saved(false);
    let (made, _param) = fresh(&of(ADAMW_MOMENTS_8BIT, 1));
    let failure = made.load_bytes(&from, &options()).unwrap_err();
    assert!(failure.text.contains("state.w.max_exp_avg_sq"), "{}", failure.text);
    made.load_bytes(&from, &adamw_load_options { extend: 1, ..options() }).unwrap();
    for end in ["", "_scale"] {
        let both =
            ["exp_avg_sq", "max_exp_avg_sq"].map(|name| part(&made, &format!("{name}{end}")));
        assert_eq!(both[0].first_difference(&both[1]), None);
    }
}

/// The checkpoints of handles that each have a range of the parameter.
fn in_ranges(config: &adamw_config, starts: &[usize]) -> Vec<Vec<u8>> {
    let ends = starts[1..].iter().copied().chain([N]);
    let saved = |(start, end): (&usize, usize)| {
        let (handle, values) = (Handle::new(config), Array::zeros(Dtype::F32, end - start));
        let (first_element, whole_elements) = (*start as u64, N as u64);
        handle.add(&Param { first_element, whole_elements, ..Param::new("w", &values) });
        let grad = grad().copy(*start..end, 0);
        handle.set_grad(0, &grad);
        handle.step();
        handle.clear_grad(ADAMW_CLEAR_FORGET);
        handle.saved(false)
    };
    starts.iter().zip(ends).map(saved).collect()
}

#[test]
fn ranges_are_coded_where_blocks_begin() {
    let plain = of(ADAMW_MOMENTS_F32, 0);
    for (moments, block) in [(ADAMW_MOMENTS_8BIT, 256), (ADAMW_MOMENTS_4BIT, 128)] {
        let (expected, _param) = fresh(&of(moments, 0));
        let all = stepped(&plain).0.saved(false);
        expected.load_bytes(&all, &options()).unwrap();
        let names = ["exp_avg", "exp_avg_sq", "exp_avg_scale", "exp_avg_sq_scale"];
        for (starts, is_cut) in
            [([0, 3 * block, 200 * block], false), ([0, 3 * block, 200 * block + 1], true)]
        {
            let files = in_ranges(&plain, &starts);
            let sources: Vec<_> = files.iter().map(|file| in_memory(file)).collect();
            let (seen, _param) = fresh(&of(moments, 0));
            match seen.load_from(&sources, &options()) {
                Ok(()) if !is_cut => assert_same(&seen, &expected, &names),
                Err(failure) if is_cut => {
                    let text = format!("state.w.exp_avg from element {} on", 3 * block);
                    assert!(failure.text.contains(&text), "{}", failure.text);
                }
                other => panic!("{starts:?}: {other:?}"),
            }
        }
        // And out of the whole into a range, whose blocks are those of the whole.
        let n = N - 40 * block;
        let (handle, values) = (Handle::new(&of(moments, 0)), Array::zeros(Dtype::F32, n));
        let (first_element, whole_elements) = (40 * block as u64, N as u64);
        handle.add(&Param { first_element, whole_elements, ..Param::new("w", &values) });
        handle.load_bytes(&all, &options()).unwrap();
        let (codes, of_whole) =
            (part(&handle, "exp_avg").bytes(), part(&expected, "exp_avg").bytes());
        let in_block = if block == 128 { 64 } else { 256 };
        let n_whole = n / block * in_block;
        assert!(codes[..n_whole] == of_whole[40 * in_block..][..n_whole]);
    }
}

unsafe extern "C" fn told(done: u64, total: u64, last: *mut c_void) -> i32 {
    // SAFETY: the test's own.
    unsafe { from_user_data::<Cell<(u64, u64)>>(last) }.set((done, total));
    0
}

#[test]
fn a_master_is_split_into_the_parameter_and_the_rest() {
    let config = |precision, multi_precision| adamw_config {
        precision,
        multi_precision,
        lr: 0.1,
        ..config()
    };
    let (param, grad) = (Array::ordinary(Dtype::Bf16, N, &mut Random::new(2)), grad());
    let whole = Handle::new(&config(ADAMW_PRECISION_DEFAULT, 1));
    whole.add_array("w", &param);
    for _ in 0..3 {
        whole.set_grad(0, &grad);
        whole.step();
        whole.clear_grad(ADAMW_CLEAR_FORGET);
    }
    let joined = |split: &Handle, halves: &Array| {
        let rest = part(split, "remainder");
        let bits = |i| {
            let rest = rest.bits(i) as u16 as i16;
            u64::from(((halves.bits(i) as u32) << 16).wrapping_add(rest as u32))
        };
        (0..N).map(bits).collect::<Vec<_>>()
    };
    let master = || {
        let master = part(&whole, "master");
        (0..N).map(|i| master.bits(i)).collect::<Vec<_>>()
    };
    let both = [0, 1].map(|params| {
        let split = Handle::new(&config(ADAMW_PRECISION_SPLIT, 0));
        let halves = Array::zeros(Dtype::Bf16, N);
        split.add_array("w", &halves);
        let bytes = whole.saved(params == 1);
        let before = split.saved(true);
        let plain = adamw_load_options { convert: 0, params, ..options() };
        let failure = split.load_bytes(&bytes, &plain).unwrap_err();
        assert_eq!(failure.status, Status::Mismatch, "{}", failure.text);
        assert_eq!(split.saved(true), before);
        let last = Cell::new((0_u64, 0_u64));
        let (progress, progress_data) = (Some(told as _), user_data(&last));
        let all = adamw_load_options { params, progress, progress_data, ..options() };
        split.load_bytes(&bytes, &all).unwrap();
        let (done, total) = last.get();
        assert!(done == total && total > 0, "{params}: {done} of {total}");
        assert!(joined(&split, &halves) == master());
        (split, halves)
    });
    whole.set_grad(0, &grad);
    whole.step();
    for (split, halves) in both {
        split.set_grad(0, &grad);
        split.step();
        assert!(joined(&split, &halves) == master());
        split.clear_grad(ADAMW_CLEAR_FORGET);
    }
}
