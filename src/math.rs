//! The AdamW update of one element, and the scalars of one step. Imports nothing of the crate.
//!
//! Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019), algorithm 2, in the
//! order in which this library computes it. Every operation rounds once, to nearest even; nothing
//! is fused, so the order below is the whole definition of the result's bits.
//!
//! ```text
//! grad       = clamp(grad * scale, min, max)                      # optional: clipping by value
//! grad       = grad + l2 * param | grad + l1 * sign(param)        # optional: a regularizer
//! grad       = grad * grad_scale                                  # 1 after the two lines above
//! exp_avg    = exp_avg    + (1 - beta1) * (grad        - exp_avg)         # m, line 7
//! exp_avg_sq = exp_avg_sq + (1 - beta2) * (grad * grad - exp_avg_sq)      # v, line 8
//! max_sq     = max(max_sq, exp_avg_sq)                             # amsgrad: Reddi et al. 2018
//! denom      = sqrt(exp_avg_sq or max_sq) * (1 / sqrt(1 - beta2^t)) + eps # lines 10, 12
//! param      = param - (lr * weight_decay * param + lr / (1 - beta1^t) * (exp_avg / denom))
//!                       weight_decay * param, where decay is independent of lr
//! exp_avg    = 0 if |exp_avg| < the smallest normal number         # at every 64th step, t = 64,
//! exp_avg_sq = 0 if exp_avg_sq < that, exp_avg = 0 and eps > 0     # 128, ...; max_sq likewise
//! ```
//!
//! `scale` and `grad_scale` are the clip factor, negated to maximize.
//!
//! The moments move towards the gradient by a difference, and decay is summed into the update
//! before it meets the parameter: `beta2 * v + (1 - beta2) * g * g` and `param * (1 - lr * wd)`
//! would round away what a small `1 - beta2` or `lr * wd` asks for.
//!
//! The last two lines end the fall of an element whose gradient stays 0: `(1 - beta1) * exp_avg`
//! rounds to 0 at last, so that exp_avg would never be 0, and arithmetic on subnormal numbers is
//! slow. A second moment is in a divisor, and waits until nothing is divided by it.
#![forbid(unsafe_code)]

use core::ops::{Add, Div, Mul, Sub};

/// What the formula is computed in: numbers, or registers of several.
pub trait Arithmetic:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    fn sqrt(self) -> Self;
}

/// The type that an update computes in: f32, or f64 for f64 parameters.
pub trait Real: Arithmetic + PartialOrd {
    const ZERO: Self;
    const SMALLEST_NORMAL: Self;
    fn abs(self) -> Self;
}

impl Arithmetic for f32 {
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
}

impl Real for f32 {
    const ZERO: f32 = 0.0;
    const SMALLEST_NORMAL: f32 = f32::MIN_POSITIVE;
    #[inline(always)]
    fn abs(self) -> f32 {
        f32::abs(self)
    }
}

impl Arithmetic for f64 {
    #[inline(always)]
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
}

impl Real for f64 {
    const ZERO: f64 = 0.0;
    const SMALLEST_NORMAL: f64 = f64::MIN_POSITIVE;
    #[inline(always)]
    fn abs(self) -> f64 {
        f64::abs(self)
    }
}

/// The values that one element keeps from step to step.
#[derive(Clone, Copy)]
pub struct Element<T> {
    pub param: T,
    pub exp_avg: T,
    pub exp_avg_sq: T,
    /// Only read and written with amsgrad.
    pub max_exp_avg_sq: T,
}

/// The preparation of a gradient before the update, for parameters that ask for it: clipping by
/// value, then a regularizer.
#[derive(Clone, Copy)]
pub struct Preparation<T> {
    pub scale: T,
    pub min: T,
    pub max: T,
    pub regularizer: Regularizer<T>,
}

/// The coefficient of a penalty whose gradient is added.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Regularizer<T> {
    None,
    /// coefficient * sum |param|
    L1(T),
    /// coefficient / 2 * sum param^2
    L2(T),
}

/// Returns a gradient clipped by value, with the gradient of the regularizer added.
#[inline(always)]
pub fn prepared<T: Real>(p: &Preparation<T>, grad: T, param: T) -> T {
    let grad = grad * p.scale;
    // A NaN fails both comparisons, so that it stays a NaN.
    let grad = if grad < p.min { p.min } else { grad };
    let grad = if grad > p.max { p.max } else { grad };
    match p.regularizer {
        Regularizer::None => grad,
        Regularizer::L1(l1) if param > T::ZERO => grad + l1,
        Regularizer::L1(l1) if param < T::ZERO => grad - l1,
        Regularizer::L1(_) => grad,
        Regularizer::L2(l2) => grad + l2 * param,
    }
}

