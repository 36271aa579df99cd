//! The step beside a loop that moves the same bytes, interleaved in one run.
//!
//! `cargo bench --bench compare` prints a table. What counts is the ratio: each round times both,
//! one after the other, so that a machine whose memory speed drifts does not favour either.

mod support;

use adamw::ffi::ADAMW_CLIP_GLOBAL_NORM;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::ThreadPoolBuilder;
use std::cell::RefCell;
use std::time::Instant;
use support::rows::{LISTED, ROW, Table};
use support::{Param, Split, Streams};

/// One line of the table: the step's and the reference's nanoseconds per element, round by round.
struct Line {
    case: String,
    threads: u32,
    bytes: usize,
    ours: Vec<f64>,
    reference: Vec<f64>,
    bound: f64,
}

const KI: usize = 1 << 10;
const MI: usize = 1 << 20;
const ROUNDS: usize = 41;

fn main() {
    let sizes = [16 * KI, MI, 64 * MI];
    let n_lines = 2 * (3 * sizes.len() + 3);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}").unwrap();
    let progress = ProgressBar::new(n_lines as u64).with_style(style);
    let mut lines = Vec::new();
    for threads in [1, 2] {
        for elements in sizes {
            lines.push(beside_traffic::<f32>(elements, threads, &progress));
            lines.push(beside_traffic::<u16>(elements, threads, &progress));
            lines.push(beside_traffic::<Split>(elements, threads, &progress));
        }
        lines.push(clipped_beside_traffic(64 * MI, threads, &progress));
        lines.push(many_beside_one(1_000, 1_024, threads, &progress));
        lines.push(rows_beside_traffic(threads, &progress));
    }
    progress.finish_and_clear();
    print(&lines);
}

/// A step of one tensor beside the loop with the same traffic.
fn beside_traffic<P: Param>(elements: usize, threads: u32, progress: &ProgressBar) -> Line {
    let mut streams = Streams::<P>::new(elements);
    let case = format!("{} x {}", P::NAME, size(elements));
    progress.set_message(case.clone());
    let pool = ThreadPoolBuilder::new().num_threads(threads as usize).build().unwrap();
    // Work this small runs on one thread in the library, so the loop gets one too.
    let pool = (threads > 1 && elements >= 256 * KI).then_some(&pool);
    let mut optimizer = streams.optimizer(elements, threads);
    let (ours, reference) = interleaved(elements, || optimizer.step(), || streams.traffic(pool));
    progress.inc(1);
    let bound = if elements == 64 * MI { 1.0 / 0.95 } else { f64::NAN };
    Line { case, threads, bytes: streams.bytes_per_element(), ours, reference, bound }
}

/// A step with a global norm, which reads the gradients once more, beside the same loop.
fn clipped_beside_traffic(elements: usize, threads: u32, progress: &ProgressBar) -> Line {
    let mut streams = Streams::<f32>::new(elements);
    let case = format!("f32 x {}, global norm", size(elements));
    progress.set_message(case.clone());
    let pool = ThreadPoolBuilder::new().num_threads(threads as usize).build().unwrap();
    let mut optimizer = streams.optimizer_with(elements, threads, |config| {
        config.clip = ADAMW_CLIP_GLOBAL_NORM;
        config.clip_norm = 1.0;
    });
    let pool = (threads > 1).then_some(&pool);
    let (ours, reference) = interleaved(elements, || optimizer.step(), || streams.traffic(pool));
    progress.inc(1);
    let bytes = streams.bytes_per_element() + size_of::<f32>();
    Line { case, threads, bytes, ours, reference, bound: f64::NAN }
}

/// A lazy step of some rows of a large table beside a loop over such rows on one thread.
fn rows_beside_traffic(threads: u32, progress: &ProgressBar) -> Line {
    let table = RefCell::new(Table::new());
    let case = format!("f32, {LISTED} of 1 Mi rows of {ROW}");
    progress.set_message(case.clone());
    let mut optimizer = table.borrow_mut().optimizer(threads);
    let step = || table.borrow_mut().step(&mut optimizer);
    let (ours, reference) = interleaved(LISTED * ROW, step, || table.borrow_mut().traffic());
    progress.inc(1);
    Line { case, threads, bytes: 28, ours, reference, bound: f64::NAN }
}

/// A step of many small tensors beside a step of one of the same total.
fn many_beside_one(count: usize, part: usize, threads: u32, progress: &ProgressBar) -> Line {
    let case = format!("f32, {count} of {part} / one");
    progress.set_message(case.clone());
    let elements = count * part;
    let (mut many, mut one) = (Streams::<f32>::new(elements), Streams::<f32>::new(elements));
    let bytes = many.bytes_per_element();
    let (mut many, mut one) = (many.optimizer(part, threads), one.optimizer(elements, threads));
    let (ours, reference) = interleaved(elements, || many.step(), || one.step());
    progress.inc(1);
    Line { case, threads, bytes, ours, reference, bound: 1.2 }
}

/// Nanoseconds per element of both, in every round.
fn interleaved(
    elements: usize,
    mut ours: impl FnMut(),
    mut reference: impl FnMut(),
) -> (Vec<f64>, Vec<f64>) {
    let repeats = (4 * MI / elements).max(1);
    let time = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..repeats).for_each(|_| work());
        start.elapsed().as_secs_f64() * 1e9 / (repeats * elements) as f64
    };
    time(&mut ours);
    time(&mut reference);
    (0..ROUNDS).map(|_| (time(&mut ours), time(&mut reference))).unzip()
}

fn print(lines: &[Line]) {
    println!("processor: {}", processor());
    println!("library:   {} with {}", env!("CARGO_PKG_VERSION"), best_isa());
    println!("ratio:     ours over the reference, median of {ROUNDS} rounds (and quartiles)\n");
    println!("| case | threads | ns/element | GB/s | reference ns | ratio | at most |");
    println!("|---|---|---|---|---|---|---|");
    for line in lines {
        let ratios = line.ours.iter().zip(&line.reference).map(|(ours, other)| ours / other);
        let (low, ratio, high) = spread(ratios.collect());
        let (_, ours, _) = spread(line.ours.clone());
        let (_, reference, _) = spread(line.reference.clone());
        let bound = if line.bound.is_nan() { "-".to_owned() } else { format!("{:.2}", line.bound) };
        println!(
            "| {} | {} | {ours:.3} | {:.1} | {reference:.3} | {ratio:.2} ({low:.2} to {high:.2}) | {bound} |",
            line.case,
            line.threads,
            line.bytes as f64 / ours,
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
