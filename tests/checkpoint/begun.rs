//! Saves that a thread of the handle writes while the host goes on.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{Folder, Gathered, c_path, load_options, save_args};
use crate::common::handle::{Answer, Handle, answer, call, config};
use crate::common::host::{from_user_data, user_data};
use crate::common::random::Random;
use adamw::ffi::{self, Status, *};
use core::ffi::c_void;
use core::ptr::null_mut;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{ThreadId, current, sleep, yield_now};
use std::time::Duration;

/// A handle that steps one parameter.
struct Run {
    handle: Handle,
    _param: Array,
    _grad: Array,
}

impl Run {
    fn new(n: usize, config: &adamw_config) -> Run {
        let mut random = Random::new(3);
        let [param, grad] = [0; 2].map(|_| Array::ordinary(Dtype::F32, n, &mut random));
        let handle = Handle::new(config);
        let number = handle.add_array("w", &param);
        handle.set_grad(number, &grad);
        handle.step();
        Run { handle, _param: param, _grad: grad }
    }

    fn small() -> Run {
        Run::new(1000, &config())
    }
}

fn to(path: &CString) -> adamw_save_args {
    adamw_save_args { path: path.as_ptr(), ..save_args() }
}

fn status<T>(answer: Answer<T>) -> Status {
    answer.err().map_or(Status::Ok, |failure| failure.status)
}

#[test]
fn a_begun_file_is_that_of_a_save_however_many_threads_copy_it() {
    let folder = Folder::new();
    let (path, saved) = (folder.join("begun"), folder.join("saved"));
    // Long enough for several threads to copy parts of it, and not a multiple of anything.
    for num_threads in [1, 3] {
        let run = Run::new(5_000_003, &adamw_config { num_threads, ..config() });
        // The second one takes the memory of the first, a third one less of it.
        for params in [1, 1, 0] {
            run.handle.save_to(&adamw_save_args { params, ..to(&c_path(&saved)) }).unwrap();
            let args = adamw_save_args { params, ..to(&c_path(&path)) };
            let opened_now = c_path(&path);
            run.handle.save_begin(&adamw_save_args { path: opened_now.as_ptr(), ..args }).unwrap();
            drop(opened_now);
            run.handle.step();
            let (n_bytes, durable) = run.handle.save_wait().unwrap();
            let (begun, saved) = (std::fs::read(&path).unwrap(), std::fs::read(&saved).unwrap());
            assert_eq!((n_bytes, durable), (saved.len() as u64, 1));
            assert!(begun == saved, "{num_threads} threads, params: {params}");
            assert_eq!(folder.names(), ["begun", "saved"]);
        }
    }
}

/// A function that holds up the thread which calls it.
#[derive(Default)]
struct Held {
    goes_on: AtomicBool,
    n_bytes: AtomicU64,
}

unsafe extern "C" fn hold(_: *const c_void, num_bytes: usize, held: *mut c_void) -> i32 {
    // SAFETY: the test's own.
    let held = unsafe { from_user_data::<Held>(held) };
    while !held.goes_on.load(Ordering::Acquire) {
        yield_now();
    }
    held.n_bytes.fetch_add(num_bytes as u64, Ordering::AcqRel);
    0
}

impl Held {
    fn args(&self) -> adamw_save_args {
        adamw_save_args { write: Some(hold), write_data: user_data(self), ..save_args() }
    }
}

#[test]
fn what_saves_loads_or_ends_a_handle_waits_for_the_save_that_was_begun() {
    type Call<'a> = &'a dyn Fn(&Handle) -> Answer;
    let folder = Folder::new();
    let (file, path) = (folder.join("file"), c_path(&folder.join("begun")));
    Run::small().handle.save(&file).unwrap();
    let calls: [(&str, Call); 6] = [
        ("adamw_save_wait", &|handle| handle.save_wait().map(drop)),
        ("adamw_save_begin", &|handle| handle.save_begin(&to(&path))),
        ("adamw_save", &|handle| handle.save(&file)),
        ("adamw_save_to", &|handle| handle.saved_or_refused().map(drop)),
        ("adamw_load", &|handle| handle.load(&file, &load_options())),
        ("adamw_destroy", &|handle| call!(adamw_destroy(handle.raw()))),
    ];
    for (name, waits) in calls {
        let (held, run) = (Held::default(), Run::small());
        let n_bytes = run.handle.saved(false).len() as u64;
        run.handle.save_begin(&held.args()).unwrap();
        // Whatever does not concern the save goes on.
        run.handle.step();
        assert_eq!(run.handle.save_poll().unwrap().0, 1, "{name}");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sleep(Duration::from_millis(30));
                assert_eq!(held.n_bytes.load(Ordering::Acquire), 0, "{name}");
                held.goes_on.store(true, Ordering::Release);
            });
            waits(&run.handle).unwrap();
            assert_eq!(held.n_bytes.load(Ordering::Acquire), n_bytes, "{name}");
        });
        if name == "adamw_destroy" {
            std::mem::forget(run);
        }
    }
}

