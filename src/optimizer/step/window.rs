//! How many micro-batches the mean of accumulated gradients is over.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::ParamId;
use crate::tensor::Operands;
use core::ops::Range;

/// The micro-batches between two steps.
#[derive(Clone, Copy, Default)]
pub struct Window {
    /// How many the host says there are; 0: as many as any parameter has accumulated.
    said: u64,
    /// The most that any has accumulated in this window.
    most: u64,
    /// Who was last seen to hold a sum.
    holder: usize,
}

impl Optimizer {
    /// Says how many micro-batches there are between two steps.
    pub fn set_window(&mut self, n_micro_batches: u64) {
        self.window.said = n_micro_batches;
        self.on_device.lay_anew();
    }

    /// Counts a gradient that a parameter has accumulated. A window begins where nobody holds a sum.
    pub(in crate::optimizer) fn widen_window(&mut self, id: ParamId) {
        let n_accumulated = self.params.operands(id).n_accumulated();
        if n_accumulated == 1 && !self.others_hold_sums(id.place()) {
            self.window.most = 0;
        }
        self.window.most = self.window.most.max(n_accumulated);
    }

    /// Looks first at who was last seen to: all are looked at about once a window.
    fn others_hold_sums(&mut self, number: usize) -> bool {
        let operands = self.params.operands_of(&self.params.all());
        let n = operands.len();
        let mut numbers = (0..n).map(|i| (self.window.holder + i) % n);
        let holds = |&i: &usize| i != number && operands[i].n_accumulated() > 0;
        let found = numbers.find(holds);
        self.window.holder = found.unwrap_or(number);
        found.is_some()
    }

    /// That no parameter has accumulated more than the window has.
    pub(in crate::optimizer) fn check_window(&self, of: &Range<usize>) -> Result<(), Error> {
        let window = self.window.said;
        if window == 0 || !self.config.average_grads {
            return Ok(());
        }
        let is_longer =
            |operands: &Operands| operands.is_due() && operands.n_accumulated() > window;
        match self.params.iter(of).find(|(_, operands)| is_longer(operands)) {
            Some((param, operands)) => {
                let (param, n_accumulated) = (param.label(), operands.n_accumulated());
                Err(Error::Window { param, n_accumulated, window })
            }
            None => Ok(()),
        }
    }

    /// What turns a sum of accumulated gradients into their mean, if that is asked for.
    pub(in crate::optimizer) fn mean(&self, operands: &Operands) -> f64 {
        match operands.n_accumulated() {
            0 => 1.0,
            _ if !self.config.average_grads => 1.0,
            n if self.window.said == 0 => 1.0 / self.window.most.max(n) as f64,
            _ => 1.0 / self.window.said as f64,
        }
    }
}
