//! One of the two handles, with the memory that it was given, and the memory that is the host's again.

use crate::call::Places;
use crate::common::array::{Array, Dtype};
use crate::common::device::{OnDevice, Stream};
use crate::common::handle::{Answer, Handle, Param};
use crate::common::model::Grad;
use crate::common::model::layout::BUFFERS;
use crate::common::model::param::Layout;
use crate::common::place::Place;
use crate::common::random::Random;
use crate::common::rows::{Rows, RowsOnDevice};
use crate::given::State;
use crate::hosts::Numbers;
use crate::inputs::There;
use crate::more::More;
use adamw::ffi::*;
use core::cell::Cell;
use core::ffi::c_void;
use std::rc::Rc;

pub struct Side {
    pub handle: Handle,
    /// What it was made with.
    pub config: adamw_config,
    pub places: Places,
    /// By number.
    params: Vec<Option<Mine>>,
    /// What the handle has no business with any more, and what stands there now.
    foreign: Vec<(Rc<Place>, Array)>,
    /// What others have found, and what the handle has.
    pub flags: Box<[Cell<f32>; 2]>,
    /// What the handle reads in the device's memory.
    pub there: There,
    /// Where the device writes the loss scale.
    pub scale: Option<OnDevice>,
    /// How often it was told to step.
    pub n_steps: u64,
    stream: Option<Stream>,
    random: Random,
    /// What the handle reads.
    _numbers: Rc<Numbers>,
}

struct Mine {
    place: Rc<Place>,
    shape: Option<Rc<Shape>>,
    /// The state that the host has given.
    state: Vec<(adamw_buffer, Rc<Place>)>,
    dtype: Dtype,
    is_offloaded: bool,
    grad: Option<Held>,
}

/// Two dimensions, and where they lie.
struct Shape {
    shape: [i64; 2],
    strides: [i64; 2],
}

impl Shape {
    fn new(layout: Layout, n: usize) -> Option<Rc<Shape>> {
        let (row, shape) = match layout {
            Layout::Plain => return None,
            Layout::Rows(row) | Layout::Turned(row) => (row as i64, [(n / row) as i64, row as i64]),
        };
        let [height, width] = shape;
        Some(Rc::new(match layout {
            Layout::Turned(_) => Shape { shape: [width, height], strides: [1, row] },
            _ => Shape { shape, strides: [row, 1] },
        }))
    }

    /// An array of so many elements, which has these dimensions.
    fn of(shape: Option<&Rc<Shape>>, tensor: adamw_tensor) -> adamw_tensor {
        let Some(of) = shape else { return tensor };
        let (shape, strides) = (of.shape.as_ptr().cast_mut(), of.strides.as_ptr().cast_mut());
        adamw_tensor { ndim: 2, shape, strides, ..tensor }
    }
}

/// Other places for a parameter and what the host has given of its state.
struct Elsewhere {
    place: Rc<Place>,
    shape: Option<Rc<Shape>>,
    state: Vec<(adamw_buffer, Rc<Place>)>,
}

impl Elsewhere {
    fn moves(&self, number: u32) -> Vec<(u32, adamw_buffer, adamw_tensor)> {
        let state = self.state.iter().map(|(buffer, at)| (number, *buffer, at.tensor()));
        let param = Shape::of(self.shape.as_ref(), self.place.tensor());
        [(number, ADAMW_BUFFER_PARAM, param)].into_iter().chain(state).collect()
    }
}

/// A gradient, which must stay where it is.
#[derive(Clone)]
pub struct Held {
    pub values: Rc<Place>,
    /// The dimensions of a dense one.
    shape: Option<Rc<Shape>>,
    rows: Option<Rc<Listed>>,
}

/// The rows of a sparse one, and where they are listed.
struct Listed {
    rows: Vec<usize>,
    list: List,
}

enum List {
    Here(Rows),
    There(RowsOnDevice),
}

impl Held {
    /// As the model has it.
    pub fn grad(&self) -> Grad {
        let values = self.values.array().values();
        match &self.rows {
            None => Grad::Dense(values),
            Some(listed) => Grad::Rows(listed.rows.clone(), values),
        }
    }

    pub fn is_sparse(&self) -> bool {
        self.rows.is_some()
    }
}

/// Says where a gradient is.
fn give(handle: &Handle, number: u32, held: &Held) -> Answer {
    let values = held.values.tensor();
    let rows = match held.rows.as_deref() {
        None => return handle.set_grad_tensor(number, &Shape::of(held.shape.as_ref(), values)),
        Some(Listed { list: List::Here(rows), .. }) => rows.tensor(),
        Some(Listed { list: List::There(rows), .. }) => rows.tensor(),
    };
    handle.set_sparse_grad_tensors(number, &rows, &values)
}

