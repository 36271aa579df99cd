//! The threads of one handle: the caller's alone, a team of its own beside it, or the host's loop.
#![forbid(unsafe_code)]

use crate::config;
use crate::error::Error;
use crate::sys;
use crate::sys::team::Team;
use crate::tensor::Line;

/// Work of fewer elements stays on the caller's thread: handing it over costs more than it saves.
const SERIAL_BELOW: u64 = 262_144;

/// What becomes of work that the threads do not take: the host's loop refuses it, or none can be started.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The call fails: it has changed nothing.
    Fails,
    /// The caller does it: the call has written before.
    IsDoneAlone,
}

impl Refused {
    /// For a call that has written, or has not.
    pub fn after(written: bool) -> Refused {
        if written { Refused::IsDoneAlone } else { Refused::Fails }
    }
}

/// Where the tasks of a step run.
pub struct Threads {
    config: config::Threads,
    team: Option<Team>,
}

impl Threads {
    pub fn new(config: config::Threads) -> Threads {
        Threads { config, team: None }
    }

    /// Runs `drain`, which claims tasks of `line` until there are none, on as many threads as
    /// are worth it. An error means that nothing was claimed.
    pub fn run(
        &mut self,
        line: &Line,
        refused: Refused,
        drain: &(dyn Fn() + Sync),
    ) -> Result<(), Error> {
        let count = self.count();
        if count > 1 && line.n_elements() >= SERIAL_BELOW {
            line.share();
            let n_tasks = usize::try_from(line.n_tasks()).unwrap_or(usize::MAX);
            let answer = match self.hand_out(count, n_tasks, drain) {
                Ok(answer) if answer != 0 && !line.started() => Err(Error::ParallelFor(answer)),
                other => other.map(|_| ()),
            };
            if refused == Refused::Fails {
                answer?;
            }
        }
        // What is left: everything, or what the host's loop has left out.
        drain();
        Ok(())
    }

    /// The same for tasks that are not elements; the caller does what the threads do not take.
    pub fn share(&mut self, n_tasks: usize, drain: &(dyn Fn() + Sync)) {
        let count = self.count();
        if count > 1 && n_tasks > 1 {
            let _ = self.hand_out(count, n_tasks, drain);
        }
        drain();
    }

    /// Runs `drain` on so many threads, and says what the host's loop answered.
    fn hand_out(
        &mut self,
        count: usize,
        n_tasks: usize,
        drain: &(dyn Fn() + Sync),
    ) -> Result<i32, Error> {
        if let Some(host) = self.config.host {
            return Ok(host.run(count.min(n_tasks), drain));
        }
        if let Some(team) = self.team(count)? {
            team.run(drain);
        }
        Ok(0)
    }

    /// How many threads work where there is work for them.
    pub fn count(&self) -> usize {
        self.config.count.unwrap_or_else(sys::affinity_count)
    }

    /// The team, started on first use; none in a forked child, which has no such threads.
    fn team(&mut self, count: usize) -> Result<Option<&Team>, Error> {
        if self.team.is_none() {
            self.team = Some(Team::start(count - 1)?);
        }
        Ok(self.team.as_ref().filter(|team| team.is_here()))
    }
}
