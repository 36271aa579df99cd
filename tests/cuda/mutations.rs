//! A kernel that is broken is caught: by the driver, which does not load it or sees what it does, or by
//! its bits. So the tests of the kernels look at what they say they do.

use crate::common::array::{Array, Dtype};
use crate::common::device::{Device, OnDevice};
use crate::common::handle::{config, loss_scaler, with_clip};
use crate::common::inputs::{Input, Reading, UNUSABLE};
use crate::common::kernels::{CHUNK, Case, compare};
use crate::common::rows::{Rows, RowsOnDevice};
use crate::common::twin::Twin;
use crate::ptx::PTX;
use crate::schedules;
use adamw::ffi::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A way to break a kernel: where it says the first, it says the second.
struct Mutation {
    name: &'static str,
    kernel: &'static str,
    /// How often the text has been seen before.
    nth: usize,
    from: &'static str,
    to: &'static str,
}

const fn mutation(
    name: &'static str,
    kernel: &'static str,
    nth: usize,
    from: &'static str,
    to: &'static str,
) -> Mutation {
    Mutation { name, kernel, nth, from, to }
}

/// Each is caught: by the driver, which will not load it or sees what it does, or by the bits.
const MUTATIONS: &[Mutation] = &[
    mutation("a root that is near", "step_f32", 0, "sqrt.rn.f32", "sqrt.approx.f32"),
    mutation("a quotient that is near", "step_f32", 0, "div.rn.f32", "div.approx.f32"),
    mutation("a product that may be fused", "step_f32", 0, "mul.rn.f32", "mul.f32"),
    mutation("another rounding", "step_f32", 1, "add.rn.f32", "add.rz.f32"),
    mutation("flushed subnormals", "step_f32", 1, "mul.rn.f32", "mul.rn.ftz.f32"),
    mutation("a sum that is a difference", "step_f32", 1, "add.rn.f32", "sub.rn.f32"),
    mutation("one element more", "step_f32", 1, "setp.lt.u32", "setp.le.u32"),
    mutation("a chunk more", "step_f32", 0, "setp.lt.u64", "setp.le.u64"),
    mutation("a vector that is not written", "step_f32", 1, "st.global.cs.v4.f32", "// "),
    mutation(
        "an element of the rest that is not written",
        "step_f32",
        0,
        "st.global.cs.f32",
        "// ",
    ),
    mutation("every block works on one chunk", "step_f32", 0, "%ctaid.x", "%tid.y"),
    mutation("every thread works on one vector", "step_f32", 0, "%tid.x", "%tid.y"),
    mutation(
        "the smaller of two scales",
        "step_f32_8bit",
        0,
        "shfl.sync.bfly.b32",
        "shfl.sync.down.b32",
    ),
    mutation("half a warp", "step_f32_8bit", 1, "-1;", "65535;"),
    mutation(
        "the other half of a byte",
        "step_f32_4bit",
        0,
        "shfl.sync.down.b32",
        "shfl.sync.up.b32",
    ),
    mutation("bits that are mixed less", "step_bf16_stochastic", 0, ", 17;", ", 16;"),
    mutation("a power of the betas of now that grows", "prepare", 0, "mul.rn.f64", "add.rn.f64"),
    mutation("a square that is a double", "prepare", 3, "mul.rn.f64", "add.rn.f64"),
    mutation("a product of betas that grows", "prepare", 4, "mul.rn.f64", "add.rn.f64"),
    mutation("an eps that is corrected twice", "prepare", 10, "mul.rn.f64", "div.rn.f64"),
    mutation("a new value that grows", "prepare", 12, "mul.rn.f64", "add.rn.f64"),
    mutation("a decay of the old value", "prepare", 1, "and.b32", "xor.b32"),
    mutation("a step that is not counted", "prepare", 3, "st.global.u64", "// "),
    mutation("a constant that is rounded down", "prepare", 2, "cvt.rn.f32.f64", "cvt.rz.f32.f64"),
    mutation("a rate that may be negative", "prepare", 0, "setp.ltu.f64", "setp.nan.f64"),
    mutation("a rate that is too large", "prepare", 0, "setp.gtu.f64", "setp.nan.f64"),
    mutation("a rate behind the last", "prepare", 0, "setp.ge.u64", "setp.gt.u64"),
    mutation("a rate of another step", "prepare", 1, "shl.b64", "shr.u64"),
    mutation("a rate of another step, without norms", "prepare", 2, "shl.b64", "shr.u64"),
    mutation("a scale that is too small", "prepare", 0, "setp.ltu.f32", "setp.nan.f32"),
    mutation("a scale that is too large", "prepare", 0, "setp.gtu.f32", "setp.nan.f32"),
    mutation("a verdict that is not written", "prepare", 0, "st.global.v2.u32", "// "),
    mutation("a sum of other lanes", "tally_f32", 0, "shfl.sync.down.b32", "shfl.sync.up.b32"),
    mutation("a block that is left out", "tally_f32", 0, "st.global.f64", "// "),
    mutation("a level that does not wait", "join_sums", 0, "bar.sync", "// "),
    mutation("squares that are not there yet", "decide", 0, "bar.sync", "// "),
    mutation("squares of the next round", "decide", 1, "bar.sync", "// "),
    mutation("a norm that is squared", "decide", 2, "sqrt.rn.f64", "mov.f64"),
    mutation("a factor upside down", "decide", 1, "div.rn.f64", "mul.rn.f64"),
    mutation("a norm from outside that is squared", "decide", 1, "sqrt.rn.f64", "mov.f64"),
    mutation("a factor from outside upside down", "decide", 0, "div.rn.f64", "mul.rn.f64"),
    mutation("a count that is rounded up", "decide", 0, "cvt.rzi.u64", "cvt.rpi.u64"),
    mutation("squares of another mean", "put_sums", 0, "mul.rn.f64", "add.rn.f64"),
    mutation("a count that is not put", "put_sums", 1, "st.global.f64", "// "),
    mutation("a verdict that is not written", "decide", 0, "st.global.v2.u32", "// "),
    mutation("a rate that may be negative", "decide", 2, "setp.ltu.f64", "setp.nan.f64"),
    mutation("a rate behind the last", "decide", 0, "setp.ge.u64", "setp.gt.u64"),
    mutation("a scale that is too large", "decide", 1, "setp.gtu.f32", "setp.nan.f32"),
    mutation("a scale that is not set", "set_scale", 0, "st.global.f64", "// "),
    mutation("a scale that grows late", "adapt_scale", 0, "setp.lt.u64", "setp.le.u64"),
    mutation("a scale that shrinks late", "adapt_scale", 1, "setp.lt.u64", "setp.le.u64"),
    mutation("a scale that grows without end", "adapt_scale", 1, "setp.lt.f64", "setp.ne.f64"),
    mutation("a scale below the least", "adapt_scale", 0, "setp.gt.f64", "setp.ne.f64"),
    mutation("a scale that nobody is told", "adapt_scale", 0, "st.global.f32", "// "),
    mutation("a schedule that goes on when skipped", "advance_lr", 0, "setp.eq.s32", "setp.ne.s32"),
    mutation("a schedule that stands still", "advance_lr", 0, "st.global.u64", "// "),
    mutation("a step that misses no rate", "advance_lr", 1, "st.global.u64", "// "),
    mutation(
        "a step that misses a rate that is there",
        "advance_lr",
        0,
        "setp.lt.u64",
        "setp.gt.u64",
    ),
    mutation("a gradient that is not cleared", "clear_skipped", 0, "st.global.cs.v4.f32", "// "),
    mutation("weights that are not kept", "keep_f32", 0, "st.global.cs.v4.f32", "// "),
    mutation("a change of other lanes", "change_f32", 0, "shfl.sync.down.b32", "shfl.sync.up.b32"),
    mutation("a count of other lanes", "change_f32", 84, "shfl.sync.down.b32", "shfl.sync.up.b32"),
    mutation("a count that is not written", "change_f32", 0, "st.global.u64", "// "),
    mutation("a row beside the last", "join_rows", 1, "setp.ge.u64", "setp.gt.u64"),
    mutation("a row that is listed before", "join_rows", 0, "setp.gt.u64", "setp.le.u64"),
    mutation("ranks of the round before", "join_rows", 0, "bar.sync", "// "),
    mutation("ranks of the round after", "join_rows", 1, "bar.sync", "// "),
    mutation("a row that stays where it was", "join_rows", 0, "st.global.f64", "// "),
    mutation("a count that stays where it was", "join_rows", 0, "st.global.u64", "// "),
    mutation("a sum of rows that is a difference", "join_rows", 0, "add.rn.f64", "sub.rn.f64"),
    mutation("a level of rows that does not wait", "join_rows", 18, "bar.sync", "// "),
    mutation("weights of a row that is listed before", "keep_f32", 0, "setp.gt.u64", "setp.le.u64"),
    mutation(
        "a change of a row that is listed before",
        "change_f32",
        0,
        "setp.gt.u64",
        "setp.le.u64",
    ),
    mutation("a sum that forgets", "accumulate_f32_f32", 0, "add.rn.f32", "sub.rn.f32"),
    mutation("rows that are not forgotten", "list_rows", 0, "st.global.cs.v4.f32", "// "),
    mutation("an element more", "list_rows", 0, "setp.lt.u64", "setp.le.u64"),
    mutation("counts of the tile before", "list_rows", 0, "bar.sync", "// "),
    mutation("digits that are not counted", "count_digits", 0, "atom.shared.add.u32", "// "),
    mutation("counts that are not there yet", "count_digits", 1, "bar.sync", "// "),
    mutation("counts of the round before", "scan_counts", 0, "bar.sync", "// "),
    mutation("counts of the round after", "scan_counts", 1, "bar.sync", "// "),
    mutation("a sum that is not there yet", "scan_counts", 16, "bar.sync", "// "),
    mutation("a tile that counts itself", "scan_counts", 0, "sub.s32", "max.s32"),
    mutation("sums that are not written", "scan_counts", 0, "st.global.u32", "// "),
    mutation("sums that nobody has made", "sort_rows", 0, "setp.gt.u64", "setp.lt.u64"),
    mutation("totals that are not there yet", "sort_rows", 0, "bar.sync", "// "),
    mutation("digits that are not there yet", "sort_rows", 1, "bar.sync", "// "),
    mutation("places that are not there yet", "sort_rows", 2, "bar.sync", "// "),
    mutation("values that are taken off", "gather_rows", 8, "add.rn.f32", "sub.rn.f32"),
    mutation("a row that is listed twice", "gather_rows", 0, "setp.ne.s64", "setp.eq.s64"),
    mutation("a row that is not stepped", "rows_f32", 1, "st.global.cs.v4.f32", "// "),
    mutation("a row stepped by two", "rows_f32", 0, "setp.gt.u64", "setp.le.u64"),
    mutation("steps taken that are forgotten", "rows_f32", 0, "st.global.u64", "// "),
    mutation("steps that one thread knows of", "rows_f32", 1, "shfl.sync.idx", "shfl.sync.down"),
    mutation("a row that is listed and has its turn", "rows_f32", 0, "setp.lt.u64", "setp.ge.u64"),
    mutation(
        "a row that steps twice",
        "catch_up_f32",
        0,
        "atom.global.exch.b64",
        "atom.global.min.u64",
    ),
    mutation(
        "steps that one thread makes up for",
        "catch_up_f32",
        1,
        "shfl.sync.idx",
        "shfl.sync.down",
    ),
    mutation("a row more", "catch_up_f32", 1, "setp.ge.u64", "setp.gt.u64"),
    mutation("a step that is not counted", "log_step", 0, "st.global.u64", "// "),
    mutation("a turn that does not end", "log_step", 1, "st.global.u64", "// "),
];

