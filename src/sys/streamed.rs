//! A copy that goes around the cache.
//!
//! A processor reads a line into its cache before it writes to it, so that a copy moves three bytes
//! of memory for each byte, unless its stores are streaming ones. A C library uses those only from
//! a length on that it computes from the size of the cache, and a virtual machine may report the
//! cache of the whole host.

/// Copies bytes that are not read again soon to memory that is not, either.
pub fn copy(from: &[u8], to: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    stream(from, to);
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
}

/// A cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// How many bytes ahead are asked for: around the cache, too.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 1024;

#[cfg(target_arch = "x86_64")]
fn stream(from: &[u8], to: &mut [u8]) {
    use core::arch::x86_64::{
        __m128i, _MM_HINT_NTA, _mm_loadu_si128, _mm_prefetch, _mm_sfence, _mm_stream_si128,
    };
    let (before, rest) = to.split_at_mut(to.as_ptr().align_offset(LINE).min(to.len()));
    let (from_before, from) = from.split_at(before.len());
    before.copy_from_slice(from_before);
    let (lines, rest) = rest.as_chunks_mut::<LINE>();
    let (from_lines, from_rest) = from.as_chunks::<LINE>();
    for (from, to) in from_lines.iter().zip(lines) {
        let (from, to) = (from.as_ptr().cast::<__m128i>(), to.as_mut_ptr().cast::<__m128i>());
        // SAFETY: both have a line, that of `to` begins on one, and nothing is read where the
        // processor is asked for what lies ahead.
        unsafe {
            _mm_prefetch::<_MM_HINT_NTA>(from.wrapping_byte_add(AHEAD).cast());
            let line = [0, 1, 2, 3].map(|i| _mm_loadu_si128(from.add(i)));
            (0..4).for_each(|i| _mm_stream_si128(to.add(i), line[i]));
        }
    }
    // SAFETY: every x86_64 has it. Without it other threads might not see what was streamed.
    unsafe { _mm_sfence() };
    rest.copy_from_slice(from_rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_copied_and_no_other_is_written() {
        let from: Vec<u8> = (0..1000).map(|i| (i % 251) as u8).collect();
        for start in 0..2 * 64 {
            for length in [0, 1, 15, 63, 64, 65, 127, 128, 129, 200, 500] {
                let mut to = vec![0xAA; 1000];
                copy(&from[start / 2..][..length], &mut to[start..][..length]);
                assert_eq!(to[start..][..length], from[start / 2..][..length], "{start} {length}");
                let others = to[..start].iter().chain(&to[start + length..]);
                assert!(others.into_iter().all(|&byte| byte == 0xAA), "{start} {length}");
            }
        }
    }
}
