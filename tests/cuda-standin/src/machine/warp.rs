//! A warp: 32 lanes, each with its own place in the program.
//!
//! The lanes that stand at the lowest instruction run it together, so lanes that parted meet again
//! where their paths do.

use super::access::Transfer;
use super::arithmetic::{binary, ternary, unary};
use super::atomic::AtomicAccess;
use super::bits;
use super::compare::{combine, compare};
use super::convert::convert;
use super::exchange::{shuffle, vote};
use super::fault::{Kind, Trouble};
use super::lanes::{LANES, Lanes, lanes_of, map, map2};
use super::memory::Memory;
use super::shared::Shared;
use crate::ptx::Kernel;
use crate::ptx::instruction::{Condition, Instruction, Operation, Predicate, Reduction, Register};

/// What all warps of a block share.
pub struct Context<'a> {
    pub kernel: &'a Kernel,
    pub parameters: &'a [u8],
    pub shared: Shared,
    pub memory: &'a mut Memory,
    /// How many more instructions of a warp the block may run.
    pub budget: u64,
}

/// A place behind the end: the lane has left.
const LEFT: u32 = u32::MAX;

pub struct Warp {
    /// Its number in the block.
    pub index: usize,
    pub registers: Vec<Lanes>,
    pub predicates: Vec<u32>,
    /// The lanes that have not left.
    pub live: u32,
    /// What the warp waits for.
    pub waiting: Option<Waiting>,
    places: [u32; LANES],
}

/// A warp at the block's barrier.
pub struct Waiting {
    /// The barrier's instruction.
    pub place: u32,
    /// The result, and the lanes that vote for it.
    pub reduction: Option<(Reduction, u32)>,
}

impl Warp {
    /// A warp whose first lanes are threads.
    pub fn new(index: usize, threads: usize) -> Warp {
        let live = if threads >= LANES { u32::MAX } else { (1 << threads) - 1 };
        let mut places = [LEFT; LANES];
        lanes_of(live).for_each(|lane| places[lane] = 0);
        Warp { index, registers: Vec::new(), predicates: Vec::new(), live, waiting: None, places }
    }

    /// The number in the block of a lane's thread.
    pub fn thread(&self, lane: usize) -> usize {
        self.index * LANES + lane
    }

    /// The instruction that comes next, and the lanes that stand there.
    fn next(&self) -> (u32, u32) {
        let place = self.places.iter().copied().min().unwrap_or(LEFT);
        let mut lanes = 0;
        for (lane, &other) in self.places.iter().enumerate() {
            lanes |= u32::from(other == place) << lane;
        }
        (place, lanes)
    }

    fn go(&mut self, lanes: u32, place: u32) {
        for (lane, own) in self.places.iter_mut().enumerate() {
            if lanes >> lane & 1 == 1 {
                *own = place;
            }
        }
    }

    fn lanes(&self, register: Register) -> &Lanes {
        &self.registers[register as usize]
    }

    fn votes(&self, (predicate, negated): Condition) -> u32 {
        let votes = self.predicates[predicate as usize];
        if negated { !votes } else { votes }
    }

    pub fn set(&mut self, register: Register, values: &Lanes, active: u32) {
        let own = &mut self.registers[register as usize];
        if active == u32::MAX {
            *own = *values;
        } else {
            lanes_of(active).for_each(|lane| own[lane] = values[lane]);
        }
    }

    pub fn set_predicate(&mut self, predicate: Predicate, values: u32, active: u32) {
        let own = &mut self.predicates[predicate as usize];
        *own = *own & !active | values & active;
    }

