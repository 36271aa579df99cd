//! Parameters: added with their state, moved, looked up.
#![forbid(unsafe_code)]

pub(in crate::optimizer) mod by_name;
pub(in crate::optimizer) mod masters;
pub(in crate::optimizer) mod names;
pub(in crate::optimizer) mod new_state;
pub(in crate::optimizer) mod occupied;
pub(in crate::optimizer) mod options;
pub(in crate::optimizer) mod slots;
pub(in crate::optimizer) mod state;
pub(in crate::optimizer) mod table;

use crate::callback::{DecayFilter, adamw_param_info};
use crate::config::{self, GroupConfig};
use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::{Error, Label};
use crate::math::Regularizer;
use crate::optimizer::params::by_name::Hash;
use crate::optimizer::params::masters::Master;
use crate::optimizer::params::occupied::Place;
use crate::optimizer::params::table::{NewEntry, ParamId};
use crate::optimizer::{Optimizer, label};
use crate::role::Role;
use crate::steps::Clock;
use crate::sys::memory::reserve;
use crate::tensor::{Operands, Tensor};
use std::ffi::{CStr, CString};

/// What a parameter is beside its memory.
pub struct Param {
    pub name: CString,
    pub group: u32,
    /// Times the learning rate of the group.
    pub lr_scale: f64,
    pub decays: bool,
    /// Skipped by every step.
    pub frozen: bool,
    /// Forgotten; the number is free.
    pub removed: bool,
    /// Left out of clipping by norm.
    pub no_clip: bool,
    pub regularizer: Regularizer<f64>,
    pub clock: Clock,
    pub master: Master,
    /// It has taken a step that others have yet to take.
    pub stepped_alone: bool,
}

/// Which part of a larger tensor a parameter is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Shard {
    /// Which element of the whole is its first.
    pub first_element: u64,
    /// Elements of the whole; 0: nobody said.
    pub whole: u64,
}

impl Param {
    pub fn label(&self) -> Label {
        label(&self.name)
    }

    /// Returns the name, which was UTF-8 when it came in.
    pub fn name(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }
}

/// A parameter to be added; state that the host does not give is the library's, and zero.
pub struct NewParam<'a> {
    pub name: &'a CStr,
    pub group: u32,
    pub param: Tensor,
    /// In the order of `Role::STATE`.
    pub state: [Option<Tensor>; Role::STATE.len()],
    pub shard: Shard,
    /// Steps that the host's state has taken.
    pub step: u64,
    /// Not to be clipped, nor part of a global norm.
    pub no_clip: bool,
    /// Whose gradient is added to the parameter's.
    pub regularizer: Regularizer<f64>,
    /// It is on a device, and the processor steps it: its state is the host's memory.
    pub offload: bool,
}

/// The most steps that a state may bring: its beta powers are multiplied up one step at a time.
pub(in crate::optimizer) const MAX_INITIAL_STEP: u64 = 1 << 32;

/// What is said of more, where betas are so near 1 that their powers would have to be multiplied for long.
pub(in crate::optimizer) const STEPS_OF_SLOW_BETAS: &str = "at most 2^25 with a beta whose power still falls then (adamw_set_state sets powers by themselves)";

impl Optimizer {
    /// Adds a parameter and returns its number.
    pub fn add_param(&mut self, new: NewParam) -> Result<u32, Error> {
        let had_device = self.has_device();
        let added = self.add(new);
        if added.is_err() && !had_device {
            self.backend.close_device();
        }
        added
    }

