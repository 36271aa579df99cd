//! Faults that a test asks for, bad arguments, the log, and what is counted.

mod common;

use common::{KERNELS, count, device, set, take_log, text, trouble, turn};
use cuda::driver::code::Code;
use cuda::driver::context::{
    cuCtxGetCurrent, cuCtxGetDevice, cuCtxPopCurrent_v2, cuCtxPushCurrent_v2, cuCtxSetCurrent,
};
use cuda::driver::copy::{cuMemcpyDtoH_v2, cuMemcpyHtoD_v2};
use cuda::driver::device::{
    cuDeviceGet, cuDeviceGetAttribute, cuDeviceGetCount, cuDeviceGetName,
    cuDevicePrimaryCtxRelease_v2, cuDevicePrimaryCtxRetain, cuDeviceTotalMem_v2,
    cuDriverGetVersion, cuInit,
};
use cuda::driver::errors::{cuGetErrorName, cuGetErrorString};
use cuda::driver::event::{cuEventDestroy_v2, cuEventQuery, cuEventRecord};
use cuda::driver::graph::{cuGraphDestroy, cuGraphExecDestroy, cuGraphLaunch};
use cuda::driver::host::{cuMemAllocHost_v2, cuMemFreeHost, cuMemHostAlloc};
use cuda::driver::launch::{cuFuncGetAttribute, cuFuncSetAttribute, cuLaunchKernel};
use cuda::driver::memory::{cuMemAlloc_v2, cuMemFree_v2, cuMemGetInfo_v2, cuMemsetD8_v2};
use cuda::driver::module::{
    cuModuleGetFunction, cuModuleLoadData, cuModuleLoadDataEx, cuModuleUnload,
};
use cuda::driver::pointer::{cuPointerGetAttribute, cuPointerGetAttributes};
use cuda::driver::stream::{cuStreamDestroy_v2, cuStreamSynchronize, cuStreamWaitEvent};
use cuda::driver::{Out, Text};
use std::ffi::{CStr, CString, c_void};
use std::ptr::{null, null_mut};

fn allocate() -> i32 {
    let mut address = 0;
    cuMemAlloc_v2(Out::from(&mut address), 16)
}

#[test]
fn no_device_and_a_stub() {
    let _turn = turn();
    assert_eq!(set("no_device", "1"), 0);
    assert_eq!(cuInit(0), Code::NO_DEVICE.0);
    assert_eq!(set("no_device", ""), 0);
    assert_eq!(set("stub", "1"), 0);
    assert_eq!(cuInit(0), Code::STUB_LIBRARY.0);
    assert_eq!(set("stub", "0"), 0);
    let mut count = 0;
    assert_eq!(cuDeviceGetCount(Out::from(&mut count)), Code::NOT_INITIALIZED.0);
    assert_eq!(cuInit(1), Code::INVALID_VALUE.0);
    assert_eq!(cuInit(0), 0);
    assert_eq!((cuDeviceGetCount(Out::from(&mut count)), count), (0, 1));
    assert_eq!(cuDeviceGet(Out::from(&mut count), 1), Code::INVALID_DEVICE.0);
}

#[test]
fn an_old_driver() {
    let device = device();
    assert_eq!(set("max_ptx", "7.4"), 0);
    let mut version = 0;
    assert_eq!((cuDriverGetVersion(Out::from(&mut version)), version), (0, 11_040));
    assert_eq!(device.load(KERNELS), Err(Code::UNSUPPORTED_PTX_VERSION.0));
    assert_eq!(set("max_ptx", "7.8"), 0);
    assert!(device.load(KERNELS).is_ok());
    for (ptx, cuda) in [("7.8", 11_080), ("8.0", 12_000), ("8.7", 12_080), ("9.0", 13_000)] {
        set("max_ptx", ptx);
        assert_eq!((cuDriverGetVersion(Out::from(&mut version)), version), (0, cuda));
    }
}

