//! The driver's interface for a library that was built without CUDA. `Driver::open` fails, so that
//! no value of these types exists.
#![allow(clippy::missing_safety_doc, reason = "the interface is the driver's")]

use super::kernels::Kernel;
use crate::config::DeviceConfig;
use crate::error::Error;
use core::ffi::c_void;
use core::marker::PhantomData;

enum Never {}

pub struct Driver(Never);
pub struct Entered<'a>(Never, PhantomData<&'a ()>);
pub struct Memory(Never);
pub struct Pinned(Never);
pub struct Event(Never);
pub struct Stream(Never);

pub fn is_installed() -> bool {
    false
}

impl Driver {
    pub fn open(_: u16, _: DeviceConfig) -> Result<Driver, Error> {
        Err(Error::NoCuda("this library was built without the Cargo feature \"cuda\""))
    }

    pub fn stream(&self) -> usize {
        match self.0 {}
    }

    pub fn pinned_bytes(&self) -> usize {
        match self.0 {}
    }

    pub fn most_pinned(&self) -> Option<usize> {
        match self.0 {}
    }

    pub fn set_stream(&mut self, _: usize) {
        match self.0 {}
    }

    pub fn enter(&self) -> Result<Entered<'_>, Error> {
        match self.0 {}
    }
}

impl Entered<'_> {
    pub fn allocate(&self, _: usize, _: &'static str) -> Result<Memory, Error> {
        match self.0 {}
    }

    pub fn pinned(&self, _: usize, _: &'static str) -> Result<Pinned, Error> {
        match self.0 {}
    }

    pub fn event(&self) -> Result<Event, Error> {
        match self.0 {}
    }

    pub fn timed_event(&self) -> Result<Event, Error> {
        match self.0 {}
    }

    pub fn seconds_between(&self, _: &Event, _: &Event) -> Result<f64, Error> {
        match self.0 {}
    }

    pub fn stream(&self) -> Result<Stream, Error> {
        match self.0 {}
    }

    pub fn on(&self, _: &Stream) -> Entered<'_> {
        match self.0 {}
    }

    pub fn queue_behind(&self, _: &Event) -> Result<(), Error> {
        match self.0 {}
    }

    pub fn record(&self, _: &Event) -> Result<(), Error> {
        match self.0 {}
    }

    pub fn wait_for(&self, _: &Event) -> Result<(), Error> {
        match self.0 {}
    }

    pub fn is_capturing(&self) -> Result<bool, Error> {
        match self.0 {}
    }

    pub fn wait(&self) -> Result<(), Error> {
        match self.0 {}
    }

    pub fn wait_for_device(&self) -> Result<(), Error> {
        match self.0 {}
    }

    pub fn can_reach(&self, _: u64) -> Result<bool, Error> {
        match self.0 {}
    }

    pub fn undone_or_half<T>(&self, _: Result<T, Error>) -> Result<T, Error> {
        match self.0 {}
    }

    pub unsafe fn zero(&self, _: u64, _: usize) -> Result<(), Error> {
        match self.0 {}
    }

    pub unsafe fn upload(&self, _: u64, _: usize, _: usize) -> Result<(), Error> {
        match self.0 {}
    }

    pub unsafe fn download(&self, _: usize, _: u64, _: usize) -> Result<(), Error> {
        match self.0 {}
    }

    pub unsafe fn copy(&self, _: u64, _: u64, _: usize) -> Result<(), Error> {
        match self.0 {}
    }

    pub unsafe fn launch<const N: usize>(
        &self,
        _: Kernel,
        _: u64,
        _: [*mut c_void; N],
    ) -> Result<(), Error> {
        match self.0 {}
    }
}

impl Memory {
    pub fn address(&self) -> u64 {
        match self.0 {}
    }
}

impl Pinned {
    pub fn address(&self) -> usize {
        match self.0 {}
    }

    pub unsafe fn bytes(&mut self) -> &mut [u8] {
        match self.0 {}
    }
}

// `driver::Entered` has a destructor, so that callers drop it early: this one is dropped alike.
impl Drop for Entered<'_> {
    fn drop(&mut self) {
        match self.0 {}
    }
}
