//! Sums over gradients in the device's memory, measured there and given back: the bits are those of a processor that
//! does all by itself.

use crate::common::array::{Array, Dtype};
use crate::common::device::{Device, OnDevice, Stream, take_log, waits};
use crate::common::handle::{config, with_clip};
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::twin::Twin;
use adamw::ffi::*;

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.next() as usize % of.len()]
}

/// What a handle may be told of clips and of what is not finite.
fn any_config(random: &mut Random) -> adamw_config {
    let clip = pick(random, &[ADAMW_CLIP_NONE, ADAMW_CLIP_NORM, ADAMW_CLIP_GLOBAL_NORM]);
    let nonfinite =
        pick(random, &[ADAMW_NONFINITE_SKIP, ADAMW_NONFINITE_FAIL, ADAMW_NONFINITE_PROPAGATE]);
    let clip_scope = pick(random, &[ADAMW_CLIP_SCOPE_HANDLE, ADAMW_CLIP_SCOPE_GROUP]);
    let (average_grads, clip_norm) = (pick(random, &[0, 1]), 0.3);
    with_clip(clip, adamw_config { clip_norm, nonfinite, clip_scope, average_grads, ..config() })
}

/// A twin with parameters of all types in two groups, some of which have no gradient.
fn any_twin(random: &mut Random, is_mixed: bool) -> Twin {
    let mut twin = Twin::new(&any_config(random));
    twin.random = Random::new(random.next());
    twin.both(|handle| {
        handle.add_group(|group| group.clip_norm *= 2.0);
    });
    let lengths = [5 * 4096 + 4, 17, 4097, 40, 3];
    let dtypes = [Dtype::F32, Dtype::Bf16, Dtype::F64, Dtype::F16, Dtype::F32];
    for (i, (&dtype, n)) in dtypes.iter().zip(lengths).enumerate() {
        let is_there = !is_mixed || i % 2 == 0;
        twin.add_with(dtype, n, is_there, |mut param| {
            (param.group, param.no_clip) = ((i % 2) as u32, i == 3);
            param.offload = is_mixed && i == 4;
            param
        });
    }
    twin
}

/// New gradients for most, of which some are no numbers.
fn set_some_grads(twin: &mut Twin, random: &mut Random, is_mixed: bool) {
    twin.set_new_grads();
    if random.next().is_multiple_of(3) {
        twin.forget_grad((random.next() % 5) as u32);
    }
    if random.next().is_multiple_of(3) {
        let grad = Array::ordinary(Dtype::F64, 4097, &mut twin.random);
        grad.set(random.next() as usize % 4097, pick(random, &[f64::NAN, f64::INFINITY]));
        twin.set_grad(2, grad);
    }
    if !is_mixed && random.next().is_multiple_of(2) {
        for _ in 0..3 {
            let grad = Array::ordinary(Dtype::F32, 3, &mut twin.random);
            twin.accumulate(4, &grad);
        }
    }
    if random.next().is_multiple_of(4) {
        let values = Array::ordinary(Dtype::F32, 3 * 3, &mut twin.random);
        twin.keep_grad(0);
        twin.set_sparse_grad(0, Rows::i64(&[7, 700, 7]), values);
    }
}

/// Sums on the device, or in the host's memory.
enum Sums {
    There(OnDevice),
    Here(Array),
}

impl Sums {
    fn new(is_there: bool) -> Sums {
        let sums = Array::of(Dtype::F64, &[f64::NAN; 10]);
        if is_there { Sums::There(OnDevice::of(&sums, 0)) } else { Sums::Here(sums) }
    }

    fn tensor(&self) -> adamw_tensor {
        match self {
            Sums::There(there) => there.tensor(),
            Sums::Here(here) => here.tensor(),
        }
    }

    fn array(&self) -> Array {
        match self {
            Sums::There(there) => there.array().unwrap(),
            Sums::Here(here) => here.duplicate(),
        }
    }
}

#[test]
fn sums_that_are_measured_and_given_there_have_the_bits_of_a_processor_that_does_all() {
    let _device = Device::with(&[("blocks", "2")]);
    let mut random = Random::new(11);
    for round in 0..60 {
        let is_mixed = round % 3 == 2;
        let mut twin = any_twin(&mut random, is_mixed);
        for _ in 0..3 {
            set_some_grads(&mut twin, &mut random, is_mixed);
            let measured = Sums::new(random.next().is_multiple_of(2));
            twin.device.measure_grads(&measured.tensor()).unwrap();
            let expected = Array::zeros(Dtype::F64, 10);
            twin.host.measure_grads(&expected.tensor()).unwrap();
            let difference = measured.array().first_difference(&expected);
            assert_eq!(difference, None, "round {round}");
            assert_eq!(twin.device.grad_norm().unwrap().1, twin.host.grad_norm().unwrap().1);
            // The device is given them, and the processor measures by itself.
            let given = Sums::new(random.next().is_multiple_of(2));
            match &given {
                Sums::There(there) => there.set(&expected),
                Sums::Here(here) => (0..10).for_each(|i| here.set_bits(i, expected.bits(i))),
            }
            twin.device.set_grad_sums(Some(&given.tensor())).unwrap();
            let [host, device] = [&twin.host, &twin.device].map(|handle| handle.try_step());
            assert_eq!(host, device, "round {round}");
            if host.is_ok() {
                twin.assert_same();
            }
            twin.device.set_grad_sums(None).unwrap();
            twin.both(|handle| handle.clear_grad(ADAMW_CLEAR_FORGET));
        }
    }
}

