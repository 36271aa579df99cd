//! Loads and stores of a warp.

use super::fault::{Kind, Trouble};
use super::lanes::{LANES, lanes_of};
use super::warp::{Context, Warp};
use crate::ptx::SHARED_WINDOW;
use crate::ptx::instruction::{Address, Space, Vector};
use crate::ptx::types::Type;

/// One lane's place, checked.
pub enum Place {
    Param(usize),
    Shared(usize),
    /// An address of the host.
    Global(u64),
}

/// One lane's access, before it is checked.
pub struct Wanted {
    pub space: Space,
    pub address: u64,
    pub bytes: usize,
    /// Of the block.
    pub thread: usize,
    pub write: bool,
    pub atomic: bool,
}

impl Context<'_> {
    /// Checks an access.
    #[inline(always)]
    pub fn place(&mut self, wanted: &Wanted) -> Result<Place, Trouble> {
        let Wanted { address, bytes, .. } = *wanted;
        if address & (bytes as u64 - 1) != 0 {
            let text = format!("access of {bytes} bytes at {address:#x} is misaligned");
            return Err(Trouble { kind: Kind::Misaligned, lane: None, text });
        }
        self.aligned_place(wanted)
    }

    /// Checks an access, but for how it is aligned.
    #[inline(always)]
    fn aligned_place(&mut self, wanted: &Wanted) -> Result<Place, Trouble> {
        let Wanted { mut space, mut address, bytes, thread, write, atomic } = *wanted;
        if space == Space::Generic && address >= SHARED_WINDOW {
            space = Space::Shared;
            address -= SHARED_WINDOW;
        }
        match space {
            Space::Param => {
                let length = self.parameters.len() as u64;
                let inside = address.checked_add(bytes as u64).is_some_and(|end| end <= length);
                if !inside {
                    return Err(Trouble::illegal(format!("parameter byte {address} of {length}")));
                }
                Ok(Place::Param(address as usize))
            }
            Space::Shared => {
                Ok(Place::Shared(self.shared.check(address, bytes, thread, write, atomic)?))
            }
            Space::Global | Space::Const | Space::Generic => {
                if atomic {
                    self.memory.check_atomic(address, bytes)?;
                } else {
                    self.memory.check(address, bytes, write)?;
                }
                Ok(Place::Global(address))
            }
        }
    }

    /// Reads a number; `at` bytes behind a place that was checked for them too.
    #[inline(always)]
    pub fn read(&self, place: &Place, at: usize, bytes: usize) -> u64 {
        match *place {
            Place::Param(start) => {
                let mut number = [0; 8];
                let from = start + at;
                number[..bytes].copy_from_slice(&self.parameters[from..from + bytes]);
                u64::from_le_bytes(number)
            }
            Place::Shared(start) => self.shared.read(start + at, bytes),
            Place::Global(address) => {
                let address = address + at as u64;
                // SAFETY: `place` found the bytes in live memory, and aligned.
                unsafe {
                    match bytes {
                        1 => u64::from(*(address as *const u8)),
                        2 => u64::from(*(address as *const u16)),
                        4 => u64::from(*(address as *const u32)),
                        _ => *(address as *const u64),
                    }
                }
            }
        }
    }

    /// Writes the low bytes of a number; as `read`.
    #[inline(always)]
    pub fn write(&mut self, place: &Place, at: usize, bytes: usize, number: u64) {
        match *place {
            // No instruction writes parameters.
            Place::Param(_) => {}
            Place::Shared(start) => self.shared.write(start + at, bytes, number),
            Place::Global(address) => {
                let address = address + at as u64;
                // SAFETY: `place` found the bytes in live memory that may be written, and aligned.
                unsafe {
                    match bytes {
                        1 => *(address as *mut u8) = number as u8,
                        2 => *(address as *mut u16) = number as u16,
                        4 => *(address as *mut u32) = number as u32,
                        _ => *(address as *mut u64) = number,
                    }
                }
            }
        }
    }
}

/// What a load or a store says.
pub struct Transfer {
    pub space: Space,
    pub ty: Type,
    pub vector: Vector,
    pub address: Address,
}

