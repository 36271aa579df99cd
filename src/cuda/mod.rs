//! A CUDA device: its driver, the memory that a handle has there, and the step as launches of kernels.
//!
//! Work is queued up on one stream, in order. Nothing waits for the device but what says so.

mod by_number;
mod clocks;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(not(feature = "cuda"))]
#[path = "no_driver.rs"]
mod driver;
mod kernels;
mod lag;
mod launch;
mod layout;
mod leftover;
mod offload;
mod plan;
mod rows;
mod statistics;
mod step;
mod streams;
mod tensors;
mod transfer;
mod workspace;

pub use driver::{Memory, is_installed};
pub use lag::RowSet;
pub use layout::{CLIP_GLOBAL_NORM, CLIP_NORM, Hyper, Inputs, InputsAt, Outside};
pub use offload::HostCopy;
pub use step::Decider;

use crate::error::Error;
use crate::format::Format;
use crate::role::Role;
use crate::sys::memory::reserve;
use crate::tensor::{Buffer, Operands, Tensor};
use by_number::ByNumber;
use clocks::Clocks;
use core::ops::Range;
use core::sync::atomic::AtomicBool;
use driver::{Driver, Entered, Event};
use lag::DeviceLag;
use leftover::Leftover;
use offload::Traffic;
use plan::Plan;
use rows::SparseBuffers;
use statistics::WeightsBefore;
use streams::Left;
use workspace::{Size, Staging, UPLOADS, Workspace};

/// The device as one handle uses it. Dropped in this order.
pub struct Cuda {
    ordinal: u16,
    plan: Plan,
    /// What the tables on the device lack of the plan's.
    stale: Stale,
    workspace: Option<Workspace>,
    /// What steps go on with after one that is captured, whose graph keeps the workspace.
    spare: Option<Workspace>,
    /// Those of graphs.
    of_graphs: Vec<Workspace>,
    /// How much there is room for in each that steps go on with.
    size: Size,
    staging: Option<Staging>,
    clocks: Clocks,
    /// By which of the uploads: whether it is being copied.
    copied: [Event; UPLOADS],
    next_upload: usize,
    /// What was queued up on streams before this one.
    left: Left,
    /// Of the parameters that the processor steps.
    copies: ByNumber<HostCopy>,
    traffic: Option<Traffic>,
    /// The state of each parameter that is the library's own there.
    memories: ByNumber<Memory>,
    /// Where gradients are accumulated.
    sums: ByNumber<Memory>,
    /// What sparse gradients need.
    sparse: ByNumber<SparseBuffers>,
    /// Of the parameters whose rows may lag.
    lags: ByNumber<DeviceLag>,
    /// What nobody but a graph may have any more.
    leftover: Leftover,
    /// Steps clear the gradients that they have used.
    clears: bool,
    /// What parameters weigh before a step, if what it changes is added up.
    weights_before: Option<WeightsBefore>,
    /// How many bytes that takes.
    weights_bytes: u64,
    /// The chunks of all parameters together.
    n_chunks: u64,
    /// Something has been captured: what is the library's own on the device may be in a graph.
    has_captured: AtomicBool,
    /// By parameter, whether a graph steps it.
    in_graphs: Vec<bool>,
    /// A step has been queued up in part.
    is_broken: bool,
    driver: Driver,
}

/// Which tables of a plan have yet to be uploaded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stale {
    Nothing,
    /// The tensors and the hyper-parameters.
    Params,
    /// The chunks too.
    All,
}

impl Cuda {
    pub fn open(ordinal: u16) -> Result<Cuda, Error> {
        let driver = Driver::open(ordinal)?;
        let device = driver.enter()?;
        let copied = [device.event()?, device.event()?, device.event()?, device.event()?];
        let left = Left::new(&device)?;
        let clocks = Clocks::new(&device)?;
        drop(device);
        Ok(Cuda {
            ordinal,
            plan: Plan::default(),
            stale: Stale::All,
            workspace: None,
            spare: None,
            of_graphs: Vec::new(),
            size: Size::default(),
            staging: None,
            clocks,
            copied,
            next_upload: 0,
            left,
            copies: ByNumber::default(),
            traffic: None,
            memories: ByNumber::default(),
            sums: ByNumber::default(),
            sparse: ByNumber::default(),
            lags: ByNumber::default(),
            leftover: Leftover::default(),
            clears: false,
            weights_before: None,
            weights_bytes: 0,
            n_chunks: 0,
            has_captured: AtomicBool::new(false),
            in_graphs: Vec::new(),
            is_broken: false,
            driver,
        })
    }

    pub fn ordinal(&self) -> u16 {
        self.ordinal
    }

    /// That memory lies where this device reaches it, as far as its first and its last byte show.
    pub fn can_reach(&self, addresses: &Range<usize>) -> Result<bool, Error> {
        if addresses.is_empty() {
            return Ok(true);
        }
        let device = self.driver.enter()?;
        let first_and_last = [addresses.start, addresses.end - 1].map(|address| address as u64);
        Ok(device.can_reach(first_and_last[0])? && device.can_reach(first_and_last[1])?)
    }

