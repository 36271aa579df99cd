//! Parameters that are cut into ranges: what any number of ranks saved, any other number loads, and goes
//! on with the bits of one that has the whole.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{in_memory, load_options};
use crate::common::handle::{Handle, Param, config};
use crate::common::random::Random;
use crate::common::state::state;
use adamw::ffi::*;
use core::ops::Range;

/// Two blocks of 256 more than it takes for codes on six ranks, and a block that is not whole.
const N: usize = 6 * 4096 + 600;

#[derive(Clone, Copy, Debug)]
struct Mode {
    dtype: Dtype,
    precision: adamw_precision,
    moments: adamw_moments,
    amsgrad: u32,
    /// Ranges start at a multiple of it.
    align: usize,
}

const MODES: [Mode; 5] = [
    Mode {
        dtype: Dtype::F32,
        precision: ADAMW_PRECISION_DEFAULT,
        moments: ADAMW_MOMENTS_F32,
        amsgrad: 1,
        align: 1,
    },
    Mode {
        dtype: Dtype::Bf16,
        precision: ADAMW_PRECISION_SPLIT,
        moments: ADAMW_MOMENTS_BF16,
        amsgrad: 1,
        align: 1,
    },
    Mode {
        dtype: Dtype::Bf16,
        precision: ADAMW_PRECISION_STOCHASTIC,
        moments: ADAMW_MOMENTS_8BIT,
        amsgrad: 1,
        align: 256,
    },
    Mode {
        dtype: Dtype::F32,
        precision: ADAMW_PRECISION_DEFAULT,
        moments: ADAMW_MOMENTS_4BIT,
        amsgrad: 0,
        align: 256,
    },
    Mode {
        dtype: Dtype::F16,
        precision: ADAMW_PRECISION_KAHAN,
        moments: ADAMW_MOMENTS_8BIT,
        amsgrad: 0,
        align: 256,
    },
];

impl Mode {
    fn config(self) -> adamw_config {
        let Mode { precision, moments, amsgrad, .. } = self;
        adamw_config { lr: 0.01, precision, moments, amsgrad, seed: 3, ..config() }
    }

    /// The ranges of so many ranks.
    fn cut(self, n_ranks: usize) -> Vec<Range<usize>> {
        let at = |rank: usize| match rank == n_ranks {
            true => N,
            false => (N * rank / n_ranks).next_multiple_of(self.align),
        };
        (0..n_ranks).map(|rank| at(rank)..at(rank + 1)).collect()
    }
}

/// The handles of some ranks, each with a range of one parameter.
struct Ranks {
    handles: Vec<Handle>,
    parts: Vec<Array>,
    cut: Vec<Range<usize>>,
}

impl Ranks {
    fn new(mode: Mode, whole: &Array, n_ranks: usize) -> Ranks {
        Ranks::of(mode, whole, mode.cut(n_ranks))
    }

    /// Ranks with these ranges of a whole.
    fn of(mode: Mode, whole: &Array, cut: Vec<Range<usize>>) -> Ranks {
        let parts: Vec<_> = cut.iter().map(|range| whole.copy(range.clone(), 0)).collect();
        let handle = |(part, range): (&Array, &Range<usize>)| {
            let handle = Handle::new(&mode.config());
            let (first_element, whole_elements) = (range.start as u64, whole.len() as u64);
            handle.add(&Param { first_element, whole_elements, ..Param::new("w", part) });
            handle
        };
        let handles = parts.iter().zip(&cut).map(handle).collect();
        Ranks { handles, parts, cut }
    }

    fn train(&self, steps: Range<u64>) {
        for step in steps {
            let whole = self.parts.iter().map(Array::len).sum();
            let grad = Array::ordinary(self.parts[0].dtype(), whole, &mut Random::new(step));
            for (handle, range) in self.handles.iter().zip(&self.cut) {
                let grad = grad.copy(range.clone(), 0);
                handle.set_grad(0, &grad);
                handle.step();
                handle.clear_grad(ADAMW_CLEAR_FORGET);
            }
        }
    }

    /// The bits of the whole parameter.
    fn bits(&self) -> Vec<u64> {
        let parts = self.parts.iter();
        parts.flat_map(|part| (0..part.len()).map(|i| part.bits(i))).collect()
    }

    fn saved(&self) -> Vec<Vec<u8>> {
        self.handles.iter().map(|handle| handle.saved(true)).collect()
    }
}

