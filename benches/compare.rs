//! The step beside a loop that moves the same bytes, interleaved in one run.
//!
//! `cargo bench --bench compare` prints a table; with `--quick` it takes fewer rounds of the cases
//! that have a bound and prints one JSON object a line. An older build is given by a path that ends
//! with ".so"; other words are parts of the names of the cases that are measured. What counts is
//! the ratio: each round times both, one after the other, so that a machine whose memory speed
//! drifts does not favour either.

mod support;

use adamw::ffi::*;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cell::RefCell;
use std::time::Instant;
use support::before::Before;
use support::modes::*;
use support::report::{KI, Line, MI, print_json, print_table, size};
use support::rows::{LISTED, ROW, Table};
use support::{Half, Optimizer, Owned, Param, Split, Streams, idle};

/// The cases that have been measured.
struct Bench {
    /// What the name of a case must contain; empty: every case is measured.
    named: Vec<String>,
    rounds: usize,
    progress: ProgressBar,
    lines: Vec<Line>,
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let (before, named): (Vec<_>, _) = words.partition(|word| word.ends_with(".so"));
    let before = before.first().map(|path| Before::load(path));
    let style = ProgressStyle::with_template("{spinner} {pos} {msg}").unwrap();
    let progress = ProgressBar::no_length().with_style(style);
    let rounds = if quick { 9 } else { 41 };
    let mut bench = Bench { named, rounds, progress, lines: Vec::new() };
    for threads in [1, 2] {
        if !quick {
            for elements in [16 * KI, MI] {
                bench.beside_traffic::<f32>(elements, threads);
                bench.beside_traffic::<u16>(elements, threads);
                bench.beside_traffic::<Split>(elements, threads);
            }
            bench.beside_traffic::<u16>(64 * MI, threads);
            bench.clipped_beside_traffic(64 * MI, threads);
            bench.beside_traffic::<Split>(64 * MI, threads);
            for mode in &WITHOUT_BOUND {
                bench.beside_f32::<u16>(mode, 64 * MI, threads);
            }
        }
        bench.beside_traffic::<f32>(64 * MI, threads);
        for mode in [&SPLIT, &SPLIT_8BIT] {
            bench.beside_f32::<u16>(mode, 64 * MI, threads);
        }
        bench.beside_f32::<f32>(&F32_8BIT, 64 * MI, threads);
        bench.beside_f32::<f32>(&F32_4BIT, 64 * MI, threads);
        bench.beside_bare(16 * KI, threads);
        bench.beside_bare(MI, threads);
        bench.parts_beside_one("f32, GPT-2 124M", &gpt2_124m(), 0, threads, 1.03);
        bench.clear_and_clip(&gpt2_124m(), threads);
        bench.parts_beside_one("f32, 1000 of 1024", &[1024; 1000], 0, threads, 1.15);
        let bound = if threads == 1 { 1.35 } else { 1.6 };
        bench.parts_beside_one("f32, 10000 of 64", &[64; 10_000], 0, threads, bound);
        // As far apart as an allocator puts them.
        bench.parts_beside_one("f32, 10000 of 64, apart", &[64; 10_000], 20, threads, f64::NAN);
        bench.rows_beside_traffic(threads);
    }
    bench.beside_f32::<u16>(&MASTER, 16 * KI, 1);
    bench.beside_f32::<Half>(&MASTER, 16 * KI, 1);
    bench.beside_f32::<u16>(&SPLIT_CACHED, 16 * KI, 1);
    if let Some(before) = &before {
        bench.beside_before::<f32>(before, &F32_8BIT, 16 * KI, 0.625);
        bench.beside_before::<u16>(before, &SPLIT_8BIT, 16 * KI, 0.625);
        bench.beside_before::<f32>(before, &F32_4BIT, 16 * KI, f64::NAN);
        bench.beside_before::<u16>(before, &MASTER, 64 * MI, 1.03);
        bench.beside_before::<Half>(before, &MASTER, 64 * MI, 1.03);
        bench.beside_before::<u16>(before, &SPLIT, 64 * MI, 1.03);
    }
    for elements in [16 * KI, 64 * MI] {
        for moments in MOMENTS {
            for steps in [1_000, 100_000] {
                bench.idle_beside_usual(moments, steps, elements);
            }
        }
    }
    bench.progress.finish_and_clear();
    if quick {
        print_json(&bench.lines);
    } else {
        print_table(&bench.lines, bench.rounds);
    }
}

