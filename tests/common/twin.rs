//! Two handles that are told the same: one with its parameters in the host's memory, one with them, or some
//! of them, on a device. Their bits are the same.

use super::array::{Array, Dtype};
use super::device::OnDevice;
use super::handle::{Handle, Param};
use super::place::Place;
use super::random::Random;
use super::rows::{Rows, RowsOnDevice};
use super::state::state;
use adamw::ffi::adamw_config;

pub struct Twin {
    pub host: Handle,
    pub device: Handle,
    pub random: Random,
    params: Vec<Pair>,
    earlier: Vec<(Array, Place)>,
    lists: Vec<RowsOnDevice>,
    /// The host's halves of earlier lists.
    listed: Vec<Rows>,
}

/// The gradients that a graph was recorded with, by parameter; it goes on with them.
pub struct Recorded(Vec<(u32, Array, Option<Rows>)>);

struct Pair {
    name: String,
    host: Array,
    other: Place,
    /// The gradients that are set, which must stay where they are.
    grad: Option<(Array, Place)>,
    /// Those that it lists, if it is sparse.
    rows: Option<(Rows, RowsOnDevice)>,
}

impl Pair {
    #[track_caller]
    fn assert_same(&self) {
        assert_eq!(self.other.array().first_difference(&self.host), None, "{}", self.name);
    }
}

impl Twin {
    pub fn new(config: &adamw_config) -> Twin {
        Twin {
            host: Handle::new(config),
            device: Handle::new(config),
            random: Random::new(5),
            params: Vec::new(),
            earlier: Vec::new(),
            lists: Vec::new(),
            listed: Vec::new(),
        }
    }

    /// Adds a parameter of so many ordinary elements to both, on the device to the second.
    pub fn add(&mut self, dtype: Dtype, n: usize) -> u32 {
        self.add_with(dtype, n, true, |param| param)
    }

