//! Whatever floating-point environment the host has set, a step gives the same bits, and the host
//! finds its environment as it left it, sticky flags included, after every call and in every
//! callback.
#![cfg(target_arch = "x86_64")]

use crate::common::LONG;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config};
use crate::common::host::{from_user_data, user_data};
use crate::common::kind::Kind;
use crate::common::random::Random;
use crate::common::tensors::Tensors;
use adamw::ffi;
use core::arch::asm;
use core::ffi::{c_char, c_void};
use std::sync::Mutex;

/// MXCSR: all exceptions masked, none raised, to nearest even, denormals kept.
const DEFAULT: u32 = 0x1f80;
const FLUSH_TO_ZERO: u32 = 0x8000;
const DENORMALS_ARE_ZERO: u32 = 0x0040;
const DOWN: u32 = 0x2000;
const UP: u32 = 0x4000;
const TOWARDS_ZERO: u32 = 0x6000;
const ALL_RAISED: u32 = 0x003f;
/// Every exception ends the process with SIGFPE.
const NONE_MASKED: u32 = 0x0000;

const ENVIRONMENTS: [u32; 9] = [
    DEFAULT | FLUSH_TO_ZERO,
    DEFAULT | DENORMALS_ARE_ZERO,
    DEFAULT | DOWN,
    DEFAULT | UP,
    DEFAULT | TOWARDS_ZERO,
    DEFAULT | ALL_RAISED,
    NONE_MASKED,
    NONE_MASKED | ALL_RAISED | UP,
    DEFAULT | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO | DOWN,
];

fn mxcsr() -> u32 {
    let mut value = 0;
    // SAFETY: stores the register to `value`.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack)) };
    value
}

/// Rust's own arithmetic wants the default environment: nothing but the library is called in
/// another, and whoever sets one puts the default back.
fn set_mxcsr(value: u32) {
    // SAFETY: reads `value`; no reserved bit is set in any that a test uses.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack)) };
}

/// Makes a call as a host in this environment, and says in which one the host was afterwards.
#[inline(never)]
fn as_host_in<R>(environment: u32, call: impl FnOnce() -> R) -> (R, u32) {
    set_mxcsr(environment);
    let result = call();
    let after = mxcsr();
    set_mxcsr(DEFAULT);
    (result, after)
}

/// As `as_host_in`, and it finds the environment unchanged.
#[track_caller]
fn unchanged_in<R>(environment: u32, call: impl FnOnce() -> R) -> R {
    let (result, after) = as_host_in(environment, call);
    assert_eq!(after, environment, "{after:#06x} instead of {environment:#06x}");
    result
}

/// A parameter on its way through two steps, every call of which is made in one environment.
fn run(kind: Kind, start: &Tensors, grad: &Array, num_threads: u32, environment: u32) -> Tensors {
    let tensors = start.duplicate();
    let mut config = config();
    config.amsgrad = kind.amsgrad.into();
    config.multi_precision = kind.master.into();
    config.num_threads = num_threads;
    config.lr = 0.1;
    let handle = unchanged_in(environment, || Handle::new(&config));
    let param = unchanged_in(environment, || tensors.add_to(&handle, "w", 1));
    unchanged_in(environment, || handle.sync_master(param));
    unchanged_in(environment, || handle.set_grad(param, grad));
    unchanged_in(environment, || handle.step());
    unchanged_in(environment, || handle.set_lr(0.01));
    unchanged_in(environment, || handle.step());
    unchanged_in(environment, || handle.clear_grad(ffi::ADAMW_CLEAR_FORGET));
    unchanged_in(environment, || drop(handle));
    tensors
}

#[test]
fn every_environment_gives_the_same_bits_and_is_found_unchanged() {
    let kinds = Kind::all().into_iter().filter(|kind| kind.amsgrad && !kind.maximize);
    for kind in kinds {
        let mut random = Random::new(LONG as u64);
        let start = Tensors::random(kind, LONG, &mut random);
        let grad = Array::random(kind.grad, LONG, &mut random);
        let expected = run(kind, &start, &grad, 1, DEFAULT);
        for environment in ENVIRONMENTS {
            for num_threads in [1, 2] {
                let context = || format!("{kind:?}, {num_threads} threads, {environment:#06x}");
                run(kind, &start, &grad, num_threads, environment).assert_same(&expected, context);
            }
        }
    }
}

