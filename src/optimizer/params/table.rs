//! The table of parameters: all that is kept for each of them, by number.
//!
//! The host gives a number; `Params::id` checks that a parameter has it and returns a `ParamId`, by
//! which everything else is asked for. What a step passes over lies apart from what it does not, so
//! there is one `Vec` for each; they have one length. `reserve` makes room in all of them, `put`
//! fills it, and `free` empties the place of a parameter that is removed.
//!
//! A step works out which parameters are stepped with what, and relies on it while `revision` is
//! what it was. A change of that goes through `revise`, which counts it; a step, which writes only
//! what it has worked out, goes through `parts`.
#![forbid(unsafe_code)]

use super::by_name::{ByName, Hash};
use super::clocks::Clocks;
pub use super::id::ParamId;
use super::occupied::{Occupied, Place};
use super::slots::{Slots, put};
use super::{Param, Shard};
use crate::dtype::Dtype;
use crate::error::{Error, Label};
use crate::optimizer::next_number;
use crate::steps::{Clock, Log};
use crate::sys::memory::{give_back, reserve};
use crate::tensor::Operands;
use core::ops::{Index, Range};

#[derive(Default)]
pub struct Params {
    params: Vec<Param>,
    operands: Vec<Operands>,
    pub clocks: Clocks,
    /// The steps that rows have yet to take.
    logs: Vec<Log>,
    /// The part of a larger tensor that each is, and the number of elements of a row; 0 if the host
    /// has not given it.
    shapes: Vec<(Shard, u64)>,
    slots: Slots,
    by_name: ByName,
    pub occupied: Occupied,
    /// By group, how many parameters it has of each type of `Dtype::FLOATS`.
    members: Vec<[u32; Dtype::FLOATS.len()]>,
    revision: u64,
    grad_moves: u64,
}

/// What can be written of the parameters, by place.
pub struct Parts<'a> {
    pub params: &'a mut [Param],
    pub operands: &'a mut [Operands],
    pub clocks: &'a mut Clocks,
    pub logs: &'a mut [Log],
}

/// A parameter to be put in the table.
pub struct NewEntry {
    pub hash: Hash,
    pub param: Param,
    pub operands: Operands,
    pub clock: Clock,
    pub shard: Shard,
    pub row_elements: u64,
}

impl Index<ParamId> for Params {
    type Output = Param;

    fn index(&self, id: ParamId) -> &Param {
        &self.params[id.place()]
    }
}

impl Params {
    /// Returns one more than the highest number of a parameter.
    pub fn len(&self) -> usize {
        self.params.len()
    }

    /// Returns the places of all parameters.
    pub fn all(&self) -> Range<usize> {
        0..self.len()
    }

    /// Returns the parameter that has a number.
    pub fn id(&self, number: u32) -> Result<ParamId, Error> {
        match self.params.get(number as usize) {
            Some(param) if !param.removed => Ok(ParamId::new(number)),
            _ => Err(Error::NoParam { number, count: self.len() }),
        }
    }

    /// Returns the parameter that has a name.
    pub fn named(&self, name: &[u8]) -> Result<ParamId, Hash> {
        let name_of = |number: u32| self.params[number as usize].name.to_bytes();
        self.by_name.get(name, name_of).map(ParamId::new)
    }

    /// Returns the parameters at some places. Those that were removed are among them: they have no
    /// elements and no gradient.
    pub fn ids(&self, of: &Range<usize>) -> impl Iterator<Item = ParamId> + Clone + use<> {
        of.clone().map(|place| ParamId::new(place as u32))
    }

    /// Returns the parameters that are there, in the order in which they were added.
    pub fn live(&self) -> impl Iterator<Item = ParamId> {
        self.slots.live().map(|place| ParamId::new(place as u32))
    }

    /// Returns some parameters, each with its memory.
    pub fn iter(&self, of: &Range<usize>) -> impl Iterator<Item = (&Param, &Operands)> {
        self.params[of.clone()].iter().zip(&self.operands[of.clone()])
    }

    pub fn params_of(&self, of: &Range<usize>) -> &[Param] {
        &self.params[of.clone()]
    }

    pub fn clock(&self, id: ParamId) -> Clock {
        self.clocks.get(id.place())
    }

    pub fn operands(&self, id: ParamId) -> &Operands {
        &self.operands[id.place()]
    }

    pub fn operands_of(&self, of: &Range<usize>) -> &[Operands] {
        &self.operands[of.clone()]
    }

    pub fn shard(&self, id: ParamId) -> Shard {
        self.shapes[id.place()].0
    }

    /// Returns the number of elements of a row of a parameter, if the host has given it.
    pub fn row_elements(&self, id: ParamId) -> Option<u64> {
        Some(self.shapes[id.place()].1).filter(|row| *row > 0)
    }

    /// Returns the name of a parameter, for an error.
    pub fn label(&self, id: ParamId) -> Label {
        self[id].label()
    }

    /// Returns a number that changes whenever the parameters that are stepped, or what they are
    /// stepped with, may have changed.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns a number that changes whenever gradients may have moved without a revision.
    pub fn grad_moves(&self) -> u64 {
        self.grad_moves
    }

