//! The update as other libraries have it: each row is a library's own formula in f64, beside the
//! settings with which a run that it has begun goes on here. docs/other-frameworks.md has them all.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::handle::{Handle, config};
use crate::common::random::Random;
use adamw::ffi::*;

const BETA1: f64 = 0.8;
const BETA2: f64 = 0.9;
const EPS: f64 = 0.03;
const WD: f64 = 0.4;

/// One element before a step, its moments after it, and what a formula has beside them.
struct At {
    param: f64,
    exp_avg: f64,
    exp_avg_sq: f64,
    lr: f64,
    first_lr: f64,
    t: i32,
}

impl At {
    fn correction1(&self) -> f64 {
        1.0 - BETA1.powi(self.t)
    }

    fn correction2(&self) -> f64 {
        1.0 - BETA2.powi(self.t)
    }

    /// `exp_avg / (sqrt(exp_avg_sq) + eps)`, of moments as they are, with the step size of Kingma &
    /// Ba's algorithm with epsilon hat.
    fn move_by_epsilon_hat(&self) -> f64 {
        let alpha = self.lr * self.correction2().sqrt() / self.correction1();
        alpha * self.exp_avg / (self.exp_avg_sq.sqrt() + EPS)
    }

    fn move_uncorrected(&self) -> f64 {
        self.lr * self.exp_avg / (self.exp_avg_sq.sqrt() + EPS)
    }

    fn move_corrected(&self) -> f64 {
        let denom = (self.exp_avg_sq / self.correction2()).sqrt() + EPS;
        self.lr * (self.exp_avg / self.correction1()) / denom
    }
}

struct Library {
    name: &'static str,
    formula: adamw_formula,
    bias_correction: adamw_bias_correction,
    independent_weight_decay: u32,
    /// What the host gives for a decay of `WD` there, by the first learning rate.
    weight_decay: fn(f64) -> f64,
    /// Returns the parameter after the step.
    stepped: fn(&At) -> f64,
}

const USUAL: Library = Library {
    name: "torch",
    formula: 0,
    bias_correction: ADAMW_BIAS_CORRECTION_PRODUCTS,
    independent_weight_decay: 0,
    weight_decay: |_| WD,
    stepped: |at| at.param - at.lr * WD * at.param - at.move_corrected(),
};

const LIBRARIES: [Library; 9] = [
    USUAL,
    Library {
        name: "keras",
        formula: ADAMW_FORMULA_EPS_BEFORE_CORRECTION,
        stepped: |at| at.param - at.lr * WD * at.param - at.move_by_epsilon_hat(),
        ..USUAL
    },
    Library {
        name: "onnxruntime, mode 1; thinc",
        formula: ADAMW_FORMULA_EPS_BEFORE_CORRECTION | ADAMW_FORMULA_DECAYS_NEW_VALUE,
        stepped: |at| {
            let moved = at.param - at.move_by_epsilon_hat();
            moved - at.lr * WD * moved
        },
        ..USUAL
    },
    Library {
        name: "decay of the new value alone",
        formula: ADAMW_FORMULA_DECAYS_NEW_VALUE,
        stepped: |at| (at.param - at.move_corrected()) * (1.0 - at.lr * WD),
        ..USUAL
    },
    Library {
        name: "mlx, mindspore's AdamWeightDecay",
        bias_correction: ADAMW_BIAS_CORRECTION_NONE,
        stepped: |at| at.param * (1.0 - at.lr * WD) - at.move_uncorrected(),
        ..USUAL
    },
    Library {
        name: "mxnet's adamw_update",
        bias_correction: ADAMW_BIAS_CORRECTION_NONE,
        independent_weight_decay: 1,
        stepped: |at| at.param - (at.move_uncorrected() + WD * at.param),
        ..USUAL
    },
    Library {
        name: "chainer",
        formula: ADAMW_FORMULA_EPS_BEFORE_CORRECTION,
        independent_weight_decay: 1,
        stepped: |at| at.param - (at.move_by_epsilon_hat() + WD * at.param),
        ..USUAL
    },
    Library {
        name: "nnabla",
        formula: ADAMW_FORMULA_EPS_BEFORE_CORRECTION,
        weight_decay: |first_lr| WD / first_lr,
        stepped: |at| at.param * (1.0 - WD * at.lr / at.first_lr) - at.move_by_epsilon_hat(),
        ..USUAL
    },
    Library {
        name: "independent decay of the new value",
        formula: ADAMW_FORMULA_DECAYS_NEW_VALUE,
        independent_weight_decay: 1,
        stepped: |at| (at.param - at.move_corrected()) * (1.0 - WD),
        ..USUAL
    },
];

