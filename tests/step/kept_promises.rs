//! What AdamW promises and other implementations have been found to break: small updates in 16 bits,
//! second moments that fall again, zero gradients, small decays, betas near 1.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config};
use crate::common::random::Random;
use adamw::ffi::*;

/// Returns a handle with one parameter of n equal elements.
fn with_param(config: &adamw_config, dtype: Dtype, value: f64, n: usize) -> (Handle, Array) {
    let param = Array::zeros(dtype, n);
    param.fill(value);
    let handle = Handle::new(config);
    handle.add_array("w", &param);
    (handle, param)
}

/// The ways to keep a 16-bit parameter that lose no update.
fn keeping(dtype: Dtype) -> Vec<(&'static str, adamw_config)> {
    let precision = |precision| adamw_config { precision, ..config() };
    let mut ways = vec![
        ("a master", adamw_config { multi_precision: 1, ..config() }),
        ("kahan", precision(ADAMW_PRECISION_KAHAN)),
    ];
    if dtype == Dtype::Bf16 {
        ways.push(("a split master", precision(ADAMW_PRECISION_SPLIT)));
    }
    ways
}

#[test]
fn bf16_parameters_move_at_a_beta2_of_0_999() {
    for moments in [ADAMW_MOMENTS_F32, ADAMW_MOMENTS_BF16] {
        let config = adamw_config { lr: 0.01, moments, weight_decay: 0.0, ..config() };
        let (handle, param) = with_param(&config, Dtype::Bf16, 1.0, 300);
        let grad = Array::zeros(Dtype::Bf16, 300);
        for step in 1..=50 {
            grad.fill(0.001);
            handle.set_grad(0, &grad);
            handle.step();
            let expected = 1.0 - 0.01 * f64::from(step);
            let apart = (param.get(7) - expected).abs();
            assert!(apart < 0.02 * f64::from(step), "step {step}: {}", param.get(7));
        }
        assert!(param.get(7) < 0.6, "{}", param.get(7));
    }
}

#[test]
fn a_second_moment_in_16_bits_falls_after_a_spike() {
    for dtype in [Dtype::Bf16, Dtype::F32] {
        let config = adamw_config { moments: ADAMW_MOMENTS_BF16, ..config() };
        let (handle, _param) = with_param(&config, dtype, 1.0, 4096);
        let grad = Array::zeros(dtype, 4096);
        let mean = || {
            let exp_avg_sq = Array::zeros(Dtype::Bf16, 4096);
            handle.get_state("state.w.exp_avg_sq", &exp_avg_sq).unwrap();
            exp_avg_sq.values().iter().sum::<f64>() / 4096.0
        };
        for step in 0..=1000 {
            grad.fill(if step == 0 { 100.0 } else { 1e-3 });
            handle.set_grad(0, &grad);
            handle.step();
        }
        let expected = 10.0 * 0.999f64.powi(1000);
        assert!((mean() / expected - 1.0).abs() < 0.02, "{} for {expected}", mean());
    }
}

#[test]
fn f16_elements_with_a_gradient_of_0_stay_finite() {
    for (_, config) in keeping(Dtype::F16).into_iter().chain([("nothing", config())]) {
        let (handle, param) = with_param(&config, Dtype::F16, 0.5, 100);
        let grad = Array::zeros(Dtype::F16, 100);
        for _ in 0..10 {
            handle.set_grad(0, &grad);
            handle.step();
        }
        assert!(param.values().iter().all(|w| w.is_finite() && (0.49..=0.5).contains(w)));
    }
}

#[test]
fn decays_of_1e_5_a_step_add_up_in_16_bits() {
    for dtype in [Dtype::F16, Dtype::Bf16] {
        for (way, config) in keeping(dtype) {
            let config = adamw_config { lr: 1e-3, weight_decay: 1e-2, ..config };
            let (handle, param) = with_param(&config, dtype, 1.0, 100);
            let grad = Array::zeros(dtype, 100);
            for _ in 0..20_000 {
                handle.set_grad(0, &grad);
                handle.step();
            }
            let (decayed, expected) = (1.0 - param.get(3), 1.0 - (1.0 - 1e-5f64).powi(20_000));
            // A bf16 and its remainder, a bf16 too, have 17 bits of a number together, and a decay
            // of 1e-5 is 1.3 of the last.
            let most = if (dtype, way) == (Dtype::Bf16, "kahan") { 0.15 } else { 0.02 };
            let apart = (decayed / expected - 1.0).abs();
            assert!(apart < most, "{dtype:?} with {way}: {decayed} for {expected}");
        }
    }
}

