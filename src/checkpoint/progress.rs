//! How far a save or a load has come.
#![forbid(unsafe_code)]

use crate::callback::HostProgress;
use crate::error::Error;

/// After how many bytes the host hears of it again.
const TOLD_AFTER: u64 = 1 << 20;

/// Counts bytes, and tells the host after every so many.
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

    /// So many more are done.
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
