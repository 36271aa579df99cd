//! Gradients of rows on any number of ranks: the bits of one handle, wherever the ranges begin and
//! whichever ranks list a row.

use crate::bits::Seen;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, config};
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::meeting::{Meeting, on_ranks, set_all_reduce};
use crate::moves::load;
use adamw::ffi::*;
use core::ops::Range;

/// Tables of rows: shorter than a block of the norm, longer, and as long; the last is dense.
const TABLES: [Table; 6] = [
    Table { height: 900, width: 12 },
    Table { height: 3, width: 5000 },
    Table { height: 5001, width: 1 },
    Table { height: 9, width: 4096 },
    Table { height: 40, width: 33 },
    Table { height: 700, width: 10 },
];
const DENSE: usize = 5;
const STEPS: usize = 8;

#[derive(Clone, Copy)]
struct Table {
    height: usize,
    width: usize,
}

#[derive(Clone, Copy, Debug)]
struct Mode {
    dtype: Dtype,
    precision: adamw_precision,
    moments: adamw_moments,
    lazy_mode: adamw_lazy,
    clip: adamw_clip,
    clip_scope: adamw_clip_scope,
    nonfinite: adamw_nonfinite,
}

const PLAIN: Mode = Mode {
    dtype: Dtype::F32,
    precision: ADAMW_PRECISION_DEFAULT,
    moments: ADAMW_MOMENTS_F32,
    lazy_mode: ADAMW_LAZY_OFF,
    clip: ADAMW_CLIP_GLOBAL_NORM,
    clip_scope: ADAMW_CLIP_SCOPE_HANDLE,
    nonfinite: ADAMW_NONFINITE_PROPAGATE,
};

const MODES: [Mode; 11] = [
    PLAIN,
    Mode { moments: ADAMW_MOMENTS_8BIT, ..PLAIN },
    Mode { moments: ADAMW_MOMENTS_4BIT, nonfinite: ADAMW_NONFINITE_SKIP, ..PLAIN },
    Mode { nonfinite: ADAMW_NONFINITE_SKIP, clip: ADAMW_CLIP_NONE, ..PLAIN },
    Mode { nonfinite: ADAMW_NONFINITE_FAIL, dtype: Dtype::F64, ..PLAIN },
    Mode { lazy_mode: ADAMW_LAZY_ROWS, nonfinite: ADAMW_NONFINITE_SKIP, ..PLAIN },
    Mode { lazy_mode: ADAMW_LAZY_ROWS, clip: ADAMW_CLIP_NORM, ..PLAIN },
    Mode {
        lazy_mode: ADAMW_LAZY_ROWS,
        dtype: Dtype::Bf16,
        precision: ADAMW_PRECISION_STOCHASTIC,
        clip_scope: ADAMW_CLIP_SCOPE_GROUP,
        ..PLAIN
    },
    Mode { lazy_mode: ADAMW_LAZY_EXACT, nonfinite: ADAMW_NONFINITE_SKIP, ..PLAIN },
    Mode { lazy_mode: ADAMW_LAZY_EXACT, clip: ADAMW_CLIP_NONE, ..PLAIN },
    Mode {
        lazy_mode: ADAMW_LAZY_EXACT,
        dtype: Dtype::Bf16,
        precision: ADAMW_PRECISION_SPLIT,
        nonfinite: ADAMW_NONFINITE_FAIL,
        clip_scope: ADAMW_CLIP_SCOPE_GROUP,
        ..PLAIN
    },
];

/// The rows that a step lists of a table, and their values.
fn listed(mode: Mode, table: usize, step: usize) -> (Vec<usize>, Array) {
    let Table { height, width } = TABLES[table];
    let mut random = Random::new((100 * step + table) as u64);
    // Of some tables in some steps one row, so that most ranks list none, or no row at all.
    let n = match (step + table) % 4 {
        0 => 1,
        1 if table == 4 => 0,
        _ => 1 + height / 8,
    };
    // Some rows are listed several times.
    let rows: Vec<_> = (0..n).map(|_| random.below(height as u64) as usize).collect();
    let values = Array::ordinary(mode.dtype, n * width, &mut random);
    if step == 3 && table == 2 && mode.nonfinite != ADAMW_NONFINITE_PROPAGATE {
        values.set(7, f64::NAN);
    }
    (rows, values)
}

/// The rows of these that are in a range, numbered from its start, and their values.
fn part(rows: &[usize], values: &Array, width: usize, range: &Range<usize>) -> (Rows, Array) {
    let here: Vec<_> = (0..rows.len()).filter(|&place| range.contains(&rows[place])).collect();
    let some = Array::zeros(values.dtype(), here.len() * width);
    for (to, &place) in here.iter().enumerate() {
        (0..width).for_each(|i| some.set_bits(to * width + i, values.bits(place * width + i)));
    }
    let numbers: Vec<_> = here.iter().map(|&place| rows[place] - range.start).collect();
    (if rows.len().is_multiple_of(2) { Rows::i64(&numbers) } else { Rows::i32(&numbers) }, some)
}