    /// Runs until the warp waits or has left; an error comes with its line.
    pub fn run(&mut self, context: &mut Context) -> Result<(), (u32, Trouble)> {
        let kernel = context.kernel;
        let (mut place, mut lanes) = self.next();
        while place != LEFT {
            let instruction = &kernel.instructions[place as usize];
            let line = instruction.line;
            if context.budget == 0 {
                let text = "the block does not end".to_owned();
                return Err((line, Trouble { kind: Kind::TimedOut, lane: None, text }));
            }
            context.budget -= 1;
            let active = match instruction.guard {
                None => lanes,
                Some(guard) => lanes & self.votes(guard),
            };
            let together = lanes == self.live;
            match &instruction.operation {
                Operation::Branch { target } => {
                    if together && (active == lanes || active == 0) {
                        place = if active == 0 { place + 1 } else { *target };
                        continue;
                    }
                    self.go(lanes, place + 1);
                    self.go(active, *target);
                    (place, lanes) = self.next();
                }
                Operation::Exit => {
                    self.go(lanes, place + 1);
                    self.go(active, LEFT);
                    self.live &= !active;
                    (place, lanes) = self.next();
                }
                Operation::Barrier { reduction } => {
                    if !together || active != lanes {
                        let text = format!(
                            "barrier reached by lanes {active:#010x} of {:#010x}",
                            self.live
                        );
                        return Err((line, Trouble::of_warp(text)));
                    }
                    self.go(lanes, place + 1);
                    let reduction =
                        reduction.map(|(what, votes)| (what, self.votes(votes) & lanes));
                    self.waiting = Some(Waiting { place, reduction });
                    return Ok(());
                }
                _ => {
                    if active != 0 {
                        self.step(instruction, active, context)
                            .map_err(|trouble| (line, trouble))?;
                    }
                    place += 1;
                    if !together {
                        self.go(lanes, place);
                        (place, lanes) = self.next();
                    }
                }
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        instruction: &Instruction,
        active: u32,
        context: &mut Context,
    ) -> Result<(), Trouble> {
        match instruction.operation {
            Operation::Unary { op, ty, to, a } => {
                let result = unary(op, ty, self.lanes(a));
                self.set(to, &result, active);
            }
            Operation::Binary { op, ty, to, a, b } => {
                let result = binary(op, ty, self.lanes(a), self.lanes(b));
                self.set(to, &result, active);
            }
            Operation::Ternary { op, ty, to, a, b, c } => {
                let result = ternary(op, ty, self.lanes(a), self.lanes(b), self.lanes(c));
                self.set(to, &result, active);
            }
            Operation::InsertBits { ty, to, bits, into, position, length } => {
                let [bits, into] = [bits, into].map(|register| *self.lanes(register));
                let [position, length] = [position, length].map(|register| *self.lanes(register));
                let mut result = [0; LANES];
                for lane in lanes_of(active) {
                    result[lane] =
                        bits::insert(ty, bits[lane], into[lane], position[lane], length[lane]);
                }
                self.set(to, &result, active);
            }
            Operation::Compare { comparison, ty, to, opposite, a, b, combined } => {
                let found = compare(comparison, ty, self.lanes(a), self.lanes(b));
                let with = |found| match combined {
                    None => found,
                    Some((logic, other)) => combine(logic, found, self.votes(other)),
                };
                let (result, other) = (with(found), with(!found));
                self.set_predicate(to, result, active);
                if let Some(opposite) = opposite {
                    self.set_predicate(opposite, other, active);
                }
            }
            Operation::Select { to, a, b, when } => {
                let when = self.predicates[when as usize];
                let (mut result, other) = (*self.lanes(b), *self.lanes(a));
                lanes_of(when).for_each(|lane| result[lane] = other[lane]);
                self.set(to, &result, active);
            }
            Operation::Logic { op, to, a, b } => {
                let [a, b] = [a, b].map(|predicate| self.predicates[predicate as usize]);
                self.set_predicate(to, combine(op, a, b), active);
            }
            Operation::Convert { to_type, from_type, rounding, to, mask, a } => {
                let result = convert(to_type, from_type, rounding, mask, self.lanes(a));
                self.set(to, &result, active);
            }
            Operation::Load { space, ty, to: vector, mask, address } => {
                Transfer { space, ty, vector, address }.load(context, self, active, mask)?;
            }
            Operation::Store { space, ty, from: vector, address } => {
                Transfer { space, ty, vector, address }.store(context, self, active)?;
            }
            Operation::Atomic { space, op, ty, to, address, a, b } => {
                AtomicAccess { space, op, ty, to, address, a, b }.run(context, self, active)?;
            }
            Operation::Pack { to, parts, bits } => {
                let mut result = [0; LANES];
                for (part, register) in parts.iter().enumerate() {
                    let shift = bits * part as u32;
                    result = map2(&result, self.lanes(register), |all, part| all | part << shift);
                }
                self.set(to, &result, active);
            }
            Operation::Unpack { to, a, bits } => {
                let whole = *self.lanes(a);
                for (part, to) in to.iter().enumerate() {
                    let shift = bits * part as u32;
                    if let Some(to) = *to {
                        let mask = u64::MAX >> (64 - bits);
                        self.set(to, &map(&whole, |whole| whole >> shift & mask), active);
                    }
                }
            }
            Operation::Shuffle { shuffle: kind, to, in_range, a, lane, clamp, members } => {
                self.meet("shuffle", self.lanes(members), active)?;
                let (result, fits) =
                    shuffle(kind, self.lanes(a), self.lanes(lane), self.lanes(clamp), active)?;
                self.set(to, &result, active);
                if let Some(in_range) = in_range {
                    self.set_predicate(in_range, fits, active);
                }
            }
            Operation::Vote { vote: kind, to, condition, members } => {
                self.meet("vote", self.lanes(members), active)?;
                let agreed = vote(kind, self.votes(condition), active);
                self.set_predicate(to, if agreed { u32::MAX } else { 0 }, active);
            }
            Operation::Ballot { to, condition, members } => {
                self.meet("vote", self.lanes(members), active)?;
                let votes = self.votes(condition) & active;
                self.set(to, &[u64::from(votes); LANES], active);
            }
            Operation::ActiveMask { to } => self.set(to, &[u64::from(active); LANES], active),
            Operation::WarpBarrier { members } => {
                self.meet("warp barrier", self.lanes(members), active)?;
                context.shared.warp_barrier(self.index);
            }
            // What comes after it is ordered after what other blocks did before.
            Operation::Fence { between_blocks } => {
                if between_blocks {
                    context.memory.begin_launch();
                }
            }
            // `run` itself does these.
            Operation::Branch { .. } | Operation::Exit | Operation::Barrier { .. } => {}
        }
        Ok(())
    }
}
