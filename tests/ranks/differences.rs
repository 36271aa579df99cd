//! Ranks that would not take the same step take none, and say in what they differ.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Answer, Failure, Handle, Param, config};
use crate::meeting::{Meeting, on_ranks, set_all_reduce};
use crate::world::{Model, Part, flat, shard_ranges};
use adamw::ffi::*;
use core::ffi::c_void;
use core::sync::atomic::AtomicI32;
use core::sync::atomic::Ordering::Relaxed;

const LENGTHS: [usize; 3] = [9000, 0, 5000];
const MODEL: Model = Model { dtype: Dtype::F32, lengths: &LENGTHS };
const N_RANKS: usize = 3;

fn base() -> adamw_config {
    adamw_config { clip: ADAMW_CLIP_GLOBAL_NORM, clip_norm: 0.5, ..config() }
}

fn part_of(rank: usize, config: &adamw_config, edit: impl Fn(u32, &mut Param)) -> Part {
    let handle = Handle::new(config);
    handle.add_group(|group| group.lr_scale = 0.5);
    Part::new(handle, MODEL, shard_ranges(&LENGTHS, 256, rank as u32, N_RANKS as u32), edit)
}

fn part(rank: usize) -> Part {
    part_of(rank, &base(), |_, _| ())
}

/// The gradients of a part, set.
fn set_grads(part: &Part) -> Array {
    let grads = flat(Dtype::F32, &MODEL.values(2), &part.ranges);
    part.set_grads(&grads);
    grads
}

/// What is true of a part, all of it.
fn everything(part: &Part) -> Vec<u8> {
    part.handle.saved(true)
}

fn mismatch(text: &str) -> Answer {
    Err(Failure { status: Status::Mismatch, text: format!("{text}: no rank has taken the step") })
}

/// A rank that differs, from the first step on or because of what is done before a step.
type Odd = (fn(usize) -> Part, Option<fn(&Part)>, &'static str);

unsafe extern "C" fn two(_: *const adamw_param_info, ratio: *mut f64, _: *mut c_void) -> i32 {
    // SAFETY: the library's number.
    unsafe { ratio.write(2.0) };
    0
}

const ODD: [Odd; 20] = [
    (
        |rank| {
            let part = part(rank);
            part.handle.add_array("more", &part.flat.copy(0..0, 0));
            part
        },
        None,
        "ranks differ in the number of params",
    ),
    (
        |rank| {
            part_of(rank, &base(), |i, param| {
                param.name = if i == 2 { "other" } else { param.name }
            })
        },
        None,
        "is not the same on all ranks in its name, place, whole_elements, type or format",
    ),
    (
        |rank| part_of(rank, &base(), |i, param| param.whole_elements += u64::from(i == 2)),
        None,
        "is not the same on all ranks in its name, place, whole_elements, type or format",
    ),
    (
        |rank| part_of(rank, &adamw_config { moments: ADAMW_MOMENTS_BF16, ..base() }, |_, _| ()),
        None,
        "is not the same on all ranks in its name, place, whole_elements, type or format",
    ),
    (
        |rank| part_of(rank, &base(), |i, param| param.group = u32::from(i == 2)),
        None,
        "param \"layer.2\" is not the same on all ranks in its group, its other options, or whether \
         it decays",
    ),
    (
        part,
        Some(|part| part.handle.edit_options(2, |options| options.lr_scale = 0.5)),
        "param \"layer.2\" is not the same on all ranks in its group, its other options, or whether \
         it decays",
    ),
    (
        part,
        Some(|part| part.handle.set_steps(Some(&[2]), &[9]).unwrap()),
        "param \"layer.2\" is not the same on all ranks in the steps that it has taken",
    ),
    (
        part,
        Some(|part| part.handle.forget_grad(1)),
        "param \"layer.1\" is not the same on all ranks in whether it has a gradient, or how many it \
         has accumulated",
    ),
    (
        part,
        Some(|part| {
            let n = part.ranges[2].len();
            part.handle.accumulate_grad(2, &Array::zeros(Dtype::F32, n)).unwrap()
        }),
        "param \"layer.2\" is not the same on all ranks in whether it has a gradient, or how many it \
         has accumulated",
    ),
    (
        part,
        Some(|part| edit_group(part, |group| group.weight_decay = 0.5)),
        "ranks differ in weight_decay",
    ),
    (
        part,
        Some(|part| edit_group(part, |group| group.beta2 = 0.5)),
        "ranks differ in beta1 or beta2",
    ),
    (part, Some(|part| edit_group(part, |group| group.eps = 0.5)), "ranks differ in eps"),
    (part, Some(|part| edit_group(part, |group| group.clip_norm = 0.25)), "ranks differ in clip"),
    (
        part,
        Some(|part| edit_group(part, |group| group.lr_scale = 0.25)),
        "ranks differ in lr_scale",
    ),
    (part, Some(|part| edit_group(part, |group| group.maximize = 1)), "ranks differ in maximize"),
    (part, Some(|part| part.handle.set_lr(0.5)), "ranks differ in lr, or where its schedule is"),
    (
        part,
        Some(|part| part.handle.set_grad_scale(2.0).unwrap()),
        "ranks differ in the loss scale, or the state of the loss scaler",
    ),
    (
        |rank| part_of(rank, &adamw_config { seed: 1, ..base() }, |_, _| ()),
        None,
        "ranks differ in what steps measure, clip_scope, nonfinite, average_grads, seed or the \
         accumulation window",
    ),
    (
        |rank| {
            part_of(rank, &adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..base() }, |_, _| ())
        },
        None,
        "ranks differ in what steps measure",
    ),
    (
        part,
        Some(|part| part.handle.set_lr_ratio(Some(two), &())),
        "ranks differ in what lr_ratio gave",
    ),
];