#[test]
fn f32_decays_by_what_was_asked_for_from_1e_9_to_1e_3() {
    const N: usize = 20_000;
    for lr_weight_decay in [1e-9, 1e-8, 3e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3] {
        let run = |weight_decay: f64| {
            let mut random = Random::new(9);
            let param = Array::ordinary(Dtype::F32, N, &mut random);
            let before = param.values();
            let handle = Handle::new(&adamw_config { lr: 1e-3, weight_decay, ..config() });
            handle.add_array("w", &param);
            for _ in 0..200 {
                let grad = Array::ordinary(Dtype::F32, N, &mut random);
                handle.set_grad(0, &grad);
                handle.step();
            }
            (before, param.values())
        };
        let (before, decayed) = run(lr_weight_decay / 1e-3);
        let (_, without) = run(0.0);
        // What decay has taken, as the slope of a line through all elements.
        let taken = without.iter().zip(&decayed).map(|(without, decayed)| without - decayed);
        let by: f64 = taken.zip(&before).map(|(taken, before)| taken * before).sum();
        let slope = by / before.iter().map(|before| before * before).sum::<f64>();
        let expected = 1.0 - (1.0 - lr_weight_decay).powi(200);
        println!("{lr_weight_decay:e}: {slope:e} for {expected:e}, {}", slope / expected);
        assert!((slope / expected - 1.0).abs() < 0.01, "{lr_weight_decay:e}: {slope:e}");
    }
}

#[test]
fn the_first_step_is_right_at_a_beta2_of_0_99999() {
    for (dtype, most) in [(Dtype::F32, 1e-6), (Dtype::F64, 1e-6)] {
        let beta2 = 0.99999;
        let config = adamw_config { lr: 0.1, beta2, eps: 1e-12, weight_decay: 0.0, ..config() };
        let (handle, param) = with_param(&config, dtype, 0.0, 64);
        let grad = Array::zeros(dtype, 64);
        grad.fill(0.37);
        handle.set_grad(0, &grad);
        handle.step();
        let apart = (param.get(5) / -0.1 - 1.0).abs();
        assert!(apart < most, "{dtype:?}: {apart:e}");
    }
}

#[test]
fn a_gradient_is_never_written() {
    for clip in [ADAMW_CLIP_NONE, ADAMW_CLIP_NORM, ADAMW_CLIP_GLOBAL_NORM] {
        for dtype in Dtype::ALL {
            let clip_norm = if clip == ADAMW_CLIP_NONE { 0.0 } else { 0.01 };
            let config = adamw_config { clip, clip_norm, maximize: 1, ..config() };
            let (handle, _param) = with_param(&config, dtype, 1.0, 3000);
            handle.set_grad_scale(8.0).unwrap();
            let grad = Array::ordinary(dtype, 3000, &mut Random::new(2));
            let before = grad.duplicate();
            for _ in 0..3 {
                handle.set_grad(0, &grad);
                handle.step();
            }
            assert_eq!(grad.first_difference(&before), None, "{dtype:?}, clip {clip}");
        }
    }
}

#[test]
fn state_goes_by_name_whatever_the_order() {
    let names = ["b", "a", "c"];
    let make = |order: [usize; 3]| {
        let handle = Handle::new(&config());
        let params = order.map(|i| {
            let param = Array::zeros(Dtype::F32, 8);
            param.fill(i as f64);
            handle.add_array(names[i], &param);
            param
        });
        (handle, params)
    };
    let (first, _params) = make([0, 1, 2]);
    for number in 0..3 {
        let grad = Array::zeros(Dtype::F32, 8);
        grad.fill(f64::from(number) + 1.0);
        first.set_grad(number, &grad);
        first.step();
        first.forget_grad(number);
    }
    let bytes = first.saved(false);
    let (second, _params) = make([2, 0, 1]);
    second.load_bytes(&bytes, &crate::common::checkpoint::load_options()).unwrap();
    for name in names {
        let both = [&first, &second].map(|handle| {
            let exp_avg = Array::zeros(Dtype::F32, 8);
            handle.get_state(&format!("state.{name}.exp_avg"), &exp_avg).unwrap();
            exp_avg
        });
        assert_eq!(both[0].first_difference(&both[1]), None, "{name}");
        assert_ne!(both[0].get(0), 0.0);
    }
}
