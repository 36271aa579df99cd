//! Steps that were captured follow the schedule of the learning rate: each launch takes the rate of its own step, and
//! no call of the host's stands between them. They have the bits of as many plain steps on the processor.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::device::{Device, Graph, OnDevice, Stream, take_log, waits};
use crate::common::handle::{Handle, Param, config, loss_scaler, schedule, with_clip};
use crate::common::twin::Twin;
use adamw::ffi::*;

/// The most learning rates that a device is given at once.
const MOST: u64 = 1 << 16;

/// A twin with a schedule, whose step on the device has been captured.
pub struct Following {
    pub twin: Twin,
    stream: Stream,
    graph: Graph,
}

impl Following {
    pub fn new(twin: Twin, schedule: &adamw_schedule) -> Following {
        let stream = Stream::new();
        twin.device.set_stream(stream.raw().cast()).unwrap();
        twin.both(|handle| handle.set_schedule(schedule).unwrap());
        twin.device.prepare().unwrap();
        let graph = stream.capture(|| twin.device.step());
        Following { twin, stream, graph }
    }

    fn launch(&self) {
        self.stream.launch(&self.graph);
        self.stream.wait();
    }

    /// Launches the graph so often, while the processor takes as many steps.
    pub fn launches(&mut self, n: usize) {
        for _ in 0..n {
            self.twin.write_grads();
            self.launch();
            self.twin.host.step();
        }
    }

    /// Launches that are skipped, because there is no learning rate.
    #[track_caller]
    pub fn misses(&self, n: u64) {
        (0..n).for_each(|_| self.launch());
        let told = self.twin.device.try_step_info().unwrap_err();
        assert_eq!(told.status, Status::InvalidArgument);
        assert!(told.text.starts_with(&format!("{n} launches ")), "{}", told.text);
        assert!(self.twin.device.try_step_info().is_ok());
        self.twin.assert_same_state();
    }

    /// The last launch was skipped for a number that no step can use.
    #[track_caller]
    fn assert_invalid(&self) {
        let info = self.twin.device.step_info();
        assert_eq!((info.skipped, info.invalid_inputs), (1, 1));
    }

    fn plain_step(&self) {
        self.twin.step();
        self.stream.wait();
    }

    /// Compares everything, and what the handles say about the learning rate.
    #[track_caller]
    pub fn assert_same(&self) {
        let said = [&self.twin.host, &self.twin.device].map(|handle| {
            let state = handle.schedule_state().unwrap();
            let lrs = [handle.lr(), handle.param_lr(1).unwrap(), state.lr];
            (state.index, lrs.map(f64::to_bits))
        });
        assert_eq!(said[1], said[0]);
        self.twin.assert_same_state();
    }
}

/// Parameters in two groups, of which one has a scale of its own.
pub fn twin(config: &adamw_config) -> Twin {
    let mut twin = Twin::new(&adamw_config { lr: 0.01, multi_precision: 1, ..*config });
    twin.both(|handle| {
        handle.add_group(|group| group.lr_scale = 0.3);
    });
    twin.add(Dtype::F32, 40);
    twin.add_with(Dtype::F32, 5_000, true, |param| Param { group: 1, ..param });
    twin.add(Dtype::Bf16, 300);
    twin.add_with(Dtype::F64, 7, true, |param| Param { group: 1, ..param });
    twin.both(|handle| handle.edit_options(3, |options| options.lr_scale = 0.7));
    twin.set_grads();
    twin
}

/// A schedule of which no two rates are the same.
pub fn falling() -> adamw_schedule {
    adamw_schedule { lr: 0.02, gamma: 0.9, ..schedule(ADAMW_SCHEDULE_EXPONENTIAL) }
}

/// A schedule that goes on rising for longer than a device is given rates at once.
fn rising() -> adamw_schedule {
    let of = schedule(ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP);
    adamw_schedule { warmup_steps: 2 * MOST, lr: 10.0, ..of }
}

