//! The same gradients on any number of ranks, with ranges that begin anywhere: the same bits.

use crate::common::array::Dtype;
use crate::common::checkpoint::{in_memory, load_options};
use crate::common::handle::{Handle, config};
use crate::common::random::Random;
use crate::meeting::{Meeting, on_ranks};
use crate::world::{Model, Part, flat, shard_ranges};
use adamw::ffi::*;
use core::ops::Range;

pub const LENGTHS: [usize; 7] = [10_000, 300, 0, 5000, 7, 20_480, 4097];

#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub dtype: Dtype,
    precision: adamw_precision,
    multi_precision: u32,
    moments: adamw_moments,
    amsgrad: u32,
    pub clip: adamw_clip,
    clip_scope: adamw_clip_scope,
    pub nonfinite: adamw_nonfinite,
    /// Ranges begin at a multiple of it.
    align: usize,
}

const PLAIN: Mode = Mode {
    dtype: Dtype::F32,
    precision: ADAMW_PRECISION_DEFAULT,
    multi_precision: 0,
    moments: ADAMW_MOMENTS_F32,
    amsgrad: 0,
    clip: ADAMW_CLIP_GLOBAL_NORM,
    clip_scope: ADAMW_CLIP_SCOPE_HANDLE,
    nonfinite: ADAMW_NONFINITE_PROPAGATE,
    align: 1,
};

pub const MODES: [Mode; 10] = [
    PLAIN,
    Mode { amsgrad: 1, clip: ADAMW_CLIP_NORM, nonfinite: ADAMW_NONFINITE_SKIP, ..PLAIN },
    Mode { dtype: Dtype::F64, clip_scope: ADAMW_CLIP_SCOPE_GROUP, ..PLAIN },
    Mode { dtype: Dtype::Bf16, precision: ADAMW_PRECISION_SPLIT, ..PLAIN },
    Mode { dtype: Dtype::F16, multi_precision: 1, ..PLAIN },
    Mode { moments: ADAMW_MOMENTS_8BIT, align: 256, ..PLAIN },
    Mode { moments: ADAMW_MOMENTS_4BIT, align: 128, nonfinite: ADAMW_NONFINITE_SKIP, ..PLAIN },
    Mode {
        dtype: Dtype::Bf16,
        precision: ADAMW_PRECISION_STOCHASTIC,
        moments: ADAMW_MOMENTS_BF16,
        ..PLAIN
    },
    Mode {
        dtype: Dtype::F16,
        precision: ADAMW_PRECISION_KAHAN,
        moments: ADAMW_MOMENTS_8BIT,
        amsgrad: 1,
        align: 256,
        ..PLAIN
    },
    Mode { clip: ADAMW_CLIP_NONE, nonfinite: ADAMW_NONFINITE_SKIP, ..PLAIN },
];

impl Mode {
    fn handle(self) -> Handle {
        let Mode { precision, multi_precision, moments, amsgrad, .. } = self;
        let Mode { clip, clip_scope, nonfinite, .. } = self;
        let clip_norm = if clip == ADAMW_CLIP_NONE { 0.0 } else { 0.75 };
        let handle = Handle::new(&adamw_config {
            lr: 0.01,
            precision,
            multi_precision,
            moments,
            amsgrad,
            clip,
            clip_norm,
            clip_scope,
            nonfinite,
            seed: 5,
            ..config()
        });
        handle.add_group(|group| (group.lr_scale, group.weight_decay) = (0.5, 0.0));
        if nonfinite == ADAMW_NONFINITE_SKIP {
            let (growth_interval, backoff_interval) = (2, 1);
            let scaler =
                adamw_loss_scaler { scale: 8.0, growth_interval, backoff_interval, ..SCALER };
            handle.set_scaler(&scaler).unwrap();
        }
        handle
    }

    pub fn whole(self) -> Part {
        self.part(LENGTHS.iter().map(|&n| 0..n).collect())
    }

    pub fn part(self, ranges: Vec<Range<usize>>) -> Part {
        let model = Model { dtype: self.dtype, lengths: &LENGTHS };
        Part::new(self.handle(), model, ranges, |i, param| {
            (param.group, param.no_clip) = (i % 2, i == 3);
        })
    }

    /// Steps a part. In the last but one step, the element in the middle of the first parameter is
    /// not finite.
    pub fn train(self, part: &Part, steps: Range<u64>) -> Vec<Seen> {
        let model = Model { dtype: self.dtype, lengths: &LENGTHS };
        let step = |step| {
            let grads = model.values(100 + step);
            if step == 2 && self.nonfinite == ADAMW_NONFINITE_SKIP {
                grads[0].set(5000, f64::NAN);
            }
            let grads = flat(self.dtype, &grads, &part.ranges);
            part.set_grads(&grads);
            part.handle.step();
            Seen::of(&part.handle)
        };
        steps.map(step).collect()
    }
}

