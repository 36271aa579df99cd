//! The functions by which a test controls the stand-in. No real driver has them.

use super::code::Code;
use super::device::NAME;
use super::lock;
use super::raw::{Out, Text};
use super::stream::LEGACY;
use crate::machine::RangeKind;
use std::ffi::{CStr, c_char, c_int};

/// A text that says that this is no GPU. That the symbol exists says so too.
#[unsafe(no_mangle)]
pub extern "C" fn standin_name() -> *const c_char {
    const TEXT: &CStr = c"PTX interpreter (CUDA stand-in)";
    const { assert!(TEXT.count_bytes() == NAME.len()) };
    TEXT.as_ptr()
}

/// Forgets everything: contexts, memory, settings, log, and that a kernel failed. The environment
/// is read again at the next `cuInit`.
#[unsafe(no_mangle)]
pub extern "C" fn standin_reset() {
    lock().reset();
}

/// Sets what to play, by the names that the README lists; an empty value takes it back. Returns 0,
/// 500 for a name that is not known, or 1 for a value that is not valid.
#[unsafe(no_mangle)]
pub extern "C" fn standin_set(name: Text, value: Text) -> c_int {
    let mut driver = lock();
    // What is set by hand is not overwritten by the environment later.
    driver.settings.read_environment();
    let set = name.get().and_then(|name| driver.settings.set(name, value.get()?));
    set.err().unwrap_or(Code::SUCCESS).0
}

/// Writes the log, a line for each call since it was last taken, and empties it. Returns its
/// length without the zero that ends it; where the buffer has no room for both, or is null,
/// nothing is written and nothing is taken.
#[unsafe(no_mangle)]
pub extern "C" fn standin_log_take(buffer: Out<c_char>, capacity: usize) -> usize {
    let mut driver = lock();
    let text: String = driver.log.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    if text.len() < capacity && buffer.check().is_ok() {
        buffer.set_text(&text, capacity);
        driver.log.clear();
    }
    text.len()
}

/// Writes what went wrong last: the fault of a kernel (kernel, block, thread, line, address), the
/// line of a text that did not load, or the reason for a refused launch. Returns its length; a
/// longer text is cut.
#[unsafe(no_mangle)]
pub extern "C" fn standin_trouble(buffer: Out<c_char>, capacity: usize) -> usize {
    let driver = lock();
    buffer.set_text(&driver.trouble, capacity);
    driver.trouble.len()
}

/// How many there are of `allocations`, `pinned`, `registered`, `streams`, `events`, `modules`,
/// `graphs`, `executables` and `contexts` (times that the primary one is retained); -1 for another
/// word.
#[unsafe(no_mangle)]
pub extern "C" fn standin_count(what: Text) -> i64 {
    let driver = lock();
    let count = match what.get().unwrap_or_default() {
        "allocations" => driver.memory.count(RangeKind::Device),
        "pinned" => driver.memory.count(RangeKind::Pinned),
        "registered" => driver.memory.count(RangeKind::Registered),
        // Without the default streams.
        "streams" => driver.streams.keys().filter(|&&stream| stream > LEGACY + 1).count(),
        "events" => driver.events.len(),
        "modules" => driver.modules.len(),
        "graphs" => driver.graphs.len(),
        "executables" => driver.executables.len(),
        "contexts" => driver.primary.as_ref().map_or(0, |primary| primary.references as usize),
        _ => return -1,
    };
    count as i64
}
