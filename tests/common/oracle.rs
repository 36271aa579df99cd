//! The update written a second time, from the formula alone, as plain scalar code: what the
//! library's portable loops must equal bit for bit. The one other place is `src/math.rs`.

use super::array::{Array, Dtype};
use super::kind::Kind;
use super::tensors::Tensors;

#[derive(Clone, Copy, Debug)]
pub struct Hyper {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
}

/// Steps one parameter through its training.
pub struct Oracle {
    hyper: Hyper,
    kind: Kind,
    step: u64,
    beta1_power: f64,
    beta2_power: f64,
}

impl Oracle {
    /// An optimizer whose parameter has taken `steps` steps already.
    pub fn after(hyper: Hyper, kind: Kind, steps: u64) -> Oracle {
        let mut oracle = Oracle { hyper, kind, step: 0, beta1_power: 1.0, beta2_power: 1.0 };
        (0..steps).for_each(|_| oracle.advance());
        oracle
    }

    fn advance(&mut self) {
        self.step += 1;
        self.beta1_power *= self.hyper.beta1;
        self.beta2_power *= self.hyper.beta2;
    }

    pub fn step(&mut self, tensors: &Tensors, grad: &Array) {
        self.advance();
        for i in 0..tensors.len() {
            match self.kind.param {
                Dtype::F64 => self.element_f64(tensors, grad, i),
                _ => self.element_f32(tensors, grad, i),
            }
        }
    }
}

/// One element in one compute type: widened, updated, narrowed. Constants are computed in f64 and
/// rounded once, here where they are used.
macro_rules! element {
    ($name:ident, $real:ty) => {
        impl Oracle {
            fn $name(&self, tensors: &Tensors, grad: &Array, i: usize) {
                let h = &self.hyper;
                let one_minus_beta1 = (1.0 - h.beta1) as $real;
                let one_minus_beta2 = (1.0 - h.beta2) as $real;
                let correction2 = (1.0 / (1.0 - self.beta2_power).sqrt()) as $real;
                let lr_weight_decay = (h.lr * h.weight_decay) as $real;
                let step_size = (h.lr / (1.0 - self.beta1_power)) as $real;
                let eps = h.eps as $real;

                let truth = tensors.master.as_ref().unwrap_or(&tensors.param);
                let param = truth.get(i) as $real;
                let grad = grad.get(i) as $real;
                let grad = if self.kind.maximize { -grad } else { grad };
                let exp_avg = tensors.exp_avg.get(i) as $real;
                let exp_avg_sq = tensors.exp_avg_sq.get(i) as $real;

                let exp_avg = exp_avg + one_minus_beta1 * (grad - exp_avg);
                let exp_avg_sq = exp_avg_sq + one_minus_beta2 * (grad * grad - exp_avg_sq);
                let second_moment = match &tensors.max_exp_avg_sq {
                    None => exp_avg_sq,
                    Some(array) => {
                        let max = array.get(i) as $real;
                        let max = if max.is_nan() || exp_avg_sq.is_nan() {
                            <$real>::NAN
                        } else if exp_avg_sq > max {
                            exp_avg_sq
                        } else {
                            max
                        };
                        max
                    }
                };
                let denom = second_moment.sqrt() * correction2 + eps;
                let param = param - (lr_weight_decay * param + step_size * (exp_avg / denom));

                let is_small =
                    |moment: $real| self.step % 64 == 0 && moment < <$real>::MIN_POSITIVE;
                let exp_avg = if is_small(exp_avg.abs()) { 0.0 } else { exp_avg };
                let is_idle = exp_avg == 0.0 && eps != 0.0;
                let second = |moment| if is_small(moment) && is_idle { 0.0 } else { moment };
                tensors.exp_avg.set(i, exp_avg.into());
                tensors.exp_avg_sq.set(i, second(exp_avg_sq).into());
                if let Some(max) = &tensors.max_exp_avg_sq {
                    max.set(i, second(second_moment).into());
                }
                truth.set(i, param.into());
                tensors.param.set(i, param.into());
            }
        }
    };
}

element!(element_f32, f32);
element!(element_f64, f64);