/// Uses up what the allocator gives a handle for small state, so that what comes after lies end to
/// end; not if the group refuses f32s.
fn lay_state_in_chunks(handle: &Handle) {
    let array = Array::zeros(Dtype::F32, 1000);
    for _ in 0..12 {
        let Ok(number) = handle.try_add_array_to_group(0, "first", &array) else { return };
        handle.remove(number).unwrap();
    }
}

impl Side {
    pub fn new(
        config: &adamw_config,
        places: Places,
        numbers: &Rc<Numbers>,
        is_twin: bool,
    ) -> Answer<Side> {
        let places = if is_twin { places } else { Places::Processor };
        let handle = Handle::try_new(config)?;
        if is_twin {
            lay_state_in_chunks(&handle);
        }
        Ok(Side {
            n_steps: 0,
            handle,
            config: *config,
            places,
            params: Vec::new(),
            foreign: Vec::new(),
            flags: Box::default(),
            there: There::default(),
            scale: None,
            stream: None,
            random: Random::new(7),
            _numbers: Rc::clone(numbers),
        })
    }

    fn mine(&self, number: u32) -> &Mine {
        self.params[number as usize].as_ref().unwrap()
    }

    fn mine_mut(&mut self, number: u32) -> &mut Mine {
        self.params[number as usize].as_mut().unwrap()
    }

    /// Waits for what is queued up on the device.
    pub fn wait(&self) {
        if self.places != Places::Processor {
            cudarc::driver::result::ctx::synchronize().unwrap();
        }
    }

    pub fn is_all_on_device(&self) -> bool {
        self.places == Places::Device
    }

    pub fn is_on_device(&self, number: u32) -> bool {
        let mine = self.mine(number);
        matches!(*mine.place, Place::Device(_)) && !mine.is_offloaded
    }

    pub fn values(&self, number: u32) -> Array {
        self.mine(number).place.array()
    }

    /// The gradient that is set.
    pub fn grad(&self, number: u32) -> Option<Array> {
        self.mine(number).grad.as_ref().map(|given| given.values.array())
    }

    pub fn add(&mut self, param: &Param, layout: Layout, place: u8, state: &State) -> Answer<u32> {
        let place = match self.places {
            Places::Processor => 0,
            Places::Device => 1,
            Places::Offloaded => 2,
            Places::Mixed => place % 3,
        };
        let (is_on_device, is_offloaded) = (place > 0, place == 2);
        let place = Rc::new(Place::of(param.param, is_on_device));
        let shape = Shape::new(layout, param.param.len());
        let mut tensors = [None; 9];
        tensors[0] = Some(Shape::of(shape.as_ref(), place.tensor()));
        let state = state.each_ref().map(|array| {
            array.as_ref().map(|array| Rc::new(Place::of(array, is_on_device && !is_offloaded)))
        });
        for (tensor, place) in tensors[1..].iter_mut().zip(&state) {
            *tensor = place.as_ref().map(|place| place.tensor());
        }
        let param = Param { offload: is_offloaded, ..*param };
        let number = self.handle.try_add_tensors(&param, tensors)?;
        if self.params.len() <= number as usize {
            self.params.resize_with(number as usize + 1, || None);
        }
        let dtype = param.param.dtype();
        let given = BUFFERS.into_iter().zip(state);
        let state = given.filter_map(|(buffer, place)| Some((buffer, place?))).collect();
        let mine = Mine { place, shape, state, dtype, is_offloaded, grad: None };
        self.params[number as usize] = Some(mine);
        Ok(number)
    }

    pub fn remove(&mut self, number: u32) -> Answer {
        self.handle.remove(number)?;
        if let Some(mine) = self.params.get_mut(number as usize).and_then(Option::take) {
            self.is_foreign(mine.grad.map(|given| given.values));
            self.is_foreign(Some(mine.place));
            mine.state.into_iter().for_each(|(_, place)| self.is_foreign(Some(place)));
        }
        Ok(())
    }

    /// Puts other data where the handle had something: it is the host's again, as soon as no graph has it.
    fn is_foreign(&mut self, place: Option<Rc<Place>>) {
        let Some(place) = place else { return };
        self.wait();
        let old = place.array();
        let other = match Rc::strong_count(&place) {
            1 => Array::ordinary(old.dtype(), old.len(), &mut self.random),
            _ => return, // a graph's
        };
        place.set(&other);
        self.foreign.push((place, other));
    }