#[test]
fn sums_from_elsewhere_count_for_parameters_without_a_gradient_too() {
    let _device = Device::with(&[("blocks", "2")]);
    let mut random = Random::new(12);
    for round in 0..40 {
        let is_mixed = round % 3 == 2;
        let mut twin = any_twin(&mut random, is_mixed);
        for _ in 0..2 {
            set_some_grads(&mut twin, &mut random, is_mixed);
            let numbers = Array::zeros(Dtype::F64, 10);
            for i in 0..10 {
                let odd = [0.25, 0.0, f64::NAN, -1.0, f64::INFINITY, 2.5, 1e300];
                numbers.set(
                    i,
                    if round % 2 == 0 {
                        (i + 1) as f64 * ((i + 1) % 2) as f64
                    } else {
                        pick(&mut random, &odd)
                    },
                );
            }
            let there = OnDevice::of(&numbers, 0);
            twin.host.set_grad_sums(Some(&numbers.tensor())).unwrap();
            twin.device.set_grad_sums(Some(&there.tensor())).unwrap();
            let [host, device] = [&twin.host, &twin.device].map(|handle| handle.try_step());
            assert_eq!(host, device, "round {round}");
            if host.is_ok() {
                twin.assert_same();
            }
            twin.both(|handle| handle.set_grad_sums(None).unwrap());
            twin.both(|handle| handle.clear_grad(ADAMW_CLEAR_FORGET));
        }
    }
}

#[test]
fn nobody_waits_for_sums_that_stay_there() {
    let _device = Device::with(&[("lazy", "1")]);
    let clip = with_clip(ADAMW_CLIP_GLOBAL_NORM, adamw_config { clip_norm: 0.3, ..config() });
    let mut twin = Twin::new(&adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..clip });
    twin.add(Dtype::F32, 9_000);
    twin.add(Dtype::F32, 5);
    twin.set_grads();
    twin.step();
    twin.assert_same();
    let (sums, given) = (OnDevice::of(&Array::zeros(Dtype::F64, 4), 0), Sums::new(false));
    let expected = Array::zeros(Dtype::F64, 4);
    twin.host.measure_grads(&expected.tensor()).unwrap();
    twin.host.step();
    take_log();
    twin.device.measure_grads(&sums.tensor()).unwrap();
    twin.device.set_grad_sums(Some(&sums.tensor())).unwrap();
    twin.device.step();
    assert_eq!(waits(&[take_log()]), [""; 0]);
    twin.assert_same();
    drop(given);
    // Nor for those in the host's memory.
    twin.host.measure_grads(&expected.tensor()).unwrap();
    twin.device.set_grad_sums(Some(&expected.tensor())).unwrap();
    twin.host.step();
    take_log();
    twin.device.step();
    assert_eq!(waits(&[take_log()]), [""; 0]);
    twin.assert_same();
}

#[test]
fn a_graph_measures_and_steps_by_what_was_written_in_between() {
    let _device = Device::new();
    let clip = with_clip(ADAMW_CLIP_GLOBAL_NORM, adamw_config { clip_norm: 0.3, ..config() });
    let mut twin = Twin::new(&adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, lr: 0.5, ..clip });
    twin.add(Dtype::F32, 9_000);
    twin.add(Dtype::Bf16, 300);
    twin.set_grads();
    let stream = Stream::new();
    let lr = OnDevice::of(&Array::of(Dtype::F32, &[0.5]), 0);
    twin.device.set_stream(stream.raw().cast()).unwrap();
    twin.device.set_device_inputs([lr.address(), 0, 0]).unwrap();
    let [own, all] = [(); 2].map(|()| OnDevice::of(&Array::zeros(Dtype::F64, 4), 0));
    twin.device.set_grad_sums(Some(&all.tensor())).unwrap();
    twin.device.prepare().unwrap();
    let graph = stream.capture(|| {
        twin.device.measure_grads(&own.tensor()).unwrap();
        stream.copy(&all, &own); // where a host would add up
        twin.device.step();
    });
    for round in 0..4 {
        twin.write_grads();
        if round == 2 {
            let grad = Array::of(Dtype::Bf16, &[f64::NAN; 300]);
            twin.write_grad(1, &grad);
        }
        stream.launch(&graph);
        stream.wait();
        let expected = Array::zeros(Dtype::F64, 4);
        twin.host.measure_grads(&expected.tensor()).unwrap();
        assert_eq!(own.array().unwrap().first_difference(&expected), None);
        twin.host.step();
        twin.assert_same();
    }
    twin.assert_same_at_the_end();
}
