//! What a device, its memory or its driver does not do.

use crate::Refusals;
use crate::common::array::{Array, Dtype};
use crate::common::device::{self, Device, OnDevice, Stream};
use crate::common::handle::{Answer, Handle, Param, config, schedule};
use crate::common::host::{from_user_data, user_data};
use crate::common::rows::{Rows, RowsOnDevice};
use adamw::ffi::Status::{
    Callback, Device as DeviceFailed, InvalidArgument, NotFound, OutOfMemory, Poisoned, Unsupported,
};
use adamw::ffi::*;
use core::cell::Cell;
use core::ffi::c_void;
use core::ptr::null_mut;

pub fn refusals(rows: &mut Refusals) {
    ones_that_are_not_there(rows);
    places(rows);
    inputs(rows);
    memory(rows);
    pinned(rows);
    captures(rows);
    failures(rows);
}

fn add(handle: &Handle, name: &str, tensor: adamw_tensor, offload: bool) -> Answer<u32> {
    let array = Array::zeros(Dtype::F32, 0);
    let mut tensors = [None; 9];
    tensors[0] = Some(tensor);
    handle.try_add_tensors(&Param { offload, ..Param::new(name, &array) }, tensors)
}

fn on(device_id: i32, tensor: adamw_tensor) -> adamw_tensor {
    adamw_tensor { device: adamw_device { device_type: 2, device_id }, ..tensor }
}

/// A handle with a parameter and its gradient on the device.
struct World {
    handle: Handle,
    param: OnDevice,
    grad: OnDevice,
}

impl World {
    fn new(config: &adamw_config) -> World {
        let [param, grad] = [0; 2].map(|_| OnDevice::of(&Array::zeros(Dtype::F32, 8), 0));
        let handle = Handle::new(config);
        add(&handle, "w", param.tensor(), false).unwrap();
        handle.set_grad_tensor(0, &grad.tensor()).unwrap();
        World { handle, param, grad }
    }
}

fn ones_that_are_not_there(rows: &mut Refusals) {
    let array = Array::zeros(Dtype::F32, 8);
    for (setting, value, text) in [
        ("no_device", "1", "the CUDA driver finds no device (is CUDA_VISIBLE_DEVICES empty?)"),
        (
            "stub",
            "1",
            "libcuda.so is the CUDA toolkit's stub: take the toolkit's stubs folder out of \
             LD_LIBRARY_PATH",
        ),
        ("max_ptx", "7.4", "the CUDA driver is too old for the kernels: update it to 520 or newer"),
    ] {
        let _device = Device::none(&[(setting, value)]);
        let handle = Handle::new(&config());
        rows.row(add(&handle, "w", on(0, array.tensor()), false), Unsupported, text);
    }
    let _device = Device::new();
    let handle = Handle::new(&config());
    rows.row(
        handle.set_stream(null_mut()),
        NotFound,
        "the handle has no param on a device: add one first",
    );
    rows.row(
        add(&handle, "w", on(7, array.tensor()), false),
        NotFound,
        "there is no CUDA device 7 (does CUDA_VISIBLE_DEVICES hide it?)",
    );
}

fn places(rows: &mut Refusals) {
    let _device = Device::new();
    let World { handle, param, grad } = World::new(&config());
    let array = Array::zeros(Dtype::F32, 8);
    rows.invalid(
        add(&handle, "v", on(0, array.tensor()), false),
        &format!(
            "param \"v\": param is at {:#x}, which is no memory of device 0",
            array.data().addr()
        ),
    );
    rows.row(
        add(&handle, "v", on(1, grad.tensor()), false),
        Unsupported,
        "param \"v\" is on device 1, the handle's others are on device 0: make a handle for each",
    );
    rows.invalid(
        add(&handle, "v", array.tensor(), true),
        "param \"v\": param.offload is 1, expected 0 for memory of the host's",
    );
    rows.invalid(
        handle.try_set_grad(0, &array),
        "param \"w\": grad is in the memory of the host, expected that of CUDA device 0, as param is",
    );
    rows.invalid(
        handle.set_grad_tensor(0, &param.tensor()),
        "param \"w\": grad overlaps param of param \"w\": give each memory of its own",
    );
}

