//! The state of parameters as the host sees it: what each part is called, where it lies, and its
//! value.
//!
//! A part is an `Item`: a tensor, or a counter of one f64. `view` returns where the part of a
//! parameter lies, and `write_name` what it is called. `find_state` returns the part that has a
//! name, in whichever scheme; `read_state` and `write_state` copy such a part, after `check_state`
//! has compared its type and its length.
//!
//! Before a tensor is seen, its rows catch up, and a master that has yet to begin is filled.
//! Paddle's beta powers are those of the next step, so the counters are converted on their way.
#![forbid(unsafe_code)]

use crate::config::GroupConfig;
use crate::dtype::Dtype;
use crate::error::{Error, Label, TensorProblem};
use crate::optimizer::params::masters::Master;
use crate::optimizer::params::names::{self, Item, Scheme};
use crate::optimizer::params::table::ParamId;
use crate::optimizer::params::{MAX_INITIAL_STEP, STEPS_OF_SLOW_BETAS, clock_after};
use crate::optimizer::{Optimizer, label};
use crate::role::Role;
use crate::steps::Clock;
use crate::sys::memory::reserve;
use crate::tensor::Tensor;
use core::ffi::CStr;
use core::fmt;

/// Where a part of the state lies.
pub struct View {
    /// `None` for a counter, which is inside the handle.
    pub tensor: Option<Tensor>,
    pub is_host_owned: bool,
}

impl Optimizer {
    /// Returns one more than the highest number of a parameter.
    pub fn n_params(&self) -> u32 {
        self.params.len() as u32
    }

    /// Returns the number that the next parameter gets.
    pub fn next_number(&self) -> Result<u32, Error> {
        self.params.next().map(|(number, _)| number)
    }

    /// Returns the number of groups.
    pub fn n_groups(&self) -> u32 {
        self.groups.len() as u32
    }

    /// Returns the number of the parameter that has a name.
    pub fn find_param(&self, name: &[u8]) -> Option<u32> {
        self.params.named(name).ok().map(ParamId::number)
    }

    /// Tells the step counts of some parameters. Waits for the device if that is where they are.
    pub fn steps(
        &mut self,
        numbers: impl Iterator<Item = u32> + Clone,
        mut told: impl FnMut(u64),
    ) -> Result<(), Error> {
        self.check_numbers(numbers.clone())?;
        for number in numbers {
            let id = self.params.id(number)?;
            told(self.clock(id)?.step);
        }
        Ok(())
    }

    /// Sets the step counts of some parameters, and their powers to those of their groups' betas:
    /// all of them or none.
    pub fn set_steps(
        &mut self,
        counts: impl Iterator<Item = (u32, u64)> + Clone,
    ) -> Result<(), Error> {
        // By group, the last clock: most parameters of a group have taken as many steps.
        let mut clocks: Vec<Option<Clock>> = Vec::new();
        reserve(&mut clocks, self.groups.len(), "the step counts")?;
        clocks.resize(self.groups.len(), None);
        let mut clock_of = |optimizer: &Optimizer, id: ParamId, step: u64| {
            let last = &mut clocks[optimizer.params[id].group as usize];
            match last.filter(|clock| clock.step == step) {
                Some(clock) => Ok(clock),
                None => {
                    let clock = clock_after(step, &optimizer.current_group_of(id)?)?;
                    Ok(*last.insert(clock))
                }
            }
        };
        for (number, step) in counts.clone() {
            clock_of(self, self.params.id(number)?, step)?;
        }
        for (number, step) in counts {
            let id = self.params.id(number)?;
            let clock = clock_of(self, id, step)?;
            self.set_clock(id, clock)?;
        }
        Ok(())
    }

    /// Brings a part of the state up to date, and returns where it lies.
    pub fn view(&mut self, number: u32, item: Item) -> Result<View, Error> {
        let id = self.params.id(number)?;
        let Item::Tensor(role) = item else {
            return Ok(View { tensor: None, is_host_owned: false });
        };
        self.check_state_is_there(id, role)?;
        self.check_memory(id, role)?;
        self.catch_up_rows(id)?;
        if role == Role::Master && self.params[id].master == Master::Stale {
            self.fill_master(id)?;
        }
        let operands = self.params.operands(id);
        let is_host_owned = operands.is_host_owned(role);
        Ok(View { tensor: operands.tensor(role), is_host_owned })
    }

    /// Writes the name of a part of the state.
    pub fn write_name(
        &self,
        to: &mut impl fmt::Write,
        scheme: Scheme,
        number: u32,
        item: Item,
    ) -> Result<(), Error> {
        let id = self.params.id(number)?;
        if let Item::Tensor(role) = item {
            self.check_state_is_there(id, role)?;
        }
        let has_master = self.params.operands(id).state(Role::Master).is_some();
        let name = self.params[id].name();
        // Writing does not fail: the caller has made room for the name.
        let nameless = Error::NoName { param: self.params.label(id), what: item.name() };
        names::write(to, scheme, name, has_master, item).map(|_| ()).ok_or(nameless)
    }

    /// Checks that the state of a parameter has this buffer.
    fn check_state_is_there(&self, id: ParamId, buffer: Role) -> Result<(), Error> {
        let absent = |reason| Error::NoState { param: self.params.label(id), buffer, reason };
        self.params.operands(id).format().buffer(buffer).map(|_| ()).map_err(absent)
    }

