//! A host's loop that refuses at some use: the call fails and nothing has changed, or it does everything.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::handle::{Answer, Handle, Param, config};
use crate::common::host::{from_user_data, user_data};
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::state::state;
use crate::more::More;
use adamw::ffi::*;
use core::cell::Cell;
use core::ffi::c_void;

/// As many as a step shares.
const N: usize = 1 << 18;
const ROW: usize = 1 << 12;

/// How many uses are left before the loop refuses.
struct Loop(Cell<u64>);

/// Runs the tasks from the last to the first, or none.
unsafe extern "C" fn backwards(
    num_tasks: usize,
    task: adamw_task,
    task_data: *mut c_void,
    data: *mut c_void,
) -> i32 {
    // SAFETY: a `Loop` that outlives the handle.
    let left = unsafe { from_user_data::<Loop>(data) };
    let Some(after) = left.0.get().checked_sub(1) else { return 5 };
    left.0.set(after);
    for index in (0..num_tasks).rev() {
        // SAFETY: each index once, before this returns.
        unsafe { task.unwrap()(task_data, index) };
    }
    0
}

/// Two parameters in a handle, and all that it was given.
struct World {
    handle: Handle,
    params: Vec<Array>,
    grads: Vec<(Option<Rows>, Array)>,
    saved: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Call {
    Rows { param: u32, rows: Vec<usize>, seed: u64 },
    Grad { param: u32, seed: u64 },
    Accumulate { param: u32, seed: u64 },
    Step,
    StepParam(u32),
    Lazy(adamw_lazy),
    Move { param: u32, group: u32 },
    Prepare { param: u32, rows: Vec<usize> },
    Flush,
    SyncMaster(u32),
    Look(u32),
    Reset(u32),
    Save,
    Load,
}

impl Call {
    fn draw(random: &mut Random) -> Call {
        let param = random.below(2) as u32;
        let rows = (0..random.below(5)).map(|_| random.below((N / ROW) as u64) as usize).collect();
        match random.below(25) {
            0..5 => Call::Rows { param, rows, seed: random.next() },
            5 => Call::Grad { param, seed: random.next() },
            6 => Call::Accumulate { param, seed: random.next() },
            7..13 => Call::Step,
            13 => Call::StepParam(param),
            14..17 => Call::Lazy(random.one_of(&[ADAMW_LAZY_OFF, ADAMW_LAZY_EXACT])),
            17 => Call::Move { param, group: random.below(2) as u32 },
            18 => Call::Prepare { param, rows },
            19 => Call::Flush,
            20 => Call::SyncMaster(param),
            21 => Call::Look(param),
            22 => Call::Reset(param),
            23 => Call::Save,
            _ => Call::Load,
        }
    }
}

impl World {
    fn new(config: &adamw_config, dtypes: [Dtype; 2]) -> World {
        let handle = Handle::new(config);
        handle.add_group(|group| group.lazy_mode = ADAMW_LAZY_OFF);
        let random = &mut Random::new(3);
        let params: Vec<Array> =
            dtypes.iter().map(|&dtype| Array::ordinary(dtype, N, random)).collect();
        for (name, param) in ["a", "b"].iter().zip(&params) {
            handle.add(&Param::new(name, param));
        }
        World { handle, params, grads: Vec::new(), saved: Vec::new() }
    }

