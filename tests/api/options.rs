//! Every option on at once: the same bits on every instruction set and number of threads, the
//! library's and the host's.

use crate::common::LONG;
use crate::common::array::Array;
use crate::common::handle::{Handle, Param, config, isas};
use crate::common::host::with_scoped_threads;
use crate::common::kind::Kind;
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::tensors::Tensors;
use adamw::ffi::*;

/// How a run may differ without a bit of difference.
#[derive(Clone, Copy, Debug)]
struct Setup {
    isa: adamw_isa,
    threads: &'static usize,
    host_loop: bool,
    /// Into how many parameters of whole rows each tensor is cut.
    shards: usize,
}

/// All tensors after three steps with everything on; what is cut into shards is clipped by value,
/// the rest by a norm over the handle.
fn run(kind: Kind, clip: adamw_clip, setup: Setup) -> Vec<Tensors> {
    let mut random = Random::new(77);
    let mut config = adamw_config {
        lr: 0.01,
        weight_decay: 0.1,
        amsgrad: kind.amsgrad.into(),
        maximize: kind.maximize.into(),
        multi_precision: kind.master.into(),
        isa: setup.isa,
        num_threads: *setup.threads as u32,
        clip,
        clip_norm: 0.9,
        clip_min: -0.2,
        clip_max: 0.3,
        clip_scope: ADAMW_CLIP_SCOPE_HANDLE,
        nonfinite: ADAMW_NONFINITE_SKIP,
        ..config()
    };
    if setup.host_loop {
        with_scoped_threads(&mut config, setup.threads);
    }
    let handle = Handle::new(&config);
    handle.set_grad_scale(8.0).unwrap();
    handle.set_statistics(1).unwrap();
    let lazy = [ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT].map(|lazy_mode| {
        handle.add_group(|group| (group.lr_scale, group.lazy_mode) = (0.5, lazy_mode))
    });
    let regularizers = [(ADAMW_REGULARIZER_L1, 0.02), (ADAMW_REGULARIZER_L2, 0.05)];

    const ROW: usize = 50;
    let mut tensors = Vec::new();
    let mut kept: Vec<(Array, Option<Rows>)> = Vec::new();
    for (i, height) in [LONG / ROW, 100, LONG / ROW + 3].into_iter().enumerate() {
        let whole = Tensors::fresh(kind, &Array::ordinary(kind.param, height * ROW, &mut random));
        let grad = Array::ordinary(kind.grad, height * ROW, &mut random);
        let listed: Vec<usize> = (0..height).filter(|row| row % 3 != 1).rev().collect();
        let each = height.div_ceil(setup.shards);
        for first in (0..height).step_by(each) {
            let of_shard = first..height.min(first + each);
            let part = whole.copy(of_shard.start * ROW..of_shard.end * ROW, 0);
            let number = handle.add(&Param {
                group: if i == 0 { 0 } else { lazy[i - 1] },
                regularizer: regularizers[i % 2],
                master: part.master.as_ref(),
                exp_avg: Some(&part.exp_avg),
                exp_avg_sq: Some(&part.exp_avg_sq),
                max_exp_avg_sq: part.max_exp_avg_sq.as_ref(),
                ..Param::new(&format!("{i}.{first}"), &part.param)
            });
            let part_grad = grad.copy(of_shard.start * ROW..of_shard.end * ROW, 0);
            if i == 0 {
                handle.set_grad(number, &part_grad);
                kept.push((part_grad, None));
            } else {
                let rows: Vec<usize> =
                    listed.iter().copied().filter(|row| of_shard.contains(row)).collect();
                let values: Vec<f64> = rows
                    .iter()
                    .flat_map(|row| (row * ROW..(row + 1) * ROW).map(|at| grad.get(at)))
                    .collect();
                let values = Array::of(kind.grad, &values);
                let rows: Vec<usize> = rows.iter().map(|row| row - of_shard.start).collect();
                let rows = Rows::i64(&rows);
                handle.set_sparse_grad(number, &rows, &values);
                kept.push((values, Some(rows)));
            }
            tensors.push(part);
        }
    }
    for _ in 0..3 {
        handle.step();
        assert_eq!(handle.step_info().skipped, 0);
    }
    handle.sparse_flush();
    drop(handle);
    tensors
}

#[test]
fn every_option_together_has_the_same_bits_everywhere() {
    let portable = Setup { isa: ADAMW_ISA_PORTABLE, threads: &1, host_loop: false, shards: 1 };
    for (k, kind) in Kind::all().into_iter().enumerate().filter(|(k, _)| k % 4 == 1) {
        let clip = [ADAMW_CLIP_NORM, ADAMW_CLIP_GLOBAL_NORM, ADAMW_CLIP_VALUE][k % 3];
        let expected = run(kind, clip, portable);
        let mut setups: Vec<Setup> =
            isas().into_iter().map(|isa| Setup { isa, threads: &2, ..portable }).collect();
        setups.push(Setup { isa: ADAMW_ISA_BEST, threads: &7, ..portable });
        setups.push(Setup { isa: ADAMW_ISA_BEST, threads: &3, host_loop: true, ..portable });
        for setup in setups {
            for (i, (got, expected)) in run(kind, clip, setup).iter().zip(&expected).enumerate() {
                got.assert_same(expected, || {
                    format!("tensor {i}, {kind:?}, clip {clip}, {setup:?}")
                });
            }
        }
    }
}

#[test]
fn shards_have_the_bits_of_the_whole_under_every_option_that_is_not_a_norm() {
    let whole = Setup { isa: ADAMW_ISA_BEST, threads: &2, host_loop: false, shards: 1 };
    for kind in Kind::all().into_iter().filter(|kind| kind.amsgrad != kind.maximize) {
        let expected = run(kind, ADAMW_CLIP_VALUE, whole);
        for shards in [2, 7] {
            let got = run(kind, ADAMW_CLIP_VALUE, Setup { shards, ..whole });
            for (i, expected) in expected.iter().enumerate() {
                let mut at = 0;
                for part in &got[i * shards..(i + 1) * shards] {
                    let expected = expected.copy(at..at + part.len(), 0);
                    part.assert_same(&expected, || {
                        format!("tensor {i}, {kind:?}, {shards} shards")
                    });
                    at += part.len();
                }
                assert_eq!(at, expected.len());
            }
        }
    }
}