    /// Zeroed memory for all of the state of a parameter that the host does not give, and where in it
    /// each part starts.
    pub fn new_state(
        &self,
        format: &Format,
        n_elements: u64,
        given: &[Option<Tensor>; Role::STATE.len()],
    ) -> Result<(Memory, [Option<Buffer>; Role::STATE.len()]), Error> {
        self.check_not_capturing("adding a parameter")?;
        const ALIGN: usize = 256;
        let mut places = [None; Role::STATE.len()];
        let mut bytes = 0usize;
        for ((role, given), place) in Role::STATE.into_iter().zip(given).zip(&mut places) {
            if let (Ok(dtype), None) = (format.buffer(role), given) {
                let elements = format.n_elements(role, n_elements) as usize;
                *place = Some(bytes);
                let end = elements.saturating_mul(dtype.bytes()).saturating_add(bytes);
                bytes = end.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
            }
        }
        let memory = self.zeroed(bytes, "the state of a parameter on the device")?;
        let buffer =
            |place: Option<usize>| Some(Buffer::on_device(memory.address() + place? as u64));
        let buffers = places.map(buffer);
        Ok((memory, buffers))
    }

    /// Memory of zeros.
    fn zeroed(&self, bytes: usize, what: &'static str) -> Result<Memory, Error> {
        let device = self.driver.enter()?;
        let memory = device.allocate(bytes, what)?;
        // SAFETY: it has just been allocated, and is waited for before anybody can drop it.
        unsafe { device.zero(memory.address(), bytes) }?;
        device.wait()?;
        Ok(memory)
    }

    /// A sum for the gradients of a parameter.
    pub fn new_sum(&mut self, number: u32, operands: &Operands) -> Result<Buffer, Error> {
        if let Some(memory) = self.sums.get(number) {
            return Ok(Buffer::on_device(memory.address()));
        }
        self.check_not_capturing("the first adamw_accumulate_grad")?;
        let param = operands.param();
        let bytes = param.n_elements() as usize * param.dtype().compute().bytes();
        self.sums.reserve(number as usize + 1)?;
        let memory = self.driver.enter()?.allocate(bytes, "accumulated gradients")?;
        let buffer = Buffer::on_device(memory.address());
        self.sums.insert(number, memory);
        Ok(buffer)
    }

    /// Makes room for so many parameters in so many groups, and for a new one among them.
    pub fn reserve(
        &mut self,
        n_params: usize,
        n_groups: usize,
        new: Option<&Operands>,
    ) -> Result<(), Error> {
        let n_chunks = self.n_chunks + new.map_or(0, plan::n_chunks);
        self.memories.reserve(n_params)?;
        self.copies.reserve(n_params)?;
        let n_marks = n_params.saturating_sub(self.in_graphs.len());
        reserve(&mut self.in_graphs, n_marks, "the parameters")?;
        self.plan.reserve(n_params, n_chunks as usize)?;
        self.check_not_capturing("adding a parameter or a group")?;
        let stays = self.has_captured();
        self.clocks.grow(&self.driver.enter()?, n_params, stays)?;
        let n_sparse = self.n_sparse();
        self.grow_workspace(Size { n_params, n_chunks: n_chunks as usize, n_groups, n_sparse })
    }

    fn grow_workspace(&mut self, needed: Size) -> Result<(), Error> {
        if self.workspace.is_some() && self.size.holds(&needed) {
            return Ok(());
        }
        let size = self.size.grown(&needed);
        reserve(&mut self.of_graphs, 1, "the parameters")?;
        let device = self.driver.enter()?;
        let workspace = Workspace::new(&device, &size)?;
        let staging = Staging::new(&device, &size)?;
        drop(device);
        self.wait_for_all()?;
        let before = self.workspace.replace(workspace);
        self.of_graphs.extend(before.filter(|before| before.is_captured));
        (self.spare, self.staging) = (None, Some(staging));
        self.size = size;
        self.stale = Stale::All;
        Ok(())
    }

    /// Takes over the state of a parameter that has been added; `reserve` has made room.
    pub fn keep(&mut self, number: u32, operands: &Operands, memory: Memory) {
        self.n_chunks += plan::n_chunks(operands);
        self.weights_bytes += statistics::weights_bytes(operands);
        self.memories.insert(number, memory);
    }

    /// Frees what is the library's own of a parameter, once the device is done with it.
    pub fn release(&mut self, number: u32, operands: &Operands) -> Result<(), Error> {
        self.check_not_capturing("removing a parameter")?;
        self.wait_for_all()?;
        self.leftover.reserve()?;
        let is_left = self.has_captured(); // a graph may have it yet
        self.n_chunks -= plan::n_chunks(operands);
        self.weights_bytes -= statistics::weights_bytes(operands);
        let memories = [self.memories.remove(number), self.sums.remove(number)];
        let (buffers, lag) = (self.sparse.remove(number), self.lags.remove(number));
        if is_left {
            self.leftover.forget(number);
            self.leftover.memories.extend(memories.into_iter().flatten());
            self.leftover.sparse.extend(buffers.map(|buffers| (None, buffers)));
            self.leftover.lags.extend(lag);
        }
        Ok(())
    }
}
