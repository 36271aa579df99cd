//! The callback of the host by which ranks add up their numbers.

use super::UserData;
use crate::error::{Error, RanksProblem};
use crate::sys::fp;
use core::ffi::c_void;

/// Replaces each of the `count` numbers of `buffer` by its sum over all ranks, as `MPI_Allreduce`
/// does in place with `MPI_DOUBLE` and `MPI_SUM`, and returns 0 when every rank has the sums. Any
/// other return value fails the step with `ADAMW_STATUS_CALLBACK`, and nothing changes. All ranks
/// get the same calls, in one order, on the threads that step. The numbers may be added up in any
/// order.
#[allow(non_camel_case_types)]
pub type adamw_all_reduce =
    Option<unsafe extern "C" fn(buffer: *mut f64, count: usize, user_data: *mut c_void) -> i32>;

/// Adds numbers up over ranks.
#[derive(Clone, Copy)]
pub struct AllReduce {
    function: unsafe extern "C" fn(*mut f64, usize, *mut c_void) -> i32,
    user_data: UserData,
}

impl AllReduce {
    /// Returns `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` until it is replaced, and writes as many numbers
    /// as it is given.
    pub unsafe fn new(function: adamw_all_reduce, user_data: *mut c_void) -> Option<Self> {
        Some(AllReduce { function: function?, user_data: UserData(user_data) })
    }

    /// Replaces each number by its sum over all ranks.
    pub fn add_up(&self, numbers: &mut [f64]) -> Result<(), Error> {
        let returned = fp::as_host(|| {
            // SAFETY: the caller of `new` allowed it; the numbers live through the call.
            unsafe { (self.function)(numbers.as_mut_ptr(), numbers.len(), self.user_data.0) }
        });
        if returned == 0 { Ok(()) } else { Err(Error::Ranks(RanksProblem::Returned(returned))) }
    }
}
