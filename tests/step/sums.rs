//! Gradients measured without a step, and sums over them from outside, which steps take in place of their own.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, config, with_clip};
use crate::common::random::Random;
use crate::common::rows::Rows;
use adamw::ffi::*;

const DTYPES: [Dtype; 5] = [Dtype::F32, Dtype::Bf16, Dtype::F64, Dtype::F16, Dtype::F32];
const LENGTHS: [usize; 5] = [9_000, 17, 4_097, 1, 60];

/// A handle whose parameters have gradients of all kinds: plain, accumulated, sparse, ready, and none.
struct World {
    handle: Handle,
    params: Vec<Array>,
    grads: Vec<Array>,
    _rows: Rows,
}

impl World {
    fn new(config: &adamw_config, seed: u64) -> World {
        let mut random = Random::new(seed);
        let handle = Handle::new(&adamw_config { average_grads: 1, ..*config });
        handle.add_group(|group| group.clip_norm *= 2.0);
        let params: Vec<_> = DTYPES
            .iter()
            .zip(LENGTHS)
            .map(|(&dtype, n)| Array::ordinary(dtype, n, &mut random))
            .collect();
        for (i, param) in params.iter().enumerate() {
            let (group, no_clip) = ((i % 2) as u32, i == 3);
            handle.add(&Param { group, no_clip, ..Param::new(&i.to_string(), param) });
        }
        let mut grads: Vec<_> = params
            .iter()
            .map(|param| Array::ordinary(param.dtype(), param.len(), &mut random))
            .collect();
        for number in [0, 3] {
            handle.set_grad(number, &grads[number as usize]);
        }
        handle.grad_ready(0).unwrap();
        for _ in 0..3 {
            handle.accumulate_grad(2, &grads[2]).unwrap();
        }
        let rows = Rows::i64(&[3, 8, 3]);
        grads[4] = Array::ordinary(Dtype::F32, 15, &mut random);
        handle.set_sparse_grad(4, &rows, &grads[4]);
        World { handle, params, grads, _rows: rows }
    }

    fn sums(&self) -> Array {
        let sums = Array::of(Dtype::F64, &[f64::NAN; 10]);
        self.handle.measure_grads(&sums.tensor()).unwrap();
        sums
    }

    fn bits(&self) -> Vec<Vec<u8>> {
        self.params.iter().map(|param| param.bytes().to_vec()).collect()
    }

    fn seen(&self) -> (u64, u64, u64, u32) {
        let info = self.handle.step_info();
        (info.grad_norm.to_bits(), info.clip_factor.to_bits(), info.n_nonfinite, info.skipped)
    }
}

fn configs() -> impl Iterator<Item = adamw_config> {
    let clips = [ADAMW_CLIP_NONE, ADAMW_CLIP_NORM, ADAMW_CLIP_GLOBAL_NORM];
    let all = [ADAMW_NONFINITE_PROPAGATE, ADAMW_NONFINITE_SKIP, ADAMW_NONFINITE_FAIL];
    let scopes = [ADAMW_CLIP_SCOPE_HANDLE, ADAMW_CLIP_SCOPE_GROUP];
    clips.into_iter().flat_map(move |clip| {
        all.into_iter().flat_map(move |nonfinite| {
            scopes.map(|clip_scope| {
                with_clip(clip, adamw_config { clip_norm: 0.3, nonfinite, clip_scope, ..config() })
            })
        })
    })
}

#[test]
fn a_step_with_the_sums_that_were_measured_has_the_bits_of_a_step_that_measures() {
    for (seed, config) in configs().enumerate() {
        for is_finite in [true, false] {
            let [plain, given] = [(); 2].map(|()| World::new(&config, seed as u64));
            if !is_finite {
                for world in [&plain, &given] {
                    world.grads[3].set(0, f64::INFINITY);
                    world.grads[4].set(2, f64::NAN);
                }
            }
            let before = given.bits();
            let sums = given.sums();
            assert_eq!(before, given.bits(), "to measure is not to step");
            given.handle.set_grad_sums(Some(&sums.tensor())).unwrap();
            let [plain_result, given_result] =
                [&plain, &given].map(|world| world.handle.try_step());
            assert_eq!(plain_result, given_result, "{config:?}");
            assert_eq!(plain.bits(), given.bits(), "{config:?}");
            assert_eq!(plain.seen(), given.seen(), "{config:?}");
        }
    }
}

#[test]
fn sums_are_those_of_the_gradients_that_a_step_would_use() {
    let world = World::new(&config(), 1);
    let sums = world.sums().values();
    let squares = |grad: &Array| grad.values().iter().map(|value| value * value).sum::<f64>();
    assert_eq!(&sums[2..4], [0.0; 2], "a parameter without a gradient");
    assert!((sums[0] / squares(&world.grads[0]) - 1.0).abs() < 1e-12);
    assert!((sums[4] / squares(&world.grads[2]) - 1.0).abs() < 1e-6, "a mean of three alike");
    world.grads[3].set(0, f64::NAN);
    assert_eq!(world.sums().values()[7], 1.0);
}