/// What steps sparse gradients.
const SPARSE: [&str; 8] = [
    "list_rows",
    "count_digits",
    "scan_counts",
    "sort_rows",
    "gather_rows",
    "rows_f32",
    "catch_up_f32",
    "log_step",
];

impl Mutation {
    fn ptx(&self) -> String {
        let entry = format!(".visible .entry {}(", self.kernel);
        let start = PTX.find(&entry).unwrap();
        let places: Vec<usize> = PTX[start..].match_indices(self.from).map(|(at, _)| at).collect();
        let at = start + places[self.nth];
        assert!(!PTX[start + entry.len()..at].contains(".visible .entry"), "{}", self.name);
        format!("{}{}{}", &PTX[..at], self.to, &PTX[at + self.from.len()..])
    }

    /// What is wrong with the kernel, as far as the tests see it.
    fn caught(&self, ptx: &std::path::Path) -> Result<(), String> {
        let device = Device::with(&[("ptx", ptx.to_str().unwrap()), ("blocks", "2")]);
        let steps = self.kernel.starts_with("step_");
        let seen = catch_unwind(AssertUnwindSafe(|| match self.kernel {
            "prepare" => {
                reads(ADAMW_CLIP_NONE);
                schedules::follow(ADAMW_CLIP_NONE);
                schedules::follow(ADAMW_CLIP_NORM);
                powers();
                formulas();
                self.step(&device)
            }
            _ if steps => self.step(&device),
            "set_scale" | "adapt_scale" => {
                scales();
                Ok(())
            }
            "advance_lr" => {
                schedules::follow(ADAMW_CLIP_NORM);
                Ok(())
            }
            kernel if SPARSE.contains(&kernel) => {
                let n = if kernel == "scan_counts" { 17_000 } else { 5_000 };
                sparse(n);
                Ok(())
            }
            "join_rows" => {
                changed_rows();
                Ok(())
            }
            kernel => {
                if kernel.starts_with("keep_") || kernel.starts_with("change_") {
                    changed_rows();
                }
                if kernel == "decide" {
                    reads(ADAMW_CLIP_GLOBAL_NORM);
                    schedules::follow(ADAMW_CLIP_GLOBAL_NORM);
                }
                decide();
                outside();
                Ok(())
            }
        }));
        seen.unwrap_or_else(|panic| Err(format!("{:?}", panic.downcast_ref::<String>())))
    }

