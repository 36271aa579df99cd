//! The step beside a loop that moves the same bytes, interleaved in one run.
//!
//! `cargo bench --bench compare` prints a table; with `--quick` it takes fewer rounds of the cases
//! that have a bound and prints one JSON object a line. What counts is the ratio: each round times
//! both, one after the other, so that a machine whose memory speed drifts does not favour either.

mod support;

use adamw::ffi::*;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cell::RefCell;
use std::time::Instant;
use support::rows::{LISTED, ROW, Table};
use support::{Optimizer, Owned, Param, Split, Streams};

/// One line of the table: the step's and the reference's nanoseconds per element, round by round.
struct Line {
    case: String,
    threads: u32,
    /// What a step moves for each element.
    bytes: usize,
    reference_is: &'static str,
    ours: Vec<f64>,
    reference: Vec<f64>,
    /// The largest ratio that is good enough, or NaN.
    bound: f64,
}

/// Fewer bytes than f32 has.
struct Mode {
    name: &'static str,
    precision: adamw_precision,
    moments: adamw_moments,
    /// What a step moves for each element, without scales.
    bytes: usize,
    /// With one thread and with two.
    bounds: [f64; 2],
}

const SPLIT: Mode = Mode {
    name: "bf16 + remainder",
    precision: ADAMW_PRECISION_SPLIT,
    moments: ADAMW_MOMENTS_F32,
    bytes: 26,
    bounds: [1.05; 2],
};
const SPLIT_8BIT: Mode = Mode {
    name: "bf16 + remainder, 8-bit moments",
    moments: ADAMW_MOMENTS_8BIT,
    bytes: 14,
    bounds: [1.2, 1.0],
    ..SPLIT
};
const F32_8BIT: Mode = Mode {
    name: "f32, 8-bit moments",
    precision: ADAMW_PRECISION_DEFAULT,
    bytes: 16,
    ..SPLIT_8BIT
};
const F32_4BIT: Mode = Mode {
    name: "f32, 4-bit moments",
    moments: ADAMW_MOMENTS_4BIT,
    bytes: 14,
    bounds: [f64::NAN; 2],
    ..F32_8BIT
};
const WITHOUT_BOUND: [Mode; 3] = [
    Mode {
        name: "bf16 + remainder, bf16 moments",
        moments: ADAMW_MOMENTS_BF16,
        bytes: 18,
        bounds: [f64::NAN; 2],
        ..SPLIT
    },
    Mode {
        name: "bf16 stochastic, bf16 moments",
        precision: ADAMW_PRECISION_STOCHASTIC,
        moments: ADAMW_MOMENTS_BF16,
        bytes: 14,
        bounds: [f64::NAN; 2],
    },
    Mode { name: "bf16 Kahan", precision: ADAMW_PRECISION_KAHAN, bounds: [f64::NAN; 2], ..SPLIT },
];

const KI: usize = 1 << 10;
const MI: usize = 1 << 20;

