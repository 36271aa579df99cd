//! The problems of a load, gathered until all checkpoints have been looked through.
#![forbid(unsafe_code)]

use crate::checkpoint::words;
use crate::error::{Difference, Error, Names};
use core::fmt::Display;

/// The names of what does not fit, by kind of problem.
pub struct Problems([Names; Difference::ALL.len()]);

impl Problems {
    pub fn none() -> Problems {
        Problems([Names::NONE; Difference::ALL.len()])
    }

    pub fn add(&mut self, what: Difference, name: impl Display) {
        self.0[what as usize].add(name);
    }

    /// Adds the words that differ, with both values.
    pub fn differ(&mut self, what: Difference, of: impl Display, ours: &str, theirs: &str) {
        self.differ_unless(what, of, ours, theirs, |_| false)
    }

    /// As `differ`, but for words that pass.
    pub fn differ_unless(
        &mut self,
        what: Difference,
        of: impl Display,
        ours: &str,
        theirs: &str,
        passes: impl Fn(&words::Word) -> bool,
    ) {
        if ours.is_empty() != theirs.is_empty() {
            let lacks = if ours.is_empty() { "handle" } else { "checkpoint" };
            return self.add(what, format_args!("{of} (the {lacks} has none)"));
        }
        for word in words::differences(ours, theirs).filter(|word| !passes(word)) {
            self.add_word(what, &of, word);
        }
    }

    /// Adds a word with both values.
    pub fn add_word(&mut self, what: Difference, of: impl Display, word: words::Word) {
        let (name, ours, theirs) = word;
        let (ours, theirs) = (ours.unwrap_or("unset"), theirs.unwrap_or("unset"));
        self.add(what, format_args!("{of}.{name} is {ours} (saved: {theirs})"));
    }

    pub fn has(&self, what: Difference) -> bool {
        !self.0[what as usize].is_empty()
    }

    /// Returns an error for the first kind of problem that there is.
    pub fn result(&self) -> Result<(), Error> {
        match Difference::ALL.into_iter().find(|&what| self.has(what)) {
            Some(what) => Err(Error::Mismatch { what, names: self.0[what as usize] }),
            None => Ok(()),
        }
    }
}
