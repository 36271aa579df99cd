//! Numbers in errors.
#![forbid(unsafe_code)]

use core::fmt;

/// A number as a user would write it: a whole number has no point.
pub struct Plain<'a>(pub &'a f64);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let value = self.0;
        let whole = value.fract() == 0.0 && value.abs() < 1e16;
        if whole { write!(f, "{value:.0}") } else { write!(f, "{value:?}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_has_no_point() {
        for (value, text) in [
            (5.0, "5"),
            (118522592.0, "118522592"),
            (-1.0, "-1"),
            (0.0, "0"),
            (-0.0, "-0"),
            (0.5, "0.5"),
            (1e-5, "1e-5"),
            (1e16, "1e16"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(Plain(&value).to_string(), text);
        }
    }
}