    pub fn add_with(
        &mut self,
        dtype: Dtype,
        n: usize,
        on_device: bool,
        edit: impl for<'a> FnOnce(Param<'a>) -> Param<'a>,
    ) -> u32 {
        let host = Array::ordinary(dtype, n, &mut self.random);
        let name = format!("w{}", self.params.len());
        let param = edit(Param::new(&name, &host));
        let other = match on_device {
            true => Place::Device(OnDevice::of(&host, 0)),
            false => Place::Host(host.duplicate()),
        };
        let number = self.host.add(&Param { offload: false, ..param });
        let tensor = match &other {
            Place::Device(on_device) => on_device.tensor(),
            Place::Host(array) => array.tensor(),
        };
        let mut tensors = [None; 9];
        tensors[0] = Some(tensor);
        assert_eq!(self.device.try_add_tensors(&param, tensors), Ok(number));
        self.params.push(Pair { name, host, other, grad: None, rows: None });
        number
    }

    /// Gives a parameter a gradient, at a new place.
    pub fn set_grad(&mut self, number: u32, grad: Array) {
        let pair = &mut self.params[number as usize];
        self.host.set_grad(number, &grad);
        let other = match &pair.other {
            Place::Host(_) => {
                let copy = grad.duplicate();
                self.device.set_grad(number, &copy);
                Place::Host(copy)
            }
            Place::Device(_) => {
                let copy = OnDevice::of(&grad, 0);
                self.device.set_grad_tensor(number, &copy.tensor()).unwrap();
                Place::Device(copy)
            }
        };
        pair.grad = Some((grad, other));
        pair.rows = None;
    }

    /// Gives a parameter a sparse gradient, at a new place.
    pub fn set_sparse_grad(&mut self, number: u32, rows: Rows, values: Array) {
        let pair = &mut self.params[number as usize];
        self.host.set_sparse_grad(number, &rows, &values);
        let (on_device, copy) = (RowsOnDevice::of(&rows), OnDevice::of(&values, 0));
        let set = self.device.set_sparse_grad_tensors(number, &on_device.tensor(), &copy.tensor());
        set.unwrap();
        pair.grad = Some((values, Place::Device(copy)));
        pair.rows = Some((rows, on_device));
    }

    /// Brings rows of a parameter on the device up to date.
    pub fn sparse_prepare(&mut self, number: u32, rows: &Rows) {
        self.host.sparse_prepare(number, rows).unwrap();
        let on_device = RowsOnDevice::of(rows);
        self.device.sparse_prepare_tensor(number, &on_device.tensor()).unwrap();
        self.lists.push(on_device); // which is read whenever the device gets there
    }

    /// Writes other elements over a gradient.
    pub fn write_grad(&mut self, number: u32, values: &Array) {
        let (host, other) = self.params[number as usize].grad.as_ref().unwrap();
        let copy = |to: &Array| (0..to.len()).for_each(|i| to.set_bits(i, values.bits(i)));
        copy(host);
        match other {
            Place::Host(array) => copy(array),
            Place::Device(on_device) => on_device.set(values),
        }
    }

    /// Writes other numbers over the list of a sparse gradient on the device.
    pub fn write_rows(&self, number: u32, rows: &Rows) {
        self.params[number as usize].rows.as_ref().unwrap().1.set(rows);
    }

    /// What a parameter is.
    pub fn param(&self, number: u32) -> Array {
        self.params[number as usize].host.duplicate()
    }

    /// Writes other elements over a parameter.
    pub fn write_param(&mut self, number: u32, values: &Array) {
        let pair = &self.params[number as usize];
        let copy = |to: &Array| (0..to.len()).for_each(|i| to.set_bits(i, values.bits(i)));
        copy(&pair.host);
        match &pair.other {
            Place::Host(array) => copy(array),
            Place::Device(on_device) => on_device.set(values),
        }
    }

    /// New ordinary gradients for all parameters.
    pub fn set_grads(&mut self) {
        for number in 0..self.params.len() {
            let (dtype, n) = (self.params[number].host.dtype(), self.params[number].host.len());
            let grad = Array::ordinary(dtype, n, &mut self.random);
            self.set_grad(number as u32, grad);
        }
    }

    /// The gradients that are set, set again.
    pub fn set_same_grads(&self) {
        for (number, pair) in (0..).zip(&self.params) {
            match &pair.grad {
                Some((host, Place::Device(on_device))) => {
                    self.host.set_grad(number, host);
                    self.device.set_grad_tensor(number, &on_device.tensor()).unwrap();
                }
                Some((host, Place::Host(other))) => {
                    self.host.set_grad(number, host);
                    self.device.set_grad(number, other);
                }
                None => {}
            }
        }
    }

    /// New ordinary gradients, while the memory of those before stays, which work may be queued up for.
    pub fn set_new_grads(&mut self) {
        (0..self.params.len() as u32).for_each(|number| self.keep_grad(number));
        self.set_grads();
    }

    /// Keeps the memory of a parameter's gradient, which a graph has been recorded with, or forgets that it is set.
    pub fn keep_grad(&mut self, number: u32) {
        let pair = &mut self.params[number as usize];
        self.earlier.extend(pair.grad.take());
        if let Some((rows, on_device)) = pair.rows.take() {
            self.listed.push(rows);
            self.lists.push(on_device);
        }
    }

    /// A parameter has no gradient any more, in both; its memory stays.
    pub fn forget_grad(&mut self, number: u32) {
        self.both(|handle| handle.forget_grad(number));
        self.keep_grad(number);
    }

    /// The gradients that are set.
    pub fn recorded(&self) -> Recorded {
        let grads = (0..).zip(&self.params).filter_map(|(number, pair)| {
            let (grad, _) = pair.grad.as_ref()?;
            let rows = pair.rows.as_ref().map(|(rows, _)| rows.duplicate());
            Some((number, grad.duplicate(), rows))
        });
        Recorded(grads.collect())
    }

    /// Has the host's handle take the step that a graph takes, and gives it back the gradients of now.
    pub fn replay_on_host(&self, recorded: &Recorded) {
        let is_there = |number: u32| self.host.try_info(number).is_ok();
        let set = |number, grad: &Array, rows: Option<&Rows>| match rows {
            Some(rows) => self.host.set_sparse_grad(number, rows, grad),
            None => self.host.set_grad(number, grad),
        };
        let numbers = || (0..self.params.len() as u32).filter(|number| is_there(*number));
        numbers().for_each(|number| self.host.forget_grad(number));
        for (number, grad, rows) in recorded.0.iter().filter(|(number, ..)| is_there(*number)) {
            set(*number, grad, rows.as_ref());
        }
        self.host.step();
        for number in numbers() {
            let pair = &self.params[number as usize];
            match &pair.grad {
                Some((grad, _)) => set(number, grad, pair.rows.as_ref().map(|(rows, _)| rows)),
                None => self.host.forget_grad(number),
            }
        }
    }

    /// New ordinary gradients where the old ones are.
    pub fn write_grads(&mut self) {
        for number in 0..self.params.len() {
            let (grad, _) = self.params[number].grad.as_ref().unwrap();
            let grad = Array::ordinary(grad.dtype(), grad.len(), &mut self.random);
            self.write_grad(number as u32, &grad);
        }
    }

    /// Destroys the handles, and compares the parameters.
    #[track_caller]
    pub fn assert_same_at_the_end(self) {
        let Twin { host, device, params, .. } = self;
        drop((host, device));
        params.iter().for_each(Pair::assert_same);
    }

    /// Tells both the same.
    pub fn both(&self, tell: impl Fn(&Handle)) {
        tell(&self.host);
        tell(&self.device);
    }

    pub fn step(&self) {
        self.both(Handle::step);
    }

    /// Adds a gradient to what the parameter has accumulated.
    pub fn accumulate(&self, number: u32, grad: &Array) {
        self.host.accumulate_grad(number, grad).unwrap();
        let on_device = OnDevice::of(grad, 0);
        self.device.accumulate_tensor(number, &on_device.tensor()).unwrap();
    }

    /// Compares parameters as they lie there, and changes nothing.
    #[track_caller]
    pub fn assert_same_params(&self) {
        self.params.iter().for_each(Pair::assert_same);
    }

    /// Compares everything there is, bit by bit.
    #[track_caller]
    pub fn assert_same(&self) {
        self.assert_same_state();
        self.assert_same_report();
    }

    /// The same, but for what the last step is reported to have come to.
    #[track_caller]
    pub fn assert_same_state(&self) {
        for (number, pair) in (0..).zip(&self.params) {
            if self.host.try_info(number).is_err() || self.device.try_info(number).is_err() {
                continue;
            }
            let name = &pair.name;
            let same = |part: &str, host: &Array, other: &Array| {
                let difference = other.first_difference(host);
                assert!(difference.is_none(), "{part} of {name}: {}", difference.unwrap());
            };
            same("param", &pair.host, &pair.other.array());
            if let Some((grad, other)) = &pair.grad {
                same("grad", grad, &other.array());
            }
            let both = state(&self.host, number, name).into_iter();
            for ((part, host), (_, other)) in both.zip(state(&self.device, number, name)) {
                same(part, &host, &other);
            }
            assert_eq!(self.host.info(number), self.device.info(number));
            for power in ["beta1_power", "beta2_power", "step"] {
                let counter = |handle: &Handle| {
                    let to = Array::zeros(Dtype::F64, 1);
                    handle.get_state(&format!("state.{name}.{power}"), &to).unwrap();
                    to.bits(0)
                };
                assert_eq!(counter(&self.host), counter(&self.device), "{power} of {name}");
            }
        }
    }

    #[track_caller]
    fn assert_same_report(&self) {
        let (host, device) = (self.host.step_info(), self.device.step_info());
        let seen = [host, device].map(|info| {
            let counts = [info.n_elements, info.n_nonfinite, info.n_unchanged];
            let numbers = (counts, info.measured, info.skipped);
            let norms = [info.grad_norm, info.clip_factor, info.update_norm, info.param_norm];
            (numbers, norms.map(f64::to_bits))
        });
        let is_nan = host.grad_norm.is_nan() && device.grad_norm.is_nan();
        assert!(seen[0] == seen[1] || is_nan, "{host:?} {device:?}");
    }
}
