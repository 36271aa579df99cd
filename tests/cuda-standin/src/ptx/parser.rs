//! What stands outside the kernels' bodies: the header, variables, and each kernel's parameters.

use super::body::Body;
use super::instruction::Space;
use super::lexer::Tokens;
use super::types::Type;
use super::{Kernel, Module, Parameter, ParseError, Variable};
use std::collections::HashMap;

/// What a name stands for outside registers: a place in one of the spaces.
#[derive(Clone, Copy)]
pub struct Symbol {
    pub space: Space,
    pub address: u64,
}

pub type Symbols = HashMap<String, Symbol>;

/// The most threads that a block may have when the text does not say less.
pub const MOST_THREADS: u32 = 1024;

/// The most bytes of parameters that a kernel of this PTX may have.
const MOST_PARAMETER_BYTES: usize = 4352;

/// The address of the launch's own shared memory, until a body knows how much lies before it.
pub const BEHIND_SHARED: u64 = u64::MAX;

/// Decodes a text.
pub fn parse(text: &str) -> Result<Module, ParseError> {
    let mut tokens = Tokens::new(text)?;
    let mut module = Module { version: 0, target: 0, kernels: Vec::new(), variables: Vec::new() };
    let mut symbols = Symbols::new();
    while tokens.peek().is_some() {
        let word = tokens.take()?;
        match word {
            ".version" => module.version = version(&mut tokens)?,
            ".target" => module.target = target(&mut tokens)?,
            ".address_size" => tokens.expect("64")?,
            ".visible" | ".weak" => {}
            ".pragma" => pragma(&mut tokens)?,
            ".entry" => {
                let kernel = entry(&mut tokens, &symbols)?;
                module.kernels.push(kernel);
            }
            ".extern" => extern_shared(&mut tokens, &mut symbols)?,
            ".global" | ".const" => {
                let found = variable(&mut tokens, word == ".global")?;
                let space = if found.writable { Space::Global } else { Space::Const };
                let symbol = Symbol { space, address: found.memory.as_ptr() as u64 };
                symbols.insert(found.name.clone(), symbol);
                module.variables.push(found);
            }
            _ => return Err(tokens.error(format!("`{word}` is not known here"))),
        }
        if module.version == 0 {
            return Err(tokens.error("a text begins with .version"));
        }
    }
    Ok(module)
}

/// `.pragma "nounroll";`, which changes no result.
pub fn pragma(tokens: &mut Tokens) -> Result<(), ParseError> {
    tokens.expect("\"nounroll\"")?;
    tokens.expect(";")
}

fn version(tokens: &mut Tokens) -> Result<u32, ParseError> {
    let text = tokens.take()?;
    let parsed = text.split_once('.').and_then(|(major, minor)| {
        Some(10 * major.parse::<u32>().ok()? + minor.parse::<u32>().ok()?)
    });
    parsed.ok_or_else(|| tokens.error(format!("`{text}` is no version")))
}

fn target(tokens: &mut Tokens) -> Result<u32, ParseError> {
    let text = tokens.take()?;
    let number = text.strip_prefix("sm_").and_then(|number| number.parse().ok());
    number.ok_or_else(|| tokens.error(format!("`{text}` is no target")))
}

/// `.align 8 .b8 name[256]`, up to and without what follows.
pub struct Declaration<'a> {
    pub name: &'a str,
    pub ty: Type,
    pub align: usize,
    /// In bytes; none for `name[]`.
    pub bytes: Option<usize>,
}

/// Reads a declaration.
pub fn declaration<'a>(tokens: &mut Tokens<'a>) -> Result<Declaration<'a>, ParseError> {
    let align = if tokens.take_if(".align") { Some(tokens.number()?) } else { None };
    let word = tokens.take()?;
    let ty = word.strip_prefix('.').and_then(Type::parse).filter(|&ty| ty != Type::Pred);
    let ty = ty.ok_or_else(|| tokens.error(format!("`{word}` is no type of memory")))?;
    let name = tokens.take()?;
    let align = align.unwrap_or(ty.bytes());
    if !align.is_power_of_two() {
        return Err(tokens.error(format!("alignment {align}")));
    }
    let mut bytes = Some(ty.bytes());
    if tokens.take_if("[") {
        bytes = if tokens.peek() == Some("]") {
            None
        } else {
            let length = tokens.number()?.checked_mul(ty.bytes());
            Some(length.ok_or_else(|| tokens.error("array too long"))?)
        };
        tokens.expect("]")?;
    }
    Ok(Declaration { name, ty, align, bytes })
}

