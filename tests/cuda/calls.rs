//! What the driver is called for a handle with parameters on a device, and what a host is told when a call
//! fails: read off the stand-in's log and counts.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::device::{self, Device, OnDevice, Stream, take_log};
use crate::common::handle::{Failure, Handle, Param, config, schedule, with_clip};
use crate::common::rows::{Rows, RowsOnDevice};
use crate::common::twin::Twin;
use adamw::ffi::*;

/// The entries of the driver that a log names.
fn entries(log: &[String]) -> Vec<&str> {
    log.iter().map(|line| line.split('(').next().unwrap()).collect()
}

fn count(log: &[String], entry: &str) -> usize {
    entries(log).iter().filter(|found| **found == entry).count()
}

/// What is left of a log without questions that change nothing.
fn work(log: &[String]) -> Vec<&str> {
    let asks = ["cuCtxGetCurrent", "cuStreamIsCapturing", "cuThreadExchangeStreamCaptureMode"];
    entries(log).into_iter().filter(|entry| !asks.contains(entry)).collect()
}

/// Many parameters, of which all but a few are of one type.
fn many(twin: &mut Twin) {
    for n in 0..60 {
        twin.add(Dtype::F32, 1 + 37 * n);
    }
    twin.add(Dtype::Bf16, 5_000);
}

#[test]
fn a_step_is_one_launch_for_each_type_and_one_before_them() {
    let _device = Device::new();
    for (clip, launches) in [(ADAMW_CLIP_NONE, 3), (ADAMW_CLIP_GLOBAL_NORM, 3 + 4)] {
        for nonfinite in [ADAMW_NONFINITE_PROPAGATE, ADAMW_NONFINITE_SKIP] {
            // To look for what is not finite takes the same launches as a norm.
            let launches = if nonfinite == ADAMW_NONFINITE_SKIP { 7 } else { launches };
            let mut twin =
                Twin::new(&with_clip(clip, adamw_config { clip_norm: 1.0, nonfinite, ..config() }));
            many(&mut twin);
            twin.set_grads();
            twin.step();
            for lr in [0.1, 0.2] {
                twin.both(|handle| handle.set_lr(lr));
                twin.host.step();
                take_log();
                twin.device.step();
                assert_eq!(work(&take_log()), vec!["cuLaunchKernel"; launches]);
            }
            twin.assert_same();
        }
    }
}

#[test]
fn gradients_that_have_moved_cost_one_upload_without_waiting() {
    let _device = Device::new();
    let mut twin = Twin::new(&config());
    many(&mut twin);
    for _ in 0..6 {
        twin.set_grads();
        twin.host.step();
        take_log();
        twin.device.step();
        let log = take_log();
        let expected = [
            "cuEventSynchronize", // of an upload four steps ago
            "cuMemcpyHtoDAsync_v2",
            "cuEventRecord",
            "cuLaunchKernel",
            "cuLaunchKernel",
            "cuLaunchKernel",
        ];
        assert_eq!(work(&log), expected);
        // The same gradients, set again, have not moved.
        twin.set_same_grads();
        twin.host.step();
        take_log();
        twin.device.step();
        assert_eq!(work(&take_log()), ["cuLaunchKernel"; 3]);
        twin.assert_same();
    }
}

#[test]
fn the_context_that_was_current_is_current_after_every_call() {
    let device = Device::new();
    let on_device = OnDevice::of(&Array::zeros(Dtype::F32, 1_000), 0);
    let grad = OnDevice::of(&Array::zeros(Dtype::F32, 1_000), 0);
    for is_current in [false, true] {
        device.set_current(is_current);
        let before = Device::current();
        let holds = |what: &str| assert_eq!(Device::current(), before, "{what}");
        let handle = Handle::new(&adamw_config { nonfinite: ADAMW_NONFINITE_FAIL, ..config() });
        let array = Array::zeros(Dtype::F32, 1_000);
        let mut tensors = [None; 9];
        tensors[0] = Some(on_device.tensor());
        handle.try_add_tensors(&Param::new("w", &array), tensors).unwrap();
        holds("adamw_add_param");
        handle.set_grad_tensor(0, &grad.tensor()).unwrap();
        holds("adamw_set_grad");
        handle.prepare().unwrap();
        holds("adamw_prepare");
        handle.step();
        holds("adamw_step");
        handle.get_state("state.w.exp_avg", &array).unwrap();
        handle.set_state("state.w.exp_avg", &array).unwrap();
        holds("adamw_set_state");
        handle.clear_grad(ADAMW_CLEAR_ZERO);
        handle.reset(0);
        handle.step_info();
        handle.info(0);
        holds("adamw_get_param_info");
        handle.remove(0).unwrap();
        holds("adamw_remove_param");
        drop(handle);
        holds("adamw_destroy");
        device.set_current(true);
    }
}