#[test]
fn a_failing_call_leaves_the_environment_unchanged() {
    for environment in ENVIRONMENTS {
        let handle = Handle::new(&config());
        unchanged_in(environment, || handle.try_info(7)).unwrap_err();
        let mut wrong = config();
        wrong.lr = f64::NAN;
        let created = unchanged_in(environment, || Handle::try_new(&wrong));
        assert!(created.is_err());
    }
}

/// What a host's callbacks saw, and where.
#[derive(Default)]
struct Seen(Mutex<Vec<(&'static str, u32)>>);

impl Seen {
    fn here(&self, place: &'static str) {
        let environment = mxcsr();
        self.0.lock().unwrap().push((place, environment));
    }

    /// Each place once, with what was seen there.
    fn places(&self) -> Vec<(&'static str, u32)> {
        let mut seen = self.0.lock().unwrap().clone();
        seen.sort();
        seen.dedup();
        seen
    }
}

unsafe extern "C" fn decays(_name: *const c_char, seen: *mut c_void) -> i32 {
    // SAFETY: registered with a `Seen`.
    unsafe { from_user_data::<Seen>(seen) }.here("decay filter");
    1
}

unsafe extern "C" fn ratio(
    _param: *const ffi::adamw_param_info,
    out_ratio: *mut f64,
    seen: *mut c_void,
) -> i32 {
    // SAFETY: registered with a `Seen`; `out_ratio` is the library's to be written.
    unsafe {
        from_user_data::<Seen>(seen).here("lr_ratio");
        out_ratio.write(1.0);
    }
    0
}

/// The environment of the host's second thread, which the caller's differs from.
const WORKER: u32 = DEFAULT | FLUSH_TO_ZERO | UP | 0x0001;

/// The even tasks here, the odd ones on a thread with an environment of its own.
unsafe extern "C" fn two_threads(
    num_tasks: usize,
    task: ffi::adamw_task,
    task_data: *mut c_void,
    seen: *mut c_void,
) -> i32 {
    // SAFETY: registered with a `Seen`.
    let seen = unsafe { from_user_data::<Seen>(seen) };
    seen.here("parallel_for");
    let task = task.unwrap();
    let address = task_data.expose_provenance();
    let worker = std::thread::spawn(move || {
        let task_data = core::ptr::with_exposed_provenance_mut(address);
        set_mxcsr(WORKER);
        // SAFETY: each index once, and the thread is joined before this function returns.
        (1..num_tasks).step_by(2).for_each(|index| unsafe { task(task_data, index) });
        let after = mxcsr();
        set_mxcsr(DEFAULT);
        after
    });
    for index in (0..num_tasks).step_by(2) {
        // SAFETY: as above.
        unsafe { task(task_data, index) };
        seen.here("after a task");
    }
    let after = worker.join().unwrap();
    seen.0.lock().unwrap().push(("worker", after));
    0
}

#[test]
fn callbacks_see_the_environment_of_their_own_thread() {
    let kind = Kind::plain(Dtype::F32);
    let mut random = Random::new(1);
    let start = Tensors::random(kind, LONG, &mut random);
    let grad = Array::random(kind.grad, LONG, &mut random);
    let step_in = |environment: u32, seen: &Seen| {
        let tensors = start.duplicate();
        let mut config = config();
        config.num_threads = 4;
        config.parallel_for = Some(two_threads);
        config.parallel_for_data = user_data(seen);
        let handle = Handle::new(&config);
        unchanged_in(environment, || handle.set_decay_filter(Some(decays), seen)).unwrap();
        handle.set_lr_ratio(Some(ratio), seen);
        let param = unchanged_in(environment, || tensors.add_to(&handle, "w", 0));
        handle.set_grad(param, &grad);
        unchanged_in(environment, || handle.step());
        drop(handle);
        tensors
    };
    let expected = step_in(DEFAULT, &Seen::default());
    for environment in ENVIRONMENTS {
        let seen = Seen::default();
        step_in(environment, &seen).assert_same(&expected, || format!("{environment:#06x}"));
        let places = ["after a task", "decay filter", "lr_ratio", "parallel_for"];
        let mut wanted = places.map(|place| (place, environment)).to_vec();
        wanted.push(("worker", WORKER));
        assert_eq!(seen.places(), wanted, "{environment:#06x}");
    }
}
