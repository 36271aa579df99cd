//! All the memory of one parameter.
//!
//! `Operands::new` has the parameter alone. `set_state` and `set_host_state` give it the buffers
//! that its `Format` asks for, the library's or the host's, after `fits` has compared each with the
//! parameter; `grad.rs` sets and forgets its gradient. `tensor` and `state` find a buffer by its
//! role, and `chunk.rs` and `state.rs` slice them.
//!
//! A few parameters have more: sparse or accumulated gradients, random rounding, coded moments. All
//! of that is `Rare`, which the first use allocates (`rare`).

use super::rows::RowIndex;
use super::{Buffer, Grad, Lag, RowList, Slice, SparseGrad, Tensor, Total};
use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::{Error, TensorProblem};
use crate::format::Format;
use crate::noise::Key;
use crate::order::Order;
use crate::role::Role;
use crate::sys::memory::Boxed;

/// All the memory of one parameter. Every tensor in it has the length and the element type of its
/// role: both are checked where the tensor comes in, and relied on where it is cut.
///
/// The order of the fields keeps those together that a step reads for every parameter.
#[repr(C)]
pub struct Operands {
    /// `[n] f32|f64|f16|bf16`, in the host's memory.
    pub(super) param: Tensor,
    /// The values of the gradient, in the host's memory; `None` if the parameter has no gradient.
    pub(super) grad: Option<Tensor>,
    /// The number of gradients that have been added up; if there are any, their sum is the
    /// gradient.
    pub(super) n_accumulated: u64,
    /// The memory that most parameters never need.
    pub(super) rare: Option<Boxed<Rare>>,
    /// The gradient has values for the rows of `Rare::rows` only.
    pub(super) is_sparse: bool,
    /// Other ranks list rows of the gradient, which counts even if it lists none here.
    pub(super) listed_elsewhere: bool,
    /// Steps pass over the parameter, whether it has a gradient or not.
    pub(super) frozen: bool,
    /// The next step is not asked about the parameter.
    pub(super) left_out: bool,
    /// The gradient has been measured for the next step.
    pub(super) is_ready: bool,
    /// The gradient is a download of `Rare::device_grad`, which is on a device.
    pub(super) is_downloaded: bool,
    /// A dense step reads and writes f32 and nothing else.
    pub(super) is_plain: bool,
    /// The roles of the state buffers that the host owns, a bit for each.
    pub(super) host_owned: u16,
    /// The roles of the host's buffers that have no memory now, a bit for each. If there are any,
    /// the parameter is parked.
    pub(super) lacking: u16,
    /// The format of the state below.
    pub(super) format: Format,
    /// `[n]`, as the two below, where the format has one.
    pub(super) exp_avg: Buffer,
    pub(super) exp_avg_sq: Buffer,
    /// With amsgrad.
    pub(super) max_exp_avg_sq: Buffer,
    /// `[n]`, for 16-bit parameters: the f32 master, or the remainder.
    pub(super) master: Buffer,
}

const _: () = assert!(size_of::<Operands>() <= 160);

/// The memory that only sparse, accumulated or downloaded gradients, random rounding and coded
/// moments need. It lies apart, so that a step over many small parameters does not pass over it.
pub struct Rare {
    /// The rows of a sparse gradient.
    pub(super) rows: Option<RowList>,
    /// The rows that the gradient listed when they were last read.
    pub(super) index: RowIndex,
    /// The steps with which rows that are not listed have yet to catch up.
    pub(super) lag: Option<Lag>,
    /// The sum of gradients, in the compute type.
    pub(super) accumulated: Option<Buffer>,
    /// The gradient on the device of which the gradient here is a download.
    pub(super) device_grad: Option<Tensor>,
    /// The tally of the gradient, where it is ready.
    pub(super) measured: Total,
    /// The key of the random bits, where the format takes some, and the place of the parameter's
    /// first element in the whole tensor.
    pub(super) key: Option<(Key, u64)>,
    /// `[n / block] f32`, by place in `Role::SCALES`, where moments are codes.
    pub(super) scales: [Buffer; 3],
}

impl Rare {
    fn new() -> Rare {
        Rare {
            rows: None,
            index: RowIndex::default(),
            lag: None,
            accumulated: None,
            device_grad: None,
            measured: Total::default(),
            key: None,
            scales: [Buffer::NONE; 3],
        }
    }
}

