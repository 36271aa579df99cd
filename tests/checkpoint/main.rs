//! Saving and loading: files, ranks, damage, and runs that go on with the same bits.

#[path = "../common/mod.rs"]
mod common;

mod begun;
mod files;
mod golden;
mod hostile;
mod long;
mod made;
mod options;
mod packed;
mod ranks;
mod resume;
mod runs;
mod saving;
mod shards;
