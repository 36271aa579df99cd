//! Prefetching: memory that is asked for before it is needed.

use super::Operands;
use crate::format::Kept;

impl Operands {
    /// Asks for the first memory of every tensor.
    #[inline]
    pub(super) fn prefetch_start(&self) {
        if let Some(grad) = &self.grad {
            prefetch(grad.address);
        }
        if self.is_plain {
            prefetch(self.param.address);
            prefetch(self.exp_avg.address());
            prefetch(self.exp_avg_sq.address());
        } else {
            self.prefetch(0);
        }
    }

    fn prefetch(&self, element: usize) {
        prefetch(self.param.address + element * self.param.dtype.bytes());
        let moment = element * self.format.moment().bytes();
        prefetch(self.exp_avg.address() + moment);
        prefetch(self.exp_avg_sq.address() + moment);
        if self.format.amsgrad() {
            prefetch(self.max_exp_avg_sq.address() + moment);
        }
        match self.format.kept() {
            Kept::Itself | Kept::Stochastic => {}
            Kept::Master => prefetch(self.master.address() + element * 4),
            Kept::Split | Kept::Kahan => prefetch(self.master.address() + element * 2),
        }
    }

    /// Asks for the memory of the i-th listed row, if there is one.
    pub(super) fn prefetch_listed(&self, i: usize) {
        let index = self.index();
        if let Some(row) = index.listed(i) {
            self.prefetch((row * index.row_elements()) as usize);
        }
    }
}

/// Asks for the first cache lines at an address, which will be needed soon. The processor foresees
/// further ones by itself.
#[inline]
fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..4 {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint, which faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::without_provenance(address + line * 64)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
