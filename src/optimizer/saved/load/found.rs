//! The first pass of a load: what the checkpoints have of the parameters of the handle.
//!
//! `to_be_found` lists the parameters, under the names that they have in the checkpoints.
//! `look_through` then takes one checkpoint after the other, so that no more than one needs to be
//! open. Of each parameter that is in it, it takes the clock, compares the size and the settings,
//! and adds a `Piece` for each tensor that can be used.
//!
//! What does not fit is added to the problems, at most once for each tensor. The load fails when
//! all checkpoints have been looked through, and `cover.rs` has found what none of them has.
#![forbid(unsafe_code)]

use super::convert::{self, Way};
use super::held::{Held, each_unseen};
use super::pieces::{Part, Piece};
use super::problems::Problems;
use super::{LoadOptions, LoadScope};
use crate::checkpoint::{Checkpoint, Entry, Packed, Text, Window, words};
use crate::error::{Difference, Error};
use crate::format::Kept;
use crate::optimizer::Optimizer;
use crate::optimizer::params::Shard;
use crate::optimizer::params::names::tensor_name;
use crate::optimizer::params::table::ParamId;
use crate::optimizer::saved::settings::PLACE;
use crate::order::Order;
use crate::role::Role;
use crate::steps::Clock;
use crate::sys::memory::reserve;
use crate::tensor::Operands;
use core::fmt::Write;
use core::ops::Range;

/// A parameter of the handle, and its clock if a checkpoint has it.
pub struct Match {
    pub id: ParamId,
    pub clock: Option<Clock>,
    /// The name that it has in the checkpoints: these bytes of `Found::names`.
    pub name: Range<usize>,
    /// Its master was not saved, and is to be begun.
    pub has_new_master: bool,
    /// It is written, though the parameters are not asked for.
    pub is_half_of_master: bool,
    /// A bit for each tensor, which is set if the tensor is among the problems.
    reported: u32,
}

impl Match {
    /// Returns whether a tensor is not among the problems yet, to which it is about to be added.
    pub fn is_first_report(&mut self, role: Role) -> bool {
        let bit = 1 << role as u32;
        let is_first = self.reported & bit == 0;
        self.reported |= bit;
        is_first
    }
}

/// What has been found so far.
pub struct Found {
    pub matches: Vec<Match>,
    pub pieces: Vec<Piece>,
    pub problems: Problems,
    /// The names of all matches, one after the other.
    pub names: Vec<u8>,
    /// By tensor of a checkpoint, or by parameter where state is packed, whether it was looked for.
    seen: Vec<bool>,
}

/// Returns the tensors of a parameter that are looked for in checkpoints: itself, too, where a
/// master may be split.
pub fn roles(options: &LoadOptions) -> impl Iterator<Item = Role> + use<> {
    let itself = (options.params || options.convert).then_some(Role::Param);
    itself.into_iter().chain(Role::STATE)
}

/// Returns the name of a parameter in the checkpoints.
pub fn name_of<'a>(names: &'a [u8], of: &Range<usize>) -> &'a str {
    // They are UTF-8: both sources give text.
    core::str::from_utf8(&names[of.clone()]).unwrap_or_default()
}

impl Optimizer {
    /// Returns a list of all parameters, with their names in the checkpoints.
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
            matches.push(Match {
                id,
                clock: None,
                name,
                has_new_master: false,
                is_half_of_master: false,
                reported: 0,
            });
        }
        let (pieces, problems, seen) = (Vec::new(), Problems::none(), Vec::new());
        Ok(Found { matches, pieces, problems, names, seen })
    }

    /// Looks through a checkpoint, which has this number among all.
    pub(super) fn look_through(
        &self,
        found: &mut Found,
        number: usize,
        file: &Checkpoint,
        window: &mut Window,
        options: &LoadOptions,
    ) -> Result<(), Error> {
        let Found { matches, pieces, problems, names, seen } = found;
        let n_listed = file.packed().map_or(file.header().entries().len(), Packed::len);
        seen.clear();
        reserve(seen, n_listed, "the state that was found")?;
        seen.resize(n_listed, false);
        let (mut text, mut next) = (Text::default(), 0);
        let (mut agreed, mut agreed_with) = ("", Text::default());
        for (i, wanted) in matches.iter_mut().enumerate() {
            let name = name_of(names, &wanted.name);
            let Some(held) = Held::of(file, name, &mut next, seen) else { continue };
            let Some(clock) = held.clock(window)? else { continue };
            if wanted.clock.is_some_and(|found| found != clock) {
                problems.add(Difference::Parts, format_args!("state.{name}.step"));
            }
            wanted.clock = Some(clock);
            let candidate = Candidate { optimizer: self, held, options };
            candidate.check_size(wanted, problems);
            candidate.check_order(wanted, &mut text, problems)?;
            if options.scope != LoadScope::Shared {
                let ours = text.set(|text| self.write_choices(text, wanted.id))?;
                let theirs = candidate.held.words;
                // Many parameters in a row have the words of the one before.
                if !core::ptr::eq(theirs, agreed) || ours != agreed_with.as_str() {
                    let words = words::differences(ours, theirs);
                    let mut agrees = true;
                    for word in words.filter(|(name, ..)| !PLACE.contains(name)) {
                        let key = format_args!("param_groups.{name}");
                        problems.add_word(Difference::Settings, key, word);
                        agrees = false;
                    }
                    agreed = if agrees { theirs } else { "" };
                    agreed_with.set(|text| text.write_str(ours))?;
                }
            }
            reserve(pieces, Role::STATE.len() + 1, "what the checkpoints hold")?;
            for role in roles(options) {
                let Some((entry, way)) = candidate.source(wanted.id, role) else { continue };
                if candidate.fits(wanted, role, way, &entry, problems) {
                    wanted.is_half_of_master |= way == Way::Upper;
                    let (file, found) = (number as u32, i as u32);
                    let part = candidate.held.part;
                    pieces.push(Piece { file, found, entry, role, way, part, first: 0, end: 0 });
                }
            }
        }
        if options.scope == LoadScope::All {
            each_unseen(file, seen, |param| problems.add(Difference::Unexpected, param));
        }
        Ok(())
    }
}