#[test]
fn a_poll_tells_how_far_a_save_has_come_and_that_it_has_ended() {
    let (held, run) = (Held::default(), Run::small());
    assert_eq!(run.handle.save_poll().unwrap(), (0, 0, 0));
    assert_eq!(run.handle.save_wait().unwrap(), (0, 0));
    run.handle.save_begin(&held.args()).unwrap();
    let total = 2 * (8 * 1000 + 4 * 8);
    let (running, done, of) = run.handle.save_poll().unwrap();
    assert!(running == 1 && done < total && of == total, "{done} of {of}");
    held.goes_on.store(true, Ordering::Release);
    while run.handle.save_poll().unwrap().0 == 1 {
        yield_now();
    }
    assert_eq!(run.handle.save_poll().unwrap(), (0, total, total));
    let nothing = call!(adamw_save_poll(run.handle.raw(), null_mut(), null_mut(), null_mut()));
    nothing.unwrap();
    for _ in 0..2 {
        assert_eq!(run.handle.save_wait().unwrap().0, held.n_bytes.load(Ordering::Acquire));
    }
}

unsafe extern "C" fn refuse(_: *const c_void, _: usize, _: *mut c_void) -> i32 {
    7
}

unsafe extern "C" fn cancel(_: u64, _: u64, _: *mut c_void) -> i32 {
    8
}

#[test]
fn an_error_is_told_by_a_wait_a_poll_or_else_by_the_next_begin() {
    let run = Run::small();
    let gathered = Gathered::default();
    let fails = [
        (adamw_save_args { write: Some(refuse), ..save_args() }, "write returned 7, expected 0"),
        (
            adamw_save_args { progress: Some(cancel), ..gathered.args() },
            "progress returned 8, expected 0",
        ),
    ];
    for (args, text) in fails {
        let failed = |answer: Answer<()>, text: &str| {
            let failure = answer.unwrap_err();
            assert_eq!((failure.status, failure.text.as_str()), (Status::Callback, text));
        };
        let ended = || {
            while run.handle.save_poll().is_ok_and(|(running, ..)| running == 1) {
                yield_now();
            }
        };
        run.handle.save_begin(&args).unwrap();
        // Other calls that wait do not tell.
        run.handle.step();
        let saved = run.handle.saved(false);
        gathered.take();
        let before = format!("the save that was begun before has failed: {text}");
        failed(run.handle.save_begin(&gathered.args()), &before);
        // It has been told, and nothing was begun.
        assert!(gathered.take().is_empty());
        failed(run.handle.save_wait().map(drop), text);
        run.handle.save_begin(&args).unwrap();
        ended();
        failed(run.handle.save_poll().map(drop), text);
        failed(run.handle.save_wait().map(drop), text);
        failed(run.handle.save_wait().map(drop), text);
        assert!(run.handle.saved_beside(false, || ()) == saved);
    }
}

#[test]
fn a_cancelled_save_leaves_the_old_file_and_no_other() {
    let folder = Folder::new();
    let path = folder.join("state");
    let run = Run::small();
    run.handle.save(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    run.handle.step();
    let name = c_path(&path);
    run.handle.save_begin(&adamw_save_args { progress: Some(cancel), ..to(&name) }).unwrap();
    assert_eq!(status(run.handle.save_wait()), Status::Callback);
    assert!(std::fs::read(&path).unwrap() == before);
    assert_eq!(folder.names(), ["state"]);
}

#[test]
fn mistakes_that_can_be_seen_at_once_are_errors_of_begin() {
    let (folder, run) = (Folder::new(), Run::small());
    let nowhere = c_path(&folder.join("no/such"));
    assert_eq!(status(run.handle.save_begin(&to(&nowhere))), Status::Io);
    assert_eq!(status(run.handle.save_begin(&save_args())), Status::InvalidArgument);
    assert_eq!(run.handle.save_wait().unwrap(), (0, 0));
    assert_eq!(run.handle.save_poll().unwrap(), (0, 0, 0));
}

/// What a function sees that calls the handle which it is called for.
struct Inside<'a> {
    handle: &'a Handle,
    caller: ThreadId,
    has_begun: AtomicBool,
    is_elsewhere: AtomicBool,
    waited: [AtomicU64; 4],
}

unsafe extern "C" fn call_back(_: *const c_void, _: usize, inside: *mut c_void) -> i32 {
    // SAFETY: the test's own.
    let inside = unsafe { from_user_data::<Inside>(inside) };
    inside.is_elsewhere.store(current().id() != inside.caller, Ordering::Release);
    // A call in here is refused for itself, and not because the one that begins is still going on.
    while !inside.has_begun.load(Ordering::Acquire) {
        yield_now();
    }
    let handle = inside.handle;
    let answers = [
        handle.save_wait().map(drop),
        handle.save_begin(&Gathered::default().args()),
        handle.saved_or_refused().map(drop),
        call!(adamw_destroy(handle.raw())),
    ];
    for (to, answer) in inside.waited.iter().zip(answers) {
        to.store(status(answer) as u64, Ordering::Release);
    }
    0
}

#[test]
fn functions_run_on_the_handles_thread_and_cannot_wait_for_themselves() {
    let run = Run::small();
    let inside = Inside {
        handle: &run.handle,
        caller: current().id(),
        has_begun: AtomicBool::new(false),
        is_elsewhere: AtomicBool::new(false),
        waited: [const { AtomicU64::new(99) }; 4],
    };
    let write_data = user_data(&inside);
    run.handle
        .save_begin(&adamw_save_args { write: Some(call_back), write_data, ..save_args() })
        .unwrap();
    inside.has_begun.store(true, Ordering::Release);
    while run_is_open(&inside) {
        yield_now();
    }
    run.handle.save_wait().unwrap();
    assert!(inside.is_elsewhere.load(Ordering::Acquire));
    for status in &inside.waited {
        assert_eq!(status.load(Ordering::Acquire), Status::Busy as u64);
    }
}

fn run_is_open(inside: &Inside) -> bool {
    inside.waited[3].load(Ordering::Acquire) == 99
}
