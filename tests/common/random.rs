//! Random elements: ordinary values, every magnitude, and the values that break arithmetic.

use super::array::Dtype;

/// SplitMix64 (Steele, Lea & Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in so many times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// From `low` to `high`, evenly.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From -1 to 1, evenly.
    pub fn ordinary(&mut self) -> f64 {
        (self.next() as i64 >> 11) as f64 / (1u64 << 52) as f64
    }

    /// The bits of an element. Of sixteen, eight are ordinary, four of other magnitudes, two any
    /// bits at all (NaN, infinities and subnormals among them), two from the edges of the type.
    pub fn bits(&mut self, dtype: Dtype) -> u64 {
        match self.next() % 16 {
            0..8 => dtype.nearest(self.ordinary()),
            8..12 => dtype.nearest(self.ordinary() * f64::from(1u32 << (self.next() % 32)) / 1e8),
            12..14 => self.next() >> (64 - 8 * dtype.bytes()),
            _ => {
                let edges = edges(dtype);
                let negative = (self.next() & 1) << (8 * dtype.bytes() - 1);
                edges[self.next() as usize % edges.len()] | negative
            }
        }
    }
}

/// Of each type: zero, the smallest and largest subnormal, the smallest normal, one and its
/// neighbour, the largest finite value, infinity, a quiet and a signaling NaN. Of f32 also where
/// rounding to f16 and bf16 is a tie, overflows or vanishes.
fn edges(dtype: Dtype) -> &'static [u64] {
    match dtype {
        Dtype::I16 => &[0x0000, 0x0001, 0x7fff, 0x8000, 0xffff],
        Dtype::U8 => &[0x00, 0x01, 0x7f, 0x80, 0xff],
        Dtype::F32 => &[
            0x0000_0000,
            0x0000_0001,
            0x007f_ffff,
            0x0080_0000,
            0x3f80_0000,
            0x3f80_0001,
            0x7f7f_ffff,
            0x7f80_0000,
            0x7fc0_0000,
            0x7f80_0001,
            0x3f80_1000,
            0x3f80_3000,
            0x3f80_8000,
            0x3f81_8000,
            0x477f_efff,
            0x477f_f000,
            0x3300_0000,
            0x3300_0001,
            0x387f_e000,
            0x387f_f000,
            0x7f7f_8000,
            0x7f7f_7fff,
            0x0000_8000,
            0x0000_8001,
        ],
        Dtype::F64 => &[
            0x0000_0000_0000_0000,
            0x0000_0000_0000_0001,
            0x000f_ffff_ffff_ffff,
            0x0010_0000_0000_0000,
            0x3ff0_0000_0000_0000,
            0x3ff0_0000_0000_0001,
            0x7fef_ffff_ffff_ffff,
            0x7ff0_0000_0000_0000,
            0x7ff8_0000_0000_0000,
            0x7ff0_0000_0000_0001,
        ],
        Dtype::F16 => {
            &[0x0000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0x3c01, 0x7bff, 0x7c00, 0x7e00, 0x7c01]
        }
        Dtype::Bf16 => {
            &[0x0000, 0x0001, 0x007f, 0x0080, 0x3f80, 0x3f81, 0x7f7f, 0x7f80, 0x7fc0, 0x7f81]
        }
    }
}
