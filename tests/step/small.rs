//! Many small parameters, which a step takes in runs.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config};
use crate::common::random::Random;
use adamw::ffi::*;

/// So many that two threads share a step of them.
const N: usize = 1100;

/// Adds a parameter of a kind that its place tells: most are small and f32, with a gradient.
fn add(handle: &Handle, i: usize, param: &Array, grad: &Array) {
    let number = handle.add_array(&format!("w{i}"), param);
    handle.edit_options(number, |options| {
        options.frozen = i.is_multiple_of(11).into();
        options.lr_scale = if i.is_multiple_of(5) { 0.5 } else { 1.0 };
    });
    if !i.is_multiple_of(13) {
        handle.set_grad(number, grad);
    }
}

#[test]
fn small_parameters_step_beside_others_as_each_does_alone() {
    for (num_threads, clear_grads, statistics) in [(1, 0, 0), (2, 0, 0), (2, 1, 0), (1, 1, 1)] {
        let random = &mut Random::new(17);
        let mut array = |i: usize| {
            let dtype = if i.is_multiple_of(7) { Dtype::Bf16 } else { Dtype::F32 };
            Array::ordinary(dtype, i * 37 % 530, random)
        };
        let params: Vec<_> = (0..N).map(&mut array).collect();
        let grads: Vec<_> = (0..N).map(&mut array).collect();
        let [theirs, their_grads] =
            [&params, &grads].map(|all| all.iter().map(Array::duplicate).collect::<Vec<_>>());
        let config = adamw_config { num_threads, clear_grads, ..config() };
        // From the 63rd step on; at the 64th moments forget.
        let steps = |handle: &Handle, n: usize| {
            handle.set_statistics(statistics).unwrap();
            handle.set_steps(None, &vec![62; n]).unwrap();
            (0..4).for_each(|_| handle.step());
        };
        let all = Handle::new(&config);
        for i in 0..N {
            add(&all, i, &params[i], &grads[i]);
            let alone = Handle::new(&adamw_config { num_threads: 1, ..config });
            add(&alone, i, &theirs[i], &their_grads[i]);
            steps(&alone, 1);
        }
        steps(&all, N);
        for i in 0..N {
            let of = format!("parameter {i}, {num_threads} threads, clear_grads {clear_grads}");
            assert_eq!(params[i].first_difference(&theirs[i]), None, "{of}");
            assert_eq!(grads[i].first_difference(&their_grads[i]), None, "{of}");
        }
    }
}