/// Returns an element after one step.
#[inline(always)]
pub fn adamw<T: Real, const AMSGRAD: bool>(
    s: &StepScalars<T>,
    e: Element<T>,
    grad: T,
) -> Element<T> {
    let (exp_avg, exp_avg_sq) = moments(s, grad, e.exp_avg, e.exp_avg_sq);
    let max_exp_avg_sq =
        if AMSGRAD { larger_or_nan(exp_avg_sq, e.max_exp_avg_sq) } else { e.max_exp_avg_sq };
    let second_moment = if AMSGRAD { max_exp_avg_sq } else { exp_avg_sq };
    let param = moved(s, e.param, direction(s, exp_avg, second_moment.sqrt()));
    Element { param, exp_avg, exp_avg_sq, max_exp_avg_sq }
}

/// Returns exp_avg and exp_avg_sq after a step.
#[inline(always)]
pub fn moments<T: Arithmetic>(s: &StepScalars<T>, grad: T, exp_avg: T, exp_avg_sq: T) -> (T, T) {
    let grad = grad * s.grad_scale;
    let exp_avg = exp_avg + s.one_minus_beta1 * (grad - exp_avg);
    let exp_avg_sq = exp_avg_sq + s.one_minus_beta2 * (grad * grad - exp_avg_sq);
    (exp_avg, exp_avg_sq)
}

/// Returns the first moment over the root of the second.
#[inline(always)]
pub fn direction<T: Arithmetic>(s: &StepScalars<T>, exp_avg: T, root: T) -> T {
    let denom = root * s.inv_sqrt_bias_correction2 + s.eps;
    exp_avg / denom
}

/// Returns a parameter after a step in a direction.
#[inline(always)]
pub fn moved<T: Arithmetic>(s: &StepScalars<T>, param: T, direction: T) -> T {
    param - (s.lr_weight_decay * param + s.step_size * direction)
}

/// Returns the larger of the two, or NaN if either is NaN, so that a poisoned second moment stays
/// visible.
#[inline(always)]
#[allow(clippy::eq_op)] // x != x is the one NaN test that every vector unit has
fn larger_or_nan<T: Real>(new: T, max: T) -> T {
    if new > max || new != new { new } else { max }
}

/// The steps of a parameter from one at which it forgets to the next.
const FORGETS_EVERY: u64 = 64;

/// Returns exp_avg and a second moment after a step that forgets: 0 for what is too small.
#[inline(always)]
pub fn forgotten<T: Real>(eps: T, exp_avg: T, second: T) -> (T, T) {
    let exp_avg = if exp_avg.abs() < T::SMALLEST_NORMAL { T::ZERO } else { exp_avg };
    let is_idle = exp_avg == T::ZERO && eps > T::ZERO;
    let second = if second < T::SMALLEST_NORMAL && is_idle { T::ZERO } else { second };
    (exp_avg, second)
}

/// The hyper-parameters of a step, before they become the constants of the loop.
#[derive(Clone, Copy)]
pub struct Step {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Decay is not multiplied by the learning rate.
    pub independent_weight_decay: bool,
    /// The clip factor, by which gradients are multiplied.
    pub grad_scale: f64,
    /// The limits to which gradients are clamped after that.
    pub limits: Option<(f64, f64)>,
    /// `denom` is `(sqrt(exp_avg_sq) + eps) / sqrt(1 - beta2^t)`.
    pub eps_before_correction: bool,
    /// The parameter decays after it has moved: `(param - step) * (1 - lr * weight_decay)`.
    pub decays_new_value: bool,
    pub regularizer: Regularizer<f64>,
    pub maximize: bool,
    /// The number of the step, t; the first is 1.
    pub number: u64,
    /// beta1^t, as a running product or by `power`; 0 if the moments are not corrected.
    pub beta1_power: f64,
    /// beta2^t, alike.
    pub beta2_power: f64,
}

/// Returns `base^exponent` by squaring, in one fixed order of multiplications: from the lowest bit
/// of the exponent up.
pub fn power(base: f64, exponent: u64) -> f64 {
    let (mut result, mut square, mut left) = (1.0, base, exponent);
    while left > 0 {
        if left & 1 == 1 {
            result *= square;
        }
        square *= square;
        left >>= 1;
    }
    result
}

