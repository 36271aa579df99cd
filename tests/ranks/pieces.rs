//! Steps that go on piece by piece: they read no gradient before it is there, write nothing before
//! that, do not come back to what they have called done, and have the same bits.

use crate::bits::{LENGTHS, MODES, Mode, Seen, cuts};
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Answer, Failure, Handle, answer, config};
use crate::common::host::{from_user_data, user_data};
use crate::common::rows::Rows;
use crate::meeting::{Meeting, on_ranks};
use crate::world::{Model, Part, flat};
use adamw::ffi::*;
use core::ffi::c_void;
use std::sync::Mutex;

/// Gradients of a part, which come piece by piece into memory that is full of NaNs.
struct Feed<'a> {
    part: &'a Part,
    grads: Array,
    coming: Array,
    seen: Mutex<Calls>,
    /// The call that fails, from 0 on.
    fails_at: usize,
}

/// What `next_piece` has been called with, and the parameters at that time.
#[derive(Default)]
struct Calls {
    calls: Vec<(u64, u64)>,
    before: Vec<u64>,
    done: Vec<u64>,
    n_filled: usize,
    /// The first call that was wrong.
    problem: Option<String>,
}

impl Feed<'_> {
    fn new(part: &Part, grads: Array, fails_at: usize) -> Feed<'_> {
        let coming = Array::zeros(grads.dtype(), grads.len());
        Feed { part, grads, coming, seen: Mutex::default(), fails_at }
    }

    fn begin(&self) {
        self.coming.set_bytes(&vec![0xff; self.coming.bytes().len()]);
        self.part.set_grads(&self.coming);
        *self.seen.lock().unwrap() = Calls { before: self.values(), ..Calls::default() };
    }

    fn values(&self) -> Vec<u64> {
        (0..self.part.flat.len()).map(|i| self.part.flat.bits(i)).collect()
    }

    fn next(&self, done: u64, until: u64) -> i32 {
        let now = self.values();
        let mut seen = self.seen.lock().unwrap();
        let Calls { calls, before, done: kept, n_filled, problem } = &mut *seen;
        if calls.len() == self.fails_at {
            return 7;
        }
        let last = calls.last().copied().unwrap_or_default();
        // Nothing is written of which no gradient has come, or before any is stepped.
        let is_anew = until < last.1;
        let may = if is_anew { 0 } else { last.1 as usize };
        let holds = now[may..] == before[may..]
            && (last.0..=last.1).contains(&done)
            && (!is_anew || last.1 == now.len() as u64 && done == 0);
        if !holds && problem.is_none() {
            *problem = Some(format!("{calls:?} and then {done}, {until}"));
        }
        kept.extend(&now[last.0 as usize..done as usize]);
        for i in *n_filled..until as usize {
            self.coming.set_bits(i, self.grads.bits(i));
        }
        *n_filled = until.max(*n_filled as u64) as usize;
        calls.push((done, until));
        0
    }

    /// Returns the calls of a step that has been taken, or skipped.
    fn end(&self) -> Vec<(u64, u64)> {
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.problem, None);
        assert!(self.values()[..seen.done.len()] == seen.done, "{:?}", seen.calls);
        seen.calls.clone()
    }

    fn join(&self, n_elements: u64) -> Answer {
        set_next_piece(&self.part.handle, n_elements, self)
    }
}

unsafe extern "C" fn next_piece(done: u64, until: u64, feed: *mut c_void) -> i32 {
    // SAFETY: the feed that `join` was called on, which lives as long as it steps.
    let feed: &Feed = unsafe { from_user_data(feed) };
    feed.next(done, until)
}

fn set_next_piece(handle: &Handle, n_elements: u64, feed: &Feed) -> Answer {
    let to = user_data(feed);
    // SAFETY: the caller keeps the feed.
    answer(unsafe { adamw_set_next_piece(handle.raw(), n_elements, Some(next_piece), to) })
}

/// How often the calls begin with the first element: once for each pass over all of them.
fn passes(calls: &[(u64, u64)], n: usize) -> usize {
    let befores = [(0, n as u64)].into_iter().chain(calls.iter().copied());
    let begins = befores.zip(calls).filter(|(last, (done, _))| last.1 == n as u64 && *done == 0);
    assert_eq!(calls.last().map(|(_, until)| *until as usize), Some(n));
    begins.count()
}

