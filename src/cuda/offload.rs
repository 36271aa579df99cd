//! Parameters on the device that the processor steps (Ren et al., "ZeRO-Offload", ATC 2021): their
//! copies in the host's memory, and the copying of gradients and parameters.
//!
//! `new_copy` allocates the copy of a parameter, and `landing` the memory in which its gradients
//! arrive. Both are pinned, unless the handle may not pin so much: what passes between ordinary
//! memory and the device then goes through a few pinned slots (`ring.rs`). A copy is filled before
//! its first step, and again when the host has written the parameter (`fill_copies`).
//!
//! In a step, `begin_downloads` queues up all gradients on one stream, in pieces. `wait_for_piece`
//! waits for one of them, the processor steps that part of the copy, and `send` queues it up on the
//! other stream, while the processor steps the next one. `end_uploads` makes the host's stream wait
//! until all have gone up.

use super::Cuda;
use super::driver::{Entered, Event, Stream};
use super::ring::{PIECE, Ring, Room, most_copies};
use super::timing::Way;
use crate::dtype::Dtype;
use crate::error::{Error, TensorProblem};
use crate::sys::memory::{Memory, reserve};
use crate::tensor::{Operands, Tensor};
use core::ops::Range;

/// A piece of a gradient on its way.
struct Piece {
    /// The mark behind the copies that were queued up to arrive here.
    arrived: Event,
    /// The number of chunks with which it will have come through the ring.
    n_chunks: usize,
}

/// The host's copy of one parameter, and the memory in which its gradients arrive.
pub struct HostCopy {
    /// The parameter on the device.
    param: Tensor,
    param_copy: Room,
    /// For gradients of the parameter's type, and for those of another.
    landings: [Option<Room>; 2],
    /// The copy has yet to be filled.
    is_stale: bool,
    pieces: Vec<Piece>,
    /// The chunks for which the ring has made room.
    n_chunks: usize,
}

/// The streams on which gradients come down and parameters go up.
pub struct Traffic {
    down: Stream,
    up: Stream,
    /// The mark on the host's stream where a step begins.
    begun: Event,
    /// The mark behind all that goes up.
    sent: Event,
}

/// Returns memory as a tensor of the host's.
fn tensor(memory: &Room, n_elements: u64, dtype: Dtype) -> Result<Tensor, TensorProblem> {
    // SAFETY: the memory holds these elements, and `Cuda` keeps it as long as the handle knows the
    // parameter.
    unsafe { Tensor::new(memory.address(), n_elements, dtype) }
}

/// Returns the bytes of some elements of a tensor, as far as it has them.
fn bytes_of(tensor: &Tensor, elements: Range<u64>) -> Range<usize> {
    let (n, each) = (tensor.n_elements(), tensor.dtype().bytes());
    elements.start.min(n) as usize * each..elements.end.min(n) as usize * each
}

impl HostCopy {
    /// Returns the copy that the processor steps.
    pub fn tensor(&self) -> Result<Tensor, TensorProblem> {
        tensor(&self.param_copy, self.param.n_elements(), self.param.dtype())
    }

    /// Returns the parameter on the device.
    pub fn param(&self) -> Tensor {
        self.param
    }

    /// Moves the parameter on the device.
    pub fn set_param(&mut self, param: Tensor) {
        self.param = param;
    }

    /// Marks the copy as stale, because the host has written the parameter.
    pub fn forget(&mut self) {
        self.is_stale = true;
    }

    /// Returns the place among `landings` for gradients of this type.
    fn landing(&self, dtype: Dtype) -> usize {
        usize::from(dtype != self.param.dtype())
    }
}

impl Traffic {
    /// Waits until both streams are idle.
    pub fn wait(&self, device: &Entered) -> Result<(), Error> {
        device.on(&self.down).wait()?;
        device.on(&self.up).wait()
    }
}

impl Cuda {
    /// Allocates the host's copy of a parameter.
    pub fn new_copy(&mut self, param: &Tensor) -> Result<HostCopy, Error> {
        self.check_not_capturing("adding a parameter")?;
        let device = self.driver.enter()?;
        let (bytes, what) = (param.addresses().len(), "the host's copy of a parameter");
        if let (None, Some(budget)) = (&self.ring, self.driver.most_pinned()) {
            self.ring = Some(Ring::new(&device, budget)?);
        }
        if self.traffic.is_none() {
            let (down, up) = (device.stream()?, device.stream()?);
            self.traffic =
                Some(Traffic { down, up, begun: device.event()?, sent: device.event()? });
        }
        let n_pieces = param.n_elements().div_ceil(PIECE).max(1) as usize;
        self.timing.reserve(&device, most_copies(param, &self.ring))?;
        let mut pieces = Vec::new();
        reserve(&mut pieces, n_pieces, "the pieces of a parameter")?;
        for _ in 0..n_pieces {
            pieces.push(Piece { arrived: device.event()?, n_chunks: 0 });
        }
        let param_copy = self.room(&device, bytes, what)?;
        let landings = [None, None];
        Ok(HostCopy { param: *param, param_copy, landings, is_stale: true, pieces, n_chunks: 0 })
    }