    fn step(&self, device: &Device) -> Result<(), String> {
        // Whatever is stepped has been prepared, and what takes random bits counts steps.
        let shown_by: &[&str] = match self.kernel {
            "prepare" => &["step_f32", "step_bf16_stochastic"],
            kernel => &[kernel],
        };
        let cases = Case::all();
        for case in cases.iter().filter(|case| shown_by.contains(&&*case.kernel(CHUNK))) {
            // Of lengths that end within a vector some, since an element may be one that nothing changes.
            let lengths = [CHUNK + 77, 2 * CHUNK, 4098, 4099, 4102, 4103, 4107];
            compare(device, case, &lengths, |_| 0)?;
            compare(device, case, &[CHUNK + 77], |place| place % 4)?;
        }
        Ok(())
    }
}

/// Steps whose numbers are read on the device, where some cannot be used.
fn reads(clip: adamw_clip) {
    let mut twin = Twin::new(&with_clip(clip, adamw_config { clip_norm: 0.1, ..config() }));
    twin.add(Dtype::F32, 100);
    twin.set_grads();
    let mut reading = Reading::new(twin, false);
    reading.assert_steps(Input::Lr, 0.02);
    for (input, value) in UNUSABLE.into_iter().chain([(Input::Lr, f32::MAX)]) {
        reading.assert_skips(input, value);
    }
    reading.assert_steps(Input::GradScale, 2.0);
}