/// Launches that follow a schedule to the last rate on the device, of which some are skipped where gradients are
/// looked at.
pub fn follow(clip: adamw_clip) {
    let skips = clip != ADAMW_CLIP_NONE;
    let nonfinite = if skips { ADAMW_NONFINITE_SKIP } else { ADAMW_NONFINITE_PROPAGATE };
    let config = adamw_config { clip_norm: 0.1, nonfinite, ..config() };
    let mut following = Following::new(twin(&with_clip(clip, config)), &rising());
    following.launches(3);
    following.assert_same();
    following.twin.both(|handle| handle.set_schedule_index(MOST - 2).unwrap());
    following.launches(1);
    if skips {
        following.twin.write_grad(0, &Array::of(Dtype::F32, &[f64::NAN; 40]));
        following.launch();
        following.twin.host.step();
        following.assert_same();
    }
    following.launches(1);
    following.assert_same();
    following.misses(2);
    following.assert_same();
}

/// Of every form: with and without a warmup, with a table, of others, and going on from the last rate.
fn all_forms(each: impl Fn(&str, &adamw_schedule)) {
    let inner = [
        adamw_schedule {
            warmup_steps: 3,
            total_steps: 9,
            ..schedule(ADAMW_SCHEDULE_COSINE_WITH_WARMUP)
        },
        falling(),
        adamw_schedule { lr: 0.03, period: 4, ..schedule(ADAMW_SCHEDULE_COSINE_ANNEALING) },
    ];
    let (boundaries, values) = ([4, 9], [0.5, 0.25, 0.0]);
    let list = |kind| adamw_schedule {
        boundaries: boundaries.as_ptr(),
        n_boundaries: 2,
        ..schedule(kind)
    };
    let piecewise =
        adamw_schedule { values: values.as_ptr(), n_values: 3, ..list(ADAMW_SCHEDULE_PIECEWISE) };
    let parts = inner.each_ref().map(|part| -> *const adamw_schedule { part });
    let chain =
        adamw_schedule { schedules: parts.as_ptr(), n_schedules: 3, ..list(ADAMW_SCHEDULE_CHAIN) };
    each("warmup and cosine", &inner[0]);
    each("exponential", &inner[1]);
    each("recursive", &inner[2]);
    each("a table", &piecewise);
    each("a chain", &chain);
}

#[test]
fn each_launch_of_a_graph_takes_the_rate_of_its_own_step() {
    let _device = Device::new();
    for config in
        [config(), with_clip(ADAMW_CLIP_GLOBAL_NORM, adamw_config { clip_norm: 0.1, ..config() })]
    {
        all_forms(|form, schedule| {
            println!("{form}");
            let mut following = Following::new(twin(&config), schedule);
            following.launches(13);
            following.assert_same();
            // Among plain steps, which go on with it, and after another preparation.
            following.plain_step();
            following.launches(2);
            following.plain_step();
            following.assert_same();
            following.twin.device.prepare().unwrap();
            following.launches(3);
            following.assert_same();
        });
    }
}

#[test]
fn a_capture_that_follows_a_schedule_is_launches_alone() {
    let _device = Device::with(&[("lazy", "1")]);
    let stream = Stream::new();
    let twin = twin(&config());
    twin.device.set_stream(stream.raw().cast()).unwrap();
    twin.device.set_schedule(&falling()).unwrap();
    twin.device.prepare().unwrap();
    take_log();
    let graph = stream.capture(|| twin.device.step());
    let log = take_log();
    for refused in ["Alloc", "Free", "Memcpy", "Synchronize", "Query", "Module"] {
        assert!(!log.iter().any(|line| line.contains(refused)), "{refused}: {log:#?}");
    }
    drop(graph);
}

#[test]
fn several_graphs_share_one_schedule() {
    let _device = Device::new();
    let mut following = Following::new(twin(&config()), &falling());
    let other = following.stream.capture(|| following.twin.device.step());
    for _ in 0..3 {
        following.launches(1);
        following.stream.launch(&other);
        following.stream.wait();
        following.twin.host.step();
    }
    following.assert_same();
}