#[test]
fn all_work_is_queued_up_on_the_stream_that_was_set() {
    let _device = Device::new();
    let stream = Stream::new();
    let (clip, clip_norm) = (ADAMW_CLIP_GLOBAL_NORM, 0.1);
    let mut twin = Twin::new(&adamw_config { clip, clip_norm, ..config() });
    many(&mut twin);
    twin.device.set_stream(stream.raw().cast()).unwrap();
    twin.set_grads();
    take_log();
    twin.step();
    twin.device.info(0);
    let log = take_log();
    let name = format!("stream={:#x}", stream.raw().addr());
    for line in log.iter().filter(|line| line.contains("stream=")) {
        assert!(line.contains(&name), "{line}");
    }
    assert!(count(&log, "cuLaunchKernel") > 3);
    stream.wait();
    twin.assert_same();
}

#[test]
fn work_that_runs_late_and_in_any_allowed_order_has_the_same_bits() {
    for seed in 1..6 {
        let _device = Device::with(&[("lazy", "1"), ("shuffle", &seed.to_string())]);
        let (clip, clip_norm) = (ADAMW_CLIP_GLOBAL_NORM, 0.1);
        let mut twin = Twin::new(&adamw_config { clip, clip_norm, ..config() });
        many(&mut twin);
        for _ in 0..6 {
            // The tables change before the device has read the last ones.
            twin.both(|handle| handle.edit_options(1, |options| options.lr_scale *= 0.5));
            twin.set_new_grads();
            twin.step();
        }
        twin.assert_same();
        // What the device works with is freed only when it has done so.
        twin.step();
        twin.both(|handle| handle.remove(3).unwrap());
        twin.step();
        twin.assert_same();
        twin.step();
        twin.assert_same_at_the_end();
    }
}

#[test]
fn the_device_is_waited_for_before_anything_is_given_back() {
    let _device = Device::new();
    let mut twin = Twin::new(&config());
    many(&mut twin);
    twin.set_grads();
    twin.step();
    take_log();
    let waits_first = |log: &[String], freed: &str| {
        let work = work(log);
        let place = |entry| work.iter().position(|found| *found == entry);
        let waits = place("cuStreamSynchronize");
        assert!(waits < place(freed) && place(freed).is_some() && waits.is_some(), "{work:?}");
    };
    twin.both(|handle| handle.remove(3).unwrap());
    waits_first(&take_log(), "cuMemFree_v2");
    twin.assert_same_at_the_end();
    let log = take_log();
    for freed in ["cuMemFree_v2", "cuMemFreeHost", "cuEventDestroy_v2", "cuModuleUnload"] {
        waits_first(&log, freed);
    }
}

#[test]
fn a_copy_that_does_not_happen_and_a_launch_that_does_not_are_seen() {
    // Each seems to work and does nothing: were the library to leave it out, so would these tests see it.
    for entry in ["cuMemcpyHtoDAsync_v2", "cuLaunchKernel"] {
        for nth in 1..=3 {
            let device = Device::new();
            let seen = std::panic::catch_unwind(|| {
                let (clip, clip_norm) = (ADAMW_CLIP_GLOBAL_NORM, 0.1);
                let mut twin = Twin::new(&adamw_config { clip, clip_norm, ..config() });
                twin.add(Dtype::F32, 5_000);
                twin.add(Dtype::F32, 100);
                twin.set_grads();
                twin.step();
                twin.set_grads();
                twin.both(|handle| handle.edit_options(1, |options| options.lr_scale = 0.5));
                device::set(
                    "fail",
                    &format!("{entry}:{}:0", if entry == "cuLaunchKernel" { nth } else { 1 }),
                );
                twin.step();
                twin.assert_same();
            });
            device::set("fail", "");
            assert!(seen.is_err(), "{entry} {nth}");
            drop(device);
        }
    }
}

