//! The gradient of a parameter: dense, of some rows, or a sum of several.
//!
//! The host sets a `Grad`; `fits_grad` compares it with the parameter, and `set_grad` keeps it
//! until the next is set or `forget_grad`. Gradients that are accumulated are added to a sum, which
//! `prepare_accumulation` allocates, `accumulation` slices and `count_accumulation` puts in the
//! gradient's place. Where a step has already measured a gradient, `set_measured` keeps its tally
//! for the next. A parameter that the host steps for a device has a download for its gradient, and
//! `device_grad` is the gradient there.
//!
//! `read_rows` reads the rows of a sparse gradient once in a step. `gradient` and `put_gradient`
//! save and restore all of it, where a call sets another for one step.

use super::Buffer;
use super::rows::NoRow;
use super::{Operands, RowList, Slice, SliceMut, SparseGrad, Tensor, Total};
use crate::dtype::Dtype;
use crate::error::{Error, TensorProblem};
use crate::format::Format;
use crate::order::Order;
use crate::role::Role;
use crate::sys::memory::Pool;
use core::ops::Range;

/// A gradient in memory that the host lends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Grad {
    /// `[n]` of the parameter's type or f32.
    Dense(Tensor),
    Sparse(SparseGrad),
}

impl Grad {
    /// Returns the values: all of them, or those of the listed rows.
    pub fn values(&self) -> &Tensor {
        match self {
            Grad::Dense(values) => values,
            Grad::Sparse(sparse) => &sparse.values,
        }
    }

    /// Returns the addresses that it covers, to find overlaps.
    pub fn addresses(&self) -> [(Role, Range<usize>); 2] {
        let rows = match self {
            Grad::Dense(_) => 0..0,
            Grad::Sparse(sparse) => sparse.rows.addresses(),
        };
        [(Role::Grad, self.values().addresses()), (Role::Rows, rows)]
    }
}

/// The address of a gradient that is like its parameter, or 0.
#[derive(Clone, Copy, PartialEq)]
pub struct GradArray {
    pub(super) address: usize,
}

impl GradArray {
    pub const NONE: GradArray = GradArray { address: 0 };

    /// # Safety
    /// There is no array if the address is 0. Otherwise its memory is as `Tensor::new` asks for, or
    /// `Tensor::on_device` if the parameter is on a device.
    pub unsafe fn new(address: usize) -> GradArray {
        GradArray { address }
    }
}

/// A gradient that was set, to be put back.
#[derive(Clone, Copy)]
pub struct SetGrad {
    grad: Option<Grad>,
    n_accumulated: u64,
    device_grad: Option<Tensor>,
}

impl Operands {
    /// Returns whether the gradient is sparse.
    pub fn has_rows(&self) -> bool {
        self.is_sparse
    }

    /// Returns whether there is a dense gradient.
    pub fn has_dense_grad(&self) -> bool {
        self.grad.is_some() && !self.is_sparse
    }

    /// Checks that a gradient has the length and the type that the parameter asks for.
    pub fn fits_grad(&self, grad: &Grad) -> Result<(), TensorProblem> {
        let Grad::Sparse(sparse) = grad else { return self.fits(Role::Grad, grad.values()) };
        self.fits_type(Role::Grad, &sparse.values)?;
        let (is, expected) = (sparse.values.order, Order::ROW_MAJOR);
        if !self.param.order.is_row_major() {
            return Err(TensorProblem::RowsOf(self.param.order));
        }
        if !is.is_row_major() {
            return Err(TensorProblem::Order { is, expected });
        }
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
        match self.lag() {
            Some(lag) if lag.row_elements() != n => {
                Err(TensorProblem::RowsRecut { row: n, earlier: lag.row_elements() })
            }
            _ => Ok(()),
        }
    }

    /// Makes room for the rows of a gradient, so that a step allocates nothing.
    pub fn reserve_rows(&mut self, n_rows: usize, row_elements: u64) -> Result<(), Error> {
        let n_elements = self.param.n_elements;
        self.rare()?.index.reserve(n_rows, row_elements, n_elements)
    }

