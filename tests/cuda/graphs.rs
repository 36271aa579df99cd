//! Graphs that have captured a step go on as they were recorded, whatever the handle is told afterwards: every
//! launch is the step that was recorded, and has the bits of a processor that takes it.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::device::{Device, Graph, OnDevice, Stream, take_log};
use crate::common::handle::{Handle, Param, config};
use crate::common::random::Random;
use crate::common::rows::{Rows, RowsOnDevice};
use crate::common::twin::{Recorded, Twin};
use adamw::ffi::*;

/// A twin whose step on the device has been captured.
struct Captured {
    twin: Twin,
    stream: Stream,
    graph: Graph,
    recorded: Recorded,
    _lr: OnDevice,
}

const LR: f32 = 0.01;

/// Has the device read the learning rate by itself, on a stream that can be captured.
fn on_stream(twin: &Twin, stream: &Stream) -> OnDevice {
    let lr = OnDevice::of(&Array::of(Dtype::F32, &[LR.into()]), 0);
    twin.device.set_stream(stream.raw().cast()).unwrap();
    twin.device.set_device_inputs([lr.address(), 0, 0]).unwrap();
    lr
}

fn capture(twin: &Twin, stream: &Stream) -> (Graph, Recorded) {
    twin.device.prepare().unwrap();
    (stream.capture(|| twin.device.step()), twin.recorded())
}

impl Captured {
    /// Of a few parameters, all of which have a gradient.
    fn new(config: &adamw_config) -> Captured {
        let mut twin = Twin::new(&adamw_config { lr: LR.into(), multi_precision: 1, ..*config });
        twin.add(Dtype::F32, 40);
        twin.add(Dtype::F32, 17_000);
        twin.add(Dtype::Bf16, 300);
        twin.add(Dtype::F32, 50);
        twin.set_grads();
        Captured::of(twin)
    }

    fn of(twin: Twin) -> Captured {
        let stream = Stream::new();
        let lr = on_stream(&twin, &stream);
        let (graph, recorded) = capture(&twin, &stream);
        Captured { twin, stream, graph, recorded, _lr: lr }
    }

    /// Launches the graph, and has the processor take the step that it was recorded as. The host's handle is told
    /// what it was then, and what it is now.
    fn replay(&self, then: impl Fn(&Handle), now: impl Fn(&Handle)) {
        self.stream.launch(&self.graph);
        self.stream.wait();
        then(&self.twin.host);
        self.twin.replay_on_host(&self.recorded);
        now(&self.twin.host);
    }

    fn plain_step(&self) {
        self.twin.step();
        self.stream.wait();
    }
}

fn configs() -> [adamw_config; 2] {
    let clip = ADAMW_CLIP_GLOBAL_NORM;
    [config(), adamw_config { clip, clip_norm: 0.1, nonfinite: ADAMW_NONFINITE_SKIP, ..config() }]
}

/// What a host tells a handle after a capture, and how its step was and is told to the processor.
struct Change {
    name: &'static str,
    change: fn(&mut Twin),
    then: fn(&Handle),
    now: fn(&Handle),
}

impl Change {
    const fn new(name: &'static str, change: fn(&mut Twin)) -> Change {
        Change { name, change, then: |_| (), now: |_| () }
    }
}

fn freeze(handle: &Handle, frozen: u32) {
    handle.edit_options(1, |options| options.frozen = frozen);
}

fn halve(handle: &Handle, lr_scale: f64) {
    handle.edit_options(0, |options| options.lr_scale = lr_scale);
}

fn sparse(twin: &mut Twin, number: u32, rows: &[usize], row: usize) {
    let values = Array::ordinary(Dtype::F32, rows.len() * row, &mut twin.random);
    twin.keep_grad(number);
    twin.set_sparse_grad(number, Rows::i64(rows), values);
}

/// The processor's handle keeps what the graph goes on with.
fn remove(twin: &mut Twin) {
    twin.device.remove(1).unwrap();
    twin.host.forget_grad(1);
    twin.keep_grad(1);
}

