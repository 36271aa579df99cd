//! Parameters: what is kept of each, and how one is added and moved.
//!
//! `add_param` checks the name and the numbers of a new parameter, has the device make what it
//! needs (`device/params.rs`), makes the memory of the state (`new_state.rs`), makes room in every
//! table, and marks the memory as written by steps (`occupied.rs`). All of that may fail;
//! `Params::put` and `keep_on_device`, which come last, cannot. `moved.rs` follows buffers that the
//! host moves, and parks parameters of which it takes the memory back.
//!
//! `table.rs` holds all parameters, by number (`id.rs`, `slots.rs`) and by name (`by_name.rs`),
//! with the steps that each has taken (`clocks.rs`). `state.rs` reads and writes state by name
//! (`names.rs`), `options.rs` changes what was chosen about a parameter, and `masters.rs` fills and
//! checks masters.
#![forbid(unsafe_code)]

pub(in crate::optimizer) mod by_name;
pub(in crate::optimizer) mod clocks;
pub(in crate::optimizer) mod id;
pub(in crate::optimizer) mod masters;
pub(in crate::optimizer) mod moved;
pub(in crate::optimizer) mod names;
pub(in crate::optimizer) mod new_state;
pub(in crate::optimizer) mod occupied;
pub(in crate::optimizer) mod options;
pub(in crate::optimizer) mod slots;
pub(in crate::optimizer) mod state;
pub(in crate::optimizer) mod table;

use crate::callback::{DecayFilter, adamw_param_info};
use crate::clip::NormScope;
use crate::config::{self, GroupConfig};
use crate::dtype::Dtype;
use crate::error::{Error, Label, RanksProblem};
use crate::format::MomentFormat;
use crate::math::Regularizer;
use crate::optimizer::params::by_name::Hash;
use crate::optimizer::params::masters::Master;
use crate::optimizer::params::occupied::Place;
use crate::optimizer::params::table::{NewEntry, ParamId};
use crate::optimizer::{Optimizer, label};
use crate::role::Role;
use crate::steps::Clock;
use crate::tensor::{Operands, Tensor};
use std::ffi::{CStr, CString};

/// What is kept of a parameter, beside its memory.
pub struct Param {
    pub name: CString,
    pub group: u32,
    /// A factor of the group's learning rate.
    pub lr_scale: f64,
    pub decays: bool,
    /// Every step skips the parameter.
    pub frozen: bool,
    /// The parameter was removed; its place is empty.
    pub removed: bool,
    /// The gradient is not clipped, and not part of a global norm.
    pub no_clip: bool,
    pub regularizer: Regularizer<f64>,
    pub master: Master,
    /// `step_param` has stepped the parameter since the last step of all.
    pub stepped_alone: bool,
}

/// The part of a larger tensor that a parameter is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Shard {
    /// The element of the whole that is the first of the parameter.
    pub first_element: u64,
    /// The number of elements of the whole; 0 if the host has not given it.
    pub whole: u64,
}

impl Param {
    pub fn label(&self) -> Label {
        label(&self.name)
    }

    /// Returns the name, which `check_name` has found to be UTF-8.
    pub fn name(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }

    /// Returns the number of the sum to which the squares of its gradient are added.
    pub fn sum_of_norm(&self, scope: NormScope) -> usize {
        match scope {
            NormScope::Group => self.group as usize,
            NormScope::Handle => 0,
        }
    }
}

/// A parameter to be added. State that the host does not give is the library's, and zero.
pub struct NewParam<'a> {
    pub name: &'a CStr,
    pub group: u32,
    pub param: Tensor,
    /// The number of elements of a row, if the host has given a shape that has rows; otherwise 0.
    pub row_elements: u64,
    /// The host's buffers, in the order of `Role::STATE`.
    pub state: [Option<Tensor>; Role::STATE.len()],
    pub shard: Shard,
    /// The number of steps that the host's state has taken.
    pub step: u64,
    /// The gradient is not clipped, and not part of a global norm.
    pub no_clip: bool,
    /// The regularizer whose gradient is added to the parameter's.
    pub regularizer: Regularizer<f64>,
    /// The parameter is on a device, and the processor steps it: its state is in the host's memory.
    pub offload: bool,
}

/// The most steps that a state may have taken: its beta powers are multiplied up one step at a
/// time.
pub(in crate::optimizer) const MAX_INITIAL_STEP: u64 = 1 << 32;

/// What an error expects of the steps, where betas are so near 1 that their powers would have to be
/// multiplied for long.
pub(in crate::optimizer) const STEPS_OF_SLOW_BETAS: &str = "at most 2^25 with a beta whose power \
     still falls then (adamw_set_state sets powers by themselves)";