#[test]
fn a_launch_that_is_skipped_advances_the_schedule_as_little_as_a_plain_step() {
    let _device = Device::new();
    for scales in [false, true] {
        let nonfinite = if scales { ADAMW_NONFINITE_PROPAGATE } else { ADAMW_NONFINITE_SKIP };
        let twin = twin(&adamw_config { nonfinite, ..config() });
        if scales {
            twin.both(|handle| handle.set_scaler(&loss_scaler(8.0, 2, 1)).unwrap());
        }
        let mut following = Following::new(twin, &falling());
        let mut skipped = 0;
        for launch in 0..12 {
            let twin = &mut following.twin;
            twin.write_grads();
            if launch % 3 == 1 {
                twin.write_grad(0, &Array::of(Dtype::F32, &[f64::INFINITY; 40]));
            }
            following.launch();
            following.twin.host.step();
            skipped += following.twin.host.step_info().skipped;
            following.twin.assert_same();
        }
        assert_eq!(skipped, 4);
        assert_eq!(following.twin.host.schedule_state().unwrap().index, 8);
        following.assert_same();
    }
}

#[test]
fn a_flag_in_the_devices_memory_skips_a_launch_and_its_rate_waits() {
    let _device = Device::new();
    let twin = twin(&config());
    let flag = OnDevice::of(&Array::of(Dtype::F32, &[0.0]), 0);
    twin.device.set_device_inputs([0, 0, flag.address()]).unwrap();
    let mut following = Following::new(twin, &falling());
    following.launches(2);
    flag.set(&Array::of(Dtype::F32, &[1.0]));
    following.launch();
    let info = following.twin.device.step_info();
    assert_eq!((info.skipped, info.invalid_inputs), (1, 0));
    flag.set(&Array::of(Dtype::F32, &[0.0]));
    following.launches(2);
    following.assert_same();
}

/// What a host does to the schedule of both handles, after which launches go on.
type Between = fn(&mut Following);

const BETWEEN: [(&str, Between); 9] = [
    ("nothing", |_| ()),
    ("another index", |following| {
        following.twin.both(|handle| handle.set_schedule_index(9).unwrap());
    }),
    ("an index before the first that was uploaded", |following| {
        following.twin.device.prepare().unwrap();
        following.twin.both(|handle| handle.set_schedule_index(1).unwrap());
    }),
    ("an index far behind the last that was uploaded", |following| {
        following.twin.both(|handle| handle.set_schedule_index(2 * MOST).unwrap());
    }),
    ("another state", |following| {
        following.twin.both(|handle| {
            let state = handle.schedule_state().unwrap();
            let state = adamw_schedule_state { lr: 0.5, ..state };
            handle.set_schedule_state(&state).unwrap();
        });
    }),
    ("another schedule", |following| {
        let other = adamw_schedule { lr: 0.02, gamma: 0.5, ..schedule(ADAMW_SCHEDULE_NATURAL_EXP) };
        following.twin.both(|handle| handle.set_schedule(&other).unwrap());
    }),
    ("a file", |following| {
        let file = following.twin.host.saved(true);
        assert_eq!(following.twin.device.saved(true), file);
        following.launches(2);
        let options = adamw_load_options { params: 1, ..load_options() };
        following.twin.both(|handle| handle.load_bytes(&file, &options).unwrap());
    }),
    ("a schedule that nobody foresees, and the first again", |following| {
        let by_hand = adamw_schedule { advance: ADAMW_ADVANCE_MANUALLY, ..falling() };
        following.twin.both(|handle| handle.set_schedule(&by_hand).unwrap());
        following.plain_step();
        following.twin.both(|handle| handle.set_schedule(&falling()).unwrap());
    }),
    ("no schedule, and the first again", |following| {
        following.twin.both(Handle::remove_schedule);
        assert_eq!(following.twin.device.lr().to_bits(), following.twin.host.lr().to_bits());
        following.plain_step();
        following.twin.both(|handle| handle.set_schedule(&falling()).unwrap());
    }),
];

#[test]
fn launches_go_on_wherever_the_host_puts_the_schedule() {
    let _device = Device::new();
    for (name, between) in BETWEEN {
        println!("{name}");
        let mut following = Following::new(twin(&config()), &falling());
        following.launches(3);
        between(&mut following);
        following.launches(2);
        following.plain_step();
        following.launches(2);
        following.assert_same();
    }
}

