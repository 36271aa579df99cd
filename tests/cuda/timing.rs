//! How much of the copies of offloaded parameters is hidden, as a step reports it.

use crate::common::array::{Array, Dtype};
use crate::common::device::{Device, Stream, take_log};
use crate::common::handle::{Handle, Param, config};
use crate::common::twin::Twin;
use adamw::ffi::*;

fn offload(param: Param) -> Param {
    Param { offload: true, ..param }
}

const ALL: [(Dtype, usize); 4] =
    [(Dtype::F32, 40_003), (Dtype::Bf16, 4_099), (Dtype::F64, 77), (Dtype::F32, 0)];

/// Two offloaded parameters, two more after the times are asked for, and one that is not offloaded.
fn timed(config: &adamw_config) -> Twin {
    let mut twin = Twin::new(config);
    for (i, (dtype, n)) in ALL.into_iter().enumerate() {
        if i == 2 {
            twin.device.set_offload_timing(1).unwrap();
        }
        twin.add_with(dtype, n, true, offload);
    }
    twin.add(Dtype::F32, 5_000);
    twin
}

fn bytes(params: &[(Dtype, usize)]) -> u64 {
    params.iter().map(|(dtype, n)| (dtype.bytes() * n) as u64).sum()
}

fn numbers(info: &adamw_offload_info) -> (u64, u64, [f64; 5]) {
    let times = [info.seconds_down, info.seconds_up, info.seconds_worked, info.seconds_waited];
    (info.n_bytes_down, info.n_bytes_up, [times[0], times[1], times[2], times[3], info.hidden])
}

const NOTHING: (u64, u64, [f64; 5]) = (0, 0, [0.0; 5]);

fn step(twin: &mut Twin) -> adamw_offload_info {
    twin.set_grads();
    twin.step();
    twin.assert_same();
    twin.device.offload_info().unwrap()
}

#[test]
fn what_is_reported_adds_up_however_much_may_be_pinned() {
    for (seed, pinned_bytes) in [("1", 0), ("2", 1 << 17), ("3", 400_000), ("4", 1 << 30)] {
        let _device = Device::with(&[("lazy", "1"), ("shuffle", seed)]);
        for clip_norm in [0.0, 0.4] {
            let clip = if clip_norm == 0.0 { ADAMW_CLIP_NONE } else { ADAMW_CLIP_GLOBAL_NORM };
            let mut twin = timed(&adamw_config { pinned_bytes, clip, clip_norm, ..config() });
            assert_eq!(numbers(&twin.device.offload_info().unwrap()), NOTHING);
            for _ in 0..3 {
                let info = step(&mut twin);
                assert_eq!((info.n_bytes_down, info.n_bytes_up), (bytes(&ALL), bytes(&ALL)));
                let (.., [down, up, worked, waited, hidden]) = numbers(&info);
                assert!(down > 0.0 && up > 0.0 && worked > 0.0 && waited > 0.0, "{info:?}");
                assert_eq!(hidden, (1.0 - waited / (down + up)).clamp(0.0, 1.0), "{info:?}");
                let again = twin.device.offload_info().unwrap();
                assert_eq!(numbers(&again), numbers(&info), "told once more");
            }
        }
    }
}

#[test]
fn what_comes_down_while_it_is_waited_for_is_not_hidden() {
    let _device = Device::with(&[("lazy", "1")]); // so that it comes down when it is waited for
    let mut twin = timed(&config());
    for _ in 0..3 {
        let info = step(&mut twin);
        // Each copy is within a wait; marks are as exact as a f32 of milliseconds.
        assert!(info.seconds_waited >= info.seconds_down * 0.999, "{info:?}");
    }
}

#[test]
fn a_step_reports_its_own_copies() {
    let _device = Device::new();
    let clip_norm = 0.4;
    let limits = adamw_config { clip: ADAMW_CLIP_GLOBAL_NORM, clip_norm, ..config() };
    let mut twin = timed(&adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..limits });
    step(&mut twin);
    let reported = |twin: &Twin| {
        let (down, up, _) = numbers(&twin.device.offload_info().unwrap());
        (down, up)
    };
    // What has come down to be measured when it was ready is not the step's.
    twin.both(|handle| handle.grad_ready(0).unwrap());
    assert_eq!(reported(&twin), (bytes(&ALL), bytes(&ALL)), "of the step before");
    twin.step();
    assert_eq!(reported(&twin), (bytes(&ALL[1..]), bytes(&ALL)));
    // A gradient in the host's memory need not come down.
    let at_home = Array::ordinary(Dtype::F32, 40_003, &mut twin.random);
    twin.both(|handle| handle.set_grad(0, &at_home));
    twin.step();
    assert_eq!(reported(&twin), (bytes(&ALL[1..]), bytes(&ALL)));
    // Nothing is offloaded that is stepped.
    (0..ALL.len() as u32).for_each(|number| twin.forget_grad(number));
    twin.step();
    assert_eq!(reported(&twin), (0, 0));
    assert_eq!(twin.device.offload_info().unwrap().hidden, 0.0);
    step(&mut twin);
    twin.write_grad(2, &Array::of(Dtype::F64, &[f64::NAN; 77]));
    twin.step();
    assert_eq!(numbers(&twin.device.offload_info().unwrap()), NOTHING, "skipped");
}

/// The name of a call.
fn name(line: &str) -> &str {
    line.split('(').next().unwrap()
}

