//! Checkpoints of every version of the format are loaded for ever. `tests/golden/checkpoint-<format>-*`
//! were written when the format was new.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::handle::{Handle, Param, config, loss_scaler, schedule};
use crate::common::random::Random;
use adamw::ffi::*;
use std::path::PathBuf;

/// A handle with everything that a checkpoint can hold: with amsgrad and 8-bit moments, or without and
/// with 4-bit ones.
struct World {
    handle: Handle,
    params: Vec<Array>,
}

/// What the L2 regularizer of the second parameter was written with.
const L2: f64 = 0.5;
const WITH_L2: u32 = 1;

impl World {
    fn new(amsgrad: bool) -> World {
        let handle = Handle::new(&adamw_config {
            lr: 0.25,
            amsgrad: amsgrad.into(),
            maximize: 1,
            multi_precision: 1,
            clip: ADAMW_CLIP_GLOBAL_NORM,
            clip_norm: 0.75,
            clip_scope: ADAMW_CLIP_SCOPE_GROUP,
            nonfinite: ADAMW_NONFINITE_SKIP,
            seed: 77,
            ..config()
        });
        let coded = if amsgrad { ADAMW_MOMENTS_8BIT } else { ADAMW_MOMENTS_4BIT };
        let groups = [
            (ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_F32),
            (ADAMW_PRECISION_SPLIT, coded),
            (ADAMW_PRECISION_KAHAN, ADAMW_MOMENTS_BF16),
            (ADAMW_PRECISION_STOCHASTIC, ADAMW_MOMENTS_F32),
        ];
        for (precision, moments) in &groups[1..] {
            handle.add_group(|group| {
                (group.precision, group.moments) = (*precision, *moments);
                (group.beta2, group.lr_scale, group.weight_decay) = (0.99, 0.5, 0.125);
            });
        }
        let mut random = Random::new(4);
        let mut params = Vec::new();
        for (i, (dtype, n, group)) in [
            (Dtype::F32, 5, 0),
            (Dtype::F64, 3, 0),
            (Dtype::Bf16, 7, 0),
            (Dtype::Bf16, 4099, 1),
            (Dtype::F16, 6, 2),
            (Dtype::Bf16, 6, 3),
            (Dtype::F32, 0, 0),
        ]
        .into_iter()
        .enumerate()
        {
            let array = Array::ordinary(dtype, n, &mut random);
            let name = ["a.weight", "\"b\"\\", "ä", "codes", "kahan", "random", "empty"][i];
            let coeff = if i == WITH_L2 as usize { L2 } else { 0.0 };
            let regularizer = (ADAMW_REGULARIZER_L2, coeff);
            let (first_element, whole_elements) =
                if i == 3 { (256, 256 + n as u64) } else { (0, 0) };
            let param = Param {
                group,
                regularizer,
                first_element,
                whole_elements,
                ..Param::new(name, &array)
            };
            handle.add(&param);
            params.push(array);
        }
        handle.edit_options(0, |options| (options.lr_scale, options.no_clip) = (2.0, 1));
        handle.edit_options(2, |options| options.frozen = 1);
        let mut inner = schedule(ADAMW_SCHEDULE_COSINE_ANNEALING);
        (inner.lr, inner.period) = (0.25, 9);
        let pointer = &raw const inner;
        let mut warmup = schedule(ADAMW_SCHEDULE_LINEAR_WARMUP);
        (warmup.warmup_steps, warmup.end_lr, warmup.n_schedules) = (3, 0.25, 1);
        warmup.schedules = &pointer;
        handle.set_schedule(&warmup).unwrap();
        let scaler = loss_scaler(64.0, 4, 1);
        handle.set_scaler(&scaler).unwrap();
        World { handle, params }
    }

