//! The second pass of a load: what the first pass has found is copied.
//!
//! `copy_from` opens the files one after the other and copies their pieces. For each, `copy_piece`
//! finds the elements in the file and in the tensor. `Stored::read` reads them, and converts them
//! if their type is another one. What belongs on a device goes through a buffer.
//!
//! After all pieces, masters that were not saved are begun, and the device is given the clocks.
//! Once nothing can fail any more, `take_clock` sets the clocks on the host.
#![forbid(unsafe_code)]

use super::LoadOptions;
use super::convert::{Way, convert, converts, encode, from_name, halve, widened};
use super::cover::{Placed, placed};
use super::found::{Found, Match, part};
use super::pieces::{Piece, Unit};
use crate::checkpoint::{Checkpoint, Entry, PIECE, Progress, Share, Window, alone};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::format::MomentFormat;
use crate::optimizer::Optimizer;
use crate::optimizer::params::masters::Master;
use crate::optimizer::params::table::ParamId;
use crate::role::Role;
use crate::steps::Clock;
use crate::sys::memory::reserve;
use crate::tensor::Tensor;
use core::ops::Range;

impl Optimizer {
    /// Returns the number of bytes that a load of everything copies.
    pub(super) fn n_state_bytes(&self, params: bool) -> u64 {
        let itself = params.then_some(Role::Param);
        let roles = || itself.into_iter().chain(Role::STATE);
        let of = |id: ParamId| {
            let bytes = |tensor: Tensor| tensor.addresses().len() as u64;
            roles().filter_map(|role| self.params.operands(id).tensor(role)).map(bytes).sum::<u64>()
        };
        self.params.live().map(of).sum()
    }

    /// Copies the tensors of all matches, file by file, begins the masters that were not saved, and
    /// sets the clocks on the device.
    pub(super) fn copy_from(
        &mut self,
        files: &mut [Checkpoint],
        found: &Found,
        options: &LoadOptions,
        progress: &mut Progress,
        buffers: &mut CopyBuffers,
    ) -> Result<(), Error> {
        for pieces in found.pieces.chunk_by(|a, b| a.file == b.file) {
            files[pieces[0].file as usize].opened(|file| {
                pieces.iter().try_for_each(|piece| {
                    let id = found.matches[piece.found as usize].id;
                    let n_bytes = self.copy_piece(id, piece, file, buffers)?;
                    // A parameter that a master wrote, unasked, is not in the total.
                    let is_counted = piece.role != Role::Param || options.params;
                    // The host cannot stop a load that has begun to write.
                    let _ = progress.add(if is_counted { n_bytes } else { 0 });
                    Ok(())
                })
            })?;
        }
        for found in found.matches.iter().filter(|found| found.clock.is_some()) {
            self.params.revise_param(found.id).master =
                if found.has_new_master { self.begin_master(found.id)? } else { Master::Settled };
        }
        for found in &found.matches {
            if let Some(clock) = found.clock {
                let has_param = options.params || found.is_half_of_master;
                self.take_up_on_device(found.id, &clock, has_param)?;
            }
        }
        Ok(())
    }

    /// Copies the elements of a piece to where they belong, and returns how many bytes that takes.
    fn copy_piece(
        &mut self,
        id: ParamId,
        piece: &Piece,
        file: &Checkpoint,
        buffers: &mut CopyBuffers,
    ) -> Result<u64, Error> {
        let (shard, role) = (self.params.shard(id), piece.role);
        let operands = self.params.revise_operands(id);
        let ours = part(operands, shard);
        let entry = piece.entry;
        // The first pass has found them: only the types allow for an error.
        let Some(Placed { theirs, ours }) = placed(operands, ours, piece, entry.n_elements())
        else {
            return Err(Error::HalfLoaded);
        };
        let tensor = operands.tensor(role).ok_or(Error::HalfLoaded)?;
        let (way, unit, dtype) = (piece.way, Unit::of(&operands.format(), role), tensor.dtype());
        let into = Into { role, dtype, moments: operands.format().moments(), unit };
        let from = Stored { file, entry, elements: theirs, way };
        let to = bytes(&ours, dtype);
        if operands.is_on_device() {
            for start in to.clone().step_by(PIECE) {
                let mut for_device = core::mem::take(&mut buffers.for_device);
                for_device.resize(PIECE.min(to.end - start), 0);
                from.read(&into, start - to.start, &mut for_device, buffers, &mut alone)?;
                self.backend.write_bytes(&tensor, start, &for_device)?;
                buffers.for_device = for_device;
            }
        } else {
            let to = &mut operands.bytes_mut(role)[to.clone()];
            from.read(&into, 0, to, buffers, &mut |n_tasks, work| {
                self.backend.share(n_tasks, work)
            })?;
        }
        Ok(to.len() as u64)
    }

