//! The window of accumulated gradients: the number of micro-batches that their mean is over.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::ParamId;
use crate::tensor::Operands;
use core::ops::Range;

/// The micro-batches between two steps.
#[derive(Clone, Copy, Default)]
pub struct Window {
    /// Their number, if the host has set it; 0 for as many as any parameter has accumulated.
    given: u64,
    /// The most that any parameter has accumulated in this window.
    most: u64,
    /// The number of a parameter that was seen to hold a sum.
    last_holder: usize,
}

impl Window {
    /// Returns the numbers that a mean may be over.
    pub fn numbers(&self) -> [u64; 2] {
        [self.given, self.most]
    }
}

impl Optimizer {
    /// Sets the number of micro-batches between two steps.
    pub fn set_window(&mut self, n_micro_batches: u64) {
        self.window.given = n_micro_batches;
        self.on_device.lay_anew();
    }

    /// Counts a gradient that a parameter has accumulated. A window begins when no other parameter
    /// holds a sum.
    pub(in crate::optimizer) fn widen_window(&mut self, id: ParamId) {
        let n_accumulated = self.params.operands(id).n_accumulated();
        if n_accumulated == 1 && !self.others_hold_sums(id.place()) {
            self.window.most = 0;
        }
        self.window.most = self.window.most.max(n_accumulated);
    }

    /// Returns whether another parameter holds a sum. It begins with the one that was last seen to,
    /// so that it looks at all of them about once in a window.
    fn others_hold_sums(&mut self, number: usize) -> bool {
        let operands = self.params.operands_of(&self.params.all());
        let n = operands.len();
        let mut numbers = (0..n).map(|i| (self.window.last_holder + i) % n);
        let holds = |&i: &usize| i != number && operands[i].n_accumulated() > 0;
        let found = numbers.find(holds);
        self.window.last_holder = found.unwrap_or(number);
        found.is_some()
    }

    /// Checks that no parameter has accumulated more gradients than the host has set.
    pub(in crate::optimizer) fn check_window(&self, of: &Range<usize>) -> Result<(), Error> {
        let window = self.window.given;
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

    /// Returns the factor that turns a sum of accumulated gradients into their mean, or 1 if the
    /// handle does not average.
    pub(in crate::optimizer) fn mean(&self, operands: &Operands) -> f64 {
        match operands.n_accumulated() {
            0 => 1.0,
            _ if !self.config.average_grads => 1.0,
            n if self.window.given == 0 => 1.0 / self.window.most.max(n) as f64,
            _ => 1.0 / self.window.given as f64,
        }
    }
}
