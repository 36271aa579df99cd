//! Sparse gradients: the rows that they list, and how the rows that they do not list catch up.
//!
//! In a group with `Lazy::Exact` a step updates the rows that a gradient lists, and the others lag.
//! `set_sparse_grad` has the rows of a parameter begin to lag (`keep_lag`). At each step,
//! `read_rows` reads the lists, `take_turns` brings up to date the rows whose turn it is, and
//! `log_steps` logs the step for those that have yet to take it (`tensor/lag.rs`, `steps.rs`).
//!
//! Between steps, `catch_up_some` brings rows up to date before their state is seen or saved, and
//! `prepare_rows` those that the host is about to read. A change of a group's laziness goes through
//! `change_laziness`: rows that may lag no more are brought up to date first (`settle_rows`).
//! `device/rows.rs` does the same for parameters on a device.
#![forbid(unsafe_code)]

use crate::backend::Refused;
use crate::config::Lazy;
use crate::device::Device;
use crate::error::{Error, Label, TensorProblem};
use crate::optimizer::Optimizer;
use crate::optimizer::params::Param;
use crate::optimizer::params::table::{ParamId, Params, Parts};
use crate::optimizer::step::decide::Decisions;
use crate::role::Role;
use crate::steps::Steps;
use crate::tensor::{Extent, Grad, Lag, NoRow, Operands, RowList, SparseGrad};
use core::ops::Range;

impl Optimizer {
    /// Sets a sparse gradient. Each step reads which rows it lists.
    pub fn set_sparse_grad(&mut self, number: u32, sparse: SparseGrad) -> Result<(), Error> {
        let (id, grad) = (self.params.id(number)?, Grad::Sparse(sparse));
        let (name, operands) = (self.params.label(id), self.params.operands(id));
        let is_here = sparse.rows.check_device(operands.param().device());
        is_here.map_err(|problem| problem.of(name, Role::Rows))?;
        let is_same = matches!(operands.grad(), Some(Grad::Sparse(before)) if before == sparse);
        if is_same && operands.is_on_device() {
            return Ok(()); // the device's tables have it
        }
        self.check_grad(id, Some(grad))?;
        self.check_cut(id, sparse.row_elements())?;
        self.check_laziness(id)?;
        self.learn_changes()?; // which growth on the device would take away
        self.grads_unchecked |= self.config.clear_grads;
        let operands = self.params.revise_operands(id);
        if operands.is_on_device() {
            operands.reserve_rows(0, 0)?; // for the list, which the device reads
            self.backend.reserve_rows(number, name, operands, &sparse)?;
        } else {
            operands.reserve_rows(sparse.rows.len(), sparse.row_elements())?;
        }
        if self.group_of(id).lazy == Lazy::Exact {
            self.keep_lag(id, sparse.row_elements())?;
        }
        if self.statistics {
            self.scratch.changes.reserve(id.place(), self.params.operands(id))?;
        }
        let operands = self.params.revise_operands(id);
        operands.set_grad(Some(grad)).map_err(|problem| problem.of(name, Role::Grad))
    }

    /// Checks that rows have as many elements as those of the parameter, where the host has given a
    /// shape, and as those that lag on the device.
    fn check_cut(&mut self, id: ParamId, row: u64) -> Result<(), Error> {
        if let Some(expected) = self.params.row_elements(id).filter(|&own| row != 0 && row != own) {
            let problem = TensorProblem::RowWidth { row, expected };
            return Err(problem.of(self.params.label(id), Role::Grad));
        }
        let lagging = self.row_elements_on_device(id);
        match lagging.filter(|&earlier| row != 0 && row != earlier) {
            None => Ok(()),
            Some(earlier) => {
                let problem = TensorProblem::RowsRecut { row, earlier };
                Err(problem.of(self.params.label(id), Role::Grad))
            }
        }
    }

    /// Checks that a parameter can be stepped row by row, if its group is lazy.
    pub(in crate::optimizer) fn check_laziness(&self, id: ParamId) -> Result<(), Error> {
        let moments = self.params.operands(id).format().moments();
        match self.group_of(id).lazy {
            Lazy::Rows | Lazy::Exact if moments.block().is_some() => {
                Err(Error::CodedRows(self.params.label(id)))
            }
            _ => Ok(()),
        }
    }

    /// Lets the rows of a parameter lag from now on, unless they already do or have no elements.
    fn keep_lag(&mut self, id: ParamId, row_elements: u64) -> Result<(), Error> {
        let Parts { operands, logs, .. } = self.params.revise();
        let (operands, log) = (&mut operands[id.place()], &mut logs[id.place()]);
        if row_elements == 0 || operands.lag().is_some() {
            return Ok(());
        }
        if operands.format().moments().block().is_some() {
            return Ok(()); // the next step refuses it
        }
        if operands.is_on_device() {
            return self.keep_lag_on_device(id, row_elements);
        }
        let lag = Lag::new(operands.param().n_elements() / row_elements, row_elements)?;
        log.reserve()?;
        operands.set_lag(lag)
    }

