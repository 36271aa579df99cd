//! The ways to keep parameters and moments in fewer bytes than f32 has.

use super::Param;
use adamw::ffi::*;

/// Fewer bytes than f32 has.
pub struct Mode {
    pub name: &'static str,
    pub precision: adamw_precision,
    pub moments: adamw_moments,
    pub multi_precision: u32,
    /// What a step moves for each element, without scales.
    pub bytes: usize,
    /// With one thread and with two.
    pub bounds: [f64; 2],
}

impl Mode {
    /// Its name with parameters of one type.
    pub fn name_of<P: Param>(&self) -> String {
        self.name.replace("16 bits", P::NAME.split(' ').next().unwrap_or_default())
    }

    pub fn config(&self, config: &adamw_config) -> adamw_config {
        adamw_config {
            precision: self.precision,
            moments: self.moments,
            multi_precision: self.multi_precision,
            ..*config
        }
    }
}

pub const SPLIT: Mode = Mode {
    name: "bf16 + remainder",
    precision: ADAMW_PRECISION_SPLIT,
    moments: ADAMW_MOMENTS_F32,
    multi_precision: 0,
    bytes: 26,
    bounds: [1.05; 2],
};
/// The same in cache.
pub const SPLIT_CACHED: Mode = Mode { bounds: [1.45; 2], ..SPLIT };
pub const MASTER: Mode = Mode {
    name: "16 bits + master",
    precision: ADAMW_PRECISION_DEFAULT,
    multi_precision: 1,
    bytes: 28,
    bounds: [1.3; 2],
    ..SPLIT
};
pub const SPLIT_8BIT: Mode = Mode {
    name: "bf16 + remainder, 8-bit moments",
    moments: ADAMW_MOMENTS_8BIT,
    bytes: 14,
    bounds: [1.15, 0.85],
    ..SPLIT
};
pub const F32_8BIT: Mode = Mode {
    name: "f32, 8-bit moments",
    precision: ADAMW_PRECISION_DEFAULT,
    bytes: 16,
    bounds: [1.0, 0.75],
    ..SPLIT_8BIT
};
pub const F32_4BIT: Mode = Mode {
    name: "f32, 4-bit moments",
    moments: ADAMW_MOMENTS_4BIT,
    bytes: 14,
    bounds: [1.2, f64::NAN],
    ..F32_8BIT
};
pub const WITHOUT_BOUND: [Mode; 3] = [
    Mode {
        name: "bf16 + remainder, bf16 moments",
        moments: ADAMW_MOMENTS_BF16,
        bytes: 18,
        bounds: [f64::NAN; 2],
        ..SPLIT
    },
    Mode {
        name: "bf16 stochastic, bf16 moments",
        precision: ADAMW_PRECISION_STOCHASTIC,
        moments: ADAMW_MOMENTS_BF16,
        bytes: 14,
        bounds: [f64::NAN; 2],
        ..SPLIT
    },
    Mode { name: "bf16 Kahan", precision: ADAMW_PRECISION_KAHAN, bounds: [f64::NAN; 2], ..SPLIT },
];

/// The formats of the moments of f32, and what a step with them moves for each element.
pub const MOMENTS: [(&str, adamw_moments, usize); 4] = [
    ("f32", ADAMW_MOMENTS_F32, 28),
    ("bf16", ADAMW_MOMENTS_BF16, 20),
    ("8-bit", ADAMW_MOMENTS_8BIT, 16),
    ("4-bit", ADAMW_MOMENTS_4BIT, 14),
];