/// The rows of a parameter that has no list of rows.
static NO_ROWS: RowIndex = RowIndex::EMPTY;

impl Operands {
    /// Returns the operands of a parameter that has no gradient and no state yet.
    pub fn new(param: Tensor, format: Format) -> Operands {
        Operands {
            param,
            format,
            grad: None,
            is_sparse: false,
            listed_elsewhere: false,
            is_plain: false,
            host_owned: 0,
            lacking: 0,
            master: Buffer::NONE,
            exp_avg: Buffer::NONE,
            exp_avg_sq: Buffer::NONE,
            max_exp_avg_sq: Buffer::NONE,
            rare: None,
            n_accumulated: 0,
            frozen: false,
            left_out: false,
            is_ready: false,
            is_downloaded: false,
        }
    }

    /// Returns what takes the place of a removed parameter: a parameter of no elements.
    pub fn none() -> Operands {
        let (device, order) = (Device::Host, Order::FLAT);
        let param = Tensor { address: 0, n_elements: 0, dtype: Dtype::F32, device, order };
        Operands::new(param, Format::plain(Dtype::F32))
    }

    pub fn param(&self) -> Tensor {
        self.param
    }

    #[inline]
    pub fn grad(&self) -> Option<Grad> {
        let values = self.grad?;
        if !self.is_sparse {
            return Some(Grad::Dense(values));
        }
        let rows = self.rare.as_ref()?.rows?;
        Some(Grad::Sparse(SparseGrad { rows, values }))
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the key of an element's random bits, if it takes any, and its place in the whole.
    pub(super) fn random(&self, element: usize) -> Option<(Key, u64)> {
        let (key, first) = self.key()?;
        Some((key, first.wrapping_add(element as u64)))
    }

    /// Returns the key of the parameter's random bits, if it takes any, and the place of its first
    /// element in the whole tensor.
    pub fn key(&self) -> Option<(Key, u64)> {
        self.rare.as_ref()?.key
    }

    /// Gives the parameter random bits; `first_element` is the place of its first in the whole.
    pub fn set_key(&mut self, key: Key, first_element: u64) -> Result<(), Error> {
        self.rare()?.key = Some((key, first_element));
        Ok(())
    }

    /// Returns the tensor in a role, if the parameter has one.
    pub fn tensor(&self, role: Role) -> Option<Tensor> {
        match role {
            Role::Param => Some(self.param),
            Role::Grad => self.grad,
            _ => {
                let dtype = self.format.buffer(role).ok()?;
                let address = self.buffer(role)?.address();
                let n_elements = self.format.n_elements(role, self.param.n_elements);
                let Tensor { device, order, .. } = self.param;
                Some(Tensor { address, n_elements, dtype, device, order })
            }
        }
    }

    /// Returns the state buffer in a role, if the parameter has one.
    pub fn state(&self, role: Role) -> Option<&Buffer> {
        self.format.buffer(role).ok().and_then(|_| self.buffer(role))
    }

    /// Returns the buffer in a role that the format has.
    fn buffer(&self, role: Role) -> Option<&Buffer> {
        Some(match role {
            Role::Master | Role::Remainder => &self.master,
            Role::ExpAvg => &self.exp_avg,
            Role::ExpAvgSq => &self.exp_avg_sq,
            Role::MaxExpAvgSq => &self.max_exp_avg_sq,
            _ => self.scale(role)?,
        })
    }

    /// Checks that a tensor has the length, the type and the order that its role asks for.
    pub fn fits(&self, role: Role, tensor: &Tensor) -> Result<(), TensorProblem> {
        self.fits_type(role, tensor)?;
        if !tensor.order.fits(self.param.order) {
            return Err(TensorProblem::Order { is: tensor.order, expected: self.param.order });
        }
        let (is, param) = (tensor.n_elements, self.param.n_elements);
        match self.format.n_elements(role, param) {
            expected if is == expected => Ok(()),
            expected if expected == param => Err(TensorProblem::Elements { is, param }),
            expected => Err(TensorProblem::Blocks { is, expected }),
        }
    }

    /// Checks that a tensor has the device and the type that its role asks for.
    pub(super) fn fits_type(&self, role: Role, tensor: &Tensor) -> Result<(), TensorProblem> {
        if tensor.device != self.param.device {
            return Err(TensorProblem::WrongDevice { is: tensor.device, param: self.param.device });
        }
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

    /// Returns the scales of a moment, if the role is of scales.
    pub(super) fn scale(&self, role: Role) -> Option<&Buffer> {
        let place = Role::SCALES.iter().position(|scale| *scale == role)?;
        Some(&self.rare.as_ref()?.scales[place])
    }

    /// Returns the rows that were last read.
    pub fn index(&self) -> &RowIndex {
        self.rare.as_ref().map_or(&NO_ROWS, |rare| &rare.index)
    }

    /// Returns the memory that few parameters have; the first call allocates it.
    pub(super) fn rare(&mut self) -> Result<&mut Rare, Error> {
        if self.rare.is_none() {
            self.rare = Some(Boxed::new(Rare::new(), "a parameter's rows")?);
        }
        // It is there now: the error never comes, but is cheaper than a panic.
        self.rare.as_deref_mut().ok_or(Error::OutOfMemory { what: "a parameter's rows", bytes: 0 })
    }

    /// Moves the parameter to a tensor that fits it.
    pub fn set_param(&mut self, param: Tensor) {
        self.param = param.in_order(self.param.order);
    }

    /// Replaces a state buffer by memory of the host that fits.
    pub fn set_host_state(&mut self, role: Role, tensor: &Tensor) {
        self.host_owned |= 1 << role as u16;
        self.set_state(role, Buffer::host(tensor));
    }

    /// Returns whether the host owns a state buffer, and so may move it.
    pub fn is_host_owned(&self, role: Role) -> bool {
        self.host_owned & 1 << role as u16 != 0
    }

    /// Replaces a state buffer by one that fits.
    pub fn set_state(&mut self, role: Role, buffer: Buffer) {
        match role {
            Role::Master | Role::Remainder => self.master = buffer,
            Role::ExpAvg => self.exp_avg = buffer,
            Role::ExpAvgSq => self.exp_avg_sq = buffer,
            Role::MaxExpAvgSq => self.max_exp_avg_sq = buffer,
            _ => self.set_scale(role, buffer),
        }
    }

    /// Replaces the scales of a moment. `set_key` has allocated `Rare`, because coded moments take
    /// random bits.
    fn set_scale(&mut self, role: Role, buffer: Buffer) {
        let place = Role::SCALES.iter().position(|scale| *scale == role);
        if let (Some(place), Some(rare)) = (place, &mut self.rare) {
            rare.scales[place] = buffer;
        }
    }

    /// Returns the master and the parameter from which it is filled, if there is a master.
    pub fn master_and_param(&mut self) -> Option<(&mut [f32], Slice<'_>)> {
        let master = self.tensor(Role::Master).filter(|_| !self.is_on_device())?;
        let all = 0..self.param.n_elements as usize;
        // SAFETY: `fits` checked that the master is f32 and as long as the parameter, which is
        // another buffer; `&mut self` keeps both from being sliced elsewhere.
        Some(unsafe { (master.slice_mut(all.clone()), self.param.elements(all)) })
    }

    /// Copies a state tensor into memory of the host, which has its size.
    pub fn copy_state(&self, role: Role, to: &Tensor) {
        if let Some(state) = self.tensor(role).filter(|_| !self.is_on_device()) {
            to.copy_from(&state);
        }
    }

    /// Copies memory of the host into a state tensor of the same size.
    pub fn set_state_from(&mut self, role: Role, from: &Tensor) {
        if let Some(state) = self.tensor(role).filter(|_| !self.is_on_device()) {
            state.copy_from(from);
        }
    }

    /// Writes zeros over the remainder, if there is one, so that the parameter alone is the value.
    pub fn zero_remainder(&mut self) {
        self.zero(&[Role::Remainder]);
    }

    /// Writes zeros over the moments.
    pub fn zero_moments(&mut self) {
        self.zero(&Role::MOMENTS);
        self.zero(&Role::SCALES);
    }

    fn zero(&mut self, roles: &[Role]) {
        let roles = roles.iter().filter(|_| !self.is_on_device());
        for state in roles.filter_map(|role| self.tensor(*role)) {
            // SAFETY: `&mut self` keeps the memory from being sliced elsewhere.
            unsafe { state.zero() };
        }
    }
}
