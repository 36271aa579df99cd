//! The tables of a step on the device: the parameters that it steps, and the launches that step
//! them.
//!
//! `lay` puts every parameter of the step into `tensors`, at its number, and sorts those that are
//! stepped by what their launches have in common (`Alike`). Each run of them becomes a `Launch`,
//! and its parameters are cut into `chunks`, which follow each other. Parameters with a sparse
//! gradient also get an entry in `rows`; where the parameter is lazy, the launch steps these rows
//! and no chunks.
//!
//! The hyper-parameters in `hypers` are set afterwards (`step.rs`). All tables keep their memory
//! for the next step.
#![forbid(unsafe_code)]

use super::by_number::ByNumber;
use super::kernels::Kernel;
use super::lag::DeviceLag;
use super::layout::{self, CHUNK, Chunk, Hyper};
use super::rows::SparseBuffers;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::format::MomentFormat;
use crate::role::Role;
use crate::sys::memory::reserve;
use crate::tensor::{Grad, Operands};
use core::ops::Range;

/// The tables of a step.
#[derive(Default)]
pub struct Plan {
    /// By number, for all parameters of the handle.
    pub tensors: Vec<layout::Tensor>,
    /// By number, too.
    pub hypers: Vec<Hyper>,
    /// In the order of the launches, and in each by parameter.
    pub chunks: Vec<Chunk>,
    pub launches: Vec<Launch>,
    /// The sparse gradients, in the order of the launches.
    pub rows: Vec<layout::Rows>,
    /// The parameters that are stepped, with their numbers, in the order of the launches.
    order: Vec<(Alike, u32)>,
}

/// The properties that the parameters of one launch have in common. Launches with gradients of one
/// type follow each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    tally: Kernel,
    step: Kernel,
    flags: u32,
    grad_bytes: u32,
    by_rows: bool,
}

/// One launch of a kernel, over some of the chunks.
pub struct Launch {
    pub tally: Kernel,
    pub step: Kernel,
    pub flags: u32,
    pub grad_bytes: u32,
    /// The type of the parameters.
    pub param: Dtype,
    pub moments: MomentFormat,
    pub first_chunk: u64,
    pub n_chunks: u64,
    /// The sparse gradients whose rows are stepped, instead of all chunks.
    pub rows: Option<Range<u64>>,
}

impl Launch {
    /// Returns the bytes of all chunks in the compute type.
    pub fn bytes(&self) -> u64 {
        self.n_chunks * CHUNK * self.param.compute().bytes() as u64
    }
}

/// Returns the number of chunks of a parameter.
pub fn n_chunks(operands: &Operands) -> u64 {
    operands.param().n_elements().div_ceil(CHUNK)
}

impl Plan {
    /// Makes room for `n_params` parameters and `n_chunks` chunks, so that a step allocates
    /// nothing.
    pub fn reserve(&mut self, n_params: usize, n_chunks: usize) -> Result<(), Error> {
        const WHAT: &str = "the device's tables";
        fn hold<T>(table: &mut Vec<T>, length: usize) -> Result<(), Error> {
            let missing = length.saturating_sub(table.len());
            reserve(table, missing, WHAT)
        }
        hold(&mut self.tensors, n_params)?;
        hold(&mut self.hypers, n_params)?;
        hold(&mut self.chunks, n_chunks)?;
        hold(&mut self.launches, n_params)?;
        hold(&mut self.order, n_params)
    }

    /// Makes room for `n_sparse` sparse gradients.
    pub fn reserve_rows(&mut self, n_sparse: usize) -> Result<(), Error> {
        let missing = n_sparse.saturating_sub(self.rows.len());
        reserve(&mut self.rows, missing, "the device's tables")
    }

    /// Lays out a step of the parameters that are on the device, due and of this step. Of lazy ones
    /// with a sparse gradient, the listed rows are stepped.
    pub fn lay(
        &mut self,
        operands: &[Operands],
        sparse_buffers: &ByNumber<SparseBuffers>,
        lags: &ByNumber<DeviceLag>,
        is_of_step: impl Fn(usize) -> bool,
        is_lazy: impl Fn(usize) -> bool,
        clears: bool,
    ) {
        let Plan { tensors, chunks, launches, rows, order, .. } = self;
        tensors.clear();
        chunks.clear();
        launches.clear();
        rows.clear();
        order.clear();
        for (number, operands) in operands.iter().enumerate() {
            let is_stepped = operands.is_due_on_device() && is_of_step(number);
            tensors.push(if is_stepped {
                layout::Tensor::of(operands)
            } else {
                layout::Tensor::default()
            });
            if is_stepped {
                order.push((Alike::of(operands, clears, is_lazy(number)), number as u32));
            }
        }
        order.sort_unstable();
        for &(alike, number) in order.iter() {
            let (first_chunk, first_row) = (chunks.len() as u64, rows.len() as u64);
            if launches.last().is_none_or(|last| !alike.is(last)) {
                let Alike { tally, step, flags, grad_bytes, by_rows } = alike;
                let rows = by_rows.then_some(first_row..first_row);
                let operands = &operands[number as usize];
                let (param, moments) = (operands.param().dtype(), operands.format().moments());
                let n_chunks = 0;
                launches.push(Launch {
                    tally,
                    step,
                    flags,
                    grad_bytes,
                    param,
                    moments,
                    first_chunk,
                    n_chunks,
                    rows,
                });
            }
            let (operands, tensor) = (&operands[number as usize], &mut tensors[number as usize]);
            if let (Some(Grad::Sparse(sparse)), Some(buffers)) =
                (operands.grad(), sparse_buffers.get(number))
            {
                rows.push(buffers.layout(operands, &sparse, lags.get(number)));
                (tensor.grad, tensor.rows) = (buffers.grad(), rows.len() as u32);
            }
            tensor.first_chunk = first_chunk;
            let n_chunks = n_chunks(operands);
            chunks.extend((0..n_chunks as u32).map(|i| Chunk { tensor: number, number: i }));
            if let Some(launch) = launches.last_mut() {
                launch.n_chunks += n_chunks;
                if let Some(of_launch) = &mut launch.rows {
                    of_launch.end = rows.len() as u64;
                }
            }
        }
    }

    /// Returns whether nothing is stepped on the device.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl Alike {
    fn of(operands: &Operands, clears: bool, is_lazy: bool) -> Alike {
        let (param, format) = (operands.param().dtype(), operands.format());
        let is_sparse = operands.has_rows();
        let grad = match operands.tensor(Role::Grad) {
            Some(grad) if !is_sparse => grad.dtype(),
            _ => param.compute(), // in which it is gathered
        };
        let mut flags = layout::flags(operands);
        if clears && !is_sparse {
            flags |= layout::FLAG_CLEAR_GRADS;
        }
        if grad == Dtype::F32 && param != Dtype::F32 {
            flags |= layout::FLAG_F32_GRADS;
        }
        let by_rows = is_sparse && is_lazy;
        let step =
            if by_rows { Kernel::rows(param, &format) } else { Kernel::step(param, &format) };
        Alike { tally: Kernel::tally(grad), step, flags, grad_bytes: grad.bytes() as u32, by_rows }
    }

    fn is(&self, launch: &Launch) -> bool {
        (self.tally, self.step, self.flags) == (launch.tally, launch.step, launch.flags)
    }
}
