//! The calls of the driver that a handle makes while the device's context is current.
//!
//! `Driver::enter` makes an `Entered`, whose methods allocate memory, events and streams, queue up
//! copies, zeros and kernels on its stream, and wait for them. `on` returns another one for a
//! stream of the library's own.
//!
//! Calls that allocate, copy or wait hold a `Relaxed`, so that they break no capture of another
//! stream. Copies and zeros of no bytes, and launches of no blocks, are left out, because the
//! driver refuses some of them.

use super::find::{call, checked};
use super::source::lacking;
use super::{Driver, Event, Function, Memory, Pinned, Stream, THREADS, Within, relaxed};
use crate::cuda::kernels::Kernel;
use crate::error::{Error, MemoryProblem};
use core::cell::Cell;
use core::ffi::{c_int, c_uint, c_void};
use core::ptr::{null_mut, with_exposed_provenance_mut};
use cudarc::driver::sys::{self, CUresult};

/// What the address of memory on a device is a multiple of, which the kernels and the layout of
/// state go by.
const ALIGN: u64 = 256;

/// A device whose context is current.
pub struct Entered<'a> {
    pub(super) driver: &'a Driver,
    pub(super) stream: sys::CUstream,
    pub(super) _within: Within,
    /// A kernel has been queued up since the context was entered.
    pub(super) has_launched: Cell<bool>,
}

