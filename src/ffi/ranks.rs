//! Ranks that each step a part of the same parameters.

use super::{Optimizer, Status, guard, handle, not_null};
use crate::callback::{AllReduce, NextPiece};
use crate::error::Error;
use crate::optimizer::Pieces;
use crate::ranges::Cut;
use core::ffi::c_void;

pub use crate::callback::{adamw_all_reduce, adamw_next_piece};

/// Cuts a list of parameters into a range of each for every rank, and writes those of one rank. It
/// needs no handle, and all ranks get the same cut.
///
/// `n_elements [num_params]` are the lengths of the parameters. `out_first_elements [num_params]`
/// and `out_n_elements [num_params]` get the range of each parameter that rank `rank` of
/// `num_ranks` has; they are `first_element` of `adamw_param_config` and the length of its `param`,
/// with the whole length as `whole_elements`. A range may be empty: 0 elements from 0 on.
///
/// The parameters are laid end to end, so that the ranges of a rank lie side by side, too, and
/// those of rank 0 come first. The ranks have about as many elements: `align` more than the
/// num_ranks-th part of all, rounded up, is the most. Parameters are cut only at multiples of
/// `align`. 0 stands for 4,096, which suits every format and every norm; moments in codes need
/// multiples of 256, or of 128 for 4 bits. To keep every parameter on one rank, give UINT64_MAX.
///
/// # Safety
/// `n_elements` is readable, and `out_first_elements` and `out_n_elements` are writable, for
/// `num_params` values, or any of them NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_shard_ranges(
    n_elements: *const u64,
    num_params: usize,
    align: u64,
    rank: u32,
    num_ranks: u32,
    out_first_elements: *mut u64,
    out_n_elements: *mut u64,
) -> Status {
    guard(|| {
        not_null("n_elements", n_elements, num_params)?;
        not_null("out_first_elements", out_first_elements, num_params)?;
        not_null("out_n_elements", out_n_elements, num_params)?;
        if rank >= num_ranks {
            let (name, value) = ("rank", rank.into());
            return Err(Error::Number { name, value, expected: "less than num_ranks" });
        }
        // SAFETY: not NULL, and the caller guarantees the rest.
        let lengths = (0..num_params).map(|i| unsafe { n_elements.add(i).read_unaligned() });
        let total = lengths.clone().try_fold(0u64, u64::checked_add);
        let total = total.ok_or(Error::Number {
            name: "the sum of n_elements",
            value: f64::INFINITY,
            expected: "less than 2^64",
        })?;
        let cut = Cut { n_parts: num_ranks, align: if align == 0 { 4096 } else { align } };
        let mut i = 0;
        cut.ranges(rank, total, lengths, |range| {
            // SAFETY: as above.
            unsafe {
                out_first_elements.add(i).write_unaligned(range.start);
                out_n_elements.add(i).write_unaligned(range.end - range.start);
            }
            i += 1;
        });
        Ok(())
    })
}

/// Sets the callback by which ranks that each have ranges of the same parameters agree before every
/// step. Then all of them clip by the same norms, skip the same steps, have the same loss scale,
/// and fail together, with the bits of one handle that has the whole parameters. NULL: the handle
/// steps by itself again.
///
/// Every rank sets a callback, adds every parameter in the same order and under the same name, with
/// `first_element` and `whole_elements`, and gives a gradient to the same parameters: to those of
/// which it has nothing, one of 0 elements. A sparse gradient may list rows on some ranks alone:
/// the others, with n = 0, step their rows as `lazy_mode` says. It is none if no rank lists a row.
/// Each element is on one rank. The ranges can begin anywhere; where they cut a block of 4,096
/// elements, every step exchanges 4,096 numbers for it, so `adamw_shard_ranges` does not.
///
/// A step calls `all_reduce` once with 45 numbers; if a sparse gradient lists no row on some rank,
/// once more, with a number for each parameter; and if it measures the gradients, once more when it
/// has, with two or more numbers for each parameter. The first step after a parameter was added or
/// removed calls it some more times, and allocates. If ranks differ in what a step depends on
/// (parameters, steps taken, groups, learning rate, loss scale, seed and the like), the step is
/// `ADAMW_STATUS_MISMATCH` on all of them and says in what; if one fails before it has told the
/// others, it is that on the others. No rank has then changed anything. What a `parallel_for`
/// refuses once they have agreed is done on the calling thread. All calls that step take part, on
/// all ranks alike. An `adamw_minimize` whose closure fails does not get so far.
///
/// Parameters on a device are `ADAMW_STATUS_UNSUPPORTED`, unless they are offloaded.
/// `adamw_step_param` is `ADAMW_STATUS_CLIP_CONFLICT`, and `adamw_grad_ready` does nothing.
/// `adamw_measure_grads`, `adamw_get_grad_norm` and `adamw_set_grad_sums` are for hosts that add up
/// by themselves: they are `ADAMW_STATUS_INVALID_ARGUMENT`, and so is this call while sums are set.
/// The report of a step has the norm of all ranks; its statistics and its number of elements are of
/// this rank alone.
///
/// # Safety
/// `all_reduce` may be called with `user_data` until it is replaced or the handle is destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_all_reduce(
    optimizer: *mut Optimizer,
    all_reduce: adamw_all_reduce,
    user_data: *mut c_void,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            optimizer.set_all_reduce(unsafe { AllReduce::new(all_reduce, user_data) })
        })
    })
}

/// Sets a callback by which steps of ranks go on piece by piece: it waits for the gradients of each
/// piece, and learns which elements have been stepped. So gradients can travel while the pieces
/// before them are measured and stepped, and stepped parameters while others are. The step has the
/// same bits. NULL: all gradients are there when a step begins.
///
/// `n_elements` is about the number of elements in a piece. 0 stands for 262,144; shorter pieces
/// are stepped on one thread. The rows that sparse gradients list are read before the first call.
///
/// It goes with an `all_reduce`, which has to be there, and takes it away when it is set anew.
/// `ADAMW_STATUS_INVALID_ARGUMENT` without one.
///
/// # Safety
/// `next_piece` may be called with `user_data` until it or the `all_reduce` is replaced, or the
/// handle is destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_next_piece(
    optimizer: *mut Optimizer,
    n_elements: u64,
    next_piece: adamw_next_piece,
    user_data: *mut c_void,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            let next = unsafe { NextPiece::new(next_piece, user_data) };
            optimizer.set_next_piece(next.map(|next| Pieces::new(next, n_elements)))
        })
    })
}