const CHANGES: [Change; 18] = [
    Change::new("another gradient", |twin| twin.set_new_grads()),
    Change::new("a gradient that is forgotten", |twin| twin.forget_grad(1)),
    Change {
        name: "a parameter that is frozen",
        change: |twin| twin.both(|handle| freeze(handle, 1)),
        then: |host| freeze(host, 0),
        now: |host| freeze(host, 1),
    },
    Change {
        name: "other options",
        change: |twin| twin.both(|handle| halve(handle, 0.5)),
        then: |host| halve(host, 1.0),
        now: |host| halve(host, 0.5),
    },
    Change::new("a sparse gradient", |twin| sparse(twin, 3, &[1, 3, 1], 5)),
    Change::new("a sparse gradient, and others", |twin| {
        twin.set_new_grads();
        sparse(twin, 3, &[1, 3, 1], 5);
    }),
    Change::new("one parameter more", |twin| {
        let number = twin.add(Dtype::F32, 5);
        let grad = Array::ordinary(Dtype::F32, 5, &mut twin.random);
        twin.set_grad(number, grad);
    }),
    Change::new("many parameters more", |twin| {
        for n in 0..40 {
            twin.add(Dtype::F32, 1 + 900 * n);
        }
        twin.set_new_grads();
    }),
    Change::new("many groups more", |twin| {
        for _ in 0..9 {
            twin.both(|handle| {
                handle.add_group(|group| group.lr_scale = 0.5);
            });
        }
        let number = twin.add_with(Dtype::F32, 20, true, |param| Param { group: 9, ..param });
        let grad = Array::ordinary(Dtype::F32, 20, &mut twin.random);
        twin.set_grad(number, grad);
    }),
    Change::new("a parameter that is removed", remove),
    Change::new("a parameter that is removed, and others in its place", |twin| {
        remove(twin);
        for n in 0..3 {
            let number = twin.add(Dtype::F32, 17_000 + n);
            let grad = Array::ordinary(Dtype::F32, 17_000 + n, &mut twin.random);
            twin.set_grad(number, grad);
        }
    }),
    Change::new("statistics", |twin| {
        twin.both(|handle| handle.set_statistics(1).unwrap());
    }),
    Change::new("accumulated gradients", |twin| {
        for _ in 0..2 {
            let grad = Array::ordinary(Dtype::F32, 40, &mut twin.random);
            twin.accumulate(0, &grad);
        }
        twin.keep_grad(0);
        twin.step();
    }),
    Change::new("a file", |twin| {
        let file = twin.host.saved(true);
        twin.step();
        let options = adamw_load_options { params: 1, ..load_options() };
        twin.both(|handle| handle.load_bytes(&file, &options).unwrap());
    }),
    Change::new("state that is reset", |twin| twin.both(|handle| handle.reset(0))),
    Change::new("a master that is reset", |twin| twin.both(|handle| handle.reset(2))),
    Change::new("a file without masters", |twin| {
        let other = Handle::new(&config());
        let array = Array::ordinary(Dtype::Bf16, 300, &mut twin.random);
        other.add(&Param::new("w2", &array));
        let file = other.saved(true);
        let options = adamw_load_options { params: 1, extend: 1, ..load_options() };
        let options = adamw_load_options { scope: ADAMW_LOAD_SHARED, ..options };
        twin.both(|handle| handle.load_bytes(&file, &options).unwrap());
    }),
    Change::new("a master that is filled again", |twin| {
        twin.both(|handle| handle.sync_master(2));
    }),
];

/// Replays between plain steps, before and after a change.
fn replays_among_steps(
    config: &adamw_config,
    settings: &[(&str, &str)],
    Change { change, then, now, .. }: &Change,
) {
    let _device = Device::with(settings);
    let mut captured = Captured::new(config);
    let stays = |_: &Handle| ();
    for _ in 0..2 {
        captured.replay(stays, stays);
    }
    captured.twin.assert_same_state();
    change(&mut captured.twin);
    // Before anything is uploaded, after a plain step, and after everything has been prepared again.
    captured.replay(then, now);
    captured.twin.assert_same_params();
    captured.plain_step();
    captured.twin.assert_same();
    captured.replay(then, now);
    captured.replay(then, now);
    captured.twin.assert_same_state();
    captured.twin.device.prepare().unwrap();
    captured.replay(then, now);
    captured.plain_step();
    captured.twin.assert_same();
}

