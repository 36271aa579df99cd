//! What the state of a parameter is called, so that it can be found by a name that others know.
#![forbid(unsafe_code)]

use super::state::Item;
use crate::error::Role;
use core::fmt::{self, Write};

/// Whose names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// `state.<param>.exp_avg`, as PyTorch's distributed checkpoints have it.
    Neutral,
    /// `<param>_moment1_0`, as Paddle's optimizers have it. A 16-bit parameter's state is that of
    /// its master there: `<param>_fp32_master_0_moment1_0`.
    Paddle,
}

const NEUTRAL_PREFIX: &str = "state.";
const NEUTRAL: [(Item, &str); 11] = [
    (Item::Tensor(Role::Master), ".master"),
    (Item::Tensor(Role::Remainder), ".remainder"),
    (Item::Tensor(Role::ExpAvg), ".exp_avg"),
    (Item::Tensor(Role::ExpAvgSq), ".exp_avg_sq"),
    (Item::Tensor(Role::MaxExpAvgSq), ".max_exp_avg_sq"),
    (Item::Tensor(Role::ExpAvgScale), ".exp_avg_scale"),
    (Item::Tensor(Role::ExpAvgSqScale), ".exp_avg_sq_scale"),
    (Item::Tensor(Role::MaxExpAvgSqScale), ".max_exp_avg_sq_scale"),
    (Item::Step, ".step"),
    (Item::Beta1Power, ".beta1_power"),
    (Item::Beta2Power, ".beta2_power"),
];

const MASTER: &str = "_fp32_master_0";

const PADDLE: [(Item, &str); 6] = [
    (Item::Tensor(Role::Master), MASTER),
    (Item::Tensor(Role::ExpAvg), "_moment1_0"),
    (Item::Tensor(Role::ExpAvgSq), "_moment2_0"),
    (Item::Tensor(Role::MaxExpAvgSq), "_moment2_max_0"),
    (Item::Beta1Power, "_beta1_pow_acc_0"),
    (Item::Beta2Power, "_beta2_pow_acc_0"),
];

fn suffix(table: &'static [(Item, &str)], item: Item) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == item).map(|(_, suffix)| *suffix)
}

/// What a tensor of a parameter is called in a checkpoint, in three parts.
pub fn tensor_name(param: &str, role: Role) -> [&str; 3] {
    match role {
        Role::Param => ["param.", param, ""],
        _ => neutral_name(param, Item::Tensor(role)),
    }
}

/// The neutral name of a part of a parameter's state, in three parts.
pub fn neutral_name(param: &str, item: Item) -> [&str; 3] {
    [NEUTRAL_PREFIX, param, suffix(&NEUTRAL, item).unwrap_or_default()]
}

/// The parameter and the part of its state that have this neutral name.
pub fn neutral_reading(name: &str) -> Option<(&str, Item)> {
    let name = name.strip_prefix(NEUTRAL_PREFIX)?;
    NEUTRAL.iter().find_map(|&(item, suffix)| Some((name.strip_suffix(suffix)?, item)))
}

/// Writes a name; `None` if the scheme has none for it.
pub fn write(
    to: &mut impl Write,
    scheme: Scheme,
    param: &str,
    has_master: bool,
    item: Item,
) -> Option<fmt::Result> {
    Some(match scheme {
        Scheme::Neutral => write!(to, "state.{param}{}", suffix(&NEUTRAL, item)?),
        Scheme::Paddle => {
            let is_masters = has_master && item != Item::Tensor(Role::Master);
            let master = if is_masters { MASTER } else { "" };
            write!(to, "{param}{master}{}", suffix(&PADDLE, item)?)
        }
    })
}

/// What a name may be: the parameter's name and the item, in every way that it can be read.
pub fn readings(name: &str) -> impl Iterator<Item = (Scheme, &str, Item)> {
    let neutral = NEUTRAL.iter().filter_map(move |&(item, suffix)| {
        Some((Scheme::Neutral, name.strip_prefix("state.")?.strip_suffix(suffix)?, item))
    });
    let paddle = PADDLE.iter().filter_map(move |&(item, suffix)| {
        Some((Scheme::Paddle, name.strip_suffix(suffix)?, item))
    });
    let of_master = PADDLE.iter().filter_map(move |&(item, suffix)| {
        let param = name.strip_suffix(suffix)?.strip_suffix(MASTER)?;
        Some((Scheme::Paddle, param, item))
    });
    neutral.chain(paddle).chain(of_master)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_can_be_read_again() {
        for (scheme, table) in [(Scheme::Neutral, &NEUTRAL[..]), (Scheme::Paddle, &PADDLE[..])] {
            for &(item, _) in table {
                for param in ["w", "layer.0.weight", "state.x.exp_avg", "a_moment1_0", "ä"] {
                    for has_master in [false, true] {
                        let mut name = String::new();
                        write(&mut name, scheme, param, has_master, item).unwrap().unwrap();
                        let found = readings(&name).any(|reading| reading == (scheme, param, item));
                        assert!(found, "{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn names_are_those_that_others_know() {
        let cases = [
            (Scheme::Neutral, false, Item::Tensor(Role::ExpAvg), "state.w.exp_avg"),
            (Scheme::Neutral, true, Item::Step, "state.w.step"),
            (Scheme::Paddle, false, Item::Tensor(Role::ExpAvgSq), "w_moment2_0"),
            (Scheme::Paddle, true, Item::Tensor(Role::ExpAvg), "w_fp32_master_0_moment1_0"),
            (Scheme::Paddle, true, Item::Tensor(Role::Master), "w_fp32_master_0"),
            (Scheme::Paddle, false, Item::Beta2Power, "w_beta2_pow_acc_0"),
        ];
        for (scheme, has_master, item, expected) in cases {
            let mut name = String::new();
            write(&mut name, scheme, "w", has_master, item).unwrap().unwrap();
            assert_eq!(name, expected);
        }
        assert!(write(&mut String::new(), Scheme::Paddle, "w", false, Item::Step).is_none());
    }
}
