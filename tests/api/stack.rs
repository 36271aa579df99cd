//! The stack that calls take: at most 16 KiB each, on every instruction set, for every format, on the
//! caller's thread and on those that a step is shared out to.
#![cfg(target_os = "linux")]

use crate::common::LONG;
use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{Folder, load_options};
use crate::common::handle::{Handle, Param, config, isas, schedule, schedule_trace};
use crate::common::host::user_data;
use crate::common::random::Random;
use crate::common::rows::Rows;
use adamw::ffi::*;
use core::ffi::c_void;
use core::ptr::{null, null_mut};

/// What the header promises.
const MOST: usize = 16 * 1024;
/// What the tests' threads have, their thread-local storage included; below it is a page that may not be touched.
const STACK: usize = 32 * 1024;
const GUARD: usize = 4096;
const UNTOUCHED: u8 = 0xa5;

/// Runs work on a small thread, and says how much of its stack the work has touched.
fn stack_of<W: FnOnce()>(work: W) -> usize {
    struct Started<W> {
        work: Option<W>,
        top: usize,
    }
    extern "C" fn start<W: FnOnce()>(started: *mut c_void) -> *mut c_void {
        let here = 0_u8;
        // SAFETY: `stack_of` passes a `Started<W>`, and waits for the thread.
        let started = unsafe { &mut *started.cast::<Started<W>>() };
        started.top = (&raw const here).addr();
        if let Some(work) = started.work.take() {
            work();
        }
        null_mut()
    }
    let mut started = Started { work: Some(work), top: 0 };
    // SAFETY: the mapping is this function's own; the thread that has it as its stack is joined before it goes.
    unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let mapped = libc::mmap(null_mut(), GUARD + STACK, access, kind, -1, 0);
        assert_ne!(mapped, libc::MAP_FAILED);
        assert_eq!(libc::mprotect(mapped, GUARD, libc::PROT_NONE), 0);
        let stack = mapped.byte_add(GUARD).cast::<u8>();
        stack.write_bytes(UNTOUCHED, STACK);
        let (mut attributes, mut thread) = (core::mem::zeroed(), 0);
        assert_eq!(libc::pthread_attr_init(&mut attributes), 0);
        assert_eq!(libc::pthread_attr_setstack(&mut attributes, stack.cast(), STACK), 0);
        let data = (&raw mut started).cast();
        assert_eq!(libc::pthread_create(&mut thread, &attributes, start::<W>, data), 0);
        assert_eq!(libc::pthread_join(thread, null_mut()), 0);
        let untouched = core::slice::from_raw_parts(stack, STACK);
        let untouched = untouched.iter().take_while(|&&byte| byte == UNTOUCHED).count();
        let lowest = stack.addr() + untouched;
        assert_eq!(libc::munmap(mapped, GUARD + STACK), 0);
        started.top - lowest
    }
}

/// That no work takes more than it may, which is measured here; the most that any takes.
#[derive(Default)]
struct Most(usize, String);

impl Most {
    fn of(&mut self, name: impl FnOnce() -> String, work: impl FnOnce()) {
        let bytes = stack_of(work);
        if bytes > self.0 {
            *self = Most(bytes, name());
        }
    }
}

impl Drop for Most {
    fn drop(&mut self) {
        println!("{} bytes: {}", self.0, self.1);
        if !std::thread::panicking() {
            assert!(self.0 <= MOST, "{} bytes of stack: {}", self.0, self.1);
        }
    }
}

/// A parameter type, the type of its gradients, and what it is kept in.
fn kinds() -> Vec<(Dtype, Dtype, adamw_precision, bool, adamw_moments)> {
    let mut kinds = Vec::new();
    for param in Dtype::ALL {
        for grad in [param, Dtype::F32] {
            for precision in [
                ADAMW_PRECISION_DEFAULT,
                ADAMW_PRECISION_SPLIT,
                ADAMW_PRECISION_STOCHASTIC,
                ADAMW_PRECISION_KAHAN,
            ] {
                for moments in
                    [ADAMW_MOMENTS_F32, ADAMW_MOMENTS_BF16, ADAMW_MOMENTS_8BIT, ADAMW_MOMENTS_4BIT]
                {
                    kinds.push((param, grad, precision, false, moments));
                    if precision == ADAMW_PRECISION_DEFAULT {
                        kinds.push((param, grad, precision, true, moments));
                    }
                }
            }
        }
    }
    kinds
}