fn edit_group(part: &Part, edit: fn(&mut adamw_group_config)) {
    let mut group = part.handle.group(1);
    edit(&mut group);
    part.handle.set_group(1, &group).unwrap();
}

#[test]
fn a_rank_with_other_settings_or_another_list_fails_all_by_name_and_nothing_changes() {
    for (i, (make, then, text)) in ODD.into_iter().enumerate() {
        for odd in 0..N_RANKS {
            for took_one in [false, true] {
                let failures = on_ranks(N_RANKS, |rank, meeting| {
                    let part = if rank == odd { make(rank) } else { part(rank) };
                    // Another list differs from the first step on.
                    let agrees_first = took_one && then.is_some();
                    meeting.join(&part.handle).unwrap();
                    let _grads = set_grads(&part);
                    if agrees_first {
                        part.handle.step();
                    }
                    if let Some(then) = then.filter(|_| rank == odd) {
                        then(&part);
                    }
                    let values = part.flat.bytes();
                    let steps = part.handle.steps(3);
                    let failure = part.handle.try_step().unwrap_err();
                    assert!(part.flat.bytes() == values, "case {i}");
                    assert_eq!(part.handle.steps(3), steps, "case {i}");
                    failure
                });
                for failure in failures {
                    assert_eq!(failure.status, Status::Mismatch, "case {i}: {}", failure.text);
                    assert!(failure.text.contains(text), "case {i}: {}", failure.text);
                    assert!(failure.text.ends_with(": no rank has taken the step"), "case {i}");
                }
            }
        }
    }
}

#[test]
fn ranks_that_agree_again_step_on() {
    let plain =
        Part::new(Handle::new(&base()), MODEL, LENGTHS.iter().map(|&n| 0..n).collect(), |_, _| ());
    let _grads = set_grads(&plain);
    plain.handle.set_lr(0.5);
    plain.handle.step();
    let norm = plain.handle.step_info().grad_norm.to_bits();
    let parts = on_ranks(N_RANKS, |rank, meeting| {
        let part = part(rank);
        meeting.join(&part.handle).unwrap();
        let _grads = set_grads(&part);
        if rank == 1 {
            part.handle.set_lr(0.5);
        }
        let before = everything(&part);
        assert_eq!(
            part.handle.try_step(),
            mismatch("ranks differ in lr, or where its schedule is")
        );
        assert!(everything(&part) == before);
        part.handle.set_lr(0.5);
        part.handle.step();
        assert_eq!(part.handle.step_info().grad_norm.to_bits(), norm);
        part.flat.bytes()
    });
    assert!(parts.concat() == plain.flat.bytes());
}