    /// Sets the clock of a parameter that has been loaded. All its rows are up to date, and what
    /// was for the next step of the state before is forgotten.
    pub(super) fn take_clock(&mut self, found: &Match, clock: Clock) {
        self.params.revise_clock(found.id, clock);
        self.params.revise_param(found.id).stepped_alone = false;
        let operands = self.params.revise_operands(found.id);
        operands.forget_measured();
        operands.forget_accumulated();
        if let Some((lag, _)) = operands.lag_and_index() {
            lag.mark_all_caught_up();
        }
    }
}

/// Returns the bytes that elements of a tensor take.
fn bytes(elements: &Range<u64>, dtype: Dtype) -> Range<usize> {
    let each = dtype.bytes();
    elements.start as usize * each..elements.end as usize * each
}

/// Memory for elements on their way.
pub struct CopyBuffers {
    /// For elements that are converted.
    stored: Vec<u8>,
    /// For elements of which codes or halves are made.
    wide: Vec<f32>,
    /// For elements that go to a device.
    for_device: Vec<u8>,
    /// For small tensors, which are read together with their neighbours.
    window: Window,
}

impl CopyBuffers {
    pub fn new(window: Window) -> Result<CopyBuffers, Error> {
        let (mut stored, mut wide, mut for_device) = (Vec::new(), Vec::new(), Vec::new());
        reserve(&mut wide, PIECE / 8, "a buffer for making codes")?;
        reserve(&mut stored, PIECE, "a buffer for converting")?;
        reserve(&mut for_device, PIECE, "a buffer for what goes to the device")?;
        Ok(CopyBuffers { stored, wide, for_device, window })
    }
}

/// The tensor of the handle that elements go into.
struct Into {
    role: Role,
    dtype: Dtype,
    moments: MomentFormat,
    unit: Unit,
}

/// Some elements of a tensor in a checkpoint.
struct Stored<'a> {
    file: &'a Checkpoint<'a>,
    entry: Entry,
    elements: Range<u64>,
    way: Way,
}

impl Stored<'_> {
    /// Reads elements and brings them into the form of a tensor, from `skipped` bytes of that after
    /// the first on.
    fn read(
        &self,
        into: &Into,
        skipped: usize,
        to: &mut [u8],
        buffers: &mut CopyBuffers,
        share: Share,
    ) -> Result<(), Error> {
        if self.way != Way::Plain {
            return self.read_made(into, skipped, to, buffers, share);
        }
        let (Stored { file, entry, elements, .. }, dtype) = (self, into.dtype);
        let first = elements.start + (skipped / dtype.bytes()) as u64;
        let stored = from_name(entry.dtype()).filter(|&from| from != dtype && converts(dtype));
        let Some(from) = stored else {
            let at = first * dtype.bytes() as u64;
            return file.read(entry, at, to, &mut buffers.window, share);
        };
        let mut at = first * from.bytes() as u64;
        for to in to.chunks_mut(PIECE / 8 * dtype.bytes()) {
            let n = to.len() / dtype.bytes() * from.bytes();
            buffers.stored.resize(n, 0);
            file.read(entry, at, &mut buffers.stored, &mut buffers.window, share)?;
            at += n as u64;
            convert((&buffers.stored, from), (to, dtype));
        }
        Ok(())
    }

    /// As `read`, for codes, scales and halves, which are made of floating-point elements.
    fn read_made(
        &self,
        into: &Into,
        skipped: usize,
        to: &mut [u8],
        buffers: &mut CopyBuffers,
        share: Share,
    ) -> Result<(), Error> {
        let Stored { file, entry, elements, way } = self;
        let CopyBuffers { stored, wide, window, .. } = buffers;
        // The first pass has found that it has one of these types.
        let Some(from) = from_name(entry.dtype()) else { return Err(Error::HalfLoaded) };
        let of_unit = into.unit.elements;
        let size = into.unit.stored as usize * into.dtype.bytes();
        let mut at = elements.start + (skipped / size) as u64 * of_unit;
        for to in to.chunks_mut(PIECE / 8 / of_unit as usize * size) {
            let n = (to.len().div_ceil(size) as u64 * of_unit).min(elements.end - at);
            stored.resize(n as usize * from.bytes(), 0);
            file.read(entry, at * from.bytes() as u64, stored, window, share)?;
            wide.clear();
            widened((stored, from), wide);
            match way {
                Way::Upper | Way::Rest => halve(*way, wide, to),
                _ => encode(*way, into.role, into.moments, wide, to),
            }
            at += n;
        }
        Ok(())
    }
}
