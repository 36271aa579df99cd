//! Operands: registers, numbers, special registers, addresses and vectors.

use super::body::{Body, Name};
use super::instruction::{Address, Condition, Predicate, Register, Space, Vector};
use super::parser::literal;
use super::types::Type;
use super::{Initial, ParseError, Special};

/// How wide a register must be.
#[derive(Clone, Copy)]
pub enum Width {
    Exactly(u32),
    /// Loads, stores and conversions also take a wider register.
    AtLeast(u32),
}

impl Width {
    fn allows(self, bits: u32) -> bool {
        match self {
            Width::Exactly(wanted) => bits == wanted,
            Width::AtLeast(wanted) => bits >= wanted,
        }
    }
}

fn special(name: &str) -> Option<Special> {
    let axis = |name: &str| ["x", "y", "z"].iter().position(|&axis| axis == name);
    if let Some((register, name)) = name.split_once('.') {
        let axis = axis(name)? as u8;
        return Some(match register {
            "%tid" => Special::Thread(axis),
            "%ntid" => Special::BlockSize(axis),
            "%ctaid" => Special::Block(axis),
            "%nctaid" => Special::GridSize(axis),
            _ => return None,
        });
    }
    Some(match name {
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%lanemask_lt" => Special::Lanes { above: false, with_self: false },
        "%lanemask_le" => Special::Lanes { above: false, with_self: true },
        "%lanemask_gt" => Special::Lanes { above: true, with_self: false },
        "%lanemask_ge" => Special::Lanes { above: true, with_self: true },
        _ => return None,
    })
}

