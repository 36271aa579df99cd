//! Steps with a closure, over a subset, or with explicit gradients.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, config};
use adamw::ffi::*;
use core::ffi::c_void;

/// Three parameters of one element, and what a closure needs to fill their gradients.
struct World {
    handle: Handle,
    params: [Array; 3],
    grads: [Array; 3],
    answer: i32,
}

fn world(config: &adamw_config) -> World {
    let handle = Handle::new(config);
    let arrays = || [1.0, 2.0, 3.0].map(|value| Array::of(Dtype::F32, &[value]));
    let (params, grads) = (arrays(), arrays());
    for (i, param) in params.iter().enumerate() {
        assert_eq!(handle.add_array(&format!("w{i}"), param), i as u32);
        handle.set_grad(i as u32, &grads[i]);
    }
    World { handle, params, grads, answer: 0 }
}

/// Sets gradients, also by a call on the handle, and gives a loss of 0.25.
extern "C" fn closure(out_loss: *mut f64, user_data: *mut c_void) -> i32 {
    // SAFETY: the tests pass a `World` that outlives the call.
    let world = unsafe { &*user_data.cast::<World>() };
    world.grads.iter().for_each(|grad| grad.fill(3.0));
    world.handle.set_grad(2, &world.grads[2]);
    // SAFETY: the library passes a valid pointer.
    unsafe { *out_loss = 0.25 };
    world.answer
}

impl World {
    fn steps(&self) -> [u64; 3] {
        [0, 1, 2].map(|number| self.handle.info(number).step)
    }

    fn minimize(
        &self,
        params: Option<&[u32]>,
        no_grad: &[u32],
    ) -> Result<(f64, Vec<u32>), (Status, String)> {
        let answer = self.handle.minimize(Some(closure), self, params, no_grad, 3);
        let (loss, updated) = answer.map_err(|failure| (failure.status, failure.text))?;
        for &(number, grad) in &updated {
            assert_eq!(grad, self.grads[number as usize].data().addr());
        }
        Ok((loss, updated.into_iter().map(|(number, _)| number).collect()))
    }
}

#[test]
fn minimize_steps_a_subset_without_the_no_grad_set_and_lists_it() {
    type Case = (Option<&'static [u32]>, &'static [u32], &'static [u32]);
    let cases: [Case; 6] = [
        (None, &[], &[0, 1, 2]),
        (None, &[1], &[0, 2]),
        (Some(&[2, 0]), &[], &[0, 2]),
        (Some(&[2, 0, 2]), &[0, 1], &[2]),
        (Some(&[]), &[], &[]),
        (None, &[0, 1, 2], &[]),
    ];
    for (params, no_grad, expected) in cases {
        let world = world(&config());
        assert_eq!(world.minimize(params, no_grad), Ok((0.25, expected.to_vec())));
        let steps = [0, 1, 2].map(|number| expected.contains(&number).into());
        assert_eq!(world.steps(), steps);
        // What a closure wrote is what was stepped with.
        let whole = self::world(&config());
        whole.grads.iter().for_each(|grad| grad.fill(3.0));
        whole.handle.step();
        for (i, step) in steps.into_iter().enumerate() {
            let changed = world.params[i].values() != [i as f64 + 1.0];
            assert_eq!(changed, step == 1);
            if changed {
                assert_eq!(world.params[i].first_difference(&whole.params[i]), None);
            }
        }
        // The next step is everybody's again.
        world.handle.step();
        assert_eq!(world.steps(), steps.map(|step| step + 1));
    }
}

#[test]
fn a_norm_is_that_of_the_subset() {
    let clipped = adamw_config { clip: ADAMW_CLIP_GLOBAL_NORM, clip_norm: 1.0, ..config() };
    let world = world(&clipped);
    world.minimize(Some(&[0]), &[]).unwrap();
    assert_eq!(world.handle.step_info().grad_norm, 3.0);
}

#[test]
fn a_step_that_is_skipped_lists_nothing() {
    let world = world(&adamw_config { nonfinite: ADAMW_NONFINITE_SKIP, ..config() });
    world.handle.set_found_inf(&1.0, core::ptr::null_mut());
    assert_eq!(world.minimize(None, &[]), Ok((0.25, vec![])));
    assert_eq!(world.steps(), [0; 3]);
}

#[test]
fn a_failing_closure_or_call_takes_no_step() {
    let mut world = world(&config());
    let missing = world.minimize(Some(&[3]), &[]).unwrap_err();
    assert_eq!(missing.0, Status::NotFound);
    let missing = world.minimize(None, &[9]).unwrap_err();
    assert_eq!(missing.0, Status::NotFound);
    world.answer = -7;
    let failed = world.minimize(None, &[]).unwrap_err();
    assert_eq!(failed, (Status::Callback, "the closure returned -7, expected 0".into()));
    world.answer = 0;
    let short = world.handle.minimize(Some(closure), &world, None, &[], 2).unwrap_err();
    assert_eq!(short.text, "args.capacity is 2, expected 3");
    let none = world.handle.minimize(None, &world, None, &[], 0).unwrap_err();
    assert_eq!(none.text, "args.closure is NULL");
    assert_eq!(world.steps(), [0; 3]);
    world.handle.step();
    assert_eq!(world.steps(), [1; 3]);
}

#[test]
fn apply_gradients_steps_the_pairs_alone_and_puts_the_old_gradients_back() {
    let world = world(&adamw_config { clip: ADAMW_CLIP_GLOBAL_NORM, clip_norm: 1e9, ..config() });
    let (a, b) = (Array::of(Dtype::F32, &[4.0]), Array::of(Dtype::F32, &[3.0]));
    world.handle.apply_gradients(&[(2, &a), (0, &b)]).unwrap();
    assert_eq!(world.steps(), [1, 0, 1]);
    assert_eq!(world.handle.step_info().grad_norm, 5.0);
    world.handle.step();
    assert_eq!(world.handle.step_info().grad_norm, 14f64.sqrt());
    assert_eq!(world.steps(), [2, 1, 2]);
}

#[test]
fn pairs_that_are_refused_change_nothing() {
    let world = world(&config());
    let (good, long) = (Array::of(Dtype::F32, &[4.0]), Array::of(Dtype::F32, &[3.0; 2]));
    let cases: [(&[(u32, &Array)], &str); 3] = [
        (&[(0, &good), (0, &good)], "param \"w0\" is given twice, expected once in a call"),
        (&[(0, &good), (1, &long)], "param \"w1\": grad has 2 elements, param has 1"),
        (&[(0, &good), (3, &good)], "there is no param 3"),
    ];
    for (pairs, text) in cases {
        let failure = world.handle.apply_gradients(pairs).unwrap_err();
        assert!(failure.text.starts_with(text), "{}", failure.text);
        assert_eq!(world.steps(), [0; 3]);
    }
    world.handle.step();
    assert_eq!(world.steps(), [1; 3]);
    world.handle.apply_gradients(&[]).unwrap();
    assert_eq!(world.steps(), [1; 3]);
}
