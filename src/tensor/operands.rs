//! All the memory of one parameter.

use super::rows::RowIndex;
use super::{Buffer, Grad, Lag, Slice, Tensor, Total};
use crate::dtype::Dtype;
use crate::error::{Error, Role, TensorProblem};
use crate::format::{Format, Kept};
use crate::philox::Key;
use crate::sys::memory::Boxed;

/// All the memory of one parameter. Every tensor in it has the parameter's number of elements and
/// the element type of its role: that is checked where it comes in, and relied on where it is cut.
///
/// In this order what a step looks at for every parameter lies side by side.
#[repr(C)]
pub struct Operands {
    /// `[n] f32|f64|f16|bf16`, the host's.
    pub(super) param: Tensor,
    /// The host's; none: the parameter is skipped.
    pub(super) grad: Option<Grad>,
    /// How many gradients have been added up; if any, their sum is the gradient.
    pub(super) n_accumulated: u64,
    /// What most parameters never need.
    pub(super) rare: Option<Boxed<Rare>>,
    /// Not stepped, whatever gradient there is.
    pub(super) resting: bool,
    /// Not stepped for now.
    pub(super) left_out: bool,
    /// The gradient has been measured for the next step.
    pub(super) is_ready: bool,
    /// What the state below is made of.
    pub(super) format: Format,
    /// `[n]`, as the two below; there wherever there is a gradient.
    pub(super) exp_avg: Option<Buffer>,
    pub(super) exp_avg_sq: Option<Buffer>,
    /// With amsgrad.
    pub(super) max_exp_avg_sq: Option<Buffer>,
    /// `[n]`, for 16-bit parameters: the f32 master, or the remainder.
    pub(super) master: Option<Buffer>,
}

/// What only sparse or accumulated gradients, random rounding and 8-bit codes need: apart, so that a
/// step over many small parameters does not pass over it.
#[derive(Default)]
pub struct Rare {
    /// The rows that a sparse gradient listed when they were last read.
    pub(super) index: RowIndex,
    /// What the rows that are not listed have yet to catch up with.
    pub(super) lag: Option<Lag>,
    /// The sum of gradients, in the compute type.
    pub(super) accumulated: Option<Buffer>,
    /// What the gradient was measured as, where it is ready.
    pub(super) measured: Total,
    /// Of the random bits, where the format takes some, with the first element's place in the whole.
    pub(super) key: Option<(Key, u64)>,
    /// `[n / 256] f32`: of exp_avg, exp_avg_sq and max_exp_avg_sq, where they are codes.
    pub(super) scales: [Option<Buffer>; 3],
}

/// The rows that a dense gradient lists.
static NO_ROWS: RowIndex = RowIndex::EMPTY;

impl Operands {
    /// A parameter that has no gradient and no state yet.
    pub fn new(param: Tensor, format: Format) -> Operands {
        Operands {
            param,
            format,
            grad: None,
            master: None,
            exp_avg: None,
            exp_avg_sq: None,
            max_exp_avg_sq: None,
            rare: None,
            n_accumulated: 0,
            resting: false,
            left_out: false,
            is_ready: false,
        }
    }

    /// What is left of a parameter that was removed.
    pub fn none() -> Operands {
        let param = Tensor { address: 0, n_elements: 0, dtype: Dtype::F32 };
        Operands::new(param, Format::plain(Dtype::F32))
    }

    pub fn param(&self) -> Tensor {
        self.param
    }

    pub fn grad(&self) -> Option<Grad> {
        self.grad
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Where the random bits of an element come from, if its rounding takes any: the key, and which
    /// element of the whole parameter it is.
    pub(super) fn random(&self, element: usize) -> Option<(Key, u64)> {
        let (key, first) = self.rare.as_ref()?.key?;
        Some((key, first.wrapping_add(element as u64)))
    }

    /// Gives the parameter random bits; its first element is this one of the whole.
    pub fn set_key(&mut self, key: Key, first_element: u64) -> Result<(), Error> {
        self.rare()?.key = Some((key, first_element));
        Ok(())
    }

    /// Whether a step has anything to do here. A gradient that lists no row is none.
    pub fn is_stepped(&self) -> bool {
        let has_grad = match &self.grad {
            None => false,
            Some(Grad::Dense(_)) => true,
            Some(Grad::Sparse(sparse)) => sparse.rows.len() > 0,
        };
        has_grad && !self.resting && !self.left_out
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
            Role::Master => self.master.as_ref().filter(|_| self.format.kept() == Kept::Master),
            Role::Remainder => self.master.as_ref().filter(|_| self.format.kept() != Kept::Master),
            Role::ExpAvg => self.exp_avg.as_ref(),
            Role::ExpAvgSq => self.exp_avg_sq.as_ref(),
            Role::MaxExpAvgSq => self.max_exp_avg_sq.as_ref(),
            Role::ExpAvgScale => self.scale(0),
            Role::ExpAvgSqScale => self.scale(1),
            Role::MaxExpAvgSqScale => self.scale(2),
        }
    }

    /// Whether a tensor has the elements and the type that its role asks for.
    pub fn fits(&self, role: Role, tensor: &Tensor) -> Result<(), TensorProblem> {
        self.fits_type(role, tensor)?;
        let (is, param) = (tensor.n_elements, self.param.n_elements);
        match Format::n_elements(role, param) {
            expected if is == expected => Ok(()),
            expected if expected == param => Err(TensorProblem::Elements { is, param }),
            expected => Err(TensorProblem::Scales { is, expected }),
        }
    }

