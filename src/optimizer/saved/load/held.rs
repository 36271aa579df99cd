//! What a checkpoint says of a parameter: under names of its own, or packed with others.
#![forbid(unsafe_code)]

use super::pieces::Part;
use crate::checkpoint::{Checkpoint, Entry, Listed, Packed, Window, words};
use crate::error::{Error, FileProblem, Label};
use crate::optimizer::Item;
use crate::optimizer::params::names::{neutral_name, neutral_reading, tensor_name};
use crate::role::Role;
use crate::steps::Clock;

/// What a checkpoint says of a parameter.
pub struct Held<'a> {
    file: &'a Checkpoint<'a>,
    pub name: &'a str,
    /// Its place in a checkpoint in which state is packed.
    listed: Option<(&'a Packed, Listed)>,
    /// The elements that the checkpoint has.
    pub part: Part,
    /// The number of elements of the whole, or 0.
    pub whole: u64,
    /// All that the checkpoint says.
    pub words: &'a str,
}

impl<'a> Held<'a> {
    /// Returns what there is of the parameter of this name, and notes that it was looked for. In a
    /// checkpoint in which state is packed it is looked for at `next` first.
    pub fn of(
        file: &'a Checkpoint,
        name: &'a str,
        next: &mut usize,
        seen: &mut [bool],
    ) -> Option<Held<'a>> {
        if let Some(packed) = file.packed() {
            let listed = packed.find(name, *next)?;
            *next = listed.number + 1;
            seen[listed.number] = true;
            let part = Part { first: listed.first_element, n_elements: listed.n_elements };
            let (whole, words) = (listed.whole, packed.words(&listed));
            return Some(Held { file, name, listed: Some((packed, listed)), part, whole, words });
        }
        if let Some(step) = counter(file, name, Item::Step) {
            seen[step.number as usize] = true;
        }
        let words = file.header().text(&["param_groups.", name])?;
        let n_elements = words::number(words, "n_elements")?;
        let first = words::number(words, "first_element").unwrap_or(0);
        let whole = words::number(words, "whole").unwrap_or(0);
        Some(Held { file, name, listed: None, part: Part { first, n_elements }, whole, words })
    }

    pub fn tensor(&self, role: Role) -> Option<Entry> {
        match &self.listed {
            Some((packed, listed)) => packed.tensor(self.file, listed, role),
            None => self.file.header().tensor(&tensor_name(self.name, role)).copied(),
        }
    }

    /// Returns the clock, if the checkpoint has it.
    pub fn clock(&self, window: &mut Window) -> Result<Option<Clock>, Error> {
        let clock = match &self.listed {
            Some((_, listed)) => {
                let [beta1_power, beta2_power] = listed.powers;
                Some(Clock { step: listed.step, beta1_power, beta2_power })
            }
            None => clock(self.file, self.name, window)?,
        };
        let is_power = |power: f64| (0.0..=1.0).contains(&power);
        match clock {
            Some(clock) if !is_power(clock.beta1_power) || !is_power(clock.beta2_power) => {
                let name = Label::new(self.name.as_bytes());
                Err(self.file.problem(FileProblem::Text(name)))
            }
            clock => Ok(clock),
        }
    }
}

/// Visits the parameters of a checkpoint that nobody has looked for.
pub fn each_unseen(file: &Checkpoint, seen: &[bool], mut visit: impl FnMut(&str)) {
    if let Some(packed) = file.packed() {
        let unseen = (0..packed.len()).filter(|&number| !seen[number]);
        return unseen.for_each(|number| visit(packed.name(number)));
    }
    for entry in file.header().entries() {
        if let Some((param, Item::Step)) = neutral_reading(file.header().name(entry))
            && !seen[entry.number as usize]
        {
            visit(param);
        }
    }
}

/// Returns a counter of a parameter, if the checkpoint has it.
fn counter<'a>(file: &'a Checkpoint, name: &str, item: Item) -> Option<&'a Entry> {
    let entry = file.header().tensor(&neutral_name(name, item))?;
    let dtype = if item == Item::Step { "U64" } else { "F64" };
    (entry.dtype() == dtype && entry.n_elements() == 1).then_some(entry)
}

/// Reads the clock of a parameter, if the checkpoint has it.
fn clock(file: &Checkpoint, name: &str, window: &mut Window) -> Result<Option<Clock>, Error> {
    let (Some(step), Some(beta1_power), Some(beta2_power)) = (
        counter(file, name, Item::Step),
        counter(file, name, Item::Beta1Power),
        counter(file, name, Item::Beta2Power),
    ) else {
        return Ok(None);
    };
    Ok(Some(Clock {
        step: u64::from_le_bytes(window.word(file, step)?),
        beta1_power: f64::from_le_bytes(window.word(file, beta1_power)?),
        beta2_power: f64::from_le_bytes(window.word(file, beta2_power)?),
    }))
}
