//! PTX as NVRTC writes it, from text to decoded kernels.
//!
//! What is not known is an error that names its line; so is what would make results differ from
//! scalar IEEE arithmetic: approximation, flushed subnormals, and operations that a driver may
//! fuse.

mod body;
mod decode;
pub(crate) mod instruction;
mod lexer;
mod operand;
mod parser;
pub(crate) mod types;

use instruction::Instruction;
use std::fmt;

pub use parser::parse;

/// Where generic addresses of shared memory begin: far above any address of the host.
pub(crate) const SHARED_WINDOW: u64 = 1 << 60;

/// A text that cannot be run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line in the text (first is 1).
    pub line: u32,
    /// What is wrong with it.
    pub message: String,
}

impl ParseError {
    pub(crate) fn new(line: u32, message: impl Into<String>) -> ParseError {
        ParseError { line, message: message.into() }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// A text, decoded.
pub struct Module {
    /// Ten times the major version plus the minor one: 78 for 7.8.
    pub version: u32,
    /// The architecture it asks for at least: 70 for `sm_70`.
    pub target: u32,
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) variables: Vec<Variable>,
}

impl Module {
    /// The names of its kernels.
    pub fn kernel_names(&self) -> impl Iterator<Item = &str> {
        self.kernels.iter().map(|kernel| kernel.name.as_str())
    }
}

/// A variable of a module, in memory of its own that does not move.
pub(crate) struct Variable {
    pub name: String,
    pub memory: Box<[u64]>,
    /// May be shorter than its memory, which comes in words.
    pub bytes: usize,
    pub writable: bool,
}

/// One entry of a module.
pub(crate) struct Kernel {
    pub name: String,
    pub parameters: Vec<Parameter>,
    pub instructions: Vec<Instruction>,
    /// What each register holds at the start.
    pub registers: Vec<Initial>,
    /// What each predicate is at the start, lane by lane.
    pub predicates: Vec<u32>,
    /// Bytes of shared memory that the text declares.
    pub shared: usize,
    /// Bytes of the shortest access to shared memory: each accesses a multiple of them.
    pub shared_unit: usize,
    /// Where the launch's own shared memory begins; at least `shared`.
    pub dynamic_shared: usize,
    /// The most threads that a block may have.
    pub max_threads: u32,
}

impl Kernel {
    /// Bytes of all parameters.
    pub fn parameter_bytes(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.offset + last.bytes)
    }
}

/// Where a parameter lies among the launch's bytes.
pub(crate) struct Parameter {
    pub offset: usize,
    pub bytes: usize,
}

/// What a register holds before the first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Initial {
    /// All bits that it has are set: a NaN, or an index beyond everything.
    Poison(u64),
    Value(u64),
    Special(Special),
}

/// Registers that differ between threads, or between launches. The number is the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Thread(u8),
    BlockSize(u8),
    Block(u8),
    GridSize(u8),
    Lane,
    Warp,
    /// The lanes below this one (`false`) or above it (`true`), with it or without.
    Lanes {
        above: bool,
        with_self: bool,
    },
}