/// Shared memory whose size the launch gives.
fn extern_shared(tokens: &mut Tokens, symbols: &mut Symbols) -> Result<(), ParseError> {
    tokens.expect(".shared")?;
    let found = declaration(tokens)?;
    tokens.expect(";")?;
    if found.bytes.is_some() {
        return Err(tokens.error("extern shared memory has no length"));
    }
    symbols.insert(found.name.to_owned(), Symbol { space: Space::Shared, address: BEHIND_SHARED });
    Ok(())
}

fn variable(tokens: &mut Tokens, writable: bool) -> Result<Variable, ParseError> {
    let found = declaration(tokens)?;
    let bytes = found.bytes.ok_or_else(|| tokens.error("array without a length"))?;
    let mut memory = vec![0_u64; bytes.div_ceil(8).max(1)].into_boxed_slice();
    if found.align > 8 {
        return Err(tokens.error(format!("alignment {} of a variable", found.align)));
    }
    if tokens.take_if("=") {
        let several = tokens.take_if("{");
        let size = found.ty.bytes();
        let mut at = 0;
        loop {
            let bits = literal(tokens, found.ty)?;
            if at + size > bytes {
                return Err(tokens.error("more values than the variable has"));
            }
            // A value never crosses a word: `at` is a multiple of its size.
            memory[at / 8] |= (bits & found.ty.mask()) << (8 * (at % 8));
            at += size;
            if !several || tokens.take_if("}") {
                break;
            }
            tokens.expect(",")?;
        }
    }
    tokens.expect(";")?;
    Ok(Variable { name: found.name.to_owned(), memory, bytes, writable })
}

/// A number as the bits of this type.
pub fn literal(tokens: &mut Tokens, ty: Type) -> Result<u64, ParseError> {
    let negative = tokens.take_if("-");
    let text = tokens.take()?;
    let bits = number_bits(text, ty);
    let bits = bits.ok_or_else(|| tokens.error(format!("`{text}` is no {ty:?}")))?;
    if negative && ty.is_float() {
        return Err(tokens.error("a sign before the bits of a float"));
    }
    Ok(if negative { bits.wrapping_neg() } else { bits } & ty.mask())
}

fn number_bits(text: &str, ty: Type) -> Option<u64> {
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    if let Some(digits) = text.strip_prefix("0f").or(text.strip_prefix("0F")) {
        return hex(digits).filter(|_| digits.len() == 8 && ty.bits() == 32);
    }
    if let Some(digits) = text.strip_prefix("0d").or(text.strip_prefix("0D")) {
        return hex(digits).filter(|_| digits.len() == 16 && ty.bits() == 64);
    }
    if ty.is_float() {
        return None;
    }
    let text = text.strip_suffix('U').unwrap_or(text);
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => hex(digits),
        None if text.len() > 1 && text.starts_with('0') => None,
        None => text.parse().ok(),
    }
}

fn entry(tokens: &mut Tokens, symbols: &Symbols) -> Result<Kernel, ParseError> {
    let name = tokens.take()?;
    let mut symbols = symbols.clone();
    let parameters = parameters(tokens, &mut symbols)?;
    let max_threads = limits(tokens)?;
    let mut kernel = Body::new(tokens, symbols).parse()?;
    kernel.name = name.to_owned();
    kernel.parameters = parameters;
    kernel.max_threads = max_threads;
    Ok(kernel)
}

fn parameters(tokens: &mut Tokens, symbols: &mut Symbols) -> Result<Vec<Parameter>, ParseError> {
    let mut parameters = Vec::new();
    let mut end = 0;
    tokens.expect("(")?;
    while !tokens.take_if(")") {
        tokens.expect(".param")?;
        let found = declaration(tokens)?;
        let bytes = found.bytes.ok_or_else(|| tokens.error("array without a length"))?;
        let offset = usize::next_multiple_of(end, found.align);
        end = offset.saturating_add(bytes);
        if end > MOST_PARAMETER_BYTES {
            return Err(
                tokens.error(format!("more than {MOST_PARAMETER_BYTES} bytes of parameters"))
            );
        }
        let symbol = Symbol { space: Space::Param, address: offset as u64 };
        symbols.insert(found.name.to_owned(), symbol);
        parameters.push(Parameter { offset, bytes });
        if tokens.peek() != Some(")") {
            tokens.expect(",")?;
        }
    }
    Ok(parameters)
}

fn limits(tokens: &mut Tokens) -> Result<u32, ParseError> {
    let mut most = MOST_THREADS;
    loop {
        match tokens.peek() {
            Some(".maxntid") => {
                tokens.take()?;
                let mut product = tokens.number()?;
                while tokens.take_if(",") {
                    product = product.saturating_mul(tokens.number()?);
                }
                most = most.min(u32::try_from(product).unwrap_or(most));
            }
            // Hints for the compiler of the machine code.
            Some(".minnctapersm" | ".maxnreg") => {
                tokens.take()?;
                tokens.number()?;
            }
            _ => return Ok(most),
        }
    }
}
