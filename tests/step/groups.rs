//! What each group has for itself: direction, the largest second moment, its learning rate, and the
//! powers by which moments are corrected.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config};
use crate::common::random::Random;
use adamw::ffi::*;

/// Steps with random gradients.
fn steps(handle: &Handle, params: &[&Array], n_steps: usize, mut before: impl FnMut(usize)) {
    let mut random = Random::new(5);
    for step in 0..n_steps {
        before(step);
        let grads: Vec<Array> = params
            .iter()
            .map(|param| Array::ordinary(param.dtype(), param.len(), &mut random))
            .collect();
        for (number, grad) in grads.iter().enumerate() {
            handle.set_grad(number as u32, grad);
        }
        handle.step();
    }
}

#[test]
fn each_group_goes_its_way_as_if_it_were_a_handle() {
    let ways = [(0, 0), (0, 1), (1, 0), (1, 1)];
    for dtype in Dtype::ALL {
        let start = Array::ordinary(dtype, 5000, &mut Random::new(1));
        let one = Handle::new(&config());
        let together = ways.map(|_| start.duplicate());
        for ((amsgrad, maximize), param) in ways.into_iter().zip(&together) {
            let group = one.add_group(|group| {
                (group.amsgrad, group.maximize) = (amsgrad, maximize);
            });
            one.try_add_array_to_group(group, &format!("w{group}"), param).unwrap();
        }
        steps(&one, &together.each_ref(), 5, |_| ());
        for (i, (amsgrad, maximize)) in ways.into_iter().enumerate() {
            let alone = ways.map(|_| start.duplicate());
            let handle = Handle::new(&adamw_config { amsgrad, maximize, ..config() });
            alone.iter().enumerate().for_each(|(i, param)| {
                handle.add_array(&format!("w{i}"), param);
            });
            steps(&handle, &alone.each_ref(), 5, |_| ());
            let difference = together[i].first_difference(&alone[i]);
            assert_eq!(difference, None, "{dtype:?} amsgrad {amsgrad} maximize {maximize}");
            let has_largest = one.state_info(i as u32, ADAMW_BUFFER_MAX_EXP_AVG_SQ).is_ok();
            assert_eq!(has_largest, amsgrad == 1);
        }
    }
}

#[test]
fn a_group_goes_on_with_its_way_after_it_was_changed_and_after_a_load() {
    let start = Array::ordinary(Dtype::F32, 100, &mut Random::new(1));
    let run = |loads: bool| {
        let make = |param: &Array| {
            let handle = Handle::new(&config());
            let group = handle.add_group(|group| group.maximize = 1);
            handle.try_add_array_to_group(group, "w", param).unwrap();
            handle
        };
        let param = start.duplicate();
        let mut handle = make(&param);
        steps(&handle, &[&param], 3, |_| ());
        let turned = adamw_group_config { maximize: 0, amsgrad: 1, ..handle.group(1) };
        handle.set_group(1, &turned).unwrap();
        if loads {
            let bytes = handle.saved(true);
            let load = |handle: &Handle| {
                handle.load_bytes(&bytes, &crate::common::checkpoint::load_options())
            };
            let other = make(&param);
            let text = load(&other).unwrap_err().text;
            assert!(text.contains("maximize"), "{text}");
            other.set_group(1, &turned).unwrap();
            load(&other).unwrap();
            handle = other;
        }
        steps(&handle, &[&param], 3, |_| ());
        // It was added before the group kept the largest.
        assert!(handle.state_info(0, ADAMW_BUFFER_MAX_EXP_AVG_SQ).is_err());
        param
    };
    assert_eq!(run(true).first_difference(&run(false)), None);
}

#[test]
fn a_group_reads_its_learning_rate_where_the_host_keeps_it() {
    let start = Array::ordinary(Dtype::F32, 100, &mut Random::new(1));
    let rates = Array::of(Dtype::F32, &[0.0]);
    let rate = |step: usize| f64::from(0.01f32 / (step + 1) as f32);
    let run = |reads: bool| {
        let param = start.duplicate();
        let handle = Handle::new(&adamw_config { lr: 1.0, ..config() });
        let group = handle.add_group(|group| {
            if reads {
                group.lr_scale_ptr = rates.data().cast();
            }
        });
        let number = handle.try_add_array_to_group(group, "w", &param).unwrap();
        steps(&handle, &[&param], 5, |step| match reads {
            true => rates.set(0, rate(step)),
            false => {
                let values = adamw_group_config { lr_scale: rate(step), ..handle.group(group) };
                handle.set_group(group, &values).unwrap();
            }
        });
        assert_eq!(handle.param_lr(number).unwrap(), rate(4));
        if reads {
            rates.set(0, 0.25);
            assert_eq!(handle.param_lr(number).unwrap(), 0.25, "what a step would read now");
            rates.set(0, -1.0);
            for failure in [handle.try_step().err(), handle.param_lr(number).err()] {
                let text = failure.unwrap().text;
                assert!(text.contains("lr_scale") && text.contains("-1"), "{text}");
            }
        }
        param
    };
    assert_eq!(run(true).first_difference(&run(false)), None);
}

