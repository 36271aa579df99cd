//! Checkpoints: a run that was saved and loaded goes on with the bits of one that was not.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{Folder, load_options};
use crate::common::handle::{Handle, Param, config, isas};
use crate::common::random::Random;
use adamw::ffi::*;

/// How parameters are kept, and what the moments are made of.
#[derive(Clone, Copy, Debug)]
struct Mode {
    param: Dtype,
    multi_precision: u32,
    precision: adamw_precision,
    moments: adamw_moments,
    amsgrad: u32,
}

/// Every format of parameters with every one of moments.
fn modes() -> Vec<Mode> {
    let kept = [
        (Dtype::F32, 0, ADAMW_PRECISION_DEFAULT),
        (Dtype::F64, 0, ADAMW_PRECISION_DEFAULT),
        (Dtype::F16, 0, ADAMW_PRECISION_DEFAULT),
        (Dtype::Bf16, 0, ADAMW_PRECISION_DEFAULT),
        (Dtype::F16, 1, ADAMW_PRECISION_DEFAULT),
        (Dtype::Bf16, 1, ADAMW_PRECISION_DEFAULT),
        (Dtype::Bf16, 0, ADAMW_PRECISION_SPLIT),
        (Dtype::Bf16, 0, ADAMW_PRECISION_STOCHASTIC),
        (Dtype::F16, 0, ADAMW_PRECISION_KAHAN),
        (Dtype::Bf16, 0, ADAMW_PRECISION_KAHAN),
    ];
    let moments = [
        (ADAMW_MOMENTS_F32, 0),
        (ADAMW_MOMENTS_F32, 1),
        (ADAMW_MOMENTS_BF16, 1),
        (ADAMW_MOMENTS_8BIT, 1),
        (ADAMW_MOMENTS_4BIT, 0),
    ];
    let pair = |(param, multi_precision, precision)| {
        moments.map(|(moments, amsgrad)| Mode {
            param,
            multi_precision,
            precision,
            moments,
            amsgrad,
        })
    };
    kept.into_iter().flat_map(pair).collect()
}

impl Mode {
    fn config(self) -> adamw_config {
        let Mode { multi_precision, precision, moments, amsgrad, .. } = self;
        adamw_config { lr: 0.01, multi_precision, precision, moments, amsgrad, seed: 5, ..config() }
    }
}

const NAMES: [&str; 3] = ["layer.0.weight", "layer.0.bias", "ä \"quoted\"\\\n"];
const LENGTHS: [usize; 3] = [5003, 3, 4096];

/// A handle, its parameters and the random numbers that its gradients are made of.
struct Run {
    handle: Handle,
    params: Vec<Array>,
    numbers: Vec<u32>,
}

impl Run {
    fn new(config: &adamw_config, params: Vec<Array>, prepare: &dyn Fn(&Handle)) -> Run {
        let handle = Handle::new(config);
        prepare(&handle);
        let numbers =
            NAMES.iter().zip(&params).map(|(name, param)| handle.add_array(name, param)).collect();
        Run { handle, params, numbers }
    }

    /// Steps number `steps`; every second one without the second parameter.
    fn train(&self, steps: core::ops::Range<u64>) {
        for step in steps {
            let mut random = Random::new(100 + step);
            let grads: Vec<_> = self
                .params
                .iter()
                .map(|param| Array::ordinary(param.dtype(), param.len(), &mut random))
                .collect();
            for (i, (number, grad)) in self.numbers.iter().zip(&grads).enumerate() {
                if i != 1 || step % 2 == 0 {
                    self.handle.set_grad(*number, grad);
                } else {
                    self.handle.forget_grad(*number);
                }
            }
            self.handle.step();
            self.handle.clear_grad(ADAMW_CLEAR_FORGET);
        }
    }

    fn copies(&self) -> Vec<Array> {
        self.params.iter().map(Array::duplicate).collect()
    }

    #[track_caller]
    fn assert_same(&self, expected: &Run, context: impl Fn() -> String) {
        for (seen, expected) in self.params.iter().zip(&expected.params) {
            assert_eq!(seen.first_difference(expected), None, "{}", context());
        }
        assert_eq!(self.handle.saved(true), expected.handle.saved(true), "{}", context());
    }
}

