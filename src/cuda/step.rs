//! The step as launches of kernels. None of it waits for the device.

use super::driver::Entered;
use super::kernels::Kernel;
use super::launch::launch;
use super::layout::{self, Chunk, FLAG_CLEAR_GRADS, Hyper, Inputs, SHARES};
use super::workspace::Workspace;
use super::{Cuda, Stale};
use crate::error::Error;
use crate::sys::memory::reserve;
use crate::tensor::Operands;
use core::sync::atomic::Ordering;

/// What a capture cannot have.
pub(super) const STALE: &str = "an upload of parameters, gradients or options that have changed since adamw_prepare \
                                (call it before)";

/// Who decides whether the step is taken, and what gradients are clipped with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decider {
    /// It is taken, and the factors are among the hyper-parameters.
    Host,
    /// The device, by the numbers that it reads.
    Inputs,
    /// The device, by the gradients, which have been measured, and by those numbers.
    Norms { skips: bool },
}

impl Cuda {
    /// Lays out a step of those of the parameters that are here and due. Of the lazy ones, sparse gradients
    /// step the rows that they list.
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

    /// Whether anything is stepped here.
    pub fn is_idle(&self) -> bool {
        self.plan.is_empty()
    }

    /// Whether rows of some parameters are stepped alone.
    pub fn steps_rows(&self) -> bool {
        self.plan.launches.iter().any(|launch| launch.rows.is_some())
    }

    /// Says what a parameter is stepped with.
    pub fn set_hyper(&mut self, number: u32, hyper: Hyper) {
        let place = &mut self.plan.hypers[number as usize];
        if *place != hyper {
            *place = hyper;
            self.stale = self.stale.max(Stale::Params);
        }
    }

    /// Says what the gradient of a parameter is clipped by, where the host has decided.
    pub fn set_clip_factor(&mut self, number: u32, clip_factor: f64) {
        let hyper = Hyper { clip_factor, ..self.plan.hypers[number as usize] };
        self.set_hyper(number, hyper);
    }

    /// Uploads what a step needs, so that the step itself is launches.
    pub(super) fn prepare(&mut self) -> Result<(), Error> {
        if self.is_broken { Err(Error::BrokenDevice) } else { self.upload() }
    }

    /// Does the same before a capture: what steps go on with after it is made, too, so that they need not.
    pub fn prepare_capture(&mut self) -> Result<(), Error> {
        self.prepare()?;
        if self.spare.is_none() {
            self.check_not_capturing("adamw_prepare")?;
            reserve(&mut self.of_graphs, 1, "the device's tables")?;
            self.spare = Some(Workspace::new(&self.driver.enter()?, &self.size)?);
        }
        Ok(())
    }

    /// Leaves the tables of the step, which is about to be recorded, to its graph.
    pub fn record_step(&mut self) -> Result<(), Error> {
        let has_spare = self.spare.is_some();
        let workspace = self.workspace.as_mut().ok_or(Error::BrokenDevice)?;
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
            *is_there |= hyper.stepped != 0;
        }
        Ok(())
    }

    /// Adds up the squares of the gradients, and counts what is not finite.
    pub fn measure(&mut self) -> Result<(), Error> {
        self.prepare()?;
        let (tensors, _, first_chunk) = self.tables();
        let rows = self.rows_table();
        let places = self.workspace()?.places;
        let (sums, counts, totals) = (places.sums, places.counts, places.totals);
        let device = self.driver.enter()?;
        let mut launches = self.plan.launches.iter().peekable();
        while let Some(launch) = launches.next() {
            // Those whose gradients are of one type lie together.
            let mut n_chunks = launch.n_chunks;
            while let Some(next) = launches.next_if(|next| next.tally == launch.tally) {
                n_chunks += next.n_chunks;
            }
            let chunks = first_chunk + launch.first_chunk * size_of::<Chunk>() as u64;
            let offset = launch.first_chunk * 4 * size_of::<f64>() as u64;
            let (sums, counts) = (sums + offset, counts + offset);
            // SAFETY: what the kernel takes; the tables describe memory that the host vouched for.
            unsafe {
                launch!(
                    device, launch.tally, n_chunks.div_ceil(2);
                    tensors, rows, chunks, n_chunks, sums, counts
                )
            }?;
        }
        self.join_sums(&device, sums, totals)
    }

    /// Joins the sums of blocks to one for each parameter.
    pub(super) fn join_sums(&self, device: &Entered, sums: u64, totals: u64) -> Result<(), Error> {
        let (tensors, ..) = self.tables();
        let counts = self.workspace.as_ref().map_or(0, |workspace| workspace.places.counts);
        let n = self.plan.tensors.len() as u64;
        // SAFETY: what the kernel takes; the tables describe memory that the host vouched for.
        unsafe { launch!(device, Kernel::join_sums, n; tensors, n, sums, counts, totals) }
    }

    /// Steps no more: what is queued up is half a step, the other half of which could not be taken.
    pub fn give_up(&mut self) {
        self.is_broken = true;
    }

    /// Steps the parameters. An error before anything was queued up has changed nothing; one after that
    /// leaves the device's part of the handle broken.
    pub fn step(
        &mut self,
        inputs: Inputs,
        n_groups: usize,
        decider: Decider,
        statistics: bool,
    ) -> Result<(), Error> {
        self.prepare()?;
        let device = self.driver.enter()?;
        let mut queued = self.queue(&device, inputs, n_groups, decider, statistics);
        if statistics && queued.is_ok() {
            queued = self.tally_changes(&device);
        }
        let is_broken = queued.is_err() && device.has_launched();
        drop(device);
        self.is_broken = is_broken;
        queued
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
        let Some(workspace) = &self.workspace else { return Err(Error::BrokenDevice) };
        let places = &workspace.places;
        let (n, n_scopes) = (self.plan.tensors.len() as u32, n_groups as u32);
        let scalars = places.scalars;
        let (totals, scope_sums) = (places.totals, places.scope_sums);
        let (mut factors, mut verdict) = (0u64, 0u64);
        match decider {
            Decider::Host => {}
            Decider::Inputs => verdict = self.clocks.verdict(),
            Decider::Norms { skips } => {
                (factors, verdict) = (places.factors, self.clocks.verdict());
                let skips = u32::from(skips);
                // SAFETY: what the kernel takes; the host vouched for what the inputs point to.
                unsafe {
                    launch!(
                        device, Kernel::decide, 1;
                        hypers, totals, n, n_scopes, skips, inputs, scope_sums, factors, verdict
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
            // SAFETY: as above.
            unsafe {
                launch!(
                    device, Kernel::prepare, u64::from(n).div_ceil(256);
                    hypers, n, inputs, factors, verdict, clocks, scalars
                )
            }?;
        }
        self.catch_up_stepped(device, verdict)?;
        if keeps_weights {
            // Steps that rows had yet to take are none of this step's changes.
            self.keep_weights(device)?;
        }
        for launch in &self.plan.launches {
            if let Some(rows) = &launch.rows {
                let table = self.rows_table() + rows.start * size_of::<layout::Rows>() as u64;
                let (n, flags) = (rows.end - rows.start, launch.flags);
                // SAFETY: as above.
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
            // SAFETY: as above; parameters and state overlap nothing.
            unsafe {
                launch!(
                    device, launch.step, n_chunks;
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
            // SAFETY: the values of a sparse gradient, which the host vouched for.
            unsafe { device.zero(rows.values, rows.value_bytes()) }?;
        }
        Ok(())
    }
}
