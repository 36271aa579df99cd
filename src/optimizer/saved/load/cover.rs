//! Whether checkpoints together hold all that the parameters of a handle need, and what each gives.
#![forbid(unsafe_code)]

use super::LoadOptions;
use super::found::{Found, name_of, part, roles};
use super::pieces::{Part, Piece, Unit, cover};
use super::{Checkpoint, LoadScope};
use crate::error::{Difference, Error};
use crate::optimizer::Optimizer;
use crate::optimizer::params::names::tensor_name;
use crate::role::Role;
use crate::tensor::Operands;

impl Optimizer {
    /// That all has been found, and leaves the pieces that are taken, in the order of the files.
    pub(super) fn check_cover(
        &self,
        found: &mut Found,
        files: &[Checkpoint],
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
                let its = start..start + n;
                start += n;
                let taken = self.cover(found, i, role, &mut pieces[its.clone()], files, options);
                pieces.copy_within(its.start..its.start + taken, n_taken);
                n_taken += taken;
            }
        }
        found.problems.result()?;
        pieces.truncate(n_taken);
        pieces.sort_unstable_by_key(|p| (p.file, p.found, p.role, p.first));
        found.pieces = pieces;
        Ok(())
    }

    /// How many of the pieces of a tensor, which are put in front, are taken.
    fn cover(
        &self,
        found: &mut Found,
        i: usize,
        role: Role,
        pieces: &mut [Piece],
        files: &[Checkpoint],
        options: &LoadOptions,
    ) -> usize {
        let id = found.matches[i].id;
        let operands = self.params.operands(id);
        let ours = part(operands, self.params.shard(id));
        if operands.tensor(role).is_none() {
            return 0;
        }
        // Of no elements, what is there still has to be of the right type.
        if pieces.is_empty() && role == Role::Master && options.extend {
            found.matches[i].has_new_master = true;
            return 0;
        }
        if pieces.is_empty() {
            let what = if role == Role::Param { Difference::NoParams } else { Difference::Lacking };
            found.tell(what, i, role, None);
            return 0;
        }
        let taken = match cover(ours, pieces) {
            Ok(n) => n,
            Err(at) => {
                found.tell(Difference::Uncovered, i, role, Some(at));
                return 0;
            }
        };
        let is_cut = |piece: &&Piece| {
            let entry = &files[piece.file as usize].header().entries()[piece.entry as usize];
            stored(operands, ours, piece, entry.n_elements()).is_none()
        };
        if let Some(at) = pieces[..taken].iter().find(is_cut).map(|piece| piece.first) {
            found.tell(Difference::Cut, i, role, Some(at));
        }
        taken
    }
}

/// The stored elements of a piece in its checkpoint, which has so many, and in the handle.
pub fn stored(
    operands: &Operands,
    ours: Part,
    piece: &Piece,
    n_theirs: u64,
) -> Option<(core::ops::Range<u64>, core::ops::Range<u64>)> {
    let unit = Unit::of(&operands.format(), piece.role);
    let n_ours = operands.tensor(piece.role)?.n_elements();
    let elements = piece.first..piece.end;
    let theirs = unit.stored(piece.part, &elements, n_theirs)?;
    Some((theirs, unit.stored(ours, &elements, n_ours)?))
}

impl Found {
    /// Adds a parameter that no checkpoint has.
    fn miss(&mut self, i: usize) {
        let name = name_of(&self.names, &self.matches[i].name);
        self.problems.add(Difference::Missing, name);
    }

    /// Adds what does not fit of a tensor, unless something was said of it before.
    fn tell(&mut self, what: Difference, i: usize, role: Role, at: Option<u64>) {
        if !self.matches[i].is_new(role) {
            return;
        }
        let [a, b, c] = tensor_name(name_of(&self.names, &self.matches[i].name), role);
        match at {
            None => self.problems.add(what, format_args!("{a}{b}{c}")),
            Some(at) => self.problems.add(what, format_args!("{a}{b}{c} from element {at} on")),
        }
    }
}
