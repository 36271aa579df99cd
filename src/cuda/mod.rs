//! A CUDA device: its driver, the memory that a handle has there, and the step as launches of
//! kernels.
//!
//! `Cuda::open` opens a device for a handle. `reserve` makes room for a parameter before it is
//! added, `new_state` allocates its state, `keep` takes it over and `release` frees it.
//!
//! A step has three parts. `lay` makes the tables of the step (`plan.rs`), `prepare` uploads what
//! has changed of them (`transfer.rs`), and `step` queues up the kernels (`step.rs`). Before that,
//! `gather` makes dense gradients of sparse ones (`rows.rs`), and `measure` sums squares where the
//! step depends on norms. Parameters that the processor steps come down and go up meanwhile
//! (`offload.rs`).
//!
//! All of it is queued up on one stream, in order. Only calls that say so wait for the device. A
//! stream may be captured into a graph: calls that would wait or allocate are refused then, and
//! memory that a graph may use stays where it is (`streams.rs`, `leftover.rs`).

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
mod ring;
mod rows;
mod scaling;
mod statistics;
mod step;
mod streams;
mod tensors;
mod times;
mod timetable;
mod timing;
mod transfer;
mod workspace;

pub use driver::{Memory, is_installed};
pub use lag::RowSet;
pub use layout::{CLIP_GLOBAL_NORM, CLIP_NORM, Hyper, Inputs, InputsAt, Outside, PART_COUNTED};
pub use layout::{Scaling, ScalingRule};
pub use offload::HostCopy;
pub use ring::PIECE;
pub use scaling::Adapts;
pub use step::Decider;
pub use timetable::MOST_RATES;
pub use timing::OffloadTimes;

use crate::config::DeviceConfig;
use crate::error::Error;
use crate::format::Format;
use crate::role::Role;
use crate::steps::Clock;
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
use ring::Ring;
use rows::SparseBuffers;
use statistics::WeightsBefore;
use streams::Left;
use timing::Timing;
use workspace::{Size, Staging, UPLOADS, Workspace};

/// The device as one handle uses it. Dropped in this order.
pub struct Cuda {
    ordinal: u16,
    plan: Plan,
    /// The tables of the plan that have yet to be uploaded.
    stale: Stale,
    workspace: Option<Workspace>,
    /// The workspace for the steps after one that is captured, whose graph keeps its own.
    spare: Option<Workspace>,
    /// The workspaces that graphs have kept.
    of_graphs: Vec<Workspace>,
    /// The room in `workspace` and in `spare`.
    size: Size,
    staging: Option<Staging>,
    clocks: Clocks,
    /// The learning rates of coming steps, if a captured one may follow a schedule.
    timetable: Option<Memory>,
    /// By upload: the mark behind its last copy.
    copied: [Event; UPLOADS],
    next_upload: usize,
    /// The marks on streams that the handle has left.
    left: Left,
    /// The host's copies of the parameters that the processor steps.
    copies: ByNumber<HostCopy>,
    traffic: Option<Traffic>,
    /// What passes between the device and copies that are not pinned.
    ring: Option<Ring>,
    /// How long these copies take, if the host asks.
    timing: Timing,
    /// The state of each parameter, where it is the library's own.
    memories: ByNumber<Memory>,
    /// The sums of accumulated gradients.
    sums: ByNumber<Memory>,
    /// The gathered gradients of parameters with sparse ones.
    sparse: ByNumber<SparseBuffers>,
    /// The lags of the parameters whose rows may lag.
    lags: ByNumber<DeviceLag>,
    /// Memory that only graphs may still use.
    leftover: Leftover,
    /// The step clears the gradients that it has used.
    clears: bool,
    /// Room for the weights before a step, if the handle keeps statistics.
    weights_before: Option<WeightsBefore>,
    /// The bytes of the weights of all parameters.
    weights_bytes: u64,
    /// The number of chunks of all parameters.
    n_chunks: u64,
    /// Something has been captured, so that a graph may use the library's memory on the device.
    has_captured: AtomicBool,
    /// By parameter: a graph steps it.
    in_graphs: Vec<bool>,
    driver: Driver,
}

