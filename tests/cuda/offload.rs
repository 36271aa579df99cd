//! Parameters on a device that the processor steps have the bits of parameters in the host's memory.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::device::{self, Device, OnDevice, Stream, count, take_log};
use crate::common::handle::{Handle, Param, config, with_clip};
use crate::common::rows::Rows;
use crate::common::twin::Twin;
use adamw::ffi::*;

fn offload(param: Param) -> Param {
    Param { offload: true, ..param }
}

/// Parameters of all types, some of them stepped by the processor, some by the device, one at home.
fn several(twin: &mut Twin) {
    for (dtype, n) in
        [(Dtype::F32, 40_003), (Dtype::Bf16, 4_099), (Dtype::F64, 77), (Dtype::F16, 9_000)]
    {
        twin.add_with(dtype, n, true, offload);
    }
    twin.add(Dtype::F32, 5_000);
    twin.add_with(Dtype::F32, 300, false, |param| param);
}

fn steps(twin: &mut Twin, n: usize) {
    for _ in 0..n {
        twin.set_grads();
        twin.step();
        twin.assert_same();
    }
}

#[test]
fn the_processors_steps_have_the_same_bits() {
    for settings in
        [&[][..], &[("lazy", "1"), ("shuffle", "3")], &[("lazy", "1"), ("shuffle", "8")]]
    {
        let _device = Device::with(settings);
        for (clip, clear_grads) in [(ADAMW_CLIP_NONE, 1), (ADAMW_CLIP_GLOBAL_NORM, 0)] {
            let (multi_precision, nonfinite) = (1, ADAMW_NONFINITE_SKIP);
            let limits = adamw_config { clip_norm: 0.4, multi_precision, ..config() };
            let mut twin =
                Twin::new(&with_clip(clip, adamw_config { nonfinite, clear_grads, ..limits }));
            several(&mut twin);
            steps(&mut twin, 3);
            twin.set_grads();
            twin.write_grad(2, &Array::of(Dtype::F64, &[f64::NAN; 77]));
            twin.step();
            twin.assert_same();
            assert_eq!(twin.device.step_info().skipped, 1);
            twin.both(|handle| handle.clear_grad(ADAMW_CLEAR_ZERO));
            twin.assert_same();
            for _ in 0..2 {
                let grad = Array::ordinary(Dtype::Bf16, 4_099, &mut twin.random);
                twin.accumulate(1, &grad);
            }
            twin.step();
            twin.assert_same();
            steps(&mut twin, 1);
        }
    }
}

#[test]
fn large_parameters_are_stepped_while_others_are_on_their_way() {
    let _device = Device::with(&[("lazy", "1"), ("shuffle", "5")]);
    let mut twin = Twin::new(&config());
    for _ in 0..3 {
        twin.add_with(Dtype::F32, 3_000_000, true, offload);
    }
    twin.set_grads();
    twin.step();
    twin.set_same_grads();
    take_log();
    twin.device.step();
    let log: Vec<String> = take_log();
    let place = |entry: &str, nth: usize| {
        let all = log.iter().enumerate().filter(|(_, line)| line.starts_with(entry));
        all.map(|(place, _)| place).nth(nth).unwrap()
    };
    // The first two go up before the last is waited for, on another stream than they came down on.
    assert!(place("cuMemcpyHtoDAsync_v2", 1) < place("cuEventSynchronize", 2), "{log:#?}");
    let stream = |place: usize| log[place].split("stream=").nth(1).unwrap().to_owned();
    let (down, up) = (place("cuMemcpyDtoHAsync_v2", 0), place("cuMemcpyHtoDAsync_v2", 0));
    assert_ne!(stream(down), stream(up));
    twin.host.step();
    twin.assert_same();
}

