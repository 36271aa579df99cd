//! A CUDA device as a host sees it, driven by cudarc's own calls: the stand-in of `tests/cuda-standin` or, where
//! `ADAMW_TEST_GPU` is set, a GPU. There the stand-in's settings change nothing and its log is empty, so that only
//! tests of bits and statuses may run (`tests/gpu/run.sh` knows which).

use super::array::{Array, Dtype};
use adamw::ffi::{adamw_device, adamw_tensor};
use core::ffi::{CStr, c_void};
use cudarc::driver::{result, sys};
use std::ffi::CString;
use std::sync::{Mutex, MutexGuard};

/// Whether these tests are to run on a GPU. The wrong driver for that is refused: cargo test puts the stand-in
/// before any other.
fn is_gpu() -> bool {
    let is_asked = std::env::var_os("ADAMW_TEST_GPU").is_some();
    let is_standin = !entry(c"standin_name").is_null();
    assert!(
        is_asked || is_standin,
        "libcuda.so is not the stand-in: cargo test builds and finds it"
    );
    assert!(!is_asked || !is_standin, "libcuda.so is the stand-in: take it out of LD_LIBRARY_PATH");
    is_asked
}

/// Where a function of the driver is, which cudarc looks for under the same names; NULL: it has none.
fn entry(name: &CStr) -> *mut c_void {
    // SAFETY: NUL-terminated names; cargo has the linker look where the stand-in was built.
    unsafe {
        let mut library = libc::dlopen(c"libcuda.so".as_ptr(), libc::RTLD_NOW);
        if library.is_null() {
            library = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW);
        }
        assert!(!library.is_null(), "there is no libcuda.so: run this with cargo test");
        libc::dlsym(library, name.as_ptr())
    }
}

/// A function of the stand-in's own.
fn control(name: &CStr) -> *mut c_void {
    assert!(!is_gpu(), "{name:?} is a function of the stand-in, and this test is not for a GPU");
    entry(name)
}

/// The device of a test, which no other test uses meanwhile. Its context is current, as a host's is.
pub struct Device {
    context: sys::CUcontext,
    _alone: MutexGuard<'static, ()>,
}

impl Device {
    /// A fresh device.
    pub fn new() -> Device {
        Device::with(&[])
    }

    /// A fresh device with some of the stand-in's settings.
    pub fn with(settings: &[(&str, &str)]) -> Device {
        static ALONE: Mutex<()> = Mutex::new(());
        // A test that failed leaves nothing behind that `reset` would not forget.
        let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        reset();
        for (name, value) in settings {
            set(name, value);
        }
        let context = Device::enter();
        take_log();
        Device { context, _alone: alone }
    }

    /// Makes its context current on this thread.
    pub fn enter() -> sys::CUcontext {
        // SAFETY: the driver is there, and the primary context stays retained.
        unsafe {
            result::init().unwrap();
            let context = result::primary_ctx::retain(result::device::get(0).unwrap()).unwrap();
            result::ctx::set_current(context).unwrap();
            context
        }
    }

    /// As if the process had just begun, and no context were current.
    pub fn none(settings: &[(&str, &str)]) -> Device {
        let device = Device::with(&[]);
        reset();
        for (name, value) in settings {
            set(name, value);
        }
        Device { context: core::ptr::null_mut(), ..device }
    }

    /// The context that is current.
    pub fn current() -> sys::CUcontext {
        result::ctx::get_current().unwrap().unwrap_or(core::ptr::null_mut())
    }

    pub fn context(&self) -> sys::CUcontext {
        self.context
    }

    /// Makes no context current, or the device's again.
    pub fn set_current(&self, is_current: bool) {
        let context = if is_current { self.context } else { core::ptr::null_mut() };
        // SAFETY: retained above, or none.
        unsafe { result::ctx::set_current(context).unwrap() };
    }

    pub fn wait(&self) {
        result::ctx::synchronize().unwrap_or_else(|error| panic!("{:?}: {}", error.0, trouble()));
    }
}