    /// What the handle has no business with is as the host has left it.
    #[track_caller]
    pub fn assert_untouched(&self) {
        self.wait();
        for (place, left) in &self.foreign {
            let difference = place.array().first_difference(left);
            assert_eq!(difference, None, "memory that is the host's again was written");
        }
    }

    /// Looks at what has come together, and forgets the older half of it.
    pub fn forget_foreign(&mut self) {
        if self.foreign.len() > 16 {
            self.assert_untouched();
            self.foreign.drain(..8);
        }
    }

    fn takes_place_of(&mut self, number: u32, given: Option<Held>) {
        let before = core::mem::replace(&mut self.mine_mut(number).grad, given);
        self.is_foreign(before.map(|given| given.values));
    }

    /// Where a gradient lies: with its parameter, or, of an offloaded one, also in the host's memory.
    fn place_grad(&self, number: u32, grad: &Array, at_home: bool) -> Rc<Place> {
        let mine = self.mine(number);
        let is_on_device = matches!(*mine.place, Place::Device(_));
        Rc::new(Place::of(grad, is_on_device && !(mine.is_offloaded && at_home)))
    }

    /// The dimensions of a parameter, or none: a gradient of one is taken as it lies.
    fn drawn_shape(&mut self, number: u32) -> Option<Rc<Shape>> {
        let is_plain = self.random.once_in(2);
        self.mine(number).shape.clone().filter(|_| !is_plain)
    }

    /// Whether the columns of a parameter lie one after the other.
    pub fn is_turned(&self, number: u32) -> bool {
        self.mine(number).shape.as_ref().is_some_and(|shape| shape.strides[0] == 1)
    }

    /// Whether a gradient is an array like its parameter, where that is stepped.
    fn is_alike(&self, number: u32, grad: &Held) -> bool {
        let Some(Some(mine)) = self.params.get(number as usize) else { return false };
        let is_there = self.is_on_device(number) && !mine.is_offloaded;
        let stepped = if is_there { ADAMW_DEVICE_CUDA } else { ADAMW_DEVICE_CPU };
        let [param, grad] = [&mine.place, &grad.values].map(|place| place.tensor());
        let kind = |of: &adamw_tensor| (of.dtype.code, of.dtype.bits, of.ndim);
        // SAFETY: each has a shape of one number.
        let lengths = unsafe { [*param.shape, *grad.shape] };
        kind(&param) == kind(&grad)
            && lengths[0] == lengths[1]
            && grad.device.device_type == stepped
            && grad.byte_offset == 0
    }

    pub fn set_grad(&mut self, number: u32, grad: &Array, at_home: bool) -> Answer {
        let values = self.place_grad(number, grad, at_home);
        let shape = self.drawn_shape(number);
        let held = Held { values, shape, rows: None };
        if self.is_alike(number, &held) && self.random.once_in(2) {
            self.handle.set_grad_data(Some(&[number]), &[held.values.tensor().data])?;
        } else {
            give(&self.handle, number, &held)?;
        }
        self.takes_place_of(number, Some(held));
        Ok(())
    }

    pub fn set_rows(&mut self, number: u32, rows: &[usize], values: &Array, wide: bool) -> Answer {
        let list = if wide { Rows::i64(rows) } else { Rows::i32(rows) };
        let is_on_device = self.is_on_device(number);
        let values = Rc::new(Place::of(values, is_on_device));
        let list = match is_on_device {
            true => List::There(RowsOnDevice::of(&list)),
            false => List::Here(list),
        };
        let held =
            Held { values, shape: None, rows: Some(Rc::new(Listed { rows: rows.to_vec(), list })) };
        give(&self.handle, number, &held)?;
        self.takes_place_of(number, Some(held));
        Ok(())
    }

    pub fn prepare_rows(&mut self, number: u32, rows: &[usize]) -> Answer {
        let list = Rows::i32(rows);
        if !self.is_on_device(number) {
            return self.handle.sparse_prepare(number, &list);
        }
        let list = RowsOnDevice::of(&list);
        let prepared = self.handle.sparse_prepare_tensor(number, &list.tensor());
        self.wait();
        prepared
    }

    pub fn accumulate(&mut self, number: u32, grad: &Array, at_home: bool) -> Answer {
        let values = self.place_grad(number, grad, at_home);
        let shape = self.drawn_shape(number);
        self.handle.accumulate_tensor(number, &Shape::of(shape.as_ref(), values.tensor()))?;
        self.takes_place_of(number, None);
        self.is_foreign(Some(values));
        Ok(())
    }

