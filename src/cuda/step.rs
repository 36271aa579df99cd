//! The step as launches of kernels. None of it waits for the device.

use super::driver::Entered;
use super::kernels::Kernel;
use super::rows::SHARES;
use super::table::{self, Chunk, FLAG_CLEAR_GRADS, Hyper, Inputs};
use super::workspace::Workspace;
use super::{Cuda, Stale};
use crate::error::Error;
use crate::sys::memory::reserve;
use crate::tensor::Operands;
use core::ffi::c_void;
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

/// An argument of a kernel.
pub(super) fn argument<T>(value: &mut T) -> *mut c_void {
    (&raw mut *value).cast()
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
        self.plan.lay(operands, &self.rooms, &self.lags, is_of_step, is_lazy, clears);
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
        let (mut tensors, _, first_chunk) = self.tables();
        let mut rows = self.rows_table();
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
            let mut chunks = first_chunk + launch.first_chunk * size_of::<Chunk>() as u64;
            let offset = launch.first_chunk * 4 * size_of::<f64>() as u64;
            let (mut sums, mut counts) = (sums + offset, counts + offset);
            let arguments = [
                argument(&mut tensors),
                argument(&mut rows),
                argument(&mut chunks),
                argument(&mut n_chunks),
                argument(&mut sums),
                argument(&mut counts),
            ];
            // SAFETY: what the kernel takes; the tables describe memory that the host vouched for.
            unsafe { device.launch(launch.tally, n_chunks.div_ceil(2), arguments) }?;
        }
        self.join_sums(&device, sums, totals)
    }

    /// Joins the sums of blocks to one for each parameter.
    pub(super) fn join_sums(
        &self,
        device: &Entered,
        mut sums: u64,
        mut totals: u64,
    ) -> Result<(), Error> {
        let (mut tensors, ..) = self.tables();
        let mut counts = self.workspace.as_ref().map_or(0, |workspace| workspace.places.counts);
        let mut n = self.plan.tensors.len() as u64;
        let arguments = [
            argument(&mut tensors),
            argument(&mut n),
            argument(&mut sums),
            argument(&mut counts),
            argument(&mut totals),
        ];
        // SAFETY: what the kernel takes; the tables describe memory that the host vouched for.
        unsafe { device.launch(Kernel::JOIN_SUMS, n, arguments) }
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
        let kept = if statistics { self.keep_weights(&device) } else { Ok(()) };
        let mut queued = kept.and_then(|()| self.queue(&device, inputs, n_groups, decider));
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
        mut inputs: Inputs,
        n_groups: usize,
        decider: Decider,
    ) -> Result<(), Error> {
        let (mut tensors, mut hypers, first_chunk) = self.tables();
        let Some(workspace) = &self.workspace else { return Err(Error::BrokenDevice) };
        let places = &workspace.places;
        let (mut n, mut n_scopes) = (self.plan.tensors.len() as u32, n_groups as u32);
        let mut scalars = places.scalars;
        let (mut totals, mut scope_sums) = (places.totals, places.scope_sums);
        let (mut factors, mut verdict) = (0u64, 0u64);
        match decider {
            Decider::Host => {}
            Decider::Inputs => verdict = self.clocks.verdict(),
            Decider::Norms { skips } => {
                (factors, verdict) = (places.factors, self.clocks.verdict());
                let mut skips = u32::from(skips);
                let arguments = [
                    argument(&mut hypers),
                    argument(&mut totals),
                    argument(&mut n),
                    argument(&mut n_scopes),
                    argument(&mut skips),
                    argument(&mut inputs),
                    argument(&mut scope_sums),
                    argument(&mut factors),
                    argument(&mut verdict),
                ];
                // SAFETY: what the kernel takes; the host vouched for what the inputs point to.
                unsafe { device.launch(Kernel::DECIDE, 1, arguments) }?;
            }
        }
        for (params, mut clocks) in self.clocks.segments(n as usize) {
            let place = |start: u64, bytes: usize| start + (params.start * bytes) as u64;
            let mut hypers = place(hypers, size_of::<Hyper>());
            let mut scalars = place(scalars, table::SCALARS);
            let mut factors = if factors == 0 { 0 } else { place(factors, size_of::<f64>()) };
            let mut n = params.len() as u32;
            let arguments = [
                argument(&mut hypers),
                argument(&mut n),
                argument(&mut inputs),
                argument(&mut factors),
                argument(&mut verdict),
                argument(&mut clocks),
                argument(&mut scalars),
            ];
            // SAFETY: as above.
            unsafe { device.launch(Kernel::PREPARE, u64::from(n).div_ceil(256), arguments) }?;
        }
        self.catch_up_stepped(device, verdict)?;
        for launch in &self.plan.launches {
            if let Some(rows) = &launch.rows {
                let mut table = self.rows_table() + rows.start * size_of::<table::Rows>() as u64;
                let (mut n, mut flags) = (rows.end - rows.start, launch.flags);
                let arguments = [
                    argument(&mut tensors),
                    argument(&mut table),
                    argument(&mut n),
                    argument(&mut scalars),
                    argument(&mut flags),
                    argument(&mut verdict),
                ];
                // SAFETY: as above.
                unsafe { device.launch(launch.step, n * SHARES, arguments) }?;
                continue;
            }
            let mut chunks = first_chunk + launch.first_chunk * size_of::<Chunk>() as u64;
            let (mut n_chunks, mut flags) = (launch.n_chunks, launch.flags);
            let arguments = [
                argument(&mut tensors),
                argument(&mut chunks),
                argument(&mut n_chunks),
                argument(&mut scalars),
                argument(&mut flags),
                argument(&mut verdict),
            ];
            // SAFETY: as above; parameters and state overlap nothing.
            unsafe { device.launch(launch.step, n_chunks, arguments) }?;
            if flags & FLAG_CLEAR_GRADS != 0 && verdict != 0 {
                let mut grad_bytes = launch.grad_bytes;
                let arguments = [
                    argument(&mut tensors),
                    argument(&mut chunks),
                    argument(&mut n_chunks),
                    argument(&mut verdict),
                    argument(&mut grad_bytes),
                ];
                // SAFETY: as above.
                unsafe { device.launch(Kernel::CLEAR_SKIPPED, n_chunks, arguments) }?;
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
