//! Gradient clipping: the factor by which a gradient is multiplied, decided from its norm.
//!
//! Gradients are never rewritten: the factor is folded into the update.
#![forbid(unsafe_code)]

use crate::choice::choice;

/// The way in which the gradients of a group are clipped.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Clip {
    None,
    /// Each element is clamped to these limits.
    Value {
        min: f64,
        max: f64,
    },
    /// Each tensor is scaled down to this norm.
    Norm(f64),
    /// All tensors of the scope together are scaled down to this norm.
    GlobalNorm(f64),
}

choice! {
    /// A way to clip, without its limits.
    pub enum ClipKind: "an ADAMW_CLIP constant, 0 to 3" {
        None = 0, "None";
        Norm = 1, "Norm";
        GlobalNorm = 2, "GlobalNorm";
        Value = 3, "Value";
    }
}

choice! {
    /// The gradients that make up a global norm.
    pub enum NormScope: "an ADAMW_CLIP_SCOPE constant, 0 or 1" {
        /// The gradients of all groups that clip by global norm.
        Handle = 0, "Handle";
        /// The gradients of one group.
        Group = 1, "Group";
    }
}

/// The numbers of a clip; those that it does not use are 0.
pub struct ClipNumbers {
    pub norm: f64,
    pub min: f64,
    pub max: f64,
}

impl Clip {
    pub fn numbers(self) -> ClipNumbers {
        let (norm, min, max) = match self {
            Clip::None => (0.0, 0.0, 0.0),
            Clip::Norm(norm) | Clip::GlobalNorm(norm) => (norm, 0.0, 0.0),
            Clip::Value { min, max } => (0.0, min, max),
        };
        ClipNumbers { norm, min, max }
    }

    pub fn kind(self) -> ClipKind {
        match self {
            Clip::None => ClipKind::None,
            Clip::Norm(_) => ClipKind::Norm,
            Clip::GlobalNorm(_) => ClipKind::GlobalNorm,
            Clip::Value { .. } => ClipKind::Value,
        }
    }

    pub fn needs_norms(self) -> bool {
        matches!(self, Clip::Norm(_) | Clip::GlobalNorm(_))
    }

    /// Returns the limits to which each element is clamped, if there are any.
    pub fn limits(self) -> Option<(f64, f64)> {
        match self {
            Clip::Value { min, max } => Some((min, max)),
            _ => None,
        }
    }

    /// Returns the factor that brings a norm down to the largest allowed norm c: c / max(norm, c),
    /// or NaN if the norm is NaN.
    pub fn factor(self, norm: f64) -> f64 {
        match self {
            Clip::Norm(largest) | Clip::GlobalNorm(largest) if norm > largest => largest / norm,
            Clip::Norm(_) | Clip::GlobalNorm(_) if norm.is_nan() => norm,
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_larger_norm_is_brought_down() {
        for clip in [Clip::Norm(1.0), Clip::GlobalNorm(1.0)] {
            let cases = [(0.0, 1.0), (1.0, 1.0), (4.0, 0.25), (f64::INFINITY, 0.0)];
            for (norm, factor) in cases {
                assert_eq!(clip.factor(norm), factor, "{clip:?} of {norm}");
            }
            assert!(clip.factor(f64::NAN).is_nan());
        }
    }
}
