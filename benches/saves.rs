//! What a save costs the training beside it, and what many parameters cost a save and a load: one
//! JSON object a line, each with the reference of the same run and the largest ratio that is good
//! enough.
//!
//! `cargo bench --bench saves [-- --quick]`; files are in `ADAMW_BENCH_FOLDER`, or in the folder
//! for temporary files.

mod support;

use adamw::ffi::*;
use rayon::ThreadPoolBuilder;
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::ptr::{null, null_mut};
use std::time::Instant;
use support::report::{MI, spread};
use support::{Elements, Optimizer, Owned, Streams, check};

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let folder = std::env::var_os("ADAMW_BENCH_FOLDER").map_or(std::env::temp_dir(), Into::into);
    let path = folder.join(format!("adamw-saves-{}", std::process::id()));
    let file = CString::new(path.to_str().unwrap()).unwrap();
    let (elements, rounds) = if quick { (32 * MI, 5) } else { (64 * MI, 15) };
    for threads in [1, 2] {
        stop_beside_copy(elements, rounds, threads, &file);
    }
    steps_beside_write(elements, rounds, &file);
    many_beside_few(64 * MI, rounds, &file);
    std::fs::remove_file(&path).unwrap();
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn report(case: &str, reference_is: &str, ours: &[f64], reference: &[f64], bound: f64) {
    let ratios = ours.iter().zip(reference).map(|(ours, reference)| ours / reference);
    let (low, ratio, high) = spread(ratios.collect());
    let object = serde_json::json!({
        "case": case,
        "seconds": spread(ours.to_vec()).1,
        "reference": spread(reference.to_vec()).1,
        "reference_is": reference_is,
        "ratio": ratio,
        "quartiles": [low, high],
        "bound": bound,
    });
    println!("{object}");
}

fn args(path: &CString) -> adamw_save_args {
    // SAFETY: a struct of numbers and nullable pointers.
    let zeros: adamw_save_args = unsafe { std::mem::zeroed() };
    adamw_save_args { struct_size: size_of_val(&zeros), path: path.as_ptr(), ..zeros }
}

fn begin(optimizer: &Optimizer, path: &CString) {
    // SAFETY: the path outlives the call.
    check(unsafe { adamw_save_begin(optimizer.raw(), &args(path)) });
}

fn wait(optimizer: &Optimizer) {
    // SAFETY: nothing is written.
    check(unsafe { adamw_save_wait(optimizer.raw(), null_mut(), null_mut()) });
}

fn is_running(optimizer: &Optimizer) -> bool {
    let mut running = 0;
    // SAFETY: the output outlives the call.
    check(unsafe { adamw_save_poll(optimizer.raw(), &mut running, null_mut(), null_mut()) });
    running == 1
}

/// How long `adamw_save_begin` keeps its caller, beside a copy of what it saves.
fn stop_beside_copy(elements: usize, rounds: usize, threads: u32, path: &CString) {
    let config = adamw_config { num_threads: threads, ..Optimizer::defaults() };
    let mut owned = Owned::<f32>::new(elements);
    let mut optimizer = owned.optimizer(&config);
    optimizer.step();
    let (mut from, mut to) = (Elements::new(8 * elements, 1u8), Elements::new(8 * elements, 2u8));
    let pool = ThreadPoolBuilder::new().num_threads(threads as usize).build().unwrap();
    let copy = |from: &[u8], to: &mut [u8]| {
        if threads == 1 {
            return to.copy_from_slice(from);
        }
        let half = from.len() / 2;
        let (left, right) = to.split_at_mut(half);
        pool.install(|| {
            rayon::join(
                || left.copy_from_slice(&from[..half]),
                || right.copy_from_slice(&from[half..]),
            )
        });
    };
    let (mut ours, mut reference) = (vec![], vec![]);
    for round in 0..=rounds {
        let stop = seconds(|| begin(&optimizer, path));
        wait(&optimizer);
        let copied = seconds(|| copy(from.slice(), to.slice()));
        // The first has pages to fault in, which the later ones have.
        if round == 0 {
            eprintln!("the first stop: {stop:.3} s, later ones as below");
            continue;
        }
        ours.push(stop);
        reference.push(copied);
    }
    let case = format!("adamw_save_begin, f32 x {} Mi, {threads} threads", elements / MI);
    report(&case, "a copy of what is saved", &ours, &reference, 1.15);
}

