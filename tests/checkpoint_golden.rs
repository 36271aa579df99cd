//! Checkpoints of every version of the format are loaded for ever. `tests/golden/checkpoint-<format>-*`
//! were written when the format was new.

mod common;

use adamw::ffi::*;
use common::array::{Array, Dtype};
use common::checkpoint::load_options;
use common::handle::{Handle, Param, config, loss_scaler, schedule};
use common::random::Random;
use std::path::PathBuf;

/// A handle with everything that a checkpoint can hold: with amsgrad and 8-bit moments, or without and
/// with 4-bit ones.
struct World {
    handle: Handle,
    params: Vec<Array>,
}

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
            let regularizer = (ADAMW_REGULARIZER_L2, if i == 1 { 0.5 } else { 0.0 });
            let (first_element, whole_elements) = if i == 3 { (256, 8192) } else { (0, 0) };
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

const FILES: [(&str, bool); 2] =
    [("checkpoint-1-amsgrad.safetensors", true), ("checkpoint-1-4bit.safetensors", false)];

#[test]
fn every_golden_file_is_loaded_saved_again_as_it_is_and_goes_on() {
    let all = adamw_load_options { params: 1, ..load_options() };
    for (name, amsgrad) in FILES {
        let golden = std::fs::read(path(name)).unwrap();
        let [one, two] = [0, 1].map(|_| {
            let loaded = World::new(amsgrad);
            loaded.handle.load_bytes(&golden, &all).unwrap();
            assert!(loaded.handle.saved(true) == golden, "{name}");
            loaded
        });
        one.train(5..8);
        two.train(5..6);
        let between = two.handle.saved(true);
        let three = World::new(amsgrad);
        three.handle.load_bytes(&between, &all).unwrap();
        three.train(6..8);
        assert!(one.handle.saved(true) == three.handle.saved(true), "{name}");
        assert!(one.handle.info(0).step == 8, "{name}");
    }
}

/// The header of a checkpoint, with zeros for the checksums: what steps compute may change from version to
/// version (what a regularizer does while a step ascends the gradient, since these were written), the
/// format may not.
fn header(bytes: &[u8]) -> String {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut text = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    for key in ["\"header_crc32\":\"", "\"crc32\":\""] {
        let start = text.find(key).unwrap() + key.len();
        let end = start + text[start..].find('"').unwrap();
        text.replace_range(start..end, &"0".repeat(end - start));
    }
    text
}

#[test]
fn the_format_is_still_that_of_the_golden_files() {
    for (name, amsgrad) in FILES {
        let world = World::new(amsgrad);
        world.train(0..5);
        let bytes = world.handle.saved(true);
        let golden = std::fs::read(path(name)).unwrap();
        assert_eq!(header(&bytes), header(&golden), "{name}");
        assert_eq!(bytes.len(), golden.len(), "{name}");
    }
}
