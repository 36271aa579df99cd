//! All that the driver knows.

use super::capture::{Capture, MINDS, Mode};
use super::code::Code;
use super::event::Event;
use super::module::{Function, LoadedModule};
use super::queue::Queue;
use super::settings::Settings;
use super::stream::Stream;
use super::work::Work;
use crate::machine::{Kind, Memory, RangeKind};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What a handle of the API is to a caller: a pointer that leads nowhere.
pub type Handle = usize;

thread_local! {
    /// The thread's contexts, the current one last.
    pub static CONTEXTS: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// The primary context.
pub struct Primary {
    pub handle: Handle,
    pub references: u64,
}

pub struct Driver {
    pub settings: Settings,
    pub initialized: bool,
    /// What every call returns once a kernel has failed.
    pub sticky: Option<Code>,
    /// What went wrong last, in words.
    pub trouble: String,
    pub log: Vec<String>,
    pub memory: Memory,
    /// The addresses of the pool's memory.
    pub pooled: BTreeSet<u64>,
    pub primary: Option<Primary>,
    pub modules: BTreeMap<Handle, Arc<LoadedModule>>,
    pub functions: BTreeMap<Handle, Function>,
    pub streams: BTreeMap<Handle, Stream>,
    pub events: BTreeMap<Handle, Event>,
    pub captures: BTreeMap<Handle, Capture>,
    pub graphs: BTreeMap<Handle, Arc<Vec<Work>>>,
    pub executables: BTreeMap<Handle, Arc<Vec<Work>>>,
    pub queue: Queue,
    last_handle: Handle,
}

/// More lines than a test reads; older ones are dropped.
const MOST_LINES: usize = 100_000;

/// The device's memory, in bytes.
pub const TOTAL_MEMORY: u64 = 8 << 30;

impl Driver {
    pub const fn new() -> Driver {
        Driver {
            settings: Settings::new(),
            initialized: false,
            sticky: None,
            trouble: String::new(),
            log: Vec::new(),
            memory: Memory::new(),
            pooled: BTreeSet::new(),
            primary: None,
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
            streams: BTreeMap::new(),
            events: BTreeMap::new(),
            captures: BTreeMap::new(),
            graphs: BTreeMap::new(),
            executables: BTreeMap::new(),
            queue: Queue::new(),
            last_handle: 0x1000,
        }
    }

    /// As if the process had just begun; old handles stay invalid.
    pub fn reset(&mut self) {
        self.memory.clear();
        let last_handle = self.last_handle;
        *self = Driver { last_handle, ..Driver::new() };
        CONTEXTS.with_borrow_mut(Vec::clear);
        MINDS.set(Mode::Everybody);
    }

    pub fn log(&mut self, line: fmt::Arguments) {
        if self.settings.echo {
            eprintln!("standin: {line}");
        }
        if self.log.len() == MOST_LINES {
            self.log.drain(..MOST_LINES / 2);
        }
        self.log.push(line.to_string());
    }

    /// A handle that nothing had before.
    pub fn handle(&mut self) -> Handle {
        self.last_handle += 0x10;
        self.last_handle
    }

    pub fn need_initialized(&self) -> Result<(), Code> {
        if self.initialized { Ok(()) } else { Err(Code::NOT_INITIALIZED) }
    }

    /// What nearly every call asks first.
    pub fn need_context(&self) -> Result<(), Code> {
        self.need_initialized()?;
        let current = CONTEXTS.with_borrow(|contexts| contexts.last().copied());
        match (current, &self.primary) {
            (None, _) => Err(Code::INVALID_CONTEXT),
            (Some(current), Some(primary)) if primary.handle == current => {
                self.sticky.map_or(Ok(()), Err)
            }
            (Some(_), _) => Err(Code::CONTEXT_IS_DESTROYED),
        }
    }

    /// As `need_context`, for what must not happen while a stream is captured.
    pub fn need_no_capture(&mut self) -> Result<(), Code> {
        self.need_context()?;
        self.refuse_in_capture()
    }

    /// Notes that work failed, for good.
    pub fn fail(&mut self, kind: Kind, text: String) {
        self.trouble = text;
        self.log(format_args!("fault: {}", self.trouble.clone()));
        self.sticky = Some(match kind {
            Kind::IllegalAddress => Code::ILLEGAL_ADDRESS,
            Kind::Misaligned => Code::MISALIGNED_ADDRESS,
            Kind::Failed => Code::LAUNCH_FAILED,
            Kind::TimedOut => Code::LAUNCH_TIMEOUT,
        });
    }

    /// Allocates, unless this allocation is to fail.
    pub fn allocate(&mut self, bytes: usize, kind: RangeKind) -> Result<u64, Code> {
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let left = TOTAL_MEMORY.saturating_sub(self.memory.bytes(kind));
        if self.settings.out_of_memory() || bytes as u64 > left {
            return Err(Code::OUT_OF_MEMORY);
        }
        self.memory.allocate(bytes as u64, kind).ok_or(Code::OUT_OF_MEMORY)
    }
}