/// A parameter, and what a checkpoint has of it.
struct Candidate<'a> {
    optimizer: &'a Optimizer,
    held: Held<'a>,
    options: &'a LoadOptions,
}

impl Candidate<'_> {
    /// Checks that both are parts of a whole of one size.
    fn check_size(&self, wanted: &mut Match, problems: &mut Problems) {
        let (operands, shard) =
            (self.optimizer.params.operands(wanted.id), self.optimizer.params.shard(wanted.id));
        let ours = whole_of(part(operands, shard), shard.whole);
        let theirs = whole_of(self.held.part, self.held.whole);
        if ours != 0 && theirs != 0 && ours != theirs && wanted.is_first_report(Role::Param) {
            let name = self.held.name;
            problems.add(
                Difference::Sizes,
                format_args!("param_groups.{name}.n_elements is {ours} (saved: {theirs})"),
            );
        }
    }

    /// Checks that both have their elements in one order in memory. A plain array takes any.
    fn check_order(
        &self,
        wanted: &Match,
        text: &mut Text,
        problems: &mut Problems,
    ) -> Result<(), Error> {
        let order = self.optimizer.params.operands(wanted.id).param().order();
        if order == Order::FLAT {
            return Ok(());
        }
        let ours = text.set(|text| write!(text, "{order}"))?;
        let theirs = words::value(self.held.words, "order").unwrap_or("row-major");
        if ours != theirs {
            let name = self.held.name;
            let differ = format_args!("param_groups.{name}.order is {ours} (saved: {theirs})");
            problems.add(Difference::Orders, differ);
        }
        Ok(())
    }

    /// Returns the tensor from which one of the handle comes, and what becomes of it.
    fn source(&self, id: ParamId, role: Role) -> Option<(Entry, Way)> {
        let LoadOptions { convert, extend, params, .. } = *self.options;
        let operands = self.optimizer.params.operands(id);
        let format = operands.format();
        let place = |role| self.held.tensor(role);
        // Maxima that were not saved begin as the squares that they are of.
        let is_ours = operands.tensor(role).is_some();
        let instead = |role: Role| role.maximum_of().filter(|_| extend && is_ours);
        let of = |role| place(role).or_else(|| place(instead(role)?));
        if convert && is_ours && format.moments().block().is_some() {
            let is_float = |entry: &Entry| convert::from_name(entry.dtype()).is_some();
            let floats = of(role.moment()).filter(is_float);
            match floats {
                Some(entry) if role.is_moment() => return Some((entry, Way::Codes)),
                Some(entry) if role.is_scale() => return Some((entry, Way::Scales)),
                _ => {}
            }
        }
        if convert && format.kept() == Kept::Split && place(Role::Remainder).is_none() {
            let master = place(Role::Master).filter(|entry| entry.dtype() == "F32");
            match (role, master) {
                (Role::Param, Some(entry)) => return Some((entry, Way::Upper)),
                (Role::Remainder, Some(entry)) => return Some((entry, Way::Rest)),
                (Role::Master, Some(_)) => return None,
                _ => {}
            }
        }
        let is_asked = role != Role::Param || params;
        of(role).filter(|_| is_asked).map(|entry| (entry, Way::Plain))
    }

    /// Returns whether a tensor of the checkpoint has the type and the length that the handle
    /// needs.
    fn fits(
        &self,
        wanted: &mut Match,
        role: Role,
        way: Way,
        entry: &Entry,
        problems: &mut Problems,
    ) -> bool {
        let operands = self.optimizer.params.operands(wanted.id);
        let [a, b, c] = tensor_name(self.held.name, role);
        let Some(tensor) = operands.tensor(role) else {
            if wanted.is_first_report(role) {
                problems.add(Difference::Extra, format_args!("{a}{b}{c}"));
            }
            return false;
        };
        let (ours, theirs) = (tensor.dtype().safetensors_name(), entry.dtype());
        let is_float = convert::from_name(theirs).is_some() && convert::converts(tensor.dtype());
        let converts = way != Way::Plain || (self.options.convert && is_float);
        let n = match role {
            Role::Param => self.held.part.n_elements,
            _ if way != Way::Plain => self.held.part.n_elements,
            role => operands.format().n_elements(role, self.held.part.n_elements),
        };
        let fits = (ours == theirs || converts) && entry.n_elements() == n;
        if !fits && wanted.is_first_report(role) {
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

/// Returns the elements of a parameter, counted in the whole that it is a part of.
pub fn part(operands: &Operands, shard: Shard) -> Part {
    Part { first: shard.first_element, n_elements: operands.param().n_elements() }
}

/// Returns the number of elements of the whole; 0 if it is not known.
fn whole_of(part: Part, whole: u64) -> u64 {
    if whole == 0 && part.first == 0 { part.n_elements } else { whole }
}
