//! Numbers that the host keeps, and the handles read: `lr_ptr` and the like.

use crate::call::Call;
use crate::world::World;
use adamw::ffi::*;
use core::cell::Cell;

/// The learning rate, beta1, beta2, weight_decay and lr_scale.
#[derive(Default)]
pub struct Numbers([Cell<f32>; 5]);

impl Numbers {
    pub fn new(lr: f64, group: &adamw_group_config) -> Numbers {
        let adamw_group_config { beta1, beta2, weight_decay, lr_scale, .. } = *group;
        Numbers([lr, beta1, beta2, weight_decay, lr_scale].map(|n| Cell::new(n as f32)))
    }

    pub fn values(&self) -> [f64; 5] {
        self.0.each_ref().map(|number| number.get().into())
    }

    pub fn lr(&self, is_read: bool) -> *const f32 {
        if is_read { self.0[0].as_ptr() } else { core::ptr::null() }
    }

    /// Has a group read those of its numbers whose bits are set.
    pub fn put(&self, group: &mut adamw_group_config, which: u8) {
        let pointer = |bit: usize| match which >> bit & 1 {
            0 => core::ptr::null(),
            _ => self.0[bit + 1].as_ptr().cast_const(),
        };
        group.beta1_ptr = pointer(0);
        group.beta2_ptr = pointer(1);
        group.weight_decay_ptr = pointer(2);
        group.lr_scale_ptr = pointer(3);
    }
}

impl World {
    pub fn write_number(&mut self, call: &Call) -> bool {
        let Call::HostNumber { which, value } = call else { return false };
        self.numbers.0[*which as usize].set(*value);
        self.model.hosts = self.numbers.values();
        self.counts.calls += 1;
        true
    }
}