/// What one rank has: some rows of each table.
struct Rank {
    handle: Handle,
    mode: Mode,
    ranges: Vec<Range<usize>>,
    _params: Vec<Array>,
}

impl Rank {
    fn new(mode: Mode, ranges: Vec<Range<usize>>) -> Rank {
        let Mode { precision, moments, lazy_mode, clip, clip_scope, nonfinite, .. } = mode;
        let clip_norm = if clip == ADAMW_CLIP_NONE { 0.0 } else { 0.75 };
        let handle = Handle::new(&adamw_config {
            lr: 0.01,
            precision,
            moments,
            lazy_mode,
            clip,
            clip_norm,
            clip_scope,
            nonfinite,
            seed: 5,
            ..config()
        });
        handle.add_group(|group| (group.lr_scale, group.lazy_mode) = (0.5, lazy_mode));
        let param = |(i, range): (usize, &Range<usize>)| {
            let Table { height, width } = TABLES[i];
            let whole = Array::ordinary(mode.dtype, height * width, &mut Random::new(i as u64));
            let param = whole.copy(range.start * width..range.end * width, 0);
            let name = format!("table.{i}");
            handle.add(&Param {
                group: i as u32 % 2,
                no_clip: i == 3,
                first_element: (range.start * width) as u64,
                whole_elements: (height * width) as u64,
                ..Param::new(&name, &param)
            });
            param
        };
        let params = ranges.iter().enumerate().map(param).collect();
        Rank { handle, mode, ranges, _params: params }
    }

    fn whole(mode: Mode) -> Rank {
        Rank::new(mode, TABLES.iter().map(|table| 0..table.height).collect())
    }

    fn train(&self, steps: Range<usize>) -> Vec<Seen> {
        let step = |step| {
            let grads: Vec<_> = (0..TABLES.len())
                .map(|i| {
                    let (rows, values) = listed(self.mode, i, step);
                    part(&rows, &values, TABLES[i].width, &self.ranges[i])
                })
                .collect();
            let Table { height, width } = TABLES[DENSE];
            let mut random = Random::new(step as u64);
            let dense = Array::ordinary(self.mode.dtype, height * width, &mut random);
            let Range { start, end } = self.ranges[DENSE];
            let dense = dense.copy(start * width..end * width, 0);
            for (number, (rows, values)) in (0..).zip(&grads) {
                match number as usize {
                    DENSE => self.handle.set_grad(number, &dense),
                    _ => self.handle.set_sparse_grad(number, rows, values),
                }
            }
            let stepped = self.handle.try_step();
            let fails = step == 3 && self.mode.nonfinite == ADAMW_NONFINITE_FAIL;
            assert_eq!(stepped.is_err(), fails, "{stepped:?}");
            if let Err(failure) = stepped {
                let text = "param \"table.2\": 1 of the 5001 elements of grad";
                assert!(failure.text.starts_with(text), "{}", failure.text);
            }
            self.handle.clear_grad(ADAMW_CLEAR_FORGET);
            Seen::of(&self.handle)
        };
        steps.map(step).collect()
    }

    fn steps(&self) -> Vec<u64> {
        self.handle.steps(TABLES.len())
    }
}

/// By rank, its rows of each table, of which some are none. No range cuts a block of codes, if there
/// are codes.
fn random_ranges(mode: Mode, n_ranks: usize) -> Vec<Vec<Range<usize>>> {
    let mut random = Random::new(n_ranks as u64);
    let mut ranges = vec![Vec::new(); n_ranks];
    for Table { height, width } in TABLES {
        let align = match mode.moments {
            ADAMW_MOMENTS_F32 => 1,
            _ => (1..=256).find(|rows| (rows * width).is_multiple_of(256)).unwrap(),
        };
        let place = |_| random.below((height / align) as u64 + 1) as usize * align;
        let mut starts: Vec<_> = (1..n_ranks).map(place).collect();
        starts.sort_unstable();
        starts.insert(0, 0);
        let ends: Vec<_> = starts[1..].iter().copied().chain([height]).collect();
        for (rank, (start, end)) in starts.into_iter().zip(ends).enumerate() {
            ranges[rank].push(if start == end { 0..0 } else { start..end });
        }
    }
    ranges
}