#[test]
fn any_number_of_ranks_loads_what_any_other_saved() {
    let options = adamw_load_options { params: 1, ..load_options() };
    for mode in MODES {
        let start = Array::ordinary(mode.dtype, N, &mut Random::new(1));
        let unbroken = Ranks::new(mode, &start, 1);
        unbroken.train(0..6);
        for from in [1, 3, 4] {
            let before = Ranks::new(mode, &start, from);
            before.train(0..3);
            let files = before.saved();
            let mut sources: Vec<_> = files.iter().map(|file| in_memory(file)).collect();
            sources.reverse(); // their order means nothing
            for to in [1, 2, 3, 4, 6] {
                let after = Ranks::new(mode, &Array::zeros(mode.dtype, N), to);
                for handle in &after.handles {
                    handle
                        .load_from(&sources, &options)
                        .unwrap_or_else(|e| panic!("{mode:?} {e:?}"));
                }
                after.train(3..6);
                assert!(after.bits() == unbroken.bits(), "{mode:?}: {from} ranks to {to}");
                let whole = Ranks::new(mode, &Array::zeros(mode.dtype, N), 1);
                let files = after.saved();
                let sources: Vec<_> = files.iter().map(|file| in_memory(file)).collect();
                whole.handles[0].load_from(&sources, &options).unwrap();
                assert!(whole.saved() == unbroken.saved(), "{mode:?}: {from} to {to}");
            }
        }
    }
}

/// Cuts a whole at these places.
fn cut_at(whole: usize, places: &[usize]) -> Vec<Range<usize>> {
    let starts = [0].into_iter().chain(places.iter().copied());
    starts.zip(places.iter().copied().chain([whole])).map(|(start, end)| start..end).collect()
}

#[test]
fn small_ranges_have_the_format_and_the_bits_of_their_whole() {
    let options = adamw_load_options { params: 1, ..load_options() };
    for (mode, block) in [(MODES[2], 256), (MODES[3], 128), (MODES[4], 256)] {
        // Below 4,096 elements the whole has f32 moments, and so have its ranges.
        for whole in [4095, 4096, 4096 + 300] {
            let start = Array::ordinary(mode.dtype, whole, &mut Random::new(1));
            let cuts = [
                cut_at(whole, &[]),
                cut_at(whole, &[2048]),
                cut_at(whole, &[block, 4 * block, 4 * block, 3 * 1024]),
                cut_at(whole, &[0, 4096 - block]),
            ];
            let case = format!("{mode:?}, {whole} elements");
            let unbroken = Ranks::of(mode, &start, cuts[0].clone());
            unbroken.train(0..4);
            for from in &cuts {
                let before = Ranks::of(mode, &start, from.clone());
                before.train(0..2);
                let files = before.saved();
                let sources: Vec<_> = files.iter().map(|file| in_memory(file)).collect();
                for to in &cuts {
                    let after = Ranks::of(mode, &Array::zeros(mode.dtype, whole), to.clone());
                    for handle in &after.handles {
                        handle
                            .load_from(&sources, &options)
                            .unwrap_or_else(|e| panic!("{case}: {from:?} to {to:?}: {e:?}"));
                    }
                    after.train(2..4);
                    assert!(after.bits() == unbroken.bits(), "{case}: {from:?} to {to:?}");
                }
                before.train(2..4);
                assert!(before.bits() == unbroken.bits(), "{case}: {from:?}");
            }
        }
    }
}

#[test]
fn the_state_of_a_range_is_planned_by_its_whole() {
    for mode in MODES {
        let handle = Handle::new(&mode.config());
        let parts = [(2048, 4096), (2048, 4095), (300, (1 << 20) + 300), (0, 4096), (5000, 0)];
        let arrays = parts.map(|(n, _)| Array::zeros(mode.dtype, n));
        for ((n, whole), part) in parts.into_iter().zip(&arrays) {
            let name = format!("{n} of {whole}");
            let whole_elements = whole as u64;
            // The last range of the whole, whose last block need not be full.
            let first_element = whole_elements.saturating_sub(n as u64);
            let number =
                handle.add(&Param { first_element, whole_elements, ..Param::new(&name, part) });
            let plan = handle.plan_of_part(0, mode.dtype.code(), n as u64, whole_elements).unwrap();
            let state = state(&handle, number, &name);
            let bytes = |(_, array): &(_, Array)| (array.len() * array.dtype().bytes()) as u64;
            assert_eq!(plan.total, state.iter().map(bytes).sum::<u64>(), "{mode:?}: {name}");
        }
        let plan = |n, whole| handle.plan_of_part(0, mode.dtype.code(), n, whole).unwrap().total;
        assert_eq!(2 * plan(2048, 4096), plan(4096, 0), "{mode:?}");
        let failure = handle.plan_of_part(0, mode.dtype.code(), 10, 9).unwrap_err();
        assert_eq!(failure.status, Status::InvalidArgument);
        assert!(failure.text.contains("its 10 elements"), "{}", failure.text);
    }
}