    fn make(&mut self, call: &Call) -> Answer {
        let handle = &self.handle;
        let ordinary = |n, seed| Array::ordinary(Dtype::F32, n, &mut Random::new(seed));
        match call {
            Call::Rows { param, rows, seed } => {
                let (list, values) = (Rows::i32(rows), ordinary(rows.len() * ROW, *seed));
                let set = handle.try_set_sparse_grad(*param, &list, &values);
                self.grads.push((Some(list), values));
                set
            }
            Call::Grad { param, seed } => {
                let grad = ordinary(N, *seed);
                let set = handle.try_set_grad(*param, &grad);
                self.grads.push((None, grad));
                set
            }
            Call::Accumulate { param, seed } => handle.accumulate_grad(*param, &ordinary(N, *seed)),
            Call::Step => handle.try_step(),
            Call::StepParam(param) => handle.step_param(*param),
            Call::Lazy(lazy_mode) => {
                let group = adamw_group_config { lazy_mode: *lazy_mode, ..handle.group(0) };
                handle.set_group(0, &group)
            }
            Call::Move { param, group } => {
                let options = adamw_param_options { group: *group, ..handle.options(*param) };
                handle.set_options(*param, &options)
            }
            Call::Prepare { param, rows } => handle.sparse_prepare(*param, &Rows::i32(rows)),
            Call::Flush => handle.try_sparse_flush(),
            Call::SyncMaster(param) => handle.try_sync_master(*param),
            Call::Look(param) => handle.state_info(*param, ADAMW_BUFFER_EXP_AVG).map(|_| ()),
            Call::Reset(param) => handle.try_reset(*param),
            Call::Save => handle.try_saved(true).map(|bytes| self.saved = bytes),
            Call::Load if self.saved.is_empty() => Ok(()),
            Call::Load => {
                let options = adamw_load_options { params: 1, ..load_options() };
                handle.load_bytes(&self.saved, &options)
            }
        }
    }

    /// A number that is another one if an element is.
    fn hash(&self) -> u64 {
        let add = |hash: u64, bits: u64| (hash ^ bits).wrapping_mul(0x100_0000_01b3);
        let of = |param: &Array| (0..N).map(|i| param.bits(i)).fold(7, add);
        self.params.iter().map(of).fold(1, add)
    }
}

/// Runs so many sequences; how many calls were refused.
pub fn run(n_sequences: u64) -> u64 {
    let mut n_refused = 0;
    for seed in 0..n_sequences {
        let random = &mut Random::new(seed);
        let dtypes = [Dtype::F32, random.one_of(&[Dtype::F32, Dtype::Bf16])];
        let clip = random.one_of(&[ADAMW_CLIP_NONE, ADAMW_CLIP_NORM]);
        let plain = adamw_config {
            num_threads: 1,
            multi_precision: random.below(2) as u32,
            lazy_mode: ADAMW_LAZY_EXACT,
            clip,
            clip_norm: if clip == ADAMW_CLIP_NORM { 1.0 } else { 0.0 },
            ..config()
        };
        let uses = Loop(Cell::new(u64::MAX));
        let parallel_for: adamw_parallel_for = Some(backwards);
        let parallel_for_data = user_data(&uses);
        let hosts = adamw_config { num_threads: 2, parallel_for, parallel_for_data, ..plain };
        let (mut plain, mut twin) = (World::new(&plain, dtypes), World::new(&hosts, dtypes));
        let mut calls = vec![];
        for param in [0, 1] {
            calls.push(Call::Rows { param, rows: vec![1, 5], seed });
        }
        calls.extend([Call::Step, Call::Step]);
        calls.extend((0..8).map(|_| Call::draw(random)));
        for (at, call) in calls.iter().enumerate() {
            let case = || format!("seed {seed}, call {at} of {calls:?}");
            let before = twin.hash();
            uses.0.set(random.below(3));
            let answer = twin.make(call);
            uses.0.set(u64::MAX);
            let expected = plain.make(call);
            match answer {
                Err(failure) if expected.is_ok() => {
                    n_refused += 1;
                    assert!(failure.text.contains("parallel_for"), "{failure:?}: {}", case());
                    assert_eq!(twin.hash(), before, "{failure:?} changed something: {}", case());
                    assert_eq!(twin.make(call), Ok(()), "{}", case());
                }
                answer => assert_eq!(answer.is_ok(), expected.is_ok(), "{}", case()),
            }
            if at + 1 == calls.len() {
                compare(&plain, &twin, &case);
            }
        }
    }
    n_refused
}

fn compare(plain: &World, twin: &World, case: &impl Fn() -> String) {
    for (number, name) in [(0, "a"), (1, "b")] {
        let states = [plain, twin].map(|world| state(&world.handle, number, name));
        for ((part, plain), (_, twin)) in states[0].iter().zip(&states[1]) {
            assert_eq!(twin.first_difference(plain), None, "{part} of {name}: {}", case());
        }
        let params = [plain, twin].map(|world| &world.params[number as usize]);
        assert_eq!(params[1].first_difference(params[0]), None, "{name}: {}", case());
        assert_eq!(twin.handle.info(number), plain.handle.info(number), "{}", case());
    }
}
