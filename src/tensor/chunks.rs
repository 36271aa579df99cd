//! A step's elements, cut into disjoint chunks that any thread may claim.
//!
//! The parameters that have a gradient are laid end to end, and that line is cut into tasks of one
//! length. So ten thousand small tensors and one large one are the same work, split by size
//! and not by tensor, and a thread that comes late leaves its tasks to whoever is free.

use super::{Buffer, Operands, Slice, SliceMut};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::sys::memory::reserve;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// Elements of a task: a 256th of the work, so that the threads end together, between what hides
/// the claim and what lets the processor's prefetchers run ahead.
fn task_elements(n_elements: u64) -> u64 {
    const SHORTEST: u64 = 16_384;
    const LONGEST: u64 = 262_144;
    (n_elements / 256).next_multiple_of(SHORTEST).clamp(SHORTEST, LONGEST)
}

/// Where each parameter's elements lie on the line. Kept between steps for its memory alone.
#[derive(Default)]
pub struct Plan {
    /// `ends[k]`: the elements of parameters 0 to k, those without a gradient counting none.
    ends: Vec<u64>,
}

impl Plan {
    /// Makes room for so many parameters, so that a step need not.
    pub fn reserve(&mut self, n_params: usize) -> Result<(), Error> {
        let missing = n_params.saturating_sub(self.ends.len());
        reserve(&mut self.ends, missing, "the step's plan")
    }

    fn lay(&mut self, operands: &[Operands]) {
        let mut end = 0;
        self.ends.clear();
        self.ends.extend(operands.iter().map(|operands| {
            end += if operands.is_stepped() { operands.param.n_elements } else { 0 };
            end
        }));
    }
}

/// The work of one step.
pub struct Chunks<'a> {
    operands: &'a [Operands],
    ends: &'a [u64],
    n_elements: u64,
    task_elements: u64,
    next_task: AtomicU64,
}

impl<'a> Chunks<'a> {
    /// Takes the parameters' memory for as long as chunks of it are about.
    pub fn new(operands: &'a mut [Operands], plan: &'a mut Plan) -> Self {
        plan.lay(operands);
        let n_elements = plan.ends.last().copied().unwrap_or(0);
        let task_elements = task_elements(n_elements);
        let next_task = AtomicU64::new(0);
        Chunks { operands, ends: &plan.ends, n_elements, task_elements, next_task }
    }

    pub fn n_elements(&self) -> u64 {
        self.n_elements
    }

    pub fn n_tasks(&self) -> u64 {
        self.n_elements.div_ceil(self.task_elements)
    }

    /// Whether any task has been claimed.
    pub fn started(&self) -> bool {
        self.next_task.load(Ordering::Relaxed) > 0
    }

    /// A task that nobody has claimed yet. The counter orders nothing: whoever joins the threads
    /// afterwards sees what they wrote.
    pub fn claim(&self) -> Option<Task<'a, '_>> {
        let task = self.next_task.fetch_add(1, Ordering::Relaxed);
        if task >= self.n_tasks() {
            return None;
        }
        let position = task * self.task_elements;
        let end = (position + self.task_elements).min(self.n_elements);
        let param = self.ends.partition_point(|&param_end| param_end <= position);
        Some(Task { chunks: self, param, position, end })
    }
}

/// A claimed stretch of the line: the chunks of the parameters that it crosses.
pub struct Task<'a, 'c> {
    chunks: &'c Chunks<'a>,
    /// The parameter that `position` lies in, unless it has no elements on the line.
    param: usize,
    position: u64,
    end: u64,
}

impl<'a> Iterator for Task<'a, '_> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        while self.position < self.end {
            let param = self.param;
            let param_end = self.chunks.ends[param];
            self.param += 1;
            if param_end == self.position {
                continue;
            }
            let operands = &self.chunks.operands[param];
            let param_start = param_end - operands.param.n_elements;
            let stop = self.end.min(param_end);
            let range = (self.position - param_start) as usize..(stop - param_start) as usize;
            self.position = stop;
            // SAFETY: the plan was laid over these very operands, so that the range lies inside;
            // tasks are claimed once, and neither their ranges nor those of one task's chunks
            // meet; `Chunks::new` borrowed the operands mutably for `'a`.
            return unsafe { Chunk::new(param, operands, range) };
        }
        None
    }
}

/// The same elements of all the tensors of one parameter.
pub struct Chunk<'a> {
    /// Which parameter.
    pub index: usize,
    pub param: SliceMut<'a>,
    pub grad: Slice<'a>,
    pub state: State<'a>,
}

/// The state, in the parameter's compute type.
pub enum State<'a> {
    F32(Moments<'a, f32>),
    F64(Moments<'a, f64>),
}

pub struct Moments<'a, T> {
    pub exp_avg: &'a mut [T],
    pub exp_avg_sq: &'a mut [T],
    pub max_exp_avg_sq: Option<&'a mut [T]>,
    pub master: Option<&'a mut [T]>,
}

impl<'a> Chunk<'a> {
    /// # Safety
    /// `range` lies inside the tensors, and nothing else touches its elements during `'a`.
    unsafe fn new(index: usize, operands: &Operands, range: Range<usize>) -> Option<Self> {
        // SAFETY: the caller's word; `Operands::fits` saw the types.
        unsafe {
            Some(Chunk {
                index,
                param: operands.param.elements_mut(range.clone()),
                grad: operands.grad?.elements(range.clone()),
                state: match operands.param.dtype.compute() {
                    Dtype::F64 => State::F64(Moments::new(operands, range)?),
                    _ => State::F32(Moments::new(operands, range)?),
                },
            })
        }
    }
}

impl<'a, T> Moments<'a, T> {
    /// # Safety
    /// As `Chunk::new`, and `T` is the compute type of these operands.
    unsafe fn new(operands: &Operands, range: Range<usize>) -> Option<Self> {
        // SAFETY: the caller's word.
        let cut = |buffer: &Buffer| unsafe { buffer.tensor.slice_mut(range.clone()) };
        Some(Moments {
            exp_avg: cut(operands.exp_avg.as_ref()?),
            exp_avg_sq: cut(operands.exp_avg_sq.as_ref()?),
            max_exp_avg_sq: operands.max_exp_avg_sq.as_ref().map(cut),
            master: operands.master.as_ref().map(cut),
        })
    }
}
