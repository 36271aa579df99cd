//! Calls that change what the handles are told to do.

use crate::call::Call;
use crate::common::handle;
use crate::common::model::Scaler;
use crate::functions;
use crate::world::World;
use adamw::ffi::*;

impl World {
    pub fn change_setting(&mut self, call: &Call) -> bool {
        match call {
            Call::AddGroup(hyper) => {
                let mut group = self.model.groups[0];
                hyper.put(&mut group, &self.numbers);
                if self.tell(hyper.is_good(), |side| side.handle.try_add_group(&group)).is_some() {
                    self.model.groups.push(group);
                }
            }
            Call::SetGroup(byte, hyper) => {
                let (number, is_there) = self.group(*byte);
                let mut group = self.model.groups[number as usize % self.model.groups.len()];
                hyper.put(&mut group, &self.numbers);
                let is_good = is_there && hyper.is_good();
                if self.tell(is_good, |side| side.handle.set_group(number, &group)).is_some() {
                    self.model.groups[number as usize] = group;
                }
            }
            Call::Options { param, group, lr_scale, frozen, no_clip, regularizer } => {
                let (number, is_there) = self.param(*param);
                let (group, has_group) = self.group(*group);
                if !is_there {
                    return true;
                }
                let options = adamw_param_options {
                    group,
                    lr_scale: *lr_scale,
                    frozen: (*frozen).into(),
                    no_clip: (*no_clip).into(),
                    regularizer: *regularizer,
                    regularizer_coeff: 0.125,
                    ..self.plain.handle.options(number)
                };
                let is_good = has_group && *lr_scale >= 0.0 && *regularizer <= 2;
                if self.tell(is_good, |side| side.handle.set_options(number, &options)).is_some() {
                    self.model.params[number as usize].options = options;
                }
            }
            Call::SetLr(lr) => {
                let lr = f64::from(*lr);
                let is_free = self.model.schedule.is_none() && self.model.config.lr_ptr.is_null();
                let is_good = is_free && lr >= 0.0 && lr.is_finite();
                if self.tell(is_good, |side| side.handle.try_set_lr(lr)).is_some() {
                    (self.model.lr, self.model.given_lr) = (lr, lr);
                }
            }
            Call::SetGradScale(scale) => {
                let is_good = self.model.scaler.is_none() && is_loss_scale(*scale);
                if self.tell(is_good, |side| side.handle.set_grad_scale(*scale)).is_some() {
                    self.model.grad_scale = *scale;
                }
            }
            Call::SetScaler { start, growth, backoff } => {
                let scaler = handle::loss_scaler(*start, *growth, *backoff);
                // 0 is the default.
                let is_good = is_loss_scale(*start) || *start == 0.0;
                if self.tell(is_good, |side| side.handle.set_scaler(&scaler)).is_some() {
                    let scale = if *start == 0.0 { 65536.0 } else { *start };
                    self.model.grad_scale = self.model.loss_scale();
                    self.model.scaler = Some(Scaler::new(adamw_loss_scaler { scale, ..scaler }));
                }
            }
            Call::RemoveScaler => {
                self.model.grad_scale = self.model.loss_scale();
                self.model.scaler = None;
                self.tell(true, |side| {
                    side.handle.remove_scaler();
                    Ok(())
                });
            }
            Call::SetScalerState { scale, good, bad } => {
                let state = adamw_loss_scaler_state {
                    struct_size: size_of::<adamw_loss_scaler_state>(),
                    scale: *scale,
                    good_steps: *good,
                    bad_steps: *bad,
                };
                let is_good = self.model.scaler.is_some() && is_loss_scale(*scale);
                if self.tell(is_good, |side| side.handle.set_scaler_state(&state)).is_some() {
                    let scaler = self.model.scaler.as_mut().unwrap();
                    (scaler.scale, scaler.good_steps, scaler.bad_steps) = (*scale, *good, *bad);
                }
            }
            Call::SetFlag(flag) => {
                self.plain.set_flag(*flag);
                self.twin.set_flag(*flag);
                self.model.flag = *flag;
                self.counts.calls += 1;
            }
            Call::SetRatio(which) => {
                type Kind = (adamw_lr_ratio, Option<fn(&str) -> Option<f64>>);
                let (callback, ratio): Kind = match which {
                    0 => (None, None),
                    1 => (Some(functions::tell_ratio), Some(functions::ratio)),
                    _ => (Some(functions::tell_no_ratio), Some(functions::no_ratio)),
                };
                self.tell(true, |side| {
                    side.handle.set_lr_ratio(callback, &());
                    Ok(())
                });
                (self.model.ratio, self.ratio) = (ratio, callback);
            }
            Call::SetFilter(filters) => {
                let filter: adamw_decay_filter = filters.then_some(functions::tell_decays);
                self.tell(true, |side| side.handle.set_decay_filter(filter, &()));
                self.model.filters = *filters;
                for param in &mut self.model.params {
                    param.decays = !filters || functions::decays(&param.name);
                }
            }
            Call::SetStatistics(statistics) => {
                self.tell(true, |side| side.handle.set_statistics((*statistics).into()));
                self.model.statistics = *statistics;
            }
            Call::SetWindow(window) => {
                self.tell(true, |side| {
                    side.handle.set_accumulation_window(*window);
                    Ok(())
                });
                self.model.window = *window;
            }
            _ => return false,
        }
        true
    }
}

/// What f32 can multiply by, and by the reciprocal of.
fn is_loss_scale(scale: f64) -> bool {
    (2f64.powi(-126)..=2f64.powi(126)).contains(&scale)
}
