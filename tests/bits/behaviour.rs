//! What a user expects of an optimizer: learning rates, groups, gradients that come and go,
//! parameters of every type and shape.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, config, last_error};
use crate::common::random::Random;
use adamw::ffi::{self, Status};

const N: usize = 37;

fn random(dtype: Dtype) -> Array {
    Array::ordinary(dtype, N, &mut Random::new(dtype.code().into()))
}

/// The gradients of three steps.
fn grads(dtype: Dtype) -> [Array; 3] {
    let mut random = Random::new(100);
    [(); 3].map(|()| Array::ordinary(dtype, N, &mut random))
}

/// The random parameter of a type after three steps in a handle of its own.
fn trained(config: &ffi::adamw_config, dtype: Dtype) -> Array {
    let (handle, param) = (Handle::new(config), random(dtype));
    let number = handle.add_array("w", &param);
    train(&handle, number, &grads(dtype));
    param
}

/// Steps with each gradient, and leaves none.
fn train(handle: &Handle, param: u32, grads: &[Array]) {
    for grad in grads {
        handle.set_grad(param, grad);
        handle.step();
    }
    handle.forget_grad(param);
}

#[track_caller]
fn assert_same(a: &Array, b: &Array) {
    assert_eq!(a.first_difference(b), None);
}

#[track_caller]
fn assert_differ(a: &Array, b: &Array) {
    assert!(a.first_difference(b).is_some());
}

// ---------------------------------------------------------------------------- hyper-parameters

#[test]
fn the_learning_rate_can_be_read_and_set() {
    let handle = Handle::new(&config());
    assert_eq!(handle.lr(), 0.001);
    handle.set_lr(0.25);
    assert_eq!(handle.lr(), 0.25);
}

#[test]
fn a_learning_rate_that_is_set_acts_like_one_that_was_there() {
    let mut config = config();
    config.lr = 0.1;
    let expected = trained(&config, Dtype::F32);
    config.lr = 5.0;
    let (handle, param) = (Handle::new(&config), random(Dtype::F32));
    let number = handle.add_array("w", &param);
    handle.set_lr(0.1);
    train(&handle, number, &grads(Dtype::F32));
    assert_same(&param, &expected);
}

#[test]
fn a_group_acts_like_a_handle_with_its_values() {
    let mut own = config();
    own.lr = 0.05;
    own.beta1 = 0.8;
    own.beta2 = 0.95;
    own.eps = 1e-3;
    own.weight_decay = 0.2;
    let mut of_handle = config();
    of_handle.lr = 0.1;
    let handle = Handle::new(&of_handle);
    let group = handle.add_group(|group| {
        group.lr_scale = 0.5;
        group.beta1 = own.beta1;
        group.beta2 = own.beta2;
        group.eps = own.eps;
        group.weight_decay = own.weight_decay;
    });
    let (in_group, in_handle) = (random(Dtype::F32), random(Dtype::F32));
    let grouped = handle.add(&Param { group, ..Param::new("grouped", &in_group) });
    let plain = handle.add_array("plain", &in_handle);
    for grad in &grads(Dtype::F32) {
        handle.set_grads(&[(grouped, Some(grad)), (plain, Some(grad))]);
        handle.step();
    }
    assert_same(&in_group, &trained(&own, Dtype::F32));
    assert_same(&in_handle, &trained(&of_handle, Dtype::F32));
}

#[test]
fn a_new_group_starts_from_the_handles_values() {
    let mut config = config();
    config.beta1 = 0.5;
    config.weight_decay = -1.0;
    Handle::new(&config).add_group(|group| {
        let values = (group.lr_scale, group.beta1, group.beta2, group.eps, group.weight_decay);
        assert_eq!(values, (1.0, 0.5, 0.999, 1e-8, -1.0));
    });
}

#[test]
fn without_memory_a_step_is_the_sign_of_the_gradient() {
    let mut config = config();
    (config.beta1, config.beta2, config.eps, config.weight_decay) = (0.0, 0.0, 1e-30, 0.0);
    config.lr = 0.25;
    let handle = Handle::new(&config);
    let param = Array::of(Dtype::F32, &[1.0, 1.0, 1.0, -3.0]);
    let number = handle.add_array("w", &param);
    train(&handle, number, &[Array::of(Dtype::F32, &[2.0, -0.125, 1e-10, 7.0])]);
    assert_eq!(param.values(), [0.75, 1.25, 0.75, -3.25]);
}

