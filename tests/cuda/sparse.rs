//! Sparse gradients of parameters on a device: the bits of the processor's steps, whatever is listed, and
//! nothing in a step but launches.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::device::{Device, OnDevice, Stream, take_log};
use crate::common::handle::{Failure, Handle, config, with_clip};
use crate::common::kernels::Case;
use crate::common::random::Random;
use crate::common::rows::{Rows, RowsOnDevice};
use crate::common::twin::Twin;
use adamw::ffi::*;

/// A table of rows of so many elements.
#[derive(Clone, Copy, Debug)]
struct Table {
    number: u32,
    height: usize,
    row: usize,
    values: Dtype,
}

/// Adds a table to both, whose gradients have values of a type.
fn table(twin: &mut Twin, param: Dtype, values: Dtype, (height, row): (usize, usize)) -> Table {
    Table { number: twin.add(param, height * row), height, row, values }
}

/// So many rows at random, in any order, some more than once.
fn some(random: &mut Random, height: usize, n: usize) -> Vec<i64> {
    (0..n).map(|_| (random.next() as usize % height) as i64).collect()
}

/// As the two types of numbers in turn.
fn numbers(rows: Vec<i64>, step: usize) -> Rows {
    let shape = [rows.len() as i64];
    match step % 2 {
        0 => Rows::I64(rows, shape),
        _ => Rows::I32(rows.into_iter().map(|row| row as i32).collect(), shape),
    }
}

impl Table {
    fn set(&self, twin: &mut Twin, rows: Vec<i64>, step: usize) {
        let values = Array::ordinary(self.values, rows.len() * self.row, &mut twin.random);
        twin.set_sparse_grad(self.number, numbers(rows, step), values);
    }

    /// Sets a gradient of so many rows at random.
    fn set_some(&self, twin: &mut Twin, n: usize, step: usize) {
        let rows = some(&mut twin.random, self.height, n);
        self.set(twin, rows, step);
    }
}

/// Shapes whose rows start at aligned addresses, and not.
const SHAPES: [(usize, usize); 6] = [(40, 128), (7, 3), (300, 17), (1, 1), (3, 1600), (5000, 1)];

#[test]
fn every_format_steps_to_the_processors_bits() {
    let _device = Device::with(&[("blocks", "2")]);
    let cases = Case::all();
    // Dense kernels step what is gathered for all rows: once for each type and format is enough.
    let modes = [(ADAMW_LAZY_OFF, 7), (ADAMW_LAZY_ROWS, 5), (ADAMW_LAZY_EXACT, 3)];
    for (lazy_mode, every) in modes {
        for (k, case) in cases.iter().enumerate().step_by(every) {
            let is_coded = matches!(case.moments, ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT);
            if is_coded && lazy_mode != ADAMW_LAZY_OFF {
                continue;
            }
            let mut twin = Twin::new(&adamw_config { lazy_mode, ..case.config() });
            let values = if case.f32_grad { Dtype::F32 } else { case.kept.param };
            let (height, row) = if is_coded { (40, 128) } else { SHAPES[k / every % SHAPES.len()] };
            let number = twin.add_with(case.kept.param, height * row, true, |mut param| {
                param.regularizer = (case.regularizer, 0.125);
                param
            });
            for step in 0..if lazy_mode == ADAMW_LAZY_EXACT { 3 } else { 2 } {
                let rows = some(&mut twin.random, height, 1 + height / 2);
                let values = Array::random(values, rows.len() * row, &mut twin.random);
                twin.set_sparse_grad(number, numbers(rows, step), values);
                twin.step();
            }
            twin.assert_same();
        }
    }
}

#[test]
fn whatever_is_listed_has_the_processors_bits() {
    let _device = Device::with(&[("blocks", "2")]);
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        let mut twin = Twin::new(&adamw_config { lazy_mode, ..config() });
        // Rows whose numbers have one digit, two and three.
        let tables = [(200, 5), (1 << 8, 2), (70_000, 1)]
            .map(|shape| table(&mut twin, Dtype::F32, Dtype::F32, shape));
        for step in 0..7 {
            for table in tables {
                let (height, all) = (table.height as i64, 0..table.height as i64);
                let rows = match step {
                    0 => vec![height - 1; 9],
                    1 => all.rev().step_by(1 + table.height / 5000).collect(),
                    2 => Vec::new(),
                    // More than a block sorts at once, so that the order of equal rows shows.
                    3 => some(&mut twin.random, table.height, 5000),
                    4 => vec![0, height - 1, 0, height / 2, 0],
                    5 => vec![height / 2],
                    _ => all.step_by(1 + table.height / 3000).collect(),
                };
                table.set(&mut twin, rows, step);
            }
            twin.step();
            twin.assert_same();
        }
    }
}

