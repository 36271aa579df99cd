//! Saves and loads that are refused, and files that are no checkpoints of the handle.

use crate::Refusals;
use crate::common::array::Dtype;
use crate::common::checkpoint::{Read, in_memory, load_options, save_args, source, with_header};
use crate::common::handle::{Handle, answer, config};
use crate::common::host::user_data;
use crate::differences::{ones, trained};
use adamw::ffi::Status::{Callback, Corrupt, Io, Poisoned, Unsupported};
use adamw::ffi::*;
use core::cell::Cell;
use core::ffi::{c_char, c_void};
use core::ptr::null;

pub fn refusals(rows: &mut Refusals) {
    arguments(rows);
    begun(rows);
    files(rows);
    bytes(rows);
    moments(rows);
    functions(rows);
    half_of_a_load(rows);
}

fn arguments(rows: &mut Refusals) {
    let param = ones(Dtype::F32, 2);
    let handle = trained(&config(), "w", &param);
    let save = |args: &adamw_save_args| handle.save_to(args);
    rows.invalid(
        save(&save_args()),
        "args has 0 of path, data, write and size_only, expected one of them",
    );
    rows.invalid(
        save(&adamw_save_args { params: 2, ..save_args() }),
        "args.params is 2, expected 0 or 1",
    );
    rows.invalid(
        handle.save_nothing(&adamw_save_args { size_only: 1, ..save_args() }),
        "out_num_bytes, where size_only asks for it, is NULL",
    );
    let mut small = [0u8; 100];
    let data = small.as_mut_ptr().cast();
    let n = handle.saved(false).len();
    rows.invalid(
        save(&adamw_save_args { data, capacity: 100, ..save_args() }),
        &format!("capacity is 100, expected {n}"),
    );
    // SAFETY: the library sees that there is no path.
    rows.invalid(answer(unsafe { adamw_save(handle.raw(), null()) }), "path is NULL");
    let bytes = handle.saved(false);
    let load = |options: &adamw_load_options| handle.load_bytes(&bytes, options);
    rows.invalid(
        load(&adamw_load_options { scope: 3, ..load_options() }),
        "options.scope is 3, expected an ADAMW_LOAD constant, 0 to 2",
    );
    rows.invalid(
        load(&adamw_load_options { reserved: 2, ..load_options() }),
        "options.reserved is 2, expected 0",
    );
    let from = |source| handle.load_from(&[source], &load_options());
    rows.invalid(
        from(adamw_source { path: c"x".as_ptr(), ..Read::new(&[]).source() }),
        "source has 2 of path, data and read, expected one of them",
    );
    rows.invalid(from(adamw_source { num_bytes: 5, ..source() }), "source.data is NULL");
    rows.invalid(
        from(adamw_source { num_bytes: 1 << 63, ..source() }),
        "source.num_bytes is 9.223372036854776e18, expected at most 2^63 - 1",
    );
    rows.invalid(handle.load_from(&[], &load_options()), "sources is NULL");
}

fn begun(rows: &mut Refusals) {
    let param = ones(Dtype::F32, 2);
    let handle = trained(&config(), "w", &param);
    let write = adamw_save_args { write: Some(keeps_nothing), ..save_args() };
    rows.invalid(
        handle.save_begin(&save_args()),
        "args has 0 of path and write, expected one of them",
    );
    let (mut byte, mut durable) = (0u8, 0u32);
    let others = [
        ("data", adamw_save_args { data: (&raw mut byte).cast(), ..write }),
        ("size_only", adamw_save_args { size_only: 1, ..write }),
        ("out_durable", adamw_save_args { out_durable: &mut durable, ..write }),
    ];
    for (name, args) in others {
        let text = "is set, which adamw_save_begin does not take: adamw_save_to does";
        rows.invalid(handle.save_begin(&args), &format!("args.{name} {text}"));
    }
    handle.save_begin(&write).unwrap();
    rows.row(
        handle.save_begin(&write),
        Callback,
        "the save that was begun before has failed: write returned 7, expected 0",
    );
}

fn files(rows: &mut Refusals) {
    let param = ones(Dtype::F32, 2);
    let handle = trained(&config(), "w", &param);
    let missing = std::path::Path::new("/no/such/checkpoint");
    rows.row(
        handle.load(missing, &load_options()),
        Io,
        "file \"/no/such/checkpoint\": open failed: No such file or directory",
    );
    rows.row(
        handle.save(std::path::Path::new("/dev/null")),
        Io,
        "file \"/dev/null\" is not a regular file, as a checkpoint is",
    );
}

fn bytes(rows: &mut Refusals) {
    let param = ones(Dtype::F32, 2);
    let handle = trained(&config(), "w", &param);
    let bytes = handle.saved(true);
    let mut load = |bytes: &[u8], status, text: &str| {
        let loaded = handle.load_bytes(bytes, &load_options());
        rows.row(loaded, status, &format!("checkpoint \"in memory\" {text}"));
    };
    load(b"", Corrupt, "is no checkpoint of this library: it is empty");
    load(
        &[&[0xff; 8], &bytes[8..]].concat(),
        Corrupt,
        "is damaged: its header is longer than the file",
    );
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    load(
        &flipped,
        Corrupt,
        "is damaged: the checksum of \"state.w.exp_avg_sq\" is not that of its bytes",
    );
    let mut header = bytes.clone();
    let at = header.windows(4).position(|four| four == b"lr=0").unwrap();
    header[at] ^= 1;
    load(&header, Corrupt, "is damaged: the checksum of its header is not that of its bytes");
    let edited = |from: &str, to: &str| with_header(&bytes, |text| text.replacen(from, to, 1));
    load(
        &edited("adamw_checkpoint\":\"1", "adamw_checkpoint\":\"9"),
        Unsupported,
        "has format 9, this version of the library reads 1 and 2: use a newer one",
    );
    load(
        &edited("state.w.exp_avg_sq\"", "state.w.exp_avg\""),
        Corrupt,
        "is damaged: \"state.w.exp_avg\" is there twice",
    );
    load(
        &edited("\"optimizer\":", "\"optimiser\":"),
        Corrupt,
        "is damaged: \"optimizer\" is missing or not what it should be",
    );
}

