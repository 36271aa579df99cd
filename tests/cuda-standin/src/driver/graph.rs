//! Graphs: captured work, done again and again.
#![allow(non_snake_case)]

use super::call;
use super::code::Code;
use super::raw::Out;
use super::work::Work;
use std::ffi::{c_int, c_ulonglong};
use std::sync::Arc;

/// Ends a capture; its work is a graph.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamEndCapture(stream: usize, graph: Out<usize>) -> c_int {
    call("cuStreamEndCapture", format_args!("stream={stream:#x}"), |driver| {
        driver.need_context()?;
        graph.check()?;
        let stream = driver.stream(stream)?;
        let nodes = match driver.end_capture(stream) {
            Ok(nodes) => nodes,
            Err(code) => {
                graph.set(0)?;
                return Err(code);
            }
        };
        let handle = driver.handle();
        driver.graphs.insert(handle, Arc::new(nodes));
        graph.set(handle)
    })
}

/// Makes a graph ready to launch.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithFlags(
    executable: Out<usize>,
    graph: usize,
    flags: c_ulonglong,
) -> c_int {
    let arguments = format_args!("graph={graph:#x}, flags={flags}");
    call("cuGraphInstantiateWithFlags", arguments, |driver| {
        driver.need_context()?;
        executable.check()?;
        let nodes = driver.graphs.get(&graph).ok_or(Code::INVALID_HANDLE)?.clone();
        let handle = driver.handle();
        driver.executables.insert(handle, nodes);
        executable.set(handle)
    })
}

/// Does a graph's work in a stream.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(executable: usize, stream: usize) -> c_int {
    let arguments = format_args!("executable={executable:#x}, stream={stream:#x}");
    call("cuGraphLaunch", arguments, |driver| {
        driver.need_context()?;
        let nodes = driver.executables.get(&executable).ok_or(Code::INVALID_HANDLE)?.clone();
        driver.enqueue(stream, Work::Graph(nodes))?;
        Ok(())
    })
}

/// Nothing needs to be uploaded.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphUpload(executable: usize, stream: usize) -> c_int {
    let arguments = format_args!("executable={executable:#x}, stream={stream:#x}");
    call("cuGraphUpload", arguments, |driver| {
        driver.need_context()?;
        driver.stream(stream)?;
        driver.executables.get(&executable).map(drop).ok_or(Code::INVALID_HANDLE)
    })
}

/// Ends what was made ready; a launch that waits keeps its work.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(executable: usize) -> c_int {
    call("cuGraphExecDestroy", format_args!("executable={executable:#x}"), |driver| {
        driver.need_context()?;
        driver.executables.remove(&executable).map(drop).ok_or(Code::INVALID_HANDLE)
    })
}

/// Ends a graph; what was made ready from it stays.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: usize) -> c_int {
    call("cuGraphDestroy", format_args!("graph={graph:#x}"), |driver| {
        driver.need_context()?;
        driver.graphs.remove(&graph).map(drop).ok_or(Code::INVALID_HANDLE)
    })
}
