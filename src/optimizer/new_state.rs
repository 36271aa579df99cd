//! The state that a new parameter needs, and whether what the host gives of it fits.
#![forbid(unsafe_code)]

use super::params::NewParam;
use super::{Optimizer, label};
use crate::config::Precision;
use crate::dtype::Dtype;
use crate::error::{Error, Label, Role, TensorProblem};
use crate::tensor::{Buffer, Operands, Tensor};
use core::ops::Range;

/// The state that a parameter needs: each role, with the host's tensor if it gives one.
pub(super) type NewState = [Option<(Role, Option<Tensor>)>; 5];

impl Optimizer {
    /// Each role that state can have, and why a parameter of this type in this group has none.
    fn roles_of(
        &self,
        param: Label,
        group: u32,
        dtype: Dtype,
    ) -> Result<[(Role, Option<&'static str>); 5], Error> {
        let precision = self.group(group)?.precision;
        let no_master = match (dtype, precision) {
            (Dtype::F16, Precision::Split) => return Err(Error::NoSplit(param)),
            (Dtype::Bf16, Precision::Split) => Some("its master is split"),
            (Dtype::F16 | Dtype::Bf16, _) if self.config.multi_precision => None,
            (Dtype::F16 | Dtype::Bf16, _) => Some("the handle is not multi_precision"),
            _ => Some("only f16 and bf16 parameters have one"),
        };
        let no_remainder = match (dtype, precision) {
            (Dtype::Bf16, Precision::Split) => None,
            _ => Some("only bf16 parameters of a group with ADAMW_PRECISION_SPLIT have one"),
        };
        let no_max = (!self.config.amsgrad).then_some("the handle is not amsgrad");
        Ok([
            (Role::Master, no_master),
            (Role::Remainder, no_remainder),
            (Role::ExpAvg, None),
            (Role::ExpAvgSq, None),
            (Role::MaxExpAvgSq, no_max),
        ])
    }

    /// How many bytes each part of the state takes that a parameter of this type and length needs in
    /// this group.
    pub fn memory_plan(
        &self,
        group: u32,
        dtype: Dtype,
        n_elements: u64,
    ) -> Result<[(Role, u64); 5], Error> {
        let name = Label::new(b"planned");
        if !Dtype::FLOATS.contains(&dtype) {
            return Err(TensorProblem::NotFloat(dtype).of(name, Role::Param));
        }
        let roles = self.roles_of(name, group, dtype)?;
        Ok(roles.map(|(role, absent)| {
            let bytes = n_elements.saturating_mul(dtype_of(role, dtype).bytes() as u64);
            (role, if absent.is_some() { 0 } else { bytes })
        }))
    }

    /// The state that a new parameter needs, with the host's tensor where it gives one.
    pub(super) fn state_of(&self, new: &NewParam) -> Result<NewState, Error> {
        let param = label(new.name);
        let roles = self.roles_of(param, new.group, new.param.dtype())?;
        let given = [new.master, new.remainder, new.exp_avg, new.exp_avg_sq, new.max_exp_avg_sq];
        let mut state = [None; 5];
        for (slot, ((buffer, not_used), given)) in
            state.iter_mut().zip(roles.into_iter().zip(given))
        {
            match (given, not_used) {
                (None, Some(_)) => continue,
                (Some(_), Some(reason)) => return Err(Error::NotUsed { param, buffer, reason }),
                (None, None) if new.step > 0 => {
                    return Err(Error::StepWithoutState { param, step: new.step, buffer });
                }
                _ => *slot = Some((buffer, given)),
            }
            if let Some(tensor) = given {
                let fits = Operands::new(new.param).fits(buffer, &tensor);
                fits.map_err(|problem| problem.of(param, buffer))?;
            }
        }
        Ok(state)
    }

    /// That the host's buffers of a new parameter overlap neither each other nor what a step
    /// writes already. (Gradients are looked at by the next step: one that is there now may be
    /// replaced before it is read.)
    pub(super) fn check_places(&self, new: &NewParam) -> Result<(), Error> {
        let param = label(new.name);
        let given = [
            (Role::Param, Some(new.param)),
            (Role::Master, new.master),
            (Role::Remainder, new.remainder),
            (Role::ExpAvg, new.exp_avg),
            (Role::ExpAvgSq, new.exp_avg_sq),
            (Role::MaxExpAvgSq, new.max_exp_avg_sq),
        ];
        let given = given.map(|(role, tensor)| (role, tensor.map_or(0..0, |t| t.addresses())));
        for (i, (buffer, addresses)) in given.iter().enumerate() {
            let own = given[..i].iter().find(|(_, earlier)| overlap(earlier, addresses));
            let other = self.occupied.overlapped(addresses);
            let found = own.map(|(role, _)| (param, *role)).or_else(|| {
                other.map(|place| (self.params[place.param as usize].label(), place.role))
            });
            if let Some((other, other_buffer)) = found {
                return Err(Error::Overlap { param, buffer: *buffer, other, other_buffer });
            }
        }
        Ok(())
    }
}

/// What the state in a role of a parameter of this type is made of.
fn dtype_of(role: Role, param: Dtype) -> Dtype {
    match role {
        Role::Remainder => Dtype::I16,
        _ => param.compute(),
    }
}

/// A state buffer of the library's own, zero.
pub(super) fn own_buffer(param: &Tensor, role: Role) -> Result<Buffer, Error> {
    let what = match role {
        Role::Master => "master",
        Role::Remainder => "remainder",
        Role::ExpAvg => "exp_avg",
        Role::ExpAvgSq => "exp_avg_sq",
        _ => "max_exp_avg_sq",
    };
    Buffer::zeroed(param.n_elements(), dtype_of(role, param.dtype()), what)
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    !a.is_empty() && !b.is_empty() && a.start < b.end && b.start < a.end
}
