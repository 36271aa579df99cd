//! Whether checkpoints hold what the parameters of a handle need.
#![forbid(unsafe_code)]

use super::super::names::{neutral_name, neutral_reading, tensor_name};
use super::super::params::{Param, Shard};
use super::super::save::safetensors_name;
use super::super::settings::PLACE;
use super::super::{Item, Optimizer};
use super::convert;
use super::pieces::{self, Part, Unit};
use super::{LoadOptions, Scope};
use crate::checkpoint::{Checkpoint, Entry, Text, Window, words};
use crate::error::{Error, FileProblem, Label, Names, Role};
use crate::steps::Clock;
use crate::sys::memory::reserve;
use crate::tensor::Operands;
use core::ops::Range;

/// A parameter whose state is in the checkpoints, and how far it had come.
pub struct Match {
    pub number: usize,
    pub clock: Clock,
    named: Named,
}

/// The checkpoint and the entry whose name says what a parameter is called there.
#[derive(Clone, Copy)]
struct Named {
    file: usize,
    entry: Entry,
}

impl Match {
    /// What the parameter is called in the checkpoints.
    pub fn name<'f>(&self, files: &'f [Checkpoint]) -> &'f str {
        let Named { file, entry } = self.named;
        neutral_reading(files[file].header().name(&entry)).map_or("", |(name, _)| name)
    }
}

/// What does not fit, by name.
struct Problems {
    missing: Names,
    unexpected: Names,
    tensors: Names,
    settings: Names,
    parts: Names,
}

impl Problems {
    fn result(self) -> Result<(), Error> {
        for (what, names) in [
            ("the checkpoint has no state of these params", self.missing),
            ("the checkpoint has state of params that the handle lacks", self.unexpected),
            (
                "these are of another type or size in the checkpoint and the handle, or are in one \
                 of them only",
                self.tensors,
            ),
            ("the handle has other settings than the checkpoint", self.settings),
            ("the checkpoints are not parts of one", self.parts),
        ] {
            if !names.is_empty() {
                return Err(Error::Mismatch { what, names });
            }
        }
        Ok(())
    }
}

impl Optimizer {
    /// Finds the state of every parameter.
    pub(super) fn check_params(
        &self,
        files: &[Checkpoint],
        window: &mut Window,
        options: &LoadOptions,
    ) -> Result<Vec<Match>, Error> {
        let (mut matches, mut seen) = (Vec::new(), Vec::new());
        reserve(&mut matches, self.params.len(), "the parameters that were found")?;
        reserve(&mut seen, files.len(), "the state that was found")?;
        for file in files {
            let (mut of_file, n) = (Vec::new(), file.header().entries().len());
            reserve(&mut of_file, n, "the state that was found")?;
            of_file.resize(n, false);
            seen.push(of_file);
        }
        let none = Names::NONE;
        let mut problems = Problems {
            missing: none,
            unexpected: none,
            tensors: none,
            settings: none,
            parts: none,
        };
        for number in self.live() {
            let found = with_name(&self.params[number], options, |name| {
                for (file, seen) in files.iter().zip(&mut seen) {
                    if let Some(step) = counter(file, name, Item::Step) {
                        seen[step.number as usize] = true;
                    }
                }
                self.check_param(number, name, files, window, options, &mut problems)
            })??;
            matches.extend(found);
        }
        if options.scope == Scope::All {
            for (file, seen) in files.iter().zip(&seen) {
                for entry in file.header().entries() {
                    if let Some((param, Item::Step)) = neutral_reading(file.header().name(entry))
                        && !seen[entry.number as usize]
                    {
                        problems.unexpected.add(param);
                    }
                }
            }
        }
        problems.result()?;
        Ok(matches)
    }

    fn check_param(
        &self,
        number: usize,
        name: &str,
        files: &[Checkpoint],
        window: &mut Window,
        options: &LoadOptions,
        problems: &mut Problems,
    ) -> Result<Option<Match>, Error> {
        let Some((clock, named)) = clock(name, files, window, &mut problems.parts)? else {
            if options.scope != Scope::Shared {
                problems.missing.add(name);
            }
            return Ok(None);
        };
        let operands = &self.operands[number];
        let ours = part(operands, self.shards[number]);
        let mut text = Text::default();
        let words = text.set(|text| self.write_param(text, number))?;
        for file in files {
            let Some((theirs, whole)) = held(file, name) else { continue };
            let (a, b) = (whole_of(ours, self.shards[number].whole), whole_of(theirs, whole));
            if a != 0 && b != 0 && a != b {
                problems.tensors.add(format_args!("param_groups.{name}.n_elements"));
            }
            if options.scope != Scope::Shared {
                let theirs = file.text(&["param_groups.", name])?;
                let counts = |name: &&str| !PLACE.contains(name);
                for word in words::differences(words, theirs).filter(counts) {
                    problems.settings.add(format_args!("param_groups.{name}.{word}"));
                }
            }
        }
        for role in roles(options) {
            let [a, b, c] = tensor_name(name, role);
            let is_theirs = files.iter().any(|file| file.header().tensor(&[a, b, c]).is_some());
            let is_ours = operands.tensor(role).is_some();
            let fits = match (is_ours, is_theirs) {
                (true, _) => Pieces { files, name, role, operands, ours, options }.cover(),
                (false, is_theirs) => !is_theirs,
            };
            if !fits {
                problems.tensors.add(format_args!("{a}{b}{c}"));
            }
        }
        Ok(Some(Match { number, clock, named }))
    }
}