    /// Sets a gradient that fits, or none.
    pub fn set_grad(&mut self, grad: Option<Grad>) -> Result<(), TensorProblem> {
        if let Some(grad) = &grad {
            self.fits_grad(grad)?;
        }
        self.put_grad(grad, 0);
        Ok(())
    }

    /// Returns the addresses of the gradient that an array would be in the place of a dense one of
    /// the parameter's type, or `None` if there is no such gradient, or no such array.
    #[inline]
    pub fn moved_grad(&self, to: GradArray) -> Option<Range<usize>> {
        let Tensor { n_elements, dtype, .. } = self.param;
        let is_alike = self.grad.is_some_and(|grad| grad.dtype == dtype)
            && !self.is_sparse
            && self.n_accumulated == 0;
        let is_aligned = to.address != 0 && to.address & (dtype.bytes() - 1) == 0;
        // The parameter's bytes have been found to be a length that memory has.
        let end = to.address.checked_add(n_elements as usize * dtype.bytes())?;
        (is_alike && is_aligned).then_some(to.address..end)
    }

    /// Moves the gradient to an array for which `moved_grad` has returned addresses, and returns
    /// the one before.
    #[inline]
    pub fn move_grad(&mut self, to: GradArray) -> GradArray {
        (self.is_ready, self.is_downloaded) = (false, false);
        let address =
            self.grad.as_mut().map(|grad| core::mem::replace(&mut grad.address, to.address));
        GradArray { address: address.unwrap_or(0) }
    }

    /// Returns whether there is no gradient of a parameter that has elements.
    #[inline]
    pub fn lacks_grad(&self) -> bool {
        self.grad.is_none() && self.param.n_elements > 0
    }

    /// Makes room for `set_device_grad`.
    pub fn reserve_device_grad(&mut self) -> Result<(), Error> {
        self.rare().map(|_| ())
    }

    /// Marks the gradient that has just been set as a download of `device_grad`, if there is one.
    /// It needs the room that `reserve_device_grad` makes.
    pub fn set_device_grad(&mut self, device_grad: Option<Tensor>) {
        if let (Some(device_grad), Some(rare)) = (device_grad, &mut self.rare) {
            rare.device_grad = Some(device_grad);
            self.is_downloaded = true;
        }
    }

    /// Returns the gradient on the device of which the gradient here is a download, until it is
    /// replaced or forgotten.
    pub fn device_grad(&self) -> Option<Tensor> {
        self.rare.as_ref().filter(|_| self.is_downloaded)?.device_grad
    }

    /// Returns the values of the gradient in the memory that the host gave.
    pub fn given_grad(&self) -> Option<Tensor> {
        self.device_grad().or(self.grad)
    }

    pub fn forget_grad(&mut self) {
        self.put_grad(None, 0);
    }

    /// Returns all that is known of the gradient.
    pub fn gradient(&self) -> SetGrad {
        SetGrad {
            grad: self.grad(),
            n_accumulated: self.n_accumulated,
            device_grad: self.device_grad(),
        }
    }

    /// Sets the gradient that `gradient` returned.
    pub fn put_gradient(&mut self, SetGrad { grad, n_accumulated, device_grad }: SetGrad) {
        self.put_grad(grad, n_accumulated);
        self.set_device_grad(device_grad);
    }

    fn put_grad(&mut self, grad: Option<Grad>, n_accumulated: u64) {
        let is_sparse = matches!(grad, Some(Grad::Sparse(_)));
        self.put_values(grad.map(|grad| *grad.values()), is_sparse, n_accumulated);
        // If there are rows, `reserve_rows` has made room for them.
        if let (Some(Grad::Sparse(sparse)), Some(rare)) = (grad, &mut self.rare) {
            rare.rows = Some(sparse.rows);
        }
    }

    fn put_values(&mut self, values: Option<Tensor>, is_sparse: bool, n_accumulated: u64) {
        self.grad = values;
        self.is_sparse = is_sparse;
        self.listed_elsewhere = false;
        self.n_accumulated = n_accumulated;
        self.is_ready = false;
        self.is_downloaded = false;
        self.is_plain = self.format == Format::plain(Dtype::F32)
            && !is_sparse
            && values.is_some_and(|values| values.dtype == Dtype::F32);
    }

