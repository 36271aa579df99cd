//! The optimizer as one would write it first: slow, obvious, one element after the other, every
//! option an `if`. The library must have its bits.

use super::array::Dtype;
use super::rounding::{self, Kind, nearest};
use super::sums::sum_squares;
use adamw::ffi::*;

/// A gradient as the host gives it.
#[derive(Clone)]
pub enum Grad {
    Dense(Vec<f64>),
    /// The rows, and the values of all of them.
    Rows(Vec<usize>, Vec<f64>),
    /// A sum of so many.
    Sum(Vec<f64>, u64),
}

#[derive(Clone)]
pub struct Param {
    pub name: String,
    pub dtype: Dtype,
    pub format: Format,
    pub options: adamw_param_options,
    pub removed: bool,
    pub step: u64,
    pub beta1_power: f64,
    pub beta2_power: f64,
    pub param: Vec<f64>,
    /// What is stepped, where the parameter is only rounded to.
    pub master: Option<Vec<f64>>,
    pub exp_avg: Vec<f64>,
    pub exp_avg_sq: Vec<f64>,
    pub max_exp_avg_sq: Vec<f64>,
    pub grad: Option<Grad>,
}

/// What the state of a parameter is kept in; it stays what the group said when it was added.
#[derive(Clone, Copy)]
pub struct Format {
    pub multi_precision: bool,
    pub precision: adamw_precision,
    pub moments: adamw_moments,
}

#[derive(Clone)]
pub struct Model {
    pub config: adamw_config,
    pub lr: f64,
    pub grad_scale: f64,
    /// The most micro-batches that any parameter has accumulated since the last step of all.
    pub window: u64,
    pub groups: Vec<adamw_group_config>,
    pub params: Vec<Param>,
}

/// To the compute type, which every operation rounds to.
fn round(dtype: Dtype, value: f64) -> f64 {
    if dtype == Dtype::F64 { value } else { (value as f32).into() }
}

impl Param {
    pub fn new(
        name: String,
        dtype: Dtype,
        values: Vec<f64>,
        options: adamw_param_options,
        format: Format,
    ) -> Param {
        let zeros = vec![0.0; values.len()];
        let has_master = dtype.bytes() == 2
            && match format.precision {
                ADAMW_PRECISION_STOCHASTIC => false,
                ADAMW_PRECISION_DEFAULT => format.multi_precision,
                _ => true,
            };
        let moments = match format.moments {
            ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT if values.len() < 4096 => ADAMW_MOMENTS_F32,
            _ if dtype == Dtype::F64 => ADAMW_MOMENTS_F32,
            moments => moments,
        };
        let precision = if dtype.bytes() == 2 { format.precision } else { ADAMW_PRECISION_DEFAULT };
        Param {
            name,
            dtype,
            format: Format { moments, precision, ..format },
            options,
            removed: false,
            step: 0,
            beta1_power: 1.0,
            beta2_power: 1.0,
            master: has_master.then(|| values.clone()),
            param: values,
            exp_avg: zeros.clone(),
            exp_avg_sq: zeros.clone(),
            max_exp_avg_sq: zeros,
            grad: None,
        }
    }

    pub fn is_stepped(&self) -> bool {
        let has_grad = self.grad.as_ref().is_some_and(|grad| match grad {
            Grad::Rows(rows, _) => !rows.is_empty(),
            _ => true,
        });
        has_grad && self.options.frozen == 0
    }

    /// The gradient element by element, and whether each is one that a lazy step touches.
    fn dense_grad(&self) -> (Vec<f64>, Vec<bool>) {
        match self.grad.as_ref().unwrap() {
            Grad::Dense(grad) | Grad::Sum(grad, _) => (grad.clone(), vec![true; grad.len()]),
            Grad::Rows(rows, values) => {
                let n = values.len() / rows.len();
                let (mut grad, mut touched) =
                    (vec![0.0; self.param.len()], vec![false; self.param.len()]);
                for (place, row) in rows.iter().enumerate() {
                    for column in 0..n {
                        let (at, value) = (row * n + column, values[place * n + column]);
                        grad[at] =
                            if touched[at] { round(self.dtype, grad[at] + value) } else { value };
                    }
                    touched[row * n..(row + 1) * n].fill(true);
                }
                (grad, touched)
            }
        }
    }

    fn accumulate(&mut self, grad: &[f64]) {
        self.grad = Some(match self.grad.take() {
            Some(Grad::Sum(sum, n)) => {
                let add = |(sum, grad): (f64, &f64)| round(self.dtype, sum + grad);
                Grad::Sum(sum.into_iter().zip(grad).map(add).collect(), n + 1)
            }
            _ => Grad::Sum(grad.to_vec(), 1),
        });
    }

    pub fn reset(&mut self) {
        let (name, grad, values) = (self.name.clone(), self.grad.clone(), self.param.clone());
        *self = Param { grad, ..Param::new(name, self.dtype, values, self.options, self.format) };
    }

