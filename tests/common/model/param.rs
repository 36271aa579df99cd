//! One parameter of the model: what it keeps, and how that is stored.

use crate::common::array::Dtype;
use crate::common::rounding::{self, Kind, nearest};
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
    /// Whether weight decay applies to it.
    pub decays: bool,
    /// Whether it has taken a step alone that others have yet to take.
    pub alone: bool,
    /// Whether its master is what it has been stepped from: until its first step it is the parameter.
    pub settled: bool,
    pub dtype: Dtype,
    pub format: Format,
    pub options: adamw_param_options,
    pub layout: Layout,
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
    pub amsgrad: bool,
    pub multi_precision: bool,
    pub precision: adamw_precision,
    pub moments: adamw_moments,
    pub shard: Shard,
}

/// Of which dimensions a parameter is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// One.
    Plain,
    /// Rows of so many elements.
    Rows(usize),
    /// As many dimensions the other way round: the columns lie one after the other.
    Turned(usize),
}

/// Which part of a whole a parameter is.
#[derive(Clone, Copy, Default, Debug)]
pub struct Shard {
    pub first: u64,
    /// 0: nobody said.
    pub whole: u64,
}

/// To the compute type, which every operation rounds to.
pub fn round(dtype: Dtype, value: f64) -> f64 {
    if dtype == Dtype::F64 { value } else { (value as f32).into() }
}

impl Format {
    /// Whether a parameter of so many elements cuts no block of its codes.
    pub fn is_whole_blocks(&self, n: u64) -> bool {
        let Shard { first, whole } = self.shard;
        let block = match self.moments {
            ADAMW_MOMENTS_8BIT => 256,
            ADAMW_MOMENTS_4BIT => 128,
            _ => 1,
        };
        let ends_well = whole == 0 || first + n == whole || (first + n).is_multiple_of(block);
        n == 0 || first.is_multiple_of(block) && ends_well
    }
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
        let whole = if format.shard.whole > 0 { format.shard.whole } else { values.len() as u64 };
        let moments = match format.moments {
            ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT if whole < 4096 => ADAMW_MOMENTS_F32,
            _ if dtype == Dtype::F64 => ADAMW_MOMENTS_F32,
            moments => moments,
        };
        let precision = if dtype.bytes() == 2 { format.precision } else { ADAMW_PRECISION_DEFAULT };
        Param {
            name,
            decays: true,
            alone: false,
            settled: false,
            dtype,
            format: Format { moments, precision, ..format },
            options,
            layout: Layout::Plain,
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
    pub fn dense_grad(&self) -> (Vec<f64>, Vec<bool>) {
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

    pub fn accumulate(&mut self, grad: &[f64]) {
        self.grad = Some(match self.grad.take() {
            Some(Grad::Sum(sum, n)) => {
                let add = |(sum, grad): (f64, &f64)| round(self.dtype, sum + grad);
                Grad::Sum(sum.into_iter().zip(grad).map(add).collect(), n + 1)
            }
            _ => Grad::Sum(grad.to_vec(), 1),
        });
    }

    pub fn reset(&mut self) {
        let values = self.param.clone();
        let new = Param::new(self.name.clone(), self.dtype, values, self.options, self.format);
        let (grad, decays, layout) = (self.grad.take(), self.decays, self.layout);
        *self = Param { grad, decays, layout, ..new };
    }

    /// The host writes the parameter, and says so.
    pub fn write(&mut self, values: Vec<f64>) {
        self.master = self.master.is_some().then(|| values.clone());
        self.param = values;
    }

    /// Has a master from now on, if it is of a type that needs one: the parameter, exactly.
    pub fn begin_master(&mut self) {
        self.format.multi_precision = true;
        if self.layout()[0].is_some() {
            self.master = Some(self.param.clone());
        }
    }

    /// Counts so many steps, whatever they were.
    pub fn set_step(&mut self, step: u64, group: &adamw_group_config) {
        let power = |beta: f64| match group.bias_correction {
            ADAMW_BIAS_CORRECTION_CURRENT => power(beta, step),
            _ => (0..step).fold(1.0, |power, _| power * beta),
        };
        (self.step, self.beta1_power, self.beta2_power) =
            (step, power(group.beta1), power(group.beta2));
    }

    /// Takes what a checkpoint has of it.
    pub fn load(&mut self, saved: &Param) {
        let grad = match self.grad.take() {
            Some(Grad::Sum(..)) => None,
            grad => grad,
        };
        let (options, decays) = (self.options, self.decays);
        *self = Param { grad, options, decays, alone: false, ..saved.clone() };
    }

    pub fn is_coded(&self) -> bool {
        matches!(self.format.moments, ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT)
    }

    pub fn is_finite(&self) -> bool {
        match self.grad.as_ref().unwrap() {
            Grad::Sum(grad, _) | Grad::Dense(grad) | Grad::Rows(_, grad) => {
                grad.iter().all(|g| g.is_finite())
            }
        }
    }

    /// Makes moments 0 that are below the smallest normal number: the second ones only with the
    /// first one, and where they are not all that is divided by.
    pub fn forget(&mut self, at: usize, has_eps: bool) {
        let exponent = if self.dtype == Dtype::F64 { -1022 } else { -126 };
        let smallest = 2f64.powi(exponent);
        if self.exp_avg[at].abs() < smallest {
            self.exp_avg[at] = 0.0;
        }
        for second in [&mut self.exp_avg_sq[at], &mut self.max_exp_avg_sq[at]] {
            if has_eps && self.exp_avg[at] == 0.0 && *second < smallest {
                *second = 0.0;
            }
        }
    }

    /// Stores what a step has made of the elements that it touched.
    pub fn store(&mut self, seed: u64, touched: impl Fn(usize) -> bool) {
        let n = self.param.len();
        let is_random = self.format.precision == ADAMW_PRECISION_STOCHASTIC
            || self.format.moments != ADAMW_MOMENTS_F32;
        let n_noise = if is_random { n as u64 } else { 0 };
        let first = self.format.shard.first;
        let noise = rounding::noise(seed, &self.name, self.step, first..first + n_noise);
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

/// Returns beta^step: the product of beta^(2^i) for all bits i of `step`, from the lowest up.
pub fn power(beta: f64, step: u64) -> f64 {
    let square = |i: u64| (0..i).fold(beta, |square, _| square * square);
    let bits = (0..64).filter(|i| step >> i & 1 == 1);
    bits.fold(1.0, |power, i| power * square(i))
}
