//! Loads, stores, atomics and fences.

use super::Modifiers;
use crate::ptx::ParseError;
use crate::ptx::body::Body;
use crate::ptx::instruction::{Atomic, Operation, Space};
use crate::ptx::operand::{Width, vector_of};
use crate::ptx::types::Type;

/// Hints and orders that change nothing here: blocks run one after the other.
const WITHOUT_EFFECT: [&str; 16] = [
    "volatile", "relaxed", "acquire", "release", "acq_rel", "cta", "gpu", "sys", "ca", "cg", "cs",
    "lu", "cv", "nc", "wb", "wt",
];

fn drop_hints(modifiers: &mut Modifiers) {
    for hint in WITHOUT_EFFECT {
        modifiers.take(hint);
    }
}

fn space(modifiers: &mut Modifiers, others: &[(&str, Space)]) -> Space {
    let both = [("global", Space::Global), ("shared", Space::Shared)];
    modifiers.choose(&both).or_else(|| modifiers.choose(others)).unwrap_or(Space::Generic)
}

fn count(modifiers: &mut Modifiers) -> usize {
    modifiers.choose(&[("v2", 2), ("v4", 4)]).unwrap_or(1)
}

/// A vector has at most 16 bytes.
fn element(modifiers: &mut Modifiers, count: usize) -> Result<Type, ParseError> {
    modifiers.ty_if(|ty| !matches!(ty, Type::Pred | Type::F16) && ty.bytes() * count <= 16)
}

pub fn load(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    drop_hints(&mut modifiers);
    let space = space(&mut modifiers, &[("param", Space::Param), ("const", Space::Const)]);
    let count = count(&mut modifiers);
    let ty = element(&mut modifiers, count)?;
    modifiers.end()?;
    let found = body.vector(count, |body| body.destination(Width::AtLeast(ty.bits())))?;
    let to: Vec<_> = found.iter().map(|&(register, _)| register).collect();
    let mask = found[0].1;
    if found.iter().any(|&(_, other)| other != mask) {
        return Err(modifiers.error("registers of several widths"));
    }
    body.comma()?;
    Ok(Operation::Load { space, ty, to: vector_of(&to), mask, address: body.address(space)? })
}

pub fn store(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    drop_hints(&mut modifiers);
    let space = space(&mut modifiers, &[]);
    let count = count(&mut modifiers);
    let ty = element(&mut modifiers, count)?;
    modifiers.end()?;
    let address = body.address(space)?;
    body.comma()?;
    let from = body.vector(count, |body| body.source_in(ty, Width::AtLeast(ty.bits())))?;
    Ok(Operation::Store { space, ty, from: vector_of(&from), address })
}

pub fn atomic(
    body: &mut Body,
    returns: bool,
    mut modifiers: Modifiers,
) -> Result<Operation, ParseError> {
    drop_hints(&mut modifiers);
    let space = space(&mut modifiers, &[]);
    let op = modifiers.need(&[
        ("add", Atomic::Add),
        ("and", Atomic::And),
        ("cas", Atomic::CompareExchange),
        ("exch", Atomic::Exchange),
        ("max", Atomic::Max),
        ("min", Atomic::Min),
        ("or", Atomic::Or),
        ("xor", Atomic::Xor),
    ])?;
    // A sum of floats by atomics depends on the order of threads.
    let ty = modifiers.ty_if(|ty| !ty.is_float() && ty != Type::Pred && ty.bits() >= 32)?;
    modifiers.end()?;
    let compares = op == Atomic::CompareExchange;
    if compares && !returns {
        return Err(modifiers.error("a reduction cannot compare"));
    }
    let mut to = None;
    if returns {
        to = Some(body.destination_of(ty)?);
        body.comma()?;
    }
    let address = body.address(space)?;
    body.comma()?;
    let a = body.source(ty)?;
    let mut b = a;
    if compares {
        body.comma()?;
        b = body.source(ty)?;
    }
    Ok(Operation::Atomic { space, op, ty, to, address, a, b })
}

pub fn fence(mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    modifiers.choose(&[("sc", ()), ("acq_rel", ())]);
    let between_blocks =
        modifiers.need(&[("cta", false), ("gl", true), ("gpu", true), ("sys", true)])?;
    modifiers.end()?;
    Ok(Operation::Fence { between_blocks })
}
