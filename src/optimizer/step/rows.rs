//! Sparse gradients: which rows they list, and how the rows that they do not list catch up.
#![forbid(unsafe_code)]

use crate::backend::Refused;
use crate::config::Lazy;
use crate::cuda::{Outside, RowSet};
use crate::device::Device;
use crate::error::{Error, Label, TensorProblem};
use crate::optimizer::Optimizer;
use crate::optimizer::params::Param;
use crate::optimizer::step::decide::Decisions;
use crate::role::Role;
use crate::steps::Steps;
use crate::tensor::{Extent, Grad, Lag, NoRow, Operands, RowList, SparseGrad};
use core::ops::Range;

impl Optimizer {
    /// Sets a sparse gradient; the rows are read by each step.
    pub fn set_sparse_grad(&mut self, number: u32, sparse: SparseGrad) -> Result<(), Error> {
        let (name, grad) = (self.label(number)?, Grad::Sparse(sparse));
        let operands = &self.operands[number as usize];
        let is_here = sparse.rows.check_device(operands.param().device());
        is_here.map_err(|problem| problem.of(name, Role::Rows))?;
        let is_same = matches!(operands.grad(), Some(Grad::Sparse(before)) if before == sparse);
        if is_same && operands.is_on_device() {
            return Ok(()); // the device's tables hold
        }
        self.check_grad(number, Some(grad))?;
        self.check_cut((number, name), sparse.row_elements())?;
        self.check_laziness(number)?;
        self.grads_unchecked |= self.config.clear_grads;
        let operands = &mut self.operands[number as usize];
        if operands.is_on_device() {
            operands.reserve_rows(0, 0)?; // for the list alone, which is read there
            self.backend.reserve_rows(number, name, operands, &sparse)?;
        } else {
            operands.reserve_rows(sparse.rows.len(), sparse.row_elements())?;
        }
        if self.group_of(number).lazy == Lazy::Exact {
            self.keep_lag(number as usize, sparse.row_elements())?;
        }
        if self.statistics {
            let operands = &self.operands[number as usize];
            self.scratch.changes.reserve(number as usize, operands)?;
        }
        let operands = &mut self.operands[number as usize];
        operands.set_grad(Some(grad)).map_err(|problem| problem.of(name, Role::Grad))
    }

    /// That rows of a parameter on the device are cut as those that lag there.
    fn check_cut(&mut self, (number, name): (u32, Label), row: u64) -> Result<(), Error> {
        let lagging = self.backend.cuda().and_then(|cuda| cuda.lagging_row_elements(number));
        match lagging.filter(|&earlier| row != 0 && row != earlier) {
            None => Ok(()),
            Some(earlier) => Err(TensorProblem::RowsRecut { row, earlier }.of(name, Role::Grad)),
        }
    }

    /// That a parameter whose gradient is sparse can be stepped row by row, if its group wants that.
    pub(in crate::optimizer) fn check_laziness(&self, number: u32) -> Result<(), Error> {
        let moments = self.operands[number as usize].format().moments();
        match self.group_of(number).lazy {
            Lazy::Rows | Lazy::Exact if moments.block().is_some() => {
                Err(Error::CodedRows(self.label(number)?))
            }
            _ => Ok(()),
        }
    }

    /// Lets the rows of a parameter lag, if they are rows of so many elements and do not lag yet.
    fn keep_lag(&mut self, number: usize, row_elements: u64) -> Result<(), Error> {
        let operands = &mut self.operands[number];
        if row_elements == 0 || operands.lag().is_some() {
            return Ok(());
        }
        if operands.format().moments().block().is_some() {
            return Ok(()); // the next step refuses it
        }
        if let Some(cuda) = self.backend.cuda()
            && operands.is_on_device()
        {
            return cuda.keep_lag(number as u32, operands, row_elements);
        }
        let lag = Lag::new(operands.param().n_elements() / row_elements, row_elements)?;
        self.logs[number].reserve()?;
        operands.set_lag(lag)
    }

    /// Has some parameters step as lazily as this from now on: all of them or, on an error, none.
    pub(in crate::optimizer) fn change_laziness(
        &mut self,
        of: Range<usize>,
        which: impl Fn(&Param) -> bool,
        lazy: Lazy,
    ) -> Result<(), Error> {
        if lazy != Lazy::Exact {
            return self.settle_rows(of, which);
        }
        for number in of.clone() {
            let Some(Grad::Sparse(sparse)) = self.operands[number].grad() else { continue };
            if !which(&self.params[number]) {
                continue;
            }
            let kept = self.keep_lag(number, sparse.row_elements());
            if kept.is_err() && self.group_of(number as u32).lazy != Lazy::Exact {
                self.forget_lags(of.start..number, &which)?;
            }
            kept?;
        }
        Ok(())
    }

