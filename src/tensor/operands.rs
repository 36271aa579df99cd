//! All the memory of one parameter.

use super::rows::{NoRow, RowIndex};
use super::{Buffer, Lag, RowList, Slice, SliceMut, SparseGrad, Tensor};
use crate::dtype::{Bf16, Dtype, F16};
use crate::error::{Error, Role, TensorProblem};
use core::ops::Range;

/// All the memory of one parameter. Every tensor in it has the parameter's number of elements and
/// the element type of its role: that is checked where it comes in, and relied on where it is cut.
pub struct Operands {
    /// `[n] f32|f64|f16|bf16`, the host's.
    pub(super) param: Tensor,
    /// The host's; none: the parameter is skipped.
    pub(super) grad: Option<Grad>,
    /// `[n] f32`, for 16-bit parameters with multi_precision.
    pub(super) master: Option<Buffer>,
    /// `[n]` of the compute type, as the two below; none: the parameter is skipped.
    pub(super) exp_avg: Option<Buffer>,
    pub(super) exp_avg_sq: Option<Buffer>,
    /// With amsgrad.
    pub(super) max_exp_avg_sq: Option<Buffer>,
    /// The rows that the gradient, if it is sparse, listed when they were last read.
    index: RowIndex,
    /// Not stepped, whatever gradient there is.
    resting: bool,
    /// What the rows that are not listed have yet to catch up with.
    lag: Option<Lag>,
}

/// A gradient in the host's memory.
#[derive(Clone, Copy, Debug)]
pub enum Grad {
    /// `[n]` of the parameter's type or f32.
    Dense(Tensor),
    Sparse(SparseGrad),
}

impl Grad {
    /// The values, dense or of the listed rows.
    pub fn values(&self) -> &Tensor {
        match self {
            Grad::Dense(values) => values,
            Grad::Sparse(sparse) => &sparse.values,
        }
    }

    /// The addresses that it covers, for finding overlaps.
    pub fn addresses(&self) -> [(Role, Range<usize>); 2] {
        let rows = match self {
            Grad::Dense(_) => 0..0,
            Grad::Sparse(sparse) => sparse.rows.addresses(),
        };
        [(Role::Grad, self.values().addresses()), (Role::Rows, rows)]
    }
}

impl Operands {
    /// A parameter that has no gradient and no state yet.
    pub fn new(param: Tensor) -> Operands {
        Operands {
            param,
            grad: None,
            master: None,
            exp_avg: None,
            exp_avg_sq: None,
            max_exp_avg_sq: None,
            index: RowIndex::default(),
            resting: false,
            lag: None,
        }
    }

    /// What is left of a parameter that was removed.
    pub fn none() -> Operands {
        Operands::new(Tensor { address: 0, n_elements: 0, dtype: Dtype::F32 })
    }

    pub fn param(&self) -> Tensor {
        self.param
    }

    pub fn grad(&self) -> Option<Grad> {
        self.grad
    }

    /// Whether a step has anything to do here. A gradient that lists no row is none.
    pub fn is_stepped(&self) -> bool {
        let has_grad = match &self.grad {
            None => false,
            Some(Grad::Dense(_)) => true,
            Some(Grad::Sparse(sparse)) => sparse.rows.len() > 0,
        };
        has_grad && !self.resting && self.exp_avg.is_some() && self.exp_avg_sq.is_some()
    }

    /// The tensor in a role, if the parameter has one.
    pub fn tensor(&self, role: Role) -> Option<Tensor> {
        match role {
            Role::Param => Some(self.param),
            Role::Grad => self.grad.map(|grad| *grad.values()),
            _ => self.state(role).map(|buffer| buffer.tensor),
        }
    }

    /// The state buffer in a role, if the parameter has one.
    pub fn state(&self, role: Role) -> Option<&Buffer> {
        match role {
            Role::Param | Role::Grad | Role::Rows => None,
            Role::Master => self.master.as_ref(),
            Role::ExpAvg => self.exp_avg.as_ref(),
            Role::ExpAvgSq => self.exp_avg_sq.as_ref(),
            Role::MaxExpAvgSq => self.max_exp_avg_sq.as_ref(),
        }
    }

    /// Whether a tensor has the elements and the type that its role asks for.
    pub fn fits(&self, role: Role, tensor: &Tensor) -> Result<(), TensorProblem> {
        self.fits_type(role, tensor)?;
        if tensor.n_elements != self.param.n_elements {
            let (is, param) = (tensor.n_elements, self.param.n_elements);
            return Err(TensorProblem::Elements { is, param });
        }
        Ok(())
    }

    fn fits_type(&self, role: Role, tensor: &Tensor) -> Result<(), TensorProblem> {
        let (is, param) = (tensor.dtype, self.param.dtype);
        let expected = match role {
            Role::Grad if is != param && is != Dtype::F32 => {
                return Err(TensorProblem::GradDtype { is, param });
            }
            Role::Grad => is,
            Role::Param => param,
            _ => param.compute(),
        };
        if is == expected { Ok(()) } else { Err(TensorProblem::Dtype { is, expected }) }
    }

