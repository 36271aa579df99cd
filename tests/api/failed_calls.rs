//! A call that fails has changed nothing, wherever the host's loop refuses: each call that uses it is made
//! again and again, refused at its first use, its second, and so on. It fails with nothing changed, or it
//! succeeds with the bits that it would have had.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Answer, Handle, config};
use crate::common::host::{from_user_data, user_data};
use crate::common::kind::Kind;
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::tensors::Tensors;
use adamw::ffi::*;
use core::cell::Cell;
use core::ffi::c_void;

/// A loop of the host's that does all that it is given, but for one use, which it refuses.
#[derive(Default)]
struct Loop {
    n_uses: Cell<usize>,
    refuses: Cell<Option<usize>>,
}

unsafe extern "C" fn parallel_for(
    num_tasks: usize,
    task: adamw_task,
    task_data: *mut c_void,
    of: *mut c_void,
) -> i32 {
    // SAFETY: registered with a `Loop`.
    let of = unsafe { from_user_data::<Loop>(of) };
    let uses = of.n_uses.get();
    of.n_uses.set(uses + 1);
    if of.refuses.get() == Some(uses) {
        return 5;
    }
    // SAFETY: each index once, while the call lasts.
    (0..num_tasks).for_each(|index| unsafe { task.unwrap()(task_data, index) });
    0
}

const ROW: usize = 64;
/// Rows of a table that is long enough to be shared out.
const HEIGHT: usize = 4200;

/// Two tables whose rows lag, and one parameter beside them.
struct Training {
    tables: [Tensors; 3],
    dense: Array,
    values: Array,
    rows: [Rows; 2],
    handle: Handle,
    of: Box<Loop>,
}

impl Training {
    fn new() -> Training {
        let of = Box::new(Loop::default());
        let config = adamw_config {
            lr: 0.01,
            weight_decay: 0.1,
            lazy_mode: ADAMW_LAZY_EXACT,
            clip: ADAMW_CLIP_NORM,
            clip_norm: 0.5,
            num_threads: 2,
            parallel_for: Some(parallel_for),
            parallel_for_data: user_data(&*of),
            ..config()
        };
        let mut random = Random::new(3);
        let mut ordinary = |n| Array::ordinary(Dtype::F32, n, &mut random);
        let kind = Kind::plain(Dtype::F32);
        let tables = [(); 3].map(|()| Tensors::fresh(kind, &ordinary(HEIGHT * ROW)));
        let (dense, values) = (ordinary(HEIGHT * ROW), ordinary(2 * ROW));
        let handle = Handle::new(&config);
        let rows = [Rows::i64(&[7, 4100]), Rows::i64(&[7, 9])];
        let training = Training { tables, dense, values, rows, handle, of };
        for (name, table) in ["a", "b", "c"].iter().zip(&training.tables) {
            table.add_to(&training.handle, name, 0);
        }
        // A group whose rows do not lag, for those that change over.
        training.handle.add_group(|group| group.lazy_mode = ADAMW_LAZY_OFF);
        training.steps(3);
        training
    }

    fn steps(&self, count: usize) {
        for step in 0..count {
            for table in 0..2 {
                let rows = &self.rows[(step + table) % 2];
                self.handle.set_sparse_grad(table as u32, rows, &self.values);
            }
            self.handle.step();
        }
    }

    /// Everything that the handle holds, through the host's own memory and through checkpoints.
    fn assert_same(&self, other: &Training, context: impl Fn() -> String + Copy) {
        for (table, expected) in self.tables.iter().zip(&other.tables) {
            table.assert_same(expected, context);
        }
        for param in 0..3 {
            let info = |training: &Training| training.handle.info(param);
            assert_eq!(info(self), info(other), "{}", context());
            let options = |training: &Training| training.handle.options(param).group;
            assert_eq!(options(self), options(other), "{}", context());
        }
        let mode = |training: &Training| training.handle.group(0).lazy_mode;
        assert_eq!(mode(self), mode(other), "{}", context());
    }
}

type Call = (&'static str, fn(&Training) -> Answer);

const CALLS: [Call; 10] = [
    ("a group stops being lazy", |training| {
        let group = adamw_group_config { lazy_mode: ADAMW_LAZY_OFF, ..training.handle.group(0) };
        training.handle.set_group(0, &group)
    }),
    ("a parameter moves to a group that is not lazy", |training| {
        let options = adamw_param_options { group: 1, ..training.handle.options(0) };
        training.handle.set_options(0, &options)
    }),
    ("flush", |training| training.handle.try_sparse_flush()),
    ("prepare", |training| {
        let all: Vec<usize> = (0..HEIGHT).collect();
        training.handle.sparse_prepare(0, &Rows::i64(&all))
    }),
    ("a sparse step", |training| training.handle.try_step()),
    ("a dense step", |training| {
        training.handle.set_grad(0, &training.dense);
        training.handle.set_grad(1, &training.dense);
        training.handle.try_step()
    }),
    ("a step of one parameter", |training| {
        training.handle.set_grad(0, &training.dense);
        training.handle.step_param(0)
    }),
    ("gradients that are given", |training| {
        let dense = &training.dense;
        training.handle.apply_gradients(&[(0, dense), (2, dense)])
    }),
    ("a gradient that is measured early", |training| {
        training.handle.set_grad(0, &training.dense);
        training.handle.grad_ready(0)
    }),
    ("reset", |training| training.handle.try_reset(0)),
];

#[test]
fn a_call_that_the_hosts_loop_refuses_changes_nothing_or_is_done_alone() {
    let mut n_failed = 0;
    for (name, call) in CALLS {
        for refused in 0.. {
            let context = || format!("{name}, refused at its use {refused}");
            let [training, before, done] = [(); 3].map(|()| Training::new());
            let first = training.of.n_uses.get();
            training.of.refuses.set(Some(first + refused));
            let answer = call(&training);
            let used = training.of.n_uses.get() > first + refused;
            training.of.refuses.set(None);
            call(&done).unwrap();
            if let Err(failure) = answer {
                assert_eq!(failure.status, Status::Callback, "{}", context());
                n_failed += 1;
                training.assert_same(&before, context);
                call(&training).unwrap();
            }
            for training in [&training, &done] {
                training.steps(2);
                training.handle.sparse_flush();
            }
            training.assert_same(&done, context);
            if !used {
                break;
            }
        }
    }
    assert!(n_failed >= CALLS.len() - 1, "{n_failed} calls failed");
}
