//! Gradient clipping: what a gradient is multiplied by, decided from its norm.
//!
//! Gradients are never rewritten: the factor is folded into the update.
#![forbid(unsafe_code)]

/// How the gradients of a group are clipped.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Clip {
    None,
    /// Each element to these limits.
    Value {
        min: f64,
        max: f64,
    },
    /// Each tensor to this norm.
    Norm(f64),
    /// All tensors of the scope together to this norm.
    GlobalNorm(f64),
}

/// Which gradients make up a global norm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Those of all groups that clip by global norm.
    Handle,
    /// Those of one group.
    Group,
}

impl Clip {
    pub fn needs_norms(self) -> bool {
        matches!(self, Clip::Norm(_) | Clip::GlobalNorm(_))
    }

    /// What each element is clamped to, if to anything.
    pub fn limits(self) -> Option<(f64, f64)> {
        match self {
            Clip::Value { min, max } => Some((min, max)),
            _ => None,
        }
    }

    /// What brings a norm down to the largest allowed, c: c / max(norm, c), and NaN from a NaN.
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
