//! Checkpoints of another handle than the one that loads them.

use crate::Refusals;
use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{in_memory, load_options, with_header};
use crate::common::handle::{Answer, Handle, Param, config, schedule};
use adamw::ffi::Status::Mismatch;
use adamw::ffi::*;

pub fn refusals(rows: &mut Refusals) {
    differences(rows);
    wholes(rows);
}

/// A handle with a parameter of so many elements that has taken a step.
pub fn trained(config: &adamw_config, name: &str, param: &Array) -> Handle {
    let handle = Handle::new(config);
    handle.add_array(name, param);
    let grad = Array::zeros(param.dtype(), param.len());
    handle.set_grad(0, &grad);
    handle.step();
    handle.forget_grad(0);
    handle
}

/// So many of them.
pub fn ones(dtype: Dtype, n: usize) -> Array {
    Array::of(dtype, &vec![1.0; n])
}

/// What is loaded into a handle that is another than the one that saved.
fn differences(rows: &mut Refusals) {
    let [param, same, short] = [2, 2, 1].map(|n| ones(Dtype::F32, n));
    let saved = trained(&config(), "w", &param);
    let (all, state) = (saved.saved(true), saved.saved(false));
    let into = |config: &adamw_config, name: &str, param: &Array, bytes: &[u8]| {
        let options = adamw_load_options { params: 1, ..load_options() };
        trained(config, name, param).load_bytes(bytes, &options)
    };
    let mut differ = |answer: Answer, text: &str| rows.row(answer, Mismatch, text);
    differ(
        into(&adamw_config { beta1: 0.8, ..config() }, "w", &same, &all),
        "the handle has other settings than the checkpoint: groups.0.beta1 is 0.8 (saved: 0.9); make the \
         handle with what was saved and change it after the load, or load with ADAMW_LOAD_SHARED, which \
         keeps the handle's (options.extend 1 turns amsgrad or multi_precision on)",
    );
    differ(
        into(&config(), "v", &same, &all),
        "the checkpoint has no state of these params: v; ADAMW_LOAD_SHARED loads what both have, \
         options.rename finds other names",
    );
    differ(
        into(&config(), "w", &short, &all),
        "these have another size in the checkpoint: param_groups.w.n_elements is 1 (saved: 2); add the \
         params with the shapes that were saved",
    );
    let (shape, strides) = ([2i64, 2], [1i64, 2]);
    let square = Array::of(Dtype::F32, &[1.0; 4]);
    let mut tensors = [None; 9];
    tensors[0] = Some(adamw_tensor {
        ndim: 2,
        shape: shape.as_ptr().cast_mut(),
        strides: strides.as_ptr().cast_mut(),
        ..square.tensor()
    });
    let turned = Handle::new(&config());
    turned.try_add_tensors(&Param::new("w", &square), tensors).unwrap();
    let plain = trained(&config(), "w", &ones(Dtype::F32, 4)).saved(false);
    differ(
        turned.load_bytes(&plain, &load_options()),
        "these lie in memory in another order than in the checkpoint: param_groups.w.order is 1,0 \
         (saved: row-major); add the params with the strides that were saved, or as plain arrays to \
         take the elements as they lie",
    );
    differ(
        into(&config(), "w", &same, &state),
        "the checkpoint was saved without params: param.w; save with args.params 1, or load with \
         options.params 0",
    );
    let shared = |config: &adamw_config, param: &Array, bytes: &[u8]| {
        let options = adamw_load_options { scope: ADAMW_LOAD_SHARED, ..load_options() };
        trained(config, "w", param).load_bytes(bytes, &options)
    };
    let amsgrad = adamw_config { amsgrad: 1, ..config() };
    differ(
        shared(&amsgrad, &same, &state),
        "the checkpoint lacks what the handle has: state.w.max_exp_avg_sq; make the handle as the saved \
         one was, or load with options.extend 1, which starts maxima and masters",
    );
    let more = trained(&amsgrad, "w", &short).saved(false);
    differ(
        shared(&config(), &ones(Dtype::F32, 1), &more),
        "the handle lacks what the checkpoint has: state.w.max_exp_avg_sq; make the handle as the saved \
         one was",
    );
    let doubles = ones(Dtype::F64, 2);
    differ(
        shared(&config(), &doubles, &state),
        "these are of another type in the checkpoint: state.w.exp_avg is F64 (saved: F32), \
         state.w.exp_avg_sq is F64 (saved: F32); options.convert 1 converts f32, f64, f16 and bf16",
    );
    let two = Handle::new(&config());
    let more = [3, 3].map(|n| ones(Dtype::F32, n));
    for (name, param) in ["w", "v"].into_iter().zip(&more) {
        two.add_array(name, param);
    }
    let one = Handle::new(&config());
    let only = ones(Dtype::F32, 3);
    one.add_array("w", &only);
    differ(
        one.load_bytes(&two.saved(false), &load_options()),
        "the checkpoint has state of params that the handle lacks: v; ADAMW_LOAD_SUBSET passes over them",
    );
    let scheduled = trained(&config(), "w", &param);
    let exponential = schedule(ADAMW_SCHEDULE_EXPONENTIAL);
    let exponential = adamw_schedule { lr: 1.0, gamma: 0.5, ..exponential };
    scheduled.set_schedule(&exponential).unwrap();
    let saved = scheduled.saved(false);
    scheduled.set_schedule(&adamw_schedule { gamma: 0.25, ..exponential }).unwrap();
    differ(
        scheduled.load_bytes(&saved, &load_options()),
        "the handle has another schedule than the checkpoint: schedule.gamma is 0.25 (saved: 0.5); \
         options.keep_schedule 1 goes on with the handle's at the index that was saved",
    );
}