#[test]
fn a_step_takes_at_most_16_kib_in_every_format_on_every_instruction_set() {
    const N: usize = 5000;
    let mut most = Most::default();
    let mut random = Random::new(1);
    for (param, grad, precision, multi_precision, moments) in kinds() {
        let (values, grad) =
            (Array::ordinary(param, N, &mut random), Array::ordinary(grad, N, &mut random));
        let rows = Rows::i64(&[3, 7, 3, 49]);
        let few = grad.copy(0..400, 0);
        for options in 0..32 {
            let [amsgrad, is_sparse, statistics, prepares, measures] =
                core::array::from_fn(|bit| options >> bit & 1 == 1);
            for (lazy_mode, isa) in
                isas().into_iter().flat_map(|isa| (0..3).map(move |lazy| (lazy, isa)))
            {
                if lazy_mode != 0 && !is_sparse {
                    continue;
                }
                let mut config = adamw_config {
                    amsgrad: amsgrad.into(),
                    multi_precision: multi_precision.into(),
                    nonfinite: if measures { ADAMW_NONFINITE_SKIP } else { 0 },
                    num_threads: 1,
                    precision,
                    moments,
                    lazy_mode,
                    isa,
                    ..config()
                };
                if prepares {
                    (config.clip, config.clip_min, config.clip_max) = (ADAMW_CLIP_VALUE, -0.5, 0.5);
                }
                let Ok(handle) = Handle::try_new(&config) else { continue };
                let Ok(number) = handle.try_add(&Param::new("w", &values)) else { continue };
                let is_set = match is_sparse {
                    false => handle.try_set_grad(number, &grad),
                    true => handle.try_set_sparse_grad(number, &rows, &few),
                };
                if is_set.is_err() {
                    continue;
                }
                handle.set_statistics(statistics.into()).unwrap();
                let name = || {
                    format!(
                        "{param:?} {:?} {precision} {multi_precision} {moments} {options} {isa}",
                        grad.dtype()
                    )
                };
                let mut is_stepped = true;
                most.of(name, || is_stepped = adamw_step(handle.raw()) == Status::Ok);
                if !is_stepped {
                    continue; // sparse gradients of coded moments
                }
                most.of(name, || assert_eq!(adamw_step(handle.raw()), Status::Ok));
                most.of(name, || assert_eq!(adamw_sparse_flush(handle.raw()), Status::Ok));
                if !is_sparse && !measures {
                    most.of(name, || {
                        assert_eq!(adamw_grad_ready(handle.raw(), number), Status::Ok);
                        assert_eq!(adamw_step_param(handle.raw(), number), Status::Ok);
                    });
                }
            }
        }
    }
}

/// A host's loop whose threads have small stacks, too; `most` is where it says how much they took.
unsafe extern "C" fn on_small_threads(
    num_tasks: usize,
    task: adamw_task,
    task_data: *mut c_void,
    most: *mut c_void,
) -> i32 {
    // SAFETY: registered with a `usize` in an `UnsafeCell`, which nobody else looks at meanwhile.
    let most = unsafe { &mut *most.cast::<usize>() };
    for index in 0..num_tasks {
        // SAFETY: each index once, on some thread, before this function returns.
        *most = stack_of(|| unsafe { task.unwrap()(task_data, index) }).max(*most);
    }
    0
}