impl Transfer {
    fn wanted(&self, warp: &Warp, lane: usize, write: bool) -> Wanted {
        let base = warp.registers[self.address.base as usize][lane];
        Wanted {
            space: self.space,
            address: base.wrapping_add_signed(self.address.offset),
            bytes: self.ty.bytes() * usize::from(self.vector.count),
            thread: warp.thread(lane),
            write,
            atomic: false,
        }
    }

    /// One place for the accesses of all lanes, and the bytes from one lane's to the next one's: where
    /// all read the same, or side by side, which fewer checks find out as well. None where the lanes
    /// are to be checked one by one, so that an error names the lane.
    fn together(
        &self,
        context: &mut Context,
        warp: &Warp,
        active: u32,
        write: bool,
    ) -> Option<(Place, usize)> {
        let bases = &warp.registers[self.address.base as usize];
        let mut lanes = lanes_of(active);
        let first = lanes.next()?;
        let wanted = self.wanted(warp, first, write);
        let is_shared = match self.space {
            Space::Shared => true,
            Space::Generic => wanted.address >= SHARED_WINDOW,
            Space::Param | Space::Global | Space::Const => false,
        };
        let bytes = wanted.bytes;
        let lies = |lane: usize, stride: usize| {
            bases[lane].wrapping_sub(bases[first]) == (lane * stride) as u64
        };
        if !write && lanes_of(active).all(|lane| lies(lane, 0)) {
            let place = context.place(&wanted).ok()?;
            // Two threads of a warp read a byte of shared memory as all of them do.
            if let Some(second) = lanes.next().filter(|_| is_shared) {
                context.place(&self.wanted(warp, second, write)).ok()?;
            }
            return Some((place, 0));
        }
        let is_aligned = wanted.address & (bytes as u64 - 1) == 0;
        let side_by_side = active == u32::MAX && (0..LANES).all(|lane| lies(lane, bytes));
        if is_shared || !is_aligned || !side_by_side {
            return None;
        }
        let all = Wanted { bytes: LANES * bytes, ..wanted };
        Some((context.aligned_place(&all).ok()?, bytes))
    }

    /// Loads; numbers with a sign are extended to the bits of `mask`.
    pub fn load(
        &self,
        context: &mut Context,
        warp: &mut Warp,
        active: u32,
        mask: u64,
    ) -> Result<(), Trouble> {
        let bytes = self.ty.bytes();
        let read = |context: &Context, place: &Place, at: usize| {
            let number = context.read(place, at, bytes);
            if self.ty.is_signed() { self.ty.extend(number) as u64 & mask } else { number }
        };
        if let Some((place, stride)) = self.together(context, warp, active, false) {
            for (element, register) in self.vector.iter().enumerate() {
                let own = &mut warp.registers[register as usize];
                let first = read(context, &place, element * bytes);
                for lane in lanes_of(active) {
                    let at = lane * stride + element * bytes;
                    own[lane] = if stride == 0 { first } else { read(context, &place, at) };
                }
            }
            return Ok(());
        }
        for lane in lanes_of(active) {
            let wanted = self.wanted(warp, lane, false);
            let place = context.place(&wanted).map_err(|trouble| trouble.at(lane))?;
            for (element, register) in self.vector.iter().enumerate() {
                warp.registers[register as usize][lane] = read(context, &place, element * bytes);
            }
        }
        Ok(())
    }

    /// Stores.
    pub fn store(&self, context: &mut Context, warp: &Warp, active: u32) -> Result<(), Trouble> {
        let bytes = self.ty.bytes();
        if let Some((place, stride)) = self.together(context, warp, active, true) {
            for (element, register) in self.vector.iter().enumerate() {
                let own = &warp.registers[register as usize];
                for (lane, number) in own.iter().enumerate() {
                    context.write(&place, lane * stride + element * bytes, bytes, *number);
                }
            }
            return Ok(());
        }
        for lane in lanes_of(active) {
            let wanted = self.wanted(warp, lane, true);
            let place = context.place(&wanted).map_err(|trouble| trouble.at(lane))?;
            for (element, register) in self.vector.iter().enumerate() {
                let number = warp.registers[register as usize][lane];
                context.write(&place, element * bytes, bytes, number);
            }
        }
        Ok(())
    }
}