/// The tables of a plan that have yet to be uploaded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stale {
    Nothing,
    /// The tensors and the hyper-parameters.
    Params,
    /// These and the chunks.
    All,
}

impl Cuda {
    pub fn open(ordinal: u16, config: DeviceConfig) -> Result<Cuda, Error> {
        let driver = Driver::open(ordinal, config)?;
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
            timetable: None,
            copied,
            next_upload: 0,
            left,
            copies: ByNumber::default(),
            traffic: None,
            ring: None,
            timing: Timing::default(),
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
            driver,
        })
    }

    /// Returns the bytes of the host's memory that the handle has pinned.
    pub fn pinned_bytes(&self) -> usize {
        self.driver.pinned_bytes()
    }

    pub fn ordinal(&self) -> u16 {
        self.ordinal
    }

    /// Returns whether this device reaches memory, as far as its first and its last byte show.
    pub fn can_reach(&self, addresses: &Range<usize>) -> Result<bool, Error> {
        if addresses.is_empty() {
            return Ok(true);
        }
        let device = self.driver.enter()?;
        let first_and_last = [addresses.start, addresses.end - 1].map(|address| address as u64);
        Ok(device.can_reach(first_and_last[0])? && device.can_reach(first_and_last[1])?)
    }

    /// Allocates zeroed memory for the state of a parameter that the host does not give. Returns it
    /// with the buffers in it, by the order of `Role::STATE`.
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

    /// Allocates zeroed memory. Waits for the device.
    fn zeroed(&self, bytes: usize, what: &'static str) -> Result<Memory, Error> {
        let device = self.driver.enter()?;
        let memory = device.allocate(bytes, what)?;
        // SAFETY: the memory has just been allocated, and `wait` returns before it can be dropped.
        unsafe { device.zero(memory.address(), bytes) }?;
        device.wait()?;
        Ok(memory)
    }

    /// Returns the buffer in which the gradients of a parameter are accumulated. The first call
    /// allocates it.
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

    /// Makes room for `n_params` parameters in `n_groups` groups, and for the chunks of a new one
    /// among them, whose clock it sets. If that fails, nothing more is pinned.
    pub fn reserve(
        &mut self,
        n_params: usize,
        n_groups: usize,
        new: Option<(u32, &Operands, &Clock)>,
    ) -> Result<(), Error> {
        let n_chunks = self.n_chunks + new.map_or(0, |(_, operands, _)| plan::n_chunks(operands));
        self.memories.reserve(n_params)?;
        self.copies.reserve(n_params)?;
        let n_marks = n_params.saturating_sub(self.in_graphs.len());
        reserve(&mut self.in_graphs, n_marks, "the parameters")?;
        self.plan.reserve(n_params, n_chunks as usize)?;
        self.check_not_capturing("adding a parameter or a group")?;
        let stays = self.has_captured();
        if !stays && self.clocks.place(n_params.saturating_sub(1)).is_none() {
            self.wait_for_all()?; // the clocks move
        }
        self.clocks.grow(&self.driver.enter()?, n_params, stays)?;
        if let Some((number, _, clock)) = new {
            self.set_clock(number, clock)?;
        }
        let n_sparse = self.n_sparse();
        self.grow_workspace(Size { n_params, n_chunks: n_chunks as usize, n_groups, n_sparse })
    }

    /// Gives back what the copies of offloaded parameters share, if there are none.
    pub fn drop_unshared(&mut self) {
        if !self.has_copies() {
            (self.ring, self.traffic) = (None, None);
        }
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

    /// Takes over the state of a parameter that is added. `reserve` has made room.
    pub fn keep(&mut self, number: u32, operands: &Operands, memory: Memory) {
        self.n_chunks += plan::n_chunks(operands);
        self.weights_bytes += statistics::weights_bytes(operands);
        self.memories.insert(number, memory);
    }

    /// Frees the library's memory of a parameter, when the device is done with it.
    pub fn release(&mut self, number: u32, operands: &Operands) -> Result<(), Error> {
        self.check_not_capturing("removing a parameter")?;
        self.wait_for_all()?;
        self.leftover.reserve()?;
        let is_left = self.has_captured(); // a graph may still use it
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