    /// Brings rows to where steps without a gradient would have brought them.
    pub fn prepare_rows(&mut self, number: u32, rows: &RowList) -> Result<(), Error> {
        let name = self.label(number)?;
        let operands = &mut self.operands[number as usize];
        let is_here = rows.check_device(operands.param().device());
        is_here.map_err(|problem| problem.of(name, Role::Rows))?;
        if let Device::Cuda(device) = operands.param().device() {
            let addresses = rows.addresses();
            self.reaches(name, Role::Rows, device, &addresses)?;
            return self.catch_up_on_device(number, RowSet::Listed(rows));
        }
        let Some(row_elements) = operands.lag().map(Lag::row_elements) else { return Ok(()) };
        operands.reserve_rows(rows.len(), row_elements)?;
        operands.list_rows(rows, row_elements).map_err(|no_row| outside(name, no_row))?;
        let number = number as usize;
        self.fetch(number)?;
        let listed = |_: &Param, _: &Operands| Extent::Listed;
        self.catch_up(&(number..number + 1), listed, Refused::Fails)?;
        if let Some((lag, index)) = self.operands[number].lag_and_index() {
            index.rows().for_each(|row| lag.mark_caught_up(row));
        }
        self.send_back(number)
    }

    /// Brings every row of every parameter up to date.
    pub fn flush_rows(&mut self) -> Result<(), Error> {
        self.catch_up_some(0..self.params.len(), |_| true)
    }

    /// Brings every row of a parameter up to date.
    pub(in crate::optimizer) fn catch_up_rows(&mut self, number: usize) -> Result<(), Error> {
        self.catch_up_some(number..number + 1, |_| true)
    }

    /// Brings every row of some parameters up to date: of all of them or, on an error, of none.
    fn catch_up_some(
        &mut self,
        of: Range<usize>,
        which: impl Fn(&Param) -> bool,
    ) -> Result<(), Error> {
        let mut written = false;
        for number in of.clone() {
            if self.operands[number].is_on_device() && which(&self.params[number]) {
                self.catch_up_on_device(number as u32, RowSet::All)?;
                written = true;
            }
        }
        let lags = |optimizer: &Optimizer, number: usize| {
            optimizer.operands[number].lag().is_some() && which(&optimizer.params[number])
        };
        if !of.clone().any(|number| lags(self, number)) {
            return Ok(()); // Who only reads state changes nothing that a step would have to look at again.
        }
        for number in of.clone() {
            if lags(self, number) {
                self.fetch(number)?;
            }
        }
        let all_of_some = |param: &Param, operands: &Operands| match which(param) {
            true => all_rows(operands),
            false => Extent::Nothing,
        };
        self.catch_up(&of, all_of_some, Refused::after(written))?;
        let params = self.params[of.clone()].iter();
        for (param, operands) in params.zip(&mut self.operands[of.clone()]) {
            if let (true, Some((lag, _))) = (which(param), operands.lag_and_index()) {
                lag.mark_all_caught_up();
            }
        }
        for number in of {
            if lags(self, number) {
                self.send_back(number)?;
            }
        }
        Ok(())
    }

    /// Brings every row of some parameters up to date, and lets none lag from now on: all of them or, on an
    /// error, none.
    pub(in crate::optimizer) fn settle_rows(
        &mut self,
        of: Range<usize>,
        which: impl Fn(&Param) -> bool,
    ) -> Result<(), Error> {
        self.catch_up_some(of.clone(), &which)?;
        self.forget_lags(of, which)
    }

    /// Lets no row of some parameters lag from now on, all of which are up to date.
    fn forget_lags(
        &mut self,
        of: Range<usize>,
        which: impl Fn(&Param) -> bool,
    ) -> Result<(), Error> {
        let params = &self.params;
        if let Some(cuda) = self.backend.cuda() {
            let of = of.clone();
            cuda.forget_lags(|number| {
                of.contains(&(number as usize)) && which(&params[number as usize])
            })?;
        }
        for (param, operands) in params[of.clone()].iter().zip(&mut self.operands[of]) {
            if which(param) {
                operands.forget_lag();
            }
        }
        Ok(())
    }

