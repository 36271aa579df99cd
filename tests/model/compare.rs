//! All that can be seen of the handles is the same, and what the model has.

use crate::common::array::{Array, Dtype};
use crate::common::handle::Handle;
use crate::common::model::Grad;
use crate::common::state::state;
use crate::world::World;
use adamw::ffi::*;

#[track_caller]
fn assert_same(what: &str, name: &str, seen: &Array, expected: &Array) {
    if let Some(difference) = seen.first_difference(expected) {
        panic!("{what} of {name}: {difference}");
    }
}

/// A counter of a parameter's state.
fn counter(handle: &Handle, name: &str, part: &str) -> f64 {
    let to = Array::zeros(Dtype::F64, 1);
    handle.get_state(&format!("state.{name}.{part}"), &to).unwrap();
    to.get(0)
}

impl World {
    pub fn compare(&mut self) {
        self.counts.comparisons += 1;
        self.flush();
        for number in 0..self.model.params.len() as u32 {
            match self.model.params[number as usize].removed {
                true => {
                    let sides = [&self.plain, &self.twin];
                    assert!(sides.iter().all(|side| side.handle.try_info(number).is_err()));
                }
                false => {
                    self.compare_with_model(number);
                    self.compare_twins(number);
                    self.compare_given(number);
                }
            }
        }
        self.compare_handles();
        self.plain.assert_untouched();
        self.twin.assert_untouched();
    }

    fn compare_with_model(&self, number: u32) {
        let (param, handle) = (&self.model.params[number as usize], &self.plain.handle);
        let name = &param.name;
        let values = Array::of(param.dtype, &param.param);
        assert_same("param", name, &self.plain.values(number), &values);
        let info = handle.info(number);
        let seen = (info.step, info.decays, info.group);
        assert_eq!(seen, (param.step, param.decays.into(), param.options.group), "{name}");
        for (part, value) in
            [("beta1_power", param.beta1_power), ("beta2_power", param.beta2_power)]
        {
            assert_eq!(counter(handle, name, part).to_bits(), value.to_bits(), "{part} of {name}");
        }
        let lr = handle.param_lr(number).ok();
        let expected = self.model.lr_of(number as usize);
        assert_eq!(lr.map(f64::to_bits), expected.map(f64::to_bits), "lr of {name}");
        let moments = match param.format.moments {
            ADAMW_MOMENTS_8BIT | ADAMW_MOMENTS_4BIT => None, // the parameter shows it a step later
            ADAMW_MOMENTS_BF16 => Some(Dtype::Bf16),
            _ => Some(param.dtype.compute()),
        };
        let parts = [("exp_avg", &param.exp_avg), ("exp_avg_sq", &param.exp_avg_sq)];
        for (part, values) in parts {
            let Some(dtype) = moments else { continue };
            let seen = Array::zeros(dtype, values.len());
            handle.get_state(&format!("state.{name}.{part}"), &seen).unwrap();
            assert_same(part, name, &seen, &Array::of(dtype, values));
        }
        if let (Some(Grad::Dense(values) | Grad::Rows(_, values)), Some(seen)) =
            (&param.grad, self.plain.grad(number))
        {
            assert_same("grad", name, &seen, &Array::of(seen.dtype(), values));
        }
    }

    fn compare_twins(&self, number: u32) {
        let [plain, twin] = [&self.plain, &self.twin];
        let name = &self.model.params[number as usize].name;
        assert_same("the twin's param", name, &twin.values(number), &plain.values(number));
        let grads = (twin.grad(number), plain.grad(number));
        if let (Some(seen), Some(expected)) = grads {
            assert_same("the twin's grad", name, &seen, &expected);
        }
        let states = [plain, twin].map(|side| state(&side.handle, number, name));
        let [expected, seen] = states;
        for ((part, expected), (_, seen)) in expected.iter().zip(&seen) {
            assert_same(&format!("the twin's {part}"), name, seen, expected);
        }
        assert_eq!(twin.handle.info(number), plain.handle.info(number));
        for part in ["step", "beta1_power", "beta2_power"] {
            let [plain, twin] = [plain, twin].map(|side| counter(&side.handle, name, part));
            assert_eq!(twin.to_bits(), plain.to_bits(), "the twin's {part} of {name}");
        }
        let lr = |side: &crate::side::Side| side.handle.param_lr(number).ok().map(f64::to_bits);
        assert_eq!(lr(twin), lr(plain), "the twin's lr of {name}");
    }

    pub fn compare_handles(&self) {
        for side in [&self.plain, &self.twin] {
            let handle = &side.handle;
            assert_eq!(handle.lr().to_bits(), self.model.lr().to_bits(), "lr");
            let scale = handle.grad_scale();
            assert_eq!(scale.to_bits(), self.model.loss_scale().to_bits(), "grad_scale");
            let scaler = handle.scaler_state().ok();
            assert_eq!(
                scaler.map(|state| (state.scale, state.good_steps, state.bad_steps)),
                self.model.scaler.as_ref().map(|s| (s.scale, s.good_steps, s.bad_steps)),
                "the loss scaler"
            );
            for (number, group) in (0..).zip(&self.model.groups) {
                let [seen, expected] = [handle.group(number), self.model.seen(group)].map(|of| {
                    [of.lr_scale, of.weight_decay, of.beta1, of.beta2, of.eps].map(f64::to_bits)
                });
                assert_eq!(seen, expected, "group {number}");
            }
            let index = handle.schedule_state().ok().map(|state| state.index);
            let expected = self.model.schedule.as_ref().map(|schedule| schedule.index as u64);
            assert_eq!(index, expected, "the schedule");
        }
        if let Some(at) = &self.twin.scale {
            let there = at.array().unwrap().get(0);
            assert_eq!(there, self.model.loss_scale(), "the loss scale on the device");
        }
        let flags = [&self.plain, &self.twin].map(|side| side.flags[1].get());
        assert_eq!(flags[0], flags[1], "found_inf");
        if self.is_replayed {
            return;
        }
        let n_unchanged = [&self.plain, &self.twin].map(|side| side.handle.step_info().n_unchanged);
        assert_eq!(n_unchanged, [self.model.n_unchanged; 2], "n_unchanged");
        let seen = [&self.plain, &self.twin].map(|side| {
            let info = side.handle.step_info();
            let floats = [info.grad_norm, info.clip_factor, info.update_norm, info.param_norm];
            let bits = floats.map(|x| if x.is_nan() { 0 } else { x.to_bits() });
            let counts = (info.n_elements, info.n_nonfinite);
            (counts, info.measured, info.skipped, info.has_statistics, bits, floats)
        });
        assert_eq!(seen[1].0, seen[0].0, "what the last step found");
        let [plain, twin] = seen;
        assert!(
            (plain.1, plain.2, plain.3, plain.4) == (twin.1, twin.2, twin.3, twin.4),
            "the last step: {plain:?}, the twin's {twin:?}"
        );
    }
}
