//! A fresh device for each test. The driver is one for the process, so tests take turns.
#![allow(dead_code)]

pub mod streams;
pub mod values;

use cuda::driver::context::cuCtxSetCurrent;
use cuda::driver::control::{
    standin_count, standin_log_take, standin_reset, standin_set, standin_trouble,
};
use cuda::driver::copy::{cuMemcpyDtoH_v2, cuMemcpyHtoD_v2};
use cuda::driver::device::{cuDevicePrimaryCtxRetain, cuInit};
use cuda::driver::launch::cuLaunchKernel;
use cuda::driver::memory::cuMemAlloc_v2;
use cuda::driver::module::{cuModuleGetFunction, cuModuleLoadData};
use cuda::driver::stream::{cuStreamCreate, cuStreamSynchronize};
use cuda::driver::{Out, Text};
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::null;
use std::sync::{Mutex, MutexGuard, PoisonError};

static TURN: Mutex<()> = Mutex::new(());

/// The text that the NVRTC made from kernels.cu.
pub const KERNELS: &str = include_str!("../data/kernels.ptx");

/// A driver that knows nothing of earlier tests.
pub struct Device {
    _turn: MutexGuard<'static, ()>,
    pub context: usize,
}

/// Waits for its turn and resets; does not initialize.
pub fn turn() -> Device {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    standin_reset();
    Device { _turn: turn, context: 0 }
}

/// Waits for its turn, and makes the primary context current.
pub fn device() -> Device {
    let mut device = turn();
    device.start();
    device
}

pub fn set(name: &str, value: &str) -> c_int {
    let (name, value) = (CString::new(name).unwrap(), CString::new(value).unwrap());
    standin_set(Text::from(name.as_c_str()), Text::from(value.as_c_str()))
}

pub fn count(what: &str) -> i64 {
    standin_count(Text::from(CString::new(what).unwrap().as_c_str()))
}

pub fn trouble() -> String {
    let mut buffer = [0_u8; 4096];
    let length = standin_trouble(Out::from(buffer.as_mut_ptr().cast::<c_char>()), buffer.len());
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

pub fn take_log() -> String {
    let length = standin_log_take(Out::null(), 0);
    let mut buffer = vec![0_u8; length + 1];
    standin_log_take(Out::from(buffer.as_mut_ptr().cast::<c_char>()), buffer.len());
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// A kernel that has loaded.
#[derive(Clone, Copy)]
pub struct Kernel(pub usize);

impl Device {
    pub fn start(&mut self) {
        assert_eq!(cuInit(0), 0);
        assert_eq!(cuDevicePrimaryCtxRetain(Out::from(&mut self.context), 0), 0);
        assert_eq!(cuCtxSetCurrent(self.context), 0);
    }

    pub fn load(&self, text: &str) -> Result<usize, c_int> {
        let text = CString::new(text).unwrap();
        let mut module = 0;
        match cuModuleLoadData(Out::from(&mut module), text.as_c_str().into()) {
            0 => Ok(module),
            code => Err(code),
        }
    }

    pub fn kernel(&self, text: &str, name: &str) -> Kernel {
        let module = self.load(text).unwrap_or_else(|code| panic!("{code}: {}", trouble()));
        let name = CString::new(name).unwrap();
        let mut function = 0;
        let got =
            cuModuleGetFunction(Out::from(&mut function), module, Text::from(name.as_c_str()));
        assert_eq!(got, 0);
        Kernel(function)
    }

    pub fn stream(&self, flags: u32) -> usize {
        let mut stream = 0;
        assert_eq!(cuStreamCreate(Out::from(&mut stream), flags), 0);
        stream
    }

    pub fn allocate(&self, bytes: usize) -> u64 {
        let mut address = 0;
        assert_eq!(cuMemAlloc_v2(Out::from(&mut address), bytes), 0);
        address
    }

    pub fn upload<T: Copy>(&self, values: &[T]) -> u64 {
        let address = self.allocate(size_of_val(values).max(1));
        let from = values.as_ptr() as usize;
        assert_eq!(cuMemcpyHtoD_v2(address, from, size_of_val(values)), 0);
        address
    }

    pub fn download<T: Copy + Default>(&self, address: u64, count: usize) -> Vec<T> {
        let mut values = vec![T::default(); count];
        let to = values.as_mut_ptr() as usize;
        assert_eq!(cuMemcpyDtoH_v2(to, address, count * size_of::<T>()), 0, "{}", trouble());
        values
    }

    /// Asks for a launch along one axis; each parameter is the bytes of one.
    pub fn launch(
        &self,
        kernel: Kernel,
        [grid, block, shared]: [u32; 3],
        stream: usize,
        parameters: &[&[u8]],
    ) -> c_int {
        let places: Vec<*const c_void> =
            parameters.iter().map(|parameter| parameter.as_ptr().cast()).collect();
        let places = places.as_ptr();
        cuLaunchKernel(kernel.0, grid, 1, 1, block, 1, 1, shared, stream, places, null())
    }

    /// Runs to the end; the code that waiting returns.
    pub fn run(&self, kernel: Kernel, size: [u32; 3], parameters: &[&[u8]]) -> c_int {
        let launched = self.launch(kernel, size, 0, parameters);
        assert_eq!(launched, 0, "{}", trouble());
        cuStreamSynchronize(0)
    }
}

/// A text with one kernel `k` that has so many addresses as parameters, each loaded to `%p0`...
pub fn text(parameters: usize, body: &str) -> String {
    let declared: Vec<_> =
        (0..parameters).map(|number| format!(".param .u64 k_{number}")).collect();
    let loads: String =
        (0..parameters).map(|number| format!("ld.param.u64 %a{number}, [k_{number}];\n")).collect();
    format!(
        ".version 7.8\n.target sm_70\n.address_size 64\n.visible .entry k({})\n.maxntid 256, 1, 1\n\
         {{\n.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<9>; .reg .f32 %f<9>;\n\
         .reg .b64 %d<9>; .reg .f64 %g<9>; .reg .b64 %a<9>;\n{loads}{body}\nret;\n}}\n",
        declared.join(", ")
    )
}