    fn catch_up_on_device(&mut self, number: u32, which: RowSet) -> Result<(), Error> {
        let operands = &self.operands[number as usize];
        self.backend.cuda().ok_or(Error::NoDeviceYet)?.catch_up(number, operands, which)
    }

    /// Brings up to date the rows whose turn it is, where a step is about to be logged, and all rows
    /// of a parameter whose gradient is dense.
    pub(in crate::optimizer) fn take_turns(
        &mut self,
        of: &Range<usize>,
        refused: Refused,
    ) -> Result<(), Error> {
        let is_listed = |operands: &Operands| operands.index().len() > 0;
        let turn = |_: &Param, operands: &Operands| match operands.lag() {
            Some(lag) if operands.is_due_on_host() && is_listed(operands) => {
                Extent::Rows(lag.turn())
            }
            Some(_) if operands.is_due_on_host() => all_rows(operands),
            _ => Extent::Nothing,
        };
        self.catch_up(of, turn, refused)?;
        let stepped = self.operands[of.clone()].iter_mut();
        for operands in stepped.filter(|operands| operands.is_due_on_host()) {
            let is_listed = is_listed(operands);
            match operands.lag_and_index() {
                Some((lag, _)) if is_listed => lag.end_turn(),
                Some((lag, _)) => lag.mark_all_caught_up(),
                None => {}
            }
        }
        Ok(())
    }

    fn catch_up(
        &mut self,
        of: &Range<usize>,
        extent: impl Fn(&Param, &Operands) -> Extent,
        refused: Refused,
    ) -> Result<(), Error> {
        let (params, operands) = (&self.params[of.clone()], &mut self.operands[of.clone()]);
        let extent = |place: usize, operands: &Operands| extent(&params[place], operands);
        let chunks = self.scratch.pass.over(operands, extent);
        let steps = Steps { scalars: &[], scalars_of: &[], logs: &self.logs[of.clone()] };
        self.backend.update(&chunks, &steps, refused)
    }

    /// Reads which rows the sparse gradients list now.
    pub(in crate::optimizer) fn read_rows(&mut self, of: &Range<usize>) -> Result<(), Error> {
        for number in of.clone() {
            let operands = &self.operands[number];
            if !operands.is_due_on_host() {
                continue;
            }
            if operands.has_rows() {
                self.check_laziness(number as u32)?;
            }
            let read = self.operands[number].read_rows();
            read.map_err(|no_row| outside(self.params[number].label(), no_row))?;
        }
        Ok(())
    }

    /// That the sparse gradients on the device can be stepped as their groups want.
    pub(in crate::optimizer) fn check_laziness_on_device(
        &self,
        of: &Range<usize>,
    ) -> Result<(), Error> {
        let is_sparse = |operands: &Operands| operands.is_due_on_device() && operands.has_rows();
        let mut sparse = of.clone().filter(|&number| is_sparse(&self.operands[number]));
        sparse.try_for_each(|number| self.check_laziness(number as u32))
    }

    /// That no list has had a row that its parameter has not, since this was asked last. Waits for the device.
    pub(in crate::optimizer) fn check_rows_on_device(&mut self) -> Result<(), Error> {
        let Some((number, Outside { place, row, height })) = self.cuda()?.outside()? else {
            return Ok(());
        };
        Err(outside(self.label(number)?, NoRow { place: place - 1, row, height }))
    }

    /// Counts the step that has been taken for the rows that took it, and logs it for the others.
    pub(in crate::optimizer) fn log_steps(&mut self, of: &Range<usize>) {
        let Decisions { scalars, scalars_of, .. } = &self.scratch.decisions;
        let steps = Steps { scalars, scalars_of, logs: &[] };
        let (operands, logs) = (&mut self.operands[of.clone()], &mut self.logs[of.clone()]);
        for (place, (operands, log)) in operands.iter_mut().zip(logs).enumerate() {
            let (Some(scalars), Some((lag, index))) = (steps.now(place), operands.lag_and_index())
            else {
                continue;
            };
            log.set(lag.steps(), *scalars);
            lag.count_step();
            if index.len() > 0 {
                index.rows().for_each(|row| lag.mark_caught_up(row));
            } else {
                lag.mark_all_caught_up();
            }
        }
    }
}

/// Every row that may lag.
fn all_rows(operands: &Operands) -> Extent {
    operands.lag().map_or(Extent::Nothing, |lag| Extent::Rows(0..lag.height()))
}

fn outside(param: Label, no_row: NoRow) -> Error {
    let NoRow { place, row, height } = no_row;
    Error::Row { param, place, row, height }
}
