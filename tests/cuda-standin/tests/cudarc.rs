//! The whole way through cudarc, which looks the library up by its name as any program does.

use cudarc::driver::sys::{self, CUresult, CUstreamCaptureMode_enum};
use cudarc::driver::{CudaContext, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use std::env;
use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::process::Command;

const KERNELS: &str = include_str!("data/kernels.ptx");
/// Says to a process that its parent has set the path of libraries.
const CHILD: &str = "STANDIN_TEST_CHILD";

/// The folder with libcuda.so: that of this program, or the one above it.
fn folder() -> PathBuf {
    let program = env::current_exe().unwrap();
    let found =
        program.ancestors().skip(1).take(2).find(|folder| folder.join("libcuda.so").exists());
    found.expect("cargo builds libcuda.so with the tests").to_owned()
}

/// Runs a test of this file again, in a process that finds the stand-in first.
fn run_again(test: &str, settings: &[(&str, &str)]) {
    let run = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("LD_LIBRARY_PATH", folder())
        .env(CHILD, "1")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
}

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

type Count = unsafe extern "C" fn(*const c_char) -> i64;

fn count(what: &CStr) -> i64 {
    // SAFETY: the stand-in's function has this type.
    let count = unsafe { sys::culib().get::<Count>(b"standin_count\0") };
    // SAFETY: a text that ends.
    unsafe { count.unwrap()(what.as_ptr()) }
}

#[test]
fn loads_copies_launches_and_replays() -> Result<(), DriverError> {
    if !is_child() {
        for settings in
            [&[][..], &[("STANDIN_LAZY", "1")], &[("STANDIN_LAZY", "1"), ("STANDIN_SHUFFLE", "3")]]
        {
            run_again("loads_copies_launches_and_replays", settings);
        }
        return Ok(());
    }
    let context = CudaContext::new(0)?;
    assert!(context.name()?.contains("stand-in"));
    let module = context.load_module(Ptx::from_src(KERNELS))?;
    let reverse = module.load_function("reverse")?;
    let stream = context.new_stream()?;
    // SAFETY: one stream uses each slice, and the test waits for it.
    unsafe { context.disable_event_tracking() };
    let values: Vec<u32> = (0..64).collect();
    let backwards: Vec<u32> = values.iter().rev().copied().collect();
    let mut x = stream.clone_htod(&values)?;
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (64, 1, 1), shared_mem_bytes: 256 };
    let launch = |x: &mut _| {
        let mut builder = stream.launch_builder(&reverse);
        builder.arg(x);
        // SAFETY: the kernel uses 64 elements, and so much shared memory.
        unsafe { builder.launch(config) }.map(drop)
    };
    launch(&mut x)?;
    assert_eq!(stream.clone_dtoh(&x)?, backwards);
    stream.begin_capture(CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_GLOBAL)?;
    launch(&mut x)?;
    let refused = stream.synchronize();
    assert_eq!(refused, Err(DriverError(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)));
    let flags = sys::CUgraphInstantiate_flags_enum::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    assert!(stream.end_capture(flags).is_err());
    stream.begin_capture(CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_GLOBAL)?;
    launch(&mut x)?;
    let graph = stream.end_capture(flags)?.expect("the capture has work");
    for expected in [&values, &backwards, &values] {
        graph.launch()?;
        assert_eq!(&stream.clone_dtoh(&x)?, expected);
    }
    drop((graph, x));
    stream.synchronize()?;
    drop((reverse, module, stream, context));
    for what in [c"allocations", c"streams", c"events", c"modules", c"graphs", c"contexts"] {
        assert_eq!(count(what), 0, "{what:?}");
    }
    Ok(())
}

#[test]
fn a_text_that_is_refused() {
    if !is_child() {
        return run_again("a_text_that_is_refused", &[("STANDIN_MAX_PTX", "7.4")]);
    }
    let context = CudaContext::new(0).unwrap();
    let loaded = context.load_module(Ptx::from_src(KERNELS));
    let code = CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
    assert_eq!(loaded.err(), Some(DriverError(code)));
}

#[test]
fn no_device() {
    if !is_child() {
        return run_again("no_device", &[("STANDIN_NO_DEVICE", "1")]);
    }
    let code = CUresult::CUDA_ERROR_NO_DEVICE;
    assert_eq!(CudaContext::new(0).err(), Some(DriverError(code)));
}
