//! Which image of the kernels a driver is given, machine code or PTX, and that both are of one source.

use crate::common::array::{Array, Dtype};
use crate::common::device::{self, Device, OnDevice, take_log};
use crate::common::handle::{Handle, Param, config};
use crate::common::twin::Twin;
use adamw::ffi::Status;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda/kernels");

/// What the attempts to load an image have returned.
fn loads() -> Vec<String> {
    let log = take_log();
    let loads = log.iter().filter(|line| line.starts_with("cuModuleLoadData"));
    loads.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
}

fn steps_to_the_processors_bits() {
    let mut twin = Twin::new(&config());
    twin.add(Dtype::F32, 100);
    twin.set_grads();
    twin.step();
    twin.assert_same();
}

#[test]
fn a_driver_that_reads_the_machine_code_is_given_nothing_else() {
    let known = format!("{FOLDER}/kernels.fatbin={FOLDER}/kernels.ptx");
    let _device = Device::with(&[("machine_code", &known)]);
    steps_to_the_processors_bits();
    assert_eq!(loads(), ["0"]);
}

#[test]
fn a_driver_that_does_not_read_the_machine_code_is_given_the_ptx() {
    let _device = Device::new();
    steps_to_the_processors_bits();
    assert_eq!(loads(), ["209", "0"]);
    for code in [200, 209, 218, 222, 300, 500] {
        device::set("fail", &format!("cuModuleLoadDataEx:1:{code}"));
        steps_to_the_processors_bits();
        assert_eq!(loads(), [code.to_string(), "0".to_owned()]);
    }
}

#[test]
fn what_is_wrong_but_not_with_the_machine_code_is_told() {
    let _device = Device::new();
    for (code, status) in [
        (1, Status::Device),
        (2, Status::OutOfMemory),
        (201, Status::Device),
        (719, Status::Device),
    ] {
        device::set("fail", &format!("cuModuleLoadDataEx:1:{code}"));
        let (array, handle) = (Array::zeros(Dtype::F32, 3), Handle::new(&config()));
        let param = OnDevice::of(&array, 0);
        let mut tensors = [None; 9];
        tensors[0] = Some(param.tensor());
        let failure = handle.try_add_tensors(&Param::new("w", &array), tensors).unwrap_err();
        assert_eq!((failure.status, loads()), (status, vec![code.to_string()]));
    }
}

#[test]
fn the_machine_code_is_made_of_the_ptx_for_five_kinds_of_device_in_1_5_mb() {
    let [ptx, machine_code] =
        ["ptx", "fatbin"].map(|kind| std::fs::read(format!("{FOLDER}/kernels.{kind}")).unwrap());
    let name = format!("kernels.ptx {:08x}\0", crc32fast::hash(&ptx));
    let images = machine_code.windows(name.len()).filter(|bytes| *bytes == name.as_bytes());
    assert_eq!(images.count(), 5, "run `make ptx`");
    assert!(machine_code.len() <= 1_500_000, "{} bytes", machine_code.len());
}
