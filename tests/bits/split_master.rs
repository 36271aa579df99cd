//! A bf16 parameter and its remainder are the f32 master, bit for bit, at every moment.

use crate::common::LONG;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Failure, Handle, Param, config, isas};
use crate::common::random::Random;
use adamw::ffi::*;

fn split_config() -> adamw_config {
    adamw_config { precision: ADAMW_PRECISION_SPLIT, ..config() }
}

/// The f32 that the halves are.
fn joined(param: &Array, remainder: &Array) -> Vec<u32> {
    let lower = |i| remainder.bits(i) as u16 as i16 as u32;
    (0..param.len()).map(|i| ((param.bits(i) as u32) << 16).wrapping_add(lower(i))).collect()
}

/// A parameter with a split master in the host's memory, and the same with an f32 one.
struct Pair {
    handles: [Handle; 2],
    numbers: [u32; 2],
    params: [Array; 2],
    remainder: Array,
    master: Array,
    moments: [Array; 4],
}

impl Pair {
    fn new(start: &Array, config: adamw_config) -> Pair {
        let n = start.len();
        let params = [start.duplicate(), start.duplicate()];
        let remainder = Array::zeros(Dtype::I16, n);
        let master = Array::of(Dtype::F32, &start.values());
        let moments = [(); 4].map(|()| Array::zeros(Dtype::F32, n));
        let handles = [
            Handle::new(&adamw_config { precision: ADAMW_PRECISION_SPLIT, ..config }),
            Handle::new(&adamw_config { multi_precision: 1, ..config }),
        ];
        let numbers = [
            handles[0].add(&Param {
                remainder: Some(&remainder),
                exp_avg: Some(&moments[0]),
                exp_avg_sq: Some(&moments[1]),
                ..Param::new("w", &params[0])
            }),
            handles[1].add(&Param {
                master: Some(&master),
                exp_avg: Some(&moments[2]),
                exp_avg_sq: Some(&moments[3]),
                ..Param::new("w", &params[1])
            }),
        ];
        Pair { handles, numbers, params, remainder, master, moments }
    }

    fn step(&self, grad: &Array) {
        for (handle, number) in self.handles.iter().zip(self.numbers) {
            handle.set_grad(number, grad);
            handle.step();
        }
    }

    fn assert_same(&self, context: impl Fn() -> String) {
        let joined = joined(&self.params[0], &self.remainder);
        for (i, joined) in joined.into_iter().enumerate() {
            let master = self.master.bits(i) as u32;
            let nan = f32::from_bits(joined).is_nan() && f32::from_bits(master).is_nan();
            assert!(
                nan || joined == master,
                "element {i}: {joined:#x}, {master:#x}, {}",
                context()
            );
            // What the host reads meanwhile is the master, rounded half away from zero.
            let upper = if nan { 0x7fc0 } else { master.wrapping_add(0x8000) >> 16 };
            assert_eq!(self.params[0].bits(i), u64::from(upper), "element {i}, {}", context());
        }
        for i in 0..2 {
            let difference = self.moments[i].first_difference(&self.moments[i + 2]);
            assert_eq!(difference, None, "{}", context());
        }
    }
}

#[test]
fn the_halves_are_the_master_over_a_long_run() {
    for (grad_dtype, amsgrad, maximize) in [(Dtype::Bf16, 0, 0), (Dtype::F32, 1, 1)] {
        let mut random = Random::new(1);
        let start = Array::ordinary(Dtype::Bf16, 700, &mut random);
        let pair = Pair::new(&start, adamw_config { lr: 1e-4, amsgrad, maximize, ..config() });
        for step in 0..3000 {
            let grad = Array::ordinary(grad_dtype, 700, &mut random);
            pair.step(&grad);
            pair.assert_same(|| format!("step {step}"));
        }
    }
}

#[test]
fn extreme_values_are_split_as_they_are() {
    let mut random = Random::new(2);
    for n in [1, 511, 513, 4097] {
        let start = Array::random(Dtype::Bf16, n, &mut random);
        let sound = |value: f64| if value.is_nan() { 0.0 } else { value };
        let start: Vec<f64> = start.values().into_iter().map(sound).collect();
        for lr in [1e-3, 1e36, 0.0] {
            let pair = Pair::new(&Array::of(Dtype::Bf16, &start), adamw_config { lr, ..config() });
            for step in 0..4 {
                let grad = Array::random(Dtype::Bf16, n, &mut random);
                pair.step(&grad);
                pair.assert_same(|| format!("step {step} of {n} elements, lr {lr}"));
            }
        }
    }
}