    /// Prepares some parameters for steps of another laziness: all of them or, on an error, none.
    pub(in crate::optimizer) fn change_laziness(
        &mut self,
        of: Range<usize>,
        which: impl Fn(&Param) -> bool,
        lazy: Lazy,
    ) -> Result<(), Error> {
        if lazy != Lazy::Exact {
            return self.settle_rows(of, which);
        }
        for id in self.params.ids(&of) {
            let Some(Grad::Sparse(sparse)) = self.params.operands(id).grad() else { continue };
            if !which(&self.params[id]) {
                continue;
            }
            let kept = self.keep_lag(id, sparse.row_elements());
            if kept.is_err() && self.group_of(id).lazy != Lazy::Exact {
                self.forget_lags(of.start..id.place(), &which)?;
            }
            kept?;
        }
        Ok(())
    }

    /// Brings the rows of a list up to date.
    pub fn prepare_rows(&mut self, number: u32, rows: &RowList) -> Result<(), Error> {
        let id = self.params.id(number)?;
        let name = self.params.label(id);
        let operands = self.params.revise_operands(id);
        let is_here = rows.check_device(operands.param().device());
        is_here.map_err(|problem| problem.of(name, Role::Rows))?;
        if let Device::Cuda(device) = operands.param().device() {
            let addresses = rows.addresses();
            self.reaches(name, Role::Rows, device, &addresses)?;
            return self.catch_up_on_device(id, Some(rows));
        }
        let Some(row_elements) = operands.lag().map(Lag::row_elements) else { return Ok(()) };
        operands.reserve_rows(rows.len(), row_elements)?;
        operands.list_rows(rows, row_elements, 0).map_err(|no_row| outside(name, no_row))?;
        self.fetch(id)?;
        let listed = |_: &Param, _: &Operands| Extent::Listed;
        self.catch_up(&id.alone(), listed, Refused::Fails)?;
        if let Some((lag, index)) = self.params.revise_operands(id).lag_and_index() {
            index.rows().for_each(|row| lag.mark_caught_up(row));
        }
        self.send_back(id)
    }

    /// Brings every row of every parameter up to date.
    pub fn flush_rows(&mut self) -> Result<(), Error> {
        self.catch_up_some(self.params.all(), |_| true)
    }

    /// Brings every row of a parameter up to date.
    pub(in crate::optimizer) fn catch_up_rows(&mut self, id: ParamId) -> Result<(), Error> {
        self.catch_up_some(id.alone(), |_| true)
    }

    /// Brings every row of some parameters up to date: of all of them or, on an error, of none.
    fn catch_up_some(
        &mut self,
        of: Range<usize>,
        which: impl Fn(&Param) -> bool,
    ) -> Result<(), Error> {
        let mut written = false;
        for id in self.params.ids(&of) {
            if self.params.operands(id).is_on_device() && which(&self.params[id]) {
                self.catch_up_on_device(id, None)?;
                written = true;
            }
        }
        let lags = |params: &Params, id: ParamId| {
            params.operands(id).lag().is_some() && which(&params[id])
        };
        if !self.params.ids(&of).any(|id| lags(&self.params, id)) {
            return Ok(()); // without a revision, which reading state is not
        }
        for id in self.params.ids(&of) {
            if lags(&self.params, id) {
                self.fetch(id)?;
            }
        }
        let all_of_some = |param: &Param, operands: &Operands| {
            if which(param) { all_rows(operands) } else { Extent::Nothing }
        };
        self.catch_up(&of, all_of_some, Refused::after(written))?;
        let Parts { params, operands, .. } = self.params.revise();
        for (param, operands) in params[of.clone()].iter().zip(&mut operands[of.clone()]) {
            if let (true, Some((lag, _))) = (which(param), operands.lag_and_index()) {
                lag.mark_all_caught_up();
            }
        }
        for id in self.params.ids(&of) {
            if lags(&self.params, id) {
                self.send_back(id)?;
            }
        }
        Ok(())
    }

    /// Brings every row of some parameters up to date and lets none lag from now on: all of them
    /// or, on an error, none.
    pub(in crate::optimizer) fn settle_rows(
        &mut self,
        of: Range<usize>,
        which: impl Fn(&Param) -> bool,
    ) -> Result<(), Error> {
        self.catch_up_some(of.clone(), &which)?;
        self.forget_lags(of, which)
    }

