//! The devices in whose memory something can lie.
#![forbid(unsafe_code)]

use core::fmt;

/// A device that has memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Device {
    Host,
    /// The CUDA device of this number.
    Cuda(u16),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Device::Host => f.write_str("the host"),
            Device::Cuda(number) => write!(f, "CUDA device {number}"),
        }
    }
}