#[test]
fn a_graph_goes_on_as_it_was_recorded_whatever_the_handle_is_told() {
    let mut failed = Vec::new();
    // As it comes, and as late as is allowed and in any order that is.
    let settings = [&[][..], &[("lazy", "1"), ("shuffle", "3")]];
    for (config, settings) in configs().into_iter().zip(settings) {
        for change in &CHANGES {
            let run = || replays_among_steps(&config, settings, change);
            if std::panic::catch_unwind(run).is_err() {
                failed.push(change.name);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Both learning rates, and a table whose gradient is sparse.
fn with_table(lazy_mode: adamw_lazy) -> Captured {
    let mut twin = Twin::new(&adamw_config { lr: LR.into(), lazy_mode, ..config() });
    twin.add(Dtype::F32, 200);
    twin.add(Dtype::F32, 60);
    twin.set_grads();
    sparse(&mut twin, 0, &[3, 8, 3], 5);
    Captured::of(twin)
}

#[test]
fn a_graph_keeps_its_list_when_a_longer_one_is_set() {
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        let _device = Device::new();
        let mut captured = with_table(lazy_mode);
        let stays = |_: &Handle| ();
        captured.replay(stays, stays);
        for rows in [&[1; 7][..], &[2, 3], &[5; 40]] {
            sparse(&mut captured.twin, 0, rows, 5);
            captured.replay(stays, stays);
            captured.plain_step();
            captured.replay(stays, stays);
            captured.twin.assert_same_state();
        }
        // The list's gradient is dense for a while.
        captured.twin.set_new_grads();
        captured.plain_step();
        captured.replay(stays, stays);
        captured.twin.assert_same_state();
    }
}

#[test]
fn steps_that_rows_take_late_are_no_change_of_the_step_that_brings_them() {
    let _device = Device::new();
    let mut captured = with_table(ADAMW_LAZY_EXACT);
    captured.twin.set_new_grads();
    captured.plain_step();
    // The rows that the graph does not list are a step behind: the dense step brings them first.
    captured.replay(|_| (), |_| ());
    captured.twin.both(|handle| handle.set_statistics(1).unwrap());
    captured.plain_step();
    captured.twin.assert_same();
}

#[test]
fn a_row_outside_that_a_graph_has_passed_over_is_told() {
    let _device = Device::new();
    let mut captured = with_table(ADAMW_LAZY_ROWS);
    captured.twin.write_rows(0, &Rows::i64(&[3, 99, 3]));
    sparse(&mut captured.twin, 0, &[1; 7], 5);
    captured.stream.launch(&captured.graph);
    captured.stream.wait();
    let told = captured.twin.device.try_step_info().unwrap_err();
    assert!(told.text.contains("99"), "{}", told.text);
    assert!(captured.twin.device.try_step_info().is_ok());
}

#[test]
fn what_a_graph_cannot_go_on_with_is_refused_by_name() {
    let _device = Device::new();
    // Rows that it steps would begin to lag, or would never catch up.
    let mut captured = Captured::new(&adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..config() });
    let rows = RowsOnDevice::of(&Rows::i64(&[1]));
    let values = OnDevice::of(&Array::zeros(Dtype::F32, 5), 0);
    let set = |number| {
        captured.twin.device.set_sparse_grad_tensors(number, &rows.tensor(), &values.tensor())
    };
    let refused = set(3).unwrap_err();
    assert_eq!(refused.status, Status::Unsupported);
    assert!(refused.text.contains("before the capture"), "{}", refused.text);
    captured.twin.add(Dtype::F32, 20);
    captured.twin.device.set_sparse_grad_tensors(4, &rows.tensor(), &values.tensor()).unwrap();

    let captured = with_table(ADAMW_LAZY_EXACT);
    let device = &captured.twin.device;
    let lazier = adamw_group_config { lazy_mode: ADAMW_LAZY_ROWS, ..device.group(0) };
    let refused = device.set_group(0, &lazier).unwrap_err();
    assert_eq!(refused.status, Status::Unsupported);
    assert!(refused.text.contains("before the capture"), "{}", refused.text);
    assert_eq!(device.group(0).lazy_mode, ADAMW_LAZY_EXACT);
    captured.replay(|_| (), |_| ());
    captured.plain_step();
    captured.twin.assert_same();
    // It may be removed: nobody reads its rows but the graph, which goes on.
    captured.twin.device.remove(0).unwrap();
    captured.twin.host.remove(0).unwrap();
    captured.replay(|_| (), |_| ());
    captured.twin.assert_same_state();
}

#[test]
fn a_capture_that_was_not_prepared_is_refused_and_stays_whole() {
    let _device = Device::new();
    let mut twin = Twin::new(&adamw_config { lr: LR.into(), ..config() });
    twin.add(Dtype::F32, 40);
    twin.set_grads();
    let stream = Stream::new();
    let _lr = on_stream(&twin, &stream);
    twin.step();
    let mut refused = None;
    drop(stream.capture(|| refused = twin.device.try_step().err()));
    let refused = refused.unwrap();
    assert_eq!(refused.status, Status::Unsupported);
    assert!(refused.text.contains("adamw_prepare"), "{}", refused.text);
    twin.step();
    twin.assert_same();
}

#[test]
fn several_graphs_go_on_beside_each_other() {
    let _device = Device::new();
    for config in configs() {
        let mut captured = Captured::new(&config);
        let mut others = Vec::new();
        for _ in 0..3 {
            captured.twin.set_new_grads();
            others.push(capture(&captured.twin, &captured.stream));
            // The same step again needs nothing new.
            captured.stream.capture(|| captured.twin.device.step());
        }
        for _ in 0..2 {
            captured.replay(|_| (), |_| ());
            for (graph, recorded) in &others {
                captured.stream.launch(graph);
                captured.twin.replay_on_host(recorded);
            }
            captured.plain_step();
            captured.twin.assert_same();
        }
    }
}

#[test]
fn a_graph_steps_the_memory_that_it_was_recorded_with() {
    let _device = Device::new();
    let captured = Captured::new(&config());
    let random = &mut Random::new(9);
    let [before, after] = [(); 2].map(|()| Array::ordinary(Dtype::F32, 40, random));
    let [there, moved] = [&before, &after].map(|array| OnDevice::of(array, 0));
    let rebind = |to: &Array, on_device: &OnDevice| {
        captured.twin.host.rebind(&[(0, ADAMW_BUFFER_PARAM, to)]).unwrap();
        captured
            .twin
            .device
            .rebind_tensors(&[(0, ADAMW_BUFFER_PARAM, on_device.tensor())])
            .unwrap();
    };
    rebind(&before, &there);
    let (graph, recorded) = capture(&captured.twin, &captured.stream);
    rebind(&after, &moved);
    for _ in 0..2 {
        captured.stream.launch(&graph);
        captured.twin.host.rebind(&[(0, ADAMW_BUFFER_PARAM, &before)]).unwrap();
        captured.twin.replay_on_host(&recorded);
        captured.twin.host.rebind(&[(0, ADAMW_BUFFER_PARAM, &after)]).unwrap();
        captured.plain_step();
        assert_eq!(there.array().unwrap().first_difference(&before), None);
        assert_eq!(moved.array().unwrap().first_difference(&after), None);
    }
    // Back where it was, for the handles' end.
    assert_eq!(captured.twin.device.info(0), captured.twin.host.info(0));
}

#[test]
fn a_graph_clears_the_gradients_that_were_set_when_it_was_recorded() {
    let _device = Device::new();
    let (dense, rows) = (Array::of(Dtype::F32, &[1.0; 40]), Rows::i32(&[1, 3]));
    let values = Array::of(Dtype::F32, &[1.0; 8]);
    for (case, frozen, is_sparse) in [
        ("stepped", 0, false),
        ("frozen", 1, false),
        ("stepped, sparse", 0, true),
        ("frozen, sparse", 1, true),
    ] {
        let mut twin = Twin::new(&adamw_config { lr: LR.into(), clear_grads: 1, ..config() });
        twin.add(Dtype::F32, 40);
        twin.add(Dtype::F32, 40);
        twin.set_grads();
        let ones = if is_sparse { &values } else { &dense };
        let [captured, later] = [(); 2].map(|()| OnDevice::of(ones, 0));
        let lists = [(); 2].map(|()| RowsOnDevice::of(&rows));
        let set = |grad: &OnDevice, list: &RowsOnDevice| match is_sparse {
            true => twin.device.set_sparse_grad_tensors(1, &list.tensor(), &grad.tensor()),
            false => twin.device.set_grad_tensor(1, &grad.tensor()),
        };
        freeze(&twin.device, frozen);
        set(&captured, &lists[0]).unwrap();
        let stream = Stream::new();
        let _lr = on_stream(&twin, &stream);
        let (graph, _) = capture(&twin, &stream);
        set(&later, &lists[1]).unwrap();
        stream.launch(&graph);
        stream.wait();
        let zeros = Array::zeros(Dtype::F32, ones.len());
        assert_eq!(captured.array().unwrap().first_difference(&zeros), None, "{case}");
        assert_eq!(later.array().unwrap().first_difference(ones), None, "{case}");
    }
}

#[test]
fn a_plain_step_after_a_captured_one_allocates_nothing() {
    let _device = Device::new();
    let mut captured = Captured::new(&config());
    for _ in 0..3 {
        captured.twin.set_new_grads();
        captured.twin.host.step();
        take_log();
        captured.twin.device.step();
        let log = take_log();
        assert!(!log.iter().any(|line| line.contains("Alloc")), "{log:?}");
        captured.replay(|_| (), |_| ());
        captured.twin.assert_same_state();
    }
}

#[test]
fn a_graph_that_took_a_sum_steps_with_the_sum_of_each_window() {
    let _device = Device::new();
    for average_grads in [0, 1] {
        let mut twin = Twin::new(&adamw_config { lr: LR.into(), average_grads, ..config() });
        twin.add(Dtype::F32, 40);
        let accumulate = |twin: &mut Twin| {
            for _ in 0..2 {
                let grad = Array::ordinary(Dtype::F32, 40, &mut twin.random);
                twin.accumulate(0, &grad);
            }
        };
        accumulate(&mut twin);
        let stream = Stream::new();
        let _lr = on_stream(&twin, &stream);
        let (graph, _) = capture(&twin, &stream);
        for _ in 0..3 {
            stream.launch(&graph);
            twin.host.step();
            stream.wait();
            twin.assert_same_state();
            twin.device.clear_grad(ADAMW_CLEAR_FORGET);
            accumulate(&mut twin);
            stream.wait();
        }
        // And a plain step takes the last.
        twin.step();
        stream.wait();
        twin.assert_same();
    }
}
