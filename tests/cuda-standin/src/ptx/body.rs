//! A kernel's body: its declarations, labels and statements.

use super::decode;
use super::instruction::{Instruction, Operation, Predicate, Register, Space};
use super::lexer::Tokens;
use super::parser::{BEHIND_SHARED, Symbol, Symbols, declaration, pragma};
use super::types::Type;
use super::{Initial, Kernel, ParseError};
use std::collections::HashMap;

/// What a declared name of the body stands for.
#[derive(Clone, Copy)]
pub enum Name {
    Register { place: Register, bits: u32 },
    Predicate(Predicate),
}

/// The bits of a predicate that nothing has written: neither all lanes nor none.
const POISONED_PREDICATE: u32 = 0xAAAA_AAAA;

/// The most shared bytes that a text may declare.
const MOST_SHARED: usize = 48 << 10;
/// More than any compiler declares of one kind.
const MOST_REGISTERS: usize = 1 << 16;

/// A body while it is read.
pub struct Body<'t, 'a> {
    pub tokens: &'t mut Tokens<'a>,
    pub symbols: Symbols,
    /// Names by block of braces, innermost last.
    scopes: Vec<HashMap<String, Name>>,
    registers: Vec<Initial>,
    predicates: Vec<u32>,
    /// The registers that have their value from the start.
    constants: HashMap<Initial, Register>,
    constant_predicates: [Option<Predicate>; 2],
    labels: HashMap<&'a str, u32>,
    /// Branches whose label may stand further down: instruction, label and line.
    branches: Vec<(usize, &'a str, u32)>,
    instructions: Vec<Instruction>,
    shared: usize,
}

impl<'t, 'a> Body<'t, 'a> {
    pub fn new(tokens: &'t mut Tokens<'a>, symbols: Symbols) -> Body<'t, 'a> {
        Body {
            tokens,
            symbols,
            scopes: Vec::new(),
            registers: Vec::new(),
            predicates: Vec::new(),
            constants: HashMap::new(),
            constant_predicates: [None; 2],
            labels: HashMap::new(),
            branches: Vec::new(),
            instructions: Vec::new(),
            shared: 0,
        }
    }

    /// Reads the body, braces and all. The kernel's name, parameters and limit stay empty.
    pub fn parse(mut self) -> Result<Kernel, ParseError> {
        let dynamic_shared = self.place_shared()?;
        self.tokens.expect("{")?;
        self.scopes.push(HashMap::new());
        while !self.scopes.is_empty() {
            self.statement()?;
        }
        // Running off the end is leaving.
        let line = self.tokens.line();
        self.instructions.push(Instruction { line, guard: None, operation: Operation::Exit });
        for (at, label, line) in self.branches {
            let found = self.labels.get(label);
            let found = found.ok_or_else(|| ParseError::new(line, format!("no label {label}")))?;
            self.instructions[at].operation = Operation::Branch { target: *found };
        }
        let shared_unit = self.instructions.iter().filter_map(shared_bytes).min().unwrap_or(1);
        Ok(Kernel {
            name: String::new(),
            parameters: Vec::new(),
            instructions: self.instructions,
            registers: self.registers,
            predicates: self.predicates,
            shared: self.shared,
            shared_unit,
            dynamic_shared,
            max_threads: 0,
        })
    }

    fn statement(&mut self) -> Result<(), ParseError> {
        if self.tokens.peek_second() == Some(":") {
            let label = self.tokens.take()?;
            self.tokens.expect(":")?;
            return match self.labels.insert(label, self.instructions.len() as u32) {
                None => Ok(()),
                Some(_) => Err(self.tokens.error(format!("label {label} twice"))),
            };
        }
        let line = self.tokens.line();
        let word = self.tokens.take()?;
        match word {
            // Inline assembly leaves empty statements behind.
            ";" => {}
            "{" => self.scopes.push(HashMap::new()),
            "}" => drop(self.scopes.pop()),
            ".reg" => self.declare_registers()?,
            ".shared" => {
                // It was placed before the body was read.
                declaration(self.tokens)?;
                self.tokens.expect(";")?;
            }
            ".pragma" => pragma(self.tokens)?,
            "@" => {
                let (predicate, negated) = self.condition()?;
                let mnemonic = self.tokens.take()?;
                self.instruction(line, Some((predicate, negated)), mnemonic)?;
            }
            _ if word.starts_with('.') => {
                return Err(self.tokens.error(format!("directive `{word}` is not known")));
            }
            _ => self.instruction(line, None, word)?,
        }
        Ok(())
    }