fn start(dtype: Dtype) -> Vec<Array> {
    let mut random = Random::new(1);
    LENGTHS.map(|n| Array::ordinary(dtype, n, &mut random)).into()
}

/// Trains 4 steps, saves, loads into a handle of `resumed`, trains 4 more, and does so without a break.
fn assert_resumes(
    config: &adamw_config,
    resumed: &adamw_config,
    dtype: Dtype,
    prepare: &dyn Fn(&Handle),
    context: &dyn Fn() -> String,
) {
    let unbroken = Run::new(config, start(dtype), prepare);
    unbroken.train(0..4);
    let bytes = unbroken.handle.saved(false);
    let other = Run::new(resumed, unbroken.copies(), prepare);
    other
        .handle
        .load_bytes(&bytes, &load_options())
        .unwrap_or_else(|e| panic!("{e:?} {}", context()));
    unbroken.train(4..8);
    other.train(4..8);
    other.assert_same(&unbroken, context);
}

#[test]
fn a_loaded_run_goes_on_with_the_same_bits_in_every_precision() {
    for mode in modes() {
        let config = mode.config();
        assert_resumes(&config, &config, mode.param, &|_| (), &|| format!("{mode:?}"));
    }
}

#[test]
fn a_loaded_run_goes_on_with_the_same_bits_on_every_isa_and_number_of_threads() {
    for mode in modes() {
        let config = adamw_config { isa: ADAMW_ISA_PORTABLE, num_threads: 1, ..mode.config() };
        for isa in isas() {
            let resumed = adamw_config { isa, num_threads: 3, ..config };
            assert_resumes(&config, &resumed, mode.param, &|_| (), &|| format!("{mode:?} {isa}"));
        }
    }
}

#[test]
fn a_file_and_memory_hold_the_same_bytes_and_load_alike() {
    let folder = Folder::new();
    let run = Run::new(&config(), start(Dtype::F32), &|_| ());
    run.train(0..3);
    let path = folder.join("state.safetensors");
    run.handle.save(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), run.handle.saved(false));
    let other = Run::new(&config(), run.copies(), &|_| ());
    other.handle.load(&path, &load_options()).unwrap();
    other.assert_same(&run, String::new);
    assert_eq!(folder.names(), ["state.safetensors"]);
}

#[test]
fn a_begun_save_has_the_bytes_of_a_save_whatever_steps_follow() {
    for mode in modes() {
        let run = Run::new(&mode.config(), start(mode.param), &|_| ());
        for params in [false, true] {
            run.train(0..3);
            let expected = run.handle.saved(params);
            let begun = run.handle.saved_beside(params, || run.train(3..6));
            assert!(begun == expected, "{mode:?}, params: {params}");
            assert!(run.handle.saved(params) != expected, "{mode:?}");
        }
    }
}

/// Means of squares that are negative are the host's to see to: what was saved loads, as it was.
#[test]
fn whatever_the_host_had_in_its_state_is_given_back() {
    let numbers = [-1.0, f64::NEG_INFINITY, -0.0, f64::NAN];
    let world = |squares: &Array, exp_avg: &Array, param: &Array| {
        let handle = Handle::new(&config());
        let state = Param {
            exp_avg: Some(exp_avg),
            exp_avg_sq: Some(squares),
            step: 1,
            ..Param::new("w", param)
        };
        handle.add(&state);
        handle
    };
    let [squares, zeros, param] = [numbers, [0.0; 4], [1.0; 4]].map(|n| Array::of(Dtype::F32, &n));
    let saved = world(&squares, &zeros, &param).saved(true);
    let [loaded, m, w] = [0; 3].map(|_| Array::zeros(Dtype::F32, 4));
    let handle = world(&loaded, &m, &w);
    handle.load_bytes(&saved, &adamw_load_options { params: 1, ..load_options() }).unwrap();
    assert_eq!(loaded.first_difference(&squares), None);
    let grad = Array::zeros(Dtype::F32, 4);
    handle.set_grad(0, &grad);
    handle.step();
    assert!(w.get(0).is_nan() && w.get(2) < 1.0);
}
