//! The second pass: what was found right is copied to where it belongs.
#![forbid(unsafe_code)]

use super::LoadOptions;
use super::convert::{convert, converts, from_name};
use super::cover::stored;
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
    /// Bytes that a load of everything copies.
    pub(super) fn n_state_bytes(&self, params: bool) -> u64 {
        let itself = params.then_some(Role::Param);
        let roles = || itself.into_iter().chain(Role::STATE);
        let of = |id: ParamId| {
            let bytes = |tensor: Tensor| tensor.addresses().len() as u64;
            roles().filter_map(|role| self.params.operands(id).tensor(role)).map(bytes).sum::<u64>()
        };
        self.params.live().map(of).sum()
    }

    /// Copies the tensors of all matches, file by file, and how far those on a device had come.
    /// Masters are what was saved, or begin.
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
        // The first pass found it so; the error is for the types alone.
        let Some((theirs, ours)) = stored(operands, ours, piece, entry.n_elements()) else {
            return Err(Error::HalfLoaded);
        };
        let tensor = operands.tensor(role).ok_or(Error::HalfLoaded)?;
        let (from, dtype) = (Stored { file, entry, first: theirs.start }, tensor.dtype());
        let to = bytes(&ours, dtype);
        if operands.is_on_device() {
            for start in to.clone().step_by(PIECE) {
                let mut there = core::mem::take(&mut buffers.there);
                there.resize(PIECE.min(to.end - start), 0);
                from.read(dtype, start - to.start, &mut there, buffers, &mut alone)?;
                self.backend.write_bytes(&tensor, start, &there)?;
                buffers.there = there;
            }
        } else {
            let to = &mut operands.bytes_mut(role)[to.clone()];
            from.read(dtype, 0, to, buffers, &mut |n_tasks, work| {
                self.backend.share(n_tasks, work)
            })?;
        }
        // Nobody may stop what is half done.
        let _ = progress.add(to.len() as u64);
        Ok(())
    }

    /// Takes how far a parameter had come; all its rows are what was saved, and what was for the
    /// step that comes next has gone with what was before.
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

fn bytes(elements: &Range<u64>, dtype: Dtype) -> Range<usize> {
    let each = dtype.bytes();
    elements.start as usize * each..elements.end as usize * each
}

/// Memory that a copy needs on its way.
pub struct CopyBuffers {
    /// For elements of another type.
    stored: Vec<u8>,
    /// For elements that go to a device.
    there: Vec<u8>,
}

impl CopyBuffers {
    pub fn new() -> Result<CopyBuffers, Error> {
        let (mut stored, mut there) = (Vec::new(), Vec::new());
        reserve(&mut stored, PIECE, "a buffer for converting")?;
        reserve(&mut there, PIECE, "a buffer for what goes to the device")?;
        Ok(CopyBuffers { stored, there })
    }
}

/// Stored elements of a checkpoint, from one on.
struct Stored<'a> {
    file: &'a Checkpoint<'a>,
    entry: Entry,
    first: u64,
}

impl Stored<'_> {
    /// Reads elements as this type: those so many bytes of it after the first.
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
