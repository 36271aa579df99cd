//! Captures and graphs.

mod common;

use common::streams::{STEP, capture_status, end, event, executable, peek, step};
use common::{Kernel, count, device, text, trouble};
use cuda::driver::Out;
use cuda::driver::code::Code;
use cuda::driver::context::{cuCtxSetCurrent, cuCtxSynchronize};
use cuda::driver::copy::{cuMemcpyDtoDAsync_v2, cuMemcpyHtoD_v2, cuMemcpyHtoDAsync_v2};
use cuda::driver::event::{cuEventQuery, cuEventRecord, cuEventSynchronize};
use cuda::driver::graph::{cuGraphDestroy, cuGraphExecDestroy, cuGraphLaunch};
use cuda::driver::host::{cuMemAllocHost_v2, cuMemFreeHost};
use cuda::driver::memory::{cuMemAlloc_v2, cuMemFree_v2, cuMemsetD32_v2, cuMemsetD32Async};
use cuda::driver::module::cuModuleUnload;
use cuda::driver::stream::{
    cuStreamBeginCapture_v2, cuStreamDestroy_v2, cuStreamGetCaptureInfo_v2, cuStreamQuery,
    cuStreamSynchronize, cuStreamWaitEvent, cuThreadExchangeStreamCaptureMode,
};

const UNSUPPORTED: i32 = Code::STREAM_CAPTURE_UNSUPPORTED.0;
const INVALIDATED: i32 = Code::STREAM_CAPTURE_INVALIDATED.0;

#[test]
fn graphs() {
    let device = device();
    let stream = device.stream(1);
    let kernel = device.kernel(STEP, "k");
    let (x, y) = (device.upload(&[1_u32]), device.upload(&[0_u32]));
    let mut pinned = 0_u64;
    assert_eq!(cuMemAllocHost_v2(Out::from(&mut pinned), 4), 0);
    assert_eq!(cuMemsetD32_v2(pinned, 10, 1), 0);
    assert_eq!(capture_status(stream), 0);
    assert_eq!(cuStreamBeginCapture_v2(stream, 0), 0);
    assert_eq!(cuStreamBeginCapture_v2(stream, 0), Code::ILLEGAL_STATE.0);
    assert_eq!(capture_status(stream), 1);
    assert_eq!(step(&device, kernel, stream, x, 1), 0);
    assert_eq!(cuMemcpyHtoDAsync_v2(y, pinned as usize, 4, stream), 0);
    assert_eq!(step(&device, kernel, stream, y, 5), 0);
    let (code, graph) = end(stream);
    assert_eq!((code, peek(x), peek(y)), (0, 1, 0));
    let executable = executable(graph);
    assert_eq!(cuGraphDestroy(graph), 0);
    assert_eq!(cuGraphLaunch(executable, stream), 0);
    assert_eq!((peek(x), peek(y)), (4, 35));
    assert_eq!(cuMemsetD32_v2(pinned, 20, 1), 0);
    assert_eq!(cuGraphLaunch(executable, 0), 0);
    assert_eq!((peek(x), peek(y)), (13, 65));
    assert_eq!((count("graphs"), count("executables")), (0, 1));
    // Memory that went since the capture.
    assert_eq!(cuMemFreeHost(pinned), 0);
    assert_eq!(cuGraphLaunch(executable, stream), 0);
    assert_eq!(cuGraphExecDestroy(executable), 700);
}

#[test]
fn a_graph_whose_module_is_gone() {
    let device = device();
    let stream = device.stream(1);
    let module = device.load(&text(0, "mov.u32 %r1, 0;")).unwrap();
    let mut function = 0;
    let name = cuda::driver::Text::from(c"k");
    cuda::driver::module::cuModuleGetFunction(Out::from(&mut function), module, name);
    assert_eq!(cuStreamBeginCapture_v2(stream, 2), 0);
    assert_eq!(device.launch(Kernel(function), [1, 1, 0], stream, &[]), 0);
    let executable = executable(end(stream).1);
    assert_eq!(cuModuleUnload(module), 0);
    assert_eq!(cuGraphLaunch(executable, stream), 0);
    assert_eq!(cuStreamSynchronize(stream), Code::LAUNCH_FAILED.0);
    assert!(trouble().contains("unloaded"));
}