    fn train(&self, steps: core::ops::Range<u64>) {
        for step in steps {
            let mut random = Random::new(step);
            for (number, param) in (0..).zip(&self.params) {
                let grad = Array::ordinary(param.dtype(), param.len(), &mut random);
                // Gradients live until the step, which `accumulate_grad` copies them for.
                self.handle.accumulate_grad(number, &grad).unwrap();
            }
            self.handle.step();
            self.handle.clear_grad(ADAMW_CLEAR_FORGET); // of the frozen parameter
        }
    }
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

/// A file, whether it is with amsgrad, and whether its random bits are those of today. They were
/// Philox's before.
const FILES: [(&str, bool, bool); 4] = [
    ("checkpoint-1-amsgrad.safetensors", true, false),
    ("checkpoint-1-4bit.safetensors", false, false),
    ("checkpoint-1-mixed-amsgrad.safetensors", true, true),
    ("checkpoint-1-mixed-4bit.safetensors", false, true),
];
/// A file of more parameters than have tensors of their own.
const PACKED: &str = "checkpoint-2.safetensors";
/// Parameters on which no random bit has an influence.
const NOT_RANDOM: core::ops::Range<usize> = 0..3;

/// A handle that has taken the steps that the golden files were written after, as they were taken then: an
/// L2 regularizer was a reward while a step ascends the gradient, which one of the opposite sign is now.
fn as_it_was_written(amsgrad: bool) -> World {
    let world = World::new(amsgrad);
    set_l2(&world.handle, -L2);
    world.train(0..5);
    set_l2(&world.handle, L2);
    world
}

fn set_l2(handle: &Handle, coeff: f64) {
    handle.edit_options(WITH_L2, |options| options.regularizer_coeff = coeff);
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

#[test]
fn the_steps_before_a_golden_file_have_its_bits() {
    for (name, amsgrad, is_of_today) in FILES {
        let saved = as_it_was_written(amsgrad).handle.saved(true);
        assert_eq!(saved == golden(name), is_of_today, "{name}");
    }
    assert!(many().0.saved(true) == golden(PACKED));
}

/// A handle with so many parameters that their state is packed, which has taken three steps.
fn many() -> (Handle, Vec<Array>) {
    let handle = Handle::new(&config());
    let params: Vec<_> = (0..4100).map(|i| Array::of(Dtype::F32, &[f64::from(i)])).collect();
    for (i, array) in params.iter().enumerate() {
        handle.add(&Param::new(&format!("p{i}"), array));
    }
    for step in 0..3 {
        let grads: Vec<_> =
            (0..4100).map(|i| Array::of(Dtype::F32, &[f64::from(i % 7 - step)])).collect();
        (0..).zip(&grads).for_each(|(number, grad)| handle.set_grad(number, grad));
        handle.step();
        handle.clear_grad(ADAMW_CLEAR_FORGET);
    }
    (handle, params)
}

#[test]
fn a_golden_file_of_many_parameters_is_loaded_and_saved_again_as_it_is() {
    let all = adamw_load_options { params: 1, ..load_options() };
    let (handle, params) = many();
    params.iter().for_each(|array| array.set(0, 0.5));
    handle.load_bytes(&golden(PACKED), &all).unwrap();
    assert!(handle.saved(true) == golden(PACKED));
}

#[test]
fn every_golden_file_is_loaded_saved_again_as_it_is_and_goes_on_as_it_did() {
    let all = adamw_load_options { params: 1, ..load_options() };
    for (name, amsgrad, is_of_today) in FILES {
        let golden = golden(name);
        let loaded = World::new(amsgrad);
        loaded.handle.load_bytes(&golden, &all).unwrap();
        assert!(loaded.handle.saved(true) == golden, "{name}");
        let expected = as_it_was_written(amsgrad);
        for step in 5..8 {
            loaded.train(step..step + 1);
            expected.train(step..step + 1);
            let saved = [&loaded, &expected].map(|world| world.handle.saved(true));
            assert_eq!(saved[0] == saved[1], is_of_today, "{name}, step {step}");
            let pairs = loaded.params.iter().zip(&expected.params);
            for (i, (loaded, expected)) in pairs.enumerate().filter(|(i, _)| NOT_RANDOM.contains(i))
            {
                let is_same = (0..loaded.len()).all(|at| loaded.bits(at) == expected.bits(at));
                assert!(is_same, "{name}, step {step}, parameter {i}");
            }
        }
        assert_eq!(loaded.handle.info(0).step, 8, "{name}");
    }
}

#[test]
fn a_regularizer_is_what_alone_has_changed_since_the_golden_files() {
    for (name, amsgrad, _) in FILES {
        let [now, then] = [World::new(amsgrad), as_it_was_written(amsgrad)];
        now.train(0..5);
        for (i, (now, then)) in (0..).zip(now.params.iter().zip(&then.params)) {
            let is_same = (0..now.len()).all(|at| now.bits(at) == then.bits(at));
            assert_eq!(is_same, i != WITH_L2, "{name}, parameter {i}");
        }
    }
}