    fn add(&mut self, new: NewParam) -> Result<u32, Error> {
        let hash = self.check_name(new.name)?;
        let (number, n_params) = self.params.next()?;
        let group = self.group(new.group)?.current()?;
        let clock = self.check_new(&new, &group)?;
        let (stepped, mut on_device) = self.bring_to_device(&new)?;
        let operands = self.new_operands(&new, stepped, &mut on_device)?;
        let decays = decays(self.decay_filter, new.name)?;
        let master = match operands.state(Role::Master) {
            Some(_) if !operands.is_host_owned(Role::Master) => Master::Stale,
            Some(_) if new.step == 0 => Master::Unchecked,
            _ => Master::Settled,
        };
        let param = Param {
            name: copied(new.name)?,
            group: new.group,
            lr_scale: 1.0,
            decays,
            frozen: false,
            removed: false,
            no_clip: new.no_clip,
            regularizer: new.regularizer,
            clock,
            master,
            stepped_alone: false,
        };
        self.reserve_on_device(number, n_params, &operands, &param.clock)?;
        self.params.reserve()?;
        self.scratch.reserve(n_params, self.groups.len())?;
        self.scratch.tallies.reserve(n_params, new.param.n_elements())?;
        if let Err(error) = self.occupy(number, &new.param, &operands) {
            self.scratch.tallies.release(new.param.n_elements());
            return Err(error);
        }

        let id = self.params.put(NewEntry { hash, param, operands, shard: new.shard });
        self.keep_on_device(id, on_device);
        self.grads_unchecked = true;
        Ok(number)
    }

    /// Checks the numbers of a new parameter, and returns the clock of the steps that it has taken.
    fn check_new(&self, new: &NewParam, group: &GroupConfig) -> Result<Clock, Error> {
        let wrong = |expected| Error::Number { name: "step", value: new.step as f64, expected };
        if new.step > MAX_INITIAL_STEP {
            return Err(wrong("at most 2^32"));
        }
        let clock = Clock::after(new.step, group).ok_or_else(|| wrong(STEPS_OF_SLOW_BETAS))?;
        let name = label(new.name);
        check_regularizer(new.regularizer, name, new.param.dtype())?;
        group.check_for(name, new.param.dtype())?;
        new.shard.check(name, new.param.n_elements())?;
        Ok(clock)
    }

    /// Has the memory of a parameter that is about to be there count as what a step writes, and makes
    /// room for what it changes: both or neither.
    fn occupy(&mut self, number: u32, param: &Tensor, operands: &Operands) -> Result<(), Error> {
        if self.statistics {
            self.reserve_statistics(number as usize, operands)?;
        }
        let occupied = &mut self.params.occupied;
        let inserted = places(number, param, operands).try_for_each(|place| occupied.insert(place));
        inserted.inspect_err(|_| self.vacate(number, param, operands))
    }

    /// Has the memory of a parameter count as what a step writes no more.
    pub(in crate::optimizer) fn vacate(
        &mut self,
        number: u32,
        param: &Tensor,
        operands: &Operands,
    ) {
        for place in places(number, param, operands) {
            self.params.occupied.remove(&place.addresses());
        }
        self.scratch.changes.release(number as usize);
    }

    /// Replaces host buffers that the host has moved, all of them or none.
    pub fn rebind(&mut self, moves: &[(u32, Role, Tensor)]) -> Result<(), Error> {
        let (mut old, mut places) = (Vec::new(), Vec::new());
        reserve(&mut old, moves.len(), "the moved buffers")?;
        reserve(&mut places, moves.len(), "the moved buffers")?;
        for &(param, role, tensor) in moves {
            let id = self.params.id(param)?;
            let there = (role == Role::Param).then(|| self.param_of_host(id));
            let (name, operands) = (self.params.label(id), self.params.operands(id));
            if role != Role::Param && !operands.is_host_owned(role) {
                return Err(Error::NotTheHosts { param: name, buffer: role });
            }
            let before = there.or(operands.tensor(role));
            // Of a parameter on a device that the processor steps, a copy is stepped, which stays.
            let stepped_on = operands.param().device();
            let home = before.map_or(stepped_on, |tensor| tensor.device());
            let is_at_home = tensor.device() == home;
            let as_stepped = tensor.as_if_on(if is_at_home { stepped_on } else { home });
            let tensor_here = if home == stepped_on { tensor } else { as_stepped };
            operands.fits(role, &tensor_here).map_err(|problem| problem.of(name, role))?;
            if let Device::Cuda(device) = tensor.device() {
                self.reaches(name, role, device, &tensor.addresses())?;
            }
            old.push(before.map_or(0..0, |tensor| tensor.addresses()));
            places.push(Place::new(tensor.addresses(), param, role));
        }
        places.sort_unstable_by_key(Place::key);
        if let Some(pair) = places.windows(2).find(|pair| pair[0].key() == pair[1].key()) {
            let param = self.params.label(self.params.id(pair[0].param)?);
            return Err(Error::MovedTwice { param, buffer: pair[0].role });
        }
        let relocated = self.params.occupied.relocate(&old, &places)?;
        relocated.map_err(|(a, b)| self.params.overlap(&a, &b))?;
        for &(param, role, tensor) in moves {
            let id = self.params.id(param)?;
            match role {
                Role::Param => self.move_param(id, tensor),
                _ => self.params.revise_operands(id).set_host_state(role, &tensor),
            }
        }
        self.grads_unchecked = true;
        Ok(())
    }

