//! Ranks that each step a part of the same parameters.

use super::{Status, guard, not_null};
use crate::error::Error;
use crate::ranges::Cut;

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
