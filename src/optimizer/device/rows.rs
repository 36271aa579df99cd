//! Rows of parameters on a device: how they come to lag, and how they catch up there.
#![forbid(unsafe_code)]

use crate::cuda::{Outside, RowSet};
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::Param;
use crate::optimizer::params::table::ParamId;
use crate::optimizer::step::rows::outside;
use crate::tensor::{NoRow, RowList};
use core::ops::Range;

impl Optimizer {
    /// Gathers the sparse gradients of a step.
    pub(in crate::optimizer) fn gather_rows_on_device(&mut self) -> Result<(), Error> {
        self.cuda()?.gather()
    }

    /// Returns the number of elements of a row, if rows of the parameter lag on a device.
    pub(in crate::optimizer) fn row_elements_on_device(&mut self, id: ParamId) -> Option<u64> {
        self.backend.cuda().and_then(|cuda| cuda.lagging_row_elements(id.number()))
    }

    /// Lets the rows of a parameter on a device lag.
    pub(in crate::optimizer) fn keep_lag_on_device(
        &mut self,
        id: ParamId,
        row_elements: u64,
    ) -> Result<(), Error> {
        let cuda = self.backend.cuda().ok_or(Error::NoDeviceYet)?;
        cuda.keep_lag(id.number(), self.params.operands(id), row_elements)
    }

    /// Lets no row of some parameters lag on a device any more.
    pub(in crate::optimizer) fn forget_lags_on_device(
        &mut self,
        of: &Range<usize>,
        which: impl Fn(&Param) -> bool,
    ) -> Result<(), Error> {
        let Some(cuda) = self.backend.cuda() else { return Ok(()) };
        let params = self.params.params_of(&self.params.all());
        cuda.forget_lags(|number| {
            of.contains(&(number as usize)) && which(&params[number as usize])
        })
    }

    /// Brings rows of a parameter on a device up to date: those of a list, or all.
    pub(in crate::optimizer) fn catch_up_on_device(
        &mut self,
        id: ParamId,
        rows: Option<&RowList>,
    ) -> Result<(), Error> {
        let cuda = self.backend.cuda().ok_or(Error::NoDeviceYet)?;
        let rows = rows.map_or(RowSet::All, RowSet::Listed);
        cuda.catch_up(id.number(), self.params.operands(id), rows)
    }

    /// Checks that no list has had a row that its parameter does not have, since the last check.
    /// Waits for the device.
    pub(in crate::optimizer) fn check_rows_on_device(&mut self) -> Result<(), Error> {
        let Some((number, Outside { place, row, height })) = self.cuda()?.outside()? else {
            return Ok(());
        };
        Err(outside(self.label(number)?, NoRow { place: place - 1, row, height }))
    }
}
