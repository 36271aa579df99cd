//! The problems of ranks that agree on a step, or do not.
#![forbid(unsafe_code)]

use super::plain::Plain;
use super::{Label, Status};
use thiserror::Error;

/// A problem of ranks or of what one of them has. Of all but the half step, no rank has changed
/// anything.
#[derive(Error, Clone, Copy, PartialEq, Debug)]
pub enum RanksProblem {
    #[error(
        "param \"{param}\": it {edge} at element {at} of its whole, which is no multiple of \
         {block}: its moments are codes in blocks of {block}, so cut the whole between blocks"
    )]
    CutBlock { param: Label, edge: &'static str, at: u64, block: u64 },
    #[error(
        "param \"{0}\" is on a device, where ranks cannot agree: offload it, or clip it yourself"
    )]
    OnDevice(Label),
    #[error(
        "the handle has an all_reduce, by which ranks add up what they measure in a step: without \
         it (adamw_set_all_reduce with NULL), the sums over gradients are for hosts to add up"
    )]
    AndSums,
    #[error(
        "sums over gradients are set, which hosts add up by themselves: forget them \
         (adamw_set_grad_sums with NULL) before ranks do"
    )]
    AndSumsOfHost,
    #[error("all_reduce returned {0}, expected 0")]
    Returned(i32),
    #[error(
        "the handle has no all_reduce, without which no step goes on piece by piece: set it first"
    )]
    NoAllReduce,
    #[error("next_piece returned {0}, expected 0")]
    NoPiece(i32),
    #[error(
        "next_piece returned {0}, expected 0, in the middle of a step, which cannot be undone: \
         destroy this handle"
    )]
    HalfStep(i32),
    #[error(
        "all_reduce gave {} where each rank had written 1, expected their number, at most 2^20: it \
         adds up in place",
        Plain(.0)
    )]
    NoSum(f64),
    #[error(
        "no rank has taken the step, because {n_failed} of the {n_ranks} could not: their \
         adamw_last_error says why"
    )]
    Failed { n_failed: u64, n_ranks: u64 },
    #[error("ranks differ in {0}: no rank has taken the step")]
    Differ(&'static str),
    #[error("param \"{0}\" is not the same on all ranks in {1}: no rank has taken the step")]
    DifferIn(Label, &'static str),
    #[error(
        "param \"{param}\": the ranks have {} elements of its {whole}, or some of them twice, \
         expected each on one rank",
        Plain(.held)
    )]
    NotCovered { param: Label, held: f64, whole: u64 },
}

impl RanksProblem {
    pub fn status(&self) -> Status {
        match self {
            RanksProblem::OnDevice(_) => Status::Unsupported,
            RanksProblem::AndSums
            | RanksProblem::AndSumsOfHost
            | RanksProblem::NoAllReduce
            | RanksProblem::CutBlock { .. } => Status::InvalidArgument,
            RanksProblem::Returned(_)
            | RanksProblem::NoPiece(_)
            | RanksProblem::HalfStep(_)
            | RanksProblem::NoSum(_) => Status::Callback,
            _ => Status::Mismatch,
        }
    }
}