#[test]
fn a_range_that_nobody_has_is_missing() {
    let mode = MODES[0];
    let start = Array::ordinary(mode.dtype, N, &mut Random::new(1));
    let ranks = Ranks::new(mode, &start, 3);
    ranks.train(0..2);
    let files = ranks.saved();
    let whole = Ranks::new(mode, &start, 1);
    let before = whole.saved();
    let sources = [in_memory(&files[0]), in_memory(&files[2])];
    let failure = whole.handles[0].load_from(&sources, &load_options()).unwrap_err();
    assert_eq!(failure.status, Status::Mismatch);
    assert!(
        failure.text.contains("state.w.exp_avg from element 8392 on, state.w.exp_avg_sq"),
        "{}",
        failure.text
    );
    assert_eq!(whole.saved(), before);
}

#[test]
fn files_of_different_steps_are_not_parts_of_one() {
    let mode = MODES[0];
    let start = Array::ordinary(mode.dtype, N, &mut Random::new(1));
    let ranks = Ranks::new(mode, &start, 2);
    ranks.train(0..2);
    let old = ranks.saved();
    ranks.train(2..3);
    let new = ranks.saved();
    let sources = [in_memory(&old[0]), in_memory(&new[1])];
    let failure = ranks.handles[0].load_from(&sources, &load_options()).unwrap_err();
    assert_eq!(failure.status, Status::Mismatch);
    assert_eq!(
        failure.text,
        "the checkpoints are not parts of one: state.w.step; give files of one save"
    );
    assert_eq!(ranks.saved(), new);
}

#[test]
fn another_whole_is_another_tensor() {
    let (a, b) = (Array::zeros(Dtype::F32, 10), Array::zeros(Dtype::F32, 10));
    let of = |array, first_element, whole_elements| {
        let handle = Handle::new(&config());
        handle.add(&Param { first_element, whole_elements, ..Param::new("w", array) });
        handle
    };
    let saved = of(&a, 0, 20).saved(false);
    for (first_element, whole_elements) in [(0, 0), (0, 10), (0, 21)] {
        let failure = of(&b, first_element, whole_elements).load_bytes(&saved, &load_options());
        let failure = failure.unwrap_err();
        assert!(failure.text.contains("param_groups.w.n_elements"), "{}", failure.text);
    }
    of(&b, 0, 20).load_bytes(&saved, &load_options()).unwrap();
    let handle = Handle::new(&config());
    let outside = Param { first_element: 11, whole_elements: 20, ..Param::new("w", &a) };
    let failure = handle.try_add(&outside).unwrap_err();
    assert_eq!(failure.status, Status::InvalidArgument);
    assert!(failure.text.contains("leave the 20 of whole_elements"), "{}", failure.text);
}

/// Where the first of two ranges ends, and what a refusal of it says.
const CUTS: [(usize, Option<&str>); 4] = [
    (4100, Some("at element 4100 of its whole, which is no multiple of ")),
    (100, Some("at element 100 of its whole, which is no multiple of ")),
    (N - 600 % 256, None),
    (0, None),
];

#[test]
fn ranges_that_cut_a_block_of_codes_are_refused_on_either_side() {
    for (mode, block) in [(MODES[2], 256), (MODES[3], 128), (MODES[4], 256)] {
        let start = Array::ordinary(mode.dtype, N, &mut Random::new(1));
        for (at, refused) in CUTS {
            for (range, verb) in [(0..at, "ends"), (at..N, "begins")] {
                let part = start.copy(range.clone(), 0);
                let handle = Handle::new(&mode.config());
                let (first_element, whole_elements) = (range.start as u64, N as u64);
                let param = Param { first_element, whole_elements, ..Param::new("w", &part) };
                match (handle.try_add(&param), refused) {
                    (Ok(_), None) => {}
                    (Err(failure), Some(text)) => {
                        assert_eq!(failure.status, Status::InvalidArgument);
                        let text = format!("it {verb} {text}{block}");
                        assert!(failure.text.contains(&text), "{}", failure.text);
                    }
                    (added, _) => panic!("{mode:?} {range:?}: {added:?}"),
                }
            }
        }
    }
    // Moments that are not codes are cut anywhere.
    let part = Array::zeros(Dtype::F32, 100);
    let (first_element, whole_elements) = (13, N as u64);
    let handle = Handle::new(&MODES[0].config());
    handle.add(&Param { first_element, whole_elements, ..Param::new("w", &part) });
}
