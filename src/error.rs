//! All errors, with the values in their texts, and the status that C sees.
//!
//! A variant of `Error` is one problem, with the values that its text names; `thiserror` makes the
//! text of the format above the variant. Problems of one subject are enumerations of their own: of
//! a tensor (`TensorProblem`, of which `of` makes an `Error`), of memory on a device
//! (`MemoryProblem`), of a checkpoint (`FileProblem`), of ranks (`RanksProblem`), and differences
//! between a handle and a checkpoint (`Difference`). `status` returns the number that C sees, and
//! `ffi/` keeps the text for `adamw_last_error`.
//!
//! An error owns no memory, because it must be possible when there is none left: names are copied
//! into a `Label` or into `Names`, system errors are numbers (`Errno`), and all other texts are
//! constants.
#![forbid(unsafe_code)]

mod advice;
mod difference;
mod errno;
mod file;
mod half;
mod label;
mod memory;
mod names;
mod plain;
mod ranks;
mod status;
mod tensor_problem;

pub use difference::Difference;
pub use errno::Errno;
pub use file::FileProblem;
pub use label::Label;
pub use memory::MemoryProblem;
pub use names::Names;
pub use ranks::RanksProblem;
pub use status::Status;
pub use tensor_problem::TensorProblem;

use crate::dtype::Dtype;
use crate::role::Role;
use advice::advice;
use plain::Plain;
use thiserror::Error;

