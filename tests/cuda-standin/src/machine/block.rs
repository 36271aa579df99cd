//! A launch: its blocks one after the other, and the warps of each in turn from barrier to barrier.

use super::fault::{Fault, Trouble};
use super::lanes::LANES;
use super::memory::Memory;
use super::shared::Shared;
use super::warp::{Context, Warp};
use crate::ptx::instruction::Reduction;
use crate::ptx::{Initial, Kernel, Module, Special};

/// A kernel with all that a launch gives it.
#[derive(Clone)]
pub struct Launch {
    /// The kernel's number in its module.
    pub kernel: usize,
    /// In blocks.
    pub grid: [u32; 3],
    /// In threads.
    pub block: [u32; 3],
    /// Bytes of shared memory beyond what the kernel declares.
    pub dynamic_shared: usize,
    /// The bytes of all parameters.
    pub parameters: Vec<u8>,
}

/// So many instructions of a warp are no kernel's, but a loop without end.
const MOST_INSTRUCTIONS: u64 = 1 << 30;

/// Runs a launch to its end; returns how many warp-wide instructions it took.
pub fn run(module: &Module, launch: &Launch, memory: &mut Memory) -> Result<u64, Fault> {
    let kernel = &module.kernels[launch.kernel];
    let threads = launch.block.iter().product::<u32>() as usize;
    let shared = match launch.dynamic_shared {
        0 => kernel.shared,
        more => kernel.dynamic_shared + more,
    };
    let mut context = Context {
        kernel,
        parameters: &launch.parameters,
        shared: Shared::new(shared, kernel.shared_unit, threads.div_ceil(LANES)),
        memory,
        budget: 0,
    };
    context.memory.begin_launch();
    let mut instructions = 0;
    let [width, height, depth] = launch.grid.map(u64::from);
    let mut warps = Vec::new();
    for number in 0..width * height * depth {
        let block = Block {
            kernel,
            launch,
            place: [number % width, number / width % height, number / (width * height)],
        };
        context.memory.begin_block(number);
        context.shared.begin_block();
        context.budget = MOST_INSTRUCTIONS;
        block.start(&mut warps, threads);
        block.run(&mut warps, &mut context)?;
        instructions += MOST_INSTRUCTIONS - context.budget;
    }
    Ok(instructions)
}

struct Block<'a> {
    kernel: &'a Kernel,
    launch: &'a Launch,
    place: [u64; 3],
}

impl Block<'_> {
    /// Puts the warps at the start, in the memory of the last block's.
    fn start(&self, warps: &mut Vec<Warp>, threads: usize) {
        let mut before = std::mem::take(warps).into_iter();
        for index in 0..threads.div_ceil(LANES) {
            let mut warp = Warp::new(index, threads - index * LANES);
            if let Some(old) = before.next() {
                warp.registers = old.registers;
                warp.predicates = old.predicates;
            }
            warp.predicates.clone_from(&self.kernel.predicates);
            warp.registers.resize(self.kernel.registers.len(), [0; LANES]);
            for (own, initial) in warp.registers.iter_mut().zip(&self.kernel.registers) {
                match *initial {
                    Initial::Poison(value) | Initial::Value(value) => own.fill(value),
                    Initial::Special(special) => {
                        for (lane, own) in own.iter_mut().enumerate() {
                            *own = self.special(special, index, lane);
                        }
                    }
                }
            }
            warps.push(warp);
        }
    }

    fn thread(&self, index: u64) -> [u64; 3] {
        let [width, height, _] = self.launch.block.map(u64::from);
        [index % width, index / width % height, index / (width * height)]
    }

    fn special(&self, special: Special, warp: usize, lane: usize) -> u64 {
        let thread = self.thread((warp * LANES + lane) as u64);
        match special {
            Special::Thread(axis) => thread[axis as usize],
            Special::BlockSize(axis) => u64::from(self.launch.block[axis as usize]),
            Special::Block(axis) => self.place[axis as usize],
            Special::GridSize(axis) => u64::from(self.launch.grid[axis as usize]),
            Special::Lane => lane as u64,
            Special::Warp => warp as u64,
            Special::Lanes { above, with_self } => {
                let own = 1_u32 << lane;
                let below = own - 1;
                let others = if above { !below & !own } else { below };
                u64::from(if with_self { others | own } else { others })
            }
        }
    }

    fn run(&self, warps: &mut [Warp], context: &mut Context) -> Result<(), Fault> {
        loop {
            for warp in &mut *warps {
                let ran = warp.run(context);
                ran.map_err(|(line, trouble)| self.fault(line, warp.index, &trouble))?;
            }
            if warps.iter().all(|warp| warp.waiting.is_none()) {
                return Ok(());
            }
            self.release(warps)?;
            context.shared.barrier();
        }
    }

    /// Lets all warps go on that wait; those that have left count as there.
    fn release(&self, warps: &mut [Warp]) -> Result<(), Fault> {
        let waiting: Vec<_> = warps.iter().filter_map(|warp| warp.waiting.as_ref()).collect();
        let place = waiting[0].place;
        let line = |place: u32| self.kernel.instructions[place as usize].line;
        if let Some(other) = waiting.iter().find(|other| other.place != place) {
            let text =
                format!("warps wait at different barriers, also at line {}", line(other.place));
            return Err(self.fault(line(place), 0, &Trouble::of_warp(text)));
        }
        let threads: u32 = warps.iter().map(|warp| warp.live.count_ones()).sum();
        let votes = |warp: &Warp| warp.waiting.as_ref().and_then(|waiting| waiting.reduction);
        let count: u32 = warps.iter().filter_map(votes).map(|(_, votes)| votes.count_ones()).sum();
        for warp in warps {
            let reduction = votes(warp);
            let (live, all) = (warp.live, if count == threads { u32::MAX } else { 0 });
            match reduction {
                None => {}
                Some((Reduction::And(to), _)) => warp.set_predicate(to, all, live),
                Some((Reduction::Or(to), _)) => {
                    warp.set_predicate(to, if count > 0 { u32::MAX } else { 0 }, live);
                }
                Some((Reduction::Count(to), _)) => {
                    warp.set(to, &[u64::from(count); LANES], live);
                }
            }
            warp.waiting = None;
        }
        Ok(())
    }

    fn fault(&self, line: u32, warp: usize, trouble: &Trouble) -> Fault {
        let lane = trouble.lane;
        let [x, y, z] = self.place;
        let who = match lane {
            Some(lane) => {
                let [x, y, z] = self.thread((warp * LANES + lane) as u64);
                format!("thread ({x}, {y}, {z})")
            }
            None => format!("warp {warp}"),
        };
        let name = &self.kernel.name;
        let text = format!("{name}, block ({x}, {y}, {z}), {who}, line {line}: {}", trouble.text);
        Fault { kind: trouble.kind, text }
    }
}