/// Blocks add up the counts of so many entries by themselves. A kernel does it for longer lists.
const SHORT: usize = 8 * 2048;

#[test]
fn lists_of_any_length_have_the_processors_bits() {
    let _device = Device::with(&[("global_races", "0")]);
    let mut twin = Twin::new(&adamw_config { lazy_mode: ADAMW_LAZY_ROWS, ..config() });
    // Rows whose numbers have one digit, and three.
    let tables =
        [(200, 1), (70_000, 1)].map(|shape| table(&mut twin, Dtype::F32, Dtype::F32, shape));
    // The last of more tiles than a block has threads, twice.
    for lengths in [
        [SHORT, SHORT],
        [SHORT + 1, 10],
        [10, SHORT + 1],
        [SHORT + 1, 2 * SHORT - 1],
        [511 * 2048 + 1, 0],
    ] {
        for (table, n) in tables.iter().zip(lengths) {
            table.set_some(&mut twin, n, 0);
        }
        twin.step();
        twin.assert_same();
    }
}

#[test]
fn norms_clips_and_skips_have_the_processors_bits() {
    let _device = Device::new();
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        for (clip, nonfinite) in [
            (ADAMW_CLIP_NORM, ADAMW_NONFINITE_PROPAGATE),
            (ADAMW_CLIP_GLOBAL_NORM, ADAMW_NONFINITE_SKIP),
            (ADAMW_CLIP_VALUE, ADAMW_NONFINITE_FAIL),
        ] {
            for host_too in [false, true] {
                let (clip_norm, clip_min, clip_max) = (0.3, -0.01, 0.02);
                let config = adamw_config {
                    lazy_mode,
                    clip,
                    nonfinite,
                    clip_norm,
                    clip_min,
                    clip_max,
                    ..config()
                };
                let mut twin = Twin::new(&config);
                let tables = [
                    table(&mut twin, Dtype::F32, Dtype::F32, (100, 100)),
                    table(&mut twin, Dtype::F64, Dtype::F32, (9, 1001)),
                    table(&mut twin, Dtype::Bf16, Dtype::Bf16, (4100, 3)),
                ];
                let dense = twin.add_with(Dtype::F32, 900, !host_too, |param| param);
                for step in 0..4 {
                    tables.iter().for_each(|table| table.set_some(&mut twin, 7, step));
                    let grad = Array::ordinary(Dtype::F32, 900, &mut twin.random);
                    twin.set_grad(dense, grad);
                    if step == 2 {
                        let bad = vec![f64::INFINITY; 7 * 1001];
                        twin.write_grad(1, &Array::of(Dtype::F32, &bad));
                    }
                    let answers = [&twin.host, &twin.device].map(|handle| handle.try_step());
                    assert_eq!(answers[0], answers[1]);
                    assert_eq!(answers[0].is_err(), step == 2 && nonfinite == ADAMW_NONFINITE_FAIL);
                    twin.assert_same();
                }
            }
        }
    }
}

#[test]
fn dense_sparse_and_accumulated_gradients_take_turns() {
    let _device = Device::new();
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        for clear_grads in [0, 1] {
            let config = adamw_config { lazy_mode, clear_grads, multi_precision: 1, ..config() };
            let mut twin = Twin::new(&config);
            let tables = [Dtype::F32, Dtype::F16, Dtype::Bf16]
                .map(|dtype| table(&mut twin, dtype, dtype, (60, 20)));
            for step in 0..12 {
                for (i, table) in tables.iter().enumerate() {
                    match (step + i) % 4 {
                        // The same values, cut into other rows, which those that lag cannot be.
                        0 if lazy_mode != ADAMW_LAZY_EXACT => {
                            Table { row: 10, height: 120, ..*table }.set_some(&mut twin, 9, step)
                        }
                        1 => {
                            let grad = Array::ordinary(table.values, 1200, &mut twin.random);
                            twin.set_grad(table.number, grad);
                        }
                        2 => {
                            for _ in 0..2 {
                                let grad = Array::ordinary(table.values, 1200, &mut twin.random);
                                twin.accumulate(table.number, &grad);
                            }
                        }
                        // Longer and longer lists, for which the room grows.
                        _ => table.set_some(&mut twin, 1 + step * step, step),
                    }
                }
                twin.step();
                twin.assert_same();
            }
        }
    }
}

