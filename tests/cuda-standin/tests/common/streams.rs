//! Work for streams, and what is common to asking for it.

use super::{Device, Kernel};
use cuda::driver::Out;
use cuda::driver::event::cuEventCreate;
use cuda::driver::graph::{cuGraphInstantiateWithFlags, cuStreamEndCapture};
use cuda::driver::stream::cuStreamIsCapturing;

/// `x[0] = x[0] * 3 + by`.
pub const STEP: &str = ".version 7.8\n.target sm_70\n.visible .entry k(.param .u64 x, .param .u32 by)\n\
                    {\n.reg .b64 %d<3>; .reg .b32 %r<3>;\nld.param.u64 %d1, [x]; \
                    ld.param.u32 %r1, [by]; ld.global.u32 %r2, [%d1];\n\
                    mad.lo.u32 %r2, %r2, 3, %r1; st.global.u32 [%d1], %r2; ret;\n}\n";

pub fn step(device: &Device, kernel: Kernel, stream: usize, x: u64, by: u32) -> i32 {
    device.launch(kernel, [1, 1, 0], stream, &[&x.to_le_bytes(), &by.to_le_bytes()])
}

pub fn event() -> usize {
    let mut event = 0;
    assert_eq!(cuEventCreate(Out::from(&mut event), 0), 0);
    event
}

pub fn end(stream: usize) -> (i32, usize) {
    let mut graph = 1;
    let code = cuStreamEndCapture(stream, Out::from(&mut graph));
    (code, graph)
}

pub fn executable(graph: usize) -> usize {
    let mut executable = 0;
    assert_eq!(cuGraphInstantiateWithFlags(Out::from(&mut executable), graph, 0), 0);
    executable
}

/// What is there, without a wait.
pub fn peek(address: u64) -> u32 {
    // SAFETY: the test's own allocation, and no other thread runs work.
    unsafe { *(address as *const u32) }
}

pub fn capture_status(stream: usize) -> i32 {
    let mut status = 9;
    assert_eq!(cuStreamIsCapturing(stream, Out::from(&mut status)), 0);
    status
}