    /// Stores what a step has made of the elements that it touched.
    fn store(&mut self, seed: u64, touched: impl Fn(usize) -> bool) {
        let n = self.param.len();
        let noise = rounding::noise(seed, &self.name, self.step, 0..n as u64);
        for at in (0..n).filter(|at| touched(*at)) {
            let whole = self.master.as_ref().unwrap_or(&self.param)[at];
            self.param[at] = match self.format.precision {
                ADAMW_PRECISION_SPLIT => rounding::upper_half(whole),
                ADAMW_PRECISION_STOCHASTIC => rounding::bf16_randomly(whole, noise[at].param),
                _ => nearest(self.dtype, whole),
            };
            if self.format.precision == ADAMW_PRECISION_KAHAN {
                let rest = nearest(self.dtype, whole - self.param[at]);
                self.master.as_mut().unwrap()[at] = round(self.dtype, self.param[at] + rest);
            }
            if self.format.moments == ADAMW_MOMENTS_BF16 {
                self.exp_avg[at] = nearest(Dtype::Bf16, self.exp_avg[at]);
                self.exp_avg_sq[at] =
                    rounding::bf16_randomly(self.exp_avg_sq[at], noise[at].exp_avg_sq);
                self.max_exp_avg_sq[at] = nearest(Dtype::Bf16, self.max_exp_avg_sq[at]);
            }
        }
        let first: Vec<u32> = noise.iter().map(|noise| noise.exp_avg).collect();
        let second: Vec<u32> = noise.iter().map(|noise| noise.exp_avg_sq).collect();
        if self.format.moments == ADAMW_MOMENTS_8BIT {
            self.exp_avg = rounding::coded(Kind::First, &self.exp_avg, &first);
            self.exp_avg_sq = rounding::coded(Kind::Second, &self.exp_avg_sq, &second);
            self.max_exp_avg_sq = rounding::coded(Kind::Largest, &self.max_exp_avg_sq, &second);
        }
        if self.format.moments == ADAMW_MOMENTS_4BIT {
            self.exp_avg = rounding::coded_in_4_bits(Kind::First, &self.exp_avg, &first);
            self.exp_avg_sq = rounding::coded_in_4_bits(Kind::Second, &self.exp_avg_sq, &second);
        }
    }
}

impl Model {
    /// A parameter with moments in codes cannot be stepped by rows.
    pub fn is_refused(&self) -> bool {
        (0..self.params.len()).any(|i| self.is_refused_alone(i))
    }

    pub fn is_refused_alone(&self, i: usize) -> bool {
        let param = &self.params[i];
        let lazy = self.groups[param.options.group as usize].lazy_mode != ADAMW_LAZY_OFF;
        let by_rows = lazy && matches!(param.grad, Some(Grad::Rows(..)));
        let is_coded = matches!(param.format.moments, ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT);
        param.is_stepped() && by_rows && is_coded
    }

    /// Whether gradients are looked at before a step.
    pub fn measures(&self) -> bool {
        let norms = [ADAMW_CLIP_NORM, ADAMW_CLIP_GLOBAL_NORM];
        self.config.nonfinite == ADAMW_NONFINITE_SKIP
            || self.groups.iter().any(|group| norms.contains(&group.clip))
    }

    /// A parameter whose step depends on all gradients cannot be stepped alone.
    pub fn conflicts(&self, i: usize) -> bool {
        let options = &self.params[i].options;
        let clip = self.groups[options.group as usize].clip;
        clip == ADAMW_CLIP_GLOBAL_NORM && options.no_clip == 0
            || self.config.nonfinite == ADAMW_NONFINITE_SKIP
    }

    pub fn step(&mut self) {
        self.step_those((0..self.params.len()).filter(|&i| self.params[i].is_stepped()).collect());
        self.begin_window();
    }

    pub fn accumulate(&mut self, i: usize, grad: &[f64]) {
        self.params[i].accumulate(grad);
        if let Some(Grad::Sum(_, n)) = self.params[i].grad {
            self.window = self.window.max(n);
        }
    }

    /// After a step of all, or when sums are forgotten; frozen ones may stay.
    pub fn begin_window(&mut self) {
        let left = self.params.iter().map(|param| match param.grad {
            Some(Grad::Sum(_, n)) => n,
            _ => 0,
        });
        self.window = left.max().unwrap_or(0);
    }

    /// Steps one parameter, which then has no gradient.
    pub fn step_one(&mut self, i: usize) {
        self.step_those(if self.params[i].is_stepped() { vec![i] } else { vec![] });
        self.params[i].grad = None;
    }

    fn step_those(&mut self, stepped: Vec<usize>) {
        let is_sound = |&i: &usize| self.params[i].dense_grad().0.iter().all(|g| g.is_finite());
        if self.config.nonfinite == ADAMW_NONFINITE_SKIP && !stepped.iter().all(is_sound) {
            self.use_up(&stepped);
            return;
        }
        let scales: Vec<f64> = stepped.iter().map(|&i| self.scale(i, &stepped)).collect();
        for (&i, scale) in stepped.iter().zip(scales) {
            self.step_param(i, scale);
        }
        self.use_up(&stepped);
    }

