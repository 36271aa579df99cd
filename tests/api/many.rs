//! Calls about many parameters at once, for hosts that have thousands: gradients as addresses, and
//! step counts; and names that the library gives.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, answer, call, config};
use crate::common::random::Random;
use adamw::ffi::{self, *};
use core::ffi::c_void;
use core::ptr::{null, null_mut};

fn data(arrays: &[Array]) -> Vec<*mut c_void> {
    arrays.iter().map(|array| array.data()).collect()
}

fn bits(arrays: &[Array]) -> Vec<Vec<u64>> {
    arrays.iter().map(|array| (0..array.len()).map(|i| array.bits(i)).collect()).collect()
}

/// A handle with a parameter of each length.
fn handle(config: &adamw_config, params: &[Array]) -> Handle {
    let handle = Handle::new(config);
    for (i, param) in params.iter().enumerate() {
        assert_eq!(handle.add_array(&format!("w{i}"), param), i as u32);
    }
    handle
}

const LENGTHS: [usize; 4] = [1, 64, 1000, 0];

#[test]
fn gradients_that_are_elsewhere_at_each_step_give_the_bits_of_those_set_one_by_one() {
    for dtype in Dtype::ALL {
        for clear_grads in [0, 1] {
            let config = adamw_config { clear_grads, ..config() };
            let random = &mut Random::new(7);
            let ours: Vec<_> = LENGTHS.map(|n| Array::ordinary(dtype, n, random)).into();
            let theirs: Vec<_> = ours.iter().map(Array::duplicate).collect();
            let (one, other) = (handle(&config, &ours), handle(&config, &theirs));
            let mut kept = Vec::new();
            for step in 0..6 {
                let grads: Vec<_> = LENGTHS.map(|n| Array::ordinary(dtype, n, random)).into();
                let again: Vec<_> = grads.iter().map(Array::duplicate).collect();
                let mut addresses = data(&grads);
                addresses[3] = null_mut(); // of no elements
                if step == 3 {
                    addresses[1] = null_mut();
                    one.set_grad_data(None, &addresses).unwrap();
                } else {
                    let shuffled = [2, 0, 3, 1];
                    let moved = shuffled.map(|i| addresses[i as usize]);
                    one.set_grad_data(Some(&shuffled), &moved).unwrap();
                }
                for (i, grad) in again.iter().enumerate() {
                    match (step, i) {
                        (3, 1) => other.set_grads(&[(1, None)]),
                        (_, 3) => {}
                        _ => other.set_grad(i as u32, grad),
                    }
                }
                one.step();
                other.step();
                assert_eq!(bits(&grads[..1]), bits(&again[..1]), "cleared alike");
                kept.push((grads, again));
            }
            assert_eq!(bits(&ours), bits(&theirs), "{dtype:?}");
        }
    }
}

#[test]
fn one_bad_address_leaves_all_gradients_as_they_were() {
    let params: Vec<_> = LENGTHS.map(|n| Array::zeros(Dtype::F32, n)).into();
    let good: Vec<_> = LENGTHS.map(|n| Array::of(Dtype::F32, &vec![1.0; n])).into();
    let other: Vec<_> = LENGTHS.map(|n| Array::of(Dtype::F32, &vec![-1.0; n])).into();
    let odd = good[2].data().wrapping_byte_add(2);
    for (params_of, entry, address, expected) in [
        (None, 2, params[1].data(), "\"w2\""),
        (None, 2, odd, "\"w2\""),
        (Some([0, 1, 9, 3]), 2, good[2].data(), "no param 9"),
    ] {
        let handle = handle(&config(), &params);
        params.iter().for_each(|param| param.fill(0.0));
        handle.set_grad_data(None, &data(&good)).unwrap();
        let mut addresses = data(&other);
        addresses[entry] = address;
        let params_of = params_of.as_ref().map(<[u32; 4]>::as_slice);
        let failure = handle.set_grad_data(params_of, &addresses).unwrap_err();
        let names_both = failure.text.starts_with("data[2]: ") && failure.text.contains(expected);
        assert!(names_both, "{}", failure.text);
        handle.step();
        let moved = params[..3].iter().all(|param| param.get(0) < 0.0);
        assert!(moved, "the step is against the gradients of before");
    }
}

