//! Saving: what a checkpoint contains, and in which order.
//!
//! `save` brings the state up to date and drafts the header, in which the checksums are still
//! missing (`draft`). It then writes the tensors and computes the checksum of each on its way
//! (`sum_up`); the header comes last. A writer of the host's has to get the header first: for it
//! the tensors are read twice.
//!
//! `each_tensor` visits the tensors in the order of the file, and `pieces` visits their bytes.
//! Those on a device are read into a buffer, a piece at a time. `settings.rs` writes what a
//! checkpoint says in words.
#![forbid(unsafe_code)]

use crate::callback::{HostProgress, HostWriter};
use crate::checkpoint::{Draft, PIECE, Progress, Text};
use crate::error::Error;
use crate::optimizer::params::masters::Master;
use crate::optimizer::params::names::{neutral_name, tensor_name};
use crate::optimizer::params::table::ParamId;
use crate::optimizer::saved::settings::{write_group, write_scaler_state, write_schedule_state};
use crate::optimizer::{Item, Optimizer};
use crate::role::Role;
use crate::sys::files::NewFile;
use crate::sys::memory::reserve;
use crate::tensor::Tensor;
use core::ffi::CStr;

/// Where a checkpoint goes.
pub enum Target<'a> {
    /// A file, which is replaced whole or not at all.
    File(&'a CStr),
    Memory(&'a mut [u8]),
    Host(HostWriter),
    /// Nowhere, because only its size is asked for.
    Size,
}

/// What a save has written.
#[derive(Clone, Copy)]
pub struct Written {
    pub n_bytes: u64,
    /// The checkpoint is in a file that outlives a power cut.
    pub is_durable: bool,
}

/// A tensor as it is saved.
struct Saved<'a> {
    /// The parts of its name.
    name: [&'a str; 3],
    dtype: &'static str,
    /// `None` for a number.
    n_elements: Option<u64>,
    bytes: Bytes<'a>,
}

/// The bytes of a tensor.
enum Bytes<'a> {
    Here(&'a [u8]),
    OnDevice(Tensor),
}

impl Bytes<'_> {
    fn len(&self) -> usize {
        match self {
            Bytes::Here(bytes) => bytes.len(),
            Bytes::OnDevice(tensor) => tensor.addresses().len(),
        }
    }
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
        self.bring_up_to_date(params)?;
        let mut draft = self.draft(params)?;
        let n_bytes = draft.n_bytes() + draft.n_tensor_bytes();
        let total = draft.n_tensor_bytes();
        let mut is_durable = false;
        match target {
            Target::Size => {}
            Target::File(path) => {
                let file = NewFile::create(path)?;
                let mut progress = Progress::new(progress, total);
                let mut to = FileBuffer::new(&file, draft.n_bytes())?;
                self.sum_up(&mut draft, params, &mut progress, |bytes| to.write(bytes))?;
                to.flush()?;
                file.write(0, draft.sealed())?;
                is_durable = file.commit()?;
            }
            Target::Memory(to) => {
                let n = n_bytes as usize;
                if to.len() < n {
                    return Err(Error::Count { name: "capacity", count: to.len(), wanted: n });
                }
                let mut progress = Progress::new(progress, total);
                let (header, mut rest) = to.split_at_mut(draft.n_bytes() as usize);
                self.sum_up(&mut draft, params, &mut progress, |bytes| {
                    let (next, behind) = core::mem::take(&mut rest).split_at_mut(bytes.len());
                    next.copy_from_slice(bytes);
                    rest = behind;
                    Ok(())
                })?;
                header.copy_from_slice(draft.sealed());
            }
            Target::Host(writer) => {
                let mut progress = Progress::new(progress, 2 * total);
                // The header, which has the checksums, comes first.
                self.sum_up(&mut draft, params, &mut progress, |_| Ok(()))?;
                writer.write(draft.sealed())?;
                self.pieces(params, &mut progress, |_, bytes| writer.write(bytes))?;
            }
        }
        Ok(Written { n_bytes, is_durable })
    }

    /// Brings all that is saved up to date, as `view` does for one tensor. Refuses to save in the
    /// middle of an accumulation, or between steps of single parameters.
    fn bring_up_to_date(&mut self, with_params: bool) -> Result<(), Error> {
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
        if with_params { self.fetch_all() } else { Ok(()) }
    }

    /// Returns the header without the checksums.
    fn draft(&self, params: bool) -> Result<Draft, Error> {
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
            let state = self.scaler_state()?;
            draft.pair("scaler_state", text.set(|text| write_scaler_state(text, &state))?)?;
        }
        for id in self.params.live() {
            let key = format_args!("param_groups.{}", self.params[id].name());
            draft.pair(key, text.set(|text| self.write_param(text, id))?)?;
        }
        self.each_tensor(params, |Saved { name: [a, b, c], dtype, n_elements, bytes }| {
            draft.tensor(format_args!("{a}{b}{c}"), dtype, n_elements, bytes.len() as u64)
        })?;
        draft.end()?;
        Ok(draft)
    }

    /// Visits every tensor in the order of the file.
    fn each_tensor(
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
                            bytes: if operands.is_on_device() {
                                Bytes::OnDevice(tensor)
                            } else {
                                Bytes::Here(operands.bytes(role))
                            },
                        })?;
                    }
                }
            }
        }
        Ok(())
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
            visit(Saved {
                name,
                dtype,
                n_elements: None,
                bytes: Bytes::Here(&bits.to_le_bytes()),
            })?;
        }
        Ok(())
    }

    /// Visits the bytes of all tensors, piece by piece, with the number of the tensor.
    fn pieces(
        &self,
        params: bool,
        progress: &mut Progress,
        mut visit: impl FnMut(usize, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut number = 0;
        let mut room = Vec::new();
        self.each_tensor(params, |saved| {
            let mut visit_piece = |piece: &[u8]| {
                visit(number, piece)?;
                progress.add(piece.len() as u64)
            };
            match saved.bytes {
                Bytes::Here(bytes) => bytes.chunks(PIECE).try_for_each(visit_piece)?,
                Bytes::OnDevice(tensor) => {
                    room.clear();
                    reserve(&mut room, PIECE, "a buffer for what is on the device")?;
                    let n_bytes = tensor.addresses().len();
                    for start in (0..n_bytes).step_by(PIECE) {
                        room.resize(PIECE.min(n_bytes - start), 0);
                        self.backend.read_bytes(&tensor, start, &mut room)?;
                        visit_piece(&room)?;
                    }
                }
            }
            number += 1;
            Ok(())
        })
    }

    /// Visits the bytes of all tensors, and puts the checksum of each tensor into the header.
    fn sum_up(
        &self,
        draft: &mut Draft,
        params: bool,
        progress: &mut Progress,
        mut visit: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (mut current, mut crc) = (0, crc32fast::Hasher::new());
        self.pieces(params, progress, |number, bytes| {
            if number != current {
                (current, crc) = (number, crc32fast::Hasher::new());
            }
            crc.update(bytes);
            draft.set_crc(number, crc.clone().finalize());
            visit(bytes)
        })
    }
}

/// A writer that gathers small tensors into one write. Large ones go straight from their own
/// memory.
struct FileBuffer<'a> {
    file: &'a NewFile,
    at: u64,
    buffer: Vec<u8>,
}

impl FileBuffer<'_> {
    fn new(file: &NewFile, at: u64) -> Result<FileBuffer<'_>, Error> {
        let mut buffer = Vec::new();
        reserve(&mut buffer, PIECE, "a buffer for writing")?;
        Ok(FileBuffer { file, at, buffer })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.buffer.len() + bytes.len() > PIECE || bytes.len() == PIECE {
            self.flush()?;
        }
        if bytes.len() == PIECE {
            self.file.write(self.at, bytes)?;
            self.at += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes); // there is room: see `new` and above
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.write(self.at, &self.buffer)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
