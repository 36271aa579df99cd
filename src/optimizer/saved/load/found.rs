//! What checkpoints hold of the parameters of a handle: looked through one after the other, so that no
//! more than one needs to be open.
#![forbid(unsafe_code)]

use super::convert;
use super::pieces::{Part, Piece};
use super::problems::Problems;
use super::{LoadOptions, LoadScope};
use crate::checkpoint::{Checkpoint, Entry, Text, Window, words};
use crate::error::{Difference, Error, FileProblem, Label};
use crate::optimizer::params::Shard;
use crate::optimizer::params::names::{neutral_name, neutral_reading, tensor_name};
use crate::optimizer::params::table::ParamId;
use crate::optimizer::saved::save::safetensors_name;
use crate::optimizer::saved::settings::PLACE;
use crate::optimizer::{Item, Optimizer};
use crate::role::Role;
use crate::steps::Clock;
use crate::sys::memory::reserve;
use crate::tensor::Operands;
use core::ops::Range;

/// A parameter of the handle, and how far it had come, if a checkpoint has it.
pub struct Match {
    pub id: ParamId,
    pub clock: Option<Clock>,
    /// What it is called in the checkpoints: these of the names.
    pub name: Range<usize>,
    /// Its master was not saved, and is to be filled.
    pub has_new_master: bool,
    /// Which of its tensors have been said not to fit, one bit each.
    told: u32,
}

impl Match {
    /// Whether nothing has been said about a tensor yet.
    pub fn is_new(&mut self, role: Role) -> bool {
        let bit = 1 << role as u32;
        let is_new = self.told & bit == 0;
        self.told |= bit;
        is_new
    }
}

/// What has been found so far.
pub struct Found {
    pub matches: Vec<Match>,
    pub pieces: Vec<Piece>,
    pub problems: Problems,
    /// The names of all matches, one behind another.
    pub names: Vec<u8>,
    /// Which tensors of a checkpoint were looked for.
    seen: Vec<bool>,
}

/// What is looked for in checkpoints.
pub fn roles(options: &LoadOptions) -> impl Iterator<Item = Role> + use<> {
    let itself = options.params.then_some(Role::Param);
    itself.into_iter().chain(Role::STATE)
}

/// What a parameter is called in the checkpoints.
pub fn name_of<'a>(names: &'a [u8], of: &Range<usize>) -> &'a str {
    // They were UTF-8 when they came in.
    core::str::from_utf8(&names[of.clone()]).unwrap_or_default()
}

impl Optimizer {
    /// Asks for the name of every parameter.
    pub(super) fn to_be_found(&self, options: &LoadOptions) -> Result<Found, Error> {
        let (mut matches, mut names) = (Vec::new(), Vec::new());
        reserve(&mut matches, self.params.len(), "the parameters that were found")?;
        for id in self.params.live() {
            let start = names.len();
            let mut take = |name: &str| {
                reserve(&mut names, name.len(), "the names of parameters")?;
                names.extend_from_slice(name.as_bytes());
                Ok(())
            };
            match options.rename {
                Some(rename) => rename.renamed(&self.params[id].name, &mut take)??,
                None => take(self.params[id].name())?,
            }
            let name = start..names.len();
            matches.push(Match { id, clock: None, name, has_new_master: false, told: 0 });
        }
        let (pieces, problems, seen) = (Vec::new(), Problems::none(), Vec::new());
        Ok(Found { matches, pieces, problems, names, seen })
    }

    /// Looks a checkpoint through, which is this one of all.
    pub(super) fn look_through(
        &self,
        found: &mut Found,
        number: usize,
        file: &Checkpoint,
        window: &mut Window,
        options: &LoadOptions,
    ) -> Result<(), Error> {
        let Found { matches, pieces, problems, names, seen } = found;
        seen.clear();
        reserve(seen, file.header().entries().len(), "the state that was found")?;
        seen.resize(file.header().entries().len(), false);
        let mut text = Text::default();
        for (i, wanted) in matches.iter_mut().enumerate() {
            let name = name_of(names, &wanted.name);
            let step = counter(file, name, Item::Step);
            if let Some(step) = step {
                seen[step.number as usize] = true;
            }
            let Some(held) = Held::of(file, name) else { continue };
            let Some(clock) = clock(file, name, window)? else { continue };
            if wanted.clock.is_some_and(|found| found != clock) {
                problems.add(Difference::Parts, format_args!("state.{name}.step"));
            }
            wanted.clock = Some(clock);
            let of = Of { optimizer: self, name, held, options };
            of.check_size(wanted, problems);
            if options.scope != LoadScope::Shared {
                let ours = text.set(|text| self.write_param(text, wanted.id))?;
                let words = words::differences(ours, of.held.words);
                for word in words.filter(|(name, ..)| !PLACE.contains(name)) {
                    let key = format_args!("param_groups.{name}");
                    problems.add_word(Difference::Settings, key, word);
                }
            }
            reserve(pieces, Role::STATE.len() + 1, "what the checkpoints hold")?;
            for role in roles(options) {
                let place = |role| file.header().place(&tensor_name(name, role));
                // Maxima that nobody kept start as what they are of.
                let is_ours = self.params.operands(wanted.id).tensor(role).is_some();
                let instead = role.maximum_of().filter(|_| options.extend && is_ours);
                let entry = place(role).or_else(|| place(instead?));
                let Some(entry) = entry else { continue };
                if of.fits(wanted, role, &file.header().entries()[entry], problems) {
                    let (file, found, entry) = (number as u32, i as u32, entry as u32);
                    let part = of.held.part;
                    pieces.push(Piece { file, found, entry, role, part, first: 0, end: 0 });
                }
            }
        }
        if options.scope == LoadScope::All {
            for entry in file.header().entries() {
                if let Some((param, Item::Step)) = neutral_reading(file.header().name(entry))
                    && !seen[entry.number as usize]
                {
                    problems.add(Difference::Unexpected, param);
                }
            }
        }
        Ok(())
    }
}