    pub fn forget(&mut self, number: u32) -> Answer {
        self.handle.forget_grad(number);
        self.takes_place_of(number, None);
        Ok(())
    }

    pub fn clear_grad(&mut self, zero: bool) -> Answer {
        self.handle.clear_grad(if zero { ADAMW_CLEAR_ZERO } else { ADAMW_CLEAR_FORGET });
        if !zero {
            self.live().into_iter().for_each(|number| self.takes_place_of(number, None));
        }
        Ok(())
    }

    pub fn live(&self) -> Vec<u32> {
        (0..).zip(&self.params).filter(|(_, mine)| mine.is_some()).map(|(i, _)| i).collect()
    }

    /// A step: by threads of the host together, on the side that would have three.
    pub fn step(&mut self) -> Answer {
        self.with_sums(Side::step_by_itself)
    }

    fn step_by_itself(&mut self) -> Answer {
        match self.config.num_threads {
            3 => self.handle.step_together(2),
            _ => self.handle.try_step(),
        }
    }

    pub fn step_param(&mut self, number: u32) -> Answer {
        self.handle.step_param(number)?;
        self.takes_place_of(number, None);
        Ok(())
    }

    pub fn apply(&mut self, grads: &[(u32, Array)]) -> Answer {
        let places: Vec<Rc<Place>> =
            grads.iter().map(|(number, grad)| self.place_grad(*number, grad, false)).collect();
        let pairs: Vec<(u32, adamw_tensor)> = grads
            .iter()
            .zip(&places)
            .map(|((number, _), place)| (*number, place.tensor()))
            .collect();
        self.handle.apply_tensors(&pairs)?;
        places.into_iter().for_each(|place| self.is_foreign(Some(place)));
        Ok(())
    }

    /// A minimize whose closure sets one gradient, whatever becomes of the step.
    pub fn minimize(
        &mut self,
        params: Option<&[u32]>,
        left_out: &[u32],
        (number, grad): (u32, &Array),
    ) -> Answer<Vec<u32>> {
        let values = self.place_grad(number, grad, false);
        let data = Closure { side: self, number, grad: values.tensor(), is_set: Cell::new(false) };
        let capacity = self.params.len();
        let made = self.handle.minimize(Some(set_one), &data, params, left_out, capacity);
        if data.is_set.get() {
            self.takes_place_of(number, Some(Held { values, shape: None, rows: None }));
        }
        made.map(|(_, updated)| updated.into_iter().map(|(number, _)| number).collect())
    }

    /// The host writes a parameter, and says so.
    pub fn write(&mut self, number: u32, values: &Array) -> Answer {
        self.wait();
        self.mine(number).place.set(values);
        self.handle.sync_master(number);
        Ok(())
    }

    /// The host puts the parameter back to what a checkpoint goes with.
    pub fn put_back(&mut self, number: u32, values: &Array) {
        self.wait();
        self.mine(number).place.set(values);
    }

    /// The parameter moves to another place, and so does what the host has given of its state.
    pub fn rebind(&mut self, number: u32) -> Answer {
        let elsewhere = self.copied(number);
        self.handle.rebind_tensors(&elsewhere.moves(number))?;
        self.moves_to(number, elsewhere);
        Ok(())
    }

    /// The same, but where it has moved is not said yet.
    pub fn park(&mut self, number: u32) -> Answer {
        let elsewhere = self.copied(number);
        let moves = elsewhere.moves(number);
        let buffers: Vec<_> = moves.iter().map(|(number, buffer, _)| (*number, *buffer)).collect();
        self.handle.park(&buffers)?;
        self.moves_to(number, elsewhere);
        Ok(())
    }

    /// Says where a parameter is that was parked, and where its gradient.
    pub fn unpark(&mut self, number: u32) -> Answer {
        let mine = self.mine(number);
        let (place, shape) = (Rc::clone(&mine.place), mine.shape.clone());
        let there = Elsewhere { place, shape, state: mine.state.clone() };
        self.handle.rebind_tensors(&there.moves(number))?;
        mine.grad.as_ref().map_or(Ok(()), |held| give(&self.handle, number, held))
    }

    /// Copies of the parameter and of what the host has given of its state.
    fn copied(&self, number: u32) -> Elsewhere {
        self.wait();
        let copy = |place: &Rc<Place>| {
            let is_on_device = matches!(**place, Place::Device(_));
            Rc::new(Place::of(&place.array(), is_on_device))
        };
        let mine = self.mine(number);
        let state = mine.state.iter().map(|(buffer, at)| (*buffer, copy(at))).collect();
        Elsewhere { place: copy(&mine.place), shape: mine.shape.clone(), state }
    }