/// Steps whose betas change, and correct the bias.
fn powers() {
    let bias_correction = ADAMW_BIAS_CORRECTION_CURRENT;
    let mut twin = Twin::new(&adamw_config { bias_correction, ..config() });
    twin.add(Dtype::F32, 100);
    for beta in [0.5, 0.6, 0.7, 0.8] {
        twin.both(|handle| {
            let group = adamw_group_config { beta1: beta, beta2: beta + 0.1, ..handle.group(0) };
            handle.set_group(0, &group).unwrap();
        });
        twin.set_grads();
        twin.step();
        twin.assert_same();
    }
}

/// Steps with each formula.
fn formulas() {
    for formula in 0..=3 {
        let config = adamw_config { formula, eps: 0.1, weight_decay: 9.0, lr: 0.1, ..config() };
        let mut twin = Twin::new(&config);
        twin.add(Dtype::F32, 100);
        for _ in 0..2 {
            twin.set_grads();
            twin.step();
            twin.assert_same();
        }
    }
}

/// Steps that look at their gradients first: some clip, some are skipped, some add up.
fn decide() {
    for clip in [ADAMW_CLIP_GLOBAL_NORM, ADAMW_CLIP_NORM] {
        let (nonfinite, clear_grads) = (ADAMW_NONFINITE_SKIP, 1);
        let mut twin =
            Twin::new(&adamw_config { clip, clip_norm: 0.3, nonfinite, clear_grads, ..config() });
        twin.both(|handle| {
            handle.add_group(|group| group.clip_norm = 0.2);
        });
        for n in [70 * 4096 + 5, 3, 4097] {
            twin.add(Dtype::F32, n);
        }
        // More than there are threads in a block.
        for _ in 0..300 {
            twin.add(Dtype::F32, 2);
        }
        twin.add_with(Dtype::F32, 5_000, true, |mut param| {
            param.group = 1;
            param
        });
        for step in 0..3 {
            twin.set_grads();
            if step == 1 {
                twin.write_grad(1, &Array::of(Dtype::F32, &[0.0, 1.0, f64::INFINITY]));
            }
            twin.step();
            twin.assert_same();
        }
        for _ in 0..2 {
            let grad = Array::ordinary(Dtype::F32, 4097, &mut twin.random);
            twin.accumulate(2, &grad);
        }
        twin.both(|handle| handle.set_statistics(1).unwrap());
        for lr in [0.001, 1e-8] {
            twin.both(|handle| handle.set_lr(lr));
            twin.step();
            twin.assert_same();
        }
    }
}