// ---------------------------------------------------------------------------------- capture

/// Has the device read the learning rate by itself, on a stream that can be captured.
fn ready(twin: &Twin, stream: &Stream) -> OnDevice {
    let lr = OnDevice::of(&Array::of(Dtype::F32, &[0.01]), 0);
    twin.device.set_stream(stream.raw().cast()).unwrap();
    twin.device.set_device_inputs([lr.address(), 0, 0]).unwrap();
    lr
}

#[test]
fn a_graph_that_is_launched_ten_times_is_ten_steps() {
    let _device = Device::new();
    for clip in [ADAMW_CLIP_NONE, ADAMW_CLIP_GLOBAL_NORM] {
        let stream = Stream::new();
        let mut twin = Twin::new(&with_clip(
            clip,
            adamw_config { clip_norm: 0.1, multi_precision: 1, ..config() },
        ));
        many(&mut twin);
        twin.set_grads();
        let lr = ready(&twin, &stream);
        let found_inf = OnDevice::of(&Array::of(Dtype::F32, &[0.0]), 0);
        twin.device.set_device_inputs([lr.address(), 0, found_inf.address()]).unwrap();
        twin.device.prepare().unwrap();
        take_log();
        let graph = stream.capture(|| twin.device.step());
        let log = take_log();
        assert!(
            work(&log).iter().all(|entry| [
                "cuLaunchKernel",
                "cuStreamBeginCapture_v2",
                "cuStreamEndCapture",
                "cuGraphInstantiateWithFlags"
            ]
            .contains(entry)),
            "{log:?}"
        );
        for step in 0..10 {
            let value = Array::of(Dtype::F32, &[0.01 / (1.0 + f64::from(step))]);
            lr.set(&value);
            twin.write_grads();
            let is_bad = step == 4;
            found_inf.set(&Array::of(Dtype::F32, &[f64::from(u8::from(is_bad))]));
            stream.launch(&graph);
            stream.wait();
            assert_eq!(twin.device.step_info().skipped, u32::from(is_bad));
            if !is_bad {
                twin.host.set_lr(value.get(0));
                twin.host.step();
            }
        }
        assert_eq!(twin.device.info(0).step, 9);
        twin.assert_same();
        // It goes on by plain steps.
        twin.host.set_lr(0.003);
        lr.set(&Array::of(Dtype::F32, &[0.003]));
        twin.host.set_lr(f64::from(0.003f32));
        twin.set_grads();
        twin.step();
        stream.wait();
        twin.assert_same();
    }
}

#[test]
fn what_cannot_be_replayed_is_refused_inside_a_capture_and_changes_nothing() {
    let _device = Device::new();
    type Spoil = fn(&mut Twin);
    extern "C" fn ratio(
        _: *const adamw_param_info,
        out: *mut f64,
        _: *mut core::ffi::c_void,
    ) -> i32 {
        // SAFETY: the library's pointer.
        unsafe { *out = 0.5 };
        0
    }
    let cases: [(&str, adamw_nonfinite, Spoil); 6] = [
        ("learning rate is not read by the device", ADAMW_NONFINITE_PROPAGATE, |twin| {
            twin.device.set_device_inputs([0; 3]).unwrap();
        }),
        ("a step with a schedule", ADAMW_NONFINITE_PROPAGATE, |twin| {
            let exponential = schedule(ADAMW_SCHEDULE_EXPONENTIAL);
            let exponential = adamw_schedule { lr: 0.1, gamma: 0.5, ..exponential };
            twin.device.set_schedule(&exponential).unwrap();
        }),
        ("lr_ratio callback", ADAMW_NONFINITE_PROPAGATE, |twin| {
            twin.device.set_lr_ratio(Some(ratio), &());
        }),
        ("in the host's memory", ADAMW_NONFINITE_PROPAGATE, |twin| {
            let number = twin.add_with(Dtype::F32, 10, false, |param| param);
            let grad = Array::zeros(Dtype::F32, 10);
            twin.set_grad(number, grad);
        }),
        ("have changed since adamw_prepare", ADAMW_NONFINITE_PROPAGATE, |twin| {
            twin.set_grads();
        }),
        ("the host has to know about", ADAMW_NONFINITE_FAIL, |_| ()),
    ];
    for (text, nonfinite, spoil) in cases {
        let stream = Stream::new();
        let mut twin = Twin::new(&adamw_config { nonfinite, ..config() });
        many(&mut twin);
        twin.set_grads();
        let _lr = ready(&twin, &stream);
        if nonfinite != ADAMW_NONFINITE_FAIL {
            twin.device.prepare().unwrap();
        }
        spoil(&mut twin);
        let mut seen = None;
        stream.capture(|| seen = twin.device.try_step().err());
        let Failure { status, text: said } = seen.unwrap_or_else(|| panic!("{text}"));
        assert_eq!(status, Status::Unsupported);
        assert!(said.contains(text), "{said}");
        assert_eq!(twin.device.info(0).step, 0);
    }
}

