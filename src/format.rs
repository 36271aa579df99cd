//! The state of a parameter: its buffers, their element types and their lengths.
//!
//! `Format::new` decides once, when a parameter is added. It makes a `Kept`, the form in which the
//! parameter is kept between steps, of the group's `Precision` and of `multi_precision`; f32 and
//! f64 parameters need nothing but themselves. It makes the format of the moments of the group's
//! `MomentFormat`; f64 parameters and small tensors always have full moments.
//!
//! `buffer` then returns for each role the element type of its buffer, or the reason why there is
//! none, and `n_elements` its length. `tensor/operands.rs` checks the host's buffers by these
//! answers, and `optimizer/params/new_state.rs` makes the library's own.
#![forbid(unsafe_code)]

use crate::choice::choice;
use crate::codes::{self, nibbles};
use crate::dtype::Dtype;
use crate::error::{Error, Label};
use crate::role::Role;

choice! {
    /// The means by which 16-bit parameters keep their precision.
    pub enum Precision: "an ADAMW_PRECISION constant, 0 to 3" {
        /// An f32 master with multi_precision, otherwise nothing.
        Plain = 0, "Plain";
        /// A master split into the parameter and a remainder.
        Split = 1, "Split";
        /// No master: rounding is random.
        Stochastic = 2, "Stochastic";
        /// A remainder in the parameter's type, which is the rounding error.
        Kahan = 3, "Kahan";
    }
}

choice! {
    /// The format of the moments of f32, f16 and bf16 parameters.
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
    /// Returns the number of elements that share a scale, if there are scales.
    pub fn block(self) -> Option<u64> {
        match self {
            MomentFormat::Full | MomentFormat::Bf16 => None,
            MomentFormat::Bytes => Some(codes::BLOCK as u64),
            MomentFormat::Nibbles => Some(nibbles::BLOCK as u64),
        }
    }
}

/// The form in which a parameter is kept between steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// The parameter alone; a 16-bit one is rounded to nearest.
    Itself,
    /// The parameter and an f32 master.
    Master,
    /// A bf16 parameter and a remainder, which together are the master.
    Split,
    /// A 16-bit parameter and its rounding error, in its own type.
    Kahan,
    /// A bf16 parameter, rounded up or down at random.
    Stochastic,
}

/// The format of the state of one parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    param: Dtype,
    kept: Kept,
    moments: MomentFormat,
    amsgrad: bool,
}

impl Format {
    /// Returns the format of a parameter of type `param` with these options. `whole` is the number
    /// of elements of the tensor that the parameter is, or is a shard of.
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

    /// Returns the format of a parameter without options.
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

    /// Returns the element type of the moments.
    pub fn moment(&self) -> Dtype {
        match self.moments {
            MomentFormat::Full => self.param.compute(),
            MomentFormat::Bf16 => Dtype::Bf16,
            MomentFormat::Bytes | MomentFormat::Nibbles => Dtype::U8,
        }
    }

    /// Returns whether a step takes random bits.
    pub fn is_random(&self) -> bool {
        self.kept == Kept::Stochastic || self.moments != MomentFormat::Full
    }

    /// Returns the roles in which there is a buffer of state, in the order of `Role::STATE`.
    pub fn roles(&self) -> impl Iterator<Item = Role> + use<> {
        let (amsgrad, has_scales) = (self.amsgrad, self.moments.block().is_some());
        let is_there = [
            self.kept == Kept::Master,
            matches!(self.kept, Kept::Split | Kept::Kahan),
            true,
            true,
            amsgrad,
            has_scales,
            has_scales,
            has_scales && amsgrad,
        ];
        let roles = Role::STATE.into_iter().zip(is_there);
        roles.filter(|(_, is_there)| *is_there).map(|(role, _)| role)
    }

    /// Returns the element type of the buffer in a role of state, or the reason why there is none.
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
                Err("it was added without amsgrad")
            }
            _ if role.is_moment() => Ok(self.moment()),
            _ if role.is_scale() && has_scales => Ok(Dtype::F32),
            _ if role.is_scale() => Err("only 8-bit and 4-bit moments have one"),
            _ => Err("it is no state"),
        }
    }

    /// Returns the length of the buffer in a role, for a parameter of `n_elements`.
    pub fn n_elements(&self, role: Role, n_elements: u64) -> u64 {
        let n_blocks = self.moments.block().map_or(0, |block| n_elements.div_ceil(block));
        match self.moments {
            _ if role.is_scale() => n_blocks,
            MomentFormat::Nibbles if role.is_moment() => n_blocks * nibbles::BYTES as u64,
            _ => n_elements,
        }
    }
}
