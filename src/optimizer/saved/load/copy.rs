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
use super::convert::{convert, converts, from_name};
use super::cover::{Placed, placed};
use super::found::{Found, Match, part};
use super::pieces::Piece;
use crate::checkpoint::{Checkpoint, Entry, PIECE, Progress, Share, alone};
use crate::dtype::Dtype;
use crate::error::Error;
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
                    self.copy_piece(id, piece, file, progress, buffers)
                })
            })?;
        }
        for found in found.matches.iter().filter(|found| found.clock.is_some()) {
            self.params.revise_param(found.id).master =
                if found.has_new_master { self.begin_master(found.id)? } else { Master::Settled };
        }
        for found in &found.matches {
            if let Some(clock) = found.clock {
                self.take_up_on_device(found.id, &clock, options.params)?;
            }
        }
        Ok(())
    }

    /// Copies the elements of a piece to where they belong.
    fn copy_piece(
        &mut self,
        id: ParamId,
        piece: &Piece,
        file: &Checkpoint,
        progress: &mut Progress,
        buffers: &mut CopyBuffers,
    ) -> Result<(), Error> {
        let (shard, role) = (self.params.shard(id), piece.role);
        let operands = self.params.revise_operands(id);
        let ours = part(operands, shard);
        let entry = file.header().entries()[piece.entry as usize];
        // The first pass has found them: only the types allow for an error.
        let Some(Placed { theirs, ours }) = placed(operands, ours, piece, entry.n_elements())
        else {
            return Err(Error::HalfLoaded);
        };
        let tensor = operands.tensor(role).ok_or(Error::HalfLoaded)?;
        let (from, dtype) = (Stored { file, entry, first: theirs.start }, tensor.dtype());
        let to = bytes(&ours, dtype);
        if operands.is_on_device() {
            for start in to.clone().step_by(PIECE) {
                let mut for_device = core::mem::take(&mut buffers.for_device);
                for_device.resize(PIECE.min(to.end - start), 0);
                from.read(dtype, start - to.start, &mut for_device, buffers, &mut alone)?;
                self.backend.write_bytes(&tensor, start, &for_device)?;
                buffers.for_device = for_device;
            }
        } else {
            let to = &mut operands.bytes_mut(role)[to.clone()];
            from.read(dtype, 0, to, buffers, &mut |n_tasks, work| {
                self.backend.share(n_tasks, work)
            })?;
        }
        // The host cannot stop a load that has begun to write.
        let _ = progress.add(to.len() as u64);
        Ok(())
    }

    /// Sets the clock of a parameter that has been loaded. All its rows are up to date, and what
    /// was for the next step of the state before is forgotten.
    pub(super) fn take_clock(&mut self, found: &Match, clock: Clock) {
        let param = self.params.revise_param(found.id);
        (param.clock, param.stepped_alone) = (clock, false);
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
    /// For elements that go to a device.
    for_device: Vec<u8>,
}

impl CopyBuffers {
    pub fn new() -> Result<CopyBuffers, Error> {
        let (mut stored, mut for_device) = (Vec::new(), Vec::new());
        reserve(&mut stored, PIECE, "a buffer for converting")?;
        reserve(&mut for_device, PIECE, "a buffer for what goes to the device")?;
        Ok(CopyBuffers { stored, for_device })
    }
}

/// The elements of a tensor in a checkpoint, from `first` on.
struct Stored<'a> {
    file: &'a Checkpoint<'a>,
    entry: Entry,
    first: u64,
}

impl Stored<'_> {
    /// Reads elements and converts them to a type, from `skipped` bytes of that type after the
    /// first on.
    fn read(
        &self,
        dtype: Dtype,
        skipped: usize,
        to: &mut [u8],
        buffers: &mut CopyBuffers,
        share: Share,
    ) -> Result<(), Error> {
        let Stored { file, entry, first } = self;
        let first = first + (skipped / dtype.bytes()) as u64;
        let stored = from_name(entry.dtype()).filter(|&from| from != dtype && converts(dtype));
        let Some(from) = stored else {
            return file.read(entry, first * dtype.bytes() as u64, to, share);
        };
        let mut at = first * from.bytes() as u64;
        for to in to.chunks_mut(PIECE / 8 * dtype.bytes()) {
            let n = to.len() / dtype.bytes() * from.bytes();
            buffers.stored.resize(n, 0);
            file.read(entry, at, &mut buffers.stored, share)?;
            at += n as u64;
            convert((&buffers.stored, from), (to, dtype));
        }
        Ok(())
    }
}
