//! A step that clears the gradients that it has used, in the pass that uses them.

use crate::common::LONG;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config};
use crate::common::random::Random;
use crate::common::rows::Rows;
use adamw::ffi::*;

fn clearing() -> adamw_config {
    adamw_config { clear_grads: 1, ..config() }
}

#[track_caller]
fn assert_zero(grad: &Array) {
    assert!((0..grad.len()).all(|i| grad.bits(i) == 0));
}

#[test]
fn the_step_is_the_same_and_its_gradients_are_zero() {
    for dtype in Dtype::ALL {
        for (num_threads, statistics) in [(1, 0), (2, 0), (3, 1)] {
            let mut random = Random::new(2);
            let start = [3, 8193, LONG].map(|n| Array::ordinary(dtype, n, &mut random));
            let grads =
                start.each_ref().map(|start| Array::ordinary(dtype, start.len(), &mut random));
            let run = |config: adamw_config, params: &[Array; 3], grads: &[Array; 3]| {
                let handle = Handle::new(&adamw_config { num_threads, ..config });
                handle.set_statistics(statistics).unwrap();
                for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
                    let number = handle.add_array(name, &params[i]);
                    handle.set_grad(number, &grads[i]);
                }
                handle.step();
            };
            let (plain, cleared) = (start.each_ref().map(Array::duplicate), start);
            run(config(), &plain, &grads);
            run(clearing(), &cleared, &grads);
            for i in 0..3 {
                assert_eq!(cleared[i].first_difference(&plain[i]), None, "{dtype:?}");
                assert_zero(&grads[i]);
            }
        }
    }
}

#[test]
fn the_listed_rows_of_a_sparse_gradient_are_cleared() {
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        let handle = Handle::new(&adamw_config { lazy_mode, ..clearing() });
        let param = Array::of(Dtype::F32, &[1.0; 12]);
        let (rows, values) = (Rows::i32(&[2, 0, 2]), Array::of(Dtype::F32, &[1.0; 9]));
        let number = handle.add_array("emb", &param);
        handle.set_sparse_grad(number, &rows, &values);
        handle.step();
        assert_zero(&values);
    }
}

#[test]
fn a_skipped_step_clears_and_a_failed_one_does_not() {
    for (nonfinite, is_cleared) in [(ADAMW_NONFINITE_SKIP, true), (ADAMW_NONFINITE_FAIL, false)] {
        let handle = Handle::new(&adamw_config { nonfinite, ..clearing() });
        let param = Array::of(Dtype::F32, &[1.0, 2.0]);
        let grad = Array::of(Dtype::F32, &[f64::INFINITY, 3.0]);
        let number = handle.add_array("w", &param);
        handle.set_grad(number, &grad);
        assert_eq!(handle.try_step().is_ok(), is_cleared);
        assert_eq!(grad.get(1), if is_cleared { 0.0 } else { 3.0 });
        assert_eq!(param.get(0), 1.0);
    }
}

#[test]
fn only_what_a_step_is_asked_about_is_cleared() {
    let handle = Handle::new(&clearing());
    let params = ["a", "b"].map(|name| {
        let param = Array::of(Dtype::F32, &[1.0]);
        (handle.add_array(name, &param), param, Array::of(Dtype::F32, &[0.5]))
    });
    for (number, _, grad) in &params {
        handle.set_grad(*number, grad);
    }
    handle.step_param(params[0].0).unwrap();
    assert_eq!([params[0].2.get(0), params[1].2.get(0)], [0.0, 0.5]);
    handle.edit_options(params[1].0, |options| options.frozen = 1);
    handle.step();
    assert_eq!(params[1].2.get(0), 0.0);
}

#[test]
fn gradients_that_share_memory_are_refused_where_they_are_cleared() {
    let handles = [Handle::new(&config()), Handle::new(&clearing())];
    let params = [(); 2].map(|()| [(); 2].map(|()| Array::of(Dtype::F32, &[1.0, 2.0])));
    let shared = Array::of(Dtype::F32, &[0.5, 0.5]);
    for (handle, params) in handles.iter().zip(&params) {
        for (name, param) in ["a", "b"].into_iter().zip(params) {
            handle.set_grad(handle.add_array(name, param), &shared);
        }
    }
    handles[0].step();
    let failure = handles[1].try_step().unwrap_err();
    assert_eq!(failure.status, Status::InvalidArgument);
    assert!(failure.text.contains("grad overlaps grad of param"), "{}", failure.text);
    assert_eq!((params[1][0].get(0), shared.get(0)), (1.0, 0.5));
    // Of its own memory each can be stepped.
    let own = Array::of(Dtype::F32, &[0.5, 0.5]);
    handles[1].set_grad(1, &own);
    handles[1].step();
    assert_zero(&own);
}
