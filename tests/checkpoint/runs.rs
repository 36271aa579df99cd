//! A run that was saved and loaded goes on with the bits of one that was not, whatever the handle does
//! beside stepping: schedules, clips, lazy rows, scalers, groups, options.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::handle::{Handle, config, loss_scaler, schedule};
use crate::common::host::{from_user_data, user_data};
use crate::common::random::Random;
use crate::common::rows::Rows;
use adamw::ffi::*;
use core::ffi::c_void;

/// A handle that is prepared in some way, with two tables of 30 rows of 7.
struct Run {
    handle: Handle,
    tables: [Array; 2],
    numbers: [u32; 2],
}

type Prepare<'a> = &'a dyn Fn(&Handle, &[u32; 2]);

impl Run {
    fn new(config: &adamw_config, tables: [Array; 2], prepare: Prepare) -> Run {
        let handle = Handle::new(config);
        let numbers = [0, 1].map(|i| handle.add_array(["a", "b"][i], &tables[i]));
        prepare(&handle, &numbers);
        Run { handle, tables, numbers }
    }

    /// What `step` does, once for each number. The gradient of `a` may be sparse.
    fn train(&self, steps: core::ops::Range<u64>, sparse: bool, after: &dyn Fn(&Handle, u64)) {
        for step in steps {
            let mut random = Random::new(50 + step);
            let dtype = self.tables[0].dtype();
            let rows: Vec<usize> = (0..5).map(|_| random.next() as usize % 30).collect();
            let rows = Rows::i64(&rows);
            let values = Array::ordinary(dtype, 35, &mut random).shaped(&[5, 7]);
            let dense = [0, 1].map(|_| Array::ordinary(dtype, 210, &mut random));
            if step % 5 == 4 {
                dense[1].set(3, f64::INFINITY); // a scaler skips this one
            }
            match sparse {
                true => self.handle.set_sparse_grad(self.numbers[0], &rows, &values),
                false => self.handle.set_grad(self.numbers[0], &dense[0]),
            }
            self.handle.set_grad(self.numbers[1], &dense[1]);
            self.handle.step();
            self.handle.clear_grad(ADAMW_CLEAR_FORGET);
            after(&self.handle, step);
        }
    }

    fn resumed(&self, config: &adamw_config, prepare: Prepare) -> Run {
        let bytes = self.handle.saved(false);
        // The parameters are copied after the save, which brings lagging rows up to date.
        let tables = self.tables.each_ref().map(Array::duplicate);
        let run = Run::new(config, tables, prepare);
        run.handle.load_bytes(&bytes, &load_options()).unwrap();
        run
    }

    #[track_caller]
    fn assert_same(&self, expected: &Run, context: &str) {
        self.handle.sparse_flush();
        expected.handle.sparse_flush();
        for (seen, expected) in self.tables.iter().zip(&expected.tables) {
            assert_eq!(seen.first_difference(expected), None, "{context}");
        }
        assert_eq!(self.handle.saved(true), expected.handle.saved(true), "{context}");
    }
}

fn tables(dtype: Dtype) -> [Array; 2] {
    let mut random = Random::new(8);
    [0, 1].map(|_| Array::ordinary(dtype, 210, &mut random))
}

/// Saves after step 7 of 16, which is no multiple of anything.
fn assert_resumes(
    config: &adamw_config,
    sparse: bool,
    prepare: Prepare,
    after: &dyn Fn(&Handle, u64),
    context: &str,
) {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let unbroken = Run::new(config, tables(dtype), prepare);
        unbroken.train(0..16, sparse, after);
        let first = Run::new(config, tables(dtype), prepare);
        first.train(0..7, sparse, after);
        let second = first.resumed(config, prepare);
        second.train(7..16, sparse, after);
        second.assert_same(&unbroken, context);
    }
}

unsafe extern "C" fn from_data(index: u64, out_value: *mut f64, data: *mut c_void) -> i32 {
    // SAFETY: the test's own number, and the library's output.
    unsafe { *out_value = from_user_data::<f64>(data) / (1 + index) as f64 };
    0
}

