//! A CUDA device as the tests see it: the stand-in of `tests/cuda-standin`, driven by cudarc's own
//! calls, with the PTX that is shipped.

use super::array::{Array, Dtype};
use core::ffi::c_void;
use cudarc::driver::{result, sys};
use std::ffi::CString;

pub const PTX: &str = include_str!("../../src/cuda/kernels.ptx");

/// A function of the stand-in's own, which no GPU's driver has.
fn control(name: &core::ffi::CStr) -> *mut c_void {
    // SAFETY: NUL-terminated names; cargo has the linker look where the stand-in was built.
    let address = unsafe {
        let library = libc::dlopen(c"libcuda.so".as_ptr(), libc::RTLD_NOW);
        assert!(
            !library.is_null(),
            "tests/cuda-standin has not been built: run this with cargo test"
        );
        libc::dlsym(library, name.as_ptr())
    };
    assert!(
        !address.is_null(),
        "libcuda.so is not the stand-in, and these tests are not for a GPU"
    );
    address
}

/// Forgets all that the device was given, and that a kernel failed.
pub fn reset() {
    // SAFETY: the type that the stand-in's README gives it.
    let reset: extern "C" fn() = unsafe { core::mem::transmute(control(c"standin_reset")) };
    reset();
}

/// What went wrong last.
pub fn trouble() -> String {
    type Trouble = extern "C" fn(*mut u8, usize) -> usize;
    // SAFETY: the type that the stand-in's README gives it.
    let trouble: Trouble = unsafe { core::mem::transmute(control(c"standin_trouble")) };
    let mut text = vec![0; 1000];
    let length = trouble(text.as_mut_ptr(), text.len()).min(text.len() - 1);
    String::from_utf8_lossy(&text[..length]).into_owned()
}

/// A device with the kernels on it.
pub struct Device {
    module: sys::CUmodule,
}

impl Device {
    pub fn new() -> Device {
        Device::with_ptx(PTX).unwrap()
    }

    /// With other PTX than what is shipped.
    pub fn with_ptx(ptx: &str) -> Result<Device, String> {
        control(c"standin_name");
        let show = |error: result::DriverError| format!("{:?}: {}", error.0, trouble());
        let image = CString::new(ptx).unwrap();
        // SAFETY: the driver is there; the primary context stays retained; the image is
        // NUL-terminated.
        unsafe {
            result::init().map_err(show)?;
            let context = result::primary_ctx::retain(result::device::get(0).map_err(show)?);
            result::ctx::set_current(context.map_err(show)?).map_err(show)?;
            let module = result::module::load_data(image.as_ptr().cast()).map_err(show)?;
            Ok(Device { module })
        }
    }

    /// Runs a kernel on so many blocks of 256 threads, and waits for it.
    pub fn launch(&self, kernel: &str, blocks: u32, args: &mut [Arg]) -> Result<(), String> {
        let show = |error: result::DriverError| format!("{kernel}: {:?}: {}", error.0, trouble());
        let name = CString::new(kernel).unwrap();
        let mut pointers: Vec<*mut c_void> = args.iter_mut().map(Arg::pointer).collect();
        // SAFETY: the module is loaded, and the caller passes what the kernel takes.
        unsafe {
            let function = result::module::get_function(self.module, name).map_err(show)?;
            let (grid, block, stream) = ((blocks, 1, 1), (256, 1, 1), core::ptr::null_mut());
            result::launch_kernel(function, grid, block, 0, stream, &mut pointers).map_err(show)?;
            result::ctx::synchronize().map_err(show)
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: loaded in `with_ptx`, and no kernel of it runs.
        let _ = unsafe { result::module::unload(self.module) };
    }
}

/// An argument of a kernel.
pub enum Arg {
    U64(u64),
    U32(u32),
}

impl Arg {
    fn pointer(&mut self) -> *mut c_void {
        match self {
            Arg::U64(value) => (&raw mut *value).cast(),
            Arg::U32(value) => (&raw mut *value).cast(),
        }
    }
}

/// Memory on the device.
pub struct Memory {
    start: u64,
    pub address: u64,
    bytes: usize,
}

impl Memory {
    /// A copy of some bytes, so many bytes past the start of an allocation.
    pub fn of(bytes: &[u8], offset: usize) -> Memory {
        // SAFETY: a context is current; the allocation holds the offset and the bytes.
        unsafe {
            let start = result::malloc_sync((offset + bytes.len()).max(1)).unwrap();
            let address = start + offset as u64;
            if !bytes.is_empty() {
                result::memcpy_htod_sync(address, bytes).unwrap();
            }
            Memory { start, address, bytes: bytes.len() }
        }
    }

    /// Copies of plain values.
    pub fn of_values<T: Copy>(values: &[T]) -> Memory {
        let bytes = size_of_val(values);
        // SAFETY: the callers' types have no padding.
        Memory::of(unsafe { core::slice::from_raw_parts(values.as_ptr().cast(), bytes) }, 0)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes];
        if self.bytes > 0 {
            // SAFETY: as much as was allocated.
            unsafe { result::memcpy_dtoh_sync(&mut bytes, self.address).unwrap() };
        }
        bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `of`, and no kernel runs.
        let _ = unsafe { result::free_sync(self.start) };
    }
}

/// An array on the device.
pub struct OnDevice {
    pub memory: Memory,
    dtype: Dtype,
    n: usize,
}

impl OnDevice {
    /// A copy that starts so many elements past an aligned address.
    pub fn of(array: &Array, offset: usize) -> OnDevice {
        let bytes: Vec<u8> = (0..array.len())
            .flat_map(|i| array.bits(i).to_le_bytes().into_iter().take(array.dtype().bytes()))
            .collect();
        let memory = Memory::of(&bytes, offset * array.dtype().bytes());
        OnDevice { memory, dtype: array.dtype(), n: array.len() }
    }

    pub fn array(&self) -> Array {
        let array = Array::zeros(self.dtype, self.n);
        for (i, element) in self.memory.bytes().chunks(self.dtype.bytes()).enumerate() {
            let mut bits = [0; 8];
            bits[..element.len()].copy_from_slice(element);
            array.set_bits(i, u64::from_le_bytes(bits));
        }
        array
    }
}