#[test]
fn ranks_step_on_without_a_parameter_that_all_have_removed() {
    for takes_one in [false, true] {
        let run = |part: &Part| {
            let _grads = set_grads(part);
            if takes_one {
                part.handle.step();
            }
            part.handle.remove(0).unwrap();
            part.handle.step();
            (part.flat.bytes(), part.handle.step_info().grad_norm.to_bits())
        };
        let whole = LENGTHS.iter().map(|&n| 0..n).collect();
        let (plain, norm) = run(&Part::new(Handle::new(&base()), MODEL, whole, |_, _| ()));
        let parts = on_ranks(N_RANKS, |rank, meeting| {
            let part = part(rank);
            meeting.join(&part.handle).unwrap();
            run(&part)
        });
        assert!(parts.iter().all(|part| part.1 == norm), "{takes_one}");
        assert!(parts.iter().flat_map(|part| &part.0).eq(&plain), "{takes_one}");
    }
}

#[test]
fn what_one_rank_cannot_do_none_does() {
    let failures = on_ranks(N_RANKS, |rank, meeting| {
        let part = part(rank);
        meeting.join(&part.handle).unwrap();
        let grads = set_grads(&part);
        if rank == 2 {
            part.handle.set_lr_ratio(Some(fails), &());
        } else {
            part.handle.set_lr_ratio(Some(two), &());
        }
        let before = part.flat.bytes();
        let failure = part.handle.try_step().unwrap_err();
        assert!(part.flat.bytes() == before && part.handle.steps(3) == [0; 3]);
        drop(grads);
        failure
    });
    let other = "no rank has taken the step, because 1 of the 3 could not: their adamw_last_error \
                 says why";
    for failure in &failures[..2] {
        assert_eq!(*failure, Failure { status: Status::Mismatch, text: other.into() });
    }
    assert_eq!(failures[2].status, Status::Callback);
    assert!(failures[2].text.contains("lr_ratio returned 7"), "{}", failures[2].text);
}

unsafe extern "C" fn fails(_: *const adamw_param_info, _: *mut f64, _: *mut c_void) -> i32 {
    7
}

#[test]
fn gradients_that_are_not_finite_fail_or_skip_on_all_ranks_alike() {
    for nonfinite in [ADAMW_NONFINITE_FAIL, ADAMW_NONFINITE_SKIP] {
        for at in [0, 4095, 8999] {
            on_ranks(N_RANKS, |rank, meeting| {
                let part = part_of(rank, &adamw_config { nonfinite, ..base() }, |_, _| ());
                meeting.join(&part.handle).unwrap();
                let grads = MODEL.values(2);
                grads[0].set(at, f64::INFINITY);
                let grads = flat(Dtype::F32, &grads, &part.ranges);
                part.set_grads(&grads);
                let before = part.flat.bytes();
                let stepped = part.handle.try_step();
                assert!(part.flat.bytes() == before && part.handle.steps(3) == [0; 3]);
                match nonfinite {
                    ADAMW_NONFINITE_FAIL => {
                        let failure = stepped.unwrap_err();
                        assert_eq!(failure.status, Status::Nonfinite);
                        let text = "param \"layer.0\": 1 of the 9000 elements of grad";
                        assert!(failure.text.starts_with(text), "{}", failure.text);
                    }
                    _ => {
                        stepped.unwrap();
                        let info = part.handle.step_info();
                        assert_eq!((info.skipped, info.n_nonfinite), (1, 1));
                    }
                }
            });
        }
    }
}

#[test]
fn a_flag_of_one_rank_skips_the_step_of_all() {
    on_ranks(N_RANKS, |rank, meeting| {
        let part = part(rank);
        meeting.join(&part.handle).unwrap();
        let _grads = set_grads(&part);
        let flag = Array::zeros(Dtype::F32, 2);
        flag.set(0, if rank == 1 { 1.0 } else { 0.0 });
        let to = flag.data().cast::<f32>();
        part.handle.set_found_inf(to, to.wrapping_add(1));
        let before = part.flat.bytes();
        part.handle.step();
        assert!(part.flat.bytes() == before);
        assert_eq!((part.handle.step_info().skipped, flag.get(1)), (1, 1.0));
        part.handle.set_found_inf(core::ptr::null(), core::ptr::null_mut());
    });
}