#[test]
fn out_of_memory() {
    let device = device();
    assert_eq!(set("oom_at", "2"), 0);
    assert_eq!((allocate(), allocate(), allocate()), (0, Code::OUT_OF_MEMORY.0, 0));
    let mut address = 0;
    set("oom_at", "1");
    assert_eq!(cuMemAllocHost_v2(Out::from(&mut address), 16), Code::OUT_OF_MEMORY.0);
    assert_eq!(cuMemAlloc_v2(Out::from(&mut address), 9 << 30), Code::OUT_OF_MEMORY.0);
    assert_eq!(cuMemAlloc_v2(Out::from(&mut address), usize::MAX), Code::OUT_OF_MEMORY.0);
    assert_eq!(cuMemAlloc_v2(Out::from(&mut address), 0), Code::INVALID_VALUE.0);
    device.allocate(16);
    assert_eq!(count("allocations"), 3);
}

#[test]
fn any_error_at_any_call() {
    let _device = device();
    assert_eq!(set("fail", "cuMemAlloc_v2:2:719;cuMemFree_v2:1:999"), 0);
    assert_eq!((allocate(), allocate(), allocate()), (0, 719, 0));
    assert_eq!((cuMemFree_v2(0), cuMemFree_v2(0)), (999, 0));
    assert_eq!(set("fail", "*:3:100"), 0);
    assert_eq!((allocate(), cuMemFree_v2(0), allocate(), allocate()), (0, 0, 100, 0));
    set("fail", "*:1:100");
    set("fail", "");
    assert_eq!(allocate(), 0);
    for wrong in ["cuInit", "cuInit:0:1", "cuInit:1:x", ":1:1", "cuInit:1:1:1"] {
        assert_eq!(set("fail", wrong), Code::INVALID_VALUE.0, "{wrong}");
    }
    assert_eq!(set("lazy", "yes"), Code::INVALID_VALUE.0);
    assert_eq!(set("nothing", "1"), Code::NOT_FOUND.0);
}

#[test]
fn the_environment() {
    let mut device = turn();
    // SAFETY: tests take turns, and nothing else here reads the environment.
    unsafe {
        std::env::set_var("STANDIN_FAIL", "cuMemAlloc_v2:1:2");
        std::env::set_var("STANDIN_NO_DEVICE", "1");
    }
    assert_eq!(cuInit(0), Code::NO_DEVICE.0);
    set("no_device", "0");
    device.start();
    assert_eq!((allocate(), allocate()), (2, 0));
    // SAFETY: as above.
    unsafe {
        std::env::remove_var("STANDIN_FAIL");
        std::env::remove_var("STANDIN_NO_DEVICE");
    }
}

#[test]
fn the_log() {
    let device = device();
    take_log();
    let address = device.allocate(24);
    cuMemFree_v2(address);
    let kernel = device.kernel(&text(0, "mov.u32 %r1, 0;"), "k");
    device.launch(kernel, [2, 32, 0], 0, &[]);
    let log = take_log();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines[0], "cuMemAlloc_v2(bytes=24) -> 0");
    assert_eq!(lines[1], format!("cuMemFree_v2(address={address:#x}) -> 0"));
    assert!(lines[4].starts_with("cuLaunchKernel(") && lines[4].contains("grid=[2, 1, 1]"));
    assert_eq!((lines.len(), take_log()), (5, String::new()));
}

#[test]
fn the_log_of_the_compiler() {
    let _device = device();
    let wrong = CString::new(KERNELS.replacen("mul.rn.f32", "mul.f32", 1)).unwrap();
    let mut module = 7;
    let mut log = [1_u8; 40];
    let names = [5, 6];
    let load = |image: &CStr, log: &mut [u8], module: &mut usize| {
        let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
        let out = Out::from(module);
        let values_at = values.as_mut_ptr();
        let code = cuModuleLoadDataEx(out, image.into(), 2, names.as_ptr(), values_at);
        (code, values[1] as usize)
    };
    assert_eq!(load(&wrong, &mut log, &mut module), (Code::INVALID_PTX.0, 39));
    let text = CStr::from_bytes_until_nul(&log).unwrap().to_str().unwrap();
    assert!(text.starts_with("line ") && text.contains(": mul.f32: "), "{text}");
    assert!(trouble().starts_with(text));
    assert_eq!(module, 7);
    let right = CString::new(KERNELS).unwrap();
    assert_eq!(load(&right, &mut log, &mut module), (0, 0));
    assert_eq!(cuModuleUnload(module), 0);
    assert_eq!(cuModuleLoadData(Out::from(&mut module), c"\x7fELF".into()), 209);
}

