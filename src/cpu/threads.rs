//! The threads of one handle: the caller's alone, the caller's and a team, those of the host's
//! loop, or those of the host that take a step together.
#![forbid(unsafe_code)]

use crate::config;
use crate::error::Error;
use crate::sys;
use crate::sys::meeting::Meeting;
use crate::sys::team::Team;
use crate::tensor::Line;

/// Work of fewer elements stays on the caller's thread: handing it over costs more than it saves.
const SERIAL_BELOW: u64 = 262_144;

/// The fate of work that no other thread takes, because the host's loop refuses it or no thread can
/// be started.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The call fails, because it has changed nothing yet.
    Fails,
    /// The caller does the work, because the call has written before.
    IsDoneAlone,
}

impl Refused {
    /// Returns the fate of the work of a call that has written before, or has not.
    pub fn after(written: bool) -> Refused {
        if written { Refused::IsDoneAlone } else { Refused::Fails }
    }
}

/// The threads on which the tasks of a step run.
pub struct Threads {
    config: config::Threads,
    /// Where threads of the host wait that take this step in place of those.
    guests: Option<&'static Meeting>,
}

impl Threads {
    pub fn new(config: config::Threads) -> Threads {
        Threads { config, guests: None }
    }

    /// Has work done by threads that meet here, or (`None`) by those of the handle again.
    pub fn invite(&mut self, guests: Option<&'static Meeting>) {
        self.guests = guests;
    }

    /// Runs `drain`, which claims tasks of `line` until none is left, on as many threads as the
    /// work is worth. An error means that nothing was claimed.
    pub fn run(
        &mut self,
        line: &Line,
        refused: Refused,
        drain: &(dyn Fn() + Sync),
    ) -> Result<(), Error> {
        if line.n_elements() >= SERIAL_BELOW && !self.is_alone() {
            line.share();
            let n_tasks = usize::try_from(line.n_tasks()).unwrap_or(usize::MAX);
            let answer = match self.hand_out(n_tasks, drain) {
                Ok(answer) if answer != 0 && !line.started() => Err(Error::ParallelFor(answer)),
                other => other.map(|_| ()),
            };
            if refused == Refused::Fails {
                answer?;
            }
        }
        // The caller does the rest: all tasks, or those that the host's loop has left.
        drain();
        Ok(())
    }

    /// Runs `drain`, which claims `n_tasks` tasks until none is left; the caller does those that no
    /// other thread takes.
    pub fn share(&mut self, n_tasks: usize, drain: &(dyn Fn() + Sync)) {
        if n_tasks > 1 && !self.is_alone() {
            let _ = self.hand_out(n_tasks, drain);
        }
        drain();
    }

    /// Runs `drain` on other threads, too, and returns the answer of the host's loop; 0 if there is
    /// none.
    fn hand_out(&mut self, n_tasks: usize, drain: &(dyn Fn() + Sync)) -> Result<i32, Error> {
        if let Some(guests) = self.guests {
            guests.run(drain);
            return Ok(0);
        }
        let count = self.count();
        if let Some(host) = self.config.host {
            return Ok(host.run(count.min(n_tasks), drain));
        }
        let team = match self.config.team.take() {
            Some(team) => team,
            None => Team::new(count)?,
        };
        self.config.team.insert(team).run(drain)?;
        Ok(0)
    }

    fn is_alone(&self) -> bool {
        self.guests.is_none() && self.count() == 1
    }

    /// Returns the number of threads that share a large step.
    pub fn count(&self) -> usize {
        self.config.count.unwrap_or_else(sys::affinity_count)
    }
}
