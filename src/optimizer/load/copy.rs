//! The second pass: what was found right is copied to where it belongs.
#![forbid(unsafe_code)]

use super::super::Optimizer;
use super::super::params::Master;
use super::LoadOptions;
use super::convert::{convert, converts, from_name};
use super::params::{Match, Piece, Pieces, part, roles, with_name};
use crate::checkpoint::{Checkpoint, Entry, PIECE, Progress};
use crate::dtype::Dtype;
use crate::error::{Error, Role};
use core::ops::Range;

impl Optimizer {
    /// Bytes that a load of everything copies.
    pub(super) fn n_state_bytes(&self, params: bool) -> u64 {
        let itself = params.then_some(Role::Param);
        let roles = || itself.into_iter().chain(Role::STATE);
        let of = |number: usize| {
            let bytes = |tensor: Tensor| tensor.addresses().len() as u64;
            roles().filter_map(|role| self.operands[number].tensor(role)).map(bytes).sum::<u64>()
        };
        self.live().map(of).sum()
    }

    /// Copies the tensors of all matches. There is room for `PIECE` bytes in the buffer.
    pub(super) fn copy_from(
        &mut self,
        files: &[Checkpoint],
        matches: &[Match],
        options: &LoadOptions,
        progress: &mut Progress,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Error> {
        for &Match { number, .. } in matches {
            let operands = &mut self.operands[number];
            let ours = part(operands, self.shards[number]);
            with_name(&self.params[number], options, |name| {
                for role in roles(options) {
                    let Some(tensor) = operands.tensor(role) else { continue };
                    let dtype = tensor.dtype();
                    let mut at = ours.first;
                    while at < ours.end() {
                        let all = Pieces { files, name, role, operands, ours, options };
                        // The first pass found it there.
                        let Some((piece, end)) = all.piece(at) else { return Ok(()) };
                        let Piece { file, entry, theirs, ours } = piece;
                        let to = &mut operands.bytes_mut(role)[bytes(&ours, dtype)];
                        match from_name(entry.dtype()).filter(|&from| from != dtype) {
                            Some(from) if converts(dtype) => {
                                let start = theirs.start * from.bytes() as u64;
                                converted(file, entry, start, from, (to, dtype), buffer)?;
                            }
                            _ => file.read(entry, theirs.start * dtype.bytes() as u64, to)?,
                        }
                        // Nobody may stop what is half done.
                        let _ = progress.add((ours.end - ours.start) * dtype.bytes() as u64);
                        at = end;
                    }
                }
                Ok(())
            })??;
        }
        Ok(())
    }

    /// Takes how far a parameter had come; all its rows and its master are what was saved.
    pub(super) fn take_clock(&mut self, found: &Match) {
        let number = found.number;
        self.params[number].clock = found.clock;
        self.params[number].master = Master::Settled;
        if let Some((lag, _)) = self.operands[number].lag_and_index() {
            lag.all_caught_up();
        }
    }
}

fn bytes(elements: &Range<u64>, dtype: Dtype) -> Range<usize> {
    let each = dtype.bytes();
    elements.start as usize * each..elements.end as usize * each
}

/// Reads elements of another type piece by piece.
fn converted(
    file: &Checkpoint,
    entry: &Entry,
    start: u64,
    from: Dtype,
    (to, dtype): (&mut [u8], Dtype),
    buffer: &mut Vec<u8>,
) -> Result<(), Error> {
    let each = PIECE / 8;
    let mut at = start;
    for to in to.chunks_mut(each * dtype.bytes()) {
        let n = to.len() / dtype.bytes() * from.bytes();
        buffer.resize(n, 0);
        file.read(entry, at, buffer)?;
        at += n as u64;
        convert((buffer, from), (to, dtype));
    }
    Ok(())
}