#[test]
fn however_little_memory_may_be_pinned_the_bits_are_the_same() {
    for (seed, pinned_bytes) in [("1", 1 << 17), ("2", 400_000), ("3", 1 << 30)] {
        let _device = Device::with(&[("lazy", "1"), ("shuffle", seed)]);
        for clip in [ADAMW_CLIP_NONE, ADAMW_CLIP_GLOBAL_NORM] {
            let (multi_precision, clear_grads) = (1, 1);
            let limits = adamw_config { clip_norm: 0.4, multi_precision, ..config() };
            take_log();
            let mut twin =
                Twin::new(&with_clip(clip, adamw_config { pinned_bytes, clear_grads, ..limits }));
            several(&mut twin);
            steps(&mut twin, 3);
            // Gradients of another type than the parameter's land elsewhere.
            let grad = Array::ordinary(Dtype::F32, 4_099, &mut twin.random);
            twin.set_grad(1, grad);
            twin.step();
            twin.assert_same();
            let grad = Array::ordinary(Dtype::F32, 40_003, &mut twin.random);
            (0..2).for_each(|_| twin.accumulate(0, &grad));
            twin.step();
            twin.assert_same();
            let values = Array::ordinary(Dtype::F32, 40_003, &mut twin.random);
            twin.write_param(0, &values);
            twin.both(|handle| handle.sync_master(0));
            twin.both(|handle| handle.set_statistics(1).unwrap());
            steps(&mut twin, 2);
            let pinned = twin.device.pinned_bytes();
            assert!(pinned > 40_000 && pinned <= pinned_bytes, "{pinned} of {pinned_bytes}");
            // What fits is pinned, and nothing passes through anything else.
            let is_all = pinned > 800_000;
            assert_eq!(is_all, pinned_bytes == 1 << 30, "{pinned} of {pinned_bytes}");
            twin.both(|handle| handle.remove(0).unwrap());
            twin.step();
            twin.assert_same();
        }
        assert_eq!(count("pinned"), 0);
    }
}

#[test]
fn copies_leave_room_for_the_tables_of_parameters_that_come_later() {
    let _device = Device::new();
    let mut twin = Twin::new(&adamw_config { pinned_bytes: 1 << 20, ..config() });
    for _ in 0..12 {
        twin.add_with(Dtype::F32, 10_000, true, offload);
    }
    steps(&mut twin, 1);
    for _ in 0..20 {
        twin.add(Dtype::F32, 10);
    }
    steps(&mut twin, 2);
}