    /// Allocates memory for a copy or for gradients. Three quarters of what may be pinned is for
    /// these and for the ring; the rest is left for the tables of steps on the device.
    fn room(&self, device: &Entered, bytes: usize, what: &'static str) -> Result<Room, Error> {
        match self.driver.most_pinned() {
            Some(most) if self.pinned_bytes().saturating_add(bytes) > most - most / 4 => {
                Ok(Room::Plain(Memory::zeroed(bytes, what)?))
            }
            _ => Ok(Room::Pinned(device.pinned(bytes, what)?)),
        }
    }

    /// Takes over the copy of a parameter that is added.
    pub fn keep_copy(&mut self, number: u32, copy: HostCopy) {
        self.copies.insert(number, copy);
    }

    /// Returns the copy of a parameter, if the processor steps it.
    pub fn copy_of(&mut self, number: u32) -> Option<&mut HostCopy> {
        self.copies.get_mut(number)
    }

    /// Returns whether there are parameters that the processor steps.
    pub fn has_copies(&self) -> bool {
        self.copies.len() > 0
    }

    /// Frees the copy of a parameter, when both streams are idle.
    pub fn release_copy(&mut self, number: u32) -> Result<(), Error> {
        self.check_not_capturing("removing a parameter")?;
        self.wait_for_all()?;
        if let (Some(copy), Some(ring)) = (self.copies.remove(number), &mut self.ring) {
            ring.release(copy.n_chunks);
        }
        self.drop_unshared();
        Ok(())
    }

    /// Returns the memory in which a gradient of this type arrives. The first call allocates it.
    pub fn landing(&mut self, number: u32, dtype: Dtype) -> Result<Tensor, Error> {
        // The caller has found the copy: the error never comes.
        let copy = self.copies.get(number).ok_or(Error::NoDeviceYet)?;
        let (n, place) = (copy.param.n_elements(), copy.landing(dtype));
        if copy.landings[place].is_none() {
            let device = self.driver.enter()?;
            if device.is_capturing()? {
                return Err(Error::Capturing("the first gradient of a parameter"));
            }
            let (bytes, n_pieces) = (n as usize * dtype.bytes(), copy.pieces.len());
            let room = self.room(&device, bytes, "the host's copy of a gradient")?;
            drop(device);
            let n_chunks = match (&mut self.ring, room.is_plain()) {
                (Some(ring), true) => {
                    ring.reserve(n_pieces, bytes.min(PIECE as usize * dtype.bytes()))?
                }
                _ => 0,
            };
            let copy = self.copies.get_mut(number).ok_or(Error::NoDeviceYet)?;
            copy.n_chunks += n_chunks;
            copy.landings[place] = Some(room);
        }
        let copy = self.copies.get(number).ok_or(Error::NoDeviceYet)?;
        let room = copy.landings[place].as_ref().ok_or(Error::NoDeviceYet)?;
        // A pinned address is aligned and not NULL: the error never comes.
        tensor(room, n, dtype).map_err(|_| Error::NoDeviceYet)
    }

    /// Fills the stale copies among those that are due. Waits for the device.
    pub fn fill_copies(&mut self, is_due: impl Fn(u32) -> bool) -> Result<(), Error> {
        for number in 0..self.copies.n_numbers() {
            if self.copies.get(number).is_some() && is_due(number) {
                self.fill(number)?;
            }
        }
        Ok(())
    }

    /// Fills the copy of a parameter, if it is stale.
    fn fill(&mut self, number: u32) -> Result<(), Error> {
        let Some(copy) = self.copies.get(number).filter(|copy| copy.is_stale) else {
            return Ok(());
        };
        self.check_not_capturing("the first step of a parameter that the processor steps")?;
        let to = copy.tensor().map_err(|_| Error::NoDeviceYet)?;
        self.copy_out(&copy.param, &to)?;
        self.copies.get_mut(number).into_iter().for_each(|copy| copy.is_stale = false);
        Ok(())
    }

    /// Brings the copy of a parameter up to date, if it has one, and waits until it has gone up: so
    /// the caller may read and write it. Waits for the device.
    pub fn fetch(&mut self, number: u32) -> Result<(), Error> {
        let Some(traffic) = self.traffic.as_ref().filter(|_| self.copies.get(number).is_some())
        else {
            return Ok(());
        };
        self.check_not_capturing("to bring a parameter up to date that the processor steps")?;
        self.driver.enter()?.wait_for(&traffic.sent)?;
        self.fill(number)
    }