    /// Returns whether the gradient has been measured for the next step.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Keeps the tally of the gradient for the next step.
    pub fn set_measured(&mut self, total: Total) -> Result<(), Error> {
        self.rare()?.measured = total;
        self.is_ready = true;
        Ok(())
    }

    pub fn forget_measured(&mut self) {
        self.is_ready = false;
    }

    pub fn n_accumulated(&self) -> u64 {
        self.n_accumulated
    }

    /// Allocates the sum of gradients, if there is none yet; `new` does it on a device.
    pub fn prepare_accumulation(
        &mut self,
        pool: &mut Pool,
        new: impl FnOnce(&Operands) -> Result<Buffer, Error>,
    ) -> Result<(), Error> {
        if self.accumulated().is_none() {
            let sum = match self.is_on_device() {
                true => new(self)?,
                false => {
                    let (param, what) = (&self.param, "accumulated gradients");
                    Buffer::zeroed(pool, (param.n_elements, param.dtype.compute()), param, what)?
                }
            };
            self.rare()?.accumulated = Some(sum);
        }
        Ok(())
    }

    /// Returns the sum of gradients, if it has been allocated.
    pub fn accumulated(&self) -> Option<Tensor> {
        Some(Tensor {
            address: self.rare.as_ref()?.accumulated.as_ref()?.address(),
            n_elements: self.param.n_elements,
            dtype: self.param.dtype.compute(),
            device: self.param.device,
            order: self.param.order,
        })
    }

    /// Returns the sum of gradients, the one to be added, and whether it is the first.
    pub fn accumulation(&mut self, grad: &Tensor) -> Option<(SliceMut<'_>, Slice<'_>, bool)> {
        let sum = self.accumulated().filter(|_| !self.is_on_device())?;
        let all = 0..self.param.n_elements as usize;
        // SAFETY: the sum is the library's own, as long as the parameter, and `&mut self` keeps it
        // from being sliced elsewhere; `Tensor::new`'s caller vouched for the gradient, and
        // `fits_grad` checked its length.
        let (sum, grad) = unsafe { (sum.elements_mut(all.clone()), grad.elements(all)) };
        Some((sum, grad, self.n_accumulated == 0))
    }

    /// Makes the sum, to which one more has been added, the gradient.
    pub fn count_accumulation(&mut self) {
        self.put_values(self.accumulated(), false, self.n_accumulated + 1);
    }

    /// Forgets the gradient if it is a sum.
    pub fn forget_accumulated(&mut self) {
        if self.n_accumulated > 0 {
            self.forget_grad();
        }
    }

    /// Reads the rows that the gradient lists now, if it is sparse. Blocks of its norm count from
    /// `origin` elements before the first.
    pub fn read_rows(&mut self, origin: u64) -> Result<(), NoRow> {
        if let Some(rare) = &mut self.rare {
            rare.index.clear();
        }
        match self.grad() {
            Some(Grad::Sparse(sparse)) => {
                self.list_rows(&sparse.rows, sparse.row_elements(), origin)
            }
            _ => Ok(()),
        }
    }

    /// Reads rows of `row_elements` elements that are to be visited.
    pub fn list_rows(
        &mut self,
        rows: &RowList,
        row_elements: u64,
        origin: u64,
    ) -> Result<(), NoRow> {
        let height = self.param.n_elements.checked_div(row_elements).unwrap_or(0);
        match &mut self.rare {
            Some(rare) => rare.index.read(rows, row_elements, height, origin),
            None => Ok(()), // `reserve_rows` has made it
        }
    }

    /// Writes zeros over the gradient, if there is one.
    pub fn zero_grad(&mut self) {
        self.is_ready = false;
        if let Some(grad) = self.grad.filter(|_| !self.is_on_device()) {
            // SAFETY: nobody else touches the gradient during a call, as `Tensor::new`'s caller
            // vouched, and `&mut self` keeps it from being sliced elsewhere.
            unsafe { grad.zero() };
        }
    }
}
