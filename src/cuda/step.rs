//! The step as launches of kernels. None of it waits for the device.
//!
//! `lay` makes the tables, and `set_hyper` sets the hyper-parameters of each parameter. Where the
//! device is to clip or to skip, `measure` sums the squares of the gradients first. `step` queues
//! up the rest:
//!
//! 1. `decide`, where the device decides by the norms, makes the clip factors and the verdict;
//! 2. `prepare` advances the clocks and makes the scalars, and without norms the verdict, too;
//! 3. rows that lag are brought up to date, where the step takes all rows of the parameter;
//! 4. one kernel for each `Launch` steps it, and clears gradients; a skipped step clears them, too;
//! 5. the scalars are logged for the rows that take the step later;
//! 6. `adapt_scale` adapts the loss scale, and `advance_lr` the schedule, if they do so there.
//!
//! Every kernel after the verdict reads it: if the step is skipped, they clear gradients and do
//! nothing else. For a capture, `prepare_capture` has made a second workspace, and `record_step`
//! leaves the first to the graph.

use super::driver::Entered;
use super::kernels::Kernel;
use super::launch::launch;
use super::layout::{self, Chunk, FLAG_CLEAR_GRADS, Hyper, Inputs, PART_STEPPED, SHARES};
use super::workspace::Workspace;
use super::{Adapts, Cuda, Stale};
use crate::error::Error;
use crate::sys::memory::reserve;
use crate::tensor::Operands;
use core::sync::atomic::Ordering;

/// The upload that a capture cannot hold, in an error.
pub(super) const STALE: &str = "an upload of parameters, gradients or options that have changed \
                                since adamw_prepare (call it before)";

/// The side that decides whether the step is taken, and by which factors gradients are clipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decider {
    /// The host: the step is taken, and the factors are among the hyper-parameters.
    Host,
    /// The device, by the inputs that it reads.
    Inputs,
    /// The device, by the gradients, which have been measured, and by the inputs.
    ///
    /// `outside`: where the sums over the gradients are instead, if it is not 0.
    Norms { skips: bool, outside: u64 },
}

impl Cuda {
    /// Lays out a step of the parameters that are on the device, due and of this step. Of lazy ones
    /// with a sparse gradient, the listed rows are stepped.
    pub fn lay(
        &mut self,
        operands: &[Operands],
        is_of_step: impl Fn(usize) -> bool,
        is_lazy: impl Fn(usize) -> bool,
        clears: bool,
    ) {
        self.plan.lay(operands, &self.sparse, &self.lags, is_of_step, is_lazy, clears);
        self.clears = clears;
        self.plan.hypers.clear();
        self.plan.hypers.resize(operands.len(), Hyper::default());
        self.stale = Stale::All;
    }

    /// Returns whether nothing is stepped here.
    pub fn is_idle(&self) -> bool {
        self.plan.is_empty()
    }

    /// Sets the hyper-parameters of a parameter.
    pub fn set_hyper(&mut self, number: u32, hyper: Hyper) {
        let place = &mut self.plan.hypers[number as usize];
        if *place != hyper {
            *place = hyper;
            self.stale = self.stale.max(Stale::Params);
        }
    }

    /// Sets the clip factor of a parameter, where the host has decided.
    pub fn set_clip_factor(&mut self, number: u32, clip_factor: f64) {
        let hyper = Hyper { clip_factor, ..self.plan.hypers[number as usize] };
        self.set_hyper(number, hyper);
    }

    /// Prepares a capture: also makes the workspace for the steps after it, so that they allocate
    /// nothing.
    pub fn prepare_capture(&mut self) -> Result<(), Error> {
        self.upload()?;
        if self.spare.is_none() {
            self.check_not_capturing("adamw_prepare")?;
            reserve(&mut self.of_graphs, 1, "the device's tables")?;
            self.spare = Some(Workspace::new(&self.driver.enter()?, &self.size)?);
        }
        Ok(())
    }

