//! Streams and events, at once, lazily and in any order.

mod common;

use common::streams::{STEP, event, peek, step};
use common::{count, device, set, trouble};
use cuda::driver::Out;
use cuda::driver::code::Code;
use cuda::driver::context::cuCtxSynchronize;
use cuda::driver::copy::{cuMemcpyAsync, cuMemcpyDtoHAsync_v2, cuMemcpyHtoDAsync_v2};
use cuda::driver::event::{
    cuEventDestroy_v2, cuEventElapsedTime, cuEventQuery, cuEventRecord, cuEventSynchronize,
};
use cuda::driver::host::{
    cuMemAllocHost_v2, cuMemFreeHost, cuMemHostRegister_v2, cuMemHostUnregister,
};
use cuda::driver::memory::{cuMemAllocAsync, cuMemFreeAsync, cuMemsetD8Async, cuMemsetD32_v2};
use cuda::driver::stream::{
    cuStreamDestroy_v2, cuStreamQuery, cuStreamSynchronize, cuStreamWaitEvent,
};

#[test]
fn lazy_work_waits() {
    let device = device();
    set("lazy", "1");
    let (first, second) = (device.stream(1), device.stream(1));
    let kernel = device.kernel(STEP, "k");
    let (x, y) = (device.upload(&[1_u32]), device.upload(&[1_u32]));
    for by in [1, 2] {
        assert_eq!(step(&device, kernel, first, x, by), 0);
        assert_eq!(step(&device, kernel, second, y, by), 0);
    }
    assert_eq!((peek(x), peek(y)), (1, 1));
    assert_eq!(cuStreamSynchronize(first), 0);
    assert_eq!((peek(x), peek(y)), (14, 1));
    // Asking makes it go on, so that asking again and again ends.
    assert_eq!(cuStreamQuery(second), Code::NOT_READY.0);
    assert_eq!((cuStreamQuery(second), cuStreamQuery(second)), (Code::NOT_READY.0, 0));
    assert_eq!(peek(y), 14);
    // Streams that do not opt out and the default stream wait for each other.
    let blocking = device.stream(0);
    step(&device, kernel, blocking, x, 1);
    step(&device, kernel, 0, x, 2);
    step(&device, kernel, blocking, x, 3);
    step(&device, kernel, first, y, 3);
    assert_eq!(cuStreamSynchronize(blocking), 0);
    assert_eq!((peek(x), peek(y)), (((14 * 3 + 1) * 3 + 2) * 3 + 3, 14));
    assert_eq!(cuCtxSynchronize(), 0);
    assert_eq!(peek(y), 45);
    // A fault shows when somebody waits.
    assert_eq!(step(&device, kernel, first, 64, 1), 0);
    assert_eq!(cuStreamSynchronize(first), 700);
}

#[test]
fn a_missing_wait_shows_in_some_order() {
    let results = |ordered: bool| -> Vec<u32> {
        let run = |seed: u32| {
            let device = device();
            set("lazy", "1");
            set("shuffle", &seed.to_string());
            let (first, second) = (device.stream(1), device.stream(1));
            let kernel = device.kernel(STEP, "k");
            let x = device.upload(&[1_u32]);
            let event = event();
            step(&device, kernel, first, x, 1);
            cuEventRecord(event, first);
            if ordered {
                assert_eq!(cuStreamWaitEvent(second, event, 0), 0);
            }
            step(&device, kernel, second, x, 2);
            assert_eq!(cuCtxSynchronize(), 0);
            peek(x)
        };
        (0..16).map(run).collect()
    };
    assert!(results(true).iter().all(|&x| x == 14));
    let free = results(false);
    assert!(free.contains(&14) && free.contains(&16), "{free:?}");
}