#[test]
fn contexts() {
    let device = device();
    let current = || {
        let mut context = 1;
        assert_eq!(cuCtxGetCurrent(Out::from(&mut context)), 0);
        context
    };
    assert_eq!(current(), device.context);
    assert_eq!(cuCtxPushCurrent_v2(device.context), 0);
    assert_eq!(cuCtxPushCurrent_v2(device.context + 1), Code::INVALID_CONTEXT.0);
    let mut popped = 0;
    assert_eq!((cuCtxPopCurrent_v2(Out::from(&mut popped)), popped), (0, device.context));
    assert_eq!(current(), device.context);
    assert_eq!((cuCtxSetCurrent(0), current()), (0, 0));
    assert_eq!(allocate(), Code::INVALID_CONTEXT.0);
    assert_eq!(cuCtxPopCurrent_v2(Out::null()), Code::INVALID_CONTEXT.0);
    assert_eq!(cuCtxPushCurrent_v2(device.context), 0);
    // Another thread has none.
    assert_eq!(std::thread::spawn(allocate).join().unwrap(), Code::INVALID_CONTEXT.0);
    let mut again = 0;
    assert_eq!(cuDevicePrimaryCtxRetain(Out::from(&mut again), 0), 0);
    assert_eq!((again, count("contexts")), (device.context, 2));
    assert_eq!(cuDevicePrimaryCtxRelease_v2(0), 0);
    assert_eq!(allocate(), 0);
    assert_eq!(cuDevicePrimaryCtxRelease_v2(0), 0);
    assert_eq!(allocate(), Code::CONTEXT_IS_DESTROYED.0);
    assert_eq!(cuDevicePrimaryCtxRelease_v2(0), Code::INVALID_CONTEXT.0);
    assert_eq!((count("allocations"), count("contexts"), count("things")), (1, 0, -1));
}

#[test]
fn handles_that_are_not() {
    let device = device();
    let module = device.load(KERNELS).unwrap();
    let mut out = 0;
    for wrong in [0, 3, module, usize::MAX] {
        let handle = Code::INVALID_HANDLE.0;
        let codes = [
            cuStreamDestroy_v2(wrong),
            cuEventRecord(wrong, 0),
            cuEventQuery(wrong),
            cuEventDestroy_v2(wrong),
            cuStreamWaitEvent(0, wrong, 0),
            cuGraphLaunch(wrong, 0),
            cuGraphExecDestroy(wrong),
            cuGraphDestroy(wrong),
            cuModuleUnload(wrong.wrapping_add(1)),
            cuFuncGetAttribute(Out::from(&mut out), 0, wrong),
            cuLaunchKernel(wrong, 1, 1, 1, 1, 1, 1, 0, 0, null(), null()),
        ];
        assert_eq!(codes, [handle; 11], "{wrong:#x}");
        if wrong > 2 {
            assert_eq!(cuStreamSynchronize(wrong), handle);
        }
    }
    let name = Text::from(c"nothing");
    let mut function = 0;
    let get = |function, name| cuModuleGetFunction(function, module, name);
    assert_eq!(get(Out::from(&mut function), name), Code::NOT_FOUND.0);
    assert_eq!(get(Out::null(), Text::from(c"update")), Code::INVALID_VALUE.0);
    assert_eq!(get(Out::from(&mut function), Text::from(c"update")), 0);
    // No parameters where the kernel has some.
    let launch = cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, null(), null());
    assert_eq!(launch, Code::INVALID_VALUE.0);
    let holes = [null::<c_void>(); 6];
    let launch = cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, holes.as_ptr(), null());
    assert_eq!(launch, Code::INVALID_VALUE.0);
    assert_eq!((cuFuncGetAttribute(Out::from(&mut out), 0, function), out), (0, 256));
    assert_eq!(cuFuncSetAttribute(function, 8, 100_000), 0);
    assert_eq!((cuFuncGetAttribute(Out::from(&mut out), 8, function), out), (0, 100_000));
    assert_eq!(cuFuncSetAttribute(function, 8, 1 << 20), Code::INVALID_VALUE.0);
}