#[test]
fn groups_may_change_how_lazy_they_are() {
    let _device = Device::new();
    let mut twin = Twin::new(&config());
    twin.both(|handle| {
        handle.add_group(|group| group.lazy_mode = ADAMW_LAZY_ROWS);
        handle.add_group(|group| group.lazy_mode = ADAMW_LAZY_EXACT);
    });
    let table = table(&mut twin, Dtype::F32, Dtype::F32, (50, 6));
    for step in 0..6 {
        // Before the gradient is there, or after: from then on rows lag, until another group settles them.
        let change = |twin: &Twin| {
            twin.both(|handle| {
                handle.edit_options(0, |options| options.group = [2, 2, 1, 2, 0, 2][step])
            })
        };
        if step % 2 == 0 {
            change(&twin);
        }
        table.set_some(&mut twin, 8, step);
        change(&twin);
        twin.step();
        twin.assert_same_params();
    }
    twin.assert_same();
    let longer = Array::zeros(Dtype::F32, 10);
    let rows = numbers(vec![3], 0);
    let (listed, values) = (RowsOnDevice::of(&rows), OnDevice::of(&longer, 0));
    let device = twin.device.set_sparse_grad_tensors(0, &listed.tensor(), &values.tensor());
    let host = twin.host.set_sparse_grad_tensors(0, &rows.tensor(), &longer.tensor());
    assert_eq!(device, host);
    let text = "param \"w0\": grad has rows of 10 elements, expected 6 as earlier ones had";
    assert_eq!(device.unwrap_err().text, text);
}

#[test]
fn rows_that_lag_take_the_steps_that_they_have_missed() {
    let _device = Device::with(&[("blocks", "2")]);
    for (clip, nonfinite) in
        [(ADAMW_CLIP_NONE, ADAMW_NONFINITE_PROPAGATE), (ADAMW_CLIP_NORM, ADAMW_NONFINITE_SKIP)]
    {
        let lazy_mode = ADAMW_LAZY_EXACT;
        let (amsgrad, clip_norm) = (1, 0.5);
        let config = adamw_config { lazy_mode, clip_norm, nonfinite, amsgrad, ..config() };
        let mut twin = Twin::new(&with_clip(clip, config));
        // The rows of the last one take turns several at a time.
        let tables = [
            table(&mut twin, Dtype::F32, Dtype::F32, (50, 6)),
            table(&mut twin, Dtype::Bf16, Dtype::F32, (20, 17)),
            table(&mut twin, Dtype::F64, Dtype::F32, (3000, 1)),
        ];
        for step in 0..24 {
            // Each with other numbers, which the log remembers.
            twin.both(|handle| handle.set_lr(0.001 * (1 + step) as f64));
            tables.iter().for_each(|table| table.set_some(&mut twin, 5, step));
            match step {
                5 | 17 => {
                    let grad = Array::ordinary(Dtype::F32, 300, &mut twin.random);
                    twin.set_grad(0, grad);
                }
                9 => twin.sparse_prepare(0, &numbers(vec![7, 40, 7, 3, 7, 40], 0)),
                10 => twin.sparse_prepare(1, &numbers(vec![19, 19], 1)),
                11 => twin.both(|handle| handle.sparse_flush()),
                13 | 16 if nonfinite == ADAMW_NONFINITE_SKIP => {
                    let bad = vec![f64::NAN; 5];
                    twin.write_grad(2, &Array::of(Dtype::F32, &bad));
                    // Nor do rows catch up for a step of all of them that is skipped.
                    let grad = Array::ordinary(Dtype::F32, 300, &mut twin.random);
                    twin.set_grad(0, grad);
                }
                20 => {
                    let saved = twin.host.saved(true);
                    assert!(twin.device.saved(true) == saved);
                }
                _ => {}
            }
            twin.assert_same_params();
            twin.step();
            twin.assert_same_params();
        }
        twin.assert_same();
    }
}