/// Forgets all that the device was given, and that a kernel failed.
fn reset() {
    if is_gpu() {
        return;
    }
    // SAFETY: the type that the stand-in's README gives it.
    let reset: extern "C" fn() = unsafe { core::mem::transmute(control(c"standin_reset")) };
    reset();
}

/// Changes a setting of the stand-in.
pub fn set(name: &str, value: &str) {
    if is_gpu() {
        return;
    }
    type Set = extern "C" fn(*const core::ffi::c_char, *const core::ffi::c_char) -> i32;
    // SAFETY: as above.
    let set: Set = unsafe { core::mem::transmute(control(c"standin_set")) };
    let (c_name, c_value) = (CString::new(name).unwrap(), CString::new(value).unwrap());
    assert_eq!(set(c_name.as_ptr(), c_value.as_ptr()), 0, "{name}={value}");
}

fn text(name: &CStr) -> String {
    if is_gpu() {
        return String::new();
    }
    type Text = extern "C" fn(*mut u8, usize) -> usize;
    // SAFETY: as above.
    let text: Text = unsafe { core::mem::transmute(control(name)) };
    let mut buffer = vec![0; 1 << 20];
    let length = text(buffer.as_mut_ptr(), buffer.len());
    assert!(length < buffer.len(), "a longer text than there is room for");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// What went wrong last.
pub fn trouble() -> String {
    text(c"standin_trouble")
}

/// The calls of the driver since this was asked last, a line each.
pub fn take_log() -> Vec<String> {
    text(c"standin_log_take").lines().map(str::to_owned).collect()
}

/// Calls of the driver that wait for work of the device, or may, or wait for the driver itself.
const WAITS: [&str; 11] = [
    "cuStreamSynchronize",
    "cuCtxSynchronize",
    "cuMemcpyDtoH", // what comes down is waited for
    "cuMemcpyHtoD_v2",
    "cuMemcpyDtoD_v2",
    "cuMemAlloc",
    "cuMemFree",
    "cuMemHost",
    "cuModule",
    "cuStreamDestroy",
    "cuGraph",
];

/// The calls that wait in the logs of steps that were taken one after the other. A step may wait
/// for an upload of the fourth step before it, whose memory it writes.
pub fn waits(steps: &[Vec<String>]) -> Vec<&String> {
    let mut found = Vec::new();
    for (i, log) in steps.iter().enumerate() {
        for (place, line) in log.iter().enumerate() {
            let is_recent = |event: &str| {
                let mark = format!("cuEventRecord(event={event},");
                let recent = steps[i.saturating_sub(3)..i].iter().flatten();
                recent.chain(&log[..place]).any(|line| line.starts_with(&mark))
            };
            let event = line.strip_prefix("cuEventSynchronize(event=");
            let event = event.and_then(|rest| rest.split(')').next());
            if event.is_some_and(is_recent) || WAITS.iter().any(|call| line.starts_with(call)) {
                found.push(line);
            }
        }
    }
    found
}

/// How many of these are alive: see the stand-in's README.
pub fn count(what: &str) -> i64 {
    // SAFETY: as above.
    let count: extern "C" fn(*const core::ffi::c_char) -> i64 =
        unsafe { core::mem::transmute(control(c"standin_count")) };
    count(CString::new(what).unwrap().as_ptr())
}

/// A stream of the host's.
pub struct Stream(sys::CUstream);

/// What a stream has recorded.
pub struct Graph {
    graph: sys::CUgraph,
    executable: sys::CUgraphExec,
}

impl Stream {
    pub fn new() -> Stream {
        Stream(result::stream::create(result::stream::StreamKind::NonBlocking).unwrap())
    }

    pub fn raw(&self) -> sys::CUstream {
        self.0
    }

    pub fn wait(&self) {
        // SAFETY: alive until it is dropped.
        let waited = unsafe { result::stream::synchronize(self.0) };
        waited.unwrap_or_else(|error| panic!("{:?}: {}", error.0, trouble()));
    }

    /// Queues up a copy inside the device's memory.
    pub fn copy(&self, to: &OnDevice, from: &OnDevice) {
        let bytes = from.n * from.dtype.bytes();
        // SAFETY: both have so many bytes, and live until the stream is waited for.
        unsafe { result::memcpy_dtod_async(to.address, from.address, bytes, self.0).unwrap() };
    }

    /// Records what is queued up meanwhile.
    pub fn capture(&self, work: impl FnOnce()) -> Graph {
        self.capture_in(0, work)
    }

    /// The same in a mode: 0 minds what every thread does, 1 what this one does.
    pub fn capture_in(&self, mode: u32, work: impl FnOnce()) -> Graph {
        let mode = match mode {
            0 => sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL,
            _ => sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
        };
        // SAFETY: the stream is alive, and what is written to is ours.
        unsafe {
            result::stream::begin_capture(self.0, mode).unwrap();
            work();
            let (mut graph, mut executable) = (core::ptr::null_mut(), core::ptr::null_mut());
            sys::cuStreamEndCapture(self.0, &mut graph).result().unwrap();
            sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0).result().unwrap();
            Graph { graph, executable }
        }
    }

    pub fn launch(&self, graph: &Graph) {
        // SAFETY: both are alive.
        unsafe { result::graph::launch(graph.executable, self.0).unwrap() };
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created in `new`. A device that was reset has none.
        let _ = unsafe { result::stream::destroy(self.0) };
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made in `capture`.
        let _ = unsafe {
            (result::graph::exec_destroy(self.executable), result::graph::destroy(self.graph))
        };
    }
}

