//! Numbers in the device's memory that steps read there, and what they may be; beside a processor that is told the
//! same by the host.

use super::array::{Array, Dtype};
use super::device::{Graph, OnDevice, Stream};
use super::twin::Twin;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Input {
    Lr,
    GradScale,
    FoundInf,
}

/// What they are until they are set.
pub const LR: f32 = 0.01;
pub const GRAD_SCALE: f32 = 1024.0;

const TINY: f32 = f32::from_bits(1);
/// 2^-126 and 2^126.
const LEAST: f32 = f32::MIN_POSITIVE;
const MOST: f32 = 1.0 / LEAST;

/// What no step can use, whatever its parameters are.
pub const UNUSABLE: [(Input, f32); 19] = [
    (Input::Lr, f32::NAN),
    (Input::Lr, f32::INFINITY),
    (Input::Lr, f32::NEG_INFINITY),
    (Input::Lr, -1.0),
    (Input::Lr, -LEAST),
    (Input::Lr, -TINY),
    (Input::GradScale, f32::NAN),
    (Input::GradScale, f32::INFINITY),
    (Input::GradScale, f32::NEG_INFINITY),
    (Input::GradScale, 0.0),
    (Input::GradScale, -0.0),
    (Input::GradScale, -1.0),
    (Input::GradScale, -LEAST),
    (Input::GradScale, TINY),
    (Input::GradScale, LEAST.next_down()),
    (Input::GradScale, MOST.next_up()),
    (Input::GradScale, 2.0 * MOST),
    (Input::GradScale, f32::MAX),
    (Input::GradScale, -MOST),
];

/// What is as far as it goes.
pub const USABLE: [(Input, f32); 9] = [
    (Input::Lr, 0.0),
    (Input::Lr, -0.0),
    (Input::Lr, TINY),
    (Input::Lr, LEAST),
    (Input::Lr, 1.0),
    (Input::GradScale, LEAST),
    (Input::GradScale, MOST),
    (Input::GradScale, 1.0),
    (Input::FoundInf, 0.0),
];

/// The numbers, where the device reads them.
pub struct Inputs([OnDevice; 3]);

impl Inputs {
    pub fn new() -> Inputs {
        Inputs([LR, GRAD_SCALE, 0.0].map(|value| OnDevice::of(&number(value), 0)))
    }

    pub fn set(&self, input: Input, value: f32) {
        self.0[input as usize].set(&number(value));
    }

    pub fn addresses(&self) -> [u64; 3] {
        self.0.each_ref().map(OnDevice::address)
    }
}

fn number(value: f32) -> Array {
    Array::of(Dtype::F32, &[value.into()])
}

/// A twin whose device reads its numbers there, in plain steps or in one graph that is launched again and again.
pub struct Reading {
    graph: Option<Graph>,
    stream: Stream,
    pub twin: Twin,
    inputs: Inputs,
    /// Of the processor's handle.
    flag: Array,
}

impl Reading {
    /// Of a twin whose gradients are set.
    pub fn new(twin: Twin, is_captured: bool) -> Reading {
        let (stream, inputs, flag) = (Stream::new(), Inputs::new(), number(0.0));
        twin.device.set_stream(stream.raw().cast()).unwrap();
        twin.device.set_device_inputs(inputs.addresses()).unwrap();
        twin.host.set_found_inf(flag.data().cast(), core::ptr::null_mut());
        let graph = is_captured.then(|| {
            twin.device.prepare().unwrap();
            stream.capture(|| twin.device.step())
        });
        let reading = Reading { graph, stream, twin, inputs, flag };
        for (input, value) in [(Input::Lr, LR), (Input::GradScale, GRAD_SCALE)] {
            reading.tell_host(input, value);
        }
        reading
    }

    fn tell_host(&self, input: Input, value: f32) {
        match input {
            Input::Lr => self.twin.host.set_lr(value.into()),
            Input::GradScale => self.twin.host.set_grad_scale(value.into()).unwrap(),
            Input::FoundInf => self.flag.set(0, value.into()),
        }
    }

    /// Writes a number on the device.
    pub fn set(&self, input: Input, value: f32) {
        self.inputs.set(input, value);
    }

    /// What the number was at first.
    pub fn restore(&self, input: Input) {
        let value = [LR, GRAD_SCALE, 0.0][input as usize];
        self.set(input, value);
        self.tell_host(input, value);
    }

    pub fn step_there(&self) {
        match &self.graph {
            Some(graph) => self.stream.launch(graph),
            None => self.twin.device.step(),
        }
        self.stream.wait();
    }

    /// Both step with a number that steps can use.
    #[track_caller]
    pub fn assert_steps(&mut self, input: Input, value: f32) {
        self.twin.write_grads();
        self.set(input, value);
        self.tell_host(input, value);
        self.step_there();
        self.twin.host.step();
        assert_eq!(self.twin.device.step_info().invalid_inputs, 0);
        self.twin.assert_same();
        self.restore(input);
    }

    /// The device skips a step with a number that steps cannot use, as the processor does whose flag is raised.
    #[track_caller]
    pub fn assert_skips(&mut self, input: Input, value: f32) {
        self.twin.write_grads();
        self.set(input, value);
        self.step_there();
        self.tell_host(Input::FoundInf, 1.0);
        self.twin.host.step();
        let info = self.twin.device.step_info();
        assert_eq!((info.skipped, info.invalid_inputs), (1, 1), "{input:?} {value:e}");
        assert_eq!((info.n_nonfinite, info.clip_factor), (0, 1.0), "{input:?} {value:e}");
        match input {
            Input::GradScale if info.measured == 1 => {
                assert!(info.grad_norm.is_nan());
                self.twin.assert_same_state();
            }
            _ => self.twin.assert_same(),
        }
        self.restore(Input::FoundInf);
        self.restore(input);
    }
}
