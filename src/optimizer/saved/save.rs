//! What a checkpoint contains, and in which order.
//!
//! `bring_up_to_date` brings the state up to date, and `draft` the header, in which the checksums
//! are still missing. `each_tensor` visits the tensors in the order of the file; `Live` visits
//! their bytes, where they are. `write.rs` writes all that, `begun.rs` on a thread of its own, out
//! of a snapshot (`snapshot.rs`). `settings.rs` writes what a checkpoint says in words.
#![forbid(unsafe_code)]

use super::write::{Destination, Pieces, Target, Visit, Written, write};
use crate::callback::HostProgress;
use crate::checkpoint::{Draft, PIECE, Progress, Text};
use crate::error::Error;
use crate::optimizer::params::masters::Master;
use crate::optimizer::params::names::{neutral_name, tensor_name};
use crate::optimizer::params::table::ParamId;
use crate::optimizer::saved::settings::{write_group, write_scaler_state, write_schedule_state};
use crate::optimizer::{Item, Optimizer};
use crate::role::Role;
use crate::sys::memory::reserve;
use crate::tensor::Tensor;

/// A tensor as it is saved.
pub struct Saved<'a> {
    /// The parts of its name.
    name: [&'a str; 3],
    dtype: &'static str,
    /// `None` for a number.
    n_elements: Option<u64>,
    pub bytes: Bytes,
    pub n_bytes: usize,
}

/// The bytes of a tensor.
pub enum Bytes {
    Number([u8; 8]),
    Of(ParamId, Role),
}

/// The sizes of elements. Those of one size lie together, the largest first, so that all are
/// aligned.
const ELEMENT_BYTES: [usize; 4] = [8, 4, 2, 1];

impl Optimizer {
    /// Saves the state, and the parameters themselves if `params`.
    pub fn save(
        &mut self,
        target: Target,
        params: bool,
        progress: Option<HostProgress>,
    ) -> Result<Written, Error> {
        self.wait_for_begun()?;
        self.bring_up_to_date(params)?;
        let mut draft = self.draft(params)?;
        let Some(destination) = Destination::open(target, &draft)? else {
            return Ok(Written {
                n_bytes: draft.n_bytes() + draft.n_tensor_bytes(),
                is_durable: false,
            });
        };
        let mut progress = Progress::new(progress, destination.n_visited(&draft));
        write(&mut draft, &Live { optimizer: self, params }, destination, &mut progress)
    }

    /// Brings all that is saved up to date, as `view` does for one tensor. Refuses to save in the
    /// middle of an accumulation, or between steps of single parameters.
    pub(super) fn bring_up_to_date(&mut self, with_params: bool) -> Result<(), Error> {
        let params = &self.params;
        for id in params.live() {
            if params.operands(id).n_accumulated() > 0 {
                return Err(Error::Accumulating(params.label(id)));
            }
            if with_params || params[id].master == Master::Stale {
                self.check_memory(id, Role::Param)?;
            }
            Role::STATE.into_iter().try_for_each(|role| self.check_memory(id, role))?;
        }
        let alone = params.live().find(|&id| params[id].stepped_alone);
        let is_late = |id: &ParamId| params.operands(*id).is_due() && !params[*id].stepped_alone;
        if let (Some(alone), Some(late)) = (alone, params.live().find(is_late)) {
            let [alone, late] = [alone, late].map(|id| params.label(id));
            return Err(Error::BetweenSteps { alone, late });
        }
        self.flush_rows()?;
        for id in self.params.ids(&self.params.all()) {
            let param = &self.params[id];
            if param.master == Master::Stale && !param.removed {
                self.fill_master(id)?;
            }
            self.clock(id)?;
        }
        self.learn_scale()?;
        if with_params { self.fetch_all() } else { Ok(()) }
    }

