//! Steps by sums over gradients that were measured before, and given back: the same steps.

use crate::common::array::{Array, Dtype};
use crate::common::device::OnDevice;
use crate::common::handle::Answer;
use crate::side::Side;

impl Side {
    /// Some steps are given the sums, which lie in the host's memory or on the device.
    pub fn with_sums(&mut self, step: impl FnOnce(&mut Side) -> Answer) -> Answer {
        self.n_steps += 1;
        let here = Array::of(Dtype::F64, &vec![f64::NAN; 2 * self.handle.num_params() as usize]);
        let has_device = self.live().iter().any(|number| self.is_on_device(*number));
        let there = match self.n_steps % 4 {
            1 if self.there.reads_none() => None,
            2 if has_device => Some(OnDevice::of(&here, 0)),
            _ => return step(self),
        };
        let sums = there.as_ref().map_or_else(|| here.tensor(), OnDevice::tensor);
        // A step that cannot be measured is refused for the same reason.
        if self.handle.measure_grads(&sums).is_err() {
            return step(self);
        }
        self.handle.set_grad_sums(Some(&sums)).unwrap();
        let stepped = step(self);
        self.handle.set_grad_sums(None).unwrap();
        self.wait(); // before the device's memory is freed
        stepped
    }
}