/// The lengths of the tensors of the smallest GPT-2.
fn gpt2_124m() -> Vec<usize> {
    const D: usize = 768;
    let block = [D, D, D * 3 * D, 3 * D, D * D, D, D, D, D * 4 * D, 4 * D, 4 * D * D, D];
    let blocks = std::iter::repeat_n(block, 12).flatten();
    [50_257 * D, 1024 * D].into_iter().chain(blocks).chain([D, D]).collect()
}

impl Bench {
    fn wants(&self, case: &str) -> bool {
        self.named.is_empty() || self.named.iter().any(|name| case.contains(name))
    }

    /// Times both, in rounds, after both have run once.
    fn measure(
        &mut self,
        (case, threads, bytes): (String, u32, usize),
        elements: usize,
        mut ours: impl FnMut(),
        (reference_is, mut reference): (&'static str, impl FnMut()),
        bound: f64,
    ) {
        self.progress.set_message(case.clone());
        let repeats = (4 * MI / elements).max(1);
        let time = |work: &mut dyn FnMut()| {
            let start = Instant::now();
            (0..repeats).for_each(|_| work());
            start.elapsed().as_secs_f64() * 1e9 / (repeats * elements) as f64
        };
        time(&mut ours);
        time(&mut reference);
        let rounds = (0..self.rounds).map(|_| (time(&mut ours), time(&mut reference)));
        let (ours, reference) = rounds.unzip();
        self.lines.push(Line { case, threads, bytes, reference_is, ours, reference, bound });
        self.progress.inc(1);
    }

    /// A step of one tensor beside the loop with the same traffic.
    fn beside_traffic<P: Param>(&mut self, elements: usize, threads: u32) {
        let case = format!("{} x {}", P::NAME, size(elements));
        if !self.wants(&case) {
            return;
        }
        let mut streams = Streams::<P>::new(elements);
        // Work this small runs on one thread in the library, so the loop gets one too.
        let pool = if elements < 256 * KI { None } else { pool(threads) };
        let mut optimizer = streams.optimizer(elements, threads);
        let bound = if elements == 64 * MI { 1.05 } else { f64::NAN };
        let title = (case, threads, streams.bytes_per_element());
        let reference = ("the same traffic", || streams.traffic(pool.as_ref()));
        self.measure(title, elements, || optimizer.step(), reference, bound);
    }

    /// A step with a global norm, which reads the gradients once more, beside the same loop.
    fn clipped_beside_traffic(&mut self, elements: usize, threads: u32) {
        let case = format!("f32 x {}, global norm", size(elements));
        if !self.wants(&case) {
            return;
        }
        let mut streams = Streams::<f32>::new(elements);
        let pool = pool(threads);
        let mut optimizer = streams.optimizer_with(elements, threads, clip);
        let title = (case, threads, streams.bytes_per_element() + size_of::<f32>());
        let reference = ("the traffic without a norm", || streams.traffic(pool.as_ref()));
        self.measure(title, elements, || optimizer.step(), reference, f64::NAN);
    }

    /// Unscaling, a global norm, the step and clearing the gradients, beside a loop for each.
    fn clear_and_clip(&mut self, parts: &[usize], threads: u32) {
        let case = "f32, GPT-2 124M, clip, step and clear".to_owned();
        if !self.wants(&case) {
            return;
        }
        let elements = parts.iter().sum();
        let mut streams = Streams::<f32>::new(elements);
        let mut config = adamw_config { num_threads: threads, ..Optimizer::defaults() };
        clip(&mut config);
        config.clear_grads = 1;
        let mut optimizer = streams.optimizer_of(parts, 0, &config);
        let pool = pool(threads);
        let title = (case, threads, 36);
        let reference = || {
            streams.read_grads(pool.as_ref());
            streams.traffic(pool.as_ref());
            streams.write_grads(pool.as_ref());
        };
        let reference = ("read, traffic, write", reference);
        self.measure(title, elements, || optimizer.step(), reference, 1.10);
    }

    /// A step of parameters and moments in fewer bytes beside a step of f32.
    fn beside_f32<P: Param>(&mut self, mode: &Mode, elements: usize, threads: u32) {
        let case = format!("{} x {} / f32", mode.name_of::<P>(), size(elements));
        if !self.wants(&case) {
            return;
        }
        let (mut fewer, mut whole) = (Owned::<P>::new(elements), Owned::<f32>::new(elements));
        let config = adamw_config { num_threads: threads, ..Optimizer::defaults() };
        let mut reference = whole.optimizer(&config);
        let mut ours = fewer.optimizer(&mode.config(&config));
        let title = (case, threads, mode.bytes);
        let bound = mode.bounds[threads as usize - 1];
        let reference = ("the f32 step", || reference.step());
        self.measure(title, elements, || ours.step(), reference, bound);
    }

    /// A step on one thread beside that of an older build.
    fn beside_before<P: Param>(
        &mut self,
        before: &Before,
        mode: &Mode,
        elements: usize,
        bound: f64,
    ) {
        let case = format!("{} x {} / before", mode.name_of::<P>(), size(elements));
        if !self.wants(&case) {
            return;
        }
        let (mut new, mut old) = (Owned::<P>::new(elements), Owned::<P>::new(elements));
        let config = adamw_config { num_threads: 1, ..Optimizer::defaults() };
        let config = mode.config(&config);
        let mut reference = before.optimizer(&mut old, &config);
        let mut ours = new.optimizer(&config);
        let reference = ("an older build", || reference.step());
        self.measure((case, 1, mode.bytes), elements, || ours.step(), reference, bound);
    }

    /// A step in cache beside its bare arithmetic on one thread.
    fn beside_bare(&mut self, elements: usize, threads: u32) {
        let case = format!("f32 x {} / bare", size(elements));
        if !self.wants(&case) {
            return;
        }
        let mut streams = Streams::<f32>::new(elements);
        let mut optimizer = streams.optimizer(elements, threads);
        let title = (case, threads, 28);
        let reference = ("a bare loop", || streams.bare());
        self.measure(title, elements, || optimizer.step(), reference, 1.05);
    }

    /// A step of many tensors, with so many elements between them, beside a step of one of the same
    /// total.
    fn parts_beside_one(
        &mut self,
        name: &str,
        parts: &[usize],
        between: usize,
        threads: u32,
        bound: f64,
    ) {
        let case = format!("{name} / one");
        if !self.wants(&case) {
            return;
        }
        let elements = parts.iter().sum();
        let with_gaps = elements + parts.len() * between;
        let (mut many, mut one) = (Streams::<f32>::new(with_gaps), Streams::<f32>::new(elements));
        let config = adamw_config { num_threads: threads, ..Optimizer::defaults() };
        let mut many = many.optimizer_of(parts, between, &config);
        let mut one = one.optimizer_of(&[elements], 0, &config);
        let title = (case, threads, 28);
        self.measure(title, elements, || many.step(), ("one tensor", || one.step()), bound);
    }

    /// A lazy step of some rows of a large table beside a loop over such rows on one thread.
    fn rows_beside_traffic(&mut self, threads: u32) {
        let case = format!("f32, {LISTED} of 1 Mi rows of {ROW}");
        if !self.wants(&case) {
            return;
        }
        let table = RefCell::new(Table::new());
        let mut optimizer = table.borrow_mut().optimizer(threads);
        let step = || table.borrow_mut().step(&mut optimizer);
        let title = (case, threads, 28);
        let reference = ("the traffic of such rows", || table.borrow_mut().traffic());
        self.measure(title, LISTED * ROW, step, reference, 1.5);
    }

    /// A step after many whose gradient was 0 beside one with a gradient, on one thread.
    fn idle_beside_usual(
        &mut self,
        (name, moments, bytes): (&str, adamw_moments, usize),
        steps: u64,
        elements: usize,
    ) {
        let case = format!("{name} moments x {}, idle for {steps} steps", size(elements));
        if !self.wants(&case) {
            return;
        }
        let (mut idle, mut usual) = (Owned::<f32>::new(elements), Owned::<f32>::new(elements));
        let config = adamw_config { num_threads: 1, moments, ..Optimizer::defaults() };
        let mut reference = idle::InPlace::new(&mut usual, &config);
        let mut ours = idle::optimizer(&mut idle, &config, steps);
        let reference = ("a step with a gradient", || reference.step());
        self.measure((case, 1, bytes), elements, || ours.step(), reference, 1.05);
    }
}

fn clip(config: &mut adamw_config) {
    config.clip = ADAMW_CLIP_GLOBAL_NORM;
    config.clip_norm = 1.0;
}

/// Threads for the loops; one is the caller's.
fn pool(threads: u32) -> Option<ThreadPool> {
    let pool = || ThreadPoolBuilder::new().num_threads(threads as usize).build().unwrap();
    (threads > 1).then(pool)
}