fn inputs(rows: &mut Refusals) {
    let _device = Device::new();
    let World { handle, param: _param, grad } = World::new(&config());
    let here = 0x1000u64;
    for (addresses, text) in [
        ([2, 0, 0], "inputs.lr is at 0x2, which is not aligned to its 4 bytes"),
        ([0, 6, 0], "inputs.grad_scale is at 0x6, which is not aligned to its 4 bytes"),
        ([0, 0, here], "inputs.found_inf is at 0x1000, which is no memory of device 0"),
    ] {
        rows.invalid(handle.set_device_inputs(addresses), text);
    }
    for (address, text) in [
        (2, "out_scale is at 0x2, which is not aligned to its 4 bytes"),
        (here, "out_scale is at 0x1000, which is no memory of device 0"),
    ] {
        rows.invalid(handle.set_device_scale(address), text);
    }
    let World { handle, param: _param, grad: _grad } =
        World::new(&adamw_config { nonfinite: ADAMW_NONFINITE_FAIL, ..config() });
    handle.set_device_inputs([0, 0, grad.address()]).unwrap();
    rows.row(
        handle.try_step(),
        Unsupported,
        "the host has to know what this step comes to, which it does not where the device reads found_inf \
         or grad_scale: leave those of adamw_set_device_inputs NULL",
    );
}

/// What an allocator returns, the address that it gives, and the bytes that it is asked for.
struct Gives(i32, usize, Cell<usize>);

unsafe extern "C" fn gives(
    num_bytes: usize,
    _: i32,
    _: *mut c_void,
    out_address: *mut *mut c_void,
    user_data: *mut c_void,
) -> i32 {
    // SAFETY: `allocated_by` set it.
    let Gives(returns, address, asked) = unsafe { from_user_data(user_data) };
    asked.set(num_bytes);
    // SAFETY: the library's place for it.
    unsafe { *out_address = core::ptr::without_provenance_mut(*address) };
    *returns
}

unsafe extern "C" fn takes_back(
    _: *mut c_void,
    _: usize,
    _: i32,
    _: *mut c_void,
    _: *mut c_void,
) -> i32 {
    0
}

fn allocated_by(gives_this: &Gives) -> adamw_config {
    adamw_config {
        device_alloc: Some(gives),
        device_free: Some(takes_back),
        device_memory_data: user_data(gives_this),
        ..config()
    }
}

fn memory(rows: &mut Refusals) {
    let _device = Device::new();
    let given = OnDevice::of(&Array::zeros(Dtype::F32, 64), 0);
    let at = given.address() as usize;
    for (returns, address, status, text) in [
        (5, at, OutOfMemory, "out of memory: device_alloc returned 5 for BYTES for WHAT"),
        (
            0,
            0,
            OutOfMemory,
            "out of memory: device_alloc returned 0 and gave no address for BYTES for WHAT",
        ),
        (0, at + 8, Callback, "device_alloc gave AT for WHAT, expected a multiple of 256"),
        (
            0,
            0x1000,
            Callback,
            "device_alloc gave AT for BYTES for WHAT, which are no memory of device 0",
        ),
    ] {
        let gives_this = Gives(returns, address, Cell::default());
        let handle = Handle::new(&allocated_by(&gives_this));
        let told = add(&handle, "w", given.tensor(), false);
        let text = text.replace("WHAT", "what a step on the device comes to");
        let text = text.replace("BYTES", &format!("{} bytes", gives_this.2.get()));
        rows.row(told, status, &text.replace("AT", &format!("{address:#x}")));
    }
    let useless = Gives(0, 0, Cell::default());
    let refused = |edit: fn(&mut adamw_config)| {
        let mut config = allocated_by(&useless);
        edit(&mut config);
        Handle::try_new(&config).map(drop)
    };
    rows.invalid(
        refused(|config| config.device_free = None),
        "config.device_alloc is set and device_free is NULL",
    );
    rows.invalid(
        refused(|config| config.device_alloc = None),
        "config.device_free is set and device_alloc is NULL",
    );
    rows.invalid(
        refused(|config| config.device_memory = ADAMW_DEVICE_MEMORY_POOL),
        "config.device_memory is 1, expected 0 where config.device_alloc is set, which gives the memory",
    );
    rows.invalid(
        refused(|config| config.device_memory = 2),
        "config.device_memory is 2, expected an ADAMW_DEVICE_MEMORY constant, 0 or 1",
    );
    rows.invalid(refused(|config| config.reserved = 1), "config.reserved is 1, expected 0");
    let pool = adamw_config { device_memory: ADAMW_DEVICE_MEMORY_POOL, ..config() };
    device::set("no_pool", "1");
    let handle = Handle::new(&pool);
    rows.row(
        add(&handle, "w", given.tensor(), false),
        Unsupported,
        "device 0 has no pool of memory for ADAMW_DEVICE_MEMORY_POOL: ADAMW_DEVICE_MEMORY_DEFAULT needs none",
    );
}