/// The cases that have been measured.
struct Bench {
    rounds: usize,
    progress: ProgressBar,
    lines: Vec<Line>,
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}").unwrap();
    let progress = ProgressBar::new(if quick { 22 } else { 48 }).with_style(style);
    let mut bench = Bench { rounds: if quick { 9 } else { 41 }, progress, lines: Vec::new() };
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
            bench.beside_f32::<f32>(&F32_4BIT, 64 * MI, threads);
        }
        bench.beside_traffic::<f32>(64 * MI, threads);
        for mode in [&SPLIT, &SPLIT_8BIT] {
            bench.beside_f32::<u16>(mode, 64 * MI, threads);
        }
        bench.beside_f32::<f32>(&F32_8BIT, 64 * MI, threads);
        bench.beside_bare(16 * KI, threads);
        bench.beside_bare(MI, threads);
        bench.parts_beside_one("f32, GPT-2 124M", &gpt2_124m(), threads, 1.03);
        bench.clear_and_clip(&gpt2_124m(), threads);
        bench.parts_beside_one("f32, 1000 of 1024", &[1024; 1000], threads, 1.15);
        bench.parts_beside_one("f32, 10000 of 64", &[64; 10_000], threads, 1.6);
        bench.rows_beside_traffic(threads);
    }
    bench.progress.finish_and_clear();
    if quick {
        print_json(&bench.lines);
    } else {
        print_table(&bench);
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
        let mut streams = Streams::<P>::new(elements);
        let case = format!("{} x {}", P::NAME, size(elements));
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
        let mut streams = Streams::<f32>::new(elements);
        let case = format!("f32 x {}, global norm", size(elements));
        let pool = pool(threads);
        let mut optimizer = streams.optimizer_with(elements, threads, clip);
        let title = (case, threads, streams.bytes_per_element() + size_of::<f32>());
        let reference = ("the traffic without a norm", || streams.traffic(pool.as_ref()));
        self.measure(title, elements, || optimizer.step(), reference, f64::NAN);
    }

    /// Unscaling, a global norm, the step and clearing the gradients, beside a loop for each.
    fn clear_and_clip(&mut self, parts: &[usize], threads: u32) {
        let elements = parts.iter().sum();
        let mut streams = Streams::<f32>::new(elements);
        let mut config = adamw_config { num_threads: threads, ..Optimizer::defaults() };
        clip(&mut config);
        config.clear_grads = 1;
        let mut optimizer = streams.optimizer_of(parts, &config);
        let pool = pool(threads);
        let title = ("f32, GPT-2 124M, clip, step and clear".to_owned(), threads, 36);
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
        let (mut fewer, mut whole) = (Owned::<P>::new(elements), Owned::<f32>::new(elements));
        let config = adamw_config { num_threads: threads, ..Optimizer::defaults() };
        let mut reference = whole.optimizer(&config);
        let (precision, moments) = (mode.precision, mode.moments);
        let mut ours = fewer.optimizer(&adamw_config { precision, moments, ..config });
        let title = (format!("{} x {} / f32", mode.name, size(elements)), threads, mode.bytes);
        let bound = mode.bounds[threads as usize - 1];
        let reference = ("the f32 step", || reference.step());
        self.measure(title, elements, || ours.step(), reference, bound);
    }

    /// A step in cache beside its bare arithmetic on one thread.
    fn beside_bare(&mut self, elements: usize, threads: u32) {
        let mut streams = Streams::<f32>::new(elements);
        let mut optimizer = streams.optimizer(elements, threads);
        let title = (format!("f32 x {} / bare", size(elements)), threads, 28);
        let reference = ("a bare loop", || streams.bare());
        self.measure(title, elements, || optimizer.step(), reference, 1.05);
    }

    /// A step of many tensors beside a step of one of the same total.
    fn parts_beside_one(&mut self, name: &str, parts: &[usize], threads: u32, bound: f64) {
        let elements = parts.iter().sum();
        let (mut many, mut one) = (Streams::<f32>::new(elements), Streams::<f32>::new(elements));
        let config = adamw_config { num_threads: threads, ..Optimizer::defaults() };
        let mut many = many.optimizer_of(parts, &config);
        let mut one = one.optimizer_of(&[elements], &config);
        let title = (format!("{name} / one"), threads, 28);
        self.measure(title, elements, || many.step(), ("one tensor", || one.step()), bound);
    }

    /// A lazy step of some rows of a large table beside a loop over such rows on one thread.
    fn rows_beside_traffic(&mut self, threads: u32) {
        let table = RefCell::new(Table::new());
        let mut optimizer = table.borrow_mut().optimizer(threads);
        let step = || table.borrow_mut().step(&mut optimizer);
        let title = (format!("f32, {LISTED} of 1 Mi rows of {ROW}"), threads, 28);
        let reference = ("the traffic of such rows", || table.borrow_mut().traffic());
        self.measure(title, LISTED * ROW, step, reference, 1.5);
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

impl Line {
    /// The quartiles of the ratio.
    fn ratios(&self) -> (f64, f64, f64) {
        let ratios = self.ours.iter().zip(&self.reference).map(|(ours, other)| ours / other);
        spread(ratios.collect())
    }
}

fn print_json(lines: &[Line]) {
    for line in lines {
        let (_, ratio, _) = line.ratios();
        let bound = if line.bound.is_nan() { None } else { Some(line.bound) };
        let object = serde_json::json!({
            "case": format!("{}, {} threads", line.case, line.threads),
            "ns_per_element": spread(line.ours.clone()).1,
            "reference": spread(line.reference.clone()).1,
            "reference_is": line.reference_is,
            "ratio": ratio,
            "bound": bound,
        });
        println!("{object}");
    }
}

fn print_table(bench: &Bench) {
    println!("processor: {}", processor());
    println!("library:   {} with {}", env!("CARGO_PKG_VERSION"), best_isa());
    println!(
        "ratio:     ours over the reference, median of {} rounds (and quartiles)\n",
        bench.rounds
    );
    println!("| case | threads | ns/element | GB/s | reference | ns | ratio | at most |");
    println!("|---|---|---|---|---|---|---|---|");
    for line in &bench.lines {
        let (low, ratio, high) = line.ratios();
        let (_, ours, _) = spread(line.ours.clone());
        let (_, reference, _) = spread(line.reference.clone());
        let bound = if line.bound.is_nan() { "-".to_owned() } else { format!("{:.2}", line.bound) };
        println!(
            "| {} | {} | {ours:.3} | {:.1} | {} | {reference:.3} | {ratio:.2} ({low:.2} to {high:.2}) | {bound} |",
            line.case,
            line.threads,
            line.bytes as f64 / ours,
            line.reference_is,
        );
    }
}

/// The lower quartile, the median and the upper quartile.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    (values[last / 4], values[last / 2], values[last * 3 / 4])
}

fn size(elements: usize) -> String {
    if elements >= MI { format!("{} Mi", elements / MI) } else { format!("{} Ki", elements / KI) }
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let count = std::thread::available_parallelism().map_or(1, |n| n.get());
    format!("{}, {count} processors", name.unwrap_or("unknown"))
}

fn best_isa() -> &'static str {
    use adamw::ffi::*;
    // SAFETY: the struct is plain numbers, and the size is its own.
    let isa = unsafe {
        let mut capabilities: adamw_capabilities = std::mem::zeroed();
        adamw_get_capabilities(&mut capabilities, size_of::<adamw_capabilities>());
        capabilities.best_isa
    };
    match isa {
        ADAMW_ISA_AVX512 => "AVX-512",
        ADAMW_ISA_AVX2 => "AVX2",
        _ => "the portable loops",
    }
}
