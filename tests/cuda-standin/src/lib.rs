//! A CUDA driver for tests: `libcuda.so` that interprets PTX on the processor.
//!
//! `ptx` decodes a text, `machine` runs a decoded kernel and checks each access and each barrier,
//! `driver` is the driver's API around both and the functions by which a test controls it. Arrows
//! run `driver` → `machine` → `ptx`. README.md says what a test that passes here proves.

pub mod driver;
pub mod machine;
pub mod ptx;