/// The error of a failed call, which has changed nothing.
#[derive(Error, Clone, Copy, PartialEq, Debug)]
pub enum Error {
    #[error("{0} is NULL")]
    Null(&'static str),
    #[error("{name} is {}, expected {expected}", Plain(.value))]
    Number { name: &'static str, value: f64, expected: &'static str },
    #[error("{name} is {value}, expected {expected}")]
    Constant { name: &'static str, value: u32, expected: &'static str },
    #[error(
        "{name}.struct_size is {size}, expected sizeof({of}), {known}, or where one of its fields \
         ends, such as {next}"
    )]
    StructSize { name: &'static str, of: &'static str, size: usize, known: usize, next: usize },
    #[error(
        "{name} has fields beyond the {known} bytes that this version knows (struct_size {size}), \
         and they are not zero: set them to 0, or use the library that has them"
    )]
    StructTail { name: &'static str, size: usize, known: usize },
    #[error("{name} has {count} of {of}, expected one of them")]
    OneOf { name: &'static str, count: usize, of: &'static str },
    #[error("ADAMW_ISA is \"{0}\", expected portable, avx2 or avx512")]
    IsaVariable(Label),

    #[error("a parameter's name is empty, expected one that no other param of the handle has")]
    NameEmpty,
    #[error(
        "rename gave {gave} for param \"{param}\": it gives what the param is called in the \
         checkpoint, or leaves out_name as it is"
    )]
    NoRename { param: Label, gave: &'static str },
    #[error("a parameter's name is \"{0}\", expected UTF-8")]
    NameNotUtf8(Label),
    #[error("param \"{0}\" is already there: names are unique in a handle")]
    NameTaken(Label),
    #[error(
        "there is no param {number}: numbers are below {count}, and free where a param was removed"
    )]
    NoParam { number: u32, count: usize },
    #[error("sums {0}")]
    GradSums(TensorProblem),
    #[error("sums has {is} elements, expected {expected}: two for each of the handle's params")]
    GradSumsLength { is: u64, expected: u64 },
    #[error("there is no group {number}: the handle has {count} (adamw_add_group adds one)")]
    NoGroup { number: u32, count: usize },
    #[error("param \"{param}\" has no {buffer}: {reason}")]
    NoState { param: Label, buffer: Role, reason: &'static str },
    #[error("no state is called \"{0}\" (adamw_get_state_name gives the names)")]
    NoStateNamed(Label),
    #[error("Paddle has no name for the {what} of param \"{param}\": ADAMW_NAMES_NEUTRAL has one")]
    NoName { param: Label, what: &'static str },
    #[error("no param is called \"{0}\" (adamw_get_param_info gives the names)")]
    NoParamNamed(Label),
    #[error("state \"{name}\": {problem}")]
    State { name: Label, problem: TensorProblem },
    #[error("state \"{name}\" would be {}, expected {expected}", Plain(.value))]
    StateValue { name: Label, value: f64, expected: &'static str },
    #[error(
        "state \"{name}\": element {element} is {}, expected >= 0, as means of squares are",
        Plain(.value)
    )]
    NegativeState { name: Label, element: usize, value: f64 },
    #[error("param \"{0}\" is f16, which has no split master: multi_precision gives it an f32 one")]
    NoSplit(Label),
    #[error(
        "param \"{0}\" is f16, which is not rounded stochastically: multi_precision gives it an \
         f32 master, ADAMW_PRECISION_KAHAN a remainder"
    )]
    NoStochastic(Label),
    #[error(
        "param \"{0}\" has moments in codes, which are stepped in blocks and not by rows: its \
         group's lazy_mode must be ADAMW_LAZY_OFF"
    )]
    CodedRows(Label),
    #[error(
        "param \"{0}\": 4-bit moments are not for amsgrad, which would keep the largest of what \
         was rounded up: ADAMW_MOMENTS_8BIT are"
    )]
    NoNibbles(Label),
    #[error(
        "param \"{param}\": element {element} of master does not round to param: adamw_sync_master \
         fills a master"
    )]
    MasterMismatch { param: Label, element: usize },
    #[error(
        "param \"{param}\" has accumulated {n_accumulated} gradients, which is more than the \
         {window} of adamw_set_accumulation_window: set it to how many there are in a step"
    )]
    Window { param: Label, n_accumulated: u64, window: u64 },
    #[error("param \"{0}\" is given twice, expected once in a call")]
    GivenTwice(Label),
    #[error("the closure returned {0}, expected 0")]
    Closure(i32),
    #[error("there are {0} params or groups already, which is the most a handle holds")]
    TooMany(u32),

    #[error("param \"{param}\": {buffer} {problem}")]
    Tensor { param: Label, buffer: Role, problem: TensorProblem },
    #[error(
        "param \"{param}\": rows[{place}] is {row}, expected 0 to {}",
        .height.saturating_sub(1)
    )]
    Row { param: Label, place: u64, row: i64, height: u64 },
    #[error(
        "param \"{param}\": {buffer} overlaps {other_buffer} of param \"{other}\": give each \
         memory of its own"
    )]
    Overlap { param: Label, buffer: Role, other: Label, other_buffer: Role },
    #[error("param \"{param}\": {buffer} was given, but {reason}: leave it NULL")]
    NotUsed { param: Label, buffer: Role, reason: &'static str },
    #[error("param \"{param}\": {buffer} belongs to the library, only the host's buffers move")]
    NotTheHosts { param: Label, buffer: Role },
    #[error("param \"{param}\": {buffer} has no memory now: adamw_rebind says where it is again")]
    NoMemory { param: Label, buffer: Role },
    #[error(
        "param \"{0}\" has rows that may have steps to take yet, for which it needs its memory: \
         another lazy_mode than ADAMW_LAZY_EXACT brings them up to date"
    )]
    LaggingRows(Label),
    #[error("param \"{param}\": {buffer} is moved twice, expected once in a call")]
    MovedTwice { param: Label, buffer: Role },
    #[error(
        "param \"{param}\": step is {step}, but {buffer} is not given: steps taken need their state"
    )]
    StepWithoutState { param: Label, step: u64, buffer: Role },
    #[error(
        "param \"{0}\": lr_ratio gave NaN, or did not write out_ratio, expected a finite \
         number >= 0"
    )]
    NoRatio(Label),
    #[error("param \"{param}\": lr_ratio gave {}, expected a finite number >= 0", Plain(.ratio))]
    Ratio { param: Label, ratio: f64 },
    #[error("{name} returned {returned} for param \"{param}\", expected {expected}")]
    Callback { name: &'static str, param: Label, returned: i32, expected: &'static str },
    #[error(
        "param \"{param}\": {count} of the {n_elements} elements of grad are not finite \
         (ADAMW_NONFINITE_SKIP passes over such steps)"
    )]
    Nonfinite { param: Label, count: u64, n_elements: u64 },
    #[error(
        "param \"{param}\": the norm of grad is {norm:e} when the loss scale is taken out, which \
         {dtype} does not hold"
    )]
    NormOverflow { param: Label, norm: f64, dtype: Dtype },
    #[error(
        "param \"{param}\" is stepped in {dtype}, in which {name}, {}, is {}: give one that \
         {dtype} holds",
        Plain(.value), Plain(.is)
    )]
    NotOfType { param: Label, name: &'static str, value: f64, is: f64, dtype: Dtype },
    #[error("parallel_for returned {0} before it ran any task, expected 0")]
    ParallelFor(i32),

    #[error("{name} is {count}, expected {wanted}")]
    Count { name: &'static str, count: usize, wanted: usize },
    #[error("the schedule {0}")]
    Schedule(&'static str),
    #[error("the handle has no schedule: adamw_set_lr_schedule sets one")]
    NoSchedule,
    #[error("the schedule's lr at index {index} is {}, expected a finite number >= 0", Plain(.lr))]
    ScheduleLr { index: u64, lr: f64 },
    #[error("schedule.function returned {returned} at index {index}, expected 0")]
    ScheduleCallback { index: u64, returned: i32 },
    #[error(
        "schedule.function gave {} at index {index}, expected a finite number >= 0",
        Plain(.value)
    )]
    ScheduleValue { index: u64, value: f64 },
    #[error("{0} launches of graphs found no learning rate: adamw_prepare gives the next ones")]
    NoRatesLeft(u64),
    #[error("lr is {0}")]
    LrConflict(&'static str),
    #[error(
        "param \"{param}\" cannot be stepped alone, because {reason}: what to do depends on the \
         gradients of all, which adamw_step steps"
    )]
    ClipConflict { param: Label, reason: &'static str },
    #[error("the loss scale is the scaler's: adamw_set_loss_scaler with NULL removes it")]
    ScaleConflict,
    #[error("the handle has no loss scaler: adamw_set_loss_scaler sets one")]
    NoScaler,

    #[error(
        "param \"{param}\": its {n_elements} elements from first_element {first_element} on leave \
         the {whole} of whole_elements"
    )]
    Shard { param: Label, first_element: u64, n_elements: u64, whole: u64 },
    #[error("{0}")]
    Ranks(RanksProblem),
    #[error("file \"{path}\": {call} failed: {errno}")]
    File { path: Label, call: &'static str, errno: Errno },
    #[error("file \"{0}\" is not a regular file, as a checkpoint is")]
    NotAFile(Label),
    #[error("checkpoint \"{file}\" {problem}")]
    Checkpoint { file: Label, problem: FileProblem },
    #[error("{}: {names}{}", what.what(), what.advice())]
    Mismatch { what: Difference, names: Names },
    #[error(
        "param \"{0}\" has accumulated gradients, which a checkpoint does not hold: step first"
    )]
    Accumulating(Label),
    #[error(
        "param \"{alone}\" was stepped alone and param \"{late}\" still has a gradient: a \
         checkpoint would hold two steps; adamw_step takes the rest of the step, or forget the \
         gradient"
    )]
    BetweenSteps { alone: Label, late: Label },
    #[error(
        "the process that this one was forked from has begun the save, and writes it: \
         adamw_save_begin begins another"
    )]
    BegunByParent,
    #[error("{0} is set, which adamw_save_begin does not take: adamw_save_to does")]
    NotBegun(&'static str),
    #[error("{name} returned {returned}, expected 0")]
    Transfer { name: &'static str, returned: i32 },
    #[error(
        "only a part of the checkpoint was loaded: load one again, whole, or destroy this handle"
    )]
    HalfLoaded,

    #[error("out of memory: {bytes} bytes for {what}")]
    OutOfMemory { what: &'static str, bytes: usize },
    #[error("out of memory on the device ({0} failed)")]
    NoDeviceMemory(&'static str),
    #[error("could not start {0} threads: {1}")]
    Threads(usize, Errno),

    #[error("{0}")]
    NoCuda(&'static str),
    #[error("there is no CUDA device {0} (does CUDA_VISIBLE_DEVICES hide it?)")]
    NoDevice(u16),
    #[error("{call} failed: CUDA error {code}, {name}{}", advice(.code))]
    Cuda { call: &'static str, code: u32, name: &'static str },
    #[error("the CUDA driver did not accept the kernels (CUDA error {code}): {log}")]
    Jit { code: u32, log: Label },
    #[error("{0} is not possible while the stream is being captured")]
    Capturing(&'static str),
    #[error("{what} is not possible for a parameter that a captured graph steps ({instead})")]
    InGraph { what: &'static str, instead: &'static str },
    #[error("param \"{param}\" is on a device, where there is no {what}")]
    NotOnDevice { param: Label, what: &'static str },
    #[error(
        "param \"{param}\" is on device {is}, the handle's others are on device {existing}: make a \
         handle for each"
    )]
    SecondDevice { param: Label, is: u16, existing: u16 },
    #[error(
        "the host has to know what this step comes to, which it does not where the device reads \
         found_inf or grad_scale: leave those of adamw_set_device_inputs NULL"
    )]
    DeviceInputs,
    #[error("{0}")]
    Memory(MemoryProblem),
    #[error("param \"{0}\": param.offload is 1, expected 0 for memory of the host's")]
    NothingToOffload(Label),
    #[error(
        "the device failed in the middle of a step, which cannot be undone: destroy this handle; \
         {call} failed: CUDA error {code}, {name}{}",
        advice(.code)
    )]
    HalfStep { call: &'static str, code: u32, name: &'static str },
    #[error("the handle has no param on a device: add one first")]
    NoDeviceYet,

    #[error("optimizer is NULL, expected a handle of adamw_create's")]
    NullHandle,
    #[error("no such handle: {0:#x} was destroyed, or never came from adamw_create")]
    BadHandle(usize),
    #[error(
        "the handle is in use by another call: of another thread, or by the one that led to this \
         callback"
    )]
    Busy,
    #[error("no such team: {0:#x} was destroyed, or never came from adamw_team_create")]
    BadTeam(usize),
    #[error("config.team and config.parallel_for are set, expected one of them at most")]
    TeamAndLoop,
    #[error("a step has begun on this handle: adamw_step_end ends it")]
    StepBegun,
    #[error("no step has begun on this handle: adamw_step_begin begins one")]
    NoStepBegun,
    #[error(
        "an earlier call was interrupted in the middle of its writes: destroy this handle, or load \
         again if that call was a load"
    )]
    Poisoned,
    #[error("caught a panic, which is a bug in this library: {0}")]
    Panic(Label),
}

impl Error {
    /// Returns whether too many files are open to open another.
    pub fn is_lack_of_files(&self) -> bool {
        matches!(self, Error::File { errno: Errno(libc::EMFILE | libc::ENFILE), .. })
    }
}

#[cfg(test)]
mod tests;