    fn use_up(&mut self, stepped: &[usize]) {
        for &i in stepped {
            match &mut self.params[i].grad {
                sum @ Some(Grad::Sum(..)) => *sum = None,
                Some(Grad::Dense(values) | Grad::Rows(_, values))
                    if self.config.clear_grads == 1 =>
                {
                    values.fill(0.0)
                }
                _ => {}
            }
        }
    }

    fn mean(&self, i: usize) -> f64 {
        match self.params[i].grad {
            Some(Grad::Sum(..)) if self.config.average_grads == 1 => 1.0 / self.window as f64,
            _ => 1.0,
        }
    }

    fn sum_squares(&self, i: usize) -> f64 {
        sum_squares(&self.params[i].dense_grad().0, 4096) * (self.mean(i) * self.mean(i))
    }

    /// What the gradient of a parameter is multiplied by.
    fn scale(&self, i: usize, stepped: &[usize]) -> f64 {
        let options = |i: usize| &self.params[i].options;
        let group = |i: usize| &self.groups[options(i).group as usize];
        let unscaled = 1.0 / self.grad_scale * self.mean(i);
        let is_in_scope = |j: usize| {
            group(j).clip == ADAMW_CLIP_GLOBAL_NORM
                && options(j).no_clip == 0
                && (self.config.clip_scope == ADAMW_CLIP_SCOPE_HANDLE
                    || options(j).group == options(i).group)
        };
        let sum = match group(i).clip {
            _ if options(i).no_clip == 1 => return unscaled,
            ADAMW_CLIP_NORM => self.sum_squares(i),
            ADAMW_CLIP_GLOBAL_NORM => {
                let scope = stepped.iter().filter(|&&j| is_in_scope(j));
                scope.fold(0.0, |sum, &j| sum + self.sum_squares(j))
            }
            _ => return unscaled,
        };
        let norm = sum.sqrt() * (1.0 / self.grad_scale);
        let factor = if norm > group(i).clip_norm { group(i).clip_norm / norm } else { 1.0 };
        factor * unscaled
    }

    fn step_param(&mut self, i: usize, scale: f64) {
        let group = self.groups[self.params[i].options.group as usize];
        let (grads, touched) = self.params[i].dense_grad();
        let p = &mut self.params[i];
        p.step += 1;
        p.beta1_power *= group.beta1;
        p.beta2_power *= group.beta2;
        let r = |value: f64| round(p.dtype, value);
        let lr = self.lr * group.lr_scale * p.options.lr_scale;
        let (one_minus_beta1, one_minus_beta2) = (r(1.0 - group.beta1), r(1.0 - group.beta2));
        let correction2 = r(1.0 / (1.0 - p.beta2_power).sqrt());
        let decays_by = if group.independent_weight_decay == 1 { 1.0 } else { lr };
        let (decay, step_size) = (r(decays_by * group.weight_decay), r(lr / (1.0 - p.beta1_power)));
        let (eps, scale, coeff) = (r(group.eps), r(scale), r(p.options.regularizer_coeff));
        let clips = group.clip == ADAMW_CLIP_VALUE && p.options.no_clip == 0;
        let touched = |at: usize| group.lazy_mode != ADAMW_LAZY_ROWS || touched[at];
        for at in (0..p.param.len()).filter(|at| touched(*at)) {
            let param = p.master.as_ref().unwrap_or(&p.param)[at];
            let mut grad = r(grads[at] * scale);
            if clips {
                grad = grad.clamp(r(group.clip_min), r(group.clip_max));
            }
            if self.config.maximize == 1 {
                grad = -grad;
            }
            match p.options.regularizer {
                ADAMW_REGULARIZER_L1 if param > 0.0 => grad = r(grad + coeff),
                ADAMW_REGULARIZER_L1 if param < 0.0 => grad = r(grad - coeff),
                ADAMW_REGULARIZER_L2 => grad = r(grad + r(coeff * param)),
                _ => {}
            }
            let (m, v) = (p.exp_avg[at], p.exp_avg_sq[at]);
            let m = r(m + r(one_minus_beta1 * r(grad - m)));
            let v = r(v + r(one_minus_beta2 * r(r(grad * grad) - v)));
            let mut u = v;
            if self.config.amsgrad == 1 {
                u = v.max(p.max_exp_avg_sq[at]);
                p.max_exp_avg_sq[at] = u;
            }
            let denom = r(r(r(u.sqrt()) * correction2) + eps);
            let param = r(param - r(r(decay * param) + r(step_size * r(m / denom))));
            (p.exp_avg[at], p.exp_avg_sq[at]) = (m, v);
            p.master.as_mut().unwrap_or(&mut p.param)[at] = param;
        }
        p.store(self.config.seed, touched);
    }
}