#[test]
fn a_graph_brings_rows_up_to_date_whenever_it_is_launched() {
    let _device = Device::new();
    let mut twin = Twin::new(&adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..config() });
    let table = table(&mut twin, Dtype::F32, Dtype::F32, (50, 6));
    table.set(&mut twin, vec![1, 2], 0);
    let (stream, mut rows) = (Stream::new(), numbers(vec![3, 8, 3], 0));
    twin.device.set_stream(stream.raw().cast()).unwrap();
    let listed = RowsOnDevice::of(&rows);
    let prepare = || twin.device.sparse_prepare_tensor(0, &listed.tensor()).unwrap();
    let graph = stream.capture(prepare);
    for step in 0..4 {
        twin.step();
        twin.step();
        stream.launch(&graph);
        twin.host.sparse_prepare(0, &rows).unwrap();
        stream.wait();
        twin.assert_same_params();
        // It is read whenever it is its turn.
        rows = numbers(vec![30 + step, 9, 8], 0);
        listed.set(&rows);
    }
    twin.assert_same();
}

#[test]
fn no_row_lags_further_than_the_log_reaches() {
    let _device = Device::with(&[("blocks", "1")]);
    let mut twin = Twin::new(&adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..config() });
    let table = table(&mut twin, Dtype::F32, Dtype::F32, (3, 2));
    for _ in 0..1030 {
        table.set(&mut twin, vec![1], 0);
        twin.step();
    }
    twin.assert_same_params();
    twin.assert_same();
}

#[test]
fn state_that_is_loaded_into_rows_that_lag_is_up_to_date() {
    let _device = Device::new();
    let mut twin = Twin::new(&adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..config() });
    let table = table(&mut twin, Dtype::F32, Dtype::F32, (30, 4));
    let saved = twin.host.saved(true);
    for step in 0..9 {
        if step == 6 {
            let options = adamw_load_options { params: 1, ..load_options() };
            twin.both(|handle| handle.load_bytes(&saved, &options).unwrap());
        }
        table.set_some(&mut twin, 3, step);
        twin.step();
    }
    twin.assert_same();
    twin.both(|handle| handle.reset(0));
    table.set_some(&mut twin, 3, 0);
    twin.step();
    twin.both(|handle| handle.remove(0).unwrap());
    twin.assert_same_at_the_end();
}

#[test]
fn a_list_that_is_read_again_is_read_as_it_is_then() {
    let _device = Device::new();
    for (clip, lazy_mode) in [
        (ADAMW_CLIP_NONE, ADAMW_LAZY_ROWS),
        (ADAMW_CLIP_GLOBAL_NORM, ADAMW_LAZY_ROWS),
        (ADAMW_CLIP_NONE, ADAMW_LAZY_EXACT),
        (ADAMW_CLIP_GLOBAL_NORM, ADAMW_LAZY_EXACT),
    ] {
        let stream = Stream::new();
        let limits = adamw_config { lazy_mode, clip_norm: 0.1, ..config() };
        let handle = |lr| Handle::new(&with_clip(clip, adamw_config { lr, ..limits }));
        let (host, device) = (handle(f64::from(0.01f32)), handle(0.5));
        let random = &mut Random::new(3);
        let param = Array::ordinary(Dtype::F32, 400, random);
        let on_device = OnDevice::of(&param, 0);
        let mut tensors = [None; 9];
        tensors[0] = Some(on_device.tensor());
        let added = crate::common::handle::Param::new("table", &param);
        device.try_add_tensors(&added, tensors).unwrap();
        host.add(&added);
        let mut values = Array::ordinary(Dtype::F32, 6 * 4, random);
        let mut rows = numbers(some(random, 100, 6), 0);
        let (listed, copied) = (RowsOnDevice::of(&rows), OnDevice::of(&values, 0));
        device.set_sparse_grad_tensors(0, &listed.tensor(), &copied.tensor()).unwrap();
        let lr = OnDevice::of(&Array::of(Dtype::F32, &[0.01]), 0);
        device.set_stream(stream.raw().cast()).unwrap();
        device.set_device_inputs([lr.address(), 0, 0]).unwrap();
        device.prepare().unwrap();
        let graph = stream.capture(|| device.step());
        for step in 0..10 {
            // By the graph, or by a plain step.
            match step % 3 {
                2 => device.step(),
                _ => stream.launch(&graph),
            }
            host.set_sparse_grad(0, &rows, &values);
            host.step();
            stream.wait();
            assert_eq!(on_device.array().unwrap().first_difference(&param), None, "{step}");
            rows = numbers(some(random, 100, 6), 0);
            values = Array::ordinary(Dtype::F32, 6 * 4, random);
            listed.set(&rows);
            copied.set(&values);
        }
        assert_eq!(device.info(0).step, 10);
        // There is no room for a longer one, and none can be made now.
        let longer = RowsOnDevice::of(&numbers(vec![1; 7], 0));
        let values = OnDevice::of(&Array::zeros(Dtype::F32, 7 * 4), 0);
        let mut refused = None;
        stream.capture(|| {
            let set = device.set_sparse_grad_tensors(0, &longer.tensor(), &values.tensor());
            refused = set.err();
        });
        assert_eq!(refused.unwrap().status, Status::Unsupported);
        device.set_sparse_grad_tensors(0, &longer.tensor(), &values.tensor()).unwrap();
    }
}