#[test]
fn what_a_capture_forbids() {
    let device = device();
    let stream = device.stream(0);
    let x = device.upload(&[1_u32]);
    let host = 5_u32;
    let from = &raw const host as usize;
    let allocate = || {
        let mut address = 0;
        cuMemAlloc_v2(Out::from(&mut address), 8)
    };
    type Call<'a> = Box<dyn Fn() -> i32 + 'a>;
    let forbidden: [(&str, Call, i32); 10] = [
        ("alloc", Box::new(allocate), UNSUPPORTED),
        ("free", Box::new(move || cuMemFree_v2(x)), UNSUPPORTED),
        ("load", Box::new(|| device.load(STEP).unwrap_err()), UNSUPPORTED),
        ("wait", Box::new(move || cuStreamSynchronize(stream)), UNSUPPORTED),
        ("query", Box::new(move || cuStreamQuery(stream)), UNSUPPORTED),
        ("wait for all", Box::new(|| cuCtxSynchronize()), UNSUPPORTED),
        ("copy", Box::new(move || cuMemcpyHtoD_v2(x, from, 4)), UNSUPPORTED),
        ("plain memory", Box::new(move || cuMemcpyHtoDAsync_v2(x, from, 4, stream)), UNSUPPORTED),
        ("destroy", Box::new(move || cuStreamDestroy_v2(stream)), UNSUPPORTED),
        (
            "default stream",
            Box::new(move || cuMemsetD32Async(x, 0, 1, 0)),
            Code::STREAM_CAPTURE_IMPLICIT.0,
        ),
    ];
    for (name, call, code) in forbidden {
        assert_eq!(cuStreamBeginCapture_v2(stream, 0), 0);
        assert_eq!(call(), code, "{name}");
        assert_eq!(capture_status(stream), 2, "{name}");
        assert_eq!(cuMemsetD32Async(x, 0, 1, stream), INVALIDATED, "{name}");
        assert_eq!(end(stream), (INVALIDATED, 0), "{name}");
        assert_eq!(capture_status(stream), 0, "{name}");
    }
    assert_eq!(peek(x), 1);
    assert_eq!(end(stream).0, Code::ILLEGAL_STATE.0);
    assert_eq!(cuStreamBeginCapture_v2(0, 0), UNSUPPORTED);
    // A capture that forbids nothing.
    assert_eq!(cuStreamBeginCapture_v2(stream, 2), 0);
    device.allocate(8);
    assert_eq!(end(stream).0, 0);
}

#[test]
fn captures_and_threads() {
    let device = device();
    let stream = device.stream(1);
    let context = device.context;
    let elsewhere = |call: fn(usize) -> i32| {
        let thread = std::thread::spawn(move || {
            cuCtxSetCurrent(context);
            call(stream)
        });
        thread.join().unwrap()
    };
    let allocate = |_| {
        let mut address = 0;
        cuMemAlloc_v2(Out::from(&mut address), 8)
    };
    assert_eq!(cuStreamBeginCapture_v2(stream, 1), 0);
    assert_eq!(elsewhere(allocate), 0);
    assert_eq!(elsewhere(|stream| end(stream).0), Code::STREAM_CAPTURE_WRONG_THREAD.0);
    assert_eq!(end(stream).0, 0);
    assert_eq!(cuStreamBeginCapture_v2(stream, 0), 0);
    assert_eq!(elsewhere(allocate), UNSUPPORTED);
    assert_eq!(end(stream).0, INVALIDATED);
}

