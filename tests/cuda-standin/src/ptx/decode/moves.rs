//! Copies, addresses and conversions.

use super::Modifiers;
use crate::ptx::body::Body;
use crate::ptx::instruction::{Binary, Logic, Operation, Rounding, Unary};
use crate::ptx::operand::{Width, vector_of};
use crate::ptx::types::Type;
use crate::ptx::{Initial, ParseError, SHARED_WINDOW};

pub fn copy(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    let ty = modifiers.ty_if(|ty| ty == Type::Pred || ty.bits() >= 16)?;
    modifiers.end()?;
    if ty == Type::Pred {
        let to = body.predicate()?;
        body.comma()?;
        let (a, negated) = body.condition()?;
        let b = body.constant_predicate(negated);
        return Ok(Operation::Logic { op: Logic::Xor, to, a, b });
    }
    if body.tokens.peek() == Some("{") {
        let bits = ty.bits() / body.elements_ahead();
        let found = body.braced(|body| {
            if body.tokens.take_if("_") {
                return Ok(None);
            }
            Ok(Some(body.destination(Width::Exactly(bits))?.0))
        })?;
        body.comma()?;
        let mut to = [None; 4];
        to[..found.len()].copy_from_slice(&found);
        return Ok(Operation::Unpack { to, a: body.source(ty)?, bits });
    }
    let to = body.destination_of(ty)?;
    body.comma()?;
    if body.tokens.peek() == Some("{") {
        let bits = ty.bits() / body.elements_ahead();
        let part = match bits {
            8 => Type::B8,
            16 => Type::B16,
            _ => Type::B32,
        };
        let parts = body.braced(|body| body.source_in(part, Width::Exactly(bits)))?;
        return Ok(Operation::Pack { to, parts: vector_of(&parts), bits });
    }
    Ok(Operation::Unary { op: Unary::Copy, ty, to, a: body.source(ty)? })
}

/// Addresses of global memory are generic already; those of shared memory begin at its window.
pub fn convert_address(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    let away = modifiers.take("to");
    let shared = modifiers.need(&[("global", false), ("const", false), ("shared", true)])?;
    let ty = modifiers.ty_if(|ty| ty == Type::U64)?;
    modifiers.end()?;
    let to = body.destination_of(ty)?;
    body.comma()?;
    let a = body.source(ty)?;
    if !shared {
        return Ok(Operation::Unary { op: Unary::Copy, ty, to, a });
    }
    let op = if away { Binary::Subtract } else { Binary::Add };
    let b = body.constant(Initial::Value(SHARED_WINDOW));
    Ok(Operation::Binary { op, ty, to, a, b })
}

pub fn convert(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    let to_integer = modifiers.choose(&[
        ("rni", Rounding::Nearest),
        ("rzi", Rounding::Zero),
        ("rmi", Rounding::Down),
        ("rpi", Rounding::Up),
    ]);
    let narrowed = modifiers.choose(&[("rn", Rounding::Nearest), ("rz", Rounding::Zero)]);
    let to_type = modifiers.ty_if(|ty| ty.is_float() || ty.is_integer())?;
    let from_type = modifiers.ty_if(|ty| ty.is_float() || ty.is_integer())?;
    modifiers.end()?;
    let (needs_integer, needs_narrowed) = match (to_type.is_float(), from_type.is_float()) {
        (true, true) if to_type == from_type => (to_integer.is_some(), false),
        (true, true) => (false, to_type.bits() < from_type.bits()),
        (true, false) => (false, true),
        (false, true) => (true, false),
        (false, false) => (false, false),
    };
    if needs_integer != to_integer.is_some() || needs_narrowed != narrowed.is_some() {
        return Err(modifiers.error("its rounding does not fit its types"));
    }
    let (to, mask) = body.destination(match to_type.is_float() {
        true => Width::Exactly(to_type.bits()),
        false => Width::AtLeast(to_type.bits()),
    })?;
    body.comma()?;
    let a = body.source_in(
        from_type,
        match from_type.is_float() {
            true => Width::Exactly(from_type.bits()),
            false => Width::AtLeast(from_type.bits()),
        },
    )?;
    if to_type == from_type && to_type.is_float() && to_integer.is_none() {
        return Ok(Operation::Unary { op: Unary::Copy, ty: to_type, to, a });
    }
    let rounding = to_integer.or(narrowed).unwrap_or(Rounding::Nearest);
    Ok(Operation::Convert { to_type, from_type, rounding, to, mask, a })
}