fn grads(mode: Mode, step: u64) -> Vec<Array> {
    let grads = Model { dtype: mode.dtype, lengths: &LENGTHS }.values(100 + step);
    if step == 2 && mode.nonfinite == ADAMW_NONFINITE_SKIP {
        grads[0].set(5000, f64::NAN);
    }
    grads
}

#[test]
fn a_step_in_pieces_has_the_same_bits_on_any_number_of_ranks_in_every_format() {
    for mode in MODES {
        let measures = mode.clip != ADAMW_CLIP_NONE || mode.nonfinite == ADAMW_NONFINITE_SKIP;
        for n_ranks in 1..=3 {
            for (ranges, n_elements) in cuts(mode, n_ranks).into_iter().zip([1, 3000]) {
                let trained = |in_pieces: bool| {
                    on_ranks(n_ranks, |rank, meeting| {
                        let part = mode.part(ranges[rank].clone());
                        meeting.join(&part.handle).unwrap();
                        let mut seen = Vec::new();
                        for step in 0..4 {
                            let grads = flat(mode.dtype, &grads(mode, step), &part.ranges);
                            let feed = Feed::new(&part, grads, usize::MAX);
                            if in_pieces {
                                feed.join(n_elements).unwrap();
                                feed.begin();
                            } else {
                                part.set_grads(&feed.grads);
                            }
                            part.handle.step();
                            let now = Seen::of(&part.handle);
                            let wanted = usize::from(measures) + usize::from(now.skipped == 0);
                            let n = part.flat.len();
                            if in_pieces && n > 0 {
                                let calls = feed.end();
                                assert_eq!(passes(&calls, n), wanted, "{mode:?}, {calls:?}");
                            }
                            seen.push(now);
                            part.handle.clear_grad(ADAMW_CLEAR_FORGET);
                        }
                        (seen, part.handle.saved(true))
                    })
                };
                assert!(trained(true) == trained(false), "{mode:?}, {ranges:?}");
            }
        }
    }
}

/// A handle of one rank, on several threads.
fn alone(meeting: &Meeting, lengths: &'static [usize], config: adamw_config) -> Part {
    let model = Model { dtype: Dtype::F32, lengths };
    let part =
        Part::new(Handle::new(&config), model, lengths.iter().map(|&n| 0..n).collect(), |_, _| ());
    meeting.join(&part.handle).unwrap();
    part
}

fn clipping() -> adamw_config {
    adamw_config { clip: ADAMW_CLIP_GLOBAL_NORM, clip_norm: 0.5, ..config() }
}

#[test]
fn threads_share_pieces_and_statistics_have_the_same_bits() {
    static MANY: [usize; 4] = [300, 1_200_000, 0, 70_001];
    let model = Model { dtype: Dtype::F32, lengths: &MANY };
    for (num_threads, statistics) in [(1, 0), (3, 0), (3, 1)] {
        for n_elements in [0, 100_000] {
            let meeting = Meeting::new(1);
            let [pieces, whole] = [(); 2].map(|()| {
                let part = alone(&meeting, &MANY, adamw_config { num_threads, ..clipping() });
                part.handle.set_statistics(statistics).unwrap();
                part
            });
            let grads = flat(Dtype::F32, &model.values(2), &whole.ranges);
            whole.set_grads(&grads);
            let feed = Feed::new(&pieces, grads.duplicate(), usize::MAX);
            feed.join(n_elements).unwrap();
            for _ in 0..3 {
                feed.begin();
                pieces.handle.step();
                let n_calls = feed.end().len();
                assert!(
                    (10..=30).contains(&n_calls) == (n_elements == 0) || n_calls > 20,
                    "{n_calls}"
                );
                whole.handle.step();
                let [a, b] = [&pieces, &whole].map(|part| part.handle.step_info());
                assert_eq!(a.update_norm.to_bits(), b.update_norm.to_bits());
                assert_eq!(a.grad_norm.to_bits(), b.grad_norm.to_bits());
            }
            assert!(pieces.handle.saved(true) == whole.handle.saved(true));
        }
    }
}

static FEW: [usize; 3] = [9000, 0, 5000];