    /// Returns a parameter as callbacks see it.
    pub(in crate::optimizer) fn param_info(&self, id: ParamId) -> adamw_param_info {
        let (param, tensor) = (&self.params[id], self.params.operands(id).param());
        adamw_param_info {
            struct_size: size_of::<adamw_param_info>(),
            name: param.name.as_ptr(),
            n_elements: tensor.n_elements(),
            step: param.clock.step,
            param: id.number(),
            group: param.group,
            dtype: tensor.dtype() as u32,
            decays: param.decays as u32,
        }
    }

    /// Returns the name of a parameter, for an error.
    pub fn label(&self, number: u32) -> Result<Label, Error> {
        self.params.id(number).map(|id| self.params.label(id))
    }

    /// Checks that a new parameter can have this name, and returns the hash of the name.
    fn check_name(&self, name: &CStr) -> Result<Hash, Error> {
        if name.is_empty() {
            return Err(Error::NameEmpty);
        }
        if name.to_str().is_err() {
            return Err(Error::NameNotUtf8(label(name)));
        }
        match self.params.named(name.to_bytes()) {
            Ok(_) => Err(Error::NameTaken(label(name))),
            Err(hash) => Ok(hash),
        }
    }
}

impl Shard {
    /// That a parameter of so many elements lies inside the whole.
    pub fn check(&self, param: Label, n_elements: u64) -> Result<(), Error> {
        let Shard { first_element, whole } = *self;
        let end = first_element.checked_add(n_elements);
        if end.is_some_and(|end| whole == 0 || end <= whole) {
            return Ok(());
        }
        Err(Error::Shard { param, first_element, n_elements, whole })
    }
}

/// Whether a parameter decays: all do, unless the filter says no.
pub fn decays(filter: Option<DecayFilter>, name: &CStr) -> Result<bool, Error> {
    filter.map_or(Ok(true), |filter| filter.decays(name))
}

pub fn check_regularizer(
    regularizer: Regularizer<f64>,
    param: Label,
    dtype: Dtype,
) -> Result<(), Error> {
    let (Regularizer::L1(value) | Regularizer::L2(value)) = regularizer else { return Ok(()) };
    let (name, expected) = ("regularizer_coeff", "a finite number");
    config::check(name, value, value.is_finite(), expected)?;
    config::fits(name, value, true, param, dtype)
}

/// What a step writes of a parameter; of one that the processor steps for a device, `param` is there.
fn places<'a>(
    number: u32,
    param: &'a Tensor,
    operands: &'a Operands,
) -> impl Iterator<Item = Place> + 'a {
    let roles = operands.format().roles();
    let state = roles.filter_map(|role| Some((role, operands.tensor(role)?)));
    let buffers = [(Role::Param, *param)].into_iter().chain(state);
    buffers.map(move |(role, tensor)| Place::new(tensor.addresses(), number, role))
}

/// A copy of a name, in memory that is allowed to be lacking.
fn copied(name: &CStr) -> Result<CString, Error> {
    let mut bytes = Vec::new();
    let length = name.count_bytes() + 1;
    // Exactly, so that the `CString` has nothing to shrink: that would allocate.
    bytes
        .try_reserve_exact(length)
        .map_err(|_| Error::OutOfMemory { what: "the parameter's name", bytes: length })?;
    bytes.extend_from_slice(name.to_bytes_with_nul());
    // A `CStr` has one NUL, at its end.
    CString::from_vec_with_nul(bytes).map_err(|_| Error::NameEmpty)
}