#[test]
fn nothing_that_waits_or_allocates_breaks_a_capture() {
    let _device = Device::new();
    let stream = Stream::new();
    let mut twin = Twin::new(&config());
    many(&mut twin);
    twin.set_grads();
    let _lr = ready(&twin, &stream);
    twin.step();
    stream.wait();
    let array = Array::zeros(Dtype::F32, 1);
    let graph = stream.capture(|| {
        let refused = [
            twin.device.get_state("state.w0.exp_avg", &array),
            twin.device.set_state("state.w0.exp_avg", &array),
            twin.device.remove(0),
            twin.device.try_add(&Param::new("new", &array)).map(|_| ()),
        ];
        for failure in refused {
            assert_eq!(failure.unwrap_err().status, Status::Unsupported);
        }
    });
    drop(graph);
}

#[test]
fn captures_of_other_streams_stay_whole_whatever_a_handle_does() {
    let _device = Device::new();
    let (given, kept) = (Given::new(), Given::new());
    let (other, own, earlier) = (Stream::new(), Stream::new(), Stream::new());
    let config = adamw_config { multi_precision: 1, lazy_mode: ADAMW_LAZY_EXACT, ..config() };
    let param = Array::of(Dtype::F32, &[1.0, 2.0, 3.0]);
    let before = Handle::new(&config);
    before.add(&Param::new("host", &param));
    add(&before, "w", &kept.param).unwrap();
    before.set_grad_tensor(1, &kept.grads[0].tensor()).unwrap();
    before.step();
    let file = before.saved(true);
    // In the mode in which every thread is minded, and in that in which this one is.
    for mode in [0, 1] {
        let graph = other.capture_in(mode, || {
            let handle = Handle::new(&config);
            handle.add(&Param::new("host", &param));
            live(&handle, &given).unwrap();
            for name in ["x", "y", "z"] {
                add(&handle, name, &given.param).unwrap();
                handle.remove(handle.num_params() - 1).unwrap();
            }
            drop(handle);
            before.set_statistics(1).unwrap();
            before.step();
            before.set_statistics(0).unwrap();
            assert!(!before.saved(true).is_empty());
            before.load_bytes(&file, &load_options()).unwrap();
            for stream in [&own, &earlier] {
                before.set_stream(stream.raw().cast()).unwrap();
                before.step();
            }
            before.set_stream(own.raw().cast()).unwrap();
            before.prepare().unwrap();
        });
        other.launch(&graph);
    }
    // Its own stream's, too, is not broken by its end.
    let param = &given.param;
    let handle = Handle::new(&config);
    add(&handle, "w", param).unwrap();
    handle.set_stream(own.raw().cast()).unwrap();
    drop(own.capture(|| drop(handle)));
}