#[test]
fn a_rank_that_has_nothing_and_params_without_a_gradient_are_told_of_all_pieces() {
    let meeting = Meeting::new(1);
    static NONE: [usize; 1] = [0];
    let part = alone(&meeting, &NONE, clipping());
    let feed = Feed::new(&part, Array::zeros(Dtype::F32, 0), usize::MAX);
    feed.join(0).unwrap();
    part.set_grads(&feed.coming);
    part.handle.step();
    assert_eq!(feed.end(), [(0, 0); 2]);
    // Without gradients of the first and the last there are pieces of the one between.
    static THREE: [usize; 3] = [5000, 9000, 5000];
    let part = alone(&meeting, &THREE, config());
    let grads = Array::of(Dtype::F32, &vec![0.5; 19_000]);
    let feed = Feed::new(&part, grads, usize::MAX);
    feed.join(4096).unwrap();
    feed.begin();
    part.handle.forget_grad(0);
    part.handle.forget_grad(2);
    part.handle.step();
    assert_eq!(feed.end(), [(0, 9096), (9096, 13_192), (13_192, 19_000)]);
}

#[test]
fn params_of_which_rows_are_stepped_are_done_as_a_whole() {
    let meeting = Meeting::new(1);
    static TWO: [usize; 2] = [64_000; 2];
    let lazy_mode = ADAMW_LAZY_ROWS;
    let part = alone(&meeting, &TWO, adamw_config { lazy_mode, ..config() });
    let feed = Feed::new(&part, Array::zeros(Dtype::F32, 128_000), usize::MAX);
    feed.join(256).unwrap();
    feed.begin();
    let rows: Vec<usize> = (0..600).map(|i| 100 * i + 3).collect();
    let (rows, values) = (Rows::i64(&rows), Array::of(Dtype::F32, &[0.5; 600]));
    for number in 0..2 {
        part.handle.set_sparse_grad(number, &rows, &values);
    }
    part.handle.step();
    // 600 rows of each, 256 or so in a piece: nothing is done of a param that has more.
    let calls = [(0, 64_000), (0, 64_000), (0, 128_000), (64_000, 128_000), (64_000, 128_000)];
    assert_eq!(feed.end(), calls);
}

#[test]
fn a_wait_that_fails_is_the_steps_error_and_changes_nothing_before_the_step_writes() {
    let model = Model { dtype: Dtype::F32, lengths: &FEW };
    for (fails_at, is_half) in [(0, false), (2, false), (5, true), (7, true)] {
        let meeting = Meeting::new(1);
        let part = alone(&meeting, &FEW, clipping());
        let before = part.handle.saved(true);
        let grads = flat(Dtype::F32, &model.values(2), &part.ranges);
        let mut feed = Feed::new(&part, grads, fails_at);
        feed.join(4096).unwrap();
        feed.begin();
        let half = ", in the middle of a step, which cannot be undone: destroy this handle";
        let text = format!("next_piece returned 7, expected 0{}", if is_half { half } else { "" });
        let status = Status::Callback;
        assert_eq!(part.handle.try_step(), Err(Failure { status, text }), "{fails_at}");
        if is_half {
            assert_eq!(part.handle.try_step().unwrap_err().status, Status::Poisoned);
            continue;
        }
        assert!(part.handle.saved(true) == before);
        feed.fails_at = usize::MAX;
        feed.join(4096).unwrap();
        feed.begin();
        part.handle.step();
        assert!(feed.end().len() > 6);
    }
}

#[test]
fn ranks_that_do_not_agree_wait_for_no_gradient() {
    let model = Model { dtype: Dtype::F32, lengths: &FEW };
    on_ranks(2, |rank, meeting| {
        let ranges = [[0..9000, 0..0, 0..0], [0..0, 0..0, 0..5000]][rank].to_vec();
        let part = Part::new(Handle::new(&clipping()), model, ranges, |_, _| ());
        meeting.join(&part.handle).unwrap();
        part.handle.set_lr(rank as f64);
        let feed = Feed::new(&part, flat(Dtype::F32, &model.values(2), &part.ranges), usize::MAX);
        feed.join(0).unwrap();
        feed.begin();
        assert_eq!(part.handle.try_step().unwrap_err().status, Status::Mismatch);
        assert_eq!(feed.end(), []);
        part.handle.set_lr(0.5);
        part.handle.step();
        assert_eq!(passes(&feed.end(), part.flat.len()), 2);
    });
}

#[test]
fn an_all_reduce_that_is_set_anew_takes_the_pieces_away() {
    let meeting = Meeting::new(1);
    let part = alone(&meeting, &FEW, config());
    let grads =
        flat(Dtype::F32, &Model { dtype: Dtype::F32, lengths: &FEW }.values(2), &part.ranges);
    let feed = Feed::new(&part, grads, usize::MAX);
    feed.join(0).unwrap();
    feed.begin();
    part.set_grads(&feed.grads);
    meeting.join(&part.handle).unwrap();
    part.handle.step();
    assert_eq!(feed.end(), []);
}