/// Steps of rows whose changes are added up.
fn changed_rows() {
    for lazy_mode in [ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        let mut twin = Twin::new(&adamw_config { lazy_mode, ..config() });
        twin.add(Dtype::F32, 2_000 * 5);
        twin.both(|handle| handle.set_statistics(1).unwrap());
        for n in [1_500, 3] {
            let rows: Vec<usize> = (0..n).map(|_| twin.random.next() as usize % 2_000).collect();
            let values = Array::ordinary(Dtype::F32, n * 5, &mut twin.random);
            twin.set_sparse_grad(0, Rows::i32(&rows), values);
            twin.step();
            twin.assert_same();
        }
        twin.both(|handle| handle.set_lr(1e-30));
        twin.step();
        twin.assert_same();
    }
}

/// Steps after which the loss scale grows and shrinks as far as it goes.
fn scales() {
    let mut twin = Twin::new(&config());
    twin.add(Dtype::F32, 3);
    twin.set_grads();
    let [nan, one] = [f64::NAN, 1.0].map(|value| Array::of(Dtype::F32, &[value; 3]));
    let out = OnDevice::of(&Array::zeros(Dtype::F32, 1), 0);
    for (start, grad) in [(2f64.powi(124), &one), (3.0, &nan)] {
        twin.both(|handle| handle.set_scaler(&loss_scaler(start, 2, 2)).unwrap());
        twin.device.set_device_scale(out.address()).unwrap();
        twin.write_grad(0, grad);
        for _ in 0..8 {
            twin.step();
            let scales = [&twin.host, &twin.device].map(|handle| handle.grad_scale());
            assert_eq!(scales[0], scales[1]);
            let told = Array::of(Dtype::F32, &[scales[0]]);
            assert_eq!(out.array().unwrap().first_difference(&told), None);
        }
    }
}