#[test]
fn what_is_queued_up_on_an_earlier_stream_is_waited_for_before_memory_moves() {
    let _device = Device::with(&[("lazy", "1")]);
    let streams = [(); 6].map(|()| Stream::new());
    let mut twin = Twin::new(&config());
    twin.add(Dtype::F32, 100);
    for (n, stream) in (1..).zip(&streams) {
        twin.device.set_stream(stream.raw().cast()).unwrap();
        for earlier in &streams {
            earlier.wait(); // as a host orders its streams
        }
        twin.keep_grad(0);
        let values = Array::ordinary(Dtype::F32, 5 * 2 * n, &mut twin.random);
        twin.set_sparse_grad(0, Rows::i64(&vec![n; 2 * n]), values);
        twin.step();
        twin.device.set_stream(core::ptr::null_mut()).unwrap();
        // A list for which there is no room moves the old one.
        twin.keep_grad(0);
        let values = Array::ordinary(Dtype::F32, 5 * (2 * n + 1), &mut twin.random);
        twin.set_sparse_grad(0, Rows::i64(&vec![n + 1; 2 * n + 1]), values);
        stream.wait();
        twin.step();
        twin.assert_same();
    }
}

#[test]
fn what_only_reads_does_not_undo_what_was_prepared() {
    let _device = Device::new();
    let stream = Stream::new();
    let mut twin = Twin::new(&config());
    many(&mut twin);
    twin.set_grads();
    let _lr = ready(&twin, &stream);
    twin.step();
    twin.device.prepare().unwrap();
    let array = Array::zeros(Dtype::F32, 1);
    twin.device.get_state("state.w0.exp_avg", &array).unwrap();
    twin.device.info(0);
    let graph = stream.capture(|| {
        twin.device.get_state("state.w0.exp_avg", &array).unwrap_err();
        twin.device.step();
    });
    drop(graph);
}

// ---------------------------------------------------------------------------------- failures

#[test]
fn what_an_error_of_the_driver_may_come_from_is_said() {
    let _device = Device::new();
    let mut twin = Twin::new(&config());
    twin.add(Dtype::F32, 5);
    twin.set_grads();
    let stream = Stream::new();
    twin.device.set_stream(stream.raw().cast()).unwrap();
    drop(stream);
    let gone = twin.device.try_step().unwrap_err();
    assert_eq!(gone.status, Status::Device);
    assert!(gone.text.contains("adamw_set_stream"), "{}", gone.text);
    twin.device.set_stream(core::ptr::null_mut()).unwrap();
    device::set("fail", "cuStreamIsCapturing:1:700");
    let left_behind = twin.device.try_step().unwrap_err();
    device::set("fail", "");
    assert!(left_behind.text.contains("a kernel before this call"), "{}", left_behind.text);
}

/// Elements of a parameter whose calls matter, and not what kernels compute: no more than it takes.
const N: usize = 50;

/// What a host has in the device's memory.
struct Given {
    param: OnDevice,
    grads: [OnDevice; 2],
    sparse: [(RowsOnDevice, OnDevice); 2],
}

impl Given {
    fn new() -> Given {
        let zeros = |n| OnDevice::of(&Array::zeros(Dtype::Bf16, n), 0);
        let sparse = |rows: &[usize]| (RowsOnDevice::of(&Rows::i64(rows)), zeros(10 * rows.len()));
        Given {
            param: zeros(N),
            grads: [zeros(N), zeros(N)],
            sparse: [sparse(&[3, 1, 3]), sparse(&[2; 5])],
        }
    }
}

fn add(handle: &Handle, name: &str, param: &OnDevice) -> Result<u32, Failure> {
    let mut tensors = [None; 9];
    tensors[0] = Some(param.tensor());
    handle.try_add_tensors(&Param::new(name, &Array::zeros(Dtype::Bf16, N)), tensors)
}

/// All that a host may do with parameters on a device; the first failure ends it.
fn live(handle: &Handle, given: &Given) -> Result<(), Failure> {
    let Given { param, grads, sparse } = given;
    add(handle, "w", param)?;
    handle.set_grad_tensor(1, &grads[0].tensor())?;
    handle.prepare()?;
    handle.forget_grad(0);
    handle.try_step()?;
    handle.set_grad_tensor(1, &grads[1].tensor())?;
    handle.try_step()?;
    handle.get_state("state.w.exp_avg", &Array::zeros(Dtype::F32, N))?;
    handle.set_state("state.w.exp_avg", &Array::zeros(Dtype::F32, N))?;
    handle.accumulate_tensor(1, &grads[1].tensor())?;
    handle.try_step()?;
    // The second lists more rows than there is room for.
    for (rows, values) in sparse {
        handle.set_sparse_grad_tensors(1, &rows.tensor(), &values.tensor())?;
        handle.try_step()?;
    }
    // Rows that lag are brought up to date where they are listed, and before a step of all of them.
    handle.sparse_prepare_tensor(1, &sparse[0].0.tensor())?;
    handle.set_grad_tensor(1, &grads[0].tensor())?;
    handle.try_step()?;
    handle.try_info(1)?;
    handle.try_step_info()?;
    handle.remove(1)
}