#[test]
fn every_schedule_goes_on() {
    let boundaries = [3u64, 9];
    let values = [0.1, 0.02, 0.5];
    let plain = |kind, edit: &dyn Fn(&mut adamw_schedule)| {
        let mut schedule = schedule(kind);
        (schedule.lr, schedule.gamma) = (0.1, 0.9);
        schedule.function = Some(from_data);
        schedule.user_data = user_data(&0.25f64);
        edit(&mut schedule);
        schedule
    };
    let of = |kind| {
        plain(kind, &|s| {
            (s.d_model, s.warmup_steps, s.total_steps, s.decay_steps) = (64, 4, 12, 3);
            (s.period, s.steps_up, s.steps_down, s.max_lr) = (5, 3, 2, 0.4);
            (s.start_factor, s.end_factor) = (0.25, 1.0);
            (s.boundaries, s.n_boundaries) = (boundaries.as_ptr(), boundaries.len());
            match kind {
                ADAMW_SCHEDULE_PIECEWISE => (s.values, s.n_values) = (values.as_ptr(), 3),
                ADAMW_SCHEDULE_LINEAR_WARMUP => s.end_lr = 0.1,
                _ => {}
            }
        })
    };
    let all = ADAMW_SCHEDULE_NOAM..=ADAMW_SCHEDULE_FUNCTION;
    for kind in all.filter(|&kind| kind != ADAMW_SCHEDULE_CHAIN) {
        let prepare = |handle: &Handle, _: &[u32; 2]| {
            handle.set_schedule(&of(kind)).unwrap_or_else(|e| panic!("{kind} {e:?}"));
        };
        let after = |handle: &Handle, step: u64| {
            if kind == ADAMW_SCHEDULE_REDUCE_ON_PLATEAU {
                handle.advance_schedule_with_metric(1.0 / (1 + step % 4) as f64).unwrap();
            }
        };
        assert_resumes(&config(), false, &prepare, &after, &format!("schedule {kind}"));
    }
    let inner = [ADAMW_SCHEDULE_COSINE_ANNEALING, ADAMW_SCHEDULE_EXPONENTIAL, ADAMW_SCHEDULE_NOAM];
    let inner = inner.map(of);
    let pointers = inner.each_ref().map(|schedule| &raw const *schedule);
    let prepare = |handle: &Handle, _: &[u32; 2]| {
        let mut chain = of(ADAMW_SCHEDULE_CHAIN);
        (chain.schedules, chain.n_schedules) = (pointers.as_ptr(), pointers.len());
        handle.set_schedule(&chain).unwrap();
    };
    assert_resumes(&config(), false, &prepare, &|_, _| (), "a chain");
}

#[test]
fn every_clip_goes_on() {
    for clip in [ADAMW_CLIP_NORM, ADAMW_CLIP_GLOBAL_NORM, ADAMW_CLIP_VALUE] {
        for clip_scope in [ADAMW_CLIP_SCOPE_GROUP, ADAMW_CLIP_SCOPE_HANDLE] {
            let (clip_norm, clip_min, clip_max) = (0.5, -0.25, 0.125);
            let config =
                adamw_config { clip, clip_scope, clip_norm, clip_min, clip_max, ..config() };
            for sparse in [false, true] {
                assert_resumes(&config, sparse, &|_, _| (), &|_, _| (), &format!("clip {clip}"));
            }
        }
    }
}

#[test]
fn lazy_rows_go_on() {
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        for precision in [ADAMW_PRECISION_DEFAULT, ADAMW_PRECISION_SPLIT] {
            let config = adamw_config { lazy_mode, precision, multi_precision: 1, ..config() };
            assert_resumes(&config, true, &|_, _| (), &|_, _| (), &format!("lazy {lazy_mode}"));
        }
    }
}

#[test]
fn a_load_forgets_what_rows_were_behind_with() {
    let config = adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..config() };
    let saved = Run::new(&config, tables(Dtype::F32), &|_, _| ());
    saved.train(0..7, true, &|_, _| ());
    let bytes = saved.handle.saved(true);
    // A handle whose rows lag is loaded: nothing of that is caught up with later.
    let other = Run::new(&config, tables(Dtype::F32), &|_, _| ());
    other.train(20..29, true, &|_, _| ());
    other.handle.load_bytes(&bytes, &adamw_load_options { params: 1, ..load_options() }).unwrap();
    saved.train(7..12, true, &|_, _| ());
    other.train(7..12, true, &|_, _| ());
    other.assert_same(&saved, "");
}

