//! The choice of pieces: checks that all checkpoints together have what the parameters need.
#![forbid(unsafe_code)]

use super::LoadOptions;
use super::LoadScope;
use super::convert::Way;
use super::found::{Found, name_of, part, roles};
use super::pieces::{Part, Piece, Unit, cover};
use crate::error::{Difference, Error};
use crate::optimizer::Optimizer;
use crate::optimizer::params::names::tensor_name;
use crate::role::Role;
use crate::tensor::Operands;
use core::ops::Range;

impl Optimizer {
    /// Checks that everything has been found, and keeps the pieces that are taken, in the order of
    /// the files and of the bytes in each.
    pub(super) fn check_cover(
        &self,
        found: &mut Found,
        options: &LoadOptions,
    ) -> Result<(), Error> {
        let mut pieces = core::mem::take(&mut found.pieces);
        pieces.sort_unstable_by_key(|p| (p.found, p.role, p.part.first, p.file));
        let (mut start, mut n_taken) = (0, 0);
        for i in 0..found.matches.len() {
            if found.matches[i].clock.is_none() {
                if options.scope != LoadScope::Shared {
                    found.miss(i);
                }
                continue;
            }
            for role in roles(options) {
                let is_its = |piece: &&Piece| (piece.found, piece.role) == (i as u32, role);
                let n = pieces[start..].iter().take_while(is_its).count();
                if n == 0 && role == Role::Param && !options.params {
                    continue;
                }
                self.check_memory(found.matches[i].id, role)?;
                let its = start..start + n;
                start += n;
                let taken = self.cover(found, i, role, &mut pieces[its.clone()], options);
                pieces.copy_within(its.start..its.start + taken, n_taken);
                n_taken += taken;
            }
        }
        found.problems.result()?;
        for found in found.matches.iter().filter(|found| found.has_new_master) {
            self.check_memory(found.id, Role::Param)?;
        }
        pieces.truncate(n_taken);
        pieces.sort_unstable_by_key(|p| (p.file, p.entry.start, p.first));
        found.pieces = pieces;
        Ok(())
    }

    /// Moves the pieces of a tensor that are taken to the front, and returns their number.
    fn cover(
        &self,
        found: &mut Found,
        i: usize,
        role: Role,
        pieces: &mut [Piece],
        options: &LoadOptions,
    ) -> usize {
        let id = found.matches[i].id;
        let operands = self.params.operands(id);
        let ours = part(operands, self.params.shard(id));
        if operands.tensor(role).is_none() {
            return 0;
        }
        // Even a tensor without elements has to be in a checkpoint, with the right type.
        if pieces.is_empty() && role == Role::Master && options.extend {
            found.matches[i].has_new_master = true;
            return 0;
        }
        if pieces.is_empty() {
            let what = if role == Role::Param { Difference::NoParams } else { Difference::Lacking };
            found.report(what, i, role, None);
            return 0;
        }
        let taken = match cover(ours, pieces) {
            Ok(n) => n,
            Err(at) => {
                found.report(Difference::Uncovered, i, role, Some(at));
                return 0;
            }
        };
        let is_cut =
            |piece: &&Piece| placed(operands, ours, piece, piece.entry.n_elements()).is_none();
        if let Some(at) = pieces[..taken].iter().find(is_cut).map(|piece| piece.first) {
            found.report(Difference::Cut, i, role, Some(at));
        }
        taken
    }
}

/// The stored elements of a piece.
pub struct Placed {
    /// In the tensor of the checkpoint.
    pub theirs: Range<u64>,
    /// In the tensor of the handle.
    pub ours: Range<u64>,
}

/// Returns the stored elements of a piece, whose tensor has `n_theirs` in the checkpoint, or `None`
/// if several elements that are stored together would be cut.
pub fn placed(operands: &Operands, ours: Part, piece: &Piece, n_theirs: u64) -> Option<Placed> {
    let unit = Unit::of(&operands.format(), piece.role);
    let n_ours = operands.tensor(piece.role)?.n_elements();
    let elements = piece.first..piece.end;
    let theirs = match piece.way {
        Way::Plain => unit.stored(piece.part, &elements, n_theirs)?,
        _ => elements.start - piece.part.first..elements.end - piece.part.first,
    };
    Some(Placed { theirs, ours: unit.stored(ours, &elements, n_ours)? })
}

impl Found {
    /// Adds a parameter that no checkpoint has to the problems.
    fn miss(&mut self, i: usize) {
        let name = name_of(&self.names, &self.matches[i].name);
        self.problems.add(Difference::Missing, name);
    }

    /// Adds a tensor to the problems, unless it was added before.
    fn report(&mut self, what: Difference, i: usize, role: Role, at: Option<u64>) {
        if !self.matches[i].is_first_report(role) {
            return;
        }
        let [a, b, c] = tensor_name(name_of(&self.names, &self.matches[i].name), role);
        match at {
            None => self.problems.add(what, format_args!("{a}{b}{c}")),
            Some(at) => self.problems.add(what, format_args!("{a}{b}{c} from element {at} on")),
        }
    }
}
