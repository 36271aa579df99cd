//! Parameters on a device, on the stand-in of `tests/cuda-standin`; `tests/gpu/run.sh` runs some on a GPU.

#[path = "../common/mod.rs"]
mod common;
#[path = "../ranks/meeting.rs"]
mod meeting;

mod calls;
mod checkpoint;
mod graphs;
mod images;
mod inputs;
mod kernels;
mod memory;
mod mutations;
mod offload;
mod parked;
mod presence;
mod ptx;
mod ranks;
mod scaler;
mod schedules;
mod sparse;
mod statistics;
mod steps;
mod sums;
mod timing;
