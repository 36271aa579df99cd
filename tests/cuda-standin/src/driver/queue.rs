//! Work that has been asked for and not yet been done, and what must come before what.
//!
//! Work runs at once, or (lazily) when somebody waits for it. It comes after the work of its
//! stream; the default stream's also after that of every stream that does not opt out, and theirs
//! after its.

use super::code::Code;
use super::state::{Driver, Handle};
use super::stream::LEGACY;
use super::work::Work;
use std::collections::{BTreeMap, BTreeSet};

/// A number of a piece of work; later work has a larger one.
pub type Ticket = u64;

struct Item {
    stream: Handle,
    /// Whether it is ordered with the default stream.
    blocking: bool,
    /// Work that must be done before; tickets that are no longer in the queue are done.
    after: Vec<Ticket>,
    work: Work,
}

/// The work that waits.
pub struct Queue {
    items: BTreeMap<Ticket, Item>,
    last: Ticket,
}

impl Queue {
    pub const fn new() -> Queue {
        Queue { items: BTreeMap::new(), last: 0 }
    }

    /// Whether it is not yet done.
    pub fn holds(&self, ticket: Ticket) -> bool {
        self.items.contains_key(&ticket)
    }

    /// Those of a stream, or of all.
    fn tickets(&self, stream: Option<Handle>) -> Vec<Ticket> {
        let of_it = |item: &Item| stream.is_none_or(|stream| item.stream == stream);
        self.items.iter().filter(|(_, item)| of_it(item)).map(|(&ticket, _)| ticket).collect()
    }

    fn ready(&self, ticket: &Ticket) -> bool {
        self.items[ticket].after.iter().all(|before| !self.holds(*before))
    }

    /// The work and all that must be done before it.
    fn needed(&self, ticket: Ticket) -> BTreeSet<Ticket> {
        let mut needed = BTreeSet::new();
        let mut open = vec![ticket];
        while let Some(ticket) = open.pop() {
            if let Some(item) = self.items.get(&ticket)
                && needed.insert(ticket)
            {
                open.extend(&item.after);
            }
        }
        needed
    }
}

impl Driver {
    /// Asks for work in a stream: it runs, waits, or becomes part of a capture. The ticket is none
    /// where it was captured.
    pub fn enqueue(&mut self, stream: Handle, work: Work) -> Result<Option<Ticket>, Code> {
        let stream = self.stream(stream)?;
        if self.streams[&stream].capture.is_some() {
            self.capture_work(stream, work)?;
            return Ok(None);
        }
        self.refuse_implicit_wait(stream)?;
        let own = self.streams.get_mut(&stream).ok_or(Code::INVALID_HANDLE)?;
        let blocking = own.blocking;
        let mut after = std::mem::take(&mut own.waits);
        let before = |item: &Item| {
            item.stream == stream
                || (stream == LEGACY && item.blocking)
                || (blocking && item.stream == LEGACY)
        };
        after.extend(self.queue.items.iter().filter(|(_, item)| before(item)).map(|(&at, _)| at));
        self.queue.last += 1;
        let ticket = self.queue.last;
        self.queue.items.insert(ticket, Item { stream, blocking, after, work });
        if !self.settings.lazy {
            self.wait_for(ticket);
        }
        Ok(Some(ticket))
    }

    /// Does this work, and of the rest what must come before it; by a seed, perhaps more.
    pub fn wait_for(&mut self, ticket: Ticket) {
        if self.settings.shuffle.is_none() {
            // What must come before has a smaller number.
            for ticket in self.queue.needed(ticket) {
                self.run(ticket);
            }
            return;
        }
        while self.queue.holds(ticket) {
            let mut ready = self.queue.tickets(None);
            ready.retain(|ticket| self.queue.ready(ticket));
            let chosen = ready[self.settings.choose(ready.len())];
            self.run(chosen);
        }
    }

    fn run(&mut self, ticket: Ticket) {
        if let Some(item) = self.queue.items.remove(&ticket) {
            item.work.run(self);
        }
    }

    /// Does all work of a stream.
    pub fn wait_for_stream(&mut self, stream: Handle) -> Result<(), Code> {
        for ticket in self.queue.tickets(Some(stream)) {
            self.wait_for(ticket);
        }
        self.sticky.map_or(Ok(()), Err)
    }

    /// Does all work.
    pub fn wait_for_all(&mut self) -> Result<(), Code> {
        for ticket in self.queue.tickets(None) {
            self.wait_for(ticket);
        }
        self.sticky.map_or(Ok(()), Err)
    }

    /// Whether a stream has work left. Asking does one piece of it, so that who asks until there
    /// is none comes to an end.
    pub fn advance(&mut self, stream: Handle) -> bool {
        let first = self.queue.tickets(Some(stream)).first().copied();
        first.is_some_and(|ticket| {
            self.wait_for(ticket);
            true
        })
    }
}