#[test]
fn a_thread_that_minds_no_captures_breaks_none_but_by_waiting_for_them() {
    let device = device();
    let (stream, other) = (device.stream(1), device.stream(1));
    let x = device.upload(&[1_u32]);
    let exchange = |mut mode: i32| (cuThreadExchangeStreamCaptureMode(&mut mode), mode);
    assert_eq!(exchange(3).0, Code::INVALID_VALUE.0);
    assert_eq!(cuStreamBeginCapture_v2(stream, 0), 0);
    assert_eq!(exchange(2), (0, 0));
    let done = event();
    assert_eq!(cuEventRecord(done, other), 0);
    assert_eq!((cuStreamSynchronize(other), cuEventSynchronize(done), cuMemFree_v2(x)), (0, 0, 0));
    device.allocate(8);
    assert_eq!(capture_status(stream), 1);
    assert_eq!(cuStreamSynchronize(stream), UNSUPPORTED);
    assert_eq!(end(stream).0, INVALIDATED);
    // Its own alone, and everybody's again.
    assert_eq!(exchange(1), (0, 2));
    assert_eq!(cuStreamBeginCapture_v2(stream, 1), 0);
    assert_eq!(cuStreamSynchronize(other), UNSUPPORTED);
    assert_eq!(end(stream).0, INVALIDATED);
    assert_eq!(exchange(0), (0, 1));
    for call in [|_| cuCtxSynchronize(), |done| cuEventSynchronize(done)] {
        assert_eq!(cuStreamBeginCapture_v2(stream, 0), 0);
        assert_eq!(call(done), UNSUPPORTED);
        assert_eq!(end(stream).0, INVALIDATED);
    }
    // Waiting for the context is waiting for what is captured.
    assert_eq!(cuStreamBeginCapture_v2(stream, 2), 0);
    assert_eq!(cuCtxSynchronize(), UNSUPPORTED);
    assert_eq!(end(stream).0, INVALIDATED);
}

#[test]
fn captures_over_several_streams() {
    let device = device();
    let (origin, other) = (device.stream(1), device.stream(1));
    let kernel = device.kernel(STEP, "k");
    let x = device.upload(&[1_u32]);
    let (fork, join) = (event(), event());
    for joins in [true, false] {
        assert_eq!(cuStreamBeginCapture_v2(origin, 0), 0);
        assert_eq!(cuEventRecord(fork, origin), 0);
        assert_eq!(cuEventQuery(fork), Code::CAPTURED_EVENT.0);
        assert_eq!(cuStreamWaitEvent(other, fork, 0), 0);
        assert_eq!(capture_status(other), 1);
        assert_eq!(step(&device, kernel, other, x, 1), 0);
        assert_eq!(end(other).0, Code::STREAM_CAPTURE_UNMATCHED.0);
        if joins {
            assert_eq!(cuEventRecord(join, other), 0);
            assert_eq!(cuStreamWaitEvent(origin, join, 0), 0);
        }
        let (code, graph) = end(origin);
        assert_eq!(code, if joins { 0 } else { Code::STREAM_CAPTURE_UNJOINED.0 });
        assert_eq!(capture_status(other), 0);
        if joins {
            assert_eq!(cuGraphLaunch(executable(graph), other), 0);
            assert_eq!(peek(x), 4);
        }
    }
    // An event from outside, and a second capture.
    assert_eq!(cuEventRecord(fork, origin), 0);
    assert_eq!(cuStreamBeginCapture_v2(origin, 0), 0);
    assert_eq!(cuStreamWaitEvent(origin, fork, 0), Code::STREAM_CAPTURE_ISOLATION.0);
    assert_eq!(end(origin).0, INVALIDATED);
    assert_eq!((cuStreamBeginCapture_v2(origin, 0), cuStreamBeginCapture_v2(other, 0)), (0, 0));
    assert_eq!(cuEventRecord(fork, origin), 0);
    assert_eq!(cuStreamWaitEvent(other, fork, 0), Code::STREAM_CAPTURE_MERGE.0);
    let (mut status, mut number) = (0, 0);
    let (null, none) = (Out::null(), Out::null());
    let (status_out, number_out) = (Out::from(&mut status), Out::from(&mut number));
    assert_eq!(
        cuStreamGetCaptureInfo_v2(other, status_out, number_out, null, none, Out::null()),
        0
    );
    assert_eq!((status, number > 0), (1, true));
    assert_eq!(cuMemcpyDtoDAsync_v2(x, x, 4, other), 0);
}
