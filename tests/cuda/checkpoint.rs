//! Checkpoints of parameters on a device are those of parameters in the host's memory, byte for byte.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::device::{Device, Stream, take_log};
use crate::common::handle::{Param, config, with_clip};
use crate::common::twin::Twin;
use adamw::ffi::*;

/// Larger than what goes to and fro at once; of all places and formats.
fn several(config: &adamw_config) -> Twin {
    let mut twin = Twin::new(config);
    twin.add(Dtype::F32, 300_007);
    twin.add(Dtype::Bf16, 9_000);
    twin.add(Dtype::F64, 33);
    twin.add_with(Dtype::F32, 700, false, |param| param);
    twin.add_with(Dtype::Bf16, 5_000, true, |param| Param { offload: true, ..param });
    twin
}

fn configs() -> Vec<adamw_config> {
    let of = |precision, moments, amsgrad, clip| {
        let multi_precision = u32::from(precision == ADAMW_PRECISION_DEFAULT);
        let clip_norm = 0.5;
        let limits = adamw_config { clip_norm, multi_precision, ..config() };
        with_clip(clip, adamw_config { precision, moments, amsgrad, ..limits })
    };
    vec![
        of(ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_F32, 1, ADAMW_CLIP_GLOBAL_NORM),
        of(ADAMW_PRECISION_SPLIT, ADAMW_MOMENTS_8BIT, 1, ADAMW_CLIP_NONE),
        of(ADAMW_PRECISION_KAHAN, ADAMW_MOMENTS_BF16, 0, ADAMW_CLIP_NONE),
        of(ADAMW_PRECISION_STOCHASTIC, ADAMW_MOMENTS_4BIT, 0, ADAMW_CLIP_NONE),
    ]
}

fn steps(twin: &mut Twin, n: usize) {
    for _ in 0..n {
        twin.set_grads();
        twin.step();
        twin.assert_same();
    }
}

#[test]
fn what_a_device_saves_a_host_loads_and_the_other_way_round() {
    let _device = Device::new();
    for config in configs() {
        let mut twin = several(&config);
        // Before the first step masters are what the parameters are.
        assert!(twin.host.saved(true) == twin.device.saved(true));
        assert!(twin.host.saved(true) == twin.device.saved_beside(true, || ()));
        steps(&mut twin, 2);
        let (host, device) = (twin.host.saved(true), twin.device.saved(true));
        assert!(host == device, "{config:?}");
        let mut other = several(&config);
        let options = adamw_load_options { params: 1, ..load_options() };
        other.host.load_bytes(&device, &options).unwrap();
        other.device.load_bytes(&host, &options).unwrap();
        other.assert_same();
        assert!(other.device.saved(true) == host);
        // The same gradients lead both on alike.
        other.random = crate::common::random::Random::new(77);
        twin.random = crate::common::random::Random::new(77);
        steps(&mut twin, 2);
        steps(&mut other, 2);
        assert!(twin.host.saved(true) == other.device.saved(true));
    }
}

#[test]
fn steps_that_the_device_alone_knows_to_be_skipped_are_saved_as_skipped() {
    let _device = Device::new();
    let (nonfinite, clip, clip_norm) = (ADAMW_NONFINITE_SKIP, ADAMW_CLIP_GLOBAL_NORM, 0.5);
    let mut twin = Twin::new(&adamw_config { nonfinite, clip, clip_norm, ..config() });
    twin.add(Dtype::F32, 300);
    for step in 0..4 {
        twin.set_grads();
        if step == 2 {
            twin.write_grad(0, &Array::of(Dtype::F32, &[f64::INFINITY; 300]));
        }
        twin.step();
    }
    let saved = twin.host.saved(true);
    assert!(twin.device.saved(true) == saved);
    assert_eq!(twin.host.info(0).step, 3);
}

#[test]
fn saving_and_loading_wait_and_are_refused_in_a_capture() {
    let _device = Device::with(&[("lazy", "1"), ("shuffle", "4")]);
    let mut twin = several(&config());
    let stream = Stream::new();
    twin.device.set_stream(stream.raw().cast()).unwrap();
    twin.set_grads();
    // What is queued up is part of what is saved.
    twin.step();
    let saved = twin.device.saved(true);
    assert!(saved == twin.host.saved(true));
    take_log();
    let graph = stream.capture(|| {
        let args = adamw_save_args { size_only: 1, ..crate::common::checkpoint::save_args() };
        let saving = twin.device.save_to(&args);
        let loading = twin.device.load_bytes(&saved, &load_options());
        // Its size is known without a look at the device.
        assert!(saving.is_ok() || saving.unwrap_err().status == Status::Unsupported);
        assert!(loading.is_err());
    });
    drop(graph);
    twin.step();
    stream.wait();
}

#[test]
fn what_a_load_adds_to_a_device_is_what_it_adds_in_the_hosts_memory() {
    let _device = Device::new();
    let twin_of = |config: &adamw_config| {
        let mut twin = Twin::new(config);
        twin.add(Dtype::Bf16, 9_000);
        twin.add_with(Dtype::Bf16, 5_000, true, |param| Param { offload: true, ..param });
        twin
    };
    for moments in [ADAMW_MOMENTS_F32, ADAMW_MOMENTS_8BIT] {
        let plain = adamw_config { moments, ..config() };
        let mut before = twin_of(&plain);
        steps(&mut before, 2);
        let saved = before.host.saved(true);
        let mut after = twin_of(&adamw_config { multi_precision: 1, amsgrad: 1, ..plain });
        // Masters and maxima of its own, which the load replaces.
        steps(&mut after, 2);
        let options = adamw_load_options { params: 1, extend: 1, ..load_options() };
        after.host.load_bytes(&saved, &options).unwrap();
        after.device.load_bytes(&saved, &options).unwrap();
        after.assert_same();
        steps(&mut after, 2);
        assert!(after.host.saved(true) == after.device.saved(true));
        assert_eq!(after.host.info(0).step, 4);
    }
}

#[test]
fn a_device_takes_codes_and_halves_that_a_load_makes() {
    let _device = Device::new();
    let (amsgrad, multi_precision) = (1, 1);
    let mut plain = several(&adamw_config { amsgrad, multi_precision, ..config() });
    steps(&mut plain, 2);
    let bytes = plain.host.saved(true);
    let (precision, moments) = (ADAMW_PRECISION_SPLIT, ADAMW_MOMENTS_8BIT);
    for (amsgrad, moments) in [(1, moments), (0, ADAMW_MOMENTS_4BIT)] {
        let from = if amsgrad == 1 { bytes.clone() } else { without_maxima() };
        let mut other = several(&adamw_config { precision, moments, amsgrad, ..config() });
        let scope = ADAMW_LOAD_SHARED;
        let options = adamw_load_options { scope, convert: 1, ..load_options() };
        other.both(|handle| handle.load_bytes(&from, &options).unwrap());
        other.assert_same();
        assert!(other.host.saved(true) == other.device.saved(true));
        steps(&mut other, 2);
    }
}

/// What a host has saved of the same parameters without amsgrad.
fn without_maxima() -> Vec<u8> {
    let mut twin = several(&adamw_config { multi_precision: 1, ..config() });
    steps(&mut twin, 1);
    twin.host.saved(true)
}