/// The learning rate of step t.
fn lr(t: i32) -> f64 {
    0.05 / (1.0 + 0.3 * f64::from(t - 1))
}

/// Returns the largest distance, relative to the largest parameter, from a library's formula after
/// some steps with the settings of another.
fn distance(dtype: Dtype, library: &Library, settings: &Library) -> f64 {
    const N: usize = 200;
    let mut random = Random::new(3);
    let param = Array::ordinary(dtype, N, &mut random);
    let handle = Handle::new(&adamw_config {
        beta1: BETA1,
        beta2: BETA2,
        eps: EPS,
        weight_decay: (settings.weight_decay)(lr(1)),
        formula: settings.formula,
        bias_correction: settings.bias_correction,
        independent_weight_decay: settings.independent_weight_decay,
        ..config()
    });
    handle.add_array("w", &param);
    let (mut w, mut exp_avg, mut exp_avg_sq) = (param.values(), [0.0; N], [0.0; N]);
    for t in 1..=5 {
        let grad = Array::ordinary(dtype, N, &mut random);
        handle.set_lr(lr(t));
        handle.set_grad(0, &grad);
        handle.step();
        for (i, grad) in grad.values().into_iter().enumerate() {
            exp_avg[i] = BETA1 * exp_avg[i] + (1.0 - BETA1) * grad;
            exp_avg_sq[i] = BETA2 * exp_avg_sq[i] + (1.0 - BETA2) * grad * grad;
            let (exp_avg, exp_avg_sq) = (exp_avg[i], exp_avg_sq[i]);
            let at = At { param: w[i], exp_avg, exp_avg_sq, lr: lr(t), first_lr: lr(1), t };
            w[i] = (library.stepped)(&at);
        }
    }
    let largest = w.iter().fold(0.0, |largest: f64, w| largest.max(w.abs()));
    let apart = param.values().into_iter().zip(&w).map(|(is, expected)| (is - expected).abs());
    apart.fold(0.0, f64::max) / largest
}

#[test]
fn a_step_is_that_of_the_library_whose_settings_the_host_gives() {
    for library in &LIBRARIES {
        for (dtype, most) in [(Dtype::F64, 1e-14), (Dtype::F32, 5e-7)] {
            let apart = distance(dtype, library, library);
            assert!(apart < most, "{}, {dtype:?}: {apart:e}", library.name);
        }
        for other in LIBRARIES.iter().filter(|other| other.name != library.name) {
            let apart = distance(Dtype::F64, library, other);
            assert!(apart > 1e-4, "{} is {} up to {apart:e}", library.name, other.name);
        }
    }
}

#[test]
fn a_checkpoint_says_which_formula_its_run_has() {
    let param = Array::zeros(Dtype::F32, 4);
    let formulas = [
        (0, ADAMW_BIAS_CORRECTION_PRODUCTS, ""),
        (ADAMW_FORMULA_EPS_BEFORE_CORRECTION, ADAMW_BIAS_CORRECTION_PRODUCTS, "eps_before"),
        (ADAMW_FORMULA_DECAYS_NEW_VALUE, ADAMW_BIAS_CORRECTION_PRODUCTS, "decays_new"),
        (0, ADAMW_BIAS_CORRECTION_NONE, "bias_correction"),
    ];
    let make = |formula, bias_correction| {
        let handle = Handle::new(&adamw_config { formula, bias_correction, ..config() });
        handle.add_array("w", &param);
        assert_eq!(handle.group(0).formula, formula);
        assert_eq!(handle.group(0).bias_correction, bias_correction);
        handle
    };
    for (formula, correction, word) in formulas {
        let bytes = make(formula, correction).saved(false);
        make(formula, correction).load_bytes(&bytes, &load_options()).unwrap();
        for (other, other_correction, other_word) in formulas {
            let loaded = make(other, other_correction).load_bytes(&bytes, &load_options());
            if (other, other_correction) == (formula, correction) {
                loaded.unwrap();
            } else {
                let text = loaded.unwrap_err().text;
                let names =
                    [word, other_word].iter().any(|word| !word.is_empty() && text.contains(word));
                assert!(names, "{text}");
            }
        }
    }
}
