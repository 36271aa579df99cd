//! Long tensors, read and summed by several threads: each sums the bytes that it has just read,
//! which are still in its cache.
#![forbid(unsafe_code)]

use super::source::Shared;
use super::{PIECE, Progress, zeros};
use crate::error::Error;
use crate::sys::memory::reserve;
use crc32fast::Hasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Runs work on at most this many threads, the caller's included; returns when all have returned.
pub type Share<'a> = &'a mut dyn FnMut(usize, &(dyn Fn() + Sync));

/// Runs work on the caller's thread alone.
pub fn alone(_: usize, work: &(dyn Fn() + Sync)) {
    work();
}

/// Bytes that a thread takes at once.
const TASK: usize = 4 * PIECE;
/// Tasks that are shared out at once, and their bytes.
const TASKS: usize = 16;
const ROUND: usize = TASKS * TASK;
/// Fewer bytes are read by the caller alone.
pub(super) const SHORTEST: usize = 2 * TASK;

/// Buffers for threads that have nowhere to read to: as many as there have been threads.
#[derive(Default)]
pub struct Buffers(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    /// The number of buffers, those in use included; there is room for all.
    made: usize,
}

impl Buffers {
    /// Returns the checksum of `n` bytes.
    pub fn sum(
        &self,
        from: Shared,
        at: u64,
        n: u64,
        progress: &mut Progress,
        share: Share,
    ) -> Result<u32, Error> {
        let mut all = Hasher::new();
        for round in (at..at + n).step_by(ROUND) {
            let bytes = ROUND.min((at + n - round) as usize);
            let starts = (0..bytes).step_by(TASK);
            let tasks = starts.map(|start| (round + start as u64, TASK.min(bytes - start)));
            each(tasks, bytes, &mut all, share, &|(at, n)| {
                let mut buffer = self.take()?;
                let mut sum = Hasher::new();
                for start in (0..n).step_by(buffer.len()) {
                    let piece_bytes = buffer.len().min(n - start);
                    let piece = &mut buffer[..piece_bytes];
                    from.read(at + start as u64, piece)?;
                    sum.update(piece);
                }
                self.give_back(buffer);
                Ok(sum.finalize())
            })?;
            progress.add(bytes as u64)?;
        }
        Ok(all.finalize())
    }

    fn take(&self) -> Result<Vec<u8>, Error> {
        let mut idle = locked(&self.0);
        if let Some(buffer) = idle.buffers.pop() {
            return Ok(buffer);
        }
        let all = idle.made + 1;
        reserve(&mut idle.buffers, all, "buffers for reading")?;
        idle.made = all;
        drop(idle);
        zeros(PIECE, "a buffer for reading")
    }

    fn give_back(&self, buffer: Vec<u8>) {
        locked(&self.0).buffers.push(buffer);
    }
}

/// Reads bytes to where they belong, and returns their checksum.
pub fn read(from: Shared, at: u64, to: &mut [u8], share: Share) -> Result<u32, Error> {
    let mut all = Hasher::new();
    for (at, round) in (at..).step_by(ROUND).zip(to.chunks_mut(ROUND)) {
        let n = round.len();
        let tasks = (at..).step_by(TASK).zip(round.chunks_mut(TASK));
        each(tasks, n, &mut all, share, &|(at, to)| {
            let mut sum = Hasher::new();
            for (at, piece) in (at..).step_by(PIECE).zip(to.chunks_mut(PIECE)) {
                from.read(at, piece)?;
                sum.update(piece);
            }
            Ok(sum.finalize())
        })?;
    }
    Ok(all.finalize())
}

/// Has threads do tasks that cover the `n` bytes of a round, and joins their checksums to `all`.
fn each<T>(
    tasks: impl Iterator<Item = T> + Send,
    n: usize,
    all: &mut Hasher,
    share: Share,
    work: &(dyn Fn(T) -> Result<u32, Error> + Sync),
) -> Result<(), Error> {
    let sums = [const { Mutex::new(Ok(0)) }; TASKS];
    let tasks = Mutex::new(tasks.zip(&sums));
    let next = || locked(&tasks).next();
    share(n.div_ceil(TASK), &|| {
        while let Some((task, sum)) = next() {
            let summed = work(task);
            *locked(sum) = summed;
        }
    });
    for (start, sum) in (0..n).step_by(TASK).zip(&sums) {
        let sum = core::mem::replace(&mut *locked(sum), Ok(0))?;
        all.combine(&Hasher::new_with_initial_len(sum, TASK.min(n - start) as u64));
    }
    Ok(())
}

/// Locks a mutex. No thread panics while it holds one.
fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