#[test]
fn the_threads_of_a_step_need_no_more() {
    let mut random = Random::new(2);
    let values = Array::ordinary(Dtype::Bf16, LONG, &mut random);
    let grad = Array::ordinary(Dtype::Bf16, LONG, &mut random);
    let most = core::cell::UnsafeCell::new(0_usize);
    let hosts = adamw_config {
        parallel_for: Some(on_small_threads),
        parallel_for_data: user_data(&most),
        ..config()
    };
    // The library's own threads have what the process says, here as little as the tests' have.
    // SAFETY: the attributes are this call's own.
    unsafe {
        let mut attributes = core::mem::zeroed();
        assert_eq!(libc::pthread_attr_init(&mut attributes), 0);
        assert_eq!(libc::pthread_attr_setstacksize(&mut attributes, STACK), 0);
        assert_eq!(pthread_setattr_default_np(&attributes), 0);
    }
    for base in [hosts, config()] {
        for isa in isas() {
            let config = adamw_config {
                num_threads: 3,
                precision: ADAMW_PRECISION_STOCHASTIC,
                moments: ADAMW_MOMENTS_8BIT,
                clip: ADAMW_CLIP_GLOBAL_NORM,
                clip_norm: 1.0,
                isa,
                ..base
            };
            let handle = Handle::new(&config);
            handle.set_grad(handle.add_array("w", &values), &grad);
            handle.set_statistics(1).unwrap();
            for _ in 0..3 {
                handle.step();
            }
        }
    }
    let most = most.into_inner();
    println!("{most} bytes: a task");
    assert!(most > 0 && most <= MOST, "{most} bytes of stack");
}

unsafe extern "C" {
    fn pthread_setattr_default_np(attributes: *const libc::pthread_attr_t) -> i32;
}

#[test]
fn every_other_call_takes_at_most_16_kib() {
    let mut most = Most::default();
    let folder = Folder::new();
    let path = crate::common::checkpoint::c_path(&folder.join("a checkpoint"));
    let options = load_options();
    let mut random = Random::new(3);
    let values = Array::ordinary(Dtype::Bf16, 5000, &mut random);
    let grad = Array::ordinary(Dtype::Bf16, 5000, &mut random);
    let mut raw = null_mut();
    most.of(
        || "create".into(),
        // SAFETY: both pointers live through the call.
        || unsafe {
            assert_eq!(adamw_create(&config(), &mut raw), Status::Ok);
        },
    );
    let handle = Handle::new(&adamw_config {
        multi_precision: 1,
        moments: ADAMW_MOMENTS_8BIT,
        num_threads: 1,
        ..config()
    });
    let named = |name: &str| name.to_owned();
    most.of(|| named("add"), || assert_eq!(handle.add_array("w", &values), 0));
    most.of(|| named("set_grad"), || handle.set_grad(0, &grad));
    handle.step();
    most.of(
        || named("save"),
        // SAFETY: the handle lives, and the path and the options are good for the call.
        || unsafe {
            assert_eq!(adamw_save(handle.raw(), path.as_ptr()), Status::Ok);
        },
    );
    most.of(
        || named("load"),
        // SAFETY: the handle lives, and the path and the options are good for the call.
        || unsafe {
            assert_eq!(adamw_load(handle.raw(), path.as_ptr(), &options), Status::Ok);
        },
    );
    most.of(
        || named("a load that fails"),
        // SAFETY: the handle lives, and the path and the options are good for the call.
        || unsafe {
            assert_eq!(
                adamw_load(handle.raw(), c"/proc/self/status".as_ptr(), null()),
                Status::Corrupt
            );
        },
    );
    most.of(|| named("reset"), || handle.reset(0));
    most.of(|| named("an error with numbers"), || drop(handle.try_set_lr(-1.0e-300).unwrap_err()));
    most.of(
        || named("a schedule"),
        || {
            let cosine =
                adamw_schedule { total_steps: 100, ..schedule(ADAMW_SCHEDULE_COSINE_WITH_WARMUP) };
            drop(schedule_trace(&cosine, 9));
        },
    );
    most.of(|| named("remove"), || handle.remove(0).unwrap());
    most.of(|| named("destroy"), || assert_eq!(adamw_destroy(raw), Status::Ok));
}