    /// Queues up the downloads of the gradients that are due, behind what the host's stream does
    /// now.
    pub fn begin_downloads(
        &mut self,
        operands: &[Operands],
        is_due: impl Fn(u32) -> bool,
    ) -> Result<(), Error> {
        let Some(traffic) = &self.traffic else { return Ok(()) };
        self.check_not_capturing("a step of parameters that the processor steps")?;
        let device = self.driver.enter()?;
        device.record(&traffic.begun)?;
        let down = device.on(&traffic.down);
        down.queue_behind(&traffic.begun)?;
        if let Some(ring) = &mut self.ring {
            ring.begin();
        }
        for number in (0..self.copies.n_numbers()).filter(|number| is_due(*number)) {
            let Some(copy) = self.copies.get_mut(number) else { continue };
            let operands = &operands[number as usize];
            // A gradient that has been measured is here already.
            let grad = operands.device_grad().filter(|_| !operands.is_ready());
            let place = grad.map_or(0, |grad| copy.landing(grad.dtype()));
            let room = copy.landings[place].as_ref();
            for (piece, start) in copy.pieces.iter_mut().zip((0..).step_by(PIECE as usize)) {
                piece.n_chunks = 0;
                if let (Some(grad), Some(room)) = (grad, room) {
                    let bytes = bytes_of(&grad, start..start + PIECE);
                    let (to, from) = (room.address() + bytes.start, grad.address() + bytes.start);
                    match (&mut self.ring, room.is_plain()) {
                        (Some(ring), true) => {
                            piece.n_chunks = ring.list(from as u64, to, bytes.len());
                        }
                        _ => self.timing.copy(&down, (Way::Down, bytes.len()), || {
                            // SAFETY: the landing is as long as the gradient, and these bytes of it
                            // are not read before `arrived`.
                            unsafe { down.download(to, from as u64, bytes.len()) }
                        })?,
                    }
                }
                down.record(&piece.arrived)?;
            }
        }
        match &mut self.ring {
            // SAFETY: the host keeps the gradients until the step is taken, which waits for all.
            Some(ring) => unsafe { ring.queue(&down, &mut self.timing) },
            None => Ok(()),
        }
    }

    /// Waits until the gradient of a parameter has arrived, and with it the end of its last upload.
    pub fn wait_for_grad(&mut self, number: u32) -> Result<(), Error> {
        self.wait_for(number, usize::MAX)
    }

    /// As `wait_for_grad`, for the piece of the gradient that starts with an element.
    pub fn wait_for_piece(&mut self, number: u32, start: u64) -> Result<(), Error> {
        self.wait_for(number, (start / PIECE) as usize)
    }

    /// Waits for a piece, or for the last if there are fewer.
    fn wait_for(&mut self, number: u32, piece: usize) -> Result<(), Error> {
        let Some(copy) = self.copies.get(number) else { return Ok(()) };
        let Some(piece) = copy.pieces.get(piece.min(copy.pieces.len() - 1)) else { return Ok(()) };
        let (Some(traffic), device) = (&self.traffic, self.driver.enter()?) else { return Ok(()) };
        self.timing.wait_first(&device, &traffic.begun)?;
        self.timing.wait(&device, &piece.arrived)?;
        match &mut self.ring {
            // SAFETY: as above.
            Some(ring) => unsafe {
                ring.land(&device.on(&traffic.down), piece.n_chunks, &mut self.timing)
            },
            None => Ok(()),
        }
    }

    /// Queues up the upload of elements of a parameter that have been stepped. Their gradients have
    /// arrived, so that the work of the host's stream before the step is done.
    pub fn send(&mut self, number: u32, elements: Range<u64>) -> Result<(), Error> {
        let (Some(copy), Some(traffic)) = (self.copies.get(number), &self.traffic) else {
            return Ok(());
        };
        let bytes = bytes_of(&copy.param, elements);
        let to = (copy.param.address() + bytes.start) as u64;
        let (from, device) = (copy.param_copy.address() + bytes.start, self.driver.enter()?);
        let (up, timing) = (device.on(&traffic.up), &mut self.timing);
        match (&mut self.ring, copy.param_copy.is_plain()) {
            // SAFETY: both are as long as the parameter.
            (Some(ring), true) => unsafe { ring.send(&up, to, from..from + bytes.len(), timing) },
            _ => timing.copy(&up, (Way::Up, bytes.len()), || {
                // SAFETY: as above, and the next step waits before it writes the copy.
                unsafe { up.upload(to, from, bytes.len()) }
            }),
        }
    }

    /// Uploads a parameter whose copy the host has written, behind the work of its stream. Waits
    /// for the device.
    pub fn send_now(&mut self, number: u32) -> Result<(), Error> {
        let Some(copy) = self.copy_of(number) else { return Ok(()) };
        copy.is_stale = false;
        let (to, from) = (copy.param, copy.tensor().map_err(|_| Error::NoDeviceYet)?);
        self.copy_in(&to, &from)
    }

    /// Waits until no work reads or writes the memory that a load writes.
    pub fn wait_to_load(&self) -> Result<(), Error> {
        self.check_not_capturing("loading")?;
        self.wait_for_all()
    }

    /// Makes the host's stream go on only when all has gone up.
    pub fn end_uploads(&mut self) -> Result<(), Error> {
        let Some(traffic) = &self.traffic else { return Ok(()) };
        let device = self.driver.enter()?;
        self.timing.end(&device.on(&traffic.down), &device.on(&traffic.up))?;
        device.on(&traffic.up).record(&traffic.sent)?;
        device.queue_behind(&traffic.sent)
    }
}
