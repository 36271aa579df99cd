//! The memory that all parameters of a handle share: on the device the tables of a step and the
//! results that kernels hand on to each other, and on the host the memory through which they are
//! copied.

use super::driver::{Entered, Memory, Pinned};
use super::layout::{Chunk, Hyper, Outside, Rows, SCALARS, Tensor, Verdict};
use crate::error::Error;
use crate::tensor::Total;

/// The numbers of things that a workspace has room for.
#[derive(Clone, Copy, PartialEq, Default)]
pub struct Size {
    pub n_params: usize,
    pub n_chunks: usize,
    pub n_groups: usize,
    /// The parameters that have had a sparse gradient.
    pub n_sparse: usize,
}

impl Size {
    pub fn holds(&self, needed: &Size) -> bool {
        self.n_params >= needed.n_params
            && self.n_chunks >= needed.n_chunks
            && self.n_groups >= needed.n_groups
            && self.n_sparse >= needed.n_sparse
    }

    /// Returns a size for what is needed that at least doubles each number that grows, so that
    /// adding parameters one by one moves the workspace seldom.
    pub fn grown(&self, needed: &Size) -> Size {
        let grown = |is: usize, needed: usize| if is >= needed { is } else { needed.max(2 * is) };
        Size {
            n_params: grown(self.n_params, needed.n_params),
            n_chunks: grown(self.n_chunks, needed.n_chunks),
            n_groups: grown(self.n_groups, needed.n_groups),
            n_sparse: grown(self.n_sparse, needed.n_sparse),
        }
    }

    /// Returns the bytes of the tables of a step: tensors, hyper-parameters, sparse gradients and
    /// chunks, one after the other.
    pub fn tables(&self) -> usize {
        self.n_params * (size_of::<Tensor>() + size_of::<Hyper>())
            + self.n_sparse * size_of::<Rows>()
            + self.n_chunks * size_of::<Chunk>()
    }

    /// Returns the bytes of the longest table that the host reads.
    fn downloads(&self) -> usize {
        let totals = self.n_params * size_of::<Total>() + size_of::<Verdict>();
        totals.max(self.n_sparse * size_of::<Outside>())
    }
}

/// The number of uploads that may wait for the device before a step waits for the first of them.
pub const UPLOADS: usize = 4;

/// The blocks of 4,096 elements in a chunk, each of which has a sum.
pub const SUMS: u64 = 4;

/// The address of each part of a workspace.
#[derive(Clone, Copy, Default)]
pub struct Places {
    pub tables: u64,
    pub scalars: u64,
    pub totals: u64,
    pub factors: u64,
    pub scope_sums: u64,
    pub sums: u64,
    pub counts: u64,
    /// For the changes of a step, and for its new weights.
    pub change_sums: [u64; 2],
    pub change_totals: [u64; 2],
    /// For the first wrong element of a master.
    pub first: u64,
}

impl Places {
    /// Returns the addresses in a workspace that starts at `start`, and its bytes.
    fn new(start: u64, size: &Size) -> (Places, usize) {
        let n_sums = size.n_chunks * SUMS as usize;
        let mut bytes = 0;
        let mut place = |n: usize, each: usize| {
            let at = start + bytes as u64;
            bytes += (n * each).next_multiple_of(16);
            at
        };
        let places = Places {
            tables: place(1, size.tables()),
            scalars: place(size.n_params, SCALARS),
            totals: place(size.n_params, size_of::<Total>()),
            factors: place(size.n_params, size_of::<f64>()),
            scope_sums: place(size.n_groups, size_of::<f64>()),
            sums: place(n_sums, size_of::<f64>()),
            counts: place(n_sums, size_of::<u64>()),
            change_sums: [(); 2].map(|()| place(n_sums, size_of::<f64>())),
            change_totals: [(); 2].map(|()| place(size.n_params, size_of::<Total>())),
            first: place(1, size_of::<u64>()),
        };
        (places, bytes)
    }
}

const WHAT: &str = "the device's tables";

/// The device's memory. A graph that has captured a step reads the tables and writes the results
/// whenever it is launched: the workspace is the graph's from then on.
pub struct Workspace {
    pub places: Places,
    pub is_captured: bool,
    _memory: Memory,
}

impl Workspace {
    /// Allocates a workspace of zeros. Waits for the device.
    pub fn new(device: &Entered, size: &Size) -> Result<Workspace, Error> {
        let (_, bytes) = Places::new(0, size);
        let memory = device.allocate(bytes, WHAT)?;
        let (places, _) = Places::new(memory.address(), size);
        // SAFETY: all of it has just been allocated, and `wait` returns before it can be dropped.
        unsafe { device.zero(places.tables, bytes) }?;
        device.wait()?;
        Ok(Workspace { places, is_captured: false, _memory: memory })
    }
}

/// The host's memory that goes with a workspace.
pub struct Staging {
    /// One of them can be filled while the others are copied.
    pub uploads: [Pinned; UPLOADS],
    pub downloads: Pinned,
}

impl Staging {
    pub fn new(device: &Entered, size: &Size) -> Result<Staging, Error> {
        let pinned = |bytes| device.pinned(bytes, WHAT);
        Ok(Staging {
            uploads: [
                pinned(size.tables())?,
                pinned(size.tables())?,
                pinned(size.tables())?,
                pinned(size.tables())?,
            ],
            downloads: pinned(size.downloads())?,
        })
    }
}