#[test]
fn a_loss_scaler_goes_on() {
    let prepare = |handle: &Handle, _: &[u32; 2]| {
        let scaler = loss_scaler(1024.0, 3, 1);
        handle.set_scaler(&scaler).unwrap();
    };
    assert_resumes(&config(), false, &prepare, &|_, _| (), "scaler");
    let prepare = |handle: &Handle, _: &[u32; 2]| handle.set_grad_scale(48.0).unwrap();
    let config = adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..config() };
    assert_resumes(&config, false, &prepare, &|_, _| (), "grad_scale");
}

#[test]
fn groups_and_options_go_on() {
    let prepare = |handle: &Handle, numbers: &[u32; 2]| {
        let group = handle.add_group(|group| {
            (group.beta1, group.eps, group.lr_scale, group.weight_decay) = (0.8, 1e-6, 3.0, 0.25);
        });
        handle.edit_options(numbers[1], |options| {
            (options.group, options.lr_scale, options.no_clip) = (group, 0.1, 1);
            (options.regularizer, options.regularizer_coeff) = (ADAMW_REGULARIZER_L1, 1e-3);
        });
    };
    // What was set last is what goes on.
    let after = |handle: &Handle, step: u64| {
        if step < 7 {
            handle.set_lr(0.1 / (1 + step) as f64);
            handle.set_grad_scale((2 + step) as f64).unwrap();
        }
    };
    let config = adamw_config { clip: ADAMW_CLIP_GLOBAL_NORM, clip_norm: 0.5, ..config() };
    assert_resumes(&config, false, &prepare, &after, "groups");
}

#[test]
fn steps_of_single_parameters_keep_their_own_clocks() {
    let prepare = |_: &Handle, _: &[u32; 2]| ();
    let first = Run::new(&config(), tables(Dtype::F32), &prepare);
    let step_b = |run: &Run, n| {
        for seed in 0..n {
            let grad = Array::ordinary(Dtype::F32, 210, &mut Random::new(seed));
            run.handle.set_grad(run.numbers[1], &grad);
            run.handle.step_param(run.numbers[1]).unwrap();
        }
    };
    first.train(0..3, false, &|_, _| ());
    step_b(&first, 4);
    let second = first.resumed(&config(), &prepare);
    assert_eq!([0, 1].map(|i| second.handle.info(second.numbers[i]).step), [3, 7]);
    for run in [&first, &second] {
        step_b(run, 2);
        run.train(3..6, false, &|_, _| ());
    }
    second.assert_same(&first, "");
}

#[test]
fn removed_parameters_are_not_saved() {
    let run = Run::new(&config(), tables(Dtype::F32), &|_, _| ());
    run.train(0..2, false, &|_, _| ());
    run.handle.remove(run.numbers[0]).unwrap();
    let bytes = run.handle.saved(true);
    let other = Handle::new(&config());
    let b = Array::zeros(Dtype::F32, 210);
    other.add_array("b", &b);
    other.load_bytes(&bytes, &adamw_load_options { params: 1, ..load_options() }).unwrap();
    assert_eq!(b.first_difference(&run.tables[1]), None);
    assert_eq!(other.saved(true), bytes);
}

#[test]
fn a_master_that_no_step_has_filled_yet_is_saved_as_the_parameter_is() {
    let config = adamw_config { multi_precision: 1, ..config() };
    let run = Run::new(&config, tables(Dtype::Bf16), &|_, _| ());
    let bytes = run.handle.saved(true);
    let other = Handle::new(&config);
    let zeros = [0, 1].map(|_| Array::zeros(Dtype::Bf16, 210));
    for (array, name) in zeros.iter().zip(["a", "b"]) {
        other.add_array(name, array);
    }
    other.load_bytes(&bytes, &adamw_load_options { params: 1, ..load_options() }).unwrap();
    let master = Array::zeros(Dtype::F32, 210);
    other.get_state("state.b.master", &master).unwrap();
    assert_eq!(master.values(), run.tables[1].values());
}
