//! A loss scaler adapts on the device where the device decides, and nobody waits: it has the processor's bits.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::device::{Device, OnDevice, Stream, take_log, waits};
use crate::common::handle::{Handle, config, loss_scaler, with_clip};
use crate::common::random::Random;
use crate::common::twin::Twin;
use adamw::ffi::*;

/// The state of the scaler, to the bit.
fn scaling(handle: &Handle) -> (u64, u64, u64) {
    let adamw_loss_scaler_state { scale, good_steps, bad_steps, .. } =
        handle.scaler_state().unwrap();
    assert_eq!(handle.grad_scale().to_bits(), scale.to_bits());
    (scale.to_bits(), good_steps, bad_steps)
}

/// A twin whose gradients are measured, with the clip that the number says.
fn twin(number: usize) -> Twin {
    let clips = [ADAMW_CLIP_NONE, ADAMW_CLIP_NORM, ADAMW_CLIP_GLOBAL_NORM];
    let config = adamw_config { clip_norm: 0.3, clear_grads: number as u32 % 2, ..config() };
    let mut twin = Twin::new(&with_clip(clips[number % 3], config));
    twin.add(Dtype::F32, 5_000);
    twin.add(Dtype::F16, 30);
    twin.set_grads();
    twin
}

/// New gradients, of which some overflow.
fn write_grads(twin: &mut Twin, random: &mut Random) -> bool {
    twin.write_grads();
    let overflows = random.next().is_multiple_of(3);
    if overflows {
        let grad = Array::ordinary(Dtype::F16, 30, &mut twin.random);
        grad.set(random.next() as usize % 30, f64::INFINITY);
        twin.write_grad(1, &grad);
    }
    overflows
}

#[track_caller]
fn assert_scale(there: &OnDevice, twin: &Twin) {
    let expected = Array::of(Dtype::F32, &[twin.host.grad_scale()]);
    assert_eq!(there.array().unwrap().first_difference(&expected), None);
}

#[test]
fn a_loss_scale_adapts_there_as_on_the_processor() {
    let _device = Device::new();
    let mut random = Random::new(3);
    for round in 0..40 {
        let mut twin = twin(round);
        let scaler = adamw_loss_scaler {
            growth_factor: [2.0, 1.3, 1e30][round % 3],
            backoff_factor: [0.5, 0.7, 1e-30][round / 3 % 3],
            ..loss_scaler(
                [8.0, 0.75, 65536.0][round % 3],
                1 + random.next() % 3,
                1 + random.next() % 2,
            )
        };
        twin.both(|handle| handle.set_scaler(&scaler).unwrap());
        let scale = OnDevice::of(&Array::of(Dtype::F32, &[0.0]), 0);
        twin.device.set_device_scale(scale.address()).unwrap();
        assert_scale(&scale, &twin);
        for step in 0..12 {
            write_grads(&mut twin, &mut random);
            twin.step();
            assert_scale(&scale, &twin);
            // What the host asks and says between steps changes nothing of that.
            match random.next() % 4 {
                0 => assert_eq!(scaling(&twin.device), scaling(&twin.host), "{round} {step}"),
                1 => twin.assert_same(),
                2 => twin.both(|handle| {
                    let state = handle.scaler_state().unwrap();
                    let state = adamw_loss_scaler_state { bad_steps: 0, scale: 3.0, ..state };
                    handle.set_scaler_state(&state).unwrap();
                }),
                _ => {}
            }
        }
        assert_eq!(scaling(&twin.device), scaling(&twin.host));
        twin.assert_same();
        twin.both(Handle::remove_scaler);
        twin.both(|handle| handle.set_grad_scale(3.0).unwrap());
        assert_scale(&scale, &twin);
        twin.step();
        twin.assert_same();
    }
}