/// An argument of a call.
fn argument<'a>(line: &'a str, name: &str) -> &'a str {
    let rest = line.split(name).nth(1).unwrap();
    rest.split([',', ')']).next().unwrap()
}

/// The calls of a step with the gradients of the step before.
fn log_of_step(twin: &Twin) -> Vec<String> {
    twin.set_same_grads();
    take_log();
    twin.step();
    let log = take_log();
    log.into_iter().filter(|line| name(line) != "cuThreadExchangeStreamCaptureMode").collect()
}

#[test]
fn times_cost_marks_around_each_copy_and_nothing_where_nobody_asks() {
    for pinned_bytes in [0, 1 << 17] {
        let _device = Device::with(&[("lazy", "1"), ("shuffle", "3")]);
        let mut twin = Twin::new(&adamw_config { pinned_bytes, ..config() });
        for (dtype, n) in ALL {
            twin.add_with(dtype, n, true, offload);
        }
        twin.set_grads();
        twin.step();
        let keeps_time = |line: &String| line.starts_with("cuEventCreate(flags=0");
        assert!(!take_log().iter().any(keeps_time));
        let plain = log_of_step(&twin);
        twin.device.set_offload_timing(1).unwrap();
        assert!(take_log().iter().any(keeps_time));
        let log = log_of_step(&twin);
        // Each copy is between two marks on its stream, and these are compared.
        take_log();
        let info = twin.device.offload_info().unwrap();
        let asked = take_log();
        let compared = |start: &str, end: &str| {
            let pair = format!("(first={start}, second={end})");
            asked.iter().any(|line| line.contains(&pair))
        };
        let (mut n_bytes, mut n_copies) = (0, 0);
        for (place, copy) in log.iter().enumerate().filter(|(_, line)| line.contains("cuMemcpy")) {
            let [start, end] = [&log[place - 1], &log[place + 1]];
            for mark in [start, end] {
                assert_eq!(name(mark), "cuEventRecord", "{log:#?}");
                assert_eq!(argument(mark, "stream="), argument(copy, "stream="), "{log:#?}");
            }
            assert!(compared(argument(start, "event="), argument(end, "event=")), "{asked:#?}");
            n_bytes += argument(copy, "bytes=").parse::<u64>().unwrap();
            n_copies += 1;
        }
        assert_eq!(n_bytes, info.n_bytes_down + info.n_bytes_up);
        // Another pair is the end of the processor's work and that of the last upload.
        let n_pairs = asked.iter().filter(|line| name(line) == "cuEventElapsedTime").count();
        assert_eq!(n_pairs, n_copies + 1, "{asked:#?}");
        // Apart from marks, a step does the same. It waits for the gradients before their copies.
        let names =
            |log: &[String]| log.iter().map(|line| name(line).to_owned()).collect::<Vec<_>>();
        let without = |log: &[String], event: &str| {
            let is_mark = |line: &&String| name(line) == "cuEventRecord";
            let waits = format!("cuEventSynchronize(event={event})");
            let rest = log.iter().filter(|line| !is_mark(line) && !line.starts_with(&waits));
            names(&rest.cloned().collect::<Vec<_>>())
        };
        assert_eq!(without(&log, begun(&log)), without(&plain, "none"));
        twin.device.set_offload_timing(0).unwrap();
        assert_eq!(names(&log_of_step(&twin)), names(&plain));
        twin.assert_same();
    }
}

/// The mark that the downloads of a step are queued behind.
fn begun(log: &[String]) -> &str {
    argument(log.iter().find(|line| name(line) == "cuStreamWaitEvent").unwrap(), "event=")
}

#[test]
fn the_work_of_the_host_before_the_step_is_not_waited_for_on_account_of_the_copies() {
    for pinned_bytes in [0, 1 << 17] {
        let _device = Device::with(&[("lazy", "1"), ("shuffle", "3")]);
        let mut twin = timed(&adamw_config { pinned_bytes, ..config() });
        step(&mut twin);
        let log = log_of_step(&twin);
        let waits = log.iter().filter(|line| name(line) == "cuEventSynchronize");
        let waits: Vec<&str> = waits.map(|line| argument(line, "event=")).collect();
        let place = waits.iter().position(|event| *event == begun(&log));
        assert_eq!(waits.iter().filter(|event| **event == begun(&log)).count(), 1, "{log:#?}");
        // Before it only for slots, to be free for downloads.
        assert!(place <= Some(if pinned_bytes == 0 { 0 } else { 2 }), "{log:#?}");
    }
}

#[test]
fn times_are_asked_of_a_handle_with_parameters_on_a_device_outside_a_capture() {
    let _device = Device::new();
    let handle = Handle::new(&config());
    assert_eq!(numbers(&handle.offload_info().unwrap()), NOTHING);
    assert_eq!(handle.set_offload_timing(1).unwrap_err().status, Status::NotFound);
    let mut twin = timed(&config());
    step(&mut twin);
    assert_eq!(twin.device.set_offload_timing(2).unwrap_err().status, Status::InvalidArgument);
    let stream = Stream::new();
    twin.device.set_stream(stream.raw().cast()).unwrap();
    drop(stream.capture(|| {
        let refused = [twin.device.set_offload_timing(0), twin.device.offload_info().map(drop)];
        for refused in refused {
            assert_eq!(refused.unwrap_err().status, Status::Unsupported);
        }
    }));
    step(&mut twin);
}