#[test]
fn pinned_memory_is_counted_as_the_driver_gives_and_takes_it() {
    let _device = Device::new();
    let mut twin = Twin::new(&adamw_config { pinned_bytes: 1 << 20, ..config() });
    take_log();
    twin.add_with(Dtype::F32, 40_003, true, offload);
    twin.set_grads();
    let log = take_log();
    let given = log.iter().filter_map(|line| line.strip_prefix("cuMemHostAlloc(bytes="));
    let bytes: u64 =
        given.map(|line| line.split(',').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(twin.device.pinned_bytes(), bytes);
    assert!(bytes > 2 * 4 * 40_003, "{bytes}");
    twin.both(|handle| handle.remove(0).unwrap());
    assert!(twin.device.pinned_bytes() <= bytes - 2 * 4 * 40_003);
}

#[test]
fn an_add_that_fails_takes_no_pinned_memory() {
    let _device = Device::new();
    let zeros = Array::zeros(Dtype::F32, 100);
    let memory = [(); 20].map(|()| OnDevice::of(&zeros, 0));
    let handle = Handle::new(&adamw_config { pinned_bytes: 1 << 20, ..config() });
    let add = |name: &str, memory: &OnDevice, is_offloaded: bool| {
        let mut tensors = [None; 9];
        tensors[0] = Some(memory.tensor());
        let offload = is_offloaded;
        handle.try_add_tensors(&Param { offload, ..Param::new(name, &zeros) }, tensors)
    };
    let taken = || (handle.pinned_bytes(), ["pinned", "streams"].map(count));
    for (number, memory) in memory.iter().enumerate() {
        let (name, is_offloaded) = (format!("w{number}"), number % 2 == 1);
        for nth in 1.. {
            let before = taken();
            device::set("fail", &format!("*:{nth}:1"));
            let added = add(&name, memory, is_offloaded);
            device::set("fail", "");
            if added.is_ok() {
                break;
            }
            assert_eq!(taken(), before, "{name}, {nth}: {added:?}");
        }
        let before = taken();
        for is_offloaded in [true, false] {
            let overlaps = add("over", memory, is_offloaded).unwrap_err();
            assert!(overlaps.text.contains("overlaps"), "{}", overlaps.text);
            assert_eq!(taken(), before, "{name}");
        }
    }
    (0..20).for_each(|number| handle.remove(number).unwrap());
}

#[test]
fn a_large_parameter_goes_on_while_its_next_part_is_on_its_way_through_little_memory() {
    let _device = Device::with(&[("lazy", "1"), ("shuffle", "6")]);
    let mut twin = Twin::new(&adamw_config { pinned_bytes: 1 << 24, ..config() });
    for n in [100, LARGE, 5_000] {
        twin.add_with(Dtype::F32, n, true, offload);
    }
    steps(&mut twin, 2);
    twin.set_same_grads();
    take_log();
    twin.device.step();
    let log = take_log();
    let place = |entry: &str, nth: usize| {
        let all = log.iter().enumerate().filter(|(_, line)| line.starts_with(entry));
        all.map(|(place, _)| place).nth(nth)
    };
    // Its first part goes up before its last one is asked for.
    let downs = log.iter().filter(|line| line.starts_with("cuMemcpyDtoHAsync_v2")).count();
    assert!(downs > 30, "{downs}");
    assert!(place("cuMemcpyHtoDAsync_v2", 1) < place("cuMemcpyDtoHAsync_v2", downs - 1));
    twin.host.step();
    twin.assert_same();
}

/// The elements that come down, are stepped and go up together, and a bit more than twice as many.
const PIECE: usize = 1 << 22;
const LARGE: usize = 2 * PIECE + 4_099;

#[test]
fn pieces_of_a_large_parameter_have_the_same_bits() {
    let coded = |moments| adamw_config { moments, clear_grads: 1, ..config() };
    let (stochastic, split) = (ADAMW_PRECISION_STOCHASTIC, ADAMW_PRECISION_SPLIT);
    for (seed, dtype, config) in [
        ("1", Dtype::F32, config()),
        ("2", Dtype::F32, coded(ADAMW_MOMENTS_8BIT)),
        ("3", Dtype::Bf16, adamw_config { precision: stochastic, ..config() }),
        ("4", Dtype::Bf16, adamw_config { precision: split, ..coded(ADAMW_MOMENTS_4BIT) }),
        ("5", Dtype::F32, with_clip(ADAMW_CLIP_NORM, adamw_config { clip_norm: 0.4, ..config() })),
    ] {
        let _device = Device::with(&[("lazy", "1"), ("shuffle", seed)]);
        let mut twin = Twin::new(&config);
        // Before it and behind it others.
        for n in [100, LARGE, 5_000] {
            twin.add_with(dtype, n, true, offload);
        }
        steps(&mut twin, 2);
        twin.both(|handle| handle.set_statistics(1).unwrap());
        steps(&mut twin, 1);
    }
}

#[test]
fn a_piece_goes_up_while_the_next_is_on_its_way() {
    let _device = Device::with(&[("lazy", "1"), ("shuffle", "5")]);
    let mut twin = Twin::new(&config());
    twin.add_with(Dtype::F32, LARGE, true, offload);
    steps(&mut twin, 1);
    twin.set_same_grads();
    take_log();
    twin.device.step();
    let calls = ["cuMemcpyDtoHAsync_v2", "cuEventSynchronize", "cuMemcpyHtoDAsync_v2"];
    let log = take_log();
    let order = log.iter().filter_map(|line| calls.iter().position(|call| line.starts_with(call)));
    assert_eq!(order.collect::<Vec<_>>(), [0, 0, 0, 1, 2, 1, 2, 1, 2], "{log:#?}");
    let copied = |bytes: usize| {
        let bytes = format!("bytes={bytes},");
        log.iter().filter(|line| line.contains(&bytes)).count()
    };
    assert_eq!((copied(4 * PIECE), copied(4 * 4_099)), (4, 2), "{log:#?}");
}

#[test]
fn a_piece_that_does_not_arrive_leaves_the_step_undone_or_the_handle_unusable() {
    for (nth, is_half) in [(1, false), (2, true), (3, true)] {
        let _device = Device::new();
        let mut twin = Twin::new(&config());
        twin.add_with(Dtype::F32, LARGE, true, offload);
        steps(&mut twin, 1);
        let before = twin.device.saved(false);
        device::set("fail", &format!("cuEventSynchronize:{nth}:1"));
        assert!(twin.device.try_step().is_err());
        device::set("fail", "");
        if is_half {
            assert_eq!(twin.device.try_step().unwrap_err().status, Status::Poisoned);
        } else {
            assert!(twin.device.saved(false) == before);
            twin.step();
            twin.assert_same();
        }
    }
}

#[test]
fn a_step_in_which_any_call_fails_is_undone_or_leaves_the_handle_unusable() {
    let (skip, propagate) = (ADAMW_NONFINITE_SKIP, ADAMW_NONFINITE_PROPAGATE);
    // The device steps the first parameter, or the processor does.
    for (stepped_there, clear_grads, nonfinite, is_skipped) in [
        (false, 0, skip, false),
        (false, 1, skip, false),
        (false, 1, skip, true),
        (true, 0, propagate, false),
        (true, 1, skip, false),
        (true, 1, skip, true),
    ] {
        let config = adamw_config { clear_grads, nonfinite, ..config() };
        let mut ends = [0; 2];
        for nth in 1.. {
            let _device = Device::new();
            let mut twin = Twin::new(&config);
            twin.add_with(Dtype::F32, 100, true, |param| Param {
                offload: !stepped_there,
                ..param
            });
            twin.add_with(Dtype::F32, 100, true, offload);
            steps(&mut twin, 1);
            twin.set_grads();
            if is_skipped {
                twin.write_grad(0, &Array::of(Dtype::F32, &[f64::NAN; 100]));
            }
            let before = twin.device.saved(false);
            take_log();
            device::set("fail", &format!("*:{nth}:1"));
            let stepped = twin.device.try_step();
            device::set("fail", "");
            let is_over = !take_log().iter().any(|line| line.ends_with("-> 1"));
            if is_over {
                break;
            }
            let is_unusable =
                twin.device.try_info(0).is_err_and(|failure| failure.status == Status::Poisoned);
            ends[usize::from(is_unusable)] += 1;
            if is_unusable {
                continue;
            }
            if stepped.is_err() {
                assert!(twin.device.saved(false) == before, "{nth}: {stepped:?}");
                twin.device.step();
            }
            twin.host.step();
            twin.assert_same();
        }
        assert!(ends.iter().all(|&n| n > 1), "{ends:?}");
    }
}

#[test]
fn the_streams_of_the_library_wait_for_the_hosts_and_the_hosts_for_them() {
    for seed in 1..9 {
        let _device = Device::with(&[("lazy", "1"), ("shuffle", &seed.to_string())]);
        let stream = Stream::new();
        let zeros = Array::zeros(Dtype::F32, 100);
        let on_device = OnDevice::of(&zeros, 0);
        let (grad, next) =
            (OnDevice::of(&zeros, 0), OnDevice::of(&Array::of(Dtype::F32, &[1.0; 100]), 0));
        let (before, after) = (OnDevice::of(&next.array().unwrap(), 0), OnDevice::of(&zeros, 0));
        let handle = Handle::new(&config());
        let mut tensors = [None; 9];
        tensors[0] = Some(on_device.tensor());
        handle.try_add_tensors(&offload(Param::new("w", &zeros)), tensors).unwrap();
        handle.set_grad_tensor(0, &grad.tensor()).unwrap();
        handle.set_stream(stream.raw().cast()).unwrap();
        handle.step();
        // Kernels before the step write the gradient and read the parameter; those after it read that.
        stream.copy(&grad, &next);
        stream.copy(&before, &on_device);
        take_log();
        handle.step();
        assert_eq!(
            take_log().iter().filter(|line| line.starts_with("cuMemcpyDtoHAsync")).count(),
            1
        );
        stream.copy(&after, &on_device);
        stream.wait();
        assert_eq!(before.array().unwrap().get(0), 0.0, "{seed}");
        assert!(after.array().unwrap().get(0) < 0.0, "{seed}");
    }
}

#[test]
fn what_the_host_writes_into_a_parameter_is_fetched_when_it_says_so() {
    let _device = Device::new();
    let handle = Handle::new(&config());
    let (zeros, ones) = (Array::zeros(Dtype::F32, 100), Array::of(Dtype::F32, &[1.0; 100]));
    let (on_device, grad) = (OnDevice::of(&zeros, 0), OnDevice::of(&zeros, 0));
    let mut tensors = [None; 9];
    tensors[0] = Some(on_device.tensor());
    handle.try_add_tensors(&offload(Param::new("w", &zeros)), tensors).unwrap();
    handle.set_grad_tensor(0, &grad.tensor()).unwrap();
    // Before the first step it may be written as one likes.
    on_device.set(&ones);
    handle.step();
    let decayed = on_device.array().unwrap().get(0);
    assert!(decayed < 1.0 && decayed > 0.9, "{decayed}");
    on_device.set(&zeros);
    handle.sync_master(0);
    handle.step();
    assert_eq!(on_device.array().unwrap().get(0), 0.0);
}

/// Something that a host does, and what it is called.
type Way<'a> = (&'static str, &'a dyn Fn(&Handle));

/// A handle with one offloaded parameter, an embedding of rows of 10, and its gradient on the device.
fn embedding(config: &adamw_config) -> (Handle, OnDevice, OnDevice) {
    let ones = Array::of(Dtype::F32, &[1.0; 100]);
    let (on_device, grad) = (OnDevice::of(&ones, 0), OnDevice::of(&ones, 0));
    let handle = Handle::new(config);
    let mut tensors = [None; 9];
    tensors[0] = Some(on_device.tensor());
    handle.try_add_tensors(&offload(Param::new("w", &ones)), tensors).unwrap();
    handle.set_grad_tensor(0, &grad.tensor()).unwrap();
    handle.step();
    (handle, on_device, grad)
}

#[test]
fn the_memory_of_a_gradient_that_is_forgotten_is_the_hosts_again() {
    let values = Array::of(Dtype::F32, &[0.5; 20]).shaped(&[2, 10]);
    let rows = Rows::i64(&[3, 7]);
    let whole = Array::of(Dtype::F32, &[0.25; 100]);
    let forget: [Way; 8] = [
        ("set to none", &|handle| handle.forget_grad(0)),
        ("cleared", &|handle| handle.clear_grad(ADAMW_CLEAR_FORGET)),
        ("stepped alone", &|handle| handle.step_param(0).unwrap()),
        ("accumulated", &|handle| handle.accumulate_grad(0, &whole).unwrap()),
        ("replaced by a sparse one", &|handle| handle.set_sparse_grad(0, &rows, &values)),
        ("replaced by one here", &|handle| handle.set_grad(0, &whole)),
        ("forgotten around explicit gradients", &|handle| {
            handle.forget_grad(0);
            handle.apply_gradients(&[(0, &whole)]).unwrap();
        }),
        ("removed", &|handle| handle.remove(0).unwrap()),
    ];
    for (how, forget) in forget {
        for is_freed in [false, true] {
            let _device = Device::new();
            let (handle, on_device, grad) = embedding(&adamw_config { clear_grads: 1, ..config() });
            grad.set(&whole);
            forget(&handle);
            // The host keeps something else there, or has given the memory back.
            let others = Array::of(Dtype::F32, &[7.0; 100]);
            grad.set(&others);
            let grad = if is_freed { None } else { Some(grad) };
            for _ in 0..2 {
                handle.step();
                handle.clear_grad(ADAMW_CLEAR_ZERO);
            }
            on_device.array().unwrap();
            if let Some(grad) = grad {
                assert_eq!(grad.array().unwrap().first_difference(&others), None, "{how}");
            }
        }
    }
}

#[test]
fn explicit_gradients_leave_the_one_that_is_set_where_it_is() {
    let _device = Device::new();
    let mut twin = Twin::new(&config());
    twin.add_with(Dtype::F32, 300, true, offload);
    steps(&mut twin, 1);
    let other = Array::ordinary(Dtype::F32, 300, &mut twin.random);
    let on_device = OnDevice::of(&other, 0);
    for of_device in [true, false] {
        twin.host.apply_gradients(&[(0, &other)]).unwrap();
        let tensor = if of_device { on_device.tensor() } else { other.tensor() };
        twin.device.apply_gradient_tensors(&[(0, tensor)]).unwrap();
        twin.assert_same();
        twin.step();
        twin.assert_same();
    }
}

#[test]
fn minimize_lists_gradients_where_the_host_has_them() {
    extern "C" fn closure(_: *mut f64, _: *mut core::ffi::c_void) -> i32 {
        0
    }
    let _device = Device::new();
    let (handle, _on_device, grad) = embedding(&config());
    let (_, updated) = handle.minimize(Some(closure), &(), None, &[], 1).unwrap();
    assert_eq!(updated, [(0, grad.address() as usize)]);
}

#[test]
fn no_parameter_may_be_added_where_a_gradient_comes_down_from() {
    let _device = Device::new();
    let (handle, on_device, grad) = embedding(&adamw_config { clear_grads: 1, ..config() });
    let before = on_device.array().unwrap();
    let mut tensors = [None; 9];
    tensors[0] = Some(grad.tensor());
    handle.try_add_tensors(&Param::new("over", &before), tensors).unwrap();
    let failure = handle.try_step().unwrap_err();
    assert_eq!(
        failure.text,
        "param \"w\": grad overlaps param of param \"over\": give each memory of its own"
    );
    assert_eq!(on_device.array().unwrap().first_difference(&before), None);
}

#[test]
fn gradients_that_come_down_from_one_place_are_refused_where_they_are_cleared() {
    let _device = Device::new();
    let (handle, _on_device, grad) = embedding(&adamw_config { clear_grads: 1, ..config() });
    let other = OnDevice::of(&grad.array().unwrap(), 0);
    let mut tensors = [None; 9];
    tensors[0] = Some(other.tensor());
    let ones = Array::of(Dtype::F32, &[1.0; 100]);
    handle.try_add_tensors(&offload(Param::new("v", &ones)), tensors).unwrap();
    handle.set_grad_tensor(1, &grad.tensor()).unwrap();
    let failure = handle.try_step().unwrap_err();
    assert!(failure.text.contains("grad overlaps grad of param"), "{}", failure.text);
}

#[test]
fn a_master_that_is_looked_at_before_the_first_step_is_what_the_parameter_is() {
    let look: [Way; 3] = [
        ("by name", &|handle| drop(crate::common::state::state(handle, 0, "w0"))),
        ("saved", &|handle| drop(handle.saved(false))),
        ("begun anew", &|handle| handle.reset(0)),
    ];
    for (how, look) in look {
        for (multi_precision, precision) in
            [(1, ADAMW_PRECISION_DEFAULT), (0, ADAMW_PRECISION_SPLIT), (0, ADAMW_PRECISION_KAHAN)]
        {
            let _device = Device::new();
            let mut twin = Twin::new(&adamw_config { multi_precision, precision, ..config() });
            twin.add_with(Dtype::Bf16, 300, true, offload);
            twin.both(look);
            let saved = [&twin.host, &twin.device].map(|handle| handle.saved(false));
            assert!(saved[0] == saved[1], "{how}");
            twin.both(|handle| handle.load_bytes(&saved[1], &load_options()).unwrap());
            steps(&mut twin, 2);
        }
    }
}

#[test]
fn a_gradient_that_is_ready_is_measured_as_it_is_on_the_device() {
    let _device = Device::with(&[("lazy", "1"), ("shuffle", "3")]);
    let mut twin = Twin::new(&adamw_config {
        clip: ADAMW_CLIP_GLOBAL_NORM,
        clip_norm: 0.4,
        nonfinite: ADAMW_NONFINITE_SKIP,
        ..config()
    });
    several(&mut twin);
    let ready = |handle: &Handle| {
        [0, 2, 4].into_iter().for_each(|number| handle.grad_ready(number).unwrap());
    };
    for step in 0..5 {
        if step % 2 == 0 {
            twin.set_grads();
        } else {
            twin.write_grads();
        }
        if step == 3 {
            twin.write_grad(2, &Array::of(Dtype::F64, &[f64::NAN; 77]));
        }
        twin.both(ready);
        twin.step();
        twin.assert_same();
        assert_eq!(twin.device.step_info().skipped, u32::from(step == 3));
    }
    // It comes down once.
    twin.write_grads();
    take_log();
    ready(&twin.device);
    twin.device.step();
    let is_down = |line: &&String| line.starts_with("cuMemcpyDtoHAsync");
    let (n_offloaded, norms_of_the_others) = (4, 1);
    assert_eq!(take_log().iter().filter(is_down).count(), n_offloaded + norms_of_the_others);
    // What is not stepped then comes down again for the step after.
    twin.host.step();
    twin.assert_same();
    twin.both(ready);
    twin.both(|handle| handle.edit_options(0, |options| options.frozen = 1));
    twin.step();
    twin.write_grads();
    twin.both(|handle| handle.edit_options(0, |options| options.frozen = 0));
    twin.step();
    twin.assert_same();
    // Neither does another gradient that comes down to the same place meanwhile.
    twin.both(ready);
    let other = Array::ordinary(Dtype::F32, 40_003, &mut twin.random);
    let on_device = OnDevice::of(&other, 0);
    twin.host.apply_gradients(&[(0, &other)]).unwrap();
    twin.device.apply_gradient_tensors(&[(0, on_device.tensor())]).unwrap();
    twin.step();
    twin.assert_same();
}

#[test]
fn rows_that_are_brought_up_to_date_go_up() {
    let rows = Rows::i32(&[1, 4]);
    let look: [Way; 6] = [
        ("flushed", &|handle| handle.sparse_flush()),
        ("prepared", &|handle| handle.sparse_prepare(0, &rows).unwrap()),
        ("looked at", &|handle| {
            handle.state_info(0, ADAMW_BUFFER_EXP_AVG).unwrap();
        }),
        ("saved", &|handle| drop(handle.saved(false))),
        ("in a group that is not lazy", &|handle| {
            let group = adamw_group_config { lazy_mode: ADAMW_LAZY_ROWS, ..handle.group(0) };
            handle.set_group(0, &group).unwrap();
        }),
        ("begun anew", &|handle| handle.reset(0)),
    ];
    for (how, look) in look {
        for (dtype, lazy) in [(Dtype::F32, "0"), (Dtype::Bf16, "0"), (Dtype::F32, "1")] {
            let _device = Device::with(&[("lazy", lazy), ("shuffle", "3")]);
            let lazy_mode = ADAMW_LAZY_EXACT;
            let mut twin = Twin::new(&adamw_config { lazy_mode, multi_precision: 1, ..config() });
            twin.add_with(dtype, 60, true, offload);
            let values = Array::ordinary(dtype, 20, &mut twin.random).shaped(&[2, 10]);
            for step in 0..4 {
                let rows = Rows::i32(&[step, 5]);
                twin.both(|handle| handle.set_sparse_grad(0, &rows, &values));
                twin.step();
            }
            twin.both(|handle| handle.forget_grad(0));
            let before = twin.param(0);
            twin.both(look);
            assert!(twin.param(0).first_difference(&before).is_some(), "{how}");
            twin.assert_same_params();
            twin.assert_same();
        }
    }
}

#[test]
fn rows_whose_turn_it_is_wait_until_the_step_before_has_gone_up() {
    let _device = Device::with(&[("lazy", "1"), ("shuffle", "3")]);
    let ones = Array::of(Dtype::F32, &[1.0; 60]);
    let (at_home, on_device) = (ones.duplicate(), OnDevice::of(&ones, 0));
    let handles = [(); 2]
        .map(|()| Handle::new(&adamw_config { lr: 0.1, lazy_mode: ADAMW_LAZY_EXACT, ..config() }));
    let mut tensors = [None; 9];
    tensors[0] = Some(on_device.tensor());
    handles[0].add(&Param::new("w", &at_home));
    handles[1].try_add_tensors(&offload(Param::new("w", &ones)), tensors).unwrap();
    let stream = Stream::new();
    handles[1].set_stream(stream.raw().cast()).unwrap();
    let values = Array::of(Dtype::F32, &[0.5; 10]).shaped(&[1, 10]);
    let mut seen = Vec::new();
    for step in 0..9 {
        let rows = Rows::i32(&[step % 6]);
        for handle in &handles {
            handle.set_sparse_grad(0, &rows, &values);
            handle.step();
        }
        // What reads the parameter on the device comes between two steps, whenever it gets there.
        let copy = OnDevice::of(&ones, 0);
        stream.copy(&copy, &on_device);
        seen.push((at_home.duplicate(), copy));
    }
    stream.wait();
    for (step, (expected, copy)) in seen.iter().enumerate() {
        assert_eq!(copy.array().unwrap().first_difference(expected), None, "{step}");
    }
}

#[test]
fn a_checkpoint_without_parameters_goes_with_the_weights_that_the_host_brings_back() {
    for (multi_precision, precision) in [
        (0, ADAMW_PRECISION_DEFAULT),
        (1, ADAMW_PRECISION_DEFAULT),
        (0, ADAMW_PRECISION_SPLIT),
        (0, ADAMW_PRECISION_KAHAN),
    ] {
        for loads_first in [true, false] {
            let _device = Device::new();
            let mut twin = Twin::new(&adamw_config { multi_precision, precision, ..config() });
            twin.add_with(Dtype::Bf16, 300, true, offload);
            steps(&mut twin, 2);
            let saved = [&twin.host, &twin.device].map(|handle| handle.saved(false));
            assert!(saved[0] == saved[1]);
            let weights = twin.param(0);
            steps(&mut twin, 2);
            let load = |handle: &Handle| handle.load_bytes(&saved[0], &load_options()).unwrap();
            if loads_first {
                twin.both(load);
            }
            twin.write_param(0, &weights);
            if !loads_first {
                twin.both(load);
            }
            steps(&mut twin, 2);
        }
    }
}

#[test]
fn what_cannot_be_offloaded_is_refused_and_nothing_is_left_behind() {
    let _device = Device::new();
    let zeros = Array::zeros(Dtype::F32, 100);
    let (on_device, grad) = (OnDevice::of(&zeros, 0), OnDevice::of(&zeros, 0));
    let before = ["allocations", "pinned", "events", "streams"].map(count);
    let handle = Handle::new(&config());
    let at_home = handle.try_add(&offload(Param::new("w", &zeros))).unwrap_err();
    assert!(at_home.text.contains("param.offload is 1"), "{}", at_home.text);
    let mut tensors = [None; 9];
    (tensors[0], tensors[2]) = (Some(on_device.tensor()), Some(grad.tensor()));
    let state = handle.try_add_tensors(&offload(Param::new("w", &zeros)), tensors).unwrap_err();
    assert!(state.text.contains("exp_avg is in the memory of CUDA device 0"), "{}", state.text);
    tensors[2] = None;
    handle.try_add_tensors(&offload(Param::new("w", &zeros)), tensors).unwrap();
    handle.set_grad_tensor(0, &grad.tensor()).unwrap();
    let overlap = handle.set_grad_tensor(0, &on_device.tensor()).unwrap_err();
    assert!(overlap.text.contains("overlaps"), "{}", overlap.text);
    let stream = Stream::new();
    handle.set_stream(stream.raw().cast()).unwrap();
    let mut captured = None;
    drop(stream.capture(|| captured = handle.try_step().err()));
    assert_eq!(captured.unwrap().status, Status::Unsupported);
    handle.step();
    stream.wait();
    handle.remove(0).unwrap();
    drop(handle);
    drop(stream);
    assert_eq!(["allocations", "pinned", "events", "streams"].map(count), before);
}

#[test]
fn a_device_that_fails_at_any_call_leaves_no_step_half_counted() {
    let _device = Device::new();
    let zeros = Array::of(Dtype::F32, &[1.0; 100]);
    let on_device = [0, 1].map(|_| OnDevice::of(&zeros, 0));
    let grads = [0, 1].map(|_| OnDevice::of(&zeros, 0));
    let alive = || ["allocations", "pinned", "events", "streams", "modules"].map(count);
    let mut before = alive();
    let live = |handle: &Handle| {
        for (number, param) in on_device.iter().enumerate() {
            let mut tensors = [None; 9];
            tensors[0] = Some(param.tensor());
            let name = format!("w{number}");
            handle.try_add_tensors(&offload(Param::new(&name, &zeros)), tensors)?;
            handle.set_grad_tensor(number as u32, &grads[number].tensor())?;
        }
        handle.try_step()?;
        handle.set_offload_timing(1)?;
        handle.try_step()?;
        handle.offload_info()?;
        handle.remove(0)
    };
    take_log();
    live(&Handle::new(&config())).unwrap();
    let calls = take_log().len();
    for nth in 1..=calls {
        let handle = Handle::new(&config());
        device::set("fail", &format!("*:{nth}:1"));
        let failure = live(&handle).err();
        device::set("fail", "");
        if let Some(failure) = failure {
            let told = [Status::Device, Status::InvalidArgument, Status::Unsupported];
            assert!(told.contains(&failure.status), "{nth}: {failure:?}");
            // Either it goes on as if the call had not been made, or not at all.
            if let Err(again) = handle.try_step() {
                assert_eq!(again.status, Status::Poisoned, "{nth}: {failure:?}, {again:?}");
            }
        }
        drop(handle);
        let log = take_log();
        let failed = log.iter().find(|line| line.ends_with("-> 1"));
        let failed = failed.map_or("", |line| line.split('(').next().unwrap());
        let now = alive();
        match failed {
            // What gives something back and fails has not done so.
            "cuMemFreeHost" | "cuMemFree_v2" | "cuEventDestroy_v2" | "cuStreamDestroy_v2"
            | "cuModuleUnload" | "cuCtxGetCurrent" => before = now,
            _ => assert_eq!(now, before, "{nth}: {failed}"),
        }
    }
}
