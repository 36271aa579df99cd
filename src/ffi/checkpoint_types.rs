//! The structs of saving and loading.
#![allow(non_camel_case_types)]

use super::sized::sized_struct;
use crate::callback::{adamw_progress, adamw_read, adamw_rename, adamw_write};
use core::ffi::{c_char, c_void};

/// Where and what `adamw_save_to` saves. Zero it, set `struct_size` and one of `path`, `data` and
/// `write` (or `size_only`); the rest may stay 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_save_args {
    /// `sizeof(adamw_save_args)`.
    pub struct_size: usize,
    /// The file to write, as `adamw_save` does.
    pub path: *const c_char,
    /// Memory to write to, `[capacity]` bytes.
    pub data: *mut c_void,
    /// How many bytes there is room for.
    pub capacity: usize,
    /// Called with the checkpoint's bytes one piece after another. The tensors are read twice: their
    /// checksums come first.
    pub write: adamw_write,
    /// Passed to `write`.
    pub write_data: *mut c_void,
    /// `[NULL]` Called while it goes on.
    pub progress: adamw_progress,
    /// Passed to `progress`.
    pub progress_data: *mut c_void,
    /// `[0]` 1: the parameters themselves are saved too.
    pub params: u32,
    /// `[0]` 1: nothing is saved, and only the number of bytes is written; no `path`, `data` or `write`
    /// then.
    pub size_only: u32,
    /// `[NULL]` After a save to a file: 1 if the file and its name outlive a power cut, 0 if the file
    /// system knows no way to make them (fsync is not known there, or not that of a directory; or the
    /// directory may be written but not read). The file is there either way, and whole. 0 after any
    /// other save; not written if the call fails.
    pub out_durable: *mut u32,
}

/// Where a checkpoint is. Zero it, set `struct_size` and one of `path`, `data` and `read`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_source {
    /// `sizeof(adamw_source)`.
    pub struct_size: usize,
    /// The file to read.
    pub path: *const c_char,
    /// Memory to read, `[num_bytes]` bytes.
    pub data: *const c_void,
    /// Bytes of the checkpoint in memory, or that `read` can give.
    pub num_bytes: u64,
    /// Called for bytes at any place.
    pub read: adamw_read,
    /// Passed to `read`.
    pub read_data: *mut c_void,
}

/// Which parameters a handle and what it loads have to have.
pub type adamw_load_scope = u32;
/// The same.
pub const ADAMW_LOAD_ALL: adamw_load_scope = 0;
/// Those of the handle; the checkpoints may have more, which are passed over.
pub const ADAMW_LOAD_SUBSET: adamw_load_scope = 1;
/// Whatever both have: the state of these is loaded, and nothing else. The handle's settings may be
/// others, and its learning rate, schedule and loss scale stay.
pub const ADAMW_LOAD_SHARED: adamw_load_scope = 2;

/// How to load. Zero it and set `struct_size`; the rest may stay 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_load_options {
    /// `sizeof(adamw_load_options)`.
    pub struct_size: usize,
    /// `[NULL]` Says what the parameters of the handle are called in the checkpoint.
    pub rename: adamw_rename,
    /// Passed to `rename`.
    pub rename_data: *mut c_void,
    /// `[NULL]` Called while it goes on. What it returns means nothing once the state is being
    /// written.
    pub progress: adamw_progress,
    /// Passed to `progress`.
    pub progress_data: *mut c_void,
    /// `[ADAMW_LOAD_ALL]`
    pub scope: adamw_load_scope,
    /// `[0]` 1: the parameters themselves are loaded too, into the host's memory.
    pub params: u32,
    /// `[0]` 1: where the checkpoint has f32, f64, f16 or bf16 and the handle another of these, elements
    /// are converted: exactly where there is room, otherwise to nearest (f64 to 16 bits by way of
    /// f32). 0: that is an error.
    pub convert: u32,
    /// `[0]` 1: the handle's schedule and learning rate stay, and may be others than were saved. The schedule
    /// goes on at the index that was saved, as if it had been the run's from its start (a longer
    /// `total_steps`, say); a REDUCE_ON_PLATEAU, or one whose checkpoint has no schedule, stays where it
    /// is. 0: the checkpoint's learning rate is taken, and the schedule has to be the one that was saved.
    pub keep_schedule: u32,
    /// `[0]` 1: the handle may have been made with `amsgrad` or `multi_precision` where the saved one was
    /// not. `max_exp_avg_sq` starts as `exp_avg_sq`: the maximum since the last step that was saved, for
    /// nobody knows those before. The master is the parameter widened, exactly, as it is at the next
    /// step or save. 0: that is an error. What was on cannot be turned off.
    pub extend: u32,
    /// 0.
    pub reserved: u32,
}

/// One thing in a checkpoint. Valid during the callback.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_entry {
    /// `sizeof(adamw_entry)`.
    pub struct_size: usize,
    /// What it is called, NUL-terminated.
    pub name: *const c_char,
    /// A text, NUL-terminated; NULL: this is a tensor.
    pub text: *const c_char,
    /// The element type of a tensor as safetensors names it ("F32", "BF16", ...); NULL: this is a text.
    pub dtype: *const c_char,
    /// Elements of a tensor.
    pub n_elements: u64,
    /// Where the bytes of a tensor start in the file.
    pub offset: u64,
    /// The value, if it is one number of 64 bits, as a counter is; NaN otherwise.
    pub value: f64,
}

/// Sees one thing in a checkpoint and returns 0. Anything else ends the call with
/// `ADAMW_STATUS_CALLBACK`.
pub type adamw_visit =
    Option<unsafe extern "C" fn(entry: *const adamw_entry, user_data: *mut c_void) -> i32>;

sized_struct!(adamw_save_args, "args", 8 of 8, 2 of 4, 1 of 8);
sized_struct!(adamw_source, "source", 6 of 8);
sized_struct!(adamw_load_options, "options", 5 of 8, 6 of 4);
sized_struct!(adamw_entry, "entry", 7 of 8);