/// A parameter and what a checkpoint says of it.
struct Of<'a> {
    optimizer: &'a Optimizer,
    name: &'a str,
    held: Held<'a>,
    options: &'a LoadOptions,
}

impl Of<'_> {
    /// That both are of one whole.
    fn check_size(&self, wanted: &mut Match, problems: &mut Problems) {
        let (operands, shard) =
            (self.optimizer.params.operands(wanted.id), self.optimizer.params.shard(wanted.id));
        let ours = whole_of(part(operands, shard), shard.whole);
        let theirs = whole_of(self.held.part, self.held.whole);
        if ours != 0 && theirs != 0 && ours != theirs && wanted.is_new(Role::Param) {
            let name = self.name;
            problems.add(
                Difference::Sizes,
                format_args!("param_groups.{name}.n_elements is {ours} (saved: {theirs})"),
            );
        }
    }

    /// Whether a tensor of a checkpoint can be taken from.
    fn fits(&self, wanted: &mut Match, role: Role, entry: &Entry, problems: &mut Problems) -> bool {
        let operands = self.optimizer.params.operands(wanted.id);
        let [a, b, c] = tensor_name(self.name, role);
        let Some(tensor) = operands.tensor(role) else {
            if wanted.is_new(role) {
                problems.add(Difference::Extra, format_args!("{a}{b}{c}"));
            }
            return false;
        };
        let (ours, theirs) = (safetensors_name(tensor.dtype()), entry.dtype());
        let converts = self.options.convert
            && convert::from_name(theirs).is_some()
            && convert::converts(tensor.dtype());
        let n = match role {
            Role::Param => self.held.part.n_elements,
            role => operands.format().n_elements(role, self.held.part.n_elements),
        };
        let fits = (ours == theirs || converts) && entry.n_elements() == n;
        if !fits && wanted.is_new(role) {
            if ours != theirs && !converts {
                let values = format_args!("{a}{b}{c} is {ours} (saved: {theirs})");
                problems.add(Difference::Types, values);
            } else {
                let theirs = entry.n_elements();
                let values = format_args!("{a}{b}{c} has {n} elements (saved: {theirs})");
                problems.add(Difference::Sizes, values);
            }
        }
        fits
    }
}

/// The elements of a parameter, in the whole that it is a part of.
pub fn part(operands: &Operands, shard: Shard) -> Part {
    Part { first: shard.first_element, n_elements: operands.param().n_elements() }
}

/// The elements that a checkpoint has of a parameter, how many the whole has, and all it says of it.
struct Held<'a> {
    part: Part,
    whole: u64,
    words: &'a str,
}

impl<'a> Held<'a> {
    fn of(file: &'a Checkpoint, name: &str) -> Option<Held<'a>> {
        let words = file.header().text(&["param_groups.", name])?;
        let n_elements = words::number(words, "n_elements")?;
        let first = words::number(words, "first_element").unwrap_or(0);
        let whole = words::number(words, "whole").unwrap_or(0);
        Some(Held { part: Part { first, n_elements }, whole, words })
    }
}

/// Elements of the whole; 0: nobody said.
fn whole_of(part: Part, whole: u64) -> u64 {
    if whole == 0 && part.first == 0 { part.n_elements } else { whole }
}

fn counter<'a>(file: &'a Checkpoint, name: &str, item: Item) -> Option<&'a Entry> {
    let entry = file.header().tensor(&neutral_name(name, item))?;
    let dtype = if item == Item::Step { "U64" } else { "F64" };
    (entry.dtype() == dtype && entry.n_elements() == 1).then_some(entry)
}

/// How far a parameter had come, if the checkpoint has it.
fn clock(file: &Checkpoint, name: &str, window: &mut Window) -> Result<Option<Clock>, Error> {
    let (Some(step), Some(beta1_power), Some(beta2_power)) = (
        counter(file, name, Item::Step),
        counter(file, name, Item::Beta1Power),
        counter(file, name, Item::Beta2Power),
    ) else {
        return Ok(None);
    };
    let clock = Clock {
        step: u64::from_le_bytes(window.word(file, step)?),
        beta1_power: f64::from_le_bytes(window.word(file, beta1_power)?),
        beta2_power: f64::from_le_bytes(window.word(file, beta2_power)?),
    };
    let is_power = |power: f64| (0.0..=1.0).contains(&power);
    match is_power(clock.beta1_power) && is_power(clock.beta2_power) {
        true => Ok(Some(clock)),
        false => Err(file.problem(FileProblem::Text(Label::new(name.as_bytes())))),
    }
}