    /// Whether the gradient has the elements and the type that it should.
    pub fn fits_grad(&self, grad: &Grad) -> Result<(), TensorProblem> {
        let Grad::Sparse(sparse) = grad else { return self.fits(Role::Grad, grad.values()) };
        self.fits_type(Role::Grad, &sparse.values)?;
        let (values, rows) = (sparse.values.n_elements, sparse.rows.len() as u64);
        if rows == 0 && values == 0 {
            return Ok(());
        }
        let n = sparse.row_elements();
        if n == 0 || n * rows != values {
            return Err(TensorProblem::RowValues { values, rows });
        }
        if !self.param.n_elements.is_multiple_of(n) {
            return Err(TensorProblem::RowElements { row: n, param: self.param.n_elements });
        }
        match &self.lag {
            Some(lag) if lag.row_elements() != n => {
                Err(TensorProblem::RowsRecut { row: n, earlier: lag.row_elements() })
            }
            _ => Ok(()),
        }
    }

    /// Makes room for the rows of a gradient, so that a step need not.
    pub fn reserve_rows(&mut self, n_rows: usize, row_elements: u64) -> Result<(), Error> {
        self.index.reserve(n_rows, row_elements, self.param.n_elements)
    }

    /// Puts a gradient that fits, or none.
    pub fn set_grad(&mut self, grad: Option<Grad>) -> Result<(), TensorProblem> {
        if let Some(grad) = &grad {
            self.fits_grad(grad)?;
        }
        self.grad = grad;
        Ok(())
    }

    /// Whether steps pass over it.
    pub fn set_resting(&mut self, resting: bool) {
        self.resting = resting;
    }

    pub fn forget_grad(&mut self) {
        self.grad = None;
    }

    /// Reads which rows the gradient lists now, if it is sparse.
    pub fn read_rows(&mut self) -> Result<(), NoRow> {
        self.index.clear();
        match self.grad {
            Some(Grad::Sparse(sparse)) => self.list_rows(&sparse.rows, sparse.row_elements()),
            _ => Ok(()),
        }
    }

    /// Reads rows that are to be visited, each of so many elements.
    pub fn list_rows(&mut self, rows: &RowList, row_elements: u64) -> Result<(), NoRow> {
        let height = self.param.n_elements.checked_div(row_elements).unwrap_or(0);
        self.index.read(rows, row_elements, height)
    }

    /// The rows that were last read.
    pub fn index(&self) -> &RowIndex {
        &self.index
    }

    /// Asks for the memory of the i-th listed row, if there is one.
    pub(super) fn prefetch_listed(&self, i: usize) {
        if let Some(row) = self.index.listed(i) {
            let element = (row * self.index.row_elements()) as usize;
            let state = [&self.master, &self.exp_avg, &self.exp_avg_sq, &self.max_exp_avg_sq];
            let state = state.into_iter().flatten().map(|buffer| &buffer.tensor);
            state.chain([&self.param]).for_each(|tensor| tensor.prefetch(element));
        }
    }

    pub fn lag(&self) -> Option<&Lag> {
        self.lag.as_ref()
    }

    /// What the rows lag behind, to be counted, and the rows that were last read.
    pub fn lag_and_index(&mut self) -> Option<(&mut Lag, &RowIndex)> {
        Some((self.lag.as_mut()?, &self.index))
    }

    /// From now on rows may lag, or none does.
    pub fn set_lag(&mut self, lag: Option<Lag>) {
        self.lag = lag;
    }

    /// Puts a state buffer where there was none, or another.
    pub fn set_state(&mut self, role: Role, buffer: Buffer) -> Result<(), TensorProblem> {
        self.fits(role, &buffer.tensor)?;
        match role {
            Role::Param => self.param = buffer.tensor,
            Role::Grad | Role::Rows => {}
            Role::Master => self.master = Some(buffer),
            Role::ExpAvg => self.exp_avg = Some(buffer),
            Role::ExpAvgSq => self.exp_avg_sq = Some(buffer),
            Role::MaxExpAvgSq => self.max_exp_avg_sq = Some(buffer),
        }
        Ok(())
    }

    /// The master and the parameter that it is filled from, if there is a master.
    pub fn master_and_param(&mut self) -> Option<(&mut [f32], Slice<'_>)> {
        let master = self.master.as_ref()?.tensor;
        let all = 0..self.param.n_elements as usize;
        // SAFETY: `fits` saw that a master is f32 and as long as its param, which is another
        // buffer; `&mut self` keeps both from being sliced elsewhere.
        Some(unsafe { (master.slice_mut(all.clone()), self.param.elements(all)) })
    }

    /// Writes zeros over the gradient, if there is one.
    pub fn zero_grad(&mut self) {
        if let Some(grad) = self.grad {
            zero(grad.values());
        }
    }

    /// Writes zeros over the moments.
    pub fn zero_moments(&mut self) {
        let moments = [&self.exp_avg, &self.exp_avg_sq, &self.max_exp_avg_sq];
        moments.into_iter().flatten().for_each(|buffer| zero(&buffer.tensor));
    }
}

/// Writes zeros over a tensor of operands that are borrowed mutably.
fn zero(tensor: &Tensor) {
    // SAFETY: the memory is writable by contract, and the operands' borrow keeps it from being
    // sliced elsewhere.
    match unsafe { tensor.elements_mut(0..tensor.n_elements as usize) } {
        SliceMut::F32(elements) => elements.fill(0.0),
        SliceMut::F64(elements) => elements.fill(0.0),
        SliceMut::F16(elements) => elements.fill(F16(0)),
        SliceMut::Bf16(elements) => elements.fill(Bf16(0)),
    }
}
