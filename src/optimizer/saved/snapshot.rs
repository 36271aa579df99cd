//! A copy of all that a checkpoint has, so that it can be written while steps go on.
//!
//! `Optimizer::copy_to` copies every tensor to its place, one behind the other in the order of the
//! file. Long tensors in the host's memory are gathered, and copied by the handle's threads at the
//! end.
#![forbid(unsafe_code)]

use super::layout::{Bytes, Layout, Saved};
use super::write::{Pieces, Visit};
use crate::checkpoint::PIECE;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::ParamId;
use crate::role::Role;
use crate::sys::counted::Counted;
use crate::sys::memory::{Block, reserve};
use crate::sys::streamed;
use core::mem::take;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Fewer bytes are copied at once, and by the caller.
const SHORTEST: usize = 1 << 16;
/// Bytes that a thread copies at once.
const TASK: usize = 1 << 20;

/// The tensors of a checkpoint.
pub struct Snapshot {
    /// Their bytes, and perhaps some room behind them.
    memory: Block,
    n_bytes: usize,
    /// By tensor, where its bytes end.
    ends: Vec<usize>,
    /// The number of bytes that have been visited.
    pub n_visited: Counted<AtomicU64>,
}

impl Snapshot {
    /// Returns a snapshot of `n_bytes` bytes, in the memory of an earlier one if that has room.
    pub fn new(n_bytes: usize, earlier: Option<Snapshot>) -> Result<Snapshot, Error> {
        let n_visited = Counted::new(AtomicU64::new(0), "the progress of a save")?;
        let earlier = earlier.filter(|earlier| earlier.memory.bytes().len() >= n_bytes);
        let (memory, mut ends) = match earlier {
            Some(Snapshot { memory, ends, .. }) => (memory, ends),
            None => (Block::zeroed(n_bytes, "a snapshot of the state")?, Vec::new()),
        };
        ends.clear();
        Ok(Snapshot { memory, n_bytes, ends, n_visited })
    }
}

impl Pieces for Snapshot {
    fn each(&self, visit: &mut Visit) -> Result<(), Error> {
        let mut start = 0;
        for (number, &end) in self.ends.iter().enumerate() {
            for piece in self.memory.bytes()[start..end].chunks(PIECE) {
                visit(number, piece)?;
                self.n_visited.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            start = end;
        }
        Ok(())
    }
}

/// A part of a tensor that starts at a byte of it, and where it is copied to.
struct Part<'a> {
    of: (ParamId, Role),
    start: usize,
    to: &'a mut [u8],
}

impl Optimizer {
    /// Copies all tensors.
    pub(super) fn copy_to(
        &mut self,
        snapshot: &mut Snapshot,
        layout: &Layout,
    ) -> Result<(), Error> {
        let Snapshot { memory, n_bytes, ends, .. } = snapshot;
        let (mut rest, mut long) = (&mut memory.bytes_mut()[..*n_bytes], Vec::new());
        let mut end = 0;
        self.each_tensor(layout, |Saved { bytes, n_bytes, goes_on, .. }| {
            let (to, behind) = take(&mut rest).split_at_mut(n_bytes);
            rest = behind;
            end += n_bytes;
            if goes_on {
                ends.pop();
            }
            reserve(ends, 1, "a snapshot of the state")?;
            ends.push(end);
            match bytes {
                Bytes::Number(bytes) => to.copy_from_slice(&bytes[..n_bytes]),
                Bytes::Name(id) => to.copy_from_slice(self.params[id].name.to_bytes_with_nul()),
                Bytes::Kinds => {
                    layout.packed.iter().for_each(|packed| to.copy_from_slice(&packed.words));
                }
                Bytes::Of(id, role) => match self.on_device(id, role) {
                    Some(tensor) => self.backend.read_bytes(&tensor, 0, to)?,
                    None if n_bytes < SHORTEST => {
                        to.copy_from_slice(self.params.operands(id).bytes(role));
                    }
                    None => {
                        reserve(&mut long, n_bytes.div_ceil(TASK), "a snapshot of the state")?;
                        let parts = (0..).step_by(TASK).zip(to.chunks_mut(TASK));
                        long.extend(parts.map(|(start, to)| Part { of: (id, role), start, to }));
                    }
                },
            }
            Ok(())
        })?;
        let Optimizer { params, backend, .. } = self;
        let (n_parts, parts) = (long.len(), Mutex::new(long.into_iter()));
        let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
        backend.share(n_parts, &|| {
            while let Some(Part { of: (id, role), start, to }) = next() {
                streamed::copy(&params.operands(id).bytes(role)[start..][..to.len()], to);
            }
        });
        Ok(())
    }
}
