//! Hyper-parameters and options that are not what is expected.

use crate::Refusals;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, config, loss_scaler, schedule};
use adamw::ffi::Status::{LrConflict, NotFound};
use adamw::ffi::*;

pub fn refusals(rows: &mut Refusals) {
    configs(rows);
    groups_and_params(rows);
    learning_rates(rows);
    loss_scales(rows);
}

fn configs(rows: &mut Refusals) {
    type Edit = fn(&mut adamw_config);
    let cases: [(Edit, &str); 21] = [
        (|c| c.isa = 4, "config.isa is 4, expected an ADAMW_ISA constant, 0 to 3"),
        (|c| c.amsgrad = 2, "config.amsgrad is 2, expected 0 or 1"),
        (
            |c| c.nonfinite = 3,
            "config.nonfinite is 3, expected an ADAMW_NONFINITE constant, 0 to 2",
        ),
        (
            |c| c.clip_scope = 2,
            "config.clip_scope is 2, expected an ADAMW_CLIP_SCOPE constant, 0 or 1",
        ),
        (|c| c.clip = 4, "config.clip is 4, expected an ADAMW_CLIP constant, 0 to 3"),
        (|c| c.lazy_mode = 3, "config.lazy_mode is 3, expected an ADAMW_LAZY constant, 0 to 2"),
        (|c| c.precision = 4, "precision is 4, expected an ADAMW_PRECISION constant, 0 to 3"),
        (|c| c.moments = 4, "moments is 4, expected an ADAMW_MOMENTS constant, 0 to 3"),
        (
            |c| c.clip_norm = 1.0,
            "clip_norm is 1, expected 0 where clip is ADAMW_CLIP_NONE (set clip to how gradients are \
             to be clipped)",
        ),
        (|c| c.lr = -0.5, "lr is -0.5, expected a finite number >= 0"),
        (|c| c.beta1 = 1.0, "beta1 is 1, expected 0 <= beta < 1"),
        (|c| c.beta2 = -0.5, "beta2 is -0.5, expected 0 <= beta < 1"),
        (|c| c.weight_decay = f64::NAN, "weight_decay is NaN, expected a finite number"),
        (|c| c.eps = -1e-8, "eps is -1e-8, expected a finite number >= 0"),
        (
            |c| (c.eps, c.beta2) = (0.0, 0.0),
            "eps is 0, expected > 0 where beta2 is 0 (was the struct filled by its _init function?)",
        ),
        (|c| c.clip = ADAMW_CLIP_NORM, "clip_norm is 0, expected a finite number > 0"),
        (
            |c| (c.clip, c.clip_min) = (ADAMW_CLIP_VALUE, f64::NEG_INFINITY),
            "clip_min is -inf, expected a finite number",
        ),
        (|c| c.clip = ADAMW_CLIP_VALUE, "clip_max is 0, expected a finite number > clip_min"),
        (
            |c| c.independent_weight_decay = 2,
            "config.independent_weight_decay is 2, expected 0 or 1",
        ),
        (|c| c.clear_grads = 7, "config.clear_grads is 7, expected 0 or 1"),
        (|c| c.average_grads = 9, "config.average_grads is 9, expected 0 or 1"),
    ];
    for (edit, text) in cases {
        let mut config = config();
        edit(&mut config);
        rows.invalid(Handle::try_new(&config).map(drop), text);
    }
}

