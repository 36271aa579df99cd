//! Sequences of random calls, one after the other, until there have been enough. The first that fails is made
//! as short as it goes, and printed with its seed.
//!
//! `ADAMW_MODEL_CALLS`, `ADAMW_MODEL_MANY_CALLS` and `ADAMW_MODEL_DEVICE_CALLS` say how many calls there are,
//! `ADAMW_MODEL_SEED` which
//! sequence is the first: with it and 1 call only that one is run.

use crate::call::{Call, Places, Setup, Weights};
use crate::common::device::Device;
use crate::common::random::Random;
use crate::counts::Counts;
use crate::world::World;
use core::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

pub struct Campaign<'a> {
    pub name: &'a str,
    pub places: &'a [Places],
    /// So many parameters are there at first.
    pub n_first: usize,
    /// Calls, and where a variable may ask for more.
    pub calls: (u64, &'a str),
}

struct Sequence {
    setup: Setup,
    calls: Vec<Call>,
}

/// What was wrong after which call.
struct Failure {
    call: usize,
    text: String,
}

impl Failure {
    /// Whether the same line of these tests found the same.
    fn is_like(&self, other: &Failure) -> bool {
        self.text.lines().next() == other.text.lines().next()
    }
}

impl Sequence {
    fn draw(seed: u64, places: &[Places], n_first: usize) -> Sequence {
        let random = &mut Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let setup = Setup { n_first, ..Setup::draw(random, places) };
        let weights = Weights::draw(random);
        let mut calls: Vec<Call> = (0..random.below(4)).map(|_| Call::add(random)).collect();
        let (mut n_kept, mut follows) = (0, false);
        for _ in 0..1 + random.below(120) {
            let call = match n_kept {
                0 => Call::draw(random, &weights),
                _ if random.once_in(4) => Call::Replay,
                _ => Call::draw_beside_graph(random, &weights, follows),
            };
            n_kept = match call {
                Call::Capture { schedule } if setup.places == Places::Device => {
                    follows = schedule > 0;
                    random.below(20)
                }
                _ => n_kept.saturating_sub(1),
            };
            calls.push(call);
        }
        Sequence { setup, calls }
    }

    /// Makes all the calls; what has been done, or what was wrong after which call.
    fn run(&self) -> Result<Counts, Failure> {
        let made = core::cell::Cell::new(0);
        let run = || {
            let Some(mut world) = World::new(&self.setup) else { return Counts::default() };
            let mut seeds = 0..;
            while world.model.params.len() < self.setup.n_first {
                world.add_small(seeds.next().unwrap_or(0));
            }
            world.counts.calls = 0;
            for call in &self.calls {
                made.set(made.get() + 1);
                world.make(call);
            }
            world.end()
        };
        quietly(run).map_err(|text| Failure { call: made.get(), text })
    }

    /// The shortest that also fails, in some time.
    fn shrunk(mut self, fails: impl Fn(&Sequence) -> bool) -> Sequence {
        let (started, mut size) = (Instant::now(), self.calls.len().max(1));
        while size > 0 {
            let mut at = 0;
            let mut has_shrunk = false;
            while at < self.calls.len() && started.elapsed() < Duration::from_secs(60) {
                let mut calls = self.calls.clone();
                calls.drain(at..(at + size).min(self.calls.len()));
                let shorter = Sequence { setup: self.setup.clone(), calls };
                match fails(&shorter) {
                    true => (self, has_shrunk) = (shorter, true),
                    false => at += size,
                }
            }
            size = if has_shrunk && size == 1 { 1 } else { size / 2 };
        }
        self
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

impl Campaign<'_> {
    pub fn run(&self) {
        let (calls, variable) = self.calls;
        let calls = number(variable).unwrap_or(calls);
        let (mut seed, mut counts, mut tenth) =
            (number("ADAMW_MODEL_SEED").unwrap_or(0), Counts::default(), 0);
        let mut device = None;
        while counts.calls < calls {
            if counts.sequences.is_multiple_of(64) {
                drop(device.take()); // before the next
                device = self.device(seed);
            }
            let sequence = Sequence::draw(seed, self.places, self.n_first);
            match sequence.run() {
                Ok(done) => counts += done,
                Err(failure) => {
                    drop(device);
                    self.fail(seed, sequence, &failure, &counts);
                }
            }
            seed += 1;
            if counts.calls * 10 / calls > tenth {
                tenth = counts.calls * 10 / calls;
                eprintln!("{}: {counts}", self.name);
            }
        }
        drop(device);
    }

    /// The device of the sequences from here on, on which work is done at once, or late and in any order
    /// that is allowed.
    fn device(&self, seed: u64) -> Option<Device> {
        if self.places == [Places::Processor] {
            return None;
        }
        let shuffle = seed.to_string();
        Some(match seed % 128 < 64 {
            true => Device::new(),
            false => Device::with(&[("lazy", "1"), ("shuffle", &shuffle)]),
        })
    }

    fn fail(&self, seed: u64, sequence: Sequence, failure: &Failure, counts: &Counts) -> ! {
        let outcome = |sequence: &Sequence| {
            let _device = self.device(seed);
            sequence.run().err()
        };
        let is_alike = |other: Failure| other.is_like(failure);
        let shrunk = sequence.shrunk(|sequence| outcome(sequence).is_some_and(is_alike));
        let shrunk_text = outcome(&shrunk).map(|failure| failure.text).unwrap_or_default();
        let (name, Sequence { setup, calls }) = (self.name, &shrunk);
        let calls: Vec<String> = calls.iter().map(|call| format!("    {call:?}")).collect();
        panic!(
            "{name}: seed {seed} fails at call {}, {}\nafter {counts}\nThe shortest like it, {shrunk_text}\n{setup:?}\n{}",
            failure.call,
            failure.text,
            calls.join("\n"),
        );
    }
}

thread_local! {
    /// What a panic says, while it is caught.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs something that may panic, and prints nothing if it does.
fn quietly<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_caught = CAUGHT.with_borrow_mut(|caught| match caught {
                Some(text) => {
                    *text = info.to_string();
                    true
                }
                None => false,
            });
            if !is_caught {
                before(info);
            }
        }));
    });
    CAUGHT.set(Some(String::new()));
    let ran = catch_unwind(AssertUnwindSafe(run));
    let text = CAUGHT.take().unwrap_or_default();
    ran.map_err(|_| text)
}
