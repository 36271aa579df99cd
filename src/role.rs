//! The roles of the buffers of a parameter.
#![forbid(unsafe_code)]

use core::fmt;

/// The role of a buffer: which of a parameter's buffers it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    Param,
    Grad,
    /// The row numbers of a sparse gradient.
    Rows,
    Master,
    /// The rounding error of a parameter.
    Remainder,
    ExpAvg,
    ExpAvgSq,
    MaxExpAvgSq,
    /// The scales of a coded moment, as are the two below.
    ExpAvgScale,
    ExpAvgSqScale,
    MaxExpAvgSqScale,
}

impl Role {
    /// How many there are.
    pub const COUNT: usize = Role::MaxExpAvgSqScale as usize + 1;

    /// The roles of state, which a parameter may keep between steps.
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

    /// The roles of moments.
    pub const MOMENTS: [Role; 3] = [Role::ExpAvg, Role::ExpAvgSq, Role::MaxExpAvgSq];

    /// The roles of the scales of coded moments, in the order of `MOMENTS`.
    pub const SCALES: [Role; 3] = [Role::ExpAvgScale, Role::ExpAvgSqScale, Role::MaxExpAvgSqScale];

    /// Returns whether the buffer holds a moment.
    pub fn is_moment(self) -> bool {
        Role::MOMENTS.contains(&self)
    }

    /// Returns whether the buffer holds the scales of a moment.
    pub fn is_scale(self) -> bool {
        Role::SCALES.contains(&self)
    }

    /// Returns the moment that the scales are of; a moment itself.
    pub fn moment(self) -> Role {
        let of_scale = Role::SCALES.iter().position(|&scale| scale == self);
        of_scale.map_or(self, |i| Role::MOMENTS[i])
    }

    /// Returns whether the buffer holds means of squares, of which a step takes roots, or their
    /// scales.
    pub fn is_of_squares(self) -> bool {
        use Role::{ExpAvgSq, ExpAvgSqScale, MaxExpAvgSq, MaxExpAvgSqScale};
        matches!(self, ExpAvgSq | ExpAvgSqScale | MaxExpAvgSq | MaxExpAvgSqScale)
    }

    /// Returns the role of which a maximum is the maximum.
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