#[test]
fn every_isa_and_number_of_threads_has_the_same_bits() {
    let mut random = Random::new(3);
    let start = Array::ordinary(Dtype::Bf16, LONG, &mut random);
    let grad = Array::ordinary(Dtype::Bf16, LONG, &mut random);
    for isa in isas() {
        for num_threads in [1, 2, 7] {
            let pair = Pair::new(&start, adamw_config { isa, num_threads, ..config() });
            pair.handles.iter().for_each(|handle| handle.set_statistics(1).unwrap());
            for _ in 0..2 {
                pair.step(&grad);
            }
            pair.assert_same(|| format!("isa {isa}, {num_threads} threads"));
            let [split, whole] = pair.handles.each_ref().map(|handle| handle.step_info());
            assert_eq!(split.update_norm.to_bits(), whole.update_norm.to_bits());
            assert_eq!(split.param_norm.to_bits(), whole.param_norm.to_bits());
        }
    }
}

#[test]
fn a_remainder_is_state_with_a_name() {
    let handle = Handle::new(&split_config());
    let param = Array::of(Dtype::Bf16, &[1.0, -2.0]);
    let grad = Array::of(Dtype::Bf16, &[0.3, 0.7]);
    let number = handle.add_array("w", &param);
    handle.set_grad(number, &grad);
    handle.step();
    let remainder = Array::zeros(Dtype::I16, 2);
    handle.get_state("state.w.remainder", &remainder).unwrap();
    assert!(remainder.values().iter().any(|value| *value != 0.0));
    assert_eq!(handle.find_state("state.w.remainder"), Ok((number, ADAMW_BUFFER_REMAINDER)));
    assert_eq!(handle.state_info(number, ADAMW_BUFFER_REMAINDER).unwrap().dtype, ADAMW_DTYPE_I16);
    let absent = handle.state_info(number, ADAMW_BUFFER_MASTER).unwrap_err();
    assert_eq!(absent.status, Status::NotFound);

    // Written into another handle, training goes on with the same bits.
    let other = Handle::new(&split_config());
    let resumed = param.duplicate();
    let second = other.add_array("w", &resumed);
    let parts = [
        ("remainder", Dtype::I16, 2),
        ("exp_avg", Dtype::F32, 2),
        ("exp_avg_sq", Dtype::F32, 2),
        ("step", Dtype::F64, 1),
    ];
    for (part, dtype, n) in parts {
        let copy = Array::zeros(dtype, n);
        handle.get_state(&format!("state.w.{part}"), &copy).unwrap();
        other.set_state(&format!("state.w.{part}"), &copy).unwrap();
    }
    other.set_grad(second, &grad);
    for _ in 0..20 {
        handle.step();
        other.step();
    }
    assert_eq!(resumed.first_difference(&param), None);
}

#[test]
fn a_parameter_that_the_host_has_written_is_the_whole_master() {
    let handle = Handle::new(&adamw_config { lr: 0.0, ..split_config() });
    let param = Array::of(Dtype::Bf16, &[1.0]);
    let grad = Array::of(Dtype::Bf16, &[1.0]);
    let number = handle.add_array("w", &param);
    handle.set_grad(number, &grad);
    handle.set_state("state.w.remainder", &Array::of(Dtype::I16, &[77.0])).unwrap();
    param.set(0, 5.0);
    handle.sync_master(number);
    handle.step();
    let remainder = Array::of(Dtype::I16, &[9.0]);
    handle.get_state("state.w.remainder", &remainder).unwrap();
    assert_eq!((param.get(0), remainder.get(0)), (5.0, 0.0));
}

#[test]
fn other_types_have_no_split_master() {
    let handle = Handle::new(&split_config());
    let half = Array::of(Dtype::F16, &[1.0]);
    let Failure { status, text } = handle.try_add(&Param::new("h", &half)).unwrap_err();
    assert_eq!(status, Status::Unsupported);
    let expected =
        "param \"h\" is f16, which has no split master: multi_precision gives it an f32 one";
    assert_eq!(text, expected);

    let (wide, bf16) = (Array::of(Dtype::F32, &[1.0]), Array::of(Dtype::Bf16, &[1.0]));
    let (remainder, master) = (Array::zeros(Dtype::I16, 1), Array::zeros(Dtype::F32, 1));
    let another = wide.duplicate();
    handle.add(&Param::new("w", &wide)); // f32 needs none
    let refused = [
        (
            Param { remainder: Some(&remainder), ..Param::new("v", &another) },
            "param \"v\": remainder was given, but only 16-bit parameters of a group with \
             ADAMW_PRECISION_SPLIT or ADAMW_PRECISION_KAHAN have one: leave it NULL",
        ),
        (
            Param { master: Some(&master), ..Param::new("b", &bf16) },
            "param \"b\": master was given, but its master is split: leave it NULL",
        ),
        (
            Param { remainder: Some(&master), ..Param::new("b", &bf16) },
            "param \"b\": remainder is f32, expected i16",
        ),
        (Param::new("i", &remainder), "param \"i\": param is i16, expected f32, f64, f16 or bf16"),
    ];
    for (param, text) in refused {
        assert_eq!(handle.try_add(&param).unwrap_err().text, text);
    }
}