/// Saves and loads of 100,000 parameters beside those of 100 with as many elements.
fn many_beside_few(elements: usize, rounds: usize, path: &CString) {
    let mut streams = [(); 2].map(|()| Streams::<f32>::new(elements));
    let [many, few] = &mut streams;
    let many = many.optimizer(elements.div_ceil(100_000), 1);
    let few = few.optimizer(elements.div_ceil(100), 1);
    let save = |of: &Optimizer| {
        // SAFETY: the path is NUL-terminated.
        seconds(|| check(unsafe { adamw_save(of.raw(), path.as_ptr()) }))
    };
    let load = |of: &Optimizer| {
        // SAFETY: the path is NUL-terminated, and there are no options.
        seconds(|| check(unsafe { adamw_load(of.raw(), path.as_ptr(), null()) }))
    };
    let [mut saves, mut loads, mut few_saves, mut few_loads] = [const { vec![] }; 4];
    for _ in 0..rounds {
        saves.push(save(&many));
        loads.push(load(&many));
        few_saves.push(save(&few));
        few_loads.push(load(&few));
    }
    let what = format!("100,000 parameters, f32 x {} Mi", elements / MI);
    report(&format!("adamw_save, {what}"), "100 parameters", &saves, &few_saves, 2.0);
    report(&format!("adamw_load, {what}"), "100 parameters", &loads, &few_loads, 2.0);
}

/// Steps of one thread while a save is being written, beside steps while nothing is, and beside steps
/// while a plain loop writes as many bytes.
fn steps_beside_write(elements: usize, rounds: usize, path: &CString) {
    let config = adamw_config { num_threads: 1, ..Optimizer::defaults() };
    let mut owned = Owned::<f32>::new(elements);
    let mut optimizer = owned.optimizer(&config);
    optimizer.step();
    let mut bytes = Elements::new(8 * elements, 1u8);
    let bytes: &[u8] = bytes.slice();
    let plain_path = path.to_str().unwrap().to_owned() + ".plain";
    let [mut ours, mut alone, mut plain] = [const { vec![] }; 3];
    for _ in 0..rounds {
        let before = seconds(|| (0..4).for_each(|_| optimizer.step())) / 4.0;
        begin(&optimizer, path);
        let beside_save = steps_while(&mut optimizer, is_running);
        wait(&optimizer);
        let after = seconds(|| (0..4).for_each(|_| optimizer.step())) / 4.0;
        let beside_plain = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write_plainly(bytes, &plain_path));
            steps_while(&mut optimizer, |_| !writer.is_finished())
        });
        if let (Some(beside_save), Some(beside_plain)) = (beside_save, beside_plain) {
            ours.push(beside_save);
            alone.push((before + after) / 2.0);
            plain.push(beside_plain);
        }
    }
    std::fs::remove_file(plain_path).unwrap();
    let case = format!("steps beside a save, f32 x {} Mi, 1 thread", elements / MI);
    report(&case, "steps beside none", &ours, &alone, 1.1);
    report(&case, "steps beside a plain write", &ours, &plain, 1.05);
}

/// Returns the mean time of the steps that end while something goes on, if any does.
fn steps_while(optimizer: &mut Optimizer, goes_on: impl Fn(&Optimizer) -> bool) -> Option<f64> {
    let (mut all, mut n) = (0.0, 0);
    loop {
        let step = seconds(|| optimizer.step());
        if !goes_on(optimizer) {
            return (n > 0).then(|| all / f64::from(n));
        }
        (all, n) = (all + step, n + 1);
    }
}

/// Writes bytes to a file, in pieces as long as those of a save, and syncs it.
fn write_plainly(bytes: &[u8], path: &str) {
    let mut file = File::create(path).unwrap();
    bytes.chunks(256 << 10).for_each(|piece| file.write_all(piece).unwrap());
    file.sync_all().unwrap();
}