#[test]
fn elements_that_are_on_no_rank_or_on_two_are_told() {
    let n = LENGTHS[2];
    for (ranges, held) in [
        ([0..1000, 1000..2000, 2001..n], n - 1),
        ([0..1000, 999..2000, 2000..n], n + 1),
        ([0..1000, 999..2000, 2001..n], n),
        ([0..n, 0..n, 0..n], 3 * n),
        ([0..0, 0..0, 0..0], 0),
    ] {
        on_ranks(N_RANKS, |rank, meeting| {
            let lengths = [n];
            let model = Model { dtype: Dtype::F32, lengths: &lengths };
            let handle = Handle::new(&base());
            let part = Part::new(handle, model, vec![ranges[rank].clone()], |_, _| ());
            meeting.join(&part.handle).unwrap();
            let grads = flat(Dtype::F32, &model.values(2), &part.ranges);
            part.set_grads(&grads);
            let failure = part.handle.try_step().unwrap_err();
            assert_eq!(failure.status, Status::Mismatch);
            let text = format!(
                "param \"layer.0\": the ranks have {held} elements of its {n}, or some of them \
                 twice, expected each on one rank"
            );
            assert_eq!(failure.text, text);
        });
    }
}

#[test]
fn a_whole_that_is_absurdly_long_is_told_at_once() {
    let (whole, n) = (1 << 62, 1000);
    on_ranks(2, |rank, meeting| {
        let model = Model { dtype: Dtype::F32, lengths: &[2 * n] };
        let range = rank * n..(rank + 1) * n;
        let edit = |_, param: &mut Param| param.whole_elements = whole;
        let part = Part::new(Handle::new(&base()), model, vec![range], edit);
        meeting.join(&part.handle).unwrap();
        let _grads = set_grads(&part);
        let failure = part.handle.try_step().unwrap_err();
        assert_eq!(failure.status, Status::Mismatch);
        let text = format!("the ranks have {} elements of its {whole}", 2 * n);
        assert!(failure.text.contains(&text), "{}", failure.text);
    });
}

unsafe extern "C" fn refuses(_: *mut f64, _: usize, n_calls: *mut c_void) -> i32 {
    // SAFETY: the test's own number.
    let left = unsafe { &*n_calls.cast::<AtomicI32>() };
    if left.fetch_sub(1, Relaxed) <= 0 { 9 } else { 0 }
}

unsafe extern "C" fn writes_nonsense(numbers: *mut f64, _: usize, _: *mut c_void) -> i32 {
    // SAFETY: the library's numbers.
    unsafe { numbers.write(0.5) };
    0
}

#[test]
fn an_all_reduce_that_fails_is_the_steps_error_and_nothing_changes() {
    let whole = || {
        Part::new(Handle::new(&base()), MODEL, LENGTHS.iter().map(|&n| 0..n).collect(), |_, _| ())
    };
    // The fourth call, the sums of the first step, would be the last one.
    for n_good in 0..4 {
        let part = whole();
        let left = AtomicI32::new(n_good);
        set_all_reduce(&part.handle, Some(refuses), (&raw const left).cast_mut().cast()).unwrap();
        let _grads = set_grads(&part);
        let before = everything(&part);
        let text = "all_reduce returned 9, expected 0".to_owned();
        let status = Status::Callback;
        assert_eq!(part.handle.try_step(), Err(Failure { status, text }), "{n_good}");
        assert!(everything(&part) == before, "{n_good}");
        left.store(100, Relaxed);
        part.handle.step();
        set_all_reduce(&part.handle, None, core::ptr::null_mut()).unwrap();
        part.handle.step();
    }
    let part = whole();
    set_all_reduce(&part.handle, Some(writes_nonsense), core::ptr::null_mut()).unwrap();
    let _grads = set_grads(&part);
    let text = part.handle.try_step().unwrap_err().text;
    assert!(text.starts_with("all_reduce gave 0.5 where each rank had written 1"), "{text}");
}

#[test]
fn a_parameter_is_not_stepped_alone_among_ranks() {
    let (meeting, part) = (Meeting::new(1), part_of(0, &config(), |_, _| ()));
    meeting.join(&part.handle).unwrap();
    let _grads = set_grads(&part);
    let failure = part.handle.step_param(0).unwrap_err();
    assert_eq!(failure.status, Status::ClipConflict);
    assert!(failure.text.contains("the handle has an all_reduce"), "{}", failure.text);
    part.handle.grad_ready(0).unwrap();
}
