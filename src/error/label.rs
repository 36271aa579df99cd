//! Names in errors, which own no memory.
#![forbid(unsafe_code)]

use core::fmt;

/// A name or text in an error: a copy of its first bytes, with an ellipsis where it was cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label {
    bytes: [u8; Self::CAPACITY],
    used: u8,
    cut: bool,
}

impl Label {
    const CAPACITY: usize = 46;

    pub fn new(text: &[u8]) -> Label {
        let used = text.len().min(Self::CAPACITY);
        let mut bytes = [0; Self::CAPACITY];
        bytes[..used].copy_from_slice(&text[..used]);
        Label { bytes, used: used as u8, cut: used < text.len() }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for chunk in self.bytes[..self.used as usize].utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() && !self.cut {
                f.write_str("\u{fffd}")?;
            }
        }
        f.write_str(if self.cut { "..." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_at_a_character_and_says_so() {
        let label = Label::new("ä".repeat(40).as_bytes());
        assert_eq!(label.to_string(), format!("{}...", "ä".repeat(23)));
        let odd = Label::new(format!("x{}", "ä".repeat(40)).as_bytes());
        assert_eq!(odd.to_string(), format!("x{}...", "ä".repeat(22)));
        assert_eq!(Label::new(b"a\xffb").to_string(), "a\u{fffd}b");
    }
}
