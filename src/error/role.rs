//! What a buffer is to its parameter.
#![forbid(unsafe_code)]

use core::fmt;

/// What a buffer is to its parameter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    Param,
    Grad,
    /// The numbers of the rows that a sparse gradient has.
    Rows,
    Master,
    /// What rounding a parameter left over.
    Remainder,
    ExpAvg,
    ExpAvgSq,
    MaxExpAvgSq,
    /// The scales of codes.
    ExpAvgScale,
    ExpAvgSqScale,
    MaxExpAvgSqScale,
}

impl Role {
    /// What a parameter may keep between steps.
    pub const STATE: [Role; 8] = [
        Role::Master,
        Role::Remainder,
        Role::ExpAvg,
        Role::ExpAvgSq,
        Role::MaxExpAvgSq,
        Role::ExpAvgScale,
        Role::ExpAvgSqScale,
        Role::MaxExpAvgSqScale,
    ];

    /// The moments, and what belongs to them.
    pub const MOMENTS: [Role; 6] = [
        Role::ExpAvg,
        Role::ExpAvgSq,
        Role::MaxExpAvgSq,
        Role::ExpAvgScale,
        Role::ExpAvgSqScale,
        Role::MaxExpAvgSqScale,
    ];

    /// Whether it holds means of squares, which a step takes roots of, or their scales.
    pub fn is_of_squares(self) -> bool {
        use Role::{ExpAvgSq, ExpAvgSqScale, MaxExpAvgSq, MaxExpAvgSqScale};
        matches!(self, ExpAvgSq | ExpAvgSqScale | MaxExpAvgSq | MaxExpAvgSqScale)
    }

    /// What a maximum is the maximum of.
    pub fn maximum_of(self) -> Option<Role> {
        match self {
            Role::MaxExpAvgSq => Some(Role::ExpAvgSq),
            Role::MaxExpAvgSqScale => Some(Role::ExpAvgSqScale),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Role::Param => "param",
            Role::Grad => "grad",
            Role::Rows => "rows",
            Role::Master => "master",
            Role::Remainder => "remainder",
            Role::ExpAvg => "exp_avg",
            Role::ExpAvgSq => "exp_avg_sq",
            Role::MaxExpAvgSq => "max_exp_avg_sq",
            Role::ExpAvgScale => "exp_avg_scale",
            Role::ExpAvgSqScale => "exp_avg_sq_scale",
            Role::MaxExpAvgSqScale => "max_exp_avg_sq_scale",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}