#[test]
fn rows_on_any_number_of_ranks_have_the_bits_of_one_handle() {
    for mode in MODES {
        let plain = Rank::whole(mode);
        let expected = plain.train(0..STEPS);
        let (end, steps) = (plain.handle.saved(true), plain.steps());
        assert!(steps[4] < steps[0], "some step lists no row of a table: {steps:?}");
        for n_ranks in 1..=4 {
            let ranges = random_ranges(mode, n_ranks);
            let files = on_ranks(n_ranks, |rank, meeting: &Meeting| {
                let part = Rank::new(mode, ranges[rank].clone());
                meeting.join(&part.handle).unwrap();
                let seen = part.train(0..STEPS);
                assert!(seen == expected, "{mode:?}, {n_ranks} ranks: {seen:?}, {expected:?}");
                assert_eq!(part.steps(), steps, "{mode:?}, {n_ranks} ranks");
                part.handle.saved(true)
            });
            let loaded = Rank::whole(mode);
            load(&loaded.handle, &files);
            assert!(loaded.handle.saved(true) == end, "{mode:?}, {ranges:?}");
        }
    }
}

#[test]
fn a_row_that_one_rank_does_not_have_fails_all() {
    let failures = on_ranks(3, |rank, meeting| {
        let part = Rank::new(PLAIN, random_ranges(PLAIN, 3)[rank].clone());
        meeting.join(&part.handle).unwrap();
        part.train(0..1);
        let before = part.handle.saved(true);
        let row = if rank == 1 { 900 } else { 0 };
        let (rows, values) = (Rows::i64(&[row]), Array::zeros(Dtype::F32, 12));
        part.handle.set_sparse_grad(0, &rows, &values);
        let failure = part.handle.try_step().unwrap_err();
        assert!(part.handle.saved(true) == before);
        failure
    });
    assert_eq!(failures[1].status, Status::InvalidArgument, "{}", failures[1].text);
    assert!(failures[1].text.contains("rows[0] is 900"), "{}", failures[1].text);
    for failure in [&failures[0], &failures[2]] {
        assert_eq!(failure.status, Status::Mismatch);
        assert!(failure.text.contains("1 of the 3 could not"), "{}", failure.text);
    }
}

#[test]
fn a_list_of_no_row_counts_among_ranks_that_list_some_and_not_alone() {
    on_ranks(2, |rank, meeting| {
        let table = Array::zeros(Dtype::F32, 8);
        let handle = Handle::new(&config());
        let (first_element, whole_elements) = (8 * rank as u64, 16);
        handle.add(&Param { first_element, whole_elements, ..Param::new("table", &table) });
        meeting.join(&handle).unwrap();
        let some = (Rows::i64(&[1]), Array::of(Dtype::F32, &[1.0, 2.0]));
        let none = (Rows::i64(&[]), Array::zeros(Dtype::F32, 0));
        // By step, which rank lists a row, if any.
        for (i, lists) in [Some(0), None, Some(1), None, Some(0)].into_iter().enumerate() {
            let (rows, values) = if lists == Some(rank) { &some } else { &none };
            handle.set_sparse_grad(0, rows, values);
            handle.step();
            assert_eq!(handle.steps(1), [[1, 1, 2, 2, 3][i]], "step {i}");
            let n_elements = if lists.is_some() { 8 } else { 0 };
            assert_eq!(handle.step_info().n_elements, n_elements, "step {i}");
        }
        set_all_reduce(&handle, None, core::ptr::null_mut()).unwrap();
        handle.step();
        assert_eq!(handle.steps(1), [[4, 3][rank]], "alone");
    });
}

/// The step after which ranks save: some tables have rows that lag, others none yet.
const SAVED_AT: usize = 5;

#[test]
fn rows_go_on_on_another_number_of_ranks_and_alone() {
    for mode in MODES {
        let plain = Rank::whole(mode);
        plain.train(0..SAVED_AT);
        let expected = plain.train(SAVED_AT..STEPS);
        let end = plain.handle.saved(true);
        let ranges = random_ranges(mode, 4);
        let files = on_ranks(4, |rank, meeting| {
            let part = Rank::new(mode, ranges[rank].clone());
            meeting.join(&part.handle).unwrap();
            part.train(0..SAVED_AT);
            part.handle.saved(true)
        });
        let go_on = |part: Rank| {
            load(&part.handle, &files);
            assert!(part.train(SAVED_AT..STEPS) == expected, "{mode:?}");
            part.handle.saved(true)
        };
        assert!(go_on(Rank::whole(mode)) == end, "{mode:?}, alone");
        for n_ranks in [3, 1] {
            let ranges = random_ranges(mode, n_ranks);
            let files = on_ranks(n_ranks, |rank, meeting| {
                let part = Rank::new(mode, ranges[rank].clone());
                meeting.join(&part.handle).unwrap();
                go_on(part)
            });
            let whole = Rank::whole(mode);
            load(&whole.handle, &files);
            assert!(whole.handle.saved(true) == end, "{mode:?}, {ranges:?}");
        }
    }
}