    /// Leaves the workspace of the step that is about to be recorded to its graph.
    pub fn record_step(&mut self) -> Result<(), Error> {
        let has_spare = self.spare.is_some();
        let workspace = self.workspace.as_mut().ok_or(Error::NoDeviceYet)?;
        if self.stale != Stale::Nothing {
            return Err(Error::Capturing(STALE));
        }
        if !has_spare {
            return Err(Error::Capturing(
                "a step before adamw_prepare (call it before the capture)",
            ));
        }
        workspace.is_captured = true;
        self.has_captured.store(true, Ordering::Relaxed);
        let n_params = self.plan.hypers.len().max(self.in_graphs.len());
        self.in_graphs.resize(n_params, false); // `reserve` has made room
        for (is_there, hyper) in self.in_graphs.iter_mut().zip(&self.plan.hypers) {
            *is_there |= hyper.part == PART_STEPPED;
        }
        Ok(())
    }

    /// Queues up the sums of the squares of the gradients, and the counts of what is not finite.
    pub fn measure(&mut self) -> Result<(), Error> {
        self.upload()?;
        let (tensors, _, first_chunk) = self.tables();
        let rows = self.rows_table();
        let places = self.workspace()?.places;
        let (sums, counts, totals) = (places.sums, places.counts, places.totals);
        let device = self.driver.enter()?;
        let mut launches = self.plan.launches.iter().peekable();
        while let Some(launch) = launches.next() {
            // Launches with gradients of one type follow each other, and so do their chunks.
            let mut n_chunks = launch.n_chunks;
            while let Some(next) = launches.next_if(|next| next.tally == launch.tally) {
                n_chunks += next.n_chunks;
            }
            let chunks = first_chunk + launch.first_chunk * size_of::<Chunk>() as u64;
            let offset = launch.first_chunk * 4 * size_of::<f64>() as u64;
            let (sums, counts) = (sums + offset, counts + offset);
            // SAFETY: the arguments are what the kernel takes, and the tables describe memory that
            // the host vouched for.
            unsafe {
                launch!(
                    device, launch.tally, n_chunks.div_ceil(2);
                    tensors, rows, chunks, n_chunks, sums, counts
                )
            }?;
        }
        self.join_sums(&device, sums, totals)
    }

    /// Queues up the joining of the sums of blocks to one for each parameter.
    pub(super) fn join_sums(&self, device: &Entered, sums: u64, totals: u64) -> Result<(), Error> {
        let (tensors, ..) = self.tables();
        let counts = self.workspace.as_ref().map_or(0, |workspace| workspace.places.counts);
        let n = self.plan.tensors.len() as u64;
        // SAFETY: the arguments are what the kernel takes, and the tables describe memory that the
        // host vouched for.
        unsafe { launch!(device, Kernel::join_sums, n; tensors, n, sums, counts, totals) }
    }

    /// Queues up the sums over each gradient, which have been measured, for the host: squares and
    /// the count of what is not finite, two f64s for each parameter.
    pub fn put_sums(&mut self, to: u64) -> Result<(), Error> {
        let (_, hypers, _) = self.tables();
        let totals = self.workspace()?.places.totals;
        let device = self.driver.enter()?;
        let n = self.plan.hypers.len() as u32;
        // SAFETY: the arguments are what the kernel takes, and the host vouched for its memory.
        unsafe {
            launch!(
                device, Kernel::put_sums, u64::from(n).div_ceil(256);
                hypers, totals, n, to
            )
        }
    }

    /// Queues up the step. An error before the first launch has changed nothing.
    pub fn step(
        &mut self,
        inputs: Inputs,
        n_groups: usize,
        decider: Decider,
        adapts: Option<Adapts>,
        advances: bool,
        statistics: bool,
    ) -> Result<(), Error> {
        self.upload()?;
        let device = self.driver.enter()?;
        let mut queued = self.queue(&device, inputs, n_groups, decider, statistics);
        if statistics && queued.is_ok() {
            queued = self.tally_changes(&device);
        }
        if let Some(adapts) = adapts.filter(|_| queued.is_ok()) {
            queued = self.adapt_scaling(&device, &adapts);
        }
        if advances && queued.is_ok() {
            queued = self.advance_lr(&device);
        }
        device.undone_or_half(queued)
    }