    fn instruction(
        &mut self,
        line: u32,
        guard: Option<(Predicate, bool)>,
        mnemonic: &str,
    ) -> Result<(), ParseError> {
        let decoded = decode::operation(self, mnemonic);
        let operation = decoded.map_err(|error| {
            ParseError::new(error.line, format!("{mnemonic}: {}", error.message))
        })?;
        self.tokens.expect(";")?;
        self.instructions.push(Instruction { line, guard, operation });
        Ok(())
    }

    /// `.reg .b32 %r<23>;` or `.reg .f16 low, high;`
    fn declare_registers(&mut self) -> Result<(), ParseError> {
        let word = self.tokens.take()?;
        let ty = word.strip_prefix('.').and_then(Type::parse);
        let ty = ty.ok_or_else(|| self.tokens.error(format!("`{word}` is no type")))?;
        loop {
            let name = self.tokens.take()?;
            if self.tokens.take_if("<") {
                let count = self.tokens.number()?;
                if count > MOST_REGISTERS {
                    return Err(self.tokens.error(format!("{count} registers")));
                }
                for number in 0..count {
                    self.declare(format!("{name}{number}"), ty);
                }
                self.tokens.expect(">")?;
            } else {
                self.declare(name.to_owned(), ty);
            }
            if self.tokens.take_if(";") {
                return Ok(());
            }
            self.tokens.expect(",")?;
        }
    }

    fn declare(&mut self, name: String, ty: Type) {
        let place = if ty == Type::Pred {
            self.predicates.push(POISONED_PREDICATE);
            Name::Predicate(self.predicates.len() as Predicate - 1)
        } else {
            self.registers.push(Initial::Poison(ty.mask()));
            Name::Register { place: self.registers.len() as Register - 1, bits: ty.bits() }
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, place);
        }
    }

    /// Gives each shared variable of the body its place; returns where the launch's own begins.
    fn place_shared(&mut self) -> Result<usize, ParseError> {
        let mut ahead = self.tokens.clone();
        let mut depth = 0;
        loop {
            match ahead.take()? {
                "{" => depth += 1,
                "}" => depth -= 1,
                ".shared" => {
                    let found = declaration(&mut ahead)?;
                    let bytes = found.bytes.ok_or_else(|| ahead.error("array without a length"))?;
                    let address = self.shared.next_multiple_of(found.align);
                    self.shared = address.saturating_add(bytes);
                    if self.shared > MOST_SHARED {
                        return Err(ahead.error(format!("more than {MOST_SHARED} shared bytes")));
                    }
                    let symbol = Symbol { space: Space::Shared, address: address as u64 };
                    self.symbols.insert(found.name.to_owned(), symbol);
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        let dynamic = self.shared.next_multiple_of(16);
        for symbol in self.symbols.values_mut() {
            if symbol.address == BEHIND_SHARED {
                symbol.address = dynamic as u64;
            }
        }
        Ok(dynamic)
    }

    /// The name's meaning, in the innermost braces that declare it.
    pub fn name(&self, name: &str) -> Option<Name> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name)).copied()
    }

    /// The register that holds this from the start.
    pub fn constant(&mut self, initial: Initial) -> Register {
        *self.constants.entry(initial).or_insert_with(|| {
            self.registers.push(initial);
            self.registers.len() as Register - 1
        })
    }

    /// The predicate that is this in every lane from the start.
    pub fn constant_predicate(&mut self, value: bool) -> Predicate {
        let predicates = &mut self.predicates;
        *self.constant_predicates[usize::from(value)].get_or_insert_with(|| {
            predicates.push(if value { u32::MAX } else { 0 });
            predicates.len() as Predicate - 1
        })
    }

    /// Notes that the instruction to come goes to the label.
    pub fn branch(&mut self, label: &'a str) {
        self.branches.push((self.instructions.len(), label, self.tokens.line()));
    }
}

/// How many bytes an instruction accesses of what may be shared memory.
fn shared_bytes(instruction: &Instruction) -> Option<usize> {
    let (space, bytes) = match &instruction.operation {
        Operation::Load { space, ty, to, .. } => (space, ty.bytes() * usize::from(to.count)),
        Operation::Store { space, ty, from, .. } => (space, ty.bytes() * usize::from(from.count)),
        Operation::Atomic { space, ty, .. } => (space, ty.bytes()),
        _ => return None,
    };
    matches!(space, Space::Shared | Space::Generic).then_some(bytes)
}