#[test]
fn addresses_that_are_not() {
    let device = device();
    let x = device.upload(&[1_u32; 4]);
    let mut host = [0_u32; 8];
    let to = host.as_mut_ptr() as usize;
    let invalid = Code::INVALID_VALUE.0;
    assert_eq!(cuMemAlloc_v2(Out::null(), 4), invalid);
    assert_eq!(cuMemFree_v2(x + 4), invalid);
    assert_eq!(cuMemFree_v2(to as u64), invalid);
    assert_eq!(cuMemFreeHost(x), invalid);
    assert_eq!(cuMemcpyDtoH_v2(to, x, 20), invalid);
    assert_eq!(cuMemcpyDtoH_v2(0, x, 16), invalid);
    assert_eq!(cuMemcpyHtoD_v2(x + 4, to, 16), invalid);
    assert_eq!(cuMemcpyHtoD_v2(to as u64, to, 4), invalid);
    assert_eq!(cuMemcpyHtoD_v2(x, to, 0), 0);
    assert_eq!(cuMemsetD8_v2(x, 0, 17), invalid);
    assert_eq!(device.download::<u32>(x, 4), [1; 4]);
    assert_eq!(cuMemFree_v2(x), 0);
    assert_eq!(cuMemFree_v2(x), invalid);
}

#[test]
fn what_an_address_is() {
    let device = device();
    let x = device.allocate(64);
    let mut pinned = 0;
    assert_eq!(cuMemHostAlloc(Out::from(&mut pinned), 32, 0), 0);
    let ask = |number, address| {
        let mut value = 0_u64;
        let code = cuPointerGetAttribute((&raw mut value).cast(), number, address);
        (code, value)
    };
    assert_eq!((ask(2, x + 8), ask(2, pinned)), ((0, 2), (0, 1)));
    assert_eq!((ask(11, x + 8), ask(12, x + 8)), ((0, x), (0, 64)));
    assert_eq!(ask(1, x), (0, device.context as u64));
    let local = 0_u64;
    let plain = &raw const local as u64;
    assert_eq!(ask(2, plain), (Code::INVALID_VALUE.0, 0));
    let (mut kind, mut start) = (9_u32, 9_u64);
    let places = [(&raw mut kind).cast::<c_void>(), (&raw mut start).cast()];
    assert_eq!(cuPointerGetAttributes(2, [2, 11].as_ptr(), places.as_ptr(), plain), 0);
    assert_eq!((kind, start), (0, 0));
    assert_eq!(cuPointerGetAttribute(null_mut(), 2, x), Code::INVALID_VALUE.0);
    let (mut free, mut total, mut all) = (0, 0, 0);
    assert_eq!(cuMemGetInfo_v2(Out::from(&mut free), Out::from(&mut total)), 0);
    assert_eq!(cuDeviceTotalMem_v2(Out::from(&mut all), 0), 0);
    assert_eq!((total, total - free), (all, 64));
}

#[test]
fn names() {
    let _device = device();
    let mut name = [1_u8; 16];
    let start = name.as_mut_ptr();
    let place = || Out::from(start.cast());
    assert_eq!(cuDeviceGetName(place(), 16, 0), 0);
    assert_eq!(cuDeviceGetName(place(), -1, 0), Code::INVALID_VALUE.0);
    assert_eq!(&name, b"PTX interpreter\0");
    let (mut warp, mut major) = (0, 0);
    assert_eq!(cuDeviceGetAttribute(Out::from(&mut warp), 10, 0), 0);
    assert_eq!(cuDeviceGetAttribute(Out::from(&mut major), 75, 0), 0);
    assert_eq!((warp, major), (32, 9));
    assert_eq!(cuDeviceGetAttribute(Out::from(&mut warp), 0, 0), Code::INVALID_VALUE.0);
    let mut device = 9;
    assert_eq!((cuCtxGetDevice(Out::from(&mut device)), device), (0, 0));
    let mut text = null();
    assert_eq!(cuGetErrorName(700, Out::from(&mut text)), 0);
    // SAFETY: the driver's own text.
    assert_eq!(unsafe { CStr::from_ptr(text) }, c"CUDA_ERROR_ILLEGAL_ADDRESS");
    assert_eq!(cuGetErrorString(0, Out::from(&mut text)), 0);
    assert_eq!(cuGetErrorName(12_345, Out::from(&mut text)), Code::INVALID_VALUE.0);
    assert!(text.is_null());
}