/// beta^t, multiplied from the lowest bit of t up.
fn power(beta: f64, t: u32) -> f64 {
    let squares = (0..32).scan(beta, |square, _| {
        let now = *square;
        *square *= *square;
        Some(now)
    });
    let factors = squares.enumerate().filter(|(bit, _)| t >> bit & 1 == 1);
    factors.fold(1.0, |product, (_, square)| product * square)
}

/// The beta1 of a step that OneCycleLR might give.
fn beta1(step: usize) -> f64 {
    0.95 - 0.1 * (step as f64 / 50.0)
}

#[test]
fn powers_of_changing_betas_are_those_of_the_step() {
    const STEPS: usize = 50;
    let start = Array::ordinary(Dtype::F64, 10, &mut Random::new(1));
    let run = |bias_correction| {
        let param = start.duplicate();
        let handle = Handle::new(&adamw_config { bias_correction, ..config() });
        handle.add_array("w", &param);
        steps(&handle, &[&param], STEPS, |step| {
            let values = adamw_group_config { beta1: beta1(step), ..handle.group(0) };
            handle.set_group(0, &values).unwrap();
        });
        let [seen1, seen2] = ["beta1", "beta2"].map(|beta| {
            let to = Array::zeros(Dtype::F64, 1);
            handle.get_state(&format!("state.w.{beta}_power"), &to).unwrap();
            to.get(0)
        });
        (param, seen1, seen2)
    };
    // PyTorch's formula, in f64.
    let mut random = Random::new(5);
    let (mut w, mut m, mut v) = (start.values(), vec![0.0; 10], vec![0.0; 10]);
    for step in 0..STEPS {
        let grads = Array::ordinary(Dtype::F64, 10, &mut random);
        let (b1, t) = (beta1(step), step as i32 + 1);
        for (i, grad) in grads.values().into_iter().enumerate() {
            m[i] = b1 * m[i] + (1.0 - b1) * grad;
            v[i] = 0.999 * v[i] + (1.0 - 0.999) * grad * grad;
            let denom = (v[i] / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8;
            w[i] = w[i] - 0.001 * 0.01 * w[i] - 0.001 * (m[i] / (1.0 - b1.powi(t))) / denom;
        }
    }
    let apart = |param: &Array| {
        let pairs = param.values().into_iter().zip(&w);
        pairs.map(|(seen, expected)| (seen - expected).abs()).fold(0.0, f64::max)
    };
    let (param, power1, power2) = run(ADAMW_BIAS_CORRECTION_CURRENT);
    assert!(apart(&param) < 1e-12, "{}", apart(&param));
    assert_eq!(power1.to_bits(), power(beta1(STEPS - 1), STEPS as u32).to_bits());
    assert_eq!(power2.to_bits(), power(0.999, STEPS as u32).to_bits());
    let (products, power1, _) = run(ADAMW_BIAS_CORRECTION_PRODUCTS);
    assert!(apart(&products) > 1e-6, "{}", apart(&products));
    let product = (0..STEPS).fold(1.0, |product, step| product * beta1(step));
    assert_eq!(power1.to_bits(), product.to_bits());
}

#[test]
fn a_count_of_steps_that_products_could_not_reach_has_its_powers() {
    let (param, to) = (Array::zeros(Dtype::F32, 4), Array::zeros(Dtype::F64, 1));
    for (bias_correction, is_good) in
        [(ADAMW_BIAS_CORRECTION_CURRENT, true), (ADAMW_BIAS_CORRECTION_PRODUCTS, false)]
    {
        let slow = adamw_config { beta2: 1.0 - 1e-9, bias_correction, ..config() };
        let handle = Handle::new(&slow);
        handle.add_array("w", &param);
        let set = handle.set_steps(None, &[1 << 31]);
        assert_eq!(set.is_ok(), is_good, "{set:?}");
        handle.get_state("state.w.beta2_power", &to).unwrap();
        let expected = if is_good { power(1.0 - 1e-9, 1 << 31) } else { 1.0 };
        assert_eq!(to.get(0).to_bits(), expected.to_bits());
    }
}

#[test]
fn a_checkpoint_says_how_moments_are_corrected() {
    let param = Array::zeros(Dtype::F32, 4);
    let make = |bias_correction| {
        let handle = Handle::new(&adamw_config { bias_correction, ..config() });
        handle.add_array("w", &param);
        handle
    };
    let bytes = make(ADAMW_BIAS_CORRECTION_CURRENT).saved(false);
    let options = crate::common::checkpoint::load_options();
    make(ADAMW_BIAS_CORRECTION_CURRENT).load_bytes(&bytes, &options).unwrap();
    let other = make(ADAMW_BIAS_CORRECTION_PRODUCTS).load_bytes(&bytes, &options);
    let text = other.unwrap_err().text;
    assert!(text.contains("bias_correction"), "{text}");
}