/// Ranges of a whole that were saved by themselves.
fn wholes(rows: &mut Refusals) {
    let part = |config: &adamw_config, first_element, n| {
        let (handle, param) = (Handle::new(config), ones(Dtype::F32, n));
        let whole_elements = 8192;
        handle.add(&Param { first_element, whole_elements, ..Param::new("w", &param) });
        (handle, param)
    };
    let load = |(handle, _param): &(Handle, Array), files: &[&Vec<u8>]| {
        let sources: Vec<_> = files.iter().map(|file| in_memory(file)).collect();
        handle.load_from(&sources, &load_options())
    };
    let first = part(&config(), 0, 4096).0.saved(false);
    let all = part(&config(), 0, 8192);
    rows.row(
        load(&all, &[&first]),
        Mismatch,
        "the checkpoints do not have all elements: state.w.exp_avg from element 4096 on, \
         state.w.exp_avg_sq from element 4096 on; give the files of all ranks",
    );
    let (second, _param) = part(&config(), 4096, 4096);
    second.set_lr(0.25);
    rows.row(
        load(&all, &[&first, &second.saved(false)]),
        Mismatch,
        "the checkpoints are not parts of one: state.lr; give files of one save",
    );
    let coded = adamw_config { moments: ADAMW_MOMENTS_8BIT, ..config() };
    // No handle has a part that is cut inside a block; a file may say so.
    let moved = |text: String| text.replace("first_element=4096", "first_element=4000");
    let odd = with_header(&part(&coded, 4096, 4096).0.saved(false), moved);
    let [start, rest] =
        [(0, 4096), (7936, 256)].map(|(first, n)| part(&coded, first, n).0.saved(false));
    rows.row(
        load(&part(&coded, 0, 8192), &[&start, &odd, &rest]),
        Mismatch,
        "moments in codes are not cut inside a block: state.w.exp_avg from element 4096 on, \
         state.w.exp_avg_sq from element 4096 on and 2 more; cut at multiples of 256",
    );
}

#[test]
fn a_checkpoint_of_another_handle_is_refused_with_both_values_and_what_to_do() {
    crate::said(refusals);
}
