//! Random bits that are a function of a counter: Philox4x32-10 (Salmon et al., "Parallel Random
//! Numbers: As Easy as 1, 2, 3", SC 2011). They are the same on every machine, for every number of
//! threads and in every shard.
#![forbid(unsafe_code)]

/// Returns four random words for a counter.
#[inline(always)]
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
    const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
    for _ in 0..10 {
        let [product0, product1] =
            [counter[0] as u64 * MULTIPLIERS[0] as u64, counter[2] as u64 * MULTIPLIERS[1] as u64];
        counter = [
            (product1 >> 32) as u32 ^ counter[1] ^ key[0],
            product1 as u32,
            (product0 >> 32) as u32 ^ counter[3] ^ key[1],
            product0 as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The key of a parameter, which makes its random bits its own.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Key([u32; 2]);

impl Key {
    pub fn new(seed: u64, name: &[u8]) -> Key {
        let [name0, name1] = halves(fnv1a(name));
        let [seed0, seed1] = halves(seed);
        let [key0, key1, ..] = philox4x32_10([name0, name1, seed0, seed1], [0, 0]);
        Key([key0, key1])
    }

    /// Returns the key as a device has it.
    pub fn words(self) -> [u32; 2] {
        self.0
    }

    /// Returns the random bits of a stream in a step: 16, little-endian, for each of eight elements
    /// from element `8 * octet` on. The number of the stream fits in spare bits of the octet's.
    #[inline(always)]
    pub fn bits(self, stream: NoiseStream, step: u64, octet: u64) -> [[u8; 4]; 4] {
        let ([octet0, octet1], [step0, step1]) = (halves(octet), halves(step));
        let counter = [octet0, octet1 ^ ((stream as u32) << 30), step0, step1];
        philox4x32_10(counter, self.0).map(u32::to_le_bytes)
    }
}

/// The tensor that is rounded: each has random bits of its own.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum NoiseStream {
    Param = 0,
    ExpAvg = 1,
    ExpAvgSq = 2,
}

/// Returns the FNV-1a hash of 64 bits (Fowler, Noll & Vo).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ *byte as u64).wrapping_mul(0x100_0000_01b3)
    })
}

#[inline(always)]
fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors publish with Random123.
    #[test]
    fn words_are_those_that_the_authors_publish() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([!0; 4], [!0; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32_10(counter, key), expected, "{counter:x?} {key:x?}");
        }
    }

    #[test]
    fn names_are_hashed_as_fnv_is_published() {
        for (text, expected) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv1a(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn seed_name_tensor_step_and_place_each_make_other_bits() {
        let of =
            |seed, name: &[u8], tensor, step, octet| Key::new(seed, name).bits(tensor, step, octet);
        let bits = of(1, b"w", NoiseStream::Param, 5, 9);
        let others = [
            of(2, b"w", NoiseStream::Param, 5, 9),
            of(1, b"v", NoiseStream::Param, 5, 9),
            of(1, b"w", NoiseStream::ExpAvg, 5, 9),
            of(1, b"w", NoiseStream::ExpAvgSq, 5, 9),
            of(1, b"w", NoiseStream::Param, 6, 9),
            of(1, b"w", NoiseStream::Param, 5, 10),
            of(1, b"w", NoiseStream::Param, 5 + (1 << 32), 9),
            of(1, b"w", NoiseStream::Param, 5, 9 + (1 << 32)),
        ];
        assert!(others.iter().all(|other| *other != bits));
    }
}
