//! The names of the parts of a parameter's state, as other programs know them.
//!
//! `ROWS` has a row for each `Item`: its constant in the header, its suffix in neutral names, and
//! its suffix in Paddle's names. `write` makes a name from a parameter's name and an item, in
//! either scheme. `readings` goes the other way: it returns every parameter and item that a name
//! may mean, because a parameter's name may itself end like a suffix. The caller takes the first
//! that is there.
//!
//! Checkpoints have neutral names only: `tensor_name`, `neutral_name` and `neutral_reading`.
#![forbid(unsafe_code)]

use crate::choice::choice;
use crate::error::Error;
use crate::role::Role;
use core::fmt::{self, Write};

/// One part of a parameter's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    Tensor(Role),
    /// A counter of one f64, as the two below.
    Step,
    Beta1Power,
    Beta2Power,
}

impl Item {
    pub fn name(self) -> &'static str {
        match self {
            Item::Tensor(role) => role.name(),
            Item::Step => "step",
            Item::Beta1Power => "beta1_power",
            Item::Beta2Power => "beta2_power",
        }
    }
}

choice! {
    /// A way to name state.
    pub enum Scheme: "an ADAMW_NAMES constant, 0 or 1" {
        /// `state.<param>.exp_avg`, as PyTorch's distributed checkpoints have it.
        Neutral = 0;
        /// `<param>_moment1_0`, as Paddle's optimizers have it. The state of a 16-bit parameter is
        /// that of its master there: `<param>_fp32_master_0_moment1_0`.
        Paddle = 1;
    }
}

/// The number and the names of an item.
struct Row {
    item: Item,
    /// The `ADAMW_BUFFER` constant.
    number: u32,
    /// The suffix in neutral names.
    neutral: &'static str,
    /// The suffix in Paddle's names, if Paddle has the item.
    paddle: Option<&'static str>,
}

const PREFIX: &str = "state.";
const PADDLE_MASTER: &str = "_fp32_master_0";

const ROWS: [Row; 11] = [
    row(Item::Tensor(Role::Master), 2, ".master", Some(PADDLE_MASTER)),
    row(Item::Tensor(Role::Remainder), 9, ".remainder", None),
    row(Item::Tensor(Role::ExpAvg), 3, ".exp_avg", Some("_moment1_0")),
    row(Item::Tensor(Role::ExpAvgSq), 4, ".exp_avg_sq", Some("_moment2_0")),
    row(Item::Tensor(Role::MaxExpAvgSq), 5, ".max_exp_avg_sq", Some("_moment2_max_0")),
    row(Item::Tensor(Role::ExpAvgScale), 10, ".exp_avg_scale", None),
    row(Item::Tensor(Role::ExpAvgSqScale), 11, ".exp_avg_sq_scale", None),
    row(Item::Tensor(Role::MaxExpAvgSqScale), 12, ".max_exp_avg_sq_scale", None),
    row(Item::Step, 6, ".step", None),
    row(Item::Beta1Power, 7, ".beta1_power", Some("_beta1_pow_acc_0")),
    row(Item::Beta2Power, 8, ".beta2_power", Some("_beta2_pow_acc_0")),
];

const fn row(item: Item, number: u32, neutral: &'static str, paddle: Option<&'static str>) -> Row {
    Row { item, number, neutral, paddle }
}

impl Item {
    /// Returns the item of an `ADAMW_BUFFER` constant.
    pub fn of(name: &'static str, value: u32) -> Result<Item, Error> {
        let found = ROWS.iter().find(|row| row.number == value);
        let expected = "an ADAMW_BUFFER constant, 2 to 12";
        found.map(|row| row.item).ok_or(Error::Constant { name, value, expected })
    }

    /// Returns the number of its `ADAMW_BUFFER` constant; 0 for a tensor that is no state.
    pub fn number(self) -> u32 {
        self.row().map_or(0, |row| row.number)
    }

    fn row(self) -> Option<&'static Row> {
        ROWS.iter().find(|row| row.item == self)
    }
}

/// Returns the name of a parameter's tensor in a checkpoint, in three parts.
pub fn tensor_name(param: &str, role: Role) -> [&str; 3] {
    match role {
        Role::Param => ["param.", param, ""],
        _ => neutral_name(param, Item::Tensor(role)),
    }
}

/// Returns the neutral name of a part of a parameter's state, in three parts.
pub fn neutral_name(param: &str, item: Item) -> [&str; 3] {
    [PREFIX, param, item.row().map_or("", |row| row.neutral)]
}

/// Returns the parameter and the part of its state that have this neutral name.
pub fn neutral_reading(name: &str) -> Option<(&str, Item)> {
    let name = name.strip_prefix(PREFIX)?;
    ROWS.iter().find_map(|row| Some((name.strip_suffix(row.neutral)?, row.item)))
}

/// Writes the name of an item, or returns `None` if the scheme has none for it.
pub fn write(
    to: &mut impl Write,
    scheme: Scheme,
    param: &str,
    has_master: bool,
    item: Item,
) -> Option<fmt::Result> {
    let row = item.row()?;
    Some(match scheme {
        Scheme::Neutral => write!(to, "{PREFIX}{param}{}", row.neutral),
        Scheme::Paddle => {
            let is_masters = has_master && item != Item::Tensor(Role::Master);
            let master = if is_masters { PADDLE_MASTER } else { "" };
            write!(to, "{param}{master}{}", row.paddle?)
        }
    })
}

/// Returns every parameter and item that a name may mean, with the scheme.
pub fn readings(name: &str) -> impl Iterator<Item = (Scheme, &str, Item)> {
    let neutral = ROWS.iter().filter_map(move |row| {
        Some((Scheme::Neutral, name.strip_prefix(PREFIX)?.strip_suffix(row.neutral)?, row.item))
    });
    let paddle = ROWS
        .iter()
        .filter_map(move |row| Some((Scheme::Paddle, name.strip_suffix(row.paddle?)?, row.item)));
    let of_master = ROWS.iter().filter_map(move |row| {
        let param = name.strip_suffix(row.paddle?)?.strip_suffix(PADDLE_MASTER)?;
        Some((Scheme::Paddle, param, row.item))
    });
    neutral.chain(paddle).chain(of_master)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_can_be_read_again() {
        for scheme in [Scheme::Neutral, Scheme::Paddle] {
            for Row { item, paddle, .. } in ROWS {
                if scheme == Scheme::Paddle && paddle.is_none() {
                    continue;
                }
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