#[test]
fn a_learning_rate_of_zero_moves_the_moments_alone() {
    let mut config = config();
    config.lr = 0.0;
    for dtype in Dtype::ALL {
        let (handle, param) = (Handle::new(&config), random(dtype));
        let moments = [(); 2].map(|()| Array::zeros(dtype.compute(), N));
        let number = handle.add(&Param {
            exp_avg: Some(&moments[0]),
            exp_avg_sq: Some(&moments[1]),
            ..Param::new("w", &param)
        });
        train(&handle, number, &grads(dtype));
        assert_same(&param, &random(dtype));
        for moment in &moments {
            assert!(moment.values().iter().all(|value| *value != 0.0));
        }
    }
}

#[test]
fn to_maximize_is_to_minimize_along_the_negated_gradient() {
    let mut config = config();
    let (handle, param) = (Handle::new(&config), random(Dtype::F32));
    let number = handle.add_array("w", &param);
    let negated = grads(Dtype::F32).map(|grad| {
        let values: Vec<f64> = grad.values().iter().map(|value| -value).collect();
        Array::of(Dtype::F32, &values)
    });
    train(&handle, number, &negated);
    config.maximize = 1;
    assert_same(&param, &trained(&config, Dtype::F32));
}

#[test]
fn amsgrad_keeps_the_largest_second_moment() {
    let mut config = config();
    config.amsgrad = 1;
    config.beta2 = 0.5;
    let (handle, param) = (Handle::new(&config), random(Dtype::F32));
    let max = Array::zeros(Dtype::F32, N);
    let exp_avg_sq = Array::zeros(Dtype::F32, N);
    let number = handle.add(&Param {
        exp_avg_sq: Some(&exp_avg_sq),
        max_exp_avg_sq: Some(&max),
        ..Param::new("w", &param)
    });
    let mut largest = vec![0.0; N];
    for grad in &grads(Dtype::F32) {
        train(&handle, number, std::slice::from_ref(grad));
        for (largest, now) in largest.iter_mut().zip(exp_avg_sq.values()) {
            *largest = f64::max(*largest, now);
        }
        assert_eq!(max.values(), largest);
    }
    assert_ne!(max.values(), exp_avg_sq.values());
}

// ---------------------------------------------------------------------------- gradients

#[test]
fn a_step_with_nothing_to_step_is_fine() {
    let handle = Handle::new(&config());
    handle.step();
    let param = random(Dtype::F32);
    let number = handle.add_array("w", &param);
    handle.step();
    assert_same(&param, &random(Dtype::F32));
    assert_eq!(handle.info(number).step, 0);
}

#[test]
fn a_parameter_without_a_gradient_is_skipped_and_keeps_its_own_count() {
    let [first, second, third] = grads(Dtype::F32);
    let handle = Handle::new(&config());
    let (a, b) = (random(Dtype::F32), random(Dtype::F32));
    let (at, bt) = (handle.add_array("a", &a), handle.add_array("b", &b));
    handle.set_grad(at, &first);
    handle.step();
    assert_same(&b, &random(Dtype::F32));
    handle.set_grads(&[(at, Some(&second)), (bt, Some(&first))]);
    handle.step();
    handle.set_grads(&[(at, None), (bt, Some(&second))]);
    handle.step();
    handle.set_grads(&[(at, Some(&third)), (bt, Some(&third))]);
    handle.step();
    assert_eq!((handle.info(at).step, handle.info(bt).step), (3, 3));
    let expected = trained(&config(), Dtype::F32);
    assert_same(&a, &expected);
    assert_same(&b, &expected);
}

#[test]
fn a_gradient_stays_until_it_is_replaced_or_forgotten() {
    let handle = Handle::new(&config());
    let (param, grad) = (random(Dtype::F32), grads(Dtype::F32));
    let number = handle.add_array("w", &param);
    handle.set_grad_array(number, &grad[0]);
    handle.step();
    handle.step();
    assert_eq!(handle.info(number).step, 2);
    handle.forget_grad(number);
    handle.step();
    assert_eq!(handle.info(number).step, 2);
    handle.set_grad(number, &grad[1]);
    handle.clear_grad(ffi::ADAMW_CLEAR_FORGET);
    handle.step();
    assert_eq!(handle.info(number).step, 2);
}

#[test]
fn zeroed_gradients_stay_set_and_are_written() {
    for dtype in Dtype::ALL {
        let handle = Handle::new(&config());
        let (a, b) = (random(dtype), random(dtype));
        let (at, bt) = (handle.add_array("a", &a), handle.add_array("b", &b));
        let [grad, ..] = grads(dtype);
        handle.set_grad(at, &grad);
        handle.clear_grad(ffi::ADAMW_CLEAR_ZERO);
        assert_same(&grad, &Array::zeros(dtype, N));
        handle.step();
        assert_eq!((handle.info(at).step, handle.info(bt).step), (1, 0));
    }
}

