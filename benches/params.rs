//! What parameters cost that come, go and are found, beside an older build in the same run: `make bench-params`.
//!
//! Both builds are loaded as libraries and take turns, and the newer one takes turns with itself. Each
//! figure is the median of some rounds, with the quartiles.

mod support;

use adamw::ffi::{adamw_config, adamw_data_type, adamw_device, adamw_param_config, adamw_tensor};
use core::ffi::{c_char, c_void};
use core::ptr::null_mut;
use std::ffi::CString;
use std::time::Instant;
use support::library::Library;

type Handle = *mut c_void;

/// The functions of one build that are called here.
struct Build {
    config_init: unsafe extern "C" fn(*mut adamw_config, usize) -> i32,
    create: unsafe extern "C" fn(*const adamw_config, *mut Handle) -> i32,
    destroy: unsafe extern "C" fn(Handle) -> i32,
    add: unsafe extern "C" fn(Handle, *const adamw_param_config, *mut u32) -> i32,
    find: unsafe extern "C" fn(Handle, *const c_char, *mut u32) -> i32,
    remove: unsafe extern "C" fn(Handle, u32) -> i32,
    set_grad: unsafe extern "C" fn(Handle, u32, *const adamw_tensor) -> i32,
    step: unsafe extern "C" fn(Handle) -> i32,
}

/// As long as the structs of the older build, whose fields the newer one has too.
const CONFIG_SIZE: usize = 184;
const PARAM_SIZE: usize = 144;

impl Build {
    fn load(path: &str) -> Build {
        let library = Library::load(path);
        // SAFETY: every build of this project has these functions with these types.
        unsafe {
            Build {
                config_init: library.function(c"adamw_config_init"),
                create: library.function(c"adamw_create"),
                destroy: library.function(c"adamw_destroy"),
                add: library.function(c"adamw_add_param"),
                find: library.function(c"adamw_find_param"),
                remove: library.function(c"adamw_remove_param"),
                set_grad: library.function(c"adamw_set_grad"),
                step: library.function(c"adamw_step"),
            }
        }
    }
}

/// Elements of a parameter.
const N: i64 = 4;

/// Parameters, and a handle that has some of them.
struct Many<'a> {
    build: &'a Build,
    handle: Handle,
    memory: Vec<f32>,
    names: Vec<CString>,
    /// By place, the number.
    numbers: Vec<u32>,
}

impl Many<'_> {
    fn new(build: &Build, n: usize) -> Many<'_> {
        let names = (0..n).map(|i| CString::new(format!("layers.{i}.weight")).unwrap()).collect();
        let mut many = Many {
            build,
            handle: null_mut(),
            memory: vec![0.5; n * N as usize],
            names,
            numbers: vec![u32::MAX; n],
        };
        // SAFETY: structs of numbers and nullable pointers, as long as is said.
        unsafe {
            let mut config: adamw_config = core::mem::zeroed();
            assert_eq!((build.config_init)(&mut config, CONFIG_SIZE), 0);
            config.num_threads = 1;
            assert_eq!((build.create)(&config, &mut many.handle), 0);
        }
        many
    }

    fn tensor(data: *mut f32, shape: &mut i64) -> adamw_tensor {
        adamw_tensor {
            data: data.cast(),
            device: adamw_device { device_type: 1, device_id: 0 },
            ndim: 1,
            dtype: adamw_data_type { code: 2, bits: 32, lanes: 1 },
            shape,
            strides: null_mut(),
            byte_offset: 0,
        }
    }

    fn add(&mut self, i: usize) {
        let mut shape = N;
        let param = Self::tensor(self.memory[i * N as usize..].as_mut_ptr(), &mut shape);
        let name = self.names[i].as_ptr();
        let config = adamw_param_config {
            struct_size: PARAM_SIZE,
            name,
            param: &param,
            ..adamw_param_config::DEFAULT
        };
        // SAFETY: what the call needs outlives it, and the memory the handle.
        assert_eq!(unsafe { (self.build.add)(self.handle, &config, &mut self.numbers[i]) }, 0);
    }

    fn remove(&mut self, i: usize) {
        // SAFETY: numbers alone.
        assert_eq!(unsafe { (self.build.remove)(self.handle, self.numbers[i]) }, 0);
    }

    fn find(&self, i: usize) {
        let mut number = 0;
        // SAFETY: a name that outlives the call.
        let found = unsafe { (self.build.find)(self.handle, self.names[i].as_ptr(), &mut number) };
        assert_eq!((found, number), (0, self.numbers[i]));
    }

    fn step(&self) {
        // SAFETY: all memory that it was given is alive.
        assert_eq!(unsafe { (self.build.step)(self.handle) }, 0);
    }

    /// Nanoseconds for each of some places.
    fn time(&mut self, places: &[usize], mut call: impl FnMut(&mut Self, usize)) -> f64 {
        let started = Instant::now();
        places.iter().for_each(|&i| call(self, i));
        started.elapsed().as_secs_f64() * 1e9 / places.len() as f64
    }
}