/// Steps by sums that are measured, and by some from outside.
fn outside() {
    for clip in [ADAMW_CLIP_GLOBAL_NORM, ADAMW_CLIP_NORM] {
        let config = adamw_config { clip_norm: 0.3, average_grads: 1, ..config() };
        let mut twin = Twin::new(&with_clip(clip, config));
        for n in [5_000, 3] {
            twin.add(Dtype::F32, n);
        }
        twin.set_grads();
        for _ in 0..3 {
            let grad = Array::ordinary(Dtype::F32, 3, &mut twin.random);
            twin.accumulate(1, &grad);
        }
        twin.write_grad(0, &Array::of(Dtype::F32, &[f64::NAN; 5_000]));
        let (here, there) = (Array::zeros(Dtype::F64, 4), Array::of(Dtype::F64, &[7.0; 4]));
        let there = OnDevice::of(&there, 0);
        twin.host.measure_grads(&here.tensor()).unwrap();
        twin.device.measure_grads(&there.tensor()).unwrap();
        assert_eq!(there.array().unwrap().first_difference(&here), None);
        for (i, value) in [2.0, 2.75, 0.5, 0.0].into_iter().enumerate() {
            here.set(i, value);
        }
        there.set(&here);
        twin.host.set_grad_sums(Some(&here.tensor())).unwrap();
        twin.device.set_grad_sums(Some(&there.tensor())).unwrap();
        twin.step();
        twin.assert_same();
    }
}

/// Steps by lists that are sorted in several passes, of which one has so many entries: more than a block sorts at
/// once.
fn sparse(longest: usize) {
    for lazy_mode in [ADAMW_LAZY_ROWS, ADAMW_LAZY_OFF, ADAMW_LAZY_EXACT] {
        let mut twin = Twin::new(&adamw_config { lazy_mode, ..config() });
        for (height, row) in [(300, 5), (2_000, 4)] {
            twin.add(Dtype::F32, height * row);
        }
        for n in [700, longest, 3] {
            for (number, (height, row)) in [(0, (300, 5)), (1, (2_000, 4))] {
                let rows: Vec<usize> =
                    (0..n).map(|_| twin.random.next() as usize % height).collect();
                let values = Array::ordinary(Dtype::F32, n * row, &mut twin.random);
                twin.set_sparse_grad(number, Rows::i32(&rows), values);
            }
            twin.step();
            let outside = RowsOnDevice::of(&Rows::i32(&[300]));
            match lazy_mode {
                ADAMW_LAZY_EXACT => {
                    twin.sparse_prepare(0, &Rows::i32(&[7, 290, 7, 8, 299]));
                    // Which is passed over.
                    twin.device.sparse_prepare_tensor(0, &outside.tensor()).unwrap();
                }
                _ => twin.assert_same(),
            }
            twin.assert_same_params();
        }
        twin.assert_same();
    }
}

#[test]
fn every_mutation_of_a_kernel_is_caught() {
    let folder = std::env::temp_dir().join(format!("adamw-mutations-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("kernels.ptx");
    std::panic::set_hook(Box::new(|_| ())); // what is caught below is what is looked for
    let (mut kernels, mut missed) = (Vec::<&str>::new(), Vec::new());
    for mutation in MUTATIONS {
        if !kernels.contains(&mutation.kernel) {
            kernels.push(mutation.kernel);
            std::fs::write(&path, PTX).unwrap();
            assert_eq!(mutation.caught(&path), Ok(()), "{}", mutation.kernel);
        }
        std::fs::write(&path, mutation.ptx()).unwrap();
        let caught = mutation.caught(&path);
        println!("{}: {caught:?}", mutation.name);
        if caught.is_ok() {
            missed.push(mutation.name);
        }
    }
    let _ = std::panic::take_hook();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
