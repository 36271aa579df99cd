//! Calls that change which parameters there are, and their state.

use crate::call::{Aside, Call};
use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::handle::Param;
use crate::common::model::param::Format;
use crate::common::model::{self, Saved};
use crate::common::random::Random;
use crate::functions;
use crate::given::Given;
use crate::grads::row_of;
use crate::more::More;
use crate::world::World;
use crate::written::Written;
use adamw::ffi::*;

/// A checkpoint of the plain handle, and whether the handles are still as they were.
pub struct Checkpoint {
    bytes: Vec<u8>,
    saved: Saved,
    is_same: bool,
    has_same_schedule: bool,
}

impl World {
    pub fn change_state(&mut self, call: &Call) -> bool {
        match call {
            Call::AddParam { dtype, n, group, place, seed, given } => {
                let dtype = Dtype::ALL[*dtype as usize % 4];
                let array = Array::ordinary(dtype, (*n).into(), &mut Random::new(*seed));
                self.add(array, *group, *place, given);
            }
            Call::Remove(param) => {
                let (number, is_there) = self.param(*param);
                if self.captured.contains(&number) {
                    return true; // the twin would not give its number again
                }
                match is_there {
                    true => self.remove(number),
                    false => drop(self.tell(false, |side| side.remove(number))),
                }
            }
            Call::Reset(param) => {
                let (number, is_there) = self.param(*param);
                if is_there {
                    self.flush();
                    self.tell(true, |side| {
                        side.handle.reset(number);
                        Ok(())
                    });
                    self.model.params[number as usize].reset();
                }
            }
            Call::Write { param, seed } => {
                let (number, is_there) = self.param(*param);
                if is_there {
                    self.flush(); // rows that lag are not the host's to write
                    let param = &mut self.model.params[number as usize];
                    let values =
                        Array::ordinary(param.dtype, param.param.len(), &mut Random::new(*seed));
                    param.write(values.values());
                    self.tell(true, |side| side.write(number, &values));
                }
            }
            Call::SyncMaster(param) => {
                let (number, is_there) = self.param(*param);
                if is_there {
                    self.tell(true, |side| {
                        side.handle.sync_master(number);
                        Ok(())
                    });
                    let param = &mut self.model.params[number as usize];
                    param.write(param.param.clone());
                }
            }
            Call::SetState { param, part, seed } => self.set_state(*param, *part, *seed),
            Call::SetSteps { params, steps } => self.set_steps(params.as_deref(), steps),
            Call::Save => self.save(),
            Call::Load { params, keep, scale } => {
                if *scale > 0.0 && self.saved.is_some() {
                    self.scale_otherwise(*scale);
                }
                self.load(*params, *keep);
                if *scale > 0.0 {
                    self.compare_handles(); // before the next step sets the scale there
                }
            }
            _ => return false,
        }
        true
    }

    pub fn remove(&mut self, number: u32) {
        self.tell(true, |side| side.remove(number));
        let param = &mut self.model.params[number as usize];
        (param.removed, param.grad) = (true, None);
    }

    /// One of many parameters, of a few elements.
    pub fn add_small(&mut self, seed: u64) {
        let random = &mut Random::new(seed);
        let n = random.below(5) as usize;
        let array = Array::ordinary(random.one_of(&Dtype::ALL), n, random);
        self.add(array, u8::MAX, seed as u8, &Given::draw(random));
    }

    pub fn add(&mut self, array: Array, group: u8, place: u8, given: &Given) {
        let (group, has_group) = self.group(group);
        let dtype = array.dtype();
        let params = &self.model.params;
        let free = params.iter().position(|param| param.removed).unwrap_or(params.len());
        let name = match given.is_unnamed {
            true => free.to_string(),
            false => format!("w{}", self.n_named),
        };
        self.n_named += 1;
        if self.saved.as_ref().is_some_and(|of| of.saved.params.iter().any(|p| p.name == name)) {
            self.saved = None; // which has another of this name
        }
        let layout = given.layout(array.len(), row_of(free as u32));
        let is_taken = params.iter().any(|param| !param.removed && param.name == name);
        let current = match has_group {
            true => self.model.current(&self.model.groups[group as usize]),
            false => None,
        };
        let values = current.unwrap_or(self.model.groups[0]);
        let amsgrad = values.amsgrad == 1;
        let of_bf16 = [ADAMW_PRECISION_SPLIT, ADAMW_PRECISION_STOCHASTIC];
        let is_refused = dtype == Dtype::F16 && of_bf16.contains(&values.precision)
            || dtype != Dtype::F64 && values.moments == ADAMW_MOMENTS_4BIT && amsgrad;
        let (shard, has_room) = given.shard(array.len());
        let format = Format {
            amsgrad,
            multi_precision: self.model.config.multi_precision == 1,
            precision: values.precision,
            moments: values.moments,
            shard,
        };
        let options = functions::no_options();
        let mut model = model::Param::new(name.clone(), dtype, array.values(), options, format);
        model.layout = layout;
        model.decays = !self.model.filters || functions::decays(&name);
        model.set_step(given.steps(), &values);
        let (state, fits) = given.state(&mut model);
        let fits = fits && (!has_room || model.format.is_whole_blocks(array.len() as u64));
        let param = Param {
            group,
            is_unnamed: given.is_unnamed,
            step: given.steps(),
            first_element: shard.first,
            whole_elements: shard.whole,
            ..Param::new(&name, &array)
        };
        let is_good = current.is_some() && has_room && fits && !is_refused && !is_taken;
        let Some(number) = self.tell(is_good, |side| side.add(&param, layout, place, &state))
        else {
            return;
        };
        let number = number as usize;
        model.options = self.plain.handle.options(number as u32);
        let params = &mut self.model.params;
        match params.get_mut(number) {
            Some(removed) => {
                assert!(number == free, "not the lowest number that is free");
                *removed = model;
            }
            None => params.push(model),
        }
    }

