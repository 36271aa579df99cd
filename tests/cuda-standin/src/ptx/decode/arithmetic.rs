//! Arithmetic, bits, comparison and selection.

use super::Modifiers;
use crate::ptx::ParseError;
use crate::ptx::body::Body;
use crate::ptx::instruction::{Binary, Comparison, Logic, Operation, Ternary, Unary};
use crate::ptx::types::Type;

fn f32_or_f64(ty: Type) -> bool {
    matches!(ty, Type::F32 | Type::F64)
}

/// 16, 32 or 64 bits: nothing computes with bytes.
fn computes(ty: Type) -> bool {
    ty.is_integer() && ty.bits() >= 16
}

pub fn unary(
    body: &mut Body,
    opcode: &str,
    mut modifiers: Modifiers,
) -> Result<Operation, ParseError> {
    let rounded = modifiers.take("rn");
    let bits = |ty: Type| matches!(ty, Type::B32 | Type::B64);
    let (op, ty) = match opcode {
        "abs" | "neg" => {
            let ty = modifiers.ty_if(|ty| f32_or_f64(ty) || computes(ty) && ty.is_signed())?;
            (if opcode == "abs" { Unary::Abs } else { Unary::Negate }, ty)
        }
        "sqrt" => (Unary::Root, modifiers.ty_if(f32_or_f64)?),
        "rcp" => (Unary::Reciprocal, modifiers.ty_if(f32_or_f64)?),
        "popc" => (Unary::Ones, modifiers.ty_if(bits)?),
        "clz" => (Unary::LeadingZeros, modifiers.ty_if(bits)?),
        "brev" => (Unary::BitsReversed, modifiers.ty_if(bits)?),
        _ => (Unary::Not, modifiers.ty_if(|ty| ty.is_bits() || ty == Type::Pred)?),
    };
    if rounded != matches!(op, Unary::Root | Unary::Reciprocal) {
        return Err(modifiers.error("must be .rn where it rounds, and only there"));
    }
    modifiers.end()?;
    if ty == Type::Pred {
        let to = body.predicate()?;
        body.comma()?;
        let (a, negated) = body.condition()?;
        let b = body.constant_predicate(!negated);
        return Ok(Operation::Logic { op: Logic::Xor, to, a, b });
    }
    // A count of bits has 32 of them, whatever it counts.
    let counts = matches!(op, Unary::Ones | Unary::LeadingZeros);
    let to = body.destination_of(if counts { Type::U32 } else { ty })?;
    body.comma()?;
    Ok(Operation::Unary { op, ty, to, a: body.source(ty)? })
}

pub fn binary(
    body: &mut Body,
    opcode: &str,
    mut modifiers: Modifiers,
) -> Result<Operation, ParseError> {
    let rounded = modifiers.take("rn");
    let part = modifiers.choose(&[("lo", "lo"), ("hi", "hi"), ("wide", "wide")]);
    let ty = modifiers.ty()?;
    modifiers.end()?;
    let op = match (opcode, part) {
        ("mul", None) if f32_or_f64(ty) => Binary::Multiply,
        ("mul", Some("lo")) => Binary::Multiply,
        ("mul", Some("hi")) => Binary::MultiplyHigh,
        ("mul", Some(_)) if ty.bits() < 64 => Binary::MultiplyWide,
        ("add", None) => Binary::Add,
        ("sub", None) => Binary::Subtract,
        ("div", None) => Binary::Divide,
        ("rem", None) => Binary::Remainder,
        ("min", None) => Binary::Min,
        ("max", None) => Binary::Max,
        ("and", None) => Binary::And,
        ("or", None) => Binary::Or,
        ("xor", None) => Binary::Xor,
        ("shl", None) => Binary::ShiftLeft,
        ("shr", None) => Binary::ShiftRight,
        _ => return Err(modifiers.error("this form is not known")),
    };
    let logic = match op {
        Binary::And => Some(Logic::And),
        Binary::Or => Some(Logic::Or),
        Binary::Xor => Some(Logic::Xor),
        _ => None,
    };
    let allowed = match op {
        Binary::And | Binary::Or | Binary::Xor => ty.is_bits() || ty == Type::Pred,
        Binary::ShiftLeft => ty.is_bits(),
        Binary::ShiftRight => ty.is_bits() || computes(ty),
        Binary::Remainder | Binary::MultiplyHigh | Binary::MultiplyWide => computes(ty),
        _ if part.is_some() => computes(ty),
        _ => computes(ty) || f32_or_f64(ty),
    };
    if !allowed {
        return Err(modifiers.error(format!("not for {ty:?}")));
    }
    // Without the modifier a driver may fuse a product into a sum.
    let rounds = f32_or_f64(ty) && !matches!(op, Binary::Min | Binary::Max);
    if rounded != rounds {
        return Err(modifiers.error("must be .rn where it rounds, and only there"));
    }
    if let (Some(op), Type::Pred) = (logic, ty) {
        let to = body.predicate()?;
        body.comma()?;
        let (a, _) = body.condition()?;
        body.comma()?;
        let (b, _) = body.condition()?;
        return Ok(Operation::Logic { op, to, a, b });
    }
    let to = body.destination_of(if op == Binary::MultiplyWide { twice(ty) } else { ty })?;
    body.comma()?;
    let a = body.source(ty)?;
    body.comma()?;
    let shifts = matches!(op, Binary::ShiftLeft | Binary::ShiftRight);
    let b = body.source(if shifts { Type::U32 } else { ty })?;
    Ok(Operation::Binary { op, ty, to, a, b })
}

