//! What lanes tell each other: shuffles and votes.

use super::fault::Trouble;
use super::lanes::{LANES, Lanes, lanes_of};
use super::warp::Warp;
use crate::ptx::instruction::{Shuffle, Vote};

impl Warp {
    /// Whether all lanes that the mask names, and that have not left, are here, and all that are
    /// here are named.
    pub fn meet(&self, what: &str, members: &Lanes, active: u32) -> Result<(), Trouble> {
        for lane in lanes_of(active) {
            let named = members[lane] as u32;
            if named & self.live != active {
                return Err(Trouble::failed(
                    lane,
                    format!("{what} names lanes {named:#010x}, and {active:#010x} are here"),
                ));
            }
        }
        Ok(())
    }
}

/// What each lane reads, and whether that lane was in its range.
pub fn shuffle(
    kind: Shuffle,
    values: &Lanes,
    lanes: &Lanes,
    clamps: &Lanes,
    active: u32,
) -> Result<(Lanes, u32), Trouble> {
    let mut result = [0; LANES];
    let mut in_range = 0;
    for lane in lanes_of(active) {
        let distance = lanes[lane] as i32 & 31;
        let clamp = clamps[lane] as i32 & 31;
        let segment = (clamps[lane] >> 8) as i32 & 31;
        let own = lane as i32;
        let first = own & segment;
        let last = first | clamp & !segment;
        let (from, fits) = match kind {
            // Here the clamp is the lowest lane.
            Shuffle::Up => (own - distance, own - distance >= last),
            Shuffle::Down => (own + distance, own + distance <= last),
            Shuffle::Butterfly => (own ^ distance, (own ^ distance) <= last),
            Shuffle::Index => {
                let from = first | distance & !segment;
                (from, from <= last)
            }
        };
        let from = if fits { from as usize } else { lane };
        if active >> from & 1 == 0 {
            return Err(Trouble::failed(
                lane,
                format!("shuffle reads lane {from}, which is not here"),
            ));
        }
        result[lane] = values[from];
        in_range |= u32::from(fits) << lane;
    }
    Ok((result, in_range))
}

/// What the active lanes decide.
pub fn vote(kind: Vote, votes: u32, active: u32) -> bool {
    let votes = votes & active;
    match kind {
        Vote::All => votes == active,
        Vote::Any => votes != 0,
        Vote::Uniform => votes == active || votes == 0,
    }
}