#[test]
fn events() {
    let device = device();
    set("lazy", "1");
    let stream = device.stream(1);
    let kernel = device.kernel(STEP, "k");
    let x = device.upload(&[1_u32]);
    let (first, second) = (event(), event());
    let mut ms = 0.0;
    assert_eq!((cuEventQuery(first), cuEventSynchronize(first)), (0, 0));
    let elapsed = |ms| cuEventElapsedTime(ms, first, second);
    assert_eq!(elapsed(Out::from(&mut ms)), Code::INVALID_HANDLE.0);
    cuEventRecord(first, stream);
    step(&device, kernel, stream, x, 1);
    cuEventRecord(second, stream);
    step(&device, kernel, stream, x, 1);
    assert_eq!(elapsed(Out::from(&mut ms)), Code::NOT_READY.0);
    assert_eq!(cuEventSynchronize(second), 0);
    assert_eq!(peek(x), 4);
    assert_eq!((elapsed(Out::from(&mut ms)), ms >= 0.0), (0, true));
    assert_eq!((cuEventDestroy_v2(first), cuEventDestroy_v2(second)), (0, 0));
    assert_eq!(cuEventRecord(first, stream), Code::INVALID_HANDLE.0);
    // Work goes on without its stream.
    assert_eq!(cuStreamDestroy_v2(stream), 0);
    assert_eq!(cuStreamSynchronize(stream), Code::INVALID_HANDLE.0);
    assert_eq!(cuCtxSynchronize(), 0);
    assert_eq!(peek(x), 13);
}

#[test]
fn host_memory_is_read_late_only_where_it_is_page_locked() {
    let device = device();
    set("lazy", "1");
    let stream = device.stream(1);
    let x = device.upload(&[0_u32; 2]);
    let mut plain = [1_u32, 1];
    let mut pinned = 0_u64;
    assert_eq!(cuMemAllocHost_v2(Out::from(&mut pinned), 8), 0);
    assert_eq!(cuMemsetD32_v2(pinned, 1, 2), 0);
    let from = plain.as_ptr() as usize;
    assert_eq!(cuMemcpyHtoDAsync_v2(x, from, 4, stream), 0);
    assert_eq!(cuMemcpyHtoDAsync_v2(x + 4, pinned as usize, 4, stream), 0);
    plain[0] = 2;
    assert_eq!(cuMemsetD32_v2(pinned, 2, 2), 0);
    assert_eq!(cuStreamSynchronize(stream), 0);
    assert_eq!((peek(x), peek(x + 4)), (1, 2));
    // Registering makes it late.
    assert_eq!(cuMemHostRegister_v2(from as u64, 8, 0), 0);
    assert_eq!(cuMemHostRegister_v2(from as u64, 8, 0), Code::HOST_MEMORY_ALREADY_REGISTERED.0);
    assert_eq!(cuMemcpyHtoDAsync_v2(x, from, 4, stream), 0);
    // SAFETY: the driver only has the address, and reads when somebody waits.
    unsafe { (from as *mut u32).write(3) };
    assert_eq!(cuStreamSynchronize(stream), 0);
    assert_eq!(peek(x), 3);
    assert_eq!(cuMemHostUnregister(from as u64), 0);
    assert_eq!(cuMemHostUnregister(from as u64), Code::HOST_MEMORY_NOT_REGISTERED.0);
    // Into other memory a copy waits.
    let to = plain.as_mut_ptr();
    assert_eq!(cuMemcpyDtoHAsync_v2(to as usize, x, 8, stream), 0);
    // SAFETY: the copy is done.
    assert_eq!(unsafe { to.read() }, 3);
    assert_eq!(cuMemcpyAsync(x, x + 4, 4, stream), 0);
    assert_eq!(cuMemFreeHost(pinned), 0);
    assert_eq!((peek(x), count("pinned")), (2, 0));
}

#[test]
fn frees_in_order() {
    let device = device();
    set("lazy", "1");
    let stream = device.stream(1);
    let mut x = 0;
    assert_eq!(cuMemAllocAsync(Out::from(&mut x), 8, stream), 0);
    assert_eq!(cuMemsetD8Async(x, 7, 8, stream), 0);
    assert_eq!(cuMemFreeAsync(x, stream), 0);
    assert_eq!(count("allocations"), 1);
    assert_eq!(cuStreamSynchronize(stream), 0);
    assert_eq!(count("allocations"), 0);
    // Work that comes after the free of what it uses.
    let x = device.allocate(8);
    assert_eq!(cuMemFreeAsync(x, stream), 0);
    assert_eq!(cuMemsetD8Async(x, 7, 8, stream), 0);
    assert_eq!(cuStreamSynchronize(stream), 700);
    assert!(trouble().contains("not live any more"), "{}", trouble());
}