#[test]
fn a_parameter_that_is_named_twice_has_the_last_gradient_or_that_of_before() {
    let params: Vec<_> = (0..2).map(|_| Array::zeros(Dtype::F32, 8)).collect();
    let [up, down, far] = [1.0, -1.0, -9.0].map(|value| Array::of(Dtype::F32, &[value; 8]));
    let sign_of_step = |numbers: &[u32], grads: &[*mut c_void], is_good: bool| {
        let handle = handle(&config(), &params);
        params.iter().for_each(|param| param.fill(0.0));
        handle.set_grad_data(None, &[up.data(), null_mut()]).unwrap();
        assert_eq!(handle.set_grad_data(Some(numbers), grads).is_ok(), is_good);
        handle.step();
        params[0].get(0).signum()
    };
    let (up, down, far) = (up.data(), down.data(), far.data());
    for (numbers, grads, is_good, expected) in [
        (&[0, 0][..], &[up, down][..], true, 1.0),
        (&[0, 1, 0], &[down, null_mut(), up], true, -1.0),
        (&[0, 1, 0], &[up, null_mut(), far], true, 1.0),
        (&[0, 0], &[null_mut(), down], true, 1.0),
        (&[0, 0, 2], &[down, far, up], false, -1.0),
        (&[0, 0, 1, 1], &[down, far, null_mut(), params[0].data()], false, -1.0),
    ] {
        let step = sign_of_step(numbers, grads, is_good);
        assert_eq!(step, expected, "{numbers:?} {grads:?}");
    }
}

#[test]
fn a_place_that_was_free_is_looked_at_again_once_parameters_have_come() {
    let memory = Array::zeros(Dtype::F32, 64);
    let (param, handle) = (Array::zeros(Dtype::F32, 64), Handle::new(&config()));
    handle.add_array("first", &param);
    for _ in 0..2 {
        handle.set_grad_data(None, &[memory.data()]).unwrap();
        handle.step();
    }
    let second = handle.add_array("second", &memory);
    let failure = handle.set_grad_data(None, &[memory.data()]).unwrap_err();
    assert!(failure.text.contains("overlaps param of param \"second\""), "{}", failure.text);
    handle.remove(second).unwrap();
    handle.set_grad_data(None, &[memory.data()]).unwrap();
}

#[test]
fn step_counts_are_set_all_at_once_or_not_at_all() {
    let params: Vec<_> = LENGTHS.map(|n| Array::zeros(Dtype::F32, n)).into();
    let handle = handle(&adamw_config { beta2: 0.5, ..config() }, &params);
    let group = handle.add_group(|group| group.beta2 = 0.25);
    let options = adamw_param_options { group, ..handle.options(1) };
    handle.set_options(1, &options).unwrap();
    handle.set_steps(None, &[3, 3, 4, 0]).unwrap();
    assert_eq!(handle.steps(4), [3, 3, 4, 0]);
    let power = |i: usize| {
        let to = Array::zeros(Dtype::F64, 1);
        handle.get_state(&format!("state.w{i}.beta2_power"), &to).unwrap();
        to.get(0)
    };
    assert_eq!([0, 1, 2, 3].map(power), [0.125, 0.015625, 0.0625, 1.0]);
    for (numbers, steps) in [([0, 1], [1, (1 << 32) + 1]), ([2, 9], [1, 1])] {
        handle.set_steps(Some(&numbers), &steps).unwrap_err();
        assert_eq!(handle.steps(4), [3, 3, 4, 0]);
    }
    handle.set_steps(Some(&[2, 0]), &[7, 8]).unwrap();
    assert_eq!(handle.steps(4), [8, 3, 7, 0]);
}

#[test]
fn a_parameter_without_a_name_is_called_by_its_number() {
    let arrays: Vec<_> = (0..12).map(|_| Array::zeros(Dtype::F32, 4)).collect();
    let handle = Handle::new(&config());
    let add = |array: &Array| {
        let (mut number, dtype) = (u32::MAX, array.dtype().code());
        let (raw, data) = (handle.raw(), array.data());
        call!(adamw_add_array(raw, null(), data, 4, dtype, &mut number)).map(|()| number)
    };
    for (i, array) in arrays.iter().enumerate().take(11) {
        assert_eq!(add(array).unwrap(), i as u32);
        assert_eq!(handle.info(i as u32).name, i.to_string());
    }
    assert_eq!(handle.find_param("10").unwrap(), 10);
    handle.remove(3).unwrap();
    handle.add_array("11", &arrays[3]);
    let taken = add(&arrays[11]).unwrap_err();
    assert!(taken.text.contains("\"11\""), "{}", taken.text);
    let config = adamw_param_config {
        struct_size: size_of::<adamw_param_config>(),
        name: null(),
        param: &arrays[11].tensor(),
        ..adamw_param_config::DEFAULT
    };
    handle.remove(3).unwrap();
    let mut number = 0;
    call!(adamw_add_param(handle.raw(), &config, &mut number)).unwrap();
    assert_eq!((number, handle.info(3).name), (3, "3".to_owned()));
    let none: *mut u32 = null_mut();
    assert!(call!(adamw_add_param(handle.raw(), &config, none)).is_err());
}
