//! Calls that give gradients, and take them away.

use crate::call::{Call, Spoiled};
use crate::common::array::{Array, Dtype};
use crate::common::model::Grad;
use crate::common::model::param::Layout;
use crate::common::random::Random;
use crate::world::World;
use adamw::ffi::*;

/// How many elements a row has of a parameter of this number.
pub fn row_of(number: u32) -> usize {
    1 + number as usize % 4
}

impl World {
    pub fn give_gradient(&mut self, call: &Call) -> bool {
        match call {
            Call::SetGrad { param, seed, spoiled } => {
                let (number, is_there) = self.param(*param);
                if !is_there {
                    let stray = Array::zeros(Dtype::F32, 1);
                    self.tell(false, |side| side.handle.try_set_grad(number, &stray));
                    return true;
                }
                let grad = self.new_grad(number, *seed, *spoiled);
                let at_home = seed.is_multiple_of(5);
                if self.tell(true, |side| side.set_grad(number, &grad, at_home)).is_some() {
                    self.model.params[number as usize].grad = Some(Grad::Dense(grad.values()));
                }
            }
            Call::SetRows { param, rows, seed } => self.set_rows(*param, rows, *seed),
            Call::Accumulate { param, seed, spoiled } => {
                let (number, is_there) = self.param(*param);
                if !is_there {
                    return true;
                }
                let grad = self.new_grad(number, *seed, *spoiled);
                let at_home = seed.is_multiple_of(5);
                if self.tell(true, |side| side.accumulate(number, &grad, at_home)).is_some() {
                    self.model.accumulate(number as usize, &grad.values());
                }
            }
            Call::Forget(param) => {
                let (number, is_there) = self.param(*param);
                if is_there {
                    self.tell(true, |side| side.forget(number));
                    self.model.params[number as usize].grad = None;
                }
            }
            Call::ClearGrad { zero } => {
                self.tell(true, |side| side.clear_grad(*zero));
                self.model.clear_grads(*zero);
            }
            _ => return false,
        }
        true
    }

    /// A new gradient for a parameter, in its own type or f32.
    pub fn new_grad(&self, number: u32, seed: u64, spoiled: Spoiled) -> Array {
        let param = &self.model.params[number as usize];
        let dtype = if seed.is_multiple_of(3) { Dtype::F32 } else { param.dtype };
        let grad = Array::ordinary(dtype, param.param.len(), &mut Random::new(seed));
        let value = match spoiled {
            Spoiled::Not => return grad,
            Spoiled::Nan => f64::NAN,
            Spoiled::Infinite => f64::INFINITY,
        };
        // What propagates would make NaN of all that follows.
        if grad.len() > 0 && self.model.nonfinite() != ADAMW_NONFINITE_PROPAGATE {
            grad.set(seed as usize % grad.len(), value);
        }
        grad
    }

    /// The rows of a parameter have 1 to 4 elements, which its number says, or its dimensions.
    pub fn rows(&self, number: u32, rows: &[u16]) -> Option<(Vec<usize>, usize)> {
        let n = self.model.params[number as usize].param.len();
        let row = match self.model.params[number as usize].layout {
            Layout::Rows(row) => row,
            _ => row_of(number),
        };
        let is_cut = n > 0 && n.is_multiple_of(row);
        is_cut.then(|| (rows.iter().map(|&r| r as usize % (n / row)).collect(), row))
    }

    pub fn set_rows(&mut self, param: u8, rows: &[u16], seed: u64) {
        let (number, is_there) = self.param(param);
        if !is_there {
            return;
        }
        let Some((rows, row)) = self.rows(number, rows) else { return };
        let param = &self.model.params[number as usize];
        let dtype = if seed.is_multiple_of(3) { Dtype::F32 } else { param.dtype };
        let values = Array::ordinary(dtype, rows.len() * row, &mut Random::new(seed));
        let lazy = self.model.groups[param.options.group as usize].lazy_mode != ADAMW_LAZY_OFF;
        let is_turned = matches!(param.layout, Layout::Turned(_));
        let is_good = !(is_turned || lazy && param.is_coded());
        let wide = seed.is_multiple_of(2);
        if self.tell(is_good, |side| side.set_rows(number, &rows, &values, wide)).is_some() {
            let grad = Grad::Rows(rows, values.values());
            self.model.params[number as usize].grad = Some(grad);
        }
    }
}