#[test]
fn a_launch_for_which_no_rate_was_uploaded_is_skipped_and_told_once() {
    let _device = Device::new();
    for (clip, clear_grads) in [(ADAMW_CLIP_NONE, 0), (ADAMW_CLIP_NORM, 0)] {
        let config = adamw_config { clip_norm: 0.1, clear_grads, ..config() };
        let mut following = Following::new(twin(&with_clip(clip, config)), &rising());
        following.twin.both(|handle| handle.set_schedule_index(MOST - 2).unwrap());
        following.launches(2);
        following.assert_same(); // the rate behind the last is known, and not on the device
        following.misses(3);
        following.assert_invalid();
        following.assert_same();
        // A plain step brings the next ones, and so does a preparation.
        following.plain_step();
        following.launches(2);
        following.assert_same();
        following.twin.both(|handle| handle.set_schedule_index(3 * MOST).unwrap());
        following.launches(1);
        following.twin.both(|handle| handle.set_schedule_index(4 * MOST - 1).unwrap());
        following.launches(1);
        following.misses(1);
        following.twin.device.prepare().unwrap();
        following.launches(2);
        following.assert_same();
    }
}

#[test]
fn a_plain_step_that_takes_the_last_rate_brings_the_next_ones() {
    let _device = Device::new();
    let mut following = Following::new(twin(&config()), &falling());
    following.twin.both(|handle| handle.set_schedule_index(MOST - 1).unwrap());
    following.plain_step();
    following.launches(2);
    following.assert_same();
}

#[test]
fn launches_without_a_schedule_that_can_be_foreseen_are_skipped() {
    let _device = Device::new();
    let mut following = Following::new(twin(&config()), &falling());
    following.launches(2);
    following.twin.both(Handle::remove_schedule);
    following.misses(2);
    let by_hand = adamw_schedule { advance: ADAMW_ADVANCE_MANUALLY, ..falling() };
    following.twin.both(|handle| handle.set_schedule(&by_hand).unwrap());
    following.misses(1);
    following.twin.both(|handle| handle.advance_schedule().unwrap());
    following.plain_step();
    following.misses(1);
    following.twin.both(|handle| handle.set_schedule(&falling()).unwrap());
    following.launches(2);
    following.assert_same();
}

#[test]
fn a_rate_with_which_no_step_can_go_on_ends_what_is_uploaded() {
    let _device = Device::new();
    let growing = adamw_schedule {
        max_lr: 1e-200,
        steps_up: 1,
        steps_down: 1,
        cyclic_mode: ADAMW_CYCLIC_EXP_RANGE,
        gamma: 1e50,
        ..schedule(ADAMW_SCHEDULE_CYCLIC)
    };
    let mut of_f64 = Twin::new(&config());
    of_f64.add(Dtype::F64, 30);
    of_f64.add(Dtype::F64, 3);
    of_f64.set_grads();
    // lr is 1e-200 * 1e50^index at odd indices and 0 at even ones: 1e-150, 1e-50, 1e50, and then none.
    let mut following = Following::new(of_f64, &growing);
    following.launches(6);
    following.assert_same();
    assert!(following.twin.host.try_step().is_err());
    following.misses(2);

    // One that is too large for f32 alone is an invalid input, as one of the host's is an error.
    let mut of_f32 = Twin::new(&config());
    of_f32.add(Dtype::F32, 30);
    of_f32.add(Dtype::F32, 3);
    of_f32.set_grads();
    let mut following = Following::new(of_f32, &growing);
    following.launches(5);
    following.assert_same();
    assert!(following.twin.host.try_step().is_err());
    following.launch();
    following.assert_invalid();
    following.assert_same();
}

#[test]
fn the_step_of_one_parameter_takes_the_rate_and_leaves_the_schedule() {
    let _device = Device::new();
    let stream = Stream::new();
    let mut twin = Twin::new(&config());
    twin.add(Dtype::F32, 40);
    twin.set_grads();
    twin.both(|handle| handle.set_schedule(&falling()).unwrap());
    twin.device.set_stream(stream.raw().cast()).unwrap();
    twin.device.prepare().unwrap();
    let graph = stream.capture(|| twin.device.step_param(0).unwrap());
    for _ in 0..2 {
        stream.launch(&graph);
        stream.wait();
        twin.set_same_grads();
        twin.host.step_param(0).unwrap();
    }
    assert_eq!(twin.device.schedule_state().unwrap().index, 0);
    twin.assert_same_state();
}

