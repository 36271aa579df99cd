//! A value per lane of a warp.

/// How many lanes a warp has.
pub const LANES: usize = 32;

/// One value per lane. Those of inactive lanes are never written back.
pub type Lanes = [u64; LANES];

/// The lanes that are set in a mask.
pub fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

#[inline(always)]
pub fn map(a: &Lanes, f: impl Fn(u64) -> u64) -> Lanes {
    let mut result = [0; LANES];
    for (to, &a) in result.iter_mut().zip(a) {
        *to = f(a);
    }
    result
}

#[inline(always)]
pub fn map2(a: &Lanes, b: &Lanes, f: impl Fn(u64, u64) -> u64) -> Lanes {
    let mut result = [0; LANES];
    for ((to, &a), &b) in result.iter_mut().zip(a).zip(b) {
        *to = f(a, b);
    }
    result
}

#[inline(always)]
pub fn map3(a: &Lanes, b: &Lanes, c: &Lanes, f: impl Fn(u64, u64, u64) -> u64) -> Lanes {
    let mut result = [0; LANES];
    for (((to, &a), &b), &c) in result.iter_mut().zip(a).zip(b).zip(c) {
        *to = f(a, b, c);
    }
    result
}

/// The lanes for which `f` holds, as a mask.
#[inline(always)]
pub fn mask2(a: &Lanes, b: &Lanes, f: impl Fn(u64, u64) -> bool) -> u32 {
    let mut mask = 0;
    for (lane, (&a, &b)) in a.iter().zip(b).enumerate() {
        mask |= u32::from(f(a, b)) << lane;
    }
    mask
}