const SCALER: adamw_loss_scaler = adamw_loss_scaler {
    struct_size: size_of::<adamw_loss_scaler>(),
    scale: 0.0,
    growth_factor: 0.0,
    backoff_factor: 0.0,
    growth_interval: 0,
    backoff_interval: 0,
};

/// What a step says of itself, in bits.
#[derive(PartialEq, Debug)]
pub struct Seen {
    grad_norm: u64,
    clip_factor: u64,
    n_nonfinite: u64,
    pub skipped: u32,
    scale: u64,
}

impl Seen {
    pub fn of(handle: &Handle) -> Seen {
        let info = handle.step_info();
        // One NaN is as good as another.
        let bits = |number: f64| if number.is_nan() { u64::MAX } else { number.to_bits() };
        Seen {
            grad_norm: bits(info.grad_norm),
            clip_factor: bits(info.clip_factor),
            n_nonfinite: info.n_nonfinite,
            skipped: info.skipped,
            scale: handle.grad_scale().to_bits(),
        }
    }
}

/// By rank, its ranges: of each parameter one, in any order of sizes, of which some are empty.
fn random_ranges(n_ranks: usize, align: usize, random: &mut Random) -> Vec<Vec<Range<usize>>> {
    let mut ranges = vec![Vec::new(); n_ranks];
    for n in LENGTHS {
        let place = |random: &mut Random| {
            (random.below(n as u64 / align as u64 + 1) as usize * align).min(n)
        };
        let mut starts: Vec<_> = (1..n_ranks).map(|_| place(random)).collect();
        starts.sort_unstable();
        starts.insert(0, 0);
        let ends: Vec<_> = starts[1..].iter().copied().chain([n]).collect();
        for (rank, (start, end)) in starts.into_iter().zip(ends).enumerate() {
            ranges[rank].push(if start == end { 0..0 } else { start..end });
        }
    }
    ranges
}

/// Two cuts for so many ranks, each with the ranges of every rank.
pub fn cuts(mode: Mode, n_ranks: usize) -> Vec<Vec<Vec<Range<usize>>>> {
    let by = |align| {
        (0..n_ranks as u32).map(|r| shard_ranges(&LENGTHS, align, r, n_ranks as u32)).collect()
    };
    let mut random = Random::new(n_ranks as u64);
    let aligned = by(0);
    vec![aligned, random_ranges(n_ranks, mode.align, &mut random)]
}

#[test]
fn any_number_of_ranks_and_any_ranges_have_the_bits_of_one_handle_and_load_each_others_files() {
    let options = || adamw_load_options { params: 1, ..load_options() };
    for mode in MODES {
        let plain = mode.whole();
        let mut expected = mode.train(&plain, 0..3);
        let middle = plain.handle.saved(true);
        expected.extend(mode.train(&plain, 3..5));
        let end = plain.handle.saved(true);
        for n_ranks in 1..=4 {
            for ranges in cuts(mode, n_ranks) {
                let case = format!("{mode:?}, {ranges:?}");
                let joined = |rank: usize, meeting: &Meeting| {
                    let part = mode.part(ranges[rank].clone());
                    meeting.join(&part.handle).unwrap();
                    part
                };
                let files = on_ranks(n_ranks, |rank, meeting| {
                    let part = joined(rank, meeting);
                    assert!(mode.train(&part, 0..3) == expected[..3], "{case}");
                    let middle = part.handle.saved(true);
                    assert!(mode.train(&part, 3..5) == expected[3..], "{case}");
                    [middle, part.handle.saved(true)]
                });
                for (i, of_one) in [&middle, &end].into_iter().enumerate() {
                    let sources: Vec<_> = files.iter().map(|files| in_memory(&files[i])).collect();
                    let loaded = mode.whole();
                    loaded.handle.load_from(&sources, &options()).unwrap();
                    assert!(loaded.handle.saved(true) == *of_one, "{case}");
                    if i == 0 {
                        mode.train(&loaded, 3..5);
                        assert!(loaded.handle.saved(true) == end, "{case}: goes on alone");
                    }
                }
                // What one handle has saved goes on on these ranks.
                let files = on_ranks(n_ranks, |rank, meeting| {
                    let part = joined(rank, meeting);
                    part.handle.load_bytes(&middle, &options()).unwrap();
                    assert!(mode.train(&part, 3..5) == expected[3..], "{case}");
                    part.handle.saved(true)
                });
                let sources: Vec<_> = files.iter().map(|file| in_memory(file)).collect();
                let loaded = mode.whole();
                loaded.handle.load_from(&sources, &options()).unwrap();
                assert!(loaded.handle.saved(true) == end, "{case}: goes on on ranks");
            }
        }
    }
}