    /// Returns the header without the checksums.
    pub(super) fn draft(&self, params: bool) -> Result<Draft, Error> {
        let mut n_tensors = 0;
        self.each_tensor(params, |_| {
            n_tensors += 1;
            Ok(())
        })?;
        let mut draft = Draft::new(n_tensors)?;
        let mut text = Text::default();
        draft.pair("optimizer", text.set(|text| self.write_config(text))?)?;
        draft.pair("state", text.set(|text| self.write_numbers(text))?)?;
        for (number, group) in self.groups.iter().enumerate() {
            let key = format_args!("groups.{number}");
            draft.pair(key, text.set(|text| write_group(text, group, &self.config))?)?;
        }
        if let Some(schedule) = &self.schedule {
            draft.pair("schedule", text.set(|text| schedule.write_words(text))?)?;
            let state = schedule.state();
            draft.pair("schedule_state", text.set(|text| write_schedule_state(text, &state))?)?;
        }
        if let Some(scaler) = &self.scaler {
            draft.pair("scaler", text.set(|text| scaler.write_words(text))?)?;
            let state = scaler.state();
            draft.pair("scaler_state", text.set(|text| write_scaler_state(text, &state))?)?;
        }
        for id in self.params.live() {
            let key = format_args!("param_groups.{}", self.params[id].name());
            draft.pair(key, text.set(|text| self.write_param(text, id))?)?;
        }
        self.each_tensor(
            params,
            |Saved { name: [a, b, c], dtype, n_elements, n_bytes, .. }| {
                draft.tensor(format_args!("{a}{b}{c}"), dtype, n_elements, n_bytes as u64)
            },
        )?;
        draft.end()?;
        Ok(draft)
    }

    /// Visits every tensor in the order of the file.
    pub(super) fn each_tensor(
        &self,
        params: bool,
        mut visit: impl FnMut(Saved) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for element_bytes in ELEMENT_BYTES {
            for id in self.params.live() {
                let (operands, name) = (self.params.operands(id), self.params[id].name());
                if element_bytes == 8 {
                    self.counters(id, &mut visit)?;
                }
                let itself = params.then_some(Role::Param);
                for role in itself.into_iter().chain(Role::STATE) {
                    let Some(tensor) = operands.tensor(role) else { continue };
                    if tensor.dtype().bytes() == element_bytes {
                        visit(Saved {
                            name: tensor_name(name, role),
                            dtype: tensor.dtype().safetensors_name(),
                            n_elements: Some(tensor.n_elements()),
                            bytes: Bytes::Of(id, role),
                            n_bytes: tensor.addresses().len(),
                        })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns a tensor of a parameter that is on the device.
    pub(super) fn on_device(&self, id: ParamId, role: Role) -> Option<Tensor> {
        let operands = self.params.operands(id);
        operands.tensor(role).filter(|_| operands.is_on_device())
    }

    /// Visits the counters of a parameter.
    fn counters(
        &self,
        id: ParamId,
        visit: &mut impl FnMut(Saved) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (param, name) = (&self.params[id], self.params[id].name());
        let state = |item| neutral_name(name, item);
        // This leaves out the host's `lr_ratio`, which a save does not call.
        let lr = self.lr_product(self.lr(), param.group, param.lr_scale);
        for (name, dtype, bits) in [
            (state(Item::Step), "U64", param.clock.step),
            (state(Item::Beta1Power), "F64", param.clock.beta1_power.to_bits()),
            (state(Item::Beta2Power), "F64", param.clock.beta2_power.to_bits()),
            (["param_groups.", name, ".lr"], "F64", lr.to_bits()),
        ] {
            let (bytes, n_bytes) = (Bytes::Number(bits.to_le_bytes()), 8);
            visit(Saved { name, dtype, n_elements: None, bytes, n_bytes })?;
        }
        Ok(())
    }
}

/// The state of an optimizer as it is now, and the parameters themselves if `params`.
struct Live<'a> {
    optimizer: &'a Optimizer,
    params: bool,
}

impl Pieces for Live<'_> {
    fn each(&self, visit: &mut Visit) -> Result<(), Error> {
        let Live { optimizer: Optimizer { params, backend, .. }, .. } = self;
        let (mut number, mut room) = (0, Vec::new());
        self.optimizer.each_tensor(self.params, |saved| {
            match saved.bytes {
                Bytes::Number(bytes) => visit(number, &bytes)?,
                Bytes::Of(id, role) => match self.optimizer.on_device(id, role) {
                    None => {
                        let mut pieces = params.operands(id).bytes(role).chunks(PIECE);
                        pieces.try_for_each(|piece| visit(number, piece))?;
                    }
                    Some(tensor) => {
                        room.clear();
                        reserve(&mut room, PIECE, "a buffer for what is on the device")?;
                        for start in (0..saved.n_bytes).step_by(PIECE) {
                            room.resize(PIECE.min(saved.n_bytes - start), 0);
                            backend.read_bytes(&tensor, start, &mut room)?;
                            visit(number, &room)?;
                        }
                    }
                },
            }
            number += 1;
            Ok(())
        })
    }
}