impl Optimizer {
    /// Adds a parameter and returns its number.
    pub fn add_param(&mut self, new: NewParam) -> Result<u32, Error> {
        let had_device = self.has_device();
        let added = self.add(new);
        if added.is_err() {
            self.leave_device(had_device);
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
            master,
            stepped_alone: false,
        };
        self.params.reserve()?;
        self.reserve_for_ranks(n_params, param.label(), &operands)?;
        self.scratch.reserve(n_params, self.groups.len())?;
        self.scratch.tallies.reserve(n_params, new.param.n_elements())?;
        let occupied = self.occupy(number, &new.param, &operands).and_then(|()| {
            let reserved = self.reserve_on_device(number, n_params, &operands, &clock);
            reserved.inspect_err(|_| self.vacate(number, &new.param, &operands))
        });
        if let Err(error) = occupied {
            self.scratch.tallies.release(new.param.n_elements());
            return Err(error);
        }

        let NewParam { shard, row_elements, .. } = new;
        let id = self.params.put(NewEntry { hash, param, operands, clock, shard, row_elements });
        self.keep_on_device(id, on_device);
        self.grads_unchecked = true;
        Ok(number)
    }

    /// Checks the numbers of a new parameter, and returns the clock of the steps that it has taken.
    fn check_new(&self, new: &NewParam, group: &GroupConfig) -> Result<Clock, Error> {
        let clock = clock_after(new.step, group)?;
        let name = label(new.name);
        check_regularizer(new.regularizer, name, new.param.dtype())?;
        group.check_for(name, new.param.dtype())?;
        new.shard.check(name, new.param.n_elements())?;
        Ok(clock)
    }

    /// Marks the memory of a new parameter as written by steps, and makes room for the statistics
    /// of what they change: both or neither.
    fn occupy(&mut self, number: u32, param: &Tensor, operands: &Operands) -> Result<(), Error> {
        if self.statistics {
            self.reserve_statistics(number as usize, operands)?;
        }
        let occupied = &mut self.params.occupied;
        let inserted = places(number, param, operands).try_for_each(|place| occupied.insert(place));
        inserted.inspect_err(|_| self.vacate(number, param, operands))
    }

    /// Unmarks the memory of a parameter as written by steps, and gives the room of its statistics
    /// back.
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

    /// Returns what callbacks are told about a parameter.
    pub(in crate::optimizer) fn param_info(&self, id: ParamId) -> adamw_param_info {
        let (param, tensor) = (&self.params[id], self.params.operands(id).param());
        adamw_param_info {
            struct_size: size_of::<adamw_param_info>(),
            name: param.name.as_ptr(),
            n_elements: tensor.n_elements(),
            step: self.params.clock(id).step,
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
    /// Checks that a parameter of so many elements lies inside the whole.
    pub fn check(&self, param: Label, n_elements: u64) -> Result<(), Error> {
        let Shard { first_element, whole } = *self;
        let end = first_element.checked_add(n_elements);
        if end.is_some_and(|end| whole == 0 || end <= whole) {
            return Ok(());
        }
        Err(Error::Shard { param, first_element, n_elements, whole })
    }

    /// Checks that a parameter of so many elements, which lies inside the whole, cuts no block of
    /// elements that share a scale.
    pub fn check_blocks(
        &self,
        param: Label,
        n_elements: u64,
        moments: MomentFormat,
    ) -> Result<(), Error> {
        let Some(block) = moments.block().filter(|_| n_elements > 0) else { return Ok(()) };
        let Shard { first_element, whole } = *self;
        let end = first_element + n_elements;
        if !first_element.is_multiple_of(block) {
            let (edge, at) = ("begins", first_element);
            return Err(Error::Ranks(RanksProblem::CutBlock { param, edge, at, block }));
        }
        if whole != 0 && end != whole && !end.is_multiple_of(block) {
            let (edge, at) = ("ends", end);
            return Err(Error::Ranks(RanksProblem::CutBlock { param, edge, at, block }));
        }
        Ok(())
    }
}

/// Returns the clock of a parameter of a group that has taken so many steps.
pub fn clock_after(step: u64, group: &GroupConfig) -> Result<Clock, Error> {
    let wrong = |expected| Error::Number { name: "step", value: step as f64, expected };
    if step > MAX_INITIAL_STEP {
        return Err(wrong("at most 2^32"));
    }
    Clock::after(step, group).ok_or_else(|| wrong(STEPS_OF_SLOW_BETAS))
}

/// Returns whether a parameter decays: all do, unless the filter says no.
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

/// Returns the buffers of a parameter that a step writes. `param` is where the host has the
/// parameter: if it is offloaded, not the copy that is stepped.
fn places<'a>(
    number: u32,
    param: &'a Tensor,
    operands: &'a Operands,
) -> impl Iterator<Item = Place> + 'a {
    let roles = operands.format().roles();
    let state = roles.filter_map(|role| Some((role, operands.tensor(role)?)));
    let buffers = [(Role::Param, *param)].into_iter().chain(state);
    let there = buffers.filter(|(role, _)| !operands.lacks(*role));
    there.map(move |(role, tensor)| Place::new(tensor.addresses(), number, role))
}

/// Returns a copy of a name, or an error if there is no memory for it.
fn copied(name: &CStr) -> Result<CString, Error> {
    let mut bytes = Vec::new();
    let length = name.count_bytes() + 1;
    // Exactly as much, because `CString` would shrink more than that, which allocates.
    bytes
        .try_reserve_exact(length)
        .map_err(|_| Error::OutOfMemory { what: "the parameter's name", bytes: length })?;
    bytes.extend_from_slice(name.to_bytes_with_nul());
    // A `CStr` has one NUL, at its end.
    CString::from_vec_with_nul(bytes).map_err(|_| Error::NameEmpty)
}
