//! What a step did: norms of updates and parameters in the order that norms have, without a bit of
//! difference to the step.

use crate::common::LONG;
use crate::common::array::Array;
use crate::common::handle::{Handle, config, isas};
use crate::common::kind::Kind;
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::sums::sum_squares;
use crate::common::tensors::Tensors;
use adamw::ffi::*;

fn truth(tensors: &Tensors) -> Vec<f64> {
    tensors.master.as_ref().unwrap_or(&tensors.param).values()
}

fn config_of(kind: Kind) -> adamw_config {
    adamw_config {
        amsgrad: kind.amsgrad.into(),
        maximize: kind.maximize.into(),
        multi_precision: kind.master.into(),
        num_threads: 1,
        ..config()
    }
}

#[test]
fn norms_are_those_of_what_the_step_changed() {
    for kind in Kind::all() {
        let mut random = Random::new(9);
        let lengths = [1, 130, 4096, 9001];
        let tensors =
            lengths.map(|n| Tensors::fresh(kind, &Array::ordinary(kind.param, n, &mut random)));
        let plain = tensors.each_ref().map(Tensors::duplicate);
        let grads = lengths.map(|n| Array::ordinary(kind.grad, n, &mut random));
        let handles = [&tensors, &plain].map(|tensors| {
            let handle = Handle::new(&config_of(kind));
            for (i, (tensors, grad)) in tensors.iter().zip(&grads).enumerate() {
                let number = tensors.add_to(&handle, &i.to_string(), 0);
                handle.set_grad(number, grad);
            }
            handle
        });
        handles[0].set_statistics(1).unwrap();
        for _ in 0..3 {
            let before: Vec<Vec<f64>> = tensors.iter().map(truth).collect();
            handles.iter().for_each(Handle::step);
            let (mut update, mut param) = (0.0, 0.0);
            for (before, tensors) in before.iter().zip(&tensors) {
                let after = truth(tensors);
                let change: Vec<f64> = before.iter().zip(&after).map(|(b, a)| a - b).collect();
                update += sum_squares(&change, 4096);
                param += sum_squares(&after, 4096);
            }
            let info = handles[0].step_info();
            let got = (info.update_norm.to_bits(), info.param_norm.to_bits());
            assert_eq!(got, (update.sqrt().to_bits(), param.sqrt().to_bits()), "{kind:?}");
            assert_eq!(info.has_statistics, 1);
            let info = handles[1].step_info();
            assert_eq!((info.has_statistics, info.update_norm, info.param_norm), (0, 0.0, 0.0));
        }
        for (tensors, plain) in tensors.iter().zip(&plain) {
            tensors.assert_same(plain, || format!("{kind:?}"));
        }
    }
}

#[test]
fn norms_and_steps_have_the_same_bits_on_every_isa_and_number_of_threads() {
    for (k, kind) in Kind::all().into_iter().enumerate().filter(|(k, _)| k % 7 == 0) {
        let run = |isa, num_threads, row: Option<usize>| {
            let mut random = Random::new(k as u64);
            let start =
                Tensors::fresh(kind, &Array::ordinary(kind.param, LONG / 33 * 33, &mut random));
            let handle = Handle::new(&adamw_config {
                isa,
                num_threads,
                lazy_mode: ADAMW_LAZY_ROWS,
                ..config_of(kind)
            });
            let number = start.add_to(&handle, "w", 0);
            handle.set_statistics(1).unwrap();
            let listed: Vec<usize> = (0..start.len() / 33).rev().collect();
            let rows = Rows::i64(&listed);
            let grad = Array::ordinary(kind.grad, start.len(), &mut random);
            match row {
                None => handle.set_grad(number, &grad),
                Some(_) => handle.set_sparse_grad(number, &rows, &grad),
            }
            handle.step();
            let info = handle.step_info();
            let norms = (info.update_norm.to_bits(), info.param_norm.to_bits());
            drop(handle);
            (start, norms)
        };
        for row in [None, Some(33)] {
            let (expected, norms) = run(ADAMW_ISA_PORTABLE, 1, row);
            for isa in isas() {
                for num_threads in [1, 2, 7] {
                    let (got, got_norms) = run(isa, num_threads, row);
                    got.assert_same(&expected, || format!("{kind:?} {isa} {num_threads}"));
                    assert_eq!(got_norms, norms, "{kind:?} {isa} {num_threads}");
                }
            }
        }
    }
}