/// The type that holds a product of this one.
fn twice(ty: Type) -> Type {
    match ty {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::S32 => Type::S64,
        _ => Type::U64,
    }
}

pub fn multiply_add(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    let op = modifiers.need(&[
        ("lo", Ternary::MultiplyAdd),
        ("hi", Ternary::MultiplyHighAdd),
        ("wide", Ternary::MultiplyWideAdd),
    ])?;
    let wide = op == Ternary::MultiplyWideAdd;
    let ty = modifiers.ty_if(|ty| computes(ty) && !(wide && ty.bits() == 64))?;
    modifiers.end()?;
    let result = if wide { twice(ty) } else { ty };
    let to = body.destination_of(result)?;
    body.comma()?;
    let a = body.source(ty)?;
    body.comma()?;
    let b = body.source(ty)?;
    body.comma()?;
    Ok(Operation::Ternary { op, ty, to, a, b, c: body.source(result)? })
}

pub fn bit_fields(
    body: &mut Body,
    opcode: &str,
    mut modifiers: Modifiers,
) -> Result<Operation, ParseError> {
    let ty = modifiers.ty_if(|ty| match opcode {
        "bfe" => computes(ty) && ty.bits() >= 32,
        "bfi" => matches!(ty, Type::B32 | Type::B64),
        _ => ty == Type::B32,
    })?;
    modifiers.end()?;
    let to = body.destination_of(ty)?;
    body.comma()?;
    let a = body.source(ty)?;
    body.comma()?;
    let b = body.source(if opcode == "bfe" { Type::U32 } else { ty })?;
    body.comma()?;
    let c = body.source(Type::U32)?;
    Ok(match opcode {
        "bfe" => Operation::Ternary { op: Ternary::ExtractBits, ty, to, a, b, c },
        "prmt" => Operation::Ternary { op: Ternary::PermuteBytes, ty, to, a, b, c },
        _ => {
            body.comma()?;
            let length = body.source(Type::U32)?;
            Operation::InsertBits { ty, to, bits: a, into: b, position: c, length }
        }
    })
}

pub fn compare(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    use Comparison::*;
    let floats = [("equ", EqU), ("neu", NeU), ("ltu", LtU), ("leu", LeU), ("gtu", GtU)];
    let more_floats = [("geu", GeU), ("num", Ordered), ("nan", Unordered)];
    let equal = [("eq", Eq), ("ne", Ne)];
    let ordered = [("lt", Lt), ("le", Le), ("gt", Gt), ("ge", Ge)];
    let unsigned = [("lo", Lt), ("ls", Le), ("hi", Gt), ("hs", Ge)];
    let only_float = modifiers.choose(&floats).or_else(|| modifiers.choose(&more_floats));
    let either = only_float.or_else(|| modifiers.choose(&equal));
    let signed = either.or_else(|| modifiers.choose(&ordered));
    let comparison = match signed {
        Some(found) => found,
        None => modifiers.need(&unsigned)?,
    };
    let logic = modifiers.choose(&[("and", Logic::And), ("or", Logic::Or), ("xor", Logic::Xor)]);
    let ty = modifiers.ty_if(|ty| match (only_float, either) {
        (Some(_), _) => f32_or_f64(ty),
        (None, Some(_)) => f32_or_f64(ty) || computes(ty) || ty.is_bits() && ty.bits() >= 16,
        // `.lo` and its like are for integers without a sign.
        (None, None) if signed.is_none() => computes(ty) && !ty.is_signed(),
        (None, None) => f32_or_f64(ty) || computes(ty),
    })?;
    modifiers.end()?;
    let to = body.predicate()?;
    let opposite = body.second_predicate()?;
    body.comma()?;
    let a = body.source(ty)?;
    body.comma()?;
    let b = body.source(ty)?;
    let mut combined = None;
    if let Some(logic) = logic {
        body.comma()?;
        combined = Some((logic, body.condition()?));
    }
    Ok(Operation::Compare { comparison, ty, to, opposite, a, b, combined })
}

pub fn select(body: &mut Body, mut modifiers: Modifiers) -> Result<Operation, ParseError> {
    let ty = modifiers.ty_if(|ty| ty != Type::Pred && ty.bits() >= 16)?;
    modifiers.end()?;
    let to = body.destination_of(ty)?;
    body.comma()?;
    let a = body.source(ty)?;
    body.comma()?;
    let b = body.source(ty)?;
    body.comma()?;
    Ok(Operation::Select { to, a, b, when: body.predicate()? })
}