    /// Returns the part of the state that has this name, in whichever scheme.
    pub fn find_state(&self, name: &CStr) -> Result<(Scheme, u32, Item), Error> {
        self.named_state(name).map(|(scheme, id, item)| (scheme, id.number(), item))
    }

    fn named_state(&self, name: &CStr) -> Result<(Scheme, ParamId, Item), Error> {
        let known = |(scheme, param, item): (Scheme, &str, Item)| {
            let id = self.params.named(param.as_bytes()).ok()?;
            let is_there = match item {
                Item::Tensor(role) => self.params.operands(id).state(role).is_some(),
                _ => true,
            };
            is_there.then_some((scheme, id, item))
        };
        let text = name.to_str().unwrap_or_default();
        names::readings(text).find_map(known).ok_or(Error::NoStateNamed(label(name)))
    }

    /// Copies the part of the state that has this name into `to`.
    pub fn read_state(&mut self, name: &CStr, to: &Tensor) -> Result<(), Error> {
        let (scheme, id, item) = self.named_state(name)?;
        self.check_state(label(name), id, item, to)?;
        self.view(id.number(), item)?;
        if let Item::Tensor(role) = item {
            return self.backend.copy_state(self.params.operands(id), role, to);
        }
        let clock = self.clock(id)?;
        let ahead = |power: f64, beta: fn(&GroupConfig) -> f64| {
            Ok(power * beta(&self.current_group_of(id)?))
        };
        let value = match (item, scheme) {
            (Item::Tensor(_), _) => return Ok(()),
            (Item::Step, _) => clock.step as f64,
            (Item::Beta1Power, Scheme::Neutral) => clock.beta1_power,
            (Item::Beta2Power, Scheme::Neutral) => clock.beta2_power,
            (Item::Beta1Power, Scheme::Paddle) => ahead(clock.beta1_power, |group| group.beta1)?,
            (Item::Beta2Power, Scheme::Paddle) => ahead(clock.beta2_power, |group| group.beta2)?,
        };
        to.set_f64(0, value);
        Ok(())
    }

    /// Copies `from` into the part of the state that has this name.
    pub fn write_state(&mut self, name: &CStr, from: &Tensor) -> Result<(), Error> {
        let (scheme, id, item) = self.named_state(name)?;
        self.check_state(label(name), id, item, from)?;
        if let Item::Tensor(role) = item {
            if role.is_of_squares()
                && let Some((element, value)) = from.first_negative()
            {
                return Err(Error::NegativeState { name: label(name), element, value });
            }
            self.view(id.number(), item)?;
            self.backend.set_state(self.params.revise_operands(id), role, from)?;
            if role == Role::Master {
                self.params.revise_param(id).master = Master::Settled;
            }
            return Ok(());
        }
        let value = from.f64(0);
        let mut clock = self.clock(id)?;
        let wrong = |expected| Error::StateValue { name: label(name), value, expected };
        if item == Item::Step {
            if !(0.0..=MAX_INITIAL_STEP as f64).contains(&value) || value.fract() != 0.0 {
                return Err(wrong("a whole number from 0 to 2^32"));
            }
            let clock = Clock::after(value as u64, &self.current_group_of(id)?);
            return self.set_clock(id, clock.ok_or_else(|| wrong(STEPS_OF_SLOW_BETAS))?);
        }
        if !(0.0..=1.0).contains(&value) {
            return Err(wrong("0 to 1"));
        }
        // Paddle's powers are those of the next step.
        let behind = |beta: fn(&GroupConfig) -> f64| match scheme {
            Scheme::Neutral => Ok(value),
            Scheme::Paddle => match beta(&self.current_group_of(id)?) {
                0.0 => Ok(0.0),
                beta => Ok(value / beta),
            },
        };
        match item {
            Item::Beta1Power => clock.beta1_power = behind(|group| group.beta1)?,
            _ => clock.beta2_power = behind(|group| group.beta2)?,
        }
        self.set_clock(id, clock)
    }

    /// Checks that the part of the state that has this name has elements of this type.
    pub fn check_state_type(&self, name: &CStr, is: Dtype) -> Result<(), Error> {
        let (_, id, item) = self.named_state(name)?;
        let tensor = match item {
            Item::Tensor(role) => self.params.operands(id).tensor(role),
            _ => None,
        };
        let expected = tensor.map_or(Dtype::F64, |tensor| tensor.dtype());
        let problem = TensorProblem::Dtype { is, expected };
        if is == expected { Ok(()) } else { Err(Error::State { name: label(name), problem }) }
    }

    /// Checks that memory of the host's has the length and the element type of a part of the state.
    fn check_state(
        &self,
        name: Label,
        id: ParamId,
        item: Item,
        tensor: &Tensor,
    ) -> Result<(), Error> {
        let fits = match item {
            Item::Tensor(role) => {
                let operands = self.params.operands(id);
                operands.fits(role, &tensor.as_if_on(operands.param().device()))
            }
            _ if tensor.dtype() != Dtype::F64 => {
                Err(TensorProblem::Dtype { is: tensor.dtype(), expected: Dtype::F64 })
            }
            _ if tensor.n_elements() != 1 => Err(TensorProblem::NotOne(tensor.n_elements())),
            _ => Ok(()),
        };
        fits.map_err(|problem| Error::State { name, problem })
    }
}