fn groups_and_params(rows: &mut Refusals) {
    let handle = Handle::new(&config());
    let array = Array::of(Dtype::F32, &[1.0]);
    let w = handle.add_array("w", &array);
    rows.invalid(
        handle.try_add_group(&adamw_group_config { lr_scale: -1.0, ..handle.group(0) }),
        "lr_scale is -1, expected a finite number >= 0",
    );
    rows.invalid(
        handle.try_add_group(&adamw_group_config { maximize: 2, ..handle.group(0) }),
        "group.maximize is 2, expected 0 or 1",
    );
    rows.invalid(
        handle.try_add_group(&adamw_group_config { bias_correction: 3, ..handle.group(0) }),
        "group.bias_correction is 3, expected an ADAMW_BIAS_CORRECTION constant, 0 to 2",
    );
    rows.invalid(
        handle.try_add_group(&adamw_group_config { formula: 4, ..handle.group(0) }),
        "group.formula is 4, expected ADAMW_FORMULA constants added up, 0 to 3",
    );
    rows.invalid(
        handle.set_options(w, &adamw_param_options { frozen: 2, ..handle.options(w) }),
        "options.frozen is 2, expected 0 or 1",
    );
    let lost = handle.add_group(|group| group.eps = 1e-46);
    rows.invalid(
        handle.try_add(&Param { group: lost, ..Param::new("v", &Array::zeros(Dtype::F32, 1)) }),
        "param \"v\" is stepped in f32, in which eps, 1e-46, is 0: give one that f32 holds",
    );
}

fn learning_rates(rows: &mut Refusals) {
    let lr = [0.5f32];
    let read = Handle::new(&adamw_config { lr_ptr: lr.as_ptr(), ..config() });
    rows.row(read.try_set_lr(0.1), LrConflict, "lr is read from config.lr_ptr: write it there");
    let constant = adamw_schedule { lr: 1.0, ..schedule(ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP) };
    let scheduled = Handle::new(&config());
    scheduled.set_schedule(&constant).unwrap();
    rows.row(
        scheduled.try_set_lr(0.1),
        LrConflict,
        "lr is the schedule's: adamw_set_lr_schedule with NULL removes it",
    );
    let [param, grad] = [0; 2].map(|_| Array::of(Dtype::F32, &[1.0]));
    let stepped = |lr, scale, weight_decay| {
        let handle = Handle::new(&adamw_config { lr, weight_decay, ..config() });
        let number = handle.add_array("w", &param);
        handle.edit_options(number, |options| options.lr_scale = scale);
        handle.set_grad(number, &grad);
        handle.try_step()
    };
    rows.invalid(
        stepped(1e300, 1e10, 0.0),
        "lr * lr_scale * lr_ratio is inf, expected a finite number",
    );
    rows.invalid(
        stepped(1e38, 1.0, 0.0),
        "param \"w\" is stepped in f32, in which lr * lr_scale * lr_ratio / (1 - beta1^step), \
         1.0000000000000002e39, is inf: give one that f32 holds",
    );
    rows.invalid(
        stepped(1.0, 1.0, 1e39),
        "param \"w\" is stepped in f32, in which lr * lr_scale * lr_ratio * weight_decay, 1e39, is \
         inf: give one that f32 holds",
    );
}

fn loss_scales(rows: &mut Refusals) {
    let handle = Handle::new(&config());
    rows.row(
        handle.scaler_state(),
        NotFound,
        "the handle has no loss scaler: adamw_set_loss_scaler sets one",
    );
    rows.invalid(handle.set_grad_scale(0.0), "grad_scale is 0, expected 2^-126 to 2^126");
    let good = loss_scaler(64.0, 1, 1);
    for (scaler, text) in [
        (adamw_loss_scaler { scale: -1.0, ..good }, "scale is -1, expected 2^-126 to 2^126"),
        (
            adamw_loss_scaler { growth_factor: 0.5, ..good },
            "growth_factor is 0.5, expected a finite number >= 1",
        ),
        (
            adamw_loss_scaler { backoff_factor: 1.5, ..good },
            "backoff_factor is 1.5, expected a number > 0 and <= 1",
        ),
    ] {
        rows.invalid(handle.set_scaler(&scaler), &format!("scaler.{text}"));
    }
    handle.set_scaler(&good).unwrap();
    rows.invalid(
        handle.set_grad_scale(2.0),
        "the loss scale is the scaler's: adamw_set_loss_scaler with NULL removes it",
    );
    let state = adamw_loss_scaler_state { scale: 1e300, ..handle.scaler_state().unwrap() };
    rows.invalid(handle.set_scaler_state(&state), "state.scale is 1e300, expected 2^-126 to 2^126");
}

#[test]
fn an_option_that_is_refused_says_what_is_expected() {
    crate::said(refusals);
}
