//! What the library says of itself and of the machine that it runs on.

use crate::common::array::Dtype;
use crate::common::handle::{Handle, capabilities, config, isas, status_name, version};
use adamw::ffi::{self, Status};

#[test]
fn capabilities_are_those_of_this_machine() {
    let found = capabilities();
    assert!(isas().contains(&ffi::ADAMW_ISA_PORTABLE));
    assert!(isas().contains(&found.best_isa));
    let dtypes = Dtype::ALL.iter().fold(0, |bits, dtype| bits | 1 << dtype.code());
    assert_eq!(found.dtypes, dtypes);
    assert_ne!(found.devices & 1 << 1, 0);
    let cpus = std::thread::available_parallelism().unwrap().get() as u32;
    assert!(found.num_cpus >= cpus, "{} {cpus}", found.num_cpus);
    #[cfg(target_arch = "x86_64")]
    {
        let runs = |isa: ffi::adamw_isa| found.isas & 1 << isa != 0;
        assert_eq!(runs(ffi::ADAMW_ISA_AVX2), is_x86_feature_detected!("avx2"));
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        assert_eq!(runs(ffi::ADAMW_ISA_AVX512), avx512);
    }
}

#[test]
fn the_environment_caps_the_instruction_set() {
    const EXPECTED: &str = "EXPECTED_ISA";
    if let Some(expected) = std::env::var_os(EXPECTED) {
        // This is the process that was started below.
        let best = match Handle::try_new(&config()) {
            Ok(_) => capabilities().best_isa.to_string(),
            Err(refused) => format!("{:?}", refused.status),
        };
        assert_eq!(best.as_str(), expected);
        return;
    }
    let highest = |cap| isas().into_iter().filter(|isa| *isa <= cap).max().unwrap().to_string();
    for (value, expected) in [
        ("portable", highest(ffi::ADAMW_ISA_PORTABLE)),
        ("avx2", highest(ffi::ADAMW_ISA_AVX2)),
        ("avx512", highest(ffi::ADAMW_ISA_AVX512)),
        ("", highest(ffi::ADAMW_ISA_AVX512)),
        ("fastest", "InvalidArgument".to_owned()),
    ] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "capabilities::the_environment_caps_the_instruction_set"])
            .env("ADAMW_ISA", value)
            .env(EXPECTED, expected)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "{value}: {printed}");
    }
}

#[test]
fn the_version_is_cargos() {
    assert_eq!(version(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_status_has_its_name() {
    for (status, number, name) in [
        (Status::Ok, 0, "ADAMW_STATUS_OK"),
        (Status::InvalidArgument, 1, "ADAMW_STATUS_INVALID_ARGUMENT"),
        (Status::Unsupported, 2, "ADAMW_STATUS_UNSUPPORTED"),
        (Status::OutOfMemory, 3, "ADAMW_STATUS_OUT_OF_MEMORY"),
        (Status::NotFound, 5, "ADAMW_STATUS_NOT_FOUND"),
        (Status::BadHandle, 7, "ADAMW_STATUS_BAD_HANDLE"),
        (Status::Busy, 8, "ADAMW_STATUS_BUSY"),
        (Status::Poisoned, 9, "ADAMW_STATUS_POISONED"),
        (Status::Callback, 10, "ADAMW_STATUS_CALLBACK"),
        (Status::Internal, 99, "ADAMW_STATUS_INTERNAL"),
    ] {
        assert_eq!((status as i32, status_name(number)), (number, name));
    }
    assert_eq!(status_name(4), "unknown status");
}