/// The constants of one step, each computed in f64 and rounded once to the compute type.
#[derive(Clone, Copy)]
pub struct StepScalars<T> {
    pub grad_scale: T,
    pub one_minus_beta1: T,
    pub one_minus_beta2: T,
    pub inv_sqrt_bias_correction2: T,
    pub eps: T,
    pub lr_weight_decay: T,
    pub step_size: T,
    /// Moments that are too small become 0 after this step.
    pub forgets: bool,
    /// `None` if the gradient goes straight into the update.
    pub preparation: Option<Preparation<T>>,
}

impl StepScalars<f64> {
    pub fn new(step: &Step) -> Self {
        let (min, max) = step.limits.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        // The regularizer is not negated: it penalizes parameters when maximizing, too.
        let (scale, min, max) = match step.maximize {
            false => (step.grad_scale, min, max),
            true => (-step.grad_scale, -max, -min),
        };
        let regularizer = step.regularizer;
        let needed = step.limits.is_some() || regularizer != Regularizer::None;
        let inv_sqrt_bias_correction2 = 1.0 / (1.0 - step.beta2_power).sqrt();
        let lr_weight_decay = match step.independent_weight_decay {
            false => step.lr * step.weight_decay,
            true => step.weight_decay,
        };
        let step_size = step.lr / (1.0 - step.beta1_power);
        let preparation = needed.then_some(Preparation { scale, min, max, regularizer });
        StepScalars {
            grad_scale: if needed { 1.0 } else { scale },
            one_minus_beta1: 1.0 - step.beta1,
            one_minus_beta2: 1.0 - step.beta2,
            inv_sqrt_bias_correction2,
            eps: match step.eps_before_correction {
                false => step.eps,
                true => step.eps * inv_sqrt_bias_correction2,
            },
            lr_weight_decay,
            step_size: match step.decays_new_value {
                false => step_size,
                true => step_size * (1.0 - lr_weight_decay),
            },
            forgets: step.number.is_multiple_of(FORGETS_EVERY),
            preparation,
        }
    }

    pub fn rounded(&self) -> StepScalars<f32> {
        self.map(|scalar| scalar as f32)
    }
}

impl<T: Copy> StepScalars<T> {
    /// Returns whether a step is nothing but its loop.
    #[inline(always)]
    pub fn are_plain(&self) -> bool {
        self.preparation.is_none() && !self.forgets
    }

    /// Returns the same scalars in another type.
    #[inline(always)]
    pub fn map<U>(&self, to: impl Fn(T) -> U) -> StepScalars<U> {
        StepScalars {
            grad_scale: to(self.grad_scale),
            one_minus_beta1: to(self.one_minus_beta1),
            one_minus_beta2: to(self.one_minus_beta2),
            inv_sqrt_bias_correction2: to(self.inv_sqrt_bias_correction2),
            eps: to(self.eps),
            lr_weight_decay: to(self.lr_weight_decay),
            step_size: to(self.step_size),
            forgets: self.forgets,
            preparation: self.preparation.map(|p| Preparation {
                scale: to(p.scale),
                min: to(p.min),
                max: to(p.max),
                regularizer: match p.regularizer {
                    Regularizer::None => Regularizer::None,
                    Regularizer::L1(l1) => Regularizer::L1(to(l1)),
                    Regularizer::L2(l2) => Regularizer::L2(to(l2)),
                },
            }),
        }
    }
}

/// The constants of one step for both compute types; parameters that step alike share one.
#[derive(Clone, Copy)]
pub struct Scalars {
    /// The number of the parameter's step; the first is 1.
    pub step: u64,
    pub f32: StepScalars<f32>,
    pub f64: StepScalars<f64>,
}

impl Scalars {
    pub fn new(step: &Step) -> Self {
        let f64 = StepScalars::new(step);
        Scalars { step: step.number, f32: f64.rounded(), f64 }
    }

    /// Returns whether the constants that depend on the learning rate are finite in the compute
    /// type.
    pub fn are_finite(&self, in_f64: bool) -> bool {
        match in_f64 {
            true => self.f64.step_size.is_finite() && self.f64.lr_weight_decay.is_finite(),
            false => self.f32.step_size.is_finite() && self.f32.lr_weight_decay.is_finite(),
        }
    }
}
