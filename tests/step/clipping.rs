//! Clipping multiplies gradients by a factor of their norm, which has one value everywhere, and
//! leaves the gradients themselves alone.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Failure, Handle, Param, config, isas, with_clip};
use crate::common::host::with_scoped_threads;
use crate::common::random::Random;
use adamw::ffi::*;

/// Lengths around the blocks of the norm, and one that threads share.
const LENGTHS: [usize; 8] = [1, 127, 128, 129, 4095, 4097, 12_289, 300_007];

const KINDS: [(Dtype, Dtype); 6] = [
    (Dtype::F32, Dtype::F32),
    (Dtype::F64, Dtype::F64),
    (Dtype::F64, Dtype::F32),
    (Dtype::F16, Dtype::F16),
    (Dtype::Bf16, Dtype::Bf16),
    (Dtype::Bf16, Dtype::F32),
];

/// The sum of squares in the order that the library promises: blocks of 4,096, 128 lanes, halves,
/// pairs.
fn sum_squares(grad: &Array) -> f64 {
    let values = grad.values();
    let block = |block: &[f64]| {
        let mut lanes = [0.0; 128];
        for (i, value) in block.iter().enumerate() {
            lanes[i % 128] += value * value;
        }
        let mut lanes = lanes.to_vec();
        while lanes.len() > 1 {
            let half = lanes.len() / 2;
            lanes = (0..half).map(|lane| lanes[lane] + lanes[lane + half]).collect();
        }
        lanes[0]
    };
    let mut sums: Vec<f64> = values.chunks(4096).map(block).collect();
    while sums.len() > 1 {
        sums = sums.chunks(2).map(|pair| pair.iter().copied().sum()).collect();
    }
    sums[0]
}

/// The gradient that clipping stands for, in the compute type.
fn clipped(grad: &Array, compute: Dtype, factor: f64) -> Array {
    let product = |value: f64| match compute {
        Dtype::F64 => value * factor,
        _ => (value as f32 * factor as f32).into(),
    };
    Array::of(compute, &grad.values().into_iter().map(product).collect::<Vec<_>>())
}

/// Some parameters of a handle, and their gradients.
struct Model {
    params: Vec<Array>,
    grads: Vec<Array>,
}

impl Model {
    fn new((param, grad): (Dtype, Dtype), lengths: &[usize]) -> Model {
        let mut random = Random::new(lengths.len() as u64);
        let mut arrays = |dtype| {
            lengths.iter().map(|&n| Array::ordinary(dtype, n, &mut random)).collect::<Vec<_>>()
        };
        Model { params: arrays(param), grads: arrays(grad) }
    }

    /// The parameters after one step, each in a group that `group` says of its number.
    fn stepped(
        &self,
        config: &adamw_config,
        grads: &[Array],
        group: impl Fn(&Handle, usize) -> u32,
        no_clip: &[usize],
    ) -> Vec<Array> {
        let params: Vec<_> = self.params.iter().map(Array::duplicate).collect();
        let handle = Handle::new(config);
        for (i, (param, grad)) in params.iter().zip(grads).enumerate() {
            let group = group(&handle, i);
            let no_clip = no_clip.contains(&i);
            let name = i.to_string();
            let number = handle.add(&Param { group, no_clip, ..Param::new(&name, param) });
            handle.set_grad(number, grad);
        }
        handle.step();
        drop(handle);
        params
    }

    /// That a step with `config` is the step with each gradient multiplied by its factor.
    #[track_caller]
    fn assert_clips(&self, clipping: &adamw_config, factors: &[f64], no_clip: &[usize]) {
        let before: Vec<_> = self.grads.iter().map(Array::duplicate).collect();
        let got = self.stepped(clipping, &self.grads, |_, _| 0, no_clip);
        let plain = with_clip(ADAMW_CLIP_NONE, *clipping);
        let compute = self.params[0].dtype().compute();
        let grads: Vec<_> = self
            .grads
            .iter()
            .zip(factors)
            .map(|(grad, &factor)| clipped(grad, compute, factor))
            .collect();
        let expected = self.stepped(&plain, &grads, |_, _| 0, &[]);
        for (got, expected) in got.iter().zip(&expected) {
            assert_eq!(got.first_difference(expected), None);
        }
        for (grad, before) in self.grads.iter().zip(&before) {
            assert_eq!(grad.first_difference(before), None, "a gradient was written");
        }
    }
}

/// eps is large, so that the factor shows in the very first step.
fn clipping(clip: adamw_clip, clip_norm: f64) -> adamw_config {
    adamw_config { clip, clip_norm, eps: 0.5, lr: 0.1, ..config() }
}