    fn moves_to(&mut self, number: u32, Elsewhere { place, state, .. }: Elsewhere) {
        let mine = self.mine_mut(number);
        let before = core::mem::replace(&mut mine.place, place);
        let state = core::mem::replace(&mut mine.state, state);
        self.is_foreign(Some(before));
        state.into_iter().for_each(|(_, place)| self.is_foreign(Some(place)));
    }

    /// The state that the host has given.
    pub fn state_of(&self, number: u32) -> Vec<(adamw_buffer, Rc<Place>)> {
        self.mine(number).state.clone()
    }

    pub fn set_flag(&mut self, flag: Option<f32>) {
        self.flags[1].set(0.0);
        match flag {
            None => self.handle.set_found_inf(core::ptr::null(), core::ptr::null_mut()),
            Some(value) => {
                self.flags[0].set(value);
                self.handle.set_found_inf(self.flags[0].as_ptr(), self.flags[1].as_ptr());
            }
        }
    }

    /// Has the handle work on a stream of the host's.
    pub fn set_stream(&mut self) {
        if self.stream.is_none() {
            let stream = Stream::new();
            self.wait();
            self.handle.set_stream(stream.raw().cast()).unwrap();
            self.stream = Some(stream);
        }
    }

    pub fn stream(&self) -> &Stream {
        self.stream.as_ref().unwrap()
    }

    /// Whether the gradient of a parameter is in this place.
    pub fn has_grad_at(&self, number: u32, place: &Rc<Place>) -> bool {
        let grad = self.params[number as usize].as_ref().and_then(|mine| mine.grad.as_ref());
        grad.is_some_and(|given| Rc::ptr_eq(&given.values, place))
    }

    /// The gradient of a parameter, for a graph to hold.
    pub fn hold_grad(&self, number: u32) -> Held {
        self.mine(number).grad.clone().unwrap()
    }

    /// Steps with gradients in the place of those that are set, which are set again afterwards.
    pub fn step_with(&mut self, grads: &[(u32, Held)]) -> Answer {
        let numbers: Vec<u32> = grads.iter().map(|(number, _)| *number).collect();
        for (number, held) in grads {
            give(&self.handle, *number, held)?;
        }
        let made = self.handle.minimize(Some(only_loss), &(), Some(&numbers), &[], 0x100);
        for number in numbers {
            match &self.mine(number).grad {
                Some(before) => give(&self.handle, number, before)?,
                None => self.handle.forget_grad(number),
            }
        }
        made.map(|_| ())
    }

    /// A graph has let go of this.
    pub fn let_go(&mut self, held: Held) {
        let place = held.values;
        let is_set =
            self.params.iter().flatten().any(|mine| {
                mine.grad.as_ref().is_some_and(|given| Rc::ptr_eq(&given.values, &place))
            });
        if !is_set {
            self.is_foreign(Some(place));
        }
    }

    pub fn dtype(&self, number: u32) -> Dtype {
        self.mine(number).dtype
    }

    /// Destroys the handle, which leaves what is the host's as it is.
    pub fn end(self) {
        let Side { handle, foreign, places, .. } = self;
        drop(handle);
        if places != Places::Processor {
            cudarc::driver::result::ctx::synchronize().unwrap();
        }
        for (place, left) in &foreign {
            assert_eq!(place.array().first_difference(left), None, "written at the end");
        }
    }
}

struct Closure {
    side: *const Side,
    number: u32,
    grad: adamw_tensor,
    is_set: Cell<bool>,
}

/// Gives a loss of 0.5.
extern "C" fn only_loss(out_loss: *mut f64, _: *mut c_void) -> i32 {
    // SAFETY: the library passes a valid pointer.
    unsafe { *out_loss = 0.5 };
    0
}

/// Sets one gradient, and gives a loss of 0.5.
extern "C" fn set_one(out_loss: *mut f64, user_data: *mut c_void) -> i32 {
    // SAFETY: `minimize` passes a `Closure` that outlives the call, with a side that does.
    let (data, handle) = unsafe {
        let data = &*user_data.cast::<Closure>();
        (data, &(*data.side).handle)
    };
    let set = handle.set_grad_tensor(data.number, &data.grad);
    data.is_set.set(set.is_ok());
    // SAFETY: the library passes a valid pointer.
    unsafe { *out_loss = 0.5 };
    set.is_err().into()
}
