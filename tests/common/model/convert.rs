//! What a load that converts makes of the state of a parameter, in a handle that keeps it in another format.

use super::param::{Format, Param};
use crate::common::array::Dtype;
use crate::common::rounding::{self, Kind, nearest};
use adamw::ffi::*;

/// What is kept beside a parameter.
#[derive(PartialEq)]
enum Kept {
    Nothing,
    Master,
    Remainder(adamw_precision),
}

impl Param {
    fn kept(&self) -> Kept {
        match self.format.precision {
            _ if self.master.is_none() => Kept::Nothing,
            ADAMW_PRECISION_DEFAULT => Kept::Master,
            precision => Kept::Remainder(precision),
        }
    }

    /// The parameter in another type and format; `None`: that cannot be had, or not out of this one.
    pub fn converted(&self, dtype: Dtype, format: Format) -> Option<Param> {
        let values: Vec<f64> = self.param.iter().map(|value| nearest(dtype, *value)).collect();
        let mut new = Param::new(self.name.clone(), dtype, values, self.options, format);
        let of_bf16 = [ADAMW_PRECISION_SPLIT, ADAMW_PRECISION_STOCHASTIC];
        let is_refused = dtype == Dtype::F16 && of_bf16.contains(&format.precision)
            || new.format.moments == ADAMW_MOMENTS_4BIT && new.format.amsgrad;
        if is_refused || !new.format.is_whole_blocks(self.param.len() as u64) {
            return None;
        }
        let master = self.master.clone();
        new.master = match (self.kept(), new.kept()) {
            (Kept::Nothing, Kept::Nothing) => None,
            // It begins as the parameter.
            (Kept::Nothing, Kept::Master) => Some(new.param.clone()),
            (Kept::Master, Kept::Master) => master,
            (Kept::Master, Kept::Remainder(ADAMW_PRECISION_SPLIT)) => {
                new.param = master.iter().flatten().copied().map(rounding::upper_half).collect();
                master
            }
            (from @ Kept::Remainder(_), to) if from == to && dtype == self.dtype => master,
            _ => return None,
        };
        new.exp_avg = self.moments(&new, Kind::First, &self.exp_avg)?;
        new.exp_avg_sq = self.moments(&new, Kind::Second, &self.exp_avg_sq)?;
        new.max_exp_avg_sq = self.moments(&new, Kind::Largest, &self.max_exp_avg_sq)?;
        let (decays, settled, layout) = (self.decays, self.settled, self.layout);
        let (step, beta1_power, beta2_power) = (self.step, self.beta1_power, self.beta2_power);
        Some(Param { decays, settled, layout, step, beta1_power, beta2_power, ..new })
    }

    /// Moments as the other parameter keeps them: codes are the nearest.
    fn moments(&self, new: &Param, kind: Kind, moments: &[f64]) -> Option<Vec<f64>> {
        let of = new.format.moments;
        if self.is_coded() {
            return (self.format.moments == of).then(|| moments.to_vec());
        }
        let dtype = if of == ADAMW_MOMENTS_BF16 { Dtype::Bf16 } else { new.dtype.compute() };
        let moments: Vec<f64> = moments.iter().map(|value| nearest(dtype, *value)).collect();
        let halves = vec![1 << 31; moments.len()];
        Some(match of {
            ADAMW_MOMENTS_8BIT => rounding::coded(kind, &moments, &halves),
            ADAMW_MOMENTS_4BIT => rounding::coded_in_4_bits(kind, &moments, &halves),
            _ => moments,
        })
    }

    /// Whether a load makes the weights of the other, and what is beside them, of a master.
    pub fn is_halved(&self, other: &Param) -> bool {
        self.kept() == Kept::Master && other.kept() == Kept::Remainder(ADAMW_PRECISION_SPLIT)
    }

    /// Whether a load has to convert, if it is to make the one of the other.
    pub fn differs_in_type(&self, other: &Param, with_param: bool) -> bool {
        let types = |param: &Param| param.layout().map(|part| part.map(|(dtype, _)| dtype));
        let differ = |(ours, theirs): (Option<Dtype>, Option<Dtype>)| {
            ours.is_some() && theirs.is_some() && ours != theirs
        };
        with_param && self.dtype != other.dtype
            || types(self).into_iter().zip(types(other)).any(differ)
            || other.format.precision != self.format.precision && other.layout()[4].is_some()
    }
}
