//! What an instruction says, decoded once so that running it looks nothing up by name.
//!
//! Every operand is a register: an immediate, a special register and the address of a symbol are
//! registers that have their value from the start and that no instruction writes.

use super::types::Type;

/// A register's place. A value that is narrower than 64 bits has zeros above it.
pub type Register = u32;

/// A predicate's place.
pub type Predicate = u32;

/// One instruction.
pub struct Instruction {
    /// Its line in the text (first is 1).
    pub line: u32,
    /// Runs only in the lanes where this predicate is (or with `true`: is not) set.
    pub guard: Option<(Predicate, bool)>,
    pub operation: Operation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    Abs,
    BitsReversed,
    Copy,
    LeadingZeros,
    Negate,
    Not,
    Ones,
    /// One over it, rounded to nearest.
    Reciprocal,
    Root,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    Add,
    And,
    Divide,
    Max,
    Min,
    Multiply,
    MultiplyHigh,
    MultiplyWide,
    Or,
    Remainder,
    ShiftLeft,
    ShiftRight,
    Subtract,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ternary {
    ExtractBits,
    MultiplyAdd,
    MultiplyHighAdd,
    MultiplyWideAdd,
    PermuteBytes,
}

/// How two numbers compare. Those that end in `U` also hold when one is a NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    EqU,
    NeU,
    LtU,
    LeU,
    GtU,
    GeU,
    /// Neither is a NaN.
    Ordered,
    /// One is a NaN.
    Unordered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic {
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    /// Toward zero.
    Zero,
    Down,
    Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Param,
    Shared,
    Global,
    /// Read only.
    Const,
    /// Global or shared, as the address says.
    Generic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atomic {
    Add,
    And,
    CompareExchange,
    Exchange,
    Max,
    Min,
    Or,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    All,
    Any,
    /// Whether all lanes say the same.
    Uniform,
}

/// What a barrier finds out about the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    And(Predicate),
    Or(Predicate),
    Count(Register),
}

/// One to four registers.
#[derive(Clone, Copy, Debug)]
pub struct Vector {
    pub registers: [Register; 4],
    pub count: u8,
}

impl Vector {
    /// The registers, first first.
    pub fn iter(&self) -> impl Iterator<Item = Register> + '_ {
        self.registers[..self.count as usize].iter().copied()
    }
}

/// A place in memory: a register's value and a distance.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    pub base: Register,
    pub offset: i64,
}

/// A predicate, or (with `true`) its opposite.
pub type Condition = (Predicate, bool);

pub enum Operation {
    Unary {
        op: Unary,
        ty: Type,
        to: Register,
        a: Register,
    },
    Binary {
        op: Binary,
        ty: Type,
        to: Register,
        a: Register,
        b: Register,
    },
    Ternary {
        op: Ternary,
        ty: Type,
        to: Register,
        a: Register,
        b: Register,
        c: Register,
    },
    InsertBits {
        ty: Type,
        to: Register,
        bits: Register,
        into: Register,
        position: Register,
        length: Register,
    },
    Compare {
        comparison: Comparison,
        ty: Type,
        to: Predicate,
        opposite: Option<Predicate>,
        a: Register,
        b: Register,
        combined: Option<(Logic, Condition)>,
    },
    Select {
        to: Register,
        a: Register,
        b: Register,
        when: Predicate,
    },
    Logic {
        op: Logic,
        to: Predicate,
        a: Predicate,
        b: Predicate,
    },
    Convert {
        to_type: Type,
        from_type: Type,
        rounding: Rounding,
        to: Register,
        /// The bits that `to` has.
        mask: u64,
        a: Register,
    },
    Load {
        space: Space,
        ty: Type,
        to: Vector,
        /// The bits that each register of `to` has.
        mask: u64,
        address: Address,
    },
    Store {
        space: Space,
        ty: Type,
        from: Vector,
        address: Address,
    },
    Atomic {
        space: Space,
        op: Atomic,
        ty: Type,
        to: Option<Register>,
        address: Address,
        a: Register,
        b: Register,
    },
    /// Registers of so many bits become one, first lowest.
    Pack {
        to: Register,
        parts: Vector,
        bits: u32,
    },
    /// One becomes registers of so many bits; none for a part that nobody wants.
    Unpack {
        to: [Option<Register>; 4],
        a: Register,
        bits: u32,
    },
    Shuffle {
        shuffle: Shuffle,
        to: Register,
        in_range: Option<Predicate>,
        a: Register,
        lane: Register,
        clamp: Register,
        members: Register,
    },
    Vote {
        vote: Vote,
        to: Predicate,
        condition: Condition,
        members: Register,
    },
    Ballot {
        to: Register,
        condition: Condition,
        members: Register,
    },
    ActiveMask {
        to: Register,
    },
    Branch {
        target: u32,
    },
    Exit,
    Barrier {
        reduction: Option<(Reduction, Condition)>,
    },
    WarpBarrier {
        members: Register,
    },
    /// Orders memory between blocks (`true`), or only inside one.
    Fence {
        between_blocks: bool,
    },
}