#[test]
fn listed_rows_are_added_up_row_by_row() {
    let kind = Kind::plain(crate::common::array::Dtype::F32);
    let mut random = Random::new(4);
    let table = Tensors::fresh(kind, &Array::ordinary(kind.param, 500, &mut random));
    let values = Array::ordinary(kind.grad, 40, &mut random);
    for lazy_mode in [ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        let tensors = table.duplicate();
        let handle = Handle::new(&adamw_config { lazy_mode, ..config_of(kind) });
        let number = tensors.add_to(&handle, "table", 0);
        let rows = Rows::i32(&[7, 3, 7, 49]);
        handle.set_sparse_grad(number, &rows, &values);
        handle.set_statistics(1).unwrap();
        handle.step();
        let of = |tensors: &Tensors| -> Vec<f64> {
            [3, 7, 49]
                .into_iter()
                .flat_map(|row| tensors.param.values()[row * 10..][..10].to_vec())
                .collect()
        };
        let (before, after) = (of(&table), of(&tensors));
        let change: Vec<f64> = before.iter().zip(&after).map(|(b, a)| a - b).collect();
        let info = handle.step_info();
        assert_eq!(info.update_norm, sum_squares(&change, 10).sqrt());
        assert_eq!(info.param_norm, sum_squares(&after, 10).sqrt());
    }
}

#[test]
fn the_rest_of_the_report_says_how_the_step_was_taken() {
    let config = adamw_config {
        clip: ADAMW_CLIP_NORM,
        clip_norm: 1.0,
        isa: ADAMW_ISA_PORTABLE,
        num_threads: 3,
        ..config()
    };
    let handle = Handle::new(&config);
    handle.set_statistics(1).unwrap();
    let info = handle.step_info();
    assert_eq!((info.clip_factor, info.seconds, info.n_elements), (1.0, 0.0, 0));
    let params = [1.0, 1.0].map(|value| Array::of(crate::common::array::Dtype::F32, &[value]));
    let grads = [4.0, 0.5].map(|value| Array::of(crate::common::array::Dtype::F32, &[value]));
    for i in 0..2 {
        let number = handle.add_array(&i.to_string(), &params[i]);
        handle.set_grad(number, &grads[i]);
    }
    handle.step();
    let info = handle.step_info();
    assert_eq!((info.clip_factor, info.isa, info.num_threads), (0.25, ADAMW_ISA_PORTABLE, 3));
    assert!(info.seconds > 0.0 && info.seconds < 60.0);
    grads[0].set(0, 0.5);
    handle.step();
    assert_eq!(handle.step_info().clip_factor, 1.0);
    grads[1].set(0, f64::NAN);
    handle.step();
    assert!(handle.step_info().clip_factor.is_nan());
    handle.step_param(0).unwrap();
    assert_eq!((handle.step_info().n_elements, handle.step_info().clip_factor), (1, 1.0));
    assert_eq!(handle.set_statistics(2).unwrap_err().text, "statistics is 2, expected 0 or 1");
}

#[test]
fn updates_that_rounding_has_lost_are_counted() {
    // The first step moves every weight with a gradient by lr, beside which bf16's 1 is 1/256 wide.
    let lost = |dtype, multi_precision, precision, lr| {
        let param = Array::of(dtype, &[1.0; 1000]);
        let grad = Array::of(dtype, &[0.5; 1000]);
        (0..300).for_each(|i| grad.set(i, 0.0)); // nothing is to move these
        let config = adamw_config { lr, multi_precision, precision, ..config() };
        let handle = Handle::new(&adamw_config { weight_decay: 0.0, ..config });
        let number = handle.add_array("w", &param);
        handle.set_grad(number, &grad);
        handle.step();
        assert_eq!(handle.step_info().n_unchanged, 0, "not asked for");
        handle.set_statistics(1).unwrap();
        handle.step();
        handle.step_info().n_unchanged
    };
    use crate::common::array::Dtype::{Bf16, F16, F32};
    for (dtype, multi_precision, precision, lr, expected) in [
        (Bf16, 0, ADAMW_PRECISION_DEFAULT, 1e-5, 700),
        (Bf16, 0, ADAMW_PRECISION_DEFAULT, 0.1, 0),
        (Bf16, 0, ADAMW_PRECISION_DEFAULT, 0.0, 0),
        (Bf16, 1, ADAMW_PRECISION_DEFAULT, 1e-5, 0),
        (Bf16, 0, ADAMW_PRECISION_SPLIT, 1e-5, 0),
        (Bf16, 0, ADAMW_PRECISION_KAHAN, 1e-5, 0),
        (F16, 0, ADAMW_PRECISION_DEFAULT, 1e-5, 700),
        (F32, 0, ADAMW_PRECISION_DEFAULT, 1e-5, 0),
        (F32, 0, ADAMW_PRECISION_DEFAULT, 1e-9, 700),
    ] {
        let case = format!("{dtype:?} {multi_precision} {precision} {lr}");
        assert_eq!(lost(dtype, multi_precision, precision, lr), expected, "{case}");
    }
}