// ---------------------------------------------------------------------------------- rows that are not there

#[test]
fn a_row_outside_is_passed_over_and_told_to_who_waits() {
    let _device = Device::new();
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        for row in [4, -1, i64::MIN, i64::MAX, 1 << 32] {
            let mut twin = Twin::new(&adamw_config { lazy_mode, ..config() });
            let table = table(&mut twin, Dtype::F32, Dtype::F32, (4, 5));
            let values = Array::ordinary(Dtype::F32, 4 * 5, &mut twin.random);
            let rows = [vec![1, row, 1, row], vec![1, 1]];
            // What the processor is given has those rows left out.
            let kept = Array::zeros(Dtype::F32, 2 * 5);
            (0..10).for_each(|i| kept.set_bits(i, values.bits(i % 5 + i / 5 * 10)));
            let on_device =
                (RowsOnDevice::of(&numbers(rows[0].clone(), 0)), OnDevice::of(&values, 0));
            twin.set_sparse_grad(table.number, numbers(rows[1].clone(), 0), kept);
            let (listed, values) = (on_device.0.tensor(), on_device.1.tensor());
            twin.device.set_sparse_grad_tensors(table.number, &listed, &values).unwrap();
            twin.step();
            // Another step before anybody asks does not hide it.
            twin.device.set_sparse_grad_tensors(table.number, &listed, &values).unwrap();
            twin.step();
            let Failure { status, text } = twin.device.try_step_info().unwrap_err();
            assert_eq!(status, Status::InvalidArgument);
            assert_eq!(text, format!("param \"w0\": rows[1] is {row}, expected 0 to 3"));
            twin.assert_same(); // which asks again: once is enough
        }
    }
}

#[test]
fn a_step_that_waits_refuses_a_row_outside_by_name() {
    let _device = Device::new();
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        let nonfinite = ADAMW_NONFINITE_FAIL;
        let mut twin = Twin::new(&adamw_config { lazy_mode, nonfinite, ..config() });
        let tables = [0, 1, 2].map(|_| table(&mut twin, Dtype::F32, Dtype::F32, (4, 5)));
        [2, 0].iter().for_each(|i| tables[*i].set_some(&mut twin, 1, 0)); // in another order
        tables[0].set_some(&mut twin, 2, 0);
        for step in 0..2 {
            // Where several have one, the first is told, and none of them is held against a later step.
            tables[1].set(&mut twin, vec![3, 2, 9, 4], step);
            tables[2].set(&mut twin, vec![-1], step);
            let failures = [&twin.host, &twin.device].map(|handle| handle.try_step().unwrap_err());
            assert_eq!(failures[0], failures[1]);
            assert_eq!(failures[0].text, "param \"w1\": rows[2] is 9, expected 0 to 3");
            twin.assert_same();
            tables[1..].iter().for_each(|table| table.set_some(&mut twin, 3, step));
            twin.step();
            twin.assert_same();
        }
    }
}

#[test]
fn what_lies_elsewhere_is_refused() {
    let _device = Device::new();
    let mut twin = Twin::new(&config());
    let here = table(&mut twin, Dtype::F32, Dtype::F32, (4, 5));
    let values = Array::zeros(Dtype::F32, 10);
    let rows = numbers(vec![1, 2], 0);
    let (listed, copied) = (RowsOnDevice::of(&rows), OnDevice::of(&values, 0));
    let set = |handle: &Handle, rows, values| {
        handle.set_sparse_grad_tensors(here.number, &rows, &values).unwrap_err().text
    };
    let expected = "param \"w0\": rows is in the memory of the host, expected that of CUDA device 0, as param is";
    assert_eq!(set(&twin.device, rows.tensor(), copied.tensor()), expected);
    let expected = "param \"w0\": grad is in the memory of the host, expected that of CUDA device 0, as param is";
    assert_eq!(set(&twin.device, listed.tensor(), values.tensor()), expected);
    let expected = "param \"w0\": rows is in the memory of CUDA device 0, expected that of the host, as param is";
    assert_eq!(set(&twin.host, listed.tensor(), values.tensor()), expected);
}