#[test]
fn a_gradient_that_does_not_fit_is_refused_and_the_old_one_stays() {
    let handle = Handle::new(&config());
    let (param, grad) = (random(Dtype::Bf16), random(Dtype::Bf16));
    let number = handle.add_array("w1", &param);
    handle.set_grad(number, &grad);
    let short = Array::zeros(Dtype::Bf16, 10);
    let refused = handle.try_set_grad(number, &short).unwrap_err();
    assert_eq!(refused.status, Status::InvalidArgument);
    for part in ["w1", "grad", "10", "37"] {
        assert!(refused.text.contains(part), "{}", refused.text);
    }
    assert_eq!(last_error(), refused.text);
    let wrong = Array::zeros(Dtype::F16, N);
    assert_eq!(handle.try_set_grad(number, &wrong).unwrap_err().status, Status::InvalidArgument);
    assert_eq!(handle.try_set_grad(9, &grad).unwrap_err().status, Status::NotFound);
    handle.step();
    assert_eq!(handle.info(number).step, 1);
}

// ---------------------------------------------------------------------------- parameters

#[test]
fn a_parameter_is_described_as_it_was_added() {
    let handle = Handle::new(&config());
    let group = handle.add_group(|_| {});
    let arrays = Dtype::ALL.map(random);
    for (number, array) in (0..).zip(&arrays) {
        let name = format!("layer/{number}.größe");
        assert_eq!(handle.add(&Param { group, ..Param::new(&name, array) }), number);
        let info = handle.info(number);
        assert_eq!((info.name, info.n_elements), (name, N as u64));
        assert_eq!((info.param, info.group, info.dtype), (number, group, array.dtype().code()));
        assert_eq!((info.step, info.decays), (0, 1));
    }
    assert_eq!(handle.try_info(4).unwrap_err().status, Status::NotFound);
    let lost = Param { group: 7, ..Param::new("lost", &arrays[0]) };
    assert_eq!(handle.try_add(&lost).unwrap_err().status, Status::NotFound);
}

#[test]
fn every_type_trains_in_one_handle_as_it_does_alone() {
    let handle = Handle::new(&config());
    let params = Dtype::ALL.map(random);
    let numbers =
        params.each_ref().map(|param| handle.add_array(&format!("{:?}", param.dtype()), param));
    let grads = Dtype::ALL.map(grads);
    for step in 0..3 {
        for (number, grads) in numbers.iter().zip(&grads) {
            handle.set_grad(*number, &grads[step]);
        }
        handle.step();
    }
    for param in &params {
        assert_same(param, &trained(&config(), param.dtype()));
        assert_differ(param, &random(param.dtype()));
    }
}

#[test]
fn no_dimension_is_one_element_and_no_elements_are_fine() {
    let handle = Handle::new(&config());
    let scalar = |value: f64| Array::of(Dtype::F64, &[value]).shaped(&[]);
    let (point, alike) = (scalar(3.0), Array::of(Dtype::F64, &[3.0]));
    let (grad, grad_alike) = (scalar(0.5), Array::of(Dtype::F64, &[0.5]));
    let nothing = Array::zeros(Dtype::F32, 0).shaped(&[3, 0]);
    let nothing_grad = Array::zeros(Dtype::F32, 0);
    let point_number = handle.add(&Param::new("point", &point));
    let alike_number = handle.add(&Param::new("alike", &alike));
    let nothing_number = handle.add(&Param::new("nothing", &nothing));
    handle.set_grads(&[
        (point_number, Some(&grad)),
        (alike_number, Some(&grad_alike)),
        (nothing_number, Some(&nothing_grad)),
    ]);
    handle.step();
    assert!(point.get(0) < 3.0);
    assert_eq!(point.get(0), alike.get(0));
    let info = handle.info(nothing_number);
    assert_eq!((info.n_elements, info.step), (0, 1));
}

#[test]
fn handles_do_not_disturb_each_other() {
    let configs = [0.1, 0.01, 0.001, 1.0].map(|lr| {
        let mut config = config();
        config.lr = lr;
        config
    });
    let expected = configs.map(|config| trained(&config, Dtype::F32));
    let handles = configs.map(|config| {
        let (handle, param) = (Handle::new(&config), random(Dtype::F32));
        let number = handle.add_array("the same name", &param);
        (handle, param, number)
    });
    for grad in &grads(Dtype::F32) {
        for (handle, _, number) in &handles {
            train(handle, *number, std::slice::from_ref(grad));
        }
    }
    for ((_, param, _), expected) in handles.iter().zip(&expected) {
        assert_same(param, expected);
    }
    std::thread::scope(|scope| {
        for lr in [0.1, 0.01, 0.001, 1.0] {
            scope.spawn(move || {
                let mut config = config();
                config.lr = lr;
                let first = trained(&config, Dtype::F32);
                (0..50).for_each(|_| assert_same(&first, &trained(&config, Dtype::F32)));
            });
        }
    });
}
