//! Atomics: threads take turns anyway, so each lane just does its own.

use super::access::Wanted;
use super::fault::Trouble;
use super::lanes::lanes_of;
use super::warp::{Context, Warp};
use crate::ptx::instruction::{Address, Atomic, Register, Space};
use crate::ptx::types::Type;

pub struct AtomicAccess {
    pub space: Space,
    pub op: Atomic,
    pub ty: Type,
    pub to: Option<Register>,
    pub address: Address,
    pub a: Register,
    pub b: Register,
}

impl AtomicAccess {
    pub fn run(&self, context: &mut Context, warp: &mut Warp, active: u32) -> Result<(), Trouble> {
        let bytes = self.ty.bytes();
        for lane in lanes_of(active) {
            let base = warp.registers[self.address.base as usize][lane];
            let wanted = Wanted {
                space: self.space,
                address: base.wrapping_add_signed(self.address.offset),
                bytes,
                thread: warp.thread(lane),
                write: true,
                atomic: true,
            };
            let place = context.place(&wanted).map_err(|trouble| trouble.at(lane))?;
            let old = context.read(&place, 0, bytes);
            let a = warp.registers[self.a as usize][lane];
            let b = warp.registers[self.b as usize][lane];
            context.write(&place, 0, bytes, self.changed(old, a, b));
            if let Some(to) = self.to {
                warp.registers[to as usize][lane] = old;
            }
        }
        Ok(())
    }

    fn changed(&self, old: u64, a: u64, b: u64) -> u64 {
        let ty = self.ty;
        let less = match ty.is_signed() {
            true => ty.extend(old) < ty.extend(a),
            false => old < a,
        };
        match self.op {
            Atomic::Add => old.wrapping_add(a),
            Atomic::And => old & a,
            Atomic::Or => old | a,
            Atomic::Xor => old ^ a,
            Atomic::Exchange => a,
            Atomic::CompareExchange if old == a => b,
            Atomic::CompareExchange => old,
            Atomic::Max if less => a,
            Atomic::Min if !less => a,
            Atomic::Max | Atomic::Min => old,
        }
    }
}