/// What is looked for in checkpoints.
pub fn roles(options: &LoadOptions) -> impl Iterator<Item = Role> + use<> {
    let itself = options.params.then_some(Role::Param);
    itself.into_iter().chain(Role::STATE)
}

/// Calls `with` with what a parameter is called in the checkpoints.
fn with_name<R>(
    param: &Param,
    options: &LoadOptions,
    with: impl FnOnce(&str) -> R,
) -> Result<R, Error> {
    match options.rename {
        Some(rename) => rename.renamed(&param.name, with),
        // A name was UTF-8 when it came in.
        None => Ok(with(param.name.to_str().unwrap_or_default())),
    }
}

/// The elements of a parameter, in the whole that it is a part of.
pub fn part(operands: &Operands, shard: Shard) -> Part {
    Part { first: shard.first_element, n_elements: operands.param().n_elements() }
}

/// The elements that a checkpoint has of a parameter, and how many the whole has.
fn held(file: &Checkpoint, name: &str) -> Option<(Part, u64)> {
    let text = file.header().text(&["param_groups.", name])?;
    let n_elements = words::number(text, "n_elements")?;
    let first = words::number(text, "first_element").unwrap_or(0);
    Some((Part { first, n_elements }, words::number(text, "whole").unwrap_or(0)))
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

/// How far a parameter had come, if any checkpoint has it, and where that stands; all that have it agree.
fn clock(
    name: &str,
    files: &[Checkpoint],
    window: &mut Window,
    parts: &mut Names,
) -> Result<Option<(Clock, Named)>, Error> {
    let mut found: Option<(Clock, Named)> = None;
    for (number, file) in files.iter().enumerate() {
        if held(file, name).is_none() {
            continue;
        }
        let (Some(step), Some(beta1_power), Some(beta2_power)) = (
            counter(file, name, Item::Step),
            counter(file, name, Item::Beta1Power),
            counter(file, name, Item::Beta2Power),
        ) else {
            continue;
        };
        let clock = Clock {
            step: u64::from_le_bytes(window.word(file, step)?),
            beta1_power: f64::from_le_bytes(window.word(file, beta1_power)?),
            beta2_power: f64::from_le_bytes(window.word(file, beta2_power)?),
        };
        let is_power = |power: f64| (0.0..=1.0).contains(&power);
        if !is_power(clock.beta1_power) || !is_power(clock.beta2_power) {
            let label = Label::new(name.as_bytes());
            return Err(file.problem(FileProblem::Text(label)));
        }
        if found.is_some_and(|(found, _)| found != clock) {
            parts.add(format_args!("state.{name}.step"));
        }
        found = Some((clock, Named { file: number, entry: *step }));
    }
    Ok(found)
}

/// A tensor of a parameter, as it is spread over checkpoints.
#[derive(Clone, Copy)]
pub struct Pieces<'f, 'a> {
    pub files: &'f [Checkpoint<'f>],
    pub name: &'a str,
    pub role: Role,
    pub operands: &'a Operands,
    pub ours: Part,
    pub options: &'a LoadOptions,
}

/// Some stored elements of a tensor of ours, and where they are.
pub struct Piece<'f> {
    pub file: &'f Checkpoint<'f>,
    pub entry: &'f Entry,
    pub theirs: Range<u64>,
    pub ours: Range<u64>,
}

impl<'f> Pieces<'f, '_> {
    /// Whether the checkpoints have all elements, of a type that is wanted.
    fn cover(&self) -> bool {
        let mut at = self.ours.first;
        while at < self.ours.end() {
            match self.piece(at) {
                Some((_, end)) => at = end,
                None => return false,
            }
        }
        // Of no elements, what is there still has to be of the right type.
        self.ours.n_elements > 0 || (0..self.files.len()).any(|i| self.entry(i).is_some())
    }

    /// The piece that starts with this element of the whole, and where the next one does.
    pub fn piece(&self, from: u64) -> Option<(Piece<'f>, u64)> {
        let parts = (0..self.files.len()).map(|i| Some(self.entry(i)?.1));
        let (i, elements) = pieces::next(self.ours, from, parts)?;
        let (entry, part) = self.entry(i)?;
        let unit = Unit::of(&self.operands.format(), self.role);
        let n_ours = self.operands.tensor(self.role)?.n_elements();
        let theirs = unit.stored(part, &elements, entry.n_elements())?;
        let ours = unit.stored(self.ours, &elements, n_ours)?;
        Some((Piece { file: &self.files[i], entry, theirs, ours }, elements.end))
    }

    /// The tensor in one of the checkpoints, if it is what it must be, and the part that it is.
    fn entry(&self, i: usize) -> Option<(&'f Entry, Part)> {
        let file = &self.files[i];
        let (part, _) = held(file, self.name)?;
        let entry = file.header().tensor(&tensor_name(self.name, self.role))?;
        let tensor = self.operands.tensor(self.role)?;
        let is_same = entry.dtype() == safetensors_name(tensor.dtype());
        let converts = self.options.convert
            && convert::from_name(entry.dtype()).is_some()
            && convert::converts(tensor.dtype());
        let n = match self.role {
            Role::Param => part.n_elements,
            role => self.operands.format().n_elements(role, part.n_elements),
        };
        ((is_same || converts) && entry.n_elements() == n).then_some((entry, part))
    }
}