#[test]
fn handles_on_one_device_share_the_kernels_and_the_last_unloads_them() {
    let _device = Device::new();
    let params = [(); 5].map(|()| OnDevice::of(&Array::zeros(Dtype::Bf16, N), 0));
    let open = |param: &OnDevice| {
        let handle = Handle::new(&config());
        add(&handle, "w", param).map(|_| handle)
    };
    let loads = || {
        let log = take_log();
        let entries = ["cuModuleLoadDataEx", "cuModuleGetFunction", "cuModuleUnload"];
        entries.map(|entry| count(&log, entry).min(1))
    };
    take_log();
    let first = open(&params[0]).unwrap();
    assert_eq!(loads(), [1, 1, 0]);
    let second = open(&params[1]).unwrap();
    assert_eq!(loads(), [0, 0, 0]);
    drop(first);
    assert_eq!(loads(), [0, 0, 0]);
    let grad = OnDevice::of(&Array::zeros(Dtype::Bf16, N), 0);
    second.set_grad_tensor(0, &grad.tensor()).unwrap();
    second.step();
    drop(second);
    assert_eq!((loads(), device::count("modules")), ([0, 0, 1], 0));
    // What could not be loaded is nobody's.
    for fails in ["cuModuleLoadDataEx:1:2", "cuModuleGetFunction:9:2"] {
        device::set("fail", fails);
        assert_eq!(open(&params[0]).err().unwrap().status, Status::OutOfMemory);
        assert_eq!(device::count("modules"), 0);
    }
    take_log();
    // By several threads at once.
    let all_open = std::sync::Barrier::new(params.len());
    std::thread::scope(|scope| {
        for param in &params {
            scope.spawn(|| {
                let handle = open(param).unwrap();
                all_open.wait();
                drop(handle);
            });
        }
    });
    let log = take_log();
    let found = ["cuModuleLoadDataEx", "cuModuleUnload"].map(|entry| count(&log, entry));
    // The driver has refused machine code, and then taken the PTX.
    assert_eq!((found, device::count("modules")), ([2, 1], 0));
}

#[test]
fn half_a_step_is_never_followed_by_another() {
    let _device = Device::new();
    let mut twin = Twin::new(&config());
    twin.add(Dtype::F32, 10);
    twin.set_grads();
    device::set("fail", "cuLaunchKernel:2:1");
    assert_eq!(twin.device.try_step().unwrap_err().status, Status::Device);
    device::set("fail", "");
    assert_eq!(twin.device.try_step().unwrap_err().status, Status::Poisoned);
}

#[test]
fn a_loop_that_refuses_once_the_device_has_its_half_of_a_step_is_done_without() {
    extern "C" fn refuses(
        _: usize,
        _: adamw_task,
        _: *mut core::ffi::c_void,
        user_data: *mut core::ffi::c_void,
    ) -> i32 {
        // SAFETY: the flag below, which outlives the handle.
        i32::from(unsafe { *user_data.cast::<bool>() })
    }
    let _device = Device::new();
    let refusing = true;
    let (param, grad) = (
        Array::zeros(Dtype::F32, crate::common::LONG),
        Array::zeros(Dtype::F32, crate::common::LONG),
    );
    let on_device = OnDevice::of(&Array::zeros(Dtype::F32, 10), 0);
    let on_device_grad = OnDevice::of(&Array::zeros(Dtype::F32, 10), 0);
    let handle = Handle::new(&adamw_config {
        num_threads: 2,
        parallel_for: Some(refuses),
        parallel_for_data: crate::common::host::user_data(&refusing),
        ..config()
    });
    handle.add(&Param::new("host", &param));
    let mut tensors = [None; 9];
    tensors[0] = Some(on_device.tensor());
    handle.try_add_tensors(&Param::new("device", &param), tensors).unwrap();
    handle.set_grad(0, &grad);
    handle.set_grad_tensor(1, &on_device_grad.tensor()).unwrap();
    for step in 1..3 {
        handle.step();
        assert_eq!((handle.info(0).step, handle.info(1).step), (step, step));
    }
}