impl Entered<'_> {
    /// Returns the result of a part of a step. Its error says so if a kernel has been queued up
    /// since the context was entered, because that cannot be undone.
    pub fn undone_or_half<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| if self.has_launched.get() { error.in_the_middle() } else { error })
    }

    /// Allocates memory on the device.
    pub fn allocate(&self, bytes: usize, what: &'static str) -> Result<Memory, Error> {
        let _relaxed = relaxed()?;
        let (bytes, source) = (bytes.max(1), &self.driver.source);
        let address = source.take(bytes, what)?;
        // From here on `drop` gives it back.
        let memory = Memory { address, bytes, source: source.clone() };
        if source.is_hosts() {
            self.check_of_host(address, bytes, what)?;
        }
        if !source.waits() {
            self.wait()?; // until then the memory may not be ready
        }
        Ok(memory)
    }

    /// Checks memory that the host's allocator gave.
    fn check_of_host(&self, at: u64, bytes: usize, what: &'static str) -> Result<(), Error> {
        if !at.is_multiple_of(ALIGN) {
            return Err(Error::Memory(MemoryProblem::Misaligned { at, what }));
        }
        let last = at.saturating_add(bytes as u64 - 1);
        if self.can_reach(at)? && self.can_reach(last)? {
            return Ok(());
        }
        let device = self.driver.source.ordinal;
        Err(Error::Memory(MemoryProblem::Unreachable { at, bytes, what, device }))
    }

    /// Waits for all work of the device, where freeing memory does not.
    pub fn wait_for_device(&self) -> Result<(), Error> {
        self.driver.source.wait_for_device()
    }

    /// Allocates zeroed memory of the host's that the device can read by itself.
    pub fn pinned(&self, bytes: usize, what: &'static str) -> Result<Pinned, Error> {
        let _relaxed = relaxed()?;
        let source = &self.driver.source;
        source.pin(bytes, what)?;
        let mut start = null_mut();
        // SAFETY: written to a place of ours.
        let allocated = unsafe { call!(cuMemHostAlloc(&mut start, bytes.max(1), 0)) };
        allocated.map_err(|error| {
            source.unpin(bytes);
            lacking(error, what, bytes)
        })?;
        let start: *mut u8 = start.cast();
        // SAFETY: the driver has just allocated these bytes.
        unsafe { start.write_bytes(0, bytes) };
        Ok(Pinned { start, bytes, source: source.clone() })
    }

    /// Creates a mark, to be put behind the work of a stream.
    pub fn event(&self) -> Result<Event, Error> {
        self.new_event(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
    }

    /// Creates a mark that keeps the time at which it is reached.
    pub fn timed_event(&self) -> Result<Event, Error> {
        self.new_event(sys::CUevent_flags::CU_EVENT_DEFAULT)
    }

    fn new_event(&self, flags: sys::CUevent_flags) -> Result<Event, Error> {
        let _relaxed = relaxed()?;
        let mut event = null_mut();
        let flags = flags as c_uint;
        // SAFETY: written to a place of ours.
        unsafe { call!(cuEventCreate(&mut event, flags)) }?;
        Ok(Event { event, context: self.driver.retained.context })
    }

    /// Creates a stream that waits for no other.
    pub fn stream(&self) -> Result<Stream, Error> {
        let _relaxed = relaxed()?;
        let mut stream = null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as c_uint;
        // SAFETY: written to a place of ours.
        unsafe { call!(cuStreamCreate(&mut stream, flags)) }?;
        Ok(Stream { stream, context: self.driver.retained.context })
    }

    /// Returns the same device, for work that is queued up on another stream.
    pub fn on(&self, stream: &Stream) -> Entered<'_> {
        let (stream, has_launched) = (stream.stream, Cell::new(false));
        let _within = Within { is_pushed: false };
        Entered { driver: self.driver, stream, _within, has_launched }
    }

    /// Makes the work that is queued up from now on wait for the mark.
    pub fn queue_behind(&self, event: &Event) -> Result<(), Error> {
        // SAFETY: the event and the stream are alive.
        unsafe { call!(cuStreamWaitEvent(self.stream, event.event, 0)) }
    }

    /// Puts the mark behind all work that is queued up now.
    pub fn record(&self, event: &Event) -> Result<(), Error> {
        // SAFETY: the event is alive, and so is the stream, by the host's word.
        unsafe { call!(cuEventRecord(event.event, self.stream)) }
    }

    /// Waits until the mark has been reached.
    pub fn wait_for(&self, event: &Event) -> Result<(), Error> {
        let _relaxed = relaxed()?;
        // SAFETY: the event is alive.
        unsafe { call!(cuEventSynchronize(event.event)) }
    }

    /// Returns the seconds between two marks that keep the time and have been reached; 0 if the
    /// second was reached first.
    pub fn seconds_between(&self, start: &Event, end: &Event) -> Result<f64, Error> {
        let mut milliseconds = 0.0f32;
        // SAFETY: the events are alive; written to a place of ours.
        unsafe { call!(cuEventElapsedTime(&mut milliseconds, start.event, end.event)) }?;
        Ok(f64::from(milliseconds.max(0.0)) / 1e3)
    }

    /// Returns whether the stream's work is being recorded, not done.
    pub fn is_capturing(&self) -> Result<bool, Error> {
        let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
        // SAFETY: written to a place of ours.
        unsafe { call!(cuStreamIsCapturing(self.stream, &mut status)) }?;
        Ok(status != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
    }

    /// Waits until the stream has done all work that is queued up.
    pub fn wait(&self) -> Result<(), Error> {
        let _relaxed = relaxed()?;
        // SAFETY: the stream is alive, by the host's word.
        unsafe { call!(cuStreamSynchronize(self.stream)) }
    }

    /// Returns whether an address lies in memory that this device can read and write.
    pub fn can_reach(&self, address: u64) -> Result<bool, Error> {
        let mut ordinal: c_int = -1;
        const ORDINAL: sys::CUpointer_attribute =
            sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL;
        let place: *mut c_int = &mut ordinal;
        // SAFETY: the driver writes an int to a place of ours; it does not touch the address.
        match unsafe { call!(cuPointerGetAttribute(place.cast(), ORDINAL, address)) } {
            Ok(()) => Ok(ordinal == self.driver.retained.device),
            Err(Error::Cuda { code, .. }) if code == CUresult::CUDA_ERROR_INVALID_VALUE as u32 => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Queues up zeros.
    ///
    /// # Safety
    /// The bytes at the address are the device's, and stay until they have been written.
    pub unsafe fn zero(&self, address: u64, bytes: usize) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's word.
        unsafe { call!(cuMemsetD8Async(address, 0, bytes, self.stream)) }
    }

    /// Queues up a copy from the host's memory to the device's.
    ///
    /// # Safety
    /// Both have these bytes, which stay, and stay the same, until they have been copied.
    pub unsafe fn upload(&self, to: u64, from: usize, bytes: usize) -> Result<(), Error> {
        let from = with_exposed_provenance_mut(from);
        let _relaxed = relaxed()?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's word.
        unsafe { call!(cuMemcpyHtoDAsync_v2(to, from, bytes, self.stream)) }
    }

    /// Queues up a copy from the device's memory to the host's.
    ///
    /// # Safety
    /// Both have these bytes, which stay, and stay the same, until they have been copied.
    pub unsafe fn download(&self, to: usize, from: u64, bytes: usize) -> Result<(), Error> {
        let to = with_exposed_provenance_mut(to);
        let _relaxed = relaxed()?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's word.
        unsafe { call!(cuMemcpyDtoHAsync_v2(to, from, bytes, self.stream)) }
    }

    /// Queues up a copy inside the device's memory.
    ///
    /// # Safety
    /// Both have these bytes, which stay, and stay the same, until they have been copied.
    pub unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's word.
        unsafe { call!(cuMemcpyDtoDAsync_v2(to, from, bytes, self.stream)) }
    }

    /// Queues up a kernel on `blocks` blocks, or on as many as the device runs at once if those are
    /// fewer. `launch!` makes the array of pointers to the arguments.
    ///
    /// # Safety
    /// The arguments are what the kernel takes, and the memory that they point to stays until it
    /// has run.
    pub unsafe fn launch<const N: usize>(
        &self,
        kernel: Kernel,
        blocks: u64,
        mut arguments: [*mut c_void; N],
    ) -> Result<(), Error> {
        let Function { function, most_blocks } = self.driver.kernels.functions[kernel as usize];
        let blocks = blocks.min(most_blocks.into()) as c_uint;
        if blocks == 0 {
            return Ok(()); // The driver refuses to do nothing.
        }
        let arguments = arguments.as_mut_ptr();
        let (stream, none) = (self.stream, null_mut());
        // SAFETY: the caller's word.
        unsafe {
            call!(cuLaunchKernel(function, blocks, 1, 1, THREADS, 1, 1, 0, stream, arguments, none))
        }?;
        self.has_launched.set(true);
        Ok(())
    }
}
