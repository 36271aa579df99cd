//! Control flow, barriers, and what lanes tell each other.

use super::Modifiers;
use crate::ptx::ParseError;
use crate::ptx::body::Body;
use crate::ptx::instruction::{Operation, Reduction, Shuffle, Vote};
use crate::ptx::types::Type;

pub fn branch(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    modifiers.take("uni");
    modifiers.end()?;
    body.label()?;
    // The body puts the label's place in when it knows it.
    Ok(Operation::Branch { target: 0 })
}

pub fn exit(mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    modifiers.take("uni");
    modifiers.end()?;
    Ok(Operation::Exit)
}

/// The block's barrier 0, of all its threads; or a warp's.
pub fn barrier(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    if modifiers.take("warp") {
        modifiers.need(&[("sync", ())])?;
        modifiers.end()?;
        return Ok(Operation::WarpBarrier { members: body.source(Type::B32)? });
    }
    modifiers.take("cta");
    let reduces = modifiers.need(&[("sync", false), ("red", true)])?;
    let mut reduction = None;
    if reduces {
        let kind = modifiers.need(&[("and", "and"), ("or", "or"), ("popc", "popc")])?;
        let ty = modifiers.ty_if(|ty| matches!(ty, Type::Pred | Type::U32))?;
        if (kind == "popc") != (ty == Type::U32) {
            return Err(modifiers.error(format!("not for {ty:?}")));
        }
        reduction = Some(match kind {
            "and" => Reduction::And(body.predicate()?),
            "or" => Reduction::Or(body.predicate()?),
            _ => Reduction::Count(body.destination_of(ty)?),
        });
        body.comma()?;
    }
    modifiers.end()?;
    if body.tokens.take()? != "0" {
        return Err(body.tokens.error("only barrier 0, of all threads, is known"));
    }
    let reduction = match reduction {
        None => None,
        Some(reduction) => {
            body.comma()?;
            Some((reduction, body.condition()?))
        }
    };
    Ok(Operation::Barrier { reduction })
}

pub fn shuffle(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    modifiers.need(&[("sync", ())])?;
    let shuffle = modifiers.need(&[
        ("up", Shuffle::Up),
        ("down", Shuffle::Down),
        ("bfly", Shuffle::Butterfly),
        ("idx", Shuffle::Index),
    ])?;
    let ty = modifiers.ty_if(|ty| ty == Type::B32)?;
    modifiers.end()?;
    let to = body.destination_of(ty)?;
    let in_range = body.second_predicate()?;
    body.comma()?;
    let a = body.source(ty)?;
    body.comma()?;
    let lane = body.source(Type::U32)?;
    body.comma()?;
    let clamp = body.source(Type::U32)?;
    body.comma()?;
    let members = body.source(Type::U32)?;
    Ok(Operation::Shuffle { shuffle, to, in_range, a, lane, clamp, members })
}

pub fn vote(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    modifiers.need(&[("sync", ())])?;
    let vote = modifiers.need(&[
        ("all", Some(Vote::All)),
        ("any", Some(Vote::Any)),
        ("uni", Some(Vote::Uniform)),
        ("ballot", None),
    ])?;
    let wanted = if vote.is_some() { Type::Pred } else { Type::B32 };
    modifiers.ty_if(|ty| ty == wanted)?;
    modifiers.end()?;
    if let Some(vote) = vote {
        let to = body.predicate()?;
        body.comma()?;
        let condition = body.condition()?;
        body.comma()?;
        return Ok(Operation::Vote { vote, to, condition, members: body.source(Type::B32)? });
    }
    let to = body.destination_of(Type::B32)?;
    body.comma()?;
    let condition = body.condition()?;
    body.comma()?;
    Ok(Operation::Ballot { to, condition, members: body.source(Type::B32)? })
}

pub fn active_mask(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    let ty = modifiers.ty_if(|ty| ty == Type::B32)?;
    modifiers.end()?;
    Ok(Operation::ActiveMask { to: body.destination_of(ty)? })
}
