//! What a kernel did wrong.

/// The kinds of fault that a driver tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address that is nobody's, or not to be written.
    IllegalAddress,
    /// An address that is not a multiple of the access's size.
    Misaligned,
    /// A race, a barrier or an exchange that not all reach, and other breaches.
    Failed,
    /// A block that does not end.
    TimedOut,
}

/// A fault, with kernel, block, thread and line in its text.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What a driver calls it.
    pub kind: Kind,
    /// What happened, and where.
    pub text: String,
}

/// A fault inside an instruction, which does not know where it stands.
pub struct Trouble {
    pub kind: Kind,
    pub lane: Option<usize>,
    pub text: String,
}

impl Trouble {
    /// A breach that concerns one lane.
    pub fn failed(lane: usize, text: impl Into<String>) -> Trouble {
        Trouble { kind: Kind::Failed, lane: Some(lane), text: text.into() }
    }

    /// A breach of the whole warp.
    pub fn of_warp(text: impl Into<String>) -> Trouble {
        Trouble { kind: Kind::Failed, lane: None, text: text.into() }
    }

    pub fn illegal(text: impl Into<String>) -> Trouble {
        Trouble { kind: Kind::IllegalAddress, lane: None, text: text.into() }
    }

    /// The same, in this lane.
    pub fn at(self, lane: usize) -> Trouble {
        Trouble { lane: Some(lane), ..self }
    }
}