fn factor(sum_squares: f64, largest: f64) -> f64 {
    largest / sum_squares.sqrt().max(largest)
}

#[test]
fn a_global_norm_has_the_same_bits_everywhere() {
    for kind in KINDS {
        let model = Model::new(kind, &LENGTHS);
        let sum = model.grads.iter().map(sum_squares).sum::<f64>();
        let factors = [factor(sum, 1.0); LENGTHS.len()];
        assert!(factors[0] < 1.0);
        for isa in isas() {
            for num_threads in [1, 2, 3] {
                let config = clipping(ADAMW_CLIP_GLOBAL_NORM, 1.0);
                model.assert_clips(&adamw_config { isa, num_threads, ..config }, &factors, &[]);
            }
        }
        let mut hosts = clipping(ADAMW_CLIP_GLOBAL_NORM, 1.0);
        with_scoped_threads(&mut hosts, &3);
        model.assert_clips(&hosts, &factors, &[]);
    }
}

#[test]
fn clipping_by_norm_takes_each_tensor_alone() {
    for kind in KINDS {
        let model = Model::new(kind, &LENGTHS);
        let factors: Vec<_> =
            model.grads.iter().map(|grad| factor(sum_squares(grad), 10.0)).collect();
        assert!(factors.iter().any(|&f| f < 1.0) && factors.contains(&1.0));
        model.assert_clips(&clipping(ADAMW_CLIP_NORM, 10.0), &factors, &[]);
    }
}

#[test]
fn what_is_not_to_be_clipped_is_no_part_of_the_norm() {
    let model = Model::new((Dtype::F32, Dtype::F32), &[700, 5000, 300]);
    let sum = sum_squares(&model.grads[0]) + sum_squares(&model.grads[2]);
    let both = factor(sum, 1.0);
    model.assert_clips(&clipping(ADAMW_CLIP_GLOBAL_NORM, 1.0), &[both, 1.0, both], &[1]);
    let alone = factor(sum_squares(&model.grads[0]), 1.0);
    let last = factor(sum_squares(&model.grads[2]), 1.0);
    model.assert_clips(&clipping(ADAMW_CLIP_NORM, 1.0), &[alone, 1.0, last], &[1]);
}

#[test]
fn the_scope_of_a_global_norm_is_its_group_or_the_handle() {
    let model = Model::new((Dtype::F32, Dtype::F32), &[700, 5000]);
    let sums = [sum_squares(&model.grads[0]), sum_squares(&model.grads[1])];
    // Two parameters in two groups of their own limits.
    let limits = [1.0, 2.0];
    let group = |handle: &Handle, i: usize| handle.add_group(|group| group.clip_norm = limits[i]);
    let of_all = [sums[0] + sums[1]; 2];
    for (clip_scope, norms) in [
        (ADAMW_CLIP_SCOPE_GROUP, sums),
        (ADAMW_CLIP_SCOPE_HANDLE, of_all),
        (config().clip_scope, of_all), // the default, and what a struct of zeros has
        (0, of_all),
    ] {
        let config = adamw_config { clip_scope, ..clipping(ADAMW_CLIP_GLOBAL_NORM, 9.0) };
        let got = model.stepped(&config, &model.grads, group, &[]);
        let grads: Vec<_> = (0..2)
            .map(|i| clipped(&model.grads[i], Dtype::F32, factor(norms[i], limits[i])))
            .collect();
        let plain = with_clip(ADAMW_CLIP_NONE, config);
        let expected = model.stepped(&plain, &grads, |_, _| 0, &[]);
        for (got, expected) in got.iter().zip(&expected) {
            assert_eq!(got.first_difference(expected), None, "scope {clip_scope}");
        }
    }
}

#[test]
fn no_finite_f32_gradient_overflows_its_norm() {
    let model = Model::new((Dtype::F32, Dtype::F32), &[100_000]);
    model.grads[0].fill(f32::MAX.into());
    let factors = [factor(sum_squares(&model.grads[0]), 1.0)];
    assert!(factors[0] > 0.0);
    model.assert_clips(&clipping(ADAMW_CLIP_GLOBAL_NORM, 1.0), &factors, &[]);
}

#[test]
fn a_gradient_that_is_not_finite_reaches_all_that_are_clipped_with_it() {
    for (bad, others) in [(f64::NAN, f64::NAN), (f64::INFINITY, 0.0)] {
        let model = Model::new((Dtype::F32, Dtype::F32), &[10, 10]);
        model.grads[0].set(3, bad);
        let factors = [if bad.is_nan() { f64::NAN } else { 0.0 }; 2];
        model.assert_clips(&clipping(ADAMW_CLIP_GLOBAL_NORM, 1.0), &factors, &[]);
        assert_eq!(
            clipped(&model.grads[1], Dtype::F32, factors[1]).get(0).is_nan(),
            others.is_nan()
        );
    }
}