#[test]
fn hosts_that_add_up_their_sums_step_as_one_host_with_all_gradients() {
    let config = adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..config() };
    let config = with_clip(ADAMW_CLIP_GLOBAL_NORM, adamw_config { clip_norm: 0.3, ..config });
    let mut random = Random::new(3);
    let arrays: Vec<_> = (0..4).map(|_| Array::ordinary(Dtype::F32, 5_000, &mut random)).collect();
    let (params, grads) = arrays.split_at(2);
    for step in 0..3 {
        let whole = Handle::new(&config);
        let parts = [(); 2].map(|()| Handle::new(&config));
        let all: Vec<_> = params.iter().map(Array::duplicate).collect();
        let own: Vec<_> = params.iter().map(Array::duplicate).collect();
        let empty = Array::zeros(Dtype::F32, 0);
        if step == 2 {
            grads[1].set(9, f64::NAN);
        }
        for (number, name) in [(0u32, "a"), (1, "b")] {
            let i = number as usize;
            whole.add_array(name, &all[i]);
            whole.set_grad(number, &grads[i]);
            for (part, handle) in parts.iter().enumerate() {
                handle.add_array(name, if part == i { &own[i] } else { &empty });
            }
            parts[i].set_grad(number, &grads[i]);
        }
        let total = Array::zeros(Dtype::F64, 4);
        for handle in &parts {
            let sums = Array::zeros(Dtype::F64, 4);
            handle.measure_grads(&sums.tensor()).unwrap();
            (0..4).for_each(|i| total.set(i, total.values()[i] + sums.values()[i]));
        }
        whole.step();
        for handle in &parts {
            handle.set_grad_sums(Some(&total.tensor())).unwrap();
            handle.step();
            let (is, expected) = (handle.step_info(), whole.step_info());
            assert_eq!(is.clip_factor, expected.clip_factor);
            assert_eq!(is.grad_norm.to_bits(), expected.grad_norm.to_bits());
            assert_eq!((is.skipped, is.n_nonfinite), (u32::from(step == 2), u64::from(step == 2)));
        }
        assert!((0..2).all(|i| all[i].first_difference(&own[i]).is_none()));
    }
}

#[test]
fn the_norm_without_a_step_is_the_one_that_the_step_reports() {
    for scale in [1.0, 8.0] {
        let config = with_clip(
            ADAMW_CLIP_GLOBAL_NORM,
            adamw_config { clip_norm: 0.3, nonfinite: ADAMW_NONFINITE_FAIL, ..config() },
        );
        let world = World::new(&config, 4);
        world.handle.set_grad_scale(scale).unwrap();
        let (norm, n_nonfinite) = world.handle.grad_norm().unwrap();
        world.grads[3].set(0, f64::NAN);
        assert_eq!(world.handle.grad_norm().unwrap().1, 1, "which is no failure");
        world.grads[3].set(0, 1.0);
        let sums = world.sums();
        sums.set(0, 0.0);
        world.handle.set_grad_sums(Some(&sums.tensor())).unwrap();
        let less = world.handle.grad_norm().unwrap().0;
        world.handle.step();
        let info = world.handle.step_info();
        assert_eq!(info.grad_norm.to_bits(), less.to_bits());
        assert!(less < norm && n_nonfinite == 0);
    }
}

#[test]
fn a_norm_alone_is_enough_for_a_global_clip() {
    let config = with_clip(ADAMW_CLIP_GLOBAL_NORM, adamw_config { clip_norm: 0.3, ..config() });
    let [plain, given] = [(); 2].map(|()| World::new(&config, 6));
    let norm = plain.handle.grad_norm().unwrap().0;
    let sums = Array::zeros(Dtype::F64, 10);
    sums.set(6, norm * norm);
    given.handle.set_grad_sums(Some(&sums.tensor())).unwrap();
    plain.handle.step();
    given.handle.step();
    let [is, expected] = [&given, &plain].map(|world| world.handle.step_info());
    assert_eq!(is.grad_norm.to_bits(), expected.grad_norm.to_bits());
    given.handle.set_grad_sums(None).unwrap();
    given.handle.step();
    assert_eq!(given.handle.step_info().n_nonfinite, 0);
}

#[test]
fn numbers_that_are_no_sums_stand_for_what_is_not_finite() {
    let config = adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..config() };
    for (squares, count, expected) in [
        (1.0, 0.0, 0),
        (f64::NAN, 0.0, 1),
        (-1.0, 0.0, 1),
        (1.0, -1.0, 1),
        (1.0, f64::NAN, 1),
        (f64::NAN, 3.0, 3),
        (1.0, 2.5, 2),
        (f64::INFINITY, 0.0, 1),
        (1.0, f64::INFINITY, 1 << 53),
        (-0.0, 0.0, 0),
    ] {
        let world = World::new(&config, 7);
        let sums = Array::zeros(Dtype::F64, 10);
        sums.set(2, squares);
        sums.set(3, count);
        world.handle.set_grad_sums(Some(&sums.tensor())).unwrap();
        world.handle.step();
        let info = world.handle.step_info();
        assert_eq!((info.n_nonfinite, info.skipped), (expected, u32::from(expected > 0)));
        assert_eq!(world.handle.grad_norm().unwrap().1, expected, "{squares} {count}");
    }
}
