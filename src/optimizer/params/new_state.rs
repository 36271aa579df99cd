//! The state of a new parameter: what it needs, and checks of what the host gives.
#![forbid(unsafe_code)]

use crate::dtype::Dtype;
use crate::error::{Error, Label, TensorProblem};
use crate::format::Format;
use crate::noise::Key;
use crate::optimizer::device::params::NewOnDevice;
use crate::optimizer::params::{NewParam, Shard};
use crate::optimizer::{Optimizer, label};
use crate::role::Role;
use crate::tensor::{Buffer, Operands, Tensor};
use core::ops::Range;

impl Optimizer {
    /// Returns the format of the state of a parameter of this type and length in a group. What
    /// depends on a length depends on that of the whole, so that all shards are alike.
    fn format(
        &self,
        name: Label,
        group: u32,
        (dtype, n_elements): (Dtype, u64),
        shard: Shard,
    ) -> Result<Format, Error> {
        if !Dtype::FLOATS.contains(&dtype) {
            return Err(TensorProblem::NotFloat(dtype).of(name, Role::Param));
        }
        let group = self.group(group)?;
        let choices = (group.precision, group.moments);
        let (multi_precision, amsgrad) = (self.config.multi_precision, group.amsgrad);
        let whole = if shard.whole == 0 { n_elements } else { shard.whole };
        Format::new(name, (dtype, whole), choices, multi_precision, amsgrad)
    }

    /// Returns the number of bytes of each part of the state that a parameter of this type and
    /// length needs in this group.
    pub fn memory_plan(
        &self,
        group: u32,
        dtype: Dtype,
        n_elements: u64,
        shard: Shard,
    ) -> Result<[(Role, u64); Role::STATE.len()], Error> {
        let name = Label::new(b"planned");
        shard.check(name, n_elements)?;
        let format = self.format(name, group, (dtype, n_elements), shard)?;
        Ok(Role::STATE.map(|role| {
            let bytes = format.buffer(role).map_or(0, |dtype| dtype.bytes() as u64);
            (role, format.n_elements(role, n_elements).saturating_mul(bytes))
        }))
    }

    /// Returns the memory of a new parameter that is stepped as `stepped`. State that the host does
    /// not give is the library's, and zero.
    pub(in crate::optimizer) fn new_operands(
        &mut self,
        new: &NewParam,
        stepped: Tensor,
        on_device: &mut NewOnDevice,
    ) -> Result<Operands, Error> {
        let param = label(new.name);
        let n_elements = new.param.n_elements();
        let format = self.format(param, new.group, (new.param.dtype(), n_elements), new.shard)?;
        new.shard.check_blocks(param, n_elements, format.moments())?;
        let mut operands = Operands::new(stepped, format);
        let given = Role::STATE.into_iter().zip(&new.state);
        for (buffer, given) in given.filter(|(_, given)| given.is_some() || new.step > 0) {
            match (given, format.buffer(buffer)) {
                (Some(tensor), Ok(_)) => {
                    let fits = operands.fits(buffer, tensor);
                    fits.map_err(|problem| problem.of(param, buffer))?;
                }
                (Some(_), Err(reason)) => return Err(Error::NotUsed { param, buffer, reason }),
                (None, Ok(_)) => {
                    return Err(Error::StepWithoutState { param, step: new.step, buffer });
                }
                (None, Err(_)) => {}
            }
        }
        self.check_places(new)?;
        if format.is_random() {
            let key = Key::new(self.config.seed, new.name.to_bytes());
            operands.set_key(key, new.shard.first_element)?;
        }
        let mut there = self.new_state_on_device(new, &format, on_device)?;
        for (i, role) in Role::STATE.into_iter().enumerate() {
            let Ok(dtype) = format.buffer(role) else { continue };
            match (&new.state[i], there[i].take()) {
                (Some(tensor), _) => operands.set_host_state(role, tensor),
                (None, Some(buffer)) => operands.set_state(role, buffer),
                (None, None) => {
                    let elements = (format.n_elements(role, n_elements), dtype);
                    let pool = &mut self.pools[role as usize];
                    let buffer = Buffer::zeroed(pool, elements, &stepped, role.name())?;
                    operands.set_state(role, buffer);
                }
            }
        }
        Ok(operands)
    }

    /// Checks that the host's buffers of a new parameter overlap neither each other nor what a step
    /// writes already. (The next step looks at the gradients: one that is set now may be replaced
    /// before it is read.)
    fn check_places(&self, new: &NewParam) -> Result<(), Error> {
        let state = Role::STATE.into_iter().zip(&new.state);
        let given = state.filter_map(|(role, tensor)| Some((role, tensor.as_ref()?)));
        let given = [(Role::Param, &new.param)].into_iter().chain(given);
        let given = given.map(|(role, tensor)| (role, tensor.addresses()));
        for (i, (buffer, place)) in given.clone().enumerate() {
            let own = given.clone().take(i).find(|(_, earlier)| overlap(earlier, &place));
            let other = self.params.occupied.overlapped(&place);
            let param = || label(new.name);
            if let Some((other_buffer, _)) = own {
                return Err(Error::Overlap {
                    param: param(),
                    buffer,
                    other: param(),
                    other_buffer,
                });
            }
            if let Some(place) = other {
                let (other, other_buffer) = (self.label(place.param)?, place.role);
                return Err(Error::Overlap { param: param(), buffer, other, other_buffer });
            }
        }
        Ok(())
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    !a.is_empty() && !b.is_empty() && a.start < b.end && b.start < a.end
}
