//! Instructions: the mnemonic's parts and the operands after it, into an operation.

mod arithmetic;
mod memory;
mod moves;
mod warp;

use super::ParseError;
use super::body::Body;
use super::instruction::Operation;
use super::types::Type;

/// The parts of a mnemonic that nothing has asked for yet.
pub struct Modifiers<'a> {
    parts: Vec<&'a str>,
    line: u32,
}

impl<'a> Modifiers<'a> {
    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::new(self.line, message)
    }

    /// Whether the mnemonic has this part, which it then no longer has.
    pub fn take(&mut self, part: &str) -> bool {
        let at = self.parts.iter().position(|&found| found == part);
        at.map(|at| self.parts.remove(at)).is_some()
    }

    /// The first of these parts that the mnemonic has.
    pub fn choose<T: Copy>(&mut self, table: &[(&str, T)]) -> Option<T> {
        table.iter().find(|(part, _)| self.take(part)).map(|&(_, meaning)| meaning)
    }

    /// As `choose`, where one is needed.
    pub fn need<T: Copy>(&mut self, table: &[(&str, T)]) -> Result<T, ParseError> {
        self.choose(table).ok_or_else(|| {
            let parts: Vec<_> = table.iter().map(|(part, _)| *part).collect();
            self.error(format!("needs one of .{}", parts.join(" .")))
        })
    }

    /// The first type among the parts.
    pub fn ty(&mut self) -> Result<Type, ParseError> {
        let at = self.parts.iter().position(|part| Type::parse(part).is_some());
        let part = at.map(|at| self.parts.remove(at));
        part.and_then(Type::parse).ok_or_else(|| self.error("needs a type"))
    }

    /// The type, which must be one of some.
    pub fn ty_if(&mut self, allowed: impl Fn(Type) -> bool) -> Result<Type, ParseError> {
        let ty = self.ty()?;
        if allowed(ty) { Ok(ty) } else { Err(self.error(format!("not for {ty:?}"))) }
    }

    /// Refuses what nothing has asked for.
    pub fn end(&self) -> Result<(), ParseError> {
        match self.parts.first() {
            None => Ok(()),
            Some(part) => Err(self.error(format!("modifier .{part} is not known here"))),
        }
    }
}

/// Modifiers after which a result is not the one of IEEE arithmetic.
const INEXACT: [&str; 4] = ["approx", "ftz", "full", "sat"];

/// Decodes the instruction whose mnemonic was just read, up to its semicolon.
pub fn operation(body: &mut Body, mnemonic: &str) -> Result<Operation, ParseError> {
    let line = body.tokens.line();
    let mut parts = mnemonic.split('.');
    let opcode = parts.next().unwrap_or_default();
    let modifiers = Modifiers { parts: parts.collect(), line };
    if let Some(part) = modifiers.parts.iter().find(|part| INEXACT.contains(part)) {
        return Err(modifiers.error(format!(".{part} changes results")));
    }
    match opcode {
        "fma" => Err(modifiers.error("fused arithmetic changes results")),
        "abs" | "neg" | "not" | "sqrt" | "rcp" | "popc" | "clz" | "brev" => {
            arithmetic::unary(body, opcode, modifiers)
        }
        "add" | "sub" | "mul" | "div" | "rem" | "min" | "max" | "and" | "or" | "xor" | "shl"
        | "shr" => arithmetic::binary(body, opcode, modifiers),
        "mad" => arithmetic::multiply_add(body, modifiers),
        "bfe" | "bfi" | "prmt" => arithmetic::bit_fields(body, opcode, modifiers),
        "setp" => arithmetic::compare(body, modifiers),
        "selp" => arithmetic::select(body, modifiers),
        "mov" => moves::copy(body, modifiers),
        "cvta" => moves::convert_address(body, modifiers),
        "cvt" => moves::convert(body, modifiers),
        "ld" => memory::load(body, modifiers),
        "st" => memory::store(body, modifiers),
        "atom" | "red" => memory::atomic(body, opcode == "atom", modifiers),
        "membar" | "fence" => memory::fence(modifiers),
        "bra" => warp::branch(body, modifiers),
        "ret" | "exit" => warp::exit(modifiers),
        "bar" | "barrier" => warp::barrier(body, modifiers),
        "shfl" => warp::shuffle(body, modifiers),
        "vote" => warp::vote(body, modifiers),
        "activemask" => warp::active_mask(body, modifiers),
        _ => Err(modifiers.error("the opcode is not known")),
    }
}
