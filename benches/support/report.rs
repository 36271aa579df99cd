//! What has been measured, as a table or as one JSON object a line.

use adamw::ffi::*;

/// One line of the table: the step's and the reference's nanoseconds per element, round by round.
pub struct Line {
    pub case: String,
    pub threads: u32,
    /// What a step moves for each element.
    pub bytes: usize,
    pub reference_is: &'static str,
    pub ours: Vec<f64>,
    pub reference: Vec<f64>,
    /// The largest ratio that is good enough, or NaN.
    pub bound: f64,
}

impl Line {
    /// The quartiles of the ratio.
    fn ratios(&self) -> (f64, f64, f64) {
        let ratios = self.ours.iter().zip(&self.reference).map(|(ours, other)| ours / other);
        spread(ratios.collect())
    }
}

pub fn print_json(lines: &[Line]) {
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

pub fn print_table(lines: &[Line], rounds: usize) {
    println!("processor: {}", processor());
    println!("library:   {} with {}", env!("CARGO_PKG_VERSION"), best_isa());
    println!("ratio:     ours over the reference, median of {rounds} rounds (and quartiles)\n");
    println!("| case | threads | ns/element | GB/s | reference | ns | ratio | at most |");
    println!("|---|---|---|---|---|---|---|---|");
    for line in lines {
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
pub fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    (values[last / 4], values[last / 2], values[last * 3 / 4])
}

pub const KI: usize = 1 << 10;
pub const MI: usize = 1 << 20;

pub fn size(elements: usize) -> String {
    if elements >= MI { format!("{} Mi", elements / MI) } else { format!("{} Ki", elements / KI) }
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let count = std::thread::available_parallelism().map_or(1, |n| n.get());
    format!("{}, {count} processors", name.unwrap_or("unknown"))
}

fn best_isa() -> &'static str {
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
