//! The sum of squares of a gradient, in the one order that defines its bits.
//!
//! Elements are widened to f64, where the square of no f32 overflows. A tensor is cut into blocks
//! of 4,096 elements from its first; in a block, lane l of 128 adds the squares of the elements l,
//! l + 128, l + 256, ... in order; the lanes are joined by halves (l with l + 64, then l + 32,
//! ...), the blocks of a tensor in pairs (0 with 1, 2 with 3, ..., an odd one waits), again until
//! one is left. Vector units, threads and warps all fit inside this shape.
#![forbid(unsafe_code)]

/// Elements of a block.
pub const BLOCK: usize = 4096;

/// Sums of a block that run side by side.
pub const LANES: usize = 128;

/// Adds the squares of values that start at lane 0, and counts those that are not finite.
#[inline(always)]
pub fn add_squares<T: Copy + Into<f64>>(lanes: &mut [f64; LANES], values: &[T]) -> u64 {
    let (rows, rest) = values.as_chunks::<LANES>();
    for row in rows {
        for lane in 0..LANES {
            let value: f64 = row[lane].into();
            lanes[lane] += value * value;
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        let value: f64 = value.into();
        *lane += value * value;
    }
    values.iter().map(|&value| !value.into().is_finite() as u64).sum()
}

/// Adds the squares of the differences between two runs of elements that start at lane 0.
#[inline(always)]
pub fn add_changes<T: Copy + Into<f64>>(lanes: &mut [f64; LANES], before: &[T], after: &[T]) {
    for (before, after) in before.chunks(LANES).zip(after.chunks(LANES)) {
        for (lane, (&before, &after)) in lanes.iter_mut().zip(before.iter().zip(after)) {
            let change: f64 = after.into() - before.into();
            *lane += change * change;
        }
    }
}

/// Returns the sum of the squares of a block, as the lanes add them up.
pub fn join_squares(squares: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    for row in squares.chunks(LANES) {
        lanes.iter_mut().zip(row).for_each(|(lane, square)| *lane += square);
    }
    join_lanes(&mut lanes)
}

/// Returns the sum of the lanes, which are overwritten.
pub fn join_lanes(lanes: &mut [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        let (left, right) = lanes.split_at_mut(half);
        left.iter_mut().zip(right).for_each(|(left, right)| *left += *right);
        half /= 2;
    }
    lanes[0]
}

/// Returns the joined sums of blocks `0..n`. Pairing neighbours again and again is the same as
/// cutting at the largest power of two below n.
pub fn join_blocks(n: usize, sum: &impl Fn(usize) -> f64) -> f64 {
    fn join(start: usize, n: usize, sum: &impl Fn(usize) -> f64) -> f64 {
        if n == 1 {
            return sum(start);
        }
        let left = n.next_power_of_two() / 2;
        join(start, left, sum) + join(start + left, n - left, sum)
    }
    if n == 0 { 0.0 } else { join(0, n, sum) }
}

/// Returns the joined sums of some blocks, in rising order, where the sums of all others are 0. The
/// result is that of `join_blocks` over all, because adding 0 changes no bit of a sum of squares.
pub fn join_some_blocks(blocks: &[u64], sum: &impl Fn(usize) -> f64) -> f64 {
    fn join(start: usize, blocks: &[u64], width: u64, sum: &impl Fn(usize) -> f64) -> f64 {
        match blocks {
            [] => 0.0,
            [_] => sum(start),
            [first, ..] => {
                let half = width / 2;
                let middle = first / width * width + half;
                let left = blocks.partition_point(|&block| block < middle);
                let (before, after) = blocks.split_at(left);
                join(start, before, half, sum) + join(start + left, after, half, sum)
            }
        }
    }
    let width = blocks.last().map_or(1, |last| (last + 1).next_power_of_two());
    join(0, blocks, width, sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_joined_in_pairs_again_and_again() {
        for n in 1..40 {
            let sums: Vec<f64> = (0..n).map(|i| 1.0 / (i as f64 + 3.0)).collect();
            let mut level = sums.clone();
            while level.len() > 1 {
                level = level.chunks(2).map(|pair| pair.iter().copied().sum()).collect();
            }
            let joined = join_blocks(n, &|i| sums[i]);
            assert_eq!(joined.to_bits(), level[0].to_bits(), "{n} blocks");
        }
    }

    #[test]
    fn blocks_that_are_left_out_count_as_zeros() {
        for n in 1..40usize {
            for keep in [1, 2, 3, 5, 7] {
                let kept = |i: &usize| (i * i + i / 3).is_multiple_of(keep);
                let sum = |i: usize| if kept(&i) { 1.0 / (i as f64 + 3.0) } else { 0.0 };
                let all = join_blocks(n, &sum);
                let blocks: Vec<u64> = (0..n).filter(kept).map(|i| i as u64).collect();
                let some = join_some_blocks(&blocks, &|i| sum(blocks[i] as usize));
                assert_eq!(some.to_bits(), all.to_bits(), "{blocks:?} of {n}");
            }
        }
    }

    #[test]
    fn lanes_take_every_128th_element_in_order() {
        let values: Vec<f32> = (0..BLOCK + 77).map(|i| (i as f32).sin()).collect();
        let mut lanes = [0.0; LANES];
        assert_eq!(add_squares(&mut lanes, &values), 0);
        let mut expected = [0.0f64; LANES];
        for (i, &value) in values.iter().enumerate() {
            expected[i % LANES] += value as f64 * value as f64;
        }
        assert_eq!(lanes.map(f64::to_bits), expected.map(f64::to_bits));
    }

    #[test]
    fn squares_by_themselves_have_the_sum_of_their_block() {
        for n in [1, 127, 128, 129, 1000, BLOCK] {
            let values: Vec<f32> = (0..n).map(|i| (i as f32).sin()).collect();
            let squares: Vec<f64> = values.iter().map(|&v| f64::from(v) * f64::from(v)).collect();
            let mut lanes = [0.0; LANES];
            add_squares(&mut lanes, &values);
            assert_eq!(join_squares(&squares).to_bits(), join_lanes(&mut lanes).to_bits(), "{n}");
        }
    }

    #[test]
    fn what_is_not_finite_is_counted_and_no_f32_overflows() {
        let mut lanes = [0.0; LANES];
        let values = [1.0, f32::NAN, f32::INFINITY, -f32::INFINITY, f32::MAX, f32::MIN, 0.0];
        assert_eq!(add_squares(&mut lanes, &values), 3);
        let mut lanes = [0.0; LANES];
        assert_eq!(add_squares(&mut lanes, &[f32::MAX; 3 * BLOCK]), 0);
        assert!(join_lanes(&mut lanes).is_finite());
    }
}
