//! Hashes that ranks compare, and the numbers by which they do.
//!
//! Ranks can only add numbers up. A hash is two numbers below 2^16; where n ranks have numbers of
//! the sum s and of the sum of squares q, they are all the same if and only if n * q = s * s
//! (Cauchy and Schwarz). All of that is exact, for up to 2^20 ranks.
#![forbid(unsafe_code)]

/// The numbers of a hash that are added up.
pub const NUMBERS: usize = 4;

/// Returns the numbers of a hash that are added up over the ranks.
pub fn numbers(hash: u32) -> [f64; NUMBERS] {
    let [low, high] = [hash & 0xffff, hash >> 16].map(f64::from);
    [low, low * low, high, high * high]
}

/// Returns whether so many ranks have one hash, by the sums of its numbers.
pub fn is_one(n_ranks: f64, sums: &[f64]) -> bool {
    let is_one = |[sum, squares]: &[f64; 2]| {
        let [n, sum, squares] = [n_ranks, *sum, *squares].map(|number| number as u128);
        n * squares == sum * sum
    };
    sums.as_chunks().0.iter().all(is_one)
}

/// A hash that is being made. It is no secret: it tells mistakes, not attacks.
#[derive(Default)]
pub struct Hash(u64);

impl Hash {
    pub fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }

    pub fn add_f64(&mut self, number: f64) {
        self.add(number.to_bits());
    }

    pub fn finish(mut self) -> u32 {
        self.add(0);
        (self.0 >> 32) as u32
    }
}

/// Returns the hash of one number.
pub fn hash_of(word: u64) -> u32 {
    let mut hash = Hash::default();
    hash.add(word);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hashes_that_are_all_the_same_are_one() {
        let mut hash = 1u32;
        for n in 1..200usize {
            hash = hash.wrapping_mul(0x915f_77f5).wrapping_add(12345);
            for (other, at) in
                [(hash, 0), (hash ^ 1, 0), (hash ^ 0x8000_0000, n - 1), (!hash, n / 2)]
            {
                let mut sums = [0.0; NUMBERS];
                for rank in 0..n {
                    let own = numbers(if rank == at { other } else { hash });
                    sums.iter_mut().zip(own).for_each(|(sum, number)| *sum += number);
                }
                assert_eq!(is_one(n as f64, &sums), other == hash || n == 1, "{n}: {other:x}");
            }
        }
    }

    #[test]
    fn the_largest_hashes_of_many_ranks_are_exact() {
        let n = (1u32 << 20) as f64;
        let sums = numbers(u32::MAX).map(|number| n * number);
        assert!(is_one(n, &sums));
        let mut one_differs = sums;
        one_differs[0] -= 1.0;
        one_differs[1] -= 2.0 * 65535.0 - 1.0;
        assert!(!is_one(n, &one_differs));
    }
}