impl Drop for Many<'_> {
    fn drop(&mut self) {
        // SAFETY: created in `new`.
        unsafe { (self.build.destroy)(self.handle) };
    }
}

const WHAT: [&str; 3] = ["add", "find", "remove"];

/// What each of the three takes beside n others, in some rounds.
fn beside(builds: &[Build; 2], n: usize) -> [[Vec<f64>; 2]; 3] {
    const ROUNDS: usize = 21;
    const CALLS: usize = 100;
    let mut both = [&builds[0], &builds[1]].map(|build| {
        let mut many = Many::new(build, n);
        (0..n).for_each(|i| many.add(i));
        many
    });
    let mut times: [[Vec<f64>; 2]; 3] = Default::default();
    for round in 0..=ROUNDS {
        // Some all over the place, others in each round.
        let places: Vec<_> = (0..CALLS).map(|i| (i * (n / CALLS) * 7 + round * 3) % n).collect();
        for which in [round % 2, 1 - round % 2] {
            let many = &mut both[which];
            let found = many.time(&places, |many, i| many.find(i));
            let removed = many.time(&places, Many::remove);
            let added = many.time(&places, Many::add);
            if round > 0 {
                for (what, time) in [added, found, removed].into_iter().enumerate() {
                    times[what][which].push(time);
                }
            }
        }
    }
    times
}

/// What a step of one parameter takes where n others have come and gone.
fn step_after(builds: &[Build; 2], n: usize) -> [Vec<f64>; 2] {
    const ROUNDS: usize = 21;
    const CALLS: usize = 100;
    let (mut grad, mut shape) = (vec![0.25f32; N as usize], N);
    let grad = Many::tensor(grad.as_mut_ptr(), &mut shape);
    let mut both = [&builds[0], &builds[1]].map(|build| {
        let mut many = Many::new(build, n + 1);
        (0..=n).for_each(|i| many.add(i));
        (1..=n).rev().for_each(|i| many.remove(i));
        // SAFETY: the gradient outlives the handle.
        assert_eq!(unsafe { (build.set_grad)(many.handle, many.numbers[0], &grad) }, 0);
        many
    });
    let mut times: [Vec<f64>; 2] = Default::default();
    for round in 0..=ROUNDS {
        for which in [round % 2, 1 - round % 2] {
            let time = both[which].time(&[0; CALLS], |many, _| many.step());
            if round > 0 {
                times[which].push(time);
            }
        }
    }
    times
}

/// The median, and between which a half of them lies.
fn told(times: &mut [f64]) -> (f64, String) {
    times.sort_unstable_by(f64::total_cmp);
    let at = |part: usize| times[times.len() * part / 4];
    (at(2), format!("{:.0} ({:.0} to {:.0})", at(2), at(1), at(3)))
}

/// One row: both builds in turn, and the newer in turn with itself, so that the caches hold nothing of
/// the older one's.
fn row(what: &str, n: usize, in_turn: &mut [Vec<f64>; 2], with_itself: &mut [Vec<f64>; 2]) {
    let [(old, of_old), (new, of_new)] = in_turn.each_mut().map(|times| told(times));
    let (_, by_itself) = told(&mut with_itself.concat());
    println!("| {what} | {n} | {of_old} | {of_new} | {:.1} | {by_itself} |", old / new);
}

fn main() {
    let paths: Vec<_> = std::env::args().skip(1).filter(|word| word.ends_with(".so")).collect();
    let [old, new] = paths.as_slice() else {
        println!("expected two libraries, the older first: see make bench-params");
        return;
    };
    let builds = [Build::load(old), Build::load(new)];
    let same = [Build::load(new), Build::load(new)];
    println!("| ns each | parameters | before | now | ratio | now, without the older build |");
    println!("|---|---|---|---|---|---|");
    for n in [1_000, 10_000, 100_000] {
        let mut in_turn = beside(&builds, n);
        let mut with_itself = beside(&same, n);
        for (i, what) in WHAT.into_iter().enumerate() {
            row(what, n, &mut in_turn[i], &mut with_itself[i]);
        }
        let (mut in_turn, mut with_itself) = (step_after(&builds, n), step_after(&same, n));
        row("step of one, these removed", n, &mut in_turn, &mut with_itself);
    }
}