    /// Lets no row of some parameters lag from now on. All of them are up to date.
    fn forget_lags(
        &mut self,
        of: Range<usize>,
        which: impl Fn(&Param) -> bool,
    ) -> Result<(), Error> {
        self.forget_lags_on_device(&of, &which)?;
        let Parts { params, operands, .. } = self.params.revise();
        for (param, operands) in params[of.clone()].iter().zip(&mut operands[of]) {
            if which(param) {
                operands.forget_lag();
            }
        }
        Ok(())
    }

    /// Brings rows up to date for the step that is about to be logged: all rows of a parameter
    /// whose gradient is dense, otherwise those whose turn it is.
    #[inline(never)] // so that `update` runs on a smaller stack
    pub(in crate::optimizer) fn take_turns(
        &mut self,
        of: &Range<usize>,
        refused: Refused,
    ) -> Result<(), Error> {
        let turn = |_: &Param, operands: &Operands| match operands.lag() {
            Some(lag) if operands.is_due_on_host() && operands.has_rows() => {
                Extent::Rows(lag.turn())
            }
            Some(_) if operands.is_due_on_host() => all_rows(operands),
            _ => Extent::Nothing,
        };
        self.catch_up(of, turn, refused)?;
        let stepped = self.params.revise().operands[of.clone()].iter_mut();
        for operands in stepped.filter(|operands| operands.is_due_on_host()) {
            let has_rows = operands.has_rows();
            match operands.lag_and_index() {
                Some((lag, _)) if has_rows => lag.end_turn(),
                Some((lag, _)) => lag.mark_all_caught_up(),
                None => {}
            }
        }
        Ok(())
    }

    /// Has rows take the steps that they are behind.
    fn catch_up(
        &mut self,
        of: &Range<usize>,
        extent: impl Fn(&Param, &Operands) -> Extent,
        refused: Refused,
    ) -> Result<(), Error> {
        let grad_moves = self.params.grad_moves();
        let Parts { params, operands, logs, .. } = self.params.revise();
        let (params, logs) = (&params[of.clone()], &logs[of.clone()]);
        let extent = |place: usize, operands: &Operands| extent(&params[place], operands);
        let chunks = self.scratch.pass.over(&mut operands[of.clone()], grad_moves, extent);
        let steps = Steps { scalars: &[], scalars_of: &[], logs };
        self.backend.update(&chunks, &steps, refused)
    }

    /// Reads the rows that the sparse gradients list now.
    pub(in crate::optimizer) fn read_rows(&mut self, of: &Range<usize>) -> Result<(), Error> {
        for id in self.params.ids(of) {
            let operands = self.params.operands(id);
            if !operands.is_due_on_host() {
                continue;
            }
            if operands.has_rows() {
                self.check_laziness(id)?;
            }
            let origin = self.origin(id);
            let read = self.params.revise_operands(id).read_rows(origin);
            read.map_err(|no_row| outside(self.params.label(id), no_row))?;
        }
        Ok(())
    }

    /// Checks that parameters on the device with sparse gradients can be stepped as their groups
    /// want.
    pub(in crate::optimizer) fn check_laziness_on_device(
        &self,
        of: &Range<usize>,
    ) -> Result<(), Error> {
        let is_sparse = |operands: &Operands| operands.is_due_on_device() && operands.has_rows();
        let mut ids = self.params.ids(of).filter(|id| is_sparse(self.params.operands(*id)));
        ids.try_for_each(|id| self.check_laziness(id))
    }

    /// Counts the step for the rows that have taken it, and logs it for the others.
    #[inline(never)] // so that `update` runs on a smaller stack
    pub(in crate::optimizer) fn log_steps(&mut self, of: &Range<usize>) {
        let Decisions { scalars, scalars_of, .. } = &self.scratch.decisions;
        let steps = Steps { scalars, scalars_of, logs: &[] };
        let Parts { operands, logs, .. } = self.params.revise();
        let both = operands[of.clone()].iter_mut().zip(&mut logs[of.clone()]);
        for (place, (operands, log)) in both.enumerate() {
            let has_rows = operands.has_rows();
            let (Some(scalars), Some((lag, index))) = (steps.now(place), operands.lag_and_index())
            else {
                continue;
            };
            log.set(lag.steps(), *scalars);
            lag.count_step();
            if has_rows {
                index.rows().for_each(|row| lag.mark_caught_up(row));
            } else {
                lag.mark_all_caught_up();
            }
        }
    }
}

/// Returns every row that may lag.
fn all_rows(operands: &Operands) -> Extent {
    operands.lag().map_or(Extent::Nothing, |lag| Extent::Rows(0..lag.height()))
}

/// Returns the error for a row that a parameter does not have.
pub(in crate::optimizer) fn outside(param: Label, no_row: NoRow) -> Error {
    let NoRow { place, row, height } = no_row;
    Error::Row { param, place, row, height }
}
