//! AdamW as a C library: see the README for what it does, `include/adamw.h` for how to call it.
//!
//! # The house
//! Arrows run down only: a file imports from the lines below it, or from the vocabulary.
//!
//! ```text
//! ffi/         the C ABI: handles, structs, statuses; no logic. mod.rs lists the header's sections
//! optimizer/   params/: parameters, their names, places and state, all in params/table.rs;
//!              hyper/: groups, learning rates, schedules, the loss scale; step/: gradients, and
//!              the step in five stages; ranks/: how ranks agree on one; device/: what parameters
//!              on a device need; saved/: checkpoints of a handle
//! checkpoint/  files of state: what is in one, found whole before anything is taken from it
//! schedule/    learning rates by the number of steps
//! backend.rs   the one seam: the update over a table of chunks, here or on a device, which only
//!              it and optimizer/device/ name
//! cpu/         loops, one copy per instruction set; blocks, their weights and moments; threads;
//!              registers.rs: the step of coded moments in those of avx2.rs or avx512.rs; late.rs:
//!              that of others in stages, with AVX2
//! cuda/        a device: its driver, tables, launches, and copies that the processor steps;
//!              kernels/: CUDA C++ that mirrors math.rs and the loops, and the PTX and machine code
//! steps.rs     the scalars with which each parameter is stepped
//! math.rs      the AdamW update of one element: the only place where the formula stands
//!
//! vocabulary, which imports only itself:
//! choice.rs    enumerations of the C interface: their numbers, and their words in checkpoints
//! clip.rs      how gradients are clipped, and by what factor
//! norm.rs      the sum of squares of a gradient, in one fixed order
//! config.rs    the options of a handle and of its groups
//! tensor.rs    memory as tensors and rows, cut into disjoint chunks; tensor/part.rs: which
//!              parameters take part in a step; tensor/run.rs: small ones, several as one
//! format.rs    the buffers of a parameter's state: their types and lengths
//! ranges.rs    a list of parameters, cut into a part for each rank
//! role.rs      which of a parameter's buffers a buffer is
//! order.rs     the order of a tensor's dimensions in memory
//! device.rs    the devices in whose memory something can lie
//! dtype.rs     element types, widening and narrowing
//! codes.rs     moments in 8 bits; codes/nibbles.rs: in 4
//! noise.rs     random bits that are a function of step and element
//! error.rs     every error, its text and its status
//! callback.rs  the host's functions
//! sys/         files, floating-point environment, memory, processors, threads and what each keeps,
//!              cancellation, signals, panics
//! ```
//!
//! Outside of `src/`:
//!
//! ```text
//! include/     adamw.h, generated from ffi/, and of that adamw.cffi.h, for cffi; adamw.hpp, C++ on
//!              top of it, adamw/libtorch.hpp, and adamw_mpi.h, ranks of MPI
//! examples-c/  programs to start from, which the tests run; examples/, one in each language
//! cmake/       what CMake builds, installs and tells those who look for the package
//! packaging/   how others package that
//! python/      the Python package over the C interface; state of other frameworks, to and from
//!              checkpoints
//! tests/       model/: random calls beside an obvious optimizer; bits/, api/, step/, ranks/,
//!              checkpoint/, cuda/, growth/, house/: a program each, of one file a subject;
//!              cuda-standin/: the driver that interprets kernels; cuda-host/: one that runs their
//!              sources, compiled for the processor; gpu/: what only a GPU can show; avx512/: an
//!              emulated processor; c/, cpp/, mpi/, python/: hosts that misbehave; golden/: what
//!              others have computed
//! fuzz/        hostile checkpoints
//! benches/     the step beside its references, and other libraries (peers/); ranks/: MPI
//! tools/       what makes and checks PTX and machine code; docs/: what makes a book and
//!              a reference
//! docs/        a page for each subject, which the README links to
//! findings/    what other libraries do that nobody expects of them: a script shows each
//! ```
//!
//! CONTRIBUTING.md says what a change touches, and what must hold.
//!
//! `unsafe` stands only in `ffi/`, `tensor.rs`, `tensor/`, `callback.rs`, `callback/`, `sys/`,
//! `cpu/isa.rs`, `cpu/isa/`, `cpu/avx2`, `cpu/avx512` and `cuda/`, and in macros for these two in
//! `cpu/registers/`.
//!
//! The Rust interface serves the tests and benches; it is no public API.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("sizes, offsets and handles are 64-bit");
#[cfg(not(target_endian = "little"))]
compile_error!("checkpoints are little-endian, as the state in memory is");

mod backend;
mod callback;
mod checkpoint;
mod choice;
mod clip;
mod codes;
mod config;
mod cpu;
mod cuda;
mod device;
mod dtype;
mod error;
pub mod ffi;
mod format;
mod math;
mod noise;
mod norm;
mod optimizer;
mod order;
mod ranges;
mod role;
mod schedule;
mod steps;
mod sys;
mod tensor;