/// Times at which a checkpoint would hold what it cannot.
fn moments(rows: &mut Refusals) {
    let [a, b, grad] = [0; 3].map(|_| ones(Dtype::F32, 2));
    let handle = Handle::new(&config());
    let numbers = [handle.add_array("a", &a), handle.add_array("b", &b)];
    handle.accumulate_grad(numbers[0], &grad).unwrap();
    rows.invalid(
        handle.saved_or_refused(),
        "param \"a\" has accumulated gradients, which a checkpoint does not hold: step first",
    );
    handle.step();
    numbers.iter().for_each(|number| handle.set_grad(*number, &grad));
    handle.step_param(numbers[0]).unwrap();
    rows.invalid(
        handle.saved_or_refused(),
        "param \"a\" was stepped alone and param \"b\" still has a gradient: a checkpoint would hold two \
         steps; adamw_step takes the rest of the step, or forget the gradient",
    );
}

unsafe extern "C" fn keeps_nothing(_: *const c_void, _: usize, _: *mut c_void) -> i32 {
    7
}

unsafe extern "C" fn stops(_: u64, _: u64, _: *mut c_void) -> i32 {
    -3
}

unsafe extern "C" fn renames(
    _: *const c_char,
    out_name: *mut *const c_char,
    name: *mut c_void,
) -> i32 {
    // SAFETY: the library's.
    unsafe { out_name.write(name.cast()) };
    0
}

fn functions(rows: &mut Refusals) {
    let param = ones(Dtype::F32, 2);
    let handle = trained(&config(), "w", &param);
    let write = adamw_save_args { write: Some(keeps_nothing), ..save_args() };
    rows.row(handle.save_to(&write), Callback, "write returned 7, expected 0");
    let bytes = handle.saved(false);
    let stopped = adamw_load_options { progress: Some(stops), ..load_options() };
    let long = ones(Dtype::F32, 1 << 20); // so long that something is told before the end
    let longer = trained(&config(), "w", &long);
    rows.row(
        longer.load_bytes(&longer.saved(false), &stopped),
        Callback,
        "progress returned -3, expected 0",
    );
    for (name, text) in [
        (
            null(),
            "rename gave NULL for param \"w\": it gives what the param is called in the checkpoint, or \
             leaves out_name as it is",
        ),
        (
            c"".as_ptr(),
            "rename gave an empty name for param \"w\": it gives what the param is called in the \
             checkpoint, or leaves out_name as it is",
        ),
        (c"a\xff".as_ptr(), "a parameter's name is \"a\u{fffd}\", expected UTF-8"),
    ] {
        let options = adamw_load_options {
            rename: Some(renames),
            rename_data: name.cast_mut().cast(),
            ..load_options()
        };
        rows.invalid(handle.load_bytes(&bytes, &options), text);
    }
    // SAFETY: the bytes live through the call; the library sees that there is no function.
    let inspected =
        answer(unsafe { adamw_inspect(&in_memory(&bytes), None, core::ptr::null_mut()) });
    rows.invalid(inspected, "visit is NULL");
}

/// Bytes that can be read so often.
struct Failing {
    bytes: Vec<u8>,
    n_left: Cell<usize>,
}

unsafe extern "C" fn read(offset: u64, to: *mut c_void, n: usize, from: *mut c_void) -> i32 {
    // SAFETY: what the test gave, and the library's buffer.
    unsafe {
        let from = &*from.cast::<Failing>();
        let bytes = &from.bytes[offset as usize..][..n];
        to.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), n);
        let n_left = from.n_left.get();
        from.n_left.set(n_left.saturating_sub(1));
        if n_left == 0 { 9 } else { 0 }
    }
}

fn half_of_a_load(rows: &mut Refusals) {
    // So long that the second pass reads it again.
    let param = ones(Dtype::F32, 100_000);
    let handle = trained(&config(), "w", &param);
    let from = Failing { bytes: handle.saved(false), n_left: Cell::new(usize::MAX) };
    let source = || adamw_source {
        read: Some(read),
        read_data: user_data(&from),
        num_bytes: from.bytes.len() as u64,
        ..source()
    };
    handle.load_from(&[source()], &load_options()).unwrap();
    // The last read is the last copy: by then something has been written.
    from.n_left.set(usize::MAX - from.n_left.get() - 1);
    rows.row(
        handle.load_from(&[source()], &load_options()),
        Callback,
        "read returned 9, expected 0",
    );
    rows.row(
        handle.try_step(),
        Poisoned,
        "an earlier call was interrupted in the middle of its writes: destroy this handle, or load again \
         if that call was a load",
    );
    let shared = adamw_load_options { scope: ADAMW_LOAD_SHARED, ..load_options() };
    rows.row(
        handle.load_from(&[source()], &shared),
        Poisoned,
        "only a part of the checkpoint was loaded: load one again, whole, or destroy this handle",
    );
}

#[test]
fn a_checkpoint_that_is_refused_says_what_differs_and_what_to_do() {
    crate::said(refusals);
}