fn is_unusable(handle: &Handle) -> bool {
    handle.try_info(0).is_err_and(|failure| failure.status == Status::Poisoned)
}

/// Has each call of the driver fail that a handle's life makes, for each of a few reasons. Returns how many times
/// that left a step half taken.
fn each_call_fails(device: &Device, live: impl Fn(&Handle) -> Result<(), Failure>) -> usize {
    let mut n_half = 0;
    let alive =
        || ["allocations", "pinned", "events", "modules", "streams", "graphs"].map(device::count);
    let mut before = alive();
    let config = adamw_config {
        multi_precision: 1,
        lazy_mode: ADAMW_LAZY_EXACT,
        clip: ADAMW_CLIP_GLOBAL_NORM,
        clip_norm: 1.0,
        nonfinite: ADAMW_NONFINITE_SKIP,
        ..config()
    };
    let host = |handle: &Handle| {
        let param = Array::of(Dtype::F32, &[1.0, 2.0, 3.0]);
        let grad = Array::of(Dtype::F32, &[0.5, -0.5, 0.25]);
        handle.add(&Param::new("host", &param));
        handle.set_grad(0, &grad);
        (param, grad)
    };
    take_log();
    let handle = Handle::new(&config);
    let kept = host(&handle);
    live(&handle).unwrap();
    drop(handle);
    drop(kept);
    assert_eq!(alive(), before);
    let calls = take_log().len();
    assert!(calls > 100, "{calls}");
    // Memory that is lacking, an argument that is refused, an error that a kernel left behind.
    for code in [2, 1, 719] {
        for nth in 1..=calls {
            let handle = Handle::new(&config);
            let (param, grad) = host(&handle);
            device::set("fail", &format!("*:{nth}:{code}"));
            let failure = live(&handle).err();
            device::set("fail", "");
            if let Some(Failure { status, text }) = &failure {
                let expected = [
                    Status::Device,
                    Status::OutOfMemory,
                    Status::Unsupported,
                    Status::InvalidArgument,
                ];
                assert!(expected.contains(status), "{nth}, {code}: {status:?}: {text}");
                let is_half = text.contains("in the middle of a step");
                assert_eq!(is_half, is_unusable(&handle), "{nth}, {code}: {text}");
                n_half += usize::from(is_half);
            }
            if failure.is_some() && !is_unusable(&handle) {
                // The host's parameter is stepped on, once the device's has no gradient.
                if handle.try_info(1).is_ok() {
                    handle.forget_grad(1);
                }
                handle.set_grad(0, &grad);
                let value = param.get(0);
                handle.step();
                assert_ne!(param.get(0), value, "{nth}, {code}");
            }
            drop(handle);
            assert_eq!(Device::current(), device.context(), "{nth}, {code}");
            let log = take_log();
            let failed = log.iter().find(|line| line.ends_with(&format!("-> {code}")));
            let failed = failed.map_or("", |line| line.split('(').next().unwrap());
            match failed {
                // What gives something back and fails has not done so.
                "cuMemFree_v2" | "cuMemFreeHost" | "cuEventDestroy_v2" | "cuModuleUnload"
                | "cuCtxGetCurrent" => before = alive(),
                _ => assert_eq!(alive(), before, "{nth}, {code}: {failed}"),
            }
        }
    }
    n_half
}

#[test]
fn whatever_call_of_the_driver_fails_the_host_is_told_and_nothing_is_lost() {
    // The calls are what matters here, and not what kernels compute.
    let device = Device::with(&[("blocks", "1"), ("global_races", "0")]);
    let given = Given::new();
    // The kernels are loaded by the first handle.
    let n_half = each_call_fails(&device, |handle| add(handle, "w", &given.param).map(|_| ()));
    assert_eq!(n_half, 0);
    let (first, param) = (Handle::new(&config()), Given::new().param);
    add(&first, "first", &param).unwrap();
    assert!(each_call_fails(&device, |handle| live(handle, &given)) > 0);
}