    fn queue(
        &self,
        device: &Entered,
        inputs: Inputs,
        n_groups: usize,
        decider: Decider,
        keeps_weights: bool,
    ) -> Result<(), Error> {
        let (tensors, hypers, first_chunk) = self.tables();
        let Some(workspace) = &self.workspace else { return Err(Error::NoDeviceYet) };
        let places = &workspace.places;
        let (n, n_scopes) = (self.plan.tensors.len() as u32, n_groups as u32);
        let scalars = places.scalars;
        let (totals, scope_sums) = (places.totals, places.scope_sums);
        let (mut factors, mut verdict) = (0u64, 0u64);
        match decider {
            Decider::Host => {}
            Decider::Inputs => verdict = self.clocks.verdict(),
            Decider::Norms { skips, outside } => {
                (factors, verdict) = (places.factors, self.clocks.verdict());
                let skips = u32::from(skips);
                // SAFETY: the arguments are what the kernel takes, and the host vouched for the
                // memory that the inputs point to.
                unsafe {
                    launch!(
                        device, Kernel::decide, 1;
                        hypers, totals, outside, n, n_scopes, skips, inputs, scope_sums, factors,
                        verdict
                    )
                }?;
            }
        }
        for (params, clocks) in self.clocks.segments(n as usize) {
            let place = |start: u64, bytes: usize| start + (params.start * bytes) as u64;
            let hypers = place(hypers, size_of::<Hyper>());
            let scalars = place(scalars, layout::SCALARS);
            let factors = if factors == 0 { 0 } else { place(factors, size_of::<f64>()) };
            let n = params.len() as u32;
            // SAFETY: as for `decide`.
            unsafe {
                launch!(
                    device, Kernel::prepare, u64::from(n).div_ceil(256);
                    hypers, n, inputs, factors, verdict, clocks, scalars
                )
            }?;
        }
        self.catch_up_stepped(device, verdict)?;
        if keeps_weights {
            // The steps that rows caught up with are no changes of this step.
            self.catch_up_listed(device, verdict)?;
            self.keep_weights(device)?;
        }
        for launch in &self.plan.launches {
            if let Some(rows) = &launch.rows {
                let table = self.rows_table() + rows.start * size_of::<layout::Rows>() as u64;
                let (n, flags) = (rows.end - rows.start, launch.flags);
                // SAFETY: the arguments are what the kernel takes, and the tables describe memory
                // that the host vouched for.
                unsafe {
                    launch!(
                        device, launch.step, n * SHARES;
                        tensors, table, n, scalars, flags, verdict
                    )
                }?;
                continue;
            }
            let chunks = first_chunk + launch.first_chunk * size_of::<Chunk>() as u64;
            let (n_chunks, flags) = (launch.n_chunks, launch.flags);
            // Few chunks are shared out in quarters.
            let blocks = 4 * n_chunks;
            // SAFETY: as above. Parameters and state overlap nothing.
            unsafe {
                launch!(
                    device, launch.step, blocks;
                    tensors, chunks, n_chunks, scalars, flags, verdict
                )
            }?;
            if flags & FLAG_CLEAR_GRADS != 0 && verdict != 0 {
                let grad_bytes = launch.grad_bytes;
                // SAFETY: as above.
                unsafe {
                    launch!(
                        device, Kernel::clear_skipped, n_chunks;
                        tensors, chunks, n_chunks, verdict, grad_bytes
                    )
                }?;
            }
        }
        self.log_step(device, scalars, verdict)?;
        for rows in self.plan.rows.iter().filter(|_| self.clears) {
            // SAFETY: the host vouched for the values of the sparse gradient.
            unsafe { device.zero(rows.values, rows.value_bytes()) }?;
        }
        Ok(())
    }
}