    /// Takes the table apart for a change of which parameters are stepped, or with what.
    pub fn revise(&mut self) -> Parts<'_> {
        self.revision += 1;
        self.parts()
    }

    /// Takes the table apart for changes of anything else.
    pub fn parts(&mut self) -> Parts<'_> {
        let Params { params, operands, clocks, logs, .. } = self;
        Parts { params, operands, clocks, logs }
    }

    /// Returns the memory of all parameters, whose gradients may move, and that which steps write.
    pub fn operands_and_occupied(&mut self) -> (&mut [Operands], &Occupied) {
        self.grad_moves += 1;
        (&mut self.operands, &self.occupied)
    }

    /// As `revise`, for one parameter.
    pub fn revise_param(&mut self, id: ParamId) -> &mut Param {
        &mut self.revise().params[id.place()]
    }

    /// As `revise`, for the clock of one parameter.
    pub fn revise_clock(&mut self, id: ParamId, clock: Clock) {
        self.revise().clocks.set(id.place(), clock);
    }

    /// As `revise`, for the memory of one parameter.
    pub fn revise_operands(&mut self, id: ParamId) -> &mut Operands {
        &mut self.revise().operands[id.place()]
    }

    /// As `parts`, for one parameter.
    pub fn param_mut(&mut self, id: ParamId) -> &mut Param {
        &mut self.params[id.place()]
    }

    /// As `parts`, for the memory of one parameter, whose gradient may move.
    pub fn operands_mut(&mut self, id: ParamId) -> &mut Operands {
        self.grad_moves += 1;
        &mut self.operands[id.place()]
    }

    /// Returns the number of the next parameter, and the number of places with it.
    pub fn next(&self) -> Result<(u32, usize), Error> {
        let number = next_number(self.slots.next())?;
        Ok((number, self.len().max(number as usize + 1)))
    }

    /// Adds a group, which has no parameter yet.
    pub fn add_group(&mut self) -> Result<(), Error> {
        reserve(&mut self.members, 1, "the groups")?;
        self.members.push([0; Dtype::FLOATS.len()]);
        Ok(())
    }

    /// Returns the element types of the parameters of a group.
    pub fn dtypes_of(&self, group: u32) -> impl Iterator<Item = Dtype> {
        let counts = Dtype::FLOATS.into_iter().zip(&self.members[group as usize]);
        counts.filter(|(_, count)| **count > 0).map(|(dtype, _)| dtype)
    }

    /// Puts a parameter in another group.
    pub fn regroup(&mut self, id: ParamId, group: u32) {
        let dtype = self.operands(id).param().dtype();
        *self.count(self[id].group, dtype) -= 1;
        *self.count(group, dtype) += 1;
        self.revise_param(id).group = group;
    }

    /// Returns how many parameters of a type a group has.
    fn count(&mut self, group: u32, dtype: Dtype) -> &mut u32 {
        let at = Dtype::FLOATS.iter().position(|float| *float == dtype).unwrap_or(0);
        &mut self.members[group as usize][at]
    }

    /// Makes room for one more parameter, so that `put` cannot fail.
    pub fn reserve(&mut self) -> Result<(), Error> {
        const WHAT: &str = "the parameters";
        reserve(&mut self.params, 1, WHAT)?;
        reserve(&mut self.operands, 1, WHAT)?;
        self.clocks.reserve(WHAT)?;
        reserve(&mut self.logs, 1, WHAT)?;
        reserve(&mut self.shapes, 1, WHAT)?;
        self.slots.reserve()?;
        self.by_name.reserve()
    }

    /// Puts a parameter in the place that is next, for which there is room.
    pub fn put(&mut self, new: NewEntry) -> ParamId {
        *self.count(new.param.group, new.operands.param().dtype()) += 1;
        let number = self.slots.take();
        self.by_name.insert(new.hash, number);
        put(&mut self.params, number, new.param);
        put(&mut self.operands, number, new.operands);
        self.clocks.put(number, new.clock);
        put(&mut self.logs, number, Log::default());
        put(&mut self.shapes, number, (new.shard, new.row_elements));
        self.revision += 1;
        ParamId::new(number)
    }

    /// Empties the place of a parameter and returns its memory. The name can be given again, and
    /// the number too unless it `is_kept`.
    pub fn free(&mut self, id: ParamId, is_kept: bool) -> Operands {
        let place = id.place();
        *self.count(self[id].group, self.operands(id).param().dtype()) -= 1;
        self.by_name.remove(self.params[place].name.to_bytes(), id.number());
        self.params[place].removed = true;
        self.logs[place] = Log::default();
        self.shapes[place] = (Shard::default(), 0);
        let operands = core::mem::replace(&mut self.operands[place], Operands::none());
        self.slots.release(place, !is_kept);
        let n_params = self.slots.len();
        give_back(&mut self.params, n_params);
        give_back(&mut self.operands, n_params);
        self.clocks.give_back(n_params);
        give_back(&mut self.logs, n_params);
        give_back(&mut self.shapes, n_params);
        self.revision += 1;
        operands
    }

    /// Returns the error for two buffers that share memory.
    pub fn overlap(&self, place: &Place, other: &Place) -> Error {
        Error::Overlap {
            param: self.params[place.param as usize].label(),
            buffer: place.role,
            other: self.params[other.param as usize].label(),
            other_buffer: other.role,
        }
    }
}
