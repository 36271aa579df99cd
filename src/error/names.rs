//! Lists of names in errors, which own no memory.
#![forbid(unsafe_code)]

use core::fmt::{self, Write};

/// The names that there is room for, and the number of further ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Names {
    bytes: [u8; Self::CAPACITY],
    used: u8,
    more: u32,
}

impl Names {
    const CAPACITY: usize = 116;

    pub const NONE: Names = Names { bytes: [0; Self::CAPACITY], used: 0, more: 0 };

    /// Adds a name, or counts it if it does not fit whole. The first name is cut rather than
    /// counted, and an empty name is shown in quotes.
    pub fn add(&mut self, name: impl fmt::Display) {
        let before = self.used;
        let separator = if before == 0 { "" } else { ", " };
        let start = before + separator.len() as u8;
        let fits = self.more == 0
            && write!(self, "{separator}{name}").is_ok()
            && (self.used > start || self.write_str("\"\"").is_ok());
        if !fits && before > 0 {
            self.used = before;
            self.more = self.more.saturating_add(1);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }
}

impl Write for Names {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let used = self.used as usize;
        let fits = text.floor_char_boundary(Self::CAPACITY - used);
        self.bytes[used..used + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.used += fits as u8;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // `write_str` copies whole characters.
        f.write_str(core::str::from_utf8(&self.bytes[..self.used as usize]).unwrap_or_default())?;
        if self.more > 0 { write!(f, " and {} more", self.more) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_the_first_is_cut() {
        let mut names = Names::NONE;
        (0..20).for_each(|i| names.add(format_args!("layer.{i}.weight")));
        let expected = "layer.0.weight, layer.1.weight, layer.2.weight, layer.3.weight, \
                        layer.4.weight, layer.5.weight, layer.6.weight";
        assert_eq!(names.to_string(), format!("{expected} and 13 more"));
        let mut long = Names::NONE;
        long.add("ä".repeat(60));
        long.add("b");
        assert_eq!(long.to_string(), format!("{} and 1 more", "ä".repeat(58)));
    }

    #[test]
    fn a_name_of_no_letters_is_one() {
        let mut names = Names::NONE;
        assert!(names.is_empty());
        names.add("");
        assert!(!names.is_empty());
        names.add("b");
        assert_eq!(names.to_string(), "\"\", b");
    }
}