#[test]
fn a_limit_must_be_a_positive_number_where_there_is_one() {
    for clip in [ADAMW_CLIP_NORM, ADAMW_CLIP_GLOBAL_NORM] {
        for clip_norm in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let failure = Handle::try_new(&clipping(clip, clip_norm)).err().unwrap();
            assert_eq!(failure.status, Status::InvalidArgument);
            let shown = if clip_norm.is_nan() { "NaN".into() } else { format!("{clip_norm}") };
            assert_eq!(failure.text, format!("clip_norm is {shown}, expected a finite number > 0"));
        }
    }
}

#[test]
fn a_limit_without_a_clip_is_refused() {
    let limited = |limit: fn(&mut adamw_config, f64), value| {
        let mut config = config();
        limit(&mut config, value);
        config
    };
    type Limit = (&'static str, fn(&mut adamw_config, f64), fn(&mut adamw_group_config, f64));
    let limits: [Limit; 3] = [
        ("clip_norm", |c, value| c.clip_norm = value, |g, value| g.clip_norm = value),
        ("clip_min", |c, value| c.clip_min = value, |g, value| g.clip_min = value),
        ("clip_max", |c, value| c.clip_max = value, |g, value| g.clip_max = value),
    ];
    let handle = Handle::new(&config());
    for (name, of_handle, of_group) in limits {
        for (value, shown) in [(1.0, "1"), (-0.5, "-0.5"), (f64::NAN, "NaN")] {
            let text = format!(
                "{name} is {shown}, expected 0 where clip is ADAMW_CLIP_NONE (set clip to how \
                 gradients are to be clipped)"
            );
            let expected = Failure { status: Status::InvalidArgument, text };
            let failure = Handle::try_new(&limited(of_handle, value)).err().unwrap();
            assert_eq!(failure, expected);
            let mut group = handle.group(0);
            of_group(&mut group, value);
            assert_eq!(handle.set_group(0, &group).unwrap_err(), expected);
            assert_eq!(handle.try_add_group(&group).unwrap_err(), expected);
        }
        Handle::new(&limited(of_handle, 0.0));
    }
}

#[test]
fn clipping_by_value_clamps_each_element() {
    for kind in KINDS {
        for maximize in [0, 1] {
            let model = Model::new(kind, &LENGTHS);
            model.grads[1].set(5, f64::NAN);
            model.grads[1].set(6, f64::NEG_INFINITY);
            let compute = kind.0.compute();
            let clamp = |value: f64| if value.is_nan() { value } else { value.clamp(-0.5, 0.25) };
            let clamped: Vec<_> = model
                .grads
                .iter()
                .map(|grad| grad.values().into_iter().map(clamp).collect::<Vec<_>>())
                .map(|values| Array::of(compute, &values))
                .collect();
            for isa in isas() {
                let limits = adamw_config { clip_min: -0.5, clip_max: 0.25, maximize, ..config() };
                let config = adamw_config { clip: ADAMW_CLIP_VALUE, isa, eps: 0.5, ..limits };
                let got = model.stepped(&config, &model.grads, |_, _| 0, &[2]);
                let plain = with_clip(ADAMW_CLIP_NONE, config);
                let expected = model.stepped(&plain, &clamped, |_, _| 0, &[]);
                let untouched = model.stepped(&plain, &model.grads, |_, _| 0, &[]);
                for (i, got) in got.iter().enumerate() {
                    let expected = if i == 2 { &untouched[i] } else { &expected[i] };
                    assert_eq!(got.first_difference(expected), None, "{kind:?}, tensor {i}");
                }
            }
        }
    }
}

#[test]
fn limits_must_be_numbers_in_order() {
    for (clip_min, clip_max, text) in [
        (f64::NAN, 1.0, "clip_min is NaN, expected a finite number"),
        (0.0, f64::INFINITY, "clip_max is inf, expected a finite number > clip_min"),
        (1.0, 0.5, "clip_max is 0.5, expected a finite number > clip_min"),
        // What a value in clip_norm alone would come to: every gradient is 0.
        (0.0, 0.0, "clip_max is 0, expected a finite number > clip_min"),
    ] {
        let config = adamw_config { clip_min, clip_max, ..clipping(ADAMW_CLIP_VALUE, 0.0) };
        let failure = Handle::try_new(&config).err().unwrap();
        assert_eq!((failure.status, &failure.text[..]), (Status::InvalidArgument, text));
    }
}