extern "C" fn function(_: u64, out: *mut f64, _: *mut core::ffi::c_void) -> i32 {
    // SAFETY: the library's pointer.
    unsafe { *out = 0.5 };
    0
}

#[test]
fn a_schedule_that_asks_the_host_is_not_captured() {
    let _device = Device::new();
    let plateau =
        adamw_schedule { lr: 0.1, warmup_steps: 9, ..schedule(ADAMW_SCHEDULE_REDUCE_ON_PLATEAU) };
    let asking = adamw_schedule { function: Some(function), ..schedule(ADAMW_SCHEDULE_FUNCTION) };
    let first = falling();
    let inner: [*const adamw_schedule; 2] = [&first, &asking];
    let chain = adamw_schedule {
        boundaries: &5,
        n_boundaries: 1,
        schedules: inner.as_ptr(),
        n_schedules: 2,
        ..schedule(ADAMW_SCHEDULE_CHAIN)
    };
    let by_hand = adamw_schedule { advance: ADAMW_ADVANCE_MANUALLY, ..falling() };
    let lr = OnDevice::of(&Array::of(Dtype::F32, &[0.5]), 0);
    for (schedule, lr, text) in [
        (&plateau, 0, "asks the host: for a metric, a value or an advance"),
        (&asking, 0, "asks the host: for a metric, a value or an advance"),
        (&chain, 0, "asks the host: for a metric, a value or an advance"),
        (&by_hand, 0, "asks the host: for a metric, a value or an advance"),
        (&falling(), lr.address(), "beside the learning rate of adamw_set_device_inputs"),
    ] {
        let stream = Stream::new();
        let twin = twin(&config());
        twin.device.set_stream(stream.raw().cast()).unwrap();
        twin.device.set_device_inputs([lr, 0, 0]).unwrap();
        twin.device.set_schedule(schedule).unwrap();
        twin.device.prepare().unwrap();
        let mut refused = None;
        drop(stream.capture(|| refused = twin.device.try_step().err()));
        let refused = refused.unwrap();
        assert_eq!(refused.status, Status::Unsupported);
        assert!(refused.text.contains(text), "{}", refused.text);
    }
}

#[test]
fn a_schedule_that_has_moved_since_it_was_uploaded_is_not_captured_and_none_moves_in_a_capture() {
    let _device = Device::new();
    let moves: [fn(&Handle); 3] = [
        |handle| handle.set_schedule_index(3).unwrap(),
        |handle| handle.set_schedule(&falling()).unwrap(),
        Handle::step,
    ];
    for moves in moves {
        let stream = Stream::new();
        let twin = twin(&config());
        twin.device.set_stream(stream.raw().cast()).unwrap();
        twin.device.set_schedule(&falling()).unwrap();
        twin.device.prepare().unwrap();
        moves(&twin.device);
        let mut refused = None;
        drop(stream.capture(|| refused = twin.device.try_step().err()));
        assert!(refused.unwrap().text.contains("since adamw_prepare"));
    }
    let mut following = Following::new(twin(&config()), &falling());
    following.launches(1);
    let state = following.twin.device.schedule_state().unwrap();
    following.stream.capture(|| {
        let device = &following.twin.device;
        for moved in [
            device.set_schedule_index(3),
            device.set_schedule_state(&state),
            device.set_schedule(&falling()),
            device.schedule_state().map(|_| ()),
        ] {
            assert_eq!(moved.unwrap_err().status, Status::Unsupported);
        }
    });
    following.launches(1);
    following.assert_same();
}

#[test]
fn a_step_that_was_only_prepared_waits_for_nothing() {
    let _device = Device::with(&[("lazy", "1")]);
    let twin = twin(&config());
    twin.both(|handle| handle.set_schedule(&falling()).unwrap());
    twin.device.prepare().unwrap();
    let mut logs = Vec::new();
    for _ in 0..5 {
        twin.host.step();
        take_log();
        twin.device.step();
        logs.push(take_log());
    }
    assert_eq!(waits(&logs), [""; 0], "{logs:#?}");
    twin.assert_same();
}
