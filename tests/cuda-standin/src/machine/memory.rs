//! The memory that kernels may touch: ranges of the host's own memory, under their true addresses.

use super::fault::Trouble;
use super::races::{self, Access, MOST_BLOCKS};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::VecDeque;
use std::ptr;

/// What a range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// Allocated for the device.
    Device,
    /// Allocated for the host, page-locked.
    Pinned,
    /// The host's own, page-locked later.
    Registered,
    /// A variable of a module.
    Variable,
    /// As `Variable`, not to be written by kernels.
    Constant,
}

struct Range {
    start: u64,
    bytes: u64,
    kind: RangeKind,
    /// One word for each four bytes, once a kernel has touched the range.
    words: Vec<u64>,
}

impl Range {
    fn holds(&self, address: u64, bytes: u64) -> bool {
        address >= self.start
            && address - self.start <= self.bytes
            && bytes <= self.bytes - (address - self.start)
    }

    /// How this memory was allocated, with the gap behind it that belongs to nobody.
    fn layout(&self) -> Option<Layout> {
        Layout::from_size_align(self.bytes as usize + GAP, ALIGN).ok()
    }
}

/// What the driver promises for an allocation, and more.
const ALIGN: usize = 512;
/// Nothing lies right behind an allocation.
const GAP: usize = 512;
/// Freed memory stays unused until this much of it has come together, so that a use of it shows.
const MOST_FREED: u64 = 64 << 20;
/// Not zero: NaN as any float, and far outside as any index.
const POISON: u8 = 0xFF;

/// All ranges.
pub struct Memory {
    /// By address.
    ranges: Vec<Range>,
    freed: VecDeque<Range>,
    /// Their bytes together.
    freed_bytes: u64,
    /// Where the last access was found; the next one is likely there too.
    recent: usize,
    launch: u8,
    /// The block that runs, from 1; 0 where nobody looks for races.
    block: u64,
    /// Whether to look for races between blocks.
    pub finds_races: bool,
}

impl Memory {
    /// No memory.
    pub const fn new() -> Memory {
        Memory {
            ranges: Vec::new(),
            freed: VecDeque::new(),
            freed_bytes: 0,
            recent: 0,
            launch: 0,
            block: 0,
            finds_races: true,
        }
    }

    /// Allocates poisoned memory, at a multiple of 512; none when the host has none.
    pub fn allocate(&mut self, bytes: u64, kind: RangeKind) -> Option<u64> {
        let mut range = Range { start: 0, bytes, kind, words: Vec::new() };
        let layout = range.layout()?;
        // SAFETY: with the gap the layout is never empty.
        let memory = unsafe { alloc(layout) };
        if memory.is_null() {
            return None;
        }
        // SAFETY: the memory was just allocated with this layout.
        unsafe { ptr::write_bytes(memory, POISON, layout.size()) };
        range.start = memory as u64;
        let start = range.start;
        self.insert(range);
        Some(start)
    }

    /// Lets kernels touch memory that somebody else owns; `false` where a range has it already.
    pub fn register(&mut self, start: u64, bytes: u64, kind: RangeKind) -> bool {
        let end = start.saturating_add(bytes);
        let taken =
            self.ranges.iter().any(|range| range.start < end && start < range.start + range.bytes);
        if !taken {
            self.insert(Range { start, bytes, kind, words: Vec::new() });
        }
        !taken
    }

    fn insert(&mut self, range: Range) {
        let at = self.ranges.partition_point(|other| other.start < range.start);
        self.ranges.insert(at, range);
    }

    /// Ends a range that begins there and is one of these kinds; `false` where there is none.
    pub fn remove(&mut self, start: u64, kinds: &[RangeKind]) -> bool {
        let found = self.ranges.iter().position(|range| range.start == start);
        let Some(at) = found.filter(|&at| kinds.contains(&self.ranges[at].kind)) else {
            return false;
        };
        let range = self.ranges.remove(at);
        if matches!(range.kind, RangeKind::Device | RangeKind::Pinned) {
            self.freed_bytes += range.bytes;
            self.freed.push_back(Range { words: Vec::new(), ..range });
            while self.freed_bytes > MOST_FREED
                && let Some(oldest) = self.freed.pop_front()
            {
                self.freed_bytes -= oldest.bytes;
                give_back(&oldest);
            }
        }
        true
    }