fn pinned(rows: &mut Refusals) {
    let _device = Device::new();
    let given = OnDevice::of(&Array::zeros(Dtype::F32, 4), 0);
    rows.invalid(
        Handle::try_new(&adamw_config { pinned_bytes: 1000, ..config() }).map(drop),
        "config.pinned_bytes is 1000, expected 0 for no limit, or 65536 and more",
    );
    let handle = Handle::new(&adamw_config { pinned_bytes: 1 << 16, ..config() });
    let mut shape = [0];
    let tensor = adamw_tensor { shape: shape.as_mut_ptr(), ..given.tensor() };
    let told = (0..).find_map(|n| add(&handle, &format!("w{n}"), tensor, false).err()).unwrap();
    let numbers: Vec<u64> = told.text.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [bytes, pinned, _] = numbers[..] else { panic!("{}", told.text) };
    assert!(pinned + bytes > 1 << 16, "{}", told.text);
    rows.row::<()>(
        Err(told),
        OutOfMemory,
        &format!(
            "out of memory: {bytes} bytes for the device's tables are to be page-locked, and {pinned} are, \
             which is more together than the 65536 of config.pinned_bytes"
        ),
    );
}

fn captures(rows: &mut Refusals) {
    let _device = Device::new();
    let stream = Stream::new();
    let World { handle, param: _param, grad } =
        World::new(&adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..config() });
    handle.set_stream(stream.raw().cast()).unwrap();
    let lr = OnDevice::of(&Array::of(Dtype::F32, &[0.1]), 0);
    handle.step();
    stream.wait();
    let mut told = Vec::new();
    drop(stream.capture(|| {
        told.push(handle.try_step());
        told.push(handle.get_state("state.w.exp_avg", &Array::zeros(Dtype::F32, 8)));
    }));
    let texts = [
        "a step whose learning rate is not read by the device (adamw_set_device_inputs), and follows no \
         schedule, is not possible while the stream is being captured",
        "reading state is not possible while the stream is being captured",
    ];
    told.into_iter().zip(texts).for_each(|(told, text)| rows.row(told, Unsupported, text));

    handle.set_device_inputs([lr.address(), 0, 0]).unwrap();
    handle.prepare().unwrap();
    let graph = stream.capture(|| handle.step());
    let first = RowsOnDevice::of(&Rows::i64(&[0]));
    let values = OnDevice::of(&Array::zeros(Dtype::F32, 4), 0);
    rows.row(
        handle.set_sparse_grad_tensors(0, &first.tensor(), &values.tensor()),
        Unsupported,
        "the first sparse gradient under ADAMW_LAZY_EXACT is not possible for a parameter that a captured \
         graph steps (set one before the capture)",
    );
    drop(graph);

    handle.set_device_inputs([0; 3]).unwrap();
    let exponential = schedule(ADAMW_SCHEDULE_EXPONENTIAL);
    handle.set_schedule(&adamw_schedule { lr: 0.1, gamma: 0.5, ..exponential }).unwrap();
    handle.prepare().unwrap();
    let graph = stream.capture(|| handle.step());
    handle.remove_schedule();
    stream.launch(&graph);
    stream.wait();
    rows.row(
        handle.try_step_info().map(|_| ()),
        InvalidArgument,
        "1 launches of graphs found no learning rate: adamw_prepare gives the next ones",
    );
    drop((graph, grad));
}

fn failures(rows: &mut Refusals) {
    let _device = Device::new();
    for (fail, status, text) in [
        ("cuLaunchKernel:1:2", OutOfMemory, "out of memory on the device (cuLaunchKernel failed)"),
        (
            "cuStreamIsCapturing:1:400",
            DeviceFailed,
            "cuStreamIsCapturing failed: CUDA error 400, CUDA_ERROR_INVALID_HANDLE (is the stream of \
             adamw_set_stream still there?)",
        ),
        (
            "cuStreamIsCapturing:1:700",
            DeviceFailed,
            "cuStreamIsCapturing failed: CUDA error 700, CUDA_ERROR_ILLEGAL_ADDRESS (a kernel before this \
             call failed, perhaps on memory that had been freed; this process can use the device no more)",
        ),
    ] {
        let World { handle, param: _param, grad: _grad } = World::new(&config());
        device::set("fail", fail);
        let told = handle.try_step();
        device::set("fail", "");
        rows.row(told, status, text);
    }
    let World { handle, param: _param, grad: _grad } = World::new(&config());
    device::set("fail", "cuLaunchKernel:2:1");
    let told = handle.try_step();
    device::set("fail", "");
    rows.row(
        told,
        DeviceFailed,
        "the device failed in the middle of a step, which cannot be undone: destroy this handle; \
         cuLaunchKernel failed: CUDA error 1, CUDA_ERROR_INVALID_VALUE",
    );
    assert_eq!(handle.try_step().unwrap_err().status, Poisoned);
}

#[test]
fn a_device_that_does_not_says_what_and_what_to_do() {
    crate::said(refusals);
}
