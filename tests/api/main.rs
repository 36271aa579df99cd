//! What each call of the C interface does, and what it refuses.

#[path = "../common/mod.rs"]
mod common;

mod callbacks;
mod capabilities;
mod failed_calls;
mod hyper;
mod many;
mod minimize;
mod named_state;
mod options;
mod params;
mod parked;
mod single;
mod stack;
mod state;
mod strides;