    pub(super) fn fits_type(&self, role: Role, tensor: &Tensor) -> Result<(), TensorProblem> {
        let (is, param) = (tensor.dtype, self.param.dtype);
        let expected = match role {
            Role::Grad if is != param && param == Dtype::F32 => param,
            Role::Grad if is != param && is != Dtype::F32 => {
                return Err(TensorProblem::GradDtype { is, param });
            }
            Role::Grad => is,
            Role::Param => param,
            _ => self.format.buffer(role).unwrap_or(is),
        };
        if is == expected { Ok(()) } else { Err(TensorProblem::Dtype { is, expected }) }
    }

    pub(super) fn scale(&self, i: usize) -> Option<&Buffer> {
        self.rare.as_ref()?.scales[i].as_ref()
    }

    /// The rows that were last read.
    pub fn index(&self) -> &RowIndex {
        self.rare.as_ref().map_or(&NO_ROWS, |rare| &rare.index)
    }

    /// What few parameters have, made if it is not there.
    pub(super) fn rare(&mut self) -> Result<&mut Rare, Error> {
        if self.rare.is_none() {
            self.rare = Some(Boxed::new(Rare::default(), "a parameter's rows")?);
        }
        // It is there now; the other arm is for the types alone.
        self.rare.as_deref_mut().ok_or(Error::OutOfMemory { what: "a parameter's rows", bytes: 0 })
    }

    /// Asks for the first memory of every tensor.
    pub(super) fn prefetch_start(&self) {
        if let Some(grad) = &self.grad {
            grad.values().prefetch(0);
        }
        self.prefetch(0);
    }

    fn prefetch(&self, element: usize) {
        let state = [&self.master, &self.exp_avg, &self.exp_avg_sq, &self.max_exp_avg_sq];
        let state = state.into_iter().flatten().map(|buffer| &buffer.tensor);
        state.chain([&self.param]).for_each(|tensor| tensor.prefetch(element));
    }

    /// Asks for the memory of the i-th listed row, if there is one.
    pub(super) fn prefetch_listed(&self, i: usize) {
        let index = self.index();
        if let Some(row) = index.listed(i) {
            self.prefetch((row * index.row_elements()) as usize);
        }
    }

    pub fn lag(&self) -> Option<&Lag> {
        self.rare.as_ref()?.lag.as_ref()
    }

    /// What the rows lag behind, to be counted, and the rows that were last read.
    pub fn lag_and_index(&mut self) -> Option<(&mut Lag, &RowIndex)> {
        let Rare { lag, index, .. } = &mut **self.rare.as_mut()?;
        Some((lag.as_mut()?, index))
    }

    /// From now on rows may lag.
    pub fn set_lag(&mut self, lag: Lag) -> Result<(), Error> {
        self.rare()?.lag = Some(lag);
        Ok(())
    }

    /// From now on no row lags.
    pub fn forget_lag(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.lag = None;
        }
    }

    /// Puts a state buffer where there was none, or another.
    pub fn set_state(&mut self, role: Role, buffer: Buffer) -> Result<(), TensorProblem> {
        self.fits(role, &buffer.tensor)?;
        match role {
            Role::Param => self.param = buffer.tensor,
            Role::Grad | Role::Rows => {}
            Role::Master | Role::Remainder => self.master = Some(buffer),
            Role::ExpAvg => self.exp_avg = Some(buffer),
            Role::ExpAvgSq => self.exp_avg_sq = Some(buffer),
            Role::MaxExpAvgSq => self.max_exp_avg_sq = Some(buffer),
            Role::ExpAvgScale => self.set_scale(0, buffer),
            Role::ExpAvgSqScale => self.set_scale(1, buffer),
            Role::MaxExpAvgSqScale => self.set_scale(2, buffer),
        }
        Ok(())
    }

    /// Codes are made with random bits, whose key came first.
    fn set_scale(&mut self, i: usize, buffer: Buffer) {
        if let Some(rare) = &mut self.rare {
            rare.scales[i] = Some(buffer);
        }
    }

    /// The master and the parameter that it is filled from, if there is a master.
    pub fn master_and_param(&mut self) -> Option<(&mut [f32], Slice<'_>)> {
        let master = self.state(Role::Master)?.tensor;
        let all = 0..self.param.n_elements as usize;
        // SAFETY: `fits` saw that a master is f32 and as long as its param, which is another
        // buffer; `&mut self` keeps both from being sliced elsewhere.
        Some(unsafe { (master.slice_mut(all.clone()), self.param.elements(all)) })
    }

    /// Copies a state tensor into memory of the host's that fits it.
    pub fn copy_state(&self, role: Role, to: &Tensor) {
        if let Some(buffer) = self.state(role) {
            to.copy_from(&buffer.tensor);
        }
    }

    /// Copies memory of the host's that fits it into a state tensor.
    pub fn set_state_from(&mut self, role: Role, from: &Tensor) {
        if let Some(buffer) = self.state(role) {
            buffer.tensor.copy_from(from);
        }
    }

    /// Writes zeros over the remainder, if there is one: the parameter is all there is.
    pub fn zero_remainder(&mut self) {
        self.zero(&[Role::Remainder]);
    }

    /// Writes zeros over the moments.
    pub fn zero_moments(&mut self) {
        use Role::*;
        self.zero(&[ExpAvg, ExpAvgSq, MaxExpAvgSq, ExpAvgScale, ExpAvgSqScale, MaxExpAvgSqScale]);
    }

    fn zero(&mut self, roles: &[Role]) {
        for buffer in roles.iter().filter_map(|role| self.state(*role)) {
            // SAFETY: `&mut self` keeps the memory from being sliced elsewhere.
            unsafe { buffer.tensor.zero() };
        }
    }
}
