//! Ranks as threads of one process, which add up in the order in which they come.

use crate::common::handle::{Answer, Handle, answer};
use adamw::ffi::*;
use core::ffi::c_void;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Where so many ranks add up their numbers.
pub struct Meeting {
    n_ranks: usize,
    round: Mutex<Round>,
    is_over: Condvar,
}

#[derive(Default)]
struct Round {
    number: u64,
    n_here: usize,
    sums: Vec<f64>,
    /// The sums of the last round; `None` if the ranks came with different counts.
    last: Option<Vec<f64>>,
    is_wrong: bool,
}

impl Meeting {
    pub fn new(n_ranks: usize) -> Meeting {
        Meeting { n_ranks, round: Mutex::default(), is_over: Condvar::new() }
    }

    fn add_up(&self, numbers: &mut [f64]) -> i32 {
        let mut round = self.round.lock().unwrap();
        if round.n_here == 0 {
            round.sums = numbers.to_vec();
        } else if round.sums.len() == numbers.len() {
            round.sums.iter_mut().zip(numbers.iter()).for_each(|(sum, number)| *sum += number);
        } else {
            round.is_wrong = true;
        }
        round.n_here += 1;
        if round.n_here == self.n_ranks {
            let sums = core::mem::take(&mut round.sums);
            round.last = if round.is_wrong { None } else { Some(sums) };
            (round.n_here, round.number, round.is_wrong) = (0, round.number + 1, false);
            self.is_over.notify_all();
        } else {
            let number = round.number;
            let (waited, timeout) = self
                .is_over
                .wait_timeout_while(round, Duration::from_secs(60), |r| r.number == number)
                .unwrap();
            round = waited;
            if timeout.timed_out() {
                return 60;
            }
        }
        match &round.last {
            Some(sums) => {
                numbers.copy_from_slice(sums);
                0
            }
            None => 61,
        }
    }

    /// Has a handle agree with the others here, as long as the meeting lives.
    pub fn join(&self, handle: &Handle) -> Answer {
        let user_data = (self as *const Meeting).cast_mut().cast();
        set_all_reduce(handle, Some(all_reduce), user_data)
    }
}

unsafe extern "C" fn all_reduce(buffer: *mut f64, count: usize, meeting: *mut c_void) -> i32 {
    // SAFETY: the library's numbers, and the meeting that `join` was called on.
    let (numbers, meeting) =
        unsafe { (core::slice::from_raw_parts_mut(buffer, count), &*meeting.cast::<Meeting>()) };
    meeting.add_up(numbers)
}

pub fn set_all_reduce(
    handle: &Handle,
    all_reduce: adamw_all_reduce,
    user_data: *mut c_void,
) -> Answer {
    // SAFETY: the caller keeps what the callback needs.
    answer(unsafe { adamw_set_all_reduce(handle.raw(), all_reduce, user_data) })
}

/// What each of some ranks returns, on a thread of its own.
pub fn on_ranks<T: Send>(n_ranks: usize, rank: impl Fn(usize, &Meeting) -> T + Sync) -> Vec<T> {
    let meeting = Meeting::new(n_ranks);
    std::thread::scope(|scope| {
        let (rank, meeting) = (&rank, &meeting);
        let threads: Vec<_> = (0..n_ranks).map(|i| scope.spawn(move || rank(i, meeting))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
