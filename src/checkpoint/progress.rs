//! The progress of a save or a load.
#![forbid(unsafe_code)]

use crate::callback::HostProgress;
use crate::error::Error;

/// The number of bytes after which the host is told again.
const TOLD_AFTER: u64 = 1 << 20;

/// Counts bytes, and tells the host after every `TOLD_AFTER` of them and at the end.
pub struct Progress {
    host: Option<HostProgress>,
    done: u64,
    told: u64,
    total: u64,
}

impl Progress {
    pub fn new(host: Option<HostProgress>, total: u64) -> Progress {
        Progress { host, done: 0, told: 0, total }
    }

    /// Counts `n_bytes` more. An error is the host's, which cancels.
    pub fn add(&mut self, n_bytes: u64) -> Result<(), Error> {
        self.done += n_bytes;
        let is_due = self.done - self.told >= TOLD_AFTER || self.done == self.total;
        match self.host {
            Some(host) if is_due => {
                self.told = self.done;
                host.tell(self.done, self.total)
            }
            _ => Ok(()),
        }
    }
}
