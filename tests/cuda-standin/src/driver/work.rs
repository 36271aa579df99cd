//! The work that streams do, and graphs keep.

use super::module::LoadedModule;
use super::state::{Driver, Handle};
use crate::machine::{self, Fault, Kind, Launch, RangeKind};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Where a copy reads.
pub enum Source {
    /// In the device's memory or page-locked: read when the copy runs.
    Address(u64),
    /// In other memory of the host: read when the copy was asked for.
    Taken(Vec<u8>),
}

pub enum Work {
    Launch {
        module: Arc<LoadedModule>,
        launch: Launch,
    },
    Copy {
        to: u64,
        from: Source,
        bytes: u64,
    },
    /// Into memory of the host that is not page-locked; somebody waits for it.
    CopyToHost {
        to: u64,
        from: u64,
        bytes: u64,
    },
    Fill {
        to: u64,
        pattern: Vec<u8>,
        count: u64,
    },
    Free {
        address: u64,
    },
    Record {
        event: Handle,
    },
    /// Only waits for what it comes after.
    Nothing,
    Graph(Arc<Vec<Work>>),
}

impl Work {
    /// Does it; what goes wrong stays with the driver.
    pub fn run(&self, driver: &mut Driver) {
        if driver.sticky.is_some() {
            return;
        }
        if let Err(fault) = self.attempt(driver) {
            driver.fail(fault.kind, fault.text);
        }
    }

    fn attempt(&self, driver: &mut Driver) -> Result<(), Fault> {
        match self {
            Work::Launch { module, launch } => {
                if !module.loaded.load(Ordering::Relaxed) {
                    let text = "a kernel of a module that was unloaded".to_owned();
                    return Err(Fault { kind: Kind::Failed, text });
                }
                driver.memory.finds_races = driver.settings.global_races;
                machine::run(&module.module, launch, &mut driver.memory)?;
            }
            Work::Copy { to, from, bytes } => {
                live(driver, "copy to", *to, *bytes)?;
                match from {
                    Source::Address(from) => {
                        live(driver, "copy from", *from, *bytes)?;
                        // SAFETY: both ranges are live and as long.
                        unsafe { copy(*from, *to, *bytes) };
                    }
                    // SAFETY: the bytes were counted when they were taken, and the range is live.
                    Source::Taken(taken) => unsafe { copy(taken.as_ptr() as u64, *to, *bytes) },
                }
            }
            Work::CopyToHost { to, from, bytes } => {
                live(driver, "copy from", *from, *bytes)?;
                // SAFETY: the range is live, and the caller that owns the other end waits.
                unsafe { copy(*from, *to, *bytes) };
            }
            Work::Fill { to, pattern, count } => {
                let bytes = pattern.len() as u64 * count;
                live(driver, "fill of", *to, bytes)?;
                // SAFETY: the range is live.
                let range = unsafe { slice::from_raw_parts_mut(*to as *mut u8, bytes as usize) };
                for part in range.chunks_exact_mut(pattern.len()) {
                    part.copy_from_slice(pattern);
                }
            }
            Work::Free { address } => {
                if !driver.memory.remove(*address, &[RangeKind::Device]) {
                    let text = format!("free of {address:#x}, which is no allocation");
                    return Err(Fault { kind: Kind::IllegalAddress, text });
                }
            }
            Work::Record { event } => {
                if let Some(event) = driver.events.get_mut(event) {
                    event.time = Some(Instant::now());
                }
            }
            Work::Nothing => {}
            Work::Graph(nodes) => nodes.iter().for_each(|node| node.run(driver)),
        }
        Ok(())
    }
}

fn live(driver: &Driver, what: &str, address: u64, bytes: u64) -> Result<(), Fault> {
    match driver.memory.range_of(address, bytes) {
        Some(_) => Ok(()),
        None => Err(Fault {
            kind: Kind::IllegalAddress,
            text: format!("{what} {bytes} bytes at {address:#x}, which are not live any more"),
        }),
    }
}

/// Copies bytes that may overlap.
///
/// # Safety
///
/// Both ends have so many bytes.
unsafe fn copy(from: u64, to: u64, bytes: u64) {
    // SAFETY: by the function's contract.
    unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes as usize) };
}
