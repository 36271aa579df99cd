//! What the state of a parameter is made of: which buffers there are, of what type and length.
#![forbid(unsafe_code)]

use crate::choice::choice;
use crate::codes::{self, nibbles};
use crate::dtype::Dtype;
use crate::error::{Error, Label, Role};

choice! {
    /// What keeps the precision of 16-bit parameters.
    pub enum Precision: "an ADAMW_PRECISION constant, 0 to 3" {
        /// An f32 master with multi_precision, otherwise nothing.
        Plain = 0, "Plain";
        /// A master split into the parameter and a remainder.
        Split = 1, "Split";
        /// No master: rounding is random.
        Stochastic = 2, "Stochastic";
        /// A remainder in the parameter's type: what rounding left over.
        Kahan = 3, "Kahan";
    }
}

choice! {
    /// What the moments of f32, f16 and bf16 parameters are kept in.
    pub enum MomentFormat: "an ADAMW_MOMENTS constant, 0 to 3" {
        /// f32.
        Full = 0, "Full";
        Bf16 = 1, "Bf16";
        /// 8-bit codes with a scale for each block.
        Bytes = 2, "Bytes";
        /// 4-bit codes with a scale for each block, two in a byte.
        Nibbles = 3, "Nibbles";
    }
}

impl MomentFormat {
    /// How many elements share a scale, if there are scales.
    pub fn block(self) -> Option<u64> {
        match self {
            MomentFormat::Full | MomentFormat::Bf16 => None,
            MomentFormat::Bytes => Some(codes::BLOCK as u64),
            MomentFormat::Nibbles => Some(nibbles::BLOCK as u64),
        }
    }
}

/// How a parameter is kept between steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// Itself; a 16-bit parameter rounded to nearest.
    Itself,
    /// An f32 master beside it.
    Master,
    /// A bf16 parameter and a remainder, which together are the master.
    Split,
    /// A 16-bit parameter and what rounding it left over, in its own type.
    Kahan,
    /// A bf16 parameter, rounded up or down at random.
    Stochastic,
}

/// The state of one parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    param: Dtype,
    kept: Kept,
    moments: MomentFormat,
    amsgrad: bool,
}

impl Format {
    /// The format of a parameter of this type, with these options, where the tensor that it is or is a part of
    /// has so many elements.
    pub fn new(
        name: Label,
        (param, whole): (Dtype, u64),
        (precision, moments): (Precision, MomentFormat),
        multi_precision: bool,
        amsgrad: bool,
    ) -> Result<Format, Error> {
        let kept = match (param, precision) {
            (Dtype::F16, Precision::Split) => return Err(Error::NoSplit(name)),
            (Dtype::F16, Precision::Stochastic) => return Err(Error::NoStochastic(name)),
            (Dtype::Bf16, Precision::Split) => Kept::Split,
            (Dtype::Bf16, Precision::Stochastic) => Kept::Stochastic,
            (Dtype::F16 | Dtype::Bf16, Precision::Kahan) => Kept::Kahan,
            (Dtype::F16 | Dtype::Bf16, _) if multi_precision => Kept::Master,
            _ => Kept::Itself,
        };
        let moments = match moments {
            _ if param == Dtype::F64 => MomentFormat::Full,
            MomentFormat::Nibbles if amsgrad => return Err(Error::NoNibbles(name)),
            coded if coded.block().is_some() && whole < codes::MIN_ELEMENTS => MomentFormat::Full,
            moments => moments,
        };
        Ok(Format { param, kept, moments, amsgrad })
    }

    /// That of a parameter without options.
    pub fn plain(param: Dtype) -> Format {
        Format { param, kept: Kept::Itself, moments: MomentFormat::Full, amsgrad: false }
    }

    pub fn kept(&self) -> Kept {
        self.kept
    }

    pub fn moments(&self) -> MomentFormat {
        self.moments
    }

    pub fn amsgrad(&self) -> bool {
        self.amsgrad
    }

    /// What moments are made of.
    pub fn moment(&self) -> Dtype {
        match self.moments {
            MomentFormat::Full => self.param.compute(),
            MomentFormat::Bf16 => Dtype::Bf16,
            MomentFormat::Bytes | MomentFormat::Nibbles => Dtype::U8,
        }
    }

    /// Whether a step takes random bits.
    pub fn is_random(&self) -> bool {
        self.kept == Kept::Stochastic || self.moments != MomentFormat::Full
    }

    /// What the buffer in a role of state is made of, or why there is none.
    pub fn buffer(&self, role: Role) -> Result<Dtype, &'static str> {
        let has_scales = self.moments.block().is_some();
        let is_16_bit = matches!(self.param, Dtype::F16 | Dtype::Bf16);
        match (role, self.kept) {
            (Role::Master, Kept::Master) => Ok(Dtype::F32),
            (Role::Master, _) if !is_16_bit => Err("only f16 and bf16 parameters have one"),
            (Role::Master, Kept::Split) => Err("its master is split"),
            (Role::Master, Kept::Kahan) => Err("its group has ADAMW_PRECISION_KAHAN"),
            (Role::Master, Kept::Stochastic) => Err("its group has ADAMW_PRECISION_STOCHASTIC"),
            (Role::Master, _) => Err("the handle is not multi_precision"),
            (Role::Remainder, Kept::Split) => Ok(Dtype::I16),
            (Role::Remainder, Kept::Kahan) => Ok(self.param),
            (Role::Remainder, _) => {
                Err("only 16-bit parameters of a group with ADAMW_PRECISION_SPLIT or \
                 ADAMW_PRECISION_KAHAN have one")
            }
            (Role::MaxExpAvgSq | Role::MaxExpAvgSqScale, _) if !self.amsgrad => {
                Err("the handle is not amsgrad")
            }
            (Role::ExpAvg | Role::ExpAvgSq | Role::MaxExpAvgSq, _) => Ok(self.moment()),
            (Role::ExpAvgScale | Role::ExpAvgSqScale | Role::MaxExpAvgSqScale, _) if has_scales => {
                Ok(Dtype::F32)
            }
            (Role::ExpAvgScale | Role::ExpAvgSqScale | Role::MaxExpAvgSqScale, _) => {
                Err("only 8-bit and 4-bit moments have one")
            }
            (Role::Param | Role::Grad | Role::Rows, _) => Err("it is no state"),
        }
    }

    /// How many elements the buffer in a role has, of a parameter of so many.
    pub fn n_elements(&self, role: Role, n_elements: u64) -> u64 {
        let n_blocks = self.moments.block().map_or(0, |block| n_elements.div_ceil(block));
        match (role, self.moments) {
            (Role::ExpAvgScale | Role::ExpAvgSqScale | Role::MaxExpAvgSqScale, _) => n_blocks,
            (Role::ExpAvg | Role::ExpAvgSq | Role::MaxExpAvgSq, MomentFormat::Nibbles) => {
                n_blocks * nibbles::BYTES as u64
            }
            _ => n_elements,
        }
    }
}