impl<'a> Body<'_, 'a> {
    /// A comma, then nothing.
    pub fn comma(&mut self) -> Result<(), ParseError> {
        self.tokens.expect(",")
    }

    fn register(&mut self, word: &str, width: Width) -> Result<(Register, u32), ParseError> {
        match self.name(word) {
            Some(Name::Register { place, bits }) if width.allows(bits) => Ok((place, bits)),
            Some(Name::Register { bits, .. }) => {
                Err(self.tokens.error(format!("{word} has {bits} bits")))
            }
            Some(Name::Predicate(_)) => Err(self.tokens.error(format!("{word} is a predicate"))),
            None => Err(self.tokens.error(format!("register {word} is not known"))),
        }
    }

    /// A register to write, and the bits that it has.
    pub fn destination(&mut self, width: Width) -> Result<(Register, u64), ParseError> {
        let word = self.tokens.take()?;
        let (place, bits) = self.register(word, width)?;
        Ok((place, u64::MAX >> (64 - bits)))
    }

    /// A register to write that is as wide as the type.
    pub fn destination_of(&mut self, ty: Type) -> Result<Register, ParseError> {
        Ok(self.destination(Width::Exactly(ty.bits()))?.0)
    }

    /// Something to read that is as wide as the type.
    pub fn source(&mut self, ty: Type) -> Result<Register, ParseError> {
        self.source_in(ty, Width::Exactly(ty.bits()))
    }

    /// Something to read.
    pub fn source_in(&mut self, ty: Type, width: Width) -> Result<Register, ParseError> {
        let word = self.tokens.peek().unwrap_or_default();
        if word == "-" || word.starts_with(|first: char| first.is_ascii_digit()) {
            let bits = literal(self.tokens, ty)?;
            return Ok(self.constant(Initial::Value(bits)));
        }
        self.tokens.take()?;
        if let Some(special) = special(word) {
            // All have 32 bits.
            return match width.allows(32) {
                true => Ok(self.constant(Initial::Special(special))),
                false => Err(self.tokens.error(format!("{word} has 32 bits"))),
            };
        }
        if word == "WARP_SZ" {
            return Ok(self.constant(Initial::Value(32)));
        }
        if let Some(symbol) = self.symbols.get(word).copied() {
            let wide_enough = ty.bits() == 64 || ty.bits() == 32 && symbol.space == Space::Shared;
            return match wide_enough && !ty.is_float() && symbol.space != Space::Param {
                true => Ok(self.constant(Initial::Value(symbol.address))),
                false => Err(self.tokens.error(format!("the address of {word} as {ty:?}"))),
            };
        }
        Ok(self.register(word, width)?.0)
    }

    /// A predicate to write.
    pub fn predicate(&mut self) -> Result<Predicate, ParseError> {
        let word = self.tokens.take()?;
        match self.name(word) {
            Some(Name::Predicate(place)) => Ok(place),
            _ => Err(self.tokens.error(format!("{word} is no predicate"))),
        }
    }

    /// A predicate to read, perhaps its opposite, or 0, 1 or -1.
    pub fn condition(&mut self) -> Result<Condition, ParseError> {
        let negated = self.tokens.take_if("!");
        let word = self.tokens.peek().unwrap_or_default();
        if word == "-" || word.starts_with(|first: char| first.is_ascii_digit()) {
            let value = literal(self.tokens, Type::B32)?;
            return Ok((self.constant_predicate(value != 0), negated));
        }
        Ok((self.predicate()?, negated))
    }

    /// A second, predicate result: `|%p`.
    pub fn second_predicate(&mut self) -> Result<Option<Predicate>, ParseError> {
        if self.tokens.take_if("|") { Ok(Some(self.predicate()?)) } else { Ok(None) }
    }

    /// `[%rd1+16]` or `[symbol+4]`.
    pub fn address(&mut self, space: Space) -> Result<Address, ParseError> {
        self.tokens.expect("[")?;
        let word = self.tokens.take()?;
        let base = match self.symbols.get(word).copied() {
            Some(symbol) => {
                let generic =
                    space == Space::Generic && matches!(symbol.space, Space::Global | Space::Const);
                if symbol.space != space && !generic {
                    let found = symbol.space;
                    return Err(self.tokens.error(format!("{word} is {found:?}, not {space:?}")));
                }
                self.constant(Initial::Value(symbol.address))
            }
            None if space == Space::Param => {
                return Err(self.tokens.error(format!("{word} is no parameter")));
            }
            // Shared memory also has short addresses.
            None => {
                let narrow = if space == Space::Shared { 32 } else { 64 };
                self.register(word, Width::AtLeast(narrow))?.0
            }
        };
        let mut offset = 0;
        if self.tokens.take_if("+") {
            offset = literal(self.tokens, Type::S64)? as i64;
        }
        self.tokens.expect("]")?;
        Ok(Address { base, offset })
    }

    /// `{%f1, %f2}` of so many, or one without braces; each is read by `element`.
    pub fn vector<T>(
        &mut self,
        count: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        if count == 1 {
            return Ok(vec![element(self)?]);
        }
        let found = self.braced(&mut element)?;
        if found.len() != count {
            return Err(self.tokens.error(format!("{} elements, not {count}", found.len())));
        }
        Ok(found)
    }

    /// Two or four elements in braces.
    pub fn braced<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        self.tokens.expect("{")?;
        let mut found = vec![element(self)?];
        while self.tokens.take_if(",") {
            found.push(element(self)?);
        }
        self.tokens.expect("}")?;
        match found.len() {
            2 | 4 => Ok(found),
            length => Err(self.tokens.error(format!("{length} elements"))),
        }
    }

    /// How many elements the braces ahead hold.
    pub fn elements_ahead(&self) -> u32 {
        let inside = self.tokens.ahead().take_while(|word| !matches!(*word, "}" | ";"));
        1 + inside.filter(|word| *word == ",").count() as u32
    }

    /// A label to go to.
    pub fn label(&mut self) -> Result<(), ParseError> {
        let label: &'a str = self.tokens.take()?;
        self.branch(label);
        Ok(())
    }
}

/// Up to four registers as a vector.
pub fn vector_of(registers: &[Register]) -> Vector {
    let mut all = [0; 4];
    all[..registers.len()].copy_from_slice(registers);
    Vector { registers: all, count: registers.len() as u8 }
}