    pub fn set_state(&mut self, param: u8, part: u8, seed: u64) {
        let (number, is_there) = self.param(param);
        if !is_there {
            return;
        }
        let (i, random) = (number as usize, &mut Random::new(seed));
        let group = self.model.groups[self.model.params[i].options.group as usize];
        let group = self.model.current(&group);
        let param = &mut self.model.params[i];
        let dtype = match param.format.moments {
            ADAMW_MOMENTS_BF16 => Dtype::Bf16,
            _ => param.dtype.compute(),
        };
        let name = |part: &str| format!("state.{}.{part}", param.name);
        let part = if param.is_coded() { 0 } else { part % 3 };
        let (name, values) = match part {
            0 => (name("step"), Array::of(Dtype::F64, &[random.below(9) as f64])),
            1 => (name("exp_avg"), Array::ordinary(dtype, param.param.len(), random)),
            _ => {
                let values = Array::ordinary(dtype, param.param.len(), random);
                (0..values.len()).for_each(|i| values.set(i, values.get(i).abs()));
                (name("exp_avg_sq"), values)
            }
        };
        let is_good = part > 0 || group.is_some();
        let is_set = self.tell(is_good, |side| side.handle.set_state(&name, &values)).is_some();
        let param = &mut self.model.params[i];
        match part {
            _ if !is_set => {}
            0 => param.set_step(values.get(0) as u64, &group.unwrap()),
            1 => param.exp_avg = values.values(),
            _ => param.exp_avg_sq = values.values(),
        }
    }

    fn set_steps(&mut self, params: Option<&[u8]>, steps: &[u64]) {
        let named: Option<Vec<u32>> =
            params.map(|bytes| bytes.iter().map(|byte| self.param(*byte).0).collect());
        let numbers: Vec<u32> = named.clone().unwrap_or((0..steps.len() as u32).collect());
        let group = |number: &u32| {
            let param = self.model.params.get(*number as usize).filter(|param| !param.removed)?;
            self.model.current(&self.model.groups[param.options.group as usize])
        };
        let groups: Option<Vec<adamw_group_config>> = numbers.iter().map(group).collect();
        let is_good = groups.is_some() && steps.iter().all(|step| *step <= 1 << 32);
        if self.tell(is_good, |side| side.handle.set_steps(named.as_deref(), steps)).is_none() {
            return;
        }
        for ((number, step), group) in numbers.iter().zip(steps).zip(groups.unwrap()) {
            self.model.params[*number as usize].set_step(*step, &group);
        }
    }

    pub fn save(&mut self) {
        let is_good = self.model.can_save();
        let written = self.tell(is_good, |side| side.handle.try_saved(true).map(Written));
        let Some(Written(bytes)) = written else { return };
        let saved = self.model.save();
        self.saved = Some(Checkpoint { bytes, saved, is_same: true, has_same_schedule: true });
    }

    /// Sets another loss scale, which the device has when the next call is made.
    fn scale_otherwise(&mut self, scale: f64) {
        if self.twin.scale.is_none() {
            self.make(&Call::Aside(Aside::TellScale(true)));
        }
        self.make(&match self.model.scaler {
            Some(_) => Call::SetScalerState { scale, good: 0, bad: 0 },
            None => Call::SetGradScale(scale),
        });
    }

    /// What was saved is loaded again, into the same handles: all of it, or what both have if they are not
    /// as they were.
    pub fn load(&mut self, params: bool, keep: bool) {
        let Some(Checkpoint { bytes, saved, is_same, has_same_schedule }) = &self.saved else {
            return;
        };
        let is_same = *is_same && (keep || *has_same_schedule);
        let (bytes, saved) = (bytes.clone(), saved.clone());
        let is_in = |param: &model::Param| {
            saved.params.iter().any(|of| !of.removed && of.name == param.name)
        };
        if !self.model.live().any(|i| is_in(&self.model.params[i])) {
            return;
        }
        self.counts.reloads += 1;
        let options = adamw_load_options {
            params: params.into(),
            keep_schedule: keep.into(),
            scope: if is_same { ADAMW_LOAD_ALL } else { ADAMW_LOAD_SHARED },
            ..load_options()
        };
        if self.tell(true, |side| side.handle.load_bytes(&bytes, &options)).is_none() {
            return;
        }
        match is_same {
            true => self.model.load(&saved, keep),
            false => self.model.load_shared(&saved),
        }
        let loaded: Vec<u32> = self.model.live().map(|i| i as u32).collect();
        for number in loaded {
            let param = &self.model.params[number as usize];
            if !params && is_in(param) {
                // The host loads the parameters themselves.
                let values = Array::of(param.dtype, &param.param);
                self.twin.put_back(number, &values);
                self.plain.put_back(number, &values);
            }
        }
    }

    /// Whether what was saved is still of the same handle.
    pub fn keep_checkpoint(&mut self, call: &Call) {
        let changes = matches!(
            call,
            Call::AddGroup(_)
                | Call::SetGroup(..)
                | Call::AddParam { .. }
                | Call::Remove(_)
                | Call::Options { .. }
                | Call::SetScaler { .. }
                | Call::RemoveScaler
                | Call::SetFilter(_)
        );
        if let Some(checkpoint) = &mut self.saved {
            checkpoint.is_same &= !changes;
            checkpoint.has_same_schedule &= !matches!(call, Call::SetSchedule(_));
        }
    }
}