/// An array in the memory of the device.
pub struct OnDevice {
    start: u64,
    address: u64,
    dtype: Dtype,
    n: usize,
    shape: Box<[i64]>,
}

impl OnDevice {
    /// A copy that starts so many elements past an aligned address.
    pub fn of(array: &Array, offset: usize) -> OnDevice {
        let (dtype, n) = (array.dtype(), array.len());
        let bytes = (offset + n) * dtype.bytes();
        // SAFETY: a context is current.
        let start = unsafe { result::malloc_sync(bytes.max(1)).unwrap() };
        let address = start + (offset * dtype.bytes()) as u64;
        let shape = [n as i64].into();
        let copy = OnDevice { start, address, dtype, n, shape };
        copy.set(array);
        copy
    }

    /// Writes other elements.
    pub fn set(&self, array: &Array) {
        assert_eq!((self.dtype, self.n), (array.dtype(), array.len()));
        let bytes = array.bytes();
        if !bytes.is_empty() {
            // SAFETY: as much as was allocated.
            unsafe { result::memcpy_htod_sync(self.address, &bytes).unwrap() };
        }
        // A GPU may still be copying, and the streams of these tests do not wait for the default one.
        if is_gpu() {
            result::ctx::synchronize().unwrap();
        }
    }

    /// A copy in the host's memory.
    pub fn array(&self) -> Result<Array, String> {
        let mut bytes = vec![0u8; self.n * self.dtype.bytes()];
        if self.n > 0 {
            // SAFETY: as much as was allocated.
            let copied = unsafe { result::memcpy_dtoh_sync(&mut bytes, self.address) };
            copied.map_err(|error| format!("{:?}: {}", error.0, trouble()))?;
        }
        let array = Array::zeros(self.dtype, self.n);
        array.set_bytes(&bytes);
        Ok(array)
    }

    pub fn address(&self) -> u64 {
        self.address
    }

    /// As DLPack describes it.
    pub fn tensor(&self) -> adamw_tensor {
        adamw_tensor {
            data: core::ptr::without_provenance_mut(self.address as usize),
            device: adamw_device { device_type: 2, device_id: 0 },
            ndim: 1,
            dtype: self.dtype.dlpack(),
            shape: self.shape.as_ptr().cast_mut(),
            strides: core::ptr::null_mut(),
            byte_offset: 0,
        }
    }
}

impl Drop for OnDevice {
    fn drop(&mut self) {
        // SAFETY: allocated in `of`, and the device has done its work: freeing waits for it. A device
        // that was reset has freed it already.
        let _ = unsafe { result::free_sync(self.start) };
    }
}