#[test]
fn a_step_that_adapts_the_scale_waits_for_nothing() {
    let _device = Device::with(&[("lazy", "1")]);
    let twin = twin(2);
    twin.both(|handle| handle.set_scaler(&loss_scaler(8.0, 2, 1)).unwrap());
    let mut logs = Vec::new();
    for _ in 0..5 {
        twin.host.step();
        take_log();
        twin.device.step();
        logs.push(take_log());
    }
    assert_eq!(waits(&logs), [""; 0], "{logs:#?}");
    assert_eq!(scaling(&twin.device), scaling(&twin.host));
}

#[test]
fn each_launch_of_a_graph_adapts_the_scale() {
    let _device = Device::new();
    let mut random = Random::new(5);
    let mut twin = twin(2);
    let stream = Stream::new();
    let lr = OnDevice::of(&Array::of(Dtype::F32, &[0.5]), 0);
    twin.device.set_stream(stream.raw().cast()).unwrap();
    twin.both(|handle| handle.set_lr(0.5));
    twin.both(|handle| handle.set_scaler(&loss_scaler(8.0, 2, 1)).unwrap());
    twin.device.set_device_inputs([lr.address(), 0, 0]).unwrap();
    let scale = OnDevice::of(&Array::of(Dtype::F32, &[0.0]), 0);
    twin.device.set_device_scale(scale.address()).unwrap();
    twin.device.prepare().unwrap();
    let graph = stream.capture(|| twin.device.step());
    for launch in 0..20 {
        write_grads(&mut twin, &mut random);
        stream.launch(&graph);
        stream.wait();
        twin.host.step();
        assert_scale(&scale, &twin);
        assert_eq!(scaling(&twin.device), scaling(&twin.host));
        if launch % 5 == 4 {
            twin.both(|handle| {
                let state = handle.scaler_state().unwrap();
                handle.set_scaler_state(&adamw_loss_scaler_state { scale: 5.0, ..state }).unwrap();
            });
            twin.step(); // a plain one in between
            stream.wait();
        }
        twin.assert_same_state();
    }
}

#[test]
fn a_scale_that_has_adapted_there_is_saved_and_loaded() {
    let _device = Device::new();
    let mut random = Random::new(6);
    let mut twin = twin(2);
    twin.both(|handle| handle.set_scaler(&loss_scaler(8.0, 2, 1)).unwrap());
    let mut saved = Vec::new();
    for _ in 0..7 {
        write_grads(&mut twin, &mut random);
        twin.step();
        let [host, device] = [&twin.host, &twin.device].map(|handle| handle.saved(true));
        assert_eq!(host, device);
        saved.push(host);
    }
    twin.both(|handle| {
        handle.load_bytes(&saved[2], &adamw_load_options { params: 1, ..load_options() }).unwrap()
    });
    for _ in 0..5 {
        write_grads(&mut twin, &mut random);
        twin.step();
        assert_eq!(scaling(&twin.device), scaling(&twin.host));
    }
    twin.assert_same();
}

#[test]
fn a_number_that_no_step_can_use_leaves_the_scale_alone() {
    let _device = Device::new();
    let twin = twin(1);
    twin.device.set_scaler(&loss_scaler(8.0, 1, 1)).unwrap();
    let [lr, flag] = [f64::NAN, 0.0].map(|value| OnDevice::of(&Array::of(Dtype::F32, &[value]), 0));
    twin.device.set_device_inputs([lr.address(), 0, flag.address()]).unwrap();
    twin.device.step();
    assert_eq!(twin.device.step_info().invalid_inputs, 1);
    assert_eq!(twin.device.grad_scale(), 8.0);
    // A flag of others counts as gradients of one's own do.
    lr.set(&Array::of(Dtype::F32, &[0.1]));
    flag.set(&Array::of(Dtype::F32, &[1.0]));
    twin.device.step();
    assert_eq!((twin.device.step_info().skipped, twin.device.grad_scale()), (1, 4.0));
    let scale =
        twin.device.set_device_inputs([0, lr.address(), 0]).and_then(|()| twin.device.try_step());
    assert_eq!(
        scale.unwrap_err().text,
        "the loss scale is the scaler's: adamw_set_loss_scaler with NULL removes it"
    );
}
