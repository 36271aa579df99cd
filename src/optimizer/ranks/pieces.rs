//! Steps that go on piece by piece, while gradients still come and parameters already go.
#![forbid(unsafe_code)]

use crate::callback::NextPiece;
use crate::error::{Error, RanksProblem};
use crate::optimizer::Optimizer;
use crate::tensor::{InPieces, Reach};

/// How a step goes on piece by piece.
#[derive(Clone, Copy)]
pub struct Pieces {
    next: NextPiece,
    /// About the number of elements in a piece.
    n_elements: u64,
}

/// The number of elements in a piece if the host does not say: few enough to wait for little, and
/// enough for several threads.
const N_ELEMENTS: u64 = 1 << 18;

impl Pieces {
    pub fn new(next: NextPiece, n_elements: u64) -> Pieces {
        Pieces { next, n_elements: if n_elements == 0 { N_ELEMENTS } else { n_elements } }
    }

    /// Does some work piece by piece, each when its gradients are there. `starts` has, by place,
    /// the elements before each parameter, and then all. `writes`: the work is the update.
    #[inline(never)] // so that steps that take all at once do without its frame
    pub fn go<W: InPieces>(
        &self,
        starts: &[u64],
        writes: bool,
        work: &mut W,
        mut run: impl FnMut(&W) -> Result<(), Error>,
    ) -> Result<(), Error> {
        work.close(self.n_elements);
        let (mut done, mut is_empty) = (0, true);
        while let Some(Reach { param, at_least, at_most }) = work.open_next(self.n_elements) {
            is_empty = false;
            self.wait(done, starts[param] + at_most, writes)?;
            run(work)?;
            if writes {
                done = starts[param] + at_least;
            }
        }
        if is_empty { self.wait(0, all_of(starts), writes) } else { Ok(()) }
    }

    fn wait(&self, done: u64, until: u64, writes: bool) -> Result<(), Error> {
        match (self.next.wait(done, until), writes) {
            (0, _) => Ok(()),
            (returned, true) => Err(Error::Ranks(RanksProblem::HalfStep(returned))),
            (returned, false) => Err(Error::Ranks(RanksProblem::NoPiece(returned))),
        }
    }
}

impl Optimizer {
    /// Sets the callback by which steps go on piece by piece, or (`None`) takes it away.
    pub fn set_next_piece(&mut self, pieces: Option<Pieces>) -> Result<(), Error> {
        match (&mut self.ranks, pieces) {
            (Some(ranks), pieces) => ranks.pieces = pieces,
            (None, None) => {}
            (None, Some(_)) => return Err(Error::Ranks(RanksProblem::NoAllReduce)),
        }
        Ok(())
    }

    /// Waits for all gradients where a step does not go on piece by piece, because the processor
    /// steps parameters of a device.
    pub(super) fn wait_for_offloaded(&mut self) -> Result<(), Error> {
        let has_copies = self.has_copies();
        match self.ranks.as_ref().and_then(|ranks| ranks.pieces()) {
            Some((pieces, starts)) if has_copies => pieces.wait(0, all_of(starts), false),
            _ => Ok(()),
        }
    }
}

/// Returns the number of this rank's elements, by where its parameters begin.
fn all_of(starts: &[u64]) -> u64 {
    starts.last().copied().unwrap_or(0)
}