// ---------------------------------------------------------------------------------- what the driver is asked

/// What is left of a log without questions that change nothing.
fn work() -> Vec<String> {
    let asks = ["cuCtxGetCurrent", "cuStreamIsCapturing", "cuThreadExchangeStreamCaptureMode"];
    let entries = take_log().into_iter().map(|line| line.split('(').next().unwrap().to_owned());
    entries.filter(|entry| !asks.contains(&&**entry)).collect()
}

#[test]
fn a_step_is_launches_and_one_upload_where_a_list_has_moved() {
    let _device = Device::new();
    for (lazy_mode, height, sorting, logged) in [
        (ADAMW_LAZY_OFF, 200, 1, 0),
        (ADAMW_LAZY_ROWS, 200, 1, 0),
        (ADAMW_LAZY_ROWS, 300, 5, 0),
        (ADAMW_LAZY_EXACT, 200, 1, 1),
    ] {
        for (clip, norms) in [(ADAMW_CLIP_NONE, 0), (ADAMW_CLIP_GLOBAL_NORM, 3)] {
            let config = adamw_config { lazy_mode, clip_norm: 0.1, ..config() };
            let mut twin = Twin::new(&with_clip(clip, config));
            // Their number does not matter.
            let tables = [0, 1, 2].map(|_| table(&mut twin, Dtype::F32, Dtype::F32, (height, 4)));
            // Listed, sorted, gathered; measured, joined, decided; prepared and stepped; logged.
            let launches = 2 + sorting + norms + 2 + logged;
            for step in 0..5 {
                tables.iter().for_each(|table| table.set_some(&mut twin, 50, step));
                twin.host.step();
                take_log();
                twin.device.step();
                let mut expected =
                    vec!["cuEventSynchronize", "cuMemcpyHtoDAsync_v2", "cuEventRecord"];
                expected.extend(vec!["cuLaunchKernel"; launches]);
                assert_eq!(work(), expected);
                twin.host.step();
                take_log();
                twin.device.step();
                assert_eq!(work(), vec!["cuLaunchKernel"; launches]);
                twin.assert_same();
            }
        }
    }
}

#[test]
fn a_step_is_launches_of_which_a_long_list_has_one_more_for_each_pass() {
    let _device = Device::with(&[("global_races", "0")]);
    let mut twin = Twin::new(&adamw_config { lazy_mode: ADAMW_LAZY_ROWS, ..config() });
    let table = table(&mut twin, Dtype::F32, Dtype::F32, (300, 1));
    for (n, scans) in [(SHORT, 0), (SHORT + 1, 3)] {
        table.set_some(&mut twin, n, 0);
        take_log();
        twin.device.step();
        let launches = work().iter().filter(|entry| *entry == "cuLaunchKernel").count();
        // Listed, counted and sorted three times, gathered; prepared and stepped.
        assert_eq!(launches, 2 + 5 + 2 + scans, "{n}");
    }
}

#[test]
fn work_that_waits_is_done_in_order_and_with_memory_that_is_there() {
    for seed in [1, 2, 3] {
        let _device = Device::with(&[("lazy", "1"), ("shuffle", &seed.to_string())]);
        let lazy_mode = [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT][seed - 1];
        let mut twin = Twin::new(&adamw_config { lazy_mode, ..config() });
        let table = table(&mut twin, Dtype::F32, Dtype::F32, (300, 8));
        let streams = [Stream::new(), Stream::new()];
        for step in 0..6 {
            // The room of the list is replaced before the device has sorted the last one, on another stream.
            let [this, other] = [0, 1].map(|i| &streams[(step + i) % 2]);
            twin.device.set_stream(this.raw().cast()).unwrap();
            table.set_some(&mut twin, 10 << step, step);
            other.wait();
            twin.step();
        }
        streams.iter().for_each(Stream::wait);
        twin.assert_same();
        twin.step();
        twin.both(|handle| handle.remove(0).unwrap());
        twin.assert_same_at_the_end();
    }
}
