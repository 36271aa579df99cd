//! Numbers that the twin reads in the device's memory: what the host says, or what skips a step.

use crate::common::array::{Array, Dtype};
use crate::common::device::OnDevice;
use crate::common::inputs::{Input, UNUSABLE};
use crate::common::model::Verdict;
use crate::side::Side;
use crate::world::World;
use core::ptr::null_mut;

/// The learning rate, the loss scale and the flag, where the handle reads them.
#[derive(Default)]
pub struct There([Option<OnDevice>; 3]);

impl There {
    pub fn reads(&self, input: Input) -> bool {
        self.0[input as usize].is_some()
    }

    pub fn reads_none(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    fn set(&self, input: Input, value: f32) {
        if let Some(at) = &self.0[input as usize] {
            at.set(&number(value));
        }
    }
}

fn number(value: f32) -> Array {
    Array::of(Dtype::F32, &[value.into()])
}

/// What skips the step that reads it.
fn skips(which: u8) -> (Input, f32) {
    let raised = [1.0, f32::NAN, -0.5].map(|flag| (Input::FoundInf, flag));
    let (which, all) = (which as usize, UNUSABLE.len() + raised.len());
    *UNUSABLE.iter().chain(&raised).nth(which % all).unwrap()
}

impl Side {
    /// The handle reads these in the device's memory from now on, and no others.
    pub fn read_there(&mut self, reads: [bool; 3]) {
        let is_read = self.there.0.each_ref().map(Option::is_some);
        let has_device = self.live().iter().any(|number| self.is_on_device(*number));
        if reads == is_read || !has_device && is_read == [false; 3] {
            return;
        }
        let there = reads.map(|reads| reads.then(|| OnDevice::of(&number(1.0), 0)));
        let addresses = there.each_ref().map(|at| at.as_ref().map_or(0, OnDevice::address));
        self.handle.set_device_inputs(addresses).unwrap();
        self.wait(); // before what it read is freed
        self.there = There(there);
    }

    pub fn read_lr_there(&mut self, reads: bool) {
        let [_, grad_scale, found_inf] = self.there.0.each_ref().map(Option::is_some);
        self.read_there([reads, grad_scale, found_inf]);
    }

    /// The device writes the loss scale to other memory from now on, or no more.
    pub fn tell_scale(&mut self, tells: bool) {
        let has_device = self.live().iter().any(|number| self.is_on_device(*number));
        if !has_device && (tells || self.scale.is_none()) {
            return;
        }
        let scale = tells.then(|| OnDevice::of(&number(-1.0), 0));
        self.handle.set_device_scale(scale.as_ref().map_or(0, OnDevice::address)).unwrap();
        self.wait(); // before what it wrote is freed
        self.scale = scale;
    }

    pub fn reads_lr_there(&self) -> bool {
        self.there.reads(Input::Lr)
    }
}

impl World {
    /// Writes what the host says where the twin reads it, which it does no more where f32 does not have it, or
    /// the scale is a scaler's.
    pub fn write_inputs(&mut self) {
        let (lr, scale) = (self.model.lr(), self.model.loss_scale());
        let is_f32 = |value: f64| f64::from(value as f32) == value;
        let is_lr = self.model.schedule.is_none() && lr >= 0.0 && is_f32(lr);
        let [reads_lr, reads_scale, reads_flag] = self.twin.there.0.each_ref().map(Option::is_some);
        let is_scale = self.model.scaler.is_none() && is_f32(scale);
        self.twin.read_there([reads_lr && is_lr, reads_scale && is_scale, reads_flag]);
        self.twin.wait();
        let values = [(Input::Lr, lr), (Input::GradScale, scale), (Input::FoundInf, 0.0)];
        for (input, value) in values {
            self.twin.there.set(input, value as f32);
        }
    }

    /// A step that reads a number for which it is skipped, or a launch of the graph that does.
    pub fn spoil(&mut self, which: u8, replays: bool) {
        let (input, value) = skips(which);
        if self.model.flag.is_some() {
            return; // which the host would be told of
        }
        self.write_inputs();
        if !self.twin.there.reads(input) {
            return;
        }
        self.raise(Some(1.0));
        match replays {
            true => {
                self.twin.there.set(input, value);
                self.launch_again();
            }
            false => self.spoiled_step(input, value),
        }
        self.raise(None);
        self.write_inputs();
    }

    fn spoiled_step(&mut self, input: Input, value: f32) {
        self.before_a_step();
        let is_there = |i: &usize| self.twin.is_on_device(*i as u32);
        if !self.model.live().filter(is_there).any(|i| self.model.params[i].is_stepped()) {
            return;
        }
        let mut after = self.model.clone();
        let verdict = after.step();
        self.twin.there.set(input, value);
        let answer = self.twin.handle.try_step();
        self.twin.wait();
        self.counts.calls += 1;
        let Err(failure) = answer else {
            assert_eq!(verdict, Verdict::Skipped);
            self.assert_skipped(input);
            self.plain.handle.step();
            self.model = after;
            self.count(verdict);
            self.is_replayed = input == Input::GradScale; // whose norm is none
            return;
        };
        let is_lr = input == Input::Lr && failure.text.starts_with("lr ");
        let is_known = verdict == Verdict::Refused || is_lr || self.is_limit(&failure);
        assert!(is_known, "{input:?} {value:e}: {failure:?}");
        self.counts.failed += 1;
    }

    fn assert_skipped(&self, input: Input) {
        let info = self.twin.handle.step_info();
        let is_invalid = u32::from(input != Input::FoundInf);
        assert_eq!((info.skipped, info.invalid_inputs), (1, is_invalid), "{input:?}");
    }

    /// Has the processor's handle skip a step, or no more.
    fn raise(&mut self, flag: Option<f32>) {
        let flags = &self.plain.flags[0];
        flags.set(flag.unwrap_or(0.0));
        let at = if flag.is_some() { flags.as_ptr() } else { null_mut() };
        self.plain.handle.set_found_inf(at, null_mut());
        self.model.flag = flag;
    }
}
