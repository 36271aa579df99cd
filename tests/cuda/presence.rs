//! What a host is told where there is no CUDA, or not the right one: by the first parameter on a device, and
//! never before. And what it is told of a parameter that does not belong there.

use crate::common::array::{Array, Dtype};
use crate::common::device::{Device, OnDevice, count, take_log};
use crate::common::handle::{Failure, Handle, Param, capabilities, config};
use adamw::ffi::*;
use std::path::Path;
use std::process::Command;

/// Says which case a copy of this program is to try.
const CASE: &str = "ADAMW_TEST_CUDA_CASE";

/// A parameter on a device, wherever that is.
fn add_somewhere(handle: &Handle) -> Failure {
    let array = Array::zeros(Dtype::F32, 4);
    let tensor =
        adamw_tensor { device: adamw_device { device_type: 2, device_id: 0 }, ..array.tensor() };
    let mut tensors = [None; 9];
    tensors[0] = Some(tensor);
    handle.try_add_tensors(&Param::new("w", &array), tensors).unwrap_err()
}

/// What a process says whose loader finds the `libcuda.so` that is made in a folder.
fn said_with_driver(name: &str, make: impl FnOnce(&Path)) -> String {
    let folder = std::env::temp_dir().join(format!("adamw-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    make(&folder);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "presence::a_process_with_another_driver_or_none"])
        .env(CASE, "1")
        .env("LD_LIBRARY_PATH", &folder)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn a_process_with_another_driver_or_none() {
    if std::env::var_os(CASE).is_none() {
        return; // The tests below run it.
    }
    let handle = Handle::new(&config());
    let Failure { status, text } = add_somewhere(&handle);
    println!("{status:?}: {text} (devices {:#x})", capabilities().devices);
    // The host's parameters are stepped as ever.
    let (param, grad) = (Array::zeros(Dtype::F32, 3), Array::of(Dtype::F32, &[1.0; 3]));
    handle.add(&Param::new("host", &param));
    handle.set_grad(0, &grad);
    handle.step();
    assert!(param.get(0) < 0.0);
}

#[test]
fn without_a_driver_a_host_is_told_to_install_one() {
    // Nor is one found on a machine that has it: the loader stops at these, which are no libraries.
    let said = said_with_driver("no-driver", |folder| {
        for name in ["libcuda.so", "libcuda.so.1"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
    });
    assert!(said.contains("Unsupported: no CUDA driver is installed"), "{said}");
    assert!(said.contains("devices 0x80a"), "{said}");
}

#[test]
fn with_a_driver_that_lacks_functions_a_host_is_told_to_update_it() {
    let said = said_with_driver("empty-driver", |folder| {
        let (source, library) = (folder.join("empty.c"), folder.join("libcuda.so"));
        std::fs::write(&source, "int cuInit(unsigned flags) { return flags; }\n").unwrap();
        let built = Command::new("cc").args(["-shared", "-o"]).args([&library, &source]).status();
        assert!(built.unwrap().success());
    });
    assert!(said.contains("Unsupported: the CUDA driver lacks functions"), "{said}");
}

#[test]
fn a_driver_without_a_device_a_stub_and_an_old_one_are_told_apart() {
    for (setting, value, text) in [
        ("no_device", "1", "finds no device"),
        ("stub", "1", "toolkit's stub"),
        ("max_ptx", "7.4", "too old for the kernels: update it to 520 or newer"),
    ] {
        let _device = Device::none(&[(setting, value)]);
        let handle = Handle::new(&config());
        let failure = add_somewhere(&handle);
        assert_eq!(failure.status, Status::Unsupported);
        assert!(failure.text.contains(text), "{}", failure.text);
    }
}

#[test]
fn a_handle_without_parameters_on_a_device_never_calls_the_driver() {
    let _device = Device::new();
    let handle = Handle::new(&config());
    let (param, grad) = (Array::zeros(Dtype::F32, 3), Array::zeros(Dtype::F32, 3));
    handle.add(&Param::new("w", &param));
    handle.set_grad(0, &grad);
    handle.step();
    assert_eq!(capabilities().devices, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 11 | 1 << 13);
    for told in [handle.set_stream(core::ptr::null_mut()), handle.set_device_inputs([0; 3])] {
        assert_eq!(told.unwrap_err().status, Status::NotFound);
    }
    handle.prepare().unwrap();
    drop(handle);
    assert_eq!(take_log(), [""; 0]);
}

#[test]
fn a_parameter_that_was_not_added_binds_its_handle_to_no_device() {
    let _device = Device::new();
    let array = Array::zeros(Dtype::F32, 8);
    let device = OnDevice::of(&array, 0).tensor().device;
    let before = ["allocations", "events", "streams", "modules"].map(count);
    for offload in [false, true] {
        let handle = Handle::new(&config());
        let mut tensors = [None; 9];
        tensors[0] = Some(adamw_tensor { device, ..array.tensor() });
        let param = Param { offload, ..Param::new("w", &array) };
        let failure = handle.try_add_tensors(&param, tensors).unwrap_err();
        assert!(failure.text.contains("no memory of device 0"), "{}", failure.text);
        let stream = handle.set_stream(core::ptr::null_mut()).unwrap_err();
        assert_eq!(stream.status, Status::NotFound);
        assert_eq!(["allocations", "events", "streams", "modules"].map(count), before);
    }
}

#[test]
fn what_does_not_lie_where_it_should_is_named() {
    let _device = Device::new();
    let handle = Handle::new(&config());
    let array = Array::zeros(Dtype::F32, 8);
    let here = OnDevice::of(&array, 0);
    let add = |name: &str, tensor: adamw_tensor, exp_avg: Option<adamw_tensor>| {
        let mut tensors = [None; 9];
        (tensors[0], tensors[2]) = (Some(tensor), exp_avg);
        handle.try_add_tensors(&Param::new(name, &array), tensors)
    };
    let on = |device_type: i32, device_id: i32, tensor: adamw_tensor| adamw_tensor {
        device: adamw_device { device_type, device_id },
        ..tensor
    };
    let refused = |added: Result<u32, Failure>, status: Status, text: &str| {
        let failure = added.unwrap_err();
        assert_eq!(failure.status, status, "{}", failure.text);
        assert!(failure.text.contains(text), "{}, expected {text}", failure.text);
    };
    refused(add("w", on(10, 0, here.tensor()), None), Status::Unsupported, "device type 10");
    refused(add("w", on(2, -1, here.tensor()), None), Status::InvalidArgument, "CUDA device -1");
    refused(add("w", on(2, 7, here.tensor()), None), Status::NotFound, "no CUDA device 7");
    refused(add("w", on(2, 0, array.tensor()), None), Status::InvalidArgument, "no memory of");
    let state = array.tensor();
    refused(
        add("w", here.tensor(), Some(state)),
        Status::InvalidArgument,
        "exp_avg is in the memory",
    );
    let odd = adamw_tensor { byte_offset: 2, ..here.tensor() };
    refused(add("w", odd, None), Status::InvalidArgument, "not aligned");
    assert_eq!(add("w", here.tensor(), None), Ok(0));
    let elsewhere = OnDevice::of(&array, 0);
    refused(add("v", on(2, 1, elsewhere.tensor()), None), Status::Unsupported, "on device 0");
    refused(add("v", here.tensor(), None), Status::InvalidArgument, "overlaps");

    let grad = handle.try_set_grad(0, &array).unwrap_err();
    assert!(grad.text.contains("grad is in the memory of the host"), "{}", grad.text);
    let overlapping = handle.set_grad_tensor(0, &here.tensor()).unwrap_err();
    assert!(overlapping.text.contains("overlaps"), "{}", overlapping.text);
    assert_eq!(handle.info(0).step, 0);
}