    /// Ends every range.
    pub fn clear(&mut self) {
        for range in self.ranges.drain(..).chain(self.freed.drain(..)) {
            if matches!(range.kind, RangeKind::Device | RangeKind::Pinned) {
                give_back(&range);
            }
        }
        self.freed_bytes = 0;
    }

    /// Start, bytes and kind of the range that holds all of this.
    pub fn range_of(&self, address: u64, bytes: u64) -> Option<(u64, u64, RangeKind)> {
        let after = self.ranges.partition_point(|range| range.start <= address);
        let range = &self.ranges[after.checked_sub(1)?];
        range.holds(address, bytes).then_some((range.start, range.bytes, range.kind))
    }

    /// How many ranges of this kind there are.
    pub fn count(&self, kind: RangeKind) -> usize {
        self.ranges.iter().filter(|range| range.kind == kind).count()
    }

    /// The bytes of all ranges of this kind.
    pub fn bytes(&self, kind: RangeKind) -> u64 {
        self.ranges.iter().filter(|range| range.kind == kind).map(|range| range.bytes).sum()
    }

    /// Begins a launch, or the part of one behind a fence that orders its blocks.
    pub fn begin_launch(&mut self) {
        if self.launch == u8::MAX {
            self.ranges.iter_mut().for_each(|range| range.words = Vec::new());
            self.launch = 0;
        }
        self.launch += 1;
    }

    /// Begins a block of the launch (first is 0).
    pub fn begin_block(&mut self, block: u64) {
        let watched = self.finds_races && block < MOST_BLOCKS;
        self.block = if watched { block + 1 } else { 0 };
    }

    /// Checks an access of the running block.
    #[inline]
    pub fn check(&mut self, address: u64, bytes: usize, write: bool) -> Result<(), Trouble> {
        let recent = self.ranges.get(self.recent);
        if !recent.is_some_and(|range| range.holds(address, bytes as u64)) {
            self.recent = self.find(address, bytes, write)?;
        }
        let range = &mut self.ranges[self.recent];
        if write && range.kind == RangeKind::Constant {
            return Err(Trouble::illegal(format!("write of a constant at {address:#x}")));
        }
        if self.block == 0 {
            return Ok(());
        }
        if range.words.is_empty() {
            range.words = vec![0; (range.bytes as usize).div_ceil(4)];
        }
        let access = Access { launch: self.launch, block: self.block, write };
        let offset = (address - range.start) as usize;
        races::note(&mut range.words, offset, bytes, access)
            .map_err(|text| Trouble::of_warp(format!("global race at {address:#x}: {text}")))
    }

    /// Checks an atomic access, which races with no other.
    pub fn check_atomic(&mut self, address: u64, bytes: usize) -> Result<(), Trouble> {
        let block = std::mem::take(&mut self.block);
        let checked = self.check(address, bytes, true);
        self.block = block;
        checked
    }

    #[cold]
    fn find(&self, address: u64, bytes: usize, write: bool) -> Result<usize, Trouble> {
        let after = self.ranges.partition_point(|range| range.start <= address);
        let before = after.checked_sub(1).map(|at| &self.ranges[at]);
        if before.is_some_and(|range| range.holds(address, bytes as u64)) {
            return Ok(after - 1);
        }
        let verb = if write { "write" } else { "read" };
        let near = match self.freed.iter().find(|range| range.holds(address, 1)) {
            Some(range) => {
                format!("inside {} bytes at {:#x} that were freed", range.bytes, range.start)
            }
            None => match before {
                Some(range) => format!(
                    "{} bytes behind the start of {} bytes at {:#x}",
                    address - range.start,
                    range.bytes,
                    range.start
                ),
                None => "below all memory".to_owned(),
            },
        };
        Err(Trouble::illegal(format!("{verb} of {bytes} bytes at {address:#x}, {near}")))
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}

fn give_back(range: &Range) {
    if let Some(layout) = range.layout() {
        // SAFETY: `allocate` got this memory with this layout, and the range has just ended.
        unsafe { dealloc(range.start as *mut u8, layout) };
    }
}
