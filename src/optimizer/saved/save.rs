//! What a checkpoint contains, and in which order.
//!
//! `bring_up_to_date` brings the state up to date, and `draft` the header, in which the checksums
//! are still missing. `each_tensor` visits the tensors in the order of the file; `Live` visits
//! their bytes, where they are. `write.rs` writes all that, `begun.rs` on a thread of its own, out
//! of a snapshot (`snapshot.rs`). `settings.rs` writes what a checkpoint says in words.
#![forbid(unsafe_code)]

use super::layout::{Bytes, Layout, Saved};
use super::write::{Destination, Pieces, Target, Visit, Written, write};
use crate::callback::HostProgress;
use crate::checkpoint::{Draft, PIECE, Progress, Text};
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::masters::Master;
use crate::optimizer::params::table::ParamId;
use crate::optimizer::saved::settings::{write_group, write_scaler_state, write_schedule_state};
use crate::role::Role;
use crate::sys::memory::reserve;
use crate::tensor::Tensor;

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
        let layout = self.layout(params)?;
        let mut draft = self.draft(&layout)?;
        let Some(destination) = Destination::open(target, &draft)? else {
            return Ok(Written {
                n_bytes: draft.n_bytes() + draft.n_tensor_bytes(),
                is_durable: false,
            });
        };
        let mut progress = Progress::new(progress, destination.n_visited(&draft));
        write(&mut draft, &Live { optimizer: self, layout: &layout }, destination, &mut progress)
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
        self.learn_schedule()?;
        if with_params { self.fetch_all() } else { Ok(()) }
    }

    /// Returns the header without the checksums.
    pub(super) fn draft(&self, layout: &Layout) -> Result<Draft, Error> {
        let mut n_tensors = 0;
        self.each_tensor(layout, |saved| {
            n_tensors += usize::from(!saved.goes_on);
            Ok(())
        })?;
        let mut draft = Draft::new(layout.packed.is_some(), n_tensors)?;
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
        if layout.packed.is_none() {
            for id in self.params.live() {
                let key = format_args!("param_groups.{}", self.params[id].name());
                draft.pair(key, text.set(|text| self.write_param(text, id))?)?;
            }
        }
        // The parts of a tensor make one.
        let mut whole: Option<Saved> = None;
        self.each_tensor(layout, |mut next| {
            if let Some(before) = whole.take() {
                if next.goes_on {
                    let sum = |n: u64| n + before.n_elements.unwrap_or(0);
                    next.n_elements = next.n_elements.map(sum);
                    next.n_bytes += before.n_bytes;
                } else {
                    add(&mut draft, &before)?;
                }
            }
            whole = Some(next);
            Ok(())
        })?;
        whole.iter().try_for_each(|last| add(&mut draft, last))?;
        draft.end()?;
        Ok(draft)
    }

    /// Returns a tensor of a parameter that is on the device.
    pub(super) fn on_device(&self, id: ParamId, role: Role) -> Option<Tensor> {
        let operands = self.params.operands(id);
        operands.tensor(role).filter(|_| operands.is_on_device())
    }
}

fn add(draft: &mut Draft, saved: &Saved) -> Result<(), Error> {
    let [a, b, c] = saved.name;
    let name = format_args!("{a}{b}{c}");
    draft.tensor(name, saved.dtype, saved.n_elements, saved.n_bytes as u64)
}

/// The state of an optimizer as it is now.
struct Live<'a> {
    optimizer: &'a Optimizer,
    layout: &'a Layout,
}

impl Pieces for Live<'_> {
    fn each(&self, visit: &mut Visit) -> Result<(), Error> {
        let Live { optimizer: Optimizer { params, backend, .. }, .. } = self;
        let (mut next, mut room) = (0, Vec::new());
        self.optimizer.each_tensor(self.layout, |saved| {
            next += usize::from(!saved.goes_on);
            let number = next - 1;
            match saved.bytes {
                Bytes::Number(bytes) => visit(number, &bytes[..saved.n_bytes])?,
                Bytes::Name(id) => visit(number, params[id].name.to_bytes_with_nul())?,
                Bytes::Kinds => {
                    let words =
                        self.layout.packed.iter().flat_map(|packed| packed.words.chunks(PIECE));
                    words.into_iter().try_for_each(|piece| visit(number, piece))?;
                }
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
            Ok(())
        })
    }
}
