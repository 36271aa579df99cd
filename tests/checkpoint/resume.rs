//! What wins at a load: whose learning rate and schedule hold, what must be there first, and what a handle
//! may have that its checkpoint lacks.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::load_options;
use crate::common::handle::{Handle, Param, config};
use crate::common::random::Random;
use adamw::ffi::*;
use core::cell::Cell;
use core::ffi::c_void;
use safetensors::SafeTensors;

const N: usize = 37;

/// A handle with one parameter that has taken some steps.
struct Run {
    handle: Handle,
    param: Array,
}

impl Run {
    fn new(config: &adamw_config, param: Array) -> Run {
        let handle = Handle::new(config);
        handle.add(&Param::new("w", &param));
        Run { handle, param }
    }

    fn train(&self, steps: core::ops::Range<u64>) {
        for step in steps {
            let grad = Array::ordinary(self.param.dtype(), N, &mut Random::new(step + 50));
            self.handle.set_grad(0, &grad);
            self.handle.step();
            self.handle.clear_grad(ADAMW_CLEAR_FORGET);
        }
    }
}

fn start(dtype: Dtype) -> Array {
    Array::ordinary(dtype, N, &mut Random::new(1))
}

/// Schedules that so many steps long are others, and what their length is called. The second goes on from
/// the learning rate before.
fn schedules(steps: u64) -> [(adamw_schedule, &'static str); 2] {
    let of = |kind| adamw_schedule { lr: 0.1, ..crate::common::handle::schedule(kind) };
    [
        (
            adamw_schedule { total_steps: steps, ..of(ADAMW_SCHEDULE_COSINE_WITH_WARMUP) },
            "total_steps",
        ),
        (adamw_schedule { period: steps, ..of(ADAMW_SCHEDULE_COSINE_ANNEALING) }, "period"),
    ]
}

#[test]
fn the_saved_learning_rate_wins_over_the_handles() {
    let saved = Run::new(&adamw_config { lr: 0.5, ..config() }, start(Dtype::F32));
    saved.train(0..2);
    saved.handle.set_lr(0.125);
    let bytes = saved.handle.saved(false);
    let load = |config: &adamw_config, options: &adamw_load_options| {
        let run = Run::new(config, saved.param.duplicate());
        run.handle.load_bytes(&bytes, options).unwrap();
        run.handle.lr()
    };
    let other = adamw_config { lr: 0.25, ..config() };
    assert_eq!(load(&other, &load_options()), 0.125);
    // Unless the host keeps it itself, or the state of params alone is loaded, or the handle's is kept.
    let own = 0.75f32;
    assert_eq!(load(&adamw_config { lr_ptr: &own, ..config() }, &load_options()), 0.75);
    let shared = adamw_load_options { scope: ADAMW_LOAD_SHARED, ..load_options() };
    assert_eq!(load(&other, &shared), 0.25);
    let keep = adamw_load_options { keep_schedule: 1, ..load_options() };
    assert_eq!(load(&other, &keep), 0.25);
}

#[test]
fn a_checkpoint_can_be_loaded_whatever_the_host_keeps_as_learning_rate() {
    for (kept, expected) in
        [(0.25, 0.25), (0.0, 0.0), (-1.0, 0.5), (f32::NAN, 0.5), (f32::INFINITY, 0.5)]
    {
        let lr = Array::of(Dtype::F32, &[0.5]);
        let config_of = adamw_config { lr_ptr: lr.data().cast(), ..config() };
        let saved = Run::new(&config_of, start(Dtype::F32));
        saved.train(0..2);
        lr.set(0, kept.into());
        let bytes = saved.handle.saved(false);
        let run = Run::new(&config(), saved.param.duplicate());
        run.handle.load_bytes(&bytes, &load_options()).unwrap();
        assert_eq!(run.handle.lr(), expected, "{kept}");
    }
}

#[test]
fn a_longer_schedule_goes_on_at_the_index_that_was_saved() {
    for (short, long) in schedules(10).iter().zip(&schedules(40)) {
        goes_on(&short.0, &long.0, short.1);
    }
}

fn goes_on(short: &adamw_schedule, long: &adamw_schedule, name: &str) {
    let saved = Run::new(&config(), start(Dtype::F32));
    saved.handle.set_schedule(short).unwrap();
    saved.train(0..4);
    let bytes = saved.handle.saved(false);
    let run = Run::new(&config(), saved.param.duplicate());
    run.handle.set_schedule(long).unwrap();
    let failure = run.handle.load_bytes(&bytes, &load_options()).unwrap_err();
    assert_eq!(failure.status, Status::Mismatch);
    let text = format!("schedule.{name} is 40 (saved: 10); options.keep_schedule 1");
    assert!(failure.text.contains(&text), "{}", failure.text);
    let keep = adamw_load_options { keep_schedule: 1, ..load_options() };
    run.handle.load_bytes(&bytes, &keep).unwrap();
    // As a run that had this schedule from its start.
    let longer = Run::new(&config(), start(Dtype::F32));
    longer.handle.set_schedule(long).unwrap();
    longer.train(0..4);
    assert_eq!(run.handle.schedule_state().unwrap().index, 4);
    assert_eq!(run.handle.lr().to_bits(), longer.handle.lr().to_bits());
    assert_eq!(run.handle.info(0).step, 4);
    // A handle without a schedule keeps its learning rate, and one that was saved without keeps its own.
    let none = Run::new(&adamw_config { lr: 0.25, ..config() }, saved.param.duplicate());
    let failure = none.handle.load_bytes(&bytes, &load_options()).unwrap_err();
    assert!(failure.text.contains("schedule (the handle has none)"), "{}", failure.text);
    none.handle.load_bytes(&bytes, &keep).unwrap();
    assert_eq!(none.handle.lr(), 0.25);
    let bytes = none.handle.saved(false);
    run.handle.load_bytes(&bytes, &keep).unwrap();
    assert_eq!(run.handle.schedule_state().unwrap().index, 4);
}

#[test]
fn groups_are_there_before_a_load() {
    let saved = Run::new(&config(), start(Dtype::F32));
    let number = saved.handle.add_group(|_| ());
    let bytes = saved.handle.saved(false);
    let run = Run::new(&config(), start(Dtype::F32));
    let failure = run.handle.load_bytes(&bytes, &load_options()).unwrap_err();
    assert!(failure.text.contains("groups.1 (the handle has none)"), "{}", failure.text);
    assert_eq!(run.handle.add_group(|_| ()), number);
    run.handle.load_bytes(&bytes, &load_options()).unwrap();
}

#[test]
fn amsgrad_that_a_load_turns_on_starts_from_exp_avg_sq() {
    for moments in [ADAMW_MOMENTS_F32, ADAMW_MOMENTS_BF16, ADAMW_MOMENTS_8BIT] {
        let before = adamw_config { moments, ..config() };
        let saved = Run::new(&before, start(Dtype::F32));
        saved.train(0..3);
        let bytes = saved.handle.saved(false);
        let with = Run::new(&adamw_config { amsgrad: 1, ..before }, saved.param.duplicate());
        let failure = with.handle.load_bytes(&bytes, &load_options()).unwrap_err();
        assert!(failure.text.contains("optimizer.amsgrad is 1 (saved: 0)"), "{}", failure.text);
        let extend = adamw_load_options { extend: 1, ..load_options() };
        with.handle.load_bytes(&bytes, &extend).unwrap();
        let state = |name: &str| {
            let dtype = if moments == ADAMW_MOMENTS_BF16 { Dtype::Bf16 } else { Dtype::F32 };
            let value = Array::zeros(dtype, N);
            with.handle.get_state(name, &value).unwrap();
            value
        };
        let (sq, max) = (state("state.w.exp_avg_sq"), state("state.w.max_exp_avg_sq"));
        assert_eq!(sq.first_difference(&max), None);
        assert!((0..N).any(|i| max.get(i) > 0.0));
        // What it turns on may not be turned off.
        let bytes = with.handle.saved(false);
        let failure = saved.handle.load_bytes(&bytes, &extend).unwrap_err();
        assert!(failure.text.contains("optimizer.amsgrad is 0 (saved: 1)"), "{}", failure.text);
    }
}

#[test]
fn a_load_turns_amsgrad_on_in_a_handle_and_in_each_of_its_groups_and_off_in_none() {
    let all = [0, 1].into_iter().flat_map(|of_handle| [0, 1].map(|of_group| (of_handle, of_group)));
    let make = |(of_handle, of_group): (u32, u32)| {
        let handle = Handle::new(&adamw_config { amsgrad: of_handle, ..config() });
        handle.add_group(|group| group.amsgrad = of_group);
        handle
    };
    for saved in all.clone() {
        let bytes = make(saved).saved(false);
        for ours in all.clone() {
            let (more, other) = (saved.0 <= ours.0 && saved.1 <= ours.1, saved != ours);
            for (extend, is_good) in [(0, !other), (1, more)] {
                let options = adamw_load_options { extend, ..load_options() };
                let loaded = make(ours).load_bytes(&bytes, &options);
                assert_eq!(loaded.is_ok(), is_good, "{saved:?} {ours:?} {extend}: {loaded:?}");
            }
        }
    }
}

#[test]
fn a_master_that_a_load_adds_is_the_parameter_exactly() {
    let saved = Run::new(&config(), start(Dtype::Bf16));
    saved.train(0..3);
    let bytes = saved.handle.saved(true);
    for params in [0, 1] {
        let precise = adamw_config { multi_precision: 1, ..config() };
        let other = if params == 1 { start(Dtype::Bf16) } else { saved.param.duplicate() };
        let with = Run::new(&precise, other);
        let failure = with.handle.load_bytes(&bytes, &load_options()).unwrap_err();
        assert!(failure.text.contains("multi_precision is 1 (saved: 0)"), "{}", failure.text);
        // A master of its own beside it, which the load fills anew.
        with.train(0..2);
        if params == 0 {
            (0..N).for_each(|i| with.param.set_bits(i, saved.param.bits(i)));
        }
        let extend = adamw_load_options { extend: 1, params, ..load_options() };
        with.handle.load_bytes(&bytes, &extend).unwrap();
        let master = Array::zeros(Dtype::F32, N);
        with.handle.get_state("state.w.master", &master).unwrap();
        assert!((0..N).all(|i| master.get(i) == saved.param.get(i)));
        assert_eq!(with.handle.info(0).step, 3);
    }
}

#[test]
fn a_master_is_not_filled_after_a_load() {
    // What `adamw_sync_master` clears: all that the master knows beyond the parameter's own bits.
    for (config, state) in [
        (adamw_config { multi_precision: 1, ..config() }, "state.w.master"),
        (adamw_config { precision: ADAMW_PRECISION_SPLIT, ..config() }, "state.w.remainder"),
        (adamw_config { precision: ADAMW_PRECISION_KAHAN, ..config() }, "state.w.remainder"),
    ] {
        let run = Run::new(&config, start(Dtype::Bf16));
        run.train(0..5);
        let bytes = run.handle.saved(true);
        let all = adamw_load_options { params: 1, ..load_options() };
        run.handle.load_bytes(&bytes, &all).unwrap();
        assert!(run.handle.saved(true) == bytes);
        run.handle.sync_master(0);
        let cleared = run.handle.saved(true);
        assert!(cleared != bytes, "{state}");
        run.handle.load_bytes(&bytes, &all).unwrap();
        assert!(run.handle.saved(true) == bytes);
    }
}

unsafe extern "C" fn half(
    _info: *const adamw_param_info,
    out_ratio: *mut f64,
    _: *mut c_void,
) -> i32 {
    // SAFETY: the library's output.
    unsafe { *out_ratio = 0.5 };
    0
}

#[test]
fn the_lr_of_a_checkpoint_is_that_of_a_step_without_the_hosts_ratio() {
    let run = Run::new(&adamw_config { lr: 0.5, ..config() }, start(Dtype::F32));
    let group = adamw_group_config { lr_scale: 0.25, ..run.handle.group(0) };
    run.handle.set_group(0, &group).unwrap();
    run.handle.set_lr_ratio(Some(half), &());
    let bytes = run.handle.saved(false);
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let lr = file.tensor("param_groups.w.lr").unwrap().data().to_vec();
    assert_eq!(f64::from_le_bytes(lr.try_into().unwrap()), 0.125);
}

#[test]
fn what_does_not_fit_is_said_with_both_values_and_the_way_out() {
    let saved = Run::new(&config(), start(Dtype::F32));
    let bytes = saved.handle.saved(false);
    let refused = |config: &adamw_config, param: Array, options: &adamw_load_options| {
        let run = Run::new(config, param);
        let failure = run.handle.load_bytes(&bytes, options).unwrap_err();
        assert_eq!(failure.status, Status::Mismatch);
        failure.text
    };
    let (all, shared) = (load_options(), adamw_load_options { scope: 2, ..load_options() });
    assert_eq!(
        refused(&config(), start(Dtype::F32), &adamw_load_options { params: 1, ..all }),
        "the checkpoint was saved without params: param.w; save with args.params 1, or load with \
         options.params 0"
    );
    assert_eq!(
        refused(&config(), Array::zeros(Dtype::F32, 40), &all),
        "these have another size in the checkpoint: param_groups.w.n_elements is 40 (saved: 37); add the \
         params with the shapes that were saved"
    );
    assert_eq!(
        refused(&config(), start(Dtype::F64), &all),
        "these are of another type in the checkpoint: state.w.exp_avg is F64 (saved: F32), \
         state.w.exp_avg_sq is F64 (saved: F32); options.convert 1 converts f32, f64, f16 and bf16"
    );
    let amsgrad = adamw_config { amsgrad: 1, ..config() };
    assert_eq!(
        refused(&amsgrad, start(Dtype::F32), &shared),
        "the checkpoint lacks what the handle has: state.w.max_exp_avg_sq; make the handle as the saved one \
         was, or load with options.extend 1, which starts maxima and masters"
    );
    let bytes = Run::new(&amsgrad, start(Dtype::F32)).handle.saved(false);
    assert_eq!(
        saved.handle.load_bytes(&bytes, &shared).unwrap_err().text,
        "the handle lacks what the checkpoint has: state.w.max_exp_avg_sq; make the handle as the saved one \
         was"
    );
    let other = adamw_config { eps: 1e-6, ..config() };
    let bytes = Run::new(&other, start(Dtype::F32)).handle.saved(false);
    assert_eq!(
        saved.handle.load_bytes(&bytes, &all).unwrap_err().text,
        "the handle has other settings than the checkpoint: groups.0.eps is 1e-8 (saved: 1e-6); make the \
         handle with what was saved and change it after the load, or load with ADAMW_LOAD_SHARED, which \
         keeps the handle's (options.extend 1 turns amsgrad or multi_precision on)"
    );
}

#[test]
fn the_saved_learning_rate_of_a_parameter_is_that_of_its_next_step() {
    let (scale, param) = (Cell::new(0.5f32), Array::zeros(Dtype::F32, 1));
    let handle = Handle::new(&adamw_config { lr: 0.125, ..config() });
    let group = handle.add_group(|group| group.lr_scale_ptr = scale.as_ptr());
    handle.add(&Param { group, ..Param::new("w", &param) });
    let saved = || {
        let bytes = handle.saved(false);
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        f64::from_le_bytes(tensors.tensor("param_groups.w.lr").unwrap().data().try_into().unwrap())
    };
    assert_eq!(saved(), 0.0625);
    scale.set(0.25);
    assert_eq!(saved(), 0.03125);
    handle.step();
    // No step would take these, and it was 0.25 at the last.
    for not_taken in [f32::NAN, -1.0] {
        scale.set(not_taken);
        assert_eq!(saved(), 0.03125);
    }
}
