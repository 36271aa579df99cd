//! A block's shared memory, and the races between its threads.
//!
//! Two threads race for a byte when one of them writes it and nothing stands between their
//! accesses: no barrier of the block, and no barrier of the warp where both belong to one warp.
//! That lanes happen to run together is no excuse: on a real device they need not.

use super::fault::{Kind, Trouble};
use super::lanes::LANES;

const POISON: u8 = 0xFF;

/// Who accessed a unit last, and in which part between barriers.
#[derive(Clone, Copy, Default)]
struct Mark {
    /// The part between two barriers of the block (first is 1; 0 is nobody).
    part: u32,
    /// The part between two barriers of the warp.
    warp_part: u32,
    thread: Who,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Who {
    Thread(u32),
    /// Several threads of this warp.
    Warp(u32),
    /// Threads of several warps.
    #[default]
    Several,
}

impl Who {
    fn warp(self) -> Option<u32> {
        match self {
            Who::Thread(thread) => Some(thread / LANES as u32),
            Who::Warp(warp) => Some(warp),
            Who::Several => None,
        }
    }
}

impl Mark {
    /// Whether nothing orders an access after this one.
    fn races(&self, now: &Mark) -> bool {
        self.part == now.part && self.thread != now.thread && !self.met(now)
    }

    /// Whether the warp has met since, if both are of one warp.
    fn met(&self, now: &Mark) -> bool {
        self.thread.warp() == now.thread.warp() && self.warp_part != now.warp_part
    }

    /// This access and one more; only the later one where it says all that the earlier one does.
    fn joined(&self, now: Mark) -> Mark {
        if self.part != now.part || self.thread == now.thread || self.met(&now) {
            return now;
        }
        let thread = match (self.thread.warp(), now.thread.warp()) {
            (Some(before), Some(warp)) if before == warp => Who::Warp(warp),
            _ => Who::Several,
        };
        Mark { thread, ..now }
    }
}

pub struct Shared {
    bytes: Vec<u8>,
    /// Bytes that are always accessed together: no access is shorter, or begins inside.
    unit: usize,
    /// By unit.
    writers: Vec<Mark>,
    readers: Vec<Mark>,
    /// Atomics race with what is not atomic.
    atomics: Vec<Mark>,
    part: u32,
    /// By warp.
    warp_parts: Vec<u32>,
}

impl Shared {
    /// Poisoned memory for so many warps, which access it in multiples of so many bytes.
    pub fn new(bytes: usize, unit: usize, warps: usize) -> Shared {
        let units = bytes.div_ceil(unit);
        Shared {
            bytes: vec![POISON; bytes],
            unit,
            writers: vec![Mark::default(); units],
            readers: vec![Mark::default(); units],
            atomics: vec![Mark::default(); units],
            part: 1,
            warp_parts: vec![0; warps],
        }
    }

    /// Poisons it for the next block.
    pub fn begin_block(&mut self) {
        self.bytes.fill(POISON);
        self.part += 1;
    }

    /// All threads have met.
    pub fn barrier(&mut self) {
        self.part += 1;
    }

    /// The threads of a warp have met.
    pub fn warp_barrier(&mut self, warp: usize) {
        self.warp_parts[warp] += 1;
    }

    /// Checks an access of a thread, which no atomic races with another atomic.
    pub fn check(
        &mut self,
        address: u64,
        bytes: usize,
        thread: usize,
        write: bool,
        atomic: bool,
    ) -> Result<usize, Trouble> {
        let length = self.bytes.len();
        let inside = address <= length as u64 && bytes <= length - address as usize;
        if !inside {
            let text = format!("shared access of {bytes} bytes at {address} of {length}");
            return Err(Trouble { kind: Kind::IllegalAddress, lane: None, text });
        }
        let start = address as usize;
        let now = Mark {
            part: self.part,
            warp_part: self.warp_parts[thread / LANES],
            thread: Who::Thread(thread as u32),
        };
        for unit in start / self.unit..(start + bytes) / self.unit {
            let after_write =
                self.writers[unit].races(&now) || (!atomic && self.atomics[unit].races(&now));
            if after_write || (write && self.readers[unit].races(&now)) {
                let before = if after_write { "wrote" } else { "read" };
                let verb = if write { "writes" } else { "reads" };
                let byte = unit * self.unit;
                return Err(Trouble::of_warp(format!(
                    "shared race at byte {byte}: thread {thread} {verb} what another {before} \
                     with no barrier between"
                )));
            }
            if atomic {
                self.atomics[unit] = self.atomics[unit].joined(now);
            } else if write {
                self.writers[unit] = now;
            } else {
                self.readers[unit] = self.readers[unit].joined(now);
            }
        }
        Ok(start)
    }

    /// The number in so many bytes, which were checked.
    pub fn read(&self, start: usize, bytes: usize) -> u64 {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(&self.bytes[start..start + bytes]);
        u64::from_le_bytes(number)
    }

    /// Writes the low bytes of a number where it was checked.
    pub fn write(&mut self, start: usize, bytes: usize, number: u64) {
        self.bytes[start..start + bytes].copy_from_slice(&number.to_le_bytes()[..bytes]);
    }
}
