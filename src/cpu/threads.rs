//! The threads of one handle: the caller's alone, a pool of its own, or the host's loop.
#![forbid(unsafe_code)]

use crate::config;
use crate::error::Error;
use crate::sys::{self, fp, panics};
use crate::tensor::Chunks;
use rayon::{ThreadPool, ThreadPoolBuilder, join};
use std::thread::{Builder, JoinHandle};

/// Work of fewer elements stays on the caller's thread: handing it over costs more than it saves.
const SERIAL_BELOW: u64 = 131_072;

/// Where the tasks of a step run.
pub struct Threads {
    config: config::Threads,
    pool: Option<Pool>,
}

impl Threads {
    pub fn new(config: config::Threads) -> Threads {
        Threads { config, pool: None }
    }

    /// Runs `drain`, which claims tasks of `chunks` until there are none, on as many threads as
    /// are worth it. An error means that nothing was claimed.
    pub fn run(&mut self, chunks: &Chunks, drain: &(dyn Fn() + Sync)) -> Result<(), Error> {
        let count = self.config.count.unwrap_or_else(sys::affinity_count);
        let count = count.min(usize::try_from(chunks.n_tasks()).unwrap_or(usize::MAX));
        if count > 1 && chunks.n_elements() >= SERIAL_BELOW {
            match self.config.host {
                Some(host) => {
                    let answer = host.run(count, drain);
                    if answer != 0 && !chunks.started() {
                        return Err(Error::ParallelFor(answer));
                    }
                }
                None => {
                    if let Some(pool) = self.pool()? {
                        pool.run(drain);
                    }
                }
            }
        }
        drain();
        Ok(())
    }

    /// The pool, started on first use; none in a forked child, which has no such threads.
    fn pool(&mut self) -> Result<Option<&Pool>, Error> {
        if self.pool.is_none() {
            let count = self.config.count.unwrap_or_else(sys::affinity_count);
            self.pool = Some(Pool::start(count)?);
        }
        Ok(self.pool.as_ref().filter(|pool| pool.process == sys::process_id()))
    }
}

/// A rayon pool whose threads are joined: dropping a `ThreadPool` alone leaves them running for a
/// while, which a host that unloads the library does not survive.
struct Pool {
    /// Taken when dropped.
    rayon: Option<ThreadPool>,
    workers: Vec<JoinHandle<()>>,
    process: i32,
}

impl Pool {
    fn start(count: usize) -> Result<Pool, Error> {
        let mut workers = Vec::new();
        let rayon = ThreadPoolBuilder::new()
            .num_threads(count)
            .spawn_handler(|thread| {
                let name = format!("adamw-{}", thread.index());
                let worker = Builder::new().name(name).spawn(move || {
                    sys::block_signals();
                    panics::silence_this_thread();
                    thread.run();
                })?;
                workers.push(worker);
                Ok(())
            })
            .build()
            .map_err(|_| Error::Threads(count));
        match rayon {
            Ok(rayon) => Ok(Pool { rayon: Some(rayon), workers, process: sys::process_id() }),
            Err(error) => {
                join_all(workers);
                Err(error)
            }
        }
    }

    /// Runs `drain` once on every thread of the pool, and waits for all.
    fn run(&self, drain: &(dyn Fn() + Sync)) {
        if let Some(rayon) = &self.rayon {
            rayon.install(|| spread(rayon.current_num_threads(), drain));
        }
    }
}

/// Forks into so many threads by halves: `join` keeps its jobs on the stack, where rayon's scopes
/// and broadcasts would allocate.
fn spread(count: usize, drain: &(dyn Fn() + Sync)) {
    if count <= 1 {
        return fp::standard(drain);
    }
    join(|| spread(count / 2, drain), || spread(count - count / 2, drain));
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.process == sys::process_id() {
            self.rayon = None;
            join_all(core::mem::take(&mut self.workers));
        } else {
            // In a forked child there is nobody to stop or to join.
            core::mem::forget(self.rayon.take());
            core::mem::forget(core::mem::take(&mut self.workers));
        }
    }
}

fn join_all(workers: Vec<JoinHandle<()>>) {
    for worker in workers {
        // A worker that panicked has told its scope already.
        let _ = worker.join();
    }
}
